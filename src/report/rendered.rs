//! A complete report, ready to be published: samples, and the figures of the page.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Count;
use super::allocation::AllocatedSummary;
use super::labels::RetainedSeries;
use super::pool::UsedSeconds;
use crate::exposition::Samples;

/// A complete report, ready to be published.
#[derive(Default)]
pub struct Rendered {
    /// The samples of the report's families for the current period.
    pub samples: Vec<Samples>,
    /// The sums of `samples` over all users, in the families that are served when this period is the previous one.
    pub closing: Vec<Samples>,
    /// Spend by currency, in the order of the currencies. Empty if the report has no amounts.
    pub spend: Vec<Spend>,
    /// Counts over all rows, for a report without amounts.
    pub counts: Vec<Count>,
    /// The ten organizers with the highest charge in each currency, highest first. Empty if users are not exported.
    pub top: Vec<Organizer>,
    /// Budgets, pools and departments, for the page.
    pub allocated: AllocatedSummary,
    /// The seconds that pools used in this billing period only. The caller adds seconds of the previous period if a
    /// part of the calendar month is in that period.
    pub(crate) used_seconds: UsedSeconds,
    /// Number of users in the label `user`, before series are aggregated into `__other__`.
    pub users: u64,
    /// Number of rows that are counted. A row that overlapping pages repeat is counted once.
    pub rows: u64,
    /// Number of duplicate rows, which are not counted. They have all fields (in a log, the id) of an earlier row.
    pub overlapping: u64,
    /// Number of rows with the same user id, location, context and currency as another row, but other names or figures.
    /// The sums include both rows.
    pub repeated: u64,
    /// Number of rows that are left out, because their time is in another period and far from the window that returned
    /// them.
    pub unplaced: u64,
    /// Time of the newest call, message or event, if the report has times.
    pub newest: Option<DateTime<Utc>>,
    /// Number of series that were aggregated into `__other__`.
    pub aggregated: u64,
    /// The series that were not aggregated into `__other__`. The next poll prefers to keep them.
    pub retained: RetainedSeries,
}

/// Spend in one currency. Amounts are exact decimals as text, to be shown as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// ISO 4217, upper case, or `unknown`.
    pub currency: String,
    /// Total spend.
    pub total: String,
    /// Destination context (`Domestic`, `International`, …), amount, and share of the total in percent, highest amount
    /// first. The share is `None` if the total is not positive.
    pub contexts: Vec<(String, String, Option<u8>)>,
    /// Calls, seconds, messages, …
    pub counts: Vec<Count>,
}

/// One organizer's spend in one currency, over all locations and contexts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organizer {
    /// User label, as `labels.user` configures it.
    pub user: String,
    /// ISO 4217.
    pub currency: String,
    /// Exact decimal.
    pub charge: String,
    /// Calls, seconds, messages, …
    pub counts: Vec<Count>,
}
