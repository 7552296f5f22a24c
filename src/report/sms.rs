//! The log of text messages, with the units and the cost of each message.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getsmslog>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-smslogrow>

#![deny(clippy::float_arithmetic)]

use super::column::{Column, Measure};
use super::interner::{code, label};
use super::log::Record;
use super::row::{Notes, Number, RowError, Shown, Text, row};
use super::{Log, Report, ReportInfo};
use crate::exposition::Family;
use crate::graph::Version;
use crate::money::Amount;
use crate::period::EndBound;

/// `getSmsLog`, which only the beta version of Graph has.
pub struct Sms;

row! {
    /// `smsLogRow`.
    Row<'a> {
        id: Text<'a>,
        sms_id,
        user_id: Text<'a>,
        user_principal_name: Shown<'a>,
        user_display_name: Shown<'a>,
        user_country_code: Shown<'a>,
        tenant_country_code,
        source_number,
        destination_number,
        sent_date_time: Text<'a>,
        call_charge: Number<'a>,
        currency: Text<'a>,
        sms_type: Shown<'a>,
        sms_units: Number<'a>,
        destination_context: Shown<'a>,
        destination_name,
        other_party_country_code,
        license_capability,
    }
    labels(row, notes) {
        currency: code(row.currency().text()?),
        destination_context: label(row.destination_context().shown(notes)),
        direction: direction(row.sms_type().shown(notes)),
        usage_location: code(row.user_country_code().shown(notes)),
    }
}

static COLUMNS: [Column; 3] = [
    Column {
        current: Family::gauge(
            "teams_pstn_sms_charge",
            "Charge of text messages in the current billing period, in the currency of the label; do not add different \
             currencies. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_sms_previous_charge",
            "Charge of text messages in the previous billing period, in the currency of the label; do not add different \
             currencies. Fetched again until it no longer changes.",
        ),
        measure: Measure::Money(0),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_sms_messages",
            "Text messages in the current billing period. As of the last complete report.",
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
            "Units of text messages in the current billing period; a long message has several. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_sms_previous_units",
            "Units of text messages in the previous billing period.",
        ),
        measure: Measure::Count(1, "units"),
    },
];

impl Log for Sms {}

impl Report for Sms {
    const INFO: ReportInfo = ReportInfo {
        name: "sms",
        function: "getSmsLog",
        version: Version::Beta,
        end: EndBound::WholeSecond,
        properties: Row::PROPERTIES,
        labels: Row::LABELS,
        columns: &COLUMNS,
        other_families: &[],
    };
    type Row<'a> = Row<'a>;

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        let currency = row.currency().text()?;
        Ok(Record {
            // Only `id` identifies a row: `smsId` is not unique, and no other property is either.
            id: row.id().text()?,
            time: row.sent_date_time().time()?,
            person: row.person(notes)?,
            labels: row.labels(notes)?,
            money: [
                row.call_charge().amount_in(currency, notes)?,
                Amount::default(),
            ],
            counts: [1, row.sms_units().count()?, 0],
        })
    }
}

/// Returns the direction of a message type, for example `in` for `sms_in`. An unknown type is returned unchanged.
fn direction(sms_type: &str) -> &str {
    label(match sms_type {
        "sms_in" => "in",
        "sms_out" => "out",
        other => other,
    })
}
