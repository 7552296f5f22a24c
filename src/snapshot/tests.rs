//! Samples in, bodies out.

use std::io::Read as _;

use flate2::read::GzDecoder;

use super::*;
use crate::exposition::{Sheet, write_label};

static CHARGE: Family = Family::gauge("teams_pstn_dialout_charge", "Charge.");
static CALLS: Family = Family::gauge("teams_pstn_dialout_calls", "Calls.");
static UP: Family = Family::gauge("teams_pstn_report_up", "Up.");

#[test]
fn families_of_several_tenants_are_contiguous() {
    let publisher = publisher();
    // In no particular order.
    for tenant in ["beta", "alpha", "gamma"] {
        publisher.update(
            key(tenant),
            numbers(tenant, 2),
            health(tenant),
            Some(state(tenant)),
        );
    }
    publisher.publish();
    let snapshot = publisher.subscribe().latest();
    let text = read(&snapshot, Format::Text, Encoding::Identity, &[]);
    let own_at = text
        .find("# HELP process_")
        .or_else(|| text.find("# HELP teams_pstn_config"))
        .unwrap();
    assert_eq!(
        text[..own_at],
        *"\
# HELP teams_pstn_dialout_calls Calls.
# TYPE teams_pstn_dialout_calls gauge
teams_pstn_dialout_calls{tenant=\"alpha\",user=\"0\"} 1
teams_pstn_dialout_calls{tenant=\"alpha\",user=\"1\"} 1
teams_pstn_dialout_calls{tenant=\"beta\",user=\"0\"} 1
teams_pstn_dialout_calls{tenant=\"beta\",user=\"1\"} 1
teams_pstn_dialout_calls{tenant=\"gamma\",user=\"0\"} 1
teams_pstn_dialout_calls{tenant=\"gamma\",user=\"1\"} 1
# HELP teams_pstn_dialout_charge Charge.
# TYPE teams_pstn_dialout_charge gauge
teams_pstn_dialout_charge{tenant=\"alpha\",user=\"0\"} 0
teams_pstn_dialout_charge{tenant=\"alpha\",user=\"1\"} 0
teams_pstn_dialout_charge{tenant=\"beta\",user=\"0\"} 0
teams_pstn_dialout_charge{tenant=\"beta\",user=\"1\"} 0
teams_pstn_dialout_charge{tenant=\"gamma\",user=\"0\"} 0
teams_pstn_dialout_charge{tenant=\"gamma\",user=\"1\"} 0
# HELP teams_pstn_report_up Up.
# TYPE teams_pstn_report_up gauge
teams_pstn_report_up{tenant=\"alpha\"} 1
teams_pstn_report_up{tenant=\"beta\"} 1
teams_pstn_report_up{tenant=\"gamma\"} 1
"
    );
    assert_eq!(
        snapshot
            .states()
            .iter()
            .map(|state| state.tenant.as_deref().unwrap())
            .collect::<Vec<_>>(),
        ["alpha", "beta", "gamma"]
    );
    assert!(
        text.contains("teams_pstn_exposition_series 12\n"),
        "the report families, without health"
    );
    publisher.retain(|key| key.tenant.as_deref() != Some("beta"));
    publisher.publish();
    assert!(
        !read(
            &publisher.subscribe().latest(),
            Format::Text,
            Encoding::Identity,
            &[]
        )
        .contains("beta")
    );
}

#[test]
fn every_body_says_the_same_whatever_its_size() {
    // Short, long with its text kept, too long for that, and together beyond what all tenants may keep.
    for tenants in [&[10][..], &[2_000], &[2_000, 30_000], &[20_000; 6]] {
        let publisher = publisher();
        for (index, &rows) in tenants.iter().enumerate() {
            let tenant = format!("tenant{index}");
            publisher.update(
                key(&tenant),
                numbers(&tenant, rows),
                health(&tenant),
                Some(state(&tenant)),
            );
        }
        publisher.publish();
        let snapshot = publisher.subscribe().latest();
        for format in [Format::Text, Format::OpenMetrics] {
            for names in [
                vec![],
                vec![
                    "teams_pstn_dialout_calls".to_owned(),
                    "process_open_fds".to_owned(),
                ],
            ] {
                let identity = read(&snapshot, format, Encoding::Identity, &names);
                assert_eq!(
                    identity,
                    read(&snapshot, format, Encoding::Gzip, &names),
                    "{tenants:?}"
                );
                assert_eq!(identity.ends_with("# EOF\n"), format == Format::OpenMetrics);
                let calls = identity
                    .lines()
                    .filter(|line| line.starts_with("teams_pstn_dialout_calls{"))
                    .count();
                assert_eq!(calls, tenants.iter().sum::<usize>());
                let charges = identity
                    .lines()
                    .filter(|line| line.starts_with("teams_pstn_dialout_charge{"))
                    .count();
                assert_eq!(charges, if names.is_empty() { calls } else { 0 });
                assert!(identity.contains("process_open_fds"));
            }
        }
    }
}

#[test]
fn the_own_metrics_are_there_before_any_report() {
    let snapshot = publisher().subscribe().latest();
    let text = read(&snapshot, Format::Text, Encoding::Identity, &[]);
    for sample in [
        "teams_pstn_exporter_build_info{",
        "teams_pstn_graph_requests_total{code=\"200\"} 0",
        "process_open_fds ",
    ] {
        assert!(text.contains(sample), "{sample} in {text}");
    }
}

#[test]
fn readiness_by_table() {
    let tried = |tenant: &str| State {
        last_attempt: Some(DateTime::UNIX_EPOCH),
        ..state(tenant)
    };
    let failed = |tenant: &str| {
        let failure = Failure {
            reason: "auth",
            message: "no token".to_owned(),
            remedy: None,
        };
        State {
            failure: Some(failure),
            ..tried(tenant)
        }
    };
    let complete = |tenant: &str| {
        let period =
            BillingPeriod::containing(DateTime::UNIX_EPOCH, crate::period::CycleDay::default());
        let summary = Summary {
            period,
            rows: 0,
            spend: Vec::new(),
            counts: Vec::new(),
            top: Vec::new(),
        };
        State {
            summary: Some(Arc::new(summary)),
            expired: false,
            ..tried(tenant)
        }
    };
    let check = |states: &[State], expected: Result<(), &str>| {
        let snapshot = Snapshot {
            states: states.into(),
            ..Snapshot::default()
        };
        assert_eq!(snapshot.ready(), expected.map_err(str::to_owned));
    };
    check(&[], Ok(()));
    check(
        &[state("a")],
        Err("report dialout of a has not been tried yet"),
    );
    check(
        &[complete("a"), state("b")],
        Err("report dialout of b has not been tried yet"),
    );
    check(
        &[failed("a")],
        Err("no report has been complete yet; dialout of a fails: auth, see the page or the log"),
    );
    check(&[failed("a"), complete("b")], Ok(()));
    check(&[complete("a")], Ok(()));
}

fn publisher() -> Publisher {
    Publisher::new(Arc::new(Telemetry::new()))
}

fn key(tenant: &str) -> Key {
    Key {
        tenant: Some(tenant.into()),
        report: Some(ReportKind::Dialout),
    }
}

fn state(tenant: &str) -> State {
    State {
        tenant: Some(tenant.into()),
        report: ReportKind::Dialout,
        last_attempt: None,
        last_success: None,
        next_poll: None,
        failure: None,
        summary: None,
        expired: false,
    }
}

fn numbers(tenant: &str, rows: usize) -> Vec<Samples> {
    let mut sheet = Sheet::new(&[&CHARGE, &CALLS]);
    for row in 0..rows {
        let mut labels = Vec::new();
        write_label("tenant", tenant, &mut labels);
        write_label("user", &row.to_string(), &mut labels);
        sheet.row(&labels, |family, out| {
            out.push(if family == 0 { b'0' } else { b'1' });
        });
    }
    sheet.finish().collect()
}

fn health(tenant: &str) -> Vec<Samples> {
    let mut sheet = Sheet::new(&[&UP]);
    let mut labels = Vec::new();
    write_label("tenant", tenant, &mut labels);
    sheet.row(&labels, |_, out| out.push(b'1'));
    sheet.finish().collect()
}

/// The text of a body, whose length must be as announced.
fn read(snapshot: &Snapshot, format: Format, encoding: Encoding, names: &[String]) -> String {
    let body = snapshot.body(format, encoding, names);
    let bytes = body.parts.collect::<Vec<_>>().concat();
    assert_eq!(bytes.len() as u64, body.length);
    match encoding {
        Encoding::Identity => String::from_utf8(bytes).unwrap(),
        Encoding::Gzip => {
            let mut text = String::new();
            GzDecoder::new(bytes.as_slice())
                .read_to_string(&mut text)
                .unwrap();
            text
        }
    }
}
