//! Logs over many polls: only the days that may still change are asked for again, and failures, restarts, reloads and the
//! end of a period lose and double nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::address::{Function, Version};
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::journal::Asked;
use teams_pstn_simulator::log::Logs;

use crate::logs::company;
use crate::oracle::{Shape, assert_same, at, calm, expected, found, november};
use crate::support::{Exporter, Log, Metrics, NOW, Setup, TENANT, Time, config, reports};

/// The reports that are asked for day by day.
const DAILY: [ReportKind; 3] = [
    ReportKind::CallLog,
    ReportKind::DirectRouting,
    ReportKind::Sms,
];

/// The families of all logs, and what they are of.
pub(crate) const FAMILIES: &[&str] = &[
    "teams_pstn_call_log_",
    "teams_pstn_direct_routing_",
    "teams_pstn_sms_",
    "teams_pstn_blocked_users",
    "teams_pstn_budget_",
    "teams_pstn_billing_period_",
];

/// A simulator whose rows do not arrive while one of these polls may be under way, and a configuration that can be changed.
pub(crate) struct Site {
    pub(crate) simulator: Simulator,
    pub(crate) time: Time,
    pub(crate) logs: Logs,
    config: Arc<Mutex<Config>>,
}

impl Site {
    pub(crate) async fn at(polls: &[&str]) -> Self {
        let polls: Vec<DateTime<Utc>> = polls.iter().copied().map(at).collect();
        Self::polled_at(&polls).await
    }

    pub(crate) async fn polled_at(polls: &[DateTime<Utc>]) -> Self {
        let (simulator, time) = Setup::of(company(1)).simulate().await;
        time.set(&polls[0].to_rfc3339());
        let logs = calm(&simulator, TENANT, polls);
        let mut config = config(&simulator);
        config.labels.user = UserLabel::Id;
        config.reports = reports(&[DAILY.as_slice(), &[ReportKind::BlockedUsers]].concat());
        Self {
            simulator,
            time,
            logs,
            config: Arc::new(Mutex::new(config)),
        }
    }

    pub(crate) fn exporter(&self, previous: bool) -> Exporter {
        let config = Arc::clone(&self.config);
        let load = Box::new(move || Ok(config.lock().unwrap().clone()));
        Exporter::start_with(load, &self.time, previous)
    }

    /// The requests and answers since there were `before` requests, by function, and the present number of requests.
    pub(crate) fn asked_since(&self, before: usize) -> (BTreeMap<Function, Vec<Asked>>, usize) {
        let requests = self.simulator.requests();
        let mut asked: BTreeMap<Function, Vec<Asked>> = BTreeMap::new();
        for request in &requests[before..] {
            if let (Some(one), Some(200)) = (request.asked(), request.status) {
                asked.entry(one.function).or_default().push(one);
            }
        }
        (asked, requests.len())
    }

    /// Holds every series of the current period against the rows that have arrived.
    fn check(&self, what: &str, metrics: &Metrics, now: &str) {
        let expected = expected(&self.logs, &november(), at(now), Shape::Users);
        assert_same(what, &found(metrics, Shape::Users, None), &expected);
    }

    /// A time that is after every poll so far.
    pub(crate) async fn a_little_later(&self) -> DateTime<Utc> {
        tokio::time::advance(Duration::from_secs(1)).await;
        self.time.now()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config.lock().unwrap());
    }
}

/// Waits until every report has been polled with success since `time`.
pub(crate) async fn polled_since(exporter: &mut Exporter, time: DateTime<Utc>) -> Metrics {
    exporter
        .until(|snapshot| {
            let states = snapshot.states();
            let polled = |success: Option<DateTime<Utc>>| success.is_some_and(|at| at >= time);
            !states.is_empty() && states.iter().all(|state| polled(state.last_success))
        })
        .await;
    exporter.scrape().await
}

/// Sets the clock on and waits for the polls that follow.
pub(crate) async fn poll_at(site: &Site, exporter: &mut Exporter, now: &str) -> Metrics {
    site.time.set(now);
    polled_since(exporter, at(now)).await
}

/// The starts of the windows, each once.
pub(crate) fn days(asked: &[Asked]) -> BTreeSet<DateTime<Utc>> {
    asked.iter().map(|asked| asked.from).collect()
}

/// Midnights from one day of November to another.
pub(crate) fn november_days(days: std::ops::RangeInclusive<i64>) -> BTreeSet<DateTime<Utc>> {
    days.map(|day| november().start + TimeDelta::days(day - 1))
        .collect()
}

fn final_windows(metrics: &Metrics, report: ReportKind) -> &str {
    metrics.value(&format!(
        "teams_pstn_report_final_windows{{report=\"{report}\"}}"
    ))
}

pub(crate) const LOGS: [(Function, Version); 3] = [
    (Function::Calls, Version::V1),
    (Function::DirectRouting, Version::Beta),
    (Function::Sms, Version::Beta),
];

#[tokio::test(start_paused = true)]
async fn later_polls_fetch_the_open_days_only() {
    let site = Site::at(&[NOW, "2026-11-21T13:00:00Z", "2026-11-23T13:00:00Z"]).await;
    let mut exporter = site.exporter(false);
    let first = polled_since(&mut exporter, at(NOW)).await;
    site.check("the first", &first, NOW);
    let (asked, requests) = site.asked_since(0);
    for (function, version) in LOGS {
        let asked = &asked[&function];
        assert!(asked.iter().all(|asked| asked.version == version));
        assert_eq!(days(asked), november_days(1..=21), "{function:?}");
        // They tile the period: each begins where the one before ends, and the last ends now.
        let mut windows: Vec<_> = asked.iter().map(|asked| (asked.from, asked.to)).collect();
        windows.sort_unstable();
        windows.dedup();
        assert!(windows.windows(2).all(|two| two[0].1 == two[1].0));
        let end = windows.last().unwrap().1;
        assert!(
            (at(NOW)..at(NOW) + TimeDelta::minutes(1)).contains(&end),
            "{end}"
        );
    }
    for report in DAILY {
        // 78 hours ago it was the 18th, at six in the morning, so the 17th is the last final day.
        assert_eq!(final_windows(&first, report), "17");
    }
    let blocks = &asked[&Function::BlockedUsers];
    assert_eq!((blocks.len(), blocks[0].version), (1, Version::Beta));
    let tick = TimeDelta::nanoseconds(100);
    assert_eq!(blocks[0].to - blocks[0].from, TimeDelta::days(89) - tick);

    let now = "2026-11-21T13:00:00Z";
    let second = poll_at(&site, &mut exporter, now).await;
    site.check("the second", &second, now);
    let (asked, requests) = site.asked_since(requests);
    for (function, _) in LOGS {
        assert_eq!(days(&asked[&function]), november_days(18..=21));
    }
    let now = "2026-11-23T13:00:00Z";
    let third = poll_at(&site, &mut exporter, now).await;
    site.check("the third", &third, now);
    let (asked, _) = site.asked_since(requests);
    for (function, _) in LOGS {
        assert_eq!(days(&asked[&function]), november_days(18..=23));
    }
    for report in DAILY {
        assert_eq!(final_windows(&third, report), "19");
    }
}

#[tokio::test(start_paused = true)]
async fn failure_on_a_middle_page_neither_loses_nor_doubles_rows() {
    for day in [2, 9, 17, 20, 21] {
        let site = Site::at(&[NOW]).await;
        let from = format!("=2026-11-{day:02},");
        let midnight = format!("=2026-11-{day:02}T00:00:00");
        for literal in [&from, &midnight] {
            let when = When::graph().asking(literal).always();
            site.simulator.push_fault(when, Fault::EmptyForbidden);
        }
        let mut exporter = site.exporter(false);
        let failed = exporter.first_poll().await;
        for report in DAILY {
            let up = format!("teams_pstn_report_up{{report=\"{report}\"}}");
            assert_eq!(failed.value(&up), "0", "{day}");
        }
        assert_eq!(failed.families(&FAMILIES[..3]), "", "{day}: all or nothing");
        let (before, requests) = site.asked_since(0);
        site.simulator.clear_faults();
        let now = site.time.now();
        let healed = polled_since(&mut exporter, now).await;
        site.check("healed", &healed, NOW);
        let (after, _) = site.asked_since(requests);
        for (function, _) in LOGS {
            // Days that were fetched before the failure and are final are not requested again.
            let had = before
                .get(&function)
                .map(|asked| days(asked))
                .unwrap_or_default();
            let kept: BTreeSet<_> = had.intersection(&november_days(1..=17)).copied().collect();
            let asked = days(&after[&function]);
            let lacking: BTreeSet<_> = november_days(1..=21).difference(&kept).copied().collect();
            // Those under way beside the failed one may have been answered and not been read.
            assert!(asked.is_superset(&lacking), "{day} {function:?}");
            assert!(
                asked.len() <= lacking.len() + 3,
                "{day} {function:?}: {asked:?}"
            );
            assert!(day < 5 || asked.len() < 21, "{day} {function:?}: {asked:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn late_rows_give_the_result_of_a_full_fetch() {
    const POLLS: &[&str] = &[
        "2026-11-01T00:00:30Z",
        "2026-11-01T09:00:00Z",
        "2026-11-04T05:59:00Z",
        "2026-11-05T06:00:01Z",
        "2026-11-05T07:00:00Z",
        "2026-11-12T23:59:00Z",
        "2026-11-13T00:01:00Z",
        "2026-11-30T23:58:00Z",
    ];
    let site = Site::at(POLLS).await;
    let mut exporter = site.exporter(false);
    for now in POLLS {
        let metrics = poll_at(&site, &mut exporter, now).await;
        site.check(now, &metrics, now);
        let mut fresh = site.exporter(false);
        let all = polled_since(&mut fresh, at(now)).await;
        assert_eq!(metrics.families(FAMILIES), all.families(FAMILIES), "{now}");
    }
}

#[tokio::test(start_paused = true)]
async fn period_end_neither_loses_nor_doubles_calls() {
    const POLLS: &[&str] = &[
        "2026-11-29T12:00:00Z",
        "2026-12-01T00:00:00Z",
        "2026-12-01T07:00:00Z",
        "2026-12-03T00:00:00Z",
        "2026-12-04T18:00:00Z",
    ];
    let site = Site::at(POLLS).await;
    site.change(|config| config.reports = reports(&DAILY));
    let december = november().end..at("2027-01-01T00:00:00Z");
    let said = |metrics: &Metrics, shape| found(metrics, shape, None);
    let mut exporter = site.exporter(true);
    // Also the previous period, which no later poll is to be blamed for.
    exporter
        .scrape_when(|metrics| {
            let polls = metrics.samples("teams_pstn_report_polls_total");
            polls.len() == DAILY.len() && polls.iter().all(|polls| polls.value == "2")
        })
        .await;
    for now in &POLLS[1..] {
        let (_, requests) = site.asked_since(0);
        poll_at(&site, &mut exporter, now).await;
        let now = at(now);
        let [current, previous] = [(Shape::Users, &december), (Shape::Previous, &november())]
            .map(|(shape, period)| expected(&site.logs, period, now, shape));
        let such = |metrics: &Metrics| {
            let mut found = said(metrics, Shape::Users);
            // Blocked users are not asked for here.
            found.retain(|key, _| !key.contains("block"));
            let mut current = current.clone();
            current.retain(|key, _| !key.contains("block"));
            found == current && said(metrics, Shape::Previous) == previous
        };
        // Of November's rows the last arrive two days after its end; none of them is in December's numbers.
        exporter.scrape_when(such).await;
        let (asked, _) = site.asked_since(requests);
        let days = days(&asked[&Function::Calls]);
        // Days that were final on the 29th are not requested again.
        let first = *days.first().unwrap();
        assert!(first >= november().start + TimeDelta::days(25), "{first}");
    }
    let total = |period| site.logs.calls.expected(period, at(POLLS[4])).total().rows;
    let all = total(november().start..december.end);
    assert_eq!(total(november()) + total(december.clone()), all);
}

/// A function that includes both ends sends a row that lies between two days, to the tick, twice.
#[tokio::test(start_paused = true)]
async fn a_call_at_midnight_is_counted_once() {
    let site = Site::at(&[NOW]).await;
    site.change(|config| config.reports = vec![ReportKind::CallLog.into()]);
    let midnights = november_days(1..=21);
    let calls = (1..).zip(&midnights).flat_map(|(number, midnight)| {
        let tick = TimeDelta::nanoseconds(100);
        [
            Call::at(2 * number, *midnight),
            Call::at(2 * number + 1, *midnight - tick),
        ]
    });
    site.logs.calls.set(calls.collect());
    let mut exporter = site.exporter(false);
    let metrics = polled_since(&mut exporter, at(NOW)).await;
    // The last tick of October is October's.
    let rows = metrics.value("teams_pstn_report_rows{report=\"call_log\"}");
    assert_eq!(rows, "41");
    let calls = metrics.samples("teams_pstn_call_log_calls");
    assert!(calls.len() == 41 && calls.iter().all(|call| call.value == "1"));
}

/// A service that answers every window with the same rows: each counts once, and those of other periods are reported.
#[tokio::test(start_paused = true)]
async fn row_that_every_window_brings_counts_once() {
    const ROW: &str = r#"{"id":"00000000-0000-4000-8000-00000000000N","userId":"u1","startDateTime":START,"inviteDateTime":"2026-11-05T10:01:00Z","failureDateTime":"2026-11-05T10:01:20Z","duration":5,"callType":"ByotOut","successfulCall":true,"finalSipCode":0,"trunkFullyQualifiedDomainName":"sbc1.contoso.example","userCountryCode":"US"}"#;
    let row = |number: &str, start: &str| ROW.replace('N', number).replace("START", start);
    let site = Site::at(&[NOW, "2026-11-22T13:00:00Z"]).await;
    site.change(|config| config.reports = vec![ReportKind::DirectRouting.into()]);
    site.logs.direct_routing.set_texts([
        row("1", "\"2026-11-05T00:00:00Z\""),
        // A failed call has no start.
        row("2", "null"),
        // No window is near this one.
        row("3", "\"2019-11-05T00:00:00Z\""),
    ]);
    let log = Log::capture();
    let mut exporter = site.exporter(false);
    for now in [NOW, "2026-11-22T13:00:00Z"] {
        let metrics = poll_at(&site, &mut exporter, now).await;
        let of = |family: &str| -> Vec<String> {
            let samples = metrics.samples(family).into_iter();
            samples.map(|sample| sample.value).collect()
        };
        assert_eq!(of("teams_pstn_direct_routing_calls"), ["2"], "{now}");
        assert_eq!(
            of("teams_pstn_direct_routing_call_seconds"),
            ["10"],
            "{now}"
        );
        assert_eq!(of("teams_pstn_report_rows"), ["2"], "{now}");
        assert_eq!(of("teams_pstn_report_unplaced_rows"), ["1"], "{now}");
        let log = log.take();
        assert!(
            log.contains("level=warn") && log.contains("unplaced_rows=1"),
            "{log}"
        );
    }
}
