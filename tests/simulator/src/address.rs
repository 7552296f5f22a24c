//! URLs of requests: the functions of the call records and their arguments, as in the documentation.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use url::form_urlencoded;

/// A function of `communications/callRecords`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// `getPstnOnlineMeetingDialoutReport`
    Dialout,
    /// `getPstnCalls`
    Calls,
    /// `getDirectRoutingCalls`
    DirectRouting,
    /// `getSmsLog`
    Sms,
    /// `getPstnBlockedUsersLog`
    BlockedUsers,
}

/// The first segment of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `v1.0`
    V1,
    /// `beta`
    Beta,
}

/// `{version}/communications/callRecords/{function}({arguments})`, its percent signs decoded.
pub(super) struct Path {
    pub(super) version: Version,
    pub(super) function: String,
    /// The text between the parentheses.
    pub(super) arguments: String,
}

/// Start, end, and their two literals.
pub(super) type Window<'a> = (DateTime<Utc>, DateTime<Utc>, (&'a str, &'a str));

impl Function {
    /// Finds the function by its name, short or with its namespace.
    pub(super) fn named(name: &str) -> Option<Self> {
        let short = name
            .strip_prefix("microsoft.graph.callRecords.")
            .unwrap_or(name);
        FUNCTIONS
            .into_iter()
            .find(|function| function.name() == short)
    }

    /// The name in the path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dialout => "getPstnOnlineMeetingDialoutReport",
            Self::Calls => "getPstnCalls",
            Self::DirectRouting => "getDirectRoutingCalls",
            Self::Sms => "getSmsLog",
            Self::BlockedUsers => "getPstnBlockedUsersLog",
        }
    }

    pub(super) fn row_type(self) -> &'static str {
        match self {
            Self::Dialout => "pstnOnlineMeetingDialoutReport",
            Self::Calls => "pstnCallLogRow",
            Self::DirectRouting => "directRoutingLogRow",
            Self::Sms => "smsLogRow",
            Self::BlockedUsers => "pstnBlockedUsersLogRow",
        }
    }

    pub(super) fn is_in(self, version: Version) -> bool {
        version == Version::Beta || matches!(self, Self::Calls | Self::DirectRouting)
    }

    /// The longest window, if the documentation states one.
    pub(super) fn range_max(self) -> Option<TimeDelta> {
        (self != Self::DirectRouting).then(|| TimeDelta::days(90))
    }

    /// The parameters in links to further pages. In two examples of the documentation they differ from those of a first
    /// request, so a client that builds such a link itself fails.
    pub(super) fn link_parameters(self) -> [&'static str; 2] {
        match self {
            Self::Dialout | Self::Calls => ["from=", "to="],
            Self::DirectRouting | Self::Sms | Self::BlockedUsers => PARAMETERS,
        }
    }

    /// A field that the fault of a duplicate key writes first, with another value.
    pub(super) fn doubled_field(self) -> &'static str {
        match self {
            Self::Dialout => "\"totalCallCharge\":0.01,",
            Self::Calls => "\"charge\":0.01,",
            Self::DirectRouting => "\"duration\":1,",
            Self::Sms => "\"callCharge\":0.01,",
            Self::BlockedUsers => "\"blockReason\":\"Doubled\",",
        }
    }
}

impl Version {
    /// The name in the path.
    pub fn segment(self) -> &'static str {
        match self {
            Self::V1 => "v1.0",
            Self::Beta => "beta",
        }
    }
}

impl Path {
    pub(super) fn parse(path: &str) -> Option<Self> {
        let path = percent_decoded(path)?;
        let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
        let call = rest.strip_prefix("communications/callRecords/")?;
        let (function, arguments) = call.strip_suffix(')')?.split_once('(')?;
        Some(Self {
            version: match version {
                "v1.0" => Version::V1,
                "beta" => Version::Beta,
                _ => return None,
            },
            function: function.to_owned(),
            arguments: arguments.to_owned(),
        })
    }
}

/// The two times of a request: the first for a report, or one for a further page of it.
pub(super) fn arguments(
    function: Function,
    arguments: &str,
    is_further_page: bool,
) -> Result<Window<'_>, String> {
    let names = if is_further_page {
        function.link_parameters()
    } else {
        PARAMETERS
    };
    let (first, second) = arguments.split_once(',').ok_or_else(|| {
        format!("The function takes the parameters fromDateTime and toDateTime, not '{arguments}'.")
    })?;
    let mut times = [DateTime::UNIX_EPOCH; 2];
    let mut literals = [""; 2];
    for (index, (argument, name)) in [first, second].into_iter().zip(names).enumerate() {
        let literal = argument
            .strip_prefix(name)
            .ok_or_else(|| format!("The parameter '{argument}' of the function is not {name}…"))?;
        let position = name.len() + index * (first.len() + 1);
        if literal.is_empty() {
            return Err(format!(
                "Expression expected at position {position} in '{arguments}'."
            ));
        }
        times[index] = time(literal).ok_or_else(|| {
            format!("Unrecognized 'Edm.DateTimeOffset' literal '{literal}' at '{position}' in '{arguments}'.")
        })?;
        literals[index] = literal;
    }
    if times[1] < times[0] {
        return Err("toDateTime is before fromDateTime.".to_owned());
    }
    Ok((times[0], times[1], (literals[0], literals[1])))
}

/// Rows before the requested page.
pub(super) fn skip(query: &str) -> usize {
    skip_token(query).unwrap_or(0)
}

/// Values in the link to a page, which can also lead back to the first one. `None` if a client made up the URL.
pub(super) fn skip_token(query: &str) -> Option<usize> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "$skip")
        .and_then(|(_, value)| value.parse().ok())
}

/// Decodes percent signs. Returns `None` if a percent sign is not followed by two hexadecimal digits or the bytes are no
/// UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

/// A date, which is its first moment, or a time of day with zone and at most seven decimals.
fn time(literal: &str) -> Option<DateTime<Utc>> {
    if let Ok(date) = NaiveDate::parse_from_str(literal, "%Y-%m-%d") {
        return (literal.len() == 10).then(|| date.and_time(NaiveTime::MIN).and_utc());
    }
    let decimals = literal.split_once('.').map_or(0, |(_, rest)| {
        rest.bytes().take_while(u8::is_ascii_digit).count()
    });
    let has_t = literal.as_bytes().get(10) == Some(&b'T');
    DateTime::parse_from_rfc3339(literal)
        .ok()
        .filter(|_| has_t && decimals <= 7)
        .map(|time| time.to_utc())
}

const FUNCTIONS: [Function; 5] = [
    Function::Dialout,
    Function::Calls,
    Function::DirectRouting,
    Function::Sms,
    Function::BlockedUsers,
];

const PARAMETERS: [&str; 2] = ["fromDateTime=", "toDateTime="];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_by_table() {
        let check = |literal: &str, expected: Option<&str>| {
            assert_eq!(
                time(literal),
                expected.map(|text| text.parse().unwrap()),
                "{literal}"
            );
        };
        check("2026-11-01", Some("2026-11-01T00:00:00Z"));
        check("2026-11-01T12:34:56Z", Some("2026-11-01T12:34:56Z"));
        check(
            "2026-11-01T12:34:56.1234567Z",
            Some("2026-11-01T12:34:56.1234567Z"),
        );
        check("2026-11-01T12:34:56+01:00", Some("2026-11-01T11:34:56Z"));
        for bad in [
            "",
            "2026-11-1",
            "2026-02-29",
            "'2026-11-01'",
            "2026-11-01T12:34:56",
            "2026-11-01 12:34:56Z",
            "2026-11-01T12:34:56.12345678Z",
            "2026-11-01T25:00:00Z",
            "now",
        ] {
            check(bad, None);
        }
    }
}
