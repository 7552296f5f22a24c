//! The client against a server on loopback that answers by script.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;

use super::credential::{Credential, SecretSource};
use super::http::HttpOptions;
use super::pages::DecodeError;
use super::retry::RetryReason;
use super::tally::RequestCode;
use super::testing::{Received, Reply, Server};
use super::token::TokenOptions;
use super::*;

const SECRET: &str = "s3cret-of-a-known-value";
const TOKEN: &str = "t0ken-of-a-known-value";
const FIRST: &str = "/beta/communications/callRecords/getReport(fromDateTime=2026-11-01T00:00:00Z,toDateTime=2026-11-21T13:00:00Z)";

#[derive(Deserialize)]
struct Row<'t> {
    #[serde(borrow)]
    id: Cow<'t, str>,
}

#[tokio::test]
async fn pages_are_followed_to_the_last() {
    let server = graph(|number, _| match number {
        0 => Reply::json(200, page(&["a", "b"], Some("/next?$skip=2"))),
        1 => Reply::json(200, page(&[], Some("beta/last"))),
        _ => Reply::json(200, page(&["c"], None)),
    })
    .await;
    let tally = Tally::default();
    let rows = read(&client(&server), &tally).await.unwrap();
    assert_eq!(rows, "1a 2b 3c ");
    assert_eq!(
        (tally.pages(), tally.rows(), requests(&tally, "200")),
        (3, 3, 3)
    );

    let received = reports(&server);
    let paths: Vec<&str> = received.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, [FIRST, "/next?$skip=2", "/beta/last"]);
    let bearer = format!("Bearer {TOKEN}");
    let mut ids = std::collections::HashSet::new();
    for request in &received {
        assert_eq!(request.method, "GET");
        assert_eq!(request.header("authorization"), Some(bearer.as_str()));
        assert_eq!(request.header("accept"), Some("application/json"));
        assert_eq!(request.header("accept-encoding"), Some("gzip"));
        let agent = request.header("user-agent").unwrap();
        assert!(agent.starts_with("teams-pstn-exporter/"), "{agent}");
        let id = request.header("client-request-id").unwrap();
        assert!(uuid::Uuid::parse_str(id).is_ok() && ids.insert(id));
    }
    assert_eq!(
        server.received().len() - received.len(),
        1,
        "one token for all"
    );
}

#[tokio::test]
async fn refusals_by_table() {
    use FailureReason as Reason;
    let permission = "CallRecord-PstnCalls.Read.All of Microsoft Graph and grant admin consent; where that does not suffice, CallRecords.Read.All";
    for (status, code, message, reason, asked, shown, remedy) in [
        (
            400,
            "BadRequest",
            "Expression\\r\\nexpected",
            Reason::Status,
            1,
            "answered 400 BadRequest: Expression expected (request-id r-1, date 2026)",
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
            "403 Forbidden without a message (request-id r-1",
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
        (502, "", "", Reason::Status, 3, "502", "Microsoft"),
        (503, "", "", Reason::Status, 3, "503", "Microsoft"),
        (504, "", "", Reason::Status, 3, "504", "Microsoft"),
    ] {
        let body = format!(
            r#"{{"error":{{"code":"{code}","message":"{message}","innerError":{{"date":"2026","request-id":"r-1"}}}}}}"#
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
async fn other_refusals_are_told_by_their_status() {
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
async fn lost_answers_by_table() {
    let day = || {
        Reply::Full(
            429,
            vec![("retry-after", "86400".to_owned())],
            String::new(),
        )
    };
    fails(day, FailureReason::Throttled, 1, "asked again in 86400 s").await;
    let lost = "no whole answer from 127.0.0.1";
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
        (String::new(), Malformed, 1, "EOF"),
        (
            link("https://graph.example/x"),
            Malformed,
            1,
            "https://graph.example, not to the Graph root",
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

/// Checks how reading a report fails whose every request is answered so, and that nothing went uncounted. Returns the
/// remedy.
async fn fails(
    reply: impl Fn() -> Reply + Send + 'static,
    reason: FailureReason,
    asked: u64,
    shown: &str,
) -> Option<&'static str> {
    fails_within(PATIENCE, reply, reason, asked, shown).await
}

/// Likewise, with a time-out for each answer.
async fn fails_within(
    read_timeout: Duration,
    reply: impl Fn() -> Reply + Send + 'static,
    reason: FailureReason,
    asked: u64,
    shown: &str,
) -> Option<&'static str> {
    let server = graph(move |_, _| reply()).await;
    let tally = Tally::default();
    let graph = client_of(&server.url, &server.url, read_timeout);
    let error = read(&graph, &tally).await.unwrap_err();
    let text = Chain(&error).to_string();
    assert_eq!(error.reason(), reason, "{text}");
    assert_eq!(reports(&server).len() as u64, asked, "{text}");
    assert!(text.contains(shown), "{text}");
    assert!(!text.contains(TOKEN) && !text.contains(SECRET), "{text}");
    let requests = RequestCode::ALL.map(|code| tally.requests(code));
    assert_eq!(requests.iter().sum::<u64>(), asked, "{text}");
    let retries = RetryReason::ALL.map(|reason| tally.retries(reason));
    let further_pages = tally.pages().saturating_sub(1);
    assert_eq!(
        retries.iter().sum::<u64>() + further_pages + 1,
        asked,
        "{text}"
    );
    error.remedy()
}

#[tokio::test]
async fn what_passes_is_retried() {
    let server = graph(|number, _| match number {
        0 => Reply::Full(429, vec![("retry-after", "0".to_owned())], String::new()),
        1 => Reply::Cut,
        2 | 4 => Reply::json(401, ""),
        3 => Reply::json(200, page(&["a"], Some("/next"))),
        _ => Reply::json(200, page(&["b"], None)),
    })
    .await;
    let tally = Tally::default();
    assert_eq!(read(&client(&server), &tally).await.unwrap(), "1a 2b ");
    for (reason, count) in [
        (RetryReason::Throttled, 1),
        (RetryReason::Body, 1),
        (RetryReason::Auth, 2),
    ] {
        assert_eq!(tally.retries(reason), count, "{reason:?}");
    }
    assert_eq!(
        server.received().len() - reports(&server).len(),
        3,
        "a token after each 401"
    );
}

#[tokio::test]
async fn the_token_never_leaves_the_origin() {
    let elsewhere = Server::start(|_, _| Reply::json(200, page(&[], None))).await;
    for status in [200, 301, 302, 307, 308] {
        let url = elsewhere.url.clone();
        let server = graph(move |_, _| {
            let headers = vec![("location", url.clone())];
            Reply::Full(status, headers, page(&["a"], Some(&url)))
        })
        .await;
        let error = read(&client(&server), &Tally::default()).await.unwrap_err();
        if status != 200 {
            assert_eq!(error.reason(), FailureReason::Status);
            assert!(error.remedy().unwrap().contains("redirect"));
        }
    }
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn endless_pages_end() {
    let server = graph(|number, _| Reply::json(200, page(&[], Some(&format!("/{number}"))))).await;
    let tally = Tally::default();
    let error = read(&client(&server), &tally).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the report has more than 7 pages on page 8"
    );
    assert_eq!(tally.pages(), 7);
}

#[tokio::test]
async fn bytes_are_counted_after_decompression() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 4096);
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let _read = stream.read(&mut [0; 4096]).await.unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\nrequest-id: r-3\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let _written = stream.write_all(&bomb).await;
    });
    let tokens = graph(|_, _| Reply::Hangup).await;
    let graph = client_of(&url, &tokens.url, PATIENCE);
    let error = read(&graph, &Tally::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the report has more than 4096 bytes on page 1 (request-id r-3)"
    );
}

#[tokio::test]
async fn a_stall_ends_with_the_deadline_and_is_counted() {
    let stalled = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&stalled);
    let server = graph(move |number, _| {
        if number == 0 {
            return Reply::json(200, page(&["a"], Some("/next")));
        }
        notify.notify_one();
        Reply::Stall
    })
    .await;
    let graph = client(&server);
    let tally = Tally::default();
    let mut pages = graph.pages(&query(), soon(), &tally);
    let mut first = pages.next().await.unwrap().unwrap();
    first.decode(|_, _: Row<'_>| Ok::<_, Error>(())).unwrap();
    let pass = async {
        stalled.notified().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(20)).await;
    };
    let (next, ()) = tokio::join!(pages.next(), pass);
    let error = next.unwrap_err();
    assert!(matches!(error, Error::Timeout), "{error:?}");
    assert_eq!((tally.pages(), tally.rows()), (1, 1));
    assert_eq!((requests(&tally, "200"), requests(&tally, "none")), (1, 1));
}

#[tokio::test]
async fn the_callers_error_arrives_as_it_was() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("row {0}")]
    struct Mine(u64);

    let server = graph(|_, _| Reply::json(200, page(&["a", "b", "c"], None))).await;
    let graph = client(&server);
    let tally = Tally::default();
    let mut pages = graph.pages(&query(), soon(), &tally);
    let mut first = pages.next().await.unwrap().unwrap();
    let failed = first.decode(|number, row: Row<'_>| match &*row.id {
        "b" => Err(Mine(number)),
        _ => Ok(()),
    });
    assert!(matches!(failed, Err(DecodeError::Row(Mine(2)))));
    assert_eq!(tally.rows(), 2);
}

#[tokio::test]
async fn the_last_page_is_known_once_it_was_read() {
    let server = graph(|number, _| match number {
        0 => Reply::json(200, page(&["a"], Some("/next"))),
        _ => Reply::json(200, page(&["b"], None)),
    })
    .await;
    let graph = client(&server);
    let tally = Tally::default();
    let mut pages = graph.pages(&query(), soon(), &tally);
    for is_last in [false, true] {
        assert!(!pages.is_last());
        let mut page = pages.next().await.unwrap().unwrap();
        page.decode(|_, _: Row<'_>| Ok::<(), Error>(())).unwrap();
        assert_eq!(pages.is_last(), is_last);
    }
}

#[tokio::test]
async fn a_refused_token_brings_its_own_remedy() {
    let server = Server::start(|_, _| Reply::json(404, "{}")).await;
    let graph = client_of(&server.url, &server.url, PATIENCE);
    let error = read(&graph, &Tally::default()).await.unwrap_err();
    assert!(matches!(error, Error::Token(_)), "{error}");
    assert!(
        error
            .remedy()
            .unwrap()
            .starts_with("check the authority URL")
    );
}

#[tokio::test]
async fn where_no_graph_answers_the_remedy_is_of_the_way_there() {
    let server = graph(|_, _| Reply::Hangup).await;
    // The same port of an address where nobody listens.
    let gone = server.url.replace("127.0.0.1", "127.0.0.9");
    let graph = client_of(&gone, &server.url, PATIENCE);
    let error = read(&graph, &Tally::default()).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Connect);
    assert!(error.remedy().unwrap().starts_with("check name resolution"));
}

#[tokio::test]
async fn the_servers_clock_and_the_id_of_the_request_are_told() {
    let server = graph(|_, _| {
        let headers = vec![
            ("date", "Sat, 21 Nov 2026 13:02:00 GMT".to_owned()),
            ("request-id", "r-7".to_owned()),
        ];
        Reply::Full(200, headers, page(&[], None))
    })
    .await;
    let graph = client(&server);
    let tally = Tally::default();
    let mut pages = graph.pages(&query(), soon(), &tally);
    let first = pages.next().await.unwrap().unwrap();
    let expected = "2026-11-21T13:02:00Z".parse().unwrap();
    assert_eq!(first.server_date(), Some(expected));
    assert_eq!(first.request_id(), Some("r-7"));
}

#[tokio::test]
#[should_panic(expected = "a page is decoded before the next one is asked for")]
async fn a_page_cannot_be_skipped() {
    let server = graph(|_, _| Reply::json(200, page(&["a"], None))).await;
    let graph = client(&server);
    let tally = Tally::default();
    let mut pages = graph.pages(&query(), soon(), &tally);
    drop(pages.next().await.unwrap());
    let _panics = pages.next().await;
}

#[tokio::test]
async fn logs_hold_the_request_id_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber in the process, tracing would let whichever thread comes to a log line first decide for
    // all threads whether anyone listens; with two it asks both.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let echo = |status, request: &Received| {
        let echoed = request.header("authorization").unwrap();
        let headers = vec![("request-id", "r-42".to_owned())];
        let body = format!(r#"{{"error":{{"code":"c","message":"{echoed}"}}}}"#);
        Reply::Full(status, headers, body)
    };
    let server = graph(move |number, request| match number {
        0 => echo(503, request),
        1 => echo(401, request),
        _ => echo(403, request),
    })
    .await;
    let error = read(&client(&server), &Tally::default()).await.unwrap_err();
    tracing::warn!(error = %Chain(&error), debug = ?error, "failed");
    drop((guard, second));
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("r-42") && text.contains("asked Graph") && text.contains("[redacted]"));
    assert!(!text.contains(TOKEN) && !text.contains(SECRET), "{text}");
}

#[test]
fn reasons_have_their_labels() {
    let labels = FailureReason::ALL.map(FailureReason::as_str);
    let expected = [
        "auth",
        "forbidden",
        "throttled",
        "timeout",
        "connect",
        "status",
        "malformed",
        "limit",
    ];
    assert_eq!(labels, expected);
}

#[test]
fn a_chain_is_one_line_without_repetition() {
    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Level {
        text: &'static str,
        source: Option<Box<Level>>,
    }

    let level = |text, source: Option<Level>| Level {
        text,
        source: source.map(Box::new),
    };
    let error = level(
        "cannot poll\nnow",
        Some(level(
            "no answer: connection refused",
            Some(level(
                "connection refused",
                Some(level("os error 111", None)),
            )),
        )),
    );
    assert_eq!(
        Chain(&error).to_string(),
        "cannot poll now: no answer: connection refused: os error 111"
    );
}

#[test]
fn pages_can_be_read_in_a_task() {
    fn sendable<T: Send>(_: T) {}
    let make = |graph: &'static Graph, tally: &'static Tally| {
        sendable(async move {
            let mut pages = graph.pages(&query(), soon(), tally);
            while let Some(mut page) = pages.next().await? {
                page.decode(|_, _: Row<'_>| Ok::<_, Error>(()))?;
            }
            Ok::<_, DecodeError<Error>>(())
        });
    };
    // That it compiles is the test.
    let _: fn(&'static Graph, &'static Tally) = make;
}

/// A token endpoint and, by `script`, Graph, whose requests alone count.
async fn graph(mut script: impl FnMut(usize, &Received) -> Reply + Send + 'static) -> Server {
    let mut number = 0;
    Server::start(move |_, request| {
        if request.path == "/contoso.com/oauth2/v2.0/token" {
            return Reply::token(TOKEN, 3599);
        }
        number += 1;
        script(number - 1, request)
    })
    .await
}

fn client(server: &Server) -> Graph {
    client_of(&server.url, &server.url, PATIENCE)
}

fn client_of(root: &str, authority: &str, read_timeout: Duration) -> Graph {
    let http = HttpClient::new(&HttpOptions {
        read_timeout,
        proxies: false,
        plain_only: true,
        ..HttpOptions::default()
    })
    .unwrap();
    let root: GraphRoot = root.parse().unwrap();
    let retry = RetryPolicy {
        attempts: 3,
        delay_base: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let options = TokenOptions {
        authority: authority.parse().unwrap(),
        tenant_id: "contoso.com".to_owned(),
        client_id: Some("client".to_owned()),
        scope: root.scope(),
        credential: Credential::Secret(SecretSource::Inline(SECRET.into())),
    };
    let now = || "2026-11-21T13:00:00Z".parse().unwrap();
    let tokens = TokenCache::new(http.clone(), options, retry, now).unwrap();
    let limits = Limits {
        body_bytes: 4096,
        pages: 7,
        rows: 10,
    };
    Graph::new(http, root, tokens, limits, retry)
}

async fn read(graph: &Graph, tally: &Tally) -> Result<String, Error> {
    let mut rows = String::new();
    let mut pages = graph.pages(&query(), soon(), tally);
    while let Some(mut page) = pages.next().await? {
        page.decode(|number, row: Row<'_>| {
            rows.extend([&number.to_string(), &*row.id, " "]);
            Ok::<_, Error>(())
        })
        .map_err(|error| match error {
            DecodeError::Graph(error) | DecodeError::Row(error) => error,
        })?;
    }
    Ok(rows)
}

fn query() -> Query {
    Query {
        version: Version::Beta,
        function: "getReport",
        from: "2026-11-01T00:00:00Z".to_owned(),
        to: "2026-11-21T13:00:00Z".to_owned(),
    }
}

fn page(ids: &[&str], next: Option<&str>) -> String {
    let rows: Vec<_> = ids
        .iter()
        .map(|id| serde_json::json!({ "id": id }))
        .collect();
    serde_json::json!({ "value": rows, "@odata.nextLink": next }).to_string()
}

fn reports(server: &Server) -> Vec<Received> {
    let mut received = server.received();
    received.retain(|request| request.method == "GET");
    received
}

fn requests(tally: &Tally, code: &str) -> u64 {
    let code = RequestCode::ALL
        .into_iter()
        .find(|known| known.as_str() == code);
    tally.requests(code.unwrap())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Longer than any deadline here.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
