//! What is remembered of a report from poll to poll.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::Plan;
use super::outcome::Failed;
use super::previous::Previous;
use crate::exposition::Samples;
use crate::graph::stats::RequestStats;
use crate::health::{Health, period_samples};
use crate::period::BillingPeriod;
use crate::report::budget::{drop_others, fingerprint};
use crate::report::labels::Kept;
use crate::report::log::Ledgers;
use crate::report::{Rendered, ReportKind};
use crate::snapshot::{Failure, Summary};

/// What is remembered of a report from poll to poll, and passed on when the configuration changes.
pub(crate) struct Memory {
    pub(super) report: ReportKind,
    pub(super) health: Health,
    pub(super) kept: Kept,
    pub(super) summary: Option<Arc<Summary>>,
    pub(super) failure: Option<Failure>,
    /// What is published of the current period.
    pub(super) current: Vec<Samples>,
    /// The fingerprint of the budgets that are among it, which may be others than those of now.
    pub(super) budgets: String,
    pub(super) previous: Previous,
    /// Of a log, the days that need not be asked for again.
    pub(super) ledgers: Ledgers,
    pub(super) file: StateFile,
    /// What is served was told by another service than the one that is asked now: none of it goes into a state file.
    pub(super) elsewhere: bool,
    /// The newest complete report is too old to be served.
    pub(super) expired: bool,
    pub(super) next_poll: Option<DateTime<Utc>>,
    pub(super) wish: Wish,
    /// The configuration has changed so that nothing of this may be published any more.
    pub(super) retired: bool,
}

/// A poll that is requested before its time.
#[derive(Default)]
pub(super) struct Wish {
    /// Wakes who waits for the next poll.
    pub(super) again: Arc<Notify>,
    /// The poll forgets the settled days first.
    pub(super) refetch: bool,
}

/// What has become of it on the disk.
#[derive(Default)]
pub(super) struct StateFile {
    /// Something is not in it yet.
    pub(super) unsaved: bool,
    /// It is being written, or that hangs.
    pub(super) writing: bool,
    /// Held while it gets its place, which a disk may make last for ever: so nobody who serves or polls takes it.
    pub(super) placing: Arc<Mutex<()>>,
}

/// Written by one poller only; never locked across an await.
pub(crate) type SharedMemory = Arc<Mutex<Memory>>;

impl Memory {
    /// A report of which nothing is known; its counters start at `started`.
    pub(super) fn new(report: ReportKind, started: DateTime<Utc>) -> SharedMemory {
        let kept = Kept::default();
        let health = Health {
            started,
            ..Health::default()
        };
        Arc::new(Mutex::new(Self {
            report,
            health,
            kept,
            summary: None,
            failure: None,
            current: Vec::new(),
            budgets: String::new(),
            previous: Previous::default(),
            ledgers: Ledgers::default(),
            file: StateFile::default(),
            elsewhere: false,
            expired: false,
            next_poll: None,
            wish: Wish::default(),
            retired: false,
        }))
    }

    /// What it is of.
    pub(crate) fn report(memory: &SharedMemory) -> ReportKind {
        lock(memory).report
    }

    /// Of another configuration's numbers only this is kept: how many polls there were, and how they failed. What is said
    /// of a report that is forgotten is forgotten too.
    pub(crate) fn without_numbers(memory: &SharedMemory) -> SharedMemory {
        let old = lock(memory);
        let fresh = Self::new(old.report, old.health.started);
        lock(&fresh).health = Health {
            started: old.health.started,
            polls: old.health.polls,
            failures: old.health.failures,
            ..Health::default()
        };
        fresh
    }

    /// Of a service that is no longer asked: what is served stays until the other has told all of it, but nothing is built
    /// on it, and the period before is to be asked for again.
    pub(crate) fn of_another_service(memory: &SharedMemory) -> SharedMemory {
        let old = lock(memory);
        let memory = Self::new(old.report, old.health.started);
        let mut fresh = lock(&memory);
        fresh.health = Health {
            settled_windows: None,
            unplaced: None,
            ..old.health.clone()
        };
        fresh.summary.clone_from(&old.summary);
        fresh.failure.clone_from(&old.failure);
        fresh.current.clone_from(&old.current);
        fresh.budgets.clone_from(&old.budgets);
        fresh.previous = old.previous.of_another_service();
        fresh.expired = old.expired;
        fresh.next_poll = old.next_poll;
        fresh.elsewhere = true;
        drop(fresh);
        memory
    }

    /// Where the last poll failed, the next one comes at once, or after the one that is under way if that fails too.
    pub(crate) fn try_again(memory: &SharedMemory) {
        let memory = lock(memory);
        if memory.failure.is_some() {
            memory.wish.again.notify_one();
        }
    }

    /// The next poll fetches everything again. It comes at once, or after the one that is under way, which goes on with the
    /// settled days that it knows.
    pub(crate) fn refetch(memory: &SharedMemory) {
        let mut memory = lock(memory);
        memory.wish.refetch = true;
        memory.wish.again.notify_one();
    }

    /// Forgets the settled days and when the period before was fetched, if that is requested. What is published stays.
    pub(super) fn begin_refetch(&mut self) {
        if std::mem::take(&mut self.wish.refetch) {
            self.ledgers = Ledgers::default();
            self.previous.refetch();
            self.file.unsaved |= self.health.last_success.is_some();
        }
    }

    /// It has another place from now on, and is not there yet.
    pub(crate) fn move_files(memory: &SharedMemory) {
        let mut memory = lock(memory);
        memory.file.unsaved |= memory.health.last_success.is_some() || memory.ledgers.has_days();
    }

    /// From now on a poll that is still under way publishes nothing, and no file of it gets a place that has not got it yet.
    pub(crate) fn retire(memories: &[SharedMemory]) {
        for memory in memories {
            lock(memory).retired = true;
        }
    }

    /// Waits for files that are getting their place: what is in the folder then is what they were, retired, in the end. A
    /// disk that does not answer is not waited for any longer; the next start removes what it should not have.
    pub(crate) fn wait_for_files(memories: &[SharedMemory]) {
        let mut tries = PLACING_TRIES;
        for memory in memories {
            let placing = Arc::clone(&lock(memory).file.placing);
            while let Err(TryLockError::WouldBlock) = placing.try_lock() {
                tries -= 1;
                if tries == 0 {
                    tracing::warn!(
                        report = lock(memory).report.as_str(),
                        remedy = "see whether the disk of storage.path answers, and restart",
                        "a state file is still being written; it may name people as labels.user said before"
                    );
                    return;
                }
                std::thread::sleep(PLACING_PAUSE);
            }
        }
    }

    /// Drops the figures of a billing period that has not begun, which a clock that was ahead has brought. Returns whether
    /// there were any. The settled days stay: they are settled by the service's clock too.
    pub(super) fn drop_future(&mut self, now: DateTime<Utc>) -> bool {
        let is_future = |summary: &Arc<Summary>| summary.period.start() > now;
        if !self.summary.as_ref().is_some_and(is_future) {
            return false;
        }
        self.summary = None;
        self.current.clear();
        self.budgets.clear();
        self.expired = false;
        self.previous.drop_future(now);
        self.health = Health {
            up: self.health.up,
            polls: self.health.polls,
            failures: self.health.failures,
            last_attempt: self.health.last_attempt,
            duration_seconds: self.health.duration_seconds,
            ..Health::default()
        };
        true
    }

    /// Of what is known, after a poll that failed.
    pub(super) fn what_stays(&self) -> &'static str {
        match (&self.summary, self.expired) {
            (None, _) => "there is no report yet",
            (Some(_), false) => "the last complete report stays",
            (Some(_), true) => "the last complete report is too old to be served",
        }
    }

    /// Remembers why there is no newer report. Budgets that the configuration has no more, which a poll that succeeds takes
    /// away, are gone all the same.
    pub(super) fn fail(&mut self, failed: Failed, plan: &Plan) {
        let budgets = plan.budgets_of(self.report);
        let summary = self.summary.as_mut().map(Arc::make_mut);
        let shown = summary.map(|summary| &mut summary.budgets);
        drop_others(&mut self.current, shown, &mut self.budgets, &budgets);
        self.health.failures[failed.reason as usize] += 1;
        self.failure = Some(failed.failure);
    }

    /// Remembers a complete report, the budgets that it was rendered with, and what is to be published of it.
    pub(super) fn succeed(
        &mut self,
        rendered: Rendered,
        period: BillingPeriod,
        begun: DateTime<Utc>,
        stats: &RequestStats,
        plan: &Plan,
    ) {
        self.health.last_success = Some(begun);
        self.file.unsaved = true;
        self.elsewhere = false;
        self.expired = false;
        self.health.rows = rendered.rows;
        self.health.pages = stats.pages();
        self.health.folded = rendered.folded;
        self.health.settled_windows = self.ledgers.settled(period);
        let is_log = self.health.settled_windows.is_some();
        self.health.unplaced = is_log.then_some(rendered.unplaced);
        self.kept = rendered.kept;
        self.failure = None;
        self.summary = Some(Arc::new(Summary {
            period,
            rows: rendered.rows,
            spend: rendered.spend,
            counts: rendered.counts,
            top: rendered.top,
            budgets: rendered.budgets,
        }));
        self.current = rendered.samples;
        self.current
            .extend(period_samples(plan.tenant.as_deref(), self.report, period));
        self.budgets = fingerprint(&plan.budgets_of(self.report));
        self.previous.advance(period, rendered.closing);
    }
}

pub(super) fn lock(memory: &SharedMemory) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks of whether files are in their place, which takes a rename and a sync of the folder. A reload waits three seconds,
/// so that a shutdown that comes meanwhile still ends in time.
const PLACING_TRIES: u32 = 300;

/// Between two looks at it: a mutex cannot be waited for with a limit.
const PLACING_PAUSE: Duration = Duration::from_millis(10);
