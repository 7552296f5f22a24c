//! Converts rows to series: drops duplicate rows, groups the other rows by labels and user, and sums them exactly.

#![deny(clippy::float_arithmetic)]

use hashbrown::{HashMap, HashSet};

use super::Entry;
use crate::report::allocation::{Allocated, Allocator};
use crate::report::column::Values;
use crate::report::interner::LabelSetId;
use crate::report::labels::UserLabels;
use crate::report::person_table::PersonId;
use crate::report::table;

/// Sums over the rows that have the same labels and user.
type Series = table::Series<3, 1>;

/// The series, without duplicate rows, and the sums and counts that the same pass makes.
pub(super) struct Aggregated {
    pub(super) series: Vec<Series>,
    /// Number of duplicate rows, which are not counted. Overlapping pages return a row twice, with all fields equal.
    pub(super) overlapping: u64,
    /// Number of rows with the same user id, location, context and currency as another row, but other names or figures.
    /// The sums include both rows.
    pub(super) repeated: u64,
    /// The sums of budgets and departments.
    pub(super) allocated: Allocated,
    /// For each person that shares an id with a person of another name, the first person with that id. The first person
    /// represents the id in `seen`.
    namesakes: HashMap<PersonId, PersonId>,
    /// The shared ids and the label sets in which they have occurred so far.
    seen: HashSet<(PersonId, LabelSetId)>,
}

/// Sums the rows by labels and user. The series are sorted by their labels.
///
/// Identical rows have the same labels and user, so the search for duplicates is limited to such rows. A hash table of
/// all rows would cost two more memory accesses per row, and memory accesses take most of the time of a poll.
///
/// Groups and users are numbered without gaps, so the rows are ordered by two passes of a counting sort: one by user,
/// and then one by group. The sort is stable, so the rows of a group remain in the order of their users.
pub(super) fn aggregate(
    rows: &[Entry],
    users: &UserLabels,
    labels: &[[u32; 3]],
    namesakes: HashMap<PersonId, PersonId>,
    allocator: &Allocator<'_>,
) -> Aggregated {
    let (groups, group_of) = group(labels);
    let by_user = counting_sort(
        rows.len(),
        users.labels.count() as usize,
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
        groups.len(),
        || by_user.iter().map(|&(group, ..)| group),
        by_user.iter().copied(),
    );
    drop(by_user);
    let mut aggregated = Aggregated {
        series: Vec::with_capacity(order.len()),
        overlapping: 0,
        repeated: 0,
        allocated: allocator.no_sums(),
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
        aggregated.count_renamed(&alike);
        let (group, user, _) = same[0];
        let mut values = Values::default();
        for &row in &alike {
            let figures = Values::from(row);
            values.add(&figures);
            let sums = &mut aggregated.allocated;
            allocator.add(row.label_set, row.person, &figures, sums);
        }
        aggregated.series.push(Series {
            labels: groups[group as usize],
            user,
            values,
        });
    }
    aggregated
}

impl Aggregated {
    /// Takes rows with the same labels and user. Removes rows that are identical in all fields, and counts them. Also
    /// counts rows that differ from an earlier row only in figures, and keeps them.
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

    /// Adds 1 to `repeated` each time an id occurs again in the same label set with another name. [`Self::deduplicate`]
    /// misses these, because it compares only rows of the same person, and another name makes another person.
    fn count_renamed(&mut self, rows: &[Entry]) {
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

/// Sorts `count` items by their `keys`. All keys are below `keys_end`. The sort is stable.
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

/// Groups label sets that have the same labels. Returns the labels of each group, sorted, and for each label set the
/// index of its group.
fn group(labels: &[[u32; 3]]) -> (Vec<[u32; 3]>, Vec<u32>) {
    let mut groups = labels.to_vec();
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

impl From<Entry> for Values<1> {
    fn from(row: Entry) -> Self {
        Self {
            money: [row.charge.into()],
            counts: [row.calls, row.seconds, 0],
        }
    }
}
