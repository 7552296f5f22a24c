//! The demo: budgets that are mostly spent on any day, and a configuration file without tenants.

use teams_pstn_exporter::demo::Demo;

use crate::support::{Exporter, Time};

#[tokio::test(start_paused = true)]
async fn most_of_a_budget_is_spent_on_any_day_of_the_month() {
    for day in [
        "2026-02-28T12:00:00Z",
        "2026-03-01T00:05:00Z",
        "2026-08-31T23:00:00Z",
    ] {
        let time = Time::at(day);
        let demo = Demo::start(time.clock()).await.unwrap();
        let mut exporter = Exporter::start(demo.load(None), &time);
        let metrics = exporter
            .scrape_when(|metrics| metrics.samples("teams_pstn_budget_spent").len() == 2)
            .await;
        for name in ["dial-out", "calls"] {
            let value = |family: &str| -> f64 {
                let labels = format!("{{budget=\"{name}\",currency=\"USD\"}}");
                metrics
                    .value(&format!("teams_pstn_budget_{family}{labels}"))
                    .parse()
                    .unwrap()
            };
            let percent = 100.0 * value("spent") / value("amount");
            assert!(
                (70.0..120.0).contains(&percent),
                "{day}: {percent} % of {name}"
            );
        }
        exporter.stop().await;
    }
}
