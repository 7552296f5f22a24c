//! The ledger: totals of the final days, which can no longer change.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::seen::FinalRows;
use super::totals::SavedTotals;
use super::{DAY, DayTotals, MARGIN, SeenRows, Totals, is_final};
use crate::period::{BillingPeriod, Window};
use crate::report::budget::{Budget, fingerprint};
use crate::report::row::RowError;

/// The final days of one billing period, as one sum.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    period: BillingPeriod,
    /// The budgets that the spend in the totals belongs to.
    budgets: Vec<Budget>,
    /// The starts of the days that are in the totals.
    days: BTreeSet<DateTime<Utc>>,
    totals: Arc<Totals>,
    /// The rows that are in the totals or belong to another period.
    rows: Arc<FinalRows>,
}

/// The windows that one poll fetches.
pub(crate) struct WindowsDue {
    /// Windows that become final. They are fetched first, so that a row that two windows return is counted in the one that
    /// is not fetched again.
    pub(crate) becoming_final: Vec<Window>,
    /// Windows that later polls fetch again.
    pub(crate) open: Vec<Window>,
    pub(crate) seen: SeenRows,
}

/// The ledgers of a log: of the current period and of the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledgers(Vec<Ledger>);

impl Ledgers {
    /// The ledger of a period. It is new if there is none for these budgets. Ledgers that are older than the previous period
    /// are dropped.
    pub(crate) fn of(&mut self, period: BillingPeriod, budgets: &[Budget]) -> &mut Ledger {
        let kept = |ledger: &Ledger| ledger.period == period && ledger.budgets == budgets;
        self.0.retain(|ledger| {
            kept(ledger) || (ledger.period != period && ledger.period.end() >= period.start())
        });
        if let Some(index) = self.0.iter().position(kept) {
            return &mut self.0[index];
        }
        self.0.push(Ledger::new(period, budgets.to_vec()));
        self.0.last_mut().expect("one was added")
    }
}

impl Ledgers {
    /// Returns whether any day is final.
    pub(crate) fn has_days(&self) -> bool {
        self.0.iter().any(|ledger| !ledger.days.is_empty())
    }

    /// The number of final days of a period; `None` if the report is not a log.
    pub(crate) fn final_days(&self, period: BillingPeriod) -> Option<u64> {
        let ledger = self.0.iter().find(|ledger| ledger.period == period)?;
        Some(ledger.days.len() as u64)
    }
}

/// A ledger in a state file. Times are in RFC 3339.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedLedger {
    /// The start of the period.
    period: String,
    /// Fingerprint of the budgets.
    budgets: String,
    days: Vec<String>,
    totals: SavedTotals,
    /// Row ids in base64.
    rows: String,
}

impl Ledgers {
    /// The ledgers for a state file.
    pub(crate) fn save(&self) -> Vec<SavedLedger> {
        let save = |ledger: &Ledger| SavedLedger {
            period: ledger.period.start().to_rfc3339(),
            budgets: fingerprint(&ledger.budgets),
            days: ledger.days.iter().map(DateTime::to_rfc3339).collect(),
            totals: ledger.totals.save(),
            rows: STANDARD_NO_PAD.encode(ledger.rows.to_bytes()),
        };
        self.0.iter().map(save).collect()
    }

    /// Restores ledgers, except for those of other budgets. Returns `None` if the contents are inconsistent.
    pub(crate) fn restore(saved: Vec<SavedLedger>, budgets: &[Budget]) -> Option<Self> {
        let wanted = fingerprint(budgets);
        let restore = |saved: SavedLedger| {
            let period = BillingPeriod::starting(saved.period.parse().ok()?)?;
            let days: Option<BTreeSet<DateTime<Utc>>> =
                saved.days.iter().map(|day| day.parse().ok()).collect();
            let days = days?;
            let possible: BTreeSet<DateTime<Utc>> = windows(period, period.end() + MARGIN)
                .map(Window::start)
                .collect();
            days.is_subset(&possible).then_some(())?;
            let rows = STANDARD_NO_PAD.decode(saved.rows).ok()?;
            Some(Ledger {
                period,
                budgets: budgets.to_vec(),
                days,
                totals: Arc::new(Totals::restore(saved.totals, budgets.len())?),
                rows: Arc::new(FinalRows::from_bytes(&rows)?),
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
    fn new(period: BillingPeriod, budgets: Vec<Budget>) -> Self {
        Self {
            totals: Arc::new(Totals::new(budgets.len())),
            period,
            budgets,
            days: BTreeSet::new(),
            rows: Arc::default(),
        }
    }

    /// The windows to fetch for the period up to `now`.
    pub(crate) fn windows_due(&self, now: DateTime<Utc>) -> WindowsDue {
        let (becoming_final, open) = windows(self.period, now)
            .filter(|window| !self.days.contains(&window.start()))
            .partition(|&window| is_final(window, now));
        WindowsDue {
            becoming_final,
            open,
            seen: SeenRows::new(Arc::clone(&self.rows)),
        }
    }

    /// Adds the totals of a final day.
    ///
    /// # Errors
    /// If there are too many label sets or rows. The ledger is then empty again.
    pub(crate) fn add_final(&mut self, day: &DayTotals) -> Result<(), RowError> {
        if !self.days.insert(day.window.start()) {
            return Ok(());
        }
        let entered = Arc::make_mut(&mut self.totals)
            .merge(&day.totals)
            .and_then(|()| Arc::make_mut(&mut self.rows).add(&day.ids));
        if entered.is_err() {
            *self = Self::new(self.period, std::mem::take(&mut self.budgets));
        } else if windows(self.period, self.period.end() + MARGIN).count() == self.days.len() {
            // No window is fetched any more, so no row can be repeated.
            self.rows = Arc::default();
        }
        entered
    }

    /// The sum of the final days.
    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }
}

/// The windows of a period up to `now`, each a day or the part of it that has passed. After the end of the period, also
/// those in which its last rows may arrive.
fn windows(period: BillingPeriod, now: DateTime<Utc>) -> impl Iterator<Item = Window> {
    period
        .windows(now, DAY)
        .chain(period.windows_after(now, DAY, MARGIN))
}
