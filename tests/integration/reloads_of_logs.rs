//! The effect of a restart and a changed configuration on the days that are known: nothing is lost, nothing is counted
//! twice, and unwanted data is no longer served.

use std::num::NonZeroUsize;

use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_exporter::report::department::Departments;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_simulator::address::Function;
use teams_pstn_simulator::faults::{Fault, When};

use crate::open_days::{FAMILIES, LOGS, Site, days, november_days, poll_at, polled_since};
use crate::oracle::at;
use crate::support::{INTERVAL, Metrics, NOW, budget, request};

/// A change, and the day from which calls and messages are then requested.
type Case = (&'static str, Box<dyn Fn(&mut Config)>, i64, i64);

#[tokio::test(start_paused = true)]
async fn restart_exposes_identical_text() {
    const POLLS: &[&str] = &[NOW, "2026-11-22T12:00:00Z"];
    let site = Site::at(POLLS).await;
    let mut exporter = site.exporter(false);
    polled_since(&mut exporter, at(NOW)).await;
    let before = poll_at(&site, &mut exporter, POLLS[1]).await;
    exporter.stop().await;
    let (_, requests) = site.asked_since(0);
    let mut exporter = site.exporter(false);
    let after = polled_since(&mut exporter, at(POLLS[1])).await;
    assert_eq!(after.families(FAMILIES), before.families(FAMILIES));
    let (asked, _) = site.asked_since(requests);
    for (function, _) in LOGS {
        assert_eq!(days(&asked[&function]), november_days(1..=22));
    }
}

#[tokio::test(start_paused = true)]
async fn reload_keeps_days_unless_their_sums_change() {
    let site = Site::at(&[NOW]).await;
    let mut exporter = site.exporter(false);
    polled_since(&mut exporter, at(NOW)).await;
    let budget = Budget {
        report: ReportKind::CallLog,
        ..budget(500)
    };
    let cases: [Case; 7] = [
        ("pace", Box::new(|config| config.poll.timeout *= 2), 18, 18),
        (
            "max_series",
            Box::new(|config| config.labels.max_series = NonZeroUsize::new(19_000).unwrap()),
            18,
            18,
        ),
        (
            "budgets",
            Box::new(move |config| config.budgets = vec![budget.clone()]),
            1,
            18,
        ),
        (
            "departments",
            Box::new(|config| {
                let file = b"user,department\nann@contoso.com,Sales\n";
                config.departments = Some(Departments::parse(file).unwrap().into());
            }),
            1,
            1,
        ),
        (
            "interval of a report",
            Box::new(|config| config.reports[0].interval = Some(INTERVAL * 2)),
            18,
            18,
        ),
        (
            "names of a report",
            Box::new(|config| config.reports[0].user = Some(UserLabel::None)),
            1,
            18,
        ),
        (
            "names",
            Box::new(|config| config.labels.user = UserLabel::Upn),
            18,
            1,
        ),
    ];
    for (what, change, calls, messages) in cases {
        let (_, requests) = site.asked_since(0);
        site.change(change);
        let now = site.a_little_later().await;
        exporter.reload().await;
        let after = polled_since(&mut exporter, now).await;
        let (asked, _) = site.asked_since(requests);
        for (function, first) in [(Function::Calls, calls), (Function::Sms, messages)] {
            assert_eq!(days(&asked[&function]), november_days(first..=21), "{what}");
        }
        // And however the days were known: as one who asks for everything says it.
        let mut fresh = site.exporter(false);
        let all = polled_since(&mut fresh, now).await;
        assert_eq!(after.families(FAMILIES), all.families(FAMILIES), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn reports_come_and_go_with_the_configuration() {
    let site = Site::at(&[NOW]).await;
    let mut exporter = site.exporter(false);
    let all = polled_since(&mut exporter, at(NOW)).await;
    site.change(|config| config.reports = vec![ReportKind::Sms.into()]);
    exporter.reload().await;
    // With the next publication, which waits for no poll; and what stays is as it was.
    let gone = [
        "teams_pstn_call_log_",
        "teams_pstn_direct_routing_",
        "teams_pstn_blocked_users",
        "report=\"call_log\"",
        "report=\"blocked_users\"",
    ];
    assert!(gone.iter().all(|gone| all.0.contains(gone)));
    let less = exporter
        .scrape_when(|metrics| !gone.iter().any(|gone| metrics.0.contains(gone)))
        .await;
    let sms = ["teams_pstn_sms_"];
    assert_eq!(less.families(&sms), all.families(&sms));
    site.change(|config| config.reports = vec![ReportKind::Sms.into(), ReportKind::CallLog.into()]);
    let (_, requests) = site.asked_since(0);
    let now = site.a_little_later().await;
    exporter.reload().await;
    let more = polled_since(&mut exporter, now).await;
    let calls = ["teams_pstn_call_log_"];
    assert_eq!(more.families(&calls), all.families(&calls));
    let (asked, _) = site.asked_since(requests);
    assert_eq!(days(&asked[&Function::Calls]), november_days(1..=21));
    assert_eq!(days(&asked[&Function::Sms]), november_days(18..=21));
    assert_eq!(asked.get(&Function::DirectRouting), None);
}

/// A correction in a final day is seen once that day is requested. Until the fetch has succeeded, the old figures are
/// served.
#[tokio::test(start_paused = true)]
async fn final_days_are_fetched_again_on_request() {
    let site = Site::at(&[NOW]).await;
    site.change(|config| config.reports = vec![ReportKind::DirectRouting.into()]);
    let row = |seconds: u32| {
        format!(
            r#"{{"id":"00000000-0000-4000-8000-000000000001","userId":"u1","startDateTime":"2026-11-05T10:00:00Z","duration":{seconds},"callType":"ByotOut"}}"#
        )
    };
    let duration = |metrics: &Metrics| {
        let samples = metrics.samples("teams_pstn_direct_routing_call_seconds");
        samples[0].value.clone()
    };
    site.logs.direct_routing.set_texts([row(5)]);
    let mut exporter = site.exporter(false);
    let first = polled_since(&mut exporter, at(NOW)).await;
    assert_eq!(duration(&first), "5");
    site.logs.direct_routing.set_texts([row(7)]);
    // A reload alone fetches no final day.
    exporter.reload().await;
    let now = site.a_little_later().await;
    let polled = polled_since(&mut exporter, now).await;
    assert_eq!(duration(&polled), "5");
    site.simulator
        .push_fault(When::graph().always(), Fault::EmptyForbidden);
    let answer = request(exporter.address, "POST", "/-/reload?refetch=true", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let failed = exporter
        .scrape_when(|metrics| {
            metrics.value("teams_pstn_report_up{report=\"direct_routing\"}") == "0"
        })
        .await;
    assert_eq!(duration(&failed), "5", "what is served stays");
    site.simulator.clear_faults();
    let corrected = exporter
        .scrape_when(|metrics| duration(metrics) == "7")
        .await;
    assert_eq!(
        corrected.value("teams_pstn_report_rows{report=\"direct_routing\"}"),
        "1"
    );
}
