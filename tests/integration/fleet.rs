//! Many tenants in one exporter, and what is seen of the people in them.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use teams_pstn_exporter::period::Clock;
use teams_pstn_exporter::snapshot::State;
use teams_pstn_simulator as simulator;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::World;
use tokio::time::Instant;

use crate::support::{
    ANY_PORT, CLIENT, Exporter, Folder, NAMES, Program, SECRET, Sample, people, run, simulator,
    tenant,
};

/// The ways to fail, each with the reason that the exporter reports.
fn faults() -> Vec<(When, Fault, &'static str)> {
    let row = r#"{"userId":"x","totalCalls":1,"totalCallSeconds":1}"#;
    vec![
        (When::token(), Fault::TokenError(7_000_215), "auth"),
        (When::graph(), Fault::ExpireToken, "auth"),
        (When::graph(), Fault::EmptyForbidden, "forbidden"),
        (When::graph(), Fault::throttle("5"), "throttled"),
        (When::token(), Fault::StallHead, "timeout"),
        (When::graph(), Fault::StallBody, "timeout"),
        (When::graph(), Fault::RefuseConnection, "connect"),
        (When::graph(), Fault::status(404), "status"),
        (
            When::graph(),
            Fault::BadRow {
                at: 0,
                json: row.to_owned(),
            },
            "malformed",
        ),
        (When::graph(), Fault::GzipBomb(40 << 20), "limit"),
    ]
}

fn id(number: usize) -> String {
    format!("00000000-0000-0000-0000-{number:012}")
}

/// The configuration of tenants t0, t1, …
fn tenants(folder: &Folder, url: &str, count: usize, poll: &str) -> std::path::PathBuf {
    folder.write("secret", SECRET);
    let mut text = format!("poll: {poll}\ntenants:\n");
    for number in 0..count {
        let id = id(number);
        writeln!(text, "  - {{name: t{number}, tenant_id: {id}, client_id: {CLIENT}, client_secret_file: secret, graph_url: \"{url}\", authority_url: \"{url}\"}}").unwrap();
    }
    folder.write("config.yml", text)
}

fn number(state: &State) -> usize {
    state.tenant.as_deref().unwrap()[1..].parse().unwrap()
}

/// A decimal of the exposition in ten-thousandths.
fn ten_thousandths(text: &str) -> i64 {
    let (units, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{units}{fraction:0<4}").parse().unwrap()
}

#[tokio::test]
async fn ten_of_fifty_fail_and_forty_are_exact_and_on_time() {
    let rows = |number: usize| 20 + 3 * number;
    let worlds = (0..50).map(|number| {
        let world = World::Rows {
            count: rows(number),
        };
        simulator::Tenant::new(&id(number), CLIENT, SECRET, world)
    });
    let simulator = simulator(worlds.collect()).await;
    let faults = faults();
    // Every fifth tenant, so that the bad ones are among the good.
    let bad: BTreeMap<usize, &str> = (0..)
        .step_by(5)
        .zip(faults.iter().map(|fault| fault.2))
        .collect();
    for (&number, (when, fault, _)) in bad.keys().zip(&faults) {
        simulator.push_fault(when.clone().tenant(&id(number)).always(), fault.clone());
    }
    let folder = Folder::new();
    let file = tenants(&folder, simulator.url(), 50, "{interval: 2s, timeout: 3s}");
    let mut daemon = Exporter::of_file(&file);
    let begun = Clock::system().now();
    daemon
        .until(|snapshot| {
            // The third poll at the latest six seconds after the start: phase and two intervals.
            let late = begun + chrono::TimeDelta::seconds(4);
            snapshot.states().len() == 50
                && snapshot.states().iter().all(|state| {
                    if bad.contains_key(&number(state)) {
                        state.failure.is_some()
                    } else {
                        state.last_success.is_some_and(|success| success > late)
                    }
                })
        })
        .await;
    let took = (Clock::system().now() - begun).num_seconds();
    assert!(took < 20, "40 tenants waited for 10: {took} s");
    let metrics = daemon.scrape().await;
    let samples = |family: &str| metrics.samples(family);
    let charges = by_group(&samples("teams_pstn_dialout_charge"));
    let calls = by_group(&samples("teams_pstn_dialout_calls"));
    let seconds = by_group(&samples("teams_pstn_dialout_call_seconds"));
    for tenant in (0..50).filter(|number| !bad.contains_key(number)) {
        let world = World::Rows {
            count: rows(tenant),
        };
        let expected = world.expected().unwrap();
        for ((currency, context), sum) in &expected.sums {
            let key = [format!("t{tenant}"), currency.clone(), context.clone()];
            assert_eq!(charges[&key], sum.charge.0, "{key:?}");
            assert_eq!(
                calls[&key],
                i64::try_from(sum.calls).unwrap() * 10_000,
                "{key:?}"
            );
            assert_eq!(
                seconds[&key],
                i64::try_from(sum.seconds).unwrap() * 10_000,
                "{key:?}"
            );
        }
    }
    let tenants: HashSet<&String> = charges.keys().map(|[tenant, ..]| tenant).collect();
    assert_eq!(
        tenants.len(),
        40,
        "what has never been complete is not there"
    );
    let failures = samples("teams_pstn_report_failures_total");
    let up = samples("teams_pstn_report_up");
    assert_eq!((failures.len(), up.len()), (50 * 8, 50));
    for tenant in 0..50 {
        let is_own = |sample: &&Sample| sample.label("tenant") == format!("t{tenant}");
        let failed: Vec<&str> = failures
            .iter()
            .filter(|sample| is_own(sample) && sample.value != "0")
            .map(|sample| sample.label("reason"))
            .collect();
        let expected: Vec<&str> = bad.get(&tenant).copied().into_iter().collect();
        // On a machine under load, what fails anyway may also fail by its time.
        let mut failed = failed;
        failed.retain(|reason| {
            expected.contains(reason) || *reason != "timeout" || expected.is_empty()
        });
        assert_eq!(failed, expected, "t{tenant}");
        let up = up.iter().find(is_own).unwrap();
        assert_eq!(up.value, if expected.is_empty() { "1" } else { "0" });
    }
    assert_eq!(daemon.get("/-/ready").await.status, 200);
    simulator.clear_faults();
    daemon
        .until(|snapshot| {
            snapshot
                .states()
                .iter()
                .all(|state| state.failure.is_none() && state.summary.is_some())
        })
        .await;
}

/// Sums over users and locations: tenant, currency, context; in ten-thousandths.
fn by_group(samples: &[Sample]) -> BTreeMap<[String; 3], i64> {
    let mut sums = BTreeMap::new();
    for sample in samples {
        let key = ["tenant", "currency", "destination_context"];
        let key = key.map(|name| sample.label(name).to_owned());
        *sums.entry(key).or_insert(0) += ten_thousandths(&sample.value);
    }
    sums
}

/// More tenants that stall than polls may run side by side: the others still get their turn.
#[tokio::test]
async fn stalled_tenants_do_not_keep_the_others_waiting() {
    let worlds =
        (0..16).map(|number| simulator::Tenant::new(&id(number), CLIENT, SECRET, people()));
    let simulator = simulator(worlds.collect()).await;
    for number in 0..12 {
        simulator.push_fault(When::token().tenant(&id(number)).always(), Fault::StallHead);
    }
    let folder = Folder::new();
    let file = tenants(&folder, simulator.url(), 16, "{interval: 1s, timeout: 5m}");
    let begun = Instant::now();
    let mut daemon = Exporter::of_file(&file);
    daemon
        .until(|snapshot| {
            let complete = |state: &&State| state.summary.is_some();
            snapshot.states().iter().filter(complete).count() == 4
        })
        .await;
    assert!(begun.elapsed().as_secs() < 25, "{:?}", begun.elapsed());
}

/// A place is kept for a poll, not for the hour until the next one.
#[tokio::test]
async fn more_tenants_than_places_are_all_polled_at_once() {
    let worlds =
        (0..40).map(|number| simulator::Tenant::new(&id(number), CLIENT, SECRET, people()));
    let simulator = simulator(worlds.collect()).await;
    let folder = Folder::new();
    let file = tenants(&folder, simulator.url(), 40, "{interval: 1h}");
    let mut daemon = Exporter::of_file(&file);
    let complete = |state: &State| state.summary.is_some();
    daemon
        .until(|snapshot| snapshot.states().len() == 40 && snapshot.states().iter().all(complete))
        .await;
}

/// In every mode but two no name of a person is anywhere, whatever Graph sends.
#[tokio::test]
async fn no_user_is_named_unless_the_labels_have_names() {
    let (id, pseudonym, none, upn, display_name) = tokio::join!(
        everything("id"),
        everything("pseudonym"),
        everything("none"),
        everything("upn"),
        everything("display_name"),
    );
    for (mode, text) in [("id", id), ("pseudonym", pseudonym), ("none", none)] {
        let text = text.to_lowercase();
        for name in NAMES {
            if let Some(at) = text.find(name) {
                let start = text.floor_char_boundary(at.saturating_sub(300));
                let end = text.floor_char_boundary(at + 100);
                panic!("{name} with {mode}: {}", &text[start..end]);
            }
        }
    }
    // The search finds names in the outputs that should have them.
    assert!(upn.contains("Ottilie.Quaver@contoso.com"));
    assert!(display_name.contains("Ottilie Quaver"));
}

/// All that the exporter says of a tenant in one mode: metrics, page, log at debug level, preflight; with rows that it
/// cannot read first.
async fn everything(mode: &str) -> String {
    let simulator = simulator(vec![tenant()]).await;
    let folder = Folder::new();
    let key = if mode == "pseudonym" {
        ", pseudonym_key_file: key"
    } else {
        ""
    };
    let labels = format!("labels: {{user: {mode}{key}}}");
    let flag = folder.configure(simulator.url(), &labels);
    let misread = || {
        for row in MISREAD {
            let row = (*row).to_owned();
            simulator.push_fault(When::graph(), Fault::BadRow { at: 1, json: row });
        }
    };
    let mut text = String::new();
    misread();
    let mut daemon = Exporter::of_file(&folder.path("config.yml"));
    for _ in MISREAD {
        daemon.polled().await;
        for path in ["/metrics", "/"] {
            text += &daemon.get(path).await.body;
        }
    }
    daemon
        .until(|snapshot| snapshot.states()[0].failure.is_none())
        .await;
    for path in ["/metrics", "/", "/-/ready"] {
        text += &daemon.get(path).await.body;
    }
    drop(daemon);
    misread();
    for format in ["logfmt", "json"] {
        let log = format!("--log.format={format}");
        let mut program = Program::start(&[&flag, ANY_PORT, "--log.level=debug", &log], &[]);
        program.logged("poll complete").await;
        text += &program.said;
    }
    for row in MISREAD {
        let row = (*row).to_owned();
        simulator.push_fault(When::graph(), Fault::BadRow { at: 1, json: row });
        text += &run(&["check", "--log.level=debug", &flag], &[]).await.1;
    }
    for format in ["text", "json"] {
        let format = format!("--check.format={format}");
        text += &run(&["check", &format, &flag], &[]).await.1;
    }
    text
}

/// Rows whose misreading might quote them.
const MISREAD: &[&str] = &[
    r#""jasper@contoso.com""#,
    r#"{"userPrincipalName":"jasper@contoso.com"}"#,
    r#"{"userPrincipalName":["jasper@contoso.com"]}"#,
    r#"{"userDisplayName":"Jasper","totalCalls":"jasper@contoso.com","totalCallSeconds":1,"totalCallCharge":1}"#,
    r#"{"userDisplayName":"Jasper","totalCalls":1,"totalCallSeconds":1,"totalCallCharge":"Jasper"}"#,
    r#"{"userId":"1" jasper"#,
];
