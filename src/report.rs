//! Which reports there are, what a report has to say about itself, and how one is collected.
//!
//! A new report is a file below this one that implements [`Report`], or [`log::Log`] where it has a row for each call, and
//! a variant of [`ReportKind`]; the compiler then points at each `match` that must know it. What this module does not
//! do: retry, publish, or know about HTTP.

pub mod blocked_users;
pub mod budget;
pub mod dialout;
pub mod direct_routing;
pub mod labels;
pub mod log;
mod people;
pub mod pstn_calls;
pub mod sms;
mod words;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;

use chrono::{DateTime, Utc};
use hashbrown::HashMap;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::exposition::{Family, Samples};
use crate::graph::pages::{DecodeError, Page};
use crate::graph::tally::Tally;
use crate::graph::{self, FailureReason, Graph, Query, Version};
use crate::money::{Amount, AmountError, Sum};
use crate::period::{BillingPeriod, EndBound, Window};

use blocked_users::BlockedUsers;
use dialout::Dialout;
use direct_routing::DirectRouting;
use labels::{Kept, View};
use log::Log;
use pstn_calls::PstnCalls;
use sms::Sms;

/// The reports of Microsoft Graph that can be exported. Closed: a new report is one variant here and one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReportKind {
    /// `getPstnOnlineMeetingDialoutReport`.
    Dialout,
    /// `getPstnCalls`.
    PstnCalls,
    /// `getDirectRoutingCalls`.
    DirectRouting,
    /// `getSmsLog`.
    Sms,
    /// `getPstnBlockedUsersLog`.
    BlockedUsers,
}

/// One of Graph's reports that is asked for whole: where it is fetched, how a row reads, and what becomes of the rows.
pub trait Report {
    /// Its name: label and configuration.
    const KIND: ReportKind;
    /// The Graph function that it calls.
    const FUNCTION: &'static str;
    /// The version of Graph that has the function.
    const VERSION: Version;
    /// All its families but the budgets'.
    const FAMILIES: &'static [&'static Family];
    /// Whether the function counts what lies exactly at the end of the window.
    const END: EndBound;
    /// A row as Graph sends it, borrowed from the page.
    type Row<'a>: Deserialize<'a>;
    /// What the rows add up to. A local value: dropping it on an error is the rollback.
    type Totals: Default + Send + 'static;

    /// What to ask for to know all of the period up to `now`.
    fn windows(period: BillingPeriod, now: DateTime<Utc>) -> Vec<Window> {
        period.windows(now, Window::MAX).collect()
    }

    /// The question for one window.
    fn query(window: Window) -> Query {
        Query {
            version: Self::VERSION,
            function: Self::FUNCTION,
            from: window.from_literal(),
            to: window.to_literal(Self::END),
        }
    }

    /// Adds one row.
    fn add(totals: &mut Self::Totals, row: Self::Row<'_>) -> Result<(), RowError>;

    /// Turns the totals into samples, in one order whatever the order of the rows.
    fn render(totals: Self::Totals, view: &View<'_>) -> Rendered;
}

/// A complete report, ready to be published.
pub struct Rendered {
    /// The report's families.
    pub samples: Vec<Samples>,
    /// The same without users, under the names for a period that has ended.
    pub closing: Vec<Samples>,
    /// Spend by currency, in the order of the currencies; empty where the report knows no money.
    pub spend: Vec<Spend>,
    /// What is counted over everything, where the report knows no money.
    pub counts: Vec<Count>,
    /// The ten highest organizers of each currency, highest first; empty where users are not exported.
    pub top: Vec<Organizer>,
    /// Rows that count: all but those that an overlap of pages repeated.
    pub rows: u64,
    /// Rows that were identical to another in all fields and so not counted again.
    pub overlapping: u64,
    /// Rows that shared person, location, context and currency with another but differed otherwise; both counted.
    pub repeated: u64,
    /// Rows that were sent for a day that they are not of, and so left to that.
    pub elsewhere: u64,
    /// Series folded into `__other__`.
    pub folded: u64,
    /// The series that were kept where some were folded, so that the next poll prefers them.
    pub kept: Kept,
}

/// Spend in one currency. Amounts are exact decimals as text, to be shown as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// ISO 4217, upper case, or `unknown`.
    pub currency: String,
    /// All of it.
    pub total: String,
    /// By destination context (`Domestic`, `International`, …), highest first: context, amount, share of the total in
    /// percent where the total is positive.
    pub contexts: Vec<(String, String, Option<u8>)>,
    /// Calls, seconds, messages, …
    pub counts: Vec<Count>,
}

/// A number of something, to be shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// What, in the plural; [`SECONDS_COUNT`] is shown as hours and minutes.
    pub what: Cow<'static, str>,
    /// How many.
    pub value: i64,
}

/// One organizer's spend in one currency, over all locations and contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organizer {
    /// As `labels.user` has it.
    pub user: String,
    /// ISO 4217.
    pub currency: String,
    /// Exact decimal.
    pub charge: String,
    /// Calls, seconds, messages, …
    pub counts: Vec<Count>,
}

/// Why a row cannot be counted. The report fails, for a silently smaller bill is worse than an old one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A figure that every row must have is not there.
    #[error("{field} is missing or null")]
    Missing {
        /// The property.
        field: &'static str,
    },
    /// A charge that cannot be read exactly.
    #[error("{field} is {literal}")]
    NotAnAmount {
        /// The property.
        field: &'static str,
        /// The beginning of what stands there.
        literal: String,
        /// What is wrong with it.
        source: AmountError,
    },
    /// A number of calls or seconds that is none.
    #[error("{field} is {literal}, not a whole number within ±{COUNT_MAX}")]
    NotACount {
        /// The property.
        field: &'static str,
        /// The beginning of what stands there.
        literal: String,
    },
    /// A time that cannot be read.
    #[error("{field} is not a time with an offset, as 2026-11-21T09:30:00Z is")]
    NotATime {
        /// The property.
        field: &'static str,
    },
    /// More than is kept.
    #[error("there are too many {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// Text that no directory would hold.
    #[error("{field} is longer than {TEXT_MAX} bytes")]
    TooLong {
        /// The property.
        field: &'static str,
    },
}

/// Why there is no complete report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error(transparent)]
    Graph(#[from] graph::Error),
    #[error("row {number} of the report cannot be counted (request-id {request_id})")]
    Row {
        number: u64,
        request_id: String,
        source: RowError,
    },
    #[error("the report cannot be added up")]
    Sum(#[from] RowError),
}

/// Text that is borrowed from the page unless it holds an escape. (serde borrows a `Cow` only where it is not wrapped in
/// an `Option`.)
pub struct Text<'a>(Cow<'a, str>);

impl ReportKind {
    /// Every report, in the order in which they are exposed.
    pub const ALL: &'static [Self] = &[
        Self::Dialout,
        Self::PstnCalls,
        Self::DirectRouting,
        Self::Sms,
        Self::BlockedUsers,
    ];

    /// The value of the label `report` and the name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dialout => "dialout",
            Self::PstnCalls => "pstn_calls",
            Self::DirectRouting => "direct_routing",
            Self::Sms => "sms",
            Self::BlockedUsers => "blocked_users",
        }
    }

    /// Whether it knows what anything costs, so that a budget can be spent in it.
    pub const fn has_money(self) -> bool {
        match self {
            Self::Dialout | Self::PstnCalls | Self::Sms => true,
            Self::DirectRouting | Self::BlockedUsers => false,
        }
    }

    /// Whether figures of the period before are exported.
    pub const fn has_previous(self) -> bool {
        match self {
            Self::Dialout | Self::PstnCalls | Self::DirectRouting | Self::Sms => true,
            Self::BlockedUsers => false,
        }
    }

    /// Every family that its figures may be of, but for the budgets'.
    pub(crate) fn families(self) -> Vec<&'static Family> {
        fn of_log<L: Log>() -> Vec<&'static Family> {
            let columns = L::COLUMNS.iter();
            columns
                .flat_map(|column| [&column.current, &column.previous])
                .collect()
        }
        match self {
            Self::Dialout => Dialout::FAMILIES.to_vec(),
            Self::PstnCalls => of_log::<PstnCalls>(),
            Self::DirectRouting => of_log::<DirectRouting>(),
            Self::Sms => of_log::<Sms>(),
            Self::BlockedUsers => BlockedUsers::FAMILIES.to_vec(),
        }
    }
}

impl fmt::Display for ReportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asks for all pages of all windows and adds up their rows: all of them, or an error.
pub(crate) async fn collect<R: Report>(
    graph: &Graph,
    windows: impl Iterator<Item = Window>,
    deadline: Instant,
    tally: &Tally,
) -> Result<R::Totals, CollectError> {
    let mut totals = R::Totals::default();
    for window in windows {
        let query = R::query(window);
        let mut pages = graph.pages(&query, deadline, tally);
        while let Some(mut page) = pages.next().await? {
            add_page::<R>(&mut page, &mut totals)?;
        }
    }
    Ok(totals)
}

/// Adds the rows of one page.
pub(crate) fn add_page<R: Report>(
    page: &mut Page<'_, '_>,
    totals: &mut R::Totals,
) -> Result<(), CollectError> {
    let rows = Rows::of(page);
    Ok(page.decode(|number, row: R::Row<'_>| rows.told(number, R::add(totals, row)))?)
}

/// Adds the spend by context up for people: highest first, with the share of the total.
fn contexts(sums: HashMap<&str, Sum>, total: Sum) -> Vec<(String, String, Option<u8>)> {
    let mut sums: Vec<(&str, Sum)> = sums.into_iter().collect();
    sums.sort_by_key(|&(context, charge)| (Reverse(charge), context));
    sums.into_iter()
        .map(|(context, charge)| {
            (
                context.to_owned(),
                charge.to_string(),
                charge.percent_of(total),
            )
        })
        .collect()
}

/// What an error about a row tells besides what is wrong.
struct Rows {
    request_id: String,
}

impl Rows {
    fn of(page: &Page<'_, '_>) -> Self {
        let request_id = page.request_id().unwrap_or("unknown").to_owned();
        Self { request_id }
    }

    fn told(&self, number: u64, added: Result<(), RowError>) -> Result<(), CollectError> {
        added.map_err(|source| CollectError::Row {
            number,
            request_id: self.request_id.clone(),
            source,
        })
    }
}

impl CollectError {
    pub(crate) fn reason(&self) -> FailureReason {
        match self {
            Self::Graph(error) => error.reason(),
            Self::Row {
                source: RowError::TooMany { .. },
                ..
            }
            | Self::Sum(RowError::TooMany { .. }) => FailureReason::Limit,
            Self::Row { .. } | Self::Sum(_) => FailureReason::Malformed,
        }
    }

    /// What the admin can do about it, where that is known.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Graph(error) => error.remedy(),
            Self::Row {
                source: RowError::TooMany { .. },
                ..
            }
            | Self::Sum(RowError::TooMany { .. }) => Some(
                "set labels.user to none, or see graph_url: this is more than a tenant ever has",
            ),
            Self::Row { .. } | Self::Sum(_) => Some(
                "Graph sent a figure that cannot be counted exactly; if the next poll says so too, report it with this line",
            ),
        }
    }
}

impl From<DecodeError<Self>> for CollectError {
    fn from(error: DecodeError<Self>) -> Self {
        match error {
            DecodeError::Graph(error) => Self::Graph(error),
            DecodeError::Row(error) => error,
        }
    }
}

/// An amount of money; required.
pub fn amount(field: &'static str, literal: Option<&RawValue>) -> Result<Amount, RowError> {
    let literal = literal.ok_or(RowError::Missing { field })?.get();
    Amount::from_json(literal).map_err(|source| RowError::NotAnAmount {
        field,
        literal: excerpt(literal),
        source,
    })
}

/// An amount of money of one call; required, unless the call has no currency either: then it has no price.
pub fn money(
    field: &'static str,
    literal: Option<&RawValue>,
    currency: &str,
) -> Result<Amount, RowError> {
    if literal.is_none() && currency.is_empty() {
        Ok(Amount::default())
    } else {
        amount(field, literal)
    }
}

/// A number of calls or seconds, as number or in quotes; required. Signed, for a correction may be negative.
pub fn count(field: &'static str, literal: Option<&RawValue>) -> Result<i64, RowError> {
    let literal = literal.ok_or(RowError::Missing { field })?.get();
    let count = match literal.parse() {
        Ok(count) => Some(count),
        Err(_) => Amount::from_json(literal).ok().and_then(Amount::to_integer),
    };
    count
        .filter(|count: &i64| count.unsigned_abs() <= COUNT_MAX)
        .ok_or_else(|| RowError::NotACount {
            field,
            literal: excerpt(literal),
        })
}

/// The names that a row has of a person: id, user principal name, display name; each may be empty.
fn person<'a>(
    user_id: Option<&'a Text<'_>>,
    user_principal_name: Option<&'a Text<'_>>,
    user_display_name: Option<&'a Text<'_>>,
) -> Result<[&'a str; 3], RowError> {
    Ok([
        text("userId", user_id)?,
        text("userPrincipalName", user_principal_name)?,
        text("userDisplayName", user_display_name)?,
    ])
}

/// Text that may be missing; null and missing read as empty.
pub fn text<'a>(field: &'static str, text: Option<&'a Text<'_>>) -> Result<&'a str, RowError> {
    let text = text.map_or("", |Text(text)| text);
    if text.len() > TEXT_MAX {
        Err(RowError::TooLong { field })
    } else {
        Ok(text)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Enough of a number to find it in the source; of anything else only what it is, for it may be a person's name.
fn excerpt(literal: &str) -> String {
    match literal.as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "a list".to_owned(),
        Some(b'"') if literal.contains(|c: char| !"\"+-.0123456789eE".contains(c)) => {
            "a text".to_owned()
        }
        _ => literal.chars().take(60).collect(),
    }
}

/// Calls and seconds of one row: far above the `Int32` that the documentation gives them, and low enough that the sum of
/// all rows that a report may have stays below 2⁶³.
const COUNT_MAX: u64 = 1 << 40;

/// What [`Count`] calls seconds.
pub const SECONDS_COUNT: &str = "seconds";

/// Users named on the page, per currency.
const TOP: usize = 10;

/// Bytes of a text: the directory's own names are shorter by far, and labels must be bounded.
const TEXT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The compiler wants every variant named here, and then the list must have it.
    macro_rules! every {
        ($($variant:ident),*) => {{
            let _ = |report: ReportKind| match report {
                $(ReportKind::$variant => {})*
            };
            [$(ReportKind::$variant),*]
        }};
    }

    #[test]
    fn no_report_is_forgotten() {
        let every = every!(Dialout, PstnCalls, DirectRouting, Sms, BlockedUsers);
        assert_eq!(ReportKind::ALL, every);
        let names: HashSet<&str> = every.iter().map(|report| report.as_str()).collect();
        assert_eq!(names.len(), every.len());
    }

    #[test]
    fn families_are_of_one_report_only() {
        let all = ReportKind::ALL.iter().flat_map(|report| report.families());
        let mut names: Vec<&str> = all.map(|family| family.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn labels_of_logs_are_few_and_in_order() {
        for &report in ReportKind::ALL {
            let labels = match report {
                ReportKind::PstnCalls => PstnCalls::LABELS,
                ReportKind::DirectRouting => DirectRouting::LABELS,
                ReportKind::Sms => Sms::LABELS,
                ReportKind::Dialout | ReportKind::BlockedUsers => continue,
            };
            assert!(labels.len() <= log::LABELS_MAX, "{report}: {labels:?}");
            assert!(labels.is_sorted_by(|a, b| a < b), "{report}: {labels:?}");
        }
    }

    #[test]
    fn counts_by_table() {
        let check = |literal: &str, expected: Option<i64>| {
            let raw: &RawValue = serde_json::from_str(literal).unwrap();
            assert_eq!(count("totalCalls", Some(raw)).ok(), expected, "{literal}");
        };
        check("12", Some(12));
        check("\"12\"", Some(12));
        check("12.0", Some(12));
        check("1.2e1", Some(12));
        check("-3", Some(-3));
        check("2147483648", Some(2_147_483_648));
        check("1099511627776", Some(1_099_511_627_776));
        check("1099511627777", None);
        check("12.5", None);
        check("1e400", None);
        check("true", None);
        check("\"twelve\"", None);
        assert_eq!(
            count("totalCalls", None),
            Err(RowError::Missing {
                field: "totalCalls"
            })
        );
    }
}
