//! The loop, and the only place where the other parts meet.
//!
//! One task per tenant: a poll takes no input, is idempotent, and is its own retry at the next tick. Requests are
//! retried inside the poll's deadline; around the cycle nothing is. A poll that fails leaves the last complete report in
//! place and says so beside it; a poll that succeeds replaces numbers, period and health in one step.
//!
//! Stopping it is dropping it: it only reads, and publishes whole values.

pub(crate) mod fleet;
mod previous;
mod restart;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::exposition::Samples;
use crate::graph::tally::Tally;
use crate::graph::{self, Chain, FailureReason, Graph};
use crate::health::{Health, expiry_samples, period_samples};
use crate::period::{BillingPeriod, Clock, CycleDay};
use crate::report::blocked_users::BlockedUsers;
use crate::report::budget::Budget;
use crate::report::dialout::Dialout;
use crate::report::direct_routing::DirectRouting;
use crate::report::labels::{Kept, Naming, View};
use crate::report::log::{self, Ledgers, Lens, Log};
use crate::report::pstn_calls::PstnCalls;
use crate::report::sms::Sms;
use crate::report::{CollectError, Rendered, Report, ReportKind, collect};
use crate::snapshot::{Failure, Key, Publisher, State, Summary};
use crate::storage::Identity;
use crate::telemetry::Telemetry;

use previous::Previous;

pub use fleet::{Fleet, FleetError};

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
#[derive(Clone, Debug)]
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

/// What is remembered of a report from poll to poll, and passed on when the configuration changes.
pub(crate) struct Memory {
    report: ReportKind,
    health: Health,
    kept: Kept,
    summary: Option<Arc<Summary>>,
    failure: Option<Failure>,
    /// What is published of the current period.
    current: Vec<Samples>,
    previous: Previous,
    /// Of a log, the days that need not be asked for again.
    ledgers: Ledgers,
    /// The newest complete report is too old to be served.
    expired: bool,
    next_poll: Option<DateTime<Utc>>,
    /// The configuration has changed so that nothing of this may be published any more.
    retired: bool,
}

/// Written by one poller only; never locked across an await.
pub(crate) type SharedMemory = Arc<Mutex<Memory>>;

/// What a poll asks of Graph, added to the telemetry when it is over, also where it is broken off.
struct Counted<'a> {
    tally: Tally,
    telemetry: &'a Telemetry,
}

/// One question for all of a report.
struct Ask<'a> {
    memory: &'a SharedMemory,
    period: BillingPeriod,
    now: DateTime<Utc>,
    deadline: Instant,
    kept: Kept,
    tally: &'a Tally,
}

/// Why a poll failed.
#[derive(Debug)]
struct Failed {
    reason: FailureReason,
    failure: Failure,
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
        poller.expire();
        for memory in &poller.memories {
            poller.publish(&lock(memory));
        }
        poller
    }

    /// What it remembers, to be passed on.
    pub(crate) fn memories(&self) -> &[SharedMemory] {
        &self.memories
    }

    /// Polls at once, then at every tick of the interval and at every start of a billing period.
    pub(crate) async fn run(self) {
        let started = Instant::now();
        loop {
            let under_way = self.shared.under_way.acquire().await.expect("never closed");
            // A permit is a place in the queue of all tenants, so it is waited for after the tick.
            let permit = Arc::clone(&self.shared.permits)
                .acquire_owned()
                .await
                .expect("never closed");
            let period = BillingPeriod::containing(self.shared.clock.now(), self.plan.cycle_day);
            let mut polling = pin!(self.poll_all(period, self.next_tick(started)));
            let in_time = tokio::time::timeout(PERMIT_TIME, &mut polling).await;
            // The place is another's now: the poll is over, or its tenant stalls and goes on alone.
            drop(permit);
            if in_time.is_err() {
                polling.await;
            }
            drop(under_way);
            self.sleep_until(self.next_tick(started), period.end())
                .await;
        }
    }

    async fn poll_all(&self, period: BillingPeriod, tick: Instant) {
        for memory in &self.memories {
            self.poll(memory, period, tick).await;
        }
    }

    /// One poll of one report, whatever becomes of it.
    async fn poll(&self, memory: &SharedMemory, period: BillingPeriod, tick: Instant) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let tally = Counted::new(&self.shared.telemetry);
        let (report, kept) = {
            let memory = lock(memory);
            (memory.report, memory.kept.clone())
        };
        let ask = Ask {
            memory,
            period,
            now: begun,
            deadline: start + self.plan.timeout,
            kept,
            tally: &tally,
        };
        let outcome = self.fetch(report, ask).await;
        let duration = start.elapsed();
        let tenant = self.plan.tenant.as_deref();
        match &outcome {
            Ok(rendered) => log_success(tenant, report, period, rendered, &tally, duration),
            Err(failed) => log_failure(tenant, report, period, failed, duration),
        }
        let previous_is_due = {
            let mut memory = lock(memory);
            let succeeded = outcome.is_ok();
            memory.health.polls += 1;
            memory.health.last_attempt = Some(begun);
            memory.health.duration_seconds = duration.as_secs_f64();
            memory.health.up = succeeded;
            match outcome {
                Ok(rendered) => memory.succeed(rendered, period, begun, &tally, tenant),
                Err(failed) => memory.fail(failed),
            }
            // Counted first, so that what is published with the numbers counts their requests too.
            drop(tally);
            memory.next_poll = Some(self.due(tick, period));
            self.publish(&memory);
            let time_left = tick > Instant::now();
            let wanted = self.shared.previous && report.has_previous();
            succeeded.then(|| time_left && wanted && memory.previous.is_due(begun))
        };
        let Some(previous_is_due) = previous_is_due else {
            return;
        };
        if previous_is_due {
            self.poll_previous(memory, period, tick).await;
        }
        self.keep(memory).await;
    }

    /// One poll of the period before; where it fails, what is known of that stays, and a later poll tries again. The next
    /// poll of the current period does not wait for it.
    async fn poll_previous(&self, memory: &SharedMemory, current: BillingPeriod, tick: Instant) {
        let (begun, start) = (self.shared.clock.now(), Instant::now());
        let report = lock(memory).report;
        let period = current.previous();
        let tally = Counted::new(&self.shared.telemetry);
        let ask = Ask {
            memory,
            period,
            now: begun,
            deadline: tick.min(start + self.plan.timeout),
            kept: Kept::default(),
            tally: &tally,
        };
        let outcome = self.fetch(report, ask).await;
        let tenant = self.plan.tenant.as_deref();
        let mut memory = lock(memory);
        memory.health.polls += 1;
        match outcome {
            Ok(rendered) => {
                log_success(tenant, report, period, &rendered, &tally, start.elapsed());
                memory.previous.replace(period, rendered.closing, begun);
            }
            Err(failed) => {
                log_failure(tenant, report, period, &failed, start.elapsed());
                memory.previous.fail(begun);
                memory.health.failures[failed.reason as usize] += 1;
            }
        }
        drop(tally);
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

    /// The report of the period up to now: complete, or not at all.
    async fn fetch(&self, report: ReportKind, ask: Ask<'_>) -> Result<Rendered, Failed> {
        let deadline = ask.deadline;
        let fetching = async {
            match report {
                ReportKind::Dialout => self.whole::<Dialout>(ask).await,
                ReportKind::PstnCalls => self.by_day::<PstnCalls>(ask).await,
                ReportKind::DirectRouting => self.by_day::<DirectRouting>(ask).await,
                ReportKind::Sms => self.by_day::<Sms>(ask).await,
                ReportKind::BlockedUsers => self.whole::<BlockedUsers>(ask).await,
            }
        };
        let fetched = tokio::time::timeout_at(deadline, fetching)
            .await
            .unwrap_or_else(|_| Err(CollectError::Graph(graph::Error::Timeout)))?;
        // What has arrived is rendered, however long that takes.
        Ok(fetched.await.expect("rendering does not panic"))
    }

    /// A report that is asked for whole at every poll.
    async fn whole<R: Report>(&self, ask: Ask<'_>) -> Result<Rendering, CollectError> {
        let windows = R::windows(ask.period, ask.now).into_iter();
        let totals = collect::<R>(&self.graph, windows, ask.deadline, ask.tally).await?;
        Ok(self.rendering(R::KIND, ask, |view| R::render(totals, view)))
    }

    /// A log, of which only the days that may still change are asked for again. A day that is final is entered in the
    /// ledger as soon as it is there, so a poll that fails further on has not asked for it in vain.
    async fn by_day<L: Log>(&self, ask: Ask<'_>) -> Result<Rendering, CollectError> {
        let Ask {
            memory,
            period,
            now,
            deadline,
            tally,
            ..
        } = ask;
        let budgets = self.plan.budgets_of(L::KIND);
        let lens = Lens {
            naming: &self.plan.naming,
            budgets: &budgets,
        };
        let mut waiting = lock(memory)
            .ledgers
            .of(period, &budgets)
            .open(now)
            .into_iter();
        let mut under_way = FuturesUnordered::new();
        let mut open = Vec::new();
        loop {
            let places = DAYS_AT_ONCE - under_way.len();
            under_way.extend(waiting.by_ref().take(places).map(|window| async move {
                let day = log::collect::<L>(&self.graph, window, lens, deadline, tally).await;
                (window, day)
            }));
            let Some((window, day)) = under_way.next().await else {
                break;
            };
            let day = day?;
            if log::is_settled(window, now) {
                lock(memory)
                    .ledgers
                    .of(period, &budgets)
                    .settle(window, &day);
            } else {
                open.push(day);
            }
        }
        drop(under_way);
        let settled = lock(memory).ledgers.of(period, &budgets).totals();
        Ok(self.rendering(L::KIND, ask, move |view| {
            let mut totals = Arc::unwrap_or_clone(settled);
            for day in &open {
                totals.merge(day);
            }
            log::render::<L>(totals, view)
        }))
    }

    /// Renders in the background: to sort and compress a large report takes long enough to be felt by a scrape on the
    /// same thread.
    fn rendering(
        &self,
        report: ReportKind,
        ask: Ask<'_>,
        render: impl FnOnce(&View<'_>) -> Rendered + Send + 'static,
    ) -> Rendering {
        let plan = Arc::clone(&self.plan);
        let (period, kept) = (ask.period, ask.kept);
        tokio::task::spawn_blocking(move || {
            render(&View {
                tenant: plan.tenant.as_deref(),
                period,
                naming: &plan.naming,
                series_max: plan.series_max,
                budgets: &plan.budgets_of(report),
                kept: &kept,
            })
        })
    }

    fn publish(&self, memory: &Memory) {
        if memory.retired {
            return;
        }
        let tenant = self.plan.tenant.as_deref();
        let publisher = &self.shared.publisher;
        let state = State {
            tenant: self.plan.tenant.clone(),
            report: memory.report,
            last_attempt: memory.health.last_attempt,
            last_success: memory.health.last_success,
            next_poll: memory.next_poll,
            failure: memory.failure.clone(),
            summary: memory.summary.clone().filter(|_| !memory.expired),
            expired: memory.expired,
        };
        let key = Key {
            tenant: self.plan.tenant.clone(),
            report: Some(memory.report),
        };
        let current = if memory.expired {
            &[]
        } else {
            memory.current.as_slice()
        };
        publisher.update(
            key,
            current
                .iter()
                .cloned()
                .chain(memory.previous.samples())
                .collect(),
            memory.health.samples(tenant, memory.report),
            Some(state),
        );
        let token_expiry = self
            .graph
            .tokens()
            .expires_in()
            .and_then(|left| Some(self.shared.clock.now() + TimeDelta::from_std(left).ok()?));
        let credential_expiry = self
            .plan
            .credential_expiry
            .or_else(|| self.graph.tokens().credential_expiry());
        let key = Key {
            tenant: self.plan.tenant.clone(),
            report: None,
        };
        publisher.update(
            key,
            Vec::new(),
            expiry_samples(tenant, token_expiry, credential_expiry),
            None,
        );
    }

    /// Stops serving what has become too old.
    fn expire(&self) {
        let Some(max_age) = self.plan.max_age else {
            return;
        };
        let now = self.shared.clock.now();
        for memory in &self.memories {
            let mut memory = lock(memory);
            let too_old = |last: DateTime<Utc>| now - last > max_age;
            if !memory.expired && memory.health.last_success.is_some_and(too_old) {
                memory.expired = true;
                tracing::warn!(
                    tenant = self.plan.tenant.as_deref(),
                    report = memory.report.as_str(),
                    "the newest complete report is older than poll.max_age and no longer served"
                );
                self.publish(&memory);
            }
        }
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

    /// Until the tick or the end of the period, whichever comes first by its own clock.
    async fn sleep_until(&self, tick: Instant, period_end: DateTime<Utc>) {
        loop {
            self.expire();
            let now = Instant::now();
            let boundary = (period_end - self.shared.clock.now())
                .to_std()
                .unwrap_or_default();
            if now >= tick || boundary.is_zero() {
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

impl Memory {
    fn new(report: ReportKind) -> SharedMemory {
        let (health, kept) = (Health::default(), Kept::default());
        Arc::new(Mutex::new(Self {
            report,
            health,
            kept,
            summary: None,
            failure: None,
            current: Vec::new(),
            previous: Previous::default(),
            ledgers: Ledgers::default(),
            expired: false,
            next_poll: None,
            retired: false,
        }))
    }

    /// What it is of.
    pub(crate) fn report(memory: &SharedMemory) -> ReportKind {
        lock(memory).report
    }

    /// Of another configuration's numbers only this is kept: how the polls went.
    pub(crate) fn without_numbers(memory: &SharedMemory) -> SharedMemory {
        let old = lock(memory);
        let fresh = Self::new(old.report);
        lock(&fresh).health = old.health.clone();
        fresh
    }

    /// From now on a poll that is still under way publishes nothing.
    pub(crate) fn retire(memories: &[SharedMemory]) {
        for memory in memories {
            lock(memory).retired = true;
        }
    }

    fn fail(&mut self, failed: Failed) {
        self.health.failures[failed.reason as usize] += 1;
        self.failure = Some(failed.failure);
    }

    /// Remembers a complete report, and what is to be published of it.
    fn succeed(
        &mut self,
        rendered: Rendered,
        period: BillingPeriod,
        begun: DateTime<Utc>,
        tally: &Tally,
        tenant: Option<&str>,
    ) {
        self.health.last_success = Some(begun);
        self.expired = false;
        self.health.rows = rendered.rows;
        self.health.pages = tally.pages();
        self.health.folded = rendered.folded;
        self.health.settled_windows = self.ledgers.settled(period);
        self.kept = rendered.kept;
        self.failure = None;
        self.summary = Some(Arc::new(Summary {
            period,
            rows: rendered.rows,
            spend: rendered.spend,
            counts: rendered.counts,
            top: rendered.top,
        }));
        self.current = rendered.samples;
        self.current
            .extend(period_samples(tenant, self.report, period));
        self.previous.advance(period, rendered.closing);
    }
}

impl<'a> Counted<'a> {
    fn new(telemetry: &'a Telemetry) -> Self {
        Self {
            tally: Tally::default(),
            telemetry,
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.telemetry.add(&self.tally);
    }
}

impl std::ops::Deref for Counted<'_> {
    type Target = Tally;

    fn deref(&self) -> &Tally {
        &self.tally
    }
}

impl From<CollectError> for Failed {
    fn from(error: CollectError) -> Self {
        let reason = error.reason();
        let failure = Failure {
            reason: reason.as_str(),
            message: Chain(&error).to_string(),
            remedy: error.remedy(),
        };
        Self { reason, failure }
    }
}

fn log_success(
    tenant: Option<&str>,
    report: ReportKind,
    period: BillingPeriod,
    rendered: &Rendered,
    tally: &Tally,
    duration: Duration,
) {
    let spend: Vec<String> = rendered
        .spend
        .iter()
        .map(|spend| format!("{} {}", spend.total, spend.currency))
        .collect();
    tracing::info!(
        tenant,
        report = report.as_str(),
        %period,
        rows = rendered.rows,
        pages = tally.pages(),
        overlapping_rows = rendered.overlapping,
        repeated_rows = rendered.repeated,
        folded_series = rendered.folded,
        duration_seconds = duration.as_secs_f64(),
        spend = spend.join(", "),
        "poll complete"
    );
}

fn log_failure(
    tenant: Option<&str>,
    report: ReportKind,
    period: BillingPeriod,
    failed: &Failed,
    duration: Duration,
) {
    let Failure {
        reason,
        message,
        remedy,
    } = &failed.failure;
    tracing::warn!(
        tenant,
        report = report.as_str(),
        %period,
        reason,
        error = message,
        remedy,
        duration_seconds = duration.as_secs_f64(),
        "poll failed; the last complete report stays"
    );
}

fn lock(memory: &SharedMemory) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A report that is being rendered.
type Rendering = tokio::task::JoinHandle<Rendered>;

/// Days of a log that are asked for side by side: the service answers one page of a day after another, so its time is
/// waited for; more than a few would be felt by the tenant's other users of Graph.
const DAYS_AT_ONCE: usize = 4;

/// How long a poll counts against the number of parallel ones: most are over by then.
const PERMIT_TIME: Duration = Duration::from_secs(2);

/// How often the wall clock is looked at while sleeping: it may be set, and it goes on while a machine is suspended.
const CLOCK_CHECK: Duration = Duration::from_mins(1);
