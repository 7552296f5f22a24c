//! The log of text messages: how many, of how many units, and what they cost.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getsmslog>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-smslogrow>

#![deny(clippy::float_arithmetic)]

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ReportKind;
use super::interner::{code, label};
use super::log::{Column, Log, Measure, Record};
use super::row::{Notes, RowError, Shown, Text, count, money, person, shown, text, time};
use crate::exposition::Family;
use crate::graph::Version;
use crate::money::Amount;

/// `getSmsLog`, of the beta version only.
pub struct Sms;

/// `smsLogRow`. Every property may be null; properties that are not here are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    user_id: Option<Text<'a>>,
    #[serde(borrow)]
    user_principal_name: Option<Shown<'a>>,
    #[serde(borrow)]
    user_display_name: Option<Shown<'a>>,
    #[serde(borrow)]
    user_country_code: Option<Shown<'a>>,
    #[serde(borrow)]
    sent_date_time: Option<Text<'a>>,
    #[serde(borrow)]
    call_charge: Option<&'a RawValue>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    #[serde(borrow)]
    sms_type: Option<Shown<'a>>,
    #[serde(borrow)]
    sms_units: Option<&'a RawValue>,
    #[serde(borrow)]
    destination_context: Option<Shown<'a>>,
}

static COLUMNS: [Column; 3] = [
    Column {
        current: Family::gauge(
            "teams_pstn_sms_charge",
            "Charge of text messages in the current billing period, in the currency of the label; never add different \
             currencies. Cached: from the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_sms_previous_charge",
            "Charge of text messages in the previous billing period, in the currency of the label; never add different \
             currencies. Fetched again until it stops changing.",
        ),
        measure: Measure::Money(0),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_sms_messages",
            "Text messages in the current billing period. Cached: from the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_sms_previous_messages",
            "Text messages in the previous billing period.",
        ),
        measure: Measure::Count(0, "messages"),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_sms_units",
            "Units of text messages in the current billing period, of which a long message has several. Cached: from the last \
             complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_sms_previous_units",
            "Units of text messages in the previous billing period.",
        ),
        measure: Measure::Count(1, "units"),
    },
];

impl Log for Sms {
    const KIND: ReportKind = ReportKind::Sms;
    const FUNCTION: &'static str = "getSmsLog";
    const VERSION: Version = Version::Beta;
    const LABELS: &'static [&'static str] = &[
        "currency",
        "destination_context",
        "direction",
        "usage_location",
    ];
    const COLUMNS: &'static [Column] = &COLUMNS;
    type Row<'a> = Row<'a>;

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        let currency = text("currency", row.currency.as_ref())?;
        Ok(Record {
            // smsId is not unique, and no other property could take its place.
            id: text("id", row.id.as_ref())?,
            time: time("sentDateTime", row.sent_date_time.as_ref())?,
            person: person(
                row.user_id.as_ref(),
                row.user_principal_name.as_ref(),
                row.user_display_name.as_ref(),
                notes,
            )?,
            labels: [
                code(currency),
                label(shown(row.destination_context.as_ref(), notes)).into(),
                direction(shown(row.sms_type.as_ref(), notes)).into(),
                code(shown(row.user_country_code.as_ref(), notes)),
                "".into(),
                "".into(),
            ],
            money: [
                money("callCharge", row.call_charge, currency, notes)?,
                Amount::default(),
            ],
            counts: [1, count("smsUnits", row.sms_units)?],
        })
    }
}

/// `in` of `sms_in`; what is called otherwise keeps its name.
fn direction(sms_type: &str) -> &str {
    label(match sms_type {
        "sms_in" => "in",
        "sms_out" => "out",
        other => other,
    })
}
