//! Billing periods and windows by table, and properties of both.

use proptest::prelude::*;

use super::*;

#[test]
fn periods_by_table() {
    let check = |now: &str, day: u64, printed: &str, start: &str, end: &str| {
        let period = BillingPeriod::containing(time(now), CycleDay::try_from(day).unwrap());
        assert_eq!(
            (period.to_string().as_str(), period.start(), period.end()),
            (printed, time(start), time(end))
        );
        assert_eq!(period.previous().end(), period.start());
    };
    check(
        "2026-11-21T13:00:00Z",
        1,
        "2026-11",
        "2026-11-01T00:00:00Z",
        "2026-12-01T00:00:00Z",
    );
    check(
        "2026-12-31T23:59:59.999999999Z",
        1,
        "2026-12",
        "2026-12-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
    );
    check(
        "2027-01-01T00:00:00Z",
        1,
        "2027-01",
        "2027-01-01T00:00:00Z",
        "2027-02-01T00:00:00Z",
    );
    check(
        "2028-02-29T12:00:00Z",
        1,
        "2028-02",
        "2028-02-01T00:00:00Z",
        "2028-03-01T00:00:00Z",
    );
    check(
        "2026-11-14T23:59:59Z",
        15,
        "2026-10-15/2026-11-15",
        "2026-10-15T00:00:00Z",
        "2026-11-15T00:00:00Z",
    );
    check(
        "2026-11-15T00:00:00Z",
        15,
        "2026-11-15/2026-12-15",
        "2026-11-15T00:00:00Z",
        "2026-12-15T00:00:00Z",
    );
    check(
        "2026-01-05T00:00:00Z",
        28,
        "2025-12-28/2026-01-28",
        "2025-12-28T00:00:00Z",
        "2026-01-28T00:00:00Z",
    );
}

#[test]
fn calendar_months_of_a_period_by_table() {
    for (now, day, first, start, end) in [
        (
            "2026-11-30T23:59:59Z",
            1,
            "2026-11-01",
            "2026-11-01",
            "2026-12-01",
        ),
        (
            "2026-11-01T00:00:00Z",
            2,
            "2026-11-01",
            "2026-11-01",
            "2026-11-02",
        ),
        (
            "2026-11-02T00:00:00Z",
            2,
            "2026-12-01",
            "2026-11-02",
            "2026-12-01",
        ),
        (
            "2026-12-31T23:59:59Z",
            15,
            "2027-01-01",
            "2026-12-15",
            "2027-01-01",
        ),
        (
            "2027-01-01T00:00:00Z",
            15,
            "2027-01-01",
            "2027-01-01",
            "2027-01-15",
        ),
        (
            "2027-02-28T00:00:00Z",
            28,
            "2027-03-01",
            "2027-02-28",
            "2027-03-01",
        ),
    ] {
        let period = BillingPeriod::containing(time(now), CycleDay::try_from(day).unwrap());
        let month = period.in_month(time(now));
        let found = [period.first_of_month(), month.start(), month.end()];
        let expected = [first, start, end].map(|day| time(&format!("{day}T00:00:00Z")));
        assert_eq!(found, expected, "{now} {day}");
    }
}

#[test]
fn periods_by_their_start() {
    for (start, printed) in [
        ("2026-11-01T00:00:00Z", Some("2026-11")),
        ("2026-11-28T00:00:00Z", Some("2026-11-28/2026-12-28")),
        ("2026-11-29T00:00:00Z", None),
        ("2026-11-01T00:00:01Z", None),
        // Outside 1970 to 9998.
        ("+262142-12-01T00:00:00Z", None),
        ("-262143-01-01T00:00:00Z", None),
        ("1969-12-01T00:00:00Z", None),
        ("9999-12-01T00:00:00Z", None),
    ] {
        let period = BillingPeriod::try_from(time(start)).ok();
        let found = period.map(|period| period.to_string());
        assert_eq!(found.as_deref(), printed, "{start}");
    }
}

#[test]
fn cycle_days_by_table() {
    for (day, good) in [
        (0, false),
        (1, true),
        (28, true),
        (29, false),
        (257, false),
        (u64::MAX, false),
    ] {
        assert_eq!(CycleDay::try_from(day).is_ok(), good, "{day}");
    }
}

#[test]
fn literals_by_table() {
    let check = |now: &str, end: EndBound, from: &str, to: &str| {
        let period = BillingPeriod::containing(time("2026-11-21T00:00:00Z"), CycleDay::default());
        let window = period.windows(time(now), Window::MAX).next().unwrap();
        assert_eq!(
            (
                window.start_literal().as_str(),
                window.end_literal(end).as_str()
            ),
            (from, to)
        );
    };
    let start = "2026-11-01T00:00:00Z";
    check(
        "2026-11-21T13:05:06.7Z",
        EndBound::WholeSecond,
        start,
        "2026-11-21T13:05:07Z",
    );
    check(
        "2026-11-21T13:05:06.7Z",
        EndBound::LastTick,
        start,
        "2026-11-21T13:05:06.9999999Z",
    );
    check(
        "2026-11-01T00:00:00Z",
        EndBound::WholeSecond,
        start,
        "2026-11-01T00:00:01Z",
    );
    check(
        "2026-12-08T00:00:00Z",
        EndBound::WholeSecond,
        start,
        "2026-12-01T00:00:00Z",
    );
    check(
        "2026-12-08T00:00:00Z",
        EndBound::LastTick,
        start,
        "2026-11-30T23:59:59.9999999Z",
    );
}

#[test]
fn the_last_window_ends_after_the_second_that_runs() {
    let last = |width| Window::last(time("2026-11-21T13:00:00.5Z"), width);
    for width in [TimeDelta::seconds(1), TimeDelta::days(1), Window::MAX] {
        assert_eq!(last(width).end(), time("2026-11-21T13:00:01Z"));
        assert_eq!(last(width).start(), time("2026-11-21T13:00:01Z") - width);
    }
}

#[test]
fn clock_shows_its_time_in_debug_output() {
    let clock = Clock::new(|| time("2026-11-21T13:00:00Z"));
    assert_eq!(format!("{clock:?}"), "Clock(2026-11-21 13:00:00 UTC)");
}

#[test]
fn a_period_that_has_not_begun_has_no_window() {
    let period = BillingPeriod::containing(time("2026-11-21T00:00:00Z"), CycleDay::default());
    assert_eq!(
        period
            .windows(time("2026-10-31T23:59:58Z"), Window::MAX)
            .count(),
        0
    );
}

proptest! {
    #[test]
    fn windows_tile_the_period(
        seconds in 946_684_800_i64..4_102_444_800,
        nanos in 0_u32..1_000_000_000,
        later in 0_i64..40 * 86_400,
        day in 1_u64..=28,
        width in prop_oneof![Just(86_400_i64), Just(90 * 86_400), 3_600_i64..90 * 86_400],
    ) {
        let begun = DateTime::from_timestamp(seconds, nanos).unwrap();
        let period = BillingPeriod::containing(begun, CycleDay::try_from(day).unwrap());
        prop_assert!(period.start() <= begun && begun < period.end());
        let now = begun + TimeDelta::seconds(later);
        let windows: Vec<Window> = period.windows(now, TimeDelta::seconds(width)).collect();
        prop_assert_eq!(windows[0].start(), period.start());
        prop_assert!(windows.windows(2).all(|pair| pair[0].end() == pair[1].start()));
        prop_assert!(windows.iter().all(|w| w.start() < w.end() && w.end() - w.start() <= Window::MAX));
        let last = windows[windows.len() - 1].end();
        prop_assert!(last == period.end() || (last > now && last - now <= TimeDelta::seconds(1)));
    }

    #[test]
    fn periods_follow_each_other(seconds in 946_684_800_i64..4_102_444_800, day in 1_u64..=28) {
        let day = CycleDay::try_from(day).unwrap();
        let period = BillingPeriod::containing(DateTime::from_timestamp(seconds, 0).unwrap(), day);
        prop_assert_eq!(BillingPeriod::containing(period.end(), day).previous(), period);
        prop_assert!(period.end() - period.start() <= TimeDelta::days(31));
    }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
