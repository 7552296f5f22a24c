//! The simulator over plain TCP: no client library stands between, so nothing is retried, decoded or followed unseen.

use std::collections::HashMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::scenario::Scenario;
use super::world::Table;
use super::*;
use crate::simulator::faults::ErrorBody;

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
        assert!(
            url.contains("(from=2026-11-01T00%3A00%3A00Z")
                || url.contains("(from=2026-11-01T00:00:00Z,to="),
            "{url}"
        );
    }
    assert_eq!(counts, [1_000, 1_000, 500]);
    let now = now();
    let expected = World::Rows { count: 2_500 }.expected(now, now).unwrap();
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
            answered: 4
        }
    );
    simulator.stop().await;
}

#[tokio::test]
async fn the_same_window_is_the_same_bytes() {
    let simulator = simulator(World::company(Scenario::default())).await;
    let token = token(&simulator).await;
    let first = get(&simulator, REPORT, &token).await;
    assert!(first.body.len() > 50_000);
    assert_eq!(first.body, get(&simulator, REPORT, &token).await.body);
    let raw = REPORT.replace("%3A", ":");
    let decoded: serde_json::Value = get(&simulator, &raw, &token).await.json();
    assert_eq!(first.json()["value"], decoded["value"]);
}

#[tokio::test]
async fn what_has_not_happened_is_in_no_report() {
    let simulator = simulator(World::company(Scenario::default())).await;
    let token = token(&simulator).await;
    let until = |to: &str| format!("{FUNCTION}(fromDateTime=2026-11-01,toDateTime={to})");
    let past = get(&simulator, &until("2026-11-21T13:00:00.9999999Z"), &token).await;
    let future = get(&simulator, &until("2026-12-01"), &token).await;
    let before = get(&simulator, &until("2026-11-21T12:58:00Z"), &token).await;
    assert_eq!(past.json()["value"], future.json()["value"]);
    assert_ne!(before.json()["value"], future.json()["value"]);
}

#[tokio::test]
async fn graph_errors_by_table() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    let good = token(&simulator).await;
    simulator.change(TENANT, |tenant| tenant.roles.clear());
    let without_role = token(&simulator).await;
    let call = |arguments: &str| format!("{FUNCTION}({arguments})");
    let range = "fromDateTime=2026-11-01,toDateTime=2026-11-02";
    let table = [
        (
            call(range),
            "",
            401,
            "InvalidAuthenticationToken",
            "Access token is empty.",
        ),
        (
            call(range),
            "x",
            401,
            "InvalidAuthenticationToken",
            "IDX14100: JWT is not well formed.",
        ),
        (call(range), &without_role, 403, "Forbidden", ""),
        (
            call(range).replace("beta", "v1.0"),
            &good,
            404,
            "NotFound",
            "",
        ),
        (
            call(range).replace("getPstn", "getUnknown"),
            &good,
            404,
            "NotFound",
            "",
        ),
        (
            "/beta/communications/calls".to_owned(),
            &good,
            400,
            "BadRequest",
            "Resource not found for the segment 'calls'.",
        ),
        (
            call("fromDateTime=,toDateTime="),
            &good,
            400,
            "BadRequest",
            "Expression expected at position 13 in 'fromDateTime=,toDateTime='.",
        ),
        (
            call("fromDateTime=2026-11-01,toDateTime="),
            &good,
            400,
            "BadRequest",
            "Expression expected at position 35 in 'fromDateTime=2026-11-01,toDateTime='.",
        ),
        (
            call("fromDateTime=2026-11-01"),
            &good,
            400,
            "BadRequest",
            "The function takes",
        ),
        (
            call("fromDateTime='2026-11-01',toDateTime='2026-11-02'"),
            &good,
            400,
            "BadRequest",
            "Unrecognized 'Edm.DateTimeOffset' literal",
        ),
        (
            call("from=2026-11-01,to=2026-11-02"),
            &good,
            400,
            "BadRequest",
            "The parameter",
        ),
        (
            call("fromDateTime=2026-11-02,toDateTime=2026-11-01"),
            &good,
            400,
            "BadRequest",
            "toDateTime is before",
        ),
        (
            call("fromDateTime=2026-08-01,toDateTime=2026-10-30T00:00:01Z"),
            &good,
            406,
            "NotAcceptable",
            "",
        ),
    ];
    for (path, token, status, code, message) in table {
        let answer = get(&simulator, &path, token).await;
        assert_eq!(answer.status, status, "{path}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], code, "{path}");
        let text = error["message"].as_str().unwrap();
        assert!(
            text.starts_with(message) && (text.is_empty() == message.is_empty()),
            "{path}: {text}"
        );
        assert_eq!(
            error["innerError"]["request-id"],
            answer.headers["request-id"]
        );
        assert_eq!(error["innerError"]["client-request-id"], "mine");
        assert_eq!(error["innerError"]["date"], "2026-11-21T13:00:00");
    }
    let ninety_days = call("fromDateTime=2026-08-01,toDateTime=2026-10-30");
    assert_eq!(get(&simulator, &ninety_days, &good).await.status, 200);
    let qualified = call(range).replace("getPstn", "microsoft.graph.callRecords.getPstn");
    assert_eq!(get(&simulator, &qualified, &good).await.status, 200);
}

#[tokio::test]
async fn token_errors_by_table() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    simulator.change(TENANT, |tenant| {
        tenant.expired_secrets = vec!["old".to_owned()];
    });
    let scope = format!("{}/.default", simulator.url());
    let good = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", &scope),
    ];
    let table = [
        (TENANT, "scope", scope.as_str(), 200, 0),
        ("unknown.example", "scope", &scope, 400, 90_002),
        ("contoso", "scope", &scope, 400, 900_023),
        (TENANT, "grant_type", "", 400, 900_144),
        (TENANT, "grant_type", "password", 400, 70_003),
        (TENANT, "client_id", "another", 400, 700_016),
        (TENANT, "scope", simulator.url(), 400, 1_002_012),
        (
            TENANT,
            "scope",
            "https://graph.example/.default",
            400,
            500_011,
        ),
        (TENANT, "client_secret", "wrong", 401, 7_000_215),
        (TENANT, "client_secret", "old", 401, 7_000_222),
    ];
    for (tenant, key, value, status, code) in table {
        let form = good.map(|(k, v)| (k, if k == key { value } else { v }));
        let answer = post_token(&simulator, tenant, &form).await;
        let body = answer.json();
        assert_eq!(answer.status, status, "{body}");
        if code == 0 {
            assert_eq!(
                (&body["token_type"], &body["expires_in"]),
                (&"Bearer".into(), &3_599.into())
            );
            continue;
        }
        assert_eq!(body["error_codes"], serde_json::json!([code]));
        let description = body["error_description"].as_str().unwrap();
        assert!(
            description.starts_with(&format!("AADSTS{code}: ")),
            "{description}"
        );
        for part in [
            "\r\nTrace ID: ",
            "\r\nCorrelation ID: ",
            "\r\nTimestamp: 2026-11-21 13:00:00Z",
        ] {
            assert!(description.contains(part), "{description}");
        }
        assert!(body["trace_id"].is_string() && body["correlation_id"].is_string());
    }
    let without_credential = [good[0], good[1], good[3]];
    let answer = post_token(&simulator, TENANT, &without_credential).await;
    assert_eq!(answer.json()["error_codes"], serde_json::json!([7_000_218]));
}

#[tokio::test]
async fn other_credentials_are_looked_at() {
    let simulator = simulator(World::Rows { count: 1 }).await;
    simulator.change(TENANT, |tenant| {
        tenant.federated_tokens = vec!["from.elsewhere.x".to_owned()];
        tenant.managed_identity = true;
        tenant.identity_header = Some("header".to_owned());
    });
    let scope = format!("{}/.default", simulator.url());
    for (assertion, code) in [
        ("from.elsewhere.x", None),
        ("from.another.x", Some(700_213)),
    ] {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("scope", &scope),
        ];
        let body = post_token(&simulator, TENANT, &form).await.json();
        assert_eq!(body["error_codes"][0].as_u64(), code);
        assert_eq!(body["access_token"].is_string(), code.is_none());
    }
    let resource = format!("resource={}", simulator.url());
    let machine = "/metadata/identity/oauth2/token?api-version=2018-02-01";
    let app = "/msi/token?api-version=2019-08-01";
    for (path, header, status) in [
        (machine, "Metadata: true", 200),
        (machine, "Metadata: no", 400),
        (app, "Metadata: true", 401),
        (app, "X-IDENTITY-HEADER: header", 200),
        (
            "/msi/token?api-version=2018-02-01",
            "X-IDENTITY-HEADER: header",
            400,
        ),
    ] {
        let answer = exchange(&simulator, &format!("GET {path}&{resource}"), &[header], "").await;
        assert_eq!(answer.status, status, "{path} {header}");
        if status == 200 {
            let body = answer.json();
            let expires = (now().timestamp() + 3_599).to_string();
            assert_eq!(body["expires_on"], expires);
            let token = body["access_token"].as_str().unwrap();
            assert_eq!(get(&simulator, REPORT, token).await.status, 200);
        }
    }
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
        // An end or a reset, but nothing more to wait for.
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
async fn tokens_expire_by_the_clock() {
    let seconds = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let read = Arc::clone(&seconds);
    let simulator = Simulator::start(Options {
        tenants: options(World::Rows { count: 1 }).tenants,
        ..Options::new(move || {
            now() + chrono::TimeDelta::seconds(read.load(std::sync::atomic::Ordering::Relaxed))
        })
    })
    .await
    .unwrap();
    let token = token(&simulator).await;
    for (later, status) in [(3_598, 200), (3_599, 401)] {
        seconds.store(later, std::sync::atomic::Ordering::Relaxed);
        let answer = get(&simulator, REPORT, &token).await;
        assert_eq!(answer.status, status);
        let date = httpdate::parse_http_date(&answer.headers["date"]).unwrap();
        let expected = now() + chrono::TimeDelta::seconds(later);
        assert_eq!(DateTime::<Utc>::from(date), expected);
    }
}

#[tokio::test]
async fn faults_by_table() {
    let check = async |fault: Fault, such: fn(&Answer) -> bool| {
        let simulator = simulator(World::Rows { count: 2_500 }).await;
        let token = token(&simulator).await;
        simulator.push_fault(When::page(2), fault.clone());
        assert_eq!(get(&simulator, REPORT, &token).await.status, 200);
        let second = REPORT
            .replace("fromDateTime", "from")
            .replace("toDateTime", "to")
            + "?$skip=1000";
        let answer = get(&simulator, &second, &token).await;
        assert!(
            such(&answer),
            "{fault:?}: {} {:?}",
            answer.status,
            answer.headers
        );
        let healed = get(&simulator, &second, &token).await;
        assert_eq!(healed.json()["@odata.count"], 1_000);
    };
    check(Fault::status(503), |a| {
        a.status == 503 && a.json()["error"]["code"] == "ServiceUnavailable"
    })
    .await;
    check(
        Fault::Status {
            status: 502,
            body: ErrorBody::Html,
            retry_after: None,
        },
        |a| a.status == 502 && a.headers["content-type"].starts_with("text/html"),
    )
    .await;
    check(Fault::throttle("-5"), |a| {
        a.status == 429
            && a.headers["retry-after"] == "-5"
            && a.json()["error"]["code"] == "TooManyRequests"
    })
    .await;
    check(Fault::RefuseConnection, |a| a.status == 0).await;
    check(Fault::CutBody, |a| {
        a.status == 200 && !a.is_complete && !a.body.is_empty()
    })
    .await;
    check(
        Fault::SlowDrip {
            bytes: 100_000,
            pause: Duration::from_millis(1),
        },
        |a| a.json()["@odata.count"] == 1_000,
    )
    .await;
    check(Fault::ExpireToken, |a| {
        a.status == 401 && a.headers.contains_key("www-authenticate")
    })
    .await;
    check(Fault::EmptyForbidden, |a| {
        a.status == 403 && a.json()["error"]["message"] == ""
    })
    .await;
    check(
        Fault::ForeignNextLink("https://evil.example/".into()),
        |a| a.json()["@odata.nextLink"] == "https://evil.example/",
    )
    .await;
    check(Fault::LoopingNextLink, |a| {
        a.next_link().ends_with("?$skip=1000")
    })
    .await;
    check(Fault::RelativeNextLink, |a| {
        a.next_link().starts_with("/beta/communications/")
    })
    .await;
    check(Fault::NextLinkSpelling("@odata.NextLink".into()), |a| {
        a.json()["@odata.NextLink"].is_string() && a.json()["@odata.nextLink"].is_null()
    })
    .await;
    check(Fault::WrongContentType("text/plain".into()), |a| {
        a.headers["content-type"] == "text/plain" && a.json()["@odata.count"] == 1_000
    })
    .await;
    check(Fault::Html, |a| {
        a.status == 200 && a.body.starts_with(b"<!DOCTYPE")
    })
    .await;
    check(Fault::NotJson, |a| {
        a.status == 200 && serde_json::from_slice::<serde_json::Value>(&a.body).is_err()
    })
    .await;
    check(Fault::GzipBomb(50_000_000), |a| {
        a.headers["content-encoding"] == "gzip" && a.body.len() < 500_000
    })
    .await;
    check(Fault::HugePage(3_000_000), |a| {
        a.body.len() > 3_000_000 && a.json()["@odata.count"] == 1_000
    })
    .await;
    check(Fault::DeepNesting(500), |a| {
        String::from_utf8_lossy(&a.body).matches('[').count() == 501
    })
    .await;
    check(Fault::DuplicateKeys, |a| {
        let row = String::from_utf8_lossy(&a.body)
            .matches("\"totalCallCharge\":")
            .count();
        row == 2_000
    })
    .await;
    check(
        Fault::BadRow {
            at: 3,
            json: "{\"totalCallCharge\":1e400}".into(),
        },
        |a| {
            a.body
                .windows(30)
                .any(|bytes| bytes.starts_with(b"{\"totalCallCharge\":1e400}"))
        },
    )
    .await;
    check(Fault::InvalidUtf8, |a| {
        std::str::from_utf8(&a.body).is_err()
    })
    .await;
    check(Fault::Redirect("https://evil.example/".into()), |a| {
        a.status == 302 && a.headers["location"] == "https://evil.example/"
    })
    .await;
    check(Fault::RepeatRows(10), |a| {
        a.json()["@odata.count"] == 1_010
            && a.json()["value"][10]["userPrincipalName"] == "user0001000@contoso.com"
    })
    .await;
}

#[tokio::test]
async fn token_faults_by_table() {
    let check = async |fault: Fault, such: fn(&Answer) -> bool| {
        let simulator = simulator(World::Rows { count: 1 }).await;
        simulator.push_fault(When::token().tenant(TENANT), fault.clone());
        let answer = post_token(&simulator, TENANT, &good_form(&simulator)).await;
        assert!(such(&answer), "{fault:?}: {}", answer.status);
        assert_eq!(
            post_token(&simulator, TENANT, &good_form(&simulator))
                .await
                .status,
            200
        );
    };
    check(Fault::TokenError(53_003), |a| {
        a.json()["error_codes"][0] == 53_003
    })
    .await;
    check(Fault::TokenError(90_033), |a| a.status == 503).await;
    check(Fault::ZeroLifetimeToken, |a| a.json()["expires_in"] == 0).await;
    check(Fault::status(500), |a| {
        a.status == 500 && a.json()["error"].is_string()
    })
    .await;
    check(Fault::throttle("2"), |a| a.headers["retry-after"] == "2").await;
    check(Fault::CutBody, |a| !a.is_complete).await;
    check(Fault::RefuseConnection, |a| a.status == 0).await;
}

#[tokio::test]
async fn stalls_end_with_the_client() {
    let simulator = simulator(World::Rows { count: 10 }).await;
    let token = token(&simulator).await;
    simulator.push_fault(When::graph().always(), Fault::StallBody);
    let mut connection = TcpStream::connect(simulator.address()).await.unwrap();
    let request =
        format!("GET {REPORT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut begin = [0; 600];
    connection.read_exact(&mut begin).await.unwrap();
    assert!(begin.starts_with(b"HTTP/1.1 200 OK\r\n"));
    drop(connection);
    simulator.clear_faults();
    assert_eq!(get(&simulator, REPORT, &token).await.status, 200);
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
async fn answers_are_chunked_and_compressed_where_accepted() {
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

struct Answer {
    /// 0 where the connection ended without one.
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    is_complete: bool,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn next_link(&self) -> String {
        self.json()["@odata.nextLink"].as_str().unwrap().to_owned()
    }
}

async fn simulator(world: World) -> Simulator {
    Simulator::start(options(world)).await.unwrap()
}

fn options(world: World) -> Options {
    Options {
        tenants: vec![Tenant::new(TENANT, CLIENT, SECRET, world)],
        ..Options::new(now)
    }
}

fn now() -> DateTime<Utc> {
    "2026-11-21T13:00:00Z".parse().unwrap()
}

fn good_form(simulator: &Simulator) -> [(&'static str, &'static str); 4] {
    let scope = format!("{}/.default", simulator.url());
    [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("client_secret", SECRET),
        ("scope", scope.leak()),
    ]
}

async fn token(simulator: &Simulator) -> String {
    token_of(simulator, TENANT).await
}

async fn token_of(simulator: &Simulator, tenant: &str) -> String {
    let answer = post_token(simulator, tenant, &good_form(simulator)).await;
    answer.json()["access_token"].as_str().unwrap().to_owned()
}

async fn post_token(simulator: &Simulator, tenant: &str, form: &[(&str, &str)]) -> Answer {
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

async fn get(simulator: &Simulator, path: &str, token: &str) -> Answer {
    let authorization = format!("authorization: Bearer {token}");
    let headers = ["client-request-id: mine", authorization.as_str()];
    let headers = if token.is_empty() {
        &headers[..1]
    } else {
        &headers[..]
    };
    exchange(simulator, &format!("GET {path}"), headers, "").await
}

async fn exchange(simulator: &Simulator, line: &str, headers: &[&str], body: &str) -> Answer {
    let mut connection = TcpStream::connect(simulator.address()).await.unwrap();
    let mut request = format!(
        "{line} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
        simulator.address()
    );
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A connection that breaks off leaves what came before.
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

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "66666666-7777-8888-9999-000000000000";
const SECRET: &str = "a secret & more";
const FUNCTION: &str = "/beta/communications/callRecords/getPstnOnlineMeetingDialoutReport";
const REPORT: &str = "/beta/communications/callRecords/getPstnOnlineMeetingDialoutReport(fromDateTime=2026-11-01T00%3A00%3A00Z,toDateTime=2026-11-21T13%3A00%3A00Z)";
