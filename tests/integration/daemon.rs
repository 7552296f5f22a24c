//! The daemon from its first poll on: exact sums, outages, tokens, the end of a period, reloads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use rust_decimal::Decimal;
use teams_pstn_exporter::config::Config;
use teams_pstn_simulator::faults::{Fault, When};
use teams_pstn_simulator::world::{Table, World};

use crate::support::{
    CLIENT, Exporter, INTERVAL, Log, Metrics, SECRET, Setup, TENANT, request, row,
};

/// Sums of the samples as they are written, by currency.
fn sums(metrics: &Metrics, family: &str) -> BTreeMap<String, Decimal> {
    let mut sums = BTreeMap::new();
    for sample in metrics.samples(family) {
        let value: Decimal = sample.value.parse().expect("a decimal");
        *sums.entry(sample.label("currency").to_owned()).or_default() += value;
    }
    sums
}

#[tokio::test(start_paused = true)]
async fn samples_of_2500_rows_add_up_to_the_expected_sums() {
    let world = World::Rows { count: 2_500 };
    let (simulator, mut exporter, _) = Setup::of(world.clone()).start().await;
    let metrics = exporter.first_poll().await;
    assert_eq!(metrics.report("up"), "1");
    assert_eq!(metrics.report("rows"), "2500");
    assert_eq!(metrics.report("pages"), "3");
    assert_eq!(simulator.counts().graph, 3);
    let expected = world.expected().unwrap();
    let expected = expected.by_currency();
    assert_eq!(expected.len(), 3);
    let of = |decimal: &dyn Fn(&str) -> String| -> BTreeMap<String, Decimal> {
        let currencies = expected.keys();
        currencies
            .map(|currency| (currency.clone(), decimal(currency).parse().unwrap()))
            .collect()
    };
    assert_eq!(
        sums(&metrics, "teams_pstn_dialout_charge"),
        of(&|currency| expected[currency].charge.to_string())
    );
    assert_eq!(
        sums(&metrics, "teams_pstn_dialout_calls"),
        of(&|currency| expected[currency].calls.to_string())
    );
    assert_eq!(
        sums(&metrics, "teams_pstn_dialout_call_seconds"),
        of(&|currency| expected[currency].seconds.to_string())
    );
    exporter.stop().await;
}

#[tokio::test(start_paused = true)]
async fn outage_keeps_the_figures_and_ends_without_a_restart() {
    let setup = Setup::of(World::Rows { count: 10 });
    let (simulator, mut exporter, time) = setup.start().await;
    let before = exporter.first_poll().await;
    let address = simulator.address();
    simulator.stop().await;
    let during = exporter.next_poll().await;
    assert_eq!(during.of_report(), before.of_report());
    assert_eq!(during.report("up"), "0");
    assert_eq!(during.failures("connect"), 1);
    let last_success = |metrics: &Metrics| {
        let text = metrics.report("last_success_timestamp_seconds");
        text.parse::<f64>().unwrap()
    };
    assert!(last_success(&during) <= last_success(&before));
    assert!(
        during
            .growth(&before, "teams_pstn_graph_requests_total", "code")
            .starts_with("none=")
    );
    let _simulator = setup.simulate_at(address, &time).await;
    let after = exporter.next_success().await;
    assert_eq!(after.of_report(), before.of_report());
    assert_eq!(after.report("up"), "1");
    assert!(last_success(&after) > last_success(&before));
    assert_eq!(after.failures("connect"), 1);
}

#[tokio::test(start_paused = true)]
async fn series_of_removed_users_disappear() {
    let table = Table::new([row("ann", "1.00"), row("bob", "2.00")]);
    let (_simulator, mut exporter, _) = Setup::of(World::Table(table.clone())).start().await;
    let before = exporter.first_poll().await;
    assert_eq!(before.samples("teams_pstn_dialout_charge").len(), 2);
    table.set_rows([row("bob", "2.50")]);
    let after = exporter.next_poll().await;
    let samples = after.samples("teams_pstn_dialout_charge");
    assert_eq!(samples.len(), 1);
    assert_eq!(
        (samples[0].label("user"), samples[0].value.as_str()),
        ("bob@contoso.com", "2.5")
    );
    table.set_rows([""; 0]);
    let empty = exporter.next_poll().await;
    assert_eq!(empty.report("up"), "1");
    assert_eq!(empty.samples("teams_pstn_dialout_charge"), []);
}

#[tokio::test(start_paused = true)]
async fn token_is_requested_once_and_renewed_early() {
    let setup = Setup {
        token_lifetime: 20 * 60,
        ..Setup::of(World::Rows { count: 1 })
    };
    let (simulator, mut exporter, time) = setup.start().await;
    let begun = time.now();
    exporter.first_poll().await;
    let mut renewed_after = Vec::new();
    let mut tokens = 1;
    for _ in 0..40 {
        let metrics = exporter.next_poll().await;
        assert_eq!(metrics.report("up"), "1");
        let count = simulator.counts().token;
        if count > tokens {
            renewed_after.push((time.now() - begun).num_minutes());
            tokens = count;
        }
    }
    // Five minutes before the end of each, at the next poll.
    assert_eq!(renewed_after, [15, 30]);
    let unauthorized = simulator.requests();
    assert!(
        unauthorized
            .iter()
            .all(|request| request.status == Some(200))
    );
}

#[tokio::test(start_paused = true)]
async fn failed_renewal_leaves_the_old_token_in_use() {
    let log = Log::capture();
    let setup = Setup {
        token_lifetime: 20 * 60,
        ..Setup::of(World::Rows { count: 1 })
    };
    let (simulator, mut exporter, _) = setup.start().await;
    let before = exporter.first_poll().await;
    simulator.push_fault(When::token().always(), Fault::TokenError(7_000_222));
    let mut up = Vec::new();
    for _ in 0..21 {
        up.push(exporter.next_poll().await.report("up").to_owned());
    }
    // Up to the last minute of the old token, and no longer.
    assert_eq!(up[..19], ["1"; 19]);
    assert_eq!(up[20], "0");
    let logged = log.take();
    assert!(logged.contains("the old one stays in use"), "{logged}");
    assert!(logged.contains("create a new one"), "{logged}");
    simulator.clear_faults();
    let after = exporter.next_success().await;
    assert_eq!(after.of_report(), before.of_report());
}

/// Compares the metrics with the table before, in and after the outage.
async fn check_boundary(
    change: fn(&mut Config),
    times: [&'static str; 2],
    periods: [[&str; 2]; 2],
) {
    let table = Table::new([row("ann", "100.10"), row("bob", "2.00")]);
    let setup = Setup {
        now: times[0],
        change,
        ..Setup::of(World::Table(table.clone()))
    };
    let (simulator, mut exporter, time) = setup.start().await;
    let period = |metrics: &Metrics| {
        ["start", "end"].map(|end| {
            let name =
                format!("teams_pstn_billing_period_{end}_timestamp_seconds{{report=\"dialout\"}}");
            let seconds = metrics.value(&name).parse().expect("whole seconds");
            chrono::DateTime::from_timestamp(seconds, 0)
                .expect("a time")
                .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        })
    };
    let before = exporter.first_poll().await;
    assert_eq!(period(&before), periods[0]);
    simulator.push_fault(When::graph().always(), Fault::EmptyForbidden);
    table.set_rows([row("bob", "0.50")]);
    time.set(times[1]);
    let during = exporter.next_poll().await;
    assert_eq!(during.report("up"), "0");
    assert_eq!(during.of_report(), before.of_report());
    simulator.clear_faults();
    let after = exporter.next_success().await;
    assert_eq!(period(&after), periods[1]);
    let samples = after.samples("teams_pstn_dialout_charge");
    let samples: Vec<_> = samples
        .iter()
        .map(|sample| (sample.label("user"), sample.value.as_str()))
        .collect();
    assert_eq!(samples, [("bob@contoso.com", "0.5")]);
    let asked = simulator.requests();
    let from = format!("(fromDateTime={}", periods[1][0]);
    let last = asked.last().expect("a request");
    assert!(last.path.contains(&from), "{}", last.path);
}

#[tokio::test(start_paused = true)]
async fn figures_and_period_change_together_at_the_end_of_a_month() {
    check_boundary(
        |_| {},
        ["2026-11-30T23:59:50Z", "2026-12-01T00:00:01Z"],
        [
            ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"],
            ["2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"],
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn figures_and_period_change_together_on_the_cycle_day() {
    check_boundary(
        |config| config.billing.cycle_day = 15.try_into().unwrap(),
        ["2027-02-14T23:59:50Z", "2027-02-15T00:00:01Z"],
        [
            ["2027-01-15T00:00:00Z", "2027-02-15T00:00:00Z"],
            ["2027-02-15T00:00:00Z", "2027-03-15T00:00:00Z"],
        ],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn period_boundary_is_polled_at_once() {
    let setup = Setup {
        now: "2026-11-30T23:59:50Z",
        change: |config| config.poll.interval = INTERVAL * 60,
        ..Setup::of(World::Rows { count: 1 })
    };
    let (_simulator, mut exporter, time) = setup.start().await;
    exporter.first_poll().await;
    exporter.next_poll().await;
    let passed = time.now()
        - "2026-12-01T00:00:00Z"
            .parse::<chrono::DateTime<chrono::Utc>>()
            .unwrap();
    assert!((0..3).contains(&passed.num_seconds()), "{passed}");
}

#[tokio::test(start_paused = true)]
async fn exporter_serves_its_own_metrics_before_the_first_success() {
    let (simulator, time) = Setup::of(World::Rows { count: 1 }).simulate().await;
    simulator.push_fault(When::graph().times(2), Fault::EmptyForbidden);
    let config = crate::support::config(&simulator);
    let mut exporter = crate::support::Exporter::start(Box::new(move || Ok(config.clone())), &time);
    let check = |metrics: &Metrics, forbidden: u64| {
        let values = |family: &str, label: &str| -> Vec<String> {
            let samples = metrics.samples(family);
            samples
                .iter()
                .map(|sample| sample.label(label).to_owned())
                .collect()
        };
        assert_eq!(
            values("teams_pstn_report_failures_total", "reason"),
            [
                "auth",
                "forbidden",
                "throttled",
                "timeout",
                "connect",
                "status",
                "malformed",
                "limit"
            ]
        );
        let mut codes = values("teams_pstn_graph_requests_total", "code");
        codes.sort();
        assert_eq!(
            codes,
            [
                "200", "400", "401", "403", "404", "406", "429", "500", "502", "503", "504",
                "none", "other"
            ]
        );
        let mut reasons = values("teams_pstn_graph_retries_total", "reason");
        reasons.sort();
        assert_eq!(
            reasons,
            ["auth", "body", "connect", "status", "throttled", "timeout"]
        );
        assert_eq!(metrics.report("up"), "0");
        assert_eq!(metrics.report("last_success_timestamp_seconds"), "0");
        assert_eq!(metrics.failures("forbidden"), forbidden);
        assert_eq!(metrics.of_report(), "");
    };
    // The first poll cannot have ended: nothing was waited for yet.
    check(&exporter.scrape().await, 0);
    assert_eq!(exporter.get("/-/ready").await.status, 503);
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    check(&exporter.first_poll().await, 1);
    let unready = exporter.get("/-/ready").await;
    assert_eq!(unready.status, 503);
    assert!(unready.body.contains("forbidden"), "{}", unready.body);
    check(&exporter.next_poll().await, 2);
    exporter.next_success().await;
    assert_eq!(exporter.get("/-/ready").await.status, 200);
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    // A failure later does not take readiness away.
    simulator.push_fault(When::graph(), Fault::EmptyForbidden);
    exporter.next_poll().await;
    assert_eq!(exporter.get("/-/ready").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn scrape_does_not_wait_for_a_hanging_poll() {
    let (simulator, mut exporter, time) = Setup::of(World::Rows { count: 5 }).start().await;
    let before = exporter.first_poll().await;
    simulator.push_fault(When::graph(), Fault::StallHead);
    let asked = simulator.counts().graph;
    simulator.wait_until(|counts| counts.graph > asked).await;
    let begun = time.now();
    let during = exporter.scrape().await;
    assert_eq!(during.of_report(), before.of_report());
    assert!((time.now() - begun).num_seconds() < 5);
    let answer = request(exporter.address, "HEAD", "/metrics", "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

/// The time of a poll of the previous period ends at its limit or at the next tick. Only the first is a setting.
#[tokio::test(start_paused = true)]
async fn a_previous_period_that_the_next_poll_cuts_off_is_not_blamed_on_the_time_limit() {
    for (interval, advice) in [
        (
            60,
            "remedy=\"if a later poll succeeds, nothing is needed; if it persists, raise the interval of the report or find out what slows the network\"",
        ),
        (
            3_600,
            "remedy=\"if it persists, raise poll.timeout or find out what slows the network\"",
        ),
    ] {
        let log = Log::capture();
        let (simulator, time) = Setup::of(World::Rows { count: 5 }).simulate().await;
        let october = "fromDateTime=2026-10-01";
        simulator.push_fault(When::graph().asking(october).always(), Fault::StallHead);
        let mut config = crate::support::config(&simulator);
        config.poll.interval = Duration::from_secs(interval);
        let load = Box::new(move || Ok(config.clone()));
        let mut exporter = Exporter::start_with(load, &time, true);
        let failed = |metrics: &Metrics| metrics.failures("timeout") == 1;
        exporter.scrape_when(failed).await;
        let log = log.take();
        let line = log.lines().find(|line| line.contains("reason=timeout"));
        assert!(line.is_some_and(|line| line.contains(advice)), "{log}");
        exporter.stop().await;
    }
}

const B: &str = "22222222-2222-2222-2222-222222222222";
const SUCCESSFUL: &str = "teams_pstn_config_last_reload_successful";
const RELOADED: &str = "teams_pstn_config_last_reload_success_timestamp_seconds";
const C: &str = "33333333-3333-3333-3333-333333333333";

#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "one story of five reloads")]
async fn reloads_leave_what_stays() {
    let table = |user: &str| World::Table(Table::new([row(user, "1.25")]));
    let setup = Setup {
        others: vec![(B, table("bob")), (C, table("cid"))],
        ..Setup::of(table("ann"))
    };
    let (simulator, time) = setup.simulate().await;
    let folder = tempfile::tempdir().unwrap();
    for secret in ["old", "new"] {
        fs::write(folder.path().join(secret), SECRET).unwrap();
    }
    let file = folder.path().join("config.yml");
    let configure = |tenants: &[(&str, &str, &str)]| {
        let url = simulator.url();
        let mut text = "tenants:\n".to_owned();
        for (name, id, secret) in tenants {
            write!(
                text,
                "- name: {name}\n  tenant_id: {id}\n  client_id: {CLIENT}\n  client_secret_file: {secret}\n  \
                 graph_url: {url}\n  authority_url: {url}\n"
            )
            .unwrap();
        }
        fs::write(&file, text).unwrap();
    };
    configure(&[("a", TENANT, "old"), ("b", B, "old")]);
    let path = file.clone();
    let mut exporter = Exporter::start(Box::new(move || Config::load(&path)), &time);
    let before = exporter.first_poll().await;
    let charges = |metrics: &Metrics| -> Vec<String> {
        let samples = metrics.samples("teams_pstn_dialout_charge");
        samples
            .iter()
            .map(|sample| {
                format!(
                    "{} {} {}",
                    sample.label("tenant"),
                    sample.label("user"),
                    sample.value
                )
            })
            .collect()
    };
    let reload =
        async |exporter: &Exporter| request(exporter.address, "POST", "/-/reload", "").await;
    let polls_of_a = |metrics: &Metrics| {
        let sample = "teams_pstn_report_polls_total{report=\"dialout\",tenant=\"a\"}";
        metrics.value(sample).to_owned()
    };
    assert_eq!(
        charges(&before),
        ["a ann@contoso.com 1.25", "b bob@contoso.com 1.25"]
    );
    assert_eq!(before.value(SUCCESSFUL), "1");

    // A bad file changes nothing, and says so.
    let asked = simulator.counts().received;
    fs::write(&file, "tenants:\n- name: a\n  bogus: 1\n").unwrap();
    let answer = reload(&exporter).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("config.yml:3: "), "{}", answer.body);
    let refused = exporter
        .scrape_when(|metrics| metrics.value(SUCCESSFUL) == "0")
        .await;
    assert_eq!(refused.of_report(), before.of_report());
    assert_eq!(refused.value(RELOADED), before.value(RELOADED));
    assert_eq!(simulator.counts().received, asked);

    // One goes, one comes, one stays as it is.
    configure(&[("a", TENANT, "old"), ("c", C, "old")]);
    assert_eq!(reload(&exporter).await.status, 200);
    exporter
        .until(|snapshot| {
            snapshot.states().len() == 2 && snapshot.states()[1].tenant.as_deref() == Some("c")
        })
        .await;
    let changed = exporter.first_poll().await;
    assert_eq!(
        charges(&changed),
        ["a ann@contoso.com 1.25", "c cid@contoso.com 1.25"]
    );
    assert_eq!(changed.value(SUCCESSFUL), "1");
    assert!(changed.value(RELOADED) >= before.value(RELOADED));
    assert_eq!(polls_of_a(&changed), "1");
    assert!(!changed.0.contains("tenant=\"b\""), "{}", changed.0);

    // One changes: it starts again with the figures that it has, though Graph refuses.
    simulator.push_fault(When::graph().tenant(TENANT), Fault::EmptyForbidden);
    configure(&[("a", TENANT, "new"), ("c", C, "old")]);
    assert_eq!(reload(&exporter).await.status, 200);
    let known = exporter
        .scrape_when(|metrics| polls_of_a(metrics) == "2")
        .await;
    assert_eq!(known.of_report(), changed.of_report());
    assert_eq!(
        known.value("teams_pstn_report_up{report=\"dialout\",tenant=\"a\"}"),
        "0"
    );
    assert_eq!(
        known.value("teams_pstn_report_up{report=\"dialout\",tenant=\"c\"}"),
        "1"
    );

    // Nothing changes, but a fix takes effect without a wait: the tenant that failed is polled at once, the other is
    // not.
    let reloaded = tokio::time::Instant::now();
    assert_eq!(reload(&exporter).await.status, 200);
    let fixed = exporter
        .scrape_when(|metrics| polls_of_a(metrics) == "3")
        .await;
    assert!(
        reloaded.elapsed() < Duration::from_mins(5),
        "it waited for its turn"
    );
    assert_eq!(
        fixed.value("teams_pstn_report_up{report=\"dialout\",tenant=\"a\"}"),
        "1"
    );
    let polls_of_c = "teams_pstn_report_polls_total{report=\"dialout\",tenant=\"c\"}";
    assert_eq!(fixed.value(polls_of_c), known.value(polls_of_c));

    // The name of a tenant now stands for another: numbers of the old one are not shown again.
    simulator.push_fault(When::graph().tenant(B).always(), Fault::EmptyForbidden);
    configure(&[("a", B, "new"), ("c", C, "old")]);
    assert_eq!(reload(&exporter).await.status, 200);
    let other = exporter.scrape_when(|metrics| metrics.value("teams_pstn_report_failures_total{reason=\"forbidden\",report=\"dialout\",tenant=\"a\"}") == "1" && polls_of_a(metrics) == "1").await;
    assert_eq!(charges(&other), ["c cid@contoso.com 1.25"]);

    let refused = exporter.get("/-/reload").await;
    assert_eq!(refused.status, 405);
    assert!(
        refused.head.to_lowercase().contains("allow: post"),
        "{}",
        refused.head
    );
}
