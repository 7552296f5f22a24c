//! Totals of a log's rows, computed in the simplest way: the oracle of tests and benches.

use std::collections::BTreeMap;

use super::world::Charge;

/// Totals of rows by the values of all labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    labels: &'static [&'static str],
    sums: BTreeMap<Vec<String>, Amounts>,
}

/// Totals of some rows. Values that their kind lacks are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Number of rows.
    pub rows: u64,
    /// Number of rows that say that they failed.
    pub failed: u64,
    /// Total duration.
    pub seconds: u64,
    /// Units of messages.
    pub units: u64,
    /// Ten-thousandths of the currency's unit.
    pub charge: i128,
    /// Ten-thousandths of the currency's unit.
    pub connection_charge: i128,
}

impl Sums {
    pub(super) fn new(labels: &'static [&'static str]) -> Self {
        Self {
            labels,
            sums: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, labels: Vec<String>, amounts: Amounts) {
        self.sums.entry(labels).or_default().add(amounts);
    }

    /// The names of the labels, in the order of the values in the keys.
    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// Totals by the values of all labels.
    pub fn all(&self) -> &BTreeMap<Vec<String>, Amounts> {
        &self.sums
    }

    /// Totals by the values of some labels, in the requested order.
    ///
    /// # Panics
    /// If the log has no such label.
    pub fn by(&self, labels: &[&str]) -> BTreeMap<Vec<String>, Amounts> {
        let places: Vec<usize> = labels
            .iter()
            .map(|label| {
                self.labels
                    .iter()
                    .position(|name| name == label)
                    .expect("the caller names labels of the log")
            })
            .collect();
        let mut by: BTreeMap<Vec<String>, Amounts> = BTreeMap::new();
        for (values, amounts) in &self.sums {
            let key = places.iter().map(|place| values[*place].clone()).collect();
            by.entry(key).or_default().add(*amounts);
        }
        by
    }

    /// Totals of all rows. Amounts of different currencies are added, so use them for comparison only.
    pub fn total(&self) -> Amounts {
        let mut total = Amounts::default();
        for amounts in self.sums.values() {
            total.add(*amounts);
        }
        total
    }
}

impl Amounts {
    /// Returns the sum of one row with this duration.
    pub(super) fn row(seconds: u32) -> Self {
        Self {
            rows: 1,
            seconds: u64::from(seconds),
            ..Self::default()
        }
    }

    pub(super) fn charged(self, charge: Option<Charge>) -> Self {
        Self {
            charge: charge.map_or(0, |charge| i128::from(charge.0)),
            ..self
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.failed += other.failed;
        self.seconds += other.seconds;
        self.units += other.units;
        self.charge += other.charge;
        self.connection_charge += other.connection_charge;
    }
}
