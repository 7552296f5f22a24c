//! The logs of calls and messages, and of blocked users, over HTTP: every sample is the sum of the simulator's own
//! rows, whichever users are named and however many series there may be.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::{Decimal, RoundingStrategy};
use teams_pstn_exporter::config::Config;
use teams_pstn_exporter::report::ReportKind;
use teams_pstn_exporter::report::budget::Budget;
use teams_pstn_exporter::report::labels::Pseudonyms;
use teams_pstn_exporter::report::labels::UserLabel;
use teams_pstn_simulator::Simulator;
use teams_pstn_simulator::calls::Call;
use teams_pstn_simulator::log::{LogRow, Logs};
use teams_pstn_simulator::world::World;

use crate::open_days::{Site, poll_at};
use crate::oracle::{Samples, Shape, assert_same, at, calm, expected, found, november};
use crate::support::{Exporter, Log, Metrics, NOW, Sample, Setup, TENANT, Time, config, reports};

const OTHER_TENANT: &str = "11111111-2222-3333-4444-666666666666";

/// All reports that are no sums of Microsoft's.
const LOGS: [ReportKind; 4] = [
    ReportKind::CallLog,
    ReportKind::DirectRouting,
    ReportKind::Sms,
    ReportKind::BlockedUsers,
];

/// A company that has some thousand calls in a month.
pub(crate) fn company(seed: u64) -> World {
    World::company(seed, 20)
}

/// A simulator of one tenant, its logs, and a configuration that polls them by user id.
pub(crate) async fn simulate() -> (Simulator, Time, Logs, Config) {
    let (simulator, time) = Setup::of(company(1)).simulate().await;
    let logs = calm(&simulator, TENANT, &[at(NOW)]);
    let mut config = config(&simulator);
    config.labels.user = UserLabel::Id;
    config.reports = reports(&LOGS);
    (simulator, time, logs, config)
}

#[tokio::test(start_paused = true)]
async fn every_sample_of_two_tenants_is_what_their_rows_add_up_to() {
    let setup = Setup {
        others: vec![(OTHER_TENANT, company(2))],
        ..Setup::of(company(1))
    };
    let (simulator, time) = setup.simulate().await;
    let tenants = [("first", TENANT), ("second", OTHER_TENANT)];
    let logs = tenants.map(|(_, id)| calm(&simulator, id, &[at(NOW)]));
    let mut config = config(&simulator);
    config.labels.user = UserLabel::Id;
    config.reports = reports(&LOGS);
    let one = config.tenants[0].clone();
    config.tenants = tenants
        .map(|(name, id)| {
            let mut tenant = one.clone();
            tenant.name = Some(name.into());
            tenant.tenant_id = id.to_owned();
            tenant
        })
        .into();
    let mut exporter = Exporter::start_with(Box::new(move || Ok(config.clone())), &time, true);
    let metrics = exporter
        .scrape_when(|metrics| {
            let polls = metrics.samples("teams_pstn_report_polls_total");
            let all = |report: &str, count: u32| {
                let own = polls.iter().filter(|polls| polls.label("report") == report);
                own.filter(|polls| polls.value.parse::<u32>().unwrap() >= count)
                    .count()
                    == tenants.len()
            };
            // The current and the previous period; the exporter requests no previous period of blocked users.
            all("call_log", 2)
                && all("direct_routing", 2)
                && all("sms", 2)
                && all("blocked_users", 1)
        })
        .await;
    let october = at("2026-10-01T00:00:00Z")..november().start;
    for ((name, _), logs) in tenants.iter().zip(&logs) {
        for (shape, period) in [(Shape::Users, &november()), (Shape::Previous, &october)] {
            let expected = expected(logs, period, at(NOW), shape);
            assert!(expected.len() > 100, "{}", expected.len());
            let what = format!("{name}, {shape:?}");
            assert_same(&what, &found(&metrics, shape, Some(name)), &expected);
        }
    }
}

/// Both reports have the calls from meetings: one as sums of Graph's, the other call by call.
#[tokio::test(start_paused = true)]
async fn dial_out_charge_is_that_of_the_calls_from_meetings_at_every_poll() {
    const POLLS: &[&str] = &[
        "2026-11-03T09:00:00Z",
        "2026-11-03T17:00:00Z",
        "2026-11-16T08:00:00Z",
        "2026-11-30T23:00:00Z",
        "2026-12-01T12:00:00Z",
    ];
    let charges = |metrics: &Metrics, family: &str| {
        let mut sums: BTreeMap<[String; 2], Decimal> = BTreeMap::new();
        for sample in metrics.samples(family) {
            let is_other =
                |(name, value): &(String, String)| name == "call_type" && value != "conf_out";
            if !sample.labels.iter().any(is_other) {
                let key = ["user", "currency"].map(|label| sample.label(label).to_owned());
                *sums.entry(key).or_default() += sample.value.parse::<Decimal>().unwrap();
            }
        }
        sums
    };
    let site = Site::at(POLLS).await;
    site.change(|config| config.reports = reports(&[ReportKind::Dialout, ReportKind::CallLog]));
    let mut exporter = site.exporter(false);
    for now in POLLS {
        let metrics = poll_at(&site, &mut exporter, now).await;
        let report = charges(&metrics, "teams_pstn_dialout_charge");
        let currencies: BTreeSet<&str> = report.keys().map(|[_, currency]| &**currency).collect();
        assert!(
            currencies.len() > 1 && report.len() > currencies.len(),
            "{now}: {report:?}"
        );
        assert_eq!(
            report,
            charges(&metrics, "teams_pstn_call_log_charge"),
            "{now}"
        );
    }
    exporter.stop().await;
}

/// The newest rows of the simulator that have arrived, as the exporter's samples.
#[tokio::test(start_paused = true)]
async fn newest_row_says_how_far_the_data_reach() {
    let (_simulator, time, logs, config) = simulate().await;
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    let metrics = exporter.first_poll().await;
    let blocks = at(NOW) - TimeDelta::days(89)..at(NOW);
    for (report, expected) in [
        ("call_log", newest(&logs.calls, november())),
        ("direct_routing", newest(&logs.direct_routing, november())),
        ("sms", newest(&logs.sms, november())),
        ("blocked_users", newest(&logs.blocked_users, blocks)),
    ] {
        let sample =
            format!("teams_pstn_report_newest_row_timestamp_seconds{{report=\"{report}\"}}");
        let found: f64 = metrics.value(&sample).parse().unwrap();
        assert!(
            (found - expected).abs() < 0.001,
            "{report}: {found} {expected}"
        );
    }
    assert!(exporter.get("/").await.body.contains("<dt>Data up to</dt>"));
}

/// Unix time of the newest row of a log that has arrived.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 are exact"
)]
fn newest<R: LogRow>(log: &teams_pstn_simulator::log::Log<R>, rows: Range<DateTime<Utc>>) -> f64 {
    let rows = log.rows(rows, at(NOW));
    let newest = rows.iter().map(LogRow::time).max().unwrap();
    newest.timestamp_millis() as f64 / 1_000.0
}

#[tokio::test(start_paused = true)]
async fn aggregation_keeps_the_sums() {
    let (_simulator, time, logs, mut config) = simulate().await;
    let by_group = |samples: Samples| -> Samples {
        let mut sums = Samples::new();
        for (key, value) in samples {
            let (group, user) = key.split_once("(\"user\", ").unwrap_or((&key, ""));
            let rest = user.split_once(')').map_or("", |(_, rest)| rest);
            *sums.entry(format!("{group}{rest}")).or_default() += value;
        }
        sums
    };
    let expected = expected(&logs, &november(), at(NOW), Shape::Users);
    let of = |samples: &Samples, family: &str| {
        let own = samples.keys().filter(|key| key.starts_with(family));
        own.count()
    };
    let groups = of(&by_group(expected.clone()), "teams_pstn_call_log_calls ");
    let series = of(&expected, "teams_pstn_call_log_calls ");
    let max_series = groups + (series - groups) / 3;
    config.labels.max_series = NonZeroUsize::new(max_series).unwrap();
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    let metrics = exporter.first_poll().await;
    let found = found(&metrics, Shape::Users, None);
    let exposed = of(&found, "teams_pstn_call_log_calls ");
    assert!(
        groups < exposed && exposed <= max_series && max_series < series,
        "{groups} {exposed} {max_series} {series}"
    );
    let aggregated: usize = metrics
        .value("teams_pstn_report_aggregated_series{report=\"call_log\"}")
        .parse()
        .unwrap();
    let other = |sample: &&Sample| sample.label("user") == "__other__";
    let calls = metrics.samples("teams_pstn_call_log_calls");
    let others = calls.iter().filter(other).count();
    assert_eq!(exposed + aggregated - others, series);
    assert_same("by group", &by_group(found), &by_group(expected));
}

/// Page, metrics and log of a poll.
async fn everything(config: Config, time: &Time) -> (Metrics, String) {
    let log = Log::capture();
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), time);
    let metrics = exporter.first_poll().await;
    let page = exporter.get("/").await.body;
    let text = format!("{}{page}{}", metrics.0, log.take());
    assert!(text.contains("poll complete"), "{text}");
    (metrics, text)
}

#[tokio::test(start_paused = true)]
async fn no_user_is_named_unless_the_labels_have_names() {
    let (_simulator, time, logs, mut config) = simulate().await;
    let everyone: BTreeSet<_> = logs
        .calls
        .rows(november(), at(NOW))
        .into_iter()
        .filter_map(|call| call.user)
        .map(|user| (user.id, user.principal_name, user.display_name))
        .collect();
    assert!(everyone.len() > 10);
    let named = |text: &str| -> Vec<String> {
        let text = text.to_lowercase();
        let names = everyone
            .iter()
            .flat_map(|(id, principal, display)| [id, principal, display]);
        names
            .filter(|name| text.contains(&name.to_lowercase()))
            .map(|name| (**name).to_owned())
            .collect()
    };
    config.labels.user = UserLabel::None;
    let (metrics, text) = everything(config.clone(), &time).await;
    assert_eq!(named(&text), [""; 0]);
    let sums = expected(&logs, &november(), at(NOW), Shape::NoUsers);
    assert_same("no users", &found(&metrics, Shape::NoUsers, None), &sums);

    let pseudonyms = Pseudonyms::new(b"0123456789abcdef");
    config.labels.user = UserLabel::Pseudonym(pseudonyms.clone());
    let (metrics, text) = everything(config.clone(), &time).await;
    assert_eq!(named(&text), [""; 0]);
    let mut users: BTreeSet<String> = everyone
        .iter()
        .map(|(_, principal, _)| pseudonyms.of(principal))
        .collect();
    // Bots have no name to hide.
    users.insert("unknown".to_owned());
    let samples = metrics.samples("teams_pstn_call_log_calls");
    let labels: BTreeSet<String> = samples
        .iter()
        .map(|sample| sample.label("user").to_owned())
        .collect();
    assert_eq!(labels, users);

    // The search finds the names if the labels have them.
    for user in [UserLabel::Upn, UserLabel::DisplayName] {
        config.labels.user = user.clone();
        let (_, text) = everything(config.clone(), &time).await;
        assert!(named(&text).len() >= everyone.len(), "{user:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn budgets_count_the_selected_charges() {
    let (_simulator, time, logs, mut config) = simulate().await;
    let calls = logs.calls.rows(november(), at(NOW));
    let most_expensive = calls.iter().filter(|call| call.user.is_some());
    let most_expensive = most_expensive
        .max_by_key(|call| call.charge)
        .unwrap()
        .clone();
    let Call {
        user: Some(user),
        currency: Some(currency),
        usage_country: Some(location),
        ..
    } = most_expensive
    else {
        panic!("a call that says all of it");
    };
    let budget = |name: &str, report| Budget {
        report,
        currency: currency.to_string(),
        ..Budget::new(name, 500)
    };
    config.reports.push(ReportKind::Dialout.into());
    config.budgets = vec![
        budget("calls", ReportKind::CallLog),
        Budget {
            user: Some(user.principal_name.to_uppercase()),
            ..budget("user", ReportKind::CallLog)
        },
        Budget {
            user: Some(user.id.to_string()),
            department: None,
            destination_context: Some("International".to_owned()),
            usage_location: Some(location.to_string()),
            ..budget("id abroad", ReportKind::CallLog)
        },
        Budget {
            destination_context: Some("unknown".to_owned()),
            ..budget("inbound", ReportKind::CallLog)
        },
        budget("sms", ReportKind::Sms),
        budget("dialout", ReportKind::Dialout),
    ];
    let paid = |such: &dyn Fn(&Call) -> bool| -> Decimal {
        calls
            .iter()
            .filter(|call| call.currency.as_ref() == Some(&currency) && such(call))
            .filter_map(|call| call.charge)
            .map(|charge| Decimal::new(charge.0, 4))
            .sum()
    };
    let is_user = |call: &Call| call.user.as_ref() == Some(&user);
    let is_abroad = |call: &Call| call.destination_context.as_deref() == Some("International");
    let is_there = |call: &Call| call.usage_country.as_ref() == Some(&location);
    let expected = [
        ("calls", paid(&|_| true)),
        ("user", paid(&is_user)),
        (
            "id abroad",
            paid(&|call| is_user(call) && is_abroad(call) && is_there(call)),
        ),
        ("inbound", paid(&|call| call.destination_context.is_none())),
        ("sms", sms_charge(&logs, &currency)),
    ];
    assert!(expected[2].1 > Decimal::ZERO && expected[2].1 < expected[0].1);
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    let metrics = exporter.first_poll().await;
    let spent = metrics.samples("teams_pstn_budget_spent");
    assert_eq!(spent.len(), 6, "each once, in its own report: {spent:?}");
    for (budget, sum) in expected {
        let sample =
            format!("teams_pstn_budget_spent{{budget=\"{budget}\",currency=\"{currency}\"}}");
        assert_eq!(metrics.value(&sample).parse(), Ok(sum), "{budget}");
    }
}

/// The charge of the messages of November.
fn sms_charge(logs: &Logs, currency: &str) -> Decimal {
    let sums = logs.sms.expected(november(), at(NOW));
    let charge = sums.by(&["currency"])[&vec![currency.to_owned()]].charge;
    Decimal::from_i128_with_scale(charge, 4)
}

#[tokio::test(start_paused = true)]
async fn the_page_shows_each_report() {
    let (_simulator, time, logs, config) = simulate().await;
    let mut exporter = Exporter::start(Box::new(move || Ok(config.clone())), &time);
    exporter.first_poll().await;
    let page = exporter.get("/").await.body;
    for report in LOGS {
        assert!(page.contains(report.as_str()), "{report} in {page}");
    }
    let calls = logs.calls.expected(november(), at(NOW));
    for (labels, sum) in calls.by(&["currency"]) {
        let total = Decimal::from_i128_with_scale(sum.charge, 4).normalize();
        let currency = &labels[0];
        let rounded = total.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero);
        let amount = if total.scale() == 2 {
            total.to_string()
        } else {
            format!("<span title=\"{total} {currency}\">{rounded:.2}</span>")
        };
        let shown = format!("<p class=\"total\">{amount} <small><bdi>{currency}</bdi></small></p>");
        assert!(page.contains(&shown), "{shown} in {page}");
        let count = format!("<p class=\"soft\">{} calls, ", with_commas(sum.rows));
        assert!(page.contains(&count), "{count} in {page}");
    }
    let routed = logs.direct_routing.expected(november(), at(NOW)).total();
    let window = at(NOW) - TimeDelta::days(89)..at(NOW);
    let blocked = logs.blocked_users.blocked(window, at(NOW));
    let events = logs
        .blocked_users
        .expected(november(), at(NOW))
        .total()
        .rows;
    let messages = logs.sms.expected(november(), at(NOW)).by(&["currency"]);
    for facts in [
        format!(
            "<p class=\"facts soft\">{} calls, ",
            with_commas(routed.rows)
        ),
        format!("<p class=\"facts soft\">{blocked} blocked users, {events} block events</p>"),
    ]
    .into_iter()
    .chain(messages.values().map(|sum| {
        format!(
            "<p class=\"soft\">{} messages, {} units</p>",
            with_commas(sum.rows),
            with_commas(sum.units)
        )
    })) {
        assert!(page.contains(&facts), "{facts} in {page}");
    }
}

/// A count below a million, as the page shows it.
fn with_commas(count: u64) -> String {
    match (count / 1_000, count % 1_000) {
        (0, rest) => rest.to_string(),
        (thousands, rest) => format!("{thousands},{rest:03}"),
    }
}
