//! What is known for good: the totals of the days that do not change any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{DAY, Totals};
use crate::period::{BillingPeriod, Window};
use crate::report::budget::Budget;

/// The settled days of one billing period, as one sum.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    period: BillingPeriod,
    /// Whose spend is in the totals.
    budgets: Vec<Budget>,
    /// The starts of the days that are in the totals.
    days: BTreeSet<DateTime<Utc>>,
    totals: Arc<Totals>,
}

/// The ledgers of a log: of the current period and of the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledgers(Vec<Ledger>);

impl Ledgers {
    /// The ledger of a period, begun anew where there is none that was kept for these budgets. Those of older periods
    /// than the one before it are closed.
    pub(crate) fn of(&mut self, period: BillingPeriod, budgets: &[Budget]) -> &mut Ledger {
        let kept = |ledger: &Ledger| ledger.period == period && ledger.budgets == budgets;
        self.0.retain(|ledger| {
            kept(ledger) || (ledger.period != period && ledger.period.end() >= period.start())
        });
        if let Some(index) = self.0.iter().position(kept) {
            return &mut self.0[index];
        }
        self.0.push(Ledger {
            period,
            budgets: budgets.to_vec(),
            days: BTreeSet::new(),
            totals: Arc::new(Totals::new(budgets.len())),
        });
        self.0.last_mut().expect("one was added")
    }
}

impl Ledgers {
    /// How many days of a period are settled; none where the report is no log.
    pub(crate) fn settled(&self, period: BillingPeriod) -> Option<u64> {
        let ledger = self.0.iter().find(|ledger| ledger.period == period)?;
        Some(ledger.days.len() as u64)
    }
}

impl Ledger {
    /// The windows of the period up to now that are not settled, each a day or what has passed of it.
    pub(crate) fn open(&self, now: DateTime<Utc>) -> Vec<Window> {
        self.period
            .windows(now, DAY)
            .filter(|window| !self.days.contains(&window.from()))
            .collect()
    }

    /// Enters the totals of a day that does not change any more.
    pub(crate) fn settle(&mut self, day: Window, totals: &Totals) {
        if self.days.insert(day.from()) {
            Arc::make_mut(&mut self.totals).merge(totals);
        }
    }

    /// The sum of the days that are settled.
    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }
}
