//! The loop, and the only place where the other parts meet.
//!
//! One task per tenant: a poll takes no input, is idempotent, and is its own retry at the next tick. Requests are
//! retried inside the poll's deadline; around the cycle nothing is. A poll that fails leaves the last complete report in
//! place and says so beside it; a poll that succeeds replaces numbers, period and health in one step.
//!
//! Stopping it is dropping it: it only reads, and publishes whole values.

mod fetch;
mod fleet;
mod outcome;
mod previous;
mod publish;
mod restart;
pub(crate) mod setup;
mod state;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::graph::Graph;
use crate::period::{BillingPeriod, Clock, CycleDay};
use crate::report::ReportKind;
use crate::report::budget::Budget;
use crate::report::labels::{Kept, Naming};
use crate::snapshot::Publisher;
use crate::storage::Identity;
use crate::telemetry::Telemetry;

use fetch::FetchContext;
use outcome::{StatsGuard, log_failure, log_success};
use state::{SharedState, lock};

pub use fleet::Fleet;
pub use setup::FleetError;

/// What all tenants share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where reports go.
    pub publisher: Arc<Publisher>,
    /// Where requests are counted.
    pub telemetry: Arc<Telemetry>,
    /// The time of day.
    pub clock: Clock,
    /// Polls that run side by side at full speed, over all tenants.
    pub permits: Arc<Semaphore>,
    /// Polls under way, those of tenants that stall included.
    pub under_way: Arc<Semaphore>,
    /// State files that are written side by side, those that a disk does not take included.
    pub writes: Arc<Semaphore>,
    /// Whether the period before is fetched too.
    pub previous: bool,
}

/// How one tenant is polled.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The tenant's name, where tenants are named.
    pub tenant: Option<Arc<str>>,
    /// Between the starts of two polls.
    pub interval: Duration,
    /// Before the second poll, up to one interval: spreads tenants over time, the same at every start.
    pub phase: Duration,
    /// For one report, all pages and retries.
    pub timeout: Duration,
    /// Day on which the billing period starts.
    pub cycle_day: CycleDay,
    /// The reports to poll.
    pub reports: Vec<ReportKind>,
    /// How people are named.
    pub naming: Naming,
    /// Series per report; what is beyond is folded.
    pub series_max: usize,
    /// The budgets of the tenant, each with the report that it is spent in.
    pub budgets: Vec<(ReportKind, Budget)>,
    /// When the credential expires, where the configuration states it.
    pub credential_expiry: Option<DateTime<Utc>>,
    /// How old a report may be that is served; any age where there is none.
    pub max_age: Option<TimeDelta>,
    /// Where reports are kept over a restart, if they are.
    pub(crate) storage: Option<Storage>,
}

/// Where the reports of a tenant are kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) folder: PathBuf,
    /// What the names of its files begin with.
    pub(crate) name: String,
    pub(crate) identity: Identity,
}

/// Polls one tenant for as long as it is not dropped.
pub(crate) struct Poller {
    plan: Arc<Plan>,
    graph: Graph,
    shared: Shared,
    states: Vec<SharedState>,
}

impl Poller {
    /// Publishes at once what is remembered: without `memories`, that nothing has been tried yet.
    pub(crate) fn new(
        plan: Arc<Plan>,
        graph: Graph,
        shared: Shared,
        states: &[SharedState],
    ) -> Self {
        let mut poller = Self {
            plan,
            graph,
            shared,
            states: Vec::new(),
        };
        let remembered = |&report: &ReportKind| {
            states
                .iter()
                .find(|state| lock(state).report == report)
                .map_or_else(|| poller.restore_or_new(report), Arc::clone)
        };
        poller.states = poller.plan.reports.iter().map(remembered).collect();
        for state in &poller.states {
            poller.expire(state);
            poller.publish(&lock(state));
        }
        poller
    }

    /// What it remembers, to be passed on.
    pub(crate) fn states(&self) -> &[SharedState] {
        &self.states
    }

    /// Polls each report at once, then at every tick of the interval and at every start of a billing period. Each has a
    /// loop of its own, so that one that stalls holds up no other.
    pub(crate) async fn run(self) {
        let started = Instant::now();
        let loops = self.states.iter();
        join_all(loops.map(|state| self.run_report(state, started))).await;
    }

    async fn run_report(&self, state: &SharedState, started: Instant) {
        // Polls since the last tick.
        let mut retries = 0;
        loop {
            let mut turn = pin!(self.queue_and_poll(state, started));
            let period = loop {
                tokio::select! {
                    period = &mut turn => break period,
                    () = tokio::time::sleep(CLOCK_CHECK) => self.expire(state),
                }
            };
            tokio::select! {
                () = self.sleep_until(state, self.next_tick(started), period) => retries = 0,
                () = self.retry_requested(state, retry_pause(retries)) => retries += 1,
            }
        }
    }

    /// Waits for a place in the queue of all tenants and polls; says of which period.
    async fn queue_and_poll(&self, state: &SharedState, started: Instant) -> BillingPeriod {
        let _under_way = self.shared.under_way.acquire().await.expect("never closed");
        // A permit is a place in the queue, so it is waited for after the tick.
        let permit = Arc::clone(&self.shared.permits)
            .acquire_owned()
            .await
            .expect("never closed");
        let period = BillingPeriod::containing(self.shared.clock.now(), self.plan.cycle_day);
        let mut polling = pin!(self.poll(state, period, self.next_tick(started)));
        let in_time = tokio::time::timeout(PERMIT_TIME, &mut polling).await;
        // The place is another's now: the poll is over, or its tenant stalls and goes on alone.
        drop(permit);
        if in_time.is_err() {
            polling.await;
        }
        period
    }

    /// One poll of one report, whatever becomes of it.
    async fn poll(&self, state: &SharedState, period: BillingPeriod, tick: Instant) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let stats = StatsGuard::new(&self.shared.telemetry);
        let (report, kept) = {
            let mut state = lock(state);
            state.begin_refetch();
            (state.report, state.kept.clone())
        };
        let context = FetchContext {
            state,
            period,
            now: begun,
            deadline: start + self.plan.timeout,
            kept,
            stats: &stats,
        };
        let outcome = self.fetch(report, context).await;
        let duration = start.elapsed();
        let tenant = self.plan.tenant.as_deref();
        match &outcome {
            Ok(rendered) => log_success(tenant, report, period, rendered, &stats, duration),
            Err(failed) => {
                let remaining = lock(state).remaining();
                log_failure(tenant, report, period, failed, duration, remaining);
            }
        }
        let previous_is_due = {
            let mut state = lock(state);
            let succeeded = outcome.is_ok();
            state.health.polls += 1;
            state.health.last_attempt = Some(begun);
            state.health.duration_seconds = duration.as_secs_f64();
            state.health.up = succeeded;
            match outcome {
                Ok(rendered) => state.succeed(rendered, period, begun, &stats, &self.plan),
                Err(failed) => state.fail(failed, &self.plan),
            }
            // Counted first, so that what is published with the numbers counts their requests too.
            drop(stats);
            state.next_poll = Some(self.due(tick, period));
            self.publish(&state);
            let time_left = tick > Instant::now();
            let wanted = self.shared.previous && report.has_previous();
            succeeded && time_left && wanted && state.previous.is_due(begun)
        };
        // At once, and not only when the period before has been asked for too, which may take until the next tick.
        let keeping = self.keep(state);
        if previous_is_due {
            tokio::join!(keeping, self.poll_previous(state, period, tick));
            self.keep(state).await;
        } else {
            keeping.await;
        }
    }

    /// One poll of the period before; where it fails, what is known of that stays, and a later poll tries again. The next
    /// poll of the current period does not wait for it.
    async fn poll_previous(&self, state: &SharedState, current: BillingPeriod, tick: Instant) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let report = lock(state).report;
        let period = current.previous();
        let stats = StatsGuard::new(&self.shared.telemetry);
        let context = FetchContext {
            state,
            period,
            now: begun,
            deadline: tick.min(start + self.plan.timeout),
            kept: Kept::default(),
            stats: &stats,
        };
        let outcome = self.fetch(report, context).await;
        let tenant = self.plan.tenant.as_deref();
        let mut state = lock(state);
        state.health.polls += 1;
        match outcome {
            Ok(rendered) => {
                log_success(tenant, report, period, &rendered, &stats, start.elapsed());
                state.previous.replace(period, rendered.closing, begun);
                state.file.unsaved = true;
            }
            Err(failed) => {
                let remaining = state.previous.remaining();
                log_failure(tenant, report, period, &failed, start.elapsed(), remaining);
                state.previous.fail(begun);
                state.health.failures[failed.reason as usize] += 1;
            }
        }
        drop(stats);
        state.next_poll = Some(self.due(tick, current));
        self.publish(&state);
    }

    /// When the next poll is due, by the wall clock.
    fn due(&self, tick: Instant, period: BillingPeriod) -> DateTime<Utc> {
        let left = TimeDelta::from_std(tick - Instant::now()).unwrap_or(TimeDelta::MAX);
        self.shared
            .clock
            .now()
            .checked_add_signed(left)
            .map_or(period.end(), |due| due.min(period.end()))
    }

    /// The first tick after now. Ticks lie on a grid, so that polls do not drift by their own duration.
    fn next_tick(&self, started: Instant) -> Instant {
        let first = started + self.plan.phase;
        let Some(passed) = Instant::now().checked_duration_since(first) else {
            return first;
        };
        let ticks = passed.as_nanos() / self.plan.interval.as_nanos() + 1;
        u32::try_from(ticks).map_or(Instant::now() + self.plan.interval, |ticks| {
            first + self.plan.interval * ticks
        })
    }

    /// Waits until a reload requests that a report that failed is polled again, and until its back-off is over. The poll
    /// gets a new token, for permissions may have been granted.
    async fn retry_requested(&self, state: &SharedState, pause: Duration) {
        let not_before = Instant::now() + pause;
        let retry_requested = Arc::clone(&lock(state).request.retry_requested);
        loop {
            retry_requested.notified().await;
            let is_wanted = {
                let state = lock(state);
                state.failure.is_some() || state.request.refetch
            };
            if is_wanted {
                tokio::time::sleep_until(not_before).await;
                return self.graph.tokens().clear();
            }
        }
    }

    /// Until the tick, or until the clock says that it is no longer this period.
    async fn sleep_until(&self, state: &SharedState, tick: Instant, period: BillingPeriod) {
        loop {
            self.expire(state);
            let now = Instant::now();
            let time = self.shared.clock.now();
            let boundary = (period.end() - time).to_std().unwrap_or_default();
            let is_set_back = time < period.start();
            if now >= tick || boundary.is_zero() || is_set_back {
                return;
            }
            tokio::time::sleep_until(tick.min(now + boundary).min(now + CLOCK_CHECK)).await;
        }
    }
}

impl Plan {
    /// The budgets that are spent in a report.
    fn budgets_of(&self, report: ReportKind) -> Vec<Budget> {
        let spent_in =
            |(kind, budget): &(ReportKind, Budget)| (*kind == report).then(|| budget.clone());
        self.budgets.iter().filter_map(spent_in).collect()
    }
}

/// Pause between the end of a failed poll and the next one that a reload requests, after this many of them since the
/// last tick: the first comes soon for an administrator who has fixed the cause, and a flood of reloads cannot flood Graph.
fn retry_pause(retries: u32) -> Duration {
    RETRY_PAUSE_MIN
        .saturating_mul(1 << retries.min(31))
        .min(RETRY_PAUSE_MAX)
}

/// As long as the first pause of a request.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// As often as a minute is short for an administrator, and sixty polls an hour are harmless to Graph.
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(1);

/// How long a poll counts against the number of parallel ones: most are over by then.
const PERMIT_TIME: Duration = Duration::from_secs(2);

/// How often the wall clock is looked at while sleeping: it may be set, and it goes on while a machine is suspended.
const CLOCK_CHECK: Duration = Duration::from_mins(1);
