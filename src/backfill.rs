//! `backfill`: the samples of past days in OpenMetrics, for `promtool tsdb create-blocks-from openmetrics`.
//!
//! The samples of a day are the values that the exporter would have shown at the end of that day. A log is fetched
//! once, and its days are added up within each billing period. An aggregated report is fetched once for each of the
//! days, from the start of the billing period to the end of the day.
//!
//! Out of scope: metrics of polls, because no polls happened. Budgets have the amounts of the current configuration in
//! all samples, even if the amounts were different on the past days.

mod history;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::config::Config;
use crate::config::args::BackfillArgs;
use crate::export::{ExportError, Output, with_progress};
use crate::exposition::Samples;
use crate::graph::Graph;
use crate::graph::stats::RequestStats;
use crate::machine;
use crate::memory::{MemoryError, MemoryPool};
use crate::period::{BillingPeriod, Clock, Span, Window};
use crate::report::allocation::Allocation;
use crate::report::labels::{RenderContext, RetainedSeries, UserLabel};
use crate::report::log::{self, AggregationContext, AnyLog, SeenRows, Totals};
use crate::report::pool::{self, UsedSeconds};
use crate::report::{AggregatedReport, CollectError, Log, Rendered, ReportKind, Visitor, collect};
use crate::report_metrics::period_samples;
use crate::tenant::{self, Plan};

use history::History;

/// The past days of one report of one tenant.
struct Days<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    report: ReportKind,
    /// The days that get samples.
    span: Span,
    now: DateTime<Utc>,
    user_label: UserLabel,
    series_max: usize,
    allocation: Allocation,
    stats: &'a RequestStats,
    history: &'a mut History,
    memory: Arc<MemoryPool>,
    /// The billing period that is being fetched.
    period: BillingPeriod,
    /// The samples of the previous billing period; empty if that period was not fetched completely.
    previous: Vec<Samples>,
    /// The seconds that pools used in the previous billing period; `None` if that period was not fetched completely.
    used_seconds: Option<UsedSeconds>,
}

/// Writes the samples to the file that the flags name, or else to `out`.
///
/// # Errors
/// If there are no days, if a day is not over, or if the samples cannot be fetched or written. After an error, the
/// output does not end in `# EOF`.
pub async fn run(
    config: &Config,
    args: &BackfillArgs,
    clock: &Clock,
    out: Box<dyn Write + Send>,
) -> Result<(), ExportError> {
    let now = clock.now();
    let span = choose_span(args, now).map_err(ExportError::Choice)?;
    let http = tenant::http(config).map_err(tenant::SetupError::from)?;
    let mut output = Output::new(args.output.as_deref(), out)?;
    let stats = RequestStats::default();
    let pool = MemoryPool::for_process(machine::memory_limit());
    let mut history = History::new(pool.for_report().reservation());
    let fetch = async {
        for tenant in &config.tenants {
            let graph = tenant::graph(&http, clock, config, tenant)?;
            let plan = tenant::plan(config, tenant);
            for &report in BTreeSet::from_iter(&args.reports) {
                let labels = config.labels_of(report);
                let days = Days {
                    graph: &graph,
                    plan: &plan,
                    report,
                    span,
                    now,
                    user_label: if args.users {
                        labels.user
                    } else {
                        UserLabel::None
                    },
                    series_max: labels.max_series.get(),
                    allocation: plan.allocation_of(report),
                    stats: &stats,
                    history: &mut history,
                    memory: pool.for_report(),
                    period: BillingPeriod::containing(span.start(), plan.cycle_day),
                    previous: Vec::new(),
                    used_seconds: None,
                };
                let fetched = report.visit(days).await;
                fetched.map_err(|error| ExportError::report(report, &error))?;
            }
        }
        Ok::<(), ExportError>(())
    };
    with_progress(&stats, fetch).await?;
    history.write(args, now - HEAD, &mut output)?;
    output.finish()?;
    let (pages, rows) = (stats.pages(), stats.rows());
    tracing::info!(pages, rows, series = history.series(), "backfill complete");
    Ok(())
}

/// Returns the days that the flags name. The error has the cause and the remedy.
fn choose_span(args: &BackfillArgs, now: DateTime<Utc>) -> Result<Span, String> {
    let BackfillArgs { from, to, .. } = args;
    let today = now.date_naive();
    match Span::of_days(*from, *to) {
        _ if from >= to => Err(format!(
            "--to={to} is not after --from={from}; give a later --to, the day after the last day to fill"
        )),
        None => Err(format!(
            "{from} or {to} is not in the years 1970 to 9998; correct --from and --to"
        )),
        Some(span) if span.end() > now => Err(format!(
            "some days before --to={to} are not over; only days before {today} (UTC) can be filled, so give --to={today} or earlier"
        )),
        Some(span) => Ok(span),
    }
}

impl Days<'_> {
    async fn fetch_report<R: AggregatedReport>(mut self) -> Result<(), CollectError> {
        while self.period.start() < self.span.end() {
            let mut closing = None;
            for day in self.days() {
                if day.start() < self.span.start() {
                    continue;
                }
                let windows = R::windows(self.period, day.end() - SECOND).into_iter();
                let (deadline, stats) = (self.deadline(), self.stats);
                let collected =
                    collect::<R>(self.graph, windows, deadline, stats, &self.memory).await;
                let (totals, _memory) = collected?;
                let rendered = self.with_context(|context| R::render(totals, context));
                self.add(day, &rendered)?;
                if day.end() == self.period.end() {
                    closing = Some((rendered.closing, rendered.used_seconds));
                }
            }
            self.next_period(closing);
        }
        Ok(())
    }

    async fn fetch_log(mut self, log: &'static AnyLog) -> Result<(), CollectError> {
        while self.period.start() < self.span.end() {
            let seen = SeenRows::new(&self.memory);
            let mut totals = Totals::new(&self.allocation);
            let mut reservation = self.memory.reservation();
            let mut closing = None;
            // `now` adds the windows of up to two days after the period, because they can return rows of the period.
            let until = if self.period.end() < self.span.end() {
                self.now
            } else {
                self.span.end() - SECOND
            };
            for day in log::windows(self.period.into(), until) {
                let aggregation = AggregationContext {
                    user_label: &self.user_label,
                    allocation: &self.allocation,
                    period: self.period,
                    seen: &seen,
                    memory: &self.memory,
                };
                let (deadline, stats) = (self.deadline(), self.stats);
                let fetched =
                    log::collect(log, self.graph, day, self.now, aggregation, deadline, stats);
                totals.merge(&fetched.await?.totals);
                // Reserves twice the bytes, because each day is rendered from a copy.
                reservation.resize(2 * totals.bytes())?;
                if day.end() <= self.span.start() {
                    continue;
                }
                let totals = totals.clone();
                let rendered = self.with_context(|context| totals.render(log.info, context));
                if day.end() <= self.period.end() {
                    self.add(day, &rendered)?;
                }
                if day.end() >= self.period.end() {
                    closing = Some((rendered.closing, rendered.used_seconds));
                }
            }
            self.next_period(closing);
        }
        Ok(())
    }

    /// Returns the days of the period, up to the last day that gets samples.
    fn days(&self) -> impl Iterator<Item = Window> + use<> {
        self.period.windows(self.span.end() - SECOND, log::DAY)
    }

    fn add(&mut self, day: Window, rendered: &Rendered) -> Result<(), MemoryError> {
        let period = period_samples(self.plan.tenant.as_deref(), self.report, self.period);
        let pools = self.plan.pools_of(self.report);
        let previous = self.used_seconds.as_ref();
        let used = (rendered.used_seconds).in_month(pools, self.period, day.start(), previous);
        let pools = pool::samples(pools, &used, self.plan.tenant.as_deref());
        let samples = rendered.samples.iter().chain(&pools).chain(&period);
        for samples in samples.chain(&self.previous) {
            self.history.add(day, samples)?;
        }
        Ok(())
    }

    /// Moves to the next period. `closing` describes the period that ends: its samples as the previous period, and the
    /// seconds that pools used in it. `closing` is `None` if that period was not fetched completely.
    fn next_period(&mut self, closing: Option<(Vec<Samples>, UsedSeconds)>) {
        let (previous, used_seconds) = closing.unzip();
        (self.previous, self.used_seconds) = (previous.unwrap_or_default(), used_seconds);
        self.period = BillingPeriod::containing(self.period.end(), self.plan.cycle_day);
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.plan.timeout
    }

    fn with_context(&self, render: impl FnOnce(&RenderContext<'_>) -> Rendered) -> Rendered {
        render(&RenderContext {
            tenant: self.plan.tenant.as_deref(),
            period: self.period,
            user_label: &self.user_label,
            series_max: self.series_max,
            allocation: &self.allocation,
            retained: &RetainedSeries::default(),
        })
    }
}

impl<'a> Visitor for Days<'a> {
    type Output = BoxFuture<'a, Result<(), CollectError>>;

    fn aggregated<R: AggregatedReport>(self) -> Self::Output {
        Box::pin(self.fetch_report::<R>())
    }

    fn log<L: Log>(self) -> Self::Output {
        Box::pin(self.fetch_log(AnyLog::of::<L>()))
    }
}

/// Samples end at least this long before now. Prometheus still has the scraped samples of the last hours in memory, and
/// backfilled blocks must not overlap them.
const HEAD: TimeDelta = TimeDelta::hours(3);

/// Subtracted from the exclusive end of a day to get the time up to which windows are computed. The last window
/// includes the whole second of that time. Without the subtraction, it would extend one second into the next day.
const SECOND: TimeDelta = TimeDelta::seconds(1);
