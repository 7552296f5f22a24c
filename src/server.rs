//! The HTTP server: `Listen → Bound → serve(ServerState, shutdown)`.
//!
//! Binding and serving are two steps. So a port that is in use causes an error at the start, and tests can bind port 0
//! and read the address. A scrape reads and writes its own connection only, takes no lock that a poll or a slow client
//! can hold, and never waits for a poll. A client that sends or reads nothing cannot block the server, because the
//! server limits connections, requests and responses (see [`Limits`]).
//!
//! - `routes` maps requests to responses, `page` renders the HTML page at `/`, `foreign` rejects requests that a web
//!   page of another site has caused in a browser;
//! - `listen` parses and binds addresses;
//! - `connection` serves one connection, `activity` has its deadlines, `peer` checks that the client may still use the
//!   connection, `body` has the body of a response;
//! - `slots` limits connections and scrapes, `heartbeat` shows the watchdog that the server accepts connections;
//! - `web_config` reads the file of `--web.config.file`; `tls` and `auth` apply it.
//!
//! This module does not start polls, does not know reports, and does not render metrics.

mod activity;
mod auth;
mod body;
mod connection;
pub(crate) mod exposure;
mod foreign;
mod heartbeat;
mod listen;
mod page;
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

use self::auth::Authenticator;
use self::rendered_page::RenderedPage;
use self::slots::{Scrapes, Slots};
use self::web_config::WebConfig;
use crate::period::Clock;
use crate::snapshot::Subscriber;

pub use self::heartbeat::Heartbeat;
pub use self::listen::{BindError, Listen, ListenAddress};

/// Path of the metrics. It begins with `/` and differs from the server's other paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryPath(String);

/// Error for a text that is not a [`TelemetryPath`].
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot be used; write a path that begins with / but not with /-/, and that has no ?, # or blanks, such as /metrics"
)]
pub struct TelemetryPathError(String);

/// Listening sockets that are not served yet.
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    heartbeat: Heartbeat,
    /// Hosts of `--web.listen-address`.
    names: Vec<String>,
}

/// Everything that the server needs: the data to serve and its settings.
#[derive(Debug)]
pub struct ServerState {
    /// The published snapshots.
    pub subscriber: Subscriber,
    /// The wall clock, for "12 minutes ago" on the page.
    pub clock: Clock,
    /// `--web.telemetry-path`.
    pub telemetry_path: TelemetryPath,
    /// `--web.max-requests`: maximum number of concurrent scrapes. Further scrapes are answered with 503.
    pub requests_max: usize,
    /// `--web.config.file`; without it there is neither TLS nor authentication.
    pub web_config: Option<WebConfig>,
    /// Sender for the reload requests of `/-/reload`. If it is `None`, the path does not exist.
    pub reload: Option<mpsc::Sender<Reload>>,
    /// Limits for connections, sizes and times.
    pub limits: Limits,
}

/// A request to reload the configuration. After the reload, the outcome is sent to `reply`.
#[derive(Debug)]
pub struct Reload {
    /// True if the final days of logs must be fetched again too.
    pub refetch: bool,
    /// Sender for the outcome. Its receiver is dropped if the client disconnects.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// Limits of the server. The default values are for production. Tests use smaller values.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of open connections: far more than scrapers need, far fewer than the file descriptors of a
    /// service (1024). When the limit is reached, the server closes the connection that is first in the closing order,
    /// to make room for a new one. When more than three quarters of this number are open, the server asks clients to
    /// close their connection after the response.
    pub connections: usize,
    /// Time during which the server does not close a connection to make room for another one. The time starts when the
    /// connection begins, becomes idle, begins a response or makes progress. It is long enough for a new client to send
    /// its request. It is short enough that a new connection waits less than a second if all slots are taken.
    pub close_grace: Duration,
    /// Maximum bytes of a request's line and headers. Longer requests are answered with 431. The limit is four times
    /// the size that a browser with a long authorization sends.
    pub header_size: usize,
    /// Time limit for the headers of a request, from the start of the connection or the first byte of the request.
    /// Scrapers send all headers in one packet.
    pub header_time: Duration,
    /// Time limit for the next request on an idle connection. Prometheus closes idle connections after five minutes.
    /// The limit is longer, so that the server never closes a connection while Prometheus is sending a request.
    pub idle: Duration,
    /// Time limit for a client that reads nothing of a response. Over HTTP/2 the limit applies to each response. No
    /// working network path is silent for so long.
    pub stall: Duration,
    /// Time limit from a request to the last byte of its response, enough for 80 MB at 3 Mbit/s. If the scraper sends a
    /// shorter timeout (`X-Prometheus-Scrape-Timeout-Seconds`), the shorter timeout applies.
    pub response: Duration,
    /// Time limit for open requests at shutdown; below the ten seconds after which container runtimes kill a process.
    pub drain: Duration,
    /// Minimum time between two checks of the web configuration file for changes. Administrators do not notice this
    /// delay, and a busy server checks rarely.
    pub web_config_age: Duration,
}

impl Bound {
    /// Binds every address, or fails.
    ///
    /// Removes the sockets of systemd from the environment. Call this function once, before threads are started.
    pub fn bind(listen: &Listen) -> Result<Self, BindError> {
        let (listeners, names) = match listen {
            Listen::Addresses(addresses) => {
                let listeners: Result<Vec<_>, _> =
                    addresses.iter().map(ListenAddress::bind).collect();
                (
                    listeners?,
                    addresses.iter().map(ListenAddress::host).collect(),
                )
            }
            Listen::Systemd => (listen::inherited()?, Vec::new()),
        };
        let address = |(index, listener): (usize, &TcpListener)| {
            let address = listener.local_addr();
            address.map_err(|source| BindError::Socket(index, source))
        };
        let addresses: Result<_, _> = listeners.iter().enumerate().map(address).collect();
        Ok(Self {
            addresses: addresses?,
            listeners,
            heartbeat: Heartbeat::default(),
            names,
        })
    }

    /// Returns the addresses that the server listens on. If port 0 was requested, the address has the port that the
    /// system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the heartbeat of the server. One working address is enough for a heartbeat, because the server ends if
    /// any address fails.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Serves until `shutdown`, then lets open requests end within [`Limits::drain`].
    ///
    /// Returns the number of connections that were cut after this time. Fails only if the runtime cannot use the
    /// sockets.
    pub async fn serve(
        self,
        state: ServerState,
        shutdown: impl Future<Output = ()>,
    ) -> Result<usize, io::Error> {
        let shared = Arc::new(Shared {
            scrapes: Scrapes::new(state.requests_max),
            slots: Slots::new(state.limits.connections),
            heartbeat: self.heartbeat,
            page: RenderedPage::default(),
            reloads: Semaphore::new(RELOADS_WAITING_MAX),
            names: self.names,
            authenticator: Authenticator::new(),
            failures: tls::Failures::default(),
            epoch: Instant::now(),
            state,
        });
        let (stop, stopped) = watch::channel(false);
        let mut acceptors = JoinSet::new();
        for (listener, address) in self.listeners.into_iter().zip(&self.addresses) {
            // The `Host` is checked only over plain HTTP. With TLS, a browser rejects a certificate that does not have
            // the name of the page.
            let tls = shared.state.web_config.as_ref();
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
            // An acceptor ends only if it has panicked. Then the server ends, because an open port that does not answer
            // would be worse.
            Some(ended) = acceptors.join_next() => {
                ended.map_err(io::Error::other)?;
            }
        }
        stop.send_replace(true);
        Ok(acceptors.join_all().await.into_iter().sum())
    }
}

/// State that all connections share.
struct Shared {
    state: ServerState,
    scrapes: Scrapes,
    slots: Slots,
    heartbeat: Heartbeat,
    page: RenderedPage,
    /// Permits for requests that wait for a reload.
    reloads: Semaphore,
    /// Hosts of `--web.listen-address`, accepted in the `Host` of requests.
    names: Vec<String>,
    authenticator: Authenticator,
    /// TLS handshakes that failed.
    failures: tls::Failures,
    /// Start of the clock of all deadlines.
    epoch: Instant,
}

/// Accepts connections until `stopped`, then drains them. Returns the number of connections that were cut.
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
            // This branch is last, so that there is no heartbeat while every attempt to accept fails.
            never = shared.heartbeat.give() => match never {},
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                shared.heartbeat.give_now();
                let serving =
                    connection::serve(stream, checks_host, shared.clone(), stopped.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                // Closes a connection, because most likely no file descriptor is free.
                shared.slots.close_one();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(shared.state.limits.drain, drained)
        .await
        .is_err()
    {
        debug!(open = connections.len(), "the drain time is over");
    }
    connections.len()
}

/// Accepts the next connection and returns it with the permit for its slot.
async fn accept_one(
    listener: &tokio::net::TcpListener,
    shared: &Shared,
) -> io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = shared.slots.acquire().await;
    let (stream, _) = listener.accept().await?;
    // A response is written at once, so its last bytes must not wait for an acknowledgement of the earlier ones.
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
            close_grace: Duration::from_millis(250),
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

/// Adds a remedy to the error if the kind of the error has one.
fn with_remedy(
    error: io::Error,
    remedy: impl FnOnce(io::ErrorKind) -> Option<&'static str>,
) -> io::Error {
    match remedy(error.kind()) {
        Some(remedy) => io::Error::new(error.kind(), format!("{error}; {remedy}")),
        None => error,
    }
}

/// Maximum number of requests that wait for a reload. A reload may wait for a disk, and each waiting request holds a
/// connection.
const RELOADS_WAITING_MAX: usize = 16;

/// Pause after an error of `accept`. Most likely no file descriptor is free, so other connections must end first.
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
    fn a_port_in_use_is_an_error_that_names_the_address() {
        let free = Listen::Addresses(vec!["127.0.0.1:0".parse().unwrap()]);
        let bound = Bound::bind(&free).unwrap();
        let taken = bound.addresses()[0].to_string();
        let error =
            Bound::bind(&Listen::Addresses(vec![taken.parse().unwrap()])).expect_err("it is taken");
        assert_eq!(error.to_string(), format!("cannot listen on {taken}"));
    }
}
