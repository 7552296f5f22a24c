//! The files on the disk and the time of their writing: as soon as the report is served, again if a write failed, and
//! never under names that the labels do not have.

use std::fs;
use std::path::Path;

use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};
use tempfile::TempDir;

use crate::storage::{
    changing, company, counted, files, keeping, refuse_last_day, start, start_changing, written,
};
use crate::support::{Exporter, Metrics, Setup, TENANT, budget, row};

#[tokio::test(start_paused = true)]
async fn served_figures_are_saved_before_the_previous_period_is_fetched() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = keeping(&simulator, folder.path());
    let october = "fromDateTime=2026-10-01";
    simulator.push_fault(When::graph().asking(october).always(), Fault::StallHead);
    let mut exporter = start(&config, &time);
    let metrics = written(&mut exporter, 1).await;
    assert_eq!(metrics.report("rows"), "10");
    // The request for the previous period is still open.
    assert_eq!(metrics.failures("timeout"), 0);
    assert_eq!(files(folder.path()).len(), 1);
    exporter.stop().await;
    simulator.stop().await;
    let exporter = start(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(restored.of_report(), metrics.of_report());
}

#[tokio::test(start_paused = true)]
async fn failed_write_is_repeated_after_the_next_poll() {
    let folder = TempDir::new().unwrap();
    let in_the_way = folder.path().join("state");
    fs::write(&in_the_way, "").unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = keeping(&simulator, &in_the_way);
    let load = config.clone();
    let mut exporter = Exporter::start(Box::new(move || Ok(load.clone())), &time);
    let metrics = exporter
        .scrape_when(|metrics| counted(metrics, "write_failed") > 0)
        .await;
    assert_eq!(metrics.report("rows"), "10");
    // No later poll gets new rows, and the rows of the first are kept nevertheless.
    simulator.push_fault(When::graph().always(), Fault::status(503));
    fs::remove_file(&in_the_way).unwrap();
    let known = written(&mut exporter, 1).await;
    exporter.stop().await;
    let exporter = start(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(counted(&restored, "restored"), 1);
    assert_eq!(restored.of_report(), known.of_report());
}

#[tokio::test(start_paused = true)]
async fn budgets_of_another_configuration_are_not_restored() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = company().simulate().await;
    let mut first = keeping(&simulator, folder.path());
    first.reports = vec![ReportKind::CallLog.into()];
    first.budgets = vec![of_calls(500)];
    let config = changing(first);
    let mut exporter = start_changing(&config, &time);
    let amount = "teams_pstn_budget_amount{budget=\"calls\",currency=\"USD\"}";
    assert_eq!(written(&mut exporter, 2).await.get(amount), Some("500"));
    // A poll that fails on the last day has made the others final, and keeps them: but no figures of these budgets.
    refuse_last_day(&simulator);
    config.lock().unwrap().budgets = vec![of_calls(600)];
    exporter.reload().await;
    written(&mut exporter, 3).await;
    exporter.stop().await;
    let exporter = start_changing(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(counted(&restored, "restored"), 1);
    assert!(restored.0.contains("teams_pstn_call_log_calls{"));
    assert_eq!(restored.get(amount), None);
}

fn of_calls(amount: u32) -> Budget {
    Budget {
        name: "calls".to_owned(),
        report: ReportKind::CallLog,
        ..budget(amount)
    }
}

/// A change to the file of the dial-out report before the restart.
type Prepare = fn(&Path);

/// After a restart under these labels there are so many files left of a report that is polled and one that is not, whose
/// files named people by their principal names.
const RESTARTS: &[(&str, Prepare, UserLabel, usize)] = &[
    ("as they were", |_| {}, UserLabel::Upn, 2),
    ("as they were", |_| {}, UserLabel::None, 0),
    ("as they were", |_| {}, UserLabel::DisplayName, 0),
    ("set aside", set_aside, UserLabel::Upn, 2),
    ("set aside", set_aside, UserLabel::Id, 0),
    ("torn", torn, UserLabel::Upn, 2),
    ("torn", torn, UserLabel::None, 0),
    ("torn", torn, UserLabel::DisplayName, 0),
    ("cut", cut, UserLabel::Upn, 2),
    ("cut", cut, UserLabel::None, 0),
    ("newer", newer, UserLabel::Upn, 2),
    ("newer", newer, UserLabel::Id, 0),
    ("foreign", foreign, UserLabel::Upn, 2),
    ("foreign", foreign, UserLabel::None, 0),
];

fn set_aside(path: &Path) {
    fs::rename(path, path.with_extension("state.rejected")).unwrap();
}

fn torn(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    fs::write(path, &fs::read(path).unwrap()[..30]).unwrap();
}

fn newer(path: &Path) {
    let text = "teams-pstn-exporter state 2\n{\"names\":[\"ann@contoso.com\"]}\n";
    fs::write(path, text).unwrap();
}

fn foreign(path: &Path) {
    fs::write(path, "ann@contoso.com").unwrap();
}

#[tokio::test(start_paused = true)]
async fn names_absent_from_labels_do_not_survive_a_restart() {
    let table = Table::new([row("ann", "12.83")]);
    let (simulator, time) = Setup::of(World::Table(table)).simulate().await;
    for (what, prepare, user, left) in RESTARTS {
        let folder = TempDir::new().unwrap();
        let mut config = keeping(&simulator, folder.path());
        config.reports = vec![ReportKind::Dialout.into(), ReportKind::Sms.into()];
        simulator.clear_faults();
        let mut exporter = start(&config, &time);
        written(&mut exporter, 4).await;
        exporter.stop().await;
        let own = files(folder.path());
        let [dialout, _sms] = own.as_slice() else {
            panic!("{own:?}");
        };
        prepare(&folder.path().join(dialout));
        // Of a tenant that this exporter does not have, or another has.
        let others = dialout.replace(TENANT, "22222222-2222-3333-4444-555555555555");
        fs::write(folder.path().join(format!("{others}.rejected")), "ann").unwrap();
        simulator.push_fault(When::graph().always(), Fault::status(503));
        config.reports = vec![ReportKind::Dialout.into()];
        config.labels.user = user.clone();
        let exporter = start(&config, &time);
        let stay = files(folder.path());
        assert_eq!(stay.len(), left + 1, "{what}, {user:?}: {stay:?}");
        assert!(stay.contains(&format!("{others}.rejected")), "{stay:?}");
        exporter.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn figures_of_another_graph_are_not_restored() {
    let folder = TempDir::new().unwrap();
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config: Config = keeping(&simulator, folder.path());
    let mut exporter = start(&config, &time);
    written(&mut exporter, 2).await;
    exporter.stop().await;
    // The same port of an address on which no process listens.
    let nowhere = simulator.url().replace("127.0.0.1", "127.0.0.9");
    simulator.stop().await;
    for change in [
        (|config, url| config.tenants[0].graph_url = Some(url.parse().unwrap()))
            as fn(&mut Config, &str),
        |config, url| config.tenants[0].authority_url = Some(url.parse().unwrap()),
    ] {
        let [name] = files(folder.path()).try_into().unwrap();
        let path = folder.path().join(&name);
        let whole = fs::read(&path).unwrap();
        let mut other = config.clone();
        change(&mut other, &nowhere);
        let exporter = start(&other, &time);
        let metrics = exporter.scrape().await;
        assert_eq!(counted(&metrics, "rejected"), 1);
        assert!(!metrics.0.contains("teams_pstn_dialout_charge{"));
        exporter.stop().await;
        assert_eq!(files(folder.path()), [format!("{name}.rejected")]);
        fs::remove_file(folder.path().join(format!("{name}.rejected"))).unwrap();
        fs::write(&path, whole).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn reload_with_another_folder_saves_there_without_graph() {
    let (old, new) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (simulator, time) = Setup::of(World::Rows { count: 10 }).simulate().await;
    let config = changing(keeping(&simulator, old.path()));
    let mut exporter = start_changing(&config, &time);
    written(&mut exporter, 2).await;
    simulator.push_fault(When::graph().always(), Fault::status(503));
    config.lock().unwrap().storage = Some(new.path().to_owned());
    exporter.reload().await;
    written(&mut exporter, 3).await;
    assert_eq!(files(new.path()), files(old.path()));
    exporter.stop().await;
    let exporter = start_changing(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(restored.report("rows"), "10");
}

/// Rows of the first Graph must not become a part of those of the second, neither in the metrics nor in the file.
#[tokio::test(start_paused = true)]
async fn reload_to_another_graph_starts_over() {
    let folder = TempDir::new().unwrap();
    let (first, time) = company().simulate().await;
    let empty = Setup::of(World::Table(Table::new(Vec::<String>::new())));
    let second = empty.simulate_at(([127, 0, 0, 1], 0).into(), &time).await;
    let of = |simulator: &Simulator| {
        let mut config = keeping(simulator, folder.path());
        config.reports = vec![ReportKind::CallLog.into()];
        config
    };
    let config = changing(of(&first));
    let mut exporter = start_changing(&config, &time);
    let calls = |metrics: &Metrics| {
        [
            "teams_pstn_call_log_calls",
            "teams_pstn_call_log_previous_calls",
        ]
        .map(|family| total(metrics, family))
    };
    let before = written(&mut exporter, 2).await;
    let calls_of_first = calls(&before);
    assert!(
        calls_of_first.iter().all(|&calls| calls > 0),
        "{calls_of_first:?}"
    );

    // Fails on the newest day only, so that the other days become final.
    let newest = When::graph().asking("getPstnCalls(fromDateTime=2026-11-21");
    second.push_fault(newest.always(), Fault::EmptyForbidden);
    *config.lock().unwrap() = of(&second);
    exporter.reload().await;
    for _ in 0..2 {
        let failed = exporter.next_poll().await;
        assert_eq!(calls(&failed), [0, 0], "no row of the first Graph");
    }
    // The final days of the second Graph.
    let days = written(&mut exporter, counted(&before, "written") + 1).await;
    second.clear_faults();
    let after = written(&mut exporter, counted(&days, "written") + 2).await;
    assert_eq!(calls(&after), [0, 0]);

    exporter.stop().await;
    second.push_fault(When::graph().always(), Fault::status(503));
    let exporter = start_changing(&config, &time);
    let restored = exporter.scrape().await;
    assert_eq!(counted(&restored, "restored"), 1);
    assert_eq!(calls(&restored), [0, 0]);
}

fn total(metrics: &Metrics, family: &str) -> u64 {
    let samples = metrics.samples(family);
    let values = samples
        .iter()
        .map(|sample| sample.value.parse::<u64>().unwrap());
    values.sum()
}
