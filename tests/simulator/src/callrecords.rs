//! Responses of Graph's `communications/callRecords`: pages and errors.

use chrono::{DateTime, TimeDelta, Utc};
use hyper::Uri;
use serde_json::json;

use super::address::{Function, Path, Version, arguments, skip_token};
use super::entra::Claims;
use super::faults::Fault;
use super::log;
use super::service::{Ids, JSON, Reply};
use super::{Shared, Tenant};

/// A request to a function.
struct Query<'a> {
    version: Version,
    function: Function,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// The literals of the request.
    literals: (&'a str, &'a str),
    skip: usize,
    now: DateTime<Utc>,
}

/// Answers a request to Graph. `claims` are those of its token, or the fault of the token.
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
    let function = Function::named(&path.function).filter(|f| f.is_in(path.version));
    let Some(function) = function else {
        return error(404, "NotFound", "", ids);
    };
    if !claims.roles.iter().any(|role| ROLES.contains(&&**role)) {
        return error(403, "Forbidden", "", ids);
    }
    let skip_token = skip_token(uri.query().unwrap_or_default());
    let (from, to, literals) = match arguments(function, &path.arguments, skip_token.is_some()) {
        Ok(window) => window,
        Err(message) => return error(400, "BadRequest", &message, ids),
    };
    if function.range_max().is_some_and(|max| to - from > max) {
        return error(406, "NotAcceptable", "", ids);
    }
    let query = Query {
        version: path.version,
        function,
        from,
        to,
        literals,
        skip: skip_token.unwrap_or(0),
        now: ids.date,
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

/// Graph's error code and message for a status that does not depend on the request.
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

fn end_of_second(time: DateTime<Utc>) -> DateTime<Utc> {
    time + TimeDelta::nanoseconds(999_999_999 - i64::from(time.timestamp_subsec_nanos()))
}

fn page(shared: &Shared, tenant: &Tenant, query: &Query<'_>, fault: Option<&Fault>) -> Reply {
    let early = match fault {
        Some(Fault::RepeatRows(rows)) => query.skip.min(*rows),
        _ => 0,
    };
    let (mut rows, has_more) = rows(tenant, query, query.skip - early, shared.page_size + early);
    if let Some(Fault::BadRow { at, json }) = fault {
        rows.insert((*at).min(rows.len()), json.clone());
    }
    if fault == Some(&Fault::DuplicateKeys) {
        for row in &mut rows {
            row.insert_str(1, query.function.doubled_field());
        }
    }
    let version = query.version.segment();
    let [from, to] = query.function.link_parameters();
    let link_to = |skip: usize| {
        format!(
            "/{version}/communications/callRecords/{}({from}{},{to}{})?$skip={skip}",
            query.function.name(),
            query.literals.0,
            query.literals.1
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
        query.function.row_type(),
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

/// The rows of the requested page, and true if more follow.
fn rows(tenant: &Tenant, query: &Query<'_>, skip: usize, take: usize) -> (Vec<String>, bool) {
    let (version, logs) = (query.version, &tenant.logs);
    let page = |has_end: bool| log::Page {
        from: query.from,
        to: query.to,
        has_end,
        now: query.now,
        skip,
        take,
    };
    match query.function {
        Function::Dialout => {
            // Rounded up to the end of the second, so that all pages that are requested within it are consistent.
            let now = end_of_second(query.now);
            let period = query.from..=query.to.min(now);
            (tenant.world).dialout(&logs.calls, period, now, skip, take)
        }
        Function::Calls => logs.calls.page(version, &page(true)),
        Function::DirectRouting => logs.direct_routing.page(version, &page(false)),
        Function::Sms => logs.sms.page(version, &page(true)),
        Function::BlockedUsers => logs.blocked_users.page(version, &page(true)),
    }
}

/// Puts two bytes that are no UTF-8 into the first name.
fn spoil(page: &mut Vec<u8>) {
    let name = b"\"userPrincipalName\":\"";
    if let Some(at) = page.windows(name.len()).position(|bytes| bytes == name) {
        let at = at + name.len();
        page.splice(at..at, [0xFF, 0xFE]);
    }
}

/// Permissions that are sufficient, the least privileged one first.
const ROLES: [&str; 2] = ["CallRecord-PstnCalls.Read.All", "CallRecords.Read.All"];
