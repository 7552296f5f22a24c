//! The reports of Microsoft Graph: the traits that a report implements, and how a report is collected.
//!
//! A new report needs a file in this module that implements [`Report`]. If the report is fetched day by day, the file
//! also implements [`Log`], otherwise [`AggregatedReport`]. The declaration of [`ReportKind`] needs a line for the
//! report. This module does not retry, does not publish, and does not know HTTP.

pub mod allocation;
pub mod blocked_users;
pub mod budget;
pub mod call_log;
pub mod column;
pub mod department;
pub mod dialout;
pub mod direct_routing;
mod error;
mod index;
mod interner;
pub mod labels;
pub mod log;
mod person_table;
pub mod pool;
mod rendered;
pub mod row;
pub(crate) mod scan;
pub mod sms;
pub mod table;
pub mod threshold;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::exposition::Family;
use crate::graph::pages::{Page, Read};
use crate::graph::stats::RequestStats;
use crate::graph::{Graph, Query, Version};
use crate::memory::{MemoryPool, Reservation};
use crate::period::{BillingPeriod, EndBound, Window};

use budget::BudgetRow;
use column::{Column, LATER_MONTH, Measure, Values};
use labels::RenderContext;
use log::Record;
use row::{Notes, RowError};
use scan::{TakeRecord, Unreadable};

pub(crate) use error::CollectError;
pub use rendered::{Organizer, Rendered, Spend};

/// Declares [`ReportKind`] and its dispatch. Each line has the variant of a report, its shape (`aggregated` or `log`),
/// and the type that implements it.
macro_rules! reports {
    ($($(#[$doc:meta])* $variant:ident: $shape:ident $report:ty,)*) => {
        /// The reports of Microsoft Graph that can be exported.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ReportKind {
            $($(#[$doc])* $variant,)*
        }

        impl ReportKind {
            /// Every report, in the order in which they are exposed.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Facts about the report that do not depend on its rows.
            pub const fn info(self) -> &'static ReportInfo {
                match self {
                    $(Self::$variant => &<$report>::INFO,)*
                }
            }

            /// Reads the text of a row, and calls `take` with the row's record.
            fn read_row(self, text: &str, notes: &mut Notes, take: &mut TakeRecord<'_>) -> Result<(), Unreadable> {
                match self {
                    $(Self::$variant => scan::read_row::<$report>(text, notes, take),)*
                }
            }

            /// Calls the visitor with the type of the report.
            pub(crate) fn visit<V: Visitor>(self, visitor: V) -> V::Output {
                match self {
                    $(Self::$variant => visitor.$shape::<$report>(),)*
                }
            }
        }
    };
}

reports! {
    /// `getPstnOnlineMeetingDialoutReport`.
    Dialout: aggregated dialout::Dialout,
    /// `getPstnCalls`.
    CallLog: log call_log::CallLog,
    /// `getDirectRoutingCalls`.
    DirectRouting: log direct_routing::DirectRouting,
    /// `getSmsLog`.
    Sms: log sms::Sms,
    /// `getPstnBlockedUsersLog`.
    BlockedUsers: aggregated blocked_users::BlockedUsers,
}

/// Facts about a report.
pub struct ReportInfo {
    /// Value of the label `report`, and name in the configuration.
    pub name: &'static str,
    /// The Graph function that returns the report.
    pub function: &'static str,
    /// The version of Graph that has the function.
    pub version: Version,
    /// The `toDateTime` of the query for a window.
    pub end: EndBound,
    /// The properties that Graph documents, in snake case and in Graph's order. They are the columns of an export.
    pub properties: &'static [&'static str],
    /// The labels except for `tenant` and `user`, in the order of their names. There are at most [`log::LABELS_MAX`].
    /// Empty if the report has no columns.
    pub labels: &'static [&'static str],
    /// The figures of a row, with the families that sum them by label. The values of the first column decide which
    /// series are aggregated into `__other__`. Empty if a row has no figures, such as an event.
    pub columns: &'static [Column],
    /// The families that are not in `columns`, except for those of budgets, departments and pools.
    pub other_families: &'static [&'static Family],
}

/// Work that is generic over the type of a report. [`ReportKind::visit`] calls it with that type.
pub(crate) trait Visitor {
    type Output;

    /// Does the work for a report that is fetched completely by each poll.
    fn aggregated<R: AggregatedReport>(self) -> Self::Output;

    /// Does the work for a log.
    fn log<L: Log>(self) -> Self::Output;
}

/// A report of Graph. An implementation states the function of Graph and how a row is read.
pub trait Report: 'static {
    /// Facts about the report.
    const INFO: ReportInfo;
    /// A row as Graph sends it, borrowed from the page.
    type Row<'a>: Deserialize<'a>;

    /// Reads a row, or explains why it cannot be counted.
    fn record<'r>(row: &'r Self::Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError>;
}

/// A report that is fetched day by day. A row must have an id or a time, to be recognized if it is returned again.
pub trait Log: Report {}

/// A report that each poll fetches completely. An implementation states how rows are added up and rendered.
pub trait AggregatedReport: Report {
    /// Running totals of the rows. They are local to a poll, so an error drops them and publishes nothing.
    type Totals: Default + Send + 'static;

    /// The windows that cover the period up to `now`.
    fn windows(period: BillingPeriod, now: DateTime<Utc>) -> Vec<Window> {
        period.windows(now, Window::MAX).collect()
    }

    /// Adds one row.
    fn add(
        totals: &mut Self::Totals,
        row: Self::Row<'_>,
        notes: &mut Notes,
    ) -> Result<(), RowError>;

    /// The number of rows that were added.
    fn rows(totals: &Self::Totals) -> usize;

    /// Bytes of memory that the totals take.
    fn bytes(totals: &Self::Totals) -> usize;

    /// Keeps the first `rows` rows and removes the rows that were added after them.
    fn truncate(totals: &mut Self::Totals, rows: usize);

    /// For each row, the labels and names by which budgets select it. Empty if the report has no amounts.
    fn budget_rows(_totals: &Self::Totals) -> Vec<BudgetRow> {
        Vec::new()
    }

    /// Renders the totals as samples. The order of the samples does not depend on the order of the rows.
    fn render(totals: Self::Totals, context: &RenderContext<'_>) -> Rendered;
}

/// A number of something, to be shown to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Unit of the number, in the plural. A number of [`SECONDS_COUNT`] is shown as hours and minutes.
    pub what: Cow<'static, str>,
    /// The number.
    pub value: i64,
}

impl ReportKind {
    /// The value of the label `report` and the name in the configuration.
    pub const fn as_str(self) -> &'static str {
        self.info().name
    }

    /// Returns true if the report is a log, which is fetched day by day.
    pub(crate) fn is_log(self) -> bool {
        struct IsLog;
        impl Visitor for IsLog {
            type Output = bool;

            fn aggregated<R: AggregatedReport>(self) -> bool {
                false
            }

            fn log<L: Log>(self) -> bool {
                true
            }
        }
        self.visit(IsLog)
    }

    /// Names that identify the layout of the report's figures in a state file. For a log, these are the labels and the
    /// measure of each column, in order. For any other report, these are the families.
    pub(crate) fn columns(self) -> Vec<String> {
        let info = self.info();
        if !self.is_log() {
            let names = info.families().map(|family| family.name.to_owned());
            return names.collect();
        }
        let labels = info.labels.iter().map(|label| format!("label {label}"));
        let columns = info.columns.iter().map(|column| {
            let (kind, index) = match column.measure {
                Measure::Money(index) => ("money", index),
                Measure::Count(index, _) => ("count", index),
            };
            format!("{kind} {index} {}", column.current.name)
        });
        let months = pool::positions(info).map(|_| format!("count {LATER_MONTH} later month"));
        labels.chain(columns).chain(months).collect()
    }
}

impl ReportInfo {
    /// The query for one window.
    pub(crate) fn query(&self, window: Window) -> Query {
        Query {
            version: self.version,
            function: self.function,
            from: window.start_literal(),
            to: window.end_literal(self.end),
        }
    }

    /// Returns true if the report has amounts of money. Budgets apply only to such reports.
    pub(crate) fn has_money(&self) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|column| matches!(column.measure, Measure::Money(_)))
    }

    /// Returns true if figures of the previous billing period are exported.
    pub(crate) fn has_previous(&self) -> bool {
        !self.columns.is_empty()
    }

    /// All families of the report, except for those of budgets, departments and pools.
    pub(crate) fn families(&self) -> impl Iterator<Item = &'static Family> {
        let current = self.columns.iter().map(|column| &column.current);
        let previous = self.columns.iter().map(|column| &column.previous);
        current
            .chain(previous)
            .chain(self.other_families.iter().copied())
    }

    pub(crate) fn label(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| *label == name)
    }

    /// The counts in `values` with their units, in the order of the columns.
    pub(crate) fn counts<const MONEY: usize>(&self, values: &Values<MONEY>) -> Vec<Count> {
        let count = |column: &Column| match column.measure {
            Measure::Count(index, what) => Some(Count::new(what, values.counts[index])),
            Measure::Money(_) => None,
        };
        self.columns.iter().filter_map(count).collect()
    }

    /// The index of the count with this unit.
    pub(crate) fn count_of(&self, unit: &str) -> Option<usize> {
        self.columns.iter().find_map(|column| match column.measure {
            Measure::Count(index, what) if what == unit => Some(index),
            _ => None,
        })
    }
}

impl Count {
    pub(crate) fn new(what: &'static str, value: i64) -> Self {
        let what = what.into();
        Self { what, value }
    }
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Fetches all pages of all windows and adds up their rows. Returns an error if a page is missing. Reserves the memory
/// of the totals.
pub(crate) async fn collect<R: AggregatedReport>(
    graph: &Graph,
    windows: impl Iterator<Item = Window>,
    deadline: Instant,
    stats: &RequestStats,
    memory: &Arc<MemoryPool>,
) -> Result<(R::Totals, Reservation), CollectError> {
    let mut reservation = memory.reservation();
    let mut totals = R::Totals::default();
    for window in windows {
        let query = R::INFO.query(window);
        let mut pages = graph.pages(&query, deadline, stats, memory);
        while let Some(mut page) = pages.next().await? {
            add_page::<R>(&mut page, &mut totals, &mut reservation)?;
        }
    }
    Ok((totals, reservation))
}

/// Adds the rows of one page. If the page is incomplete, adds none of them.
pub(crate) fn add_page<R: AggregatedReport>(
    page: &mut Page<'_, '_>,
    totals: &mut R::Totals,
    memory: &mut Reservation,
) -> Result<Read, CollectError> {
    let row_error = row_error(page);
    let before = R::rows(totals);
    let mut notes = Notes::default();
    let stats = page.stats();
    let read = page.decode(|number, row: R::Row<'_>| {
        R::add(totals, row, &mut notes).map_err(|source| row_error(number, source))?;
        Ok::<_, CollectError>(memory.resize(R::bytes(totals))?)
    })?;
    match read {
        Read::Whole => notes.count(stats),
        Read::Broken => R::truncate(totals, before),
    }
    Ok(read)
}

/// Returns a function that adds the number of the row and the request id of the page to the error of a row.
fn row_error(page: &Page<'_, '_>) -> impl Fn(u64, RowError) -> CollectError + use<> {
    let request_id = page.request_id().unwrap_or("unknown").to_owned();
    move |number, source| CollectError::Row {
        number,
        request_id: request_id.clone(),
        source,
    }
}

/// Unit of a [`Count`] of seconds.
pub const SECONDS_COUNT: &str = "seconds";

/// Unit of a [`Count`] of calls.
pub const CALLS_COUNT: &str = "calls";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct() {
        let names = ReportKind::ALL.iter().map(|report| report.as_str());
        assert_eq!(names.collect::<HashSet<_>>().len(), ReportKind::ALL.len());
    }

    /// A file with other columns is rejected, because its figures would be read with the wrong labels.
    #[test]
    fn columns_have_names_and_positions() {
        assert_eq!(
            ReportKind::Sms.columns(),
            [
                "label currency",
                "label destination_context",
                "label direction",
                "label usage_location",
                "money 0 teams_pstn_sms_charge",
                "count 0 teams_pstn_sms_messages",
                "count 1 teams_pstn_sms_units",
            ]
        );
        for &report in ReportKind::ALL {
            let columns: HashSet<String> = report.columns().into_iter().collect();
            assert_eq!(columns.len(), report.columns().len(), "{report}");
            assert!(!columns.is_empty(), "{report}");
        }
    }

    /// A report with pools has a count that is in no column.
    #[test]
    fn seconds_of_the_later_month_have_a_count_of_their_own() {
        for &report in ReportKind::ALL {
            let prefix = format!("count {LATER_MONTH} ");
            let columns = report.columns();
            let same: Vec<_> = columns
                .iter()
                .filter(|name| name.starts_with(&prefix))
                .collect();
            match report {
                ReportKind::CallLog => assert_eq!(same, ["count 2 later month"]),
                _ => assert!(
                    !columns.iter().any(|name| name.ends_with("later month")),
                    "{report}"
                ),
            }
        }
    }

    #[test]
    fn each_family_starts_with_the_name_of_its_report() {
        let mut names = HashSet::new();
        for report in ReportKind::ALL {
            let prefix = format!("teams_pstn_{report}");
            for family in report.info().families() {
                let rest = family.name.strip_prefix(&prefix);
                let belongs = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
                assert!(belongs, "{} does not start with {prefix}", family.name);
                assert!(names.insert(family.name), "{} occurs twice", family.name);
            }
        }
    }

    #[test]
    fn families_of_the_previous_period_are_named_like_the_current_ones() {
        for report in ReportKind::ALL {
            let prefix = format!("teams_pstn_{report}_previous_");
            let names = report.info().families().map(|family| family.name);
            let (previous, current): (Vec<&str>, Vec<&str>) =
                names.partition(|name| name.starts_with(&prefix));
            let expected = current
                .iter()
                .map(|name| name.replacen(&format!("teams_pstn_{report}_"), &prefix, 1));
            let expected: Vec<String> = expected.collect();
            assert_eq!(
                report.info().has_previous(),
                previous == expected,
                "{report}"
            );
        }
    }

    /// The tests of the metrics, the rules and README begin with this list.
    #[test]
    fn every_family_is_listed() {
        let listed: HashSet<&str> = include_str!("../tests/rules/metrics.txt").lines().collect();
        for report in ReportKind::ALL {
            for family in report.info().families() {
                assert!(listed.contains(family.name), "{report}: {}", family.name);
            }
        }
    }

    #[test]
    fn facts_of_the_reports_agree() {
        for report in ReportKind::ALL {
            let info = report.info();
            assert!(info.labels.is_sorted_by(|a, b| a < b), "{report}");
            assert_eq!(
                info.has_money(),
                info.labels.contains(&"currency"),
                "{report}"
            );
            let ends_in_a_second = info.end == EndBound::WholeSecond;
            assert!(ends_in_a_second || !report.is_log(), "{report}");
        }
    }
}
