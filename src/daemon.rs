//! The daemon: everything bound and resolved first, then served and polled until a signal.
//!
//! What this module does not do: read flags, or know where its configuration comes from; `demo` runs the same daemon.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{Duration, Instant};

use crate::config::{Config, ConfigErrors};
use crate::graph::Chain;
use crate::healthcheck::{self, HealthcheckError};
use crate::logging;
use crate::machine::{self, MachineError};
use crate::period::Clock;
use crate::poller::setup;
use crate::poller::{Fleet, FleetError, Shared};
use crate::pseudonym::PseudonymError;
use crate::report::labels::Naming;
use crate::server::web_config::{WebConfig, WebConfigError};
use crate::server::{About, BindError, Bound, Limits, Reload, ServerState, TelemetryPath};
use crate::signals::Hangups;
use crate::snapshot::{Publisher, Subscriber};
use crate::systemd::Systemd;
use crate::telemetry::Telemetry;

/// How the process runs.
#[derive(Debug)]
pub struct Options {
    /// Path of the metrics.
    pub telemetry_path: TelemetryPath,
    /// Parallel scrapes.
    pub requests_max: usize,
    /// TLS and authentication.
    pub web_config: Option<WebConfig>,
    /// The time of day.
    pub clock: Clock,
    /// Fetch the previous billing period too. Tests that count requests turn it off.
    pub previous: bool,
    /// systemd notifications and watchdog.
    pub systemd: Systemd,
}

/// Reads the configuration: at the start, and again at every reload.
pub type Load = Box<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>;

/// Bound and resolved: what can go wrong at the start has not.
pub struct Daemon {
    bound: Bound,
    state: ServerState,
    fleet: Fleet,
    reloads: mpsc::Receiver<Reload>,
    reloader: Reloader,
}

/// What a reload needs, and whom it concerns.
struct Reloader {
    publisher: Arc<Publisher>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    load: Arc<Load>,
    systemd: Systemd,
}

/// Why the daemon cannot start, or ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error("the configuration cannot be used:\n{0}")]
    Config(#[from] ConfigErrors),
    /// The web configuration is wrong.
    #[error("the web configuration cannot be used")]
    WebConfig(#[from] WebConfigError),
    /// A tenant cannot be set up.
    #[error("the configuration cannot be used")]
    Fleet(#[from] FleetError),
    /// No address to listen on.
    #[error("cannot start")]
    Bind(#[from] BindError),
    /// The machine leaves no room to work.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The system refuses what every process gets.
    #[error("cannot start")]
    System(#[from] io::Error),
    /// The simulator has no port.
    #[error("cannot start the simulator")]
    Demo(#[source] io::Error),
    /// The demo has nothing to split.
    #[error("the demo has one simulated tenant only; leave --tenants.shard out")]
    DemoShard,
    /// More than one of the above.
    #[error("{0}\n{1}")]
    Both(Box<Self>, Box<Self>),
    /// There are no pseudonyms.
    #[error(transparent)]
    Pseudonym(#[from] PseudonymError),
    /// The exporter that was asked is not healthy, or not there.
    #[error(transparent)]
    Healthcheck(#[from] HealthcheckError),
    /// A task ended or panicked, which none may: whoever supervises the process starts it again.
    #[error("a task died: {0}")]
    Task(String),
}

/// Reads everything that is configured, to the last certificate, and runs nothing. Returns the configuration.
///
/// # Errors
/// Every mistake, those of the web configuration after those of the configuration.
pub fn validate(load: &Load, web_config: Option<&Path>) -> Result<Config, Failure> {
    let config = load().map_err(Failure::from).and_then(|config| {
        setup::validate(&config)?;
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
    /// Says why, and with which code the process ends: 2 for a bad configuration, else 1.
    pub fn report(&self) -> ExitCode {
        // The last words of the process, and several lines of them.
        logging::write(&format!("teams-pstn-exporter: {}\n", self.in_full()));
        match self {
            Self::Fleet(FleetError::Http(_)) => ExitCode::from(1),
            Self::Config(_)
            | Self::WebConfig(_)
            | Self::Fleet(_)
            | Self::DemoShard
            | Self::Both(..)
            | Self::Pseudonym(PseudonymError::Unused | PseudonymError::Key(_)) => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }

    /// With every mistake of a configuration, each on its line.
    fn in_full(&self) -> String {
        match self {
            Self::Config(_) => self.to_string(),
            Self::Both(first, second) => format!("{}\n{}", first.in_full(), second.in_full()),
            _ => Chain(self).to_string(),
        }
    }
}

impl Daemon {
    /// Reads the configuration, sets everything up, and starts to poll.
    ///
    /// # Errors
    /// The first step that fails; nothing runs then.
    pub fn start(bound: Bound, options: Options, load: Load) -> Result<Self, Failure> {
        let config = load()?;
        let telemetry = Arc::new(Telemetry::new(options.clock.now()));
        let publisher = Arc::new(Publisher::new(Arc::clone(&telemetry)));
        let mut fleet = Fleet::new(Shared {
            publisher: Arc::clone(&publisher),
            telemetry: Arc::clone(&telemetry),
            clock: options.clock.clone(),
            permits: Arc::new(Semaphore::new(POLLS_MAX)),
            under_way: Arc::new(Semaphore::new(POLLS_UNDER_WAY_MAX)),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            previous: options.previous,
        });
        let tls = options.web_config.as_ref().is_some_and(WebConfig::has_tls);
        for address in bound.addresses() {
            tracing::info!(%address, tls, version = crate::VERSION, revision = crate::REVISION, "listening");
        }
        fleet.apply(&config, &setup::naming(&config)?)?;
        telemetry.set_reload(true, options.clock.now());
        // Before anyone can ask: else the first scrape might find no counter to count from.
        publisher.publish();
        let (reload, reloads) = mpsc::channel(1);
        let state = ServerState {
            subscriber: publisher.subscribe(),
            clock: options.clock.clone(),
            about: About {
                version: crate::VERSION,
                revision: crate::REVISION,
            },
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
            reloader: Reloader {
                publisher,
                telemetry,
                clock: options.clock,
                load: Arc::new(load),
                systemd: options.systemd,
            },
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.bound.addresses()
    }

    /// What it publishes.
    pub fn subscribe(&self) -> Subscriber {
        self.reloader.publisher.subscribe()
    }

    /// Serves and polls until `shutdown`, then drains. Reloads at every one of `hangups` and every POST to `/-/reload`.
    ///
    /// # Errors
    /// Where a part of it dies.
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
            reloader,
        } = self;
        let systemd = reloader.systemd.clone();
        // Dropped with everything else, so that nothing of it outlives the daemon.
        let mut watching = JoinSet::new();
        let tls = state.web_config.as_ref().is_some_and(WebConfig::has_tls);
        // One socket stands for all, since the daemon ends with each.
        let (address, saturation) = (bound.addresses()[0], bound.saturation());
        let probe = move || healthcheck::probe_own(address, tls, saturation.clone());
        let watch = watching.spawn(systemd.clone().watch(probe));
        let stopping = systemd.clone();
        let shutdown = async move {
            shutdown.await;
            watch.abort();
            stopping.stopping();
        };
        let mut publishing = tokio::spawn(Arc::clone(&reloader.publisher).run());
        let mut serving = tokio::spawn(bound.serve(state, shutdown));
        // The sockets are bound: whoever connects now is answered.
        systemd.ready("serving");
        let mut requested = ReloadQueue::new();
        let mut loading: Option<Loading> = None;
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
                Some(answer) = reloads.recv() => requested.push(Some(answer)),
                () = hangups.next() => requested.push(None),
                () = requested.due(), if loading.is_none() => {
                    loading = Some(reloader.load(requested.take()));
                }
                loaded = loaded(&mut loading) => {
                    let (config, answers) = loaded.map_err(|error| Failure::Task(error.to_string()))?;
                    let outcome = reloader.apply(&mut fleet, config);
                    if outcome.is_ok() && answers.iter().any(|answer| answer.refetch) {
                        fleet.refetch();
                    }
                    for answer in answers {
                        // The client may have gone.
                        let _ = answer.send(outcome.clone());
                    }
                }
            }
        }
    }
}

/// Requested reloads. They run at most once per second, for each reads files and may poll; requests that come in between
/// are answered together.
struct ReloadQueue {
    answers: Vec<Reload>,
    is_requested: bool,
    not_before: Instant,
}

impl ReloadQueue {
    fn new() -> Self {
        Self {
            answers: Vec::new(),
            is_requested: false,
            not_before: Instant::now(),
        }
    }

    fn push(&mut self, answer: Option<Reload>) {
        self.is_requested = true;
        self.answers.extend(answer);
    }

    /// Waits until a requested reload may run.
    async fn due(&self) {
        if self.is_requested {
            tokio::time::sleep_until(self.not_before).await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// The requests that a reload answers if it begins now.
    fn take(&mut self) -> Vec<Reload> {
        self.is_requested = false;
        self.not_before = Instant::now() + RELOAD_PAUSE;
        std::mem::take(&mut self.answers)
    }
}

/// A configuration that is being read, and the requests that wait for the outcome.
struct Loading {
    reading: JoinHandle<Result<(Config, Naming), String>>,
    answers: Vec<Reload>,
}

type Loaded = (Result<(Config, Naming), String>, Vec<Reload>);

/// Waits until the configuration is read; for ever if none is being read.
async fn loaded(loading: &mut Option<Loading>) -> Result<Loaded, JoinError> {
    let Some(Loading { reading, answers }) = loading else {
        return std::future::pending().await;
    };
    let config = reading.await?;
    let answers = std::mem::take(answers);
    *loading = None;
    Ok((config, answers))
}

impl Reloader {
    /// Begins to read the configuration, on a thread of its own: files may hang, and the shutdown must not wait for them.
    fn load(&self, answers: Vec<Reload>) -> Loading {
        self.systemd.reloading();
        let load = Arc::clone(&self.load);
        let reading = tokio::task::spawn_blocking(move || {
            let config = load().map_err(|mistakes| mistakes.to_string())?;
            let naming = setup::naming(&config).map_err(|error| Chain(&error).to_string())?;
            Ok((config, naming))
        });
        Loading { reading, answers }
    }

    /// Makes the fleet that of this configuration, or says why that cannot be.
    fn apply(
        &self,
        fleet: &mut Fleet,
        loaded: Result<(Config, Naming), String>,
    ) -> Result<(), String> {
        let outcome = loaded.and_then(|(config, naming)| {
            fleet
                .apply(&config, &naming)
                .map_err(|error| Chain(&error).to_string())
        });
        let status = match &outcome {
            Ok(()) => {
                tracing::info!("configuration reloaded");
                "serving; configuration reloaded"
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "configuration not reloaded; the old one stays in force"
                );
                "serving; configuration not reloaded, the old one stays in force"
            }
        };
        self.telemetry.set_reload(outcome.is_ok(), self.clock.now());
        self.publisher
            .set_reload(outcome.as_ref().err().map(String::as_str));
        self.systemd.ready(status);
        outcome
    }
}

/// Polls that run side by side at full speed, over all tenants: enough to hide the network's latency, few enough that
/// the processor is shared with scrapes. One that takes longer than most no longer counts, see the poller.
const POLLS_MAX: usize = 8;

/// Polls under way, those that stall included: each has some 300 bytes a row of a report, and where a proxy does not let
/// HTTP/2 pass, up to four connections for the days of a log, which together stay below a service's 1,024 descriptors.
const POLLS_UNDER_WAY_MAX: usize = 100;

/// State files written side by side: a disk gains nothing by more, and each that hangs has one of the 512 threads for good
/// that reports are rendered on too.
const WRITES_MAX: usize = 8;

/// Between two looks at the clock, which can be set back at any time: soon, and no cost.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Between two reloads: an administrator notices no delay, and a client that floods them costs little.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
