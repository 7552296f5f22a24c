//! Adds up the rows of one window, page by page. The rows of a page count only when the page is complete.

use chrono::{DateTime, Utc};

use super::seen::{Numbers, RowId};
use super::totals::{Labels, NO_LABEL, Totals, Values};
use super::{AggregationContext, AnyLog, DayTotals, LABELS_MAX, Record, is_near};
use crate::graph::pages::{Page, Read};
use crate::memory::{MemoryError, Reservation};
use crate::money::{Amount, Sum};
use crate::period::Window;
use crate::report::allocation::Allocator;
use crate::report::budget::{self, BudgetRow};
use crate::report::column::LATER_MONTH;
use crate::report::interner::{Interner, LabelSetId, LabelSets};
use crate::report::labels::UserLabel;
use crate::report::person_table::{PersonId, PersonTable};
use crate::report::pool::{self, PooledCall};
use crate::report::row::Notes;
use crate::report::{CollectError, Report, ReportInfo, row_error};

/// Aggregates the rows of one window into totals.
pub(crate) struct LogAggregator<'a> {
    pub(super) log: &'static AnyLog,
    pub(super) window: Window,
    pub(super) context: AggregationContext<'a>,
    positions: LabelPositions,
    /// Start of the calendar month that begins in the period. `None` if the log has no pools.
    first_of_month: Option<DateTime<Utc>>,
    /// The names with a computed pseudonym. `users` has their interned pseudonyms in the same order, so that the slow
    /// computation runs once per name.
    names: Interner,
    users: Vec<u32>,
    allocator: Allocator<'a>,
    label_sets: LabelSets,
    /// Empty if the allocation does not select persons.
    persons: PersonTable,
    numbers: Numbers,
    pub(super) ids: Vec<RowId>,
    page: PageRows,
    pub(crate) totals: Totals,
    /// The reserved memory of the fields above.
    memory: Reservation,
    /// The data of each row by which budgets and pools select it. `None` if the caller does not need this data.
    pub(crate) budget_rows: Option<Vec<BudgetRow>>,
}

/// The rows and counts of a page that may be incomplete. If the page is dropped, the aggregator's lists are truncated
/// to their previous lengths.
#[derive(Default)]
struct PageRows {
    rows: Vec<PageRow>,
    ids_before: usize,
    budget_rows_before: usize,
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
    /// Positions of [`budget::LABELS`]. `None` for a label that the log does not have.
    budgets: [Option<usize>; 3],
    /// Positions of [`pool::LABELS`]. `None` if the log lacks one of them.
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

    pub(super) fn add_rows<L: Report>(
        &mut self,
        page: &mut Page<'_, '_>,
    ) -> Result<Read, CollectError> {
        let row_error = row_error(page);
        self.page = PageRows {
            ids_before: self.ids.len(),
            budget_rows_before: self.budget_rows.as_ref().map_or(0, Vec::len),
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
    pub(super) fn finish(self, is_final: bool) -> DayTotals {
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
        let page = std::mem::take(&mut self.page);
        self.totals.newest = self.totals.newest.max(page.newest);
        self.totals.overlapping += page.overlapping;
        self.totals.unplaced += page.unplaced;
        let count = page.rows.len();
        page.rows.into_iter().try_for_each(|row| {
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
        self.context.seen.remove(self.ids.drain(page.ids_before..));
        self.numbers.roll_back();
        if let Some(budget_rows) = &mut self.budget_rows {
            budget_rows.truncate(page.budget_rows_before);
        }
    }

    /// Holds a row until its page is known to be complete. Returns false if the row is not counted, because it belongs
    /// to another period or was counted before.
    fn stage(&mut self, record: &Record<'_>) -> Result<bool, MemoryError> {
        if let Some(id) = self.numbers.id(record) {
            // Windows can overlap. Pages can overlap too, because Microsoft adds rows to the log between two requests.
            if !self.context.seen.insert(id)? {
                self.page.overlapping += 1;
                return Ok(false);
            }
            self.ids.push(id);
        }
        let time = record.time.unwrap_or(self.window.start());
        let is_counted = self.context.period.contains(time);
        // A row of another period is counted there, if a window of that period returns it. If the row is near this
        // window, one does. If the row is far from this window, perhaps none does, so the row is reported as not
        // counted.
        if is_counted {
            self.hold(record, time);
        } else if !is_near(self.window, time) {
            self.page.unplaced += 1;
        }
        self.reserve(self.page.rows.len())?;
        Ok(is_counted)
    }

    /// Holds a row of the period until its page is complete. `time` decides the calendar month of the row.
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

    /// The label set by which budgets select the row. `labels` has the interned labels of the row.
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

/// Index of the seconds in the counts of a row. It applies to every log that has pools.
const SECONDS: usize = 1;
