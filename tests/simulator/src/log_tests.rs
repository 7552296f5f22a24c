//! Tests of the logs over plain TCP: windows, versions, pages, and arrival of rows.

use chrono::TimeDelta;
use serde_json::Value;

use super::address::{Function, Version};
use super::blocked_users::BlockEvent;
use super::calls::Call;
use super::direct_routing::DirectRoutingCall;
use super::log::LogRow;
use super::sms::Message;
use super::sums::Amounts;
use super::tests::{TENANT, get, now, options, simulator, token};
use super::world::Charge;
use super::*;

#[tokio::test]
async fn windows_have_the_documented_ends() {
    let simulator = simulator(World::Rows { count: 0 }).await;
    let token = token(&simulator).await;
    let times: Vec<_> = [
        "2026-11-01T23:59:59.9999999Z",
        "2026-11-02T00:00:00Z",
        "2026-11-02T00:00:00.0000001Z",
        "2026-11-02T23:59:59.9999999Z",
        "2026-11-03T00:00:00Z",
        "2026-11-03T00:00:00.0000001Z",
    ]
    .into_iter()
    .map(time)
    .collect();
    set_everywhere(&simulator, &times);
    let day = ("2026-11-02", "2026-11-03");
    let tick = ("2026-11-02T00:00:00.0000001Z", "2026-11-02T23:59:59Z");
    let moment = ("2026-11-02T00:00:00Z", "2026-11-02T00:00:00Z");
    for (function, field, inclusive) in [
        ("getPstnCalls", "startDateTime", true),
        ("getDirectRoutingCalls", "startDateTime", false),
        ("getSmsLog", "sentDateTime", true),
        ("getPstnBlockedUsersLog", "blockDateTime", true),
    ] {
        for ((from, to), rows) in [
            (day, if inclusive { 1..5 } else { 1..4 }),
            (tick, 2..3),
            (moment, if inclusive { 1..2 } else { 1..1 }),
        ] {
            let path = url("beta", function, from, to);
            let page = get(&simulator, &path, &token).await.json();
            let served: Vec<_> = page["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| time(row[field].as_str().unwrap()))
                .collect();
            assert_eq!(served, times[rows], "{path}");
        }
    }
}

#[tokio::test]
async fn functions_have_the_documented_addresses() {
    let simulator = simulator(World::Rows { count: 0 }).await;
    let token = token(&simulator).await;
    for (version, function, days, status, code) in [
        ("v1.0", "getPstnCalls", 90, 200, Value::Null),
        ("beta", "getPstnCalls", 91, 406, "NotAcceptable".into()),
        ("v1.0", "getDirectRoutingCalls", 3_000, 200, Value::Null),
        ("beta", "getDirectRoutingCalls", 91, 200, Value::Null),
        ("v1.0", "getSmsLog", 1, 404, "NotFound".into()),
        ("beta", "getSmsLog", 90, 200, Value::Null),
        ("beta", "getSmsLog", 91, 406, "NotAcceptable".into()),
        ("v1.0", "getPstnBlockedUsersLog", 1, 404, "NotFound".into()),
        ("beta", "getPstnBlockedUsersLog", 90, 200, Value::Null),
        (
            "beta",
            "getPstnBlockedUsersLog",
            91,
            406,
            "NotAcceptable".into(),
        ),
    ] {
        let to = time("2026-11-01T00:00:00Z");
        let from = to - TimeDelta::days(days);
        let from = from.format("%Y-%m-%d").to_string();
        let path = url(version, function, &from, "2026-11-01");
        let answer = get(&simulator, &path, &token).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["code"]), (status, &code), "{path}");
        assert!(error["message"].as_str().unwrap_or_default().is_empty());
    }
    simulator.change(TENANT, |tenant| tenant.roles.clear());
    let without_role = super::tests::token(&simulator).await;
    let path = url("v1.0", "getPstnCalls", "2026-11-01", "2026-11-02");
    assert_eq!(get(&simulator, &path, &without_role).await.status, 403);
}

#[tokio::test]
async fn pages_tile_a_log_and_the_journal_records_them() {
    let simulator = simulator(World::Rows { count: 0 }).await;
    let token = token(&simulator).await;
    let begin = time("2026-11-02T00:00:00Z");
    let times: Vec<_> = (0..2_500)
        .map(|second| begin + TimeDelta::seconds(second))
        .collect();
    set_everywhere(&simulator, &times);
    let (short, long) = ("(from=", "(fromDateTime=");
    for (function, name, row_type, spelling) in [
        (Function::Calls, "getPstnCalls", "pstnCallLogRow", short),
        (
            Function::DirectRouting,
            "getDirectRoutingCalls",
            "directRoutingLogRow",
            long,
        ),
        (Function::Sms, "getSmsLog", "smsLogRow", long),
        (
            Function::BlockedUsers,
            "getPstnBlockedUsersLog",
            "pstnBlockedUsersLogRow",
            long,
        ),
    ] {
        let before = simulator.requests().len();
        let path = url("beta", name, "2026-11-02", "2026-11-03");
        let pages = pages(&simulator, &path, &token).await;
        let counts: Vec<_> = pages.iter().map(|page| &page["@odata.count"]).collect();
        assert_eq!(counts, [1_000, 1_000, 500], "{name}");
        assert_eq!(
            pages[0]["@odata.context"],
            format!(
                "{}/beta/$metadata#Collection(microsoft.graph.callRecords.{row_type})",
                simulator.url()
            )
        );
        let link = pages[0]["@odata.nextLink"].as_str().unwrap();
        assert!(link.contains(spelling), "{link}");
        assert!(link.ends_with("2026-11-03)?$skip=1000"), "{link}");
        let asked: Vec<_> = simulator.requests()[before..]
            .iter()
            .map(|request| request.asked().unwrap())
            .collect();
        let skips: Vec<_> = asked.iter().map(|asked| asked.skip).collect();
        assert_eq!(skips, [0, 1_000, 2_000]);
        assert!(asked.iter().all(|asked| asked.function == function
            && asked.version == Version::Beta
            && (asked.from, asked.to) == (begin, begin + TimeDelta::days(1))));
    }
    assert_eq!(simulator.requests()[0].asked(), None, "of a token");
}

#[tokio::test]
async fn row_is_served_after_its_arrival() {
    let clock = Arc::new(Mutex::new(time("2026-11-03T00:00:00Z")));
    let simulator = Simulator::start(Options {
        now: {
            let clock = Arc::clone(&clock);
            Arc::new(move || *clock.lock().unwrap())
        },
        ..options(World::Rows { count: 0 })
    })
    .await
    .unwrap();
    let start = time("2026-11-01T12:00:00Z");
    let late = |number, hours| Call {
        arrival: start + TimeDelta::hours(hours),
        ..Call::at(number, start)
    };
    simulator
        .logs(TENANT)
        .calls
        .set(vec![late(1, 48), late(2, 0), late(3, 36), late(4, 37)]);
    for (now, ids) in [
        ("2026-11-01T11:59:59Z", &[][..]),
        ("2026-11-02T23:59:59Z", &[2]),
        ("2026-11-03T00:00:00Z", &[2, 3]),
        ("2026-11-03T11:59:59Z", &[2, 3, 4]),
        ("2026-11-03T12:00:00Z", &[1, 2, 3, 4]),
    ] {
        *clock.lock().unwrap() = time(now);
        let token = token(&simulator).await;
        let path = url("v1.0", "getPstnCalls", "2026-11-01", "2026-11-02");
        let page = get(&simulator, &path, &token).await.json();
        let served: Vec<_> = page["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<_> = ids
            .iter()
            .map(|id| format!("00000000-0000-0000-0000-{id:012}"))
            .collect();
        assert_eq!(served, expected, "{now}");
    }
}

#[tokio::test]
async fn texts_are_served_verbatim_on_pages() {
    let simulator = Simulator::start(Options {
        page_size: 2,
        ..options(World::Rows { count: 0 })
    })
    .await
    .unwrap();
    let token = token(&simulator).await;
    let logs = simulator.logs(TENANT);
    logs.sms.set_texts(["{\"a\":1.50}", "2", "null"]);
    let path = url("beta", "getSmsLog", "2026-11-02", "2026-11-03");
    let first = get(&simulator, &path, &token).await;
    let text = String::from_utf8_lossy(&first.body).into_owned();
    assert!(text.ends_with("\"value\":[{\"a\":1.50},2]}"), "{text}");
    let link = first.next_link();
    let second = get(
        &simulator,
        link.strip_prefix(simulator.url()).unwrap(),
        &token,
    );
    assert_eq!(second.await.json()["value"], serde_json::json!([null]));
}

#[tokio::test]
async fn faults_affect_the_matching_request() {
    let simulator = simulator(World::Rows { count: 0 }).await;
    let token = token(&simulator).await;
    set_everywhere(&simulator, &[time("2026-11-02T00:00:00Z")]);
    let second = url("v1.0", "getPstnCalls", "2026-11-02", "2026-11-03");
    let first = url("v1.0", "getPstnCalls", "2026-11-01", "2026-11-02");
    let when = || When::graph().asking("getPstnCalls(fromDateTime=2026-11-02");
    simulator.push_fault(when(), Fault::throttle("1"));
    assert_eq!(get(&simulator, &first, &token).await.status, 200);
    assert_eq!(get(&simulator, &second, &token).await.status, 429);
    assert_eq!(get(&simulator, &second, &token).await.status, 200);
    for (function, field) in [
        ("getPstnCalls", "\"charge\":"),
        ("getDirectRoutingCalls", "\"duration\":"),
        ("getSmsLog", "\"callCharge\":"),
        ("getPstnBlockedUsersLog", "\"blockReason\":"),
    ] {
        simulator.push_fault(When::graph().asking(function), Fault::DuplicateKeys);
        let path = url("beta", function, "2026-11-02", "2026-11-03");
        let answer = get(&simulator, &path, &token).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(text.matches(field).count(), 2, "{text}");
    }
}

#[tokio::test]
async fn rows_of_a_company_add_up_to_the_oracle() {
    let simulator = simulator(World::company(1, 60)).await;
    let token = token(&simulator).await;
    let logs = simulator.logs(TENANT);
    let begin = time("2026-11-16T00:00:00Z");
    let end = time("2026-11-21T12:30:00.5Z");
    let period = begin..end + TimeDelta::nanoseconds(100);
    let literals = ("2026-11-16", "2026-11-21T12:30:00.5Z");
    let served = async |function: &str| {
        let path = url("beta", function, literals.0, literals.1);
        rows(pages(&simulator, &path, &token).await)
    };

    let calls = served("getPstnCalls").await;
    let expected = logs.calls.expected(period.clone(), now());
    assert!(expected.total().rows > 1_000 && expected.total().charge > 0);
    let mut sums = super::sums::Sums::new(Call::LABELS);
    for row in &calls {
        let labels = [
            "userId",
            "usageCountryCode",
            "destinationContext",
            "destinationName",
            "callType",
            "licenseCapability",
            "inventoryType",
            "currency",
        ];
        let amounts = Amounts {
            rows: 1,
            seconds: row["duration"].as_u64().unwrap(),
            charge: money(&row["charge"]),
            connection_charge: money(&row["connectionCharge"]),
            ..Amounts::default()
        };
        sums.add(texts(row, &labels), amounts);
    }
    assert_eq!(sums, expected);

    let messages = served("getSmsLog").await;
    let total = logs.sms.expected(period.clone(), now()).total();
    assert_eq!(messages.len() as u64, total.rows);
    assert_eq!(sum(&messages, "smsUnits"), total.units);
    let charge: i128 = messages.iter().map(|row| money(&row["callCharge"])).sum();
    assert_eq!(charge, total.charge);

    let direct_routing = served("getDirectRoutingCalls").await;
    let total = logs.direct_routing.expected(begin..end, now());
    assert_eq!(direct_routing.len() as u64, total.total().rows);
    assert_eq!(sum(&direct_routing, "duration"), total.total().seconds);
    for (key, amounts) in total.by(&["success", "sip_code"]) {
        let these = direct_routing.iter().filter(|row| {
            let values = ["successfulCall", "finalSipCode"].map(|field| row[field].to_string());
            values[..] == key
        });
        assert_eq!(these.count() as u64, amounts.rows, "{key:?}");
    }

    let blocks = served("getPstnBlockedUsersLog").await;
    let expected = logs.blocked_users.expected(period.clone(), now());
    assert_eq!(blocks.len() as u64, expected.total().rows);
    assert!(logs.blocked_users.blocked(period, now()) <= blocks.len());
}

fn set_everywhere(simulator: &Simulator, times: &[DateTime<Utc>]) {
    let logs = simulator.logs(TENANT);
    let numbered = || (1..).zip(times.iter().copied());
    let priced = |(number, start)| Call {
        charge: Some(Charge(1_234)),
        ..Call::at(number, start)
    };
    logs.calls.set(numbered().map(priced).collect());
    logs.direct_routing.set(
        numbered()
            .map(|(n, time)| DirectRoutingCall::at(n, time))
            .collect(),
    );
    logs.sms
        .set(numbered().map(|(n, time)| Message::at(n, time)).collect());
    logs.blocked_users.set(
        numbered()
            .map(|(n, time)| BlockEvent::at(n, time))
            .collect(),
    );
}

async fn pages(simulator: &Simulator, path: &str, token: &str) -> Vec<Value> {
    let mut path = path.to_owned();
    let mut pages = Vec::new();
    loop {
        let answer = get(simulator, &path, token).await;
        assert_eq!(answer.status, 200, "{path}");
        pages.push(answer.json());
        match pages[pages.len() - 1]["@odata.nextLink"].as_str() {
            Some(next) => next
                .strip_prefix(simulator.url())
                .unwrap()
                .clone_into(&mut path),
            None => return pages,
        }
    }
}

fn rows(pages: Vec<Value>) -> Vec<Value> {
    let rows = |mut page: Value| page["value"].as_array_mut().map(std::mem::take);
    pages.into_iter().filter_map(rows).flatten().collect()
}

fn texts(row: &Value, fields: &[&str]) -> Vec<String> {
    fields
        .iter()
        .map(|field| row[field].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().map(|row| row[field].as_u64().unwrap()).sum()
}

/// Ten-thousandths from a JSON number. It has few digits, so a float is exact.
fn money(value: &Value) -> i128 {
    let text = value.to_string();
    let (units, decimals) = text.split_once('.').unwrap();
    format!("{units}{decimals:0<4}").parse().unwrap()
}

fn url(version: &str, function: &str, from: &str, to: &str) -> String {
    format!("/{version}/communications/callRecords/{function}(fromDateTime={from},toDateTime={to})")
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
