//! The log of calls over Microsoft's telephone lines: what each cost, to which country, by which licence and direction.
//!
//! Calls from meetings to the telephone network are in it too, as `conf_out` and the like: what they cost is also in the
//! dial-out report, so the two are never added.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstncalls>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstncalllogrow>

#![deny(clippy::float_arithmetic)]

use serde::Deserialize;
use serde_json::value::RawValue;

use super::interner::{code, label};
use super::log::{Column, Log, Measure, Record};
use super::row::{
    Literal, Notes, RowError, Shown, Text, count, first_time, money, person, shown, text,
};
use super::{ReportKind, SECONDS_COUNT};
use crate::exposition::Family;
use crate::graph::Version;

/// `getPstnCalls`, of version 1.0: what the beta version has besides is nothing that is exported.
pub struct PstnCalls;

/// `pstnCallLogRow`. Every property may be null; properties that are not here are ignored.
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
    start_date_time: Option<Text<'a>>,
    #[serde(borrow)]
    end_date_time: Option<Text<'a>>,
    #[serde(borrow)]
    duration: Option<&'a RawValue>,
    #[serde(borrow)]
    charge: Option<&'a RawValue>,
    #[serde(borrow, default)]
    connection_charge: Literal<'a>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    #[serde(borrow)]
    call_type: Option<Shown<'a>>,
    #[serde(borrow)]
    usage_country_code: Option<Shown<'a>>,
    #[serde(borrow)]
    destination_context: Option<Shown<'a>>,
    #[serde(borrow)]
    destination_name: Option<Shown<'a>>,
    #[serde(borrow)]
    license_capability: Option<Shown<'a>>,
}

static COLUMNS: [Column; 4] = [
    Column {
        current: Family::gauge(
            "teams_pstn_call_charge",
            "Charge of calls over Microsoft's telephone lines in the current billing period, in the currency of the label; \
             never add different currencies, nor the dial-out charge, which is contained. Cached: from the last complete \
             report.",
        ),
        previous: Family::gauge(
            "teams_pstn_previous_call_charge",
            "Charge of calls over Microsoft's telephone lines in the previous billing period, in the currency of the label; \
             never add different currencies. Fetched again until it stops changing.",
        ),
        measure: Measure::Money(0),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_call_connection_charge",
            "Connection fees of calls over Microsoft's telephone lines in the current billing period, in the currency of the \
             label. Whether the charge contains them is not documented. Cached: from the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_previous_call_connection_charge",
            "Connection fees of calls over Microsoft's telephone lines in the previous billing period, in the currency of the \
             label.",
        ),
        measure: Measure::Money(1),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_calls",
            "Calls over Microsoft's telephone lines in the current billing period. Cached: from the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_previous_calls",
            "Calls over Microsoft's telephone lines in the previous billing period.",
        ),
        measure: Measure::Count(0, "calls"),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_call_seconds",
            "Duration of calls over Microsoft's telephone lines in the current billing period. Cached: from the last complete \
             report.",
        ),
        previous: Family::gauge(
            "teams_pstn_previous_call_seconds",
            "Duration of calls over Microsoft's telephone lines in the previous billing period.",
        ),
        measure: Measure::Count(1, SECONDS_COUNT),
    },
];

impl Log for PstnCalls {
    const KIND: ReportKind = ReportKind::PstnCalls;
    const FUNCTION: &'static str = "getPstnCalls";
    const VERSION: Version = Version::V1;
    const LABELS: &'static [&'static str] = &[
        "call_type",
        "currency",
        "destination",
        "destination_context",
        "license_capability",
        "usage_location",
    ];
    const COLUMNS: &'static [Column] = &COLUMNS;
    type Row<'a> = Row<'a>;

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        let currency = text("currency", row.currency.as_ref())?;
        Ok(Record {
            id: text("id", row.id.as_ref())?,
            time: first_time([
                ("startDateTime", row.start_date_time.as_ref()),
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
                code(currency),
                label(shown(row.destination_name.as_ref(), notes)).into(),
                label(shown(row.destination_context.as_ref(), notes)).into(),
                label(shown(row.license_capability.as_ref(), notes)).into(),
                code(shown(row.usage_country_code.as_ref(), notes)),
            ],
            money: [
                money("charge", row.charge, currency, notes)?,
                row.connection_charge.or_zero(true, notes, |literal| {
                    money("connectionCharge", literal, currency, &mut Notes::default())
                })?,
            ],
            counts: [1, count("duration", row.duration)?],
        })
    }
}
