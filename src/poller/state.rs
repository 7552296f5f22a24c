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
use crate::period::BillingPeriod;
use crate::report::budget::{drop_others, fingerprint};
use crate::report::labels::Kept;
use crate::report::log::Ledgers;
use crate::report::{Rendered, ReportKind};
use crate::report_metrics::{ReportMetrics, period_samples};
use crate::snapshot::{Failure, Summary};

/// What is remembered of a report from poll to poll, and passed on when the configuration changes.
pub(crate) struct ReportState {
    pub(super) report: ReportKind,
    pub(super) health: ReportMetrics,
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
    pub(super) file: FileStatus,
    /// What is served was told by another service than the one that is asked now: none of it goes into a state file.
    pub(super) is_from_old_source: bool,
    /// The newest complete report is too old to be served.
    pub(super) expired: bool,
    pub(super) next_poll: Option<DateTime<Utc>>,
    pub(super) request: PollRequest,
    /// The configuration has changed so that nothing of this may be published any more.
    pub(super) retired: bool,
}

/// A poll that is requested before its time.
#[derive(Default)]
pub(super) struct PollRequest {
    /// Wakes who waits for the next poll.
    pub(super) retry_requested: Arc<Notify>,
    /// The poll forgets the settled days first.
    pub(super) refetch: bool,
}

/// What has become of it on the disk.
#[derive(Default)]
pub(super) struct FileStatus {
    /// Something is not in it yet.
    pub(super) unsaved: bool,
    /// It is being written, or that hangs.
    pub(super) writing: bool,
    /// Held while it gets its place, which a disk may make last for ever: so nobody who serves or polls takes it.
    pub(super) placing: Arc<Mutex<()>>,
}

/// Written by one poller only; never locked across an await.
pub(crate) type SharedState = Arc<Mutex<ReportState>>;

impl ReportState {
    /// A report of which nothing is known; its counters start at `started`.
    pub(super) fn new(report: ReportKind, started: DateTime<Utc>) -> SharedState {
        let kept = Kept::default();
        let health = ReportMetrics {
            started,
            ..ReportMetrics::default()
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
            file: FileStatus::default(),
            is_from_old_source: false,
            expired: false,
            next_poll: None,
            request: PollRequest::default(),
            retired: false,
        }))
    }

    /// What it is of.
    pub(crate) fn report(state: &SharedState) -> ReportKind {
        lock(state).report
    }

    /// Of another configuration's numbers only this is kept: how many polls there were, and how they failed. What is said
    /// of a report that is forgotten is forgotten too.
    pub(crate) fn counters_only(state: &SharedState) -> SharedState {
        let old = lock(state);
        let fresh = Self::new(old.report, old.health.started);
        lock(&fresh).health = ReportMetrics {
            started: old.health.started,
            polls: old.health.polls,
            failures: old.health.failures,
            ..ReportMetrics::default()
        };
        fresh
    }

    /// Of a service that is no longer asked: what is served stays until the other has told all of it, but nothing is built
    /// on it, and the period before is to be asked for again.
    pub(crate) fn after_source_change(state: &SharedState) -> SharedState {
        let old = lock(state);
        let state = Self::new(old.report, old.health.started);
        let mut fresh = lock(&state);
        fresh.health = ReportMetrics {
            settled_windows: None,
            unplaced: None,
            ..old.health.clone()
        };
        fresh.summary.clone_from(&old.summary);
        fresh.failure.clone_from(&old.failure);
        fresh.current.clone_from(&old.current);
        fresh.budgets.clone_from(&old.budgets);
        fresh.previous = old.previous.after_source_change();
        fresh.expired = old.expired;
        fresh.next_poll = old.next_poll;
        fresh.is_from_old_source = true;
        drop(fresh);
        state
    }

    /// Where the last poll failed, the next one comes at once, or after the one that is under way if that fails too.
    pub(crate) fn try_again(state: &SharedState) {
        let state = lock(state);
        if state.failure.is_some() {
            state.request.retry_requested.notify_one();
        }
    }

    /// The next poll fetches everything again. It comes at once, or after the one that is under way, which goes on with the
    /// settled days that it knows.
    pub(crate) fn refetch(state: &SharedState) {
        let mut state = lock(state);
        state.request.refetch = true;
        state.request.retry_requested.notify_one();
    }

    /// Forgets the settled days and when the period before was fetched, if that is requested. What is published stays.
    pub(super) fn begin_refetch(&mut self) {
        if std::mem::take(&mut self.request.refetch) {
            self.ledgers = Ledgers::default();
            self.previous.refetch();
            self.file.unsaved |= self.health.last_success.is_some();
        }
    }

    /// It has another place from now on, and is not there yet.
    pub(crate) fn mark_unsaved(state: &SharedState) {
        let mut state = lock(state);
        state.file.unsaved |= state.health.last_success.is_some() || state.ledgers.has_days();
    }

    /// From now on a poll that is still under way publishes nothing, and no file of it gets a place that has not got it yet.
    pub(crate) fn retire(states: &[SharedState]) {
        for state in states {
            lock(state).retired = true;
        }
    }

    /// Waits for files that are getting their place: what is in the folder then is what they were, retired, in the end. A
    /// disk that does not answer is not waited for any longer; the next start removes what it should not have.
    pub(crate) fn wait_for_files(states: &[SharedState]) {
        let mut tries = PLACING_TRIES;
        for state in states {
            let placing = Arc::clone(&lock(state).file.placing);
            while let Err(TryLockError::WouldBlock) = placing.try_lock() {
                tries -= 1;
                if tries == 0 {
                    tracing::warn!(
                        report = lock(state).report.as_str(),
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
        self.health = ReportMetrics {
            up: self.health.up,
            polls: self.health.polls,
            failures: self.health.failures,
            last_attempt: self.health.last_attempt,
            duration_seconds: self.health.duration_seconds,
            ..ReportMetrics::default()
        };
        true
    }

    /// Of what is known, after a poll that failed.
    pub(super) fn remaining(&self) -> &'static str {
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
        self.is_from_old_source = false;
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

pub(super) fn lock(state: &SharedState) -> MutexGuard<'_, ReportState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks of whether files are in their place, which takes a rename and a sync of the folder. A reload waits three seconds,
/// so that a shutdown that comes meanwhile still ends in time.
const PLACING_TRIES: u32 = 300;

/// Between two looks at it: a mutex cannot be waited for with a limit.
const PLACING_PAUSE: Duration = Duration::from_millis(10);
