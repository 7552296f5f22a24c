//! Tests of departments and pools. A simple loop over the calls computes the expected sums.

use std::collections::BTreeMap;

use super::*;

/// The expected samples of these calls: departments, the budget of a department, and pools.
pub(super) fn expected<'c>(calls: impl Iterator<Item = &'c Call>) -> Vec<String> {
    let mut charges: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    let mut spent = 0;
    for call in calls {
        let department = match call.user {
            "ann@x" => "Sales",
            "bob@x" => "Support",
            _ => "unmapped",
        };
        *charges.entry((department, call.currency)).or_default() += call.charge;
        *counts.entry(department).or_default() += 1;
        if (department, call.currency) == ("Support", "USD") {
            spent += call.charge;
        }
    }
    let amount = |charge| {
        let amount = Amount::from(rust_decimal::Decimal::new(charge, 4));
        Sum::from(amount).to_string()
    };
    let charges = charges.into_iter().map(|((department, currency), charge)| {
        format!(
            r#"teams_pstn_department_charge{{currency="{currency}",department="{department}",report="call_log"}} {}"#,
            amount(charge)
        )
    });
    let count = |name: &str, each: i64| {
        let samples = counts.iter().map(|(department, calls)| {
            format!(
                r#"teams_pstn_department_{name}{{department="{department}",report="call_log"}} {}"#,
                calls * each
            )
        });
        samples.collect::<Vec<_>>()
    };
    let budget = format!(
        r#"teams_pstn_budget_spent{{budget="Support",currency="USD"}} {}"#,
        amount(spent)
    );
    charges
        .chain(count("calls", 1))
        .chain(count("call_seconds", 60))
        .chain([budget])
        .chain(
            [
                ("user_out", counts.values().sum::<i64>() * 60),
                ("user_in", 0),
            ]
            .map(|(pool, used)| format!(r#"teams_pstn_pool_used_seconds{{pool="{pool}"}} {used}"#)),
        )
        .collect()
}

/// The same samples of a report of November.
pub(super) fn found(rendered: &Rendered) -> Vec<String> {
    let text = text(rendered)
        + "\n"
        + &pools(november(), november().start(), &rendered.used_seconds, None);
    let is_one = |line: &&str| {
        line.starts_with("teams_pstn_department_")
            || line.starts_with("teams_pstn_pool_used_seconds")
            || line.starts_with("teams_pstn_budget_spent{budget=\"Support\"")
    };
    let mut lines: Vec<String> = text.lines().filter(is_one).map(str::to_owned).collect();
    // Budget and pools come last, as expected.
    lines.sort_by_key(|line| match line {
        line if line.starts_with("teams_pstn_budget") => 1,
        line if line.starts_with("teams_pstn_pool") => 2,
        _ => 0,
    });
    lines
}

/// The samples of pools.
fn pools(
    period: BillingPeriod,
    now: DateTime<Utc>,
    current: &UsedSeconds,
    previous: Option<&UsedSeconds>,
) -> String {
    let pools = &ALLOCATION.pools;
    let used = current.in_month(pools, period, now, previous);
    let mut text = Vec::new();
    for samples in pool::samples(pools, &used, None) {
        samples.write(Format::Text, &mut text);
    }
    String::from_utf8(text).expect("text")
}

proptest! {
    /// True for any cycle day, calls, arrival times and polls. The two ledgers are saved and restored between polls.
    #[test]
    fn pools_are_of_the_calendar_month_in_any_billing_period(
        calls in calls(),
        day in 1_u64..=28,
        polls in vec(0_i64..35 * 86_400, 1..8),
        series_max in prop_oneof![Just(usize::MAX), 1_usize..6],
    ) {
        let mut polls = polls;
        polls.sort_unstable();
        let day = CycleDay::try_from(day).expect("a day");
        let mut ledgers = Ledgers::default();
        for seconds in polls {
            let now = november().start() + TimeDelta::seconds(seconds);
            let period = BillingPeriod::containing(now, day);
            let mut used = |period| rendered(poll(&mut ledgers, period, now, &calls), series_max).used_seconds;
            let (previous, current) = (used(period.previous()), used(period));
            let month = BillingPeriod::containing(now, CycleDay::default());
            let known = calls.iter().filter(|call| call.known <= now);
            let paid = known.filter(|call| month.start() <= call.start && call.start < month.end());
            let expected = format!(r#"teams_pstn_pool_used_seconds{{pool="user_out"}} {}"#, 60 * paid.count());
            let text = pools(period, now, &current, Some(&previous));
            prop_assert!(text.lines().any(|line| line == expected), "{} {}", text, expected);
            let saved = serde_json::to_string(&ledgers).expect("JSON");
            ledgers = serde_json::from_str(&saved).expect("ledgers");
        }
    }

    /// Departments add up to the report, for any content of the label `user` and any limit on series.
    #[test]
    fn departments_add_up_to_the_report(
        calls in calls(),
        user_label in select(vec![UserLabel::Upn, UserLabel::Pseudonym(Pseudonyms::new(b"0123456789abcdef")), UserLabel::None]),
        series_max in prop_oneof![Just(usize::MAX), 1_usize..6],
    ) {
        let memory = memory();
        let seen = SeenRows::new(&memory);
        let aggregation = AggregationContext {
            user_label: &user_label,
            allocation: &ALLOCATION,
            period: november(),
            seen: &seen,
            memory: &memory,
        };
        let mut totals = Totals::new(&ALLOCATION);
        for window in november().windows(november().end(), DAY) {
            let mut aggregator = LogAggregator::new(AnyLog::of::<CallLog>(), window, aggregation);
            for call in calls.iter().filter(|call| window.start() <= call.start && call.start < window.end()) {
                let row = call.json();
                let row = serde_json::from_str(&row).expect("a row");
                let record = CallLog::record(&row, &mut Notes::default()).expect("a record");
                aggregator.add(&record).expect("a row that counts");
            }
            totals.merge(&aggregator.totals);
        }
        let rendered = totals.render(&CallLog::INFO, &RenderContext {
            tenant: None,
            period: november(),
            user_label: &user_label,
            series_max,
            allocation: &ALLOCATION,
            retained: &RetainedSeries::default(),
        });
        let counted = calls.iter().filter(|call| call.start < november().end());
        prop_assert_eq!(found(&rendered), expected(counted));
        for spend in &rendered.spend {
            let label = format!("currency=\"{}\"", spend.currency);
            let mut sum = Sum::default();
            for line in found(&rendered).iter().filter(|line| line.contains("_charge{") && line.contains(&label)) {
                let (_, charge) = line.rsplit_once(' ').expect("a value");
                sum.merge(Amount::from_json(charge).expect("an amount").into());
            }
            prop_assert_eq!(sum.to_string(), spend.total.clone());
        }
    }
}
