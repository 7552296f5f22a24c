//! Shared parts of the benches: pages as Graph sends them, and a clock that counts only the time this thread ran.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::DateTime;
use rustix::time::{ClockId, clock_gettime};
use teams_pstn_exporter::period::{BillingPeriod, CycleDay};
use teams_pstn_exporter::report::allocation::Allocation;
use teams_pstn_exporter::report::labels::{RenderContext, RetainedSeries, UserLabel};

/// Rows of a page of Graph's.
pub(crate) const PAGE: usize = 1_000;

/// CPU time of this thread. On a machine that others use too, the wall clock measures the others.
pub(crate) fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("CPU time does not run below zero")
}

/// So many rows in pages, each row of another person, in no order: the worst case for everything that looks up, sorts
/// or folds. About 340 bytes a row, with names, places and charges as unequal as in a directory.
pub(crate) fn pages(rows: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut people: Vec<usize> = (0..rows).collect();
    random.shuffle(&mut people);
    people
        .chunks(PAGE)
        .map(|people| page(people, &mut random))
        .collect()
}

fn page(people: &[usize], random: &mut fastrand::Rng) -> String {
    let mut page = String::from(
        r#"{"@odata.context":"https://graph.microsoft.com/beta/$metadata#Collection(microsoft.graph.callRecords.pstnOnlineMeetingDialoutReport)","@odata.count":1000,"value":["#,
    );
    for (index, &person) in people.iter().enumerate() {
        if index > 0 {
            page.push(',');
        }
        let first = FIRST[person % FIRST.len()];
        let last = LAST[person / FIRST.len() % LAST.len()];
        let (location, currency) = PLACES[random.usize(..PLACES.len())];
        let context = ["Domestic", "International"][random.usize(..2)];
        let id = u128::from(random.u64(..)) << 64 | u128::from(random.u64(..));
        let (units, fraction) = (random.u32(..200), random.u32(..10_000));
        let charge = match random.usize(..3) {
            0 => format!("{units}.{:02}", fraction / 100),
            1 => format!("{units}.{:03}", fraction / 10),
            _ => format!("{units}.{fraction:04}"),
        };
        write!(
            page,
            r#"{{"userId":"{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}","userPrincipalName":"{}.{}{person}@contoso.com","userDisplayName":"{first} {last}","usageLocation":"{location}","destinationContext":"{context}","currency":"{currency}","totalCalls":{},"totalCallCharge":{charge},"totalCallSeconds":{}}}"#,
            id >> 96,
            id >> 80 & 0xffff,
            id >> 64 & 0xfff,
            id >> 48 & 0xfff,
            id & 0xffff_ffff_ffff,
            first.to_lowercase(),
            last.to_lowercase(),
            random.u32(1..90),
            random.u32(60..50_000),
        )
        .expect("writing to a string does not fail");
    }
    page.push_str("]}");
    page
}

/// The context of a daemon without a word of configuration, but with room for all.
pub(crate) fn with_context<T>(work: impl FnOnce(&RenderContext<'_>) -> T) -> T {
    work(&RenderContext {
        tenant: None,
        period: BillingPeriod::containing(DateTime::UNIX_EPOCH, CycleDay::default()),
        user_label: &UserLabel::Upn,
        series_max: usize::MAX,
        allocation: &Allocation::default(),
        retained: &RetainedSeries::default(),
    })
}

const FIRST: &[&str] = &[
    "Ruwini",
    "Ann",
    "Bogdan",
    "Chiara",
    "Deniz",
    "Elif",
    "Farid",
    "Grace",
    "Hiroshi",
    "Ingrid",
    "Jan",
    "Katarzyna",
    "Luis",
    "Maryam",
    "Nguyen",
    "Olga",
    "Priya",
];

const LAST: &[&str] = &[
    "Perera",
    "Schmidt",
    "Okafor",
    "Rossi",
    "Yilmaz",
    "Nowak",
    "Haddad",
    "Hopper",
    "Tanaka",
    "Larsen",
    "Kowalska",
    "Garcia",
    "Ahmadi",
    "Tran",
    "Ivanova",
    "Sharma",
    "Lindqvist",
    "Smith",
    "OBrien",
];

const PLACES: &[(&str, &str)] = &[
    ("US", "USD"),
    ("GB", "GBP"),
    ("DE", "EUR"),
    ("NL", "EUR"),
    ("IN", "USD"),
    ("FR", "EUR"),
    ("CH", "CHF"),
    ("JP", "JPY"),
];
