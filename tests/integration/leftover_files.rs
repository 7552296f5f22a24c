//! Data that a reload or an outage removes is gone from the metrics, from the log and from the disk.

use std::fs;

use teams_pstn_exporter::period::CycleDay;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};
use tempfile::TempDir;

use crate::storage::{
    changing, company, counted, files, keeping, refuse_last_day, start, start_changing, written,
};
use crate::support::{Setup, TENANT, budget, row};

const PREVIOUS: &str = "teams_pstn_dialout_previous_charge{currency=\"USD\",destination_context=\"Domestic\",usage_location=\"US\"}";

/// The charges do not count as final because the exporter made no request for four days.
#[tokio::test(start_paused = true)]
async fn late_charges_of_the_previous_period_arrive_after_an_outage_of_days() {
    let folder = TempDir::new().unwrap();
    let table = Table::new([row("ann", "10")]);
    let setup = Setup {
        now: "2026-10-31T23:00:00Z",
        ..Setup::of(World::Table(table.clone()))
    };
    let (simulator, time) = setup.simulate().await;
    let config = keeping(&simulator, folder.path());
    let mut exporter = start(&config, &time);
    written(&mut exporter, 2).await;
    time.set("2026-11-01T00:00:30Z");
    let metrics = written(&mut exporter, 4).await;
    assert_eq!(metrics.get(PREVIOUS), Some("10"));
    exporter.stop().await;
    // The calls of the last two days of October arrive while the exporter is down.
    table.set_rows([row("ann", "10"), row("bob", "500")]);
    time.set("2026-11-06T08:00:00Z");
    let mut exporter = start(&config, &time);
    exporter.next_success().await;
    for _ in 0..2 * 24 {
        time.set(&(time.now() + chrono::TimeDelta::hours(1)).to_rfc3339());
        exporter.next_success().await;
    }
    assert_eq!(exporter.scrape().await.get(PREVIOUS), Some("510"));
}

#[tokio::test(start_paused = true)]
async fn new_cycle_day_is_not_ready_before_its_first_report() {
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = changing(crate::support::config(&simulator));
    let mut exporter = start_changing(&config, &time);
    exporter.first_poll().await;
    assert_eq!(exporter.get("/-/ready").await.status, 200);
    simulator.push_fault(When::graph().always(), Fault::StallHead);
    config.lock().unwrap().billing.cycle_day = CycleDay::try_from(15).unwrap();
    exporter.reload().await;
    let metrics = exporter
        .scrape_when(|metrics| !metrics.0.contains("teams_pstn_dialout_charge{"))
        .await;
    assert!(!metrics.0.contains("teams_pstn_billing_period_start"));
    let ready = exporter.get("/-/ready").await;
    assert_eq!(ready.status, 503, "nothing is served: {}", ready.body);
}

#[tokio::test(start_paused = true)]
async fn report_of_another_cycle_day_is_not_exposed() {
    let (simulator, time) = company().simulate().await;
    let mut first = crate::support::config(&simulator);
    first.reports = vec![ReportKind::CallLog.into()];
    let config = changing(first);
    let mut exporter = start_changing(&config, &time);
    exporter.first_poll().await;
    simulator.push_fault(When::graph().always(), Fault::status(503));
    config.lock().unwrap().billing.cycle_day = CycleDay::try_from(15).unwrap();
    exporter.reload().await;
    let metrics = exporter.next_poll().await;
    assert!(!metrics.0.contains("teams_pstn_call_log_calls{"));
    let of = |metric: &str| {
        let sample = format!("teams_pstn_report_{metric}{{report=\"call_log\"}}");
        metrics.get(&sample).map(str::to_owned)
    };
    let said = [
        "last_success_timestamp_seconds",
        "rows",
        "pages",
        "final_windows",
    ]
    .map(of);
    let zero = || Some("0".to_owned());
    assert_eq!(
        said,
        [zero(), zero(), zero(), None],
        "no report of these periods, no day is kept"
    );
}

/// A day that becomes final in a poll that fails is kept, and nothing else.
#[tokio::test(start_paused = true)]
async fn state_file_of_another_cycle_day_has_no_success() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = company().simulate().await;
    let mut first = keeping(&simulator, folder.path());
    first.reports = vec![ReportKind::CallLog.into()];
    let config = changing(first);
    let mut exporter = start_changing(&config, &time);
    written(&mut exporter, 2).await;
    refuse_last_day(&simulator);
    config.lock().unwrap().billing.cycle_day = CycleDay::try_from(10).unwrap();
    exporter.reload().await;
    written(&mut exporter, 3).await;
    exporter.stop().await;
    let exporter = start_changing(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(counted(&restored, "restored"), 1);
    assert!(!restored.0.contains("teams_pstn_call_log_calls{"));
    let success = "teams_pstn_report_last_success_timestamp_seconds{report=\"call_log\"}";
    assert_eq!(restored.get(success), Some("0"));
}

/// `labels.user` changes while the files are elsewhere; then the folder is the first one again.
#[tokio::test(start_paused = true)]
async fn reused_folder_has_no_files_with_other_user_labels() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let table = Table::new([row("ann", "12.83")]);
    let (simulator, time) = Setup::of(World::Table(table)).simulate().await;
    let config = changing(keeping(&simulator, one.path()));
    let mut exporter = start_changing(&config, &time);
    written(&mut exporter, 2).await;
    // As one stands there of a report that was asked for once.
    let [name] = files(one.path()).try_into().unwrap();
    let beside = one.path().join(name.replace("dialout", "sms"));
    fs::copy(one.path().join(&name), &beside).unwrap();
    config.lock().unwrap().storage = Some(two.path().to_owned());
    exporter.reload().await;
    written(&mut exporter, 3).await;
    config.lock().unwrap().labels.user = UserLabel::None;
    exporter.reload().await;
    written(&mut exporter, 5).await;
    config.lock().unwrap().storage = Some(one.path().to_owned());
    exporter.reload().await;
    written(&mut exporter, 6).await;
    assert_eq!(names_in(one.path()), [""; 0]);
}

fn names_in(folder: &std::path::Path) -> Vec<String> {
    let named = |name: &String| {
        let bytes = fs::read(folder.join(name)).unwrap();
        bytes.windows(15).any(|text| text == b"ann@contoso.com")
    };
    files(folder).into_iter().filter(named).collect()
}

#[tokio::test(start_paused = true)]
async fn removed_report_with_names_of_its_own_leaves_none() {
    let folder = TempDir::new().unwrap();
    let table = Table::new([row("ann", "12.83")]);
    let (simulator, time) = Setup::of(World::Table(table)).simulate().await;
    let mut named = keeping(&simulator, folder.path());
    named.labels.user = UserLabel::None;
    named.reports = vec![ReportKind::Dialout.into(), ReportKind::Sms.into()];
    named.reports[0].user = Some(UserLabel::Upn);
    let config = changing(named);
    let mut exporter = start_changing(&config, &time);
    written(&mut exporter, 2).await;
    assert_eq!(names_in(folder.path()).len(), 1);
    config.lock().unwrap().reports.remove(0);
    exporter.reload().await;
    assert_eq!(names_in(folder.path()), [""; 0]);
}

/// A tenant's files stay "until it is configured again"; it is, under the name of another.
#[tokio::test(start_paused = true)]
async fn tenant_that_is_added_again_has_no_files_with_other_user_labels() {
    const B: &str = "22222222-2222-2222-2222-222222222222";
    let folder = TempDir::new().unwrap();
    let table = || World::Table(Table::new([row("ann", "12.83")]));
    let setup = Setup {
        others: vec![(B, table())],
        ..Setup::of(table())
    };
    let (simulator, time) = setup.simulate().await;
    let mut of_b = keeping(&simulator, folder.path());
    of_b.tenants[0].tenant_id = B.to_owned();
    of_b.reports = vec![ReportKind::Dialout.into(), ReportKind::Sms.into()];
    let mut exporter = start(&of_b, &time);
    written(&mut exporter, 2).await;
    exporter.stop().await;
    let mut own: Vec<String> = files(folder.path());
    own.retain(|name| name.contains("dialout"));
    let name = own[0].clone();
    fs::copy(
        folder.path().join(&name),
        folder.path().join(name.replace("dialout", "sms")),
    )
    .unwrap();
    let mut of_a = of_b.clone();
    of_a.tenants[0].tenant_id = TENANT.to_owned();
    of_a.labels.user = UserLabel::None;
    of_a.reports = vec![ReportKind::Dialout.into()];
    let config = changing(of_a);
    let mut exporter = start_changing(&config, &time);
    written(&mut exporter, 1).await;
    config.lock().unwrap().tenants[0].tenant_id = B.to_owned();
    exporter.reload().await;
    written(&mut exporter, 3).await;
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn removed_budget_is_not_exported() {
    let table = Table::new([row("ann", "12.83")]);
    let (simulator, time) = Setup::of(World::Table(table)).simulate().await;
    let mut first = crate::support::config(&simulator);
    first.budgets = vec![budget(500)];
    let config = changing(first);
    let mut exporter = start_changing(&config, &time);
    exporter.first_poll().await;
    let amount = "teams_pstn_budget_amount{budget=\"all\",currency=\"USD\"}";
    assert_eq!(exporter.scrape().await.get(amount), Some("500"));
    simulator.push_fault(When::graph().always(), Fault::status(503));
    config.lock().unwrap().budgets = vec![budget(600)];
    exporter.reload().await;
    let metrics = exporter.next_poll().await;
    assert_ne!(
        metrics.get(amount),
        Some("500"),
        "the configuration says 600"
    );
    config.lock().unwrap().budgets = Vec::new();
    exporter.reload().await;
    let metrics = exporter.next_poll().await;
    assert_eq!(metrics.get(amount), None);
}

/// A first poll that goes on over days of work loses them where the folder changes.
#[tokio::test(start_paused = true)]
async fn final_days_move_to_a_new_folder_before_the_first_report() {
    let (old, new) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (simulator, time) = company().simulate().await;
    let mut first = keeping(&simulator, old.path());
    first.reports = vec![ReportKind::CallLog.into()];
    let config = changing(first);
    refuse_last_day(&simulator);
    let mut exporter = start_changing(&config, &time);
    written(&mut exporter, 1).await;
    // The other open days are asked for again and again, but none of them can become final.
    for _ in 0..5 {
        exporter.next_poll().await;
    }
    let known = files(old.path());
    config.lock().unwrap().storage = Some(new.path().to_owned());
    exporter.reload().await;
    for _ in 0..3 {
        exporter.next_poll().await;
    }
    assert_eq!(files(new.path()), known);
}

/// Two tenants of one directory, by two applications, whose names change places.
#[tokio::test(start_paused = true)]
async fn swapped_applications_keep_their_figures() {
    const OTHER: &str = "77777777-7777-8888-9999-000000000000";
    let folder = TempDir::new().unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let mut first = keeping(&simulator, folder.path());
    let mut second = first.tenants[0].clone();
    first.tenants[0].name = Some("a".into());
    second.name = Some("b".into());
    second.client_id = Some(OTHER.to_owned());
    first.tenants.push(second);
    let config = changing(first);
    let mut exporter = start_changing(&config, &time);
    // Only one of the applications is known to the simulator.
    written(&mut exporter, 2).await;
    {
        let mut config = config.lock().unwrap();
        let one = config.tenants[0].client_id.clone();
        config.tenants[0].client_id = config.tenants[1].client_id.clone();
        config.tenants[1].client_id = one;
    }
    exporter.reload().await;
    written(&mut exporter, 5).await;
    exporter.stop().await;
    let exporter = start_changing(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(
        counted(&restored, "restored"),
        2,
        "{:?}",
        files(folder.path())
    );
    assert_eq!(counted(&restored, "rejected"), 0);
}
