//! State of a report from poll to poll.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::outcome::Failed;
use super::previous::Previous;
use crate::exposition::Samples;
use crate::graph::stats::RequestStats;
use crate::period::BillingPeriod;
use crate::report::budget::{drop_others, fingerprint};
use crate::report::labels::RetainedSeries;
use crate::report::log::Ledgers;
use crate::report::{Rendered, ReportKind};
use crate::report_metrics::{ReportMetrics, period_samples};
use crate::snapshot::{Failure, Summary};
use crate::tenant::Plan;

/// State of a report from poll to poll. It is passed on when the configuration changes.
pub(crate) struct ReportState {
    pub(super) report: ReportKind,
    pub(super) health: ReportMetrics,
    pub(super) retained: RetainedSeries,
    pub(super) summary: Option<Arc<Summary>>,
    pub(super) failure: Option<Failure>,
    /// Published samples of the current period.
    pub(super) current: Vec<Samples>,
    /// The fingerprint of the budgets in `current`, which can differ from the configured ones.
    pub(super) budgets: String,
    pub(super) previous: Previous,
    /// Final days of a log, which are not fetched again.
    pub(super) ledgers: Ledgers,
    pub(super) file: FileStatus,
    /// The newest complete report is too old to be served.
    pub(super) expired: bool,
    pub(super) next_poll: Option<DateTime<Utc>>,
    pub(super) request: PollRequest,
    /// The configuration has changed, and nothing of this is published any more.
    pub(super) retired: bool,
}

/// Requests for a poll before the next tick.
#[derive(Default)]
pub(super) struct PollRequest {
    /// Wakes the task that waits for the next poll.
    pub(super) retry_requested: Arc<Notify>,
    /// The poll forgets the final days first.
    pub(super) refetch: bool,
}

/// Status of the state file.
#[derive(Default)]
pub(super) struct FileStatus {
    /// The file lacks the newest state.
    pub(super) unsaved: bool,
    /// A write is under way or hangs.
    pub(super) writing: bool,
    /// Held across the final rename, which may block on a hung disk. The poll and serve paths never take it.
    pub(super) placing: Arc<Mutex<()>>,
}

/// State that one poller writes; never locked across an await.
pub(crate) type SharedState = Arc<Mutex<ReportState>>;

impl ReportState {
    /// The state of an untried report, with counters that start at `started`.
    pub(super) fn new(report: ReportKind, started: DateTime<Utc>) -> SharedState {
        let retained = RetainedSeries::default();
        let health = ReportMetrics {
            started,
            ..ReportMetrics::default()
        };
        Arc::new(Mutex::new(Self {
            report,
            health,
            retained,
            summary: None,
            failure: None,
            current: Vec::new(),
            budgets: String::new(),
            previous: Previous::default(),
            ledgers: Ledgers::default(),
            file: FileStatus::default(),
            expired: false,
            next_poll: None,
            request: PollRequest::default(),
            retired: false,
        }))
    }

    /// The report.
    pub(crate) fn report(state: &SharedState) -> ReportKind {
        lock(state).report
    }

    /// Keeps only the counters of polls and failures, which must not reset on a reload. Drops all figures.
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

    /// Requests a retry if the last poll failed: at once, or after the poll under way if that fails too.
    pub(crate) fn try_again(state: &SharedState) {
        let state = lock(state);
        if state.failure.is_some() {
            state.request.retry_requested.notify_one();
        }
    }

    /// Makes the next poll fetch everything again. It comes at once, or after the poll under way, which still uses
    /// the final days that it knows.
    pub(crate) fn refetch(state: &SharedState) {
        let mut state = lock(state);
        state.request.refetch = true;
        state.request.retry_requested.notify_one();
    }

    /// Forgets the final days and when the previous period was fetched, if that was requested. Published figures
    /// stay.
    pub(super) fn begin_refetch(&mut self) {
        if std::mem::take(&mut self.request.refetch) {
            self.ledgers = Ledgers::default();
            self.previous.refetch();
            self.file.unsaved |= self.health.last_success.is_some();
        }
    }

    /// Marks the state as not saved, because the location of the state file changed.
    pub(crate) fn mark_unsaved(state: &SharedState) {
        let mut state = lock(state);
        state.file.unsaved |= state.health.last_success.is_some() || state.ledgers.has_days();
    }

    /// Marks reports as retired: a poll under way publishes nothing more, and a file that is being written is not put
    /// in place.
    pub(crate) fn retire(states: &[SharedState]) {
        for state in states {
            lock(state).retired = true;
        }
    }

    /// Waits for files that are being put in place. The folder is in its final state then, because the reports are
    /// retired. If the disk does not answer, the wait ends; the next start removes what should not be there.
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
                        "a state file is still being written; it may have user labels of the previous labels.user"
                    );
                    return;
                }
                std::thread::sleep(PLACING_PAUSE);
            }
        }
    }

    /// Drops the figures of a billing period that has not begun, which come from a clock that was ahead. Returns true
    /// if there were any. The final days stay: they depend on the clock of the service too.
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

    /// Log text about the current figures after a failed poll.
    pub(super) fn remaining(&self) -> &'static str {
        match (&self.summary, self.expired) {
            (None, _) => "there is no report yet",
            (Some(_), false) => "the last complete report stays",
            (Some(_), true) => "the last complete report is too old to be served",
        }
    }

    /// Records a failure. Budgets that are no longer configured are removed here too, as a successful poll would.
    pub(super) fn fail(&mut self, failed: Failed, plan: &Plan) {
        let budgets = plan.budgets_of(self.report);
        let summary = self.summary.as_mut().map(Arc::make_mut);
        let shown = summary.map(|summary| &mut summary.budgets);
        drop_others(&mut self.current, shown, &mut self.budgets, &budgets);
        self.health.failures[failed.reason as usize] += 1;
        self.failure = Some(failed.failure);
    }

    /// Records a complete report, the budgets that it was rendered with, and the samples to publish.
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
        self.expired = false;
        self.health.rows = rendered.rows;
        self.health.pages = stats.pages();
        self.health.folded = rendered.aggregated;
        self.health.settled_windows = self.ledgers.final_days(period);
        let is_log = self.health.settled_windows.is_some();
        self.health.unplaced = is_log.then_some(rendered.unplaced);
        self.retained = rendered.retained;
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

/// Number of checks until files are in place, which takes a rename and a sync of the folder. A reload waits three seconds,
/// so that a shutdown that comes meanwhile still ends in time.
const PLACING_TRIES: u32 = 300;

/// Pause between two checks: a mutex has no lock with a time limit.
const PLACING_PAUSE: Duration = Duration::from_millis(10);
