//! `getPstnCalls`: calls over Microsoft's own telephony and over operators.
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstncalllogrow?view=graph-rest-beta>

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::address::Version;
use super::company::Company;
use super::log::LogRow;
use super::object::Object;
use super::people::{COUNTRIES, Country, Tariff, User, tariff};
use super::rng::Rng;
use super::sums::Amounts;
use super::traffic::Stamp;
use super::world::Charge;

/// Text of a row. Most values are constants.
pub type Text = Cow<'static, str>;

/// A call. `None` is written as null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Unique id of the row.
    pub id: Uuid,
    /// Time of arrival in the log.
    pub arrival: DateTime<Utc>,
    /// Start time, which Graph writes with seven decimals.
    pub start: DateTime<Utc>,
    /// Duration, which determines the end.
    pub seconds: u32,
    /// The user; `None` for a bot.
    pub user: Option<User>,
    /// `user_out`, `conf_in`, …
    pub call_type: Option<Text>,
    /// Country of the user, as an ISO 3166 code.
    pub usage_country: Option<Text>,
    /// `Domestic` or `International`; none for inbound calls.
    pub destination_context: Option<Text>,
    /// Name of the destination country.
    pub destination: Option<Text>,
    /// Country of the other party, as an ISO 3166 code.
    pub other_country: Option<Text>,
    /// `MCOPSTN1`, …
    pub license: Option<Text>,
    /// Type of the number: `Subscriber` for a person's, `Service` for a conference's.
    pub number_type: Option<Text>,
    /// ISO 4217.
    pub currency: Option<Text>,
    /// The charge.
    pub charge: Option<Charge>,
    /// The connection charge.
    pub connection_charge: Option<Charge>,
    /// The caller's number.
    pub caller: String,
    /// The callee's number.
    pub callee: String,
}

impl Call {
    /// A free call of one minute within the United States that arrived at once. Its id and user have a number.
    pub fn at(number: u32, start: DateTime<Utc>) -> Self {
        Self {
            id: Uuid::from_u128(u128::from(number)),
            arrival: start,
            start,
            seconds: 60,
            user: Some(User::numbered(number)),
            call_type: Some("user_out".into()),
            usage_country: Some("US".into()),
            destination_context: Some("Domestic".into()),
            destination: Some("United States".into()),
            other_country: Some("US".into()),
            license: Some("MCOPSTN1".into()),
            number_type: Some("Subscriber".into()),
            currency: Some("USD".into()),
            charge: Some(Charge(0)),
            connection_charge: Some(Charge(0)),
            caller: "+1425555***".to_owned(),
            callee: "+1206555***".to_owned(),
        }
    }

    pub(super) fn make(company: &Company, stamp: &Stamp, rng: &mut Rng) -> Self {
        let person = company.anyone(rng);
        let home = person.country;
        let call_type = call_type(rng);
        let is_inbound = call_type.ends_with("_in");
        let is_abroad = !is_inbound && rng.below(100) < person.abroad;
        let seconds = match rng.below(20) {
            0 => 0,
            1..19 => 10 + rng.below(290),
            _ => 300 + rng.below(3_000),
        };
        let (to, license) = if is_abroad {
            (abroad(home, rng), "MCOPSTNPP")
        } else {
            (Destination::of(home), license(call_type, rng))
        };
        let is_paid = !is_inbound && (is_abroad || license == "MCOPSTNPP");
        let price = |ten_thousandths: u32| {
            Some(Charge(i64::from(if is_paid { ten_thousandths } else { 0 })))
        };
        let (mine, other) = (rng.number(home.calling_code), rng.number(to.calling_code));
        let (caller, callee) = if is_inbound {
            (other, mine)
        } else {
            (mine, other)
        };
        Self {
            id: stamp.id,
            arrival: stamp.arrival,
            start: stamp.time,
            seconds,
            user: (!call_type.contains("ucap")).then(|| person.user.clone()),
            call_type: Some(call_type.into()),
            usage_country: Some(home.code.into()),
            destination_context: match (is_inbound, is_abroad) {
                (true, _) => None,
                (_, false) => Some("Domestic".into()),
                (_, true) => Some("International".into()),
            },
            destination: Some(to.name.into()),
            other_country: Some(to.code.into()),
            license: Some(license.into()),
            number_type: Some(if call_type.starts_with("user") {
                "Subscriber".into()
            } else {
                "Service".into()
            }),
            currency: Some(home.currency.into()),
            charge: price(seconds.div_ceil(60) * to.tariff.per_started_minute),
            connection_charge: price(to.tariff.per_connection),
            caller,
            callee,
        }
    }
}

impl LogRow for Call {
    const LABELS: &'static [&'static str] = &[
        "user",
        "usage_location",
        "destination_context",
        "destination",
        "call_type",
        "license_capability",
        "number_type",
        "currency",
    ];

    fn labels(&self) -> Vec<String> {
        vec![
            user_label(self.user.as_ref()),
            label_value(self.usage_country.as_ref()),
            label_value(self.destination_context.as_ref()),
            label_value(self.destination.as_ref()),
            label_value(self.call_type.as_ref()),
            label_value(self.license.as_ref()),
            label_value(self.number_type.as_ref()),
            label_value(self.currency.as_ref()),
        ]
    }

    fn amounts(&self) -> Amounts {
        Amounts {
            connection_charge: self
                .connection_charge
                .map_or(0, |charge| i128::from(charge.0)),
            ..Amounts::row(self.seconds).charged(self.charge)
        }
    }

    fn time(&self) -> DateTime<Utc> {
        self.start
    }

    fn arrival(&self) -> DateTime<Utc> {
        self.arrival
    }

    fn json(&self, version: Version) -> String {
        let tail = self.id.as_bytes()[15];
        let conference = self.call_type.as_deref().filter(|t| t.starts_with("conf"));
        let conference = conference.map(|_| self.id.as_u64_pair().0.to_string());
        let object = Object::new()
            .plain("id", format_args!("\"{}\"", self.id))
            .plain(
                "callId",
                format_args!("\"{}@192.0.2.{tail}\"", self.id.as_u64_pair().1),
            )
            .user(self.user.as_ref())
            .time("startDateTime", self.start)
            .time(
                "endDateTime",
                self.start + TimeDelta::seconds(i64::from(self.seconds)),
            )
            .plain("duration", self.seconds)
            .number("charge", self.charge)
            .text("callType", self.call_type.as_deref())
            .text("currency", self.currency.as_deref())
            .text("calleeNumber", Some(&self.callee))
            .text("usageCountryCode", self.usage_country.as_deref())
            .text("tenantCountryCode", Some("US"))
            .number("connectionCharge", self.connection_charge)
            .text("callerNumber", Some(&self.caller))
            .text("destinationContext", self.destination_context.as_deref())
            .text("destinationName", self.destination.as_deref())
            .text("conferenceId", conference.as_deref())
            .text("licenseCapability", self.license.as_deref())
            .text("inventoryType", self.number_type.as_deref())
            .text("operator", Some("Microsoft"))
            .text("callDurationSource", Some("microsoft"));
        if version == Version::V1 {
            return object.close();
        }
        object
            .text("otherPartyCountryCode", self.other_country.as_deref())
            .plain(
                "clientPublicIpV4Address",
                format_args!("\"203.0.113.{tail}\""),
            )
            .text("clientPublicIpV6Address", None)
            .plain(
                "clientLocalIpV4Address",
                format_args!("\"192.168.1.{tail}\""),
            )
            .plain(
                "clientLocalIpV6Address",
                format_args!("\"2001:db8::{tail:x}\""),
            )
            .units(&[ADMINISTRATIVE_UNIT])
            .close()
    }
}

/// The id of a user as a label has it.
pub(super) fn user_label(user: Option<&User>) -> String {
    user.map_or_else(String::new, |user| user.id.to_string())
}

/// The value of a label; empty if there is none.
pub(super) fn label_value(value: Option<&Text>) -> String {
    value.map_or_else(String::new, |text| text.clone().into_owned())
}

/// A destination of calls and its tariff.
#[derive(Clone, Copy)]
struct Destination {
    code: &'static str,
    name: &'static str,
    calling_code: &'static str,
    tariff: Tariff,
}

impl Destination {
    fn of(country: &Country) -> Self {
        Self {
            code: country.code,
            name: country.name,
            calling_code: country.calling_code,
            tariff: country.tariff,
        }
    }
}

fn abroad(home: &Country, rng: &mut Rng) -> Destination {
    let far = rng.of(&FAR);
    let near = Destination::of(&COUNTRIES[rng.of(&[0, 1, 2, 3, 4])]);
    if rng.below(3) == 0 || near.code == home.code {
        far
    } else {
        Destination {
            tariff: tariff(610, 55),
            ..near
        }
    }
}

fn call_type(rng: &mut Rng) -> &'static str {
    match rng.below(100) {
        0..22 => "user_out",
        22..36 => "user_in",
        36..70 => "conf_out",
        70..80 => "conf_in",
        80..84 => "user_out_conf",
        84..87 => "user_out_transfer",
        87..91 => "user_out_forwarding",
        91..95 => "ucap_in",
        95..97 => "ucap_out",
        97 => "oc_ucap_in",
        98 => "user_out_future",
        _ => "user_in_future",
    }
}

fn license(call_type: &str, rng: &mut Rng) -> &'static str {
    match rng.below(100) {
        0..84 if call_type.starts_with("conf") => "MCOMEETADD",
        // The included minutes are used up.
        _ if call_type.starts_with("conf") => "MCOPSTNPP",
        0..60 => "MCOPSTN1",
        60..80 => "MCOPSTN2",
        80..99 => "MCOPSTNPP",
        _ => "MCOFUTURE",
    }
}

const fn far(
    code: &'static str,
    name: &'static str,
    calling_code: &'static str,
    tariff: Tariff,
) -> Destination {
    Destination {
        code,
        name,
        calling_code,
        tariff,
    }
}

/// Countries without employees.
const FAR: [Destination; 10] = [
    far("FR", "France", "+33", tariff(255, 0)),
    far("CH", "Switzerland", "+41", tariff(610, 50)),
    far("ES", "Spain", "+34", tariff(255, 0)),
    far("JP", "Japan", "+81", tariff(1_275, 100)),
    far("BR", "Brazil", "+55", tariff(1_275, 105)),
    far("AU", "Australia", "+61", tariff(983, 0)),
    far("ZA", "South Africa", "+27", tariff(3_450, 250)),
    far("NG", "Nigeria", "+234", tariff(3_457, 250)),
    far("CI", "Côte d'Ivoire", "+225", tariff(8_200, 700)),
    far("CU", "Cuba", "+53", tariff(8_203, 701)),
];

/// Of the documentation's example.
pub(super) const ADMINISTRATIVE_UNIT: Uuid =
    Uuid::from_u128(0x639b_616c_f164_4a6f_a933_2493_6b8e_b210);
