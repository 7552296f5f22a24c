//! Tests of the memory that a log reserves: windows that are being fetched, row ids, final days of two periods, and
//! rendered totals.

use std::time::Duration;

use super::*;
use crate::graph::FailureReason;
use crate::graph::testing::{Reply, client, graph};

const KIB: u64 = 1 << 10;

fn pool(kib: u64) -> Arc<MemoryPool> {
    // A report may use 75 of 128 parts of the limit.
    MemoryPool::for_process(Some(kib * KIB * 128 / 75)).for_report()
}

fn windows() -> Vec<Window> {
    november()
        .windows(at("2026-11-08T00:00:00Z"), DAY)
        .collect()
}

/// Adds this many rows of different callers to a window.
fn fill(
    window: Window,
    rows: usize,
    seen: &SeenRows,
    memory: &Arc<MemoryPool>,
) -> Result<DayTotals, MemoryError> {
    let aggregation = AggregationContext {
        user_label: &UserLabel::Upn,
        allocation: &Allocation::default(),
        period: november(),
        seen,
        memory,
    };
    let mut aggregator = LogAggregator::new(AnyLog::of::<CallLog>(), window, aggregation);
    for number in 0..rows {
        let name = format!("user{number}@contoso.example.com");
        let id = format!("{number} of {}", window.start());
        let added = aggregator.add(&record(&id, window, &name));
        added.inspect_err(|_| seen.remove(aggregator.ids.drain(..)))?;
    }
    Ok(aggregator.finish(true))
}

fn record<'r>(id: &'r str, window: Window, name: &'r str) -> Record<'r> {
    Record {
        id,
        time: Some(window.start()),
        person: [name; 3],
        labels: [const { Cow::Borrowed("unknown") }; LABELS_MAX],
        money: [Amount::default(); MONEY_MAX],
        counts: [1, 60, 0],
    }
}

fn is_limit(error: MemoryError) -> bool {
    let error = CollectError::from(error);
    error.reason() == FailureReason::Limit && error.remedy().contains("memory limit")
}

#[test]
fn open_days_have_one_limit_together() {
    let memory = pool(700);
    let seen = SeenRows::new(&memory);
    let windows = windows();
    let first = fill(windows[0], 2_500, &seen, &memory).expect("one day fits");
    assert!(fill(windows[1], 2_500, &seen, &memory).is_err_and(is_limit));
    drop(first);
    // After the error, the rows of the window are not seen, so the window can be fetched again.
    let again = fill(windows[1], 2_500, &seen, &memory).expect("the other day fits");
    let totals = (
        again.totals.rows(),
        again.totals.overlapping,
        again.totals.series.len(),
    );
    assert_eq!(totals, (2_500, 0, 2_500));
}

#[test]
fn ids_of_rows_alone_reach_the_limit() {
    let memory = pool(200);
    let seen = SeenRows::new(&memory);
    let mut numbers = Numbers::default();
    let mut insert = |number: usize| {
        let id = number.to_string();
        let id = numbers.id(&record(&id, windows()[0], "ann@x"));
        seen.insert(id.expect("the record has one"))
    };
    let added = (0..100_000).position(|number| insert(number).is_err_and(is_limit));
    assert!(added.is_some_and(|added| added < 25_000), "{added:?}");
}

#[test]
fn final_days_of_both_periods_and_open_days_have_one_limit() {
    let memory = pool(1_200);
    let mut ledgers = Ledgers::default();
    let mut ledger_memory = memory.reservation();
    let december = BillingPeriod::containing(at("2026-12-01T00:00:00Z"), CycleDay::default());
    for (period, window) in [(november(), windows()[0]), (december, windows()[1])] {
        let seen = SeenRows::new(&memory);
        let day = fill(window, 2_500, &seen, &memory).expect("it fits");
        ledgers
            .of(period, &Allocation::default())
            .add_final(&day, &seen);
        drop((day, seen));
        ledger_memory.hold(ledgers.bytes());
    }
    let fits = |rows, window| fill(window, rows, &SeenRows::new(&memory), &memory);
    assert!(fits(2_500, windows()[2]).is_err_and(is_limit));
    fits(500, windows()[2]).expect("a small day fits");
    // The limit does not remove final days.
    for period in [november(), december] {
        assert_eq!(ledgers.final_days(period), Some(1));
        assert_eq!(
            ledgers.of(period, &Allocation::default()).totals().rows(),
            2_500
        );
    }
    // A later period drops the first ledger.
    let january = BillingPeriod::containing(at("2027-01-01T00:00:00Z"), CycleDay::default());
    ledgers.of(january, &Allocation::default());
    ledger_memory.hold(ledgers.bytes());
    fits(2_500, windows()[2]).expect("it fits now");
}

#[test]
fn day_of_a_large_tenant_has_room_for_three_more() {
    let memory = memory();
    let seen = SeenRows::new(&memory);
    let mut days = Vec::new();
    for window in windows().into_iter().take(4) {
        days.push(fill(window, 50_000, &seen, &memory).expect("it fits"));
    }
    assert!(days.iter().all(|day| day.totals.series.len() == 50_000));
}

#[tokio::test]
async fn window_that_fails_at_a_later_page_counts_whole_if_it_is_fetched_again() {
    let page = |id: u32, next: &str| {
        let row = format!(
            r#"{{"id":"{id}","userId":"1","startDateTime":"2026-11-02T08:00:00Z","duration":60,"charge":0.5,"connectionCharge":0,"currency":"USD"}}"#
        );
        Reply::json(200, format!(r#"{{"value":[{row}]{next}}}"#))
    };
    let next = r#","@odata.nextLink":"/beta/next""#;
    // The second page is refused once.
    let server = graph(move |number, _| match number {
        1 => Reply::json(403, ""),
        0 | 2 => page(1, next),
        _ => page(2, ""),
    })
    .await;
    let (graph, memory) = (client(&server), memory());
    let seen = SeenRows::new(&memory);
    let context = AggregationContext {
        user_label: &UserLabel::Upn,
        allocation: &Allocation::default(),
        period: november(),
        seen: &seen,
        memory: &memory,
    };
    let now = at("2026-11-08T00:00:00Z");
    let deadline = Instant::now() + Duration::from_mins(1);
    let stats = RequestStats::default();
    let fetch = || {
        collect(
            AnyLog::of::<CallLog>(),
            &graph,
            windows()[1],
            now,
            context,
            deadline,
            &stats,
        )
    };
    assert!(fetch().await.is_err());
    let day = fetch().await.expect("both pages arrive");
    assert_eq!((day.totals.rows(), day.totals.overlapping), (2, 0));
}
