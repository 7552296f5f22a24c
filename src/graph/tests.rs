//! Tests of the client against a scripted server on loopback.

mod error_messages;
mod failures;
mod flaws;

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::pages::{DecodeError, Read};
use super::testing::{PATIENCE, Received, Reply, SECRET, Server, TOKEN, client, client_of, graph};
use super::*;

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
    let stats = RequestStats::default();
    let rows = read(&client(&server), &stats).await.unwrap();
    assert_eq!(rows, "1a 2b 3c ");
    assert_eq!(
        (stats.pages(), stats.rows(), requests(&stats, "200")),
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
async fn the_token_never_leaves_the_origin() {
    let elsewhere = Server::start(|_, _| Reply::json(200, page(&[], None))).await;
    for status in [200, 301, 302, 307, 308] {
        let url = elsewhere.url.clone();
        let server = graph(move |_, _| {
            let headers = vec![("location", url.clone())];
            Reply::Full(status, headers, page(&["a"], Some(&url)))
        })
        .await;
        let error = read(&client(&server), &RequestStats::default())
            .await
            .unwrap_err();
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
    let stats = RequestStats::default();
    let error = read(&client(&server), &stats).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the report has more than 7 pages on page 8"
    );
    assert_eq!(stats.pages(), 7);
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
            "HTTP/1.1 200 OK\r\nrequest-id: 8a3c5b1e-0f7d-4c2b-9e6a-1d2f3a4b5c6d\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let _written = stream.write_all(&bomb).await;
    });
    let tokens = graph(|_, _| Reply::Hangup).await;
    let graph = client_of(&url, &tokens.url, PATIENCE);
    let error = read(&graph, &RequestStats::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the report has more than 4096 bytes on page 1 (request-id 8a3c5b1e-0f7d-4c2b-9e6a-1d2f3a4b5c6d)"
    );
}

#[tokio::test]
async fn page_without_room_in_memory_is_a_limit_and_takes_none() {
    let server = graph(|_, _| Reply::json(200, page(&["a"], None))).await;
    let graph = client(&server);
    let length = page(&["a"], None).len();
    let memory = MemoryPool::for_process(Some(200)).for_report();
    // Of these 200 bytes, 105 are for one report.
    let mut other = memory.reservation();
    for (left, fits) in [(length, true), (length - 1, false)] {
        other.resize(105 - left).unwrap();
        let stats = RequestStats::default();
        let mut pages = graph.pages(&query(), soon(), &stats, &memory);
        match pages.next().await {
            Ok(page) => assert!(fits && page.is_some()),
            Err(error) => {
                assert!(!fits, "{error}");
                assert_eq!(error.reason(), FailureReason::Limit);
                assert!(error.remedy().unwrap().contains("memory limit"));
            }
        }
        drop(pages);
        other.resize(105).unwrap();
    }
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
    let stats = RequestStats::default();
    let mut pages = graph.pages(&query(), soon(), &stats, &memory());
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
    assert_eq!((stats.pages(), stats.rows()), (1, 1));
    assert_eq!((requests(&stats, "200"), requests(&stats, "none")), (1, 1));
}

#[tokio::test]
async fn callers_error_is_returned_unchanged() {
    #[derive(Debug, PartialEq, thiserror::Error)]
    #[error("row {0}")]
    struct Mine(u64);

    let server = graph(|_, _| Reply::json(200, page(&["a", "b", "c"], None))).await;
    let graph = client(&server);
    let stats = RequestStats::default();
    let mut pages = graph.pages(&query(), soon(), &stats, &memory());
    let mut first = pages.next().await.unwrap().unwrap();
    let failed = first.decode(|number, row: Row<'_>| match &*row.id {
        "b" => Err(Mine(number)),
        _ => Ok(()),
    });
    assert!(matches!(failed, Err(DecodeError::Row(Mine(2)))));
    assert_eq!(stats.rows(), 2);
}

#[tokio::test]
async fn last_page_is_known_after_it_was_read() {
    let server = graph(|number, _| match number {
        0 => Reply::json(200, page(&["a"], Some("/next"))),
        _ => Reply::json(200, page(&["b"], None)),
    })
    .await;
    let graph = client(&server);
    let stats = RequestStats::default();
    let mut pages = graph.pages(&query(), soon(), &stats, &memory());
    for is_last in [false, true] {
        assert!(!pages.is_last());
        let mut page = pages.next().await.unwrap().unwrap();
        page.decode(|_, _: Row<'_>| Ok::<(), Error>(())).unwrap();
        assert_eq!(pages.is_last(), is_last);
    }
}

#[tokio::test]
async fn page_has_the_servers_clock_and_the_request_id() {
    let server = graph(|_, _| {
        let headers = vec![
            ("date", "Sat, 21 Nov 2026 13:02:00 GMT".to_owned()),
            (
                "request-id",
                "8a3c5b1e-0f7d-4c2b-9e6a-1d2f3a4b5c6d".to_owned(),
            ),
        ];
        Reply::Full(200, headers, page(&[], None))
    })
    .await;
    let graph = client(&server);
    let stats = RequestStats::default();
    let mut pages = graph.pages(&query(), soon(), &stats, &memory());
    let first = pages.next().await.unwrap().unwrap();
    let expected = "2026-11-21T13:02:00Z".parse().unwrap();
    assert_eq!(first.server_date(), Some(expected));
    assert_eq!(
        first.request_id(),
        Some("8a3c5b1e-0f7d-4c2b-9e6a-1d2f3a4b5c6d")
    );
}

#[tokio::test]
#[should_panic(expected = "a page must be decoded before the next page is requested")]
async fn a_page_cannot_be_skipped() {
    let server = graph(|_, _| Reply::json(200, page(&["a"], None))).await;
    let graph = client(&server);
    let stats = RequestStats::default();
    let mut pages = graph.pages(&query(), soon(), &stats, &memory());
    drop(pages.next().await.unwrap());
    let _panics = pages.next().await;
}

#[test]
fn pages_can_be_read_in_a_task() {
    fn sendable<T: Send>(_: T) {}
    let make = |graph: &'static Graph, stats: &'static RequestStats| {
        sendable(async move {
            let mut pages = graph.pages(&query(), soon(), stats, &memory());
            while let Some(mut page) = pages.next().await? {
                page.decode(|_, _: Row<'_>| Ok::<_, Error>(()))?;
            }
            Ok::<_, DecodeError<Error>>(())
        });
    };
    // The test passes if this compiles.
    let _: fn(&'static Graph, &'static RequestStats) = make;
}

/// A pool with enough memory for every test.
fn memory() -> Arc<MemoryPool> {
    MemoryPool::for_process(None).for_report()
}

async fn read(graph: &Graph, stats: &RequestStats) -> Result<String, Error> {
    let mut rows = String::new();
    let mut pages = graph.pages(&query(), soon(), stats, &memory());
    while let Some(mut page) = pages.next().await? {
        let before = rows.len();
        let read = page
            .decode(|number, row: Row<'_>| {
                rows.extend([&number.to_string(), &*row.id, " "]);
                Ok::<_, Error>(())
            })
            .map_err(|error| match error {
                DecodeError::Graph(error) | DecodeError::Row(error) => error,
            })?;
        if read == Read::Broken {
            rows.truncate(before);
        }
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

fn requests(stats: &RequestStats, code: &str) -> u64 {
    let mut requests = stats.requests();
    requests.find(|(known, _)| *known == code).unwrap().1
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}
