//! Billing periods, and the windows that are requested from Graph.
//!
//! All times are UTC; every start is inclusive and every end exclusive unless a name says otherwise. This module does
//! not read a clock. `now` is always an argument, so that the end of a month can be tested on any day.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{
    DateTime, Datelike as _, Days, Months, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc,
};
use serde::{Deserialize, Serialize};

/// The wall clock. It is passed to all code that needs the time, so that tests can set it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

/// Day of the month on which a billing period starts, at 00:00 UTC: 1 to 28, so that every month has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CycleDay(u8);

/// A billing period: from its start, inclusive, to its end, exclusive; both at 00:00 UTC on the cycle day.
///
/// Prints as `2026-11` if it is a calendar month, otherwise as `2026-11-15/2026-12-15`.
///
/// A state file has only the start, because the end follows from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "DateTime<Utc>", try_from = "DateTime<Utc>")]
pub struct BillingPeriod {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// The time from a start, inclusive, to a later end, exclusive: a billing period, or the days of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// A span of time that is requested from Graph. It is never empty and never longer than [`Window::MAX`].
///
/// Only [`Span::windows`], [`Span::windows_after`] and [`Window::last`] create windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// The `toDateTime` of a query. Every report must state it, because a wrong value counts calls twice or misses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndBound {
    /// 100 ns before the end of the window, for a function that returns a call that starts exactly at `toDateTime`. The
    /// service has times in units of 100 ns, so no call is in two adjacent windows.
    Inclusive,
    /// The end of the window in whole seconds. All logs use it, because the time and the id of a row decide whether and
    /// in which period the row is counted: getPstnCalls returns a call that starts exactly at `toDateTime`, and
    /// getDirectRoutingCalls does not. No row is lost if a service truncates fractions of a second.
    Exclusive,
}

/// A day of the month outside 1 to 28.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a day from 1 to 28")]
pub struct CycleDayError(u64);

impl Clock {
    /// The machine's clock.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    pub fn system() -> Self {
        Self(Arc::new(|| SystemTime::now().into()))
    }

    /// A clock with the given function.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The current time in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

impl Default for CycleDay {
    /// The first of the month, because Microsoft counts included minutes by calendar month.
    fn default() -> Self {
        Self(1)
    }
}

impl CycleDay {
    /// The day of the month.
    pub const fn day(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for CycleDay {
    type Error = CycleDayError;

    fn try_from(day: u64) -> Result<Self, CycleDayError> {
        match u8::try_from(day) {
            Ok(day @ 1..=28) => Ok(Self(day)),
            _ => Err(CycleDayError(day)),
        }
    }
}

impl BillingPeriod {
    /// The period that `now` lies in.
    pub fn containing(now: DateTime<Utc>, CycleDay(day): CycleDay) -> Self {
        let this_month = on_day(now, day);
        let start = if this_month <= now {
            this_month
        } else {
            this_month - Months::new(1)
        };
        Self {
            start,
            end: start + Months::new(1),
        }
    }

    /// The period that begins in the month of `first`, which must be the first day of the month. `None` if the year is
    /// not from 1970 to 9998.
    #[must_use]
    pub fn beginning_in(first: NaiveDate, CycleDay(day): CycleDay) -> Option<Self> {
        let start = first + Days::new(u64::from(day) - 1);
        Self::try_from(start.and_time(NaiveTime::MIN).and_utc()).ok()
    }

    /// The period that ends where this one starts.
    pub fn previous(self) -> Self {
        Self {
            start: self.start - Months::new(1),
            end: self.start,
        }
    }

    /// The only day in the period that is the first of a month. If the period is a calendar month, this is its start.
    pub fn first_of_month(self) -> DateTime<Utc> {
        on_day(self.end - TimeDelta::nanoseconds(1), 1)
    }

    /// The part of the period that lies in the calendar month of `now`. The period must contain `now`.
    #[must_use]
    pub fn in_month(self, now: DateTime<Utc>) -> Span {
        let first = self.first_of_month();
        let (start, end) = if now < first {
            (self.start, first)
        } else {
            (first, self.end)
        };
        Span { start, end }
    }

    /// Start, inclusive.
    pub const fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// End, exclusive.
    pub const fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// Returns true if the time is in the period.
    pub fn contains(self, time: DateTime<Utc>) -> bool {
        self.start <= time && time < self.end
    }

    /// [`Span::windows`] of the period.
    pub fn windows(self, now: DateTime<Utc>, width: TimeDelta) -> impl Iterator<Item = Window> {
        Span::from(self).windows(now, width)
    }
}

impl Span {
    /// The days from `from`, inclusive, to `to`, exclusive. `None` if `from` is not before `to`, or if either is before
    /// 1970 or after 9998.
    #[must_use]
    pub fn of_days(from: NaiveDate, to: NaiveDate) -> Option<Self> {
        let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
        let is_four_digits = |day: NaiveDate| (1970..=9998).contains(&day.year());
        (from < to && is_four_digits(from) && is_four_digits(to)).then(|| Self {
            start: midnight(from),
            end: midnight(to),
        })
    }

    /// Start, inclusive.
    #[must_use]
    pub const fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// End, exclusive.
    #[must_use]
    pub const fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// Windows of at most `width` that cover the span up to the end of the second that contains `now`, without gaps or
    /// overlaps. There are none only if the span has not begun.
    ///
    /// The whole second is included, so that a span that began less than a second ago has a window too.
    ///
    /// # Panics
    /// If `width` is not between one second and [`Window::MAX`]: a mistake in the program, not in its input.
    pub fn windows(self, now: DateTime<Utc>, width: TimeDelta) -> impl Iterator<Item = Window> {
        tiles(self.start, self.end, now, width)
    }

    /// Windows that cover the time after the end of the span, up to `margin` later. There are none until the span has
    /// ended.
    ///
    /// # Panics
    /// Under the same condition as [`Span::windows`].
    pub fn windows_after(
        self,
        now: DateTime<Utc>,
        width: TimeDelta,
        margin: TimeDelta,
    ) -> impl Iterator<Item = Window> {
        tiles(self.end, self.end + margin, now, width)
    }
}

impl From<BillingPeriod> for Span {
    fn from(BillingPeriod { start, end }: BillingPeriod) -> Self {
        Self { start, end }
    }
}

impl TryFrom<DateTime<Utc>> for BillingPeriod {
    type Error = &'static str;

    /// The period that starts exactly at `start`.
    fn try_from(start: DateTime<Utc>) -> Result<Self, Self::Error> {
        // Within these years, the years of the previous and the next month have four digits, as RFC 3339 requires.
        let is_billed = (1970..=9998).contains(&start.year());
        CycleDay::try_from(u64::from(start.day()))
            .ok()
            .filter(|_| is_billed)
            .map(|day| Self::containing(start, day))
            .filter(|period| period.start == start)
            .ok_or("no billing period starts then")
    }
}

impl From<BillingPeriod> for DateTime<Utc> {
    fn from(period: BillingPeriod) -> Self {
        period.start
    }
}

impl fmt::Display for BillingPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.start.day() == 1 {
            write!(f, "{}", self.start.format("%Y-%m"))
        } else {
            write!(f, "{}/{}", self.start.date_naive(), self.end.date_naive())
        }
    }
}

impl Window {
    /// Maximum width. Graph answers 406 to a longer range.
    pub const MAX: TimeDelta = TimeDelta::days(90);

    /// The window of this `width` that ends with the second that contains `now`.
    ///
    /// # Panics
    /// If `width` is not between one second and [`Window::MAX`]: a mistake in the program, not in its input.
    pub fn last(now: DateTime<Utc>, width: TimeDelta) -> Self {
        let end = whole_second(now) + TimeDelta::seconds(1);
        let mut windows = tiles(end - width, end, now, width);
        windows.next().expect("the width is positive")
    }

    /// Start, inclusive.
    pub const fn start(self) -> DateTime<Utc> {
        self.start
    }

    /// End, exclusive.
    pub const fn end(self) -> DateTime<Utc> {
        self.end
    }

    /// The literal for `fromDateTime`, an `Edm.DateTimeOffset` in UTC.
    pub fn start_literal(self) -> String {
        self.start.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }

    /// The literal for `toDateTime`.
    pub fn end_literal(self, end: EndBound) -> String {
        match end {
            EndBound::Exclusive => self.end.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            EndBound::Inclusive => {
                let last_tick = self.end - TimeDelta::nanoseconds(100);
                let digits = last_tick.format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
                format!("{}Z", digits.trim_end_matches('0'))
            }
        }
    }
}

/// Windows that cover the time from `start` to the end of the second that contains `now`, but not beyond `until`.
fn tiles(
    start: DateTime<Utc>,
    until: DateTime<Utc>,
    now: DateTime<Utc>,
    width: TimeDelta,
) -> impl Iterator<Item = Window> {
    assert!(
        width >= TimeDelta::seconds(1) && width <= Window::MAX,
        "a window is between 1 s and 90 days wide"
    );
    let until = until.min(whole_second(now) + TimeDelta::seconds(1));
    let mut start = start;
    std::iter::from_fn(move || {
        let window = Window {
            start,
            end: until.min(start + width),
        };
        start = window.end;
        (window.start < window.end).then_some(window)
    })
}

/// 00:00 UTC on the given day of the month that `time` lies in.
fn on_day(time: DateTime<Utc>, day: u8) -> DateTime<Utc> {
    let first = NaiveDate::from_ymd_opt(time.year(), time.month(), 1)
        .expect("the first of a month that exists");
    (first + Days::new(u64::from(day) - 1))
        .and_time(NaiveTime::MIN)
        .and_utc()
}

fn whole_second(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0)
        .expect("a time without its fraction of a second is a time")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn periods_by_table() {
        let check = |now: &str, day: u64, printed: &str, start: &str, end: &str| {
            let period = BillingPeriod::containing(time(now), CycleDay::try_from(day).unwrap());
            assert_eq!(
                (period.to_string().as_str(), period.start(), period.end()),
                (printed, time(start), time(end))
            );
            assert_eq!(period.previous().end(), period.start());
        };
        check(
            "2026-11-21T13:00:00Z",
            1,
            "2026-11",
            "2026-11-01T00:00:00Z",
            "2026-12-01T00:00:00Z",
        );
        check(
            "2026-12-31T23:59:59.999999999Z",
            1,
            "2026-12",
            "2026-12-01T00:00:00Z",
            "2027-01-01T00:00:00Z",
        );
        check(
            "2027-01-01T00:00:00Z",
            1,
            "2027-01",
            "2027-01-01T00:00:00Z",
            "2027-02-01T00:00:00Z",
        );
        check(
            "2028-02-29T12:00:00Z",
            1,
            "2028-02",
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
        );
        check(
            "2026-11-14T23:59:59Z",
            15,
            "2026-10-15/2026-11-15",
            "2026-10-15T00:00:00Z",
            "2026-11-15T00:00:00Z",
        );
        check(
            "2026-11-15T00:00:00Z",
            15,
            "2026-11-15/2026-12-15",
            "2026-11-15T00:00:00Z",
            "2026-12-15T00:00:00Z",
        );
        check(
            "2026-01-05T00:00:00Z",
            28,
            "2025-12-28/2026-01-28",
            "2025-12-28T00:00:00Z",
            "2026-01-28T00:00:00Z",
        );
    }

    #[test]
    fn calendar_months_of_a_period_by_table() {
        for (now, day, first, start, end) in [
            (
                "2026-11-30T23:59:59Z",
                1,
                "2026-11-01",
                "2026-11-01",
                "2026-12-01",
            ),
            (
                "2026-11-01T00:00:00Z",
                2,
                "2026-11-01",
                "2026-11-01",
                "2026-11-02",
            ),
            (
                "2026-11-02T00:00:00Z",
                2,
                "2026-12-01",
                "2026-11-02",
                "2026-12-01",
            ),
            (
                "2026-12-31T23:59:59Z",
                15,
                "2027-01-01",
                "2026-12-15",
                "2027-01-01",
            ),
            (
                "2027-01-01T00:00:00Z",
                15,
                "2027-01-01",
                "2027-01-01",
                "2027-01-15",
            ),
            (
                "2027-02-28T00:00:00Z",
                28,
                "2027-03-01",
                "2027-02-28",
                "2027-03-01",
            ),
        ] {
            let period = BillingPeriod::containing(time(now), CycleDay::try_from(day).unwrap());
            let month = period.in_month(time(now));
            let found = [period.first_of_month(), month.start(), month.end()];
            let expected = [first, start, end].map(|day| time(&format!("{day}T00:00:00Z")));
            assert_eq!(found, expected, "{now} {day}");
        }
    }

    #[test]
    fn periods_by_their_start() {
        for (start, printed) in [
            ("2026-11-01T00:00:00Z", Some("2026-11")),
            ("2026-11-28T00:00:00Z", Some("2026-11-28/2026-12-28")),
            ("2026-11-29T00:00:00Z", None),
            ("2026-11-01T00:00:01Z", None),
            // The previous or the next period is not representable.
            ("+262142-12-01T00:00:00Z", None),
            ("-262143-01-01T00:00:00Z", None),
            ("1969-12-01T00:00:00Z", None),
            ("9999-12-01T00:00:00Z", None),
        ] {
            let period = BillingPeriod::try_from(time(start)).ok();
            let found = period.map(|period| period.to_string());
            assert_eq!(found.as_deref(), printed, "{start}");
        }
    }

    #[test]
    fn cycle_days_by_table() {
        for (day, good) in [
            (0, false),
            (1, true),
            (28, true),
            (29, false),
            (257, false),
            (u64::MAX, false),
        ] {
            assert_eq!(CycleDay::try_from(day).is_ok(), good, "{day}");
        }
    }

    #[test]
    fn literals_by_table() {
        let check = |now: &str, end: EndBound, from: &str, to: &str| {
            let period =
                BillingPeriod::containing(time("2026-11-21T00:00:00Z"), CycleDay::default());
            let window = period.windows(time(now), Window::MAX).next().unwrap();
            assert_eq!(
                (
                    window.start_literal().as_str(),
                    window.end_literal(end).as_str()
                ),
                (from, to)
            );
        };
        let start = "2026-11-01T00:00:00Z";
        check(
            "2026-11-21T13:05:06.7Z",
            EndBound::Exclusive,
            start,
            "2026-11-21T13:05:07Z",
        );
        check(
            "2026-11-21T13:05:06.7Z",
            EndBound::Inclusive,
            start,
            "2026-11-21T13:05:06.9999999Z",
        );
        check(
            "2026-11-01T00:00:00Z",
            EndBound::Exclusive,
            start,
            "2026-11-01T00:00:01Z",
        );
        check(
            "2026-12-08T00:00:00Z",
            EndBound::Exclusive,
            start,
            "2026-12-01T00:00:00Z",
        );
        check(
            "2026-12-08T00:00:00Z",
            EndBound::Inclusive,
            start,
            "2026-11-30T23:59:59.9999999Z",
        );
    }

    #[test]
    fn the_last_window_ends_after_the_second_that_runs() {
        let last = |width| Window::last(time("2026-11-21T13:00:00.5Z"), width);
        for width in [TimeDelta::seconds(1), TimeDelta::days(1), Window::MAX] {
            assert_eq!(last(width).end(), time("2026-11-21T13:00:01Z"));
            assert_eq!(last(width).start(), time("2026-11-21T13:00:01Z") - width);
        }
    }

    #[test]
    fn clock_shows_its_time_in_debug_output() {
        let clock = Clock::new(|| time("2026-11-21T13:00:00Z"));
        assert_eq!(format!("{clock:?}"), "Clock(2026-11-21 13:00:00 UTC)");
    }

    #[test]
    fn a_period_that_has_not_begun_has_no_window() {
        let period = BillingPeriod::containing(time("2026-11-21T00:00:00Z"), CycleDay::default());
        assert_eq!(
            period
                .windows(time("2026-10-31T23:59:58Z"), Window::MAX)
                .count(),
            0
        );
    }

    proptest! {
        #[test]
        fn windows_tile_the_period(
            seconds in 946_684_800_i64..4_102_444_800,
            nanos in 0_u32..1_000_000_000,
            later in 0_i64..40 * 86_400,
            day in 1_u64..=28,
            width in prop_oneof![Just(86_400_i64), Just(90 * 86_400), 3_600_i64..90 * 86_400],
        ) {
            let begun = DateTime::from_timestamp(seconds, nanos).unwrap();
            let period = BillingPeriod::containing(begun, CycleDay::try_from(day).unwrap());
            prop_assert!(period.start() <= begun && begun < period.end());
            let now = begun + TimeDelta::seconds(later);
            let windows: Vec<Window> = period.windows(now, TimeDelta::seconds(width)).collect();
            prop_assert_eq!(windows[0].start(), period.start());
            prop_assert!(windows.windows(2).all(|pair| pair[0].end() == pair[1].start()));
            prop_assert!(windows.iter().all(|w| w.start() < w.end() && w.end() - w.start() <= Window::MAX));
            let last = windows[windows.len() - 1].end();
            prop_assert!(last == period.end() || (last > now && last - now <= TimeDelta::seconds(1)));
        }

        #[test]
        fn periods_follow_each_other(seconds in 946_684_800_i64..4_102_444_800, day in 1_u64..=28) {
            let day = CycleDay::try_from(day).unwrap();
            let period = BillingPeriod::containing(DateTime::from_timestamp(seconds, 0).unwrap(), day);
            prop_assert_eq!(BillingPeriod::containing(period.end(), day).previous(), period);
            prop_assert!(period.end() - period.start() <= TimeDelta::days(31));
        }
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }
}
