//! The expectations that a cell is compared with.

use std::time::Duration;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_simulator::faults::Fault;

use super::table::What;
use super::{Cell, Moment};
use crate::support::{Exporter, Metrics};

impl Cell<'_> {
    /// Checks the metrics that are published when the poll has ended.
    pub(super) fn check(&self, before: Option<&Metrics>, during: &Metrics, logged: &str) {
        let (name, end) = (self.name(), self.end());
        let has_report = before.is_some() && !self.starts_over();
        let none = Metrics(String::new());
        let growth = |counter: &str, label: &str| {
            let name = format!("teams_pstn_{counter}_total");
            during.growth(before.unwrap_or(&none), &name, label)
        };
        let reason = end.reason.unwrap_or_default();
        let (up, level) = match end.reason {
            None => ("1", "level=info"),
            Some(_) => ("0", "level=warn"),
        };
        assert_eq!(self.of(during, "up"), up, "{name}\n{logged}");
        let failures = growth("report_failures", "reason");
        let polls: Vec<&str> = logged
            .lines()
            .filter(|line| line.contains(" message=\"poll "))
            .collect();
        let last = *polls.last().expect("a line of the log");
        if self.moment == Moment::Reload {
            // The poll of the old configuration may or may not have ended.
            let expected = [1, 2].map(|times| format!("{reason}={times}"));
            let is_expected =
                expected.contains(&failures) || end.reason.is_none() && failures.is_empty();
            assert!(is_expected, "{name}: {failures}\n{logged}");
        } else {
            let expected = end
                .reason
                .map_or_else(String::new, |reason| format!("{reason}=1"));
            assert_eq!(failures, expected, "{name}\n{logged}");
            let retries = growth("graph_retries", "reason");
            // Of windows side by side, each may lose its connection.
            let is_shared = self.moment == Moment::MiddleWindow
                && matches!(self.row.what, What::Connections(_));
            let same = match end.retries.strip_suffix('*') {
                Some(begin) => retries.starts_with(begin),
                None => retries == end.retries,
            };
            assert!(same || is_shared, "{name}: {retries}\n{logged}");
        }
        // A clock that passes the end of a month is followed by a poll at once.
        if self.moment != Moment::Reload && !matches!(self.row.what, What::Clock { .. }) {
            assert_eq!(
                growth("report_polls", "report"),
                format!("{}=1", self.report().as_str()),
                "{name}"
            );
            assert_eq!(polls.len(), 1, "{name}\n{logged}");
        }
        assert!(last.contains(level), "{name}\n{logged}");
        let said = |word: &str| last.split_whitespace().any(|said| said == word);
        let expected = match end.reason {
            Some(reason) => format!("reason={reason}"),
            None => format!("overlapping_rows={}", self.row.what.repeats()),
        };
        assert!(said(&expected), "{name}\n{logged}");
        if end.reason.is_some() {
            let what_is_served = if has_report {
                "the last complete report stays"
            } else {
                "there is no report yet"
            };
            for part in [what_is_served, " remedy=\""] {
                assert!(last.contains(part), "{name}: no {part}\n{logged}");
            }
        }
        if !has_report && end.reason.is_some() {
            assert_eq!(numbers(during), "", "{name}");
            assert_eq!(
                self.of(during, "last_success_timestamp_seconds"),
                "0",
                "{name}"
            );
        } else {
            let seconds = self.seconds(during);
            let is_other_period = seconds == 0 && self.may_be_another_period();
            assert!(
                seconds == SECONDS + end.more_seconds || is_other_period,
                "{name}: {seconds}\n{logged}"
            );
            if end.more_seconds == 0 {
                self.check_numbers(before, during);
            }
        }
    }

    /// True if the clock can have brought another billing period, with no figures, before the scrape: the next poll,
    /// since all calls are of one month, or a clock that was set back to before the period of the figures.
    fn may_be_another_period(&self) -> bool {
        match self.row.what {
            What::Clock { from, to } => to < from || self.moment == Moment::MiddleWindow,
            _ => false,
        }
    }

    /// True if the reload that takes the name away starts over, because the host has another address then.
    fn starts_over(&self) -> bool {
        matches!(self.row.what, What::Name(_))
    }

    /// Checks that figures from before are still the same. If the tenant starts over, they may be gone.
    pub(super) fn check_numbers(&self, before: Option<&Metrics>, now: &Metrics) {
        if self.starts_over() && numbers(now).is_empty() {
            return;
        }
        // Between polls the clock may have gone into another month, and the next poll with it.
        if let Some(before) = before
            && !matches!(self.row.what, What::Clock { .. })
        {
            let [now, before] = [now, before].map(|metrics| match self.row.what {
                What::Answer(Fault::InvalidUtf8) => without_users(&numbers(metrics)),
                _ => numbers(metrics),
            });
            assert_eq!(now, before, "{}", self.name());
        }
    }

    /// The poll after a clock was set is of the time and of the period that the clock is in.
    pub(super) async fn check_next_period(&self, exporter: &mut Exporter, to: &str) {
        let time: DateTime<Utc> = to.parse().unwrap();
        let month = time
            .date_naive()
            .with_day(1)
            .unwrap()
            .and_hms_opt(0, 0, 0)
            .unwrap();
        let expected = month.and_utc().timestamp().to_string();
        let sample = format!(
            "teams_pstn_billing_period_start_timestamp_seconds{{report=\"{}\"}}",
            self.report().as_str()
        );
        let metrics = exporter
            .scrape_when(|metrics| {
                let begun = self.of(metrics, "last_success_timestamp_seconds");
                is_soon_after(to, begun) && metrics.get(&sample) == Some(&expected)
            })
            .await;
        assert_eq!(self.of(&metrics, "up"), "1", "{}", self.name());
    }

    pub(super) fn of<'m>(&self, metrics: &'m Metrics, metric: &str) -> &'m str {
        let report = self.report().as_str();
        metrics.value(&format!(
            "teams_pstn_report_{metric}{{report=\"{report}\"}}"
        ))
    }

    pub(super) fn seconds(&self, metrics: &Metrics) -> u64 {
        let samples = metrics.samples(match self.report() {
            ReportKind::Dialout => "teams_pstn_dialout_call_seconds",
            _ => "teams_pstn_call_log_call_seconds",
        });
        let seconds = samples.iter().map(|sample| sample.value.parse::<u64>());
        seconds.map(|seconds| seconds.expect("whole seconds")).sum()
    }
}

/// True if a metric in Unix seconds is a time that comes after that one and before any other that a clock is set to.
pub(super) fn is_soon_after(time: &str, seconds: &str) -> bool {
    let time: DateTime<Utc> = time.parse().unwrap();
    let found = DateTime::UNIX_EPOCH + Duration::from_secs_f64(seconds.parse().unwrap());
    (time..time + TimeDelta::minutes(30)).contains(&found)
}

/// All that is about the money of the current period, letter by letter.
pub(super) fn numbers(metrics: &Metrics) -> String {
    let numbers = metrics.families(&[
        "teams_pstn_dialout_",
        "teams_pstn_call_log_",
        "teams_pstn_billing_period_",
    ]);
    let current = numbers.lines().filter(|line| !line.contains("_previous_"));
    current.fold(String::new(), |text, line| text + line + "\n")
}

/// Samples in order of their text, without the label `user`: one user is shown with a replacement character.
fn without_users(numbers: &str) -> String {
    let cut = |line: &str| match line.split_once(",user=\"") {
        Some((begin, rest)) => format!("{begin}{}", rest.split_once('"').unwrap().1),
        None => line.to_owned(),
    };
    let mut lines: Vec<String> = numbers.lines().map(cut).collect();
    lines.sort();
    lines.join("\n")
}

/// Five rows of a minute.
pub(super) const SECONDS: u64 = 300;
