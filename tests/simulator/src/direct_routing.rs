//! `getDirectRoutingCalls`: calls over the customer's own trunks, which have no charge in this log.
//! <https://learn.microsoft.com/graph/api/resources/callrecords-directroutinglogrow?view=graph-rest-beta>

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::address::Version;
use super::calls::{ADMINISTRATIVE_UNIT, Text, label_value, user_label};
use super::company::Company;
use super::log::LogRow;
use super::object::Object;
use super::people::User;
use super::rng::Rng;
use super::sums::Amounts;
use super::traffic::Stamp;

/// A call. `None` is written as null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectRoutingCall {
    /// Unique id of the row.
    pub id: Uuid,
    /// Time of arrival in the log.
    pub arrival: DateTime<Utc>,
    /// Start time, which Graph writes with seven decimals.
    pub start: DateTime<Utc>,
    /// Duration; zero for a failed call.
    pub seconds: u32,
    /// The user; `None` for a bot.
    pub user: Option<User>,
    /// Country of the user, as an ISO 3166 code; in beta only.
    pub user_country: Option<Text>,
    /// `ByotIn`, …
    pub call_type: Option<Text>,
    /// True if the call was answered.
    pub is_successful: Option<bool>,
    /// SIP code of the end; 0 for a successful call.
    pub sip_code: Option<i32>,
    /// The phrase for the code.
    pub sip_phrase: Option<Text>,
    /// The name of the session border controller.
    pub trunk: Option<Text>,
    /// The caller's number.
    pub caller: String,
    /// The callee's number.
    pub callee: String,
}

impl DirectRoutingCall {
    /// A successful call of one minute over the first trunk that arrived at once. Its id and user have a number.
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

    pub(super) fn make(company: &Company, stamp: &Stamp, rng: &mut Rng) -> Self {
        let person = company.anyone(rng);
        let call_type = match rng.below(100) {
            0..40 => "ByotOut",
            40..80 => "ByotIn",
            80..86 => "ByotOutUserForwarding",
            86..90 => "ByotOutUserTransfer",
            90..95 => "ByotInUcap",
            95..97 => "ByotOutUcap",
            97 => "dr_emergency_out",
            _ => "ByotFuture",
        };
        let is_successful = rng.below(100) < 92;
        let (sip_code, sip_phrase) = if is_successful {
            (0, "BYE")
        } else {
            rng.of(&FAILURES)
        };
        Self {
            id: stamp.id,
            arrival: stamp.arrival,
            start: stamp.time,
            seconds: if is_successful { 5 + rng.below(600) } else { 0 },
            user: (!call_type.ends_with("Ucap")).then(|| person.user.clone()),
            user_country: Some(person.country.code.into()),
            call_type: Some(call_type.into()),
            is_successful: Some(is_successful),
            sip_code: Some(sip_code),
            sip_phrase: Some(sip_phrase.into()),
            trunk: Some(rng.of(&TRUNKS).into()),
            caller: rng.number(person.country.calling_code),
            callee: rng.number(person.country.calling_code),
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
            user_label(self.user.as_ref()),
            label_value(self.user_country.as_ref()),
            label_value(self.call_type.as_ref()),
            self.is_successful
                .map_or_else(String::new, |is| is.to_string()),
            number(self.sip_code),
            label_value(self.trunk.as_ref()),
        ]
    }

    fn amounts(&self) -> Amounts {
        Amounts {
            failed: (self.is_successful == Some(false)).into(),
            ..Amounts::row(self.seconds)
        }
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

/// The service's value for a missing time: the beginning of the year 1.
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
