//! `getPstnBlockedUsersLog`: users who were blocked from dialling out and unblocked again, in beta only.
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnblockeduserslogrow?view=graph-rest-beta>

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::address::Version;
use super::calls::{Text, label_value, user_label};
use super::company::Company;
use super::log::{Log, LogRow};
use super::object::Object;
use super::people::User;
use super::rng::{Rng, mixed};
use super::sums::Amounts;
use super::traffic::Stamp;

/// An event. `None` is written as null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEvent {
    /// Time of arrival in the log.
    pub arrival: DateTime<Utc>,
    /// Time of the event, which Graph writes with seven decimals.
    pub time: DateTime<Utc>,
    /// The blocked or unblocked user.
    pub user: Option<User>,
    /// `Blocked` or `Unblocked`, in upper or lower case.
    pub mode: Option<Text>,
    /// The reason of the block.
    pub reason: Option<Text>,
    /// The remediation id.
    pub remediation: Uuid,
}

impl BlockEvent {
    /// A block because of high usage that arrived at once. Its user has a number.
    pub fn at(number: u32, time: DateTime<Utc>) -> Self {
        Self {
            arrival: time,
            time,
            user: Some(User::numbered(number)),
            mode: Some("Blocked".into()),
            reason: Some("High Overall Usage".into()),
            remediation: Uuid::from_u128(u128::from(number)),
        }
    }

    pub(super) fn make(company: &Company, stamp: &Stamp, rng: &mut Rng) -> Self {
        // The events of a week are about one person, who is blocked on the first days and may be unblocked on the last one. So
        // some people are blocked at any time, and few of them.
        let seconds = stamp.time.timestamp();
        let week = seconds.div_euclid(WEEK).cast_unsigned();
        let person = company.anyone(&mut Rng(mixed(company.seed ^ week)));
        let is_block = seconds.rem_euclid(WEEK) < BLOCKED;
        let (modes, reasons) = if is_block {
            (["Blocked", "blocked", "BLOCKED"], BLOCK_REASONS)
        } else {
            (["Unblocked", "unblocked", "UnBlocked"], UNBLOCK_REASONS)
        };
        Self {
            arrival: stamp.arrival,
            time: stamp.time,
            user: Some(person.user.clone()),
            mode: Some(rng.of(&modes).into()),
            reason: Some(rng.of(&reasons).into()),
            remediation: stamp.id,
        }
    }
}

impl Log<BlockEvent> {
    /// Number of users with a block as their newest arrived event of a period, which includes its start and excludes its
    /// end.
    pub fn blocked(&self, period: Range<DateTime<Utc>>, now: DateTime<Utc>) -> usize {
        let mut newest = BTreeMap::new();
        // In order of time, so that a later event replaces an earlier one.
        for event in self.rows(period, now) {
            let is_block = label_value(event.mode.as_ref()).eq_ignore_ascii_case("blocked");
            newest.insert(event.user.map(|user| user.id), is_block);
        }
        newest.values().filter(|is_block| **is_block).count()
    }
}

impl LogRow for BlockEvent {
    const LABELS: &'static [&'static str] = &["user", "mode", "reason"];

    /// The mode in lower case.
    fn labels(&self) -> Vec<String> {
        vec![
            user_label(self.user.as_ref()),
            label_value(self.mode.as_ref()).to_lowercase(),
            label_value(self.reason.as_ref()),
        ]
    }

    fn amounts(&self) -> Amounts {
        Amounts::row(0)
    }

    fn time(&self) -> DateTime<Utc> {
        self.time
    }

    fn arrival(&self) -> DateTime<Utc> {
        self.arrival
    }

    fn json(&self, _: Version) -> String {
        Object::new()
            .user(self.user.as_ref())
            .time("blockDateTime", self.time)
            .text("userTelephoneNumber", Some("+37212345678"))
            .text("userBlockMode", self.mode.as_deref())
            .text("blockReason", self.reason.as_deref())
            .plain("remediationId", format_args!("\"{}\"", self.remediation))
            .close()
    }
}

/// Seconds of a week.
const WEEK: i64 = 7 * 86_400;

/// Seconds from the start of a week, during which people are blocked and not unblocked.
const BLOCKED: i64 = 6 * 86_400;

const BLOCK_REASONS: [&str; 3] = [
    "High Overall Usage",
    "High International Usage",
    "Tenant Requested",
];

const UNBLOCK_REASONS: [&str; 3] = ["Tenant Requested", "Tenant Requested", "Expired"];
