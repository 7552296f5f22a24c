//! Types of the scalars in the configuration file, each with its parser and schema.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use schemars::{Schema, json_schema};

use super::read::{Scalar, Wrong, one_of, quote_value};
use super::written;
use crate::graph::address::{Cloud, RootUrl, UrlError};
use crate::money::Amount;
use crate::period::CycleDay;
use crate::report::ReportKind;
use crate::report::labels::UserLabel;
use crate::report::threshold::Severity;
use crate::yaml::{Kind, is_number};

/// A label value: the name of a tenant, budget or pool, or the value of a selector.
pub(super) struct Name(pub(super) String);

/// A GUID, lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guid(pub(super) String);

/// A tenant's GUID or one of its domains, lower case.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TenantId(pub(super) String);

/// Three letters of ISO 4217, upper case.
pub(super) struct CurrencyCode(pub(super) String);

/// A value of the label `usage_location`: two letters, upper case, or `unknown`.
pub(super) struct Location(pub(super) String);

/// An amount of money above zero.
pub(super) struct Positive(pub(super) Amount);

/// A share of a limit in percent, above zero.
pub(super) struct Percent(pub(super) u32);

/// The value of a setting `user`. `None` means `pseudonym`: the [`UserLabel`] is made later, because it contains the
/// key, which is another setting.
#[derive(Clone)]
pub(super) struct UserSetting(pub(super) Option<UserLabel>);

/// The time at which a credential expires.
pub(super) struct Expiry(pub(super) DateTime<Utc>);

/// The value `true`, for keys that are either `true` or missing.
pub(super) struct True;

impl Scalar for Name {
    const EXPECTED: &'static str = "a name";
    const HINT: &'static str = "write 1 to 128 characters, without control characters and without blanks at the beginning or end";
    const HINT_QUOTES: bool = true;

    fn parse(text: &str) -> Result<Self, Wrong> {
        let good = !text.is_empty()
            && text.trim() == text
            && text.chars().count() <= 128
            && !text.chars().any(char::is_control);
        good.then(|| Self(text.to_owned())).ok_or(Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 128 })
    }
}

impl Scalar for Guid {
    const EXPECTED: &'static str = "a GUID";
    const HINT: &'static str =
        "copy the application (client) ID from the app registration's overview in Entra";
    const ECHO_VALUE: bool = false;

    fn parse(text: &str) -> Result<Self, Wrong> {
        guid(text).map(Self).ok_or_else(|| no_guid(text))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}

impl Scalar for TenantId {
    const EXPECTED: &'static str = "a GUID or a domain";
    const HINT: &'static str =
        "copy the directory (tenant) ID from the app registration's overview in Entra";
    const ECHO_VALUE: bool = false;

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let "common" | "organizations" | "consumers" = text {
            let what = format!("{text} means any tenant; {}", Self::HINT);
            return Err(Wrong::Because(what));
        }
        guid(text)
            .or_else(|| domain(text))
            .map(Self)
            .ok_or_else(|| no_guid(text))
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 3, "maxLength": 253 })
    }
}

impl Scalar for RootUrl {
    const EXPECTED: &'static str = "a URL";
    const HINT: &'static str = "write it as https://HOST";

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|error| match error {
            UrlError::Syntax => Wrong::Kind,
            error => Wrong::Because(error.to_string()),
        })
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "format": "uri", "pattern": "^https?://" })
    }
}

impl Scalar for PathBuf {
    const EXPECTED: &'static str = "a path";
    const HINT: &'static str = "name a file";
    const ECHO_VALUE: bool = false;
    const HINT_QUOTES: bool = true;

    fn parse(text: &str) -> Result<Self, Wrong> {
        let good = !text.is_empty() && !text.contains('\0');
        good.then(|| Self::from(text)).ok_or(Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

impl Scalar for Duration {
    const EXPECTED: &'static str = "a duration";
    const HINT: &'static str = "write a number with its unit, for example 90s, 30m or 1h";
    const KINDS: &'static [Kind] = &[Kind::Text, Kind::Number];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let duration = humantime::parse_duration(text).map_err(|_| Wrong::Kind)?;
        if duration < DURATION_MIN {
            let what = format!("{} is too short; give at least 1s", quote_value(text));
            Err(Wrong::Because(what))
        } else if duration > DURATION_MAX {
            let what = format!("{} is too long; give at most 31days", quote_value(text));
            Err(Wrong::Because(what))
        } else {
            Ok(duration)
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]" })
    }
}

impl Scalar for CycleDay {
    const EXPECTED: &'static str = "a day from 1 to 28";
    const HINT: &'static str = "give the day on which the billing period starts, without quotes";
    const KINDS: &'static [Kind] = &[Kind::Number];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let day: u64 = text.parse().map_err(|_| Wrong::Kind)?;
        Self::try_from(day).map_err(|_| Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 28 })
    }
}

impl Scalar for NonZeroUsize {
    const EXPECTED: &'static str = "a whole number above 0";
    const HINT: &'static str = "give for example 20000, without quotes";
    const KINDS: &'static [Kind] = &[Kind::Number];

    fn parse(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|_| Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1 })
    }
}

impl Scalar for Percent {
    const EXPECTED: &'static str = "a share in percent";
    const HINT: &'static str =
        "write a whole number from 1 to 10000, for example 80, without quotes";
    const KINDS: &'static [Kind] = &[Kind::Number];

    fn parse(text: &str) -> Result<Self, Wrong> {
        let share = text
            .parse()
            .ok()
            .filter(|share| (1..=10_000).contains(share));
        share.map(Self).ok_or(Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 10_000 })
    }
}

impl Scalar for Severity {
    const EXPECTED: &'static str = "a severity";
    const HINT: &'static str = "choose from info, warning, critical";

    fn parse(text: &str) -> Result<Self, Wrong> {
        one_of(text, &choices(&Severity::ALL, Severity::as_str))
    }

    fn schema() -> Schema {
        choice(&choices(&Severity::ALL, Severity::as_str))
    }
}

impl Scalar for UserSetting {
    const EXPECTED: &'static str = "a word";
    const HINT: &'static str = "choose from upn, id, display_name, pseudonym, none";

    fn parse(text: &str) -> Result<Self, Wrong> {
        one_of(text, &user_labels())
    }

    fn schema() -> Schema {
        choice(&user_labels())
    }
}

impl Scalar for ReportKind {
    const EXPECTED: &'static str = "the name of a report";
    const HINT: &'static str = "give for example dialout";

    fn parse(text: &str) -> Result<Self, Wrong> {
        one_of(text, &choices(ReportKind::ALL, ReportKind::as_str))
    }

    fn schema() -> Schema {
        choice(&choices(ReportKind::ALL, ReportKind::as_str))
    }
}

impl Scalar for Cloud {
    const EXPECTED: &'static str = "the name of a cloud";
    const HINT: &'static str = "choose from global, us-gov-l4, us-gov-l5";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "china" {
            return Err(Wrong::Because(format!("{CHINA}; remove this tenant")));
        }
        let name = text.to_ascii_lowercase().replace(['-', '_', ' '], "");
        let known = Cloud::ALL.iter().find(|cloud| cloud.as_str() == text);
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
        let what = match (known, other) {
            (Some(cloud), _) => return Ok(*cloud),
            (None, Some((_, what))) => *what,
            (None, None) if name.contains("gov") => US_GOVERNMENT,
            (None, None) => return one_of(text, &choices(&Cloud::ALL, Cloud::as_str)),
        };
        let what = format!("unknown value {}; {what}", quote_value(text));
        Err(Wrong::Because(what))
    }

    fn schema() -> Schema {
        choice(&choices(&Cloud::ALL, Cloud::as_str))
    }
}

impl Scalar for CurrencyCode {
    const EXPECTED: &'static str = "a currency";
    const HINT: &'static str = "write its three letters, for example USD";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let good = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        good.then(|| Self(text.to_ascii_uppercase()))
            .ok_or(Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z]{3}$" })
    }
}

impl Scalar for Location {
    const EXPECTED: &'static str = "a usage location";
    const HINT: &'static str = "write the two letters of a country, for example DE, or unknown";

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.eq_ignore_ascii_case("unknown") {
            return Ok(Self("unknown".to_owned()));
        }
        let good = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        good.then(|| Self(text.to_ascii_uppercase()))
            .ok_or(Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^([A-Za-z]{2}|[Uu][Nn][Kk][Nn][Oo][Ww][Nn])$" })
    }
}

impl Scalar for Positive {
    const EXPECTED: &'static str = "an amount";
    const HINT: &'static str = "write a number, for example 500 or 1250.50";
    // Text is accepted too, because templates that convert numbers to floats need quotes around exact amounts.
    const KINDS: &'static [Kind] = &[Kind::Number, Kind::Text];

    fn parse(text: &str) -> Result<Self, Wrong> {
        if !is_number(text) {
            return Err(Wrong::Kind);
        }
        let because = |what: &str| Wrong::Because(format!("{} {what}", quote_value(text)));
        match exact(text) {
            Some(amount) if amount > Amount::default() => Ok(Self(amount)),
            None if !text.starts_with('-') => Err(because(
                "cannot be represented exactly; give at most 28 digits",
            )),
            _ => Err(because("is not above zero; give the amount of the budget")),
        }
    }

    fn schema() -> Schema {
        json_schema!({ "type": ["number", "string"], "exclusiveMinimum": 0 })
    }
}

impl Scalar for Expiry {
    const EXPECTED: &'static str = "a date";
    const HINT: &'static str = "write it as 2027-01-31 or 2027-01-31T12:00:00Z";

    fn parse(text: &str) -> Result<Self, Wrong> {
        let day = |text: &str| {
            let day: NaiveDate = text.parse().ok()?;
            Some(day.and_time(NaiveTime::MIN).and_utc())
        };
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|time| time.to_utc())
            .or_else(|| day(text))
            .map(Self)
            .ok_or(Wrong::Kind)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}" })
    }
}

impl Scalar for True {
    const EXPECTED: &'static str = "true";
    const HINT: &'static str = "write true";
    const KINDS: &'static [Kind] = &[Kind::Bool];

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text.eq_ignore_ascii_case("true") {
            Ok(Self)
        } else {
            let what = "false has no effect; remove the key";
            Err(Wrong::Because(what.to_owned()))
        }
    }

    fn schema() -> Schema {
        json_schema!({ "const": true })
    }
}

fn guid(text: &str) -> Option<String> {
    let hyphenated = text.len() == 36;
    let id = uuid::Uuid::try_parse(text).ok().filter(|_| hyphenated)?;
    Some(id.to_string())
}

/// Explains why a text is not a GUID.
fn no_guid(text: &str) -> Wrong {
    written::no_guid(text).map_or(Wrong::Kind, |what| Wrong::Because(what.to_owned()))
}

fn domain(text: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let (_, top) = text.rsplit_once('.')?;
    let good = text.len() <= 253 && !numeric(top) && text.split('.').all(label);
    good.then(|| text.to_ascii_lowercase())
}

/// Returns the amount of a number literal of YAML's core schema. `None` if the amount cannot be represented exactly.
fn exact(literal: &str) -> Option<Amount> {
    // Unlike JSON, the core schema allows a plus sign, and a decimal point without digits on one side.
    let literal = literal.strip_prefix('+').unwrap_or(literal);
    let (mantissa, exponent) = literal.split_at(literal.find(['e', 'E']).unwrap_or(literal.len()));
    let mantissa = mantissa.strip_suffix('.').unwrap_or(mantissa);
    let zero = if mantissa.starts_with('.') { "0" } else { "" };
    Amount::from_json(&format!("{zero}{mantissa}{exponent}")).ok()
}

/// Returns the values of a closed set with their texts.
fn choices<T: Copy>(all: &[T], text: fn(T) -> &'static str) -> Vec<(&'static str, T)> {
    all.iter().map(|value| (text(*value), *value)).collect()
}

fn choice<T>(choices: &[(&str, T)]) -> Schema {
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    json_schema!({ "type": "string", "enum": names })
}

fn user_labels() -> [(&'static str, UserSetting); 5] {
    let plain = |label: UserLabel| (label.as_str(), UserSetting(Some(label)));
    [
        plain(UserLabel::Upn),
        plain(UserLabel::Id),
        plain(UserLabel::DisplayName),
        ("pseudonym", UserSetting(None)),
        plain(UserLabel::None),
    ]
}

/// Other common names of the clouds, without hyphens, each with its remedy.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("gcc", "write global, to which GCC belongs"),
    ("gcch", "write us-gov-l4 for GCC High"),
    ("gcchigh", "write us-gov-l4 for GCC High"),
    ("dod", "write us-gov-l5 for the Department of Defense"),
    ("public", "write global"),
    ("commercial", "write global"),
    ("worldwide", "write global"),
    ("azurecloud", "write global"),
    ("azurepubliccloud", "write global"),
];

const US_GOVERNMENT: &str =
    "write us-gov-l4 for GCC High or us-gov-l5 for the Department of Defense";

/// Reason for rejecting the cloud that 21Vianet operates.
pub(super) const CHINA: &str =
    "the cloud china (21Vianet) does not have the API of telephony reports";

/// The shortest valid duration. Tests poll every second, and a shorter interval is a mistake.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// The longest valid duration, because no wait needs to be longer than a billing period.
const DURATION_MAX: Duration = Duration::from_hours(31 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_by_table() {
        let check = |literal: &str, exact_text: Option<&str>| {
            let read = exact(literal).map(|amount| amount.to_string());
            assert_eq!(read.as_deref(), exact_text, "{literal}");
        };
        check("500", Some("500"));
        check("+500.10", Some("500.1"));
        check("5.", Some("5"));
        check(".5", Some("0.5"));
        check("1e+06", Some("1000000"));
        check("1.5E1", Some("15"));
        check("15e-1", Some("1.5"));
        check("0.1", Some("0.1"));
        check(
            "7922816251426433759354395033",
            Some("7922816251426433759354395033"),
        );
        check("1e28", Some("10000000000000000000000000000"));
        check("1e29", None);
        check("1e-29", None);
        check("1e99999999999", None);
        check("0.12345678901234567890123456789", None);
    }

    #[test]
    fn tenants_by_table() {
        let check = |text: &str, good: bool| {
            assert_eq!(TenantId::parse(text).is_ok(), good, "{text}");
        };
        check("11111111-2222-3333-4444-555555555555", true);
        check("Contoso.onmicrosoft.com", true);
        check("11111111222233334444555555555555", false);
        check("{11111111-2222-3333-4444-555555555555}", false);
        check("contoso", false);
        check("contoso..com", false);
        check("-contoso.com", false);
        check("10.0.0.1", false);
        check("contoso.com/x", false);
        check("common", false);
    }
}
