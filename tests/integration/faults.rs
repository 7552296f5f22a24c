//! /metrics, the counters and the log when something goes wrong: one table, each row an outage between two good polls.

use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use teams_pstn_exporter::config::Config;
use teams_pstn_simulator::faults::{ErrorBody, Fault, When};
use teams_pstn_simulator::world::World;

use crate::support::{Exporter, Log, Metrics, Setup};

/// Something that happens from the second poll on, and what the daemon makes of it.
struct Case {
    name: &'static str,
    when: When,
    fault: Fault,
    /// True if the token of the first poll has expired at the second.
    new_token: bool,
    change: fn(&mut Config),
    /// The label `reason` of the failure; none if the poll succeeds nevertheless.
    reason: Option<&'static str>,
    /// Growth of `teams_pstn_graph_requests_total`, by code; any count for `*`.
    requests: &'static str,
    /// Growth of `teams_pstn_graph_retries_total`, by reason; any count for `*`.
    retries: &'static str,
    /// Seconds that the poll takes at least and at most.
    takes: (f64, f64),
    /// Other texts in the log.
    log: &'static [&'static str],
}

fn heals(
    name: &'static str,
    when: When,
    fault: Fault,
    requests: &'static str,
    retries: &'static str,
) -> Case {
    Case {
        name,
        when,
        fault,
        new_token: false,
        change: |_| {},
        reason: None,
        requests,
        retries,
        takes: (0.0, 5.0),
        log: &[],
    }
}

fn fails(
    name: &'static str,
    when: When,
    fault: Fault,
    reason: &'static str,
    requests: &'static str,
    retries: &'static str,
    log: &'static [&'static str],
) -> Case {
    Case {
        reason: Some(reason),
        log,
        ..heals(name, when, fault, requests, retries)
    }
}

impl Case {
    fn takes(self, least: f64, most: f64) -> Self {
        Self {
            takes: (least, most),
            ..self
        }
    }

    fn with_a_new_token(self) -> Self {
        Self {
            new_token: true,
            ..self
        }
    }

    fn says(self, log: &'static [&'static str]) -> Self {
        Self { log, ..self }
    }

    fn within(self, change: fn(&mut Config)) -> Self {
        Self { change, ..self }
    }
}

fn bad_row(json: &str) -> Fault {
    Fault::BadRow {
        at: 1,
        json: json.to_owned(),
    }
}

/// A port of the same host that no other process gets and on which no server answers.
fn foreign_port() -> String {
    static LISTENER: LazyLock<TcpListener> =
        LazyLock::new(|| TcpListener::bind("127.0.0.1:0").unwrap());
    format!("http://{}/beta/x", LISTENER.local_addr().unwrap())
}

/// Two pages of two rows and one, so a good poll is `200=2`.
#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let graph = When::graph;
    let always = || When::graph().always();
    let token = || When::token().always();
    let mut cases = vec![
        // Heals by asking again.
        heals("429, seconds", graph(), Fault::throttle("7"), "200=2 429=1", "throttled=1").takes(7.0, 9.0)
            .says(&["429 TooManyRequests", "request-id"]),
        heals("429, HTTP date", graph(), Fault::throttle("Sat, 21 Nov 2026 12:01:30 GMT"), "200=2 429=1", "throttled=1").takes(25.0, 35.5),
        heals("429, date in the past", graph(), Fault::throttle("Fri, 20 Nov 2026 12:00:00 GMT"), "200=2 429=1", "throttled=1"),
        heals("429, nonsense", graph(), Fault::throttle("-5"), "200=2 429=1", "throttled=1"),
        heals("429, nothing", graph(), Fault::status(429), "200=2 429=1", "throttled=1"),
        heals("429 on the last page", When::page(2), Fault::throttle("2"), "200=2 429=1", "throttled=1").takes(2.0, 4.0),
        heals("429 four times", graph().times(4), Fault::throttle("1"), "200=2 429=4", "throttled=4").takes(4.0, 9.0),
        heals("500", graph(), Fault::status(500), "200=2 500=1", "status=1"),
        heals("502 of a gateway", graph(), Fault::status_with(502, ErrorBody::Html), "200=2 502=1", "status=1"),
        heals("503, empty", graph(), Fault::status_with(503, ErrorBody::Empty), "200=2 503=1", "status=1"),
        heals("504", When::page(2), Fault::status(504), "200=2 504=1", "status=1"),
        heals("no answer", graph(), Fault::RefuseConnection, "200=2 none=1", "connect=1"),
        heals("cut body", When::page(2), Fault::CutBody, "200=3", "body=1"),
        heals("silence", graph(), Fault::StallHead, "200=2 none=1", "timeout=1").takes(30.0, 35.0),
        heals("silence within", graph(), Fault::StallBody, "200=3", "timeout=1").takes(30.0, 35.0),
        heals("slow", graph(), Fault::SlowDrip { bytes: 64, pause: Duration::from_millis(100) }, "200=2", "").takes(0.2, 10.0),
        heals("401 once", graph(), Fault::ExpireToken, "200=2 401=1", "auth=1"),
        heals("401 on the last page", When::page(2), Fault::ExpireToken, "200=2 401=1", "auth=1"),
        heals("token, 503", When::token(), Fault::status_with(503, ErrorBody::Html), "200=2", "").with_a_new_token(),
        heals("token, temporary failure", When::token(), Fault::TokenError(90_033), "200=2", "").with_a_new_token(),
        heals("token, no answer", When::token(), Fault::RefuseConnection, "200=2", "").with_a_new_token(),
        heals("token, cut body", When::token(), Fault::CutBody, "200=2", "").with_a_new_token(),
        heals("token, expired when it comes", When::token(), Fault::ZeroLifetimeToken, "200=2 401=1", "auth=1").with_a_new_token(),
        // Nothing wrong at all.
        heals("relative nextLink", graph(), Fault::RelativeNextLink, "200=2", ""),
        heals("NextLink", graph(), Fault::NextLinkSpelling("@odata.NextLink".to_owned()), "200=2", ""),
        heals("another type", always(), Fault::WrongContentType("text/plain".to_owned()), "200=2", ""),
        heals("pages overlap", When::page(2), Fault::RepeatRows(1), "200=2", "")
            .says(&["overlapping_rows=1", "repeated_rows=0", "rows=3"]),
        // Asking again does not help.
        fails("429 always", always(), Fault::throttle("1"), "throttled", "429=*", "throttled=*", &["poll less often"])
            .within(|config| config.poll.timeout = Duration::from_secs(40)).takes(15.0, 40.0),
        fails("503 always, seconds", always(), Fault::Status { status: 503, body: ErrorBody::Json, retry_after: Some("3".to_owned()) },
            "status", "503=*", "status=*", &["service health"])
            .within(|config| config.poll.timeout = Duration::from_secs(40)).takes(15.0, 40.0),
        fails("500 always", always(), Fault::status(500), "status", "500=12", "status=11", &["500 UnknownError", "service health"]).takes(40.0, 90.0),
        fails("503 on the last page", When::page(2).always(), Fault::status(503), "status", "200=1 503=12", "status=11",
            &["503 ServiceUnavailable", "request-id"]).takes(40.0, 90.0),
        fails("no answer always", always(), Fault::RefuseConnection, "connect", "none=12", "connect=11", &["no complete response from 127.0.0.1"]).takes(40.0, 90.0),
        fails("cut always", always(), Fault::CutBody, "connect", "200=12", "body=11", &["no complete response from 127.0.0.1"]).takes(40.0, 90.0),
        fails("silence always", always(), Fault::StallHead, "timeout", "none=*", "timeout=*", &["deadline"]).takes(300.0, 302.0),
        fails("silence to the deadline", always(), Fault::StallHead, "timeout", "none=1", "", &["deadline"])
            .within(|config| config.poll.timeout = Duration::from_secs(20)).takes(20.0, 22.0),
        fails("silence within to the deadline", When::page(2).always(), Fault::StallBody, "timeout", "200=2", "", &["deadline"])
            .within(|config| config.poll.timeout = Duration::from_secs(20)).takes(20.0, 22.0),
        // Explained, and not tried again.
        fails("403, empty message", always(), Fault::EmptyForbidden, "forbidden", "403=1", "",
            &["403 Forbidden without a message", "CallRecord-PstnCalls.Read.All", "CallRecords.Read.All", "admin consent", "request-id"]),
        fails("404", always(), Fault::status(404), "status", "404=1", "", &["404 NotFound", "does not know the report", "request-id"]),
        fails("406", always(), Fault::status(406), "status", "406=1", "", &["406 NotAcceptable", "90 days", "request-id"]),
        fails("400", always(), Fault::status(400), "status", "400=1", "", &["400 BadRequest: Invalid request", "did not understand", "request-id"]),
        fails("418", always(), Fault::status_with(418, ErrorBody::Empty), "status", "other=1", "", &["418 without an error in JSON"]),
        fails("401 always", always(), Fault::ExpireToken, "auth", "401=2", "auth=1", &["401 InvalidAuthenticationToken", "refused the token and also a new one"]),
        fails("redirect", always(), Fault::Redirect("http://127.0.0.2/elsewhere".to_owned()), "status", "other=1", "",
            &["302", "never follows a redirect with a token"]),
        // Malformed.
        fails("foreign nextLink", always(), Fault::ForeignNextLink("https://graph.example/beta/x".to_owned()), "malformed", "200=1", "",
            &["page 1 is malformed", "request-id"]),
        fails("foreign port", always(), Fault::ForeignNextLink(foreign_port()), "malformed", "200=1", "",
            &["page 1 is malformed"]),
        fails("nextLink with a user", always(), Fault::ForeignNextLink("//graph@127.0.0.2/beta/x".to_owned()), "malformed", "200=1", "",
            &["page 1 is malformed"]),
        fails("looping nextLink", always(), Fault::LoopingNextLink, "malformed", "200=2", "", &["page 2 is malformed", "request-id"]),
        fails("looping nextLink on the last page", When::page(2).always(), Fault::LoopingNextLink, "malformed", "200=2", "", &["page 2 is malformed"]),
        heals("broken JSON", When::page(2), Fault::literal(200, r#"{"value":[{"userId":"x","totalCalls":1,"totalCallSeconds":1,"totalCallCharge":1}{"error":{"code":"TooManyRequests"}}"#), "200=3", "body=1")
            .says(&["TooManyRequests", "rows=3"]),
        heals("error beside rows", graph(), Fault::literal(200, r#"{"value":[],"error":{"code":"ServiceUnavailable"}}"#), "200=3", "body=1"),
        fails("error beside rows always", always(), Fault::literal(200, r#"{"value":[],"error":{"code":"ServiceUnavailable","message":"partition 3"}}"#), "malformed", "200=5", "body=4",
            &["ServiceUnavailable: partition 3", "may be over at the next poll"]).takes(7.0, 30.0),
        fails("broken JSON always", always(), Fault::literal(200, r#"{"value":[{"userId":"x""#), "malformed", "200=5", "body=4", &["EOF", "breaks off"]).takes(7.0, 30.0),
        heals("empty nextLink", When::page(2).always(), Fault::ForeignNextLink(String::new()), "200=2", ""),
        fails("web page", always(), Fault::Html, "malformed", "200=1", "", &["page 1 is malformed", "text/html", "request-id"]),
        fails("no JSON", always(), Fault::NotJson, "malformed", "200=1", "", &["page 1 is malformed"]),
        fails("deep nesting", always(), Fault::DeepNesting(200_000), "malformed", "200=1", "", &["row 1 of the report cannot be counted"]),
        fails("charge twice", always(), Fault::DuplicateKeys, "malformed", "200=1", "", &["page 1, row 1 is malformed", "duplicate field"]),
        fails("row without charge", When::page(2).always(), bad_row(r#"{"userId":"x","totalCalls":1,"totalCallSeconds":1}"#), "malformed", "200=2", "",
            &["row 4 of the report cannot be counted", "totalCallCharge is missing"]),
        fails("charge null", always(), bad_row(r#"{"totalCalls":1,"totalCallSeconds":1,"totalCallCharge":null}"#), "malformed", "200=1", "",
            &["row 2 of the report cannot be counted", "totalCallCharge is missing or null"]),
        fails("charge too exact", always(), bad_row(r#"{"totalCalls":1,"totalCallSeconds":1,"totalCallCharge":0.00000000000000000000000000001}"#), "malformed", "200=1", "",
            &["row 2 of the report cannot be counted", "totalCallCharge is 0.00000000000000000000000000001"]),
        fails("charge with a comma", always(), bad_row(r#"{"totalCalls":1,"totalCallSeconds":1,"totalCallCharge":"12,83"}"#), "malformed", "200=1", "",
            &["row 2 of the report cannot be counted", "totalCallCharge is"]),
        fails("calls null", always(), bad_row(r#"{"totalCalls":null,"totalCallSeconds":1,"totalCallCharge":1}"#), "malformed", "200=1", "",
            &["row 2 of the report cannot be counted", "totalCalls is missing"]),
        fails("half a second", always(), bad_row(r#"{"totalCalls":1,"totalCallSeconds":0.5,"totalCallCharge":1}"#), "malformed", "200=1", "",
            &["row 2 of the report cannot be counted", "totalCallSeconds is 0.5"]),
        fails("row that is none", always(), bad_row("[1]"), "malformed", "200=1", "", &["page 1, row 2 is malformed"]),
        fails("row that is no JSON", always(), bad_row("}"), "malformed", "200=1", "", &["page 1", "is malformed"]),
        // Too much.
        fails("huge page", always(), Fault::HugePage(33 << 20), "limit", "200=1", "", &["more than 8388608 bytes on page 1"]),
        fails("gzip bomb", always(), Fault::GzipBomb(1 << 40), "limit", "200=1", "", &["more than 8388608 bytes on page 1"]),
    ];
    // No new token.
    for (code, reason, log) in [
        (7_000_215, "auth", ["AADSTS7000215", "id was pasted instead of its value"]),
        (7_000_222, "auth", ["AADSTS7000222", "create a new one"]),
        (700_016, "auth", ["AADSTS700016", "check the client id"]),
        (700_027, "auth", ["AADSTS700027", "upload this very certificate"]),
        (90_002, "auth", ["AADSTS90002", "no such tenant"]),
        (900_023, "auth", ["AADSTS900023", "neither a GUID nor a domain name"]),
        (70_011, "auth", ["AADSTS70011", "the scope must be"]),
        (1_002_012, "auth", ["AADSTS1002012", "the scope must be"]),
        (53_003, "auth", ["AADSTS53003", "Conditional Access"]),
        (50_196, "auth", ["AADSTS50196", "run only one exporter"]),
        (999_999, "auth", ["AADSTS999999", "Trace ID"]),
    ] {
        cases.push(fails("token error", token(), Fault::TokenError(code), reason, "", "", log.to_vec().leak()).with_a_new_token());
    }
    cases.extend([
        fails("token, temporary failure that stays", token(), Fault::TokenError(90_033), "status", "", "", &["AADSTS90033", "temporary failure"]).takes(40.0, 90.0),
        fails("token, 429 always", token(), Fault::status_with(429, ErrorBody::Empty), "throttled", "", "", &["429"]).takes(40.0, 120.0),
        fails("token, web page", token(), Fault::Html, "malformed", "", "", &["without a valid token", "text/html"]),
        fails("token, redirect", token(), Fault::Redirect("http://127.0.0.2/elsewhere".to_owned()), "status", "", "", &["never follows a redirect with a credential"]),
        fails("token, huge", token(), Fault::HugePage(1 << 20), "malformed", "", "", &["more than 65536 bytes"]),
        fails("token, silence", token(), Fault::StallHead, "timeout", "", "", &["no response from 127.0.0.1 within the time of the poll"])
            .within(|config| config.poll.timeout = Duration::from_secs(20)).takes(20.0, 22.0),
        fails("token, no answer always", token(), Fault::RefuseConnection, "connect", "", "", &["cannot get a token", "no complete response from 127.0.0.1"]).takes(40.0, 90.0),
    ].map(Case::with_a_new_token));
    cases
}

#[test]
fn faults_by_table() {
    let cases = cases();
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    // The test reports every row that fails, not only the first.
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            let checked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(check(case))));
            if checked.is_err() {
                failed.lock().unwrap().push(case.name);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    assert_eq!(failed.into_inner().unwrap(), [""; 0]);
}

async fn check(case: &Case) {
    let name = format!("{}, {:?}", case.name, case.fault);
    let log = Log::capture();
    let setup = Setup {
        page_size: 2,
        token_lifetime: if case.new_token { 30 } else { 3_599 },
        change: case.change,
        ..Setup::of(World::Rows { count: 3 })
    };
    let (simulator, mut exporter, _) = setup.start().await;
    let before = exporter.first_poll().await;
    assert_eq!(before.report("up"), "1", "{name}");
    simulator.push_fault(case.when.clone(), case.fault.clone());
    log.take();
    let during = exporter.next_poll().await;
    let logged = log.take();
    simulator.clear_faults();
    let mut grown = vec![(
        case.requests,
        during.growth(&before, "teams_pstn_graph_requests_total", "code"),
    )];
    grown.push((
        case.retries,
        during.growth(&before, "teams_pstn_graph_retries_total", "reason"),
    ));
    let failures = case
        .reason
        .map_or_else(String::new, |reason| format!("{reason}=1"));
    grown.push((
        &failures,
        during.growth(&before, "teams_pstn_report_failures_total", "reason"),
    ));
    for (expected, grown) in &grown {
        let same = match expected.strip_suffix('*') {
            Some(begin) => grown.starts_with(begin),
            None => grown == expected,
        };
        assert!(same, "{name}: {grown} is not {expected}\n{logged}");
    }
    let up = if case.reason.is_none() { "1" } else { "0" };
    assert_eq!(during.report("up"), up, "{name}");
    assert_eq!(during.report("polls_total"), "2", "{name}");
    assert_eq!(during.of_report(), before.of_report(), "{name}");
    assert_eq!(during.report("rows"), "3", "{name}");
    assert_eq!(during.report("pages"), "2", "{name}");
    let moved = |metric: &str| seconds(&during, metric) > seconds(&before, metric);
    assert!(moved("last_attempt_timestamp_seconds"), "{name}");
    assert_eq!(
        moved("last_success_timestamp_seconds"),
        case.reason.is_none(),
        "{name}"
    );
    let took = seconds(&during, "duration_seconds");
    assert!(
        (case.takes.0..case.takes.1).contains(&took),
        "{name} took {took} s\n{logged}"
    );
    let polls: Vec<&str> = logged
        .lines()
        .filter(|line| line.contains(" message=\"poll "))
        .collect();
    let (level, message) = match case.reason {
        None => ("level=info", "message=\"poll complete\""),
        Some(_) => (
            "level=warn",
            "message=\"poll failed; the last complete report stays\"",
        ),
    };
    assert_eq!(polls.len(), 1, "{name}\n{logged}");
    let mut parts = case.log.to_vec();
    parts.extend([level, message]);
    let reason = case.reason.map(|reason| format!("reason={reason}"));
    parts.extend(reason.as_deref());
    // Retries are only logged at debug, on other lines.
    let line = if case.reason.is_some() {
        polls[0]
    } else {
        &logged
    };
    for part in parts {
        assert!(line.contains(part), "{name}: no {part:?} in\n{logged}");
    }
    assert!(!polls[0].contains("request-id unknown"), "{name}\n{logged}");
    let after = exporter.next_poll().await;
    assert_eq!(after.report("up"), "1", "{name}");
    assert_eq!(after.of_report(), before.of_report(), "{name}");
    exporter.stop().await;
}

fn seconds(metrics: &Metrics, metric: &str) -> f64 {
    metrics.report(metric).parse().expect("a number")
}

/// A token goes to the origin of the Graph root and nowhere else, however another is named.
#[tokio::test(start_paused = true)]
async fn no_other_origin_gets_a_request() {
    let setup = Setup::of(World::Rows { count: 3 });
    let (elsewhere, _) = setup.simulate().await;
    let url = |path: &str| format!("{}{path}", elsewhere.url());
    let port = elsewhere.address().port();
    for fault in [
        Fault::ForeignNextLink(url("/beta/communications/callRecords/x?$skip=2")),
        Fault::ForeignNextLink(format!("//127.0.0.1:{port}/beta/x")),
        Fault::ForeignNextLink(format!("http:\\\\127.0.0.1:{port}\\beta\\x")),
        Fault::ForeignNextLink(format!("\t//127.0.0.1:{port}/beta/x")),
        Fault::Redirect(url("/beta/communications/callRecords/x")),
    ] {
        let (simulator, mut exporter, _) = setup.start().await;
        exporter.first_poll().await;
        simulator.push_fault(When::graph(), fault.clone());
        assert_eq!(exporter.next_poll().await.report("up"), "0", "{fault:?}");
    }
    // A redirect of the token request would take the secret along.
    let (simulator, time) = setup.simulate().await;
    simulator.push_fault(When::token(), Fault::Redirect(url("/x/oauth2/v2.0/token")));
    let config = crate::support::config(&simulator);
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    assert_eq!(exporter.first_poll().await.report("up"), "0");
    assert_eq!(elsewhere.requests(), []);
}
