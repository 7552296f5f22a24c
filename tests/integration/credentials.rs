//! Every credential against the simulator, which verifies what it is sent, and against a second implementation; and the
//! rotation of every file while the daemon runs.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::graph::address::RootUrl;
use teams_pstn_exporter::graph::credential::Credential;
use teams_pstn_exporter::graph::http::{HttpClient, HttpOptions};
use teams_pstn_exporter::graph::managed_identity::ManagedIdentityEndpoint;
use teams_pstn_exporter::graph::retry::RetryPolicy;
use teams_pstn_exporter::graph::token::{TokenCache, TokenOptions};
use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::faults::{Fault, When};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{
    CLIENT, Exporter, Folder, SECRET, Sample, TENANT, check, simulator, skip, tenant, tool, yaml,
};

/// A certificate with its key in the forms that people have, made by openssl; its DER.
fn certificate(folder: &Folder, name: &str) -> Option<Vec<u8>> {
    let openssl = tool("openssl")?;
    let run = |words: &str| {
        let status = Command::new(&openssl)
            .args(words.split(' '))
            .current_dir(folder.path("."))
            .output()
            .unwrap();
        assert!(status.status.success(), "openssl {words}: {status:?}");
    };
    run(&format!(
        "req -x509 -newkey rsa:2048 -nodes -subj /CN=exporter -days 90 -keyout {name}.key -out {name}.crt"
    ));
    run(&format!("rsa -traditional -in {name}.key -out {name}.key1"));
    let read = |end: &str| std::fs::read_to_string(folder.path(&format!("{name}.{end}"))).unwrap();
    let (crt, key, key1) = (read("crt"), read("key"), read("key1"));
    assert!(key.contains("BEGIN PRIVATE KEY") && key1.contains("BEGIN RSA PRIVATE KEY"));
    folder.write(&format!("{name}.pem"), format!("{crt}{key}"));
    folder.write(&format!("{name}.pem1"), format!("{key1}{crt}"));
    let body: String = crt.lines().filter(|line| !line.contains("---")).collect();
    Some(BASE64_STANDARD.decode(body).unwrap())
}

#[tokio::test]
async fn each_is_accepted_by_a_simulator_that_verifies_it() {
    let folder = Folder::new();
    let Some(der) = certificate(&folder, "a") else {
        return;
    };
    folder.write("secret", format!("{SECRET}\n"));
    folder.write("federated", "header.payload.signature\n");
    let mut tenant = tenant();
    tenant.certificates = vec![der];
    tenant.federated_tokens = vec!["header.payload.signature".to_owned()];
    tenant.identity_header = Some("the-header-of-the-app".to_owned());
    let simulator = simulator(vec![tenant]).await;
    let endpoint = format!("{}/msi/token", simulator.url());
    let app = [
        ("IDENTITY_ENDPOINT", endpoint.as_str()),
        ("IDENTITY_HEADER", "the-header-of-the-app"),
    ];
    for (credential, variables, expiry) in [
        ("client_secret_file: secret", &[][..], false),
        ("client_certificate_file: a.pem", &[], true),
        ("client_certificate_file: a.pem1", &[], true),
        (
            "{client_certificate_file: a.crt, client_certificate_key_file: a.key}",
            &[],
            true,
        ),
        (
            "{client_certificate_file: a.crt, client_certificate_key_file: a.key1}",
            &[],
            true,
        ),
        ("federated_token_file: federated", &[], false),
        ("managed_identity: true", &app, false),
    ] {
        let lines = credential.trim_matches(['{', '}']).replace(", ", "\n    ");
        let file = folder.write("config.yml", yaml(simulator.url(), &lines, ""));
        let (code, said) = check(&file, variables).await;
        assert_eq!(code, 0, "{credential}: {said}");
        assert!(
            said.contains("ok      first page dialout: 3 rows"),
            "{said}"
        );
        assert_eq!(
            said.contains("ok      credential: ends on 20"),
            expiry,
            "{said}"
        );
        // The machine's own endpoint is all that such a tenant needs.
        let asked = simulator.requests();
        let last_token = asked
            .iter()
            .rfind(|request| request.path.contains("token"))
            .unwrap();
        let identity = credential.starts_with("managed");
        assert_eq!(
            last_token.path.starts_with("/msi/token?"),
            identity,
            "{last_token:?}"
        );
    }
}

#[tokio::test]
async fn machine_without_an_identity_is_reported() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::new();
    let yaml = yaml(simulator.url(), "managed_identity: true", "").replace("20s", "2s");
    let file = folder.write("config.yml", yaml);
    let refused = format!("{}/msi/token", simulator.url());
    let gone = "http://127.0.0.1:1/msi/token".to_owned();
    for (endpoint, remedy) in [
        (refused, "assign a managed identity to this machine"),
        (gone, "no managed identity answers on this machine"),
    ] {
        let variables = [
            ("IDENTITY_ENDPOINT", endpoint.as_str()),
            ("IDENTITY_HEADER", "not-the-header"),
        ];
        let (code, said) = check(&file, &variables).await;
        assert_eq!(code, 1, "{said}");
        let line = said
            .lines()
            .find(|line| line.starts_with("failure token: "));
        assert!(
            line.is_some_and(|line| line.contains(&format!("; remedy: {remedy}"))),
            "{said}"
        );
        assert!(!said.contains("not-the-header"), "{said}");
    }
    let (code, said) = check(&file, &[("IDENTITY_ENDPOINT", "http://127.0.0.1:1/")]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("failure configuration: "), "{said}");
    let error = "config.yml:5: tenants[0].managed_identity: IDENTITY_ENDPOINT is set but IDENTITY_HEADER is not; set both or neither";
    assert!(said.contains(error), "{said}");
}

/// The endpoint of virtual machines has a fixed address, so this one test stays below the program.
#[tokio::test]
async fn the_identity_of_a_virtual_machine() {
    let mut tenant = tenant();
    tenant.managed_identity = true;
    let simulator = simulator(vec![tenant]).await;
    let root: RootUrl = simulator.url().parse().unwrap();
    let http = HttpClient::new(&HttpOptions {
        plain_only: true,
        proxies: false,
        ..HttpOptions::default()
    })
    .unwrap();
    let url = format!("{}/metadata/identity/oauth2/token", simulator.url());
    for (client_id, good) in [(None, true), (Some(CLIENT), true), (Some(TENANT), false)] {
        let endpoint = ManagedIdentityEndpoint::virtual_machine(url.parse().unwrap());
        let options = TokenOptions {
            authority: "https://not.asked".parse().unwrap(),
            tenant_id: TENANT.to_owned(),
            client_id: client_id.map(str::to_owned),
            scope: root.scope(),
            credential: Credential::ManagedIdentity(endpoint),
        };
        let clock = Clock::system();
        let now = move || clock.now();
        let tokens = TokenCache::new(http.clone(), options, RetryPolicy::default(), now).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        match tokens.token(deadline).await {
            Ok(token) => {
                let role = "CallRecord-PstnCalls.Read.All".to_owned();
                assert!(good && token.roles() == Some(vec![role]));
            }
            Err(error) => {
                assert!(!good, "{error}");
                let remedy = error.remedy().unwrap();
                assert!(remedy.contains("if the identity is user-assigned, check the client id"));
            }
        }
    }
}

#[tokio::test]
async fn each_variable_of_the_environment() {
    let folder = Folder::new();
    let Some(der) = certificate(&folder, "a") else {
        return;
    };
    let federated = folder.write("federated", "header.payload.signature");
    let mut tenant = tenant();
    tenant.certificates = vec![der];
    tenant.federated_tokens = vec!["header.payload.signature".to_owned()];
    let simulator = simulator(vec![tenant]).await;
    let url = simulator.url().to_owned();
    for (name, value) in [
        ("AZURE_CLIENT_SECRET", SECRET.to_owned()),
        ("AZURE_CLIENT_CERTIFICATE_PATH", text(&folder.path("a.pem"))),
        ("AZURE_FEDERATED_TOKEN_FILE", text(&federated)),
    ] {
        let url = url.clone();
        let load = Box::new(move || {
            let mut config = Config::from_environment(|asked| match asked {
                "AZURE_TENANT_ID" => Some(TENANT.to_owned()),
                "AZURE_CLIENT_ID" => Some(CLIENT.to_owned()),
                "AZURE_AUTHORITY_HOST" => Some(url.clone()),
                _ => (asked == name).then(|| value.clone()),
            })?;
            // The one thing that the environment cannot say.
            config.tenants[0].graph_url = Some(url.parse().unwrap());
            Ok(config)
        });
        let mut daemon = Exporter::run(load, Clock::system(), false);
        daemon.polled().await;
        assert_eq!(daemon.failure(), None, "{name}");
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Each refusal of the token endpoint, and the message that the administrator reads.
#[tokio::test]
async fn token_endpoint_errors_by_cause() {
    let folder = Folder::new();
    let (Some(_), Some(known)) = (certificate(&folder, "a"), certificate(&folder, "b")) else {
        return;
    };
    folder.write("secret", SECRET);
    folder.write("wrong", "11111111-1111-1111-1111-111111111111");
    folder.write("old", "expired-secret");
    folder.write("federated", "some.other.token");
    folder.write("empty", "\n");
    let mut tenant = tenant();
    tenant.expired_secrets = vec!["expired-secret".to_owned()];
    let simulator = simulator(vec![tenant]).await;
    let url = simulator.url();
    let check = async |file: String, cause: &str, remedy: &str| {
        let file = folder.write("config.yml", file);
        let (code, said) = check(&file, &[]).await;
        assert_eq!(code, 1, "{said}");
        let line = said
            .lines()
            .find(|line| line.starts_with("failure token: "));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        assert!(
            line.contains(cause) && line.contains(&format!("; remedy: {remedy}")),
            "{line}"
        );
        for secret in [
            SECRET,
            "expired-secret",
            "11111111-1111-1111-1111-111111111111",
            "some.other.token",
        ] {
            assert!(!said.contains(secret), "{said}");
        }
        let id = "warning credential: this looks like the id of the secret; remedy: the value is shown only once";
        assert_eq!(said.contains(id), cause == "AADSTS7000215", "{said}");
    };
    let secret = |file: &str| yaml(url, &format!("client_secret_file: {file}"), "");
    check(
        secret("wrong"),
        "AADSTS7000215",
        "the client secret is wrong; often the secret's id",
    )
    .await;
    check(
        secret("old"),
        "AADSTS7000222",
        "the client secret has expired",
    )
    .await;
    check(
        secret("empty"),
        "is empty or not text",
        "give a file that the exporter's user may read",
    )
    .await;
    check(
        secret("secret").replace(CLIENT, TENANT),
        "AADSTS700016",
        "no such application",
    )
    .await;
    check(
        secret("secret").replace(TENANT, CLIENT),
        "AADSTS90002",
        "no such tenant",
    )
    .await;
    let federated = yaml(url, "federated_token_file: federated", "");
    check(
        federated,
        "AADSTS700213",
        "no federated credential of the application",
    )
    .await;
    simulator.change(TENANT, |tenant| tenant.certificates = vec![known.clone()]);
    let unknown = yaml(url, "client_certificate_file: a.pem", "");
    check(
        unknown,
        "AADSTS700027",
        "the signature does not verify; upload this very certificate",
    )
    .await;
    let strangers = "client_certificate_file: a.crt\n    client_certificate_key_file: b.key";
    check(
        yaml(url, strangers, ""),
        "cannot sign with",
        "give a file that the exporter's user may read",
    )
    .await;
    let keyless = yaml(url, "client_certificate_file: a.crt", "");
    check(
        keyless,
        "cannot sign with",
        "give a file that the exporter's user may read",
    )
    .await;
}

/// The check reports extra characters that an editor or a shell left around a secret before it sends anything.
#[tokio::test]
async fn stray_characters_around_a_secret_are_reported() {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::new();
    for (before, after, cause) in [
        ("\u{feff}", "\n", "begins with a byte order mark"),
        ("\"", "\"\n", "has a quote at its beginning or end"),
        ("'", "'", "has a quote at its beginning or end"),
        (
            " ",
            "",
            "has a blank or a line break at its beginning or end",
        ),
        (
            "",
            " \r\n",
            "has a blank or a line break at its beginning or end",
        ),
        ("", "\nand another\n", "has several lines"),
    ] {
        folder.write("around", format!("{before}{SECRET}{after}"));
        for key in ["client_secret_file", "federated_token_file"] {
            let yaml = yaml(simulator.url(), &format!("{key}: around"), "");
            let (code, said) = check(&folder.write("config.yml", yaml), &[]).await;
            assert_eq!(code, 2, "{said}");
            let message = format!("/around: the file {cause}; ");
            assert!(said.contains(&message), "{message}: {said}");
            assert!(!said.contains(SECRET), "{said}");
        }
    }
    assert_eq!(simulator.counts().token, 0);
}

#[tokio::test]
async fn an_assertion_is_verified_by_a_second_implementation() {
    let folder = Folder::new();
    let Some(python) = tool("/usr/bin/python3") else {
        return;
    };
    if certificate(&folder, "a").is_none() {
        return;
    }
    let (url, bodies) = capture().await;
    for file in ["a.pem", "a.pem1"] {
        let file = yaml(&url, &format!("client_certificate_file: {file}"), "");
        let (code, said) = check(&folder.write("config.yml", file), &[]).await;
        assert_eq!(code, 1, "{said}");
        let form = bodies.lock().unwrap().pop().expect("a form came");
        let field = |name: &str| {
            url::form_urlencoded::parse(form.as_bytes())
                .find(|(field, _)| field == name)
                .map(|(_, value)| value.into_owned())
                .unwrap()
        };
        let assertion = field("client_assertion");
        assert!(!said.contains(&assertion));
        assert_eq!(field("grant_type"), "client_credentials");
        assert_eq!(field("scope"), format!("{url}/.default"));
        let audience = format!("{url}/{TENANT}/oauth2/v2.0/token");
        let verified = Command::new(&python)
            .args([
                "-c",
                VERIFY,
                &assertion,
                &text(&folder.path("a.crt")),
                &audience,
                CLIENT,
            ])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&verified.stderr).into_owned();
        if error.contains("No module named") {
            return skip("python3-jwt and python3-cryptography are not installed");
        }
        assert_eq!(verified.stdout, b"verified\n", "{error}");
        // A verifier that lets everything pass proves nothing.
        let (head, signature) = assertion.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { 'B' } else { 'A' };
        let forged = format!("{head}.{first}{}", &signature[1..]);
        let refused = Command::new(&python)
            .args([
                "-c",
                VERIFY,
                &forged,
                &text(&folder.path("a.crt")),
                &audience,
                CLIENT,
            ])
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&refused.stderr).contains("InvalidSignatureError"));
    }
}

const VERIFY: &str = r#"
import base64, hashlib, sys, time
import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
token, file, audience, client = sys.argv[1:]
certificate = x509.load_pem_x509_certificate(open(file, "rb").read())
required = ["aud", "exp", "iat", "iss", "jti", "nbf", "sub"]
claims = jwt.decode(token, certificate.public_key(), algorithms=["PS256"], audience=audience, issuer=client, options={"require": required})
header = jwt.get_unverified_header(token)
thumbprint = base64.urlsafe_b64encode(hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()).rstrip(b"=").decode()
assert header == {"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}, header
assert claims["sub"] == client, claims
assert 300 <= claims["exp"] - claims["nbf"] <= 600, claims
assert abs(claims["iat"] - time.time()) < 60, claims
print("verified")
"#;

/// A server that answers nothing useful and remembers the bodies that it is sent.
async fn capture() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bodies);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let form = loop {
                let read = stream.read_buf(&mut request).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&request).into_owned();
                let whole = text.split_once("\r\n\r\n").filter(|(head, body)| {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "));
                    length.is_none_or(|length| body.len() >= length.parse().unwrap())
                });
                match whole {
                    Some((_, body)) => break body.to_owned(),
                    None if read == 0 => break String::new(),
                    None => {}
                }
            };
            if !form.is_empty() {
                kept.lock().unwrap().push(form);
            }
            let answer =
                b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _gone = stream.write_all(answer).await;
        }
    });
    (url, bodies)
}

/// Lets the token expire and waits for the poll that has had to ask for a new one.
async fn renew(simulator: &Simulator, daemon: &mut Exporter) -> Option<String> {
    let before = simulator.counts().token;
    simulator.push_fault(When::graph(), Fault::ExpireToken);
    simulator.wait_until(|counts| counts.token > before).await;
    daemon.polled().await;
    daemon.failure()
}

#[tokio::test]
async fn each_file_is_rotated_while_the_daemon_runs() {
    let folder = Folder::new();
    let (Some(first), Some(second)) = (certificate(&folder, "a"), certificate(&folder, "b")) else {
        return;
    };
    let rotated = async |credential: &str, file: &str, old: &[u8], new: &[u8]| {
        let mut tenant = tenant();
        tenant.secrets = vec!["old".to_owned()];
        tenant.certificates = vec![first.clone()];
        tenant.federated_tokens = vec!["old".to_owned()];
        let simulator = simulator(vec![tenant]).await;
        folder.write(file, old);
        let name = format!("{file}.yml");
        let yaml = folder.write(&name, yaml(simulator.url(), credential, ""));
        let mut daemon = Exporter::of_file(&yaml);
        daemon.polled().await;
        assert_eq!(daemon.failure(), None, "{file}");
        // The service accepts the new one only: for a moment the daemon has the wrong one.
        simulator.change(TENANT, |tenant| {
            tenant.secrets = vec!["new".to_owned()];
            tenant.certificates = vec![second.clone()];
            tenant.federated_tokens = vec!["new".to_owned()];
        });
        let failure = renew(&simulator, &mut daemon).await.expect("refused");
        assert!(
            failure.starts_with("auth: cannot get a token: "),
            "{failure}"
        );
        folder.write(file, new);
        daemon.polled().await;
        assert_eq!(daemon.failure(), None, "{file}");
        assert_eq!(renew(&simulator, &mut daemon).await, None, "{file}");
        assert_eq!(daemon.scrape().await.report("up"), "1");
    };
    let pem = |name: &str| std::fs::read(folder.path(name)).unwrap();
    let certificate = "client_certificate_file: rotated";
    let (a, b) = (pem("a.pem"), pem("b.pem1"));
    tokio::join!(
        rotated("client_secret_file: secret", "secret", b"old\n", b"new\n"),
        rotated(
            "federated_token_file: federated",
            "federated",
            b"old\n",
            b"new\n"
        ),
        rotated(certificate, "rotated", &a, &b),
    );
}

#[tokio::test]
async fn the_key_of_the_pseudonyms_is_rotated_by_a_reload() {
    let folder = Folder::new();
    let simulator = simulator(vec![tenant()]).await;
    folder.configure(
        simulator.url(),
        "labels: {user: pseudonym, pseudonym_key_file: key}",
    );
    let mut daemon = Exporter::of_file(&folder.path("config.yml"));
    let mut charges = async |key: &str| {
        folder.write("key", key);
        daemon.reload().await;
        daemon.polled().await;
        daemon.scrape().await.samples("teams_pstn_dialout_charge")
    };
    let old = charges("0123456789abcdef").await;
    assert_eq!(old.len(), 3);
    let new = charges("another key of 16 bytes or more").await;
    assert_eq!(new.len(), 3);
    let is_new = |new: &Sample| old.iter().all(|old| old.labels != new.labels);
    assert!(new.iter().all(is_new), "{old:?} {new:?}");
    // The same key as other programs write it, with a newline at its end.
    assert_eq!(charges("0123456789abcdef\n").await, old);
}
