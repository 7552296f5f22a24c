//! A reload tries again what has failed, and disturbs nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use teams_pstn_exporter::report::ReportKind;
use teams_pstn_simulator::faults::{Fault, When};
use tokio::time::Instant;

use crate::storage::company;
use crate::support::{Exporter, Metrics, config};

fn polls(metrics: &Metrics, report: ReportKind) -> u64 {
    let sample = format!("teams_pstn_report_polls_total{{report=\"{report}\"}}");
    metrics.value(&sample).parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn reload_does_not_retry_a_successful_report() {
    let (simulator, time) = company().simulate().await;
    let mut config = config(&simulator);
    config.reports = vec![ReportKind::BlockedUsers.into(), ReportKind::Dialout.into()];
    // So that no tick comes while the other is tried again.
    config.poll.interval = Duration::from_hours(6);
    let blocked = When::graph().asking("PstnBlockedUsers").always();
    simulator.push_fault(blocked, Fault::EmptyForbidden);
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    let before = exporter.first_poll().await;
    let begun = Instant::now();
    for again in 1..=3 {
        exporter.reload().await;
        let expected = polls(&before, ReportKind::BlockedUsers) + again;
        let metrics = exporter
            .scrape_when(|metrics| polls(metrics, ReportKind::BlockedUsers) == expected)
            .await;
        assert_eq!(
            polls(&metrics, ReportKind::Dialout),
            polls(&before, ReportKind::Dialout)
        );
    }
    assert!(begun.elapsed() < Duration::from_hours(1), "they were ticks");
    // With a token that may have what was granted since.
    let tokens = simulator.counts().token;
    simulator.clear_faults();
    exporter.reload().await;
    exporter
        .scrape_when(|metrics| {
            metrics.value("teams_pstn_report_up{report=\"blocked_users\"}") == "1"
        })
        .await;
    assert_eq!(simulator.counts().token, tokens + 1);
}

#[tokio::test(start_paused = true)]
async fn running_poll_continues_after_repeated_requests() {
    let (simulator, time) = company().simulate().await;
    simulator.push_fault(When::graph().always(), Fault::StallHead);
    let config = config(&simulator);
    let timeout = config.poll.timeout;
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    let failed = exporter.first_poll().await;
    let begun = Instant::now();
    let mut reloads = 0;
    let ended = loop {
        exporter.reload().await;
        reloads += 1;
        tokio::time::sleep(timeout / 10).await;
        let metrics = exporter.scrape().await;
        if polls(&metrics, ReportKind::Dialout) > polls(&failed, ReportKind::Dialout) {
            break begun.elapsed();
        }
        assert!(begun.elapsed() < timeout * 10, "it never ends");
    };
    assert!(reloads > 3 && ended < timeout * 3, "{reloads}, {ended:?}");
}

/// A flood of reloads costs one reload per second and one poll per back-off, which doubles up to a minute.
#[tokio::test(start_paused = true)]
async fn reloads_run_once_per_second_and_polls_once_per_back_off() {
    let (simulator, time) = company().simulate().await;
    simulator.push_fault(When::graph().always(), Fault::EmptyForbidden);
    let mut config = config(&simulator);
    config.poll.interval = Duration::from_hours(6);
    let loads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&loads);
    let load = Box::new(move || {
        counted.fetch_add(1, Relaxed);
        Ok(config.clone())
    });
    let mut exporter = Exporter::start(load, &time);
    let failed = exporter.first_poll().await;
    exporter.reload().await;
    let (begun, first) = (Instant::now(), loads.load(Relaxed));
    while begun.elapsed() < Duration::from_mins(10) {
        tokio::join!(exporter.reload(), exporter.reload(), exporter.reload());
    }
    let (loads, seconds) = (loads.load(Relaxed) - first, begun.elapsed().as_secs());
    assert!(loads <= seconds + 1, "{loads} in {seconds} s");
    let retries =
        polls(&exporter.scrape().await, ReportKind::Dialout) - polls(&failed, ReportKind::Dialout);
    // Six until the back-off is a minute, then one per minute.
    assert!((8..=17).contains(&retries), "{retries}");
}
