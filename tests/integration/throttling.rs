//! A service that fails by chance and throttles the tenant: every report completes, and few requests come too early.

use std::time::Duration;

use teams_pstn_exporter::report::ReportKind;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::faults::{ErrorBody, Fault, Unreliable, When};
use teams_pstn_simulator::world::World;

use crate::logs::company;
use crate::support::{Exporter, Log, Setup, Time, reports};

/// One in five errors is a 429, and each costs the requests that were under way beside it.
#[tokio::test(start_paused = true)]
async fn all_reports_complete_in_one_poll_despite_random_failures() {
    for (percent, penalty, as_date) in [
        (20, true, false),
        (20, false, false),
        (20, true, true),
        (50, true, false),
        (50, false, true),
    ] {
        for seed in 0..2 {
            let service = Unreliable {
                seed,
                percent,
                retry_after: 5,
                as_date,
                penalty,
            };
            let (simulator, mut exporter, _) = every_report(service).await;
            let metrics = exporter.first_poll().await;
            let statuses = statuses(&simulator);
            let throttled = statuses.iter().filter(|&&status| status == 429).count();
            let share = throttled * 100 / statuses.len();
            for sample in metrics.samples("teams_pstn_report_up") {
                assert_eq!(sample.value, "1", "{service:?}: {sample:?}");
            }
            assert_eq!(metrics.samples("teams_pstn_report_up").len(), 5);
            assert!(throttled > 0, "{service:?}");
            if percent <= 20 {
                assert!(share < 25, "{service:?}: {share} % of {}", statuses.len());
            }
            exporter.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn long_throttling_holds_all_reports_and_later_polls() {
    for status in [429, 503] {
        let log = Log::capture();
        let setup = Setup {
            change: |config| config.reports = reports(ReportKind::ALL),
            ..Setup::of(World::Rows { count: 3 })
        };
        let (simulator, time) = setup.simulate().await;
        let fault = Fault::Status {
            status,
            body: ErrorBody::Json,
            retry_after: Some("86400".to_owned()),
        };
        simulator.push_fault(When::graph().always(), fault);
        let mut config = crate::support::config(&simulator);
        (setup.change)(&mut config);
        let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
        exporter.first_poll().await;
        let asked = statuses(&simulator).len();
        simulator.clear_faults();
        let logged = log.take();
        for part in [
            &format!("Graph answered {status}"),
            "retry after 86400 s",
            "request-id",
            "remedy=",
        ] {
            assert!(logged.contains(part), "no {part} in {logged}");
        }
        for _ in 0..3 {
            exporter.next_poll().await;
        }
        assert_eq!(statuses(&simulator).len(), asked, "none before its time");
        let logged = log.take();
        let wait = format!("answered {status} and all requests must wait for another");
        assert!(logged.contains(&wait), "{logged}");
        let reason = if status == 429 { "throttled" } else { "status" };
        assert!(logged.contains(&format!("reason={reason}")), "{logged}");
        // An hour later, whatever was asked for.
        tokio::time::advance(Duration::from_hours(1)).await;
        let metrics = exporter.next_success().await;
        assert_eq!(metrics.report("up"), "1");
        exporter.stop().await;
    }
}

/// A daemon that polls the five reports of a company from a service of this kind.
async fn every_report(service: Unreliable) -> (Simulator, Exporter, Time) {
    let setup = Setup::of(company(1));
    let (simulator, time) = setup.simulate().await;
    simulator.push_fault(When::graph().always(), Fault::Unreliable(service));
    let mut config = crate::support::config(&simulator);
    config.reports = reports(ReportKind::ALL);
    let exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    (simulator, exporter, time)
}

/// Of the answers of Graph.
fn statuses(simulator: &Simulator) -> Vec<u16> {
    let requests = simulator.requests();
    let graph = requests.iter().filter(|request| request.method == "GET");
    graph.filter_map(|request| request.status).collect()
}
