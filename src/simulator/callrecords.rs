//! The functions of Graph's `communications/callRecords`.
//!
//! A sibling function is one more arm of the match in [`answer`].

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use hyper::Uri;
use serde_json::json;
use url::form_urlencoded;

use super::entra::Claims;
use super::faults::Fault;
use super::service::{Ids, JSON, Reply};
use super::{Shared, Tenant};

/// `{version}/communications/callRecords/{function}({arguments})`, its percent signs decoded.
struct Path {
    version: Version,
    function: String,
    /// As it stands between the parentheses.
    arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    Beta,
}

/// What is asked of a function.
struct Query<'a> {
    version: Version,
    function: &'static str,
    row_type: &'static str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// The literals, as they came.
    literals: (&'a str, &'a str),
    skip: usize,
}

/// Answers a request to Graph, from the claims of its token or what is wrong with that.
pub(super) fn answer(
    shared: &Shared,
    uri: &Uri,
    claims: Result<Claims, &'static str>,
    ids: &Ids,
    fault: Option<&Fault>,
) -> Reply {
    let (tenant, claims) = match authenticated(shared, claims) {
        Ok(tenant) => tenant,
        Err(message) => return error(401, "InvalidAuthenticationToken", message, ids),
    };
    let Some(path) = Path::parse(uri.path()) else {
        let segment = uri.path().rsplit('/').next().unwrap_or_default();
        let message = format!("Resource not found for the segment '{segment}'.");
        return error(400, "BadRequest", &message, ids);
    };
    let short_name = path
        .function
        .strip_prefix("microsoft.graph.callRecords.")
        .unwrap_or(&path.function);
    let (function, row_type, range_max) = match (short_name, path.version) {
        ("getPstnOnlineMeetingDialoutReport", Version::Beta) => (
            "getPstnOnlineMeetingDialoutReport",
            "pstnOnlineMeetingDialoutReport",
            Some(TimeDelta::days(90)),
        ),
        _ => return error(404, "NotFound", "", ids),
    };
    if !claims.roles.iter().any(|role| ROLES.contains(&&**role)) {
        return error(403, "Forbidden", "", ids);
    }
    let skip_token = skip_token(uri.query().unwrap_or_default());
    let (from, to, literals) = match arguments(&path.arguments, skip_token.is_some()) {
        Ok(window) => window,
        Err(message) => return error(400, "BadRequest", &message, ids),
    };
    if range_max.is_some_and(|max| to - from > max) {
        return error(406, "NotAcceptable", "", ids);
    }
    let query = Query {
        version: path.version,
        function,
        row_type,
        from,
        // What has not happened yet is in no report. To the end of the second, so that the pages of a report that are
        // asked for within it belong together.
        to: to.min(end_of_second(ids.date)),
        literals,
        skip: skip_token.unwrap_or(0),
    };
    page(shared, &tenant, &query, fault)
}

/// Graph's error body.
pub(super) fn error(status: u16, code: &str, message: &str, ids: &Ids) -> Reply {
    let error = json!({
        "error": {
            "code": code,
            "message": message,
            "innerError": {
                "date": ids.date.format("%Y-%m-%dT%H:%M:%S").to_string(),
                "request-id": ids.request,
                "client-request-id": ids.client_request,
            },
        },
    });
    Reply::json(status, &error)
}

/// What Graph says to a status that needs no request to be explained.
pub(super) fn status(status: u16, ids: &Ids) -> Reply {
    let (code, message) = match status {
        400 => ("BadRequest", "Invalid request"),
        401 => (
            "InvalidAuthenticationToken",
            "Access token validation failure.",
        ),
        403 => ("Forbidden", ""),
        404 => ("NotFound", ""),
        406 => ("NotAcceptable", ""),
        429 => {
            let error = json!({
                "error": {
                    "code": "TooManyRequests",
                    "innerError": {
                        "code": "429",
                        "date": ids.date.format("%Y-%m-%dT%H:%M:%S").to_string(),
                        "message": "Please retry after",
                        "request-id": ids.request,
                        "status": "429",
                    },
                    "message": "Please retry again later.",
                },
            });
            return Reply::json(429, &error);
        }
        503 => ("ServiceUnavailable", "Service unavailable"),
        504 => ("GatewayTimeout", "Gateway timeout"),
        _ => ("UnknownError", "An error has occurred"),
    };
    error(status, code, message, ids)
}

/// Rows before the page that is asked for.
pub(super) fn skip(query: &str) -> usize {
    skip_token(query).unwrap_or(0)
}

/// What a link to a page tells, also one that leads back to the first; none where a client has made up the URL.
fn skip_token(query: &str) -> Option<usize> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "$skip")
        .and_then(|(_, value)| value.parse().ok())
}

fn authenticated(
    shared: &Shared,
    claims: Result<Claims, &'static str>,
) -> Result<(Tenant, Claims), &'static str> {
    let claims = claims?;
    if claims.audience != shared.origin {
        return Err("Access token validation failure. Invalid audience.");
    }
    if claims.expires <= (shared.now)().timestamp() {
        return Err("Lifetime validation failed, the token is expired.");
    }
    match shared.tenants().get(&claims.tenant_id) {
        Some(tenant) => Ok((tenant.clone(), claims)),
        None => Err("Access token validation failure. Invalid tenant."),
    }
}

impl Path {
    fn parse(path: &str) -> Option<Self> {
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

type Window<'a> = (DateTime<Utc>, DateTime<Utc>, (&'a str, &'a str));

/// The two times. The links to further pages name them otherwise, as in the documentation's examples, so that a client
/// that builds such a link itself is found out.
fn arguments(arguments: &str, is_further_page: bool) -> Result<Window<'_>, String> {
    let names = if is_further_page {
        ["from=", "to="]
    } else {
        ["fromDateTime=", "toDateTime="]
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

fn end_of_second(time: DateTime<Utc>) -> DateTime<Utc> {
    time + TimeDelta::nanoseconds(999_999_999 - i64::from(time.timestamp_subsec_nanos()))
}

fn page(shared: &Shared, tenant: &Tenant, query: &Query<'_>, fault: Option<&Fault>) -> Reply {
    let early = match fault {
        Some(Fault::RepeatRows(rows)) => query.skip.min(*rows),
        _ => 0,
    };
    let (mut rows, has_more) = tenant.world.dialout(
        query.from,
        query.to,
        query.skip - early,
        shared.page_size + early,
    );
    if let Some(Fault::BadRow { at, json }) = fault {
        rows.insert((*at).min(rows.len()), json.clone());
    }
    if fault == Some(&Fault::DuplicateKeys) {
        for row in &mut rows {
            *row = row.replacen('{', "{\"totalCallCharge\":0.01,", 1);
        }
    }
    let version = match query.version {
        Version::V1 => "v1.0",
        Version::Beta => "beta",
    };
    let link_to = |skip: usize| {
        format!(
            "/{version}/communications/callRecords/{}(from={},to={})?$skip={skip}",
            query.function, query.literals.0, query.literals.1
        )
    };
    let following = link_to(query.skip + shared.page_size);
    let next = match fault {
        Some(Fault::ForeignNextLink(url)) => Some(url.clone()),
        Some(Fault::LoopingNextLink) => Some(format!("{}{}", shared.origin, link_to(query.skip))),
        _ if !has_more => None,
        Some(Fault::RelativeNextLink) => Some(following),
        _ => Some(format!("{}{following}", shared.origin)),
    };
    let key = match fault {
        Some(Fault::NextLinkSpelling(key)) => key,
        _ => "@odata.nextLink",
    };
    let mut page = format!(
        "{{\"@odata.context\":\"{}/{version}/$metadata#Collection(microsoft.graph.callRecords.{})\",\"@odata.count\":{},",
        shared.origin,
        query.row_type,
        rows.len()
    );
    if let Some(next) = next {
        page.push_str(&json!(key).to_string());
        page.push(':');
        page.push_str(&json!(next).to_string());
        page.push(',');
    }
    page.push_str("\"value\":[");
    page.push_str(&rows.join(","));
    page.push_str("]}");
    let mut bytes = page.into_bytes();
    if fault == Some(&Fault::InvalidUtf8) {
        spoil(&mut bytes);
    }
    Reply::new(200, JSON, bytes)
}

/// Puts two bytes that are no UTF-8 into the first name.
fn spoil(page: &mut Vec<u8>) {
    let name = b"\"userPrincipalName\":\"";
    if let Some(at) = page.windows(name.len()).position(|bytes| bytes == name) {
        let at = at + name.len();
        page.splice(at..at, [0xFF, 0xFE]);
    }
}

/// `None` where a percent sign is not followed by two hexadecimal digits or the bytes are no UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
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

/// From the least privileged.
const ROLES: [&str; 2] = ["CallRecord-PstnCalls.Read.All", "CallRecords.Read.All"];

#[cfg(test)]
mod unit_tests {
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
