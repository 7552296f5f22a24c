//! The families, types and labels that dashboards and rules depend on, compared with the metrics of a daemon: no more
//! and no fewer. A change of this table is a change of the contract.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use teams_pstn_exporter::config::Departments;
use teams_pstn_exporter::report::pool::Pool;
use teams_pstn_exporter::report::{ReportKind, department};
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::blocked_users::BlockEvent;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::direct_routing::DirectRoutingCall;
use teams_pstn_simulator::sms::Message;
use teams_pstn_simulator::world::World;

use crate::support::{Exporter, Metrics, Sample, Setup, TENANT, budget, config, reports};

/// A family, its type, its labels, and whether it also has `tenant` if tenants have names.
pub(crate) type Entry = (&'static str, &'static str, &'static [&'static str], bool);

const DIALOUT: &[&str] = &["currency", "destination_context", "usage_location", "user"];

const PREVIOUS: &[&str] = &["currency", "destination_context", "usage_location"];

const CALLS: &[&str] = &[
    "call_type",
    "currency",
    "destination",
    "destination_context",
    "license_capability",
    "number_type",
    "usage_location",
    "user",
];

const ROUTED: &[&str] = &[
    "call_type",
    "sip_code_class",
    "trunk",
    "usage_location",
    "user",
];

const SMS: &[&str] = &[
    "currency",
    "destination_context",
    "direction",
    "usage_location",
    "user",
];

/// The labels of a family of the previous period: all except for the last, which is the user.
const fn without_user(labels: &'static [&'static str]) -> &'static [&'static str] {
    labels.split_at(labels.len() - 1).0
}

#[rustfmt::skip]
pub(crate) const CONTRACT: &[Entry] = &[
    ("teams_pstn_dialout_charge", "gauge", DIALOUT, true),
    ("teams_pstn_dialout_calls", "gauge", DIALOUT, true),
    ("teams_pstn_dialout_call_seconds", "gauge", DIALOUT, true),
    ("teams_pstn_dialout_previous_charge", "gauge", PREVIOUS, true),
    ("teams_pstn_dialout_previous_calls", "gauge", PREVIOUS, true),
    ("teams_pstn_dialout_previous_call_seconds", "gauge", PREVIOUS, true),
    ("teams_pstn_call_log_charge", "gauge", CALLS, true),
    ("teams_pstn_call_log_connection_charge", "gauge", CALLS, true),
    ("teams_pstn_call_log_calls", "gauge", CALLS, true),
    ("teams_pstn_call_log_call_seconds", "gauge", CALLS, true),
    ("teams_pstn_call_log_previous_charge", "gauge", without_user(CALLS), true),
    ("teams_pstn_call_log_previous_connection_charge", "gauge", without_user(CALLS), true),
    ("teams_pstn_call_log_previous_calls", "gauge", without_user(CALLS), true),
    ("teams_pstn_call_log_previous_call_seconds", "gauge", without_user(CALLS), true),
    ("teams_pstn_direct_routing_calls", "gauge", ROUTED, true),
    ("teams_pstn_direct_routing_failed_calls", "gauge", ROUTED, true),
    ("teams_pstn_direct_routing_call_seconds", "gauge", ROUTED, true),
    ("teams_pstn_direct_routing_previous_calls", "gauge", without_user(ROUTED), true),
    ("teams_pstn_direct_routing_previous_failed_calls", "gauge", without_user(ROUTED), true),
    ("teams_pstn_direct_routing_previous_call_seconds", "gauge", without_user(ROUTED), true),
    ("teams_pstn_sms_charge", "gauge", SMS, true),
    ("teams_pstn_sms_messages", "gauge", SMS, true),
    ("teams_pstn_sms_units", "gauge", SMS, true),
    ("teams_pstn_sms_previous_charge", "gauge", without_user(SMS), true),
    ("teams_pstn_sms_previous_messages", "gauge", without_user(SMS), true),
    ("teams_pstn_sms_previous_units", "gauge", without_user(SMS), true),
    ("teams_pstn_blocked_users", "gauge", &[], true),
    ("teams_pstn_blocked_users_since_timestamp_seconds", "gauge", &["reason", "user"], true),
    ("teams_pstn_blocked_users_events", "gauge", &["event", "reason"], true),
    ("teams_pstn_budget_amount", "gauge", &["budget", "currency"], true),
    ("teams_pstn_budget_spent", "gauge", &["budget", "currency"], true),
    ("teams_pstn_budget_threshold_ratio", "gauge", &["budget", "currency", "severity", "threshold"], true),
    ("teams_pstn_department_charge", "gauge", &["currency", "department", "report"], true),
    ("teams_pstn_department_calls", "gauge", &["department", "report"], true),
    ("teams_pstn_department_call_seconds", "gauge", &["department", "report"], true),
    ("teams_pstn_pool_size_seconds", "gauge", &["pool"], true),
    ("teams_pstn_pool_used_seconds", "gauge", &["pool"], true),
    ("teams_pstn_pool_threshold_ratio", "gauge", &["pool", "severity", "threshold"], true),
    ("teams_pstn_billing_period_start_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_billing_period_end_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_up", "gauge", &["report"], true),
    ("teams_pstn_report_last_success_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_last_attempt_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_duration_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_rows", "gauge", &["report"], true),
    ("teams_pstn_report_pages", "gauge", &["report"], true),
    ("teams_pstn_report_aggregated_series", "gauge", &["report"], true),
    ("teams_pstn_report_final_windows", "gauge", &["report"], true),
    ("teams_pstn_report_unplaced_rows", "gauge", &["report"], true),
    ("teams_pstn_report_newest_row_timestamp_seconds", "gauge", &["report"], true),
    ("teams_pstn_report_polls_total", "counter", &["report"], true),
    ("teams_pstn_report_failures_total", "counter", &["reason", "report"], true),
    ("teams_pstn_graph_requests_total", "counter", &["code"], false),
    ("teams_pstn_graph_retries_total", "counter", &["reason"], false),
    ("teams_pstn_storage_files_total", "counter", &["outcome"], false),
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
    check(&all_metrics().await, false);
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
            config.reports = reports(ReportKind::ALL);
            config.budgets = vec![budget(500)];
            config.departments = Some(departments());
            config.pools = vec![pool()];
        },
        ..Setup::of(World::Rows { count: 10 })
    };
    let metrics = settled(&setup).await;
    check(&metrics, true);
    for (family, .., by_tenant) in CONTRACT {
        if *by_tenant {
            let samples = metrics.samples(family);
            let tenants: BTreeSet<_> = samples.iter().map(|one| one.label("tenant")).collect();
            assert_eq!(tenants, ["first", "second"].into(), "{family}");
        }
    }
}

#[test]
fn list_for_rules_and_dashboards_is_complete() {
    let listed: BTreeSet<&str> = include_str!("../rules/metrics.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    let own = CONTRACT
        .iter()
        .map(|(family, ..)| *family)
        .filter(|family| family.starts_with("teams_pstn_"));
    assert_eq!(listed, own.collect());
}

/// Every metric, of a tenant without a name.
pub(crate) async fn all_metrics() -> Metrics {
    let setup = Setup {
        change: |config| {
            config.tenants[0].credential_expiry = "2027-01-01T00:00:00Z".parse().ok();
            config.reports = reports(ReportKind::ALL);
            config.budgets = vec![budget(500)];
            config.departments = Some(departments());
            config.pools = vec![pool()];
        },
        ..Setup::of(World::Rows { count: 10 })
    };
    settled(&setup).await
}

/// A pool for calls of any licence.
fn pool() -> Pool {
    Pool::new("all", &["MCOPSTN1"], 3_600)
}

/// No department of the simulated users: all are unmapped.
fn departments() -> Departments {
    let file = b"user,department\nann@contoso.com,Sales\n";
    department::Departments::parse(file).unwrap().into()
}

/// The metrics of a daemon that has polled every report.
async fn settled(setup: &Setup) -> Metrics {
    let (simulator, time) = setup.simulate().await;
    fill_logs(&simulator);
    let mut config = config(&simulator);
    (setup.change)(&mut config);
    let tenants = config.tenants.len();
    let mut exporter = Exporter::start_with(Box::new(move || Ok(config.clone())), &time, true);
    exporter
        .scrape_when(|metrics| {
            let has = |family| {
                let samples = metrics.samples(family);
                let named = |sample: &&Sample| sample.label_names().contains(&"tenant");
                let names: BTreeSet<&str> = samples
                    .iter()
                    .filter(named)
                    .map(|sample| sample.label("tenant"))
                    .collect();
                names.len() == tenants || (tenants == 1 && !samples.is_empty())
            };
            // Every report and its previous period, in the order in which they are polled.
            [
                "teams_pstn_dialout_previous_charge",
                "teams_pstn_call_log_previous_charge",
                "teams_pstn_direct_routing_previous_calls",
                "teams_pstn_sms_previous_charge",
                "teams_pstn_blocked_users_events",
                "teams_pstn_token_expiry_timestamp_seconds",
            ]
            .into_iter()
            .all(has)
        })
        .await
}

/// One row of each log in this period and in the one before.
fn fill_logs(simulator: &Simulator) {
    let times: [DateTime<Utc>; 2] =
        ["2026-10-10T10:00:00Z", "2026-11-10T10:00:00Z"].map(|time| time.parse().expect("a time"));
    let logs = simulator.logs(TENANT);
    logs.calls.set(times.map(|time| Call::at(1, time)).into());
    logs.direct_routing
        .set(times.map(|time| DirectRoutingCall::at(1, time)).into());
    logs.sms.set(times.map(|time| Message::at(1, time)).into());
    logs.blocked_users
        .set(times.map(|time| BlockEvent::at(1, time)).into());
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
