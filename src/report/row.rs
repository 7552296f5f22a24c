//! The row of a report: its properties and labels, how each kind of property is read, and the errors of values that
//! cannot be counted.
//!
//! Numbers are read from their JSON literal, so that no number is rounded. A property that a figure needs is required,
//! and all values have limits. Amounts, ids, currencies and times are read strictly. Text that is only shown is read
//! leniently, so that one invalid name does not fail the report.

mod declaration;
mod text;

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Datelike as _, Utc};
use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::graph::stats::{Oddity, RequestStats};
use crate::money::{Amount, AmountError};

pub(crate) use declaration::{Properties, camel_case, read, row};
pub use text::{Shown, Text};

use text::{Change, TEXT_MAX};

/// The reason why a row cannot be counted. The poll then fails, because a bill that is silently too small is worse than
/// an old bill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{property} {problem}")]
pub struct RowError {
    property: PropertyName,
    problem: Cow<'static, str>,
    /// The error of an amount.
    source: Option<AmountError>,
}

/// The name of a property in snake case. `Display` writes it in camel case, as Graph does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyName(&'static str);

/// A property of a row, with its name for errors.
pub(crate) struct Property<'r, T> {
    name: PropertyName,
    pub(crate) value: &'r T,
}

/// The literal of a number. Null and missing are different variants, because Microsoft documents that numbers can be
/// null, but not that they can be missing. Only a null can be read as 0 by `or_zero`.
#[derive(Clone, Copy, Default)]
pub enum Number<'a> {
    /// The row does not have the property.
    #[default]
    Missing,
    /// Null.
    Null,
    /// Any other JSON value.
    Literal(&'a RawValue),
}

/// Number of odd values, by kind, in rows that are still counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Number of shown texts that were cut.
    pub cut: u64,
    /// Number of shown texts in which characters were replaced.
    pub replaced: u64,
    /// Number of nulls that were read as 0.
    pub nulls: u64,
}

impl PropertyName {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self(name)
    }
}

impl fmt::Display for PropertyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (length, name) = camel_case(self.0);
        f.write_str(str::from_utf8(&name[..length]).expect("names of properties are ASCII"))
    }
}

impl<'r, T> Property<'r, T> {
    pub(crate) const fn new(name: &'static str, value: &'r T) -> Self {
        Self {
            name: PropertyName(name),
            value,
        }
    }

    /// The error for this required property if it is missing or null.
    pub(crate) fn missing(&self) -> RowError {
        self.error("is missing or null")
    }

    #[cold]
    fn error(&self, problem: impl Into<Cow<'static, str>>) -> RowError {
        RowError {
            property: self.name,
            problem: problem.into(),
            source: None,
        }
    }
}

impl<'r> Property<'r, Number<'_>> {
    /// Reads a required amount of money.
    pub(crate) fn amount(&self) -> Result<Amount, RowError> {
        let literal = self.literal()?;
        Amount::from_json(literal).map_err(|source| RowError {
            source: Some(source),
            ..self.error(format!("is {}", excerpt(literal)))
        })
    }

    /// Reads the amount of money of one call. The amount is required if the call has a currency. A call with neither an
    /// amount nor a currency has no price, and its amount is 0.
    pub(crate) fn amount_in(&self, currency: &str, notes: &mut Notes) -> Result<Amount, RowError> {
        if currency.is_empty() && !matches!(self.value, Number::Literal(_)) {
            notes.nulls += 1;
            Ok(Amount::default())
        } else {
            self.amount()
        }
    }

    /// Reads a required number of calls or seconds, which may be in quotes. The number is signed, because a correction
    /// may be negative.
    pub(crate) fn count(&self) -> Result<i64, RowError> {
        let literal = self.literal()?;
        let count = match literal.parse() {
            Ok(count) => Some(count),
            Err(_) => Amount::from_json(literal).ok().and_then(Amount::to_integer),
        };
        count
            .filter(|count: &i64| count.unsigned_abs() <= COUNT_MAX)
            .ok_or_else(|| {
                let literal = excerpt(literal);
                self.error(format!(
                    "is {literal}, not a whole number within ±{COUNT_MAX}"
                ))
            })
    }

    /// Returns zero if the value is null and `null_is_zero` is true. Otherwise calls `read`.
    pub(crate) fn or_zero<N: Default>(
        &self,
        null_is_zero: bool,
        notes: &mut Notes,
        read: impl FnOnce(&Self) -> Result<N, RowError>,
    ) -> Result<N, RowError> {
        match self.value {
            Number::Null if null_is_zero => {
                notes.nulls += 1;
                Ok(N::default())
            }
            _ => read(self),
        }
    }

    fn literal(&self) -> Result<&'r str, RowError> {
        match self.value {
            Number::Literal(literal) => Ok(literal.get()),
            Number::Missing | Number::Null => Err(self.missing()),
        }
    }
}

impl<'r> Property<'r, Text<'_>> {
    /// The text; empty if it is null or missing.
    pub(crate) fn text(&self) -> Result<&'r str, RowError> {
        let Text(text) = self.value;
        if text.len() > TEXT_MAX {
            Err(self.error(format!("is longer than {TEXT_MAX} bytes")))
        } else {
            Ok(text)
        }
    }

    /// The time; `None` if it is missing or in the year 1, which the service writes for a time that is not set.
    ///
    /// # Errors
    /// If the text is not a time with an offset.
    pub(crate) fn time(&self) -> Result<Option<DateTime<Utc>>, RowError> {
        let literal = self.text()?;
        if literal.is_empty() {
            return Ok(None);
        }
        match DateTime::parse_from_rfc3339(literal) {
            Ok(time) if time.year() <= 1 => Ok(None),
            Ok(time) => Ok(Some(time.to_utc())),
            Err(_) => Err(self.error("is not a time with an offset, such as 2026-11-21T09:30:00Z")),
        }
    }
}

impl<'r> Property<'r, Shown<'_>> {
    /// Text that is shown; empty if it is null or missing.
    pub(crate) fn shown(&self, notes: &mut Notes) -> &'r str {
        match self.value.change {
            Change::None => {}
            Change::Replaced => notes.replaced += 1,
            Change::Cut => notes.cut += 1,
        }
        &self.value.text
    }
}

/// Returns the first of these times that is set.
///
/// # Errors
/// If a text is not a time with an offset. Texts after the first time that is set are not read.
pub(crate) fn first_time<'r, 'a: 'r>(
    times: impl IntoIterator<Item = Property<'r, Text<'a>>>,
) -> Result<Option<DateTime<Utc>>, RowError> {
    let mut times = times.into_iter();
    times.find_map(|time| time.time().transpose()).transpose()
}

/// The labels of a row, followed by empty labels up to the `MAX` labels of a record.
pub(crate) fn padded<const COUNT: usize, const MAX: usize>(
    labels: [Cow<'_, str>; COUNT],
) -> [Cow<'_, str>; MAX] {
    const { assert!(COUNT <= MAX, "a record has room for all labels of a log") };
    let mut labels = labels.into_iter();
    std::array::from_fn(|_| labels.next().unwrap_or(Cow::Borrowed("")))
}

impl Notes {
    /// Adds the notes of a row that was counted.
    pub(crate) fn add(&mut self, row: Self) {
        self.cut += row.cut;
        self.replaced += row.replaced;
        self.nulls += row.nulls;
    }

    /// Adds the notes to the counts of a poll.
    pub(crate) fn count(&self, stats: &RequestStats) {
        stats.count_oddities(Oddity::Cut, self.cut);
        stats.count_oddities(Oddity::Replaced, self.replaced);
        stats.count_oddities(Oddity::Null, self.nulls);
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Number<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let literal = <&RawValue>::deserialize(deserializer)?;
        Ok(match literal.get() {
            "null" => Self::Null,
            _ => Self::Literal(literal),
        })
    }
}

/// The start of a number, long enough to find the number in the report. Any other value is only described, because it
/// may be a person's name.
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

/// Maximum number of calls or seconds of one row. It is far above the documented `Int32`, but the sum of all rows still
/// stays below 2⁶³.
const COUNT_MAX: u64 = 1 << 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_table() {
        let check = |literal: &str, expected: Option<i64>| {
            let number: Number<'_> = serde_json::from_str(literal).unwrap();
            let property = Property::new("total_calls", &number);
            assert_eq!(property.count().ok(), expected, "{literal}");
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
        for number in [Number::Missing, Number::Null] {
            let property = Property::new("total_calls", &number);
            assert_eq!(property.count(), Err(property.missing()));
            assert_eq!(
                property.missing().to_string(),
                "totalCalls is missing or null"
            );
        }
    }

    #[test]
    fn null_is_zero_only_if_allowed() {
        let read_number = |json: &'static str| serde_json::from_str::<Number<'_>>(json).unwrap();
        let missing = Err(Property::new("duration", &Number::Null).missing());
        for (number, allowed, expected, nulls) in [
            (read_number("null"), true, Ok(0), 1),
            (read_number("null"), false, missing.clone(), 0),
            (Number::Missing, true, missing, 0),
            (read_number("7"), true, Ok(7), 0),
        ] {
            let mut notes = Notes::default();
            let property = Property::new("duration", &number);
            let read = property.or_zero(allowed, &mut notes, Property::count);
            assert_eq!(read, expected);
            assert_eq!(notes.nulls, nulls);
        }
    }

    #[test]
    fn times_by_table() {
        let check = |literal: &str, expected: Result<Option<&str>, ()>| {
            let text: Text<'_> = serde_json::from_str(literal).unwrap();
            let property = Property::new("start_date_time", &text);
            let time = property.time().map_err(drop);
            let expected = expected.map(|time| time.map(|time| time.parse().unwrap()));
            assert_eq!(time, expected, "{literal}");
        };
        check(
            r#""2019-11-01T00:00:08.2589935Z""#,
            Ok(Some("2019-11-01T00:00:08.258993500Z")),
        );
        check(
            r#""2019-11-01T02:00:08+02:00""#,
            Ok(Some("2019-11-01T00:00:08Z")),
        );
        check(r#""0001-01-01T00:00:00Z""#, Ok(None));
        check(r#""""#, Ok(None));
        check(r#""2019-11-01""#, Err(()));
        check(r#""2019-11-01T00:00:08""#, Err(()));
        check(r#""yesterday""#, Err(()));
    }
}
