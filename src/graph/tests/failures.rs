//! Failed requests: retries, failure reasons and error messages.

use std::time::Duration;

use super::super::retry::RetryReason;
use super::super::testing::{Reply, Server};
use super::super::{Error, FailureReason, RequestStats};
use super::{FIRST, PATIENCE, SECRET, TOKEN, client, client_of, graph, page, read, reports};
use crate::chain::Chain;

#[tokio::test]
async fn error_statuses_by_table() {
    use FailureReason as Reason;
    let permission = "CallRecord-PstnCalls.Read.All of Microsoft Graph and grant admin consent; if that does not suffice, CallRecords.Read.All";
    for (status, code, message, reason, asked, shown, remedy) in [
        (
            400,
            "BadRequest",
            "Expression\\r\\nexpected",
            Reason::Status,
            1,
            "answered 400 BadRequest: Expression expected (request-id 8a3c5b1e-0f7d-4c2b-9e6a-1d2f3a4b5c6d, date 2026-11-21T13:02:00Z)",
            "did not understand",
        ),
        (
            401,
            "InvalidAuthenticationToken",
            TOKEN,
            Reason::Auth,
            2,
            "401 InvalidAuthenticationToken: [redacted]",
            "belong together",
        ),
        (
            403,
            "Forbidden",
            "",
            Reason::Forbidden,
            1,
            "403 Forbidden without a message (request-id 8a3c5b1e-0f7d-4c2b-9e6a-1d2f3a4b5c6d",
            permission,
        ),
        (
            418,
            "",
            "",
            Reason::Status,
            1,
            "418 without an error in JSON (Content-Type: application/json)",
            "",
        ),
        (
            429,
            "TooManyRequests",
            "later",
            Reason::Throttled,
            3,
            "429 TooManyRequests: later",
            "throttles",
        ),
        (
            500,
            "UnknownError",
            "An error has occurred",
            Reason::Status,
            3,
            "An error has occurred",
            "Microsoft",
        ),
        (408, "", "", Reason::Status, 3, "408", "slows the network"),
        (509, "", "", Reason::Throttled, 3, "509", "throttles"),
        (502, "", "", Reason::Status, 3, "502", "Microsoft"),
        (503, "", "", Reason::Status, 3, "503", "Microsoft"),
        (504, "", "", Reason::Status, 3, "504", "Microsoft"),
    ] {
        let body = format!(
            r#"{{"error":{{"code":"{code}","message":"{message}","innerError":{{"date":"2026-11-21T13:02:00","request-id":"8a3c5b1e-0f7d-4c2b-9e6a-1d2f3a4b5c6d"}}}}}}"#
        );
        let remedy_given = fails(
            move || Reply::json(status, body.clone()),
            reason,
            asked,
            shown,
        )
        .await;
        assert!(
            remedy_given.unwrap_or_default().contains(remedy),
            "{status}: {remedy_given:?}"
        );
    }
}

#[tokio::test]
async fn other_errors_are_reported_by_their_status() {
    for (status, remedy) in [
        (404, "check the cloud"),
        (406, "90 days"),
        (
            407,
            "the proxy wants credentials; put them into HTTPS_PROXY",
        ),
    ] {
        let shown = format!("Graph answered {status}");
        let reply = move || Reply::json(status, r#"{"error":{"code":"Other"}}"#);
        let given = fails(reply, FailureReason::Status, 1, &shown).await;
        assert!(
            given.is_some_and(|given| given.contains(remedy)),
            "{given:?}"
        );
    }
}

#[tokio::test]
async fn lost_responses_by_table() {
    let day = || {
        Reply::Full(
            429,
            vec![("retry-after", "86400".to_owned())],
            String::new(),
        )
    };
    fails(day, FailureReason::Throttled, 1, "retry after 86400 s").await;
    let lost = "no complete response from 127.0.0.1";
    fails(|| Reply::Hangup, FailureReason::Connect, 3, lost).await;
    fails(|| Reply::Cut, FailureReason::Connect, 3, lost).await;
    let impatient = Duration::from_millis(50);
    fails_within(impatient, || Reply::Stall, FailureReason::Timeout, 3, lost).await;
}

#[tokio::test]
async fn bad_pages_by_table() {
    use FailureReason::{Limit, Malformed};
    let html = || {
        let headers = vec![("content-type", "text/html".to_owned())];
        Reply::Full(200, headers, "<html>sign in</html>".to_owned())
    };
    fails(html, Malformed, 1, "Content-Type text/html").await;
    let link = |link: &str| page(&["a"], Some(link));
    let half_a_row = r#"{"value":[{"id":"a"},{}]}"#.to_owned();
    for (body, reason, asked, shown) in [
        (
            half_a_row.clone(),
            Malformed,
            1,
            "page 1, row 2 is malformed",
        ),
        (half_a_row, Malformed, 1, "missing field `id`"),
        (
            r#"{"value":[{"id":5}]}"#.to_owned(),
            Malformed,
            1,
            "expected a string",
        ),
        (
            r#"{"value":"Ruwini \"Perera\""}"#.to_owned(),
            Malformed,
            1,
            "invalid type: string …, expected an array of rows",
        ),
        (String::new(), Malformed, 3, "EOF"),
        (
            link("https://graph.example/x"),
            Malformed,
            1,
            "another host, not to the Graph root",
        ),
        (link("https://"), Malformed, 1, "not a URL"),
        (link("/same"), Malformed, 2, "page 2 is malformed"),
        (link("/same"), Malformed, 2, "read already"),
        (link(FIRST), Malformed, 1, "read already"),
        (page(&["a"; 11], None), Limit, 1, "more than 10 rows"),
        (page(&["a"; 500], None), Limit, 1, "more than 4096 bytes"),
        (" ".repeat(5000), Limit, 1, "more than 4096 bytes"),
    ] {
        fails(move || Reply::json(200, body.clone()), reason, asked, shown).await;
    }
}

/// Checks the failure of a report if every request gets the same reply, and that every request is counted. Returns the
/// remedy.
async fn fails(
    reply: impl Fn() -> Reply + Send + 'static,
    reason: FailureReason,
    asked: u64,
    shown: &str,
) -> Option<&'static str> {
    fails_within(PATIENCE, reply, reason, asked, shown).await
}

/// The same as [`fails`], with a time-out for each response.
async fn fails_within(
    read_timeout: Duration,
    reply: impl Fn() -> Reply + Send + 'static,
    reason: FailureReason,
    asked: u64,
    shown: &str,
) -> Option<&'static str> {
    let server = graph(move |_, _| reply()).await;
    let stats = RequestStats::default();
    let graph = client_of(&server.url, &server.url, read_timeout);
    let error = read(&graph, &stats).await.unwrap_err();
    let text = Chain(&error).to_string();
    assert_eq!(error.reason(), reason, "{text}");
    assert_eq!(reports(&server).len() as u64, asked, "{text}");
    assert!(text.contains(shown), "{text}");
    assert!(!text.contains(TOKEN) && !text.contains(SECRET), "{text}");
    let requests = stats.requests().map(|(_, count)| count);
    assert_eq!(requests.sum::<u64>(), asked, "{text}");
    let retries = RetryReason::ALL.map(|reason| stats.retries(reason));
    let further_pages = stats.pages().saturating_sub(1);
    assert_eq!(
        retries.iter().sum::<u64>() + further_pages + 1,
        asked,
        "{text}"
    );
    error.remedy()
}

#[tokio::test]
async fn temporary_failures_are_retried() {
    let server = graph(|number, _| match number {
        0 => Reply::Full(429, vec![("retry-after", "0".to_owned())], String::new()),
        1 => Reply::Cut,
        2 | 4 => Reply::json(401, ""),
        3 => Reply::json(200, page(&["a"], Some("/next"))),
        _ => Reply::json(200, page(&["b"], None)),
    })
    .await;
    let stats = RequestStats::default();
    assert_eq!(read(&client(&server), &stats).await.unwrap(), "1a 2b ");
    for (reason, count) in [
        (RetryReason::Throttled, 1),
        (RetryReason::Body, 1),
        (RetryReason::Auth, 2),
    ] {
        assert_eq!(stats.retries(reason), count, "{reason:?}");
    }
    assert_eq!(
        server.received().len() - reports(&server).len(),
        3,
        "a token after each 401"
    );
}

#[tokio::test]
async fn failed_token_request_has_its_own_remedy() {
    let server = Server::start(|_, _| Reply::json(404, "{}")).await;
    let graph = client_of(&server.url, &server.url, PATIENCE);
    let error = read(&graph, &RequestStats::default()).await.unwrap_err();
    assert!(matches!(error, Error::Token(_)), "{error}");
    assert!(
        error
            .remedy()
            .unwrap()
            .starts_with("check the authority URL")
    );
}

#[tokio::test]
async fn remedy_is_about_the_network_if_graph_does_not_answer() {
    let server = graph(|_, _| Reply::Hangup).await;
    // The same port at an address at which nothing listens.
    let gone = server.url.replace("127.0.0.1", "127.0.0.9");
    let graph = client_of(&gone, &server.url, PATIENCE);
    let error = read(&graph, &RequestStats::default()).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Connect);
    assert!(error.remedy().unwrap().starts_with("check name resolution"));
}
