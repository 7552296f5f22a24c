//! What stands in one row of a report: how each kind of property is read, and why it may not be.
//!
//! Numbers are read from their literal, so that nothing is rounded on the way; a property that a figure needs is required,
//! and everything has a limit.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Datelike as _, Utc};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use crate::money::{Amount, AmountError};

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

/// Text that is borrowed from the page unless it holds an escape. (serde borrows a `Cow` only where it is not wrapped in
/// an `Option`.)
pub struct Text<'a>(Cow<'a, str>);

/// An amount of money; required.
pub(crate) fn amount(field: &'static str, literal: Option<&RawValue>) -> Result<Amount, RowError> {
    let literal = literal.ok_or(RowError::Missing { field })?.get();
    Amount::from_json(literal).map_err(|source| RowError::NotAnAmount {
        field,
        literal: excerpt(literal),
        source,
    })
}

/// An amount of money of one call; required, unless the call has no currency either: then it has no price.
pub(crate) fn money(
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
pub(crate) fn count(field: &'static str, literal: Option<&RawValue>) -> Result<i64, RowError> {
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

/// The time of a row; none where it is missing or, as the service writes what is not set, in the year 1.
///
/// # Errors
/// Where it is not a time with an offset.
pub(crate) fn time(
    field: &'static str,
    literal: Option<&Text<'_>>,
) -> Result<Option<DateTime<Utc>>, RowError> {
    let literal = text(field, literal)?;
    if literal.is_empty() {
        return Ok(None);
    }
    match DateTime::parse_from_rfc3339(literal) {
        Ok(time) if time.year() <= 1 => Ok(None),
        Ok(time) => Ok(Some(time.to_utc())),
        Err(_) => Err(RowError::NotATime { field }),
    }
}

/// The first of a row's times that it has.
///
/// # Errors
/// If one of those up to it is not a time with an offset.
pub(crate) fn first_time<'a>(
    fields: impl IntoIterator<Item = (&'static str, Option<&'a Text<'a>>)>,
) -> Result<Option<DateTime<Utc>>, RowError> {
    for (field, literal) in fields {
        if let Some(time) = time(field, literal)? {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

/// The names that a row has of a person: id, user principal name, display name; each may be empty.
pub(crate) fn person<'a>(
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
pub(crate) fn text<'a>(
    field: &'static str,
    text: Option<&'a Text<'_>>,
) -> Result<&'a str, RowError> {
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

/// Bytes of a text: the directory's own names are shorter by far, and labels must be bounded.
const TEXT_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn times_by_table() {
        let check = |literal: &str, expected: Result<Option<&str>, ()>| {
            let text: Text<'_> = serde_json::from_str(literal).unwrap();
            let time = time("startDateTime", Some(&text)).map_err(drop);
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
