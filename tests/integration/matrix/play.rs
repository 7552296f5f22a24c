//! How a cell is played: a poll that succeeds, the fault at its moment, and a poll that succeeds again.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use teams_pstn_simulator::journal::Counts;

use super::check::{SECONDS, is_soon_after, numbers};
use super::stage::{Certificates, Stage};
use super::table::{Host, Lasts, What};
use super::{Cell, Moment};
use crate::support::{Exporter, Log, Metrics};

impl Cell<'_> {
    pub(super) async fn play(&self, certificates: &Certificates) {
        let Self { row, moment } = *self;
        let name = self.name();
        let log = Log::capture();
        let token_lifetime = if self.strikes_token() && moment != Moment::Start {
            SHORT_LIFETIME
        } else {
            A_DAY
        };
        let stage = Stage::set(&row.what, self.report(), token_lifetime, certificates).await;
        let (mut exporter, before) = if moment == Moment::Start {
            match row.what {
                What::Name(_) | What::Connections(_) => stage.strike(row),
                _ => stage.prepare(row, self.report(), self.when()),
            }
            (stage.start(), None)
        } else {
            let mut exporter = stage.start();
            let before = self.begin(&stage, &mut exporter, &log).await;
            (exporter, Some(before))
        };
        log.take();
        if moment == Moment::Shutdown {
            self.shut_down(&stage, exporter, before.as_ref().unwrap(), &log)
                .await;
            stage.repair(row);
            exporter = stage.start();
        } else {
            self.fail(&stage, &mut exporter, before.as_ref()).await;
            // Before the next poll may have begun.
            let logged = log.take();
            self.check(before.as_ref(), &exporter.scrape().await, &logged);
            if let What::Clock { to, .. } = row.what {
                self.check_next_period(&mut exporter, to).await;
            }
            if moment == Moment::Start {
                let ready = exporter.get("/-/ready").await.status;
                assert_eq!(ready == 200, self.end().reason.is_none(), "{name}");
            }
            stage.repair(row);
            if matches!(row.what, What::Name(_)) {
                exporter.reload().await;
            }
        }
        let after = exporter.next_success().await;
        assert_eq!(self.of(&after, "up"), "1", "{name}");
        assert_eq!(self.seconds(&after), SECONDS, "{name}");
        if let Some(before) = before {
            assert_eq!(numbers(&after), numbers(&before), "{name}");
        }
        exporter.stop().await;
    }

    /// A poll that succeeds, requests nothing twice and is recent. On a loaded machine a poll may get its token so late
    /// that the next poll still has it, or the next poll may have begun by now. In both cases that next poll would ask
    /// for no token, and a fault of the token would strike the poll after it.
    async fn begin(&self, stage: &Stage, exporter: &mut Exporter, log: &Log) -> Metrics {
        let mut metrics = exporter.first_poll().await;
        for _ in 0..POLLS_TO_BEGIN {
            let asked_twice = log.take().contains(" again\"");
            let age = stage.time.now() - attempt(exporter).expect("a poll has ended");
            let is_recent = age < TimeDelta::seconds(SHORT_LIFETIME.into());
            if self.of(&metrics, "up") == "1" && !asked_twice && is_recent {
                assert_eq!(self.seconds(&metrics), SECONDS, "{}", self.name());
                return metrics;
            }
            metrics = exporter.next_success().await;
        }
        panic!("{}: no poll is without trouble", self.name());
    }

    /// Lets it strike, and waits for the poll that it strikes.
    async fn fail(&self, stage: &Stage, exporter: &mut Exporter, before: Option<&Metrics>) {
        let Self { row, moment } = *self;
        let old = attempt(exporter);
        // So that whatever is tried from now on has begun later.
        tokio::time::advance(Duration::from_millis(1)).await;
        let mut seen = stage.simulator.counts();
        match moment {
            Moment::Start => {
                seen = Counts::default();
                if !matches!(row.what, What::Name(_) | What::Connections(_)) {
                    self.under_way(stage, seen).await;
                    stage.strike(row);
                }
            }
            Moment::BetweenPolls => {
                self.strike(stage).await;
                match row.what {
                    What::Clock { .. } => {}
                    What::Name(_) => exporter.reload().await,
                    _ => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        stage.repair(row);
                    }
                }
            }
            _ => {
                stage.prepare(row, self.report(), self.when());
                self.under_way(stage, seen).await;
                self.strike(stage).await;
                if moment == Moment::Reload {
                    return self.reload(stage, exporter, before.unwrap()).await;
                }
                if matches!(row.what, What::Name(_)) {
                    exporter.reload().await;
                }
                if moment == Moment::Scrape {
                    let scraped = exporter.scrape().await;
                    self.check_numbers(before, &scraped);
                }
            }
        }
        exporter
            .until(|snapshot| {
                let attempt = snapshot.states()[0].last_attempt;
                attempt.is_some() && attempt != old
            })
            .await;
        if self.is_answer() && self.strikes_token() && row.lasts == Lasts::Once {
            // No metric tells of it, as Graph is asked for nothing.
            let asked = stage.simulator.counts().token - seen.token;
            assert_eq!(asked, 2, "{}: requests for a token", self.name());
        }
    }

    /// Replaces the configuration, so that the poll under way is broken off, and waits for one by the new.
    async fn reload(&self, stage: &Stage, exporter: &mut Exporter, before: &Metrics) {
        stage.config.lock().unwrap().poll.interval += Duration::from_secs(1);
        // Later than any poll of the old configuration has begun.
        tokio::time::advance(Duration::from_millis(1)).await;
        let reloaded = stage.time.now();
        let seen = stage.simulator.counts();
        exporter.reload().await;
        let scraped = exporter.scrape().await;
        // The poll of the old configuration may have succeeded just before.
        let success = "last_success_timestamp_seconds";
        if self.of(&scraped, success) == self.of(before, success) {
            self.check_numbers(Some(before), &scraped);
        }
        let soon = reloaded + TimeDelta::minutes(10);
        exporter
            .until(|snapshot| {
                let attempt = snapshot.states()[0].last_attempt;
                attempt.is_some_and(|attempt| (reloaded..soon).contains(&attempt))
            })
            .await;
        if self.is_answer() && self.row.lasts == Lasts::Always {
            self.under_way(stage, seen).await;
        }
    }

    /// Ends well and soon, whatever is under way.
    async fn shut_down(&self, stage: &Stage, mut exporter: Exporter, before: &Metrics, log: &Log) {
        let Self { row, .. } = *self;
        let seen = stage.simulator.counts();
        stage.prepare(row, self.report(), self.when());
        self.under_way(stage, seen).await;
        self.strike(stage).await;
        if matches!(row.what, What::Name(_) | What::Clock { .. }) {
            exporter.reload().await;
        }
        self.check_numbers(Some(before), &exporter.scrape().await);
        // The first sign that the fault has taken effect.
        match row.what {
            What::Clock { to, .. } => {
                let reloaded = "teams_pstn_config_last_reload_success_timestamp_seconds";
                let such = |metrics: &Metrics| is_soon_after(to, metrics.value(reloaded));
                exporter.scrape_when(such).await;
            }
            What::Name(Host::Entra) => {
                let token = "teams_pstn_token_expiry_timestamp_seconds";
                let such = |metrics: &Metrics| metrics.samples(token).is_empty();
                exporter.scrape_when(such).await;
            }
            What::Name(Host::Graph) => self.in_time(stage.asked_for_nowhere()).await,
            What::Answer(_) | What::Row { .. } | What::Connections(_) => {}
        }
        let stopped = tokio::time::timeout(Duration::from_mins(1), exporter.stop()).await;
        assert!(stopped.is_ok(), "{} does not end", self.name());
        let logged = log.take();
        assert!(
            logged.contains("message=stopped"),
            "{}: {logged}",
            self.name()
        );
        assert!(!logged.contains("level=error"), "{}: {logged}", self.name());
    }

    /// Waits until a request since then was struck or, if it gets no answer, was received.
    async fn under_way(&self, stage: &Stage, seen: Counts) {
        let simulator = &stage.simulator;
        if !matches!(self.row.what, What::Clock { .. }) {
            let struck = simulator.wait_until(|counts| counts.struck > seen.struck);
            return self.in_time(struck).await;
        }
        let page = match self.page() {
            1 => "fromDateTime=".to_owned(),
            page => format!("skip={}", (page - 1) * 2),
        };
        let token = self.strikes_token();
        let is = |path: &str| {
            if token {
                path.ends_with("/token")
            } else {
                path.contains(&page)
            }
        };
        let before = usize::try_from(seen.received).unwrap();
        let such = |_: &_| {
            simulator.requests()[before..]
                .iter()
                .any(|request| is(&request.path))
        };
        self.in_time(simulator.wait_until(such)).await;
    }

    /// Lets happen what happens to no request, and sees to it that it does.
    async fn strike(&self, stage: &Stage) {
        stage.strike(self.row);
        self.in_time(stage.cut()).await;
    }

    /// Waits for what must come while the fault lasts.
    async fn in_time(&self, coming: impl Future<Output = ()>) {
        let came = tokio::time::timeout(PATIENCE, coming).await;
        assert!(came.is_ok(), "{} never strikes", self.name());
    }

    /// True if the fault affects the answer to a request.
    fn is_answer(&self) -> bool {
        matches!(self.row.what, What::Answer(_) | What::Row { .. })
    }
}

fn attempt(exporter: &Exporter) -> Option<DateTime<Utc>> {
    exporter.subscriber.latest().states()[0].last_attempt
}

/// In seconds. A token that a poll gets in its first half minute is over at the next poll, a minute after the first.
const SHORT_LIFETIME: u32 = 30;

/// Longer than any clock is set here.
const A_DAY: u32 = 86_400;

/// More than a machine is slow in one after the other.
const POLLS_TO_BEGIN: usize = 10;

/// A poll comes every minute, so what has not struck by then will not.
const PATIENCE: Duration = Duration::from_mins(10);
