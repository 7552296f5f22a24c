//! Billing periods, and the windows that are requested from Graph.
//!
//! All times are UTC; every start is inclusive and every end exclusive unless a name says otherwise. This module does
//! not read a clock. `now` is always an argument, so that the end of a month can be tested on any day.

mod window;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Datelike as _, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub use window::{EndBound, Span, Window};

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

impl From<BillingPeriod> for Span {
    fn from(BillingPeriod { start, end }: BillingPeriod) -> Self {
        Self { start, end }
    }
}

impl TryFrom<DateTime<Utc>> for BillingPeriod {
    type Error = &'static str;

    /// The period that starts exactly at `start`.
    fn try_from(start: DateTime<Utc>) -> Result<Self, Self::Error> {
        // No report is older than 1970. A period that starts by 9998 ends in a four-digit year, as RFC 3339 requires.
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

/// 00:00 UTC on the given day of the month that `time` lies in.
fn on_day(time: DateTime<Utc>, day: u8) -> DateTime<Utc> {
    let first = NaiveDate::from_ymd_opt(time.year(), time.month(), 1)
        .expect("the first of a month that exists");
    (first + Days::new(u64::from(day) - 1))
        .and_time(NaiveTime::MIN)
        .and_utc()
}

#[cfg(test)]
mod tests;
