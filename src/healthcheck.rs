//! `healthcheck`: requests `/-/healthy` from the running exporter, for images without a shell.
//!
//! The command does not verify the server's certificate, because it usually does not name a loopback address. The
//! command connects only to this machine and sends no secret. If the server requires a client certificate, the check
//! succeeds, because the server has loaded its keys and accepts connections.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use rustls::AlertDescription;

use crate::graph::http::tls_error;
use crate::server::Listen;
use crate::server::web_config::{WebConfig, WebConfigError};

/// Errors of the health check.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    #[error(
        "cannot check sockets of systemd: this command does not know their addresses; give --web.listen-address instead of --web.systemd-socket"
    )]
    SystemdSocket,
    #[error(
        "cannot check port 0: it stands for any port; set --web.listen-address to the port that the exporter listens on"
    )]
    AnyPort,
    /// The web configuration, which says whether the exporter uses TLS, is invalid.
    #[error("the web configuration cannot be used")]
    WebConfig(#[from] WebConfigError),
    #[error("cannot set up the client of the health check")]
    Client(#[source] reqwest::Error),
    /// The connection is refused or broken, or the peer does not speak HTTP.
    #[error("unhealthy: no HTTP response from {0}")]
    Connection(String, #[source] Box<dyn Error + Send + Sync>),
    #[error("unhealthy: no response from {} within {} seconds", .0, TIMEOUT.as_secs())]
    Timeout(String),
    #[error("unhealthy: {0} answers {1:?}")]
    Status(String, String),
}

/// Makes one check of the exporter that was started with these flags.
pub(crate) async fn run(
    listen: &Listen,
    web_config: Option<&Path>,
) -> Result<(), HealthcheckError> {
    let Listen::Addresses(addresses) = listen else {
        return Err(HealthcheckError::SystemdSocket);
    };
    // One address is enough, because the daemon ends if any of its sockets fails.
    let address = addresses
        .first()
        .expect("a list of addresses has at least one");
    let (hosts, port) = address.reached_at();
    if port == 0 {
        return Err(HealthcheckError::AnyPort);
    }
    let web_config = web_config.map(WebConfig::load).transpose()?;
    let has_tls = web_config.is_some_and(|web_config| web_config.has_tls());
    let scheme = if has_tls { "https" } else { "http" };
    let client = client().map_err(HealthcheckError::Client)?;
    probe_any(&client, scheme, &hosts, port).await
}

/// Checks these hosts until one is healthy. If none is, returns the first error.
async fn probe_any(
    client: &Client,
    scheme: &str,
    hosts: &[&str],
    port: u16,
) -> Result<(), HealthcheckError> {
    let mut first = Ok(());
    for host in hosts {
        let outcome = probe(client, scheme, host, port).await;
        if outcome.is_ok() {
            return outcome;
        }
        first = first.and(outcome);
    }
    first
}

async fn probe(
    client: &Client,
    scheme: &str,
    host: &str,
    port: u16,
) -> Result<(), HealthcheckError> {
    let address = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let url = format!("{scheme}://{address}/-/healthy");
    match client.get(url).send().await {
        Ok(response) if response.status() == StatusCode::OK => Ok(()),
        Ok(response) => {
            let line = format!("{:?} {}", response.version(), response.status());
            Err(HealthcheckError::Status(address, line))
        }
        Err(error) if wants_certificate(&error) => Ok(()),
        Err(error) if error.is_timeout() => Err(HealthcheckError::Timeout(address)),
        Err(error) => {
            let source = error.without_url().into();
            Err(HealthcheckError::Connection(address, source))
        }
    }
}

/// Returns whether the server rejected the connection only because it requires a client certificate.
fn wants_certificate(error: &reqwest::Error) -> bool {
    matches!(
        tls_error(error),
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
        ))
    )
}

/// Returns a client that connects directly and accepts every certificate.
fn client() -> Result<Client, reqwest::Error> {
    // `install_default` fails only if another provider is already installed. That provider works too.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder()
        .user_agent("healthcheck")
        .no_proxy()
        .redirect(redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .http1_only()
        .timeout(TIMEOUT)
        .build()
}

/// Time limit for one address: connection, TLS and response together. A healthy exporter needs milliseconds, and
/// container runtimes wait longer than this by default.
const TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn probe(port: u16) -> Result<(), HealthcheckError> {
        super::probe(&client().unwrap(), "http", "127.0.0.1", port).await
    }

    /// Answers one request with these bytes and closes the connection. Returns the request.
    async fn answer(listener: TcpListener, bytes: &'static [u8]) -> Vec<u8> {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(bytes).await.unwrap();
        request
    }

    /// Returns the outcome of [`probe`] for a server that sends these bytes and closes the connection.
    async fn outcome_for(bytes: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(answer(listener, bytes));
        let outcome = probe(port).await;
        let request = serving.await.unwrap();
        assert!(request.starts_with(b"GET /-/healthy HTTP/1.1\r\n"));
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
            (
                b"HTTP/1.1 404 Not Found\r\n\r\n",
                "unhealthy: 127.0.0.1 answers \"HTTP/1.1 404 Not Found\"",
            ),
            (
                b"HTTP/1.1 302 Found\r\nlocation: /\r\n\r\n",
                "unhealthy: 127.0.0.1 answers \"HTTP/1.1 302 Found\"",
            ),
            (
                b"\x15\x03\x01\n",
                "unhealthy: no HTTP response from 127.0.0.1",
            ),
            (b"", "unhealthy: no HTTP response from 127.0.0.1"),
        ] {
            assert_eq!(outcome_for(answer).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_sends_nothing_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = probe(listener.local_addr().unwrap().port())
            .await
            .unwrap_err();
        assert!(matches!(error, HealthcheckError::Timeout(_)), "{error}");
    }

    /// On a machine without IPv6, `[::]` can still be bound, but only IPv4 works.
    #[tokio::test]
    async fn one_healthy_host_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let serving = tokio::spawn(answer(listener, bytes));
        let client = client().unwrap();
        let hosts = ["::1", "127.0.0.1"];
        let outcome = probe_any(&client, "http", &hosts, port).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        serving.await.unwrap();
    }
}
