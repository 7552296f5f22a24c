//! `healthcheck`: asks the running exporter's own `/-/healthy`, where there is no shell to do it, and for the watchdog.
//!
//! By hand over tokio, for a client library would be larger than all that it does here. What this module does not do:
//! verify who answers. It connects to this machine's own address and sends nothing that is secret, so that the
//! certificate's names, which are not those of loopback, do not matter. Where the server wants a client's certificate,
//! asking for it is a sign of life too: whoever says that accepts connections and has its keys.

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

/// Why the exporter is not known to be healthy.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// Sockets of systemd's are known to the daemon only.
    #[error(
        "where systemd listens is not known here; leave --web.systemd-socket out and give --web.listen-address"
    )]
    SystemdSocket,
    /// The system chose the port.
    #[error(
        "port 0 is any port; give the one that the exporter listens on by --web.listen-address"
    )]
    AnyPort,
    /// Whether there is TLS is in that file.
    #[error("the web configuration cannot be used")]
    WebConfig(#[from] WebConfigError),
    /// The system refuses what every process gets.
    #[error("cannot ask")]
    System(#[source] io::Error),
    /// Nobody is there, or not in this language.
    #[error("unhealthy: nobody answers at {address}")]
    Connection {
        /// Where it was asked.
        address: String,
        /// What happened.
        source: io::Error,
    },
    /// Somebody is there, and silent.
    #[error("unhealthy: no answer from {address} within {} seconds", PATIENCE.as_secs())]
    Silence {
        /// Where it was asked.
        address: String,
    },
    /// An answer, and not the right one.
    #[error("unhealthy: {address} answers {line:?}")]
    Answer {
        /// Where it was asked.
        address: String,
        /// Its first line.
        line: String,
    },
}

/// Asks once the exporter that was started with these flags, in a runtime of its own.
///
/// # Errors
/// Where it is not healthy, or where it is cannot be told.
pub fn run_alone(listen: &Listen, web_config: Option<&Path>) -> Result<(), HealthcheckError> {
    let Listen::Addresses(addresses) = listen else {
        return Err(HealthcheckError::SystemdSocket);
    };
    // One stands for all: where one of its sockets dies, the daemon ends.
    let address = addresses.first().expect("an address where there are any");
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
    // A name server that does not answer holds a thread, which nobody waits for any more.
    runtime.shutdown_background();
    outcome
}

/// Asks at each of these hosts until one says that it is healthy. Where none does, the first error is told.
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

/// Asks once.
///
/// # Errors
/// Where the answer is not that it is healthy, or does not come in time.
async fn probe(host: &str, port: u16, tls: bool) -> Result<(), HealthcheckError> {
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let line = match tokio::time::timeout(PATIENCE, ask(host, port, tls)).await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) if wants_certificate(&error) => return Ok(()),
        Ok(Err(source)) => return Err(HealthcheckError::Connection { address, source }),
        Err(_) => return Err(HealthcheckError::Silence { address }),
    };
    if line == "HTTP/1.1 200 OK" {
        Ok(())
    } else {
        Err(HealthcheckError::Answer { address, line })
    }
}

/// Asks this process' own server, which listens at `bound`.
///
/// Where all places for connections are taken by clients that are being answered, this one has to wait like any other. Then
/// the server works as long as it goes on looking for a place: to start it anew would only help whoever crowds it.
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

/// The first line of the answer.
async fn ask(host: &str, port: u16, tls: bool) -> io::Result<String> {
    let stream = TcpStream::connect((host, port)).await?;
    if !tls {
        return exchange(stream).await;
    }
    let connector = TlsConnector::from(Arc::new(anyone()));
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

/// Whether a server of ours refused for want of a client's certificate.
fn wants_certificate(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(
        error,
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
        ))
    )
}

/// A client that takes every certificate.
fn anyone() -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for the default versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_no_client_auth()
}

/// Takes every certificate whose key signs the handshake.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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

/// For the connection, TLS and the answer together, at each address: a healthy exporter needs milliseconds, and those who ask for a
/// health check mostly wait longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes in which the first line must have come: ours has 17.
const LINE_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What [`probe`] says of a server that answers with these bytes and closes.
    async fn said_of(answer: &'static [u8]) -> String {
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
    async fn answers_by_table() {
        for (answer, said) in [
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
            (b"", "unhealthy: nobody answers at 127.0.0.1"),
        ] {
            assert_eq!(said_of(answer).await, said);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_has_an_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = probe("127.0.0.1", port, false).await.unwrap_err();
        assert!(matches!(error, HealthcheckError::Silence { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_of_a_crowded_server_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let saturation = Saturation::default();
        saturation.mark();
        // That was before, and so tells nothing of a server that hangs now.
        tokio::time::advance(Duration::from_secs(1)).await;
        let outcome = probe_own(address, false, saturation.clone()).await;
        assert!(matches!(outcome, Err(HealthcheckError::Silence { .. })));
        let noting = saturation.clone();
        let noting = tokio::spawn(async move {
            tokio::time::sleep(PATIENCE / 2).await;
            noting.mark();
        });
        let outcome = probe_own(address, false, saturation).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        noting.await.unwrap();
    }

    /// A machine without IPv6 still lets every interface be bound as `[::]`, and answers on IPv4 only.
    #[tokio::test]
    async fn every_interface_is_reached_on_loopback_of_either_kind() {
        for (own, bound) in [
            ("127.0.0.1:0", "[::]"),
            ("[::1]:0", "[::]"),
            ("127.0.0.1:0", "0.0.0.0"),
            ("127.0.0.1:0", "127.0.0.1"),
        ] {
            let listener = match TcpListener::bind(own).await {
                Ok(listener) => listener,
                // Where this is tested may be without IPv6 too.
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
