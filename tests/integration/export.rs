//! `export` over HTTP: every table is what the simulator's own rows add up to, and the totals are those of the metrics.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::process::Stdio;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::config::args::{Args, Command};
use teams_pstn_exporter::export;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::department::Departments;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::address::Version;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::log::{Log, LogRow, Logs};
use teams_pstn_simulator::sums::{Amounts, Sums};
use teams_pstn_simulator::world::{Table, World};

use crate::logs::company;
use crate::oracle::{at, calm, november};
use crate::support::{Exporter, Folder, Metrics, NOW, Setup, TENANT, Time, config, row, tool};

/// A simulator of a company with several pages a day, its logs, and a configuration with users' ids.
pub(crate) async fn simulate() -> (Simulator, Time, Logs, Config) {
    let setup = Setup {
        page_size: 60,
        ..Setup::of(company(1))
    };
    let (simulator, time) = setup.simulate().await;
    let logs = calm(&simulator, TENANT, &[at(NOW)]);
    let mut config = config(&simulator);
    config.labels.user = UserLabel::Id;
    (simulator, time, logs, config)
}

/// Runs `export` with these flags. Returns the file that it has written.
pub(crate) async fn export(config: &Config, time: &Time, flags: &[&str]) -> Result<String, String> {
    let folder = Folder::new();
    let file = folder.path("table");
    let output = format!("--output={}", file.display());
    let words = ["x", "export", &output];
    let words = words.into_iter().chain(flags.iter().copied());
    let Some(Command::Export(args)) = Args::from_words(words).unwrap().command else {
        panic!("another command");
    };
    let outcome = export::run(config, &args, &time.clock(), Box::new(io::empty())).await;
    let left = fs::read_dir(folder.path("")).unwrap().count();
    assert_eq!(left, usize::from(outcome.is_ok()), "the table, or nothing");
    outcome.map_err(|error| error.to_string())?;
    Ok(fs::read_to_string(file).unwrap())
}

async fn lines(config: &Config, time: &Time, flags: &[&str]) -> Vec<Map<String, Value>> {
    let flags: Vec<&str> = flags.iter().copied().chain(["--format=jsonl"]).collect();
    let table = export(config, time, &flags).await.unwrap();
    table
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The sums of rows as a table.
fn table(sums: &Sums, by: &[&str], figures: &[Figure]) -> String {
    let mut names: Vec<&str> = by.to_vec();
    names.extend(figures.iter().map(|(name, ..)| *name));
    let mut lines: BTreeMap<Vec<String>, Vec<Decimal>> = BTreeMap::new();
    for (values, amounts) in sums.by(by) {
        let known = |value: String| match value.as_str() {
            "" => "unknown".to_owned(),
            _ => value,
        };
        let sum = lines.entry(values.into_iter().map(known).collect());
        let sum = sum.or_insert_with(|| vec![Decimal::ZERO; figures.len()]);
        for (sum, (_, figure, scale)) in sum.iter_mut().zip(figures) {
            *sum += Decimal::from_i128_with_scale(figure(&amounts), *scale);
        }
    }
    let mut table = names.join(",") + "\r\n";
    for (key, figures) in lines {
        let figures = figures.iter().map(|sum| sum.normalize().to_string());
        let fields: Vec<String> = key.into_iter().chain(figures).collect();
        table += &(fields.join(",") + "\r\n");
    }
    table
}

/// The name of a column, the figure of the simulator, and its decimals.
type Figure = (&'static str, fn(&Amounts) -> i128, u32);

const CALLS: &[Figure] = &[
    ("charge", |sum| sum.charge, 4),
    ("connection_charge", |sum| sum.connection_charge, 4),
    ("calls", |sum| sum.rows.into(), 0),
    ("call_seconds", |sum| sum.seconds.into(), 0),
];

const ROUTED: &[Figure] = &[
    ("calls", |sum| sum.rows.into(), 0),
    ("failed_calls", |sum| sum.failed.into(), 0),
    ("call_seconds", |sum| sum.seconds.into(), 0),
];

const SMS: &[Figure] = &[
    ("charge", |sum| sum.charge, 4),
    ("messages", |sum| sum.rows.into(), 0),
    ("units", |sum| sum.units.into(), 0),
];

#[tokio::test]
async fn sums_are_those_of_the_rows_for_any_span() {
    let (simulator, time, logs, config) = simulate().await;
    disturb(&simulator, &logs);
    let mut fifteenth = config.clone();
    fifteenth.billing.cycle_day = 15_u64.try_into().unwrap();
    let october = at("2026-10-01T00:00:00Z")..november().start;
    let year = at("2026-08-20T00:00:00Z")..at("2026-11-27T00:00:00Z");
    let middle = at("2026-10-15T00:00:00Z")..at("2026-11-15T00:00:00Z");
    let long = ["--from=2026-08-20", "--to=2026-11-27"];
    for (config, span, flags, reports) in [
        (&config, november(), &["--period=2026-11"][..], &REPORTS[..]),
        (
            &config,
            october,
            &["--period=2026-10", "--require-final"],
            &["sms"],
        ),
        (&config, year, &long, &["sms", "dialout"]),
        (&fifteenth, middle, &["--period=2026-10"], &["call_log"]),
    ] {
        let flags = |more: &[&'static str]| [flags, more].concat();
        let calls = logs.calls.expected(span.clone(), at(NOW));
        let routed = logs.direct_routing.expected(span.clone(), at(NOW));
        let sms = logs.sms.expected(span.clone(), at(NOW));
        for (report, more, expected) in [
            (
                "call_log",
                &["--report=call_log", "--by=user"][..],
                table(&calls, &["user", "currency"], CALLS),
            ),
            (
                "call_log",
                &["--report=call_log", "--by=destination"],
                table(&calls, &["destination", "currency"], CALLS),
            ),
            (
                "direct_routing",
                &["--report=direct_routing", "--by=user"],
                table(&routed, &["user"], ROUTED),
            ),
            (
                "sms",
                &["--report=sms", "--by=user"],
                table(&sms, &["user", "currency"], SMS),
            ),
            (
                "sms",
                &["--report=sms", "--by=destination"],
                table(&sms, &["destination_context", "currency"], SMS),
            ),
        ] {
            if reports.contains(&report) {
                let found = export(config, &time, &flags(more)).await.unwrap();
                assert!(found.lines().count() > 3, "{found}");
                assert_eq!(found, expected, "{:?}", flags(more));
            }
        }
        if reports.contains(&"dialout") {
            let dialout = flags(&["--report=dialout", "--by=user"]);
            let found = lines(config, &time, &dialout).await;
            assert_eq!(
                figures(&found, "user"),
                conferences(&logs, span),
                "{dialout:?}"
            );
        }
    }
}

/// The reports that have sums.
const REPORTS: [&str; 4] = ["call_log", "direct_routing", "sms", "dialout"];

/// Pages of the next exports overlap, and one breaks off after its first row and is requested again.
fn disturb(simulator: &Simulator, logs: &Logs) {
    simulator.push_fault(When::page(2).times(20), Fault::RepeatRows(3));
    simulator.push_fault(When::page(3).times(20), Fault::RepeatRows(60));
    let rows = logs.calls.rows(november(), at(NOW));
    let json = format!("{{\"value\":[{}", rows[0].json(Version::V1));
    let first = When::page(1).asking("getPstnCalls(fromDateTime=2026-11-01T");
    simulator.push_fault(first, Fault::Literal { status: 200, json });
}

/// Charge, calls and seconds by one key and the currency.
fn figures(lines: &[Map<String, Value>], key: &str) -> BTreeMap<[String; 2], [Decimal; 3]> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let key = [key, "currency"].map(|key| line[key].as_str().unwrap().to_owned());
        let figures = ["charge", "calls", "call_seconds"]
            .map(|name| line[name].to_string().parse::<Decimal>().unwrap());
        let old = sums.insert(key, figures);
        assert_eq!(old, None, "one line per key: {line:?}");
    }
    sums
}

/// The dial-out report of a company is the sum of these calls.
fn conferences(logs: &Logs, span: Range<DateTime<Utc>>) -> BTreeMap<[String; 2], [Decimal; 3]> {
    let sums = logs
        .calls
        .expected(span, at(NOW))
        .by(&["call_type", "user", "currency"]);
    sums.into_iter()
        .filter(|(key, _)| key[0] == "conf_out" && !key[1].is_empty())
        .map(|(key, sum)| {
            let charge = Decimal::from_i128_with_scale(sum.charge, 4);
            let figures = [charge, sum.rows.into(), sum.seconds.into()];
            ([key[1].clone(), key[2].clone()], figures)
        })
        .collect()
}

#[tokio::test]
async fn rows_have_the_properties_of_graph() {
    let (simulator, time, logs, config) = simulate().await;
    disturb(&simulator, &logs);
    for (report, rows) in [
        ("call_log", json(&logs.calls, Version::V1)),
        ("direct_routing", json(&logs.direct_routing, Version::Beta)),
        ("sms", json(&logs.sms, Version::Beta)),
        ("blocked_users", json(&logs.blocked_users, Version::Beta)),
    ] {
        let report = format!("--report={report}");
        let mut found = lines(&config, &time, &[&report, "--period=2026-11"]).await;
        let columns: Vec<String> = found[0].keys().cloned().collect();
        let mut expected: Vec<Map<String, Value>> =
            rows.iter().map(|row| as_exported(row, &columns)).collect();
        for lines in [&mut found, &mut expected] {
            lines.iter_mut().flat_map(Map::values_mut).for_each(plain);
            lines.sort_by_key(|line| serde_json::to_string(line).unwrap());
        }
        assert!(found.len() >= 2, "{report}");
        assert_eq!(found.len(), expected.len(), "{report}");
        assert_eq!(found, expected, "{report}");
    }
}

fn json<R: LogRow>(log: &Log<R>, version: Version) -> Vec<String> {
    let rows = log.rows(november(), at(NOW));
    rows.iter().map(|row| row.json(version)).collect()
}

/// A row of Graph's with these names of properties, and the user's id for the three names of the user.
fn as_exported(row: &str, columns: &[String]) -> Map<String, Value> {
    let row: Map<String, Value> = serde_json::from_str(row).unwrap();
    let mut line = Map::new();
    for (name, value) in row {
        let mut snake = String::new();
        for c in name.chars() {
            if c.is_ascii_uppercase() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        }
        match snake.as_str() {
            "user_id" => {
                let id = value.as_str().unwrap_or("unknown").to_owned();
                line.insert("user".to_owned(), id.into());
            }
            "user_principal_name" | "user_display_name" | "administrative_unit_infos" => {}
            _ => {
                line.insert(snake, value);
            }
        }
    }
    for column in columns {
        let no_user = if column == "user" {
            "unknown".into()
        } else {
            Value::Null
        };
        line.entry(column.clone()).or_insert(no_user);
    }
    line
}

/// 0.00 and 0 are the same number.
fn plain(value: &mut Value) {
    if let Value::Number(number) = value {
        let number: Decimal = number.to_string().parse().unwrap();
        *value = Value::String(format!("number {}", number.normalize()));
    }
}

#[tokio::test]
async fn totals_are_those_of_the_metrics_of_the_same_moment() {
    let (_simulator, time, _, mut config) = simulate().await;
    config.reports = crate::support::reports(ReportKind::ALL);
    let served = config.clone();
    let mut exporter = Exporter::start_with(Box::new(move || Ok(served.clone())), &time, true);
    let metrics = exporter
        .scrape_when(|metrics| {
            ["dialout_", "call_log_", "sms_", "direct_routing_"]
                .iter()
                .all(|report| {
                    let counted = ["calls", "messages"].map(|figure| {
                        [
                            format!("{report}{figure}"),
                            format!("{report}previous_{figure}"),
                        ]
                    });
                    let is_served = |family: &String| {
                        !metrics.samples(&format!("teams_pstn_{family}")).is_empty()
                    };
                    counted
                        .iter()
                        .any(|families| families.iter().all(is_served))
                })
        })
        .await;
    for (report, by, figures, keys) in [
        (
            "dialout",
            "destination",
            &["charge", "calls", "call_seconds"][..],
            &["destination_context", "currency"][..],
        ),
        (
            "call_log",
            "destination",
            &["charge", "connection_charge", "calls", "call_seconds"],
            &["destination", "currency"],
        ),
        (
            "sms",
            "destination",
            &["charge", "messages", "units"],
            &["destination_context", "currency"],
        ),
        (
            "direct_routing",
            "user",
            &["calls", "failed_calls", "call_seconds"],
            &[],
        ),
    ] {
        for (period, family) in [
            ("--period=2026-11", format!("teams_pstn_{report}_")),
            ("--period=2026-10", format!("teams_pstn_{report}_previous_")),
        ] {
            let [report, by] = [format!("--report={report}"), format!("--by={by}")];
            let table = lines(&config, &time, &[&report, period, &by]).await;
            for figure in figures {
                let name = format!("{family}{figure}");
                let mut found = BTreeMap::<Vec<String>, Decimal>::new();
                for line in &table {
                    let key = keys
                        .iter()
                        .map(|key| line[*key].as_str().unwrap().to_owned());
                    let figure: Decimal = line[*figure].to_string().parse().unwrap();
                    *found.entry(key.collect()).or_default() += figure;
                }
                assert!(found.len() > 3 || keys.is_empty(), "{name}");
                assert_eq!(found, totals(&metrics, &name, keys), "{name}");
            }
        }
    }
}

fn totals(metrics: &Metrics, family: &str, keys: &[&str]) -> BTreeMap<Vec<String>, Decimal> {
    let mut totals = BTreeMap::new();
    for sample in metrics.samples(family) {
        let key = keys.iter().map(|label| sample.label(label).to_owned());
        *totals.entry(key.collect()).or_default() += sample.value.parse::<Decimal>().unwrap();
    }
    totals
}

/// Start, destinations, charge and calls.
type Meeting = (DateTime<Utc>, Vec<String>, Decimal, u32);

#[tokio::test]
async fn meetings_are_summed_by_conference_organizer_and_day() {
    let (_simulator, time, logs, config) = simulate().await;
    let mut expected: BTreeMap<[String; 4], Meeting> = BTreeMap::new();
    let text = |text: &Option<std::borrow::Cow<'static, str>>| {
        text.as_deref().unwrap_or("unknown").to_owned()
    };
    let mut rows: Vec<Call> = logs.calls.rows(november(), at(NOW));
    // Several calls of one meeting.
    for call in &mut rows {
        let (high, _) = call.id.as_u64_pair();
        call.id = uuid::Uuid::from_u64_pair(high % 97, call.id.as_u64_pair().1);
    }
    logs.calls.set(rows.clone());
    for call in rows {
        let call_type = text(&call.call_type);
        if !call_type.starts_with("conf_") {
            continue;
        }
        let key = [
            call.start.format("%Y-%m-%d").to_string(),
            call.id.as_u64_pair().0.to_string(),
            call.user
                .as_ref()
                .map_or("unknown".to_owned(), |user| user.id.to_string()),
            text(&call.currency),
        ];
        let sum = expected
            .entry(key)
            .or_insert((call.start, Vec::new(), Decimal::ZERO, 0));
        sum.0 = sum.0.min(call.start);
        sum.1.push(text(&call.destination));
        sum.2 += Decimal::new(call.charge.map_or(0, |charge| charge.0), 4);
        sum.3 += 1;
    }
    let flags = ["--report=call_log", "--by=meeting", "--period=2026-11"];
    let found = lines(&config, &time, &flags).await;
    assert!(expected.values().any(|(.., calls)| *calls > 1));
    assert_eq!(found.len(), expected.len());
    for (line, (key, (start, mut destinations, charge, calls))) in found.iter().zip(expected) {
        let names = ["day", "conference_id", "user", "currency"];
        assert_eq!(
            names.map(|name| line[name].as_str().unwrap()),
            key.each_ref().map(|it| &**it)
        );
        destinations.sort();
        destinations.dedup();
        assert_eq!(line["destinations"], destinations.join("; "));
        assert_eq!(at(line["start"].as_str().unwrap()), start);
        assert_eq!(line["charge"].to_string(), charge.normalize().to_string());
        assert_eq!(line["calls"], calls);
    }
}

#[tokio::test]
async fn people_and_numbers_appear_as_the_settings_say() {
    let (_simulator, time, _, mut config) = simulate().await;
    let flags = ["--report=call_log", "--from=2026-11-02", "--to=2026-11-04"];
    let header = |table: &str| table.lines().next().unwrap().to_owned();
    let table = export(&config, &time, &flags).await.unwrap();
    assert!(
        header(&table).starts_with("id,call_id,user,start_date_time,"),
        "{table}"
    );
    assert!(
        table.contains("callee_number") && table.contains(",+1"),
        "{table}"
    );
    assert!(!table.contains("contoso.com"), "names of ids");
    let private = [&flags[..], &["--no-numbers"]].concat();
    config.labels.user = UserLabel::None;
    let table = export(&config, &time, &private).await.unwrap();
    assert!(
        header(&table).starts_with("id,call_id,start_date_time,"),
        "{table}"
    );
    assert!(
        !table.contains("_number") && !table.contains(",+1"),
        "{table}"
    );
    let by_user = [&flags[..], &["--by=user"]].concat();
    let refused = export(&config, &time, &by_user).await.unwrap_err();
    assert!(refused.contains("so users are not named"), "{refused}");
}

#[tokio::test]
async fn flags_that_do_not_fit_are_refused_with_what_fits() {
    let (_simulator, time, _, mut config) = simulate().await;
    let mut second = config.tenants[0].clone();
    second.name = Some("second".into());
    config.tenants[0].name = Some("first".into());
    let alone = config.clone();
    config.tenants.push(second);
    for (config, flags, expected) in [
        (
            &config,
            &["--report=sms", "--period=2026-11"][..],
            "--tenant with one of these: first, second",
        ),
        (
            &config,
            &["--report=sms", "--period=2026-11", "--tenant=third"],
            "first, second",
        ),
        (
            &alone,
            &["--report=sms", "--period=2026-11", "--by=meeting"],
            "sms has no meeting; give --by with one of these: row, user, department, destination",
        ),
        (
            &alone,
            &["--report=blocked_users", "--period=2026-11", "--by=user"],
            "one of these: row",
        ),
        (
            &alone,
            &[
                "--report=direct_routing",
                "--period=2026-11",
                "--by=destination",
            ],
            "one of these: row, user, department",
        ),
        (
            &alone,
            &["--report=sms", "--period=2026-12"],
            "2026-12 has not begun",
        ),
        (
            &alone,
            &["--report=sms", "--from=2026-11-02", "--to=2026-11-02"],
            "the time span is empty",
        ),
        (
            &alone,
            &["--report=sms", "--period=2026-11", "--require-final"],
            "the figures of 2026-11 may change until 2026-12-04T06:00:00Z",
        ),
    ] {
        let refused = export(config, &time, flags).await.unwrap_err();
        assert!(refused.contains(expected), "{refused}");
    }
    let chosen = [
        "--report=sms",
        "--period=2026-10",
        "--tenant=second",
        "--by=user",
    ];
    assert!(
        export(&config, &time, &chosen)
            .await
            .unwrap()
            .lines()
            .count()
            > 3
    );
}

#[tokio::test]
async fn departments_add_up_the_users_of_the_file() {
    let (_simulator, time, logs, mut config) = simulate().await;
    let department = |user: &str| match user.bytes().last().map_or(2, |byte| byte % 3) {
        0 => "Ops",
        1 => "Sales",
        _ => "unmapped",
    };
    let mut file = "user,department\n".to_owned();
    let mut expected: BTreeMap<[String; 2], [Decimal; 3]> = BTreeMap::new();
    let sums = logs.calls.expected(november(), at(NOW));
    for (user, _) in sums.by(&["user"]) {
        if !["", "unmapped"].contains(&department(&user[0])) && !user[0].is_empty() {
            file.extend([&*user[0], ",", department(&user[0]), "\n"]);
        }
    }
    for (key, sum) in sums.by(&["user", "currency"]) {
        let currency = if key[1].is_empty() {
            "unknown"
        } else {
            &key[1]
        };
        let line = expected
            .entry([department(&key[0]), currency].map(str::to_owned))
            .or_default();
        let charge = Decimal::from_i128_with_scale(sum.charge, 4);
        for (total, more) in line
            .iter_mut()
            .zip([charge, sum.rows.into(), sum.seconds.into()])
        {
            *total += more;
        }
    }
    let flags = ["--report=call_log", "--period=2026-11", "--by=department"];
    let refused = export(&config, &time, &flags).await.unwrap_err();
    assert!(refused.contains("set departments.file"), "{refused}");
    config.departments = Some(Departments::parse(file.as_bytes()).unwrap().into());
    // Departments do not depend on the users' labels.
    config.labels.user = UserLabel::None;
    let found = lines(&config, &time, &flags).await;
    assert!(expected.len() > 6, "{expected:?}");
    assert_eq!(figures(&found, "department"), expected);
}

/// Its own clock may be ahead, so Graph's decides too.
#[tokio::test]
async fn a_period_that_graph_is_still_in_is_not_final() {
    let (_simulator, time, _, config) = simulate().await;
    let later = Time::at("2026-12-10T00:00:00Z");
    let flags = ["--report=sms", "--period=2026-11", "--require-final"];
    let refused = export(&config, &later, &flags).await.unwrap_err();
    assert!(refused.contains("may change until"), "{refused}");
    drop(time);
}

#[tokio::test]
async fn python_reads_hostile_names_and_exact_amounts_back() {
    let Some(python) = tool("python3") else {
        return;
    };
    let names = HOSTILE.iter().enumerate();
    let rows = names.map(|(index, name)| {
        let name = serde_json::to_string(name).unwrap();
        let charge = format!("{index}.{}", "1234567890".repeat(2));
        row("ann", &charge).replace(
            "\"userPrincipalName\":\"ann@contoso.com\"",
            &format!("\"userPrincipalName\":{name}"),
        )
    });
    let world = World::Table(Table::new(rows));
    let (simulator, time) = Setup::of(world).simulate().await;
    let config = config(&simulator);
    for by in ["--by=row", "--by=user"] {
        let flags = ["--report=dialout", "--period=2026-11", by];
        let csv = export(&config, &time, &flags).await.unwrap();
        let json = [&flags[..], &["--format=jsonl"]].concat();
        let json = export(&config, &time, &json).await.unwrap();
        let folder = Folder::new();
        let (csv, json) = (folder.write("csv", csv), folder.write("json", json));
        let checked = std::process::Command::new(&python)
            .args(["-c", PYTHON])
            .args([csv, json])
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(checked.stderr).unwrap();
        assert!(checked.status.success(), "{by}: {said}");
    }
}

const HOSTILE: [&str; 12] = [
    "=1+1",
    "=HYPERLINK(\"http://example.com\",\"x\")",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "=cmd|'/c calc'!A1",
    "a\"b,c;d",
    "'=1",
    "=\u{4e2d}+1",
    "-@x",
    "+",
    "O'Hara, \"Bo\"",
];

/// A table in both formats has the same fields, apart from the apostrophe before a formula, and no field is a formula.
const PYTHON: &str = r#"
import csv, json, sys
from decimal import Decimal
table = list(csv.DictReader(open(sys.argv[1], newline=""), strict=True))
lines = [json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in open(sys.argv[2])]
assert len(table) == len(lines) == 12, (len(table), len(lines))
for row, line in zip(table, lines):
    assert list(row) == list(line), (row, line)
    for name, value in line.items():
        found = row[name]
        if isinstance(value, Decimal):
            assert Decimal(found) == value and len(str(value)) < 30, (found, value)
        elif value[0] in "=+-@":
            assert found == "'" + value, (found, value)
        else:
            assert found == value, (found, value)
total = sum(line.get("charge", line.get("total_call_charge")) for line in lines)
assert total == sum(range(12)) + 12 * Decimal("0.12345678901234567890"), total
"#;

#[tokio::test]
async fn aggregated_rows_of_a_long_span_are_of_several_queries() {
    let world = World::Table(Table::new([
        row("ann", "0.10"),
        row("bo", "2"),
        row("bo", "2"),
    ]));
    let (simulator, time) = Setup::of(world).simulate().await;
    let config = config(&simulator);
    let flags = ["--report=dialout", "--from=2026-05-25", "--to=2026-11-21"];
    let table = export(&config, &time, &flags).await.unwrap();
    assert_eq!(table.lines().count(), 1 + 2 * 2, "{table}");
    let by_user = [&flags[..], &["--by=user"]].concat();
    let table = export(&config, &time, &by_user).await.unwrap();
    let expected = "user,currency,charge,calls,call_seconds\r\n\
                    ann@contoso.com,USD,0.2,2,120\r\nbo@contoso.com,USD,4,2,120\r\n";
    assert_eq!(table, expected);
    simulator.stop().await;
}

#[tokio::test]
async fn sums_do_not_depend_on_the_order_of_rows_or_on_pages() {
    let rows: Vec<String> = (0..100)
        .map(|number| {
            row(
                &format!("user{}", number % 7),
                &format!("{number}.{number:02}7"),
            )
        })
        .collect();
    let mut tables = Vec::new();
    for (page_size, step) in [(1_000, 1), (60, 37), (7, 99)] {
        let shuffled = (0..rows.len()).map(|place| rows[place * step % rows.len()].clone());
        let setup = Setup {
            page_size,
            ..Setup::of(World::Table(Table::new(shuffled)))
        };
        let (simulator, time) = setup.simulate().await;
        let config = config(&simulator);
        for by in ["--by=user", "--by=destination"] {
            let flags = ["--report=dialout", "--period=2026-11", by];
            tables.push(export(&config, &time, &flags).await.unwrap());
        }
    }
    assert_eq!(tables[0].lines().count(), 1 + 7, "{}", tables[0]);
    assert_eq!(tables[..2], tables[2..4]);
    assert_eq!(tables[..2], tables[4..]);
}

/// Rows that a service returns for windows far from their time count for none of those.
#[tokio::test]
async fn a_row_that_every_window_returns_counts_once() {
    let (simulator, time, logs, config) = simulate().await;
    let rows = logs.calls.rows(november(), at(NOW));
    let rows = &rows[..50];
    logs.calls
        .set_texts(rows.iter().map(|row| row.json(Version::V1)));
    let flags = ["--report=call_log", "--period=2026-11"];
    let table = export(&config, &time, &flags).await.unwrap();
    assert_eq!(table.lines().count(), 1 + 50);
    simulator.stop().await;
}

#[tokio::test]
async fn an_empty_table_has_a_header() {
    let (simulator, time) = Setup::of(World::Table(Table::default())).simulate().await;
    let config = config(&simulator);
    let flags = ["--report=sms", "--period=2026-10", "--by=user"];
    let table = export(&config, &time, &flags).await.unwrap();
    assert_eq!(table, "user,currency,charge,messages,units\r\n");
    simulator.stop().await;
}
