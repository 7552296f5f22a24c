//! The columns of a report: metric families, and the figures that they sum.

#![deny(clippy::float_arithmetic)]

use crate::exposition::Family;
use crate::money::Sum;

/// A metric family of a report, and the source of its values.
pub struct Column {
    /// Family of the current period.
    pub current: Family,
    /// Family of the previous period, without users.
    pub previous: Family,
    /// The figure that both families sum.
    pub measure: Measure,
}

/// One of the figures of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// An index into the amounts.
    Money(usize),
    /// An index into the counts, and the unit of the count in the plural.
    Count(usize, &'static str),
}

/// The figures of a row, or the sums of the figures of several rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Values<const MONEY: usize> {
    pub(crate) money: [Sum; MONEY],
    pub(crate) counts: [i64; COUNTS_MAX],
}

impl<const MONEY: usize> Values<MONEY> {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in self.money.iter_mut().zip(other.money) {
            sum.merge(more);
        }
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            *sum = sum.saturating_add(more);
        }
    }
}

impl<const MONEY: usize> Default for Values<MONEY> {
    fn default() -> Self {
        Self {
            money: [Sum::default(); MONEY],
            counts: [0; COUNTS_MAX],
        }
    }
}

/// Maximum number of counts in a row. The first is calls or messages. The second is the duration in seconds, or SMS
/// units. The third is failed calls, or the seconds of `LATER_MONTH`.
pub const COUNTS_MAX: usize = 3;

/// Index in the counts. A report with pools uses it for the seconds of calls in the calendar month that begins in the
/// billing period. Other reports can use it for another count.
pub(crate) const LATER_MONTH: usize = COUNTS_MAX - 1;
