//! State of a report from poll to poll.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::outcome::Failed;
use super::previous::Previous;
use crate::exposition::Samples;
use crate::graph::stats::RequestStats;
use crate::memory::{MemoryPool, Reservation};
use crate::period::BillingPeriod;
use crate::report::allocation::Allocation;
use crate::report::labels::RetainedSeries;
use crate::report::log::Ledgers;
use crate::report::pool::{self, UsedSeconds};
use crate::report::{Rendered, ReportKind};
use crate::report_metrics::{ReportMetrics, period_samples};
use crate::snapshot::{Failure, Polling, State, Summary};
use crate::storage::SavedState;
use crate::tenant::Plan;

/// State of a report. If a reload restarts the tenant's poller, the new poller continues with this state.
pub(crate) struct ReportState {
    pub(super) report: ReportKind,
    pub(super) health: ReportMetrics,
    pub(super) retained: RetainedSeries,
    pub(super) summary: Option<Arc<Summary>>,
    pub(super) failure: Option<Failure>,
    /// Published samples of the current period.
    pub(super) current: Vec<Samples>,
    /// The fingerprint of the allocation with which `current` was rendered. The configured allocation can differ.
    pub(super) allocation: String,
    /// The seconds that pools used in the current period. A restored state has none until its first poll.
    used_seconds: UsedSeconds,
    pub(super) previous: Previous,
    /// Final days of a log, which are not fetched again.
    pub(super) ledgers: Ledgers,
    /// The pool from which polls and final days reserve memory.
    pub(super) memory: Arc<MemoryPool>,
    /// The memory that is reserved for the final days.
    ledger_memory: Reservation,
    /// True if the state file does not contain the newest state.
    pub(super) is_unsaved: bool,
    /// True if the newest complete report is too old to be served.
    pub(super) expired: bool,
    pub(super) next_poll: Option<DateTime<Utc>>,
    pub(super) polling: Polling,
    pub(super) request: PollRequest,
    /// True if a new configuration does not use this state. A retired state is neither published nor saved.
    pub(super) retired: bool,
}

/// Requests for a poll before the next tick.
#[derive(Default)]
pub(super) struct PollRequest {
    /// Wakes the task that waits for the next poll.
    pub(super) retry_requested: Arc<Notify>,
    /// True if the next poll must fetch everything again: the final days of a log and the previous period, too.
    pub(super) refetch: bool,
}

/// Shared state of a report. Only one poller changes it. The lock is never held across an await.
pub(crate) type SharedState = Arc<Mutex<ReportState>>;

impl ReportState {
    /// Returns the state of a report that was never polled, with counters that start at `started`.
    pub(super) fn new(
        report: ReportKind,
        started: DateTime<Utc>,
        memory: Arc<MemoryPool>,
    ) -> SharedState {
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
            allocation: String::new(),
            used_seconds: UsedSeconds::default(),
            previous: Previous::default(),
            ledgers: Ledgers::default(),
            ledger_memory: memory.reservation(),
            memory,
            is_unsaved: false,
            expired: false,
            next_poll: None,
            polling: Polling::default(),
            request: PollRequest::default(),
            retired: false,
        }))
    }

    /// Returns a copy without figures. It keeps only the counters of polls and failures, because a reload must not
    /// reset counters.
    pub(crate) fn counters_only(state: &SharedState) -> SharedState {
        let old = state.lock();
        let fresh = Self::new(old.report, old.health.started, Arc::clone(&old.memory));
        fresh.lock().health = counters(&old.health);
        fresh
    }

    /// Requests a retry if the last poll failed. The retry starts at once. If a poll is in progress, the retry starts
    /// only if that poll fails too.
    pub(crate) fn try_again(state: &SharedState) {
        let state = state.lock();
        if state.failure.is_some() {
            state.request.retry_requested.notify_one();
        }
    }

    /// Requests a poll that fetches everything again. It starts at once. If a poll is in progress, the new poll starts
    /// afterwards, and the poll in progress still uses the known final days.
    pub(crate) fn refetch(state: &SharedState) {
        let mut state = state.lock();
        state.request.refetch = true;
        state.request.retry_requested.notify_one();
    }

    /// If [`refetch`](Self::refetch) was called since the last poll, makes the new poll fetch everything again: forgets
    /// the final days and the time of the last fetch of the previous period. Published figures stay.
    pub(super) fn begin_refetch(&mut self) {
        if std::mem::take(&mut self.request.refetch) {
            self.ledgers = Ledgers::default();
            self.count_ledgers();
            self.previous.refetch();
            self.is_unsaved |= self.health.last_success.is_some();
        }
    }

    /// Marks the state as not saved, because the location of the state file changed.
    pub(crate) fn mark_unsaved(state: &SharedState) {
        let mut state = state.lock();
        state.is_unsaved |= state.health.last_success.is_some() || state.ledgers.has_days();
    }

    /// Drops figures of a billing period that has not begun. They were fetched while the clock was ahead. Returns true
    /// if there were such figures. The final days stay, because a day becomes final only if it has ended
    /// by the service's clock too.
    pub(super) fn drop_future(&mut self, now: DateTime<Utc>) -> bool {
        let is_future = |summary: &Arc<Summary>| summary.period.start() > now;
        if !self.summary.as_ref().is_some_and(is_future) {
            return false;
        }
        self.summary = None;
        self.current.clear();
        self.allocation.clear();
        self.expired = false;
        self.previous.drop_future(now);
        self.health = ReportMetrics {
            up: self.health.up,
            last_attempt: self.health.last_attempt,
            duration_seconds: self.health.duration_seconds,
            ..counters(&self.health)
        };
        true
    }

    /// Returns the samples to serve. `now` is the billing period that contains the current time.
    pub(super) fn served(&self, now: BillingPeriod) -> Vec<Samples> {
        // If no current figures are served, the clock decides which period is the previous one.
        let (current, previous) = if self.expired {
            (&[][..], Some(now.previous()))
        } else {
            (self.current.as_slice(), None)
        };
        let previous = self.previous.samples(previous);
        current.iter().cloned().chain(previous).collect()
    }

    /// Returns the state for the status page and for `/-/ready`.
    pub(super) fn published(&self, tenant: Option<Arc<str>>) -> State {
        State {
            tenant,
            report: self.report,
            last_attempt: self.health.last_attempt,
            last_success: self.health.last_success,
            next_poll: self.next_poll,
            failure: self.failure.clone(),
            summary: self.summary.clone().filter(|_| !self.expired),
            expired: self.expired,
            polling: self.polling.clone(),
        }
    }

    /// Returns log text that states which figures remain after a failed poll.
    pub(super) fn remaining(&self) -> &'static str {
        match (&self.summary, self.expired) {
            (None, _) => "there is no report yet",
            (Some(_), false) => "the last complete report stays",
            (Some(_), true) => "the last complete report is too old to be served",
        }
    }

    /// Records a failure. Like a successful poll, removes figures of budgets and departments that are no longer
    /// configured.
    pub(super) fn fail(&mut self, failed: Failed, plan: &Plan) {
        let allocation = plan.allocation_of(self.report);
        let summary = self.summary.as_mut().map(Arc::make_mut);
        let shown = summary.map(|summary| &mut summary.allocated);
        allocation.drop_others(&mut self.current, shown, &mut self.allocation);
        self.health.failures[failed.reason as usize] += 1;
        self.failure = Some(failed.failure);
    }

    /// Records a complete report, the allocation that it was rendered with, and the samples to publish.
    pub(super) fn succeed(
        &mut self,
        rendered: Rendered,
        period: BillingPeriod,
        begun: DateTime<Utc>,
        stats: &RequestStats,
        plan: &Plan,
    ) {
        let polled = self.health.last_success.replace(begun);
        self.is_unsaved = true;
        self.expired = false;
        self.health.rows = rendered.rows;
        // While the report has no rows at the start of a period, the newest row of the previous period stays.
        self.health.newest_row = self.health.newest_row.max(rendered.newest);
        self.health.pages = stats.pages();
        self.health.aggregated = rendered.aggregated;
        self.health.final_windows = self.ledgers.final_days(period);
        let is_log = self.health.final_windows.is_some();
        self.health.unplaced = is_log.then_some(rendered.unplaced);
        self.retained = rendered.retained;
        self.failure = None;
        self.summary = Some(Arc::new(Summary {
            period,
            rows: rendered.rows,
            newest: self.health.newest_row,
            spend: rendered.spend,
            counts: rendered.counts,
            top: rendered.top,
            allocated: rendered.allocated,
        }));
        self.current = rendered.samples;
        self.current
            .extend(period_samples(plan.tenant.as_deref(), self.report, period));
        self.allocation = plan.allocation_of(self.report).shown_fingerprint();
        let ended = std::mem::replace(&mut self.used_seconds, rendered.used_seconds);
        let ended = polled.map(|at| (at, ended));
        self.previous.advance(period, rendered.closing, ended);
        self.show_pools(period, begun, plan);
    }

    /// Updates the pools in samples and summary, if the current figures are of `period` and were fetched at `now`. If
    /// the calendar month of `now` began in the previous period, adds the month's seconds from that period. If these
    /// are unknown, the pools have no value.
    pub(super) fn show_pools(&mut self, period: BillingPeriod, now: DateTime<Utc>, plan: &Plan) {
        // If the clock was set back during the fetch of the previous period, the figures of `period` may be gone.
        let Some(summary) = self.summary.as_mut().filter(|is| is.period == period) else {
            return;
        };
        let pools = plan.pools_of(self.report);
        let previous = self.previous.used_seconds(period.previous(), now);
        let used = self.used_seconds.in_month(pools, period, now, previous);
        Arc::make_mut(summary).allocated.pools = pool::for_page(pools, &used);
        let is_of_pools = |samples: &Samples| pool::FAMILIES.contains(&samples.family);
        self.current.retain(|samples| !is_of_pools(samples));
        let samples = pool::samples(pools, &used, plan.tenant.as_deref());
        self.current.extend(samples);
    }

    /// Returns the state to write, if the state file does not contain the newest state. The state then counts as saved.
    pub(super) fn take_unsaved(&mut self) -> Option<SavedState> {
        let is_wanted = std::mem::take(&mut self.is_unsaved) && !self.retired;
        is_wanted.then(|| SavedState {
            last_success: self.health.last_success,
            pages: self.health.pages,
            aggregated: self.health.aggregated,
            unplaced: self.health.unplaced,
            summary: self.summary.as_deref().cloned(),
            current: self.current.clone(),
            allocation: self.allocation.clone(),
            closing: self.previous.closing.clone(),
            closed: self.previous.closed.clone(),
            ledgers: self.ledgers.clone(),
        })
    }

    /// Restores a saved state. Leaves out the final days of another allocation. If the saved budgets, departments,
    /// thresholds or pools differ from those of `allocation`, also leaves out the current figures of budgets,
    /// departments and pools.
    pub(super) fn restore(&mut self, mut saved: SavedState, allocation: &Allocation) {
        let shown = saved.summary.as_mut();
        let shown = shown.map(|summary| &mut summary.allocated);
        allocation.drop_others(&mut saved.current, shown, &mut saved.allocation);
        saved.ledgers.keep_only(allocation);
        // If the final days do not fit into memory, they are fetched again. A file from a process with more memory must
        // not take the memory that other reports need.
        if self.ledger_memory.resize(saved.ledgers.bytes()).is_err() {
            saved.ledgers = Ledgers::default();
        }
        let summary = saved.summary.as_ref();
        self.health = ReportMetrics {
            started: self.health.started,
            last_success: saved.last_success,
            rows: summary.map_or(0, |summary| summary.rows),
            newest_row: summary.and_then(|summary| summary.newest),
            pages: saved.pages,
            aggregated: saved.aggregated,
            unplaced: saved.unplaced,
            final_windows: summary.and_then(|summary| saved.ledgers.final_days(summary.period)),
            ..ReportMetrics::default()
        };
        self.summary = saved.summary.map(Arc::new);
        self.current = saved.current;
        self.allocation = saved.allocation;
        self.previous.closing = saved.closing;
        self.previous.closed = saved.closed;
        self.ledgers = saved.ledgers;
        self.count_ledgers();
    }

    /// Updates the reservation to the memory that the final days take now.
    pub(super) fn count_ledgers(&mut self) {
        self.ledger_memory.hold(self.ledgers.bytes());
    }
}

/// Returns the counters of polls and failures with their start time, without any figures.
fn counters(health: &ReportMetrics) -> ReportMetrics {
    ReportMetrics {
        started: health.started,
        polls: health.polls,
        failures: health.failures,
        ..ReportMetrics::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::period::CycleDay;
    use crate::report::allocation::AllocatedSummary;

    #[test]
    fn counters_and_their_start_outlive_figures_of_a_future_period() {
        let started = "2026-12-05T00:00:00Z".parse().unwrap();
        let memory = MemoryPool::for_process(None).for_report();
        let state = ReportState::new(ReportKind::Dialout, started, memory);
        let mut state = state.lock();
        state.health.polls = 3;
        state.health.rows = 7;
        state.summary = Some(Arc::new(Summary {
            period: BillingPeriod::containing(started, CycleDay::default()),
            rows: 7,
            newest: None,
            spend: Vec::new(),
            counts: Vec::new(),
            top: Vec::new(),
            allocated: AllocatedSummary::default(),
        }));
        assert!(state.drop_future("2026-11-20T12:00:00Z".parse().unwrap()));
        let health = &state.health;
        assert_eq!((health.started, health.polls, health.rows), (started, 3, 0));
    }
}
