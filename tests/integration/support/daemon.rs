//! A simulator, a daemon in this process, one clock for both, and what a scrape says.
//!
//! Tests run on tokio's paused clock: it moves when nothing else can, so an hour's wait costs nothing, and nothing waits
//! for real time. The clock of the wall goes with it, and can be set besides. What these tests wait for are events: the
//! next publication, the next request.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use teams_pstn_exporter::config::{Config, Report};
use teams_pstn_exporter::daemon::{Daemon, Failure, Load, Options};
use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_exporter::server::{Bound, Listen, TelemetryPath};
use teams_pstn_exporter::signals::Hangups;
use teams_pstn_exporter::snapshot::{Snapshot, State, Subscriber};
use teams_pstn_exporter::systemd::Systemd;
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{self as simulator, Simulator, Tenant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Answer, CLIENT, Metrics, SECRET, TENANT, request};

/// On this day the tests take place, unless they say otherwise.
pub(crate) const NOW: &str = "2026-11-21T12:00:00Z";

/// Long enough for a loaded machine to answer a scrape before the paused clock gets there, a second a step.
pub(crate) const INTERVAL: Duration = Duration::from_mins(1);

/// Longer by the paused clock than any poll takes: a test that waits in vain ends with a message.
const PATIENCE: Duration = Duration::from_mins(10);

/// A wall clock that goes with tokio's and can be set.
#[derive(Clone)]
pub(crate) struct Time {
    epoch: Instant,
    at_epoch: Arc<Mutex<DateTime<Utc>>>,
}

impl Time {
    pub(crate) fn at(time: &str) -> Self {
        let at_epoch = time.parse().expect("a time in RFC 3339");
        Self {
            epoch: Instant::now(),
            at_epoch: Arc::new(Mutex::new(at_epoch)),
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        *self.at_epoch.lock().unwrap_or_else(PoisonError::into_inner) + self.epoch.elapsed()
    }

    pub(crate) fn set(&self, time: &str) {
        let time: DateTime<Utc> = time.parse().expect("a time in RFC 3339");
        let mut at_epoch = self.at_epoch.lock().unwrap_or_else(PoisonError::into_inner);
        *at_epoch = time - self.epoch.elapsed();
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::new(move || time.now())
    }
}

/// The settings that differ from test to test.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) world: World,
    pub(crate) page_size: usize,
    pub(crate) token_lifetime: u32,
    pub(crate) now: &'static str,
    /// Tenants besides [`TENANT`], with the same application and secret.
    pub(crate) others: Vec<(&'static str, World)>,
    pub(crate) change: fn(&mut Config),
}

impl Setup {
    pub(crate) fn of(world: World) -> Self {
        Self {
            world,
            page_size: 1_000,
            token_lifetime: 3_599,
            now: NOW,
            others: Vec::new(),
            change: |_| {},
        }
    }

    /// The simulator alone, and its clock.
    pub(crate) async fn simulate(&self) -> (Simulator, Time) {
        let time = Time::at(self.now);
        let simulator = self.simulate_at(SocketAddr::from(([127, 0, 0, 1], 0)), &time);
        (simulator.await, time)
    }

    /// The simulator on an address, which may have been another's.
    pub(crate) async fn simulate_at(&self, listen: SocketAddr, time: &Time) -> Simulator {
        let clock = time.clock();
        let tenant = |id: &str, world: &World| Tenant::new(id, CLIENT, SECRET, world.clone());
        let others = self.others.iter().map(|(id, world)| tenant(id, world));
        Simulator::start(simulator::Options {
            listen,
            tenants: others.chain([tenant(TENANT, &self.world)]).collect(),
            page_size: self.page_size,
            token_lifetime: self.token_lifetime,
            ..simulator::Options::new(move || clock.now())
        })
        .await
        .expect("loopback has a free port")
    }

    /// The simulator, and a daemon that asks it.
    pub(crate) async fn start(&self) -> (Simulator, Exporter, Time) {
        let (simulator, time) = self.simulate().await;
        let mut config = config(&simulator);
        (self.change)(&mut config);
        let exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
        (simulator, exporter, time)
    }
}

/// One tenant without a name.
pub(crate) fn config(simulator: &Simulator) -> Config {
    Config::single(simulator.url(), SecretString::from(SECRET), INTERVAL)
}

/// The reports with the default settings.
pub(crate) fn reports(kinds: &[ReportKind]) -> Vec<Report> {
    kinds.iter().map(|&kind| kind.into()).collect()
}

/// A budget in dollars for the dial-out report and all users.
pub(crate) fn budget(amount: u32) -> Budget {
    Budget::new("all", amount)
}

/// A daemon in this process.
pub(crate) struct Exporter {
    pub(crate) address: SocketAddr,
    pub(crate) subscriber: Subscriber,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Failure>>,
}

impl Exporter {
    pub(crate) fn start(load: Load, time: &Time) -> Self {
        Self::start_with(load, time, false)
    }

    /// With the previous period, which most tests leave out since it needs more requests.
    pub(crate) fn start_with(load: Load, time: &Time, previous: bool) -> Self {
        Self::run(load, time.clock(), previous)
    }

    /// With a configuration file, which every reload reads again, and the machine's clock.
    pub(crate) fn of_file(file: &Path) -> Self {
        let file = file.to_owned();
        Self::run(
            Box::new(move || Config::load(&file)),
            Clock::system(),
            false,
        )
    }

    pub(crate) fn run(load: Load, clock: Clock, previous: bool) -> Self {
        let address = "127.0.0.1:0".parse().expect("an address");
        let bound = Bound::bind(&Listen::Addresses(vec![address])).expect("a free port");
        let options = Options {
            telemetry_path: TelemetryPath::default(),
            requests_max: 40,
            web_config: None,
            clock,
            polls: tokio::runtime::Handle::current(),
            previous,
            systemd: Systemd::default(),
        };
        let daemon = Daemon::start(bound, options, load).expect("a good configuration");
        let (address, subscriber) = (daemon.addresses()[0], daemon.subscribe());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(daemon.run(Hangups::never(), async {
            // A test asks it to stop, or the test is over.
            let _ = stopped.await;
        }));
        Self {
            address,
            subscriber,
            stop: Some(stop),
            running,
        }
    }

    /// Waits until what is published is such.
    pub(crate) async fn until(&mut self, such: impl Fn(&Snapshot) -> bool) {
        let begun = Instant::now();
        while !such(&self.subscriber.latest()) {
            self.changed(begun).await;
        }
    }

    async fn changed(&mut self, begun: Instant) {
        assert!(self.subscriber.changed().await, "the daemon is gone");
        let states = self.subscriber.latest().states().to_vec();
        assert!(begun.elapsed() < PATIENCE, "it never comes: {states:#?}");
    }

    /// Waits until every report was tried, and says what is published then.
    pub(crate) async fn first_poll(&mut self) -> Metrics {
        self.until(|snapshot| {
            let states = snapshot.states();
            !states.is_empty() && states.iter().all(|state| state.last_attempt.is_some())
        })
        .await;
        self.scrape().await
    }

    /// Waits for the next poll of the only report, and says what is published then.
    pub(crate) async fn next_poll(&mut self) -> Metrics {
        let last_attempt = |snapshot: &Snapshot| snapshot.states()[0].last_attempt;
        let before = last_attempt(&self.subscriber.latest());
        self.until(|snapshot| last_attempt(snapshot) != before)
            .await;
        self.scrape().await
    }

    /// Waits for a poll that succeeds.
    pub(crate) async fn next_success(&mut self) -> Metrics {
        let last_success = |snapshot: &Snapshot| snapshot.states()[0].last_success;
        let before = last_success(&self.subscriber.latest());
        // None: the figures were dropped, as their billing period has not begun.
        self.until(|snapshot| ![before, None].contains(&last_success(snapshot)))
            .await;
        self.scrape().await
    }

    /// Waits for the next poll of every tenant by the machine's clock.
    pub(crate) async fn polled(&mut self) {
        let now = Clock::system().now();
        let polled = |state: &State| state.last_attempt.is_some_and(|attempt| attempt > now);
        self.until(|snapshot| {
            let states = snapshot.states();
            !states.is_empty() && states.iter().all(polled)
        })
        .await;
    }

    /// The failure of the only report's last poll, with its remedy.
    pub(crate) fn failure(&self) -> Option<String> {
        let snapshot = self.subscriber.latest();
        let failure = snapshot.states()[0].failure.clone()?;
        let remedy = failure.remedy;
        Some(format!("{}: {}; {remedy}", failure.reason, failure.message))
    }

    pub(crate) async fn scrape(&self) -> Metrics {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200);
        Metrics(answer.body)
    }

    /// Scrapes after every publication until the answer is such.
    pub(crate) async fn scrape_when(&mut self, such: impl Fn(&Metrics) -> bool) -> Metrics {
        let begun = Instant::now();
        loop {
            let metrics = self.scrape().await;
            if such(&metrics) {
                return metrics;
            }
            self.changed(begun).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, "").await
    }

    /// As an operator does who has changed the file.
    pub(crate) async fn reload(&self) {
        let answer = request(self.address, "POST", "/-/reload", "").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// Waits until it ends by itself.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        (&mut self.running).await.expect("it does not panic")
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let ended = (&mut self.running).await.expect("it does not panic");
        ended.expect("it ends on request");
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.running.abort();
    }
}
