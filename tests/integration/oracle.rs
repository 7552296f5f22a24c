//! The simulator's own rows as the exporter's families: the expected samples of the logs, one by one.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::log::{Log, LogRow, Logs};
use teams_pstn_simulator::sums::{Amounts, Sums};

use crate::support::{Metrics, Sample};

/// Values by family and labels, the labels in the order of their names.
pub(crate) type Samples = BTreeMap<String, Decimal>;

/// Of which time, and with or without users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Of the current period, by users' ids.
    Users,
    /// Of the current period, without users.
    NoUsers,
    /// Of the previous period, which never has users.
    Previous,
}

/// One family of a log: what its name begins with, how it goes on after that, and what it adds up.
type Family = (&'static str, &'static str, fn(&Amounts) -> Decimal);

const CALLS: &[Family] = &[
    ("teams_pstn_call_log_", "charge", |sum| money(sum.charge)),
    ("teams_pstn_call_log_", "connection_charge", |sum| {
        money(sum.connection_charge)
    }),
    ("teams_pstn_call_log_", "calls", |sum| sum.rows.into()),
    ("teams_pstn_call_log_", "call_seconds", |sum| {
        sum.seconds.into()
    }),
];

const DIRECT_ROUTING: &[Family] = &[
    ("teams_pstn_direct_routing_", "calls", |sum| sum.rows.into()),
    ("teams_pstn_direct_routing_", "failed_calls", |sum| {
        sum.failed.into()
    }),
    ("teams_pstn_direct_routing_", "call_seconds", |sum| {
        sum.seconds.into()
    }),
];

const SMS: &[Family] = &[
    ("teams_pstn_sms_", "charge", |sum| money(sum.charge)),
    ("teams_pstn_sms_", "messages", |sum| sum.rows.into()),
    ("teams_pstn_sms_", "units", |sum| sum.units.into()),
];

/// The expected samples of a period of these logs if all rows that have arrived by `now` are known.
pub(crate) fn expected(
    logs: &Logs,
    period: &Range<DateTime<Utc>>,
    now: DateTime<Utc>,
    shape: Shape,
) -> Samples {
    let mut samples = Samples::new();
    let mut add = |names: &[&str], sums: &BTreeMap<Vec<String>, Amounts>, families: &[Family]| {
        for (values, amounts) in sums {
            let labels = labels(names, values, shape);
            for (begin, end, value) in families {
                let family = match shape {
                    Shape::Previous => format!("{begin}previous_{end}"),
                    Shape::Users | Shape::NoUsers => format!("{begin}{end}"),
                };
                *samples.entry(key(&family, &labels)).or_default() += value(amounts);
            }
        }
    };
    let calls = logs.calls.expected(period.clone(), now);
    add(calls.labels(), calls.all(), CALLS);
    // The exporter has no labels for the success of a call and the destination of a message.
    let mut add_without = |label: &str, sums: &Sums, families: &[Family]| {
        let names = sums.labels().iter().copied();
        let kept: Vec<&str> = names.filter(|name| *name != label).collect();
        add(&kept, &sums.by(&kept), families);
    };
    let routed = logs.direct_routing.expected(period.clone(), now);
    add_without("success", &routed, DIRECT_ROUTING);
    let messages = logs.sms.expected(period.clone(), now);
    add_without("destination", &messages, SMS);
    if shape != Shape::Previous {
        expect_blocks(logs, period, now, &mut samples);
    }
    samples
}

fn expect_blocks(
    logs: &Logs,
    period: &Range<DateTime<Utc>>,
    now: DateTime<Utc>,
    samples: &mut Samples,
) {
    let blocked = logs
        .blocked_users
        .blocked(now - TimeDelta::days(89)..now, now);
    samples.insert(key("teams_pstn_blocked_users", &[]), blocked.into());
    let events = logs.blocked_users.expected(period.clone(), now);
    for (values, amounts) in events.by(&["mode", "reason"]) {
        let [event, reason] = values.try_into().expect("two labels");
        let labels = [("event".to_owned(), event), ("reason".to_owned(), reason)];
        samples.insert(
            key("teams_pstn_blocked_users_events", &labels),
            amounts.rows.into(),
        );
    }
}

/// The samples of a scrape, of one tenant if tenants have names.
pub(crate) fn found(metrics: &Metrics, shape: Shape, tenant: Option<&str>) -> Samples {
    let mut families: Vec<String> = [CALLS, DIRECT_ROUTING, SMS]
        .concat()
        .into_iter()
        .map(|(begin, end, _)| match shape {
            Shape::Previous => format!("{begin}previous_{end}"),
            Shape::Users | Shape::NoUsers => format!("{begin}{end}"),
        })
        .collect();
    if shape != Shape::Previous {
        families.extend(
            [
                "teams_pstn_blocked_users",
                "teams_pstn_blocked_users_events",
            ]
            .map(str::to_owned),
        );
    }
    let mut samples = Samples::new();
    for family in families {
        for Sample { labels, value, .. } in metrics.samples(&family) {
            let (of, mut labels): (Vec<_>, Vec<_>) =
                labels.into_iter().partition(|(name, _)| name == "tenant");
            if of.first().map(|(_, tenant)| tenant.as_str()) != tenant {
                continue;
            }
            labels.sort();
            let old = samples.insert(key(&family, &labels), value.parse().expect("a decimal"));
            assert_eq!(old, None, "twice: {family} {labels:?}");
        }
    }
    samples
}

/// Fails with what differs, and no more than that.
pub(crate) fn assert_same(what: &str, found: &Samples, expected: &Samples) {
    let differs = |samples: &Samples, others: &Samples| -> Vec<String> {
        samples
            .iter()
            .filter(|(key, value)| others.get(*key) != Some(value))
            .map(|(key, value)| format!("{key} {value}"))
            .collect()
    };
    let (wrong, missing) = (differs(found, expected), differs(expected, found));
    assert!(
        wrong.is_empty() && missing.is_empty(),
        "{what}: {} are wrong, {} are missing; found {:#?} where is expected {:#?}",
        wrong.len(),
        missing.len(),
        &wrong[..wrong.len().min(5)],
        &missing[..missing.len().min(5)]
    );
}

/// The logs of a tenant as they are, except for rows that arrive within some minutes after one of these times: those
/// arrive an hour later, so that it makes no difference how long a poll takes.
pub(crate) fn calm(simulator: &Simulator, tenant_id: &str, polls: &[DateTime<Utc>]) -> Logs {
    let logs = simulator.logs(tenant_id);
    let arrival = |arrival: DateTime<Utc>| {
        let soon =
            |poll: &&DateTime<Utc>| **poll <= arrival && arrival < **poll + TimeDelta::minutes(30);
        match polls.iter().find(soon) {
            Some(_) => arrival + TimeDelta::hours(1),
            None => arrival,
        }
    };
    logs.calls.set(all(&logs.calls, |row| {
        row.arrival = arrival(row.arrival);
    }));
    logs.direct_routing.set(all(&logs.direct_routing, |row| {
        row.arrival = arrival(row.arrival);
    }));
    logs.sms.set(all(&logs.sms, |row| {
        row.arrival = arrival(row.arrival);
    }));
    logs.blocked_users.set(all(&logs.blocked_users, |row| {
        row.arrival = arrival(row.arrival);
    }));
    logs
}

/// All rows of the months around the tests' day.
fn all<R: LogRow>(log: &Log<R>, change: impl Fn(&mut R)) -> Vec<R> {
    let mut rows = log.rows(
        at("2026-08-15T00:00:00Z")..at("2026-12-20T00:00:00Z"),
        at(EVER),
    );
    rows.iter_mut().for_each(change);
    rows
}

pub(crate) fn at(time: &str) -> DateTime<Utc> {
    time.parse().expect("a time in RFC 3339")
}

/// When everything has arrived.
pub(crate) const EVER: &str = "2027-12-31T00:00:00Z";

pub(crate) fn november() -> Range<DateTime<Utc>> {
    at("2026-11-01T00:00:00Z")..at("2026-12-01T00:00:00Z")
}

/// As the exporter writes the labels that the simulator tells.
fn labels(names: &[&str], values: &[String], shape: Shape) -> Vec<(String, String)> {
    let mut labels: Vec<(String, String)> = names
        .iter()
        .zip(values)
        .filter_map(|(name, value)| label(name, value, shape))
        .collect();
    labels.sort();
    labels
}

fn label(name: &str, value: &str, shape: Shape) -> Option<(String, String)> {
    let known = match (name, value) {
        ("user", _) if shape != Shape::Users => return None,
        ("sip_code", "0") => "none".to_owned(),
        ("sip_code", code) if !code.is_empty() => format!("{}xx", &code[..1]),
        (_, "") => "unknown".to_owned(),
        ("currency" | "usage_location", code) => code.to_uppercase(),
        ("direction", "sms_in") => "in".to_owned(),
        ("direction", "sms_out") => "out".to_owned(),
        (_, other) => other.to_owned(),
    };
    let name = match name {
        "sip_code" => "sip_code_class",
        other => other,
    };
    Some((name.to_owned(), known))
}

fn key(family: &str, labels: &[(String, String)]) -> String {
    format!("{family} {labels:?}")
}

fn money(ten_thousandths: i128) -> Decimal {
    Decimal::from_i128_with_scale(ten_thousandths, 4)
}
