//! Fetches a report: as a whole at every poll or, for a log, only the days that can still change.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use super::Poller;
use super::outcome::Failed;
use super::state::SharedState;
use crate::graph::stats::RequestStats;
use crate::period::{BillingPeriod, Window};
use crate::report::labels::{RenderContext, RetainedSeries};
use crate::report::log::{self, AggregationContext, AnyLog, DayTotals, Totals};
use crate::report::{AggregatedReport, CollectError, Log, Rendered, ReportKind, Visitor, collect};

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
    /// Fetches the report of the period up to now. Returns the complete report or an error.
    pub(super) async fn run(self) -> Result<Rendered, Failed> {
        let (deadline, graph) = (self.deadline, &self.poller.graph);
        let fetched = tokio::time::timeout_at(deadline, self.report.visit(self))
            .await
            .unwrap_or_else(|_| Err(CollectError::Graph(graph.late())))?;
        // The deadline limits only the fetch. A complete report is rendered even if rendering takes longer.
        Ok(fetched.await.expect("rendering does not panic"))
    }

    /// Fetches a report that is requested as a whole at every poll.
    async fn fetch_report<R: AggregatedReport>(self) -> Result<Rendering, CollectError> {
        let windows = R::windows(self.period, self.now).into_iter();
        let graph = &self.poller.graph;
        let memory = Arc::clone(&self.state.lock().memory);
        let (totals, reservation) =
            collect::<R>(graph, windows, self.deadline, self.stats, &memory).await?;
        Ok(self.rendering(move |context| {
            let _until_rendered = reservation;
            R::render(totals, context)
        }))
    }

    /// Fetches a log: only the days that can still change. A final day enters the ledger as soon as it is complete,
    /// so a poll that fails later does not lose it.
    async fn fetch_log(self, log: &'static AnyLog) -> Result<Rendering, CollectError> {
        let (graph, plan) = (&self.poller.graph, &self.poller.plan);
        let (state, period, now) = (self.state, self.period, self.now);
        let (deadline, stats) = (self.deadline, self.stats);
        let allocation = plan.allocation_of(self.report);
        let (windows_due, memory) = {
            let mut state = state.lock();
            let memory = Arc::clone(&state.memory);
            let windows_due = state
                .ledgers
                .of(period, &allocation)
                .windows_due(now, &memory);
            state.count_ledgers();
            (windows_due, memory)
        };
        let aggregation = AggregationContext {
            user_label: &plan.report(self.report).user_label,
            allocation: &allocation,
            period,
            seen: &windows_due.seen,
            memory: &memory,
        };
        let fetch = |window| log::collect(log, graph, window, now, aggregation, deadline, stats);
        let mut totals = Totals::new(&allocation);
        let mut reservation = memory.reservation();
        let mut add = |day: DayTotals| {
            if day.is_final {
                let mut state = state.lock();
                let ledger = state.ledgers.of(period, &allocation);
                ledger.add_final(&day, &windows_due.seen);
                state.count_ledgers();
                state.is_unsaved = true;
            } else {
                totals.merge(&day.totals);
                reservation.hold(totals.bytes());
            }
        };
        // Days that become final come first. A row that a final day and an open day return must count in the final day,
        // because only the open day is fetched again.
        for windows in [windows_due.becoming_final, windows_due.open] {
            each_day(windows, fetch, &mut add).await?;
        }
        let final_days = state.lock().ledgers.of(period, &allocation).totals();
        // Before the merge, reserves the maximum size of the merged totals.
        reservation.resize(totals.bytes() + final_days.bytes())?;
        Ok(self.rendering(move |context| {
            let _until_rendered = reservation;
            totals.merge(&final_days);
            drop(final_days);
            totals.render(log.info, context)
        }))
    }

    /// Renders on a blocking thread, because sorting and compressing a large report would delay a scrape on the same
    /// thread.
    fn rendering(
        self,
        render: impl FnOnce(&RenderContext<'_>) -> Rendered + Send + 'static,
    ) -> Rendering {
        let plan = Arc::clone(&self.poller.plan);
        tokio::task::spawn_blocking(move || {
            let settings = plan.report(self.report);
            render(&RenderContext {
                tenant: plan.tenant.as_deref(),
                period: self.period,
                user_label: &settings.user_label,
                series_max: settings.series_max,
                allocation: &plan.allocation_of(self.report),
                retained: &self.retained,
            })
        })
    }
}

impl<'a> Visitor for Fetch<'a> {
    type Output = BoxFuture<'a, Result<Rendering, CollectError>>;

    fn aggregated<R: AggregatedReport>(self) -> Self::Output {
        Box::pin(self.fetch_report::<R>())
    }

    fn log<L: Log>(self) -> Self::Output {
        Box::pin(self.fetch_log(AnyLog::of::<L>()))
    }
}

/// Fetches windows, some of them in parallel, and calls `pass` with each result. If memory does not suffice for a
/// window while others are being fetched, the window is fetched again with fewer windows in parallel.
async fn each_day<T, F: Future<Output = Result<T, CollectError>>>(
    windows: Vec<Window>,
    fetch: impl Fn(Window) -> F,
    mut pass: impl FnMut(T),
) -> Result<(), CollectError> {
    let mut at_once = DAYS_AT_ONCE;
    let mut waiting = VecDeque::from(windows);
    let mut under_way = FuturesUnordered::new();
    loop {
        let free = at_once.saturating_sub(under_way.len()).min(waiting.len());
        let begun = waiting.drain(..free).map(|window| {
            let day = fetch(window);
            async move { (window, day.await) }
        });
        under_way.extend(begun);
        match under_way.next().await {
            None => return Ok(()),
            Some((window, Err(CollectError::Memory(_)))) if !under_way.is_empty() => {
                at_once = under_way.len();
                waiting.push_front(window);
            }
            Some((_, day)) => pass(day?),
        }
    }
}

/// A report that is being rendered.
type Rendering = tokio::task::JoinHandle<Rendered>;

/// Maximum number of days of a log that are fetched in parallel. Graph sends the pages of a day one after another, so
/// most of the time is spent waiting. More days in parallel would slow down other users of Graph in the tenant.
const DAYS_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::memory::{MemoryError, MemoryPool};
    use crate::period::CycleDay;

    /// Fetches eight days. Each needs `needed` bytes in the middle of its fetch, and there are 75 in all.
    async fn fetched(needed: usize) -> (usize, Result<Vec<Window>, CollectError>) {
        let now = "2026-11-08T12:00:00Z".parse().unwrap();
        let period = BillingPeriod::containing(now, CycleDay::default());
        let windows: Vec<Window> = period.windows(now, log::DAY).collect();
        let memory = MemoryPool::for_process(Some(144)).for_report();
        let fetches = RefCell::new(0);
        let fetch = |window| {
            let mut reservation = memory.reservation();
            *fetches.borrow_mut() += 1;
            async move {
                for bytes in [1, needed / 2, needed] {
                    reservation.resize(bytes)?;
                    tokio::task::yield_now().await;
                }
                Ok(window)
            }
        };
        let mut days = Vec::new();
        let outcome = each_day(windows.clone(), fetch, |day| days.push(day)).await;
        days.sort_unstable_by_key(|day: &Window| day.start());
        assert!(outcome.is_err() || days == windows);
        (fetches.into_inner(), outcome.map(|()| days))
    }

    #[tokio::test]
    async fn days_without_room_beside_others_are_fetched_again_beside_fewer() {
        let limit = CollectError::Memory(MemoryError::Report { max: 75 });
        for (needed, most_fetches, fits) in [
            (18, 8, true),
            (19, 9, true),
            (75, 11, true),
            (76, 11, false),
        ] {
            let (fetches, outcome) = fetched(needed).await;
            assert!(fetches <= most_fetches, "{needed}: {fetches}");
            match outcome {
                Ok(days) => assert!(fits && days.len() == 8, "{needed}"),
                Err(error) => assert!(!fits && error.to_string() == limit.to_string(), "{error}"),
            }
        }
    }
}
