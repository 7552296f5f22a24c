//! The families, types and labels that dashboards and rules depend on, held against what a daemon emits: no more and no
//! fewer. Whoever changes this table changes the contract.

use std::collections::BTreeSet;

use teams_pstn_exporter::simulator::world::World;

use crate::harness::{Metrics, Setup};

/// A family, its type, its labels, and whether it bears `tenant` too where tenants are named.
type Entry = (&'static str, &'static str, &'static [&'static str], bool);

const DIALOUT: &[&str] = &["currency", "destination_context", "usage_location", "user"];

#[rustfmt::skip]
const CONTRACT: &[Entry] = &[
    ("teams_pstn_dialout_charge", "gauge", DIALOUT, true),
    ("teams_pstn_dialout_calls", "gauge", DIALOUT, true),
    ("teams_pstn_dialout_call_seconds", "gauge", DIALOUT, true),
    ("teams_pstn_billing_period_start_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_billing_period_end_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_up", "gauge", &["report"], true),
    ("teams_pstn_report_last_success_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_last_attempt_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_duration_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_rows", "gauge", &["report"], true),
    ("teams_pstn_report_pages", "gauge", &["report"], true),
    ("teams_pstn_report_folded_series", "gauge", &["report"], true),
    ("teams_pstn_report_polls_total", "counter", &["report"], true),
    ("teams_pstn_report_failures_total", "counter", &["reason", "report"], true),
    ("teams_pstn_graph_requests_total", "counter", &["code"], false),
    ("teams_pstn_graph_retries_total", "counter", &["reason"], false),
    ("teams_pstn_exposition_size_bytes", "gauge", &[], false),
    ("teams_pstn_exposition_series", "gauge", &[], false),
    ("teams_pstn_token_expiry_timestamp_seconds", "gauge", &[], true),
    ("teams_pstn_credential_expiry_timestamp_seconds", "gauge", &[], true),
    ("teams_pstn_config_last_reload_successful", "gauge", &[], false),
    ("teams_pstn_config_last_reload_success_timestamp_seconds", "gauge", &[], false),
    ("teams_pstn_exporter_build_info", "gauge", &["revision", "rustc", "version"], false),
    ("process_cpu_seconds_total", "counter", &[], false),
    ("process_max_fds", "gauge", &[], false),
    ("process_open_fds", "gauge", &[], false),
    ("process_resident_memory_bytes", "gauge", &[], false),
    ("process_start_time_seconds", "gauge", &[], false),
    ("process_threads", "gauge", &[], false),
    ("process_virtual_memory_bytes", "gauge", &[], false),
];

#[tokio::test(start_paused = true)]
async fn a_tenant_without_a_name() {
    let setup = Setup {
        change: |config| {
            config.tenants[0].credential_expiry = "2027-01-01T00:00:00Z".parse().ok();
        },
        ..Setup::of(World::Rows { count: 10 })
    };
    let (_simulator, mut exporter, _) = setup.start().await;
    exporter.first_poll().await;
    // By then a token's expiry is known to whoever publishes.
    check(&exporter.next_poll().await, false);
}

#[tokio::test(start_paused = true)]
async fn tenants_with_names() {
    let setup = Setup {
        change: |config| {
            let mut first = config.tenants[0].clone();
            first.credential_expiry = "2027-01-01T00:00:00Z".parse().ok();
            first.name = Some("first".into());
            let mut second = first.clone();
            second.name = Some("second".into());
            config.tenants = vec![first, second];
        },
        ..Setup::of(World::Rows { count: 10 })
    };
    let (_simulator, mut exporter, _) = setup.start().await;
    exporter.first_poll().await;
    let metrics = exporter.next_poll().await;
    check(&metrics, true);
    for (family, .., by_tenant) in CONTRACT {
        if *by_tenant {
            let samples = metrics.samples(family);
            let tenants: BTreeSet<_> = samples.iter().map(|one| one.label("tenant")).collect();
            assert_eq!(tenants, ["first", "second"].into(), "{family}");
        }
    }
}

fn check(metrics: &Metrics, named: bool) {
    let types = metrics
        .0
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let mut emitted: Vec<_> = types.map(|line| line.split_once(' ').unwrap()).collect();
    emitted.sort_unstable();
    let mut expected: Vec<_> = CONTRACT
        .iter()
        .map(|(name, kind, ..)| (*name, *kind))
        .collect();
    expected.sort_unstable();
    assert_eq!(emitted, expected);
    for (family, _, labels, by_tenant) in CONTRACT {
        let mut expected = labels.to_vec();
        if named && *by_tenant {
            expected.push("tenant");
            expected.sort_unstable();
        }
        let samples = metrics.samples(family);
        assert!(!samples.is_empty(), "{family}");
        for sample in samples {
            let mut found = sample.label_names();
            found.sort_unstable();
            assert_eq!(found, expected, "{sample:?}");
        }
    }
}
