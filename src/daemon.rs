//! The daemon: everything bound and resolved first, then served and polled until a signal.
//!
//! What this module does not do: read flags, or know where its configuration comes from; `demo` runs the same daemon.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::config::{Config, Mistakes};
use crate::graph::Chain;
use crate::graph::http::{HttpClient, HttpError, HttpOptions};
use crate::period::Clock;
use crate::poller::{Fleet, FleetError, Shared};
use crate::server::web_config::WebConfig;
use crate::server::{About, BindError, Bound, Limits, Listen, Reload, Site, TelemetryPath};
use crate::snapshot::{Publisher, Subscriber};
use crate::telemetry::Telemetry;

/// How the process runs.
#[derive(Debug)]
pub struct Options {
    /// Where to listen.
    pub listen: Listen,
    /// Path of the metrics.
    pub telemetry_path: TelemetryPath,
    /// Parallel scrapes.
    pub requests_max: usize,
    /// TLS and authentication.
    pub web_config: Option<WebConfig>,
    /// The time of day.
    pub clock: Clock,
}

/// Reads the configuration: at the start, and again at every reload.
pub type Load = Box<dyn Fn() -> Result<Config, Mistakes> + Send>;

/// Bound and resolved: what can go wrong at the start has not.
pub struct Daemon {
    bound: Bound,
    site: Site,
    fleet: Fleet,
    publisher: Arc<Publisher>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    reloads: mpsc::Receiver<Reload>,
    load: Load,
}

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Mistakes),
    /// No address to listen on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No client to ask with.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A tenant cannot be set up.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

/// Why the daemon ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The runtime does not take the sockets.
    #[error("cannot serve")]
    Serve(#[from] std::io::Error),
    /// A task ended or panicked, which none may: whoever supervises the process starts it again.
    #[error("a task died: {0}")]
    Task(String),
}

impl Daemon {
    /// Reads the configuration, sets everything up, binds, and starts to poll.
    ///
    /// # Errors
    /// The first step that fails; nothing runs then.
    pub fn start(options: Options, load: Load) -> Result<Self, StartError> {
        let config = load()?;
        let bound = Bound::bind(&options.listen)?;
        let http = HttpClient::new(&HttpOptions { plain_only: is_plain(&config), ..HttpOptions::default() })?;
        let telemetry = Arc::new(Telemetry::new());
        let publisher = Arc::new(Publisher::new(Arc::clone(&telemetry)));
        let mut fleet = Fleet::new(
            Shared {
                publisher: Arc::clone(&publisher),
                telemetry: Arc::clone(&telemetry),
                clock: options.clock.clone(),
                permits: Arc::new(Semaphore::new(POLLS_MAX)),
            },
            http,
        );
        fleet.apply(&config)?;
        telemetry.set_reload(true, options.clock.now());
        let (reload, reloads) = mpsc::channel(1);
        let site = Site {
            subscriber: publisher.subscribe(),
            clock: options.clock.clone(),
            about: About { version: crate::VERSION, revision: crate::REVISION },
            telemetry_path: options.telemetry_path,
            requests_max: options.requests_max,
            web_config: options.web_config,
            reload: Some(reload),
            limits: Limits::default(),
        };
        Ok(Self { bound, site, fleet, publisher, telemetry, clock: options.clock, reloads, load })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.bound.addresses()
    }

    /// What it publishes.
    pub fn subscribe(&self) -> Subscriber {
        self.publisher.subscribe()
    }

    /// Serves and polls until `shutdown`, then drains. Reloads at every item of `hangups` and every POST to `/-/reload`.
    ///
    /// # Errors
    /// Where a part of it dies.
    pub async fn run(
        self,
        mut hangups: impl AsyncFnMut(),
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), RunError> {
        let Self { bound, site, mut fleet, publisher, telemetry, clock, mut reloads, load } = self;
        let mut reload = |fleet: &mut Fleet| {
            let outcome = load().map_err(|mistakes| mistakes.to_string());
            let outcome = outcome.and_then(|config| fleet.apply(&config).map_err(|error| Chain(&error).to_string()));
            match &outcome {
                Ok(()) => tracing::info!("configuration reloaded"),
                Err(error) => tracing::error!(error, "configuration not reloaded; the old one stays in force"),
            }
            telemetry.set_reload(outcome.is_ok(), clock.now());
            publisher.touch();
            outcome
        };
        let mut publishing = tokio::spawn(Arc::clone(&publisher).run());
        let mut serving = tokio::spawn(bound.serve(site, shutdown));
        loop {
            tokio::select! {
                served = &mut serving => {
                    let cut = served.map_err(|error| RunError::Task(error.to_string()))??;
                    tracing::info!(connections_cut = cut, "stopped");
                    publishing.abort();
                    return Ok(());
                }
                broken = fleet.broken() => return Err(RunError::Task(broken)),
                ended = &mut publishing => {
                    return Err(RunError::Task(ended.err().map_or("publishing ended".to_owned(), |error| error.to_string())));
                }
                Some(answer) = reloads.recv() => {
                    // Who asked may have gone.
                    let _ = answer.send(reload(&mut fleet));
                }
                () = hangups() => drop(reload(&mut fleet)),
            }
        }
    }
}

/// Whether only loopback is spoken to, in plain http: then no CA certificates are needed.
fn is_plain(config: &Config) -> bool {
    let plain = |url: &Option<url::Url>| url.as_ref().is_some_and(|url| url.scheme() == "http");
    config.tenants.iter().all(|tenant| plain(&tenant.graph_url) && plain(&tenant.authority_url))
}

/// Polls that run side by side, over all tenants: enough to hide the network's latency, few enough that their memory,
/// some 300 bytes a row, stays bounded.
const POLLS_MAX: usize = 8;
