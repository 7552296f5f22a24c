//! The fetch of each report: as a whole at every poll, or by day if it is a log.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::Poller;
use super::outcome::Failed;
use super::state::{SharedState, lock};
use crate::graph::stats::RequestStats;
use crate::period::BillingPeriod;
use crate::report::labels::{RenderContext, RetainedSeries};
use crate::report::log::{self, AggregationContext, Log};
use crate::report::{CollectError, Rendered, Report, ReportKind, Visitor, collect};

/// One fetch of one report.
pub(super) struct Fetch<'a> {
    pub(super) poller: &'a Poller,
    pub(super) report: ReportKind,
    pub(super) state: &'a SharedState,
    pub(super) period: BillingPeriod,
    pub(super) now: DateTime<Utc>,
    pub(super) deadline: Instant,
    pub(super) retained: RetainedSeries,
    pub(super) stats: &'a RequestStats,
}

impl Fetch<'_> {
    /// Fetches the report of the period up to now: complete, or an error.
    pub(super) async fn run(self) -> Result<Rendered, Failed> {
        let (deadline, graph) = (self.deadline, &self.poller.graph);
        let fetched = tokio::time::timeout_at(deadline, self.report.visit(self))
            .await
            .unwrap_or_else(|_| Err(CollectError::Graph(graph.late())))?;
        // The deadline limits the fetch only: a complete report is rendered however long that takes.
        Ok(fetched.await.expect("rendering does not panic")?)
    }

    /// Fetches a report that is requested as a whole at every poll.
    async fn fetch_report<R: Report>(self) -> Result<Rendering, CollectError> {
        let windows = R::windows(self.period, self.now).into_iter();
        let graph = &self.poller.graph;
        let totals = collect::<R>(graph, windows, self.deadline, self.stats).await?;
        Ok(self.rendering(|context| Ok(R::render(totals, context))))
    }

    /// Fetches a log: only the days that can still change. A final day enters the ledger as soon as it is complete,
    /// so a poll that fails later does not lose it.
    async fn fetch_log<L: Log>(self) -> Result<Rendering, CollectError> {
        let Self {
            poller,
            state,
            period,
            now,
            deadline,
            stats,
            ..
        } = self;
        let budgets = poller.plan.budgets_of(self.report);
        let windows_due = lock(state).ledgers.of(period, &budgets).windows_due(now);
        let aggregation = AggregationContext {
            user_label: &poller.plan.user_label,
            budgets: &budgets,
            period,
            seen: &windows_due.seen,
        };
        let mut open = Vec::new();
        // One after the other, so that a row that both contain is counted once.
        for windows in [windows_due.becoming_final, windows_due.open] {
            let mut waiting = windows.into_iter();
            let mut under_way = FuturesUnordered::new();
            loop {
                let free = DAYS_AT_ONCE - under_way.len();
                under_way.extend(waiting.by_ref().take(free).map(|window| async move {
                    log::collect::<L>(&poller.graph, window, now, aggregation, deadline, stats)
                        .await
                }));
                let Some(day) = under_way.next().await.transpose()? else {
                    break;
                };
                if day.is_final {
                    let mut state = lock(state);
                    let ledger = state.ledgers.of(period, &budgets);
                    ledger.add_final(&day, &windows_due.seen)?;
                    state.is_unsaved = true;
                } else {
                    open.push(day.totals);
                }
            }
        }
        let final_days = lock(state).ledgers.of(period, &budgets).totals();
        Ok(self.rendering(move |context| {
            let mut totals = Arc::unwrap_or_clone(final_days);
            // Each day is freed as soon as it is added.
            for day in open {
                totals.merge(&day)?;
            }
            Ok(log::render::<L>(totals, context))
        }))
    }

    /// Renders on a blocking thread: to sort and compress a large report takes so long that a scrape on the same
    /// thread would notice.
    fn rendering(
        self,
        render: impl FnOnce(&RenderContext<'_>) -> Result<Rendered, CollectError> + Send + 'static,
    ) -> Rendering {
        let plan = Arc::clone(&self.poller.plan);
        let Self {
            report,
            period,
            retained,
            ..
        } = self;
        tokio::task::spawn_blocking(move || {
            render(&RenderContext {
                tenant: plan.tenant.as_deref(),
                period,
                user_label: &plan.user_label,
                series_max: plan.series_max,
                budgets: &plan.budgets_of(report),
                retained: &retained,
            })
        })
    }
}

impl<'a> Visitor for Fetch<'a> {
    type Output = BoxFuture<'a, Result<Rendering, CollectError>>;

    fn aggregated<R: Report>(self) -> Self::Output {
        Box::pin(self.fetch_report::<R>())
    }

    fn log<L: Log>(self) -> Self::Output {
        Box::pin(self.fetch_log::<L>())
    }
}

/// A report that is being rendered.
type Rendering = tokio::task::JoinHandle<Result<Rendered, CollectError>>;

/// Days of a log that are fetched in parallel. Graph sends the pages of a day one after another, so most of the time
/// is spent waiting. More than a few would slow down other users of Graph in the tenant.
const DAYS_AT_ONCE: usize = 4;
