//! A wall clock that is set.

use std::time::Duration;

use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::World;
use tokio::time::Instant;

use crate::support::{Metrics, Setup};

/// A clock that is set into another billing period is noticed within a minute, whichever way it is set, and figures of a
/// period that has not begun are not served even if Graph does not answer.
#[tokio::test(start_paused = true)]
async fn clock_that_is_set_is_noticed_within_a_minute() {
    const START: &str = "teams_pstn_billing_period_start_timestamp_seconds{report=\"dialout\"}";
    let check = async |from: &'static str, to: &str, answers: bool, expected: Option<&str>| {
        let mut setup = Setup::of(World::Rows { count: 1 });
        setup.now = from;
        setup.change = |config| config.poll.interval = Duration::from_hours(1);
        let (simulator, mut exporter, time) = setup.start().await;
        let first = exporter.first_poll().await;
        let before = first.get(START).map(str::to_owned);
        if !answers {
            simulator.push_fault(When::graph().always(), Fault::EmptyForbidden);
        }
        time.set(to);
        let begun = Instant::now();
        let such = |metrics: &Metrics| metrics.get(START) == expected;
        let metrics = exporter.scrape_when(such).await;
        let passed = begun.elapsed();
        assert!(
            passed <= Duration::from_secs(62),
            "{from} to {to}: {passed:?}"
        );
        assert_ne!(before.as_deref(), expected, "{from} to {to}");
        if expected.is_none() {
            assert_eq!(
                metrics.families(&["teams_pstn_dialout"]),
                "",
                "{from} to {to}"
            );
            assert_eq!(exporter.get("/-/ready").await.status, 503, "{from} to {to}");
        }
        exporter.stop().await;
    };
    let [november, december] = ["1793491200", "1796083200"];
    check(
        "2026-12-05T00:00:00Z",
        "2026-11-20T12:00:00Z",
        true,
        Some(november),
    )
    .await;
    check("2026-12-05T00:00:00Z", "2026-11-20T12:00:00Z", false, None).await;
    check(
        "2026-11-20T12:00:00Z",
        "2026-12-05T00:00:00Z",
        true,
        Some(december),
    )
    .await;
}
