//! The ledger: totals of the final days, which can no longer change.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::seen::FinalRows;
use super::{DAY, DayTotals, MARGIN, SeenRows, Totals, is_final};
use crate::memory::MemoryPool;
use crate::period::{BillingPeriod, Span, Window};
use crate::report::allocation::Allocation;

/// The final days of one billing period, and the sum of their totals.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ledger {
    period: BillingPeriod,
    /// Fingerprint of the allocation that the totals belong to.
    allocation: String,
    /// The starts of the days that are in the totals.
    days: BTreeSet<DateTime<Utc>>,
    totals: Arc<Totals>,
    /// Ids of the rows of the final days, including rows that belong to another period and are not in the totals.
    rows: Arc<FinalRows>,
}

/// The windows that one poll fetches.
pub(crate) struct WindowsDue {
    /// Windows that become final. They are fetched first, because a row that two windows return must be counted in the
    /// final one, which is not fetched again.
    pub(crate) becoming_final: Vec<Window>,
    /// Windows that later polls fetch again.
    pub(crate) open: Vec<Window>,
    pub(crate) seen: SeenRows,
}

/// The ledgers of a log, for the current and the previous period.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledgers(Vec<Ledger>);

impl Ledgers {
    /// Returns the ledger of a period. The ledger is new and empty if budgets or departments have changed, so that the
    /// final days are fetched again. Drops ledgers of periods before the previous one.
    pub(crate) fn of(&mut self, period: BillingPeriod, allocation: &Allocation) -> &mut Ledger {
        let fingerprint = allocation.fingerprint();
        let kept = |ledger: &Ledger| ledger.period == period && ledger.allocation == fingerprint;
        self.0.retain(|ledger| {
            kept(ledger) || (ledger.period != period && ledger.period.end() >= period.start())
        });
        if let Some(index) = self.0.iter().position(kept) {
            return &mut self.0[index];
        }
        self.0.push(Ledger {
            period,
            allocation: fingerprint,
            days: BTreeSet::new(),
            totals: Arc::new(Totals::new(allocation)),
            rows: Arc::default(),
        });
        self.0.last_mut().expect("one was added")
    }

    /// Drops the ledgers of other allocations.
    pub(crate) fn keep_only(&mut self, allocation: &Allocation) {
        let fingerprint = allocation.fingerprint();
        self.0.retain(|ledger| ledger.allocation == fingerprint);
    }

    /// Bytes of memory that the ledgers take.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |ledger: &Ledger| ledger.totals.bytes() + ledger.rows.bytes();
        self.0.iter().map(bytes).sum()
    }

    /// Returns whether any day is final.
    pub(crate) fn has_days(&self) -> bool {
        self.0.iter().any(|ledger| !ledger.days.is_empty())
    }

    /// The number of final days of a period, which can no longer change. `None` if the period has no ledger, for
    /// example because the report is not a log.
    pub(crate) fn final_days(&self, period: BillingPeriod) -> Option<u64> {
        let ledger = self.0.iter().find(|ledger| ledger.period == period)?;
        Some(ledger.days.len() as u64)
    }
}

impl Ledger {
    /// The windows to fetch for the period up to `now`.
    pub(crate) fn windows_due(&self, now: DateTime<Utc>, memory: &Arc<MemoryPool>) -> WindowsDue {
        let (becoming_final, open) = windows(self.period.into(), now)
            .filter(|window| !self.days.contains(&window.start()))
            .partition(|&window| is_final(window, now));
        WindowsDue {
            becoming_final,
            open,
            seen: SeenRows::after(Arc::clone(&self.rows), memory),
        }
    }

    /// Adds the totals of a final day. `seen` has the rows of the poll.
    pub(crate) fn add_final(&mut self, day: &DayTotals, seen: &SeenRows) {
        if self.days.insert(day.window.start()) {
            Arc::make_mut(&mut self.totals).merge(&day.totals);
            Arc::make_mut(&mut self.rows).add(&day.ids);
            if windows(self.period.into(), self.period.end() + MARGIN).count() == self.days.len() {
                // No window is fetched again, so the ids are not needed to recognize repeated rows.
                self.rows = Arc::default();
            }
        }
        seen.add_final(Arc::clone(&self.rows), &day.ids);
    }

    pub(crate) fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }
}

/// The windows of a span up to `now`. Each is a day, or the part of the current day that has passed. If the span has
/// ended, the windows of the next two days follow, because they can return rows of the span.
pub(crate) fn windows(span: Span, now: DateTime<Utc>) -> impl Iterator<Item = Window> {
    span.windows(now, DAY)
        .chain(span.windows_after(now, DAY, MARGIN))
}
