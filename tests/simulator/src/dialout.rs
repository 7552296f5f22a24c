//! `getPstnOnlineMeetingDialoutReport` of a company: the sums of the `conf_out` rows of its call log.
//!
//! A row of the report is a row of the log's sums, so both functions always agree. The charge is without the connection
//! charge, which the report does not have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use chrono::{DateTime, TimeDelta, Utc};

use super::calls::{Call, label_value};
use super::log::{Log, LogRow as _};
use super::people::User;
use super::sums::Amounts;
use super::world::{Charge, Row};

impl Log<Call> {
    /// The rows of the report of the calls that start in the period and have arrived, in the order of the organizers' ids.
    pub(super) fn dialout(
        &self,
        period: RangeInclusive<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Vec<String> {
        let mut sums: BTreeMap<[String; 4], (User, Amounts)> = BTreeMap::new();
        self.each(*period.start()..*period.end() + TICK, now, |call| {
            let (Some(user), Some("conf_out")) = (&call.user, call.call_type.as_deref()) else {
                return;
            };
            let key = [
                user.id.to_string(),
                label_value(call.usage_country.as_ref()),
                label_value(call.destination_context.as_ref()),
                label_value(call.currency.as_ref()),
            ];
            let sum = sums.entry(key);
            let (_, sum) = sum.or_insert_with(|| (user.clone(), Amounts::default()));
            sum.add(call.amounts());
        });
        let json =
            |([_, location, context, currency], (user, sum)): (&[String; 4], &(User, Amounts))| {
                Row {
                    user_id: &user.id,
                    principal_name: &user.principal_name,
                    display_name: &user.display_name,
                    location,
                    context,
                    currency,
                    calls: sum.rows,
                    seconds: sum.seconds,
                    charge: Charge(i64::try_from(sum.charge).expect("a company's charges")),
                }
                .json()
            };
        sums.iter().map(json).collect()
    }
}

/// Graph's resolution.
const TICK: TimeDelta = TimeDelta::nanoseconds(100);

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::company::Company;
    use super::super::log::Logs;
    use super::super::sums::Sums;
    use super::*;

    /// Calls, seconds and ten-thousandths by organizer and currency.
    type Sum = BTreeMap<Vec<String>, (u64, u64, i128)>;

    #[test]
    fn the_report_is_the_sum_of_the_conf_out_rows_of_the_log_at_any_time() {
        let logs = Logs::of(&Company::new(3, 40).into());
        let from = time("2026-11-01T00:00:00Z");
        for now in [
            "2026-11-01T00:00:00Z",
            "2026-11-02T00:00:01Z",
            "2026-11-14T13:37:11Z",
            "2026-11-14T13:38:11Z",
            "2026-12-03T00:00:00Z",
        ] {
            let now = time(now);
            let to = now.min(time("2026-11-30T23:59:59.9999999Z"));
            let rows = logs.calls.dialout(from..=to, now);
            assert_eq!(by_organizer(&rows), oracle(&logs, from, to, now), "{now}");
        }
    }

    #[test]
    fn a_month_of_dial_out_calls_is_believable() {
        let logs = Logs::of(&Company::new(1, 400).into());
        let [from, to] = ["2026-10-01T00:00:00Z", "2026-10-31T23:59:59Z"].map(time);
        let rows = logs.calls.dialout(from..=to, to + TimeDelta::days(2));
        assert!((300..1_200).contains(&rows.len()), "{}", rows.len());
        let mut sums: BTreeMap<(String, String), (u64, i128)> = BTreeMap::new();
        for row in &rows {
            let row: Value = serde_json::from_str(row).unwrap();
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            let sum = sums
                .entry((text("currency"), text("destinationContext")))
                .or_default();
            sum.0 += row["totalCalls"].as_u64().unwrap();
            sum.1 += charge(&row["totalCallCharge"]);
        }
        for currency in ["EUR", "GBP", "USD"] {
            let of = |context: &str| sums[&(currency.to_owned(), context.to_owned())];
            let (home, abroad) = (of("Domestic"), of("International"));
            assert!(home.0 > 5 * abroad.0, "few calls go abroad: {sums:?}");
            assert!(abroad.1 > 2 * home.1, "they cost most: {sums:?}");
            let units = (home.1 + abroad.1) / 10_000;
            assert!((200..5_000).contains(&units), "{currency} {units}");
        }
    }

    #[test]
    fn the_report_grows_within_ten_minutes_at_any_hour() {
        let logs = Logs::of(&Company::new(1, 400).into());
        let monday = time("2026-11-02T00:00:00Z");
        let calls = |now| -> u64 {
            let rows = logs.calls.dialout(monday..=now, now);
            by_organizer(&rows).values().map(|sum| sum.0).sum()
        };
        for hour in (1..5 * 24).step_by(7) {
            let now = monday + TimeDelta::hours(hour);
            assert!(calls(now + TimeDelta::minutes(10)) > calls(now), "{now}");
        }
    }

    fn by_organizer(rows: &[String]) -> Sum {
        let mut sums = Sum::new();
        for row in rows {
            let row: Value = serde_json::from_str(row).unwrap();
            let key = ["userId", "currency"].map(|key| row[key].as_str().unwrap().to_owned());
            let sum = sums.entry(key.to_vec()).or_default();
            sum.0 += row["totalCalls"].as_u64().unwrap();
            sum.1 += row["totalCallSeconds"].as_u64().unwrap();
            sum.2 += charge(&row["totalCallCharge"]);
        }
        sums
    }

    fn oracle(logs: &Logs, from: DateTime<Utc>, to: DateTime<Utc>, now: DateTime<Utc>) -> Sum {
        let mut sums = Sums::new(Call::LABELS);
        for row in logs.calls.rows(from..to + TICK, now) {
            sums.add(row.labels(), row.amounts());
        }
        let by = sums.by(&["call_type", "user", "currency"]);
        by.into_iter()
            .filter(|(key, _)| key[0] == "conf_out")
            .map(|(key, sum)| (key[1..].to_vec(), (sum.rows, sum.seconds, sum.charge)))
            .collect()
    }

    /// Ten-thousandths of a JSON number, which has two to four decimals.
    fn charge(value: &Value) -> i128 {
        let text = value.to_string();
        let (units, decimals) = text.split_once('.').unwrap();
        format!("{units}{decimals:0<4}").parse().unwrap()
    }

    fn time(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }
}
