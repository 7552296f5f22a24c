//! Tests of the simulator over plain TCP. Without a client library, nothing is retried, decoded or followed implicitly.

use std::collections::HashMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::world::Table;
use super::*;

#[tokio::test]
async fn a_report_of_three_pages_adds_up() {
    let simulator = simulator(World::Rows { count: 2_500 }).await;
    let token = token(&simulator).await;
    let mut url = format!("{}{REPORT}", simulator.url());
    let mut rows = Vec::new();
    let mut counts = Vec::new();
    loop {
        let path = url.strip_prefix(simulator.url()).unwrap().to_owned();
        let answer = get(&simulator, &path, &token).await;
        assert_eq!(answer.status, 200);
        let page = answer.json();
        counts.push(page["@odata.count"].as_u64().unwrap());
        rows.extend(page["value"].as_array().unwrap().clone());
        match page["@odata.nextLink"].as_str() {
            Some(next) => url = next.to_owned(),
            None => break,
        }
        assert!(
            url.ends_with(")?$skip=1000") || url.ends_with(")?$skip=2000"),
            "{url}"
        );
        // Its parameter names and its encoding of the colon differ from those of the first request.
        assert!(url.contains("(from=2026-11-01T00:00:00Z,to="), "{url}");
    }
    assert_eq!(counts, [1_000, 1_000, 500]);
    let expected = World::Rows { count: 2_500 }.expected().unwrap();
    assert_eq!(rows.len(), expected.rows);
    let calls: u64 = rows
        .iter()
        .map(|row| row["totalCalls"].as_u64().unwrap())
        .sum();
    assert_eq!(
        calls,
        expected.sums.values().map(|sum| sum.calls).sum::<u64>()
    );
    assert_eq!(
        simulator.counts(),
        Counts {
            received: 4,
            token: 1,
            graph: 3,
            answered: 4,
            struck: 0,
        }
    );
    simulator.stop().await;
}

#[tokio::test]
async fn the_same_window_is_the_same_bytes() {
    let simulator = simulator(World::company(1, 400)).await;
    let token = token(&simulator).await;
    let first = get(&simulator, REPORT, &token).await;
    assert!(first.body.len() > 50_000);
    assert_eq!(first.body, get(&simulator, REPORT, &token).await.body);
    let raw = REPORT.replace("%3A", ":");
    let decoded: serde_json::Value = get(&simulator, &raw, &token).await.json();
    assert_eq!(first.json()["value"], decoded["value"]);
}

#[tokio::test]
async fn future_calls_are_in_no_report() {
    let simulator = simulator(World::company(1, 400)).await;
    let token = token(&simulator).await;
    let until = |to: &str| format!("{FUNCTION}(fromDateTime=2026-11-01,toDateTime={to})");
    let past = get(&simulator, &until("2026-11-21T13:00:00.9999999Z"), &token).await;
    let future = get(&simulator, &until("2026-12-01"), &token).await;
    let before = get(&simulator, &until("2026-11-21T06:00:00Z"), &token).await;
    assert_eq!(past.json()["value"], future.json()["value"]);
    assert_ne!(before.json()["value"], future.json()["value"]);
}

#[tokio::test]
async fn graph_errors_by_table() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    let good = token(&simulator).await;
    simulator.change(TENANT, |tenant| tenant.roles.clear());
    let without_role = token(&simulator).await;
    let call = format!("{FUNCTION}(fromDateTime=2026-11-01,toDateTime=2026-11-02)");
    let v1 = call.replace("beta", "v1.0");
    let unknown = call.replace("getPstn", "getUnknown");
    let (unauthorized, not_found) = ("InvalidAuthenticationToken", "NotFound");
    let no_segment = "Resource not found for the segment 'calls'.";
    for (path, token, status, code, message) in [
        (&*call, "", 401, unauthorized, "Access token is empty."),
        (
            &call,
            "x",
            401,
            unauthorized,
            "IDX14100: JWT is not well formed.",
        ),
        (&call, &without_role, 403, "Forbidden", ""),
        (&v1, &good, 404, not_found, ""),
        (&unknown, &good, 404, not_found, ""),
        ("/beta/calls", &good, 400, "BadRequest", no_segment),
    ] {
        let answer = get(&simulator, path, token).await;
        assert_eq!(answer.status, status, "{path}");
        let error = &answer.json()["error"];
        assert_eq!(
            (&error["code"], &error["message"]),
            (&code.into(), &message.into())
        );
        let inner = &error["innerError"];
        assert_eq!(inner["request-id"], answer.headers["request-id"]);
        assert_eq!(inner["client-request-id"], "mine");
        assert_eq!(inner["date"], "2026-11-21T13:00:00");
    }
    let qualified = call.replace("getPstn", "microsoft.graph.callRecords.getPstn");
    assert_eq!(get(&simulator, &qualified, &good).await.status, 200);
}

#[tokio::test]
async fn arguments_by_table() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    let token = token(&simulator).await;
    for (arguments, status, message) in [
        ("fromDateTime=2026-08-01,toDateTime=2026-10-30", 200, ""),
        (
            "fromDateTime=2026-08-01,toDateTime=2026-10-30T00:00:01Z",
            406,
            "",
        ),
        (
            "fromDateTime=,toDateTime=",
            400,
            "Expression expected at position 13 in 'fromDateTime=,toDateTime='.",
        ),
        (
            "fromDateTime=2026-11-01,toDateTime=",
            400,
            "Expression expected at position 35 in 'fromDateTime=2026-11-01,toDateTime='.",
        ),
        ("fromDateTime=2026-11-01", 400, "The function takes"),
        (
            "fromDateTime='2026-11-01',toDateTime='2026-11-02'",
            400,
            "Unrecognized 'Edm.DateTimeOffset' literal",
        ),
        ("from=2026-11-01,to=2026-11-02", 400, "The parameter"),
        (
            "fromDateTime=2026-11-02,toDateTime=2026-11-01",
            400,
            "toDateTime is before",
        ),
    ] {
        let answer = get(&simulator, &format!("{FUNCTION}({arguments})"), &token).await;
        assert_eq!(answer.status, status, "{arguments}");
        let body = answer.json();
        let text = body["error"]["message"].as_str().unwrap_or_default();
        assert!(
            text.starts_with(message) && text.is_empty() == message.is_empty(),
            "{text}"
        );
    }
}

#[tokio::test]
async fn random_faults_come_at_the_same_requests() {
    let statuses = async || {
        let simulator = Simulator::start(Options {
            random_faults: Some(faults::RandomFaults {
                seed: 3,
                after: 0,
                throttle_one_in: 6,
                expire_one_in: 9,
            }),
            ..options(World::Rows { count: 1 })
        })
        .await
        .unwrap();
        let token = token(&simulator).await;
        for _ in 0..30 {
            get(&simulator, REPORT, &token).await;
        }
        simulator
            .requests()
            .iter()
            .map(|request| request.status.unwrap())
            .collect::<Vec<_>>()
    };
    let first = statuses().await;
    assert!(
        [200, 401, 429].iter().all(|status| first.contains(status)),
        "{first:?}"
    );
    assert_eq!(first, statuses().await);
}

#[tokio::test]
async fn a_killed_simulator_starts_again_where_it_was() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    let old_token = token(&simulator).await;
    let mut idle = TcpStream::connect(simulator.address()).await.unwrap();
    simulator.push_fault(When::any(), Fault::StallHead);
    let mut stalled = TcpStream::connect(simulator.address()).await.unwrap();
    stalled
        .write_all(b"GET /beta/x HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    simulator.wait_for_requests(2).await;
    let address = simulator.address();
    simulator.stop().await;
    for connection in [&mut idle, &mut stalled] {
        // The end of the stream or a reset: no more data follows.
        let _ = connection.read_to_end(&mut Vec::new()).await;
    }
    assert!(TcpStream::connect(address).await.is_err());
    let again = Simulator::start(Options {
        listen: address,
        ..options(World::Rows { count: 1 })
    })
    .await
    .unwrap();
    assert_eq!(get(&again, REPORT, &old_token).await.status, 200);
}

#[tokio::test]
async fn tenants_have_their_own_worlds() {
    let table = Table::new(["{\"totalCalls\":1}"]);
    let tenant = |number: usize, world: World| {
        Tenant::new(&format!("t{number}.example"), CLIENT, SECRET, world)
    };
    let simulator = Simulator::start(Options {
        tenants: (0..1_000)
            .map(|number| tenant(number, World::Rows { count: number }))
            .chain([tenant(1_000, World::Table(table.clone()))])
            .collect(),
        ..Options::new(now)
    })
    .await
    .unwrap();
    for (number, rows) in [(0, 0), (7, 7), (999, 999), (1_000, 1)] {
        let token = token_of(&simulator, &format!("t{number}.example")).await;
        let page = get(&simulator, REPORT, &token).await.json();
        assert_eq!(page["value"].as_array().unwrap().len(), rows);
    }
    table.set_rows(["1", "2"]);
    let token = token_of(&simulator, "t1000.example").await;
    assert_eq!(
        get(&simulator, REPORT, &token).await.json()["value"],
        serde_json::json!([1, 2])
    );
    assert_eq!(
        simulator.requests().last().unwrap().tenant.as_deref(),
        Some("t1000.example")
    );
}

#[tokio::test]
async fn responses_are_chunked_and_compressed_if_accepted() {
    let simulator = simulator(World::Rows { count: 10 }).await;
    let token = token(&simulator).await;
    let plain = get(&simulator, REPORT, &token).await;
    assert_eq!(plain.headers["transfer-encoding"], "chunked");
    assert!(plain.headers["x-ms-ags-diagnostic"].contains("DataCenter"));
    assert_eq!(plain.headers["client-request-id"], "mine");
    let authorization = format!("authorization: Bearer {token}");
    let headers = [authorization.as_str(), "accept-encoding: gzip, br"];
    let packed = exchange(&simulator, &format!("GET {REPORT}"), &headers, "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(
        &mut flate2::read::GzDecoder::new(&packed.body[..]),
        &mut unpacked,
    )
    .unwrap();
    assert_eq!(unpacked, plain.body);
}

pub(super) struct Answer {
    /// Status; 0 if the connection ended without one.
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    pub(super) is_complete: bool,
}

impl Answer {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn next_link(&self) -> String {
        self.json()["@odata.nextLink"].as_str().unwrap().to_owned()
    }
}

pub(super) async fn simulator(world: World) -> Simulator {
    Simulator::start(options(world)).await.unwrap()
}

pub(super) fn options(world: World) -> Options {
    Options {
        tenants: vec![Tenant::new(TENANT, CLIENT, SECRET, world)],
        ..Options::new(now)
    }
}

pub(super) fn now() -> DateTime<Utc> {
    "2026-11-21T13:00:00Z".parse().unwrap()
}

pub(super) fn good_form(simulator: &Simulator) -> [(&'static str, &'static str); 4] {
    let scope = format!("{}/.default", simulator.url());
    [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", scope.leak()),
    ]
}

pub(super) async fn token(simulator: &Simulator) -> String {
    token_of(simulator, TENANT).await
}

async fn token_of(simulator: &Simulator, tenant: &str) -> String {
    let answer = post_token(simulator, tenant, &good_form(simulator)).await;
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

pub(super) async fn post_token(
    simulator: &Simulator,
    tenant: &str,
    form: &[(&str, &str)],
) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let headers = ["content-type: application/x-www-form-urlencoded"];
    exchange(
        simulator,
        &format!("POST /{tenant}/oauth2/v2.0/token"),
        &headers,
        &form,
    )
    .await
}

pub(super) async fn get(simulator: &Simulator, path: &str, token: &str) -> Answer {
    let authorization = format!("authorization: Bearer {token}");
    let headers = ["client-request-id: mine", authorization.as_str()];
    let headers = if token.is_empty() {
        &headers[..1]
    } else {
        &headers[..]
    };
    exchange(simulator, &format!("GET {path}"), headers, "").await
}

pub(super) async fn exchange(
    simulator: &Simulator,
    line: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let mut connection = TcpStream::connect(simulator.address()).await.unwrap();
    let headers = headers.iter().map(|header| format!("{header}\r\n"));
    let request = format!(
        "{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{}content-length: {}\r\n\r\n{body}",
        simulator.address(),
        headers.collect::<String>(),
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // If the connection is cut off, the bytes before that remain.
    let _ = connection.read_to_end(&mut bytes).await;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Answer {
    let end = bytes
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap_or(bytes.len());
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .map_or(0, |status| status.parse().unwrap());
    let headers: HashMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut rest = bytes.get(end + 4..).unwrap_or_default();
    let mut body = Vec::new();
    let mut is_complete = headers
        .get("content-length")
        .is_some_and(|length| length == "0");
    while let Some(at) = rest.windows(2).position(|end| end == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        is_complete = length == 0;
        let chunk = &rest[at + 2..];
        body.extend_from_slice(&chunk[..length.min(chunk.len())]);
        rest = chunk.get(length + 2..).unwrap_or_default();
    }
    Answer {
        status,
        headers,
        body,
        is_complete,
    }
}

pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(super) const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
pub(super) const SECRET: &str = "a secret & more";
const FUNCTION: &str = "/beta/communications/callRecords/getPstnOnlineMeetingDialoutReport";
pub(super) const REPORT: &str = "/beta/communications/callRecords/getPstnOnlineMeetingDialoutReport(fromDateTime=2026-11-01T00%3A00%3A00Z,toDateTime=2026-11-21T13%3A00%3A00Z)";
