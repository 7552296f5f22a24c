use std::sync::Arc;

use super::*;
use crate::period::{BillingPeriod, CycleDay};
use crate::report::{Count, ReportKind};

#[test]
fn everything_is_escaped() {
    let evil = "</bdi><script>alert('x')</script>\"&\u{0}";
    let mut state = fine(Some(evil));
    state.failure = Some(Failure {
        reason: "forbidden",
        message: evil.to_owned(),
        remedy: "mend it",
    });
    let summary = Arc::make_mut(state.summary.as_mut().unwrap());
    summary.top[0].user = evil.to_owned();
    summary.top[0].charge = evil.to_owned();
    summary.spend[0].currency = evil.to_owned();
    summary.spend[0].total = evil.to_owned();
    summary.spend[0].contexts[0] = (evil.to_owned(), evil.to_owned(), Some(200));
    let html = page(&[state, fine(None)], Some(evil), Some(evil));
    assert!(!html.contains("<script") && !html.contains('\0'), "{html}");
    assert_eq!(
        html.matches("<bdi>").count(),
        html.matches("</bdi>").count()
    );
}

#[test]
fn states_in_words() {
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
                "68 % over, 9 days left",
            ][..],
        ),
        (
            failing,
            &[
                "The report is failing.",
                "the numbers are 12 minutes old",
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
        let html = page(&[state], None, None);
        for part in parts {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}

#[test]
fn a_thousand_tenants_are_bounded_and_the_failing_ones_on_top() {
    let mut states: Vec<State> = (0..3000)
        .map(|index| fine(Some(&format!("tenant-{index}"))))
        .collect();
    states[2999].failure = Some(Failure {
        reason: "auth",
        message: "no".to_owned(),
        remedy: "mend it",
    });
    let html = page(&states, None, None);
    assert!(html.contains("1 of 3000 reports are failing."));
    assert!(html.find("tenant-2999").unwrap() < html.find("tenant-0<").unwrap());
    assert_eq!(
        html.matches("<section class=\"sheet\" id=").count(),
        FULL_MAX
    );
    assert!(html.len() < 1_000_000, "{}", html.len());
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
        assert_eq!(Span(TimeDelta::seconds(seconds)).to_string(), words);
    }
}

/// Not a test of its own: writes pages to look at, where a directory is named.
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
    std::fs::write(directory.join("one.html"), page(&[fine(None)], None, None)).unwrap();
    std::fs::write(
        directory.join("several.html"),
        page(&several, Some("wingtip has not been tried yet"), None),
    )
    .unwrap();
}

fn page(states: &[State], unready: Option<&str>, complaint: Option<&str>) -> String {
    render(&View {
        states,
        now: time("2026-11-21T13:00:00Z"),
        about: &About {
            version: "1.2.3",
            revision: "abcdef0",
        },
        unready,
        complaint,
        telemetry_path: "/metrics",
    })
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
    let organizer = |user: &str, charge: &str, calls, seconds| Organizer {
        user: user.to_owned(),
        currency: "USD".to_owned(),
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
        summary: Some(Arc::new(Summary {
            period: BillingPeriod::containing(time("2026-11-21T13:00:00Z"), CycleDay::default()),
            rows: 2_500,
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
            top: vec![
                organizer("adele.vance@contoso.example", "412.10", 310, 91_200),
                organizer("إدارة@contoso.example", "377.02", 201, 70_020),
                organizer("megan.bowen@contoso.example", "120.55", 88, 20_500),
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
