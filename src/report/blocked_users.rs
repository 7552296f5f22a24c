//! Blocked users: Microsoft blocks calls of users whom it suspects of fraud.
//!
//! The source is a log of events, not a list of blocked users, so a user who was blocked and not unblocked since counts
//! as blocked. The report reads the events of the last 89 days, which is all that Graph returns for one query. An older
//! block is not seen.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnblockeduserslog>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnblockeduserslogrow>

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::column::COUNTS_MAX;
use super::interner::{Interner, UNKNOWN, label};
use super::labels::RenderContext;
use super::log::{MONEY_MAX, Record};
use super::row::{Notes, RowError, Shown, Text, padded, person, row};
use super::{Count, Rendered, Report, ReportInfo};
use crate::exposition::{Family, FamilyWriter, Samples, write_label};
use crate::graph::Version;
use crate::money::{Amount, Sum};
use crate::period::{BillingPeriod, EndBound, Window};

/// `getPstnBlockedUsersLog`, of the beta version only.
pub struct BlockedUsers;

row! {
    /// `pstnBlockedUsersLogRow`.
    Row<'a> {
        user_id: Text<'a>,
        user_principal_name: Shown<'a>,
        user_display_name: Shown<'a>,
        user_telephone_number: Shown<'a>,
        block_date_time: Text<'a>,
        user_block_mode: Shown<'a>,
        block_reason: Shown<'a>,
        remediation_id: Text<'a>,
    }
}

/// Every event, with interned text. Names of users are never exported.
#[derive(Default)]
pub struct Totals {
    texts: Interner,
    events: Vec<Event>,
}

/// One block or unblock; ordered by user, then by time, so that of two at the same time the block is the newest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    user: u32,
    time: DateTime<Utc>,
    mode: Mode,
    reason: u32,
    remediation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Any other mode, by its text: Microsoft may add values.
    Other(u32),
    Unblocked,
    Blocked,
}

static BLOCKED: Family = Family::gauge(
    "teams_pstn_blocked_users",
    "Users who were blocked and not unblocked since, by the log of blocked users of the last 89 days. Cached: from the last \
     complete report.",
);

static EVENTS: Family = Family::gauge(
    "teams_pstn_blocked_users_events",
    "Blocks and unblocks of users in the current billing period. Cached: from the last complete report.",
);

impl Report for BlockedUsers {
    const INFO: ReportInfo = ReportInfo {
        name: "blocked_users",
        function: "getPstnBlockedUsersLog",
        version: Version::Beta,
        has_money: false,
        has_previous: false,
    };
    const FAMILIES: &'static [&'static Family] = &[&BLOCKED, &EVENTS];
    // The page does not say; there is one window only, so nothing can come twice.
    const END: EndBound = EndBound::Inclusive;
    const PROPERTIES: &'static [&'static str] = &[
        "user_id",
        "user_principal_name",
        "user_display_name",
        "block_date_time",
        "user_telephone_number",
        "user_block_mode",
        "block_reason",
        "remediation_id",
    ];
    type Row<'a> = Row<'a>;
    type Totals = Totals;

    fn windows(_: BillingPeriod, now: DateTime<Utc>) -> Vec<Window> {
        vec![Window::last(now, LOOKBACK)]
    }

    fn add(totals: &mut Totals, row: Row<'_>, notes: &mut Notes) -> Result<(), RowError> {
        totals.add(&row, notes)
    }

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        Ok(Record {
            id: "",
            time: row.block_date_time().time()?,
            person: person(
                &row.user_id(),
                &row.user_principal_name(),
                &row.user_display_name(),
                notes,
            )?,
            labels: padded([]),
            money: [Amount::default(); MONEY_MAX],
            counts: [0; COUNTS_MAX],
        })
    }

    fn rows(totals: &Totals) -> usize {
        totals.events.len()
    }

    fn bytes(totals: &Totals) -> usize {
        totals.texts.bytes() + size_of_val(&*totals.events)
    }

    fn truncate(totals: &mut Totals, rows: usize) {
        totals.events.truncate(rows);
    }

    fn render(totals: Totals, context: &RenderContext<'_>) -> Rendered {
        totals.render(context)
    }
}

impl Totals {
    fn add(&mut self, row: &Row<'_>, notes: &mut Notes) -> Result<(), RowError> {
        let time = row.block_date_time().time()?;
        let names = [
            row.user_id().text()?,
            row.user_principal_name().shown(notes),
            row.user_telephone_number().shown(notes),
        ];
        let user = names.into_iter().find(|name| !name.is_empty());
        // Else all of them would be taken for one.
        let user = user.ok_or(row.user_id().missing())?;
        let mode = row.user_block_mode().shown(notes);
        let event = Event {
            user: self.texts.intern(&user.to_lowercase()),
            time: time.ok_or(row.block_date_time().missing())?,
            mode: match mode.to_lowercase().as_str() {
                "blocked" => Mode::Blocked,
                "unblocked" => Mode::Unblocked,
                "" => Mode::Other(self.texts.intern(UNKNOWN)),
                other => Mode::Other(self.texts.intern(other)),
            },
            reason: self.texts.intern(label(row.block_reason().shown(notes))),
            remediation: self.texts.intern(row.remediation_id().text()?),
        };
        self.events.push(event);
        Ok(())
    }

    fn render(self, context: &RenderContext<'_>) -> Rendered {
        let Self { texts, mut events } = self;
        let received = events.len();
        events.sort_unstable();
        // Pages may overlap.
        events.dedup();
        let newest_blocks = |events: &&[Event]| {
            // An unknown mode may mean anything, so it does not end a block.
            let mut known = events.iter().rev().map(|event| event.mode);
            known.find(|mode| !matches!(mode, Mode::Other(_))) == Some(Mode::Blocked)
        };
        let blocked = events
            .chunk_by(|a, b| a.user == b.user)
            .filter(newest_blocks)
            .count();
        let mut by_kind: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let within = |event: &&Event| {
            context.period.start() <= event.time && event.time < context.period.end()
        };
        for event in events.iter().filter(within) {
            let mode = match event.mode {
                Mode::Blocked => "blocked",
                Mode::Unblocked => "unblocked",
                Mode::Other(mode) => texts.text(mode),
            };
            *by_kind.entry((mode, texts.text(event.reason))).or_default() += 1;
        }
        let blocked = i64::try_from(blocked).expect("fewer than rows");
        let counts = [
            ("blocked users", blocked),
            ("block events", by_kind.values().sum()),
        ];
        Rendered {
            samples: samples(blocked, &by_kind, context.tenant),
            counts: counts
                .map(|(what, value)| Count {
                    what: what.into(),
                    value,
                })
                .into(),
            rows: events.len() as u64,
            overlapping: (received - events.len()) as u64,
            ..Rendered::default()
        }
    }
}

fn samples(
    blocked: i64,
    by_kind: &BTreeMap<(&str, &str), i64>,
    tenant: Option<&str>,
) -> Vec<Samples> {
    let write_tenant = |labels: &mut Vec<u8>| {
        if let Some(tenant) = tenant {
            write_label("tenant", tenant, labels);
        }
    };
    let mut users = FamilyWriter::new(&[&BLOCKED]);
    let mut labels = Vec::new();
    write_tenant(&mut labels);
    users.sample(&labels, |_, out| Sum::from(blocked).write_sample(out));
    let mut events = FamilyWriter::new(&[&EVENTS]);
    for (&(mode, reason), &count) in by_kind {
        let mut labels = Vec::new();
        write_label("event", mode, &mut labels);
        write_label("reason", reason, &mut labels);
        write_tenant(&mut labels);
        events.sample(&labels, |_, out| Sum::from(count).write_sample(out));
    }
    users.finish().chain(events.finish()).collect()
}

/// Graph answers 406 to more than 90 days, and whether exactly 90 will do is not documented.
const LOOKBACK: TimeDelta = TimeDelta::days(89);

#[cfg(test)]
mod tests {
    use super::super::allocation::Allocation;
    use super::super::labels::{RetainedSeries, UserLabel};
    use super::*;
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
                totals.add(&row(&json), &mut Notes::default()).unwrap();
            }
            let now = "2026-11-21T13:00:00Z".parse().unwrap();
            let rendered = totals.render(&RenderContext {
                tenant: None,
                period: BillingPeriod::containing(now, CycleDay::default()),
                user_label: &UserLabel::None,
                series_max: 1,
                allocation: &Allocation::default(),
                retained: &RetainedSeries::default(),
            });
            assert_eq!(rendered.counts[0].value, blocked, "{modes:?}");
            assert_eq!(rendered.rows, modes.len() as u64, "{modes:?}");
        }
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
            let notes = &mut Notes::default();
            assert_eq!(Totals::default().add(&row(&json), notes), added, "{user}");
        }
    }
}
