//! The dial-out report: what calls from meetings to the telephone network cost, by the meeting's organizer.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnonlinemeetingdialoutreport>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnonlinemeetingdialoutreport>

#![deny(clippy::float_arithmetic)]

use std::cmp::Reverse;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::budget::{self, Budget};
use super::labels::{Kept, OTHER, UNKNOWN, User, Users, View};
use super::people::{Hash, People, Person};
use super::{Organizer, Rendered, Report, ReportKind, RowError, Spend, Text, amount, count, text};
use crate::exposition::{Family, Samples, Sheet, write_label};
use crate::graph::Version;
use crate::money::{Amount, Sum};
use crate::period::EndBound;

/// `getPstnOnlineMeetingDialoutReport`, of the beta version only.
pub struct Dialout;

/// `pstnOnlineMeetingDialoutReport`. Every property may be null; properties that are not here are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row<'a> {
    #[serde(borrow)]
    user_id: Option<Text<'a>>,
    #[serde(borrow)]
    user_principal_name: Option<Text<'a>>,
    #[serde(borrow)]
    user_display_name: Option<Text<'a>>,
    #[serde(borrow)]
    usage_location: Option<Text<'a>>,
    #[serde(borrow)]
    destination_context: Option<Text<'a>>,
    #[serde(borrow)]
    currency: Option<Text<'a>>,
    #[serde(borrow)]
    total_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    total_call_seconds: Option<&'a RawValue>,
    #[serde(borrow)]
    total_call_charge: Option<&'a RawValue>,
}

/// Every row that counts, interned, in the order of arrival.
#[derive(Default)]
pub struct Totals {
    people: People,
    locations: Words,
    contexts: Words,
    currencies: Words,
    rows: Vec<Entry>,
    /// Rows by all of their fields: an equal one is an overlap of pages.
    same: HashTable<(Hash, u32)>,
    /// The first row of every key that the service groups by: a further one is a repetition.
    keys: HashTable<(Hash, u32)>,
    hasher: DefaultHashBuilder,
    overlapping: u64,
    repeated: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    person: Person,
    location: u32,
    context: u32,
    currency: u32,
    calls: i64,
    seconds: i64,
    charge: Amount,
}

/// The few distinct values of a property, as they came.
#[derive(Default)]
struct Words {
    distinct: Vec<Box<str>>,
    last: u32,
    index: HashMap<Box<str>, u32>,
}

/// The labels of a series but for the user, as they are exposed; ordered as the samples are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    currency: String,
    context: String,
    location: String,
}

/// Which group a currency, a context and a location are, as words.
type GroupOf = HashMap<(u32, u32, u32), u32>;

/// Sums over the rows that land on the same labels.
#[derive(Clone, Copy)]
struct Series {
    /// Index into the sorted groups.
    group: u32,
    /// None for what was folded.
    user: Option<User>,
    calls: i64,
    seconds: i64,
    charge: Sum,
}

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
    "Charge of dial-out calls from meetings in the billing period before, in the currency of the label; never add \
     different currencies. Fetched again until it stops changing.",
);

static PREVIOUS_CALLS: Family = Family::gauge(
    "teams_pstn_dialout_previous_calls",
    "Dial-out calls from meetings in the billing period before.",
);

static PREVIOUS_SECONDS: Family = Family::gauge(
    "teams_pstn_dialout_previous_call_seconds",
    "Duration of dial-out calls from meetings in the billing period before.",
);

impl Report for Dialout {
    const KIND: ReportKind = ReportKind::Dialout;
    const FUNCTION: &'static str = "getPstnOnlineMeetingDialoutReport";
    const VERSION: Version = Version::Beta;
    // Today's page does not say; the first one said that both ends belong to the answer.
    const END: EndBound = EndBound::Inclusive;
    type Row<'a> = Row<'a>;
    type Totals = Totals;

    fn add(totals: &mut Totals, row: Row<'_>) -> Result<(), RowError> {
        totals.add(&row)
    }

    fn render(totals: Totals, view: &View<'_>) -> Rendered {
        totals.render(view)
    }
}

impl Totals {
    fn add(&mut self, row: &Row<'_>) -> Result<(), RowError> {
        let charge = amount("totalCallCharge", row.total_call_charge)?;
        let calls = count("totalCalls", row.total_calls)?;
        let seconds = count("totalCallSeconds", row.total_call_seconds)?;
        let person = self.people.intern(
            text("userId", row.user_id.as_ref())?,
            text("userPrincipalName", row.user_principal_name.as_ref())?,
            text("userDisplayName", row.user_display_name.as_ref())?,
        );
        let location = self
            .locations
            .intern(text("usageLocation", row.usage_location.as_ref())?);
        let context = self.contexts.intern(text(
            "destinationContext",
            row.destination_context.as_ref(),
        )?);
        let currency = self
            .currencies
            .intern(text("currency", row.currency.as_ref())?);
        self.insert(Entry {
            person,
            location,
            context,
            currency,
            calls,
            seconds,
            charge,
        });
        Ok(())
    }

    fn insert(&mut self, entry: Entry) {
        let Self {
            people,
            rows,
            same,
            keys,
            hasher,
            ..
        } = self;
        let key_of = |row: &Entry| {
            (
                people.id(row.person),
                row.location,
                row.context,
                row.currency,
            )
        };
        let hash = Hash::of(hasher, entry);
        if same
            .find(hash.spread(), |&(_, row)| rows[row as usize] == entry)
            .is_some()
        {
            self.overlapping += 1;
            return;
        }
        let index = u32::try_from(rows.len()).expect("a report has fewer than 2³² rows");
        let key = Hash::of(hasher, key_of(&entry));
        if keys
            .find(key.spread(), |&(_, row)| {
                key_of(&rows[row as usize]) == key_of(&entry)
            })
            .is_some()
        {
            self.repeated += 1;
        } else {
            keys.insert_unique(key.spread(), (key, index), |(key, _)| key.spread());
        }
        same.insert_unique(hash.spread(), (hash, index), |(hash, _)| hash.spread());
        rows.push(entry);
    }

    fn render(self, view: &View<'_>) -> Rendered {
        let Self {
            people,
            locations,
            contexts,
            currencies,
            rows,
            same,
            keys,
            overlapping,
            repeated,
            ..
        } = self;
        drop((same, keys));
        let counted = rows.len() as u64;
        let words = [&currencies, &contexts, &locations];
        let spent: Vec<Sum> = view
            .budgets
            .iter()
            .map(|budget| spent(budget, &rows, &people, words))
            .collect();
        let users = Users::new(&people, view.naming);
        drop(people);
        let (groups, series) = aggregate(&rows, &users, words);
        drop(rows);
        // Before folding, which hides parts of what a user spent.
        let top = top(&series, &groups, &users, view);
        let (series, folded, kept) = fold(series, &groups, &users, view);
        Rendered {
            closing: closing(&series, &groups, view),
            spend: spend(&series, &groups),
            top,
            samples: samples(&series, &groups, &users, view)
                .chain(budget::samples(view, &spent))
                .collect(),
            rows: counted,
            overlapping,
            repeated,
            folded,
            kept,
        }
    }
}

/// The exact sum of the rows that a budget covers.
fn spent(
    budget: &Budget,
    rows: &[Entry],
    people: &People,
    [currencies, contexts, locations]: [&Words; 3],
) -> Sum {
    let mut covered: HashMap<(u32, u32, u32), bool> = HashMap::new();
    let mut counts = |row: &&Entry| {
        let (currency, context, location) = (row.currency, row.context, row.location);
        let covered = covered
            .entry((currency, context, location))
            .or_insert_with(|| {
                budget.covers(
                    &currencies.code(currency),
                    &contexts.label(context),
                    &locations.code(location),
                )
            });
        *covered && budget.is_of([people.principal_name(row.person), people.id(row.person)])
    };
    rows.iter()
        .filter(|row| counts(row))
        .map(|row| row.charge)
        .collect()
}

/// Sums the rows by the labels they land on; the series come out in the order of their labels.
fn aggregate(rows: &[Entry], users: &Users, words: [&Words; 3]) -> (Vec<Group>, Vec<Series>) {
    let (groups, group_of) = group(rows, words);
    let mut order: Vec<(u32, User, u32)> = rows
        .iter()
        .zip(0..)
        .map(|(row, index)| {
            (
                group_of[&(row.currency, row.context, row.location)],
                users.of(row.person),
                index,
            )
        })
        .collect();
    order.sort_unstable();
    let mut series: Vec<Series> = Vec::with_capacity(order.len());
    for (group, user, index) in order {
        let row = Series {
            group,
            user: Some(user),
            ..rows[index as usize].into()
        };
        match series.last_mut() {
            Some(last) if (last.group, last.user) == (group, Some(user)) => last.add(row),
            _ => series.push(row),
        }
    }
    (groups, series)
}

/// The distinct labels without users, sorted, and which of them each combination of words is.
fn group(rows: &[Entry], [currencies, contexts, locations]: [&Words; 3]) -> (Vec<Group>, GroupOf) {
    let mut group_of = HashMap::new();
    for row in rows {
        group_of
            .entry((row.currency, row.context, row.location))
            .or_insert(0);
    }
    let labels = |&(currency, context, location): &(u32, u32, u32)| Group {
        currency: currencies.code(currency),
        context: contexts.label(context),
        location: locations.code(location),
    };
    let mut groups: Vec<Group> = group_of.keys().map(labels).collect();
    groups.sort_unstable();
    groups.dedup();
    assert!(
        groups.len() < 1 << 24,
        "fewer groups than rows, of which a report has some millions at the most"
    );
    for (words, group) in &mut group_of {
        let index = groups
            .binary_search(&labels(words))
            .expect("collected above");
        *group = u32::try_from(index).expect("fewer groups than rows");
    }
    (groups, group_of)
}

/// Folds the series with the smallest absolute charge into `__other__`, one per group, where there are more than the
/// view allows. Nine tenths of the room go to the largest; the last tenth goes first to those that had a place before
/// and still are near the edge.
fn fold(
    mut series: Vec<Series>,
    groups: &[Group],
    users: &Users,
    view: &View<'_>,
) -> (Vec<Series>, u64, Kept) {
    let mut kept = view.kept.emptied();
    if series.len() <= view.series_max || !view.naming.names_users() {
        return (series, 0, kept);
    }
    // Every group may need a series for what is folded.
    let room = view.series_max.saturating_sub(groups.len());
    let key = |series: &Series| {
        (
            group_key(&groups[series.group as usize]),
            series.label(users),
        )
    };
    let mut by_size: Vec<usize> = (0..series.len()).collect();
    by_size.sort_by_key(|&index| (Reverse(series[index].charge.abs()), index));
    let certain = room - room / 10;
    let edge_end = (room + room / 10).min(by_size.len());
    by_size[certain..edge_end].sort_by_key(|&index| {
        let (group, user) = key(&series[index]);
        !view.kept.contains((&group, user))
    });
    let folded = by_size.split_off(room);
    for &index in &by_size {
        let (group, user) = key(&series[index]);
        kept.insert((&group, user));
    }
    for &index in &folded {
        series[index].user = None;
    }
    // Where `__other__` stands among the users: between two of them, unless someone is called that.
    let other = users
        .find(OTHER)
        .map_or_else(|next| (next, false), |same| (same, true));
    let place = |series: &Series| (series.group, series.user.map_or(other, |user| (user, true)));
    series.sort_by_key(place);
    series.dedup_by(|next, last| {
        let same = place(next) == place(last);
        if same {
            last.add(*next);
        }
        same
    });
    (series, folded.len() as u64, kept)
}

fn group_key(group: &Group) -> String {
    format!("{}\n{}\n{}", group.currency, group.context, group.location)
}

fn samples(
    series: &[Series],
    groups: &[Group],
    users: &Users,
    view: &View<'_>,
) -> impl Iterator<Item = Samples> {
    let mut sheet = Sheet::new(&[&CHARGE, &CALLS, &SECONDS]);
    for group in by_group(series) {
        let mut labels = groups[group[0].group as usize].labels(view.tenant);
        let length = labels.len();
        for one in group {
            labels.truncate(length);
            if view.naming.names_users() {
                write_label("user", one.label(users), &mut labels);
            }
            one.write(&labels, &mut sheet);
        }
    }
    sheet.finish()
}

fn closing(series: &[Series], groups: &[Group], view: &View<'_>) -> Vec<Samples> {
    let mut sheet = Sheet::new(&[&PREVIOUS_CHARGE, &PREVIOUS_CALLS, &PREVIOUS_SECONDS]);
    for group in by_group(series) {
        total(group).write(
            &groups[group[0].group as usize].labels(view.tenant),
            &mut sheet,
        );
    }
    sheet.finish().collect()
}

fn spend(series: &[Series], groups: &[Group]) -> Vec<Spend> {
    let mut spend = Vec::new();
    for currency in series
        .chunk_by(|a, b| groups[a.group as usize].currency == groups[b.group as usize].currency)
    {
        let total = total(currency);
        let mut contexts: Vec<(&str, Sum)> = currency
            .chunk_by(|a, b| groups[a.group as usize].context == groups[b.group as usize].context)
            .map(|context| {
                (
                    groups[context[0].group as usize].context.as_str(),
                    self::total(context).charge,
                )
            })
            .collect();
        contexts.sort_by_key(|&(context, charge)| (Reverse(charge), context));
        spend.push(Spend {
            currency: groups[currency[0].group as usize].currency.clone(),
            total: total.charge.to_string(),
            contexts: contexts
                .into_iter()
                .map(|(context, charge)| {
                    (
                        context.to_owned(),
                        charge.to_string(),
                        charge.percent_of(total.charge),
                    )
                })
                .collect(),
            calls: total.calls,
            seconds: total.seconds,
        });
    }
    spend
}

fn top(series: &[Series], groups: &[Group], users: &Users, view: &View<'_>) -> Vec<Organizer> {
    if !view.naming.names_users() {
        return Vec::new();
    }
    let mut top = Vec::new();
    for currency in by_currency(series, groups) {
        let mut charges: Vec<Option<Sum>> = vec![None; users.count() as usize];
        for (user, charge) in currency
            .iter()
            .filter_map(|one| Some((one.user?, one.charge)))
        {
            charges[user as usize].get_or_insert_default().merge(charge);
        }
        let mut ranked: Vec<(Reverse<Sum>, User)> = charges
            .iter()
            .zip(0..)
            .filter_map(|(charge, user)| Some((Reverse((*charge)?), user)))
            .collect();
        let count = TOP.min(ranked.len());
        if count < ranked.len() {
            ranked.select_nth_unstable(count);
        }
        ranked.truncate(count);
        ranked.sort_unstable();
        top.extend(ranked.into_iter().map(|(Reverse(charge), user)| {
            let of_user = || currency.iter().filter(|one| one.user == Some(user));
            Organizer {
                user: users.label(user).to_owned(),
                currency: groups[currency[0].group as usize].currency.clone(),
                charge: charge.to_string(),
                calls: of_user().map(|one| one.calls).sum(),
                seconds: of_user().map(|one| one.seconds).sum(),
            }
        }));
    }
    top
}

fn by_group(series: &[Series]) -> impl Iterator<Item = &[Series]> {
    series.chunk_by(|a, b| a.group == b.group)
}

fn by_currency<'a>(series: &'a [Series], groups: &[Group]) -> impl Iterator<Item = &'a [Series]> {
    series.chunk_by(|a, b| groups[a.group as usize].currency == groups[b.group as usize].currency)
}

fn total(series: &[Series]) -> Series {
    let mut sum = series[0];
    for one in &series[1..] {
        sum.add(*one);
    }
    sum
}

impl Series {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.charge.merge(other.charge);
    }

    /// One sample of charge, calls and seconds each.
    fn write(&self, labels: &[u8], sheet: &mut Sheet) {
        sheet.row(labels, |family, out| match family {
            0 => self.charge.write_sample(out),
            1 => Sum::from(self.calls).write_sample(out),
            _ => Sum::from(self.seconds).write_sample(out),
        });
    }

    fn label<'a>(&self, users: &'a Users) -> &'a str {
        self.user.map_or(OTHER, |user| users.label(user))
    }
}

impl Group {
    /// In the order of their names, as the client libraries write them; `user` comes after all of them.
    fn labels(&self, tenant: Option<&str>) -> Vec<u8> {
        let mut labels = Vec::new();
        write_label("currency", &self.currency, &mut labels);
        write_label("destination_context", &self.context, &mut labels);
        if let Some(tenant) = tenant {
            write_label("tenant", tenant, &mut labels);
        }
        write_label("usage_location", &self.location, &mut labels);
        labels
    }
}

impl From<Entry> for Series {
    fn from(row: Entry) -> Self {
        Self {
            group: 0,
            user: None,
            calls: row.calls,
            seconds: row.seconds,
            charge: row.charge.into(),
        }
    }
}

impl Words {
    fn intern(&mut self, word: &str) -> u32 {
        // The same word mostly comes many times in a row.
        if self
            .distinct
            .get(self.last as usize)
            .is_some_and(|last| **last == *word)
        {
            return self.last;
        }
        self.last = self
            .index
            .get(word)
            .copied()
            .unwrap_or_else(|| self.insert(word));
        self.last
    }

    fn insert(&mut self, word: &str) -> u32 {
        let index = u32::try_from(self.distinct.len()).expect("fewer words than rows");
        self.distinct.push(word.into());
        self.index.insert(word.into(), index);
        index
    }

    /// The word as a label.
    fn label(&self, word: u32) -> String {
        match &*self.distinct[word as usize] {
            "" => UNKNOWN.to_owned(),
            word => word.to_owned(),
        }
    }

    /// The word as a label, upper case, as ISO writes its codes.
    fn code(&self, word: u32) -> String {
        match &*self.distinct[word as usize] {
            "" => UNKNOWN.to_owned(),
            word => word.to_uppercase(),
        }
    }
}

/// Organizers named on the page, per currency.
const TOP: usize = 10;

#[cfg(test)]
mod tests;
