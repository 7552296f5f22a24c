//! Known reports survive a restart, and reports that are too old are not served.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_exporter::snapshot::Snapshot;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::journal::Request;
use teams_pstn_simulator::world::{Table, World};
use tempfile::TempDir;

use crate::support::{Exporter, Log, Metrics, Setup, Time, config, row};

/// The families that a restart must not change.
const KEPT: &[&str] = &[
    "teams_pstn_dialout_",
    "teams_pstn_call_log_",
    "teams_pstn_blocked_users",
    "teams_pstn_blocked_users_events",
    "teams_pstn_budget_",
    "teams_pstn_billing_period_",
    "teams_pstn_report_last_success_",
    "teams_pstn_report_rows",
    "teams_pstn_report_final_windows",
    "teams_pstn_report_unplaced_rows",
    "teams_pstn_report_newest_row_",
];

pub(crate) fn company() -> Setup {
    Setup::of(World::company(7, 30))
}

pub(crate) fn keeping(simulator: &Simulator, folder: &Path) -> Config {
    let mut config = config(simulator);
    config.storage = Some(folder.to_owned());
    config
}

pub(crate) fn start(config: &Config, time: &Time) -> Exporter {
    let config = config.clone();
    Exporter::start_with(Box::new(move || Ok(config.clone())), time, true)
}

/// A configuration that a test changes before a reload.
pub(crate) fn changing(config: Config) -> Arc<Mutex<Config>> {
    Arc::new(Mutex::new(config))
}

/// From now on the newest day of the log of calls is not to be had, while those before it become final.
pub(crate) fn refuse_last_day(simulator: &Simulator) {
    let last_day = When::graph().asking("getPstnCalls(fromDateTime=2026-11-21");
    simulator.push_fault(last_day.always(), Fault::EmptyForbidden);
}

/// With the configuration as it is at each reload.
pub(crate) fn start_changing(config: &Arc<Mutex<Config>>, time: &Time) -> Exporter {
    let load = Arc::clone(config);
    Exporter::start_with(
        Box::new(move || Ok(load.lock().unwrap().clone())),
        time,
        true,
    )
}

pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}

pub(crate) fn counted(metrics: &Metrics, outcome: &str) -> u64 {
    let sample = format!("teams_pstn_storage_files_total{{outcome=\"{outcome}\"}}");
    metrics.value(&sample).parse().unwrap()
}

/// Waits until so many files have been written: each report's two at the first poll, if it has a previous period.
pub(crate) async fn written(exporter: &mut Exporter, files: u64) -> Metrics {
    exporter
        .scrape_when(|metrics| counted(metrics, "written") >= files)
        .await
}

#[tokio::test(start_paused = true)]
async fn restart_without_graph_serves_the_saved_figures() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = company().simulate().await;
    let mut config = keeping(&simulator, folder.path());
    config.reports = vec![
        ReportKind::Dialout.into(),
        ReportKind::CallLog.into(),
        ReportKind::BlockedUsers.into(),
    ];
    let mut exporter = start(&config, &time);
    let before = written(&mut exporter, 5).await.families(KEPT);
    exporter.stop().await;
    simulator.stop().await;
    let mut exporter = start(&config, &time);
    let metrics = exporter.scrape().await;
    assert_eq!(metrics.families(KEPT), before);
    assert_eq!(metrics.report("up"), "0");
    assert_eq!(counted(&metrics, "restored"), 3);
    // A restored report does not count as a poll, and a failed poll does not stop the exporter from serving it.
    assert_eq!(exporter.get("/-/ready").await.status, 503);
    let metrics = exporter.first_poll().await;
    assert_eq!(metrics.families(KEPT), before);
    assert_eq!(metrics.report("up"), "0");
    assert_eq!(metrics.failures("connect"), 1);
    assert_eq!(exporter.get("/-/ready").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn final_days_are_not_fetched_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = company().simulate().await;
    let mut config = keeping(&simulator, folder.path());
    config.reports = vec![ReportKind::CallLog.into()];
    let days = |from: usize| {
        let requests = simulator.requests();
        let asked = requests[from..].iter().filter_map(Request::asked);
        let mut days: Vec<_> = asked.map(|asked| asked.from).collect();
        days.sort();
        days.dedup();
        days
    };
    let mut exporter = start(&config, &time);
    let before = written(&mut exporter, 2).await;
    // 21 days of November, 31 of October.
    assert_eq!(days(0).len(), 52);
    exporter.stop().await;
    let asked = simulator.requests().len();
    let mut exporter = start(&config, &time);
    let after = written(&mut exporter, 1).await;
    let numbers = &["teams_pstn_call_log_"];
    assert_eq!(after.families(numbers), before.families(numbers));
    // The 18th ended on the 19th at 00:00, 78 hours before the 22nd at 06:00.
    let open: Vec<String> = days(asked)
        .iter()
        .map(|day| day.format("%m-%d").to_string())
        .collect();
    assert_eq!(open, ["11-18", "11-19", "11-20", "11-21"]);
}

#[tokio::test(start_paused = true)]
async fn files_are_private_and_have_the_configured_user_labels() {
    let folder = TempDir::new().unwrap();
    let table = Table::new([row("ann", "12.83")]);
    let (simulator, time) = Setup::of(World::Table(table)).simulate().await;
    let mut config = keeping(&simulator, folder.path());
    config.labels.user = UserLabel::Id;
    let mut exporter = start(&config, &time);
    written(&mut exporter, 2).await;
    exporter.stop().await;
    let [name] = files(folder.path()).try_into().unwrap();
    let path = folder.path().join(&name);
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(text(&path).contains("id-ann"));
    assert!(!text(&path).contains("ann@contoso.com"));
    // People are not to be named any more: the names are gone before anything else is tried.
    let log = Log::capture();
    config.labels.user = UserLabel::None;
    let exporter = start(&config, &time);
    assert_eq!(files(folder.path()), [""; 0]);
    assert!(
        !exporter
            .scrape()
            .await
            .0
            .contains("teams_pstn_dialout_charge{")
    );
    let log = log.take();
    let removed = "is not used, and has been removed: its user labels differ from the current setting of labels.user";
    assert!(log.contains(removed), "{log}");
}

#[tokio::test(start_paused = true)]
async fn reload_with_other_user_labels_deletes_files_with_names() {
    let folder = TempDir::new().unwrap();
    let table = Table::new([row("ann", "12.83")]);
    let (simulator, time) = Setup::of(World::Table(table)).simulate().await;
    let config = changing(keeping(&simulator, folder.path()));
    let mut exporter = start_changing(&config, &time);
    written(&mut exporter, 2).await;
    let [name] = files(folder.path()).try_into().unwrap();
    for beside in ["rejected", "new", "0123456789abcdef.new"] {
        fs::write(folder.path().join(format!("{name}.{beside}")), "ann").unwrap();
    }
    // Of someone else, whose name begins alike.
    let other = name.replacen('.', "-2.", 1);
    fs::write(folder.path().join(&other), "not ours").unwrap();
    // Graph does not answer, so nothing comes in their place.
    simulator.push_fault(When::graph().always(), Fault::status(503));
    config.lock().unwrap().labels.user = UserLabel::None;
    exporter.reload().await;
    assert_eq!(files(folder.path()), [other.as_str()]);
    // Nor do they where nothing is to be kept any more.
    simulator.clear_faults();
    written(&mut exporter, 4).await;
    assert_eq!(files(folder.path()).len(), 2);
    config.lock().unwrap().storage = None;
    config.lock().unwrap().labels.user = UserLabel::Id;
    exporter.reload().await;
    assert_eq!(files(folder.path()), [other]);
}

#[tokio::test(start_paused = true)]
async fn torn_file_is_quarantined_and_the_report_is_fetched_again() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = keeping(&simulator, folder.path());
    let mut exporter = start(&config, &time);
    written(&mut exporter, 2).await;
    exporter.stop().await;
    let [name] = files(folder.path()).try_into().unwrap();
    let path = folder.path().join(&name);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let log = Log::capture();
    let mut exporter = start(&config, &time);
    let metrics = exporter.scrape().await;
    assert_eq!(counted(&metrics, "rejected"), 1);
    assert_eq!(metrics.get("teams_pstn_dialout_charge"), None);
    let said = log.take();
    assert_eq!(said.matches("state file").count(), 1, "{said}");
    assert!(
        said.contains("its checksum is not that of its content"),
        "{said}"
    );
    assert_eq!(written(&mut exporter, 2).await.report("rows"), "10");
    assert_eq!(
        files(folder.path()),
        [name.clone(), format!("{name}.rejected")]
    );
}

#[tokio::test(start_paused = true)]
async fn failed_write_is_logged_and_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = keeping(&simulator, &file.join("no folder"));
    let log = Log::capture();
    let mut exporter = start(&config, &time);
    let metrics = exporter
        .scrape_when(|metrics| counted(metrics, "write_failed") > 0)
        .await;
    assert_eq!((metrics.report("up"), metrics.report("rows")), ("1", "10"));
    let metrics = exporter.next_success().await;
    assert_eq!(metrics.report("up"), "1");
    let said = log.take();
    assert!(said.contains("cannot write "), "{said}");
    assert!(said.contains("check whether the disk is full"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn expired_report_is_not_served() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let mut config = keeping(&simulator, folder.path());
    config.poll.interval = Duration::from_mins(4);
    config.poll.max_age = Some(Duration::from_mins(10));
    let mut exporter = start(&config, &time);
    let good = written(&mut exporter, 2).await;
    assert!(good.0.contains("teams_pstn_dialout_charge{"));
    simulator.push_fault(When::graph().always(), Fault::status(500));
    let log = Log::capture();
    // Two polls fail and the numbers stay; the third comes too late for them.
    exporter.next_poll().await;
    let served = exporter.next_poll().await;
    assert!(served.0.contains("teams_pstn_dialout_charge{"));
    exporter
        .until(|snapshot| snapshot.states()[0].expired)
        .await;
    let metrics = exporter.scrape().await;
    assert!(!metrics.0.contains("teams_pstn_dialout_charge{"));
    assert!(!metrics.0.contains("teams_pstn_billing_period_start"));
    assert!(metrics.0.contains("teams_pstn_dialout_previous_charge{"));
    let last_success = "last_success_timestamp_seconds";
    assert_eq!(metrics.report(last_success), good.report(last_success));
    let age = time.now()
        - exporter.subscriber.latest().states()[0]
            .last_success
            .unwrap();
    assert!((10..=12).contains(&age.num_minutes()), "{age}");
    assert_eq!(exporter.get("/-/ready").await.status, 503);
    assert!(
        exporter
            .get("/")
            .await
            .body
            .contains("older than poll.max_age")
    );
    let said = log.take();
    assert_eq!(said.matches("no longer served").count(), 1, "{said}");
    exporter.stop().await;
    // Nor is it after a restart.
    let mut exporter = start(&config, &time);
    assert!(
        !exporter
            .scrape()
            .await
            .0
            .contains("teams_pstn_dialout_charge{")
    );
    simulator.clear_faults();
    let metrics = exporter.next_success().await;
    assert!(metrics.0.contains("teams_pstn_dialout_charge{"));
    assert_eq!(exporter.get("/-/ready").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn readiness_names_the_expired_report_only() {
    let (simulator, time) = company().simulate().await;
    let mut config = config(&simulator);
    config.reports = vec![ReportKind::Dialout.into(), ReportKind::BlockedUsers.into()];
    config.poll.interval = Duration::from_mins(4);
    config.poll.max_age = Some(Duration::from_mins(6));
    let mut exporter = start(&config, &time);
    let all_good = |snapshot: &Snapshot| {
        let mut states = snapshot.states().iter();
        states.len() == 2 && states.all(|state| state.summary.is_some())
    };
    exporter.until(all_good).await;
    let ready = exporter.get("/-/ready").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    let blocked = "getPstnBlockedUsersLog";
    simulator.push_fault(When::graph().asking(blocked).always(), Fault::status(500));
    exporter
        .until(|snapshot| snapshot.states().iter().any(|state| state.expired))
        .await;
    let ready = exporter.get("/-/ready").await;
    let expected = "ready; blocked_users is older than poll.max_age\n";
    assert_eq!((ready.status, ready.body.as_str()), (200, expected));
    simulator.clear_faults();
    exporter.until(all_good).await;
    assert_eq!(exporter.get("/-/ready").await.body, "ready\n");
}

#[tokio::test(start_paused = true)]
async fn longer_max_age_restores_expired_figures() {
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = changing(config(&simulator));
    config.lock().unwrap().poll.max_age = Some(Duration::from_mins(3));
    let shared = Arc::clone(&config);
    let load = Box::new(move || Ok(shared.lock().unwrap().clone()));
    let mut exporter = Exporter::start(load, &time);
    exporter.first_poll().await;
    simulator.push_fault(When::graph().always(), Fault::status(500));
    exporter
        .until(|snapshot| snapshot.states()[0].expired)
        .await;
    config.lock().unwrap().poll.max_age = None;
    exporter.reload().await;
    exporter
        .until(|snapshot| !snapshot.states()[0].expired)
        .await;
    let metrics = exporter.scrape().await;
    assert!(metrics.0.contains("teams_pstn_dialout_charge{"));
}

#[tokio::test(start_paused = true)]
async fn stalled_poll_does_not_keep_expired_figures() {
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let mut config = config(&simulator);
    config.poll.timeout = Duration::from_mins(8);
    config.poll.max_age = Some(Duration::from_mins(2));
    let mut exporter = start(&config, &time);
    exporter.first_poll().await;
    simulator.push_fault(When::graph().always(), Fault::StallHead);
    let failures = exporter.scrape().await.failures("timeout");
    exporter
        .until(|snapshot| snapshot.states()[0].expired)
        .await;
    // The poll that stalls is not over.
    assert_eq!(exporter.scrape().await.failures("timeout"), failures);
}

#[tokio::test(start_paused = true)]
async fn days_of_a_failed_poll_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = company().simulate().await;
    let mut config = keeping(&simulator, folder.path());
    config.reports = vec![ReportKind::CallLog.into()];
    refuse_last_day(&simulator);
    let mut exporter = start(&config, &time);
    let metrics = written(&mut exporter, 1).await;
    assert_eq!(metrics.get("teams_pstn_call_log_calls"), None);
    exporter.stop().await;
    simulator.clear_faults();
    let before = simulator.requests().len();
    let mut exporter = start(&config, &time);
    written(&mut exporter, 1).await;
    let november: chrono::DateTime<chrono::Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
    let asked = simulator.requests()[before..]
        .iter()
        .filter_map(Request::asked)
        .filter(|asked| asked.from >= november)
        .count();
    assert!(asked < 10, "{asked} of November again");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_without_storage() {
    let (_simulator, mut exporter, _) = Setup::of(World::Rows { count: 10 }).start().await;
    let metrics = exporter.first_poll().await;
    for outcome in ["written", "write_failed", "restored", "rejected"] {
        assert_eq!(counted(&metrics, outcome), 0);
    }
}
