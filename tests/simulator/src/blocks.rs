//! `getPstnBlockedUsersLog`: who was kept from dialling and who may again, in beta only.
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnblockeduserslogrow?view=graph-rest-beta>

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::address::Version;
use super::calls::{Text, told};
use super::dice::Dice;
use super::log::{Log, LogRow};
use super::object::Object;
use super::people::User;
use super::scenario::Company;
use super::sums::Amounts;
use super::traffic::Stamp;

/// An event. What is `None` comes as null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEvent {
    /// Since when the log shows it.
    pub arrival: DateTime<Utc>,
    /// When it happened, of which Graph tells seven decimals.
    pub time: DateTime<Utc>,
    /// Whom it befell.
    pub user: Option<User>,
    /// `Blocked` or `Unblocked`, in upper or lower case.
    pub mode: Option<Text>,
    /// Why.
    pub reason: Option<Text>,
    /// Of what was done about it.
    pub remediation: Uuid,
}

impl BlockEvent {
    /// A block for much usage that was known at once; its user is numbered.
    #[must_use]
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

    pub(super) fn make(company: &Company, stamp: &Stamp, dice: &mut Dice) -> Self {
        let is_block = dice.below(100) < 60;
        let (modes, reasons) = if is_block {
            (["Blocked", "blocked", "BLOCKED"], BLOCK_REASONS)
        } else {
            (["Unblocked", "unblocked", "UnBlocked"], UNBLOCK_REASONS)
        };
        Self {
            arrival: stamp.arrival,
            time: stamp.time,
            user: Some(company.anyone(dice).user.clone()),
            mode: Some(dice.of(&modes).into()),
            reason: Some(dice.of(&reasons).into()),
            remediation: stamp.id,
        }
    }
}

impl Log<BlockEvent> {
    /// How many users' newest event of a period that has arrived is a block; its first moment is in, its last is not.
    #[must_use]
    pub fn blocked(&self, period: Range<DateTime<Utc>>, now: DateTime<Utc>) -> usize {
        let mut newest = BTreeMap::new();
        // In the order of time, so that a later one replaces one before.
        for event in self.rows(period, now) {
            let is_block = told(event.mode.as_ref()).eq_ignore_ascii_case("blocked");
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
            self.user
                .as_ref()
                .map_or_else(String::new, |user| user.id.to_string()),
            told(self.mode.as_ref()).to_lowercase(),
            told(self.reason.as_ref()),
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

const BLOCK_REASONS: [&str; 3] = [
    "High Overall Usage",
    "High International Usage",
    "Tenant Requested",
];

const UNBLOCK_REASONS: [&str; 3] = ["Tenant Requested", "Tenant Requested", "Expired"];
