//! Generated rows of a log. Each is computed from the seed, the hour and its position in the hour, so none is stored.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::company::Company;
use super::log::Page;
use super::rng::{Rng, mixed};

/// The rows of one log.
#[derive(Clone, Debug)]
pub(super) struct Traffic<R> {
    company: Arc<Company>,
    pace: Pace,
    seed: u64,
    make: Make<R>,
}

/// Function that makes a row from its stamp.
pub(super) type Make<R> = fn(&Company, &Stamp, &mut Rng) -> R;

/// Number of rows per hour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// This many in an average week.
    Weekly { rows: u64 },
    /// This many in these hours together, spread evenly.
    Exactly { rows: u64, first: i64, hours: u64 },
}

/// Properties of a row that are known before it is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) time: DateTime<Utc>,
    pub(super) arrival: DateTime<Utc>,
    pub(super) id: Uuid,
    seed: u64,
}

impl Pace {
    /// The hours that overlap the period.
    pub(super) fn within(rows: u64, period: Range<DateTime<Utc>>) -> Self {
        let hours = hours(period.start, period.end - TimeDelta::nanoseconds(1));
        Self::Exactly {
            rows,
            first: *hours.start(),
            hours: (hours.end() - hours.start() + 1).cast_unsigned(),
        }
    }
}

impl<R> Traffic<R> {
    pub(super) fn new(company: &Arc<Company>, pace: Pace, number: u64, make: Make<R>) -> Self {
        Self {
            company: Arc::clone(company),
            pace,
            seed: mixed(company.seed ^ mixed(number << 48)),
            make,
        }
    }

    pub(super) fn row(&self, stamp: Stamp) -> R {
        (self.make)(&self.company, &stamp, &mut Rng(stamp.seed))
    }

    /// The stamps of all hours from the first time to the last, in order of time.
    pub(super) fn stamps(
        &self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> impl Iterator<Item = Stamp> {
        hours(from, to).flat_map(|hour| self.stamps_of(hour))
    }

    /// The stamps of a page, and one more if more follow.
    pub(super) fn page(&self, page: &Page) -> Vec<Stamp> {
        let mut skip = page.skip as u64;
        let mut stamps = Vec::new();
        // Future rows have not arrived.
        for hour in hours(page.from, page.to.min(page.now)) {
            let rows = self.rows_of(hour);
            let (begin, end) = (beginning(hour), beginning(hour + 1));
            let is_whole = page.from <= begin && end <= page.to && end + LATENESS_MAX <= page.now;
            if is_whole && skip >= rows {
                skip -= rows;
                continue;
            }
            for stamp in self.stamps_of(hour) {
                if !page.contains(stamp.time) || stamp.arrival > page.now {
                    continue;
                }
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                stamps.push(stamp);
                if stamps.len() > page.take {
                    return stamps;
                }
            }
        }
        stamps
    }

    fn rows_of(&self, hour: i64) -> u64 {
        match self.pace {
            Pace::Weekly { rows } => {
                let mut rng = Rng(self.seed ^ mixed(hour.cast_unsigned()));
                let mean = rows * busyness(hour) * MILLION / BUSYNESS_OF_A_WEEK;
                // Between zero and twice the mean. The fraction is a probability.
                let millionths = mean * 2 * u64::from(rng.below(1_000_000)) / MILLION;
                (millionths + u64::from(rng.below(1_000_000))) / MILLION
            }
            Pace::Exactly { rows, first, hours } => {
                let Ok(nth) = u64::try_from(hour - first) else {
                    return 0;
                };
                let until = |nth: u64| nth.min(hours) * rows / hours;
                until(nth + 1) - until(nth)
            }
        }
    }

    fn stamps_of(&self, hour: i64) -> impl Iterator<Item = Stamp> {
        let rows = self.rows_of(hour);
        (0..rows).map(move |nth| self.stamp(hour, nth, rows))
    }

    /// Each row has its own part of the hour, so that rows are in order.
    fn stamp(&self, hour: i64, nth: u64, rows: u64) -> Stamp {
        let hour_seed = mixed(self.seed ^ mixed(hour.cast_unsigned()));
        let mut rng = Rng(mixed(hour_seed ^ mixed((nth + 1) << 32)));
        let part = (TICKS_OF_AN_HOUR / rows).max(1);
        let lot = rng.roll() % part;
        // The first row of a day is at its first moment, so two adjacent windows that include their ends both have it.
        let is_first_of_day = nth == 0 && hour.rem_euclid(24) == 0;
        let tick = if is_first_of_day { 0 } else { nth * part + lot };
        let time = beginning(hour) + TimeDelta::nanoseconds(100 * tick.cast_signed());
        let late = match rng.below(100) {
            0..60 => 60 + rng.below(3 * 3_600),
            60..90 => 3 * 3_600 + rng.below(21 * 3_600),
            _ => 24 * 3_600 + rng.below(24 * 3_600),
        };
        Stamp {
            time,
            arrival: time + TimeDelta::seconds(i64::from(late)),
            id: rng.id(),
            seed: rng.roll(),
        }
    }
}

/// The hours since 1970 between these two times, inclusive, from the first hour with rows.
fn hours(from: DateTime<Utc>, to: DateTime<Utc>) -> RangeInclusive<i64> {
    let hour = |time: DateTime<Utc>| time.timestamp().div_euclid(3_600);
    hour(from).max(FIRST_HOUR)..=hour(to)
}

/// Relative number of rows in an hour since 1970: more during working hours in UTC.
fn busyness(hour: i64) -> u64 {
    // 1970 began on a Thursday.
    let weekday = (hour.div_euclid(24) + 3).rem_euclid(7);
    match (weekday, hour.rem_euclid(24)) {
        (5.., _) | (_, ..7 | 20..) => BUSYNESS_AT_REST,
        (_, 7 | 12 | 18..) => BUSYNESS_AT_THE_EDGES,
        _ => BUSYNESS_AT_WORK,
    }
}

fn beginning(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(hour * 3_600, 0).expect("an hour of a time that a DateTime has")
}

const BUSYNESS_AT_WORK: u64 = 12;
const BUSYNESS_AT_THE_EDGES: u64 = 7;
const BUSYNESS_AT_REST: u64 = 5;
/// On five days nine working hours and four hours around them, and 103 other hours.
const BUSYNESS_OF_A_WEEK: u64 =
    45 * BUSYNESS_AT_WORK + 20 * BUSYNESS_AT_THE_EDGES + 103 * BUSYNESS_AT_REST;

/// The longest documented delay of rows.
const LATENESS_MAX: TimeDelta = TimeDelta::hours(48);

/// 2015. No row is older, so a window can start at the earliest date.
const FIRST_HOUR: i64 = 394_464;

/// Ticks of 100 nanoseconds, Graph's resolution.
const TICKS_OF_AN_HOUR: u64 = 36_000_000_000;

const MILLION: u64 = 1_000_000;
