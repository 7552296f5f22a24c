//! Sums by label set. Totals can be merged.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::{COUNTS_MAX, LABELS_MAX, MONEY_MAX};
use crate::money::Sum;
use crate::report::allocation::{Allocated, Allocation, SavedAllocated};
use crate::report::index::Index;
use crate::report::interner::Interner;
use crate::report::labels::RenderContext;
use crate::report::table::{Series, Table};
use crate::report::{Rendered, ReportInfo, column};

/// Totals of rows. They do not depend on the order of the rows or on the windows that returned them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "SavedTotals")]
pub(crate) struct Totals {
    pub(super) texts: Interner,
    pub(super) series: SeriesMap,
    /// Sums of budgets and departments.
    pub(super) allocated: Allocated,
    /// Rows that were counted.
    rows: u64,
    /// Rows with the id of a row that was already counted.
    pub(super) overlapping: u64,
    /// Rows that were not counted, because their time is in another period and far from the window that returned them.
    pub(super) unplaced: u64,
    /// Time of the newest row that was counted.
    pub(super) newest: Option<DateTime<Utc>>,
}

/// The figures of each label set. They are in a vector, because a hash table of them would need three times as much
/// memory while it grows.
#[derive(Clone, Debug, Default)]
pub(super) struct SeriesMap {
    entries: Vec<Series<LABELS_MAX, MONEY_MAX>>,
    index: Index,
}

/// Interned labels in the order of [`ReportInfo::labels`], and the interned user label. A label that the log does not
/// have is [`NO_LABEL`].
pub(super) type Labels = ([u32; LABELS_MAX], u32);

/// The figures of a row, or the sums of the figures of several rows.
pub(super) type Values = column::Values<MONEY_MAX>;

impl Totals {
    pub(crate) fn new(allocation: &Allocation) -> Self {
        let mut texts = Interner::default();
        // The empty text has the same id in all totals, so that equal label sets of different days are equal.
        let none = texts.intern("");
        debug_assert_eq!(none, NO_LABEL);
        Self {
            texts,
            allocated: Allocated::new(allocation),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, labels: Labels, values: &Values) {
        self.series.add(labels, values);
        self.rows += 1;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let texts = other.texts.iter();
        let ids: Vec<u32> = texts.map(|text| self.texts.intern(text)).collect();
        for series in &other.series.entries {
            let labels = series.labels.map(|id| ids[id as usize]);
            let user = ids[series.user as usize];
            self.series.add((labels, user), &series.values);
        }
        self.allocated.merge(&other.allocated);
        // Counts from a state file can have any value, so these sums must not overflow.
        self.rows = self.rows.saturating_add(other.rows);
        self.overlapping = self.overlapping.saturating_add(other.overlapping);
        self.unplaced = self.unplaced.saturating_add(other.unplaced);
        self.newest = self.newest.max(other.newest);
    }

    /// Renders the complete totals of a period.
    pub(crate) fn render(self, log: &'static ReportInfo, context: &RenderContext<'_>) -> Rendered {
        drop(self.series.index);
        let mut series = self.series.entries;
        let (texts, ranks) = self.texts.into_sorted();
        for series in &mut series {
            series.labels = series.labels.map(|id| ranks[id as usize]);
            series.user = ranks[series.user as usize];
        }
        series.sort_unstable_by_key(Series::key);
        let table = Table {
            info: log,
            texts: &texts,
            users: &texts,
            series,
        };
        Rendered {
            rows: self.rows,
            overlapping: self.overlapping,
            unplaced: self.unplaced,
            newest: self.newest,
            ..table.render(context, &self.allocated)
        }
    }

    /// Bytes of memory that the totals take.
    pub(crate) fn bytes(&self) -> usize {
        self.texts.bytes() + self.series.bytes() + self.allocated.bytes()
    }

    #[cfg(test)]
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

impl SeriesMap {
    /// Adds the values to those of the label set.
    fn add(&mut self, labels: Labels, values: &Values) {
        let entries = &mut self.entries;
        let next = u32::try_from(entries.len()).expect("fewer label sets than bytes");
        let is_same = |number| entries[number as usize].key() == labels;
        let number = self.index.number(labels, next, is_same);
        if let Some(series) = entries.get_mut(number as usize) {
            series.values.add(values);
        } else {
            let (labels, user) = labels;
            entries.push(Series {
                labels,
                user,
                values: *values,
            });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.entries) + self.index.bytes()
    }
}

/// Totals in a state file. When they are written, their items are created one by one, to save memory.
#[derive(Serialize, Deserialize)]
struct SavedTotals<Words = Vec<String>, Series = Vec<SavedSeries>> {
    words: Words,
    series: Series,
    allocated: SavedAllocated,
    rows: u64,
    overlapping: u64,
    unplaced: u64,
    newest: Option<DateTime<Utc>>,
}

type SavedSeries = (Labels, [Sum; MONEY_MAX], [i64; COUNTS_MAX]);

/// Serializes the items of an iterator as a list.
struct Each<I>(I);

impl<I: Iterator<Item: Serialize> + Clone> Serialize for Each<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut series: Vec<_> = self.series.entries.iter().collect();
        // Sorts the series, so that equal totals have equal state files.
        series.sort_unstable_by_key(|series| series.key());
        let values = |series: &&Series<LABELS_MAX, MONEY_MAX>| {
            let Values { money, counts } = series.values;
            (series.key(), money, counts)
        };
        let saved = SavedTotals {
            words: Each(self.texts.iter()),
            series: Each(series.iter().map(values)),
            allocated: self.allocated.save(),
            rows: self.rows,
            overlapping: self.overlapping,
            unplaced: self.unplaced,
            newest: self.newest,
        };
        saved.serialize(serializer)
    }
}

impl TryFrom<SavedTotals> for Totals {
    type Error = &'static str;

    /// Checks the invariants of totals: all texts of a label set are known, and each text and each label set occurs
    /// once.
    fn try_from(saved: SavedTotals) -> Result<Self, Self::Error> {
        const ERROR: &str = "totals are inconsistent";
        let mut totals = Self {
            allocated: saved.allocated.into(),
            rows: saved.rows,
            overlapping: saved.overlapping,
            unplaced: saved.unplaced,
            newest: saved.newest,
            ..Self::new(&Allocation::default())
        };
        for (number, word) in (0..).zip(&saved.words) {
            if totals.texts.intern(word) != number {
                return Err(ERROR);
            }
        }
        for (labels, money, counts) in saved.series {
            let is_known = |&word: &u32| (word as usize) < saved.words.len();
            let count = totals.series.len();
            if labels.0.iter().chain([&labels.1]).all(is_known) {
                totals.series.add(labels, &Values { money, counts });
            }
            if totals.series.len() == count {
                return Err(ERROR);
            }
        }
        Ok(totals)
    }
}

/// Id of the empty text, for a label that a log does not have.
pub(super) const NO_LABEL: u32 = 0;
