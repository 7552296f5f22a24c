//! Stories of polls at any time, restarts, reloads, failures, and a clock that goes back: after each step the figures are
//! those of one who has just begun and asks for everything.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_simulator::faults::{Fault, When};
use tempfile::TempDir;

use crate::open_days::{FAMILIES, Site, polled_since};
use crate::support::{Exporter, Metrics, budget};

#[tokio::test(start_paused = true)]
async fn any_history_gives_the_result_of_a_full_fetch() {
    for (seed, start, goes_back) in [
        (0, "2026-11-03T05:00:00Z", false),
        (1, "2026-11-03T05:00:00Z", true),
        (2, "2026-11-22T05:00:00Z", false),
        (3, "2026-11-22T05:00:00Z", true),
    ] {
        let mut dice = fastrand::Rng::with_seed(seed);
        let times = times(&mut dice, start.parse().unwrap(), goes_back);
        Story::begin(dice, times).await.run(seed).await;
    }
}

/// Hours to days apart, twelve of them.
fn times(dice: &mut fastrand::Rng, start: DateTime<Utc>, goes_back: bool) -> Vec<DateTime<Utc>> {
    let mut times = vec![start];
    while let Some(last) = times.last().filter(|_| times.len() < 12) {
        times.push(*last + TimeDelta::minutes(dice.i64(60..80 * 60)));
    }
    if goes_back {
        let at = dice.usize(4..10);
        times.swap(at, at + 1);
    }
    times
}

struct Story {
    dice: fastrand::Rng,
    times: Vec<DateTime<Utc>>,
    site: Site,
    folder: TempDir,
    /// None while it is restarted.
    exporter: Option<Exporter>,
}

impl Story {
    async fn begin(dice: fastrand::Rng, times: Vec<DateTime<Utc>>) -> Self {
        let site = Site::polled_at(&times).await;
        let folder = TempDir::new().unwrap();
        keep_in(&site, Some(folder.path()));
        let exporter = Some(site.exporter(true));
        Self {
            dice,
            times,
            site,
            folder,
            exporter,
        }
    }

    async fn run(mut self, seed: u64) {
        let mut steps = Vec::new();
        for index in 0..self.times.len() {
            let now = self.times[index];
            if index > 0 {
                self.site.time.set(&now.to_rfc3339());
            }
            let step = self.step(now).await;
            steps.push(format!("{now} {step}"));
            let is_now = |success: Option<DateTime<Utc>>| {
                success.is_some_and(|at| (at - now).abs() < TimeDelta::minutes(30))
            };
            self.exporter()
                .until(|snapshot| {
                    let mut states = snapshot.states().iter();
                    states.all(|state| is_now(state.last_success))
                })
                .await;
            // After a clock that is set back, the exporter has more rows than the service sends now.
            if self.times[..index].iter().all(|before| *before < now) {
                self.compare(&format!("seed {seed}: {steps:#?}")).await;
            }
        }
    }

    /// Something that happens now and then.
    async fn step(&mut self, now: DateTime<Utc>) -> &'static str {
        let Self { dice, site, .. } = self;
        match dice.u8(0..7) {
            0 => {
                self.restart().await;
                "restart"
            }
            1 => {
                site.change(|config| config.poll.timeout += Duration::from_secs(1));
                self.exporter().reload().await;
                "another timeout"
            }
            2 => {
                let one = Budget {
                    report: ReportKind::CallLog,
                    ..budget(dice.u32(1..1000))
                };
                site.change(|config| config.budgets = vec![one]);
                self.exporter().reload().await;
                "another budget"
            }
            3 => {
                let day = now - TimeDelta::days(dice.i64(0..5));
                let asking = When::graph().asking(&day.format("=%Y-%m-%d").to_string());
                let restarts = dice.bool();
                site.simulator
                    .push_fault(asking.always(), Fault::EmptyForbidden);
                self.exporter().next_poll().await;
                self.site.simulator.clear_faults();
                if restarts {
                    self.restart().await;
                }
                "a day that fails"
            }
            4 => {
                let most = dice.usize(3..200).try_into().unwrap();
                site.change(|config| config.labels.max_series = most);
                self.exporter().reload().await;
                "another limit of series"
            }
            _ => "time passes",
        }
    }

    fn exporter(&mut self) -> &mut Exporter {
        self.exporter.as_mut().expect("not restarting")
    }

    async fn restart(&mut self) {
        self.exporter.take().expect("not restarting").stop().await;
        self.exporter = Some(self.site.exporter(true));
    }

    /// Holds what is served against one who knows nothing.
    async fn compare(&mut self, story: &str) {
        let metrics = self.exporter().scrape().await;
        keep_in(&self.site, None);
        let begun = self.site.time.now();
        let mut fresh = self.site.exporter(false);
        let all = polled_since(&mut fresh, begun).await;
        fresh.stop().await;
        keep_in(&self.site, Some(self.folder.path()));
        let (found, expected) = (current(&metrics), current(&all));
        // Which of those near the edge are folded is a matter of what was before.
        if !found.contains("__other__") {
            assert_eq!(found, expected, "{story}");
        }
        for family in [
            "teams_pstn_call_log_calls",
            "teams_pstn_call_log_call_seconds",
            "teams_pstn_sms_units",
            "teams_pstn_direct_routing_calls",
            "teams_pstn_budget_spent",
        ] {
            let (found, expected) = (sum(&metrics, family), sum(&all, family));
            assert!(
                (found - expected).abs() < 1e-6,
                "{family}: {found}, {expected}: {story}"
            );
        }
    }
}

fn keep_in(site: &Site, folder: Option<&Path>) {
    site.change(|config| config.storage = folder.map(Path::to_owned));
}

/// The samples of the current period.
fn current(metrics: &Metrics) -> String {
    let families = metrics.families(FAMILIES);
    let current = families.lines().filter(|line| !line.contains("previous"));
    current.fold(String::new(), |text, line| text + line + "\n")
}

fn sum(metrics: &Metrics, family: &str) -> f64 {
    let samples = metrics.samples(family);
    samples
        .iter()
        .map(|sample| sample.value.parse::<f64>().unwrap())
        .sum()
}
