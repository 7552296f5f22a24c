//! The daemon. It first binds its addresses and resolves its configuration, then serves and polls until a signal.
//!
//! The daemon does not read flags and does not know the source of its configuration, so `demo` can run it too.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::chain::Chain;
use crate::config::watch::DepartmentsWatch;
use crate::config::{Config, ConfigErrors};
use crate::export::ExportError;
use crate::healthcheck::HealthcheckError;
use crate::logging;
use crate::machine::{self, MachineError};
use crate::period::Clock;
use crate::poller::Fleet;
use crate::pseudonym::PseudonymError;
use crate::server::exposure::{EXPOSED_REMEDY, Exposure};
use crate::server::web_config::{WebConfig, WebConfigError};
use crate::server::{BindError, Bound, Limits, Reload, ServerState, TelemetryPath};
use crate::signals::Hangups;
use crate::snapshot::{Publisher, Subscriber};
use crate::systemd::Systemd;
use crate::telemetry::Telemetry;
use crate::tenant::{self, SetupError};

/// Settings of the daemon that come from flags.
#[derive(Debug)]
pub struct Options {
    /// `--web.telemetry-path`.
    pub telemetry_path: TelemetryPath,
    /// `--web.max-requests`: the maximum number of parallel scrapes.
    pub requests_max: usize,
    /// TLS and authentication.
    pub web_config: Option<WebConfig>,
    /// The wall clock.
    pub clock: Clock,
    /// The runtime of polls. A Graph response that never ends can keep a thread of this runtime busy. The server has
    /// its own runtime, so that scrapes do not wait for that thread.
    pub polls: Handle,
    /// True to fetch the previous billing period too. Tests that count requests set it to false.
    pub previous: bool,
    /// systemd notifications and watchdog.
    pub systemd: Systemd,
}

/// Function that reads the configuration, at the start and at every reload.
pub type Load = Box<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>;

/// A daemon that has bound its addresses and resolved its configuration.
pub struct Daemon {
    bound: Bound,
    state: ServerState,
    fleet: Fleet,
    reloads: mpsc::Receiver<Reload>,
    reloader: Reloader,
    departments: DepartmentsWatch,
}

/// Everything that a reload uses or updates.
struct Reloader {
    publisher: Arc<Publisher>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    load: Arc<Load>,
    systemd: Systemd,
    addresses: Vec<SocketAddr>,
    web_config: Option<WebConfig>,
    /// True if the current configuration shows names of users.
    shows_names: bool,
}

/// Errors that keep the process from starting, or that end it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is invalid.
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] ConfigErrors),
    /// The web configuration is invalid.
    #[error("the web configuration cannot be used")]
    WebConfig(#[from] WebConfigError),
    /// A tenant cannot be set up.
    #[error("the configuration cannot be used")]
    Setup(#[from] SetupError),
    /// An address cannot be bound.
    #[error("cannot start")]
    Bind(#[from] BindError),
    /// The machine does not have enough resources.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A runtime, signal handler or socket cannot be set up.
    #[error("cannot start")]
    System(#[from] io::Error),
    /// The simulator cannot listen.
    #[error("cannot start the simulator")]
    Demo(#[source] io::Error),
    /// The demo has one tenant, which cannot be split into shards.
    #[error("the demo has one simulated tenant only; remove --tenants.shard")]
    DemoShard,
    /// Errors in both the configuration and the web configuration.
    #[error("{0}\n{1}")]
    Both(Box<Self>, Box<Self>),
    /// The command `pseudonym` failed.
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
    /// The command `export` failed.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The command `healthcheck` failed.
    #[error(transparent)]
    Healthcheck(#[from] HealthcheckError),
    /// A task ended or panicked because of a defect. The process ends, and the service manager restarts it.
    #[error("a task ended unexpectedly: {0}")]
    Task(String),
}

/// Reads the configuration and every file that it names, without starting anything. Returns the configuration.
///
/// # Errors
/// Returns all errors: first the errors of the configuration, then those of the web configuration.
pub fn validate(load: &Load, web_config: Option<&Path>) -> Result<Config, Failure> {
    let config = load().map_err(Failure::from).and_then(|config| {
        tenant::validate(&config)?;
        Ok(config)
    });
    let web = web_config
        .map(WebConfig::load)
        .transpose()
        .map_err(Failure::from);
    match (config, web) {
        (Err(config), Err(web)) => Err(Failure::Both(Box::new(config), Box::new(web))),
        (config, web) => web.and(config),
    }
}

impl Failure {
    /// Prints the error and returns the exit code: 2 for a bad configuration, otherwise 1.
    pub fn report(&self) -> ExitCode {
        // Not a log line, because this last message of the process may have several lines.
        logging::write(&format!("teams-pstn-exporter: {}\n", self.with_causes()));
        match self {
            Self::Setup(SetupError::Http(_)) => ExitCode::from(1),
            Self::Config(_)
            | Self::WebConfig(_)
            | Self::Setup(_)
            | Self::DemoShard
            | Self::Both(..)
            | Self::Pseudonym(PseudonymError::Unused) => ExitCode::from(2),
            Self::Export(error) if error.is_misconfigured() => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }

    /// Returns the message with its causes. Each configuration error has a line of its own.
    fn with_causes(&self) -> String {
        match self {
            // The message already has its causes and remedies, and may have more than one line.
            Self::Config(_) | Self::Export(_) => self.to_string(),
            Self::Both(first, second) => {
                format!("{}\n{}", first.with_causes(), second.with_causes())
            }
            _ => Chain(self).to_string(),
        }
    }
}

impl Daemon {
    /// Reads the configuration, sets everything up, and starts to poll.
    ///
    /// # Errors
    /// Returns an error if a step fails. In this case nothing runs.
    pub fn start(bound: Bound, options: Options, load: Load) -> Result<Self, Failure> {
        let config = load()?;
        let telemetry = Arc::new(Telemetry::new(options.clock.now()));
        let publisher = Arc::new(Publisher::new(Arc::clone(&telemetry)));
        let mut fleet = Fleet::new(
            Arc::clone(&publisher),
            Arc::clone(&telemetry),
            options.clock.clone(),
            options.polls,
            options.previous,
            machine::memory_limit(),
        );
        let tls = options.web_config.as_ref().is_some_and(WebConfig::has_tls);
        for address in bound.addresses() {
            tracing::info!(%address, tls, version = crate::VERSION, revision = crate::REVISION, "listening");
        }
        let mut reloader = Reloader {
            publisher,
            telemetry,
            clock: options.clock.clone(),
            load: Arc::new(load),
            systemd: options.systemd,
            addresses: bound.addresses().to_vec(),
            web_config: options.web_config.clone(),
            shows_names: false,
        };
        reloader.warn_of_names(&config);
        fleet.apply(&config)?;
        reloader.telemetry.set_reload(true, options.clock.now());
        // Publishes a snapshot now, so that the first scrape already returns a start value for every counter.
        reloader.publisher.publish();
        let (reload, reloads) = mpsc::channel(1);
        let state = ServerState {
            subscriber: reloader.publisher.subscribe(),
            clock: options.clock,
            telemetry_path: options.telemetry_path,
            requests_max: options.requests_max,
            web_config: options.web_config,
            reload: Some(reload),
            limits: Limits::default(),
        };
        Ok(Self {
            bound,
            state,
            fleet,
            reloads,
            reloader,
            departments: DepartmentsWatch::new(&config),
        })
    }

    /// The addresses that the server listens on.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.bound.addresses()
    }

    /// A subscriber of the published snapshots.
    pub fn subscribe(&self) -> Subscriber {
        self.reloader.publisher.subscribe()
    }

    /// Serves and polls until `shutdown` completes, then waits for open connections. Reloads at each SIGHUP
    /// (`hangups`), each POST to `/-/reload`, and each change of the departments file.
    pub async fn run(
        self,
        mut hangups: Hangups,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), Failure> {
        let Self {
            bound,
            state,
            mut fleet,
            mut reloads,
            mut reloader,
            mut departments,
        } = self;
        let systemd = reloader.systemd;
        // Dropping a `JoinSet` aborts its tasks, so the watchdog task ends with the daemon.
        let mut watching = JoinSet::new();
        let heartbeat = bound.heartbeat();
        let next_heartbeat = move || {
            let heartbeat = heartbeat.clone();
            async move { heartbeat.next().await }
        };
        let watch = watching.spawn(systemd.watch(next_heartbeat));
        let shutdown = async move {
            shutdown.await;
            watch.abort();
            systemd.stopping();
        };
        let mut publishing = tokio::spawn(Arc::clone(&reloader.publisher).run());
        let mut serving = tokio::spawn(bound.serve(state, shutdown));
        // The sockets are bound, so every connection is answered from now on.
        systemd.ready("serving");
        let mut requested = ReloadQueue {
            waiting: Vec::new(),
            is_requested: false,
            not_before: Instant::now(),
        };
        // Contains at most one task. The task reads the configuration, and returns the result and the requests that
        // wait for it.
        let mut loading = JoinSet::new();
        let mut clock_checks = tokio::time::interval(CLOCK_INTERVAL);
        loop {
            tokio::select! {
                served = &mut serving => {
                    let cut = served.map_err(|error| Failure::Task(error.to_string()))??;
                    tracing::info!(connections_cut = cut, "stopped");
                    publishing.abort();
                    return Ok(());
                }
                broken = fleet.broken() => return Err(Failure::Task(broken)),
                ended = &mut publishing => {
                    return Err(Failure::Task(ended.err().map_or("publishing ended".to_owned(), |error| error.to_string())));
                }
                _ = clock_checks.tick() => machine::check_clock(reloader.clock.now())?,
                Some(reload) = reloads.recv() => requested.push(Some(reload)),
                () = hangups.next() => requested.push(None),
                () = departments.changed() => {
                    tracing::info!("departments.file has changed");
                    requested.push(None);
                }
                () = requested.due(), if loading.is_empty() => {
                    reloader.load(requested.take(), &mut loading);
                }
                Some(loaded) = loading.join_next() => {
                    let (config, waiting) = loaded.map_err(|error| Failure::Task(error.to_string()))?;
                    let outcome = reloader.apply(&mut fleet, config).map(|config| departments.follow(&config));
                    if outcome.is_ok() && waiting.iter().any(|reload| reload.refetch) {
                        fleet.refetch();
                    }
                    for reload in waiting {
                        // If the client has disconnected, nothing waits for the outcome.
                        let _ = reload.reply.send(outcome.clone());
                    }
                }
            }
        }
    }
}

/// Requested reloads. At most one reload per second runs, because each reload reads files and may poll. All requests
/// that arrive in the meantime share the next reload and its result.
struct ReloadQueue {
    waiting: Vec<Reload>,
    is_requested: bool,
    not_before: Instant,
}

impl ReloadQueue {
    fn push(&mut self, reload: Option<Reload>) {
        self.is_requested = true;
        self.waiting.extend(reload);
    }

    /// Waits until a requested reload may run. Never returns if none is requested.
    async fn due(&self) {
        if self.is_requested {
            tokio::time::sleep_until(self.not_before).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Removes and returns the waiting requests, and starts the pause before the next reload.
    fn take(&mut self) -> Vec<Reload> {
        self.is_requested = false;
        self.not_before = Instant::now() + RELOAD_PAUSE;
        std::mem::take(&mut self.waiting)
    }
}

/// The outcome of reading the configuration, and the requests that wait for it.
type Loaded = (Result<Config, String>, Vec<Reload>);

impl Reloader {
    /// Begins to read the configuration on a separate thread, because a read can hang and a shutdown must not wait for
    /// it.
    fn load(&self, waiting: Vec<Reload>, loading: &mut JoinSet<Loaded>) {
        self.systemd.reloading();
        let load = Arc::clone(&self.load);
        loading.spawn_blocking(move || (load().map_err(|errors| errors.to_string()), waiting));
    }

    /// Logs a warning if `config` begins to show names of users and every client that reaches the port can read them.
    fn warn_of_names(&mut self, config: &Config) {
        let shows_names = config.shows_names();
        // Determined again at each reload, because the web configuration file may have changed since the start.
        let exposure = Exposure::bound(&self.addresses, self.web_config.as_ref());
        if shows_names && !self.shows_names && exposure.is_open {
            tracing::warn!(
                remedy = EXPOSED_REMEDY,
                "names of users are readable {exposure}"
            );
        }
        self.shows_names = shows_names;
    }

    /// Applies the configuration to the pollers, and returns it. If it is invalid, returns the error message instead.
    fn apply(
        &mut self,
        fleet: &mut Fleet,
        loaded: Result<Config, String>,
    ) -> Result<Config, String> {
        let outcome = loaded.and_then(|config| {
            let applied = fleet.apply(&config);
            applied.map_err(|error| Chain(&error).to_string())?;
            self.warn_of_names(&config);
            Ok(config)
        });
        let status = match &outcome {
            Ok(_) => {
                tracing::info!("configuration reloaded");
                "serving; configuration reloaded"
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "configuration not reloaded; the previous one stays in use"
                );
                "serving; configuration not reloaded, the previous one stays in use"
            }
        };
        self.telemetry.set_reload(outcome.is_ok(), self.clock.now());
        self.publisher
            .set_reload(outcome.as_ref().err().map(String::as_str));
        self.systemd.ready(status);
        outcome
    }
}

/// Interval of clock checks. It is short, because the clock can be set back at any time, and a check costs nothing.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Pause between two reloads. An administrator does not notice it, and it limits the cost of a flood of requests.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
