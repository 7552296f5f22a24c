//! The dial-out report: cost of calls from meetings to the telephone network, by meeting organizer.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnonlinemeetingdialoutreport>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnonlinemeetingdialoutreport>

#![deny(clippy::float_arithmetic)]

mod series;

use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::budget::BudgetRow;
use super::interner::Interner;
use super::labels::{Users, View};
use super::people::{People, Person};
use super::row::{
    Notes, RETAINED_MAX, RowError, Shown, Text, amount, count, person, shown, text, within,
};
use super::{Rendered, Report, ReportKind, budget};
use crate::exposition::Family;
use crate::graph::Version;
use crate::money::Amount;
use crate::period::EndBound;

use series::{Aggregated, BudgetAccumulator, Group};

/// `getPstnOnlineMeetingDialoutReport`, of the beta version only.
pub struct Dialout;

/// `pstnOnlineMeetingDialoutReport`. Every property may be null; properties that are not here are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row<'a> {
    #[serde(borrow)]
    user_id: Option<Text<'a>>,
    #[serde(borrow)]
    user_principal_name: Option<Shown<'a>>,
    #[serde(borrow)]
    user_display_name: Option<Shown<'a>>,
    #[serde(borrow)]
    usage_location: Option<Shown<'a>>,
    #[serde(borrow)]
    destination_context: Option<Shown<'a>>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    #[serde(borrow)]
    total_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    total_call_seconds: Option<&'a RawValue>,
    #[serde(borrow)]
    total_call_charge: Option<&'a RawValue>,
}

/// Every row with interned text, in the order of arrival.
#[derive(Default)]
pub struct Totals {
    people: People,
    locations: Interner,
    contexts: Interner,
    currencies: Interner,
    places: Places,
    rows: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    person: Person,
    place: Place,
    calls: i64,
    seconds: i64,
    charge: Amount,
}

/// The few distinct combinations of currency, context and location, as interned text.
#[derive(Default)]
struct Places {
    distinct: Vec<[u32; 3]>,
    index: HashMap<[u32; 3], Place>,
}

/// Index of a combination.
type Place = u32;

static CHARGE: Family = Family::gauge(
    "teams_pstn_dialout_charge",
    "Charge of dial-out calls from meetings in the current billing period, connection fees included, by meeting \
     organizer, in the currency of the label; never add different currencies. Cached: from the last complete report.",
);

static CALLS: Family = Family::gauge(
    "teams_pstn_dialout_calls",
    "Dial-out calls from meetings in the current billing period, by meeting organizer. Cached: from the last complete report.",
);

static SECONDS: Family = Family::gauge(
    "teams_pstn_dialout_call_seconds",
    "Duration of dial-out calls from meetings in the current billing period, by meeting organizer. Cached: from the last \
     complete report.",
);

static PREVIOUS_CHARGE: Family = Family::gauge(
    "teams_pstn_dialout_previous_charge",
    "Charge of dial-out calls from meetings in the previous billing period, in the currency of the label; never add \
     different currencies. Fetched again until it stops changing.",
);

static PREVIOUS_CALLS: Family = Family::gauge(
    "teams_pstn_dialout_previous_calls",
    "Dial-out calls from meetings in the previous billing period.",
);

static PREVIOUS_SECONDS: Family = Family::gauge(
    "teams_pstn_dialout_previous_call_seconds",
    "Duration of dial-out calls from meetings in the previous billing period.",
);

impl Report for Dialout {
    const KIND: ReportKind = ReportKind::Dialout;
    const FUNCTION: &'static str = "getPstnOnlineMeetingDialoutReport";
    const VERSION: Version = Version::Beta;
    const FAMILIES: &'static [&'static Family] = &[
        &CHARGE,
        &CALLS,
        &SECONDS,
        &PREVIOUS_CHARGE,
        &PREVIOUS_CALLS,
        &PREVIOUS_SECONDS,
    ];
    // The current documentation does not say; its first version said that both ends are included.
    const END: EndBound = EndBound::Inclusive;
    type Row<'a> = Row<'a>;
    type Totals = Totals;

    fn add(totals: &mut Totals, row: Row<'_>, notes: &mut Notes) -> Result<(), RowError> {
        totals.add(&row, notes)
    }

    fn rows(totals: &Totals) -> usize {
        totals.rows.len()
    }

    fn truncate(totals: &mut Totals, rows: usize) {
        totals.rows.truncate(rows);
    }

    fn budget_rows(totals: &Totals) -> Vec<BudgetRow> {
        totals
            .rows
            .iter()
            .map(|row| totals.budget_row(row))
            .collect()
    }

    fn render(totals: Totals, view: &View<'_>) -> Rendered {
        totals.render(view)
    }
}

impl Totals {
    fn add(&mut self, row: &Row<'_>, notes: &mut Notes) -> Result<(), RowError> {
        let charge = amount("totalCallCharge", row.total_call_charge)?;
        let calls = count("totalCalls", row.total_calls)?;
        let seconds = count("totalCallSeconds", row.total_call_seconds)?;
        let [id, principal_name, display_name] = person(
            row.user_id.as_ref(),
            row.user_principal_name.as_ref(),
            row.user_display_name.as_ref(),
            notes,
        )?;
        let person = self.people.intern(id, principal_name, display_name);
        let location = self
            .locations
            .intern(shown(row.usage_location.as_ref(), notes));
        let context = self
            .contexts
            .intern(shown(row.destination_context.as_ref(), notes));
        let currency = self
            .currencies
            .intern(text("currency", row.currency.as_ref())?);
        let place = self.places.intern([currency, context, location]);
        self.rows.push(Entry {
            person,
            place,
            calls,
            seconds,
            charge,
        });
        assert!(
            u32::try_from(self.rows.len()).is_ok(),
            "a report has fewer than 2³² rows"
        );
        let words = [&self.locations, &self.contexts, &self.currencies];
        let words: usize = words.into_iter().map(Interner::bytes).sum();
        let rows = self.rows.len() * size_of::<Entry>();
        within(self.people.bytes() + words + rows, RETAINED_MAX)
    }

    fn budget_row(&self, row: &Entry) -> BudgetRow {
        let place = &self.places.distinct[row.place as usize];
        let words = [&self.currencies, &self.contexts, &self.locations];
        let group = Group::of(place, words);
        let people = &self.people;
        BudgetRow {
            labels: [group.currency, group.location, group.context],
            names: [people.principal_name(row.person), people.id(row.person)].map(str::to_owned),
        }
    }

    fn render(self, view: &View<'_>) -> Rendered {
        let Self {
            people,
            locations,
            contexts,
            currencies,
            places,
            rows,
        } = self;
        let words = [&currencies, &contexts, &locations];
        let mut accumulators: Vec<BudgetAccumulator> = view
            .budgets
            .iter()
            .map(|budget| BudgetAccumulator::new(budget, &people, &places, words))
            .collect();
        let users = Users::new(&people, view.naming);
        let namesakes = people.namesakes_by_id();
        drop(people);
        let received = rows.len() as u64;
        let (groups, group_of) = series::group(&places, words);
        let Aggregated {
            series,
            overlapping,
            repeated,
            ..
        } = series::aggregate(
            &rows,
            &users,
            &group_of,
            groups.len(),
            namesakes,
            &mut accumulators,
        );
        drop(rows);
        // Before series are aggregated into `__other__`, which hides parts of a user's spend.
        let top = series::top(&series, &groups, &users, view);
        let (series, folded, kept) = series::collapse(series, &groups, &users, view);
        Rendered {
            closing: series::closing(&series, &groups, view),
            spend: series::spend(&series, &groups),
            counts: Vec::new(),
            top,
            budgets: budget::for_people(
                view,
                accumulators.iter().map(|accumulator| accumulator.spent),
            ),
            samples: series::samples(&series, &groups, &users, view)
                .chain(budget::samples(
                    view,
                    accumulators.iter().map(|accumulator| accumulator.spent),
                ))
                .collect(),
            rows: received - overlapping,
            overlapping,
            repeated,
            unplaced: 0,
            folded,
            kept,
        }
    }
}

impl Places {
    fn intern(&mut self, place: [u32; 3]) -> Place {
        *self.index.entry(place).or_insert_with(|| {
            self.distinct.push(place);
            Place::try_from(self.distinct.len() - 1).expect("fewer places than rows")
        })
    }
}

#[cfg(test)]
mod tests;
