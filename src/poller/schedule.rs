//! Times of polls: ticks on a grid, and pauses before retries that a reload of the configuration requests.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::period::{Clock, Span};

/// Returns the first tick after `now`. Ticks are on a grid, so that polls do not drift by their own duration.
pub(super) fn next_tick(first: Instant, interval: Duration, now: Instant) -> Instant {
    let Some(passed) = now.checked_duration_since(first) else {
        return first;
    };
    let ticks = passed.as_nanos() / interval.as_nanos() + 1;
    u32::try_from(ticks).map_or(now + interval, |ticks| first + interval * ticks)
}

/// Returns the wall clock time of the next poll: the tick or the end of `current`, whichever is earlier.
pub(super) fn due(clock: &Clock, tick: Instant, current: Span) -> DateTime<Utc> {
    let left = TimeDelta::from_std(tick - Instant::now()).unwrap_or(TimeDelta::MAX);
    let due = clock.now().checked_add_signed(left);
    due.map_or(current.end(), |due| due.min(current.end()))
}

/// Returns the pause between a poll and a retry that a reload requests. `retries` is the number of such retries since
/// the last tick. The first pause is short, for an administrator who has fixed the cause. Each further pause is twice
/// as long, so that a flood of reloads cannot flood Graph.
pub(super) fn retry_pause(retries: u32) -> Duration {
    RETRY_PAUSE_MIN
        .saturating_mul(1 << retries.min(31))
        .min(RETRY_PAUSE_MAX)
}

/// The first pause before a retry that a reload requests. It is as long as the first pause after a failed request to
/// Graph.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause before a retry that a reload requests. A minute is short for an administrator, and sixty polls an
/// hour are harmless to Graph.
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_on_a_grid() {
        let first = Instant::now();
        let interval = Duration::from_secs(10);
        let at = |seconds| first + Duration::from_secs(seconds);
        for (now, tick) in [(0, 10), (9, 10), (10, 20), (11, 20), (1_005, 1_010)] {
            assert_eq!(next_tick(first, interval, at(now)), at(tick), "{now}");
        }
        assert_eq!(next_tick(at(7), interval, first), at(7), "before the first");
    }

    #[test]
    fn retries_pause_for_a_second_to_a_minute() {
        let pauses = [0, 1, 5, 6, 40].map(|retries| retry_pause(retries).as_secs());
        assert_eq!(pauses, [1, 2, 32, 60, 60]);
    }
}
