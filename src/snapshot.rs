//! The served content: complete, immutable and prepared.
//!
//! The poller passes finished samples to the [`Publisher`]. The publisher keeps the newest samples of every report of
//! every tenant, combines them once per change, and publishes a [`Snapshot`] through a watch channel. A reader clones
//! an `Arc` and gets prepared bytes: it does no I/O, renders nothing and never waits. Numbers, their period and the
//! state of the poll change in one step, because they are in one snapshot. This module does not decide what is
//! published, or when.

mod body;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};

use crate::exposition::{Family, Format, Samples};
use crate::period::BillingPeriod;
use crate::report::allocation::AllocatedSummary;
use crate::report::{Count, Organizer, ReportKind, Spend};
use crate::telemetry::Telemetry;

pub use body::{Body, Encoding, Parts};

/// Everything that a request can ask for, as of one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    reports: Arc<body::Reports>,
    own: body::SelfMetrics,
    prepared: body::Bodies,
    states: Arc<[State]>,
    refused_reload: Option<Arc<str>>,
}

/// Gives readers the newest snapshot. A reader never waits for a poll.
#[derive(Clone, Debug)]
pub struct Subscriber(watch::Receiver<Arc<Snapshot>>);

/// Receives finished samples and publishes them as snapshots.
#[derive(Debug)]
pub struct Publisher {
    slots: Mutex<BTreeMap<Key, Slot>>,
    /// The error of the last reload; `None` if there was none, or if the new configuration was accepted.
    refused_reload: Mutex<Option<Arc<str>>>,
    changed: Notify,
    telemetry: Arc<Telemetry>,
    sender: watch::Sender<Arc<Snapshot>>,
}

/// The owner of samples: a report of a tenant, or the tenant itself. In a body, samples are in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The tenant's name, if tenants are named.
    pub(crate) tenant: Option<Arc<str>>,
    /// The report. `None` for samples of the tenant itself.
    pub(crate) report: Option<ReportKind>,
}

/// The state of one report of one tenant, for the page and for readiness.
#[derive(Clone, Debug)]
pub struct State {
    /// The tenant's name, if tenants are named.
    pub tenant: Option<Arc<str>>,
    /// The report.
    pub report: ReportKind,
    /// Start of the last finished poll.
    pub last_attempt: Option<DateTime<Utc>>,
    /// Start of the last successful poll.
    pub last_success: Option<DateTime<Utc>>,
    /// When the next poll is due.
    pub next_poll: Option<DateTime<Utc>>,
    /// The failure of the newest poll. `None` if it succeeded.
    pub failure: Option<Failure>,
    /// Summary of the newest complete report, if it is served.
    pub summary: Option<Arc<Summary>>,
    /// True if the newest complete report is too old to be served.
    pub expired: bool,
    /// The number of running polls.
    pub polling: Polling,
}

/// The number of running polls of a report. There can be two, because a poll that a reload aborts may end after the
/// next poll begins. Clones share the number, so it is current even in an old snapshot. No new snapshot is needed when
/// a poll starts, because the start changes no metric.
#[derive(Clone, Debug, Default)]
pub struct Polling(Arc<AtomicUsize>);

/// Counts a poll as running until this value is dropped. A cancelled poll drops it, too.
#[derive(Debug)]
pub(crate) struct PollUnderWay(Polling);

/// A failed poll, described for people.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Value of the label `reason`.
    pub reason: &'static str,
    /// The chain of errors on one line.
    pub message: String,
    /// Advice for the administrator.
    pub remedy: &'static str,
}

/// Summary of a complete report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The billing period of the numbers.
    pub period: BillingPeriod,
    /// Number of rows that Graph sent. A row that overlapping pages repeat counts once.
    pub rows: u64,
    /// Time of the newest call, message or event, if the report has times.
    pub newest: Option<DateTime<Utc>>,
    /// Spend by currency, in the order of the currencies.
    pub spend: Vec<Spend>,
    /// Counts over all rows, for a report without amounts.
    pub counts: Vec<Count>,
    /// The ten organizers with the highest charge in each currency, highest first. Empty if users are not exported.
    pub top: Vec<Organizer>,
    /// Budgets, pools and departments of the report.
    #[serde(default)]
    pub allocated: AllocatedSummary,
}

/// The newest samples under one key.
#[derive(Debug, Default)]
struct Slot {
    /// Samples of the newest complete report.
    report: Vec<Samples>,
    /// Metrics about the newest poll, whether it succeeded or failed.
    health: Vec<Samples>,
    state: Option<State>,
}

impl Snapshot {
    /// The body of `/metrics` with the families in `names`, or with all families if `names` is empty. The names are
    /// from the parameter `name[]`, which promhttp has too.
    pub fn body(&self, format: Format, encoding: Encoding, names: &[String]) -> Body {
        if names.is_empty() {
            self.prepared.body(format, encoding)
        } else {
            body::filtered(&self.reports, &self.own, format, encoding, names)
        }
    }

    /// A snapshot of these samples and nothing else, for benchmarks.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn with_samples(samples: &[Samples]) -> Self {
        let families = samples
            .iter()
            .map(|samples| (samples.family, vec![samples.clone()]))
            .collect();
        let reports = Arc::new(body::Reports::new(families));
        let own = body::SelfMetrics::default();
        let prepared = body::Bodies::new(&reports, &own);
        Self {
            reports,
            own,
            prepared,
            ..Self::default()
        }
    }

    /// The error of the last reload, to be shown to people. `None` if the reload succeeded.
    pub fn refused_reload(&self) -> Option<&str> {
        self.refused_reload.as_deref()
    }

    /// Every report of every tenant, in the order of the tenants' names.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The exporter is ready if every report of every tenant was tried and at least one report is served. An exporter
    /// without reports is ready too. The returned text lists the reports that are too old to be served, if any.
    ///
    /// # Errors
    /// The reason why the exporter is not ready, followed by the same list.
    pub fn ready(&self) -> Result<Option<String>, String> {
        let expired = self.expired();
        match (self.unready(), expired) {
            (None, expired) => Ok(expired),
            (Some(reason), None) => Err(reason),
            (Some(reason), Some(expired)) => Err(format!("{reason}; {expired}")),
        }
    }

    fn unready(&self) -> Option<String> {
        if self.states.is_empty() {
            // A shard without tenants never has a report, so it is always ready.
            return None;
        }
        let mut states = self.states.iter();
        if let Some(waiting) = states.find(|state| state.last_attempt.is_none()) {
            return Some(format!("report {} has not been tried yet", waiting.name()));
        }
        if self.states.iter().any(|state| state.summary.is_some()) {
            return None;
        }
        if self.states.iter().any(|state| state.expired) {
            return Some("no report is young enough to be served".to_owned());
        }
        let failing = self.states.iter().find_map(|state| {
            let reason = state.failure.as_ref()?.reason;
            let name = state.name();
            Some(format!("; {name} fails: {reason}, see the page or the log"))
        });
        let failing = failing.unwrap_or_default();
        Some(format!("no report has been complete yet{failing}"))
    }

    /// The reports that are too old to be served, as text.
    fn expired(&self) -> Option<String> {
        let mut expired = self.states.iter().filter(|state| state.expired);
        let named = expired.by_ref().take(EXPIRED_NAMED_MAX).map(State::name);
        let named: Vec<String> = named.collect();
        let names = named.join(", ");
        match (named.len(), expired.count()) {
            (0, _) => None,
            (1, _) => Some(format!("{names} is older than poll.max_age")),
            (_, 0) => Some(format!("{names} are older than poll.max_age")),
            (_, more) => Some(format!(
                "{names} and {more} more are older than poll.max_age"
            )),
        }
    }
}

impl State {
    /// The state of an untried report.
    fn untried(tenant: Option<Arc<str>>, report: ReportKind) -> Self {
        Self {
            tenant,
            report,
            last_attempt: None,
            last_success: None,
            next_poll: None,
            failure: None,
            summary: None,
            expired: false,
            polling: Polling::default(),
        }
    }

    /// The report and its tenant, as in the answer of `/-/ready`.
    fn name(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("{} of {tenant}", self.report),
            None => self.report.to_string(),
        }
    }
}

impl Polling {
    /// Records that a poll has begun.
    pub(crate) fn begin(&self) -> PollUnderWay {
        self.0.fetch_add(1, Relaxed);
        PollUnderWay(self.clone())
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

impl Drop for PollUnderWay {
    fn drop(&mut self) {
        let Polling(under_way) = &self.0;
        under_way.fetch_sub(1, Relaxed);
    }
}

impl Subscriber {
    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.0.borrow().clone()
    }

    /// A subscriber of one snapshot that never changes, for tests and benchmarks.
    pub fn fixed(snapshot: Snapshot) -> Self {
        Self(watch::channel(Arc::new(snapshot)).1)
    }

    /// Waits for the next publication. Returns false if the publisher has ended.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Publisher {
    /// Creates a publisher and publishes the metrics of the exporter itself.
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        let publisher = Self {
            slots: Mutex::default(),
            refused_reload: Mutex::default(),
            changed: Notify::new(),
            telemetry,
            sender: watch::Sender::new(Arc::default()),
        };
        publisher.publish();
        publisher
    }

    /// Creates a reader of published snapshots.
    pub fn subscribe(&self) -> Subscriber {
        Subscriber(self.sender.subscribe())
    }

    /// Replaces the samples and state of a key. Other keys stay as they are.
    pub(crate) fn update(
        &self,
        key: Key,
        report: Vec<Samples>,
        health: Vec<Samples>,
        state: Option<State>,
    ) {
        let slot = Slot {
            report,
            health,
            state,
        };
        self.slots.lock().insert(key, slot);
        self.changed.notify_one();
    }

    /// Stores the result of a reload and schedules its publication. `refused` is the error, if the new configuration
    /// was rejected.
    pub(crate) fn set_reload(&self, refused: Option<&str>) {
        *self.refused_reload.lock() = refused.map(Arc::from);
        self.changed.notify_one();
    }

    /// Forgets every key for which `keep` returns false.
    pub(crate) fn retain(&self, keep: impl Fn(&Key) -> bool) {
        self.slots.lock().retain(|key, _| keep(key));
        self.changed.notify_one();
    }

    /// Forgets the figures and the state of reports, but keeps the reports as untried. If they were removed, an
    /// exporter with no other reports would be ready.
    pub(crate) fn forget(&self, is_forgotten: impl Fn(&Key) -> bool) {
        let mut slots = self.slots.lock();
        for (_, slot) in slots.iter_mut().filter(|(key, _)| is_forgotten(key)) {
            let untried = |state: State| State::untried(state.tenant, state.report);
            *slot = Slot {
                state: slot.state.take().map(untried),
                ..Slot::default()
            };
        }
        drop(slots);
        self.changed.notify_one();
    }

    /// Publishes after every change, and every second for the metrics of the process. Uses at most a twentieth of a
    /// core. Runs until the future is dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            let changed = tokio::time::timeout(REFRESH, self.changed.notified()).await;
            let begun = Instant::now();
            let publisher = Arc::clone(&self);
            let all = changed.is_ok();
            tokio::task::spawn_blocking(move || {
                if all {
                    publisher.publish();
                } else {
                    publisher.refresh();
                }
            })
            .await
            .expect("publishing does not panic");
            tokio::time::sleep(pause_after(begun.elapsed())).await;
        }
    }

    /// Combines and publishes everything now.
    pub(crate) fn publish(&self) {
        let slots = self.slots.lock();
        let kept: u64 = slots
            .values()
            .flat_map(|slot| &slot.report)
            .map(|samples| samples.block.kept_text())
            .sum();
        if kept > TOTAL_TEXT_MAX {
            for samples in slots.values().flat_map(|slot| &slot.report) {
                samples.block.drop_text();
            }
        }
        let mut families: BTreeMap<&'static Family, Vec<Samples>> = BTreeMap::new();
        for samples in slots
            .values()
            .flat_map(|slot| slot.report.iter().chain(&slot.health))
            .filter(|samples| samples.count > 0)
        {
            let same = families.entry(samples.family).or_default();
            same.push(samples.clone());
        }
        let states = slots
            .values()
            .filter_map(|slot| slot.state.clone())
            .collect();
        let samples = || slots.values().flat_map(|slot| &slot.report);
        let lengths = samples().map(|samples| samples.block.length());
        let bytes = lengths.fold(0, u64::saturating_add);
        let counts = samples().map(|samples| samples.count);
        let series = counts.fold(0, u64::saturating_add);
        drop(slots);
        self.telemetry.set_exposition(bytes, series);
        let reports = Arc::new(body::Reports::new(families.into_iter().collect()));
        self.send(reports, states);
    }

    /// Publishes the newest reports again with current metrics of the exporter itself.
    fn refresh(&self) {
        let last = self.sender.borrow().clone();
        self.send(Arc::clone(&last.reports), Arc::clone(&last.states));
    }

    fn send(&self, reports: Arc<body::Reports>, states: Arc<[State]>) {
        let own = body::SelfMetrics::new(&self.telemetry.gather(), self.telemetry.started);
        let prepared = body::Bodies::new(&reports, &own);
        self.sender.send_replace(Arc::new(Snapshot {
            reports,
            own,
            prepared,
            states,
            refused_reload: self.refused_reload.lock().clone(),
        }));
    }
}

/// Pause after a publication that took `spent`, so that publishing takes at most a twentieth of the time.
fn pause_after(spent: Duration) -> Duration {
    (spent * 19).min(PAUSE_MAX)
}

/// Maximum number of expired reports that the text of `/-/ready` names. The text is one line, and a thousand reports
/// can expire at once.
const EXPIRED_NAMED_MAX: usize = 5;

/// Maximum age of the metrics of the process. A scrape must not read `/proc`, so a background task does.
const REFRESH: Duration = Duration::from_secs(1);

/// Maximum pause after a publication. The pause needs a limit, because the measured time of the publication is too long
/// if the process was suspended.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Maximum bytes of uncompressed text that is kept for all tenants. Above this limit only the compressed form is kept,
/// and it is inflated on the fly for clients that do not accept compression.
const TOTAL_TEXT_MAX: u64 = 8 * 1024 * 1024;

#[cfg(test)]
mod tests;
