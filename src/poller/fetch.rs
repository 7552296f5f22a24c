//! The fetch of each report: as a whole at every poll, or by day if it is a log.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::Poller;
use super::outcome::Failed;
use super::state::{SharedState, lock};
use crate::graph::stats::RequestStats;
use crate::period::BillingPeriod;
use crate::report::blocked_users::BlockedUsers;
use crate::report::dialout::Dialout;
use crate::report::direct_routing::DirectRouting;
use crate::report::labels::{RenderContext, RetainedSeries};
use crate::report::log::{self, AggregationContext, Log};
use crate::report::pstn_calls::PstnCalls;
use crate::report::sms::Sms;
use crate::report::{CollectError, Rendered, Report, ReportKind, collect};

/// Inputs of one fetch.
pub(super) struct FetchContext<'a> {
    pub(super) state: &'a SharedState,
    pub(super) period: BillingPeriod,
    pub(super) now: DateTime<Utc>,
    pub(super) deadline: Instant,
    pub(super) retained: RetainedSeries,
    pub(super) stats: &'a RequestStats,
}

impl Poller {
    /// Fetches the report of the period up to now: complete, or an error.
    pub(super) async fn fetch(
        &self,
        report: ReportKind,
        context: FetchContext<'_>,
    ) -> Result<Rendered, Failed> {
        let deadline = context.deadline;
        let fetching = async {
            match report {
                ReportKind::Dialout => self.fetch_report::<Dialout>(context).await,
                ReportKind::PstnCalls => self.fetch_log::<PstnCalls>(context).await,
                ReportKind::DirectRouting => self.fetch_log::<DirectRouting>(context).await,
                ReportKind::Sms => self.fetch_log::<Sms>(context).await,
                ReportKind::BlockedUsers => self.fetch_report::<BlockedUsers>(context).await,
            }
        };
        let fetched = tokio::time::timeout_at(deadline, fetching)
            .await
            .unwrap_or_else(|_| Err(CollectError::Graph(self.graph.late())))?;
        // The deadline limits the fetch only: a complete report is rendered however long that takes.
        Ok(fetched.await.expect("rendering does not panic")?)
    }

    /// Fetches a report that is requested as a whole at every poll.
    async fn fetch_report<R: Report>(
        &self,
        context: FetchContext<'_>,
    ) -> Result<Rendering, CollectError> {
        let windows = R::windows(context.period, context.now).into_iter();
        let totals = collect::<R>(&self.graph, windows, context.deadline, context.stats).await?;
        Ok(self.rendering(R::KIND, context, |context| Ok(R::render(totals, context))))
    }

    /// Fetches a log: only the days that can still change. A final day enters the ledger as soon as it is complete,
    /// so a poll that fails later does not lose it.
    async fn fetch_log<L: Log>(
        &self,
        context: FetchContext<'_>,
    ) -> Result<Rendering, CollectError> {
        let FetchContext {
            state,
            period,
            now,
            deadline,
            stats,
            ..
        } = context;
        let budgets = self.plan.budgets_of(L::KIND);
        let windows_due = lock(state).ledgers.of(period, &budgets).windows_due(now);
        let aggregation = AggregationContext {
            naming: &self.plan.naming,
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
                    log::collect::<L>(&self.graph, window, now, aggregation, deadline, stats).await
                }));
                let Some(day) = under_way.next().await.transpose()? else {
                    break;
                };
                if day.is_final {
                    let mut state = lock(state);
                    state.ledgers.of(period, &budgets).add_final(&day)?;
                    state.file.unsaved = true;
                } else {
                    open.push(day.totals);
                }
            }
        }
        let final_days = lock(state).ledgers.of(period, &budgets).totals();
        Ok(self.rendering(L::KIND, context, move |context| {
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
        &self,
        report: ReportKind,
        context: FetchContext<'_>,
        render: impl FnOnce(&RenderContext<'_>) -> Result<Rendered, CollectError> + Send + 'static,
    ) -> Rendering {
        let plan = Arc::clone(&self.plan);
        let (period, retained) = (context.period, context.retained);
        tokio::task::spawn_blocking(move || {
            render(&RenderContext {
                tenant: plan.tenant.as_deref(),
                period,
                naming: &plan.naming,
                series_max: plan.series_max,
                budgets: &plan.budgets_of(report),
                retained: &retained,
            })
        })
    }
}

/// A report that is being rendered.
type Rendering = tokio::task::JoinHandle<Result<Rendered, CollectError>>;

/// Days of a log that are fetched in parallel. Graph sends the pages of a day one after another, so most of the time
/// is spent waiting. More than a few would slow down other users of Graph in the tenant.
const DAYS_AT_ONCE: usize = 4;
