//! The settings of single reports: how often each is polled, and its labels.

use std::num::NonZeroUsize;

use chrono::TimeDelta;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_exporter::snapshot::{Snapshot, State};
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};
use tempfile::TempDir;

use crate::storage::{changing, files, keeping, start_changing};
use crate::support::{Exporter, INTERVAL, Metrics, Setup, row};

/// The dial-out report, and a log that is polled less often.
const REPORTS: [ReportKind; 2] = [ReportKind::Dialout, ReportKind::DirectRouting];

const LOG_MINUTES: u32 = 4;

fn rare(config: &mut Config) {
    config.reports = crate::support::reports(&REPORTS);
    config.poll.log_interval = INTERVAL * LOG_MINUTES;
}

fn polls(metrics: &Metrics, report: ReportKind) -> &str {
    metrics.value(&format!(
        "teams_pstn_report_polls_total{{report=\"{report}\"}}"
    ))
}

fn state(snapshot: &Snapshot, report: ReportKind) -> State {
    let mut states = snapshot.states().iter();
    let found = states.find(|state| state.report == report);
    found.expect("the report is polled").clone()
}

/// Waits until the dial-out report has been polled so many times.
async fn dialout_polls(exporter: &mut Exporter, count: &str) -> Metrics {
    exporter
        .scrape_when(|metrics| polls(metrics, ReportKind::Dialout) == count)
        .await
}

#[tokio::test(start_paused = true)]
async fn each_report_is_polled_at_its_own_interval() {
    let setup = Setup {
        change: rare,
        ..Setup::of(World::Rows { count: 3 })
    };
    let (_simulator, mut exporter, _) = setup.start().await;
    exporter.first_poll().await;
    let state = state(&exporter.subscriber.latest(), ReportKind::DirectRouting);
    let until_next = state.next_poll.unwrap() - state.last_attempt.unwrap();
    assert!(
        (230..=240).contains(&until_next.num_seconds()),
        "{until_next}"
    );
    let metrics = dialout_polls(&mut exporter, "4").await;
    assert_eq!(polls(&metrics, ReportKind::DirectRouting), "1");
    let metrics = dialout_polls(&mut exporter, "8").await;
    assert_eq!(polls(&metrics, ReportKind::DirectRouting), "2");
}

/// Else a short outage would leave a log without figures for hours.
#[tokio::test(start_paused = true)]
async fn failed_poll_of_a_log_is_repeated_after_the_interval_of_polls() {
    let setup = Setup {
        change: rare,
        ..Setup::of(World::Rows { count: 3 })
    };
    let (simulator, time) = setup.simulate().await;
    let log = When::graph().asking("getDirectRoutingCalls");
    simulator.push_fault(log.always(), Fault::status(501));
    let mut config = crate::support::config(&simulator);
    rare(&mut config);
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    exporter.first_poll().await;
    let failed = state(&exporter.subscriber.latest(), ReportKind::DirectRouting);
    assert!(failed.failure.is_some());
    let until_next = failed.next_poll.unwrap() - failed.last_attempt.unwrap();
    assert!(until_next <= TimeDelta::minutes(1), "{until_next}");
    simulator.clear_faults();
    let is_good =
        |snapshot: &Snapshot| state(snapshot, ReportKind::DirectRouting).failure.is_none();
    exporter.until(is_good).await;
    let good = state(&exporter.subscriber.latest(), ReportKind::DirectRouting);
    let pause = good.last_attempt.unwrap() - failed.last_attempt.unwrap();
    assert!((50..=65).contains(&pause.num_seconds()), "{pause}");
}

#[tokio::test(start_paused = true)]
async fn labels_of_a_report_override_those_of_all() {
    let setup = Setup {
        change: |config| {
            config.reports = crate::support::reports(&[ReportKind::Dialout, ReportKind::CallLog]);
            config.reports[1].user = Some(UserLabel::None);
            config.reports[0].max_series = NonZeroUsize::new(10);
        },
        ..Setup::of(World::company(1, 40))
    };
    let (_simulator, mut exporter, _) = setup.start().await;
    let metrics = exporter.first_poll().await;
    let series = |family: &str| metrics.samples(family);
    assert_eq!(series("teams_pstn_dialout_calls").len(), 10);
    let mut users = series("teams_pstn_dialout_calls").into_iter();
    assert!(users.all(|sample| sample.label_names().contains(&"user")));
    let calls = series("teams_pstn_call_log_calls");
    assert!(calls.len() > 10, "{}", calls.len());
    assert!(
        calls
            .iter()
            .all(|sample| !sample.label_names().contains(&"user"))
    );
}

/// Its state file has names that are no longer wanted. Those of the other reports stay.
#[tokio::test(start_paused = true)]
async fn report_with_another_user_label_starts_over_alone() {
    let folder = TempDir::new().unwrap();
    let table = Table::new([row("ann", "12.83")]);
    let (simulator, time) = Setup::of(World::Table(table)).simulate().await;
    let mut config = keeping(&simulator, folder.path());
    config.reports = crate::support::reports(&[ReportKind::Dialout, ReportKind::BlockedUsers]);
    let config = changing(config);
    let mut exporter = start_changing(&config, &time);
    exporter
        .scrape_when(|metrics| crate::storage::counted(metrics, "written") >= 3)
        .await;
    assert_eq!(files(folder.path()).len(), 2);
    simulator.push_fault(When::graph().always(), Fault::status(503));
    config.lock().unwrap().reports[0].user = Some(UserLabel::None);
    exporter.reload().await;
    let [stays] = files(folder.path()).try_into().unwrap();
    assert!(stays.contains("blocked_users"), "{stays}");
    let metrics = exporter
        .scrape_when(|metrics| !metrics.0.contains("teams_pstn_dialout_charge{"))
        .await;
    assert!(metrics.0.contains("teams_pstn_blocked_users 0"));
}

/// Graph's messages can have names, and all reports of a tenant have one client.
#[tokio::test(start_paused = true)]
async fn messages_of_graph_are_hidden_if_a_report_hides_names() {
    let (simulator, time) = Setup::of(World::Rows { count: 3 }).simulate().await;
    simulator.push_fault(When::graph().always(), Fault::status(501));
    let mut config = crate::support::config(&simulator);
    rare(&mut config);
    config.reports[1].user = Some(UserLabel::Id);
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    exporter.first_poll().await;
    let page = exporter.get("/").await.body;
    assert!(
        page.contains("not shown, because labels.user hides names"),
        "{page}"
    );
}
