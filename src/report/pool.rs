//! Pools of included minutes. A licence pays for calls up to a number of minutes in a calendar month.
//!
//! The call log names the licence that paid for a call, and pools select calls by labels only. So the used minutes are
//! sums of series. They are added up before series are aggregated into `__other__`.
//!
//! A billing period that does not begin on the first of a month has days of two calendar months. So each series also
//! has the seconds of the later month, and a part of the current month can be in the previous period.
//!
//! This module does not know licences, prices or countries. The configuration states which calls are included.

#![deny(clippy::float_arithmetic)]

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::ReportInfo;
use super::threshold::Threshold;
use crate::exposition::{Family, Samples, gauges, label_block};
use crate::money::Sum;
use crate::period::BillingPeriod;

/// Included minutes of a calendar month. The pool applies to each selected tenant separately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Value of the label `pool`.
    pub name: String,
    /// The name of the selected tenant. `None` selects all tenants.
    pub tenant: Option<String>,
    /// Values of the label `license_capability`; at least one.
    pub license_capability: Vec<String>,
    /// Values of the label `usage_location`. An empty list selects all values.
    pub usage_location: Vec<String>,
    /// Value of the label `destination_context`. `None` selects all values.
    pub destination_context: Option<String>,
    /// Value of the label `call_type`; `None` selects outgoing calls.
    pub call_type: Option<String>,
    /// Included seconds of all licences, above zero.
    pub seconds: i64,
    /// The thresholds, in ascending order.
    pub thresholds: Vec<Threshold>,
}

/// A pool with its use in the current calendar month, for the HTML page of the exporter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolUse {
    /// Value of the label `pool`.
    pub name: String,
    /// Included seconds.
    pub seconds: i64,
    /// Used seconds.
    pub used: i64,
    /// Used seconds in whole percent of the included seconds, rounded down.
    pub percent: u32,
    /// The thresholds, in ascending order.
    pub thresholds: Vec<Threshold>,
}

/// The labels that pools select by.
pub(crate) const LABELS: [&str; 4] = [
    "license_capability",
    "usage_location",
    "destination_context",
    "call_type",
];

/// The data of one call, for pools.
#[derive(Clone, Debug)]
pub struct PooledCall {
    /// The labels of the call, in the order of [`LABELS`].
    pub(crate) labels: [String; 4],
    pub(crate) seconds: i64,
    pub(crate) has_charge: bool,
}

/// The used seconds of pools in one billing period. The keys are the selectors of the pools, so the seconds remain
/// valid if the name or the size of a pool changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UsedSeconds(BTreeMap<String, Seconds>);

/// Seconds in a billing period, divided into the earlier and the later calendar month of the period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seconds {
    pub(crate) earlier: i64,
    pub(crate) later: i64,
}

static SIZE: Family = Family::gauge(
    "teams_pstn_pool_size_seconds",
    "Included seconds of the pool in a calendar month (UTC): licences times included minutes. From the configuration.",
);

static USED: Family = Family::gauge(
    "teams_pstn_pool_used_seconds",
    "Duration of the calls that the pool pays for in the current calendar month (UTC). As of the last complete report.",
);

static THRESHOLD: Family = Family::gauge(
    "teams_pstn_pool_threshold_ratio",
    "Share of the pool's included seconds at which an alert fires: 0.8 for 80 %. From the configuration.",
);

pub(crate) const FAMILIES: [&Family; 3] = [&SIZE, &USED, &THRESHOLD];

impl Pool {
    /// A pool for outgoing calls of these licences.
    pub fn new(name: &str, licenses: &[&str], seconds: i64) -> Self {
        Self {
            name: name.to_owned(),
            tenant: None,
            license_capability: licenses.iter().map(|&name| name.to_owned()).collect(),
            usage_location: Vec::new(),
            destination_context: None,
            call_type: None,
            seconds,
            thresholds: Self::default_thresholds(),
        }
    }

    pub(crate) fn default_thresholds() -> Vec<Threshold> {
        [80, 100].map(Threshold::from).to_vec()
    }

    /// Returns true if the pool pays for calls with these labels.
    pub(crate) fn covers(&self, [license, location, context, call_type]: [&str; 4]) -> bool {
        let is_one_of =
            |wanted: &[String], label: &str| wanted.iter().any(|wanted| wanted == label);
        let selects =
            |wanted: &Option<String>, label| wanted.as_deref().is_none_or(|wanted| wanted == label);
        is_one_of(&self.license_capability, license)
            && (self.usage_location.is_empty() || is_one_of(&self.usage_location, location))
            && selects(&self.destination_context, context)
            && match &self.call_type {
                Some(wanted) => wanted == call_type,
                None => is_outgoing(call_type),
            }
    }

    /// The selectors as text.
    fn selectors(&self) -> String {
        serde_json::json!([
            self.license_capability,
            self.usage_location,
            self.destination_context,
            self.call_type,
        ])
        .to_string()
    }
}

impl UsedSeconds {
    /// Creates the used seconds from the seconds of each pool.
    pub(crate) fn new(pools: &[Pool], used: Vec<Seconds>) -> Self {
        Self(pools.iter().map(Pool::selectors).zip(used).collect())
    }

    /// Returns true if the used seconds of each of these pools are known.
    pub(crate) fn has<'p>(&self, pools: impl IntoIterator<Item = &'p Pool>) -> bool {
        let mut pools = pools.into_iter();
        pools.all(|pool| self.0.contains_key(&pool.selectors()))
    }

    /// The used seconds of each pool in the calendar month of `now`. `self` has the seconds of `period`, which contains
    /// `now`, and `previous` has the seconds of the previous period. The value of a pool is `None` if a part of the
    /// month is in the previous period and its seconds are unknown. With only the other part, more minutes would seem
    /// to be left.
    pub(crate) fn in_month(
        &self,
        pools: &[Pool],
        period: BillingPeriod,
        now: DateTime<Utc>,
        previous: Option<&Self>,
    ) -> Vec<Option<i64>> {
        let of_pool = |pool: &Pool| {
            let selectors = pool.selectors();
            let Seconds { earlier, later } = *self.0.get(&selectors)?;
            if now < period.first_of_month() {
                let begun = previous?.0.get(&selectors)?.later;
                Some(begun.saturating_add(earlier))
            } else {
                Some(later)
            }
        };
        pools.iter().map(of_pool).collect()
    }
}

impl Seconds {
    /// Adds the seconds of a series. `all` is the sum of both months, and `later` is the part in the later month.
    pub(crate) fn add(&mut self, all: i64, later: i64) {
        let earlier = all.saturating_sub(later);
        self.earlier = self.earlier.saturating_add(earlier);
        self.later = self.later.saturating_add(later);
    }
}

/// The positions of [`LABELS`] in the labels of a report; `None` if the report lacks one of them.
pub(crate) fn positions(report: &ReportInfo) -> Option<[usize; 4]> {
    let [license, location, context, call_type] = LABELS.map(|name| report.label(name));
    Some([license?, location?, context?, call_type?])
}

/// Returns whether a call type, such as `user_out_forwarding`, is an outgoing call.
pub(crate) fn is_outgoing(call_type: &str) -> bool {
    call_type.split('_').any(|part| part == "out")
}

/// Size, use and thresholds of every pool, in the order of the configuration. If the use of a pool is unknown, the pool
/// has no sample of its use.
pub(crate) fn samples(pools: &[Pool], used: &[Option<i64>], tenant: Option<&str>) -> Vec<Samples> {
    let labels = |pool: &Pool| label_block([("pool", Some(&*pool.name)), ("tenant", tenant)]);
    let sizes = pools.iter().map(|pool| (labels(pool), pool.seconds.into()));
    let uses = pools.iter().zip(used);
    let uses = uses.filter_map(|(pool, used)| Some((labels(pool), Sum::from((*used)?))));
    let thresholds = pools.iter().flat_map(|pool| {
        let sample =
            |threshold: &Threshold| threshold.sample(&[("pool", Some(&pool.name))], tenant);
        pool.thresholds.iter().map(sample)
    });
    [
        gauges(&SIZE, sizes),
        gauges(&USED, uses),
        gauges(&THRESHOLD, thresholds),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every pool with a known use, in the order of the configuration, for the HTML page.
pub(crate) fn for_page(pools: &[Pool], used: &[Option<i64>]) -> Vec<PoolUse> {
    let shown = |(pool, &used): (&Pool, &Option<i64>)| {
        let used = used?;
        Some(PoolUse {
            name: pool.name.clone(),
            seconds: pool.seconds,
            used,
            percent: Sum::from(used).whole_percent_of(pool.seconds.into()),
            thresholds: pool.thresholds.clone(),
        })
    };
    pools.iter().zip(used).filter_map(shown).collect()
}

/// The pools as text, for state files. If the text changes, saved samples of pools are dropped. Empty if there are no
/// pools.
pub(crate) fn spelled(pools: &[Pool]) -> String {
    let spell = |pool: &Pool| {
        let thresholds: Vec<_> = pool
            .thresholds
            .iter()
            .map(|threshold| (threshold.at, threshold.severity.as_str()))
            .collect();
        serde_json::json!([
            pool.name,
            pool.license_capability,
            pool.usage_location,
            pool.destination_context,
            pool.call_type,
            pool.seconds,
            thresholds,
        ])
        .to_string()
    };
    pools.iter().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::period::CycleDay;

    #[test]
    fn calls_that_a_pool_covers_by_table() {
        let call = ["MCOPSTN2", "US", "Domestic", "user_out_forwarding"];
        let incoming = ["MCOPSTN2", "US", "Domestic", "user_in"];
        for (pool, call, covers) in [
            (pool(&[], None, None), call, true),
            (pool(&["PR", "US"], Some("Domestic"), None), call, true),
            (pool(&["PR"], None, None), call, false),
            (pool(&[], Some("International"), None), call, false),
            (pool(&[], None, Some("user_out")), call, false),
            (pool(&[], None, Some("user_out_forwarding")), call, true),
            (pool(&[], None, None), incoming, false),
            (pool(&[], None, Some("user_in")), incoming, true),
            (
                pool(&[], None, None),
                ["MCOPSTN5", "US", "Domestic", "user_out"],
                false,
            ),
            (
                pool(&[], None, None),
                ["MCOPSTN1", "US", "Domestic", "route"],
                false,
            ),
        ] {
            assert_eq!(pool.covers(call), covers, "{pool:?} {call:?}");
        }
    }

    #[test]
    fn more_than_all_included_seconds_are_shown() {
        let pools = [Pool {
            seconds: 21_600_000,
            thresholds: vec![Threshold::from(80)],
            ..pool(&[], None, None)
        }];
        let mut text = Vec::new();
        for samples in samples(&pools, &[Some(21_600_001)], Some("t")) {
            samples.block.write(&mut text);
        }
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "teams_pstn_pool_size_seconds{pool=\"a\",tenant=\"t\"} 21600000\n\
             teams_pstn_pool_used_seconds{pool=\"a\",tenant=\"t\"} 21600001\n\
             teams_pstn_pool_threshold_ratio{pool=\"a\",severity=\"warning\",tenant=\"t\",threshold=\"80\"} 0.8\n"
        );
    }

    #[test]
    fn seconds_of_a_calendar_month_by_table() {
        let pools = [pool(&[], None, None)];
        let seconds = |earlier, later| UsedSeconds::new(&pools, vec![Seconds { earlier, later }]);
        let (current, before) = (seconds(10, 20), seconds(1, 2));
        let none = UsedSeconds::default();
        for (now, day, previous, used) in [
            ("2026-11-21T00:00:00Z", 1, None, Some(20)),
            // The first of the month is in the current period, so the previous one does not matter.
            ("2026-12-01T00:00:00Z", 15, None, Some(20)),
            ("2026-11-30T23:59:59Z", 15, Some(&before), Some(12)),
            ("2026-11-15T00:00:00Z", 15, Some(&before), Some(12)),
            ("2026-11-15T00:00:00Z", 15, None, None),
            ("2026-11-15T00:00:00Z", 15, Some(&none), None),
        ] {
            let period = BillingPeriod::containing(at(now), CycleDay::try_from(day).unwrap());
            let found = current.in_month(&pools, period, at(now), previous);
            assert_eq!(found, [used], "{now} {day} {previous:?}");
            let shown: Vec<i64> = for_page(&pools, &found)
                .iter()
                .map(|pool| pool.used)
                .collect();
            assert_eq!(shown, Vec::from_iter(used), "{now} {day} {previous:?}");
        }
    }

    fn pool(locations: &[&str], context: Option<&str>, call_type: Option<&str>) -> Pool {
        Pool {
            usage_location: locations.iter().map(|&code| code.to_owned()).collect(),
            destination_context: context.map(str::to_owned),
            call_type: call_type.map(str::to_owned),
            ..Pool::new("a", &["MCOPSTN1", "MCOPSTN2"], 60)
        }
    }

    fn at(time: &str) -> DateTime<Utc> {
        time.parse().unwrap()
    }
}
