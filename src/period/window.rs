//! Spans of time, and the windows of a span that are requested from Graph.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};

/// The time from a start, inclusive, to a later end, exclusive: a billing period, or the days of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub(super) start: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
}

/// A span of time that is requested from Graph. It is never empty and never longer than [`Window::MAX`].
///
/// Only [`Span::windows`], [`Span::windows_after`] and [`Window::last`] create windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// The `toDateTime` of the query for a window.
///
/// Some functions also return calls that start exactly at `toDateTime`: getPstnCalls and, by its first documentation,
/// getSmsLog. With [`EndBound::WholeSecond`], they return such a call for two windows. Other functions, such as
/// getDirectRoutingCalls, do not. A report without row ids must state the right variant, or it counts a call twice or
/// loses it. Logs always use [`EndBound::WholeSecond`]: a row's id and time decide whether and in which period it is
/// counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndBound {
    /// 100 ns before the end of the window. The service has times in units of 100 ns, so no call is in two adjacent
    /// windows.
    LastTick,
    /// The end of the window, which is a whole second. No row is lost if a service truncates fractions of a second.
    WholeSecond,
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
    /// overlaps. There are none if the span has not begun.
    ///
    /// The whole second is included, so that there is at least one window as soon as the span has begun.
    ///
    /// # Panics
    /// If `width` is not between one second and [`Window::MAX`]: a mistake in the program, not in its input.
    pub fn windows(self, now: DateTime<Utc>, width: TimeDelta) -> impl Iterator<Item = Window> {
        tiles(self.start, self.end, now, width)
    }

    /// Windows like those of [`Span::windows`], for the time from the end of the span to `margin` later. There are none
    /// until the span has ended.
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
            EndBound::WholeSecond => self.end.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            EndBound::LastTick => {
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

fn whole_second(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp(time.timestamp(), 0)
        .expect("a time without its fraction of a second is a time")
}
