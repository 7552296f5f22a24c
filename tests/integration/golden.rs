//! Fixtures and what becomes of them, letter by letter, in both formats; and that neither the order of the rows nor the
//! split into pages changes a letter.
//!
//! `UPDATE_GOLDEN=1` writes the golden files again. Read them before you commit them.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::value::RawValue;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};

use crate::support::{Exporter, Metrics, Setup, TENANT, Time, config, promtool, request};

#[tokio::test(start_paused = true)]
async fn reports_by_golden_file() {
    for name in ["dialout_documented", "dialout_odd", "dialout_empty"] {
        let (_simulator, mut exporter, _) = Setup::of(World::Table(rows_of(name))).start().await;
        assert_eq!(exporter.first_poll().await.report("up"), "1", "{name}");
        check(name, &exporter).await;
    }
}

/// The documented page as it stands, whose link leads to Graph itself and not to where we asked; and its errors.
#[tokio::test(start_paused = true)]
async fn refusals_by_golden_file() {
    for (name, status, token) in [
        ("dialout_documented", 200, false),
        ("error-403-forbidden-empty-message", 403, false),
        ("error-429", 429, false),
        ("error-unknownerror", 500, false),
        ("token-error", 400, true),
    ] {
        let (simulator, time) = Setup::of(World::Rows { count: 1 }).simulate().await;
        let when = if token { When::token() } else { When::graph() };
        let json = fixture(name);
        simulator.push_fault(when.always(), Fault::Literal { status, json });
        let config = config(&simulator);
        let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
        assert_eq!(exporter.first_poll().await.report("up"), "0", "{name}");
        check(&format!("{name}.refused"), &exporter).await;
    }
}

/// The documented rows of the logs, and odd ones, at a time of their own period. The simulator tells all of them for every
/// day that it is asked for, so what has no time of its own is asked for on the first day only.
#[tokio::test(start_paused = true)]
async fn logs_by_golden_file() {
    use ReportKind::{BlockedUsers, CallLog, DirectRouting, Sms};
    for (report, name, now) in [
        (CallLog, "call_log_documented", "2019-11-03T12:00:00Z"),
        (CallLog, "call_log_documented_beta", "2019-11-03T12:00:00Z"),
        (CallLog, "call_log_odd", "2026-11-01T12:00:00Z"),
        (
            DirectRouting,
            "direct_routing_documented",
            "2019-11-01T12:00:00Z",
        ),
        (DirectRouting, "direct_routing_odd", "2026-11-01T12:00:00Z"),
        (Sms, "sms_documented", "2022-10-08T12:00:00Z"),
        (Sms, "sms_odd", "2026-11-01T12:00:00Z"),
        (
            BlockedUsers,
            "blocked_users_documented",
            "2022-11-24T12:00:00Z",
        ),
        (BlockedUsers, "blocked_users_odd", "2026-11-21T12:00:00Z"),
    ] {
        let (simulator, time) = simulate_at(now).await;
        set_texts(&simulator, report, &texts_of(name));
        assert_eq!(up(name, report, &simulator, &time).await, "1", "{name}");
    }
}

/// A call that has a currency and no charge; the documented page whose link leads to Graph itself; and the example of the
/// documentation that is no JSON, as it stands there.
#[tokio::test(start_paused = true)]
async fn refused_logs_by_golden_file() {
    let (simulator, time) = simulate_at("2026-11-01T12:00:00Z").await;
    let name = "call_log_without_charge";
    set_texts(&simulator, ReportKind::CallLog, &texts_of(name));
    let refused = format!("{name}.refused");
    assert_eq!(
        up(&refused, ReportKind::CallLog, &simulator, &time).await,
        "0"
    );
    for (report, name, now) in [
        (
            ReportKind::CallLog,
            "call_log_documented",
            "2019-11-01T12:00:00Z",
        ),
        (
            ReportKind::BlockedUsers,
            "blocked_users_verbatim",
            "2022-11-24T12:00:00Z",
        ),
    ] {
        let (simulator, time) = simulate_at(now).await;
        let json = fixture(name);
        simulator.push_fault(When::graph().always(), Fault::Literal { status: 200, json });
        let refused = format!("{name}.refused");
        assert_eq!(up(&refused, report, &simulator, &time).await, "0", "{name}");
    }
}

#[test]
fn every_report_has_a_golden_file() {
    for report in ReportKind::ALL {
        let name = format!("tests/golden/{report}_documented.text.prom");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        assert!(path.exists(), "{}", path.display());
    }
}

async fn simulate_at(now: &'static str) -> (Simulator, Time) {
    let setup = Setup {
        now,
        ..Setup::of(World::Rows { count: 0 })
    };
    setup.simulate().await
}

/// Sets the rows of a log to these texts.
fn set_texts(simulator: &Simulator, report: ReportKind, texts: &[String]) {
    let (logs, texts) = (simulator.logs(TENANT), texts.iter().cloned());
    match report {
        ReportKind::Dialout => unreachable!("it is no log"),
        ReportKind::CallLog => logs.calls.set_texts(texts),
        ReportKind::DirectRouting => logs.direct_routing.set_texts(texts),
        ReportKind::Sms => logs.sms.set_texts(texts),
        ReportKind::BlockedUsers => logs.blocked_users.set_texts(texts),
    }
}

/// Polls one report, holds what is said then against its golden file, and tells whether the poll succeeded.
async fn up(name: &str, report: ReportKind, simulator: &Simulator, time: &Time) -> String {
    let mut config = config(simulator);
    config.reports = vec![report.into()];
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), time);
    let metrics = exporter.first_poll().await;
    check(name, &exporter).await;
    let sample = format!("teams_pstn_report_up{{report=\"{report}\"}}");
    metrics.value(&sample).to_owned()
}

#[test]
fn any_order_and_any_pages_give_the_same_exposition() {
    // The same person may come under several names, and several persons under one.
    let user = (0..4_u8, 0..6_u8);
    let name = prop_oneof![
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        (0..4_u8).prop_map(|name| format!("\"u{name}@contoso.com\"")),
    ];
    let word = |words: &'static [&'static str]| prop::sample::select(words);
    let row = (
        user,
        name,
        word(&["\"US\"", "\"us\"", "\"DE\"", "null"]),
        word(&["\"Domestic\"", "\"International\"", "null"]),
        word(&["\"USD\"", "\"EUR\"", "\"\""]),
        word(&[
            "0.1",
            "0.2",
            "-0.3",
            "\"12.83\"",
            "1e3",
            "0.0000001",
            "99999999.99",
        ]),
    )
        .prop_map(|((id, calls), name, location, context, currency, charge)| {
            format!(
                "{{\"userId\":\"{id}\",\"userPrincipalName\":{name},\"usageLocation\":{location},\
                 \"destinationContext\":{context},\"currency\":{currency},\"totalCalls\":{calls},\
                 \"totalCallCharge\":{charge},\"totalCallSeconds\":{}}}",
                u32::from(calls) * 7
            )
        });
    let rows = prop::collection::vec(row, 1..30);
    let shuffled = rows.prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle()));
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(60)
    });
    let cases = (shuffled, 1..31_usize);
    runner
        .run(&cases, |((rows, shuffled), page_size)| {
            let expected = exposition(rows, 1_000);
            prop_assert_eq!(exposition(shuffled, page_size), expected);
            Ok(())
        })
        .unwrap();
}

/// The report families of these rows, in pages of this size.
fn exposition(rows: Vec<String>, page_size: usize) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let pages = rows.len().div_ceil(page_size);
        let setup = Setup {
            page_size,
            ..Setup::of(World::Table(Table::new(rows)))
        };
        let (_simulator, mut exporter, _) = setup.start().await;
        let metrics = exporter.first_poll().await;
        assert_eq!(metrics.report("up"), "1");
        assert_eq!(metrics.report("pages"), pages.to_string());
        metrics.of_report()
    })
}

async fn check(name: &str, exporter: &Exporter) {
    for (format, accept) in [
        ("text", "text/plain"),
        ("openmetrics", "application/openmetrics-text;version=1.0.0"),
    ] {
        let answer = request(
            exporter.address,
            "GET",
            "/metrics",
            &format!("Accept: {accept}\r\n"),
        )
        .await;
        let found = Metrics(answer.body).families(STEADY);
        let path = folder("golden").join(format!("{name}.{format}.prom"));
        if format == "text" {
            promtool(&found);
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == golden,
            "{} differs; UPDATE_GOLDEN=1 updates it. Found:\n{found}",
            path.display()
        );
    }
}

/// The rows of a fixture, letter by letter.
fn rows_of(name: &str) -> Table {
    Table::new(texts_of(name))
}

fn texts_of(name: &str) -> Vec<String> {
    #[derive(Deserialize)]
    struct Page {
        value: Vec<Box<RawValue>>,
    }
    let page: Page = serde_json::from_str(&fixture(name)).unwrap();
    page.value.iter().map(|row| row.get().to_owned()).collect()
}

fn fixture(name: &str) -> String {
    fs::read_to_string(folder("fixtures").join(format!("{name}.json"))).unwrap()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// The families that do not depend on the time of day, the machine or the build.
const STEADY: &[&str] = &[
    "teams_pstn_dialout_",
    "teams_pstn_call_log_",
    "teams_pstn_direct_routing_",
    "teams_pstn_sms_",
    "teams_pstn_blocked_users",
    "teams_pstn_billing_period_",
    "teams_pstn_report_up",
    "teams_pstn_report_rows",
    "teams_pstn_report_pages",
    "teams_pstn_report_aggregated_series",
    "teams_pstn_report_final_windows",
    "teams_pstn_report_unplaced_rows",
    "teams_pstn_report_newest_row_timestamp_seconds",
    "teams_pstn_report_polls",
    "teams_pstn_report_failures",
    "teams_pstn_graph_",
    "teams_pstn_exposition_",
];
