//! Tests of generated rows, without a connection.

use chrono::TimeDelta;

use super::address::Version;
use super::blocked_users::BlockEvent;
use super::company::Company;
use super::log::{Log, LogRow};
use super::tests::now;
use super::*;

#[test]
fn user_is_blocked_if_the_newest_event_is_a_block() {
    let at = |user, hour, mode: &'static str| BlockEvent {
        mode: Some(mode.into()),
        ..BlockEvent::at(user, time("2026-11-01T00:00:00Z") + TimeDelta::hours(hour))
    };
    let log = Log::new(vec![
        at(1, 5, "unblocked"),
        at(1, 1, "Blocked"),
        at(2, 2, "BLOCKED"),
        at(3, 1, "Unblocked"),
        at(3, 2, "blocked"),
    ]);
    let begin = time("2026-11-01T00:00:00Z");
    for (hours, blocked) in [(2, 1), (3, 3), (6, 2)] {
        let period = begin..begin + TimeDelta::hours(hours);
        assert_eq!(log.blocked(period, now()), blocked, "{hours}");
    }
}

#[test]
fn a_million_calls_are_a_million_on_pages_and_days() {
    let company = Arc::new(Company::new(1, 400));
    let month = time("2026-10-01T00:00:00Z")..time("2026-10-31T00:00:00Z");
    let logs = Logs::of_calls(&company, 1_000_000, month.clone());
    let page = |from, to, skip| log::Page {
        from,
        to,
        has_end: true,
        now: now(),
        skip,
        take: 1_000,
    };
    let (rows, has_more) = logs
        .calls
        .page(Version::V1, &page(month.start, month.end, 999_000));
    assert_eq!((rows.len(), has_more), (1_000, false));
    let (_, has_more) = logs
        .calls
        .page(Version::V1, &page(month.start, month.end, 998_999));
    assert!(has_more);
    let second = month.start + TimeDelta::days(1);
    let (first_day, _) = logs
        .calls
        .page(Version::V1, &page(month.start, second, 33_000));
    let (second_day, _) = logs
        .calls
        .page(Version::V1, &page(second, second + TimeDelta::days(1), 0));
    assert_eq!(
        first_day.last(),
        second_day.first(),
        "one lies on the boundary"
    );
    let day = logs.calls.expected(month.start..second, now()).total();
    assert_eq!(day.rows, first_day.len() as u64 - 1 + 33_000);
}

#[test]
fn made_rows_are_the_same_on_pages_of_any_size_and_arrive_within_two_days() {
    let company = Arc::new(Company::new(1, 400));
    let logs = Logs::of(&company);
    let period = time("2026-11-18T22:13:14.5Z")..time("2026-11-21T09:00:00Z");
    let rows = logs.calls.rows(period.clone(), now());
    assert!(rows.len() > 2_000);
    assert!(rows.is_sorted_by_key(|row| row.start));
    for row in &rows {
        let late = row.arrival - row.start;
        assert!(TimeDelta::zero() <= late && late <= TimeDelta::hours(48));
    }
    let written: Vec<_> = rows.iter().map(|row| row.json(Version::Beta)).collect();
    for take in [1, 7, 1_000, 10_000] {
        let skips = [0, 1, 500, 1_999, rows.len() - 1, rows.len(), usize::MAX];
        for skip in skips {
            let page = log::Page {
                from: period.start,
                to: period.end,
                has_end: false,
                now: now(),
                skip,
                take,
            };
            let (page, has_more) = logs.calls.page(Version::Beta, &page);
            let begin = skip.min(rows.len());
            let end = begin.saturating_add(take).min(rows.len());
            assert_eq!(page, written[begin..end]);
            assert_eq!(has_more, end < rows.len(), "{skip} {take}");
        }
    }
    let later = logs.calls.rows(period, now() + TimeDelta::hours(48));
    assert!(later.len() > rows.len(), "some had not arrived");
}

#[test]
fn month_of_logs_is_plausible() {
    let company = Arc::new(Company::new(1, 400));
    let logs = Logs::of(&company);
    let month = time("2026-10-01T00:00:00Z")..time("2026-11-01T00:00:00Z");
    let calls = logs.calls.expected(month.clone(), now());
    let values = |label: &str| calls.by(&[label]).into_keys().flatten().collect::<Vec<_>>();
    assert_eq!(values("currency"), ["EUR", "GBP", "USD"]);
    assert_eq!(
        values("license_capability"),
        [
            "MCOFUTURE",
            "MCOMEETADD",
            "MCOPSTN1",
            "MCOPSTN2",
            "MCOPSTNPP"
        ]
    );
    assert_eq!(values("call_type").len(), 12);
    assert!(values("destination").contains(&"Côte d'Ivoire".to_owned()));
    assert!(values("user").contains(&String::new()), "bots have none");
    for (key, amounts) in calls.by(&["destination_context", "call_type"]) {
        assert_eq!(key[0].is_empty(), key[1].ends_with("_in"), "{key:?}");
        assert!(!key[1].ends_with("_in") || amounts.charge == 0);
    }
    for (currency, amounts) in calls.by(&["currency"]) {
        let units = amounts.charge / 10_000;
        assert!((100..100_000).contains(&units), "{currency:?} {units}");
        assert!(amounts.connection_charge > 0);
    }
    let failed = logs.direct_routing.expected(month.clone(), now());
    let by = failed.by(&["success"]);
    let (yes, no) = (by[&["true".to_owned()][..]], by[&["false".to_owned()][..]]);
    assert!(yes.rows > 5 * no.rows && no.rows > 100 && no.seconds == 0);
    assert!(failed.by(&["trunk"]).len() == 4);
    let messages = logs.sms.expected(month.clone(), now());
    assert_eq!(messages.by(&["direction"]).len(), 3);
    assert!(messages.total().units > 2 * messages.total().rows);
    let events = logs.blocked_users.expected(month, now()).total().rows;
    assert!((8..30).contains(&events), "{events}");
}

#[test]
fn some_people_of_a_company_are_blocked_on_any_day() {
    let logs = Logs::of(&Arc::new(Company::new(1, 400)));
    for day in 0..2 * 366 {
        let now = time("2026-01-01T00:00:00Z") + TimeDelta::days(day);
        let period = now - TimeDelta::days(89)..now;
        let blocked = logs.blocked_users.blocked(period, now);
        assert!((1..=12).contains(&blocked), "{now}: {blocked}");
    }
}

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}
