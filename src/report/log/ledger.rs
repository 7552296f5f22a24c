//! What is known for good: the totals of the days that do not change any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::seen::SettledRows;
use super::totals::SavedTotals;
use super::{DAY, Day, MARGIN, SeenRows, Totals, is_settled};
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
    /// The rows that are in the totals or belong to another period.
    rows: Arc<SettledRows>,
}

/// What to ask for in one poll.
pub(crate) struct Questions {
    /// The windows that will be final. They come first, so that a row that two windows bring is settled with the one that
    /// is not asked for again.
    pub(crate) last_time: Vec<Window>,
    /// The windows that will be asked for again.
    pub(crate) open: Vec<Window>,
    pub(crate) seen: SeenRows,
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
        self.0.push(Ledger::new(period, budgets.to_vec()));
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
    /// In base64.
    rows: String,
}

impl Ledgers {
    /// What to keep.
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

    /// What was kept, but for the ledgers of other budgets; none where it does not fit together.
    pub(crate) fn restore(saved: Vec<SavedLedger>, budgets: &[Budget]) -> Option<Self> {
        let wanted = fingerprint(budgets);
        let restore = |saved: SavedLedger| {
            let period = BillingPeriod::starting(saved.period.parse().ok()?)?;
            let days: Option<BTreeSet<DateTime<Utc>>> =
                saved.days.iter().map(|day| day.parse().ok()).collect();
            let days = days?;
            let possible: BTreeSet<DateTime<Utc>> = windows(period, period.end() + MARGIN)
                .map(Window::from)
                .collect();
            days.is_subset(&possible).then_some(())?;
            let rows = STANDARD_NO_PAD.decode(saved.rows).ok()?;
            Some(Ledger {
                period,
                budgets: budgets.to_vec(),
                days,
                totals: Arc::new(Totals::restore(saved.totals, budgets.len())?),
                rows: Arc::new(SettledRows::from_bytes(&rows)?),
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

    /// What to ask for to know all of the period up to now.
    pub(crate) fn questions(&self, now: DateTime<Utc>) -> Questions {
        let (last_time, open) = windows(self.period, now)
            .filter(|window| !self.days.contains(&window.from()))
            .partition(|&window| is_settled(window, now));
        Questions {
            last_time,
            open,
            seen: SeenRows::new(Arc::clone(&self.rows)),
        }
    }

    /// Enters the totals of a day that does not change any more.
    ///
    /// # Errors
    /// If there are too many label sets or rows; the ledger starts over then.
    pub(crate) fn settle(&mut self, day: &Day) -> Result<(), RowError> {
        if !self.days.insert(day.window.from()) {
            return Ok(());
        }
        let entered = Arc::make_mut(&mut self.totals)
            .merge(&day.totals)
            .and_then(|()| Arc::make_mut(&mut self.rows).add(&day.ids));
        if entered.is_err() {
            *self = Self::new(self.period, std::mem::take(&mut self.budgets));
        } else if windows(self.period, self.period.end() + MARGIN).count() == self.days.len() {
            // No window is asked for any more, so no row can come again.
            self.rows = Arc::default();
        }
        entered
    }

    /// The sum of the days that are settled.
    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }
}

/// The windows of a period up to `now`, each a day or what has passed of it; once the period has ended, also those in which
/// its last rows may arrive.
fn windows(period: BillingPeriod, now: DateTime<Utc>) -> impl Iterator<Item = Window> {
    period
        .windows(now, DAY)
        .chain(period.windows_after(now, DAY, MARGIN))
}
