//! Fixtures and what becomes of them, letter by letter, in both formats; and that neither the order of the rows nor the
//! split into pages changes a letter.
//!
//! `UPDATE_GOLDEN=1` writes the golden files anew, to be read before they are committed.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Deserialize;
use serde_json::value::RawValue;
use teams_pstn_exporter::simulator::faults::{Fault, When};
use teams_pstn_exporter::simulator::world::{Table, World};

use crate::harness::{Exporter, Metrics, Setup, request};
use crate::tools::promtool;

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
        let config = crate::harness::config(&simulator);
        let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
        assert_eq!(exporter.first_poll().await.report("up"), "0", "{name}");
        check(&format!("{name}.refused"), &exporter).await;
    }
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
        let answer = request(exporter.address, "GET", "/metrics", &[("Accept", accept)]).await;
        let found = Metrics(answer.body).families(STEADY);
        let path = folder("golden").join(format!("{name}.{format}.prom"));
        if format == "text" {
            let said = promtool(&found);
            assert!(said.is_none_or(|said| said.is_empty()), "{name}");
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &found).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == golden,
            "{} differs; UPDATE_GOLDEN=1 writes it anew. Found:\n{found}",
            path.display()
        );
    }
}

/// The rows of a fixture, letter by letter.
fn rows_of(name: &str) -> Table {
    #[derive(Deserialize)]
    struct Page {
        value: Vec<Box<RawValue>>,
    }
    let page: Page = serde_json::from_str(&fixture(name)).unwrap();
    Table::new(page.value.iter().map(|row| row.get()))
}

fn fixture(name: &str) -> String {
    fs::read_to_string(folder("fixtures").join(format!("{name}.json"))).unwrap()
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// The families that tell no time of day, nothing of the machine and nothing of the build.
const STEADY: &[&str] = &[
    "teams_pstn_dialout_",
    "teams_pstn_billing_period_",
    "teams_pstn_report_up",
    "teams_pstn_report_rows",
    "teams_pstn_report_pages",
    "teams_pstn_report_folded_series",
    "teams_pstn_report_polls",
    "teams_pstn_report_failures",
    "teams_pstn_graph_",
    "teams_pstn_exposition_",
];
