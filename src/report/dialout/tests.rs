//! Tests that rows become the expected samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::exposition::{Format, Samples};
use crate::memory::{MemoryError, MemoryPool};
use crate::money::Sum;
use crate::period::{BillingPeriod, CycleDay};
use crate::report::allocation::Allocation;
use crate::report::budget::Budget;
use crate::report::department::Departments;
use crate::report::labels::RetainedSeries;
use crate::report::labels::{Pseudonyms, UserLabel};

/// Checks that these rows have the expected samples in the charge family.
fn check(rows: &[&str], expected: &[&str]) {
    assert_eq!(
        lines(
            &render(totals(rows).unwrap(), &render_context(&UserLabel::Upn)),
            "teams_pstn_dialout_charge"
        ),
        expected
    );
}

#[test]
fn rows_become_samples() {
    check(&[], &[]);
    check(
        &[ROW],
        &[
            r#"{currency="USD",destination_context="International",usage_location="US",user="ruwini.perera@contoso.com"} 12.83"#,
        ],
    );
    let all = render(totals(&[ROW]).unwrap(), &render_context(&UserLabel::Upn));
    assert!(lines(&all, "teams_pstn_dialout_calls")[0].ends_with(" 12"));
    assert!(lines(&all, "teams_pstn_dialout_call_seconds")[0].ends_with(" 723"));
}

#[test]
fn rows_with_missing_text_are_counted() {
    let unknown =
        r#"currency="unknown",destination_context="unknown",usage_location="unknown",user="#;
    for row in [
        r#"{"totalCalls":1,"totalCallSeconds":2,"totalCallCharge":3}"#,
        r#"{"userId":null,"userPrincipalName":null,"userDisplayName":null,"usageLocation":null,"destinationContext":null,"currency":null,"totalCalls":1,"totalCallSeconds":2,"totalCallCharge":3}"#,
        r#"{"userId":"","userPrincipalName":"","usageLocation":"","destinationContext":"","currency":"","totalCalls":1,"totalCallSeconds":2,"totalCallCharge":3,"new":{"a":[1]}}"#,
    ] {
        check(&[row], &[&format!(r#"{{{unknown}"unknown"}} 3"#)]);
    }
    check(
        &[r#"{"userId":"03de","totalCalls":1,"totalCallSeconds":2,"totalCallCharge":3}"#],
        &[&format!(r#"{{{unknown}"03de"}} 3"#)],
    );
}

#[test]
fn a_row_that_cannot_be_counted_fails_the_report() {
    let check = |row: &str, message: &str| {
        let error = totals(&[row]).err().expect("not countable");
        assert_eq!(error.to_string(), message);
    };
    check(
        r#"{"totalCalls":1,"totalCallSeconds":2}"#,
        "totalCallCharge is missing or null",
    );
    check(
        r#"{"totalCalls":1,"totalCallSeconds":2,"totalCallCharge":null}"#,
        "totalCallCharge is missing or null",
    );
    check(
        r#"{"totalCalls":1,"totalCallSeconds":2,"totalCallCharge":"a lot"}"#,
        "totalCallCharge is a text",
    );
    check(
        r#"{"totalCalls":1,"totalCallSeconds":2,"totalCallCharge":1e400}"#,
        "totalCallCharge is 1e400",
    );
    check(
        r#"{"totalCalls":1.5,"totalCallSeconds":2,"totalCallCharge":1}"#,
        "totalCalls is 1.5, not a whole number within ±1099511627776",
    );
    check(
        r#"{"totalCalls":1,"totalCallCharge":1}"#,
        "totalCallSeconds is missing or null",
    );
    check(
        &format!(
            r#"{{"userId":"{}","totalCalls":1,"totalCallSeconds":2,"totalCallCharge":1}}"#,
            "x".repeat(1025)
        ),
        "userId is longer than 1024 bytes",
    );
}

#[test]
fn long_names_of_many_users_end_at_a_limit() {
    const KIB: usize = 1 << 10;
    let mut totals = RowTable::default();
    let mut memory = MemoryPool::for_process(Some(6_400 * KIB as u64))
        .for_report()
        .reservation();
    let long = "x".repeat(1000);
    let mut add = |number: usize| {
        let row = ROW
            .replace("ruwini.perera@contoso.com", &format!("{number}{long}"))
            .replace("Ruwini Perera", &format!("{number}{long}"));
        let row = serde_json::from_str(&row).unwrap();
        Dialout::add(&mut totals, row, &mut Notes::default()).unwrap();
        memory.resize(Dialout::bytes(&totals))
    };
    let max = 3_750 * KIB;
    let added = (0..max / 1000).position(|number| add(number) == Err(MemoryError::Report { max }));
    // Each takes two long names.
    let most = max / 2000;
    assert!(
        added.is_some_and(|added| (most * 9 / 10..most).contains(&added)),
        "{added:?}"
    );
}

#[test]
fn overlaps_count_once_and_repetitions_add_up() {
    let again = ROW.replace("12.83", "0.17");
    let totals = totals(&[ROW, ROW, &again, ROW, &again]).unwrap();
    let rendered = Dialout::render(totals, &render_context(&UserLabel::Upn));
    assert_eq!(
        (rendered.rows, rendered.overlapping, rendered.repeated),
        (2, 3, 1)
    );
    assert_eq!(rendered.spend[0].total, "13");
}

#[test]
fn a_user_of_two_names_repeats_too() {
    let renamed = ROW.replace("ruwini.perera@", "ruwini.fernando@");
    let elsewhere = renamed.replace("\"US\"", "\"DE\"");
    for user_label in [UserLabel::Upn, UserLabel::Id, UserLabel::None] {
        let totals = totals(&[ROW, &renamed, &renamed, &elsewhere]).unwrap();
        let rendered = Dialout::render(totals, &render_context(&user_label));
        assert_eq!(
            (rendered.rows, rendered.overlapping, rendered.repeated),
            (3, 1, 1),
            "{user_label:?}"
        );
    }
}

#[test]
fn currencies_never_meet_and_codes_are_upper_case() {
    let rows =
        [("usd", "us"), ("USD", "US"), ("EUR", "us"), ("", "")].map(|(currency, location)| {
            ROW.replace("\"USD\"", &format!("{currency:?}"))
                .replace("\"US\"", &format!("{location:?}"))
        });
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let rest = r#"user="ruwini.perera@contoso.com"}"#;
    check(
        &rows,
        &[
            &format!(
                r#"{{currency="EUR",destination_context="International",usage_location="US",{rest} 12.83"#
            ),
            &format!(
                r#"{{currency="USD",destination_context="International",usage_location="US",{rest} 25.66"#
            ),
            &format!(
                r#"{{currency="unknown",destination_context="International",usage_location="unknown",{rest} 12.83"#
            ),
        ],
    );
}

#[test]
fn people_are_named_as_configured() {
    let check = |user_label: UserLabel, user: &str| {
        let charge = render(totals(&[ROW]).unwrap(), &render_context(&user_label));
        let line = &lines(&charge, "teams_pstn_dialout_charge")[0];
        assert_eq!(
            line.split_once("usage_location=\"US\"").unwrap().1,
            format!("{user}}} 12.83")
        );
    };
    check(UserLabel::Upn, r#",user="ruwini.perera@contoso.com""#);
    check(
        UserLabel::Id,
        r#",user="03de33bb-51df-40de-889a-61949faae24f""#,
    );
    check(UserLabel::DisplayName, r#",user="Ruwini Perera""#);
    // Checked with: printf ruwini.perera@contoso.com | openssl dgst -sha256 -hmac 0123456789abcdef
    check(
        UserLabel::Pseudonym(Pseudonyms::new(b"0123456789abcdef")),
        r#",user="20895766d389ad1efa3f411fd33ae04a""#,
    );
    check(UserLabel::None, "");
}

#[test]
fn a_user_near_the_limit_of_series_is_kept() {
    let users = |charges: &[(&str, i64)]| {
        let rows: Vec<String> = charges
            .iter()
            .map(|(user, charge)| row(user, "", "USD", "US", "Domestic", *charge, 1))
            .collect();
        totals(&rows.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
    };
    let shown = |rendered: &Rendered| -> Vec<String> {
        lines(&rendered.samples, "teams_pstn_dialout_charge")
            .iter()
            .map(|line| {
                line.split("user=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    // Room for eleven series, one of which is `__other__`. The nine largest are kept, and the series of the last poll
    // decides who is the tenth.
    let ten: Vec<(String, i64)> = (0..9)
        .map(|index| (format!("big{index}"), 1000 + index))
        .collect();
    let with = |a: i64, b: i64| {
        let mut all: Vec<(&str, i64)> = ten
            .iter()
            .map(|(user, charge)| (user.as_str(), *charge))
            .collect();
        all.extend([("a", a), ("b", b), ("c", 1), ("d", 1)]);
        users(&all)
    };
    let first = Dialout::render(with(50, 40), &edge(&RetainedSeries::default()));
    assert!(shown(&first).contains(&"a".to_owned()) && !shown(&first).contains(&"b".to_owned()));
    assert_eq!(first.aggregated, 3);
    let second = Dialout::render(with(50, 60), &edge(&first.retained));
    assert!(
        shown(&second).contains(&"a".to_owned()),
        "{:?}",
        shown(&second)
    );
    assert!(!shown(&second).contains(&"b".to_owned()));
    let third = Dialout::render(with(50, 5000), &edge(&second.retained));
    assert!(
        shown(&third).contains(&"b".to_owned()),
        "a large newcomer is shown at once"
    );
}

#[test]
fn budgets_count_what_they_select() {
    let rows = [
        row("1", "ann@x", "USD", "US", "Domestic", 100, 1),
        row("1", "ann@x", "usd", "DE", "International", 20, 1),
        row("2", "", "USD", "", "International", 3, 1),
        row("3", "bob@x", "EUR", "US", "International", 4000, 1),
    ];
    let check =
        |user: Option<&str>, location: Option<&str>, context: Option<&str>, expected: &str| {
            let owned = |selector: Option<&str>| selector.map(str::to_owned);
            let budgets = vec![Budget {
                user: owned(user),
                usage_location: owned(location),
                destination_context: owned(context),
                ..Budget::new("b", Amount::from_json("500.50").unwrap())
            }];
            let allocation = Allocation {
                budgets,
                pools: Vec::new(),
                departments: None,
            };
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            // Hidden users and users in `__other__` count too.
            let contexts = [
                RenderContext {
                    allocation: &allocation,
                    ..render_context(&UserLabel::None)
                },
                RenderContext {
                    allocation: &allocation,
                    ..edge(&NOTHING_RETAINED)
                },
            ];
            for context in contexts {
                let rendered = Dialout::render(
                    totals(&rows).unwrap(),
                    &RenderContext {
                        series_max: 1,
                        ..context
                    },
                );
                let labels = r#"{budget="b",currency="USD"}"#;
                assert_eq!(
                    lines(&rendered.samples, "teams_pstn_budget_amount"),
                    [format!("{labels} 500.5")]
                );
                assert_eq!(
                    lines(&rendered.samples, "teams_pstn_budget_spent"),
                    [format!("{labels} {expected}")]
                );
            }
        };
    check(None, None, None, "1.23");
    check(Some("ANN@x"), None, None, "1.2");
    check(Some("2"), None, None, "0.03");
    check(Some("unknown@x"), None, None, "0");
    check(None, Some("US"), None, "1");
    check(None, Some("unknown"), None, "0.03");
    check(None, None, Some("International"), "0.23");
    check(Some("ann@x"), Some("DE"), Some("International"), "0.2");
}

proptest! {
    #[test]
    fn any_order_and_any_overlap_give_the_same_bytes(
        rows in prop::collection::vec(any_row(), 1..60),
        moves in prop::collection::vec(any::<Index>(), 60),
        user_label in select(vec![UserLabel::Upn, UserLabel::Id, UserLabel::DisplayName, UserLabel::None]),
        series_max in prop_oneof![Just(usize::MAX), 1_usize..40],
    ) {
        let text = |rows: &[String]| {
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            let context = RenderContext { series_max, ..render_context(&user_label) };
            bytes(&Dialout::render(totals(&rows).unwrap(), &context).samples)
        };
        let mut shuffled = rows.clone();
        for (index, other) in moves.iter().enumerate().take(rows.len()) {
            shuffled.swap(index, other.index(rows.len()));
        }
        shuffled.push(rows[0].clone());
        prop_assert_eq!(text(&rows), text(&shuffled));
    }

    #[test]
    fn aggregation_and_naming_never_change_a_sum(
        rows in prop::collection::vec(any_row(), 1..60),
        user_label in select(vec![UserLabel::Upn, UserLabel::Id, UserLabel::DisplayName, UserLabel::None, UserLabel::Pseudonym(Pseudonyms::new(b"0123456789abcdef"))]),
        series_max in 0_usize..40,
    ) {
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let plain = Dialout::render(totals(&rows).unwrap(), &render_context(&UserLabel::Upn));
        let aggregated = Dialout::render(totals(&rows).unwrap(), &RenderContext {
            series_max,
            allocation: &DEPARTMENTS,
            ..render_context(&user_label)
        });
        prop_assert_eq!(&plain.spend, &aggregated.spend);
        let charges = department_charges(&rows);
        prop_assert_eq!(lines(&aggregated.samples, "teams_pstn_department_charge"), charges);
        let series = lines(&aggregated.samples, "teams_pstn_dialout_charge");
        let distinct: std::collections::BTreeSet<&str> = series.iter().map(|line| line.rsplit_once(' ').unwrap().0).collect();
        prop_assert_eq!(distinct.len(), series.len(), "no label set twice");
        // Currencies are never added up, so each has at least one series.
        prop_assert!(series.len() <= series_max.max(plain.spend.len()));
    }
}

/// The charge of each department and currency, added up by a simple loop that counts equal rows once.
fn department_charges(rows: &[&str]) -> Vec<String> {
    let mut charges: BTreeMap<(&str, String), Sum> = BTreeMap::new();
    for row in rows.iter().collect::<BTreeSet<_>>() {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let department = match [&row["userPrincipalName"], &row["userId"]].map(|name| name.as_str())
        {
            [Some("ann@x"), _] => "Sales",
            [_, Some("zoë")] => "Support",
            _ => "unmapped",
        };
        let currency = match row["currency"].as_str().unwrap_or_default() {
            "" => "unknown".to_owned(),
            currency => currency.to_uppercase(),
        };
        let charge = Amount::from_json(row["totalCallCharge"].as_str().unwrap()).unwrap();
        let sum = charges.entry((department, currency)).or_default();
        sum.merge(charge.into());
    }
    let line = |((department, currency), sum): ((&str, String), Sum)| {
        format!(r#"{{currency="{currency}",department="{department}",report="dialout"}} {sum}"#)
    };
    charges.into_iter().map(line).collect()
}

proptest! {
    #[test]
    fn page_has_the_ten_departments_with_the_highest_charge_of_each_currency(
        rows in prop::collection::vec((0_usize..16, select(vec!["EUR", "USD"]), -50_i64..500), 0..80),
    ) {
        // Users 13 to 15 are not in the file.
        let file = (0..13).fold("user,department\n".to_owned(), |file, user| {
            file + &format!("user{user}@x,D{user:02}\n")
        });
        let departments = Departments::parse(file.as_bytes()).unwrap();
        let allocation = Allocation { departments: Some(Arc::new(departments)), ..Allocation::default() };
        let numbered = (1..).zip(&rows);
        let texts: Vec<String> = numbered.clone().map(|(calls, (user, currency, cents))| {
            row(&user.to_string(), &format!("user{user}@x"), currency, "US", "Domestic", *cents, calls)
        }).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let context = RenderContext { allocation: &allocation, ..render_context(&UserLabel::None) };
        let shown = Dialout::render(totals(&texts).unwrap(), &context).allocated.departments;

        let mut sums: BTreeMap<(&str, String), (i64, i64)> = BTreeMap::new();
        for (calls, (user, currency, cents)) in numbered {
            let department = if *user < 13 { format!("D{user:02}") } else { "unmapped".to_owned() };
            let sum = sums.entry((*currency, department)).or_default();
            *sum = (sum.0 + cents, sum.1 + calls);
        }
        let mut expected = Vec::new();
        for currency in ["EUR", "USD"] {
            let mut ranked: Vec<_> = sums.iter().filter(|((of, _), _)| *of == currency).collect();
            // Departments with the same charge stay in the order of their names.
            ranked.sort_by_key(|(_, (cents, _))| -cents);
            expected.extend(ranked.into_iter().take(10));
        }
        prop_assert_eq!(shown.len(), expected.len());
        for (shown, ((currency, department), (cents, calls))) in shown.iter().zip(expected) {
            prop_assert_eq!((&*shown.currency, &shown.department), (*currency, department));
            let charge: rust_decimal::Decimal = shown.charge.parse().unwrap();
            prop_assert_eq!(charge, rust_decimal::Decimal::new(*cents, 2));
            let counts: Vec<i64> = shown.counts.iter().map(|count| count.value).collect();
            prop_assert_eq!(counts, vec![*calls, calls * 60]);
        }
    }
}

/// A row with few distinct values, so that many rows have the same labels.
fn any_row() -> impl Strategy<Value = String> {
    let user = select(vec![
        "",
        "ann",
        "bob",
        "zoë",
        "__other__",
        "a-very-long-name-that-differs-late-1",
        "a-very-long-name-that-differs-late-2",
    ]);
    let name = select(vec!["", "ann@x", "bob \"the\" b\\@x", "new\nline"]);
    let currency = select(vec!["", "USD", "usd", "EUR"]);
    let location = select(vec!["", "US", "de"]);
    let context = select(vec!["", "Domestic", "International"]);
    (
        user,
        name,
        currency,
        location,
        context,
        -500_i64..5000,
        0_i64..50,
    )
        .prop_map(|(user, name, currency, location, context, cents, calls)| {
            row(user, name, currency, location, context, cents, calls)
        })
}

fn row(
    user: &str,
    name: &str,
    currency: &str,
    location: &str,
    context: &str,
    cents: i64,
    calls: i64,
) -> String {
    let charge = rust_decimal::Decimal::new(cents, 2);
    serde_json::json!({
        "userId": user, "userPrincipalName": name, "userDisplayName": name, "usageLocation": location,
        "destinationContext": context, "currency": currency, "totalCalls": calls, "totalCallSeconds": calls * 60,
        "totalCallCharge": charge.to_string(),
    })
    .to_string()
}

static DEPARTMENTS: LazyLock<Allocation> = LazyLock::new(|| Allocation {
    budgets: Vec::new(),
    pools: Vec::new(),
    departments: Some(Arc::new(
        Departments::parse("user,department\nAnn@x,Sales\nZOË,Support\n".as_bytes()).unwrap(),
    )),
});

static NOTHING_ALLOCATED: LazyLock<Allocation> = LazyLock::new(Allocation::default);

static NOTHING_RETAINED: LazyLock<RetainedSeries> = LazyLock::new(RetainedSeries::default);

fn render_context(user_label: &UserLabel) -> RenderContext<'_> {
    RenderContext {
        tenant: None,
        period: period(),
        user_label,
        series_max: usize::MAX,
        allocation: &NOTHING_ALLOCATED,
        retained: &NOTHING_RETAINED,
    }
}

fn edge(retained: &RetainedSeries) -> RenderContext<'_> {
    RenderContext {
        tenant: None,
        period: period(),
        user_label: &UserLabel::Id,
        series_max: 11,
        allocation: &NOTHING_ALLOCATED,
        retained,
    }
}

fn render(totals: RowTable, context: &RenderContext<'_>) -> Vec<Samples> {
    Dialout::render(totals, context).samples
}

/// The samples of one family, without its name.
fn lines(samples: &[Samples], family: &str) -> Vec<String> {
    let samples = samples
        .iter()
        .find(|samples| samples.family.name == family)
        .unwrap();
    let mut text = Vec::new();
    samples.block.write(&mut text);
    let text = String::from_utf8(text).unwrap();
    text.lines()
        .map(|line| line.strip_prefix(family).unwrap().to_owned())
        .collect()
}

/// All samples, with their headers.
fn bytes(samples: &[Samples]) -> String {
    let mut out = Vec::new();
    for samples in samples {
        samples.write(Format::Text, &mut out);
    }
    String::from_utf8(out).unwrap()
}

fn totals(rows: &[&str]) -> Result<RowTable, RowError> {
    let mut totals = RowTable::default();
    for row in rows {
        let row = serde_json::from_str(row).unwrap();
        Dialout::add(&mut totals, row, &mut Notes::default())?;
    }
    Ok(totals)
}

const ROW: &str = r#"{
    "userId": "03de33bb-51df-40de-889a-61949faae24f",
    "userPrincipalName": "ruwini.perera@contoso.com",
    "userDisplayName": "Ruwini Perera",
    "usageLocation": "US",
    "destinationContext": "International",
    "currency": "USD",
    "totalCalls": 12,
    "totalCallCharge": 12.83,
    "totalCallSeconds": 723
}"#;

fn period() -> BillingPeriod {
    let now = "2026-11-21T00:00:00Z".parse().unwrap();
    BillingPeriod::containing(now, CycleDay::default())
}
