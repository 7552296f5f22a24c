//! The log of calls over Microsoft's telephone lines, with the cost, country, licence and direction of each call.
//!
//! The log also has calls from meetings to the telephone network, with call types like `conf_out`. The dial-out report
//! has the cost of these calls too, so charges of the two reports must not be added.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstncalls>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstncalllogrow>

#![deny(clippy::float_arithmetic)]

use super::column::{Column, Measure};
use super::interner::{code, label};
use super::log::Record;
use super::row::{Notes, Number, RowError, Shown, Text, first_time, row};
use super::{CALLS_COUNT, Log, Report, ReportInfo, SECONDS_COUNT};
use crate::exposition::Family;
use crate::graph::Version;
use crate::period::EndBound;

/// `getPstnCalls` of Graph version 1.0. The exporter needs no property that only the beta version has.
pub struct CallLog;

row! {
    /// `pstnCallLogRow`.
    Row<'a> {
        id: Text<'a>,
        call_id,
        user_id: Text<'a>,
        user_principal_name: Shown<'a>,
        user_display_name: Shown<'a>,
        start_date_time: Text<'a>,
        end_date_time: Text<'a>,
        duration: Number<'a>,
        charge: Number<'a>,
        call_type: Shown<'a>,
        currency: Text<'a>,
        callee_number,
        usage_country_code: Shown<'a>,
        tenant_country_code,
        connection_charge: Number<'a>,
        caller_number,
        destination_context: Shown<'a>,
        destination_name: Shown<'a>,
        conference_id,
        license_capability: Shown<'a>,
        inventory_type: Shown<'a>,
        operator,
        call_duration_source,
    }
    labels(row, notes) {
        call_type: label(row.call_type().shown(notes)),
        currency: code(row.currency().text()?),
        destination: label(row.destination_name().shown(notes)),
        destination_context: label(row.destination_context().shown(notes)),
        license_capability: label(row.license_capability().shown(notes)),
        number_type: label(row.inventory_type().shown(notes)),
        usage_location: code(row.usage_country_code().shown(notes)),
    }
}

static COLUMNS: [Column; 4] = [
    Column {
        current: Family::gauge(
            "teams_pstn_call_log_charge",
            "Charge of calls over Microsoft's telephone lines in the current billing period, in the currency of the label; do \
             not add different currencies. Do not add the dial-out report, because its calls are included. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_call_log_previous_charge",
            "Charge of calls over Microsoft's telephone lines in the previous billing period, in the currency of the label; \
             do not add different currencies. Fetched again until it no longer changes.",
        ),
        measure: Measure::Money(0),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_call_log_connection_charge",
            "Connection fees of calls over Microsoft's telephone lines in the current billing period, in the currency of the \
             label. Whether the charge contains them is not documented. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_call_log_previous_connection_charge",
            "Connection fees of calls over Microsoft's telephone lines in the previous billing period, in the currency of the \
             label.",
        ),
        measure: Measure::Money(1),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_call_log_calls",
            "Calls over Microsoft's telephone lines in the current billing period. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_call_log_previous_calls",
            "Calls over Microsoft's telephone lines in the previous billing period.",
        ),
        measure: Measure::Count(0, CALLS_COUNT),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_call_log_call_seconds",
            "Duration of calls over Microsoft's telephone lines in the current billing period. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_call_log_previous_call_seconds",
            "Duration of calls over Microsoft's telephone lines in the previous billing period.",
        ),
        measure: Measure::Count(1, SECONDS_COUNT),
    },
];

impl Log for CallLog {}

impl Report for CallLog {
    const INFO: ReportInfo = ReportInfo {
        name: "call_log",
        function: "getPstnCalls",
        version: Version::V1,
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
            id: row.id().text()?,
            time: first_time([row.start_date_time(), row.end_date_time()])?,
            person: row.person(notes)?,
            labels: row.labels(notes)?,
            money: [
                row.charge().amount_in(currency, notes)?,
                row.connection_charge().or_zero(true, notes, |charge| {
                    charge.amount_in(currency, &mut Notes::default())
                })?,
            ],
            counts: [1, row.duration().count()?, 0],
        })
    }
}
