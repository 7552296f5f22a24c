//! The dial-out report: what calls from meetings to the telephone network cost, by the meeting's organizer.
//!
//! <https://learn.microsoft.com/graph/api/callrecords-callrecord-getpstnonlinemeetingdialoutreport>,
//! <https://learn.microsoft.com/graph/api/resources/callrecords-pstnonlinemeetingdialoutreport>

#![deny(clippy::float_arithmetic)]

use std::cmp::Reverse;

use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::budget::{self, Budget};
use super::labels::{Kept, OTHER, UNKNOWN, User, Users, View};
use super::people::{People, Person};
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

/// Every row, interned, in the order of arrival.
#[derive(Default)]
pub struct Totals {
    people: People,
    locations: Words,
    contexts: Words,
    currencies: Words,
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

/// The few distinct values of a property, as they came.
#[derive(Default)]
struct Words {
    distinct: Vec<Box<str>>,
    last: u32,
    index: HashMap<Box<str>, u32>,
}

/// The few distinct combinations of currency, context and location, as words.
#[derive(Default)]
struct Places {
    distinct: Vec<[u32; 3]>,
    index: HashMap<[u32; 3], Place>,
}

/// Index of a combination.
type Place = u32;

/// The labels of a series but for the user, as they are exposed; ordered as the samples are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    currency: String,
    context: String,
    location: String,
}

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

/// What is spent of one budget, and which rows count for it.
struct Account {
    /// By place.
    places: Vec<bool>,
    /// By person; everyone where there is no selector.
    people: Option<Vec<bool>>,
    spent: Sum,
}

/// The series of all rows that count, and how many rows there were besides.
struct Aggregated {
    series: Vec<Series>,
    /// Identical to another in all fields: an overlap of pages, counted once.
    overlapping: u64,
    /// Of the same person, location, context and currency as another, but different otherwise: both counted.
    repeated: u64,
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
        Ok(())
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
        let mut accounts: Vec<Account> = view
            .budgets
            .iter()
            .map(|budget| Account::open(budget, &people, &places, words))
            .collect();
        let users = Users::new(&people, view.naming);
        drop(people);
        let received = rows.len() as u64;
        let (groups, group_of) = group(&places, words);
        let Aggregated {
            series,
            overlapping,
            repeated,
        } = aggregate(&rows, &users, &group_of, groups.len(), &mut accounts);
        drop(rows);
        // Before folding, which hides parts of what a user spent.
        let top = top(&series, &groups, &users, view);
        let (series, folded, kept) = fold(series, &groups, &users, view);
        Rendered {
            closing: closing(&series, &groups, view),
            spend: spend(&series, &groups),
            top,
            samples: samples(&series, &groups, &users, view)
                .chain(budget::samples(
                    view,
                    accounts.iter().map(|account| account.spent),
                ))
                .collect(),
            rows: received - overlapping,
            overlapping,
            repeated,
            folded,
            kept,
        }
    }
}

/// Sums the rows by the labels they land on; the series come out in the order of their labels.
///
/// Rows that are identical in all fields land on the same labels, so that is where they are looked for: a table of all
/// rows to look each up in as it comes costs two more visits to memory a row, which is what a poll spends most time on.
///
/// Groups and users are numbers without gaps, so rows are put in order by counting: by user first, then, keeping that
/// order, by group.
fn aggregate(
    rows: &[Entry],
    users: &Users,
    group_of: &[u32],
    groups: usize,
    accounts: &mut [Account],
) -> Aggregated {
    let by_user = counted(
        rows.len(),
        users.count() as usize,
        || rows.iter().map(|row| users.of(row.person)),
        rows.iter()
            .zip(0_u32..)
            .map(|(row, index)| (group_of[row.place as usize], users.of(row.person), index)),
    );
    let order = counted(
        rows.len(),
        groups,
        || by_user.iter().map(|&(group, ..)| group),
        by_user.iter().copied(),
    );
    drop(by_user);
    let mut aggregated = Aggregated {
        series: Vec::with_capacity(order.len()),
        overlapping: 0,
        repeated: 0,
    };
    let mut alike = Vec::new();
    for same in order.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        alike.clear();
        alike.extend(same.iter().map(|&(.., index)| rows[index as usize]));
        if alike.len() > 1 {
            aggregated.tell_apart(&mut alike);
        }
        let (group, user, _) = same[0];
        let mut series = Series {
            group,
            user: Some(user),
            ..alike[0].into()
        };
        for &row in &alike[1..] {
            series.add(row.into());
        }
        for account in &mut *accounts {
            for row in &alike {
                account.add(row);
            }
        }
        aggregated.series.push(series);
    }
    aggregated
}

impl Account {
    fn open(budget: &Budget, people: &People, places: &Places, words: [&Words; 3]) -> Self {
        let covers =
            |labels: &Group| budget.covers(&labels.currency, &labels.context, &labels.location);
        let is_of = |person| budget.is_of([people.principal_name(person), people.id(person)]);
        Self {
            places: places
                .distinct
                .iter()
                .map(|place| covers(&Group::of(place, words)))
                .collect(),
            people: budget
                .user
                .as_ref()
                .map(|_| (0..people.count()).map(is_of).collect()),
            spent: Sum::default(),
        }
    }

    fn add(&mut self, row: &Entry) {
        if self.places[row.place as usize]
            && self
                .people
                .as_ref()
                .is_none_or(|people| people[row.person as usize])
        {
            self.spent.add(row.charge);
        }
    }
}

impl Aggregated {
    /// Leaves of rows with the same labels those that count, and counts what is told of the others.
    fn tell_apart(&mut self, rows: &mut Vec<Entry>) {
        let received = rows.len();
        rows.sort_unstable();
        rows.dedup();
        self.overlapping += (received - rows.len()) as u64;
        self.repeated += rows
            .chunk_by(|a, b| (a.person, a.place) == (b.person, b.place))
            .map(|rows| rows.len() as u64 - 1)
            .sum::<u64>();
    }
}

/// Puts `count` items in the order of their `keys`, each below `keys_end`; those of the same key stay as they came.
fn counted<K: Iterator<Item = u32>, T: Copy + Default>(
    count: usize,
    keys_end: usize,
    keys: impl Fn() -> K,
    items: impl Iterator<Item = T>,
) -> Vec<T> {
    let mut places = vec![0_u32; keys_end];
    for key in keys() {
        places[key as usize] += 1;
    }
    let mut next = 0;
    for place in &mut places {
        next += std::mem::replace(place, next);
    }
    let mut sorted = vec![T::default(); count];
    for (key, item) in keys().zip(items) {
        let place = &mut places[key as usize];
        sorted[*place as usize] = item;
        *place += 1;
    }
    sorted
}

/// The distinct labels without users, sorted, and which of them each place is.
fn group(places: &Places, words: [&Words; 3]) -> (Vec<Group>, Vec<u32>) {
    let labels: Vec<Group> = places
        .distinct
        .iter()
        .map(|place| Group::of(place, words))
        .collect();
    let mut groups = labels.clone();
    groups.sort_unstable();
    groups.dedup();
    let group_of = labels
        .iter()
        .map(|labels| {
            let index = groups.binary_search(labels).expect("one of them");
            u32::try_from(index).expect("fewer groups than rows")
        })
        .collect();
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
    for currency in by_currency(series, groups) {
        let total = total(currency);
        let mut contexts: Vec<(&str, Sum)> = currency
            .chunk_by(|a, b| {
                a.group == b.group
                    || groups[a.group as usize].context == groups[b.group as usize].context
            })
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
    // Where a user's charge is gathered, as several groups may have the same user.
    let mut place_of = vec![u32::MAX; users.count() as usize];
    for currency in by_currency(series, groups) {
        let mut ranked: Vec<(Reverse<Sum>, User)> = Vec::new();
        for (user, charge) in currency
            .iter()
            .filter_map(|one| Some((one.user?, one.charge)))
        {
            let place = &mut place_of[user as usize];
            if let Some((Reverse(sum), _)) = ranked.get_mut(*place as usize) {
                sum.merge(charge);
            } else {
                *place = u32::try_from(ranked.len()).expect("no more than users");
                ranked.push((Reverse(charge), user));
            }
        }
        for &(_, user) in &ranked {
            place_of[user as usize] = u32::MAX;
        }
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
    series.chunk_by(|a, b| {
        a.group == b.group || groups[a.group as usize].currency == groups[b.group as usize].currency
    })
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
    /// The labels of a place.
    fn of(
        &[currency, context, location]: &[u32; 3],
        [currencies, contexts, locations]: [&Words; 3],
    ) -> Self {
        Self {
            currency: currencies.code(currency),
            context: contexts.label(context),
            location: locations.code(location),
        }
    }

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

impl Places {
    fn intern(&mut self, place: [u32; 3]) -> Place {
        *self.index.entry(place).or_insert_with(|| {
            self.distinct.push(place);
            Place::try_from(self.distinct.len() - 1).expect("fewer places than rows")
        })
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
