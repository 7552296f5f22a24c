//! The HTTP server: `Listen → Bound → serve(Site, shutdown)`.
//!
//! Binding and serving are two steps, so that a taken port is an error at the start, and tests bind port 0 and learn the
//! address. A scrape does no I/O but its own connection's, takes no lock that a poll or a slow client can hold, and never waits
//! for a poll. A client that sends nothing or reads nothing cannot hold the server: everything has a limit, see [`Limits`].
//!
//! - `routes` says what is answered, `page` what people see at `/`;
//! - `listen` reads addresses and binds them;
//! - `connection` drives one connection, `activity` has its deadlines, `peer` is its client, `body` is what a response
//!   sends;
//! - `slots` limits connections and scrapes, `crowd` tells when all slots were taken;
//! - `web_config` reads the file of `--web.config.file`; `tls` and `auth` act upon it.
//!
//! What this module does not do: start polls, know what a report is, or render metrics.

mod activity;
mod auth;
mod body;
mod connection;
mod crowd;
mod foreign;
mod listen;
pub mod page;
mod peer;
mod rendered_page;
mod routes;
mod slots;
mod tls;
pub mod web_config;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::auth::Gate;
use self::rendered_page::RenderedPage;
use self::slots::{Scrapes, Slots};
use self::web_config::WebConfig;
use crate::period::Clock;
use crate::snapshot::Subscriber;

pub(crate) use self::listen::LOOPBACK;

pub use self::crowd::Crowd;
pub use self::listen::{BindError, Listen, ListenAddress, ListenAddressError};

/// The path of the metrics: begins with `/`, and is none of the server's other paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryPath(String);

/// What is no [`TelemetryPath`].
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a path such as /metrics: it begins with / and neither begins with /-/ nor contains ?, # or blanks"
)]
pub struct TelemetryPathError(String);

/// Sockets that listen, and nobody who answers yet.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    crowd: Crowd,
    /// Hosts of `--web.listen-address`.
    names: Vec<String>,
}

/// What is served, and how.
#[derive(Debug)]
pub struct Site {
    /// What is published.
    pub subscriber: Subscriber,
    /// The wall clock, for "12 minutes ago" on the page.
    pub clock: Clock,
    /// Version and the like, for the page.
    pub about: About,
    /// `--web.telemetry-path`.
    pub telemetry_path: TelemetryPath,
    /// `--web.max-requests`: scrapes at the same time; one more is answered with 503.
    pub requests_max: usize,
    /// `--web.config.file`; without it there is neither TLS nor authentication.
    pub web_config: Option<WebConfig>,
    /// Takes the wish to reload; the answer is what `/-/reload` tells. `None`: there is no such path.
    pub reload: Option<mpsc::Sender<Reload>>,
    /// How patient the server is.
    pub limits: Limits,
}

/// A request to reload the configuration; whoever takes it reports the outcome.
#[derive(Debug)]
pub struct Reload {
    /// Whether settled days of logs are to be fetched again.
    pub refetch: bool,
    answer: oneshot::Sender<Result<(), String>>,
}

impl Reload {
    /// Reports the outcome.
    ///
    /// # Errors
    /// The outcome, if the client has gone.
    pub fn send(self, outcome: Result<(), String>) -> Result<(), Result<(), String>> {
        self.answer.send(outcome)
    }
}

/// What the page tells of the program.
#[derive(Clone, Debug)]
pub struct About {
    /// As in `teams_pstn_exporter_build_info`.
    pub version: &'static str,
    /// Likewise.
    pub revision: &'static str,
}

/// How much the server puts up with. The default is for production; tests take smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at the same time: far more than scrapers need, far fewer than the file descriptors of a service
    /// (1024). When they are all taken, the one with the weakest claim is closed for a new one. When three quarters are,
    /// clients are asked to open another connection for their next request.
    pub connections: usize,
    /// How long a connection is safe from being closed for another after it began, became idle, began a response or made
    /// progress: a client that has just connected must come to ask, and all connections together must not keep a new one
    /// waiting for a second.
    pub courtesy: Duration,
    /// Bytes of a request's line and headers, beyond which it is answered with 431: four times what a browser with
    /// a long authorization sends.
    pub header_size: usize,
    /// From the connection, or from a request's first byte, to the end of its headers: scrapers send them in one packet.
    pub header_time: Duration,
    /// How long a connection may wait for its next request: longer than the five minutes after which Prometheus closes
    /// it from its side, so that the two never meet half way.
    pub idle: Duration,
    /// How long a client may read nothing of a response that is being sent, over HTTP/2 of each: no network path is silent
    /// that long and then works.
    pub stall: Duration,
    /// From a request to the last byte of its response, where the scraper does not say
    /// (`X-Prometheus-Scrape-Timeout-Seconds`) that it leaves earlier: 80 MB at 3 Mbit/s.
    pub response: Duration,
    /// What requests under way get at shutdown; below the ten seconds after which container runtimes kill.
    pub drain: Duration,
    /// How long the web configuration file is taken to be what it was, before it is looked at again: an administrator
    /// does not notice, and a busy server looks rarely.
    pub web_config_age: Duration,
}

impl Bound {
    /// Binds every address, or fails.
    ///
    /// Sockets of systemd's are taken out of the environment, so this is called once, before threads are started.
    pub fn bind(listen: &Listen) -> Result<Self, BindError> {
        let listeners = match listen {
            Listen::Addresses(addresses) => addresses
                .iter()
                .map(ListenAddress::bind)
                .collect::<Result<_, _>>()?,
            Listen::Systemd => listen::inherited()?,
        };
        let addresses = listeners
            .iter()
            .enumerate()
            .map(|(index, listener)| {
                listener
                    .local_addr()
                    .map_err(|source| BindError::Socket { index, source })
            })
            .collect::<Result<_, _>>()?;
        let names = match listen {
            Listen::Addresses(addresses) => addresses.iter().map(ListenAddress::host).collect(),
            Listen::Systemd => Vec::new(),
        };
        Ok(Self {
            listeners,
            addresses,
            crowd: Crowd::default(),
            names,
        })
    }

    /// The addresses that are listened on, with the ports that the system chose where 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// When all places for connections are taken.
    pub fn crowd(&self) -> Crowd {
        self.crowd.clone()
    }

    /// Serves until `shutdown`, then lets the requests under way end within [`Limits::drain`].
    ///
    /// Returns how many connections were cut because that time was over. Fails only where the runtime cannot take the
    /// sockets.
    pub async fn serve(
        self,
        site: Site,
        shutdown: impl Future<Output = ()>,
    ) -> Result<usize, io::Error> {
        let shared = Arc::new(Shared::new(site, self.crowd, self.names));
        let (stop, stopped) = watch::channel(false);
        let mut acceptors = JoinSet::new();
        for (listener, address) in self.listeners.into_iter().zip(&self.addresses) {
            // Only over plain HTTP: a certificate is for other names than those of a foreign page.
            let tls = shared.site.web_config.as_ref();
            let checks_host =
                address.ip().to_canonical().is_loopback() && !tls.is_some_and(WebConfig::has_tls);
            let listener = tokio::net::TcpListener::from_std(listener)?;
            acceptors.spawn(accept(
                listener,
                checks_host,
                shared.clone(),
                stopped.clone(),
            ));
        }
        tokio::select! {
            () = shutdown => {}
            // None ends by itself, and a port that is open and dead would be worse than a process that is gone.
            Some(ended) = acceptors.join_next() => {
                ended.map_err(io::Error::other)?;
            }
        }
        stop.send_replace(true);
        Ok(acceptors.join_all().await.into_iter().sum())
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    site: Site,
    scrapes: Scrapes,
    slots: Slots,
    page: RenderedPage,
    /// Permits for requests that wait for a reload.
    reloads: Semaphore,
    /// Hosts of `--web.listen-address`, which requests may name.
    names: Vec<String>,
    /// Who is let in.
    gate: Gate,
    /// TLS handshakes that failed.
    failures: tls::Failures,
    /// From where deadlines are counted.
    epoch: Instant,
}

impl Shared {
    fn new(site: Site, crowd: Crowd, names: Vec<String>) -> Self {
        Self {
            scrapes: Scrapes::new(site.requests_max),
            slots: Slots::new(site.limits.connections, crowd),
            page: RenderedPage::default(),
            reloads: Semaphore::new(RELOADS_WAITING_MAX),
            names,
            gate: Gate::new(),
            failures: tls::Failures::default(),
            epoch: Instant::now(),
            site,
        }
    }
}

/// Accepts until `stopped`, then drains; returns how many connections were cut.
async fn accept(
    listener: tokio::net::TcpListener,
    checks_host: bool,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> usize {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = accept_one(&listener, &shared) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                let serving =
                    connection::serve(stream, checks_host, shared.clone(), stopped.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                // Most likely for want of a file descriptor.
                shared.slots.close_one();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(shared.site.limits.drain, drained)
        .await
        .is_err()
    {
        debug!(open = connections.len(), "the drain time is over");
    }
    connections.len()
}

/// The next connection, with the permit to keep it.
async fn accept_one(
    listener: &tokio::net::TcpListener,
    shared: &Shared,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = shared.slots.acquire().await;
    let (stream, _) = listener.accept().await?;
    // A response is one write, and what is left of it must not wait for the client's acknowledgement.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

impl Default for TelemetryPath {
    fn default() -> Self {
        Self("/metrics".to_owned())
    }
}

impl TelemetryPath {
    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TelemetryPath {
    type Err = TelemetryPathError;

    fn from_str(text: &str) -> Result<Self, TelemetryPathError> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
        if text.starts_with('/') && !text.starts_with("/-/") && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(TelemetryPathError(text.to_owned()))
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            courtesy: Duration::from_millis(250),
            header_size: 32 * 1024,
            header_time: Duration::from_secs(10),
            idle: Duration::from_secs(330),
            stall: Duration::from_secs(20),
            response: Duration::from_mins(4),
            drain: Duration::from_secs(5),
            web_config_age: Duration::from_secs(1),
        }
    }
}

/// The error with what to do about it, where that is known of its kind.
fn with_remedy(
    error: io::Error,
    remedy: impl FnOnce(io::ErrorKind) -> Option<&'static str>,
) -> io::Error {
    match remedy(error.kind()) {
        Some(remedy) => io::Error::new(error.kind(), format!("{error}; {remedy}")),
        None => error,
    }
}

/// Requests that wait for a reload, which may wait for a disk: each holds a connection, and all waiting ones get the same
/// outcome.
const RELOADS_WAITING_MAX: usize = 16;

/// After an error of `accept`, which is most likely a lack of file descriptors: others must end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn telemetry_paths_by_table() {
        for (text, good) in [
            ("/metrics", true),
            ("/", true),
            ("/a/b-c_d.e", true),
            ("", false),
            ("metrics", false),
            ("/-/healthy", false),
            ("/metrics?x", false),
            ("/metrics#x", false),
            ("/met rics", false),
            ("/mätrics", false),
        ] {
            assert_eq!(text.parse::<TelemetryPath>().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_taken_port_is_an_error_that_names_the_address() {
        let free = Listen::Addresses(vec!["127.0.0.1:0".parse().unwrap()]);
        let bound = Bound::bind(&free).unwrap();
        let taken = bound.addresses()[0].to_string();
        let error =
            Bound::bind(&Listen::Addresses(vec![taken.parse().unwrap()])).expect_err("it is taken");
        assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
    }
}
