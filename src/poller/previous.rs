//! The figures of the previous billing period. They are served after the end of the period. They are fetched again
//! until they stop changing, because the source is a day or two late.

use chrono::{DateTime, TimeDelta, Utc};

use crate::exposition::{Format, Samples};
use crate::period::BillingPeriod;
use crate::report::pool::{Pool, UsedSeconds};
use crate::storage::ClosedPeriod;

/// The figures of the previous period, and a copy of the current period's figures. When the current period ends, the
/// copy is served as the previous period.
#[derive(Debug, Default)]
pub(super) struct Previous {
    /// The figures of the current period, under the metric names of the previous period.
    pub(super) closing: Option<(BillingPeriod, Vec<Samples>)>,
    pub(super) closed: Option<ClosedPeriod>,
    /// Time of the last failed fetch. The next fetch waits for a while.
    pub(super) failed: Option<DateTime<Utc>>,
}

impl Previous {
    /// Stores the figures of a complete report of the current period. If `current` is a new period, the stored figures
    /// of the period that has ended become the figures of the previous period. `used` has the time of the preceding
    /// complete report, and the seconds that pools had used by that time.
    pub(super) fn advance(
        &mut self,
        current: BillingPeriod,
        closing: Vec<Samples>,
        used: Option<(DateTime<Utc>, UsedSeconds)>,
    ) {
        let previous = current.previous();
        // These figures are not served before the period ends.
        for samples in &closing {
            samples.block.drop_text();
        }
        let last = self.closing.replace((current, closing));
        let is_previous = |closed: &ClosedPeriod| closed.period == previous;
        if self.closed.as_ref().is_some_and(is_previous) {
            return;
        }
        let last = last.filter(|(period, _)| *period == previous);
        let used = used.filter(|(at, _)| current.start() - *at < STALE_AFTER);
        self.closed = last.map(|(period, samples)| ClosedPeriod {
            period,
            samples,
            fetched: None,
            used_seconds: used.map(|(_, used)| used).unwrap_or_default(),
        });
    }

    /// Marks the closed period as never fetched, so that its next fetch is due at once. Its figures stay until the new
    /// ones are complete.
    pub(super) fn refetch(&mut self) {
        self.failed = None;
        if let Some(closed) = &mut self.closed {
            closed.fetched = None;
        }
    }

    /// Drops figures that were fetched while the clock was ahead: the current period if it has not begun, and the
    /// closed period if it has not ended.
    pub(super) fn drop_future(&mut self, now: DateTime<Utc>) {
        self.closing.take_if(|(period, _)| period.start() > now);
        self.closed.take_if(|closed| closed.period.end() > now);
    }

    /// Returns true if the closed period must be fetched: it was not fetched since its end, it was fetched some hours
    /// ago and is still changing, or it was fetched without these `pools`. The caller passes pools if a part of the
    /// current month is in the closed period.
    pub(super) fn is_due<'p>(
        &self,
        now: DateTime<Utc>,
        pools: impl IntoIterator<Item = &'p Pool>,
    ) -> bool {
        // Ignores a time in the future, because it comes from a clock that was wrong.
        let passed = |then: DateTime<Utc>| (then <= now).then(|| now - then);
        if self.failed.and_then(passed).is_some_and(|ago| ago < RETRY) {
            return false;
        }
        let known = self.closed.as_ref();
        if known.is_some_and(|closed| !closed.used_seconds.has(pools)) {
            return true;
        }
        let fetched = known.and_then(|closed| closed.fetched);
        let fetched = fetched.and_then(|(at, since)| Some((passed(at)?, at - since)));
        // `unchanged` is the time between the first and the last fetch with these figures. The time since the last
        // fetch does not count, because the figures may have changed since.
        fetched.is_none_or(|(ago, unchanged)| ago >= PAUSE && unchanged < FINAL_AFTER)
    }

    /// Replaces the figures of the closed period by figures that were fetched after its end.
    pub(super) fn replace(
        &mut self,
        period: BillingPeriod,
        samples: Vec<Samples>,
        used_seconds: UsedSeconds,
        now: DateTime<Utc>,
    ) {
        let unchanged_since = match &self.closed {
            Some(ClosedPeriod {
                samples: old,
                fetched: Some((_, since)),
                ..
            }) if text(old) == text(&samples) => *since,
            _ => now,
        };
        self.closed = Some(ClosedPeriod {
            period,
            samples,
            fetched: Some((now, unchanged_since)),
            used_seconds,
        });
    }

    /// Returns the seconds that pools used in `period`. Returns `None` if `period` is not the closed period, or if late
    /// rows may be missing, because the figures are not final and older than [`STALE_AFTER`].
    pub(super) fn used_seconds(
        &self,
        period: BillingPeriod,
        now: DateTime<Utc>,
    ) -> Option<&UsedSeconds> {
        let closed = self.closed.as_ref();
        let closed = closed.filter(|closed| closed.period == period)?;
        let (known, unchanged) = match closed.fetched {
            Some((at, since)) => (at, at - since),
            None => (period.end(), TimeDelta::zero()),
        };
        let is_fresh = unchanged >= FINAL_AFTER || now - known < STALE_AFTER;
        is_fresh.then_some(&closed.used_seconds)
    }

    /// Returns log text that states which figures of the previous period remain after a failed fetch.
    pub(super) fn remaining(&self) -> &'static str {
        match self.closed {
            None => "there are no figures of the previous period",
            Some(_) => "the figures of the previous period stay",
        }
    }

    /// Returns the figures of the closed period. If `wanted` is another period, returns none.
    pub(super) fn samples(&self, wanted: Option<BillingPeriod>) -> impl Iterator<Item = Samples> {
        self.closed
            .iter()
            .filter(move |closed| wanted.is_none_or(|wanted| closed.period == wanted))
            .flat_map(|closed| closed.samples.iter().cloned())
    }
}

fn text(samples: &[Samples]) -> Vec<u8> {
    let mut out = Vec::new();
    for samples in samples {
        samples.write(Format::Text, &mut out);
    }
    out
}

/// Pause between two fetches of a closed period. It is long, because late figures arrive by the day, not by the hour.
/// It is a little shorter than the usual interval of a log, so that each poll of a log fetches the closed period too.
const PAUSE: TimeDelta = TimeDelta::minutes(330);

/// Pause after a failed fetch: the previous period is not urgent and must not double the requests to a service in
/// trouble.
const RETRY: TimeDelta = TimeDelta::minutes(30);

/// Time without a change after which a closed period is considered final. The source is up to two days late, and a
/// call that began in the period can end more than a day after it.
const FINAL_AFTER: TimeDelta = TimeDelta::days(4);

/// Maximum age at which seconds that pools used in a closed period are added to the current month, if the period is not
/// final. If the seconds are older, several fetches have failed and rows may be missing.
const STALE_AFTER: TimeDelta = TimeDelta::days(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Family, FamilyWriter};
    use crate::period::CycleDay;
    use crate::report::pool::Seconds;

    #[test]
    fn figures_pass_on_when_the_period_ends() {
        let mut previous = Previous::default();
        let october = BillingPeriod::containing(time("2026-10-31T23:00:00Z"), CycleDay::default());
        let november = BillingPeriod::containing(time("2026-11-01T00:00:00Z"), CycleDay::default());
        let december = BillingPeriod::containing(time("2026-12-01T00:00:00Z"), CycleDay::default());
        advance(&mut previous, october, "10");
        assert_eq!(shown(&previous), "");
        advance(&mut previous, november, "1");
        assert_eq!(
            shown(&previous),
            "charge 10\n",
            "what October had when it was last asked for"
        );
        previous.replace(
            october,
            samples("12"),
            UsedSeconds::default(),
            time("2026-11-01T00:00:01Z"),
        );
        advance(&mut previous, november, "2");
        assert_eq!(shown(&previous), "charge 12\n");
        advance(&mut previous, december, "1");
        assert_eq!(shown(&previous), "charge 2\n");
        assert!(previous.is_due(time("2026-12-01T00:00:01Z"), &[]));
        let march = BillingPeriod::containing(time("2027-03-01T00:00:00Z"), CycleDay::default());
        advance(&mut previous, march, "1");
        assert_eq!(shown(&previous), "", "February was never asked for");
    }

    #[test]
    fn a_closed_period_is_fetched_until_it_is_final() {
        let mut previous = Previous::default();
        let october = BillingPeriod::containing(time("2026-10-31T23:00:00Z"), CycleDay::default());
        let start = time("2026-11-01T00:00:00Z");
        assert!(previous.is_due(start, &[]));
        let mut hours = Vec::new();
        for hour in 0..24 * 10 {
            let now = start + TimeDelta::hours(hour);
            if previous.is_due(now, &[]) {
                hours.push(hour);
                // It changes for the last time on the second day.
                previous.replace(
                    october,
                    samples(if hour < 30 { "1" } else { "2" }),
                    UsedSeconds::default(),
                    now,
                );
            }
        }
        let expected: Vec<i64> = (0..=30 + 96)
            .step_by(6)
            .filter(|hour| *hour <= 30 + 96)
            .collect();
        assert_eq!(hours, expected);
    }

    #[test]
    fn a_failed_fetch_is_not_tried_again_at_once() {
        let previous = Previous {
            failed: Some(time("2026-11-01T00:00:00Z")),
            ..Previous::default()
        };
        assert!(!previous.is_due(time("2026-11-01T00:29:59Z"), &[]));
        assert!(previous.is_due(time("2026-11-01T00:30:00Z"), &[]));
    }

    /// A pause without fetches is not a time without changes.
    #[test]
    fn a_closed_period_that_was_fetched_once_and_then_not_for_days_is_not_final() {
        let october = BillingPeriod::containing(time("2026-10-31T23:00:00Z"), CycleDay::default());
        let mut previous = Previous::default();
        // In the first minute of November, when nothing of the last two days has arrived yet.
        previous.replace(
            october,
            samples("1"),
            UsedSeconds::default(),
            time("2026-11-01T00:01:00Z"),
        );
        // Down until the 6th: a restart, or an outage of Graph.
        let mut restarted = Previous {
            closed: previous.closed.clone(),
            ..Previous::default()
        };
        let now = time("2026-11-06T08:00:00Z");
        assert!(previous.is_due(now, &[]), "after an outage");
        assert!(restarted.is_due(now, &[]), "after a restart");
        restarted.replace(october, samples("2"), UsedSeconds::default(), now);
        assert_eq!(shown(&restarted), "charge 2\n");
    }

    /// A pool of another reload, with a part of the current month in a period that no longer changes.
    #[test]
    fn a_closed_period_is_fetched_again_for_a_pool_that_it_lacks() {
        let (known, other) = ([pool("MCOPSTN1")], [pool("MCOPSTN2")]);
        let october = BillingPeriod::containing(time("2026-10-31T23:00:00Z"), CycleDay::default());
        let mut previous = Previous::default();
        let now = time("2026-11-01T00:00:00Z");
        let used_seconds = UsedSeconds::new(&known, vec![Seconds::default()]);
        previous.replace(october, samples("1"), used_seconds, now);
        for (pools, is_due) in [(&known, false), (&other, true)] {
            assert_eq!(previous.is_due(now, pools), is_due, "{pools:?}");
        }
        previous.failed = Some(now);
        assert!(!previous.is_due(now, &other), "a failed fetch waits");
    }

    /// The part of the month in a closed period is shown while it may be complete.
    #[test]
    fn used_seconds_of_a_closed_period_become_stale_unless_it_is_final() {
        let period = |now| BillingPeriod::containing(time(now), CycleDay::try_from(15).unwrap());
        let (ended, current) = (
            period("2026-11-14T00:00:00Z"),
            period("2026-11-15T00:00:00Z"),
        );
        let mut previous = Previous::default();
        let is_shown = |previous: &Previous, now| previous.used_seconds(ended, time(now)).is_some();
        advance(&mut previous, ended, "1");
        advance(&mut previous, current, "1");
        assert!(is_shown(&previous, "2026-11-15T06:00:00Z"), "as last seen");
        assert!(
            !is_shown(&previous, "2026-11-16T00:00:00Z"),
            "never fetched"
        );
        for (day, now, shown) in [
            (15, "2026-11-16T23:59:59Z", true),
            (15, "2026-11-17T00:00:00Z", false),
            (20, "2026-11-30T00:00:00Z", true),
        ] {
            let fetched = time("2026-11-16T00:00:00Z") + TimeDelta::days(day - 15);
            let used_seconds = UsedSeconds::default();
            previous.replace(ended, samples("1"), used_seconds, fetched);
            assert_eq!(is_shown(&previous, now), shown, "{now}");
        }
        assert!(
            previous
                .used_seconds(current, time("2026-11-16T00:00:00Z"))
                .is_none()
        );
    }

    /// Figures that ended long before the period did lack more than late rows.
    #[test]
    fn used_seconds_are_kept_over_the_start_of_a_period_unless_they_are_old() {
        let period = |now| BillingPeriod::containing(time(now), CycleDay::try_from(15).unwrap());
        let (ended, current) = (
            period("2026-11-14T00:00:00Z"),
            period("2026-11-15T00:00:00Z"),
        );
        let pools = [pool("MCOPSTN1")];
        for (polled, is_kept) in [
            ("2026-11-14T18:00:00Z", true),
            ("2026-11-14T00:00:01Z", true),
            ("2026-11-14T00:00:00Z", false),
            ("2026-11-05T00:00:00Z", false),
        ] {
            let mut previous = Previous::default();
            previous.advance(ended, samples("1"), None);
            let used = UsedSeconds::new(&pools, vec![Seconds::default()]);
            previous.advance(current, samples("1"), Some((time(polled), used)));
            let known = previous.used_seconds(ended, time("2026-11-15T06:00:00Z"));
            assert_eq!(known.unwrap().has(&pools), is_kept, "{polled}");
        }
    }

    fn advance(previous: &mut Previous, period: BillingPeriod, value: &'static str) {
        previous.advance(period, samples(value), None);
    }

    fn pool(license: &str) -> Pool {
        Pool::new("a", &[license], 60)
    }

    fn samples(value: &'static str) -> Vec<Samples> {
        static CHARGE: Family = Family::gauge("charge", "");
        let mut writer = FamilyWriter::new(&[&CHARGE]);
        writer.sample(b"", |_, out| out.extend_from_slice(value.as_bytes()));
        writer.finish().collect()
    }

    fn shown(previous: &Previous) -> String {
        let samples: Vec<Samples> = previous.samples(None).collect();
        String::from_utf8(text(&samples))
            .unwrap()
            .replace("# TYPE charge gauge\n", "")
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }
}
