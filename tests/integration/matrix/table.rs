//! The faults and their expected outcomes, for the report and for the token before it.

use std::time::Duration;

use teams_pstn_simulator::faults::{ErrorBody, Fault};

/// A row of the matrix.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) what: What,
    pub(super) lasts: Lasts,
    /// The outcome if it affects a request for a page; none if it has no meaning there.
    pub(super) page: Option<End>,
    /// The outcome if it affects a request for a token.
    pub(super) token: Option<End>,
}

/// The fault.
#[derive(Clone)]
pub(super) enum What {
    /// An answer.
    Answer(Fault),
    /// This row comes as one more, as the dial-out report and as the log of calls would write it.
    Row {
        dialout: &'static str,
        call: &'static str,
    },
    /// The failure of new connections; established ones are cut.
    Connections(Broken),
    /// The name of a host has gone, and stays so until all is well again. No process can make its resolver forget a
    /// name, so a reload sets a name that no host has, and with it a poll begins.
    Name(Host),
    /// The wall clock is set from the first time to the second.
    Clock {
        from: &'static str,
        to: &'static str,
    },
}

/// The host that loses its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Entra,
    Graph,
}

/// How a new connection fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// No process listens.
    Refused,
    /// The certificate is of an unknown CA.
    Untrusted,
    /// The server does not speak TLS.
    NotTls,
}

impl What {
    /// True if it spoils the link to the next page if there is one, and makes none.
    pub(super) const fn is_of_the_link(&self) -> bool {
        matches!(
            self,
            Self::Answer(Fault::RelativeNextLink | Fault::NextLinkSpelling(_))
        )
    }

    /// How many rows of the page before come again.
    pub(super) const fn repeats(&self) -> usize {
        match self {
            Self::Answer(Fault::RepeatRows(rows)) => *rows,
            _ => 0,
        }
    }
}

/// How often an answer goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasts {
    Once,
    /// On every request until the repair.
    Always,
}

/// The outcome of the poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The label `reason` of the failure; none if the poll succeeds nevertheless.
    pub(super) reason: Option<&'static str>,
    /// Growth of `teams_pstn_graph_retries_total`, by reason; any count for `*`.
    pub(super) retries: &'static str,
    /// Seconds that the report has more than without the fault.
    pub(super) more_seconds: u64,
}

const fn heals(retries: &'static str) -> End {
    End {
        reason: None,
        retries,
        more_seconds: 0,
    }
}

const fn fails(reason: &'static str, retries: &'static str) -> End {
    End {
        reason: Some(reason),
        retries,
        more_seconds: 0,
    }
}

const NOTHING: Option<End> = None;

fn answer(
    name: &'static str,
    lasts: Lasts,
    fault: Fault,
    page: impl Into<Option<End>>,
    token: impl Into<Option<End>>,
) -> Row {
    Row {
        name,
        what: What::Answer(fault),
        lasts,
        page: page.into(),
        token: token.into(),
    }
}

/// One row more in the page.
fn row(name: &'static str, dialout: &'static str, call: &'static str, page: End) -> Row {
    Row {
        name,
        what: What::Row { dialout, call },
        lasts: Lasts::Always,
        page: Some(page),
        token: None,
    }
}

/// The token that is asked for then is one of a short life.
fn clock(name: &'static str, from: &'static str, to: &'static str, token: End) -> Row {
    Row {
        name,
        what: What::Clock { from, to },
        lasts: Lasts::Once,
        page: Some(heals("")),
        token: Some(token),
    }
}

/// Every fault.
#[rustfmt::skip]
pub(super) fn rows() -> Vec<Row> {
    use Lasts::{Always, Once};
    let broken = |name, broken| Row {
        name,
        what: What::Connections(broken),
        lasts: Always,
        page: Some(fails("connect", "connect=11")),
        token: Some(fails("connect", "")),
    };
    let name = |name, host, page, token| Row { name, what: What::Name(host), lasts: Always, page, token };
    let drip = Fault::SlowDrip { bytes: 64, pause: Duration::from_millis(100) };
    let elsewhere = || "http://127.0.0.2/elsewhere".to_owned();
    vec![
        // The way there.
        name("DNS of Entra gone", Host::Entra, NOTHING, Some(fails("connect", ""))),
        name("DNS of Graph gone", Host::Graph, Some(fails("connect", "connect=11")), NOTHING),
        broken("connection refused", Broken::Refused),
        broken("TLS: unknown CA", Broken::Untrusted),
        broken("TLS: not spoken", Broken::NotTls),
        answer("connection closed, once", Once, Fault::RefuseConnection, heals("connect=1"), heals("")),
        answer("connection closed", Always, Fault::RefuseConnection, fails("connect", "connect=11"), fails("connect", "")),
        answer("silence, once", Once, Fault::StallHead, heals("timeout=1"), heals("")),
        answer("silence", Always, Fault::StallHead, fails("timeout", "timeout=*"), fails("timeout", "")),
        answer("silence in the body, once", Once, Fault::StallBody, heals("timeout=1"), heals("")),
        answer("silence in the body", Always, Fault::StallBody, fails("timeout", "timeout=*"), fails("timeout", "")),
        answer("slow drip", Always, drip, heals(""), heals("")),
        answer("cut body, once", Once, Fault::CutBody, heals("body=1"), heals("")),
        answer("cut body", Always, Fault::CutBody, fails("connect", "body=11"), fails("connect", "")),
        // A status. The token endpoint's 429 comes with the number of a temporary failure, by which it is known.
        answer("429, a second, once", Once, Fault::throttle("1"), heals("throttled=1"), heals("")),
        answer("429, a second", Always, Fault::throttle("1"), fails("throttled", "throttled=*"), fails("throttled", "")),
        answer("429, beyond the deadline", Always, Fault::throttle("400"), fails("throttled", ""), fails("throttled", "")),
        answer("429, negative, once", Once, Fault::throttle("-5"), heals("throttled=1"), heals("")),
        answer("429, negative", Always, Fault::throttle("-5"), fails("throttled", "throttled=11"), fails("throttled", "")),
        answer("429, a date long past, once", Once, Fault::throttle("Fri, 20 Nov 2020 12:00:00 GMT"), heals("throttled=1"), heals("")),
        answer("500, once", Once, Fault::status(500), heals("status=1"), heals("")),
        answer("500", Always, Fault::status(500), fails("status", "status=11"), fails("status", "")),
        answer("502 of a gateway, once", Once, Fault::status_with(502, ErrorBody::Html), heals("status=1"), heals("")),
        answer("503, empty", Always, Fault::status_with(503, ErrorBody::Empty), fails("status", "status=11"), fails("status", "")),
        answer("504, once", Once, Fault::status(504), heals("status=1"), heals("")),
        answer("400", Always, Fault::status(400), fails("status", ""), NOTHING),
        answer("404", Always, Fault::status(404), fails("status", ""), NOTHING),
        answer("406", Always, Fault::status(406), fails("status", ""), NOTHING),
        answer("418, empty", Always, Fault::status_with(418, ErrorBody::Empty), fails("status", ""), NOTHING),
        answer("redirect", Always, Fault::Redirect(elsewhere()), fails("status", ""), fails("status", "")),
        // Not let in.
        answer("401, once", Once, Fault::ExpireToken, heals("auth=1"), NOTHING),
        answer("401", Always, Fault::ExpireToken, fails("auth", "auth=1"), NOTHING),
        answer("403, empty message", Always, Fault::EmptyForbidden, fails("forbidden", ""), NOTHING),
        answer("secret expired", Always, Fault::TokenError(7_000_222), NOTHING, fails("auth", "")),
        answer("wrong secret", Always, Fault::TokenError(7_000_215), NOTHING, fails("auth", "")),
        answer("temporary failure of Entra, once", Once, Fault::TokenError(90_033), NOTHING, heals("")),
        answer("temporary failure of Entra", Always, Fault::TokenError(90_033), NOTHING, fails("status", "")),
        answer("token of zero lifetime, once", Once, Fault::ZeroLifetimeToken, NOTHING, heals("auth=1")),
        answer("token of zero lifetime", Always, Fault::ZeroLifetimeToken, NOTHING, fails("auth", "auth=1")),
        // Not what was asked for.
        answer("wrong Content-Type", Always, Fault::WrongContentType("text/plain".to_owned()), heals(""), heals("")),
        answer("HTML instead of JSON", Always, Fault::Html, fails("malformed", ""), fails("malformed", "")),
        answer("no JSON", Always, Fault::NotJson, fails("malformed", ""), fails("malformed", "")),
        answer("JSON of something else", Always, Fault::literal(200, "{}"), fails("malformed", ""), fails("malformed", "")),
        answer("JSON that is null", Always, Fault::literal(200, "null"), fails("malformed", ""), fails("malformed", "")),
        answer("no rows but null", Always, Fault::literal(200, r#"{"value":null}"#), fails("malformed", ""), fails("malformed", "")),
        answer("JSON and more", Always, Fault::literal(200, r#"{"value":[]} {"value":[]}"#), fails("malformed", ""), fails("malformed", "")),
        answer("gzip bomb", Always, Fault::GzipBomb(16 << 30), fails("limit", ""), fails("malformed", "")),
        answer("100 MB page", Always, Fault::HugePage(100 << 20), fails("limit", ""), fails("malformed", "")),
        answer("deep nesting", Always, Fault::DeepNesting(200_000), fails("malformed", ""), fails("malformed", "")),
        answer("duplicate keys", Always, Fault::DuplicateKeys, fails("malformed", ""), NOTHING),
        answer("error in the middle of the rows, once", Once, Fault::BadRow { at: 1, json: r#"{"error":{"code":"c"}"#.to_owned() }, heals("body=1"), NOTHING),
        answer("error beside the rows, once", Once, Fault::literal(200, r#"{"value":[],"error":{"code":"c"}}"#), heals("body=1"), NOTHING),
        answer("error beside the rows", Always, Fault::literal(200, r#"{"value":[],"error":{"code":"c"}}"#), fails("malformed", "body=4"), NOTHING),
        answer("JSON that breaks off", Always, Fault::literal(200, r#"{"value":["#), fails("malformed", "body=4"), NOTHING),
        answer("invalid UTF-8", Always, Fault::InvalidUtf8, heals(""), NOTHING),
        // The link to the next page.
        answer("nextLink to elsewhere", Always, Fault::ForeignNextLink(elsewhere()), fails("malformed", ""), NOTHING),
        answer("nextLink to itself", Always, Fault::LoopingNextLink, fails("malformed", ""), NOTHING),
        answer("nextLink without a host", Always, Fault::RelativeNextLink, heals(""), NOTHING),
        answer("nextLink spelt NextLink", Always, Fault::NextLinkSpelling("@odata.NextLink".to_owned()), heals(""), NOTHING),
        // A row.
        row("charge NaN",
            r#"{"userId":"x","totalCalls":1,"totalCallSeconds":1,"totalCallCharge":NaN}"#,
            r#"{"id":"x","duration":1,"charge":NaN}"#, fails("malformed", "")),
        row("charge \"NaN\"",
            r#"{"userId":"x","totalCalls":1,"totalCallSeconds":1,"totalCallCharge":"NaN"}"#,
            r#"{"id":"x","duration":1,"charge":"NaN"}"#, fails("malformed", "")),
        row("charge 1e400",
            r#"{"userId":"x","totalCalls":1,"totalCallSeconds":1,"totalCallCharge":1e400}"#,
            r#"{"id":"x","duration":1,"charge":1e400}"#, fails("malformed", "")),
        row("charge finer than any currency",
            r#"{"userId":"x","totalCalls":1,"totalCallSeconds":1,"totalCallCharge":1e-30}"#,
            r#"{"id":"x","duration":1,"charge":1e-30}"#, fails("malformed", "")),
        row("a sum beyond Int32",
            r#"{"userId":"x","usageLocation":"US","destinationContext":"Domestic","currency":"USD","totalCalls":1,"totalCallSeconds":2147483647,"totalCallCharge":0}"#,
            r#"{"id":"x","startDateTime":"2026-11-03T01:00:00Z","duration":2147483647,"charge":0,"connectionCharge":0,"currency":"USD","callType":"user_out","usageCountryCode":"US","destinationContext":"Domestic","destinationName":"United States","licenseCapability":"MCOPSTN1"}"#,
            End { more_seconds: 2_147_483_647, ..heals("") }),
        row("a sum beyond Int64",
            r#"{"userId":"x","usageLocation":"US","destinationContext":"Domestic","currency":"USD","totalCalls":1,"totalCallSeconds":9223372036854775807,"totalCallCharge":0}"#,
            r#"{"id":"x","startDateTime":"2026-11-03T01:00:00Z","duration":9223372036854775807,"charge":0,"connectionCharge":0,"currency":"USD","callType":"user_out","usageCountryCode":"US","destinationContext":"Domestic","destinationName":"United States","licenseCapability":"MCOPSTN1"}"#,
            fails("malformed", "")),
        row("a row that is none", "[1]", "[1]", fails("malformed", "")),
        answer("pages overlap", Always, Fault::RepeatRows(1), heals(""), NOTHING),
        // The wall clock.
        clock("clock an hour forth", "2026-11-04T12:00:00Z", "2026-11-04T13:00:00Z", heals("auth=1")),
        clock("clock an hour back", "2026-11-04T12:00:00Z", "2026-11-04T11:00:00Z", heals("")),
        clock("clock over the month's end", "2026-11-30T23:30:00Z", "2026-12-01T00:30:00Z", heals("auth=1")),
        clock("clock back over the month's end", "2026-12-01T00:30:00Z", "2026-11-30T23:30:00Z", heals("")),
    ]
}
