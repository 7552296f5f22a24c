//! A believable company that dials out of its meetings: callers, times, destinations and charges.
//!
//! Every call is a pure function of the seed, the person and the hour, so that a report is one of the seed and the
//! window. No call is stored and nothing is rounded: a charge is an integer of ten-thousandths.
//! This module does not model included minutes as a shared pool. A pool would make a call's price depend on all earlier
//! calls, and two adjacent windows would not add up to the combined one.

use chrono::{DateTime, TimeDelta, Utc};

use super::people::{ABROAD, BUSYNESS_OF_A_WEEK, INCLUDED, Person, Tariff};
use super::rng::{Rng, mixed};
use super::world::{Charge, Expected, Row};

/// Parameters of a [`Company`].
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Another seed is another company.
    pub seed: u64,
    /// Number of people with an account. About one in seven never dials out.
    pub users: u32,
    /// Dial-out calls of the whole company in an average hour of the week.
    pub calls_per_hour: u32,
}

/// A company: its people, who determine all of its calls.
#[derive(Debug)]
pub struct Company {
    pub(super) scenario: Scenario,
    pub(super) people: Vec<Person>,
    /// Cumulative activity up to each person.
    activity: Vec<u64>,
}

struct Call {
    /// Seconds since 1970.
    start: i64,
    seconds: u32,
    abroad: bool,
    charge: Charge,
}

impl Default for Scenario {
    /// The demo's company. Its calls are more frequent than in reality, two in three seconds on average, so that the next
    /// poll shows growth. Only a few have a charge, so that a month costs thousands only.
    fn default() -> Self {
        Self {
            seed: 1,
            users: 320,
            calls_per_hour: 2_400,
        }
    }
}

impl Company {
    /// Creates the company and its people.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        let people: Vec<Person> = (0..scenario.users)
            .map(|number| Person::hire(scenario.seed, number))
            .collect();
        let sums = people.iter().scan(0, |sum, person| {
            *sum += u64::from(person.activity);
            Some(*sum)
        });
        Self {
            scenario,
            activity: sums.collect(),
            people,
        }
    }

    /// A random person, weighted by activity.
    ///
    /// # Panics
    /// If the company has no people.
    pub(super) fn anyone(&self, rng: &mut Rng) -> &Person {
        let lot = rng.roll() % self.total_activity();
        &self.people[self
            .activity
            .partition_point(|sum| *sum <= lot)
            .min(self.people.len() - 1)]
    }

    /// The dial-out report of the calls that start from `from` to `to`, both inclusive; in the order of the people.
    pub(super) fn dialout(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<String> {
        // Calls start on whole seconds.
        let first = from.timestamp() + i64::from(from.timestamp_subsec_nanos() > 0);
        let last = to.timestamp();
        let mut rows = Vec::with_capacity(2 * self.people.len());
        for person in self.people.iter().filter(|person| person.activity > 0) {
            let mut contexts = [(0, 0, Charge(0)); 2];
            for hour in first.div_euclid(HOUR)..=last.div_euclid(HOUR) {
                for call in self.calls(person, hour) {
                    if (first..=last).contains(&call.start) {
                        let (calls, seconds, charge) = &mut contexts[usize::from(call.abroad)];
                        *calls += 1;
                        *seconds += u64::from(call.seconds);
                        charge.0 += call.charge.0;
                    }
                }
            }
            for (context, (calls, seconds, charge)) in CONTEXTS.into_iter().zip(contexts) {
                if calls > 0 {
                    let row = Row {
                        user_id: &person.user.id,
                        principal_name: &person.user.principal_name,
                        display_name: &person.user.display_name,
                        location: person.country.code,
                        context,
                        currency: person.country.currency,
                        calls,
                        seconds,
                        charge,
                    };
                    rows.push(row.json());
                }
            }
        }
        rows
    }

    /// The oracle: adds every call of the surrounding hours one by one if its time is in the window.
    pub(super) fn expected(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Expected {
        let mut expected = Expected::default();
        for person in &self.people {
            let mut contexts = std::collections::BTreeSet::new();
            let mut hour = from - TimeDelta::hours(2);
            while hour <= to + TimeDelta::hours(2) {
                for call in self.calls(person, hour.timestamp().div_euclid(HOUR)) {
                    let start = DateTime::from_timestamp(call.start, 0)
                        .expect("a call lies in an hour that a DateTime has");
                    if from <= start && start <= to {
                        let context = CONTEXTS[usize::from(call.abroad)];
                        contexts.insert(context);
                        expected.add(
                            person.country.currency,
                            context,
                            1,
                            u64::from(call.seconds),
                            call.charge,
                        );
                    }
                }
                hour += TimeDelta::hours(1);
            }
            expected.rows += contexts.len();
        }
        expected
    }

    fn total_activity(&self) -> u64 {
        self.activity.last().map_or(1, |sum| (*sum).max(1))
    }

    /// The calls that the person starts in an hour since 1970.
    fn calls(&self, person: &Person, hour: i64) -> impl Iterator<Item = Call> {
        let mut rng = Rng(person.seed ^ mixed(hour.cast_unsigned()));
        let mean = u64::from(self.scenario.calls_per_hour)
            * u64::from(person.activity)
            * person.country.busyness(hour)
            * 168
            * MILLION
            / (self.total_activity() * BUSYNESS_OF_A_WEEK);
        // Between zero and twice the mean. The fraction is a probability.
        let millionths = mean * 2 * u64::from(rng.below(1_000_000)) / MILLION;
        let calls = (millionths + u64::from(rng.below(1_000_000))) / MILLION;
        let (tariff, abroad) = (person.country.tariff, person.abroad);
        (0..calls).map(move |_| Call::make(&mut rng, hour, tariff, abroad))
    }
}

impl Call {
    fn make(rng: &mut Rng, hour: i64, domestic: Tariff, abroad: u32) -> Self {
        let start = hour * HOUR + i64::from(rng.below(3600));
        let seconds = match rng.below(25) {
            0..24 => 15 + rng.below(200),
            _ => 240 + rng.below(1_500),
        };
        let abroad = rng.below(100) < abroad;
        let tariff = if abroad {
            // Near countries get more calls than far ones.
            let nearness = rng.below(36);
            ABROAD[usize::from(nearness >= 15)
                + usize::from(nearness >= 24)
                + usize::from(nearness >= 30)
                + usize::from(nearness >= 34)]
        } else if rng.below(100) < 84 {
            INCLUDED
        } else {
            domestic
        };
        let ten_thousandths =
            seconds.div_ceil(60) * tariff.per_started_minute + tariff.per_connection;
        Self {
            start,
            seconds,
            abroad,
            charge: Charge(i64::from(ten_thousandths)),
        }
    }
}

const HOUR: i64 = 3_600;
const MILLION: u64 = 1_000_000;

const CONTEXTS: [&str; 2] = ["Domestic", "International"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_month_is_believable() {
        let company = Company::new(Scenario::default());
        let expected = company.expected(time("2026-11-01T00:00:00Z"), time("2026-11-30T23:59:59Z"));
        let currencies = expected.by_currency();
        assert_eq!(
            currencies.keys().map(String::as_str).collect::<Vec<_>>(),
            ["EUR", "GBP", "USD"]
        );
        for (currency, sum) in &currencies {
            assert!(
                (1_000..100_000).contains(&(sum.charge.0 / 10_000)),
                "{currency} {}",
                sum.charge
            );
        }
        let of = |context: &str| {
            expected
                .sums
                .iter()
                .filter(|((_, c), _)| c == context)
                .fold((0, 0), |(calls, charge), (_, sum)| {
                    (calls + sum.calls, charge + sum.charge.0)
                })
        };
        let (home, abroad) = (of("Domestic"), of("International"));
        assert!(home.0 > 5 * abroad.0, "few calls go abroad");
        assert!(abroad.1 > 2 * home.1, "and cost most: {abroad:?} {home:?}");
        assert!(expected.rows > 300 && expected.rows < 2 * 320);
    }

    #[test]
    fn working_days_are_busier() {
        let company = Company::new(Scenario::default());
        let calls = |from: &str, to: &str| {
            company
                .expected(time(from), time(to))
                .sums
                .values()
                .map(|sum| sum.calls)
                .sum::<u64>()
        };
        let friday = calls("2026-11-20T14:00:00Z", "2026-11-20T15:00:00Z");
        let night = calls("2026-11-20T02:00:00Z", "2026-11-20T03:00:00Z");
        let sunday = calls("2026-11-22T14:00:00Z", "2026-11-22T15:00:00Z");
        assert!(
            friday > night * 3 / 2 && friday > sunday * 3 / 2,
            "{friday} {night} {sunday}"
        );
    }

    #[test]
    fn a_minute_shows_growth_at_any_hour() {
        let company = Company::new(Scenario::default());
        let month = time("2026-11-01T00:00:00Z");
        for hour in 0..7 * 24 {
            let then = month + TimeDelta::hours(hour) + TimeDelta::minutes(30);
            let minute = company.expected(then, then + TimeDelta::minutes(1));
            assert!(
                minute.sums.values().any(|sum| sum.charge.0 > 0),
                "{then}: {minute:?}"
            );
        }
    }

    #[test]
    fn people_differ() {
        let company = Company::new(Scenario {
            users: 2_000,
            ..Scenario::default()
        });
        let names: BTreeMap<_, _> = company
            .people
            .iter()
            .map(|person| (&person.user.principal_name, &person.user.id))
            .collect();
        assert_eq!(names.len(), 2_000);
        assert!(names.keys().all(|name| name.is_ascii()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// [a, b] and (b, c] add up to [a, c], key by key.
        #[test]
        fn windows_add_up(seed: u64, begin in 0_i64..2_000_000_000, first in 0_i64..100_000, second in 1_i64..100_000) {
            let company = Company::new(Scenario { seed, users: 20, calls_per_hour: 200 });
            let a = DateTime::from_timestamp(begin, 0).unwrap();
            let b = a + TimeDelta::seconds(first);
            let c = b + TimeDelta::seconds(second);
            let after_b = b + TimeDelta::nanoseconds(100);
            let mut sum = keyed(&company.dialout(a, b));
            for (key, (calls, seconds, charge)) in keyed(&company.dialout(after_b, c)) {
                let entry = sum.entry(key).or_default();
                *entry = (entry.0 + calls, entry.1 + seconds, entry.2 + charge);
            }
            prop_assert_eq!(sum, keyed(&company.dialout(a, c)));
        }

        #[test]
        fn reports_agree_with_the_oracle(seed: u64, begin in 0_i64..2_000_000_000, length in 0_i64..300_000, nanos in 0_u32..1_000_000_000) {
            let company = Company::new(Scenario { seed, users: 20, calls_per_hour: 200 });
            let from = DateTime::from_timestamp(begin, nanos).unwrap();
            let to = from + TimeDelta::seconds(length);
            let rows = company.dialout(from, to);
            prop_assert_eq!(&rows, &Company::new(company.scenario).dialout(from, to));
            let expected = company.expected(from, to);
            prop_assert_eq!(rows.len(), expected.rows);
            let mut sums: BTreeMap<(String, String), (u64, u64, i64)> = BTreeMap::new();
            for ((_, currency, context), (calls, seconds, charge)) in keyed(&rows) {
                let entry = sums.entry((currency, context)).or_default();
                *entry = (entry.0 + calls, entry.1 + seconds, entry.2 + charge);
            }
            let oracle: BTreeMap<_, _> = expected
                .sums
                .into_iter()
                .map(|(key, sum)| (key, (sum.calls, sum.seconds, sum.charge.0)))
                .collect();
            prop_assert_eq!(sums, oracle);
        }
    }

    fn keyed(rows: &[String]) -> BTreeMap<(String, String, String), (u64, u64, i64)> {
        rows.iter()
            .map(|row| {
                let charge = row
                    .split("\"totalCallCharge\":")
                    .nth(1)
                    .and_then(|rest| rest.split(',').next())
                    .unwrap();
                let (units, fraction) = charge.split_once('.').unwrap();
                let charge = units.parse::<i64>().unwrap() * 10_000
                    + format!("{fraction:0<4}").parse::<i64>().unwrap();
                let row: serde_json::Value = serde_json::from_str(row).unwrap();
                let text = |key: &str| row[key].as_str().unwrap().to_owned();
                let count = |key: &str| row[key].as_u64().unwrap();
                (
                    (text("userId"), text("currency"), text("destinationContext")),
                    (count("totalCalls"), count("totalCallSeconds"), charge),
                )
            })
            .collect()
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }
}
