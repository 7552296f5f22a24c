//! Logs: reports with one row for each call or message, instead of one row for each sum.
//!
//! A month may have a million rows, so a log is fetched day by day, and its rows are added to totals as the pages
//! arrive. Totals grow with the label sets, not with the rows. A day that ended long enough ago is final: its totals go
//! into the ledger of the period, and it is not fetched again. So a poll fetches only the pages of the last days.
//!
//! A row is counted once, in the billing period of its time, even if several windows return it. This can happen because
//! some functions select calls by their start, some by their end, some include the end of a window, and some return
//! more than the window. Rows are recognized by their id, of which 64 bits are kept for every row of the period. The
//! last rows of a period may be in later windows, because some functions select calls by their end. So the windows of
//! the next two days are fetched too.
//!
//! The memory of all data of a log is reserved in the [pool](crate::memory) of its report: windows that are being
//! fetched, ids, final days, and rendered totals. If there is no room for a window, its rows do not count as seen, so a
//! later window can count them.
//!
//! This module does not fetch days concurrently, does not keep state between polls, and does not know the columns of a
//! log.

#![deny(clippy::float_arithmetic)]

mod ledger;
mod seen;
mod totals;

use std::borrow::Cow;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::allocation::{Allocation, Allocator};
use super::budget::{self, BudgetRow};
use super::column::{COUNTS_MAX, LATER_MONTH};
use super::interner::{Interner, LabelSetId, LabelSets};
use super::labels::UserLabel;
use super::person_table::{PersonId, PersonTable};
use super::pool::{self, PooledCall};
use super::row::Notes;
use super::{CollectError, Report, ReportInfo, row_error};
use crate::graph::Graph;
use crate::graph::pages::{Page, Read};
use crate::graph::stats::RequestStats;
use crate::memory::{MemoryError, MemoryPool, Reservation};
use crate::money::{Amount, Sum};
use crate::period::{BillingPeriod, Window};

use totals::{Labels, NO_LABEL, Values};

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
    /// The rows that were already counted.
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
    /// True if the totals are final.
    pub(crate) is_final: bool,
    /// The reserved memory of the totals and ids, which is released on drop.
    pub(crate) _memory: Reservation,
}

/// A log as a value instead of a type parameter. Code that does not depend on the type of a row uses it, so such code is
/// compiled only once for all logs.
pub(crate) struct AnyLog {
    pub(crate) info: &'static ReportInfo,
    add_page: fn(&mut LogAggregator<'_>, &mut Page<'_, '_>) -> Result<Read, CollectError>,
}

impl AnyLog {
    pub(crate) const fn of<L: Report>() -> &'static Self {
        const {
            &Self {
                info: &L::INFO,
                add_page: |aggregator, page| aggregator.add_rows::<L>(page),
            }
        }
    }
}

/// Fetches the totals of one window at `now`. After an error, none of its rows count as seen, so the window can be
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

/// Aggregates the rows of one window into totals.
pub(crate) struct LogAggregator<'a> {
    log: &'static AnyLog,
    window: Window,
    context: AggregationContext<'a>,
    positions: LabelPositions,
    /// Start of the calendar month that begins in the period. `None` if the log has no pools.
    first_of_month: Option<DateTime<Utc>>,
    /// The names for which a pseudonym was computed. `users` has the interned pseudonym of each name, because computing
    /// it again would take long.
    names: Interner,
    users: Vec<u32>,
    allocator: Allocator<'a>,
    label_sets: LabelSets,
    /// Empty if the allocation does not select persons.
    persons: PersonTable,
    numbers: Numbers,
    ids: Vec<RowId>,
    /// The rows of the page that is being read.
    page: PageRows,
    pub(crate) totals: Totals,
    /// The reserved memory of the fields above.
    memory: Reservation,
    /// The labels and names by which budgets select each row, if the caller needs them.
    pub(crate) budget_rows: Option<Vec<BudgetRow>>,
}

/// The rows of a page that may be incomplete, and the state to restore if the page is dropped.
#[derive(Default)]
struct PageRows {
    rows: Vec<PageRow>,
    ids: usize,
    budget_rows: usize,
    overlapping: u64,
    unplaced: u64,
    /// Time of the newest row of the page.
    newest: Option<DateTime<Utc>>,
}

struct PageRow {
    labels: Labels,
    values: Values,
    label_set: LabelSetId,
    person: PersonId,
}

/// Positions of the labels by which budgets and pools select rows.
#[derive(Clone, Copy)]
struct LabelPositions {
    /// [`budget::LABELS`], as far as the log has them.
    budgets: [Option<usize>; 3],
    /// [`pool::LABELS`], if the log has all of them.
    pools: Option<[usize; 4]>,
}

impl<'a> LogAggregator<'a> {
    pub(crate) fn new(
        log: &'static AnyLog,
        window: Window,
        context: AggregationContext<'a>,
    ) -> Self {
        let positions = LabelPositions::of(log.info);
        let has_pools = positions.pools.is_some();
        Self {
            log,
            window,
            context,
            positions,
            first_of_month: has_pools.then(|| context.period.first_of_month()),
            names: Interner::default(),
            users: Vec::new(),
            allocator: Allocator::new(context.allocation),
            label_sets: LabelSets::default(),
            persons: PersonTable::default(),
            numbers: Numbers::default(),
            ids: Vec::new(),
            page: PageRows::default(),
            totals: Totals::new(context.allocation),
            memory: context.memory.reservation(),
            budget_rows: None,
        }
    }

    /// Counts the rows of one page. If the page is incomplete, counts none of them.
    pub(crate) fn add_page(&mut self, page: &mut Page<'_, '_>) -> Result<Read, CollectError> {
        (self.log.add_page)(self, page)
    }

    fn add_rows<L: Report>(&mut self, page: &mut Page<'_, '_>) -> Result<Read, CollectError> {
        let row_error = row_error(page);
        self.page = PageRows {
            ids: self.ids.len(),
            budget_rows: self.budget_rows.as_ref().map_or(0, Vec::len),
            overlapping: self.totals.overlapping,
            unplaced: self.totals.unplaced,
            ..PageRows::default()
        };
        let mut notes = Notes::default();
        let stats = page.stats();
        let read = page.decode(|number, row: L::Row<'_>| {
            let mut row_notes = Notes::default();
            let record = L::record(&row, &mut row_notes);
            let record = record.map_err(|source| row_error(number, source))?;
            if self.stage(&record)? {
                notes.add(row_notes);
            }
            Ok::<_, CollectError>(())
        })?;
        match read {
            Read::Whole => {
                notes.count(stats);
                self.commit()?;
            }
            Read::Broken => self.roll_back(),
        }
        Ok(read)
    }

    /// Counts a row unless it belongs to another period or was counted before.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn add(&mut self, record: &Record<'_>) -> Result<(), MemoryError> {
        self.stage(record)?;
        self.commit()
    }

    /// Returns the totals and ids, and releases all other memory.
    fn finish(self, is_final: bool) -> DayTotals {
        let (totals, mut memory) = (self.totals, self.memory);
        let ids = if is_final { self.ids } else { Vec::new() };
        memory.hold(totals.bytes() + size_of_val(&*ids));
        DayTotals {
            window: self.window,
            totals,
            ids,
            is_final,
            _memory: memory,
        }
    }

    /// Reserves memory for the window and for `page_rows` rows of its page.
    fn reserve(&mut self, page_rows: usize) -> Result<(), MemoryError> {
        let users = self.names.bytes() + size_of_val(&*self.users);
        let rows = page_rows * size_of::<PageRow>() + size_of_val(&*self.ids);
        let allocator = self.allocator.bytes() + self.label_sets.bytes() + self.persons.bytes();
        let bytes = self.totals.bytes() + users + allocator + self.numbers.bytes() + rows;
        self.memory.resize(bytes)
    }

    /// Adds the rows of the page to the totals.
    fn commit(&mut self) -> Result<(), MemoryError> {
        self.numbers.commit();
        self.totals.newest = self.totals.newest.max(self.page.newest.take());
        let rows = std::mem::take(&mut self.page.rows);
        let count = rows.len();
        rows.into_iter().try_for_each(|row| {
            self.totals.add(row.labels, &row.values);
            let sums = &mut self.totals.allocated;
            self.allocator
                .add(row.label_set, row.person, &row.values, sums);
            self.reserve(count)
        })
    }

    /// Drops the rows of the page, which is requested again.
    fn roll_back(&mut self) {
        let page = std::mem::take(&mut self.page);
        self.context.seen.remove(self.ids.drain(page.ids..));
        self.numbers.roll_back();
        if let Some(budget_rows) = &mut self.budget_rows {
            budget_rows.truncate(page.budget_rows);
        }
        self.totals.overlapping = page.overlapping;
        self.totals.unplaced = page.unplaced;
    }

    /// Holds a row until its page is known to be complete. Returns false if the row is not counted, because it belongs
    /// to another period or was counted before.
    fn stage(&mut self, record: &Record<'_>) -> Result<bool, MemoryError> {
        if let Some(id) = self.numbers.id(record) {
            // Windows can overlap. Pages can overlap too, because Microsoft adds rows to the log between two requests.
            if !self.context.seen.insert(id)? {
                self.totals.overlapping += 1;
                return Ok(false);
            }
            self.ids.push(id);
        }
        let time = record.time.unwrap_or(self.window.start());
        let is_counted = self.context.period.contains(time);
        if is_counted {
            self.hold(record, time);
        } else if !is_near(self.window, time) {
            // The windows of the row's period may not return the row, so it is reported as not counted. A row near the
            // window is in the previous or next period. The windows of that period return it too, so it counts there.
            self.totals.unplaced += 1;
        }
        self.reserve(self.page.rows.len())?;
        Ok(is_counted)
    }

    /// Holds a row of the current period, which belongs to `time`.
    fn hold(&mut self, record: &Record<'_>, time: DateTime<Utc>) {
        self.page.newest = self.page.newest.max(record.time);
        if let Some(budget_rows) = &mut self.budget_rows {
            budget_rows.push(self.positions.budget_row(record));
        }
        let mut counts = record.counts;
        if self.first_of_month.is_some_and(|first| time >= first) {
            counts[LATER_MONTH] = counts[SECONDS];
        }
        let user = self.user(record.person);
        let mut labels = [NO_LABEL; LABELS_MAX];
        let texts = &record.labels[..self.log.info.labels.len()];
        for (slot, label) in labels.iter_mut().zip(texts) {
            *slot = self.totals.texts.intern(label);
        }
        let label_set = self.label_set(&labels, record);
        let person = self.person(record.person);
        self.page.rows.push(PageRow {
            labels: (labels, user),
            values: Values {
                money: record.money.map(Sum::from),
                counts,
            },
            label_set,
            person,
        });
    }

    /// The interned user label of a person.
    fn user(&mut self, names: [&str; 3]) -> u32 {
        let user_label = self.context.user_label;
        let texts = &mut self.totals.texts;
        let mut label = || texts.intern(&user_label.label(names));
        if !matches!(user_label, UserLabel::Pseudonym(_)) {
            return label();
        }
        let name = self.names.intern(user_label.name(names)) as usize;
        if name == self.users.len() {
            self.users.push(label());
        }
        self.users[name]
    }

    /// Returns the person, or 0 if the allocation does not select persons.
    fn person(&mut self, [id, principal_name, _]: [&str; 3]) -> PersonId {
        if !self.context.allocation.selects_persons() {
            return 0;
        }
        let count = self.persons.count();
        let person = self.persons.intern([id, principal_name, ""]);
        if person == count {
            self.allocator.add_person(principal_name, id);
        }
        person
    }

    /// The label set of a row with these interned labels.
    fn label_set(&mut self, labels: &[u32; LABELS_MAX], record: &Record<'_>) -> LabelSetId {
        let label = |position: Option<usize>| position.map_or(NO_LABEL, |at| labels[at]);
        let interned = self.positions.budgets.map(label);
        let count = self.label_sets.count();
        let label_set = self.label_sets.intern(interned);
        if label_set == count {
            self.allocator.add_label_set(self.positions.labels(record));
        }
        label_set
    }
}

impl LabelPositions {
    fn of(log: &ReportInfo) -> Self {
        Self {
            budgets: budget::LABELS.map(|name| log.label(name)),
            pools: pool::positions(log),
        }
    }

    /// The values of [`budget::LABELS`] of a row. A label that the log does not have is empty.
    fn labels<'r>(&self, record: &'r Record<'_>) -> [&'r str; 3] {
        self.budgets
            .map(|position| position.map_or("", |position| &*record.labels[position]))
    }

    fn budget_row(&self, record: &Record<'_>) -> BudgetRow {
        let [id, principal_name, _] = record.person;
        let call = self.pools.map(|positions| PooledCall {
            labels: positions.map(|position| record.labels[position].to_string()),
            seconds: record.counts[SECONDS],
            has_charge: record
                .money
                .iter()
                .any(|&amount| amount != Amount::default()),
        });
        BudgetRow {
            labels: self.labels(record).map(str::to_owned),
            names: [principal_name, id].map(str::to_owned),
            call,
        }
    }
}

/// Returns true if the totals of a window that was fetched at `asked` are final: all of its calls had ended, and all of
/// its rows had arrived.
fn is_final(window: Window, asked: DateTime<Utc>) -> bool {
    asked >= window.end() + LATENESS
}

/// Returns true if a row with this time is at most [`MARGIN`] from the window that returned it.
pub(crate) fn is_near(window: Window, time: DateTime<Utc>) -> bool {
    (window.start() - MARGIN..=window.end() + MARGIN).contains(&time)
}

/// Width of a window of a log.
pub(crate) const DAY: TimeDelta = TimeDelta::days(1);

/// Time after the end of a day during which the totals of the day can change. A meeting can begin in the last second of
/// the day and last for 30 hours. The source can be up to 48 hours late.
pub(crate) const LATENESS: TimeDelta = TimeDelta::hours(48 + 30);

/// Maximum time between a row and a window that returns it. A call of 30 hours can end two days after the day in which
/// it began.
pub(crate) const MARGIN: TimeDelta = TimeDelta::days(2);

/// Index of the seconds among the counts of a log that has pools.
const SECONDS: usize = 1;

/// Maximum number of labels of a log, except for `tenant` and `user`.
pub const LABELS_MAX: usize = 7;

/// Maximum number of amounts in a row: charge and connection charge.
pub const MONEY_MAX: usize = 2;

#[cfg(test)]
mod tests;
