//! The log of calls over the customer's own telephone lines: whether they came about, and over which trunk. Nothing in it
//! costs Microsoft's money.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getdirectroutingcalls>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-directroutinglogrow>

#![deny(clippy::float_arithmetic)]

use serde::Deserialize;
use serde_json::value::RawValue;

use super::interner::{code, label};
use super::labels::UNKNOWN;
use super::log::{Column, Log, Measure, Record};
use super::row::{Literal, Notes, RowError, Shown, Text, count, first_time, person, shown, text};
use super::{ReportKind, SECONDS_COUNT};
use crate::exposition::Family;
use crate::graph::Version;
use crate::money::Amount;

/// `getDirectRoutingCalls`, of the beta version, which alone tells the user's country.
pub struct DirectRouting;

/// `directRoutingLogRow`. Every property may be null; properties that are not here are ignored.
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
    start_date_time: Option<Text<'a>>,
    #[serde(borrow)]
    invite_date_time: Option<Text<'a>>,
    #[serde(borrow)]
    failure_date_time: Option<Text<'a>>,
    #[serde(borrow)]
    end_date_time: Option<Text<'a>>,
    #[serde(borrow, default)]
    duration: Literal<'a>,
    #[serde(borrow)]
    call_type: Option<Shown<'a>>,
    successful_call: Option<bool>,
    #[serde(borrow)]
    final_sip_code: Option<&'a RawValue>,
    #[serde(borrow)]
    trunk_fully_qualified_domain_name: Option<Shown<'a>>,
}

static COLUMNS: [Column; 2] = [
    Column {
        current: Family::gauge(
            "teams_pstn_direct_routing_calls",
            "Calls over Direct Routing trunks in the current billing period, failed ones included. Cached: from the last \
             complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_direct_routing_previous_calls",
            "Calls over Direct Routing trunks in the previous billing period, failed ones included.",
        ),
        measure: Measure::Count(0, "calls"),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_direct_routing_call_seconds",
            "Duration of calls over Direct Routing trunks in the current billing period. Cached: from the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_direct_routing_previous_call_seconds",
            "Duration of calls over Direct Routing trunks in the previous billing period.",
        ),
        measure: Measure::Count(1, SECONDS_COUNT),
    },
];

impl Log for DirectRouting {
    const KIND: ReportKind = ReportKind::DirectRouting;
    const FUNCTION: &'static str = "getDirectRoutingCalls";
    const VERSION: Version = Version::Beta;
    const LABELS: &'static [&'static str] = &[
        "call_type",
        "sip_code_class",
        "success",
        "trunk",
        "usage_location",
    ];
    const COLUMNS: &'static [Column] = &COLUMNS;
    type Row<'a> = Row<'a>;

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        let success = match row.successful_call {
            Some(true) => "true",
            Some(false) => "false",
            None => UNKNOWN,
        };
        let trunk = shown(row.trunk_fully_qualified_domain_name.as_ref(), notes);
        Ok(Record {
            id: text("id", row.id.as_ref())?,
            // The log goes by the start of a call. A failed call has none: it goes by its invite or its failure.
            time: first_time([
                ("startDateTime", row.start_date_time.as_ref()),
                ("inviteDateTime", row.invite_date_time.as_ref()),
                ("failureDateTime", row.failure_date_time.as_ref()),
                ("endDateTime", row.end_date_time.as_ref()),
            ])?,
            person: person(
                row.user_id.as_ref(),
                row.user_principal_name.as_ref(),
                row.user_display_name.as_ref(),
                notes,
            )?,
            labels: [
                label(shown(row.call_type.as_ref(), notes)).into(),
                sip_code_class(row.final_sip_code)?.into(),
                success.into(),
                label(trunk).into(),
                code(shown(row.user_country_code.as_ref(), notes)),
                "".into(),
            ],
            money: [Amount::default(); 2],
            counts: [
                1,
                // A call that was not answered has no duration.
                row.duration
                    .or_zero(row.successful_call == Some(false), notes, |literal| {
                        count("duration", literal)
                    })?,
            ],
        })
    }
}

/// `4xx` of 404; `none` of 0, which a call that came about ends with.
fn sip_code_class(code: Option<&RawValue>) -> Result<&'static str, RowError> {
    if code.is_none() {
        return Ok(UNKNOWN);
    }
    Ok(match count("finalSipCode", code)? {
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
