//! With a web configuration file: TLS, client certificates, basic authentication, headers, re-reading.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use teams_pstn_exporter::server::web_config::WebConfig;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

/// An authority, and what it signs.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pub(super) pem: String,
}

pub(super) struct Leaf {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) pem: String,
    pub(super) key_pem: String,
}

impl Leaf {
    pub(super) fn copy(&self) -> Self {
        Self {
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
            pem: self.pem.clone(),
            key_pem: self.key_pem.clone(),
        }
    }
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn sign(&self, sans: Vec<SanType>) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = sans;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            key_pem: key.serialize_pem(),
        }
    }

    /// The certificate of the server.
    fn localhost(&self) -> Leaf {
        self.sign(vec![SanType::DnsName("localhost".try_into().unwrap())])
    }
}

/// A directory with a web configuration file, a certificate and a key, and the authority behind them.
pub(super) struct Files {
    directory: TempDir,
    pub(super) authority: Authority,
}

impl Files {
    pub(super) fn new(config: &str) -> Self {
        let files = Self {
            directory: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
        };
        files.certify();
        files.write("ca.pem", &files.authority.pem);
        files.write("web.yml", config);
        files
    }

    pub(super) fn certify(&self) -> Leaf {
        let leaf = self.authority.localhost();
        self.write("cert.pem", &leaf.pem);
        self.write("key.pem", &leaf.key_pem);
        leaf
    }

    /// As administrators' tools do: another file takes the place.
    pub(super) fn write(&self, name: &str, text: &str) {
        let new = self.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path().join(name)).unwrap();
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn load(&self) -> Result<WebConfig, String> {
        WebConfig::load(&self.path().join("web.yml")).map_err(|error| {
            std::iter::successors(std::error::Error::source(&error), |cause| cause.source())
                .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
        })
    }

    pub(super) fn start(&self) -> (Server, WebConfig) {
        let web_config = self.load().unwrap();
        let mut state = state();
        state.limits.web_config_age = Duration::ZERO;
        state.web_config = Some(web_config.clone());
        (Server::start(state), web_config)
    }
}

pub(super) const TLS: &str = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";

#[test]
fn files_by_table() {
    check("", Ok(()));
    check("# nothing\n", Ok(()));
    check(
        "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
        Ok(()),
    );
    check("tls_server_config: {}\n", Ok(()));
    check(
        "# 1\ntls_server_confg: {}\n",
        Err(": line 2: unknown field `tls_server_confg`, expected one of `tls_server_config`, "),
    );
    check(
        "- a\n",
        Err("cannot read the web configuration: line 1: the value is not a mapping"),
    );
    for list in [
        "[]\n",
        "- ~\n",
        "tls_server_config: []\n",
        "rate_limit: [1s, 5]\n",
    ] {
        check(list, Err("line 1: the value is not a mapping"));
    }
    check("tls_server_config:\n  cert: [a]\n", Err("line 2: "));
    check("http_server_config: {http2: no}\n", Ok(()));
    check("http_server_config: {http2: On}\n", Ok(()));
    check(
        "http_server_config: {http2: maybe}\n",
        Err("line 1: the value is not true or false"),
    );
    check(
        "rate_limit: {}\nrate_limit: {}\n",
        Err("line 2: \"rate_limit\" is given twice; remove one of them"),
    );
    check(
        "basic_auth_users:\n  a: &hash b\n  c: *hash\n",
        Err("line 2: an anchor is not supported"),
    );
    check(
        "basic_auth_users: {a: b\n",
        Err("cannot read the web configuration"),
    );
    check("basic_auth_users: {a: b}\n", Err("not a bcrypt hash"));
    check(
        "basic_auth_users: {a: b}\n",
        Err("tr -d ':\\n' (htpasswd is in the package apache2-utils)"),
    );
    check(
        "basic_auth_users: {a: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi}\n",
        Ok(()),
    );
}

#[test]
fn certificates_by_table() {
    check_tls("", Ok(()));
    check_tls("  cert: x\n", Err("both cert and cert_file"));
    check_tls("  certfile: x\n", Err("certfile"));
    check_tls("  key: x\n", Err("both key and key_file"));
    check_tls_only("  cert_file: cert.pem\n", Err("neither key nor key_file"));
    check_tls_only("  key_file: key.pem\n", Err("neither cert nor cert_file"));
    check_tls_only("  min_version: TLS13\n", Err("neither cert nor cert_file"));
    check_tls_only(
        "  cert_file: no.pem\n  key_file: key.pem\n",
        Err("cannot read cert"),
    );
    check_tls_only(
        "  cert_file: no.pem\n  key_file: key.pem\n",
        Err(
            "(os error 2); name an existing file; a relative path starts at the folder of this configuration",
        ),
    );
    check_tls_only(
        "  cert_file: cert.pem\n  key_file: ../none/key.pem\n",
        Err("(os error 2); name an existing file"),
    );
    check_tls_only(
        "  cert_file: key.pem\n  key_file: key.pem\n",
        Err("no PEM certificate"),
    );
    check_tls_only(
        "  cert_file: cert.pem\n  key_file: cert.pem\n",
        Err("no PEM private key"),
    );
    check_tls_only(
        "  cert_file: ca.pem\n  key_file: key.pem\n",
        Err("cannot use cert and key"),
    );

    check_tls("  min_version: TLS12\n  max_version: TLS13\n", Ok(()));
    check_tls(
        "  min_version: TLS13\n  max_version: TLS12\n",
        Err("above max_version"),
    );
    check_tls(
        "  min_version: TLS10\n",
        Err("too old to be safe; TLS12 and TLS13"),
    );
    check_tls(
        "  max_version: TLS11\n",
        Err("too old to be safe; TLS12 and TLS13"),
    );
    check_tls("  min_version: TLS111\n", Err("not a version of TLS"));
}

#[test]
fn file_in_another_format_is_refused_with_the_command_that_converts_it() {
    for (file, made_by, converted_by) in [
        (
            "cert.pem",
            "openssl x509 -in cert.pem -outform DER",
            "openssl x509 -inform DER -in",
        ),
        (
            "cert.pem",
            "openssl pkcs12 -export -in cert.pem -inkey key.pem -passout pass:x",
            "openssl pkcs12 -nodes -in",
        ),
        (
            "cert.pem",
            "{ printf '\\357\\273\\277'; cat cert.pem; }",
            "tail -c +4",
        ),
        (
            "key.pem",
            "openssl pkey -in key.pem -aes256 -passout pass:x",
            "openssl pkey -in",
        ),
        (
            "key.pem",
            "openssl pkey -in key.pem -outform DER",
            "openssl pkey -inform DER -in",
        ),
        (
            "ca.pem",
            "openssl x509 -in ca.pem -outform DER",
            "openssl x509 -inform DER -in",
        ),
        (
            "ca.pem",
            "openssl x509 -in ca.pem -trustout",
            "openssl x509 -in",
        ),
        (
            "key.pem",
            "sed s/PRIVATE/'OPENSSH PRIVATE'/ key.pem",
            "(umask 77 && sed -n",
        ),
    ] {
        let files = Files::new(&format!(
            "{TLS}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"
        ));
        files.load().unwrap();
        let made = std::process::Command::new("sh")
            .current_dir(files.path())
            .args(["-c", &format!("{made_by} > new && mv new {file}")])
            .status();
        assert!(made.unwrap().success(), "{made_by}");
        let error = files.load().unwrap_err();
        let converted_by = format!("unencrypted PEM by `{converted_by}");
        assert!(error.contains(&converted_by), "{made_by}: {error}");
    }
}

#[test]
fn ciphers_and_curves_by_table() {
    check_tls("  cipher_suites: []\n", Ok(()));
    check_tls(
        "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n",
        Ok(()),
    );
    check_tls(
        "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  prefer_server_cipher_suites: false\n",
        Ok(()),
    );
    let http1 = "http_server_config: {http2: false}\n";
    for suite in [
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
    ] {
        let list = format!("  cipher_suites: [{suite}]\n");
        check_tls(&list, Err("HTTP/2 needs TLS_ECDHE_RSA_WITH_AES_128"));
        check_tls(
            &format!("{list}  max_version: TLS12\n"),
            Err("set min_version to TLS13 or http2 to false"),
        );
        check_tls(&format!("{list}  min_version: TLS13\n"), Ok(()));
        check_tls(&format!("{list}{http1}"), Ok(()));
    }
    check_tls(
        "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]\n",
        Err("suites with GCM"),
    );
    check_tls("  cipher_suites: [TLS_INVENTED]\n", Err("TLS_INVENTED"));
    check_tls(
        "  curve_preferences: [X25519, CurveP256, CurveP384]\n",
        Ok(()),
    );
    check_tls(
        "  curve_preferences: [CurveP521]\n",
        Err("use X25519, CurveP256 or CurveP384"),
    );
}

#[test]
fn client_auth_types_by_table() {
    for auth in ["VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] {
        check_tls(
            &format!("  client_auth_type: {auth}\n"),
            Err("needs client_ca"),
        );
        check_tls(
            &format!("  client_auth_type: {auth}\n  client_ca_file: ca.pem\n"),
            Ok(()),
        );
        check_tls(
            &format!("  client_auth_type: {auth}\n  client_ca_file: key.pem\n"),
            Err("client_ca holds no PEM"),
        );
        check_tls(
            &format!("  client_auth_type: {auth}\n  client_ca: x\n"),
            Err("client_ca holds no PEM"),
        );
    }
    for auth in [
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "RequireClientCert",
    ] {
        check_tls(&format!("  client_auth_type: {auth}\n"), Ok(()));
    }
    check_tls(
        "  client_auth_type: Sometimes\n",
        Err("is none of NoClientCert"),
    );
    check_tls(
        "  client_ca_file: ca.pem\n",
        Err("does not request certificates"),
    );
    for (auth, sans, expected) in [
        ("RequireAndVerifyClientCert", "[a]", Ok(())),
        ("RequireAndVerifyClientCert", "[]", Err("is empty")),
        ("VerifyClientCertIfGiven", "[a]", Err("present none")),
        ("RequireAnyClientCert", "[a]", Err("anyone can make")),
        ("RequireClientCert", "[a]", Err("anyone can make")),
        ("RequireAnyClientCert", "[]", Err("anyone can make")),
        ("RequestClientCert", "[a]", Err("needs client_auth_type")),
        ("NoClientCert", "[a]", Err("needs client_auth_type")),
    ] {
        let ca = if auth.contains("Verify") {
            "  client_ca_file: ca.pem\n"
        } else {
            ""
        };
        check_tls(
            &format!("  client_auth_type: {auth}\n{ca}  client_allowed_sans: {sans}\n"),
            expected,
        );
    }
    check_tls(
        "  client_allowed_sans: [a]\n",
        Err("needs client_auth_type"),
    );
}

#[test]
fn headers_and_rates_by_table() {
    let headers = |header: &str, expected| {
        let config = format!(
            "http_server_config:
  headers:
    {header}
"
        );
        check(&config, expected);
    };
    check("http_server_config: {http2: false}\n", Ok(()));
    check("http_server_config: {http3: true}\n", Err("http3"));
    headers("Content-Security-Policy: default-src 'self'", Ok(()));
    headers("Strict-Transport-Security: max-age=31536000", Ok(()));
    headers("X-XSS-Protection: 1; mode=block", Ok(()));
    headers("X-Content-Type-Options: nosniff", Ok(()));
    headers("X-Content-Type-Options: sniff", Err("only nosniff"));
    headers("X-Frame-Options: deny", Ok(()));
    headers("X-Frame-Options: sameorigin", Ok(()));
    headers("X-Frame-Options:", Ok(()));
    headers("X-Frame-Options: DENY", Err("only deny or sameorigin"));
    headers("Server: x", Err("cannot be set; use one of"));

    check("rate_limit: {interval: 1s, burst: 20}\n", Ok(()));
    check("rate_limit: {interval: 0, burst: 0}\n", Ok(()));
    check("rate_limit: {interval: 1s}\n", Ok(()));
    check("rate_limit: {interval: 1s, burst: 0}\n", Ok(()));
    check(
        "rate_limit: {interval: 1h, burst: 10000}\n",
        Err("above a year"),
    );
    check("rate_limit: {interval: soon, burst: 1}\n", Err("interval"));
    check(
        "rate_limit: {interval: 1s, burst: -1}\n",
        Err("cannot read the web configuration: line 1: the value is not a whole number"),
    );
}

/// Loads the file, and expects success, or an error that has this part.
fn check(config: &str, expected: Result<(), &str>) {
    let outcome = Files::new(config).load();
    match (&outcome, expected) {
        (Ok(_), Ok(())) => {}
        (Err(error), Err(part)) if error.contains(part) => {}
        _ => panic!("{config}\n{outcome:?}, expected {expected:?}"),
    }
}

fn check_tls(more: &str, expected: Result<(), &str>) {
    check(&format!("{TLS}{more}"), expected);
}

fn check_tls_only(options: &str, expected: Result<(), &str>) {
    check(&format!("tls_server_config:\n{options}"), expected);
}

#[test]
fn errors_show_no_secrets() {
    for config in [
        "basic_auth_users: {admin: hunter2hunter2}\n",
        "basic_auth_users:\n  admin: hunter2hunter2\n  - x\n",
        "tls_server_config:\n  cert: a\n  key: hunter2hunter2\n",
        "tls_server_config:\n  key: hunter2hunter2\n  kez: a\n",
        "tls_server_config:\n  cipher_suites: hunter2hunter2\n",
        "rate_limit: {burst: hunter2hunter2}\n",
    ] {
        let error = Files::new(config).load().unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn client_certificates_by_table() {
    let files = Files::new("");
    let stranger = Authority::new();
    let named = |authority: &Authority, name: &str| {
        authority.sign(vec![SanType::DnsName(name.try_into().unwrap())])
    };
    // None, one of our authority, one of another.
    for (auth, expected) in [
        ("NoClientCert", [true, true, true]),
        ("RequestClientCert", [true, true, true]),
        ("RequireAnyClientCert", [false, true, true]),
        ("VerifyClientCertIfGiven", [true, true, false]),
        ("RequireAndVerifyClientCert", [false, true, false]),
    ] {
        let ca = if auth.contains("Verify") {
            "  client_ca_file: ca.pem\n"
        } else {
            ""
        };
        files.write("web.yml", &format!("{TLS}  client_auth_type: {auth}\n{ca}"));
        let (server, _) = files.start();
        for version in [&version::TLS12, &version::TLS13] {
            let clients = [
                None,
                Some(named(&files.authority, "a")),
                Some(named(&stranger, "a")),
            ];
            let mut admitted = Vec::new();
            for leaf in clients {
                let config = client(&files.authority, leaf, &[version]);
                admitted.push(get_over(&server, config).await.is_some());
            }
            assert_eq!(admitted, expected, "{auth} {version:?}");
        }
    }
}

#[tokio::test]
async fn alternative_names_by_table() {
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let config = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: [scraper.example, 192.0.2.7, '2001:db8::7', bob@example.org, 'spiffe://example/prometheus']\n";
    let files = Files::new(&format!("{TLS}{config}"));
    let (server, _) = files.start();
    for (sans, good) in [
        (vec![dns("scraper.example")], true),
        (vec![dns("other.example"), dns("scraper.example")], true),
        (vec![SanType::IpAddress("192.0.2.7".parse().unwrap())], true),
        (
            vec![SanType::IpAddress("2001:db8::7".parse().unwrap())],
            true,
        ),
        (
            vec![SanType::Rfc822Name("bob@example.org".try_into().unwrap())],
            true,
        ),
        (
            vec![SanType::URI(
                "spiffe://example/prometheus".try_into().unwrap(),
            )],
            true,
        ),
        (vec![dns("other.example")], false),
        (vec![dns("a.scraper.example")], false),
        (
            vec![SanType::IpAddress("192.0.2.8".parse().unwrap())],
            false,
        ),
        (vec![], false),
    ] {
        let shown = format!("{sans:?}");
        let config = client(
            &files.authority,
            Some(files.authority.sign(sans)),
            rustls::DEFAULT_VERSIONS,
        );
        assert_eq!(get_over(&server, config).await.is_some(), good, "{shown}");
    }
}

#[tokio::test]
async fn versions_by_table() {
    let files = Files::new("");
    for (options, tls12, tls13) in [
        ("", true, true),
        ("  min_version: TLS13\n", false, true),
        ("  max_version: TLS12\n", true, false),
        (
            "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n",
            true,
            true,
        ),
        // Of another kind of key than ours: nothing left for TLS 1.2.
        (
            "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n",
            false,
            true,
        ),
        ("  curve_preferences: [CurveP384]\n", true, true),
    ] {
        files.write("web.yml", &format!("{TLS}{options}"));
        let (server, _) = files.start();
        for (version, good) in [(&version::TLS12, tls12), (&version::TLS13, tls13)] {
            let config = client(&files.authority, None, &[version]);
            assert_eq!(
                get_over(&server, config).await.is_some(),
                good,
                "{options} {version:?}"
            );
        }
    }
}

#[tokio::test]
async fn http2_is_used_if_the_client_offers_it() {
    for (options, protocol) in [
        ("", &b"h2"[..]),
        ("http_server_config: {http2: false}\n", b"http/1.1"),
    ] {
        let files = Files::new(&format!("{TLS}{options}"));
        let (server, _) = files.start();
        let mut config = client(&files.authority, None, rustls::DEFAULT_VERSIONS);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = handshake(&server, config).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
    }
}

#[tokio::test]
async fn many_requests_are_answered_over_http2() {
    let files = Files::new(&format!("{TLS}basic_auth_users: {{a: {}}}\n", hash("b")));
    let (mut server, _) = files.start();
    let client = http_client(&files.authority, true);
    let url = |path: &str| format!("https://localhost:{}{path}", server.address.port());
    let (scrape, page, health) = (url("/metrics"), url("/"), url("/-/healthy"));
    for (url, password, status) in [
        (&scrape, "b", 200),
        (&scrape, "b", 200),
        (&page, "b", 200),
        (&page, "c", 401),
        (&health, "c", 200),
    ] {
        let answer = client.get(url).basic_auth("a", Some(password));
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        assert_eq!(answer.status().as_u16(), status, "{url} {password}");
        assert_eq!(answer.text().await.unwrap().is_empty(), *url == scrape);
    }
    server.stop();
    assert_eq!(server.serving.await.unwrap(), 0, "no connection was cut");
}

/// hyper's client refuses an answer to HEAD that has a body over HTTP/2, and one whose body is cut over HTTP/1.
#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body_over_every_protocol() {
    let users = format!("basic_auth_users: {{a: {}}}\n", hash("b"));
    let files = Files::new(&format!("{TLS}{users}"));
    let (server, _) = files.start();
    for http2 in [false, true] {
        let client = http_client(&files.authority, http2);
        for path in [
            "/metrics",
            "/metrics?name[]=up",
            "/",
            "/-/healthy",
            "/-/ready",
            "/nothing",
        ] {
            for (encoding, password) in [("identity", "b"), ("gzip", "b"), ("gzip", "wrong")] {
                let ask = async |method| {
                    let url = format!("https://localhost:{}{path}", server.address.port());
                    let request = client.request(method, url).basic_auth("a", Some(password));
                    let answer = request.header("accept-encoding", encoding).send().await;
                    let answer = answer.unwrap();
                    assert_eq!(answer.version() == reqwest::Version::HTTP_2, http2);
                    let (status, mut headers) = (answer.status(), answer.headers().clone());
                    headers.remove("date");
                    (status, headers, answer.bytes().await.unwrap())
                };
                let head = ask(reqwest::Method::HEAD).await;
                let get = ask(reqwest::Method::GET).await;
                assert_eq!((head.0, head.1), (get.0, get.1), "{path} {encoding}");
                assert!(head.2.is_empty(), "{path} {encoding}");
            }
        }
    }
}

#[tokio::test]
async fn client_without_a_handshake_is_disconnected() {
    let files = Files::new(TLS);
    let mut state = state();
    state.web_config = Some(files.load().unwrap());
    state.limits.header_time = Duration::from_millis(50);
    let server = Server::start(state);
    for begun in [&b""[..], b"\x16\x03\x01"] {
        let mut stream = server.connect().await;
        stream.write_all(begun).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn plain_http_gets_no_answer_over_tls() {
    let files = Files::new(TLS);
    let (server, _) = files.start();
    let mut stream = server.connect().await;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn basic_authentication_by_table() {
    let users = format!(
        "basic_auth_users:\n  alice: {}\n  bob: {}\n  '': {}\n",
        hash("secret"),
        hash("pass:word"),
        hash("empty")
    );
    let files = Files::new(&users);
    let (server, _) = files.start();
    for (path, credentials, status) in [
        ("/metrics", None, 401),
        ("/", None, 401),
        ("/nothing", None, 401),
        ("/-/healthy", None, 200),
        ("/-/ready", None, 200),
        ("/-/healthy", Some("alice:wrong"), 200),
        ("/metrics", Some("alice:secret"), 200),
        ("/metrics", Some("alice:secret"), 200),
        ("/metrics", Some("alice:wrong"), 401),
        ("/metrics", Some("alice:wrong"), 401),
        ("/metrics", Some("alice:"), 401),
        ("/metrics", Some("alice"), 401),
        ("/metrics", Some("Alice:secret"), 401),
        ("/metrics", Some("bob:pass:word"), 200),
        ("/metrics", Some("bob:secret"), 401),
        ("/metrics", Some("eve:secret"), 401),
        ("/metrics", Some("eve:secret"), 401),
        ("/metrics", Some(":empty"), 200),
        ("/nothing", Some("alice:secret"), 404),
    ] {
        let header = credentials.map_or_else(String::new, basic);
        let answer = server.ask("GET", path, &header).await;
        assert_eq!(answer.status, status, "{path} {credentials:?}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, (status == 401).then_some("Basic"));
    }
}

#[tokio::test]
async fn headers_are_on_every_answer() {
    let files = Files::new(&format!(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: default-src 'self'\nbasic_auth_users: {{a: {}}}\n",
        hash("b")
    ));
    let (server, _) = files.start();
    for (path, credentials) in [
        ("/metrics", "a:b"),
        ("/", "a:b"),
        ("/", "a:c"),
        ("/nothing", "a:b"),
        ("/-/healthy", ""),
    ] {
        let answer = server.ask("GET", path, &basic(credentials)).await;
        assert_eq!(answer.header("x-frame-options"), Some("deny"), "{path}");
        assert_eq!(
            answer.header("content-security-policy"),
            Some("default-src 'self'")
        );
    }
}

#[tokio::test]
async fn the_rate_is_limited() {
    for (burst, statuses) in [
        ("burst: 2", [200, 200, 200, 429, 200]),
        ("burst: 1", [200, 200, 429, 429, 200]),
        ("burst: 0", [429, 200, 429, 429, 200]),
    ] {
        let files = Files::new(&format!("rate_limit: {{interval: 1h, {burst}}}\n"));
        let (server, _) = files.start();
        let paths = ["/metrics", "/-/healthy", "/", "/metrics", "/-/ready"];
        for (path, status) in paths.into_iter().zip(statuses) {
            assert_eq!(server.get(path).await.status, status, "{burst} {path}");
        }
    }
}

#[tokio::test]
async fn users_are_reloaded_and_a_broken_file_changes_nothing() {
    let users = |password: &str| format!("basic_auth_users: {{alice: {}}}\n", hash(password));
    let files = Files::new(&users("old"));
    let (server, web_config) = files.start();
    let statuses = async || {
        let mut statuses = Vec::new();
        for password in ["old", "new"] {
            let header = basic(&format!("alice:{password}"));
            statuses.push(server.ask("GET", "/metrics", &header).await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 401]);
    files.write("web.yml", &users("new"));
    assert_eq!(statuses().await, [401, 200]);
    for (broken, reload_error) in [
        (
            "basic_auth_users: {alice",
            "cannot read the web configuration",
        ),
        ("", "basic_auth_users has no users any more"),
        (TLS, "TLS cannot be switched on or off by a reload"),
        ("nonsense: true\n", "nonsense"),
    ] {
        files.write("web.yml", broken);
        assert_eq!(statuses().await, [401, 200], "{broken}");
        assert!(
            web_config.reload_error().unwrap().contains(reload_error),
            "{broken}"
        );
    }
    fs::remove_file(files.path().join("web.yml")).unwrap();
    assert_eq!(statuses().await, [401, 200]);
    assert!(web_config.reload_error().unwrap().contains("cannot read"));
    files.write("web.yml", &users("old"));
    assert_eq!(statuses().await, [200, 401]);
    assert_eq!(web_config.reload_error(), None);
}

#[tokio::test]
async fn certificates_are_reloaded() {
    let files = Files::new(TLS);
    let (server, web_config) = files.start();
    let shown = async || {
        let config = client(&files.authority, None, rustls::DEFAULT_VERSIONS);
        let stream = handshake(&server, config).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    let first = files.certify().certificate;
    assert_eq!(shown().await, first);
    let second = files.certify().certificate;
    assert_eq!(shown().await, second);
    // A certificate without its key yet.
    let third = files.authority.localhost();
    files.write("cert.pem", &third.pem);
    assert_eq!(shown().await, second);
    assert!(web_config.reload_error().unwrap().contains("cert and key"));
    files.write("key.pem", &third.key_pem);
    assert_eq!(shown().await, third.certificate);
    // TLS is not switched off by a file that has none.
    files.write("web.yml", "");
    assert_eq!(shown().await, third.certificate);
}

pub(super) fn client(
    authority: &Authority,
    leaf: Option<Leaf>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match leaf {
        Some(leaf) => builder
            .with_client_auth_cert(vec![leaf.certificate], leaf.key)
            .unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// A client of HTTP/2, or else HTTP/1.1, over TLS.
fn http_client(authority: &Authority, http2: bool) -> reqwest::Client {
    let mut config = client(authority, None, rustls::DEFAULT_VERSIONS);
    let builder = reqwest::Client::builder().no_gzip();
    let builder = if http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
        builder.http2_prior_knowledge()
    } else {
        builder.http1_only()
    };
    builder.tls_backend_preconfigured(config).build().unwrap()
}

pub(super) async fn handshake(
    server: &Server,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let stream = server.connect().await;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// The answer, or `None` where the server broke the connection off: with TLS 1.3 the client learns only afterwards that
/// its certificate was refused.
pub(super) async fn get_over(server: &Server, config: ClientConfig) -> Option<Answer> {
    let stream = handshake(server, config).await.ok()?;
    let answer = ask(stream, "GET", "/-/healthy", "").await.ok()?;
    (answer.status == 200).then_some(answer)
}

/// At the least cost, for tests.
pub(super) fn hash(password: &str) -> String {
    format!("'{}'", bcrypt::hash(password, 4).unwrap())
}

pub(super) fn basic(credentials: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
    format!("Authorization: Basic {encoded}\r\n")
}
