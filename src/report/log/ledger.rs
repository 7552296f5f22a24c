//! What is known for good: the totals of the days that do not change any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::totals::SavedTotals;
use super::{DAY, Day, Totals};
use crate::period::{BillingPeriod, Window};
use crate::report::budget::{Budget, fingerprint};
use crate::report::row::RowError;

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
    /// Whether there is anything to keep.
    pub(crate) fn has_days(&self) -> bool {
        self.0.iter().any(|ledger| !ledger.days.is_empty())
    }

    /// How many days of a period are settled; none where the report is no log.
    pub(crate) fn settled(&self, period: BillingPeriod) -> Option<u64> {
        let ledger = self.0.iter().find(|ledger| ledger.period == period)?;
        Some(ledger.days.len() as u64)
    }
}

/// A ledger, as it is kept for the next process. Times are in RFC 3339.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedLedger {
    /// The start of the period.
    period: String,
    /// Their fingerprint.
    budgets: String,
    days: Vec<String>,
    totals: SavedTotals,
}

impl Ledgers {
    /// What to keep.
    pub(crate) fn save(&self) -> Vec<SavedLedger> {
        let save = |ledger: &Ledger| SavedLedger {
            period: ledger.period.start().to_rfc3339(),
            budgets: fingerprint(&ledger.budgets),
            days: ledger.days.iter().map(DateTime::to_rfc3339).collect(),
            totals: ledger.totals.save(),
        };
        self.0.iter().map(save).collect()
    }

    /// What was kept, but for the ledgers of other budgets; none where it does not fit together.
    pub(crate) fn restore(saved: Vec<SavedLedger>, budgets: &[Budget]) -> Option<Self> {
        let wanted = fingerprint(budgets);
        let restore = |saved: SavedLedger| {
            let period = BillingPeriod::starting(saved.period.parse().ok()?)?;
            let days: Option<BTreeSet<DateTime<Utc>>> =
                saved.days.iter().map(|day| day.parse().ok()).collect();
            let days = days?;
            let possible: BTreeSet<DateTime<Utc>> = period
                .windows(period.end(), DAY)
                .map(Window::from)
                .collect();
            days.is_subset(&possible).then_some(())?;
            Some(Ledger {
                period,
                budgets: budgets.to_vec(),
                days,
                totals: Arc::new(Totals::restore(saved.totals, budgets.len())?),
            })
        };
        saved
            .into_iter()
            .filter(|ledger| ledger.budgets == wanted)
            .map(restore)
            .collect::<Option<_>>()
            .map(Self)
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
    ///
    /// # Errors
    /// Where there are too many label sets; the ledger is begun anew then.
    pub(crate) fn settle(&mut self, day: &Day) -> Result<(), RowError> {
        if !self.days.insert(day.window.from()) {
            return Ok(());
        }
        let merged = Arc::make_mut(&mut self.totals).merge(&day.totals);
        if merged.is_err() {
            self.days.clear();
            self.totals = Arc::new(Totals::new(self.budgets.len()));
        }
        merged
    }

    /// The sum of the days that are settled.
    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }
}
