//! Blocked users. Microsoft blocks the calls of users whom it suspects of fraud.
//!
//! The source is a log of events, not a list of blocked users. A user counts as blocked if a block was not followed by
//! an unblock. The report reads the events of the last 89 days, because Graph refuses queries for more than 90 days. It
//! misses users whose newest block is older.
//!
//! A blocked user has a series only if samples have the label `user`, because the times of several users cannot be
//! added up.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnblockeduserslog>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnblockeduserslogrow>

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::column::COUNTS_MAX;
use super::interner::{Interner, OTHER, UNKNOWN, label};
use super::labels::RenderContext;
use super::log::{MONEY_MAX, Record};
use super::person_table::{PersonId, PersonTable};
use super::row::{Notes, RowError, Shown, Text, padded, row};
use super::{AggregatedReport, Count, Rendered, Report, ReportInfo};
use crate::exposition::{Family, Samples, gauges, label_block};
use crate::graph::Version;
use crate::money::Amount;
use crate::period::{BillingPeriod, EndBound, Window};

/// `getPstnBlockedUsersLog`, which only the beta version of Graph has.
pub struct BlockedUsers;

row! {
    /// `pstnBlockedUsersLogRow`.
    Row<'a> {
        user_id: Text<'a>,
        user_principal_name: Shown<'a>,
        user_display_name: Shown<'a>,
        block_date_time: Text<'a>,
        user_telephone_number: Shown<'a>,
        user_block_mode: Shown<'a>,
        block_reason: Shown<'a>,
        remediation_id: Text<'a>,
    }
}

/// Every event, with interned text. Telephone numbers are never exported.
#[derive(Default)]
pub struct Totals {
    texts: Interner,
    persons: PersonTable,
    events: Vec<Event>,
}

/// A block or unblock event. Events are ordered by user, time and mode. If a user has a block and an unblock at the
/// same time, the block counts as the newer event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    user: u32,
    time: DateTime<Utc>,
    mode: Mode,
    reason: u32,
    remediation: u32,
    person: PersonId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Any other mode, with the id of its text. Microsoft may add values.
    Other(u32),
    Unblocked,
    Blocked,
}

static BLOCKED: Family = Family::gauge(
    "teams_pstn_blocked_users",
    "Users who were blocked in the last 89 days and not unblocked since. As of the last complete report.",
);

static SINCE: Family = Family::gauge(
    "teams_pstn_blocked_users_since_timestamp_seconds",
    "When a currently blocked user was blocked, as Unix time; if several users have the same labels, the newest time. As of the \
     last complete report.",
);

static EVENTS: Family = Family::gauge(
    "teams_pstn_blocked_users_events",
    "Blocks and unblocks of users in the current billing period. As of the last complete report.",
);

impl Report for BlockedUsers {
    const INFO: ReportInfo = ReportInfo {
        name: "blocked_users",
        function: "getPstnBlockedUsersLog",
        version: Version::Beta,
        // Microsoft does not document whether the end of the time range is included. This bound is safe: an export of
        // more than 90 days has several windows, and no event is in two of them.
        end: EndBound::LastTick,
        properties: Row::PROPERTIES,
        labels: &[],
        columns: &[],
        other_families: &[&BLOCKED, &SINCE, &EVENTS],
    };
    type Row<'a> = Row<'a>;

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        Ok(Record {
            id: "",
            time: row.block_date_time().time()?,
            person: row.person(notes)?,
            labels: padded([]),
            money: [Amount::default(); MONEY_MAX],
            counts: [0; COUNTS_MAX],
        })
    }
}

impl AggregatedReport for BlockedUsers {
    type Totals = Totals;

    fn windows(_: BillingPeriod, now: DateTime<Utc>) -> Vec<Window> {
        vec![Window::last(now, LOOKBACK)]
    }

    fn add(totals: &mut Totals, row: Row<'_>, notes: &mut Notes) -> Result<(), RowError> {
        let time = row.block_date_time().time()?;
        let person = row.person(notes)?;
        let [id, principal_name, _] = person;
        let names = [id, principal_name, row.user_telephone_number().shown(notes)];
        let user = names.into_iter().find(|name| !name.is_empty());
        // Rejects an event that names no user (id, name or telephone number): all such events would count for one user.
        let user = user.ok_or(row.user_id().missing())?;
        let mode = row.user_block_mode().shown(notes);
        let event = Event {
            user: totals.texts.intern(&user.to_lowercase()),
            time: time.ok_or(row.block_date_time().missing())?,
            mode: match mode.to_lowercase().as_str() {
                "blocked" => Mode::Blocked,
                "unblocked" => Mode::Unblocked,
                "" => Mode::Other(totals.texts.intern(UNKNOWN)),
                other => Mode::Other(totals.texts.intern(other)),
            },
            reason: totals.texts.intern(label(row.block_reason().shown(notes))),
            remediation: totals.texts.intern(row.remediation_id().text()?),
            person: totals.persons.intern(person),
        };
        totals.events.push(event);
        Ok(())
    }

    fn rows(totals: &Totals) -> usize {
        totals.events.len()
    }

    fn bytes(totals: &Totals) -> usize {
        totals.texts.bytes() + totals.persons.bytes() + size_of_val(&*totals.events)
    }

    fn truncate(totals: &mut Totals, rows: usize) {
        totals.events.truncate(rows);
    }

    fn render(totals: Totals, context: &RenderContext<'_>) -> Rendered {
        let (texts, persons, mut events) = (totals.texts, totals.persons, totals.events);
        let received = events.len();
        events.sort_unstable();
        // Overlapping pages return the same event twice.
        events.dedup();
        let blocks: Vec<&Event> = events
            .chunk_by(|a, b| a.user == b.user)
            .filter_map(current_block)
            .collect();
        let (since, aggregated) = since(&blocks, &texts, &persons, context);
        let mut by_kind: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let in_period = |event: &&Event| context.period.contains(event.time);
        for event in events.iter().filter(in_period) {
            let mode = match event.mode {
                Mode::Blocked => "blocked",
                Mode::Unblocked => "unblocked",
                Mode::Other(mode) => texts.text(mode),
            };
            *by_kind.entry((mode, texts.text(event.reason))).or_default() += 1;
        }
        let blocked = i64::try_from(blocks.len()).expect("fewer than rows");
        Rendered {
            samples: samples(blocked, &since, &by_kind, context.tenant),
            counts: vec![
                Count::new("blocked users", blocked),
                Count::new("block events", by_kind.values().sum()),
            ],
            rows: events.len() as u64,
            newest: events.iter().map(|event| event.time).max(),
            overlapping: (received - events.len()) as u64,
            users: since.len() as u64,
            aggregated,
            ..Rendered::default()
        }
    }
}

/// The event that began the current block of a user, if the user is blocked. `events` are the sorted events of one
/// user.
fn current_block(events: &[Event]) -> Option<&Event> {
    // An unknown mode may mean anything, so it does not end a block.
    let known = events.iter().rev();
    let known = known.filter(|event| !matches!(event.mode, Mode::Other(_)));
    let blocks = known.take_while(|event| event.mode == Mode::Blocked);
    blocks.last()
}

/// The start of each user's current block, and the number of series that are aggregated into `__other__`. If there are
/// more than `max_series` series, those with the oldest blocks are aggregated.
fn since<'t>(
    blocks: &[&Event],
    texts: &'t Interner,
    persons: &PersonTable,
    context: &RenderContext<'_>,
) -> (Since<'t>, u64) {
    let mut since = Since::new();
    if !context.user_label.names_users() {
        return (since, 0);
    }
    for event in blocks {
        let user = context.user_label.label(persons.names(event.person));
        let newest = since.entry((texts.text(event.reason), user.into_owned()));
        let newest = newest.or_insert(event.time);
        *newest = (*newest).max(event.time);
    }
    if since.len() <= context.series_max {
        return (since, 0);
    }
    let mut newest_first: Vec<_> = since.into_iter().collect();
    newest_first.sort_by_key(|&(_, time)| Reverse(time));
    let oldest = newest_first.split_off(context.series_max.saturating_sub(1));
    let other = (OTHER, OTHER.to_owned());
    let newest_other = oldest.iter().map(|&(_, time)| (other.clone(), time));
    let since = newest_first.into_iter().chain(newest_other.take(1));
    (since.collect(), oldest.len() as u64)
}

/// The time at which the current block began, by reason and user label. If several users share a label, their newest
/// block counts.
type Since<'t> = BTreeMap<(&'t str, String), DateTime<Utc>>;

fn samples(
    blocked: i64,
    since: &Since<'_>,
    by_kind: &BTreeMap<(&str, &str), i64>,
    tenant: Option<&str>,
) -> Vec<Samples> {
    let blocked = (label_block([("tenant", tenant)]), blocked.into());
    let times = since.iter().map(|((reason, user), time)| {
        let labels = [
            ("reason", Some(*reason)),
            ("tenant", tenant),
            ("user", Some(user)),
        ];
        (label_block(labels), time.timestamp().into())
    });
    let events = by_kind.iter().map(|(&(mode, reason), &count)| {
        let labels = [
            ("event", Some(mode)),
            ("reason", Some(reason)),
            ("tenant", tenant),
        ];
        (label_block(labels), count.into())
    });
    [
        gauges(&BLOCKED, [blocked]),
        gauges(&SINCE, times),
        gauges(&EVENTS, events),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Width of the fetched window, which ends now. Graph answers 406 to more than 90 days. Microsoft does not say
/// if Graph accepts exactly 90.
const LOOKBACK: TimeDelta = TimeDelta::days(89);

#[cfg(test)]
mod tests {
    use super::super::allocation::Allocation;
    use super::super::labels::{RetainedSeries, UserLabel};
    use super::*;
    use crate::exposition::Format;
    use crate::period::CycleDay;

    fn row(json: &str) -> Row<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_unknown_mode_neither_blocks_nor_unblocks() {
        for (modes, blocked) in [
            (&["blocked"][..], 1),
            (&["blocked", "suspended"], 1),
            (&["blocked", ""], 1),
            (&["blocked", "suspended", "unblocked"], 0),
            (&["blocked", "unblocked", "suspended"], 0),
            (&["suspended"], 0),
            (&["suspended", "blocked"], 1),
        ] {
            let mut totals = Totals::default();
            for (second, mode) in modes.iter().enumerate() {
                let json = format!(
                    r#"{{"userId":"1","blockDateTime":"2026-11-21T12:00:0{second}Z","userBlockMode":"{mode}"}}"#
                );
                BlockedUsers::add(&mut totals, row(&json), &mut Notes::default()).unwrap();
            }
            let now = "2026-11-21T13:00:00Z".parse().unwrap();
            let rendered = BlockedUsers::render(
                totals,
                &RenderContext {
                    tenant: None,
                    period: BillingPeriod::containing(now, CycleDay::default()),
                    user_label: &UserLabel::None,
                    series_max: 1,
                    allocation: &Allocation::default(),
                    retained: &RetainedSeries::default(),
                },
            );
            assert_eq!(rendered.counts[0].value, blocked, "{modes:?}");
            assert_eq!(rendered.rows, modes.len() as u64, "{modes:?}");
        }
    }

    /// The series of users that are blocked, after these events: user, second, mode and reason.
    fn since(
        events: &[(&str, u32, &str, &str)],
        user_label: &UserLabel,
        series_max: usize,
    ) -> (Vec<String>, u64) {
        let mut totals = Totals::default();
        for (user, second, mode, reason) in events {
            let json = format!(
                r#"{{"userId":"id-{user}","userPrincipalName":"{user}@x","userDisplayName":"{}","blockDateTime":"1970-01-01T00:00:{second:02}.9Z","userBlockMode":"{mode}","blockReason":"{reason}"}}"#,
                &user[..1]
            );
            BlockedUsers::add(&mut totals, row(&json), &mut Notes::default()).unwrap();
        }
        let rendered = BlockedUsers::render(
            totals,
            &RenderContext {
                tenant: Some("t"),
                period: BillingPeriod::containing(DateTime::UNIX_EPOCH, CycleDay::default()),
                user_label,
                series_max,
                allocation: &Allocation::default(),
                retained: &RetainedSeries::default(),
            },
        );
        let mut out = Vec::new();
        for samples in &rendered.samples {
            samples.write(Format::Text, &mut out);
        }
        let prefix = "teams_pstn_blocked_users_since_timestamp_seconds";
        let lines = String::from_utf8(out).unwrap();
        let lines = lines.lines().filter_map(|line| line.strip_prefix(prefix));
        (lines.map(str::to_owned).collect(), rendered.aggregated)
    }

    #[test]
    fn blocked_users_have_the_time_at_which_their_block_began() {
        let events = [
            ("ann", 1, "blocked", "a"),
            ("ann", 2, "unblocked", "b"),
            ("ann", 5, "Blocked", "c"),
            ("ann", 7, "blocked", "d"),
            ("ann", 8, "suspended", "e"),
            ("ben", 3, "blocked", "a"),
            ("ben", 4, "unblocked", "a"),
            ("amy", 6, "blocked", "c"),
            ("cy", 9, "blocked", ""),
        ];
        let series = |reason: &str, user: &str, time: u32| {
            format!(r#"{{reason="{reason}",tenant="t",user="{user}"}} {time}"#)
        };
        let all = vec![
            series("c", "amy@x", 6),
            series("c", "ann@x", 5),
            series("unknown", "cy@x", 9),
        ];
        assert_eq!(since(&events, &UserLabel::Upn, 3), (all, 0));
        let newest = vec![
            series("__other__", "__other__", 6),
            series("unknown", "cy@x", 9),
        ];
        assert_eq!(since(&events, &UserLabel::Upn, 2), (newest, 2));
        let other = vec![series("__other__", "__other__", 9)];
        assert_eq!(since(&events, &UserLabel::Upn, 1), (other, 3));
        // Two users have this name.
        let named = vec![series("c", "a", 6), series("unknown", "c", 9)];
        assert_eq!(since(&events, &UserLabel::DisplayName, 2), (named, 0));
        assert_eq!(since(&events, &UserLabel::None, 3), (Vec::new(), 0));
    }

    #[test]
    fn row_without_a_user_is_an_error() {
        for (user, added) in [
            ("", Err(row("{}").user_id().missing())),
            (
                r#""userId":"","userPrincipalName":null,"#,
                Err(row("{}").user_id().missing()),
            ),
            (r#""userTelephoneNumber":"+37212345678","#, Ok(())),
            (r#""userPrincipalName":"ann@contoso.com","#, Ok(())),
            (r#""userId":"1","#, Ok(())),
        ] {
            let json = format!(
                r#"{{{user}"blockDateTime":"2026-11-21T12:00:00Z","userBlockMode":"blocked"}}"#
            );
            let mut totals = Totals::default();
            let result = BlockedUsers::add(&mut totals, row(&json), &mut Notes::default());
            assert_eq!(result, added, "{user}");
        }
    }
}
