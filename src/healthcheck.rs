//! `healthcheck`: requests `/-/healthy` from the running exporter, for images without a shell and for the watchdog.
//!
//! It uses tokio directly, because a client library would be larger than this module. It does not verify the server: it
//! connects to an address of this machine and sends no secret, so the names in the certificate, which are not those of
//! loopback, do not matter. If the server requires a client certificate, its request for one counts as healthy: a server that
//! sends it accepts connections and has its keys.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::server::web_config::{WebConfig, WebConfigError};
use crate::server::{LOOPBACK, Listen, Saturation};

/// Errors of the health check.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// The sockets of systemd are passed to the daemon only.
    #[error(
        "cannot check sockets of systemd: their address is unknown here; replace --web.systemd-socket by --web.listen-address"
    )]
    SystemdSocket,
    /// The port is 0, so the system chose it.
    #[error(
        "cannot check port 0: it stands for any port; set --web.listen-address to the port that the exporter listens on"
    )]
    AnyPort,
    /// The web configuration, which says whether the exporter uses TLS, is invalid.
    #[error("the web configuration cannot be used")]
    WebConfig(#[from] WebConfigError),
    /// The system does not provide what every process needs.
    #[error("cannot start the health check")]
    System(#[source] io::Error),
    /// The connection is refused or broken, or the peer does not speak HTTP.
    #[error("unhealthy: no HTTP response from {address}")]
    Connection {
        /// The address of the request.
        address: String,
        /// The error of the connection.
        source: io::Error,
    },
    /// The connection is open, but there is no response.
    #[error("unhealthy: no response from {address} within {} seconds", TIMEOUT.as_secs())]
    Timeout {
        /// The address of the request.
        address: String,
    },
    /// The response is not 200.
    #[error("unhealthy: {address} answers {line:?}")]
    Status {
        /// The address of the request.
        address: String,
        /// The status line of the response.
        line: String,
    },
}

/// Checks once the exporter that was started with these flags, in a runtime of its own.
///
/// # Errors
/// If it is not healthy, or its address is unknown.
pub fn run_alone(listen: &Listen, web_config: Option<&Path>) -> Result<(), HealthcheckError> {
    let Listen::Addresses(addresses) = listen else {
        return Err(HealthcheckError::SystemdSocket);
    };
    // One address is enough: if one of its sockets fails, the daemon ends.
    let address = addresses
        .first()
        .expect("a list of addresses has at least one");
    let (hosts, port) = address.reached_at();
    if port == 0 {
        return Err(HealthcheckError::AnyPort);
    }
    let web_config = web_config.map(WebConfig::load).transpose()?;
    let tls = web_config.is_some_and(|web_config| web_config.has_tls());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HealthcheckError::System)?;
    let outcome = runtime.block_on(probe_any(&hosts, port, tls));
    // A name server that does not answer blocks a thread. Do not wait for it.
    runtime.shutdown_background();
    outcome
}

/// Checks these hosts until one is healthy. If none is, returns the first error.
async fn probe_any(hosts: &[&str], port: u16, tls: bool) -> Result<(), HealthcheckError> {
    let mut first = Ok(());
    for host in hosts {
        let outcome = probe(host, port, tls).await;
        if outcome.is_ok() {
            return outcome;
        }
        first = first.and(outcome);
    }
    first
}

/// Checks one host.
///
/// # Errors
/// If the response is not 200, or does not come in time.
async fn probe(host: &str, port: u16, tls: bool) -> Result<(), HealthcheckError> {
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let line = match tokio::time::timeout(TIMEOUT, request_status(host, port, tls)).await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) if wants_certificate(&error) => return Ok(()),
        Ok(Err(source)) => return Err(HealthcheckError::Connection { address, source }),
        Err(_) => return Err(HealthcheckError::Timeout { address }),
    };
    if line == "HTTP/1.1 200 OK" {
        Ok(())
    } else {
        Err(HealthcheckError::Status { address, line })
    }
}

/// Checks the server of this process, which listens on `bound`.
///
/// If clients that are being answered hold all connection slots, this client has to wait like any other. Then the server is
/// healthy as long as it continues to look for a slot: a restart would only help the clients that overload it.
pub(crate) async fn probe_own(
    bound: SocketAddr,
    tls: bool,
    saturation: Saturation,
) -> Result<(), HealthcheckError> {
    let begun = Instant::now();
    let ip = bound.ip().to_string();
    let hosts = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => &LOOPBACK[..1],
        IpAddr::V6(ip) if ip.is_unspecified() => &LOOPBACK[..],
        _ => &[ip.as_str()],
    };
    match probe_any(hosts, bound.port(), tls).await {
        Err(_) if saturation.occurred_since(begun) => Ok(()),
        outcome => outcome,
    }
}

/// Requests `/-/healthy` and returns the status line of the response.
async fn request_status(host: &str, port: u16, tls: bool) -> io::Result<String> {
    let stream = TcpStream::connect((host, port)).await?;
    if !tls {
        return exchange(stream).await;
    }
    let connector = TlsConnector::from(Arc::new(accept_any_certificate()));
    let name = ServerName::try_from("localhost").expect("a name");
    exchange(connector.connect(name, stream).await?).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    stream.write_all(REQUEST.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let mut limited = stream.take(LINE_MAX);
    while !answer.contains(&b'\n') && limited.read_buf(&mut answer).await? > 0 {}
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = answer.split(|byte| *byte == b'\n').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    Ok(line.trim_end().to_owned())
}

/// Returns whether the server rejected the connection only because it requires a client certificate.
fn wants_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(
        error,
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
        ))
    )
}

/// Returns a TLS client that accepts every certificate.
fn accept_any_certificate() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
        .with_no_client_auth()
}

/// Accepts every certificate, if its key signs the handshake.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.0.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

const REQUEST: &str = "GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nUser-Agent: healthcheck\r\nConnection: close\r\n\r\n";

/// Limit for the connection, TLS and the response together, for each address: a healthy exporter needs milliseconds, and
/// container runtimes wait longer than this by default.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes read for the status line: that of the exporter has 17.
const LINE_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Returns the outcome of [`probe`] for a server that sends these bytes and closes the connection.
    async fn outcome_for(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; REQUEST.len()];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
            request
        });
        let outcome = probe("127.0.0.1", port, false).await;
        assert_eq!(serving.await.unwrap(), REQUEST.as_bytes());
        match outcome {
            Ok(()) => "healthy".to_owned(),
            Err(error) => error.to_string().replace(&format!(":{port}"), ""),
        }
    }

    #[tokio::test]
    async fn responses_by_table() {
        for (answer, expected) in [
            (
                &b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhealthy\n"[..],
                "healthy",
            ),
            (b"HTTP/1.1 200 OK\n", "healthy"),
            (
                b"HTTP/1.1 404 Not Found\r\n\r\n",
                "unhealthy: 127.0.0.1 answers \"HTTP/1.1 404 Not Found\"",
            ),
            (
                b"\x15\x03\x01\n",
                "unhealthy: 127.0.0.1 answers \"\\u{15}\\u{3}\\u{1}\"",
            ),
            (b"", "unhealthy: no HTTP response from 127.0.0.1"),
        ] {
            assert_eq!(outcome_for(answer).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_sends_nothing_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = probe("127.0.0.1", port, false).await.unwrap_err();
        assert!(matches!(error, HealthcheckError::Timeout { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_of_a_saturated_server_is_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let saturation = Saturation::default();
        saturation.mark();
        // Saturation before the check does not excuse a server that hangs now.
        tokio::time::advance(Duration::from_secs(1)).await;
        let outcome = probe_own(address, false, saturation.clone()).await;
        assert!(matches!(outcome, Err(HealthcheckError::Timeout { .. })));
        let marking = saturation.clone();
        let marking = tokio::spawn(async move {
            tokio::time::sleep(TIMEOUT / 2).await;
            marking.mark();
        });
        let outcome = probe_own(address, false, saturation).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        marking.await.unwrap();
    }

    /// On a machine without IPv6, `[::]` can still be bound, but only IPv4 works.
    #[tokio::test]
    async fn wildcard_addresses_are_reached_on_either_loopback_address() {
        for (own, bound) in [
            ("127.0.0.1:0", "[::]"),
            ("[::1]:0", "[::]"),
            ("127.0.0.1:0", "0.0.0.0"),
            ("127.0.0.1:0", "127.0.0.1"),
        ] {
            let listener = match TcpListener::bind(own).await {
                Ok(listener) => listener,
                // The test machine may have no IPv6.
                Err(_) if own.starts_with('[') => continue,
                Err(error) => panic!("{own}: {error}"),
            };
            let port = listener.local_addr().unwrap().port();
            let serving = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.unwrap();
            });
            let bound = format!("{bound}:{port}").parse().unwrap();
            let outcome = probe_own(bound, false, Saturation::default()).await;
            assert!(outcome.is_ok(), "{own} as {bound}: {outcome:?}");
            serving.await.unwrap();
        }
    }
}
