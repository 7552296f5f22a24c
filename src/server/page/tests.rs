use std::sync::Arc;

use chrono::TimeDelta;

use super::format::span;
use super::*;
use crate::period::{BillingPeriod, CycleDay};
use crate::report::allocation::{AllocatedSummary, DepartmentSpend};
use crate::report::budget::BudgetSpend;
use crate::report::pool::PoolUse;
use crate::report::threshold::Threshold;
use crate::report::{Count, Organizer, ReportKind, Spend};
use crate::snapshot::{Failure, Polling, Summary};

#[test]
fn everything_is_escaped() {
    let evil = "</bdi><script>alert('x')</script>\"&\u{0}";
    let mut state = fine(Some(evil));
    state.failure = Some(Failure {
        reason: "forbidden",
        message: evil.to_owned(),
        remedy: "fix it",
    });
    let summary = Arc::make_mut(state.summary.as_mut().unwrap());
    summary.top[0].user = evil.to_owned();
    summary.top[0].charge = evil.to_owned();
    summary.spend[0].currency = evil.to_owned();
    summary.spend[0].total = evil.to_owned();
    summary.spend[0].contexts[0] = (evil.to_owned(), evil.to_owned(), Some(200));
    summary.allocated = AllocatedSummary {
        budgets: vec![BudgetSpend {
            name: evil.to_owned(),
            currency: evil.to_owned(),
            amount: "1000".to_owned(),
            spent: evil.to_owned(),
            percent: 3,
            thresholds: Threshold::defaults(),
        }],
        pools: vec![pool(evil, 3)],
        departments: vec![department(evil, evil, evil)],
    };
    let html = rendered(&[state, fine(None)], |view| {
        view.unready = Some(evil);
        view.refused_reload = Some(evil);
        view.web_config_error = Some(evil);
    });
    assert!(!html.contains("<script") && !html.contains('\0'), "{html}");
    assert_eq!(
        html.matches("<bdi>").count(),
        html.matches("</bdi>").count()
    );
}

#[test]
fn states_are_described_in_words() {
    let mut failing = fine(Some("contoso"));
    failing.failure = Some(Failure {
        reason: "forbidden",
        message: "403 of Graph".to_owned(),
        remedy: "grant CallRecord-PstnCalls.Read.All",
    });
    let mut never = failing.clone();
    (never.last_success, never.summary) = (None, None);
    let mut untried = never.clone();
    (untried.failure, untried.last_attempt) = (None, None);
    for (state, parts) in [
        (
            fine(None),
            &[
                "The report is up to date.",
                "12 minutes ago",
                "in 48 minutes",
                "2026-11-21 12:48:00 UTC",
                "<dt>Data up to</dt><dd>15 hours ago",
                "68 % of the period elapsed, 9 days left",
            ][..],
        ),
        (
            failing,
            &[
                "The report is failing.",
                "The figures are 12 minutes old.",
                "403 of Graph",
                "What to do:",
                "CallRecord-PstnCalls.Read.All",
            ],
        ),
        (never, &["never succeeded", "No poll has succeeded yet."]),
        (
            untried,
            &["not yet tried", "for the first time", "<dd>never</dd>"],
        ),
    ] {
        let html = page(&[state]);
        for part in parts {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}

#[test]
fn report_is_shown_as_polling_until_its_poll_ends() {
    let states = [fine(Some("a")), fine(Some("b"))];
    let under_way = states[0].polling.begin();
    let html = page(&states);
    assert_eq!(html.matches("polling…").count(), 2, "{html}");
    assert_eq!(html.matches("in 48 minutes").count(), 2, "{html}");
    drop(under_way);
    assert!(!page(&states).contains("polling…"));
    let mut untried = fine(None);
    untried.next_poll = None;
    let _under_way = untried.polling.begin();
    assert!(page(&[untried]).contains("<dt>Next poll</dt><dd>polling…</dd>"));
}

#[test]
fn with_a_thousand_tenants_the_page_is_bounded_and_failing_reports_are_on_top() {
    let mut states: Vec<State> = (0..3000)
        .map(|index| fine(Some(&format!("tenant-{index}"))))
        .collect();
    states[2999].failure = Some(Failure {
        reason: "auth",
        message: "no".to_owned(),
        remedy: "fix it",
    });
    let html = page(&states);
    assert!(html.contains("1 of 3,000 reports is failing."));
    assert!(html.find("tenant-2999").unwrap() < html.find("tenant-0<").unwrap());
    assert_eq!(
        html.matches("<section class=\"sheet\" id=").count(),
        FULL_MAX
    );
    assert!(html.len() < 1_000_000, "{}", html.len());
}

#[test]
fn headlines_by_table() {
    for (percents, class, sentences) in [
        (&[][..], "ok", "All 2 reports are up to date."),
        (&[0, 49, 79], "ok", "All 2 reports are up to date."),
        (
            &[10, 80],
            "untried",
            "1 of 2 budgets is at least 80 % spent. All 2 reports are up to date.",
        ),
        (
            &[99],
            "untried",
            "The budget is at least 80 % spent. All 2 reports are up to date.",
        ),
        (
            &[100],
            "failing",
            "The budget is fully spent. All 2 reports are up to date.",
        ),
        (
            &[80, 124, 100],
            "failing",
            "2 of 3 budgets are fully spent. All 2 reports are up to date.",
        ),
    ] {
        let states = [spent(percents), fine(Some("b"))];
        let expected = |class, sentences: &str| {
            format!("<p class=\"lead {class}\"><span>{sentences}</span></p>")
        };
        let html = page(&states);
        assert!(html.contains(&expected(class, sentences)), "{html}");
        let html = rendered(&states, |view| view.refused_reload = Some("no tenants"));
        let (before, reports) = sentences.split_at(sentences.find("All").unwrap());
        let refused = format!("{before}The new configuration was refused. {reports}");
        assert!(html.contains(&expected("failing", &refused)), "{html}");
    }
}

#[test]
fn budgets_are_at_the_top_and_the_most_used_first() {
    let html = page(&[fine(Some("a")), spent(&[7, 124, 50, 80])]);
    let at = |text: &str| {
        html.find(text)
            .unwrap_or_else(|| panic!("{text} in {html}"))
    };
    let in_order = [
        at("<h2>Budgets</h2>"),
        at("<bdi>budget 1</bdi>"),
        at("120 % reached"),
        at(
            "<span title=\"24800 USD\">24,800.00</span> of <span title=\"20000 USD\">20,000.00</span>",
        ),
        at("<b>124&nbsp;%</b>"),
        at("<bdi>budget 3</bdi>"),
        at("80 % reached"),
        at("<bdi>budget 2</bdi>"),
        at("50 % reached"),
        at("<bdi>budget 0</bdi>"),
        at("below 50 %"),
        at("<th>Report</th>"),
        at("<section class=\"sheet\" id="),
    ];
    assert!(in_order.is_sorted(), "{in_order:?} in {html}");
}

#[test]
fn pools_follow_the_budgets_and_the_most_used_is_first() {
    let mut state = spent(&[124]);
    let pools = [("us", 79), ("uk", 81), ("de", 100)].map(|(name, percent)| pool(name, percent));
    shown(&mut state).pools = pools.to_vec();
    let html = page(&[state, fine(Some("b"))]);
    let at = |text: &str| {
        html.find(text)
            .unwrap_or_else(|| panic!("{text} in {html}"))
    };
    let in_order = [
        at("The budget is at least 120 % spent. 1 of 3 pools is fully used. All 2"),
        at("<h2>Budgets</h2>"),
        at("<h2>Included minutes</h2>"),
        at("<bdi>de</bdi>"),
        at("100 % reached"),
        at("<bdi>uk</bdi>"),
        at("80 % reached"),
        at("<span title=\"583241 seconds\">9,720</span> of 12,000 minutes used, <b>81&nbsp;%</b>"),
        at("<bdi>us</bdi>"),
        at("below 80 %"),
        at("<th>Report</th>"),
    ];
    assert!(in_order.is_sorted(), "{in_order:?} in {html}");
}

#[test]
fn limits_of_a_period_that_has_ended_are_not_in_the_headline() {
    let mut state = spent(&[124]);
    shown(&mut state).pools = vec![pool("us", 100)];
    let html = rendered(&[state], |view| view.now = time("2026-12-01T00:00:00Z"));
    assert!(
        html.contains("<p class=\"lead ok\"><span>The report is up to date.</span></p>"),
        "{html}"
    );
    assert_eq!(
        html.matches("of a period that has ended</span>").count(),
        2,
        "{html}"
    );
    assert!(!html.contains("% reached"), "{html}");
}

#[test]
fn departments_are_listed_by_currency() {
    let mut state = fine(None);
    shown(&mut state).departments = vec![
        department("EUR", "Sales", "312.4"),
        department("EUR", "unmapped", "1.5"),
        department("USD", "Support", "4127.835"),
    ];
    let html = page(&[state]);
    let lists: Vec<&str> = html.split("<h3>Top departments, <bdi>").skip(1).collect();
    let [euros, dollars] = lists[..] else {
        panic!("{html}")
    };
    let line =
        "<bdi>Sales</bdi></td><td class=\"figure\"><span title=\"312.4 EUR\">312.40</span></td>";
    assert!(euros.starts_with("EUR") && euros.contains(line), "{euros}");
    assert!(euros.contains("unmapped") && !euros.contains("Support"));
    assert!(dollars.starts_with("USD") && dollars.contains("4,127.84"));
    for list in lists {
        assert!(list.contains("Department</th>") && list.contains("Duration</th>"));
    }
}

#[test]
fn tables_can_be_scrolled_with_the_keyboard_and_have_names() {
    let mut state = fine(Some("a"));
    shown(&mut state).departments = vec![department("EUR", "Sales", "1")];
    let html = page(&[state, fine(Some("b"))]);
    for name in ["Reports", "Top users, EUR", "Top departments, EUR"] {
        let start = format!("role=\"group\" aria-label=\"{name}\" tabindex=\"0\"><table>");
        assert!(html.contains(&start), "{start} in {html}");
    }
    let tables = html.matches("<table>").count();
    assert_eq!(html.matches("tabindex=\"0\"><table>").count(), tables);
}

#[test]
fn budgets_and_pools_are_bounded() {
    let mut many = spent(&vec![50; 10_000]);
    shown(&mut many).pools = vec![pool("us", 50); 10_000];
    let html = page(&[many]);
    let more =
        "9,900 others are not shown: they are used no more than these, or their period has ended.";
    assert_eq!(html.matches(more).count(), 2, "{html}");
    assert!(html.len() < 200_000, "{}", html.len());
}

#[test]
fn lists_of_a_report_are_bounded() {
    let mut state = fine(None);
    let currencies = (0..1_000).map(|number| format!("X{number:03}"));
    let departments = currencies.map(|currency| department(&currency, "Sales", "1"));
    shown(&mut state).departments = departments.collect();
    let html = page(&[state]);
    assert_eq!(html.matches("<h3>Top departments").count(), 5);
}

#[test]
fn the_error_of_a_rejected_reload_is_shown_and_bounded() {
    let html = rendered(&[fine(None)], |view| {
        view.refused_reload = Some("line 3: tenants: expected a list");
    });
    assert!(html.contains("line 3: tenants: expected a list") && html.contains("What to do:"));
    let long = "x".repeat(1_000_000);
    let html = rendered(&[fine(None)], |view| view.refused_reload = Some(&long));
    assert!(html.len() < 50_000 && html.contains("the log has all of it"));
}

#[test]
fn each_currency_has_its_own_list_of_top_users() {
    let html = page(&[fine(None)]);
    let lists: Vec<&str> = html.split("<h3>Top users, <bdi>").skip(1).collect();
    let [euros, dollars] = lists[..] else {
        panic!("{html}")
    };
    assert!(euros.starts_with("EUR") && dollars.starts_with("USD"));
    assert!(euros.contains("4,212.10") && !euros.contains("adele.vance"));
    assert!(dollars.contains("adele.vance") && !dollars.contains("4,212.10"));
    assert_eq!(html.matches("<h3>").count(), 2);
    assert!(dollars.contains("<bdi>Calls</bdi></th>") && dollars.contains("Duration</th>"));
}

#[test]
fn spans_by_table() {
    for (seconds, words) in [
        (0, "0 seconds"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "1 minute"),
        (3_599, "59 minutes"),
        (3_600, "1 hour"),
        (90_000, "25 hours"),
        (172_800, "2 days"),
        (-5, "0 seconds"),
    ] {
        assert_eq!(span(TimeDelta::seconds(seconds)), words);
    }
}

/// Writes example pages to the directory in `PAGE_SAMPLES`, if the variable is set. This is not a test.
#[test]
fn samples() {
    let Some(directory) = std::env::var_os("PAGE_SAMPLES").map(std::path::PathBuf::from) else {
        return;
    };
    let mut failing = fine(Some("fabrikam"));
    failing.last_success = Some(time("2026-11-20T23:48:00Z"));
    failing.failure = Some(Failure {
        reason: "forbidden",
        message: "cannot fetch page 1 of getPstnOnlineMeetingDialoutReport: Graph answered 403, request-id 4f0c1b2a".to_owned(),
        remedy: "grant the application permission CallRecord-PstnCalls.Read.All in Entra and give admin consent; CallRecords.Read.All is the broader one",
    });
    let mut untried = fine(Some("wingtip"));
    (untried.last_success, untried.last_attempt, untried.summary) = (None, None, None);
    let several = [fine(Some("contoso")), failing, untried];
    let mut one = fine(None);
    shown(&mut one).departments = vec![department("EUR", "Sales", "812.40")];
    std::fs::write(directory.join("one.html"), page(&[one])).unwrap();
    let html = rendered(&several, |view| {
        view.unready = Some("wingtip has not been tried yet");
    });
    std::fs::write(directory.join("several.html"), html).unwrap();
    let mut limits = spent(&[7, 50, 80, 124]);
    shown(&mut limits).pools = vec![pool("us-calling", 81), pool("uk-calling", 20)];
    let html = rendered(&[limits, fine(None)], |view| {
        view.refused_reload =
            Some("configuration.yml: line 3: tenants: expected a list; write one");
    });
    std::fs::write(directory.join("budgets.html"), html).unwrap();
}

fn page(states: &[State]) -> String {
    rendered(states, |_| ())
}

fn rendered<'a>(states: &'a [State], change: impl FnOnce(&mut PageContext<'a>)) -> String {
    let mut view = PageContext {
        states,
        now: time("2026-11-21T13:00:00Z"),
        unready: None,
        refused_reload: None,
        web_config_error: None,
        telemetry_path: "/metrics",
    };
    change(&mut view);
    render(&view)
}

/// Returns a report with budgets of 20,000 dollars, of which these percentages are spent.
fn spent(percents: &[u32]) -> State {
    let mut state = fine(Some("a"));
    let budget = |(index, percent): (usize, &u32)| BudgetSpend {
        name: format!("budget {index}"),
        currency: "USD".to_owned(),
        amount: "20000".to_owned(),
        spent: (percent * 200).to_string(),
        percent: *percent,
        thresholds: Threshold::defaults(),
    };
    let budgets = percents.iter().enumerate().map(budget).collect();
    shown(&mut state).budgets = budgets;
    state
}

/// Returns the budgets, pools and departments of a state, to change them.
fn shown(state: &mut State) -> &mut AllocatedSummary {
    &mut Arc::make_mut(state.summary.as_mut().unwrap()).allocated
}

/// Returns a pool of 12,000 minutes, of which this percentage and 41 seconds are used.
fn pool(name: &str, percent: u32) -> PoolUse {
    PoolUse {
        name: name.to_owned(),
        seconds: 720_000,
        used: i64::from(percent) * 7_200 + 41,
        percent,
        thresholds: [80, 100].map(Threshold::from).to_vec(),
    }
}

fn department(currency: &str, name: &str, charge: &str) -> DepartmentSpend {
    DepartmentSpend {
        department: name.to_owned(),
        currency: currency.to_owned(),
        charge: charge.to_owned(),
        counts: counts(7, 60),
    }
}

fn fine(tenant: Option<&str>) -> State {
    let spend =
        |currency: &str, total: &str, contexts: &[(&str, &str, u8)], calls, seconds| Spend {
            currency: currency.to_owned(),
            total: total.to_owned(),
            contexts: contexts
                .iter()
                .map(|(context, amount, share)| {
                    ((*context).to_owned(), (*amount).to_owned(), Some(*share))
                })
                .collect(),
            counts: counts(calls, seconds),
        };
    let organizer = |currency: &str, user: &str, charge: &str, calls, seconds| Organizer {
        user: user.to_owned(),
        currency: currency.to_owned(),
        charge: charge.to_owned(),
        counts: counts(calls, seconds),
    };
    State {
        tenant: tenant.map(Arc::from),
        report: ReportKind::Dialout,
        last_attempt: Some(time("2026-11-21T12:48:00Z")),
        last_success: Some(time("2026-11-21T12:48:00Z")),
        next_poll: Some(time("2026-11-21T13:48:00Z")),
        failure: None,
        expired: false,
        polling: Polling::default(),
        summary: Some(Arc::new(Summary {
            period: BillingPeriod::containing(time("2026-11-21T13:00:00Z"), CycleDay::default()),
            rows: 2_500,
            newest: Some(time("2026-11-20T22:00:00Z")),
            spend: vec![
                spend(
                    "EUR",
                    "812.40",
                    &[("Domestic", "500.40", 62), ("International", "312.00", 38)],
                    1_204,
                    301_000,
                ),
                spend(
                    "USD",
                    "4127.83",
                    &[("International", "3301.10", 80), ("Domestic", "826.73", 20)],
                    5_310,
                    1_702_345,
                ),
            ],
            counts: Vec::new(),
            allocated: AllocatedSummary::default(),
            top: vec![
                organizer("EUR", "joni.sherman@contoso.example", "4212.10", 31, 9_120),
                organizer("USD", "adele.vance@contoso.example", "412.10", 310, 91_200),
                organizer("USD", "إدارة@contoso.example", "377.02", 201, 70_020),
                organizer("USD", "megan.bowen@contoso.example", "120.55", 88, 20_500),
            ],
        })),
    }
}

fn counts(calls: i64, seconds: i64) -> Vec<Count> {
    let count = |what: &'static str, value| Count {
        what: what.into(),
        value,
    };
    vec![count("calls", calls), count("seconds", seconds)]
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
