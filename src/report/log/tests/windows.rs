//! Tests that a row counts once, for any way in which the service assigns calls to windows.

use super::*;

/// The rows that a service returns for a window.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Calls that began in the window or, if `with_end`, at its end.
    ByStart { with_end: bool },
    /// Calls that ended in the window or, if `with_end`, at its end.
    ByEnd { with_end: bool },
    /// Calls that began in the window, or within this time before or after the window.
    Wider(TimeDelta),
}

impl Cut {
    fn brings(self, window: Window, call: &Call) -> bool {
        let within = |time, with_end| {
            window.start() <= time && (time < window.end() || with_end && time == window.end())
        };
        match self {
            Self::ByStart { with_end } => within(call.start, with_end),
            Self::ByEnd { with_end } => within(call.end, with_end),
            Self::Wider(by) => window.start() - by <= call.start && call.start < window.end() + by,
        }
    }
}

fn cuts() -> impl Strategy<Value = Cut> {
    let hours = [1, 14, 49, 24 * 40];
    prop_oneof![
        any::<bool>().prop_map(|with_end| Cut::ByStart { with_end }),
        any::<bool>().prop_map(|with_end| Cut::ByEnd { with_end }),
        select(hours.to_vec()).prop_map(|hours| Cut::Wider(TimeDelta::hours(hours))),
    ]
}

/// Calls from the end of October to the beginning of December. Many last over midnight, and some begin exactly at
/// midnight. Some have no id and equal values.
fn calls() -> impl Strategy<Value = Vec<Call>> {
    let start = prop_oneof![
        2 => -40 * 3_600_i64..32 * 86_400,
        1 => (-1_i64..33, select(vec![-3_600_i64, -60, 0, 60])).prop_map(|(day, off)| day * 86_400 + off),
    ];
    let seconds = prop_oneof![
        select(vec![0_i64, 60, 3_600]),
        0_i64..30 * 3_600,
        Just(30 * 3_600)
    ];
    let late = prop_oneof![Just(0_i64), 0_i64..48 * 3_600, Just(48 * 3_600)];
    let call = (start, seconds, late, 1_i64..100_000, 0_usize..8, 1_usize..3);
    vec(call, 0..40).prop_map(|calls| {
        let mut all = Vec::new();
        for (index, (start, seconds, late, charge, nameless, alike)) in
            calls.into_iter().enumerate()
        {
            let start = november().start() + TimeDelta::seconds(start);
            let end = start + TimeDelta::seconds(seconds);
            let id = format!("00000000-0000-4000-8000-{index:012x}");
            let call = Call {
                id: if nameless == 0 { String::new() } else { id },
                start,
                end,
                known: end + TimeDelta::seconds(late),
                user: "ann@x",
                charge,
                currency: "USD",
            };
            let times = if nameless == 0 { alike } else { 1 };
            all.extend(std::iter::repeat_n(call, times));
        }
        all
    })
}

/// A poll, and the rows that it receives.
#[derive(Clone, Copy, Debug)]
struct Poll {
    seconds: i64,
    /// True if the process has restarted since the last poll.
    restarted: bool,
    /// Number of windows that are answered before the first error.
    answered: usize,
    /// Number of rows of a page that the next page repeats.
    repeated: usize,
}

fn polls() -> impl Strategy<Value = Vec<Poll>> {
    let seconds = prop_oneof![
        0_i64..42 * 86_400,
        (0_i64..42, -1_i64..=1).prop_map(|(day, off)| (day * 86_400 + off).max(0))
    ];
    let answered = prop_oneof![2 => Just(usize::MAX), 1 => 0_usize..33];
    let poll = (seconds, any::<bool>(), answered, 0_usize..3);
    vec(poll, 1..10).prop_map(|mut polls| {
        polls.sort_unstable();
        let poll = |(seconds, restarted, answered, repeated)| Poll {
            seconds,
            restarted,
            answered,
            repeated,
        };
        polls.into_iter().map(poll).collect()
    })
}

/// The rows of a window, in pages that overlap like those of a growing log.
fn answer(
    cut: Cut,
    window: Window,
    now: DateTime<Utc>,
    calls: &[Call],
    repeated: usize,
) -> Vec<String> {
    let calls = calls
        .iter()
        .filter(|call| call.known <= now && cut.brings(window, call));
    let calls: Vec<&Call> = calls.collect();
    let mut rows = Vec::new();
    for (number, page) in calls.chunks(4).enumerate() {
        // Without an id, a repeated row cannot be distinguished from another row with the same values.
        let again = calls[..number * 4]
            .iter()
            .rev()
            .take(repeated)
            .filter(|call| !call.id.is_empty());
        rows.extend(again.chain(page).map(|call| call.json()));
    }
    rows
}

fn restarted(ledgers: &Ledgers) -> Ledgers {
    let saved = serde_json::to_string(&ledgers).expect("JSON");
    serde_json::from_str(&saved).expect("what was saved")
}

proptest! {
    /// After each successful poll, both periods have the known rows that began in them, each once. This holds however
    /// the service cuts its windows, and whenever polls run, fail or follow a restart.
    #[test]
    fn row_counts_once_whichever_window_brings_it(cut in cuts(), calls in calls(), polls in polls()) {
        let december = BillingPeriod::containing(at("2026-12-01T00:00:00Z"), CycleDay::default());
        let mut ledgers = Ledgers::default();
        for poll in polls {
            let now = november().start() + TimeDelta::seconds(poll.seconds);
            if poll.restarted {
                ledgers = restarted(&ledgers);
            }
            let current = BillingPeriod::containing(now, CycleDay::default());
            // The poller also polls the current period first, and then the previous period.
            for period in [current, current.previous()] {
                if ![november(), december].contains(&period) {
                    continue;
                }
                let mut answered = 0;
                let totals = poll_windows(&mut ledgers, period, now, now, |window| {
                    answered += 1;
                    (answered <= poll.answered)
                        .then(|| answer(cut, window, now, &calls, poll.repeated))
                });
                let Some(totals) = totals else {
                    continue;
                };
                let counted = calls
                    .iter()
                    .filter(|call| call.known <= now)
                    .filter(|call| period.start() <= call.start && call.start < period.end());
                let expected: Vec<i64> = counted.clone().map(|call| call.charge).collect();
                let found = rendered(totals, usize::MAX);
                let departments = departments::expected(counted);
                prop_assert_eq!(departments::found(&found), departments, "{} at {}", period, now);
                prop_assert_eq!(found.rows, expected.len() as u64, "{} at {}", period, now);
                let spent = found.spend.first().map_or("0", |spend| &spend.total);
                let spent = Amount::from_json(spent).expect("a sum");
                let sum = rust_decimal::Decimal::new(expected.iter().sum(), 4);
                prop_assert_eq!(spent, Amount::from(sum), "{} at {}", period, now);
                let is_narrow = !matches!(cut, Cut::Wider(by) if by > MARGIN);
                prop_assert!(found.unplaced == 0 || !is_narrow, "{} at {}", period, now);
            }
        }
    }
}
