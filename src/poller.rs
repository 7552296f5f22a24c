//! The poll loop, and the only place where the other parts meet.
//!
//! One task polls each tenant. A poll takes no input and is idempotent. Its requests are retried until its deadline.
//! The poll itself is not retried, because the next tick polls again. A failed poll keeps the last complete report and
//! publishes the failure in addition. A successful poll replaces figures, period and report metrics in one step.
//!
//! A poll can be stopped at any time by dropping its future, because a poll only reads, and publishes only complete
//! values.

mod fetch;
mod fleet;
mod outcome;
mod persist;
mod previous;
mod schedule;
mod state;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::graph::{FailureReason, Graph};
use crate::memory::MemoryPool;
use crate::period::{BillingPeriod, Clock, Span};
use crate::report::ReportKind;
use crate::report::labels::RetainedSeries;
use crate::report_metrics::expiry_samples;
use crate::snapshot::{Key, Publisher};
use crate::telemetry::Telemetry;
use crate::tenant::{Plan, ReportPlan};

use fetch::Fetch;
use outcome::{StatsGuard, log_failure, log_success};
use persist::{StorageLog, Write, Writer};
use state::{ReportState, SharedState};

pub(crate) use fleet::Fleet;

/// Resources that all tenants share.
#[derive(Clone, Debug)]
struct Shared {
    publisher: Arc<Publisher>,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    runtime: Handle,
    /// Limit of parallel polls over all tenants. A poll that takes longer than [`PERMIT_TIME`] returns its permit.
    permits: Arc<Semaphore>,
    /// Limit of polls in progress, including polls that have returned their permit.
    under_way: Arc<Semaphore>,
    memory: Arc<MemoryPool>,
    writer: Writer,
    /// True to fetch the previous period too.
    previous: bool,
}

/// Polls one tenant until it is dropped.
struct Poller {
    plan: Arc<Plan>,
    graph: Graph,
    shared: Shared,
    states: Vec<SharedState>,
}

impl Poller {
    /// Returns a poller, and publishes the known state of each report. A report without an entry in `states` is
    /// restored from its state file, or starts with an empty state.
    fn new(plan: Arc<Plan>, graph: Graph, shared: Shared, states: &[SharedState]) -> Self {
        let mut poller = Self {
            plan,
            graph,
            shared,
            states: Vec::new(),
        };
        let remembered = |&ReportPlan { report, .. }: &ReportPlan| {
            states
                .iter()
                .find(|state| state.lock().report == report)
                .map_or_else(|| poller.restored_or_new(report), Arc::clone)
        };
        poller.states = poller.plan.reports.iter().map(remembered).collect();
        for state in &poller.states {
            poller.expire(state);
            poller.publish(&state.lock());
        }
        poller
    }

    /// Returns the state from the state file, or an empty state if there is no usable file.
    fn restored_or_new(&self, report: ReportKind) -> SharedState {
        let memory = self.shared.memory.for_report();
        let state = ReportState::new(report, self.shared.clock.now(), memory);
        if let Some(saved) = persist::restore(&self.plan, &self.shared, report) {
            state
                .lock()
                .restore(saved, &self.plan.allocation_of(report));
        }
        state
    }

    /// Polls each report immediately, then at every tick of its interval and at every start of a billing period. Polls
    /// a report with pools of included minutes at every start of a calendar month too. Each report has its own loop, so
    /// a report that stalls does not delay the others.
    async fn run(self) {
        let started = Instant::now();
        let loops = self.states.iter();
        join_all(loops.map(|state| self.run_report(state, started))).await;
    }

    async fn run_report(&self, state: &SharedState, started: Instant) {
        // Number of retries that reloads have requested since the last tick.
        let mut retries = 0;
        loop {
            let mut turn = pin!(self.queue_and_poll(state, started));
            let current = loop {
                tokio::select! {
                    current = &mut turn => break current,
                    () = tokio::time::sleep(CLOCK_CHECK) => self.expire(state),
                }
            };
            let (report, has_failed) = {
                let state = state.lock();
                (state.report, state.failure.is_some())
            };
            let tick = self.tick(report, started, has_failed);
            tokio::select! {
                () = self.sleep_until(state, tick, current) => retries = 0,
                () = self.retry_requested(state, schedule::retry_pause(retries)) => retries += 1,
            }
        }
    }

    /// Waits for a permit in one queue for all tenants. Then polls, and returns the time span in which the figures are
    /// current.
    async fn queue_and_poll(&self, state: &SharedState, started: Instant) -> Span {
        let _under_way = self.shared.under_way.acquire().await.expect("never closed");
        // Polls receive permits in the order in which they ask. A poll asks only after its tick. If it asked earlier,
        // the polls behind it in the queue would wait for that tick.
        let permit = self.shared.permits.acquire().await.expect("never closed");
        let now = self.shared.clock.now();
        let period = BillingPeriod::containing(now, self.plan.cycle_day);
        let mut polling = pin!(self.poll(state, period, started));
        let in_time = tokio::time::timeout(PERMIT_TIME, &mut polling).await;
        // Lets another poll start. This poll has ended, or it takes long and goes on without a permit.
        drop(permit);
        if in_time.is_err() {
            polling.await;
        }
        self.plan.current(state.lock().report, period, now)
    }

    /// Polls one report once and records the outcome, success or failure.
    async fn poll(&self, state: &SharedState, period: BillingPeriod, started: Instant) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let stats = StatsGuard::new(&self.shared.telemetry);
        let (report, retained, under_way) = {
            let mut state = state.lock();
            state.begin_refetch();
            let under_way = state.polling.begin();
            (state.report, state.retained.clone(), under_way)
        };
        let tick = self.tick(report, started, false);
        let fetch = Fetch {
            poller: self,
            report,
            state,
            period,
            now: begun,
            deadline: start + self.plan.timeout,
            retained,
            stats: &stats,
        };
        let outcome = fetch.run().await;
        let duration = start.elapsed();
        let tenant = self.plan.tenant.as_deref();
        let previous_is_due = {
            let mut state = state.lock();
            let succeeded = outcome.is_ok();
            state.health.polls += 1;
            state.health.last_attempt = Some(begun);
            state.health.duration_seconds = duration.as_secs_f64();
            state.health.up = succeeded;
            match outcome {
                Ok(rendered) => {
                    log_success(tenant, report, period, &rendered, &stats, duration);
                    state.succeed(rendered, period, begun, &stats, &self.plan);
                }
                Err(failed) => {
                    log_failure(tenant, report, period, &failed, duration, state.remaining());
                    state.fail(failed, &self.plan);
                }
            }
            // Dropping `stats` adds the requests of this poll to the counters before they are published.
            drop((stats, under_way));
            let next = if succeeded {
                tick
            } else {
                self.tick(report, started, true)
            };
            let current = self.plan.current(report, period, begun);
            state.next_poll = Some(schedule::due(&self.shared.clock, next, current));
            self.publish(&state);
            let time_left = tick > Instant::now();
            let wanted = self.shared.previous && report.info().has_previous();
            let in_previous = begun < period.first_of_month();
            let pools = self.plan.pools_of(report).iter().filter(|_| in_previous);
            succeeded && time_left && wanted && state.previous.is_due(begun, pools)
        };
        // Saves before the previous period is fetched, because that fetch can take until the next tick.
        self.save(state);
        if previous_is_due {
            self.poll_previous(state, period, begun, tick).await;
            self.save(state);
        }
    }

    /// Publishes the figures and metrics of a report, and the expiry of the tenant's token and credential.
    fn publish(&self, state: &ReportState) {
        if state.retired {
            return;
        }
        let (plan, publisher) = (&self.plan, &self.shared.publisher);
        let now = self.shared.clock.now();
        let key = |report| Key {
            tenant: plan.tenant.clone(),
            report,
        };
        publisher.update(
            key(Some(state.report)),
            state.served(BillingPeriod::containing(now, plan.cycle_day)),
            state.health.samples(plan.tenant.as_deref(), state.report),
            Some(state.published(plan.tenant.clone())),
        );
        let tokens = &self.graph.tokens;
        let token_left = tokens.expires_in().map(TimeDelta::from_std);
        let token_expiry = token_left.and_then(|left| Some(now + left.ok()?));
        let credential_expiry = plan
            .credential_expiry
            .or_else(|| tokens.credential_expiry());
        let samples = expiry_samples(plan.tenant.as_deref(), token_expiry, credential_expiry);
        publisher.update(key(None), Vec::new(), samples, None);
    }

    /// Stops serving figures if they are too old, or if the clock was set back to before their billing period.
    fn expire(&self, state: &SharedState) {
        let now = self.shared.clock.now();
        let mut state = state.lock();
        if state.drop_future(now) {
            tracing::warn!(
                tenant = self.plan.tenant.as_deref(),
                report = state.report.as_str(),
                remedy = "if the clock is wrong now, set it; otherwise nothing is needed",
                "figures are no longer served: the clock was set back to before their billing period"
            );
            self.publish(&state);
        }
        // `last` is in the future if the clock was wrong. Its distance from now is then used as the age.
        let too_old = |last: DateTime<Utc>| {
            let max_age = self.plan.max_age;
            max_age.is_some_and(|max_age| (now - last).abs() > max_age)
        };
        let expired = state.health.last_success.is_some_and(too_old);
        if expired == state.expired {
            return;
        }
        state.expired = expired;
        if expired {
            tracing::warn!(
                tenant = self.plan.tenant.as_deref(),
                report = state.report.as_str(),
                "the newest complete report is older than poll.max_age and is no longer served"
            );
        }
        self.publish(&state);
    }

    /// Queues the state for the writer of state files, if it has changed.
    fn save(&self, state: &SharedState) {
        let report = state.lock().report;
        let Some(file) = self.plan.file(report) else {
            return;
        };
        let Some(saved) = state.lock().take_unsaved() else {
            return;
        };
        self.shared.writer.push(Write {
            file,
            saved,
            state: Arc::clone(state),
            log: StorageLog::new(&self.plan, &self.shared, report),
        });
    }

    /// Fetches the previous period once. If the fetch fails, the last figures stay and a later poll tries again. The
    /// fetch ends at `tick`, so that it does not delay the next poll. `polled` is the time of the last poll of the
    /// `current` period.
    async fn poll_previous(
        &self,
        state: &SharedState,
        current: BillingPeriod,
        polled: DateTime<Utc>,
        tick: Instant,
    ) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let report = state.lock().report;
        let period = current.previous();
        let limit = start + self.plan.timeout;
        let stats = StatsGuard::new(&self.shared.telemetry);
        let fetch = Fetch {
            poller: self,
            report,
            state,
            period,
            now: begun,
            deadline: tick.min(limit),
            retained: RetainedSeries::default(),
            stats: &stats,
        };
        let outcome = fetch.run().await;
        let tenant = self.plan.tenant.as_deref();
        let mut state = state.lock();
        state.health.polls += 1;
        match outcome {
            Ok(rendered) => {
                log_success(tenant, report, period, &rendered, &stats, start.elapsed());
                let (closing, used_seconds) = (rendered.closing, rendered.used_seconds);
                state.previous.replace(period, closing, used_seconds, begun);
                state.show_pools(current, polled, &self.plan);
                state.is_unsaved = true;
            }
            Err(mut failed) => {
                if failed.reason == FailureReason::Timeout && tick < limit {
                    failed.failure.remedy = CUT_OFF_REMEDY;
                }
                let remaining = state.previous.remaining();
                log_failure(tenant, report, period, &failed, start.elapsed(), remaining);
                state.previous.failed = Some(begun);
                state.health.failures[failed.reason as usize] += 1;
            }
        }
        drop(stats);
        let current = self.plan.current(report, current, polled);
        state.next_poll = Some(schedule::due(&self.shared.clock, tick, current));
        self.publish(&state);
    }

    /// Returns the first tick after now. After a failed poll, the retry interval applies, which is never longer. A log
    /// that is too long for one poll needs several polls. At the normal interval, its figures would be missing for
    /// hours.
    fn tick(&self, report: ReportKind, started: Instant, has_failed: bool) -> Instant {
        let plan = self.plan.report(report);
        let interval = if has_failed {
            plan.retry_interval
        } else {
            plan.interval
        };
        let first = started + interval.mul_f64(self.plan.phase);
        schedule::next_tick(first, interval, Instant::now())
    }

    /// Waits until a reload requests a poll of this report, and for at least `pause`. A request counts only if the last
    /// poll failed or the reload wants to fetch everything again. Finally drops the cached token, so that new
    /// permissions take effect.
    async fn retry_requested(&self, state: &SharedState, pause: Duration) {
        let not_before = Instant::now() + pause;
        let retry_requested = Arc::clone(&state.lock().request.retry_requested);
        loop {
            retry_requested.notified().await;
            let is_wanted = {
                let state = state.lock();
                state.failure.is_some() || state.request.refetch
            };
            if is_wanted {
                tokio::time::sleep_until(not_before).await;
                return self.graph.tokens.clear();
            }
        }
    }

    /// Sleeps until the tick, or until the clock leaves the time span in which the figures are current.
    async fn sleep_until(&self, state: &SharedState, tick: Instant, current: Span) {
        loop {
            self.expire(state);
            let now = Instant::now();
            let time = self.shared.clock.now();
            let boundary = (current.end() - time).to_std().unwrap_or_default();
            let is_set_back = time < current.start();
            if now >= tick || boundary.is_zero() || is_set_back {
                return;
            }
            tokio::time::sleep_until(tick.min(now + boundary).min(now + CLOCK_CHECK)).await;
        }
    }
}

/// The remedy if the fetch of the previous period was cut off by the next poll. A longer `poll.timeout` would change
/// nothing.
const CUT_OFF_REMEDY: &str = "if a later poll succeeds, nothing is needed; if it persists, raise the interval of the report or find out what slows the network";

/// Time after which a poll returns its permit, so that a slow poll does not block others. Most polls end earlier.
const PERMIT_TIME: Duration = Duration::from_secs(2);

/// Interval of wall clock checks during a sleep. Timers cannot replace them, because the wall clock can be set, and
/// goes on while the machine is suspended.
const CLOCK_CHECK: Duration = Duration::from_mins(1);
