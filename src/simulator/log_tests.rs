//! The logs over plain TCP: which rows a window has, in which version, on which page, and since when.

use chrono::TimeDelta;
use serde_json::Value;

use super::address::{Function, Version};
use super::blocks::BlockEvent;
use super::calls::Call;
use super::direct_routing::DirectRoutingCall;
use super::log::{Log, LogRow};
use super::messages::Message;
use super::scenario::{Company, Scenario};
use super::sums::Amounts;
use super::tests::{TENANT, get, now, options, simulator, token};
use super::world::Charge;
use super::*;

#[tokio::test]
async fn windows_have_the_ends_that_the_documentation_says() {
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
            let told: Vec<_> = page["value"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| time(row[field].as_str().unwrap()))
                .collect();
            assert_eq!(told, times[rows], "{path}");
        }
    }
}

#[tokio::test]
async fn functions_are_where_the_documentation_has_them() {
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
async fn pages_tile_a_log_and_the_journal_tells_which() {
    let simulator = simulator(World::Rows { count: 0 }).await;
    let token = token(&simulator).await;
    let begin = time("2026-11-02T00:00:00Z");
    let times: Vec<_> = (0..2_500)
        .map(|second| begin + TimeDelta::seconds(second))
        .collect();
    set_everywhere(&simulator, &times);
    for (function, name, spelling) in [
        (Function::Calls, "getPstnCalls", "(from="),
        (
            Function::DirectRouting,
            "getDirectRoutingCalls",
            "(fromDateTime=",
        ),
        (Function::Messages, "getSmsLog", "(fromDateTime="),
        (Function::Blocks, "getPstnBlockedUsersLog", "(fromDateTime="),
    ] {
        let before = simulator.requests().len();
        let path = url("beta", name, "2026-11-02", "2026-11-03");
        let pages = pages(&simulator, &path, &token).await;
        let counts: Vec<_> = pages.iter().map(|page| &page["@odata.count"]).collect();
        assert_eq!(counts, [1_000, 1_000, 500], "{name}");
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
async fn a_row_is_told_since_it_has_arrived() {
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
        let told: Vec<_> = page["value"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<_> = ids
            .iter()
            .map(|id| format!("00000000-0000-0000-0000-{id:012}"))
            .collect();
        assert_eq!(told, expected, "{now}");
    }
}

#[tokio::test]
async fn faults_befall_the_request_that_asks_for_something() {
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
async fn rows_have_the_fields_of_the_documentation() {
    let simulator = simulator(World::Rows { count: 0 }).await;
    let token = token(&simulator).await;
    set_everywhere(&simulator, &[time("2026-11-02T00:00:08.2589935Z")]);
    for (version, function, row_type, fields) in [
        ("v1.0", "getPstnCalls", "pstnCallLogRow", CALL_FIELDS),
        (
            "v1.0",
            "getDirectRoutingCalls",
            "directRoutingLogRow",
            DIRECT_ROUTING_FIELDS,
        ),
        ("beta", "getSmsLog", "smsLogRow", MESSAGE_FIELDS),
        (
            "beta",
            "getPstnBlockedUsersLog",
            "pstnBlockedUsersLogRow",
            BLOCK_FIELDS,
        ),
    ] {
        let path = url(version, function, "2026-11-02", "2026-11-03");
        let page = get(&simulator, &path, &token).await.json();
        assert_eq!(
            page["@odata.context"],
            format!(
                "{}/{version}/$metadata#Collection(microsoft.graph.callRecords.{row_type})",
                simulator.url()
            )
        );
        assert_eq!(keys(&page["value"][0]), sorted(fields), "{function}");
    }
    for (function, fields, more) in [
        ("getPstnCalls", CALL_FIELDS, BETA_CALL_FIELDS),
        (
            "getDirectRoutingCalls",
            DIRECT_ROUTING_FIELDS,
            BETA_DIRECT_ROUTING_FIELDS,
        ),
    ] {
        let path = url("beta", function, "2026-11-02", "2026-11-03");
        let page = get(&simulator, &path, &token).await.json();
        let all = format!("{fields} {more}");
        assert_eq!(keys(&page["value"][0]), sorted(&all), "{function}");
    }
}

#[tokio::test]
async fn what_a_company_is_told_adds_up_to_the_oracle() {
    let simulator = simulator(World::company(Scenario {
        users: 60,
        ..Scenario::default()
    }))
    .await;
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
    let total = logs.messages.expected(period.clone(), now()).total();
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
            row["successfulCall"].to_string() == key[0] && row["finalSipCode"].to_string() == key[1]
        });
        assert_eq!(these.count() as u64, amounts.rows, "{key:?}");
    }

    let blocks = served("getPstnBlockedUsersLog").await;
    let expected = logs.blocks.expected(period.clone(), now());
    assert_eq!(blocks.len() as u64, expected.total().rows);
    assert!(logs.blocks.blocked(period, now()) <= blocks.len());
}

#[test]
fn somebody_is_blocked_whose_newest_event_is_a_block() {
    let at = |user, hour, mode: &'static str| BlockEvent {
        mode: Some(mode.into()),
        ..BlockEvent::at(user, time("2026-11-01T00:00:00Z") + TimeDelta::hours(hour))
    };
    let log = Log::new(vec![
        at(1, 5, "unblocked"),
        at(1, 1, "Blocked"),
        at(2, 2, "BLOCKED"),
        at(3, 1, "Unblocked"),
        at(3, 2, "blocked"),
    ]);
    let begin = time("2026-11-01T00:00:00Z");
    for (hours, blocked) in [(2, 1), (3, 3), (6, 2)] {
        let period = begin..begin + TimeDelta::hours(hours);
        assert_eq!(log.blocked(period, now()), blocked, "{hours}");
    }
}

#[test]
fn a_million_calls_are_a_million_on_pages_and_days() {
    let company = Arc::new(Company::new(Scenario::default()));
    let month = time("2026-10-01T00:00:00Z")..time("2026-10-31T00:00:00Z");
    let logs = Logs::of_calls(&company, 1_000_000, month.clone());
    let page = |from, to, skip| log::Page {
        from,
        to,
        has_end: true,
        now: now(),
        skip,
        take: 1_000,
    };
    let (rows, has_more) = logs
        .calls
        .page(Version::V1, &page(month.start, month.end, 999_000));
    assert_eq!((rows.len(), has_more), (1_000, false));
    let (_, has_more) = logs
        .calls
        .page(Version::V1, &page(month.start, month.end, 998_999));
    assert!(has_more);
    let second = month.start + TimeDelta::days(1);
    let (first_day, _) = logs
        .calls
        .page(Version::V1, &page(month.start, second, 33_000));
    let (second_day, _) = logs
        .calls
        .page(Version::V1, &page(second, second + TimeDelta::days(1), 0));
    assert_eq!(
        first_day.last(),
        second_day.first(),
        "one lies on the boundary"
    );
    let day = logs.calls.expected(month.start..second, now()).total();
    assert_eq!(day.rows, first_day.len() as u64 - 1 + 33_000);
}

#[test]
fn made_rows_are_the_same_on_pages_of_any_size_and_arrive_within_two_days() {
    let company = Arc::new(Company::new(Scenario::default()));
    let logs = Logs::of(&company);
    let period = time("2026-11-18T22:13:14.5Z")..time("2026-11-21T09:00:00Z");
    let rows = logs.calls.rows(period.clone(), now());
    assert!(rows.len() > 2_000);
    assert!(rows.is_sorted_by_key(|row| row.start));
    for row in &rows {
        let late = row.arrival - row.start;
        assert!(TimeDelta::zero() <= late && late <= TimeDelta::hours(48));
    }
    let written: Vec<_> = rows.iter().map(|row| row.json(Version::Beta)).collect();
    for take in [1, 7, 1_000, 10_000] {
        let skips = [0, 1, 500, 1_999, rows.len() - 1, rows.len(), usize::MAX];
        for skip in skips {
            let page = log::Page {
                from: period.start,
                to: period.end,
                has_end: false,
                now: now(),
                skip,
                take,
            };
            let (page, has_more) = logs.calls.page(Version::Beta, &page);
            let begin = skip.min(rows.len());
            let end = begin.saturating_add(take).min(rows.len());
            assert_eq!(page, written[begin..end]);
            assert_eq!(has_more, end < rows.len(), "{skip} {take}");
        }
    }
    let later = logs.calls.rows(period, now() + TimeDelta::hours(48));
    assert!(later.len() > rows.len(), "some had not arrived");
}

#[test]
fn a_month_of_logs_is_believable() {
    let company = Arc::new(Company::new(Scenario::default()));
    let logs = Logs::of(&company);
    let month = time("2026-10-01T00:00:00Z")..time("2026-11-01T00:00:00Z");
    let calls = logs.calls.expected(month.clone(), now());
    let values = |label: &str| calls.by(&[label]).into_keys().flatten().collect::<Vec<_>>();
    assert_eq!(values("currency"), ["EUR", "GBP", "USD"]);
    assert_eq!(
        values("license_capability"),
        [
            "MCOFUTURE",
            "MCOMEETADD",
            "MCOPSTN1",
            "MCOPSTN2",
            "MCOPSTNPP"
        ]
    );
    assert_eq!(values("call_type").len(), 12);
    assert!(values("destination").contains(&"Côte d'Ivoire".to_owned()));
    assert!(values("user").contains(&String::new()), "bots have none");
    for (key, amounts) in calls.by(&["destination_context", "call_type"]) {
        assert_eq!(key[0].is_empty(), key[1].ends_with("_in"), "{key:?}");
        assert!(!key[1].ends_with("_in") || amounts.charge == 0);
    }
    for (currency, amounts) in calls.by(&["currency"]) {
        let units = amounts.charge / 10_000;
        assert!((100..100_000).contains(&units), "{currency:?} {units}");
        assert!(amounts.connection_charge > 0);
    }
    let failed = logs.direct_routing.expected(month.clone(), now());
    let by = failed.by(&["success"]);
    let (yes, no) = (by[&["true".to_owned()][..]], by[&["false".to_owned()][..]]);
    assert!(yes.rows > 5 * no.rows && no.rows > 100 && no.seconds == 0);
    assert!(failed.by(&["trunk"]).len() == 4);
    let messages = logs.messages.expected(month.clone(), now());
    assert_eq!(messages.by(&["direction"]).len(), 3);
    assert!(messages.total().units > 2 * messages.total().rows);
    let blocked = logs.blocks.blocked(month, now());
    assert!((10..100).contains(&blocked), "{blocked}");
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
    logs.messages
        .set(numbered().map(|(n, time)| Message::at(n, time)).collect());
    logs.blocks.set(
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

/// In ten-thousandths, from the number as JSON tells it: at most a few digits, which a float keeps.
fn money(value: &Value) -> i128 {
    let text = value.to_string();
    let (units, decimals) = text.split_once('.').unwrap();
    format!("{units}{decimals:0<4}").parse().unwrap()
}

fn keys(row: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = row
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

fn sorted(fields: &str) -> Vec<&str> {
    let mut fields: Vec<_> = fields.split_whitespace().collect();
    fields.sort_unstable();
    fields
}

fn url(version: &str, function: &str, from: &str, to: &str) -> String {
    format!("/{version}/communications/callRecords/{function}(fromDateTime={from},toDateTime={to})")
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

const CALL_FIELDS: &str = "id callId userId userPrincipalName userDisplayName startDateTime endDateTime duration charge \
    callType currency calleeNumber usageCountryCode tenantCountryCode connectionCharge callerNumber destinationContext \
    destinationName conferenceId licenseCapability inventoryType operator callDurationSource";

const BETA_CALL_FIELDS: &str = "otherPartyCountryCode clientPublicIpV4Address clientPublicIpV6Address \
    clientLocalIpV4Address clientLocalIpV6Address administrativeUnitInfos";

const DIRECT_ROUTING_FIELDS: &str = "id correlationId userId userPrincipalName userDisplayName startDateTime \
    inviteDateTime failureDateTime endDateTime duration callType successfulCall callerNumber calleeNumber \
    mediaPathLocation signalingLocation finalSipCode callEndSubReason finalSipCodePhrase trunkFullyQualifiedDomainName \
    mediaBypassEnabled";

const BETA_DIRECT_ROUTING_FIELDS: &str =
    "userCountryCode transferorCorrelationId otherPartyCountryCode administrativeUnitInfos";

const MESSAGE_FIELDS: &str = "id smsId userId userPrincipalName userDisplayName userCountryCode tenantCountryCode \
    sourceNumber destinationNumber sentDateTime callCharge currency smsType destinationContext destinationName \
    otherPartyCountryCode licenseCapability smsUnits administrativeUnitInfos";

const BLOCK_FIELDS: &str = "userId userPrincipalName userDisplayName blockDateTime userTelephoneNumber userBlockMode \
    blockReason remediationId";
