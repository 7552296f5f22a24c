//! The log of calls over the customer's own telephone lines, with the success and the trunk of each call. Microsoft
//! does not charge for these calls.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getdirectroutingcalls>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-directroutinglogrow>

#![deny(clippy::float_arithmetic)]

use super::column::{Column, Measure};
use super::interner::{UNKNOWN, code, label};
use super::log::Record;
use super::row::{Notes, Number, Property, RowError, Shown, Text, first_time, row};
use super::{CALLS_COUNT, Log, Report, ReportInfo, SECONDS_COUNT};
use crate::exposition::Family;
use crate::graph::Version;
use crate::money::Amount;
use crate::period::EndBound;

/// `getDirectRoutingCalls` of the beta version of Graph. Version 1.0 does not have the country of the user.
pub struct DirectRouting;

row! {
    /// `directRoutingLogRow`.
    Row<'a> {
        id: Text<'a>,
        correlation_id,
        user_id: Text<'a>,
        user_principal_name: Shown<'a>,
        user_display_name: Shown<'a>,
        start_date_time: Text<'a>,
        invite_date_time: Text<'a>,
        failure_date_time: Text<'a>,
        end_date_time: Text<'a>,
        duration: Number<'a>,
        call_type: Shown<'a>,
        successful_call: Option<bool>,
        caller_number,
        callee_number,
        media_path_location,
        signaling_location,
        final_sip_code: Number<'a>,
        call_end_sub_reason,
        final_sip_code_phrase,
        trunk_fully_qualified_domain_name: Shown<'a>,
        media_bypass_enabled,
        user_country_code: Shown<'a>,
        transferor_correlation_id,
        other_party_country_code,
    }
    labels(row, notes) {
        call_type: label(row.call_type().shown(notes)),
        sip_code_class: sip_code_class(&row.final_sip_code())?,
        trunk: label(row.trunk_fully_qualified_domain_name().shown(notes)),
        usage_location: code(row.user_country_code().shown(notes)),
    }
}

static COLUMNS: [Column; 3] = [
    Column {
        current: Family::gauge(
            "teams_pstn_direct_routing_calls",
            "Calls over Direct Routing trunks in the current billing period, failed ones included. As of the last complete \
             report.",
        ),
        previous: Family::gauge(
            "teams_pstn_direct_routing_previous_calls",
            "Calls over Direct Routing trunks in the previous billing period, failed ones included.",
        ),
        measure: Measure::Count(0, CALLS_COUNT),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_direct_routing_failed_calls",
            "Calls over Direct Routing trunks in the current billing period that the source reports as not successful. As of \
             the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_direct_routing_previous_failed_calls",
            "Calls over Direct Routing trunks in the previous billing period that the source reports as not successful.",
        ),
        measure: Measure::Count(2, "failed calls"),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_direct_routing_call_seconds",
            "Duration of calls over Direct Routing trunks in the current billing period. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_direct_routing_previous_call_seconds",
            "Duration of calls over Direct Routing trunks in the previous billing period.",
        ),
        measure: Measure::Count(1, SECONDS_COUNT),
    },
];

impl Log for DirectRouting {}

impl Report for DirectRouting {
    const INFO: ReportInfo = ReportInfo {
        name: "direct_routing",
        function: "getDirectRoutingCalls",
        version: Version::Beta,
        end: EndBound::WholeSecond,
        properties: Row::PROPERTIES,
        labels: Row::LABELS,
        columns: &COLUMNS,
        other_families: &[],
    };
    type Row<'a> = Row<'a>;

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        // If the source does not state whether a call succeeded, the call does not count as failed.
        let failed = *row.successful_call().value == Some(false);
        Ok(Record {
            id: row.id().text()?,
            // Graph selects calls by their start. A failed call has no start, so the time of its invite or its failure
            // is used.
            time: first_time([
                row.start_date_time(),
                row.invite_date_time(),
                row.failure_date_time(),
                row.end_date_time(),
            ])?,
            person: row.person(notes)?,
            labels: row.labels(notes)?,
            money: [Amount::default(); 2],
            counts: [
                1,
                // A call that was not answered has no duration.
                row.duration().or_zero(failed, notes, Property::count)?,
                failed.into(),
            ],
        })
    }
}

/// Returns the class of a SIP code, for example `4xx` for 404. A connected call ends with code 0, which has the class
/// `none`.
fn sip_code_class(code: &Property<'_, Number<'_>>) -> Result<&'static str, RowError> {
    if !matches!(code.value, Number::Literal(_)) {
        return Ok(UNKNOWN);
    }
    Ok(match code.count()? {
        0 => "none",
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        600..700 => "6xx",
        _ => "other",
    })
}
