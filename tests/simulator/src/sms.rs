//! `getSmsLog`: text messages, in beta only.
//! <https://learn.microsoft.com/graph/api/resources/callrecords-smslogrow?view=graph-rest-beta>

use chrono::{DateTime, Utc};
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
use super::world::Charge;

/// A message. `None` is written as null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Id of the row, if the service has one.
    pub id: Uuid,
    /// Time of arrival in the log.
    pub arrival: DateTime<Utc>,
    /// Time of sending, which Graph writes with seven decimals.
    pub sent: DateTime<Utc>,
    /// The user.
    pub user: Option<User>,
    /// Country of the user, as an ISO 3166 code.
    pub user_country: Option<Text>,
    /// `sms_in` or `sms_out`.
    pub sms_type: Option<Text>,
    /// `Domestic` or `International`.
    pub destination_context: Option<Text>,
    /// Name of the destination country.
    pub destination: Option<Text>,
    /// ISO 4217.
    pub currency: Option<Text>,
    /// The charge.
    pub charge: Option<Charge>,
    /// Number of network messages that it consists of.
    pub units: u32,
    /// The sender's number.
    pub source: String,
    /// The recipient's number.
    pub target: String,
}

impl Message {
    /// A free short message within the United States that arrived at once. Its id and user have a number.
    pub fn at(number: u32, sent: DateTime<Utc>) -> Self {
        Self {
            id: Uuid::from_u128(u128::from(number)),
            arrival: sent,
            sent,
            user: Some(User::numbered(number)),
            user_country: Some("US".into()),
            sms_type: Some("sms_out".into()),
            destination_context: Some("Domestic".into()),
            destination: Some("United States".into()),
            currency: Some("USD".into()),
            charge: Some(Charge(0)),
            units: 1,
            source: "+12818602122".to_owned(),
            target: "+1267317****".to_owned(),
        }
    }

    pub(super) fn make(company: &Company, stamp: &Stamp, rng: &mut Rng) -> Self {
        let person = company.anyone(rng);
        let home = person.country;
        let sms_type = match rng.below(100) {
            0..55 => "sms_out",
            55..99 => "sms_in",
            _ => "sms_future",
        };
        let is_abroad = rng.below(100) < person.abroad;
        let units = 1 + rng.below(4);
        let is_paid = sms_type == "sms_out";
        let per_unit = if is_abroad { 745 } else { 83 };
        Self {
            id: stamp.id,
            arrival: stamp.arrival,
            sent: stamp.time,
            user: Some(person.user.clone()),
            user_country: Some(home.code.into()),
            sms_type: Some(sms_type.into()),
            destination_context: Some(
                if is_abroad {
                    "International"
                } else {
                    "Domestic"
                }
                .into(),
            ),
            destination: Some(if is_abroad { "Canada" } else { home.name }.into()),
            currency: Some(home.currency.into()),
            charge: Some(Charge(i64::from(if is_paid {
                units * per_unit
            } else {
                0
            }))),
            units,
            source: rng.number(home.calling_code),
            target: rng.number(if is_abroad { "+1" } else { home.calling_code }),
        }
    }
}

impl LogRow for Message {
    const LABELS: &'static [&'static str] = &[
        "user",
        "usage_location",
        "destination_context",
        "destination",
        "currency",
        "direction",
    ];

    /// The direction label is the unchanged type.
    fn labels(&self) -> Vec<String> {
        vec![
            user_label(self.user.as_ref()),
            label_value(self.user_country.as_ref()),
            label_value(self.destination_context.as_ref()),
            label_value(self.destination.as_ref()),
            label_value(self.currency.as_ref()),
            label_value(self.sms_type.as_ref()),
        ]
    }

    fn amounts(&self) -> Amounts {
        Amounts {
            units: u64::from(self.units),
            ..Amounts::row(0).charged(self.charge)
        }
    }

    fn time(&self) -> DateTime<Utc> {
        self.sent
    }

    fn arrival(&self) -> DateTime<Utc> {
        self.arrival
    }

    fn json(&self, _: Version) -> String {
        Object::new()
            .plain("id", format_args!("\"{}\"", self.id))
            .plain(
                "smsId",
                format_args!("\"{}\"", Uuid::from_u128(!self.id.as_u128())),
            )
            .user(self.user.as_ref())
            .text("userCountryCode", self.user_country.as_deref())
            .text("tenantCountryCode", Some("US"))
            .text("sourceNumber", Some(&self.source))
            .text("destinationNumber", Some(&self.target))
            .time("sentDateTime", self.sent)
            .number("callCharge", self.charge)
            .text("currency", self.currency.as_deref())
            .text("smsType", self.sms_type.as_deref())
            .text("destinationContext", self.destination_context.as_deref())
            .text("destinationName", self.destination.as_deref())
            .text("otherPartyCountryCode", self.user_country.as_deref())
            .text("licenseCapability", Some("MCOSMS1"))
            .plain("smsUnits", self.units)
            .units(&[ADMINISTRATIVE_UNIT])
            .close()
    }
}
