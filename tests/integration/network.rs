//! The way to Microsoft and back: a proxy, a private CA, the clouds' hosts, and what every request says of itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use teams_pstn_exporter::period::Clock;
use teams_pstn_simulator::{self as simulator, Simulator};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    ANY_PORT, CLIENT, ENVIRONMENT, Folder, Program, SECRET, TENANT, check, people, run,
    tls_acceptor, yaml,
};

/// A Graph and an authority with TLS whose CA is private, and a proxy by which every host is this one.
struct Cloud {
    simulator: Simulator,
    folder: Folder,
    port: u16,
    proxy: String,
    /// The targets that the proxy was asked to connect to.
    connected: Arc<Mutex<Vec<String>>>,
}

/// How the certificate is.
#[derive(Clone, Copy, PartialEq)]
enum Certificate {
    Good,
    Expired,
    OfAnotherHost,
}

impl Cloud {
    async fn start(origin: Option<&str>, certificate: Certificate) -> Self {
        let folder = Folder::new();
        let acceptor = acceptor(&folder, certificate);
        let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = tls.local_addr().unwrap().port();
        let clock = Clock::system();
        let simulator = Simulator::start(simulator::Options {
            origin: Some(origin.map_or(format!("https://localhost:{port}"), str::to_owned)),
            tenants: vec![simulator::Tenant::new(TENANT, CLIENT, SECRET, people())],
            ..simulator::Options::new(move || clock.now())
        })
        .await
        .unwrap();
        let plain = simulator.address();
        tokio::spawn(async move {
            while let Ok((stream, _)) = tls.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut outside) = acceptor.accept(stream).await {
                        let mut inside = TcpStream::connect(plain).await.unwrap();
                        let _gone = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                    }
                });
            }
        });
        let connected = Arc::default();
        let proxy = proxy(port, Arc::clone(&connected)).await;
        folder.write("secret", SECRET);
        Self {
            simulator,
            folder,
            port,
            proxy,
            connected,
        }
    }

    /// `check` of a configuration with these variables beside those of proxy and CA.
    async fn check(&self, yaml: &str, variables: &[(&str, &str)]) -> (i32, String) {
        let file = self.folder.write("config.yml", yaml);
        let authority = self.folder.path("ca.pem").display().to_string();
        let mut all = vec![
            ("SSL_CERT_FILE", authority.as_str()),
            ("HTTPS_PROXY", &self.proxy),
        ];
        all.extend_from_slice(variables);
        check(&file, &all).await
    }

    /// Another command with the same configuration, proxy and CA.
    async fn run(&self, words: &[&str]) -> (i32, String) {
        let option = self.folder.option();
        let authority = self.folder.path("ca.pem").display().to_string();
        let variables = [
            ("SSL_CERT_FILE", authority.as_str()),
            ("HTTPS_PROXY", &self.proxy),
        ];
        run(&[words, &[&option]].concat(), &variables).await
    }

    fn config(&self) -> String {
        let url = format!("https://localhost:{}", self.port);
        yaml(&url, "client_secret_file: secret", "")
    }

    fn connected(&self) -> Vec<String> {
        let mut hosts = std::mem::take(&mut *self.connected.lock().unwrap());
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// A certificate for every host of Microsoft's, by a CA whose certificate is in `ca.pem`.
fn acceptor(folder: &Folder, kind: Certificate) -> TlsAcceptor {
    let hosts = match kind {
        Certificate::OfAnotherHost => vec!["elsewhere.example".to_owned()],
        _ => CLOUDS
            .iter()
            .flat_map(|(_, graph, authority)| [graph, authority])
            .map(|host| (*host).to_owned())
            .chain(["localhost".to_owned()])
            .collect(),
    };
    let mut params = rcgen::CertificateParams::new(hosts).unwrap();
    if kind == Certificate::Expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let name = folder.path("ca.pem").display().to_string();
    let (acceptor, pem) = tls_acceptor(&name, &params);
    folder.write("ca.pem", pem);
    acceptor
}

/// A CONNECT proxy by which every host is the one on `port`; it wants a password.
async fn proxy(port: u16, connected: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let connected = Arc::clone(&connected);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = client.read_u8().await else {
                        return;
                    };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                // Basic user:sesame
                if !head.contains("Basic dXNlcjpzZXNhbWU=") {
                    let no =
                        b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                    let _gone = client.write_all(no).await;
                    return;
                }
                let host = head.split(' ').nth(1).unwrap();
                assert!(head.starts_with("CONNECT "), "{head}");
                connected.lock().unwrap().push(host.to_owned());
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _gone = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    format!("http://user:sesame@{address}")
}

/// Name in the configuration, host of Graph, host of the authority: as Microsoft documents them.
const CLOUDS: [(&str, &str, &str); 3] = [
    ("global", "graph.microsoft.com", "login.microsoftonline.com"),
    (
        "us-gov-l4",
        "graph.microsoft.us",
        "login.microsoftonline.us",
    ),
    (
        "us-gov-l5",
        "dod-graph.microsoft.us",
        "login.microsoftonline.us",
    ),
];

#[tokio::test]
async fn each_cloud_by_the_proxy() {
    for (name, graph, authority) in CLOUDS {
        // The simulator refuses scopes and audiences of another origin.
        let cloud = Cloud::start(Some(&format!("https://{graph}")), Certificate::Good).await;
        let yaml = format!(
            "tenants: [{{tenant_id: {TENANT}, client_id: {CLIENT}, client_secret_file: secret, cloud: {name}}}]"
        );
        let (code, said) = cloud.check(&yaml, &[]).await;
        assert_eq!(code, 0, "{said}");
        let proxy = cloud.proxy.split('@').nth(1).unwrap();
        for host in [graph, authority] {
            let line = format!("ok      connection {host}: answers by the proxy {proxy}\n");
            assert!(said.contains(&line), "{line}{said}");
        }
        assert!(
            said.contains("ok      first page dialout: 3 rows"),
            "{said}"
        );
        let mut hosts = vec![format!("{graph}:443"), format!("{authority}:443")];
        hosts.sort();
        assert_eq!(cloud.connected(), hosts);
        assert!(!said.contains("sesame"), "{said}");
        let days = ["--report=dialout", "--from=2026-01-01", "--to=2026-01-03"];
        for (command, last) in [("export", "export complete"), ("backfill", "# EOF")] {
            let (code, said) = cloud.run(&[&[command][..], &days].concat()).await;
            assert_eq!(code, 0, "{said}");
            assert!(said.contains(last) && !said.contains("sesame"), "{said}");
            assert_eq!(cloud.connected(), hosts, "{command}");
        }
    }
}

#[tokio::test]
async fn environment_alone_is_sufficient() {
    let cloud = Cloud::start(Some("https://graph.microsoft.com"), Certificate::Good).await;
    let authority = cloud.folder.path("ca.pem").display().to_string();
    let own = [
        ("SSL_CERT_FILE", authority.as_str()),
        ("HTTPS_PROXY", &cloud.proxy),
    ];
    let variables = [&ENVIRONMENT[..], &own].concat();
    let (code, said) = run(&["check"], &variables).await;
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains(SECRET), "{said}");
    let mut program = Program::start(&[ANY_PORT, "--log.level=debug"], &variables);
    program.logged("poll complete").await;
    let log = &program.said;
    assert!(!log.contains(SECRET) && !log.contains("sesame"), "{log}");
    let requests = cloud.simulator.requests();
    let asked: Vec<_> = requests
        .iter()
        .filter(|request| request.path != "/")
        .collect();
    let for_tokens = asked.iter().filter(|request| !request.bearer).count();
    assert_eq!(for_tokens, 2, "one by check, one by the daemon: {asked:?}");
    // The daemon may have requested the previous period too.
    assert!(
        asked.len() - for_tokens >= 2,
        "one report by each: {asked:?}"
    );
    let ids: HashSet<&String> = asked
        .iter()
        .map(|request| request.client_request_id.as_ref().expect("an id each"))
        .collect();
    assert_eq!(ids.len(), asked.len(), "an id of its own each");
    for id in ids {
        assert!(uuid::Uuid::parse_str(id).is_ok(), "{id}");
    }
    let agent = format!("teams-pstn-exporter/{}", teams_pstn_exporter::VERSION);
    for request in &requests {
        assert_eq!(request.user_agent.as_ref(), Some(&agent), "{request:?}");
        let to_graph = request.path.starts_with("/beta/");
        assert_eq!(
            request.bearer, to_graph,
            "the token goes to Graph only: {request:?}"
        );
    }
}

#[tokio::test]
async fn no_proxy_is_direct() {
    let cloud = Cloud::start(None, Certificate::Good).await;
    let host = format!("localhost:{}", cloud.port);
    let (code, said) = cloud.check(&cloud.config(), &[]).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("answers by the proxy 127.0.0.1:"), "{said}");
    assert_eq!(cloud.connected(), std::slice::from_ref(&host));
    let (code, said) = cloud
        .check(&cloud.config(), &[("NO_PROXY", "localhost")])
        .await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("ok      name {host}: ")), "{said}");
    assert!(
        said.contains(&format!("ok      connection {host}: answers\n")),
        "{said}"
    );
    assert!(cloud.connected().is_empty());
}

#[tokio::test]
async fn network_failures_by_table() {
    let good = Cloud::start(None, Certificate::Good).await;
    let check = async |cloud: &Cloud, variables: &[(&str, &str)], cause: &str, remedy: &str| {
        let (code, said) = cloud.check(&cloud.config(), variables).await;
        assert_eq!(code, 1, "{said}");
        let mut failures = said.lines().filter(|line| line.starts_with("failure"));
        let line = failures.next().unwrap();
        let is_reported = line.contains(cause) && line.contains(&format!("; remedy: {remedy}"));
        assert!(is_reported && failures.next().is_none(), "{said}");
        assert!(
            !said.contains("panicked") && !said.contains("sesame"),
            "{said}"
        );
    };
    let other = Folder::new();
    acceptor(&other, Certificate::Good);
    let other = other.path("ca.pem").display().to_string();
    let direct = ("NO_PROXY", "*");
    let untrusted = "the certificate is from a CA that is not trusted";
    check(
        &good,
        &[("SSL_CERT_FILE", &other)],
        "failure connection localhost:",
        untrusted,
    )
    .await;
    check(
        &good,
        &[("SSL_CERT_FILE", &other), direct],
        "UnknownIssuer",
        untrusted,
    )
    .await;
    let stranger = good.proxy.replace("sesame", "parsley");
    check(
        &good,
        &[("HTTPS_PROXY", &stranger)],
        "no connection to localhost:",
        "check HTTPS_PROXY, its user and password",
    )
    .await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    check(
        &good,
        &[("HTTPS_PROXY", &gone)],
        "no connection to localhost:",
        "check HTTPS_PROXY",
    )
    .await;
    check(
        &good,
        &[("HTTPS_PROXY", "http://nowhere.invalid:3128")],
        "failure name localhost:",
        "check the proxy's name in HTTPS_PROXY",
    )
    .await;
    let expired = Cloud::start(None, Certificate::Expired).await;
    check(
        &expired,
        &[],
        "xpired",
        "the certificate has expired or is not valid yet",
    )
    .await;
    let another = Cloud::start(None, Certificate::OfAnotherHost).await;
    check(
        &another,
        &[direct],
        "not valid for",
        "the certificate is for another host",
    )
    .await;
}

#[tokio::test]
async fn unsupported_proxies_by_table() {
    let cloud = Cloud::start(None, Certificate::Good).await;
    let yaml = cloud.folder.write("config.yml", cloud.config());
    let flag = format!("--config.file={}", yaml.display());
    let url = "http://127.0.0.1:1";
    let tenant = format!(
        "tenants: [{{tenant_id: {TENANT}, client_id: {CLIENT}, client_secret_file: secret, graph_url: \"{url}\", authority_url: \"{url}\"}}]"
    );
    let yaml = cloud.folder.write("loopback.yml", tenant);
    let of_this_machine = format!("--config.file={}", yaml.display());
    for (variable, proxy) in [
        ("HTTPS_PROXY", "proxy corp"),
        ("HTTPS_PROXY", "socks5://user:sesame@127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://user:ses ame@127.0.0.1:port"),
        ("HTTPS_PROXY", "http://user:sesame@"),
        ("HTTPS_PROXY", "user:sesame@127.0.0.1:port"),
        // The host would end within the password, and messages show the host.
        ("HTTPS_PROXY", "http://user:1234/sesame@127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://user:1234?sesame@127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://user:1234#sesame@127.0.0.1:1080"),
        ("HTTPS_PROXY", "sesame/secret@127.0.0.1:1080"),
        ("https_proxy", "SOCKS5H://proxy.example"),
        ("ALL_PROXY", "socks4://proxy.example"),
        ("all_proxy", "ftp://proxy.example"),
    ] {
        let variables = [(variable, proxy)];
        let message = format!("{variable} is not the URL of a proxy; write http://HOST:PORT");
        for words in [["--config.check", &flag], ["check", &flag]] {
            let (code, text) = run(&words, &variables).await;
            assert_eq!(code, 1, "{text}");
            assert!(text.contains(&message), "{proxy}: {text}");
            assert!(!text.contains("sesame"), "{text}");
        }
        // A configuration that connects to this machine only, like the demo's, needs no proxy.
        let words = ["--config.check", &of_this_machine];
        let (code, text) = run(&words, &variables).await;
        assert_eq!(code, 0, "{proxy}: {text}");
    }
}

/// A proxy that opens TLS reads the answers and can write its own, as those that filter content do.
#[tokio::test]
async fn proxy_password_is_in_no_output_even_if_the_proxy_echoes_it() {
    let folder = Folder::new();
    folder.write("secret", SECRET);
    let said_by_proxy = "The user with sesame and dXNlcjpzZXNhbWU= may not pass";
    let refusal = |status: &str, code: &str| {
        let body = serde_json::json!({"error": {"code": code, "message": said_by_proxy}});
        response(status, &body.to_string())
    };
    let body = serde_json::json!({
        "error": "invalid_client",
        "error_description": said_by_proxy,
    });
    let of_entra = response("401 Unauthorized", &body.to_string());
    let token = response(
        "200 OK",
        r#"{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ0eXAiOiJKV1QifQ.e30.c2ln"}"#,
    );
    for (to_post, to_get) in [
        (token.clone(), refusal("403 Forbidden", "Forbidden")),
        (
            token.clone(),
            refusal("407 Proxy Authentication Required", "sesame"),
        ),
        (token, refusal("400 Bad Request", "dXNlcjpzZXNhbWU")),
        (of_entra, refusal("403 Forbidden", "Forbidden")),
    ] {
        let acceptor = acceptor(&folder, Certificate::Good);
        let port = answering(acceptor, to_post, to_get).await;
        let proxy = proxy(port, Arc::default()).await;
        let url = format!("https://localhost:{port}");
        let file = folder.write("config.yml", yaml(&url, "client_secret_file: secret", ""));
        let authority = folder.path("ca.pem").display().to_string();
        let variables = [
            ("SSL_CERT_FILE", authority.as_str()),
            ("HTTPS_PROXY", &proxy),
        ];
        let (code, checked) = check(&file, &variables).await;
        assert_eq!(code, 1, "{checked}");
        let flag = format!("--config.file={}", file.display());
        let mut program = Program::start(&[&flag, ANY_PORT, "--log.level=debug"], &variables);
        program.logged("poll failed").await;
        for text in [&checked, &program.said] {
            assert!(
                text.contains("may not pass"),
                "the message is shown: {text}"
            );
            let folded = text.to_lowercase();
            assert!(
                !folded.contains("sesame") && !folded.contains("dxnlcjpz"),
                "{text}"
            );
        }
    }
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The port of a server with TLS that has one answer to every POST and one to every GET.
async fn answering(acceptor: TlsAcceptor, to_post: String, to_get: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to_post, to_get) = (acceptor.clone(), to_post.clone(), to_get.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let is_post = stream.read_u8().await.is_ok_and(|byte| byte == b'P');
                let answer = if is_post { to_post } else { to_get };
                let _gone = stream.write_all(answer.as_bytes()).await;
                let _gone = stream.shutdown().await;
                // A connection that is closed with unread data loses its answer.
                let _gone = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_missing_ca_store_is_a_message() {
    let cloud = Cloud::start(None, Certificate::Good).await;
    let empty = cloud.folder.write("empty.pem", "");
    let nowhere = cloud.folder.path("nowhere.pem");
    let yaml = cloud.folder.write("config.yml", cloud.config());
    let flag = format!("--config.file={}", yaml.display());
    for store in [empty, nowhere] {
        let store = store.display().to_string();
        let variables = [("SSL_CERT_FILE", store.as_str())];
        let message = format!(
            "cannot set up TLS (SSL_CERT_FILE is {store}); install the system's CA certificates (package ca-certificates) or set SSL_CERT_FILE to a PEM file of CA certificates"
        );
        let (code, text) = run(&[&flag, ANY_PORT], &variables).await;
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains(&message) && !text.contains("panicked"),
            "{text}"
        );
        let (code, text) = check(&yaml, &variables).await;
        assert_eq!(code, 1, "{text}");
        let line = format!("failure client: {message}");
        assert!(
            text.starts_with(&line) && !text.contains("panicked"),
            "{text}"
        );
    }
}
