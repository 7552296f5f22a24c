//! Source of a tenant's dial-out rows, and their totals.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::calls::Call;
use super::company::Company;
use super::log::Log;

/// The dial-out report of a tenant. Clones share their rows.
#[derive(Clone, Debug)]
pub enum World {
    /// A company, whose report is the sum of its call log.
    Company(Arc<Company>),
    /// Given rows, for any window.
    Table(Table),
    /// This many rows, each of another user, for any window. They are generated page by page.
    Rows {
        /// Number of rows.
        count: usize,
    },
}

/// Rows given as JSON texts, which can change while the simulator runs.
#[derive(Clone, Debug, Default)]
pub struct Table(Arc<Mutex<Arc<[String]>>>);

/// Totals of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Rows of the report, over all pages.
    pub rows: usize,
    /// Totals by currency and destination context.
    pub sums: BTreeMap<(String, String), Sum>,
}

/// Totals of some calls of one currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Number of calls.
    pub calls: u64,
    /// Total duration.
    pub seconds: u64,
    /// Total charge.
    pub charge: Charge,
}

/// Money in ten-thousandths of its unit. Prints as a JSON number of two to four decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Charge(pub i64);

/// One row of the dial-out report, as Graph writes it:
/// <https://learn.microsoft.com/graph/api/resources/callrecords-pstnonlinemeetingdialoutreport?view=graph-rest-beta>
pub(super) struct Row<'a> {
    pub(super) user_id: &'a str,
    pub(super) principal_name: &'a str,
    pub(super) display_name: &'a str,
    pub(super) location: &'a str,
    pub(super) context: &'a str,
    pub(super) currency: &'a str,
    pub(super) calls: u64,
    pub(super) seconds: u64,
    pub(super) charge: Charge,
}

impl World {
    /// A company of this many people.
    pub fn company(seed: u64, people: u32) -> Self {
        Self::Company(Arc::new(Company::new(seed, people)))
    }

    /// Totals of the dial-out report of [`World::Rows`], `None` for others.
    pub fn expected(&self) -> Option<Expected> {
        match self {
            Self::Company(_) | Self::Table(_) => None,
            Self::Rows { count } => {
                let mut expected = Expected::default();
                for number in 0..*count {
                    let (currency, context, sum) = synthetic_sum(number);
                    expected.add(currency, context, sum.calls, sum.seconds, sum.charge);
                    expected.rows += 1;
                }
                Some(expected)
            }
        }
    }

    /// The rows of a page of the dial-out report at a time, and true if more follow.
    pub(super) fn dialout(
        &self,
        calls: &Log<Call>,
        period: RangeInclusive<DateTime<Utc>>,
        now: DateTime<Utc>,
        skip: usize,
        take: usize,
    ) -> (Vec<String>, bool) {
        let cut = |rows: &[String]| {
            let begin = skip.min(rows.len());
            let end = begin.saturating_add(take).min(rows.len());
            (rows[begin..end].to_vec(), end < rows.len())
        };
        match self {
            Self::Company(_) => cut(&calls.dialout(period, now)),
            Self::Table(table) => cut(&table.rows()),
            Self::Rows { count } => {
                let begin = skip.min(*count);
                let end = begin.saturating_add(take).min(*count);
                ((begin..end).map(synthetic_row).collect(), end < *count)
            }
        }
    }
}

impl Table {
    /// Returns a table of these rows.
    pub fn new<R: Into<String>>(rows: impl IntoIterator<Item = R>) -> Self {
        let table = Self::default();
        table.set_rows(rows);
        table
    }

    /// Replaces the rows in every clone.
    pub fn set_rows<R: Into<String>>(&self, rows: impl IntoIterator<Item = R>) {
        let rows = rows.into_iter().map(Into::into).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    fn rows(&self) -> Arc<[String]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Expected {
    /// The same totals without the destination context.
    pub fn by_currency(&self) -> BTreeMap<String, Sum> {
        let mut by_currency: BTreeMap<String, Sum> = BTreeMap::new();
        for ((currency, _), sum) in &self.sums {
            by_currency.entry(currency.clone()).or_default().add(*sum);
        }
        by_currency
    }

    pub(super) fn add(
        &mut self,
        currency: &str,
        context: &str,
        calls: u64,
        seconds: u64,
        charge: Charge,
    ) {
        self.sums
            .entry((currency.to_owned(), context.to_owned()))
            .or_default()
            .add(Sum {
                calls,
                seconds,
                charge,
            });
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.charge.0 += other.charge.0;
    }
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (units, fraction) = (
            self.0.unsigned_abs() / 10_000,
            self.0.unsigned_abs() % 10_000,
        );
        match fraction {
            _ if fraction % 100 == 0 => write!(f, "{sign}{units}.{:02}", fraction / 100),
            _ if fraction % 10 == 0 => write!(f, "{sign}{units}.{:03}", fraction / 10),
            _ => write!(f, "{sign}{units}.{fraction:04}"),
        }
    }
}

impl Row<'_> {
    pub(super) fn json(&self) -> String {
        let Self {
            location,
            context,
            currency,
            calls,
            charge,
            seconds,
            ..
        } = self;
        format!(
            "{{\"userId\":{},\"userPrincipalName\":{},\"userDisplayName\":{},\"usageLocation\":\"{location}\",\
             \"destinationContext\":\"{context}\",\"currency\":\"{currency}\",\"totalCalls\":{calls},\
             \"totalCallCharge\":{charge},\"totalCallSeconds\":{seconds}}}",
            quoted(self.user_id),
            quoted(self.principal_name),
            quoted(self.display_name),
        )
    }
}

fn synthetic_row(number: usize) -> String {
    let (currency, context, sum) = synthetic_sum(number);
    Row {
        user_id: &Uuid::from_u128(0x0DD0_0000_0000_4000_8000_0000_0000_0000 + number as u128)
            .to_string(),
        principal_name: &format!("user{number:07}@contoso.com"),
        display_name: &format!("User {number}"),
        location: ["US", "GB", "DE", "NL", "IN"][number % 5],
        context,
        currency,
        calls: sum.calls,
        seconds: sum.seconds,
        charge: sum.charge,
    }
    .json()
}

fn synthetic_sum(number: usize) -> (&'static str, &'static str, Sum) {
    let n = number as u64;
    let sum = Sum {
        calls: 1 + n % 89,
        seconds: 60 + n * 31 % 50_021,
        charge: Charge(i64::try_from(n * 7_919 % 1_000_003).expect("below a million and three")),
    };
    let currency = ["USD", "GBP", "EUR", "EUR", "USD"][number % 5];
    (currency, ["Domestic", "International"][number / 5 % 2], sum)
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_print_by_table() {
        for (ten_thousandths, printed) in [
            (0, "0.00"),
            (1, "0.0001"),
            (10, "0.001"),
            (128_300, "12.83"),
            (1_000, "0.10"),
            (-15_005, "-1.5005"),
            (-50, "-0.005"),
            (10_000_000_000, "1000000.00"),
        ] {
            assert_eq!(Charge(ten_thousandths).to_string(), printed);
        }
    }

    #[test]
    fn a_row_is_spelt_as_the_documentation_does() {
        let row = Row {
            user_id: "03de33bb-51df-40de-889a-61949faae24f",
            principal_name: "ruwini.perera@contoso.com",
            display_name: "Ruwini \"R\" Perera",
            location: "US",
            context: "International",
            currency: "USD",
            calls: 12,
            seconds: 723,
            charge: Charge(128_300),
        };
        assert_eq!(
            row.json(),
            r#"{"userId":"03de33bb-51df-40de-889a-61949faae24f","userPrincipalName":"ruwini.perera@contoso.com","userDisplayName":"Ruwini \"R\" Perera","usageLocation":"US","destinationContext":"International","currency":"USD","totalCalls":12,"totalCallCharge":12.83,"totalCallSeconds":723}"#
        );
    }

    #[test]
    fn synthetic_rows_differ_and_pages_tile_them() {
        let world = World::Rows { count: 2_500 };
        let (calls, now) = (Log::default(), DateTime::UNIX_EPOCH);
        let page = |skip, take| world.dialout(&calls, now..=now, now, skip, take);
        let (all, more) = page(0, usize::MAX);
        assert_eq!((all.len(), more), (2_500, false));
        let mut pages = Vec::new();
        for skip in [0, 1000, 2000] {
            let (rows, more) = page(skip, 1000);
            assert_eq!(more, skip < 2000);
            pages.extend(rows);
        }
        assert_eq!(all, pages);
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), 2_500);
        assert_eq!(world.expected().unwrap().rows, 2_500);
    }
}
