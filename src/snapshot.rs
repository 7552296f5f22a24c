//! What is served: whole, immutable, prepared.
//!
//! The poller hands finished samples to the [`Publisher`], which keeps the newest of every report of every tenant, puts
//! them together once per change, and publishes a [`Snapshot`] through a watch channel. A reader clones an `Arc` and
//! writes prepared bytes: it does no I/O, renders nothing and waits for nobody. Numbers, the period they belong to and
//! the state of the poll change in one step, because they are in one snapshot. What this module does not do: decide
//! what is published, or when.

mod body;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, Instant};

use crate::exposition::{Family, Format, Samples};
use crate::gzip::Block;
use crate::period::BillingPeriod;
use crate::report::budget::BudgetSpend;
use crate::report::{Count, Organizer, ReportKind, Spend};
use crate::telemetry::Telemetry;

pub use body::{Body, Encoding, Parts};

/// Everything that a request may ask for, as it was at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    reports: Arc<body::Reports>,
    own: body::SelfMetrics,
    prepared: body::Bodies,
    states: Arc<[State]>,
    refused_reload: Option<Arc<str>>,
}

/// The newest snapshot, for readers; never waits for a poll.
#[derive(Clone, Debug)]
pub struct Subscriber(watch::Receiver<Arc<Snapshot>>);

/// Where finished samples go.
#[derive(Debug)]
pub struct Publisher {
    slots: Mutex<BTreeMap<Key, Slot>>,
    /// Why the last reload was refused.
    refused_reload: Mutex<Option<Arc<str>>>,
    changed: Notify,
    telemetry: Arc<Telemetry>,
    sender: watch::Sender<Arc<Snapshot>>,
}

/// Whose samples: of a report of a tenant, or of a tenant as such. Bodies are in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The tenant's name where tenants are named.
    pub(crate) tenant: Option<Arc<str>>,
    /// The report, if it is about one.
    pub(crate) report: Option<ReportKind>,
}

/// What is known of one report of one tenant, for the page and for readiness.
#[derive(Clone, Debug)]
pub struct State {
    /// The tenant's name where tenants are named.
    pub tenant: Option<Arc<str>>,
    /// The report.
    pub report: ReportKind,
    /// When the last poll began, if one has ended.
    pub last_attempt: Option<DateTime<Utc>>,
    /// When the last complete report was asked for.
    pub last_success: Option<DateTime<Utc>>,
    /// When the next poll is due.
    pub next_poll: Option<DateTime<Utc>>,
    /// Why the newest poll failed; none where it succeeded.
    pub failure: Option<Failure>,
    /// The newest complete report in brief, where it is served.
    pub summary: Option<Arc<Summary>>,
    /// Whether the newest complete report is too old to be served.
    pub expired: bool,
}

/// A failed poll, as told to people.
#[derive(Clone, Debug)]
pub struct Failure {
    /// As in the label `reason`.
    pub reason: &'static str,
    /// What failed: the chain of errors on one line.
    pub message: String,
    /// What the admin can do about it.
    pub remedy: &'static str,
}

/// A complete report in brief.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The period that the numbers belong to.
    pub period: BillingPeriod,
    /// Rows that Graph sent, after overlaps of pages were removed.
    pub rows: u64,
    /// Spend by currency, in the order of the currencies.
    pub spend: Vec<Spend>,
    /// What is counted, where the report knows no money.
    pub counts: Vec<Count>,
    /// The ten organizers with the highest charge in each currency, highest first; empty where users are not exported.
    pub top: Vec<Organizer>,
    /// Budgets of the report and their spend, in the order of the configuration.
    pub budgets: Vec<BudgetSpend>,
}

/// The newest samples under one key.
#[derive(Debug, Default)]
struct Slot {
    /// Of the newest complete report.
    report: Vec<Samples>,
    /// Of the newest poll, whatever became of it.
    health: Vec<Samples>,
    state: Option<State>,
}

impl Snapshot {
    /// The body of `/metrics`. `names`: only these families, all where it is empty (`name[]=` as promhttp has it).
    pub fn body(&self, format: Format, encoding: Encoding, names: &[String]) -> Body {
        if names.is_empty() {
            self.prepared.body(format, encoding)
        } else {
            body::filtered(&self.reports, &self.own, format, encoding, names)
        }
    }

    /// A snapshot of these samples and nothing else, for benchmarks.
    pub(crate) fn of(samples: &[Samples]) -> Self {
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
            states: Arc::default(),
            refused_reload: None,
        }
    }

    /// Why the last reload of the configuration was refused, for people; `None` after one that succeeded.
    pub fn refused_reload(&self) -> Option<&str> {
        self.refused_reload.as_deref()
    }

    /// Every report of every tenant, in the order of the tenants' names.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Ready once every report of every tenant has been tried and at least one, if there is any, is complete; else the
    /// reason why not. Either way the reports that are too old to be served are told, as a sentence for people.
    ///
    /// # Errors
    /// The reason, likewise.
    pub fn ready(&self) -> Result<Option<String>, String> {
        let expired = self.expired();
        match (self.unready(), expired) {
            (None, expired) => Ok(expired),
            (Some(reason), None) => Err(reason),
            (Some(reason), Some(expired)) => Err(format!("{reason}; {expired}")),
        }
    }

    /// Why it is not ready.
    fn unready(&self) -> Option<String> {
        if self.states.is_empty() {
            // A shard without tenants has all that it will ever have.
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

    /// Which reports are too old to be served.
    fn expired(&self) -> Option<String> {
        let expired = || self.states.iter().filter(|state| state.expired);
        let named: Vec<String> = expired().take(EXPIRED_NAMED_MAX).map(State::name).collect();
        let names = named.join(", ");
        match expired().count() {
            0 => None,
            1 => Some(format!("{names} is older than poll.max_age")),
            count if count == named.len() => Some(format!("{names} are older than poll.max_age")),
            count => Some(format!(
                "{names} and {} more are older than poll.max_age",
                count - named.len()
            )),
        }
    }
}

impl State {
    /// Of a report that nothing is known of yet.
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
        }
    }

    /// The report and whose it is, as readiness tells it.
    fn name(&self) -> String {
        match &self.tenant {
            Some(tenant) => format!("{} of {tenant}", self.report),
            None => self.report.to_string(),
        }
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

    /// Waits for the next publication; false once there can be none.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Publisher {
    /// Publishes at once what the exporter can say of itself.
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

    /// A reader of what is published.
    pub fn subscribe(&self) -> Subscriber {
        Subscriber(self.sender.subscribe())
    }

    /// Replaces what is known under a key. What is under the other keys stays as it is.
    pub(crate) fn update(
        &self,
        key: Key,
        report: Vec<Samples>,
        health: Vec<Samples>,
        state: Option<State>,
    ) {
        self.lock().insert(
            key,
            Slot {
                report,
                health,
                state,
            },
        );
        self.changed.notify_one();
    }

    /// Publishes the outcome of a reload soon: the error if the new configuration was refused.
    pub(crate) fn set_reload(&self, refused: Option<&str>) {
        *self.refused_reload() = refused.map(Arc::from);
        self.changed.notify_one();
    }

    /// Forgets every key for which `keep` says no.
    pub(crate) fn retain(&self, keep: impl Fn(&Key) -> bool) {
        self.lock().retain(|key, _| keep(key));
        self.changed.notify_one();
    }

    /// Forgets the figures of a tenant, and what was said of them; not that it has reports, else who has no others would be
    /// ready without them.
    pub(crate) fn forget(&self, tenant: Option<&Arc<str>>) {
        let mut slots = self.lock();
        for (_, slot) in slots
            .iter_mut()
            .filter(|(key, _)| key.tenant.as_ref() == tenant)
        {
            let untried = |state: State| State::untried(state.tenant, state.report);
            *slot = Slot {
                report: Vec::new(),
                health: Vec::new(),
                state: slot.state.take().map(untried),
            };
        }
        drop(slots);
        self.changed.notify_one();
    }

    /// Publishes after every change, and every second for the metrics of the process; never spends more than a
    /// twentieth of a core on it. Runs until it is dropped.
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

    /// Puts together and publishes everything anew, now.
    pub(crate) fn publish(&self) {
        let mut slots = self.lock();
        let kept: u64 = slots
            .values()
            .flat_map(|slot| &slot.report)
            .map(|samples| samples.block.kept_text())
            .sum();
        if kept > TOTAL_TEXT_MAX {
            for samples in slots.values_mut().flat_map(|slot| &mut slot.report) {
                let block = std::mem::replace(&mut samples.block, Block::empty());
                samples.block = block.without_text();
            }
        }
        let mut families: BTreeMap<&'static str, (&'static Family, Vec<Samples>)> = BTreeMap::new();
        for samples in slots
            .values()
            .flat_map(|slot| slot.report.iter().chain(&slot.health))
            .filter(|samples| samples.count > 0)
        {
            let entry = families
                .entry(samples.family.name)
                .or_insert((samples.family, Vec::new()));
            entry.1.push(samples.clone());
        }
        let states = slots
            .values()
            .filter_map(|slot| slot.state.clone())
            .collect();
        let size = slots.values().flat_map(|slot| &slot.report).fold(
            (0_u64, 0_u64),
            |(bytes, series), samples| {
                (
                    bytes.saturating_add(samples.block.length()),
                    series.saturating_add(samples.count),
                )
            },
        );
        drop(slots);
        self.telemetry.set_exposition(size.0, size.1);
        let reports = Arc::new(body::Reports::new(families.into_values().collect()));
        self.send(reports, states);
    }

    /// Publishes the newest reports again with the exporter's own metrics of this moment.
    fn refresh(&self) {
        let last = self.sender.borrow().clone();
        self.send(Arc::clone(&last.reports), Arc::clone(&last.states));
    }

    fn send(&self, reports: Arc<body::Reports>, states: Arc<[State]>) {
        let own = body::SelfMetrics::new(&self.telemetry.gather(), self.telemetry.started());
        let prepared = body::Bodies::new(&reports, &own);
        self.sender.send_replace(Arc::new(Snapshot {
            reports,
            own,
            prepared,
            states,
            refused_reload: self.refused_reload().clone(),
        }));
    }

    fn refused_reload(&self) -> std::sync::MutexGuard<'_, Option<Arc<str>>> {
        let text = self.refused_reload.lock();
        text.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, Slot>> {
        // A panic elsewhere cannot leave a slot half written: each is replaced field by field by whole values.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long to rest after a publication that took `spent`, so that it is a twentieth of the time at the most.
fn pause_after(spent: Duration) -> Duration {
    (spent * 19).min(PAUSE_MAX)
}

/// Reports that readiness names as too old: it is one line, and a thousand tenants may have expired together.
const EXPIRED_NAMED_MAX: usize = 5;

/// How old the metrics of the process may be. A scrape must not read `/proc`, so someone else does, now and then.
const REFRESH: Duration = Duration::from_secs(1);

/// After a publication, at the most: a process that was suspended in the middle of one did not spend that time on it.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Uncompressed text kept over all tenants, in bytes. Above it only the compressed form is kept, and who asks for
/// identity costs an inflation.
const TOTAL_TEXT_MAX: u64 = 8 * 1024 * 1024;

#[cfg(test)]
mod tests;
