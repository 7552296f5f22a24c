//! From rows to series: rows are grouped by label set, summed exactly, aggregated into `__other__`, and sorted.

#![deny(clippy::float_arithmetic)]

use std::cmp::Reverse;

use hashbrown::{HashMap, HashSet};

use super::{
    CALLS, CHARGE, Entry, LabelSetId, LabelSets, PREVIOUS_CALLS, PREVIOUS_CHARGE, PREVIOUS_SECONDS,
    SECONDS,
};
use crate::exposition::{FamilyWriter, Samples, write_label};
use crate::money::Sum;
use crate::report::budget::Budget;
use crate::report::interner::Interner;
use crate::report::labels::{LabelId, OTHER, RenderContext, RetainedSeries, UserLabels};
use crate::report::person_table::{PersonId, PersonTable};
use crate::report::{Count, Organizer, SECONDS_COUNT, Spend, TOP, contexts};

/// The labels of a series except for the user, as they are exposed and in the order of the samples.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) currency: String,
    pub(super) context: String,
    pub(super) location: String,
}

/// Sums over the rows that have the same label set.
#[derive(Clone, Copy)]
pub(super) struct Series {
    /// Index into the sorted groups.
    group: u32,
    /// `None` for the series `__other__`.
    user: Option<LabelId>,
    calls: i64,
    seconds: i64,
    charge: Sum,
}

/// The spend of one budget, and which rows count towards it.
pub(super) struct BudgetAccumulator {
    /// By label set.
    label_sets: Vec<bool>,
    /// By person; `None` if the budget applies to all users.
    persons: Option<Vec<bool>>,
    pub(super) spent: Sum,
}

/// The series of all rows that count, and the numbers of repeated rows.
pub(super) struct Aggregated {
    pub(super) series: Vec<Series>,
    /// Rows that are identical to another in all fields: an overlap of pages, counted once.
    pub(super) overlapping: u64,
    /// Rows that share user id, location, context and currency with another but differ otherwise: both are counted.
    pub(super) repeated: u64,
    /// Persons that share an id but not all names, each with the person that represents the id.
    namesakes: HashMap<PersonId, PersonId>,
    /// Label sets in which such a person was seen.
    seen: HashSet<(PersonId, LabelSetId)>,
}

/// Sums the rows by label set. The series are in the order of their labels.
///
/// Identical rows have the same label set, so duplicates are searched only within one. A table of all rows would cost two
/// more memory accesses per row, and a poll spends most of its time on these.
///
/// Groups and users are numbers without gaps, so a counting sort orders the rows: first by user, then, as a stable sort,
/// by group.
pub(super) fn aggregate(
    rows: &[Entry],
    users: &UserLabels,
    group_of: &[u32],
    groups: usize,
    namesakes: HashMap<PersonId, PersonId>,
    accumulators: &mut [BudgetAccumulator],
) -> Aggregated {
    let by_user = counting_sort(
        rows.len(),
        users.count() as usize,
        || rows.iter().map(|row| users.of(row.person)),
        rows.iter().zip(0_u32..).map(|(row, index)| {
            (
                group_of[row.label_set as usize],
                users.of(row.person),
                index,
            )
        }),
    );
    let order = counting_sort(
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
        namesakes,
        seen: HashSet::new(),
    };
    let mut alike = Vec::new();
    for same in order.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        alike.clear();
        alike.extend(same.iter().map(|&(.., index)| rows[index as usize]));
        if alike.len() > 1 {
            aggregated.deduplicate(&mut alike);
        }
        aggregated.count_namesakes(&alike);
        let (group, user, _) = same[0];
        let mut series = Series {
            group,
            user: Some(user),
            ..alike[0].into()
        };
        for &row in &alike[1..] {
            series.add(row.into());
        }
        for accumulator in &mut *accumulators {
            for row in &alike {
                accumulator.add(row);
            }
        }
        aggregated.series.push(series);
    }
    aggregated
}

impl BudgetAccumulator {
    pub(super) fn new(
        budget: &Budget,
        persons: &PersonTable,
        label_sets: &LabelSets,
        texts: [&Interner; 3],
    ) -> Self {
        let covers =
            |labels: &Group| budget.covers(&labels.currency, &labels.context, &labels.location);
        let is_of = |person| budget.is_of([persons.principal_name(person), persons.id(person)]);
        Self {
            label_sets: label_sets
                .distinct
                .iter()
                .map(|label_set| covers(&Group::of(label_set, texts)))
                .collect(),
            persons: budget
                .user
                .as_ref()
                .map(|_| (0..persons.count()).map(is_of).collect()),
            spent: Sum::default(),
        }
    }

    fn add(&mut self, row: &Entry) {
        if self.label_sets[row.label_set as usize]
            && self
                .persons
                .as_ref()
                .is_none_or(|persons| persons[row.person as usize])
        {
            self.spent.add(row.charge);
        }
    }
}

impl Aggregated {
    /// Deduplicates rows that share labels, and counts exact duplicates and rows that differ otherwise.
    fn deduplicate(&mut self, rows: &mut Vec<Entry>) {
        let received = rows.len();
        rows.sort_unstable();
        rows.dedup();
        self.overlapping += (received - rows.len()) as u64;
        self.repeated += rows
            .chunk_by(|a, b| (a.person, a.label_set) == (b.person, b.label_set))
            .map(|rows| rows.len() as u64 - 1)
            .sum::<u64>();
    }

    /// Counts persons that were seen in the same label set under other names, and so may have another user label.
    fn count_namesakes(&mut self, rows: &[Entry]) {
        if self.namesakes.is_empty() {
            return;
        }
        for rows in rows.chunk_by(|a, b| (a.person, a.label_set) == (b.person, b.label_set)) {
            if let Some(&one) = self.namesakes.get(&rows[0].person) {
                self.repeated += u64::from(!self.seen.insert((one, rows[0].label_set)));
            }
        }
    }
}

/// Sorts `count` items by their `keys`, each below `keys_end`. The sort is stable.
fn counting_sort<K: Iterator<Item = u32>, T: Copy + Default>(
    count: usize,
    keys_end: usize,
    keys: impl Fn() -> K,
    items: impl Iterator<Item = T>,
) -> Vec<T> {
    let mut positions = vec![0_u32; keys_end];
    for key in keys() {
        positions[key as usize] += 1;
    }
    let mut next = 0;
    for position in &mut positions {
        next += std::mem::replace(position, next);
    }
    let mut sorted = vec![T::default(); count];
    for (key, item) in keys().zip(items) {
        let position = &mut positions[key as usize];
        sorted[*position as usize] = item;
        *position += 1;
    }
    sorted
}

/// The distinct labels without users, sorted, and the index of each label set among them.
pub(super) fn group(label_sets: &LabelSets, texts: [&Interner; 3]) -> (Vec<Group>, Vec<u32>) {
    let labels: Vec<Group> = label_sets
        .distinct
        .iter()
        .map(|label_set| Group::of(label_set, texts))
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

/// Aggregates the series with the smallest absolute charge into `__other__`, one per group, if there are more than
/// `max_series`.
pub(super) fn collapse(
    mut series: Vec<Series>,
    groups: &[Group],
    users: &UserLabels,
    context: &RenderContext<'_>,
) -> (Vec<Series>, u64, RetainedSeries) {
    if series.len() <= context.series_max || !context.naming.names_users() {
        return (series, 0, context.retained.next_generation());
    }
    // Every group may need a series `__other__`.
    let room = context.series_max.saturating_sub(groups.len());
    let (aggregated, retained) = context.retained.select(
        series.len(),
        room,
        |index| series[index].charge.abs(),
        |index| {
            let series = &series[index];
            (
                group_key(&groups[series.group as usize]),
                series.label(users),
            )
        },
    );
    for &index in &aggregated {
        series[index].user = None;
    }
    // The position of `__other__` among the users: between two of them, unless a user has this name.
    let other = users
        .find(OTHER)
        .map_or_else(|next| (next, false), |same| (same, true));
    let position = |series: &Series| (series.group, series.user.map_or(other, |user| (user, true)));
    series.sort_by_key(position);
    series.dedup_by(|next, last| {
        let same = position(next) == position(last);
        if same {
            last.add(*next);
        }
        same
    });
    (series, aggregated.len() as u64, retained)
}

fn group_key(group: &Group) -> String {
    format!("{}\n{}\n{}", group.currency, group.context, group.location)
}

pub(super) fn samples(
    series: &[Series],
    groups: &[Group],
    users: &UserLabels,
    context: &RenderContext<'_>,
) -> impl Iterator<Item = Samples> {
    let mut writer = FamilyWriter::new(&[&CHARGE, &CALLS, &SECONDS]);
    for group in by_group(series) {
        let mut labels = groups[group[0].group as usize].labels(context.tenant);
        let length = labels.len();
        for one in group {
            labels.truncate(length);
            if context.naming.names_users() {
                write_label("user", one.label(users), &mut labels);
            }
            one.write(&labels, &mut writer);
        }
    }
    writer.finish()
}

pub(super) fn closing(
    series: &[Series],
    groups: &[Group],
    context: &RenderContext<'_>,
) -> Vec<Samples> {
    let mut writer = FamilyWriter::new(&[&PREVIOUS_CHARGE, &PREVIOUS_CALLS, &PREVIOUS_SECONDS]);
    for group in by_group(series) {
        total(group).write(
            &groups[group[0].group as usize].labels(context.tenant),
            &mut writer,
        );
    }
    writer.finish().collect()
}

pub(super) fn spend(series: &[Series], groups: &[Group]) -> Vec<Spend> {
    let mut spend = Vec::new();
    for currency in by_currency(series, groups) {
        let total = total(currency);
        let mut sums: HashMap<&str, Sum> = HashMap::new();
        for one in currency {
            let context = groups[one.group as usize].context.as_str();
            sums.entry(context).or_default().merge(one.charge);
        }
        spend.push(Spend {
            currency: groups[currency[0].group as usize].currency.clone(),
            total: total.charge.to_string(),
            contexts: contexts(sums, total.charge),
            counts: total.counts(),
        });
    }
    spend
}

pub(super) fn top(
    series: &[Series],
    groups: &[Group],
    users: &UserLabels,
    context: &RenderContext<'_>,
) -> Vec<Organizer> {
    if !context.naming.names_users() {
        return Vec::new();
    }
    let mut top = Vec::new();
    // Index of a user's sum in `ranked`, as several groups may have the same user.
    let mut index_of = vec![u32::MAX; users.count() as usize];
    for currency in by_currency(series, groups) {
        let mut ranked: Vec<(Reverse<Sum>, LabelId)> = Vec::new();
        for (user, charge) in currency
            .iter()
            .filter_map(|one| Some((one.user?, one.charge)))
        {
            let index = &mut index_of[user as usize];
            if let Some((Reverse(sum), _)) = ranked.get_mut(*index as usize) {
                sum.merge(charge);
            } else {
                *index = u32::try_from(ranked.len()).expect("no more than users");
                ranked.push((Reverse(charge), user));
            }
        }
        for &(_, user) in &ranked {
            index_of[user as usize] = u32::MAX;
        }
        let count = TOP.min(ranked.len());
        if count < ranked.len() {
            ranked.select_nth_unstable(count);
        }
        ranked.truncate(count);
        ranked.sort_unstable();
        top.extend(ranked.into_iter().map(|(Reverse(charge), user)| {
            let of_user = currency.iter().filter(|one| one.user == Some(user));
            Organizer {
                user: users.label(user).to_owned(),
                currency: groups[currency[0].group as usize].currency.clone(),
                charge: charge.to_string(),
                counts: total(of_user).counts(),
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

/// The sum of at least one series.
fn total<'a>(series: impl IntoIterator<Item = &'a Series>) -> Series {
    let mut series = series.into_iter();
    let mut sum = *series.next().expect("a group has at least one series");
    for one in series {
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
    fn write(&self, labels: &[u8], writer: &mut FamilyWriter) {
        writer.sample(labels, |family, out| match family {
            0 => self.charge.write_sample(out),
            1 => Sum::from(self.calls).write_sample(out),
            _ => Sum::from(self.seconds).write_sample(out),
        });
    }

    fn counts(&self) -> Vec<Count> {
        let count = |what: &'static str, value| Count {
            what: what.into(),
            value,
        };
        vec![
            count("calls", self.calls),
            count(SECONDS_COUNT, self.seconds),
        ]
    }

    fn label<'a>(&self, users: &'a UserLabels) -> &'a str {
        self.user.map_or(OTHER, |user| users.label(user))
    }
}

impl Group {
    /// The labels of a label set.
    pub(super) fn of(
        &[currency, context, location]: &[u32; 3],
        [currencies, contexts, locations]: [&Interner; 3],
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
