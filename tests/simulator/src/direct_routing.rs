//! `getDirectRoutingCalls`: calls over the customer's own trunks, which cost nothing here.
//! <https://learn.microsoft.com/graph/api/resources/callrecords-directroutinglogrow?view=graph-rest-beta>

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::address::Version;
use super::calls::{ADMINISTRATIVE_UNIT, Text, told};
use super::dice::Dice;
use super::log::LogRow;
use super::object::Object;
use super::people::User;
use super::scenario::Company;
use super::sums::Amounts;
use super::traffic::Stamp;

/// A call. What is `None` comes as null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectRoutingCall {
    /// Tells rows apart.
    pub id: Uuid,
    /// Since when the log shows it.
    pub arrival: DateTime<Utc>,
    /// When it began, of which Graph tells seven decimals.
    pub start: DateTime<Utc>,
    /// Its length; a failed call has none.
    pub seconds: u32,
    /// None for a bot.
    pub user: Option<User>,
    /// Of the user, as an ISO 3166 code; told in beta only.
    pub user_country: Option<Text>,
    /// `ByotIn`, …
    pub call_type: Option<Text>,
    /// Whether somebody answered.
    pub is_successful: Option<bool>,
    /// 0 for one that ended well.
    pub sip_code: Option<i32>,
    /// What stands beside the code.
    pub sip_phrase: Option<Text>,
    /// The name of the session border controller.
    pub trunk: Option<Text>,
    /// Who called.
    pub caller: String,
    /// Who was called.
    pub callee: String,
}

impl DirectRoutingCall {
    /// A successful minute over the first trunk, known at once; its id and user are numbered.
    #[must_use]
    pub fn at(number: u32, start: DateTime<Utc>) -> Self {
        Self {
            id: Uuid::from_u128(u128::from(number)),
            arrival: start,
            start,
            seconds: 60,
            user: Some(User::numbered(number)),
            user_country: Some("US".into()),
            call_type: Some("ByotOut".into()),
            is_successful: Some(true),
            sip_code: Some(0),
            sip_phrase: Some("BYE".into()),
            trunk: Some(TRUNKS[0].into()),
            caller: "+1425555***".to_owned(),
            callee: "+1206555***".to_owned(),
        }
    }

    pub(super) fn make(company: &Company, stamp: &Stamp, dice: &mut Dice) -> Self {
        let person = company.anyone(dice);
        let call_type = match dice.below(100) {
            0..40 => "ByotOut",
            40..80 => "ByotIn",
            80..86 => "ByotOutUserForwarding",
            86..90 => "ByotOutUserTransfer",
            90..95 => "ByotInUcap",
            95..97 => "ByotOutUcap",
            97 => "dr_emergency_out",
            _ => "ByotFuture",
        };
        let is_successful = dice.below(100) < 92;
        let (sip_code, sip_phrase) = if is_successful {
            (0, "BYE")
        } else {
            dice.of(&FAILURES)
        };
        Self {
            id: stamp.id,
            arrival: stamp.arrival,
            start: stamp.time,
            seconds: if is_successful {
                5 + dice.below(600)
            } else {
                0
            },
            user: (!call_type.ends_with("Ucap")).then(|| person.user.clone()),
            user_country: Some(person.country.code.into()),
            call_type: Some(call_type.into()),
            is_successful: Some(is_successful),
            sip_code: Some(sip_code),
            sip_phrase: Some(sip_phrase.into()),
            trunk: Some(dice.of(&TRUNKS).into()),
            caller: dice.number(person.country.calling_code),
            callee: dice.number(person.country.calling_code),
        }
    }
}

impl LogRow for DirectRoutingCall {
    const LABELS: &'static [&'static str] = &[
        "user",
        "usage_location",
        "call_type",
        "success",
        "sip_code",
        "trunk",
    ];

    fn labels(&self) -> Vec<String> {
        let number = |value: Option<i32>| value.map_or_else(String::new, |value| value.to_string());
        vec![
            self.user
                .as_ref()
                .map_or_else(String::new, |user| user.id.to_string()),
            told(self.user_country.as_ref()),
            told(self.call_type.as_ref()),
            self.is_successful
                .map_or_else(String::new, |is| is.to_string()),
            number(self.sip_code),
            told(self.trunk.as_ref()),
        ]
    }

    fn amounts(&self) -> Amounts {
        Amounts::row(self.seconds)
    }

    fn time(&self) -> DateTime<Utc> {
        self.start
    }

    fn arrival(&self) -> DateTime<Utc> {
        self.arrival
    }

    fn json(&self, version: Version) -> String {
        let (begin, end) = (
            self.start,
            self.start + TimeDelta::seconds(i64::from(self.seconds)),
        );
        let has_failed = self.is_successful == Some(false);
        let object = Object::new()
            .plain("id", format_args!("\"{}\"", self.id))
            .plain(
                "correlationId",
                format_args!("\"{}\"", Uuid::from_u128(!self.id.as_u128())),
            )
            .user(self.user.as_ref())
            .time("startDateTime", begin)
            .time("inviteDateTime", begin - TimeDelta::milliseconds(3_156))
            .time("failureDateTime", if has_failed { begin } else { UNSET })
            .time("endDateTime", if has_failed { UNSET } else { end })
            .plain("duration", self.seconds)
            .text("callType", self.call_type.as_deref())
            .number("successfulCall", self.is_successful)
            .text("callerNumber", Some(&self.caller))
            .text("calleeNumber", Some(&self.callee))
            .text("mediaPathLocation", Some("USWE"))
            .text("signalingLocation", Some("EUNO"))
            .number("finalSipCode", self.sip_code)
            .plain(
                "callEndSubReason",
                if has_failed { 560_486 } else { 540_000 },
            )
            .text("finalSipCodePhrase", self.sip_phrase.as_deref())
            .text("trunkFullyQualifiedDomainName", self.trunk.as_deref())
            .plain("mediaBypassEnabled", false);
        if version == Version::V1 {
            return object.close();
        }
        object
            .text("userCountryCode", self.user_country.as_deref())
            .text("transferorCorrelationId", None)
            .text("otherPartyCountryCode", self.user_country.as_deref())
            .units(&[ADMINISTRATIVE_UNIT])
            .close()
    }
}

/// What the service tells of a time that there is none of: the beginning of the year 1.
const UNSET: DateTime<Utc> = DateTime::from_timestamp(-62_135_596_800, 0)
    .expect("a DateTime reaches back further than the calendar");

const TRUNKS: [&str; 4] = [
    "sbc1.contoso.com",
    "sbc2.contoso.com",
    "sbc-ams.contoso.com",
    "tll-audiocodes01.adatum.biz",
];

const FAILURES: [(i32, &str); 9] = [
    (403, "Forbidden"),
    (404, "Not Found"),
    (408, "Request Timeout"),
    (480, "Temporarily Unavailable"),
    (486, "Busy Here"),
    (487, "Request Terminated"),
    (500, "Server Internal Error"),
    (503, "Service Unavailable"),
    (603, "Decline"),
];
