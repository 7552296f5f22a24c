//! Pools of the calendar month in billing periods that begin on the 15th.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::period::CycleDay;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_exporter::report::pool::Pool;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Charge, World};

use crate::open_days::polled_since;
use crate::oracle::at;
use crate::storage::{counted, written};
use crate::support::{Exporter, Metrics, Setup, TENANT, Time, budget, config, reports};

/// A pool, and the calls that it pays for.
type Case = (fn() -> Pool, fn(&Call) -> bool);

const POOLS: [Case; 3] = [
    (
        || Pool {
            destination_context: Some("Domestic".to_owned()),
            ..pool("domestic", &["MCOPSTN1", "MCOPSTN2"])
        },
        |call| {
            is_out(call)
                && [Some("MCOPSTN1"), Some("MCOPSTN2")].contains(&call.license.as_deref())
                && call.destination_context.as_deref() == Some("Domestic")
        },
    ),
    (
        || Pool {
            destination_context: Some("International".to_owned()),
            ..pool("international", &["MCOPSTN2"])
        },
        |call| {
            is_out(call)
                && call.license.as_deref() == Some("MCOPSTN2")
                && call.destination_context.as_deref() == Some("International")
        },
    ),
    (
        || Pool {
            call_type: Some("conf_out".to_owned()),
            ..pool("meetings", &["MCOMEETADD"])
        },
        |call| {
            call.call_type.as_deref() == Some("conf_out")
                && call.license.as_deref() == Some("MCOMEETADD")
        },
    ),
];

fn pool(name: &str, licenses: &[&str]) -> Pool {
    Pool::new(name, licenses, 72_000)
}

fn is_out(call: &Call) -> bool {
    ["user_out", "conf_out"]
        .map(Some)
        .contains(&call.call_type.as_deref())
}

/// Two calls an hour of any kind, up to two days late, which do not arrive in the first half of an hour.
fn calls() -> Vec<Call> {
    let mut dice = fastrand::Rng::with_seed(15);
    let mut start = at("2026-10-20T00:00:00Z");
    let mut calls = Vec::new();
    while start < at("2026-12-04T00:00:00Z") {
        start += TimeDelta::seconds(dice.i64(1..3_600));
        let delay = [0, dice.i64(0..3_600), dice.i64(0..47 * 3_600)][dice.usize(0..3)];
        let mut arrival = start + TimeDelta::seconds(delay);
        if arrival.timestamp() % 3_600 < 1_800 {
            arrival += TimeDelta::minutes(30);
        }
        let mut one = |of: &[&'static str]| Some(of[dice.usize(0..of.len())].into());
        let call = Call {
            arrival,
            call_type: one(&["user_out", "user_in", "conf_out"]),
            destination_context: one(&["Domestic", "International"]),
            license: one(&["MCOPSTN1", "MCOPSTN2", "MCOMEETADD", "MCOPSTNPP"]),
            ..Call::at(u32::try_from(calls.len()).expect("few calls"), start)
        };
        calls.push(Call {
            seconds: dice.u32(0..3_000),
            charge: Some(Charge(dice.i64(0..20_000))),
            ..call
        });
    }
    calls
}

struct Site {
    simulator: Simulator,
    time: Time,
    calls: Vec<Call>,
    config: Arc<Mutex<Config>>,
}

impl Site {
    async fn at(now: &'static str, storage: Option<&Path>) -> Self {
        let setup = Setup {
            now,
            ..Setup::of(World::Rows { count: 1 })
        };
        let (simulator, time) = setup.simulate().await;
        let calls = calls();
        simulator.logs(TENANT).calls.set(calls.clone());
        let mut config = config(&simulator);
        // Short, because each second of a wait is work.
        config.poll.interval = Duration::from_secs(10);
        config.poll.log_interval = config.poll.interval;
        config.billing.cycle_day = CycleDay::try_from(15).expect("a day");
        config.reports = reports(&[ReportKind::CallLog]);
        config.pools = POOLS.map(|(pool, _)| pool()).to_vec();
        config.budgets = vec![Budget {
            report: ReportKind::CallLog,
            ..budget(1)
        }];
        config.storage = storage.map(Path::to_owned);
        let config = Arc::new(Mutex::new(config));
        Self {
            simulator,
            time,
            calls,
            config,
        }
    }

    fn exporter(&self) -> Exporter {
        let config = Arc::clone(&self.config);
        let load = Box::new(move || Ok(config.lock().unwrap().clone()));
        Exporter::start_with(load, &self.time, true)
    }

    /// The figures of one who adds up all calls: the use of each pool, and the spend. The previous period was fetched at
    /// `fetched`.
    fn expected(&self, now: DateTime<Utc>, fetched: DateTime<Utc>) -> ([i64; 3], Decimal) {
        let (month, period) = (month(now), period(now));
        let known = |call: &&Call| {
            let as_of = if call.start < period.start {
                fetched
            } else {
                now
            };
            call.arrival <= as_of
        };
        let in_month = || self.calls.iter().filter(|call| month.contains(&call.start));
        let used = POOLS.map(|(_, pays)| {
            let paid = in_month().filter(known).filter(|call| pays(call));
            paid.map(|call| i64::from(call.seconds)).sum()
        });
        let billed = self
            .calls
            .iter()
            .filter(|call| period.contains(&call.start));
        let charges = billed.filter(known).filter_map(|call| call.charge);
        let spent: i64 = charges.map(|charge| charge.0).sum();
        (used, Decimal::new(spent, 4))
    }
}

fn month(now: DateTime<Utc>) -> Range<DateTime<Utc>> {
    between(["2026-11-01", "2026-12-01", "2027-01-01"], now)
}

fn period(now: DateTime<Utc>) -> Range<DateTime<Utc>> {
    between(["2026-10-15", "2026-11-15", "2026-12-15"], now)
}

/// The two of these days that a time is between.
fn between(days: [&str; 3], now: DateTime<Utc>) -> Range<DateTime<Utc>> {
    let [first, second, third] = days.map(|day| at(&format!("{day}T00:00:00Z")));
    let range = if now < second {
        first..second
    } else {
        second..third
    };
    assert!(range.contains(&now), "{now}");
    range
}

/// The use of each pool; `None` if it is not known.
fn used(metrics: &Metrics) -> [Option<i64>; 3] {
    POOLS.map(|(pool, _)| {
        let name = pool().name;
        let size = format!("teams_pstn_pool_size_seconds{{pool=\"{name}\"}}");
        assert_eq!(metrics.value(&size), "72000");
        let used = metrics.get(&format!("teams_pstn_pool_used_seconds{{pool=\"{name}\"}}"));
        used.map(|used| used.parse().expect("a number"))
    })
}

fn spent(metrics: &Metrics) -> Decimal {
    let spent = metrics.value("teams_pstn_budget_spent{budget=\"all\",currency=\"USD\"}");
    spent.parse().expect("a decimal")
}

#[tokio::test(start_paused = true)]
async fn pools_are_of_the_calendar_month_and_budgets_of_the_billing_period() {
    let site = Site::at("2026-11-14T20:00:00Z", None).await;
    let mut exporter = site.exporter();
    let start = period(at("2026-11-15T00:00:00Z")).start;
    for (from, hours) in [("2026-11-14T20:00:00Z", 32), ("2026-11-30T18:00:00Z", 12)] {
        for hour in 0..hours {
            let now = at(from) + TimeDelta::hours(hour);
            site.time.set(&now.to_rfc3339());
            polled_since(&mut exporter, now).await;
            // By the second poll, the previous period has been fetched if it was due.
            let metrics = exporter.next_success().await;
            // It is fetched every six hours.
            let since = (now - start).num_hours();
            let fetched = start + TimeDelta::hours(since.div_euclid(6) * 6);
            let (pools, budget) = site.expected(now, fetched);
            assert_eq!(used(&metrics), pools.map(Some), "{now}");
            assert_eq!(spent(&metrics), budget, "{now}");
        }
    }
    exporter.stop().await;
}

/// A part of the month looks like a pool that lasts longer, so it is not shown.
#[tokio::test(start_paused = true)]
async fn use_of_pools_is_absent_until_the_previous_period_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::at("2026-11-20T12:00:00Z", Some(folder.path())).await;
    let refuse = || {
        let day = When::graph().asking("=2026-11-05").always();
        site.simulator.push_fault(day, Fault::EmptyForbidden);
    };
    let both_were_polled = |metrics: &Metrics| {
        let polls = metrics.value("teams_pstn_report_polls_total{report=\"call_log\"}");
        polls != "0" && polls != "1"
    };
    refuse();
    let mut exporter = site.exporter();
    let metrics = exporter.scrape_when(both_were_polled).await;
    let now = at("2026-11-20T12:00:00Z");
    assert_eq!(used(&metrics), [None; 3]);
    assert_eq!(spent(&metrics), site.expected(now, now).1);

    site.simulator.clear_faults();
    let fetched = at("2026-11-20T13:00:00Z");
    site.time.set(&fetched.to_rfc3339());
    let metrics = exporter
        .scrape_when(|metrics| used(metrics)[0].is_some())
        .await;
    assert_eq!(used(&metrics), site.expected(fetched, fetched).0.map(Some));

    // After a restart, the part in the previous period is known from the state file.
    let files = counted(&metrics, "written");
    written(&mut exporter, files + 2).await;
    exporter.stop().await;
    refuse();
    let now = at("2026-11-20T15:00:00Z");
    site.time.set(&now.to_rfc3339());
    let mut exporter = site.exporter();
    let metrics = polled_since(&mut exporter, now).await;
    assert_eq!(used(&metrics), site.expected(now, fetched).0.map(Some));

    // A pool that was not there at the last fetch of the previous period makes it due, which needs no day again.
    let other = Pool {
        usage_location: vec!["US".to_owned()],
        ..POOLS[0].0()
    };
    site.config.lock().unwrap().pools[0] = other;
    exporter.reload().await;
    exporter.next_success().await;
    let metrics = exporter.next_success().await;
    assert_eq!(used(&metrics), site.expected(now, now).0.map(Some));
    exporter.stop().await;
}
