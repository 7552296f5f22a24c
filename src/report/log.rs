//! Logs: reports with one row for each call or message, instead of one row for each sum.
//!
//! A month may have a million rows, so a log is fetched day by day, and its rows are added to totals as the pages
//! arrive. Totals grow with the label sets, not with the rows. A day that ended long enough ago is final: its totals go
//! into the ledger of the period, and it is not fetched again. So a poll fetches only the pages of the last days.
//!
//! A row is counted once, in the billing period of its time, even if several windows return it. This can happen because
//! some functions include the end of a window or return more than the window. Rows are recognized by their id, of which
//! 64 bits are kept for every row of the period. Some functions select calls by their end instead of their start, and
//! return the last rows of a period in later windows. So the windows of the next two days are fetched too.
//!
//! The memory of all data of a log is reserved in the pool of its report: windows that are being fetched, ids, final
//! days, and rendered totals. If there is no room for a window, its rows do not count as seen, so a later window can
//! count them.
//!
//! This module does not fetch days concurrently, does not keep state between polls, and does not know the columns of a
//! log.

#![deny(clippy::float_arithmetic)]

mod aggregator;
mod ledger;
mod seen;
mod totals;

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::allocation::Allocation;
use super::column::COUNTS_MAX;
use super::labels::UserLabel;
use super::{CollectError, Log, ReportInfo};
use crate::graph::Graph;
use crate::graph::pages::{Page, Read};
use crate::graph::stats::RequestStats;
use crate::memory::{MemoryPool, Reservation};
use crate::money::Amount;
use crate::period::{BillingPeriod, Window};

pub(crate) use aggregator::LogAggregator;
pub(crate) use ledger::{Ledgers, windows};
pub(crate) use seen::{Numbers, RowId, SeenRows};
pub(crate) use totals::Totals;

/// The counted data of a row.
pub struct Record<'r> {
    /// The id, which is unique in the log. Empty if the row has no id.
    pub id: &'r str,
    /// Start time, which decides the billing period of the row. `None` if the row has no time. The row then belongs to
    /// the period of the window that returns it first.
    pub time: Option<DateTime<Utc>>,
    /// User id, user principal name, display name; each may be empty.
    pub person: [&'r str; 3],
    /// The exposed labels, in the order of [`ReportInfo::labels`].
    pub labels: [Cow<'r, str>; LABELS_MAX],
    /// Amounts in the row's currency.
    pub money: [Amount; MONEY_MAX],
    /// Calls, seconds, messages, …
    pub counts: [i64; COUNTS_MAX],
}

/// The settings for aggregating rows, and the rows that were already counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AggregationContext<'a> {
    pub(crate) user_label: &'a UserLabel,
    /// The budgets and pools of this log, and the departments.
    pub(crate) allocation: &'a Allocation,
    /// The billing period of the totals.
    pub(crate) period: BillingPeriod,
    pub(crate) seen: &'a SeenRows,
    /// The memory pool of the report.
    pub(crate) memory: &'a Arc<MemoryPool>,
}

/// The totals of one window.
pub(crate) struct DayTotals {
    pub(crate) window: Window,
    pub(crate) totals: Totals,
    /// Ids of the rows that no earlier window returned. Empty if the totals are not final.
    pub(crate) ids: Vec<RowId>,
    pub(crate) is_final: bool,
    /// The reserved memory of the totals and ids, which is released on drop.
    pub(crate) _memory: Reservation,
}

/// A log as a value instead of a type parameter. Code that does not depend on the type of a row uses it, and is
/// therefore compiled only once for all logs.
pub(crate) struct AnyLog {
    pub(crate) info: &'static ReportInfo,
    add_page: fn(&mut LogAggregator<'_>, &mut Page<'_, '_>) -> Result<Read, CollectError>,
}

impl AnyLog {
    pub(crate) const fn of<L: Log>() -> &'static Self {
        const {
            &Self {
                info: &L::INFO,
                add_page: |aggregator, page| aggregator.add_rows::<L>(page),
            }
        }
    }
}

/// Fetches the totals of one window at `now`. After an error, no row of the window counts as seen, so the window can be
/// fetched again.
pub(crate) async fn collect(
    log: &'static AnyLog,
    graph: &Graph,
    window: Window,
    now: DateTime<Utc>,
    context: AggregationContext<'_>,
    deadline: Instant,
    stats: &RequestStats,
) -> Result<DayTotals, CollectError> {
    let mut aggregator = LogAggregator::new(log, window, context);
    let read = read_pages(graph, &mut aggregator, now, deadline, stats).await;
    let asked = read.inspect_err(|_| context.seen.remove(aggregator.ids.drain(..)))?;
    Ok(aggregator.finish(is_final(window, asked)))
}

/// Adds all pages of the aggregator's window. Returns the time of the requests: `now` or the time of the server,
/// whichever is earlier. If the local clock is ahead, `now` alone could make a day final before all of its rows have
/// arrived.
async fn read_pages(
    graph: &Graph,
    aggregator: &mut LogAggregator<'_>,
    now: DateTime<Utc>,
    deadline: Instant,
    stats: &RequestStats,
) -> Result<DateTime<Utc>, CollectError> {
    let query = aggregator.log.info.query(aggregator.window);
    let mut pages = graph.pages(&query, deadline, stats, aggregator.context.memory);
    let mut asked = now;
    while let Some(mut page) = pages.next().await? {
        asked = page.server_date().map_or(asked, |date| asked.min(date));
        aggregator.add_page(&mut page)?;
    }
    Ok(asked)
}

/// Returns true if the totals of a window that was fetched at `asked` are final: all of its calls had ended, and all of
/// its rows had arrived.
fn is_final(window: Window, asked: DateTime<Utc>) -> bool {
    asked >= window.end() + LATENESS
}

/// Returns true if `time` is inside `window`, or at most [`MARGIN`] before or after it.
pub(crate) fn is_near(window: Window, time: DateTime<Utc>) -> bool {
    (window.start() - MARGIN..=window.end() + MARGIN).contains(&time)
}

/// Width of a window of a log.
pub(crate) const DAY: TimeDelta = TimeDelta::days(1);

/// Time after the end of a day during which the totals of the day can change. A meeting can begin in the last second of
/// the day and last for 30 hours. The source can be up to 48 hours late.
pub(crate) const LATENESS: TimeDelta = TimeDelta::hours(48 + 30);

/// Maximum distance between the time of a row and a window that returns the row. A call of 30 hours can end, and be
/// returned, two days after the day in which it began.
pub(crate) const MARGIN: TimeDelta = TimeDelta::days(2);

/// Maximum number of labels of a log, except for `tenant` and `user`.
pub const LABELS_MAX: usize = 7;

/// Maximum number of amounts in a row: charge and connection charge.
pub const MONEY_MAX: usize = 2;

#[cfg(test)]
mod tests;
