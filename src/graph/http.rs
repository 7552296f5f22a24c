//! The HTTP client, and helpers for responses: bodies of limited size, headers, and transport errors.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, NoProxy, Proxy, Response, redirect, tls};
use secrecy::SecretString;

use super::foreign;
use super::retry::{FailureKind, retry_after};
use crate::memory::MemoryError;
use crate::secret_file::{
    self,
    conversion::{self, Role},
};

/// Connection options. [`HttpOptions::default`] is right for Microsoft's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpOptions {
    /// Longest wait for a connection, TLS handshake included.
    pub connect_timeout: Duration,
    /// Longest wait for the next bytes of a response.
    pub read_timeout: Duration,
    /// True to use `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. Plain http, which is for this machine only, never uses a
    /// proxy.
    pub proxies: bool,
    /// True to send only plain http. Such a client works on a machine without CA certificates, and its https requests
    /// always fail.
    pub plain_only: bool,
}

/// A client for Graph and the token endpoint. Clones share their connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    pub(crate) client: Client,
    /// The secrets in the URL of the proxy, see `proxy_secrets`.
    pub(crate) proxy_secrets: Vec<SecretString>,
}

/// Errors of the client's setup.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// There is no CA certificate that can be read.
    #[error(
        "cannot set up TLS{}; install the system's CA certificates (package ca-certificates) or set SSL_CERT_FILE to a PEM file of CA certificates",
        named(.0.as_deref())
    )]
    Tls(Option<String>, #[source] reqwest::Error),
    /// The file in `SSL_CERT_FILE` cannot be used. It is a pipe or device, its disk does not answer, it is too long, or
    /// it is not in PEM format.
    #[error("cannot read SSL_CERT_FILE {0}")]
    CertificateFile(String, #[source] io::Error),
    /// An environment variable names a proxy that cannot be used. The cause is omitted, because its message repeats the
    /// URL, which can contain a password.
    #[error("{0} is not the URL of a proxy; write http://HOST:PORT")]
    Proxy(&'static str),
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            read_timeout: READ_TIMEOUT,
            proxies: true,
            plain_only: false,
        }
    }
}

impl HttpClient {
    /// Returns a client: TLS 1.2 or newer, no redirects, gzip, keep-alive. The client trusts the certificates of
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`. If neither is set, it trusts those of the system. The certificates are read
    /// once, here.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        // This fails only if another provider is already installed. That provider works too.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut proxy_secrets = Vec::new();
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .redirect(redirect::Policy::none())
            .tls_version_min(tls::Version::TLS_1_2)
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.read_timeout)
            .tcp_keepalive(TCP_KEEPALIVE);
        // By default, reqwest would send plain http through HTTP_PROXY, even to loopback. A secret would then reach the
        // proxy unencrypted.
        builder = builder.no_proxy();
        // A client that sends only plain http uses no proxy, so it does not report an unsupported proxy either.
        if options.proxies
            && !options.plain_only
            && let Some((proxy, secrets)) = proxy()?
        {
            builder = builder.proxy(proxy);
            proxy_secrets = secrets;
        }
        if options.plain_only {
            builder = builder.tls_certs_only([]);
        } else {
            check_certificate_file(std::env::var("SSL_CERT_FILE").ok())?;
        }
        let client = builder
            .build()
            .map_err(|source| HttpError::Tls(std::env::var("SSL_CERT_FILE").ok(), source))?;
        Ok(Self {
            client,
            proxy_secrets,
        })
    }
}

/// Rejects a file of CA certificates if reading it could block the client forever, if it is too long, or if it must
/// be converted to PEM. The client itself reports other errors.
fn check_certificate_file(named: Option<String>) -> Result<(), HttpError> {
    use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, TimedOut};
    let Some(named) = named.filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = Path::new(&named);
    let error = match secret_file::read(path, CERTIFICATES_BYTES_MAX) {
        Err(error) if matches!(error.kind(), InvalidInput | TimedOut | FileTooLarge) => Some(error),
        Ok(bytes) if !conversion::contains(&bytes, conversion::CERTIFICATE) => {
            let needed = conversion::needed(path, &bytes, Role::Certificate);
            needed.map(|needed| io::Error::new(InvalidData, needed))
        }
        _ => None,
    };
    error.map_or(Ok(()), |error| {
        Err(HttpError::CertificateFile(named, error))
    })
}

/// Returns the proxy that the environment names for https, and its [`proxy_secrets`].
fn proxy() -> Result<Option<(Proxy, Vec<SecretString>)>, HttpError> {
    let named = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .find_map(|variable| {
            let url = std::env::var(variable).ok().filter(|url| !url.is_empty())?;
            Some((variable, url))
        });
    let Some((variable, url)) = named else {
        return Ok(None);
    };
    // Without this check, reqwest would accept a SOCKS proxy and fail at the first request.
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let spoken = |scheme: &str| ["http", "https"].contains(&&*scheme.to_lowercase());
    if !scheme.is_none_or(spoken) || ends_within_password(&url) {
        return Err(HttpError::Proxy(variable));
    }
    let secrets = proxy_secrets(&url);
    let proxy = Proxy::https(url).map_err(|_| HttpError::Proxy(variable))?;
    Ok(Some((proxy.no_proxy(NoProxy::from_env()), secrets)))
}

/// Returns true if the password in a proxy's URL contains a character that ends the host part of a URL. The client
/// would then read the user as host and the start of the password as port, and messages would show both.
fn ends_within_password(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    after_scheme
        .split_once(['/', '\\', '?', '#'])
        .is_some_and(|(_, rest)| rest.contains('@'))
}

/// Returns the secrets in the URL of a proxy: the password, and the Base64 of `user:password` that each request to the
/// proxy contains. If there is no password, the user name is a secret, because some proxies accept a token as the name.
fn proxy_secrets(url: &str) -> Vec<SecretString> {
    let header = "https://graph.microsoft.com"
        .parse()
        .ok()
        .and_then(|uri| Matcher::builder().https(url).build().intercept(&uri))
        .and_then(|proxy| proxy.basic_auth().cloned());
    let encoded = header
        .as_ref()
        .and_then(|header| header.to_str().ok()?.strip_prefix("Basic "));
    let decoded = encoded.and_then(|text| BASE64_STANDARD.decode(text).ok());
    let (Some(encoded), Some(decoded)) = (encoded, decoded) else {
        return Vec::new();
    };
    let pair = String::from_utf8_lossy(&decoded);
    let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
    let password = if password.is_empty() { user } else { password };
    [encoded, password].map(SecretString::from).into()
}

#[derive(Debug)]
pub(crate) enum BodyError {
    Transport(reqwest::Error),
    TooLong,
    Memory(MemoryError),
}

/// Reads a body of at most `max` bytes, counted after decompression, into the caller's buffer. The buffer is not
/// reallocated if it has capacity for `max` bytes. Before the buffer grows, calls `reserve` with its new length. If
/// `reserve` fails, reading stops.
pub(crate) async fn read_body(
    body: &mut Vec<u8>,
    response: &mut Response,
    max: usize,
    mut reserve: impl FnMut(usize) -> Result<(), MemoryError>,
) -> Result<(), BodyError> {
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Transport)? {
        if chunk.len() > max - body.len() {
            return Err(BodyError::TooLong);
        }
        reserve(body.len() + chunk.len()).map_err(BodyError::Memory)?;
        body.extend_from_slice(&chunk);
    }
    Ok(())
}

/// The failure kind of a transport error.
pub(crate) fn classify(error: &reqwest::Error) -> FailureKind {
    if error.is_timeout() {
        FailureKind::Timeout
    } else if error.is_body() || error.is_decode() {
        FailureKind::Body
    } else {
        FailureKind::Connect
    }
}

/// The TLS error that caused a transport error.
pub(crate) fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        // `source` skips the error that an I/O error wraps. `get_ref` returns this error.
        source = match error.downcast_ref().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// The remedy if the connection failed.
pub(crate) fn connect_remedy(error: &reqwest::Error) -> Option<&'static str> {
    error.is_connect().then_some(
        "check name resolution, the firewall and HTTPS_PROXY; if a private CA signed the server's certificate, set SSL_CERT_FILE to a PEM file with the CA's certificate",
    )
}

/// The value of a header, if it is text.
pub(crate) fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// The `Content-Type` of a response if it is a common one, or else a fixed text.
pub(crate) fn content_type(response: &Response) -> &'static str {
    header(response, "content-type").map_or("none", foreign::content_type)
}

/// The time of a response by the server's clock.
pub(crate) fn date(response: &Response) -> Option<DateTime<Utc>> {
    let date = httpdate::parse_http_date(header(response, "date")?);
    date.ok().map(DateTime::from)
}

/// Returns the wait that `Retry-After` requests. If the value is a date, the wait begins at the `Date` of the response,
/// so a wrong clock on either side does no harm. If the response has no `Date`, the wait begins at `now`.
pub(crate) fn retry_after_of(response: &Response, now: DateTime<Utc>) -> Option<Duration> {
    let asked_at = date(response).unwrap_or(now);
    retry_after(header(response, "retry-after")?, asked_at)
}

fn named(ssl_cert_file: Option<&str>) -> String {
    ssl_cert_file.map_or_else(String::new, |file| format!(" (SSL_CERT_FILE is {file})"))
}

const USER_AGENT: &str = concat!("teams-pstn-exporter/", env!("CARGO_PKG_VERSION"));

/// Time limit for a connection. A handshake through a slow proxy takes a few seconds. If it takes ten, a firewall
/// probably drops the packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for the next bytes of a response. Graph takes some seconds to prepare a page, and a gateway in front of
/// Graph gives up after half a minute.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval of TCP keep-alive probes. They detect that a peer disappeared silently, before the next poll needs the
/// connection.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);

/// Maximum bytes of a file of CA certificates: ten times the size of the usual system file.
const CERTIFICATES_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::testing::{Reply, Server};
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit() {
        let server = Server::start(|_, _| Reply::json(200, "0123456789")).await;
        let client = HttpClient::new(&HttpOptions::default()).unwrap();
        for (max, expected) in [(10, Some("0123456789")), (9, None)] {
            let mut response = client.client.get(&server.url).send().await.unwrap();
            let mut body = Vec::new();
            let read = read_body(&mut body, &mut response, max, |_| Ok(())).await;
            let read = read.ok().map(|()| &*body);
            assert_eq!(read, expected.map(str::as_bytes), "{max}");
        }
    }

    /// Other crates read the environment variables, and a test must not set variables of its own process. So each case
    /// runs this test again in a separate process.
    #[tokio::test]
    async fn ca_certificates_and_proxies_come_from_the_environment() {
        const CASE: &str = "GRAPH_HTTP_TEST_CASE";
        if let Ok(case) = std::env::var(CASE) {
            return in_own_process(&case).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let (authority, port) = tls_server(folder.path()).await;
        let proxy = format!("http://127.0.0.1:{}", proxy_to(port).await);
        for (case, file) in [
            ("trusted", authority.clone()),
            ("proxied", authority.clone()),
            ("missing", folder.path().join("nowhere.pem")),
            ("plain", folder.path().join("nowhere.pem")),
        ] {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child
                .args(["--exact", "--nocapture"])
                .arg("graph::http::tests::ca_certificates_and_proxies_come_from_the_environment")
                .env(CASE, format!("{case} {port}"))
                .env("SSL_CERT_FILE", file)
                .env("HTTPS_PROXY", &proxy)
                .env("NO_PROXY", "localhost")
                .env_remove("SSL_CERT_DIR");
            let output = tokio::task::spawn_blocking(move || child.output().unwrap())
                .await
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{case}: {text}");
            assert!(text.contains("1 passed"), "{case} did not run: {text}");
        }
    }

    async fn in_own_process(case: &str) {
        let (case, port) = case.split_once(' ').unwrap();
        let options = HttpOptions {
            plain_only: case == "plain",
            ..HttpOptions::default()
        };
        let client = HttpClient::new(&options);
        if case == "missing" {
            let error = client.unwrap_err();
            assert!(error.to_string().contains("nowhere.pem"), "{error}");
            assert!(error.source().is_some());
            return;
        }
        // Only the proxy can resolve the second name.
        let host = if case == "proxied" {
            "graph.invalid"
        } else {
            "localhost"
        };
        let url = format!("https://{host}:{port}/");
        let answer = client.unwrap().client.get(url).send().await;
        match case {
            "trusted" | "proxied" => assert_eq!(answer.unwrap().status(), 200),
            "plain" => assert_eq!(classify(&answer.unwrap_err()), FailureKind::Connect),
            _ => panic!("no such case: {case}"),
        }
    }

    /// Starts a proxy that connects every name to `port`. Returns the port of the proxy.
    async fn proxy_to(port: u16) -> u16 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                client.read_buf(&mut head).await.unwrap();
            }
            let expected = format!("CONNECT graph.invalid:{port} HTTP/1.1\r\n");
            assert!(head.starts_with(expected.as_bytes()));
            let answer = b"HTTP/1.1 200 OK\r\n\r\n";
            client.write_all(answer).await.unwrap();
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .unwrap();
            let _copied = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
        own_port
    }

    /// Starts a TLS server on loopback. Returns a file with its private CA, and its port.
    async fn tls_server(folder: &std::path::Path) -> (std::path::PathBuf, u16) {
        use std::sync::Arc;
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        drop(rustls::crypto::ring::default_provider().install_default());
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let file = folder.join("ca.pem");
        let pem = authority.self_signed(&authority_key).unwrap().pem();
        std::fs::write(&file, pem).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["localhost".to_owned(), "graph.invalid".to_owned()])
                .unwrap()
                .signed_by(&key, &rcgen::Issuer::new(authority, authority_key))
                .unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut request = [0; 4096];
                    let _read = stream.read(&mut request).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    let _written = stream.write_all(answer).await;
                    let _closed = stream.shutdown().await;
                }
            }
        });
        (file, port)
    }
}
