//! The dial-out report: cost of calls from meetings to the telephone network, by meeting organizer.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnonlinemeetingdialoutreport>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnonlinemeetingdialoutreport>

#![deny(clippy::float_arithmetic)]

mod series;

use std::borrow::Cow;

use super::allocation::Allocator;
use super::budget::BudgetRow;
use super::column::{Column, Measure};
use super::interner::{Interner, LabelSetId, LabelSets, code, label};
use super::labels::{RenderContext, UserLabels};
use super::log::Record;
use super::person_table::{PersonId, PersonTable};
use super::row::{Notes, Number, RowError, Shown, Text, row};
use super::table::Table;
use super::{AggregatedReport, CALLS_COUNT, Rendered, Report, ReportInfo, SECONDS_COUNT};
use crate::exposition::Family;
use crate::graph::Version;
use crate::money::Amount;
use crate::period::EndBound;

/// `getPstnOnlineMeetingDialoutReport`, which only the beta version of Graph has.
pub struct Dialout;

row! {
    /// `pstnOnlineMeetingDialoutReport`.
    Row<'a> {
        user_id: Text<'a>,
        user_principal_name: Shown<'a>,
        user_display_name: Shown<'a>,
        usage_location: Shown<'a>,
        destination_context: Shown<'a>,
        currency: Text<'a>,
        total_calls: Number<'a>,
        total_call_seconds: Number<'a>,
        total_call_charge: Number<'a>,
    }
    labels(row, notes) {
        currency: code(row.currency().text()?),
        destination_context: label(row.destination_context().shown(notes)),
        usage_location: code(row.usage_location().shown(notes)),
    }
}

/// Every row with interned text, in the order of arrival.
#[derive(Default)]
pub struct RowTable {
    persons: PersonTable,
    locations: Interner,
    contexts: Interner,
    currencies: Interner,
    label_sets: LabelSets,
    rows: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    person: PersonId,
    label_set: LabelSetId,
    calls: i64,
    seconds: i64,
    charge: Amount,
}

static COLUMNS: [Column; 3] = [
    Column {
        current: Family::gauge(
            "teams_pstn_dialout_charge",
            "Charge of dial-out calls from meetings in the current billing period, connection fees included, by meeting \
             organizer, in the currency of the label; do not add different currencies. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_dialout_previous_charge",
            "Charge of dial-out calls from meetings in the previous billing period, in the currency of the label; do not add \
             different currencies. Fetched again until it no longer changes.",
        ),
        measure: Measure::Money(0),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_dialout_calls",
            "Dial-out calls from meetings in the current billing period, by meeting organizer. As of the last complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_dialout_previous_calls",
            "Dial-out calls from meetings in the previous billing period.",
        ),
        measure: Measure::Count(0, CALLS_COUNT),
    },
    Column {
        current: Family::gauge(
            "teams_pstn_dialout_call_seconds",
            "Duration of dial-out calls from meetings in the current billing period, by meeting organizer. As of the last \
             complete report.",
        ),
        previous: Family::gauge(
            "teams_pstn_dialout_previous_call_seconds",
            "Duration of dial-out calls from meetings in the previous billing period.",
        ),
        measure: Measure::Count(1, SECONDS_COUNT),
    },
];

impl Report for Dialout {
    const INFO: ReportInfo = ReportInfo {
        name: "dialout",
        function: "getPstnOnlineMeetingDialoutReport",
        version: Version::Beta,
        // The current documentation does not state whether the end of the time range is included. Its first version
        // stated that both ends are.
        end: EndBound::LastTick,
        properties: Row::PROPERTIES,
        labels: Row::LABELS,
        columns: &COLUMNS,
        other_families: &[],
    };
    type Row<'a> = Row<'a>;

    fn record<'r>(row: &'r Row<'_>, notes: &mut Notes) -> Result<Record<'r>, RowError> {
        Ok(Record {
            id: "",
            time: None,
            person: row.person(notes)?,
            labels: row.labels(notes)?,
            money: [row.total_call_charge().amount()?, Amount::default()],
            counts: [
                row.total_calls().count()?,
                row.total_call_seconds().count()?,
                0,
            ],
        })
    }
}

impl AggregatedReport for Dialout {
    type Totals = RowTable;

    fn add(totals: &mut RowTable, row: Row<'_>, notes: &mut Notes) -> Result<(), RowError> {
        let charge = row.total_call_charge().amount()?;
        let calls = row.total_calls().count()?;
        let seconds = row.total_call_seconds().count()?;
        let person = totals.persons.intern(row.person(notes)?);
        let location = totals.locations.intern(row.usage_location().shown(notes));
        let context = totals
            .contexts
            .intern(row.destination_context().shown(notes));
        let currency = totals.currencies.intern(row.currency().text()?);
        let label_set = totals.label_sets.intern([currency, context, location]);
        totals.rows.push(Entry {
            person,
            label_set,
            calls,
            seconds,
            charge,
        });
        assert!(
            u32::try_from(totals.rows.len()).is_ok(),
            "a report has fewer than 2³² rows"
        );
        Ok(())
    }

    fn rows(totals: &RowTable) -> usize {
        totals.rows.len()
    }

    fn bytes(totals: &RowTable) -> usize {
        let texts = [&totals.locations, &totals.contexts, &totals.currencies];
        let texts: usize = texts.into_iter().map(Interner::bytes).sum();
        let rows = totals.label_sets.bytes() + size_of_val(&*totals.rows);
        totals.persons.bytes() + texts + rows
    }

    fn truncate(totals: &mut RowTable, rows: usize) {
        totals.rows.truncate(rows);
    }

    fn budget_rows(totals: &RowTable) -> Vec<BudgetRow> {
        let budget_row = |row: &Entry| {
            let [id, principal_name, _] = totals.persons.names(row.person);
            BudgetRow {
                labels: totals.labels(row.label_set).map(Cow::into_owned),
                names: [principal_name, id].map(str::to_owned),
                call: None,
            }
        };
        totals.rows.iter().map(budget_row).collect()
    }

    fn render(totals: RowTable, context: &RenderContext<'_>) -> Rendered {
        let mut allocator = Allocator::new(context.allocation);
        let mut texts = Interner::default();
        // Converts one label set at a time, so that its new upper-case texts are freed before the next one.
        let add = |label_set| {
            let labels = totals.labels(label_set);
            allocator.add_label_set(labels.each_ref().map(|label| &**label));
            labels.map(|label| texts.intern(&label))
        };
        let labels: Vec<[u32; 3]> = (0..totals.label_sets.count()).map(add).collect();
        if context.allocation.selects_persons() {
            for person in 0..totals.persons.count() {
                let [id, principal_name, _] = totals.persons.names(person);
                allocator.add_person(principal_name, id);
            }
        }
        let (texts, ranks) = texts.into_sorted();
        let labels: Vec<[u32; 3]> = labels
            .iter()
            .map(|labels| labels.map(|id| ranks[id as usize]))
            .collect();
        let users = UserLabels::new(&totals.persons, context.user_label);
        let namesakes = totals.persons.namesakes_by_id();
        drop(totals.persons);
        let received = totals.rows.len() as u64;
        let sums = series::aggregate(&totals.rows, &users, &labels, namesakes, &allocator);
        drop(totals.rows);
        let table = Table {
            info: &Dialout::INFO,
            texts: &texts,
            users: &users.labels,
            series: sums.series,
        };
        Rendered {
            rows: received - sums.overlapping,
            overlapping: sums.overlapping,
            repeated: sums.repeated,
            ..table.render(context, &sums.allocated)
        }
    }
}

impl RowTable {
    /// The exposed labels of a label set, in the order of [`Row::LABELS`] and of the labels of budgets.
    fn labels(&self, label_set: LabelSetId) -> [Cow<'_, str>; 3] {
        let [currency, context, location] = self.label_sets.get(label_set);
        [
            code(self.currencies.text(currency)),
            label(self.contexts.text(context)).into(),
            code(self.locations.text(location)),
        ]
    }
}

#[cfg(test)]
mod tests;
