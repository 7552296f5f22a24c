//! The properties of a row: how each kind is read, and the errors of values that cannot be counted.
//!
//! Numbers are read from their literal, so that nothing is rounded on the way; a property that a figure needs is required,
//! and everything has a limit. Amounts, ids, currencies and times are read strictly. Text that is only shown is read
//! leniently, so that one odd name does not stop a report.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Datelike as _, Utc};
use ring::digest;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use crate::graph::stats::{Oddity, RequestStats};
use crate::money::{Amount, AmountError};

/// The reason why a row cannot be counted. The report fails: a bill that is silently too small is worse than an old one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
        /// The beginning of the value.
        literal: String,
        /// The error of the amount.
        source: AmountError,
    },
    /// A number of calls or seconds that is not a number.
    #[error("{field} is {literal}, not a whole number within ±{COUNT_MAX}")]
    NotACount {
        /// The property.
        field: &'static str,
        /// The beginning of the value.
        literal: String,
    },
    /// A time that cannot be read.
    #[error("{field} is not a time with an offset, as 2026-11-21T09:30:00Z is")]
    NotATime {
        /// The property.
        field: &'static str,
    },
    /// More than the report may keep.
    #[error("there are too many {what}")]
    TooMany {
        /// The items in the plural.
        what: &'static str,
    },
    /// Text that no directory would hold.
    #[error("{field} is longer than {TEXT_MAX} bytes")]
    TooLong {
        /// The property.
        field: &'static str,
    },
}

/// Text that is borrowed from the page unless it holds an escape. (serde borrows a `Cow` only if it is not wrapped in an
/// `Option`.)
pub struct Text<'a>(Cow<'a, str>);

/// Text that is shown, in a form that is harmless in labels and logs: what is not a character, and control characters,
/// are U+FFFD, and text beyond 1,024 bytes is cut.
///
/// Text that was changed ends in `~` and eight digits of its SHA-256, so that different names stay different.
pub struct Shown<'a> {
    text: Cow<'a, str>,
    change: Change,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Replaced,
    Cut,
}

/// The literal of a number. Null and missing are different, because null is documented and missing is not.
#[derive(Clone, Copy, Default)]
pub enum Literal<'a> {
    /// The row does not have the property.
    #[default]
    Missing,
    /// Null.
    Null,
    /// Anything else.
    Value(&'a RawValue),
}

/// Counts of odd values in rows that are counted nevertheless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Shown text that was cut.
    pub cut: u64,
    /// Shown text in which something was replaced.
    pub replaced: u64,
    /// Nulls that were read as 0.
    pub nulls: u64,
}

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
    notes: &mut Notes,
) -> Result<Amount, RowError> {
    if literal.is_none() && currency.is_empty() {
        notes.nulls += 1;
        Ok(Amount::default())
    } else {
        amount(field, literal)
    }
}

/// A number of calls or seconds, as number or in quotes; required. It is signed, because a correction may be negative.
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

/// The time of a row; `None` if it is missing or in the year 1, which the service writes for a time that is not set.
///
/// # Errors
/// If it is not a time with an offset.
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
    user_principal_name: Option<&'a Shown<'_>>,
    user_display_name: Option<&'a Shown<'_>>,
    notes: &mut Notes,
) -> Result<[&'a str; 3], RowError> {
    Ok([
        text("userId", user_id)?,
        shown(user_principal_name, notes),
        shown(user_display_name, notes),
    ])
}

/// Text that is shown; null and missing read as empty.
pub(crate) fn shown<'a>(shown: Option<&'a Shown<'_>>, notes: &mut Notes) -> &'a str {
    let Some(Shown { text, change }) = shown else {
        return "";
    };
    match change {
        Change::None => {}
        Change::Replaced => notes.replaced += 1,
        Change::Cut => notes.cut += 1,
    }
    text
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

/// Holds the memory that a report keeps until it is rendered against its budget.
///
/// # Errors
/// If it is more than `max` bytes.
pub(crate) fn within(bytes: usize, max: usize) -> Result<(), RowError> {
    if bytes > max {
        return Err(RowError::TooMany {
            what: "different names and places",
        });
    }
    Ok(())
}

impl Notes {
    /// Adds them to the counts of a poll.
    pub(crate) fn count(self, stats: &RequestStats) {
        stats.count_oddities(Oddity::Cut, self.cut);
        stats.count_oddities(Oddity::Replaced, self.replaced);
        stats.count_oddities(Oddity::Null, self.nulls);
    }
}

impl<'a> Literal<'a> {
    /// The number, or `zero` if it is null and null means 0.
    pub(crate) fn or_zero<N: Default>(
        self,
        null_is_zero: bool,
        notes: &mut Notes,
        read: impl FnOnce(Option<&'a RawValue>) -> Result<N, RowError>,
    ) -> Result<N, RowError> {
        match self {
            Self::Value(literal) => read(Some(literal)),
            Self::Null if null_is_zero => {
                notes.nulls += 1;
                Ok(N::default())
            }
            Self::Null | Self::Missing => read(None),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Literal<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let literal = <&RawValue>::deserialize(deserializer)?;
        Ok(match literal.get() {
            "null" => Self::Null,
            _ => Self::Value(literal),
        })
    }
}

impl Shown<'_> {
    /// The text of a JSON string, in which an unpaired surrogate is three bytes that are not UTF-8.
    fn changed(bytes: &[u8]) -> Self {
        let mut text = String::new();
        let read = &bytes[..bytes.len().min(2 * TEXT_MAX)];
        for chunk in read.utf8_chunks() {
            let harmless = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
            text.extend(chunk.valid().chars().map(harmless));
            // One for all three bytes.
            let goes_on = chunk.valid().is_empty() && text.ends_with('\u{FFFD}');
            if !chunk.invalid().is_empty() && !goes_on {
                text.push('\u{FFFD}');
            }
        }
        let hash = digest::digest(&digest::SHA256, bytes);
        let (hash, _) = hash
            .as_ref()
            .split_first_chunk()
            .expect("SHA-256 has 32 bytes");
        let hash = u32::from_be_bytes(*hash);
        let change = if bytes.len() > TEXT_MAX {
            text.truncate(text.floor_char_boundary(TEXT_MAX - CUT_BYTES));
            text.push('…');
            Change::Cut
        } else {
            Change::Replaced
        };
        Shown {
            text: Cow::Owned(format!("{text}~{hash:08x}")),
            change,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Shown<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShownVisitor;
        impl<'de> Visitor<'de> for ShownVisitor {
            type Value = Shown<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Shown<'de>, E> {
                Ok(match harmless(bytes) {
                    Some(text) => Shown {
                        text: Cow::Borrowed(text),
                        change: Change::None,
                    },
                    None => Shown::changed(bytes),
                })
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Shown<'de>, E> {
                Ok(match harmless(bytes) {
                    Some(text) => Shown {
                        text: Cow::Owned(text.to_owned()),
                        change: Change::None,
                    },
                    None => Shown::changed(bytes),
                })
            }
        }
        // As bytes, for text would have to be valid.
        deserializer.deserialize_bytes(ShownVisitor)
    }
}

/// The bytes as text, if they can be shown as they are.
fn harmless(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?;
    // All control characters have one of these bytes.
    let is_suspicious = |byte: u8| byte < 0x20 || byte == 0x7F || byte == 0xC2;
    // Without an early exit, so that many bytes are compared at once.
    let any = bytes
        .iter()
        .fold(false, |any, &byte| any | is_suspicious(byte));
    let is_plain = !any || !text.contains(char::is_control);
    (is_plain && bytes.len() <= TEXT_MAX).then_some(text)
}

/// Enough of a number to find it in the source. Any other value is described only, since it may be a person's name.
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

/// Bytes that a report may keep until it is rendered: 200,000 rows of different people take 34 MB, and a process with 128 MiB
/// of memory has room for that, a page, and what is rendered.
pub(crate) const RETAINED_MAX: usize = 48 << 20;

/// Bytes of a text: the 256 characters that a directory allows are not more, and labels must be bounded.
const TEXT_MAX: usize = 1024;

/// Bytes of `…`, `~` and eight digits at the end of text that was cut.
const CUT_BYTES: usize = 12;

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
    fn shown_text_by_table() {
        let changed = |start: &str, bytes: &[u8]| {
            let hash = digest::digest(&digest::SHA256, bytes);
            let hash = u32::from_be_bytes(hash.as_ref()[..4].try_into().unwrap());
            format!("{start}~{hash:08x}")
        };
        let long = "ä".repeat(TEXT_MAX / 2);
        let cut = changed(
            &format!("{}…", "ä".repeat((TEXT_MAX - CUT_BYTES) / 2)),
            format!("{long}b").as_bytes(),
        );
        let surrogate = b"Ann \xED\xA0\xBD";
        for (json, expected, cut, replaced) in [
            (r#""Ann""#.to_owned(), "Ann".to_owned(), 0, 0),
            (r#""\u00e4\ud83d\ude00""#.to_owned(), "ä😀".to_owned(), 0, 0),
            (
                "\"caf\u{e9} \u{a0}\"".to_owned(),
                "café \u{a0}".to_owned(),
                0,
                0,
            ),
            (
                r#""Ann \ud83d""#.to_owned(),
                changed("Ann \u{FFFD}", surrogate),
                0,
                1,
            ),
            (
                r#""a\u0000b\n""#.to_owned(),
                changed("a\u{FFFD}b\u{FFFD}", b"a\0b\n"),
                0,
                1,
            ),
            ("\"a\tb\"".to_owned(), changed("a\u{FFFD}b", b"a\tb"), 0, 1),
            (
                "\"a\u{85}\"".to_owned(),
                changed("a\u{FFFD}", "a\u{85}".as_bytes()),
                0,
                1,
            ),
            (format!("\"{long}\""), long.clone(), 0, 0),
            (format!("\"{long}b\""), cut, 1, 0),
        ] {
            let mut notes = Notes::default();
            let text: Shown<'_> = serde_json::from_slice(json.as_bytes()).expect(&json);
            assert_eq!(shown(Some(&text), &mut notes), expected, "{json}");
            assert!(expected.len() <= TEXT_MAX);
            assert_eq!((notes.cut, notes.replaced), (cut, replaced), "{json}");
        }
        let read = |bytes: &[u8]| {
            let shown: Shown<'_> = serde_json::from_slice(bytes).unwrap();
            shown.text.into_owned()
        };
        assert_eq!(
            read(b"\"a\xFF\xFEb\""),
            changed("a\u{FFFD}b", b"a\xFF\xFEb")
        );
        assert_ne!(read(br#""Ann \ud83d""#), read(br#""Ann \ud83e""#));
        let [one, other] = ["a", "b"].map(|end| format!("\"{}{end}\"", "x".repeat(1 << 20)));
        assert_ne!(read(one.as_bytes()), read(other.as_bytes()));
    }

    #[test]
    fn null_is_zero_only_if_allowed() {
        let number = |json: &'static str| serde_json::from_str::<Literal<'_>>(json).unwrap();
        let missing = Err(RowError::Missing { field: "duration" });
        for (literal, allowed, expected, nulls) in [
            (number("null"), true, Ok(0), 1),
            (number("null"), false, missing.clone(), 0),
            (Literal::Missing, true, missing, 0),
            (number("7"), true, Ok(7), 0),
        ] {
            let mut notes = Notes::default();
            let read = literal.or_zero(allowed, &mut notes, |raw| count("duration", raw));
            assert_eq!(read, expected);
            assert_eq!(notes.nulls, nulls);
        }
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
