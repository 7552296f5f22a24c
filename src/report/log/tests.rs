//! Tests that rows have the expected totals, for any division of the rows into days and polls.

mod departments;
mod memory;
mod windows;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::exposition::Format;
use crate::memory::MemoryError;
use crate::money::Sum;
use crate::period::{BillingPeriod, CycleDay, Span};
use crate::report::Report;
use crate::report::budget::Budget;
use crate::report::call_log::CallLog;
use crate::report::department::Departments;
use crate::report::direct_routing::DirectRouting;
use crate::report::labels::{Pseudonyms, RenderContext, RetainedSeries};
use crate::report::pool::{self, Pool, UsedSeconds};
use crate::report::row::{Notes, RowError};
use crate::report::{Rendered, ReportKind};

/// A call of a test. The log has its row from the time `known` on.
#[derive(Clone, Debug)]
struct Call {
    id: String,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    known: DateTime<Utc>,
    user: &'static str,
    charge: i64,
    currency: &'static str,
}

impl Call {
    fn json(&self) -> String {
        let Self {
            id,
            start,
            end,
            user,
            charge,
            currency,
            ..
        } = self;
        // Seven digits, as the service has them.
        let [start, end] = [start, end].map(|time| {
            let time = time.format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
            time[..time.len() - 2].to_owned()
        });
        format!(
            r#"{{"id":"{id}","userId":"{user}-id","userPrincipalName":"{user}","startDateTime":"{start}Z","endDateTime":"{end}Z","duration":60,"charge":{}.{:04},"connectionCharge":0.25,"currency":"{currency}","callType":"user_out","usageCountryCode":"us","destinationName":"Germany","destinationContext":"International","licenseCapability":"MCOPSTN2"}}"#,
            charge / 10_000,
            charge % 10_000
        )
    }
}

/// The totals of a window that returns these rows, in a period without other rows.
fn fold(window: Window, rows: &[String]) -> Result<Totals, RowError> {
    let seen = SeenRows::new(&memory());
    Ok(fold_beside(window, november(), &ALLOCATION, &seen, rows)?.0)
}

/// Like [`fold`], but with rows that other windows have `seen`. Also returns the ids of the rows.
fn fold_beside(
    window: Window,
    period: BillingPeriod,
    allocation: &Allocation,
    seen: &SeenRows,
    rows: &[String],
) -> Result<(Totals, Vec<RowId>), RowError> {
    let aggregation = AggregationContext {
        user_label: &UserLabel::Upn,
        allocation,
        period,
        seen,
        memory: &memory(),
    };
    let mut aggregator = LogAggregator::new(AnyLog::of::<CallLog>(), window, aggregation);
    for row in rows {
        let row: <CallLog as Report>::Row<'_> = serde_json::from_str(row).expect("a row");
        let record = CallLog::record(&row, &mut Notes::default())?;
        aggregator.add(&record).expect("few rows");
    }
    Ok((aggregator.totals, aggregator.ids))
}

/// Polls like the poller, but a list of calls replaces the service. Both ends of a window are included, and some rows
/// are repeated.
fn poll(
    ledgers: &mut Ledgers,
    period: BillingPeriod,
    now: DateTime<Utc>,
    calls: &[Call],
) -> Totals {
    poll_by_two_clocks(ledgers, period, now, now, calls)
}

/// Like [`poll`], but the clock of the service has another time.
fn poll_by_two_clocks(
    ledgers: &mut Ledgers,
    period: BillingPeriod,
    now: DateTime<Utc>,
    service: DateTime<Utc>,
    calls: &[Call],
) -> Totals {
    let rows = |window: Window| {
        let mut rows: Vec<String> = calls
            .iter()
            .filter(|call| call.known <= service)
            .filter(|call| window.start() <= call.start && call.start <= window.end())
            .map(Call::json)
            .collect();
        rows.extend(rows.first().cloned());
        Some(rows)
    };
    poll_windows(ledgers, period, now.min(service), now, rows).expect("every window is answered")
}

/// Polls as the poller does. Returns `None` at the first window without an answer.
fn poll_windows(
    ledgers: &mut Ledgers,
    period: BillingPeriod,
    asked: DateTime<Utc>,
    now: DateTime<Utc>,
    mut answer: impl FnMut(Window) -> Option<Vec<String>>,
) -> Option<Totals> {
    let mut open = Vec::new();
    let windows_due = ledgers.of(period, &ALLOCATION).windows_due(now, &memory());
    let seen = &windows_due.seen;
    for window in windows_due
        .becoming_final
        .into_iter()
        .chain(windows_due.open)
    {
        let (totals, ids) = fold_beside(window, period, &ALLOCATION, seen, &answer(window)?)
            .expect("rows that count");
        let day = DayTotals {
            window,
            totals,
            ids,
            is_final: is_final(window, asked),
            _memory: memory().reservation(),
        };
        if day.is_final {
            let ledger = ledgers.of(period, &ALLOCATION);
            ledger.add_final(&day, seen);
        } else {
            open.push(day.totals);
        }
    }
    let mut totals = (*ledgers.of(period, &ALLOCATION).totals()).clone();
    for day in &open {
        totals.merge(day);
    }
    Some(totals)
}

/// The memory pool of a report in a process without a memory limit.
fn memory() -> Arc<MemoryPool> {
    MemoryPool::for_process(None).for_report()
}

static ALLOCATION: LazyLock<Allocation> = LazyLock::new(|| Allocation {
    budgets: vec![
        budget(None),
        budget(Some("ANN@x")),
        Budget {
            name: "Support".to_owned(),
            department: Some("Support".to_owned()),
            ..budget(None)
        },
    ],
    pools: ["user_out", "user_in"].map(pool).to_vec(),
    departments: Some(Arc::new(
        Departments::parse(b"user,department\nANN@X,Sales\nbob@x-id,Support\n").expect("a file"),
    )),
});

fn budget(user: Option<&str>) -> Budget {
    Budget {
        report: ReportKind::CallLog,
        user: user.map(str::to_owned),
        destination_context: Some("International".to_owned()),
        ..Budget::new(&format!("of {user:?}"), 0)
    }
}

/// A pool of calls of this type.
fn pool(call_type: &str) -> Pool {
    Pool {
        usage_location: vec!["US".to_owned()],
        destination_context: Some("International".to_owned()),
        call_type: Some(call_type.to_owned()),
        ..Pool::new(call_type, &["MCOPSTN2"], 60)
    }
}

fn rendered(totals: Totals, series_max: usize) -> Rendered {
    let context = RenderContext {
        tenant: None,
        period: november(),
        user_label: &UserLabel::Upn,
        series_max,
        allocation: &ALLOCATION,
        retained: &RetainedSeries::default(),
    };
    totals.render(&CallLog::INFO, &context)
}

fn text(rendered: &Rendered) -> String {
    let mut out = Vec::new();
    for samples in rendered.samples.iter().chain(&rendered.closing) {
        samples.write(Format::Text, &mut out);
    }
    let mut text = String::from_utf8(out).expect("text");
    let Rendered {
        spend,
        top,
        newest,
        used_seconds,
        ..
    } = rendered;
    write!(text, "{spend:?} {top:?} {newest:?} {used_seconds:?}")
        .expect("a String takes everything");
    text
}

fn november() -> BillingPeriod {
    BillingPeriod::containing(at("2026-11-21T00:00:00Z"), CycleDay::default())
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a time")
}

fn call(id: &str, start: &str, charge: i64) -> Call {
    Call {
        id: id.to_owned(),
        start: at(start),
        end: at(start) + TimeDelta::seconds(60),
        known: at(start),
        user: "ann@x",
        charge,
        currency: "USD",
    }
}

/// Calls, some of which begin within 100 ns of midnight. They are known up to 78 hours later: after a call of 30 hours
/// and a delay of 48 hours.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let start = prop_oneof![
        3 => 0_i64..30 * DAY_TICKS,
        1 => (0_i64..31, -1_i64..=1).prop_map(|(day, off)| (day * DAY_TICKS + off).clamp(0, 30 * DAY_TICKS)),
    ];
    let late = prop_oneof![0_i64..78 * 3_600, Just(0), Just(78 * 3_600)];
    let call = (
        start,
        late,
        select(vec!["ann@x", "bob@x", ""]),
        0_i64..100_000,
        select(vec!["USD", "EUR"]),
    );
    vec(call, 0..60).prop_map(|calls| {
        let period = november();
        (0..)
            .zip(calls)
            .map(|(index, (ticks, late, user, charge, currency)): (u32, _)| {
                let start = period.start() + TimeDelta::nanoseconds(ticks * 100);
                Call {
                    id: format!("00000000-0000-4000-8000-{index:012x}"),
                    start,
                    end: start,
                    known: start + TimeDelta::seconds(late),
                    user,
                    charge,
                    currency,
                }
            })
            .collect()
    })
}

proptest! {
    /// For any calls, arrival times, polls and readings of this machine's clock: the last poll has the same result as
    /// one fresh fetch of everything.
    #[test]
    fn days_that_are_kept_are_final(
        calls in calls(),
        polls in vec((0_i64..35 * 86_400, prop_oneof![3 => Just(0_i64), 1 => -20_i64..40]), 1..12),
    ) {
        let mut polls = polls;
        polls.sort_unstable();
        let mut ledgers = Ledgers::default();
        let mut now = november().start();
        for (seconds, days_off) in polls {
            now = november().start() + TimeDelta::seconds(seconds);
            let here = (now + TimeDelta::days(days_off)).max(november().start());
            poll_by_two_clocks(&mut ledgers, november(), here, now, &calls);
        }
        let totals = poll(&mut ledgers, november(), now, &calls);
        let fresh = poll(&mut Ledgers::default(), november(), now, &calls);
        let plain: i64 = calls
            .iter()
            .filter(|call| call.known <= now && call.start < november().end() && call.currency == "USD")
            .map(|call| call.charge)
            .sum();
        let last = rendered(totals, usize::MAX);
        prop_assert_eq!(text(&last), text(&rendered(fresh, usize::MAX)));
        let usd = last.spend.iter().find(|spend| spend.currency == "USD");
        let usd: Amount = Amount::from_json(usd.map_or("0", |spend| &spend.total)).expect("a sum");
        prop_assert_eq!(usd, Amount::from(rust_decimal::Decimal::new(plain, 4)));
    }

    /// At the end of a period, no row is lost and no row is counted twice: two periods together have all rows.
    #[test]
    fn periods_divide_the_calls(calls in calls()) {
        let december = BillingPeriod::containing(at("2026-12-01T00:00:00Z"), CycleDay::default());
        let now = at("2026-12-20T00:00:00Z");
        let mut ledgers = Ledgers::default();
        let rows: u64 = [november(), december]
            .map(|period| rendered(poll(&mut ledgers, period, now, &calls), usize::MAX).rows)
            .iter()
            .sum();
        prop_assert_eq!(rows, calls.len() as u64);
    }

    /// This is also true if the newest row is of a final day, which is not fetched again.
    #[test]
    fn newest_row_is_the_call_that_began_last(calls in calls(), polls in vec(0_i64..40, 1..5)) {
        let mut ledgers = Ledgers::default();
        let mut days = polls;
        days.sort_unstable();
        for day in days {
            let now = november().start() + TimeDelta::days(day);
            let totals = poll(&mut ledgers, november(), now, &calls);
            let asked = |call: &&Call| call.known <= now && call.start <= now;
            let expected = calls.iter().filter(asked).map(|call| call.start);
            let expected = expected.filter(|start| *start < november().end()).max();
            prop_assert_eq!(rendered(totals, usize::MAX).newest, expected);
        }
    }

    /// Aggregation into `__other__` changes no sum, and leaves no more series than there is room for.
    #[test]
    fn aggregation_changes_no_sum(calls in calls(), series_max in 1_usize..6) {
        let now = at("2026-12-20T00:00:00Z");
        let all = |series_max| rendered(poll(&mut Ledgers::default(), november(), now, &calls), series_max);
        let (aggregated, whole) = (all(series_max), all(usize::MAX));
        prop_assert_eq!(&aggregated.spend, &whole.spend);
        prop_assert_eq!(aggregated.rows, whole.rows);
        // Currencies are never added up, so each has at least one series.
        let most = whole.spend.len().max(series_max) as u64;
        prop_assert!(aggregated.samples[0].count <= most);
        prop_assert!(aggregated.closing[0].count <= most);
    }
}

#[test]
fn row_belongs_to_the_period_it_began_in() {
    let check = |window: usize, start: &str, counted: u64, unplaced: u64| {
        let window = november()
            .windows(at("2026-12-01T00:00:00Z"), DAY)
            .chain(Span::from(november()).windows_after(at("2026-12-03T00:00:00Z"), DAY, MARGIN))
            .nth(window - 1)
            .expect("a day of November, or one of the two after");
        let rows = [call("a", start, 1).json()];
        let totals = fold(window, &rows).expect("a row that counts");
        let found = (totals.rows(), totals.unplaced);
        assert_eq!(found, (counted, unplaced), "{start} by {window:?}");
    };
    for window in [1, 5, 30, 31, 32] {
        check(window, "2026-11-01T00:00:00Z", 1, 0);
        check(window, "2026-11-05T23:59:59.9999999Z", 1, 0);
        check(window, "2026-11-30T23:59:59.9999999Z", 1, 0);
    }
    // Calls before and after have their own windows.
    check(1, "2026-10-31T23:59:59.9999999Z", 0, 0);
    check(1, "2026-10-30T00:00:00Z", 0, 0);
    check(30, "2026-12-01T00:00:00Z", 0, 0);
    check(32, "2026-12-02T12:00:00Z", 0, 0);
    check(1, "2026-10-29T23:59:59Z", 0, 1);
    check(5, "2026-10-31T23:59:59Z", 0, 1);
    check(27, "2026-12-01T00:00:00Z", 0, 1);
    check(30, "2026-12-03T00:00:01Z", 0, 1);
    check(5, "2019-11-05T00:00:00Z", 0, 1);
}

#[test]
fn a_service_that_ignores_the_days_doubles_nothing() {
    let rows = [
        call("a", "2026-11-01T10:00:00Z", 5).json(),
        call("b", "2026-11-02T10:00:00Z", 7).json(),
    ];
    let answer = |_| Some(rows.to_vec());
    let now = at("2026-11-03T12:00:00Z");
    let totals = poll_windows(&mut Ledgers::default(), november(), now, now, answer)
        .expect("every window is answered");
    let rendered = rendered(totals, usize::MAX);
    assert_eq!(rendered.rows, 2);
    assert_eq!(rendered.spend[0].total, "0.0012");
    let spent = "teams_pstn_budget_spent{budget=\"of None\",currency=\"USD\"} 0.0012\n";
    assert!(text(&rendered).contains(spent));
}

#[test]
fn rows_that_come_again_are_counted_once() {
    let window = november()
        .windows(at("2026-11-01T12:00:00Z"), DAY)
        .next()
        .expect("the first");
    let row = call("a", "2026-11-01T10:00:00Z", 5).json();
    let totals = fold(window, &[row.clone(), row.clone()]).expect("rows that count");
    assert_eq!((totals.rows(), totals.overlapping), (1, 1));
    // Without an id, a repeated row cannot be distinguished from another call with the same values.
    let anonymous = row.replace(r#""id":"a","#, "");
    let totals = fold(window, &[anonymous.clone(), anonymous]).expect("rows that count");
    assert_eq!((totals.rows(), totals.overlapping), (2, 0));
}

/// A log with few labels has unused places in its label sets. They are equal on all days, even if the days begin with
/// different texts.
#[test]
fn days_of_a_log_with_few_labels_have_the_same_series() {
    let memory = memory();
    let seen = SeenRows::new(&memory);
    let aggregation = AggregationContext {
        user_label: &UserLabel::Upn,
        allocation: &ALLOCATION,
        period: november(),
        seen: &seen,
        memory: &memory,
    };
    let mut totals = Totals::new(&ALLOCATION);
    for (window, users) in november()
        .windows(at("2026-11-03T00:00:00Z"), DAY)
        .zip([["ann@x", "bob@x"], ["bob@x", "ann@x"]])
    {
        let mut aggregator = LogAggregator::new(AnyLog::of::<DirectRouting>(), window, aggregation);
        for user in users {
            let row = format!(r#"{{"userPrincipalName":"{user}","duration":60}}"#);
            let row = serde_json::from_str(&row).expect("a row");
            let record = DirectRouting::record(&row, &mut Notes::default()).expect("a record");
            aggregator.add(&record).expect("a row that counts");
        }
        totals.merge(&aggregator.totals);
    }
    assert_eq!(totals.series.len(), 2);
}

#[test]
fn a_ledger_of_another_allocation_starts_empty() {
    let now = at("2026-11-21T00:00:00Z");
    let memory = memory();
    let mut ledgers = Ledgers::default();
    let none = Allocation::default();
    let with_budget = Allocation {
        budgets: vec![budget(None)],
        ..Allocation::default()
    };
    let first = ledgers.of(november(), &none);
    let day = DayTotals {
        window: first.windows_due(now, &memory).becoming_final[0],
        totals: Totals::new(&Allocation::default()),
        ids: Vec::new(),
        is_final: true,
        _memory: memory.reservation(),
    };
    first.add_final(&day, &SeenRows::new(&memory));
    let mut asked = |allocation: &Allocation| {
        let windows_due = ledgers.of(november(), allocation).windows_due(now, &memory);
        windows_due.becoming_final.len() + windows_due.open.len()
    };
    assert_eq!(asked(&none), 20);
    assert_eq!(asked(&with_budget), 21);
    assert_eq!(asked(&none), 21);
}

const DAY_TICKS: i64 = 864_000_000_000;
