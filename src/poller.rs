//! The loop, and the only place where the other parts meet.
//!
//! One task per tenant: a poll takes no input, is idempotent, and is its own retry at the next tick. Requests are
//! retried inside the poll's deadline; around the cycle nothing is. A poll that fails leaves the last complete report in
//! place and says so beside it; a poll that succeeds replaces numbers, period and health in one step.
//!
//! Stopping it is dropping it: it only reads, and publishes whole values.

mod fetch;
mod fleet;
mod memory;
mod outcome;
mod previous;
mod publish;
mod restart;
pub(crate) mod setup;

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

use fetch::Ask;
use memory::{SharedMemory, lock};
use outcome::{Counted, log_failure, log_success};

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
    memories: Vec<SharedMemory>,
}

impl Poller {
    /// Publishes at once what is remembered: without `memories`, that nothing has been tried yet.
    pub(crate) fn new(
        plan: Arc<Plan>,
        graph: Graph,
        shared: Shared,
        memories: &[SharedMemory],
    ) -> Self {
        let mut poller = Self {
            plan,
            graph,
            shared,
            memories: Vec::new(),
        };
        let remembered = |&report: &ReportKind| {
            memories
                .iter()
                .find(|memory| lock(memory).report == report)
                .map_or_else(|| poller.remembered_or_new(report), Arc::clone)
        };
        poller.memories = poller.plan.reports.iter().map(remembered).collect();
        for memory in &poller.memories {
            poller.expire(memory);
            poller.publish(&lock(memory));
        }
        poller
    }

    /// What it remembers, to be passed on.
    pub(crate) fn memories(&self) -> &[SharedMemory] {
        &self.memories
    }

    /// Polls each report at once, then at every tick of the interval and at every start of a billing period. Each has a
    /// loop of its own, so that one that stalls holds up no other.
    pub(crate) async fn run(self) {
        let started = Instant::now();
        let loops = self.memories.iter();
        join_all(loops.map(|memory| self.run_report(memory, started))).await;
    }

    async fn run_report(&self, memory: &SharedMemory, started: Instant) {
        // Polls since the last tick.
        let mut retries = 0;
        loop {
            let mut turn = pin!(self.take_turn(memory, started));
            let period = loop {
                tokio::select! {
                    period = &mut turn => break period,
                    () = tokio::time::sleep(CLOCK_CHECK) => self.expire(memory),
                }
            };
            tokio::select! {
                () = self.sleep_until(memory, self.next_tick(started), period) => retries = 0,
                () = self.asked_again(memory, retry_pause(retries)) => retries += 1,
            }
        }
    }

    /// Waits for a place in the queue of all tenants and polls; says of which period.
    async fn take_turn(&self, memory: &SharedMemory, started: Instant) -> BillingPeriod {
        let _under_way = self.shared.under_way.acquire().await.expect("never closed");
        // A permit is a place in the queue, so it is waited for after the tick.
        let permit = Arc::clone(&self.shared.permits)
            .acquire_owned()
            .await
            .expect("never closed");
        let period = BillingPeriod::containing(self.shared.clock.now(), self.plan.cycle_day);
        let mut polling = pin!(self.poll(memory, period, self.next_tick(started)));
        let in_time = tokio::time::timeout(PERMIT_TIME, &mut polling).await;
        // The place is another's now: the poll is over, or its tenant stalls and goes on alone.
        drop(permit);
        if in_time.is_err() {
            polling.await;
        }
        period
    }

    /// One poll of one report, whatever becomes of it.
    async fn poll(&self, memory: &SharedMemory, period: BillingPeriod, tick: Instant) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let stats = Counted::new(&self.shared.telemetry);
        let (report, kept) = {
            let mut memory = lock(memory);
            memory.begin_refetch();
            (memory.report, memory.kept.clone())
        };
        let ask = Ask {
            memory,
            period,
            now: begun,
            deadline: start + self.plan.timeout,
            kept,
            stats: &stats,
        };
        let outcome = self.fetch(report, ask).await;
        let duration = start.elapsed();
        let tenant = self.plan.tenant.as_deref();
        match &outcome {
            Ok(rendered) => log_success(tenant, report, period, rendered, &stats, duration),
            Err(failed) => {
                let what_stays = lock(memory).what_stays();
                log_failure(tenant, report, period, failed, duration, what_stays);
            }
        }
        let previous_is_due = {
            let mut memory = lock(memory);
            let succeeded = outcome.is_ok();
            memory.health.polls += 1;
            memory.health.last_attempt = Some(begun);
            memory.health.duration_seconds = duration.as_secs_f64();
            memory.health.up = succeeded;
            match outcome {
                Ok(rendered) => memory.succeed(rendered, period, begun, &stats, &self.plan),
                Err(failed) => memory.fail(failed, &self.plan),
            }
            // Counted first, so that what is published with the numbers counts their requests too.
            drop(stats);
            memory.next_poll = Some(self.due(tick, period));
            self.publish(&memory);
            let time_left = tick > Instant::now();
            let wanted = self.shared.previous && report.has_previous();
            succeeded && time_left && wanted && memory.previous.is_due(begun)
        };
        // At once, and not only when the period before has been asked for too, which may take until the next tick.
        let keeping = self.keep(memory);
        if previous_is_due {
            tokio::join!(keeping, self.poll_previous(memory, period, tick));
            self.keep(memory).await;
        } else {
            keeping.await;
        }
    }

    /// One poll of the period before; where it fails, what is known of that stays, and a later poll tries again. The next
    /// poll of the current period does not wait for it.
    async fn poll_previous(&self, memory: &SharedMemory, current: BillingPeriod, tick: Instant) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let report = lock(memory).report;
        let period = current.previous();
        let stats = Counted::new(&self.shared.telemetry);
        let ask = Ask {
            memory,
            period,
            now: begun,
            deadline: tick.min(start + self.plan.timeout),
            kept: Kept::default(),
            stats: &stats,
        };
        let outcome = self.fetch(report, ask).await;
        let tenant = self.plan.tenant.as_deref();
        let mut memory = lock(memory);
        memory.health.polls += 1;
        match outcome {
            Ok(rendered) => {
                log_success(tenant, report, period, &rendered, &stats, start.elapsed());
                memory.previous.replace(period, rendered.closing, begun);
                memory.file.unsaved = true;
            }
            Err(failed) => {
                let what_stays = memory.previous.what_stays();
                log_failure(tenant, report, period, &failed, start.elapsed(), what_stays);
                memory.previous.fail(begun);
                memory.health.failures[failed.reason as usize] += 1;
            }
        }
        drop(stats);
        memory.next_poll = Some(self.due(tick, current));
        self.publish(&memory);
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
    async fn asked_again(&self, memory: &SharedMemory, pause: Duration) {
        let not_before = Instant::now() + pause;
        let again = Arc::clone(&lock(memory).wish.again);
        loop {
            again.notified().await;
            let is_wanted = {
                let memory = lock(memory);
                memory.failure.is_some() || memory.wish.refetch
            };
            if is_wanted {
                tokio::time::sleep_until(not_before).await;
                return self.graph.tokens().clear();
            }
        }
    }

    /// Until the tick, or until the clock says that it is no longer this period.
    async fn sleep_until(&self, memory: &SharedMemory, tick: Instant, period: BillingPeriod) {
        loop {
            self.expire(memory);
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
