//! Sums by label set. Totals can be merged.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize, Serializer};

use super::{COUNTS_MAX, LABELS_MAX, Log, MONEY_MAX};
use crate::money::Sum;
use crate::report::Rendered;
use crate::report::interner::Interner;
use crate::report::labels::RenderContext;
use crate::report::row::{RETAINED_MAX, RowError, within};
use crate::report::table::{self, Series, Table};

/// Totals of rows. They do not depend on the order of the rows or on how windows divide them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "SavedTotals")]
pub(crate) struct Totals {
    pub(super) texts: Interner,
    pub(super) series: HashMap<Labels, Values>,
    /// Spend by budget.
    spent: Vec<Sum>,
    /// Rows that were counted.
    rows: u64,
    /// Rows that were repeated with the same id.
    pub(super) overlapping: u64,
    /// Rows whose time is in another period and far from the window that returned them.
    pub(super) unplaced: u64,
}

/// Interned labels in the order of the log's, then the user's. A label that the log does not have is [`NO_LABEL`].
pub(super) type Labels = [u32; LABELS_MAX + 1];

/// The figures of a row, or of many.
pub(super) type Values = table::Values<MONEY_MAX>;

impl Totals {
    /// Empty totals with this number of budgets.
    pub(crate) fn new(budgets: usize) -> Self {
        let mut texts = Interner::default();
        // The same in all totals, so that equal label sets of different days are equal.
        let none = texts.intern("");
        debug_assert_eq!(none, NO_LABEL);
        Self {
            texts,
            spent: vec![Sum::default(); budgets],
            ..Self::default()
        }
    }

    /// Adds one row, which counts for some of the budgets.
    pub(super) fn add(
        &mut self,
        labels: Labels,
        values: Values,
        budgets: &[usize],
    ) -> Result<(), RowError> {
        self.series.entry(labels).or_default().add(&values);
        self.check(DAY_MAX)?;
        for &budget in budgets {
            self.spent[budget].merge(values.money[0]);
        }
        self.rows += 1;
        Ok(())
    }

    /// Adds the totals of another window.
    ///
    /// # Errors
    /// If the sum of both takes too much memory. The totals are unusable then.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), RowError> {
        let Self {
            texts,
            series,
            spent,
            rows,
            overlapping,
            unplaced,
        } = other;
        let mut translated = vec![None; texts.count()];
        let mut translate = |labels: &Labels| {
            labels.map(|id| {
                *translated[id as usize].get_or_insert_with(|| self.texts.intern(texts.text(id)))
            })
        };
        self.series
            .reserve(series.len().saturating_sub(self.series.len()));
        for (labels, values) in series {
            self.series
                .entry(translate(labels))
                .or_default()
                .add(values);
        }
        for (sum, more) in self.spent.iter_mut().zip(spent) {
            sum.merge(*more);
        }
        // Numbers from a state file may have any value.
        self.rows = self.rows.saturating_add(*rows);
        self.overlapping = self.overlapping.saturating_add(*overlapping);
        self.unplaced = self.unplaced.saturating_add(*unplaced);
        self.check(RETAINED_MAX)
    }

    /// Number of budgets whose spend the totals have.
    pub(super) fn budgets(&self) -> usize {
        self.spent.len()
    }

    /// Holds the memory that the totals take against their budget.
    fn check(&self, max: usize) -> Result<(), RowError> {
        let texts = self.texts.bytes();
        let sets = self.series.len() * size_of::<(Labels, Values)>();
        within(texts, TEXTS_MAX)?;
        within(texts + sets, max)
    }

    /// Rows that were counted.
    #[cfg(test)]
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }
}

/// Renders the totals of a period. Nothing is added to them after this.
pub(crate) fn render<L: Log>(totals: Totals, context: &RenderContext<'_>) -> Rendered {
    let (texts, ranks) = totals.texts.into_sorted();
    let to_series = |(labels, values): (Labels, Values)| {
        let [labels @ .., user] = labels.map(|id| ranks[id as usize]);
        Series {
            labels,
            user,
            values,
        }
    };
    let mut series: Vec<Series<LABELS_MAX, MONEY_MAX>> =
        totals.series.into_iter().map(to_series).collect();
    series.sort_unstable_by_key(Series::key);
    let table = Table {
        names: L::LABELS,
        columns: L::COLUMNS,
        texts: &texts,
        users: &texts,
        series,
    };
    Rendered {
        rows: totals.rows,
        overlapping: totals.overlapping,
        unplaced: totals.unplaced,
        ..table.render(context, &totals.spent)
    }
}

/// Totals in a state file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedTotals {
    words: Vec<String>,
    series: Vec<(Labels, [SavedSum; MONEY_MAX], [i64; COUNTS_MAX])>,
    spent: Vec<SavedSum>,
    rows: u64,
    overlapping: u64,
    unplaced: u64,
}

/// The parts of a sum.
type SavedSum = (String, String);

impl Totals {
    /// The totals for a state file.
    pub(crate) fn save(&self) -> SavedTotals {
        let ids = (0..).take(self.texts.count());
        let values = |(labels, values): (&Labels, &Values)| {
            (*labels, values.money.map(Sum::parts), values.counts)
        };
        let mut series: Vec<_> = self.series.iter().map(values).collect();
        // Equal totals give equal files.
        series.sort_unstable_by_key(|&(labels, ..)| labels);
        SavedTotals {
            words: ids.map(|id| self.texts.text(id).to_owned()).collect(),
            series,
            spent: self.spent.iter().map(|sum| sum.parts()).collect(),
            rows: self.rows,
            overlapping: self.overlapping,
            unplaced: self.unplaced,
        }
    }
}

impl Serialize for Totals {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.save().serialize(serializer)
    }
}

impl TryFrom<SavedTotals> for Totals {
    type Error = &'static str;

    /// Checks what the other methods rely on: a label set has known texts, and each text and label set is there once.
    fn try_from(saved: SavedTotals) -> Result<Self, Self::Error> {
        const ERROR: &str = "totals do not fit together";
        let sum = |(whole, fraction): &SavedSum| Sum::from_parts(whole, fraction).ok_or(ERROR);
        let mut totals = Self {
            spent: saved.spent.iter().map(sum).collect::<Result<_, _>>()?,
            rows: saved.rows,
            overlapping: saved.overlapping,
            unplaced: saved.unplaced,
            ..Self::new(0)
        };
        for (number, word) in (0..).zip(&saved.words) {
            if totals.texts.intern(word) != number {
                return Err(ERROR);
            }
        }
        for (labels, [first, second], counts) in saved.series {
            let money = [sum(&first)?, sum(&second)?];
            let is_known = |&word: &u32| (word as usize) < saved.words.len();
            let values = Values { money, counts };
            if !labels.iter().all(is_known) || totals.series.insert(labels, values).is_some() {
                return Err(ERROR);
            }
        }
        Ok(totals)
    }
}

/// Interned text of a label that a log does not have.
pub(super) const NO_LABEL: u32 = 0;

/// Bytes of the totals of one day: 100,000 label sets. Four days are read at once.
const DAY_MAX: usize = RETAINED_MAX / 4;

/// Bytes of all interned text: 100,000 users take 10 MB, and the totals exist twice when they are rendered.
const TEXTS_MAX: usize = RETAINED_MAX / 3;
