//! A simulator, a daemon in this process, one clock for both, and what a scrape says.
//!
//! Tests run on tokio's paused clock: it moves when nothing else can, so an hour's wait costs nothing, and nothing waits
//! for real time. The clock of the wall goes with it, and can be set besides. What these tests wait for are events: the
//! next publication, the next request.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::daemon::{Daemon, Failure, Load, Options};
use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_exporter::server::{Bound, Listen, TelemetryPath};
use teams_pstn_exporter::signals::Hangups;
use teams_pstn_exporter::snapshot::{Snapshot, Subscriber};
use teams_pstn_exporter::systemd::Systemd;
use teams_pstn_simulator::world::World;
use teams_pstn_simulator::{self as simulator, Simulator, Tenant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
pub(crate) const SECRET: &str = "s3cret~of.a+known/value=";

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

/// A budget in dollars for the dial-out report and all users.
pub(crate) fn budget(amount: u32) -> Budget {
    Budget {
        name: "all".to_owned(),
        currency: "USD".to_owned(),
        amount: amount.into(),
        report: ReportKind::Dialout,
        tenant: None,
        user: None,
        usage_location: None,
        destination_context: None,
    }
}

/// A daemon in this process.
pub(crate) struct Exporter {
    pub(crate) address: SocketAddr,
    pub(crate) subscriber: Subscriber,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Failure>>,
}

/// An answer of the daemon.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As they came, with the status line.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Exporter {
    pub(crate) fn start(load: Load, time: &Time) -> Self {
        Self::start_with(load, time, false)
    }

    /// With the previous period, which most tests leave out since it needs more requests.
    pub(crate) fn start_with(load: Load, time: &Time, previous: bool) -> Self {
        let address = "127.0.0.1:0".parse().expect("an address");
        let bound = Bound::bind(&Listen::Addresses(vec![address])).expect("a free port");
        let options = Options {
            telemetry_path: TelemetryPath::default(),
            requests_max: 40,
            web_config: None,
            clock: time.clock(),
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
        request(self.address, "GET", path, &[]).await
    }

    /// As an operator does who has changed the file.
    pub(crate) async fn reload(&self) {
        let answer = request(self.address, "POST", "/-/reload", &[]).await;
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

/// One request on a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it answers");
    let answer = String::from_utf8(answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    Answer {
        status: head[9..12].parse().expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// The text of a scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metrics(pub(crate) String);

/// One line of it, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: String,
}

impl Metrics {
    /// The value of a sample by its name and labels as they are written.
    pub(crate) fn value(&self, sample: &str) -> &str {
        self.get(sample)
            .unwrap_or_else(|| panic!("no {sample} in\n{}", self.0))
    }

    pub(crate) fn get(&self, sample: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))
    }

    /// The value of a metric of the only report.
    pub(crate) fn report(&self, metric: &str) -> &str {
        self.value(&format!("teams_pstn_report_{metric}{{report=\"dialout\"}}"))
    }

    pub(crate) fn failures(&self, reason: &str) -> u64 {
        let sample =
            format!("teams_pstn_report_failures_total{{reason=\"{reason}\",report=\"dialout\"}}");
        self.value(&sample).parse().expect("a count")
    }

    /// The report families with their period, letter by letter.
    pub(crate) fn of_report(&self) -> String {
        self.families(&["teams_pstn_dialout_", "teams_pstn_billing_period_"])
    }

    /// The lines of the families whose names begin so.
    pub(crate) fn families(&self, prefixes: &[&str]) -> String {
        let lines = self.0.lines().filter(|line| {
            let name = ["# HELP ", "# TYPE ", "# UNIT "]
                .iter()
                .find_map(|comment| line.strip_prefix(comment))
                .unwrap_or(line);
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        });
        lines.fold(String::new(), |text, line| text + line + "\n")
    }

    /// The samples of a family.
    pub(crate) fn samples(&self, family: &str) -> Vec<Sample> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(sample)
            .filter(|sample| sample.name == family)
            .collect()
    }

    /// The growth of a counter since `before`, as `value=growth` in the order of the label's values.
    pub(crate) fn growth(&self, before: &Self, counter: &str, label: &str) -> String {
        let old = before.samples(counter);
        let mut grown = String::new();
        for new in self.samples(counter) {
            let old = old.iter().find(|old| old.labels == new.labels);
            let old: u64 = old.map_or(0, |old| old.value.parse().expect("a count"));
            let growth = new.value.parse::<u64>().expect("a count") - old;
            if growth > 0 {
                let separator = if grown.is_empty() { "" } else { " " };
                write!(grown, "{separator}{}={growth}", new.label(label)).unwrap();
            }
        }
        grown
    }
}

impl Sample {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels
            .iter()
            .find_map(|(label, value)| (label == name).then_some(value))
            .unwrap_or_else(|| panic!("no label {name} on {self:?}"))
    }

    pub(crate) fn label_names(&self) -> Vec<&str> {
        self.labels.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect("a sample");
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect("a label");
            let mut value = String::new();
            let mut chars = after.char_indices();
            loop {
                match chars.next().expect("the end of the value") {
                    (at, '"') => {
                        rest = &after[at + 1..];
                        break;
                    }
                    (_, '\\') => value.push(match chars.next().expect("what is escaped").1 {
                        'n' => '\n',
                        other => other,
                    }),
                    (_, other) => value.push(other),
                }
            }
            labels.push((label.trim_start_matches(',').to_owned(), value));
        }
        rest = &rest[1..];
    }
    Sample {
        name: name.to_owned(),
        labels,
        value: rest.trim_start().to_owned(),
    }
}

/// The log of this thread during the lifetime of this value.
pub(crate) struct Log {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Log {
    /// At debug, in logfmt, the exporter's own events only: as the program does.
    pub(crate) fn capture() -> Self {
        // If there is only one subscriber, an event that a thread without one reaches first is cached as of interest to
        // no subscriber. So there is one for all threads, which takes everything and writes nothing.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let own = tracing_subscriber::filter::Targets::new()
            .with_target("teams_pstn_exporter", tracing::Level::DEBUG);
        let layer = tracing_logfmt::builder()
            .layer()
            .with_writer(move || Sink(Arc::clone(&sink)));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(own));
        Self {
            text,
            _guard: tracing::subscriber::set_default(subscriber),
        }
    }

    /// Returns the log since the last call.
    pub(crate) fn take(&self) -> String {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8(std::mem::take(&mut *text)).expect("UTF-8")
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
