//! The rows that were already counted, so that a row counts once even if several windows or pages return it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use ring::digest;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

use super::Record;
use crate::memory::{MemoryError, MemoryPool, Reservation, table_bytes};

/// A 64-bit hash that identifies a row: the hash of its id or, if it has no id, of all its properties. With a million
/// rows per billing period, two rows have the same hash in one of 30 million periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RowId(u64);

/// The rows of final days, as sorted runs. Copies share the runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Vec<Piece>")]
pub(super) struct FinalRows {
    runs: Vec<Arc<Vec<RowId>>>,
}

/// The rows that were already counted: the rows of final days, and the rows that the windows of this poll returned.
#[derive(Debug)]
pub(crate) struct SeenRows(Mutex<Seen>);

/// The content of [`SeenRows`]. It is behind a lock, because the windows of a poll are fetched concurrently.
#[derive(Debug)]
struct Seen {
    final_rows: Arc<FinalRows>,
    brought: HashSet<RowId>,
    /// The reserved memory of `brought`, the rows that the windows of this poll returned.
    memory: Reservation,
}

/// Numbers equal rows that have no id. The numbers begin again in each window. So equal rows in one window count as
/// different rows, and the n-th of them in one window is the same row as the n-th in another window.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// Number of rows, by the hash of their contents.
    counts: HashMap<u64, u64>,
    /// Hashes of the contents of the rows that were numbered since the last commit.
    page: Vec<u64>,
}

impl RowId {
    /// The id of a row in a report without ids: the hash of the row's JSON text, which is equal in overlapping pages.
    pub(crate) fn of_text(text: &str) -> Self {
        Self(hash([text.as_bytes()]))
    }
}

impl SeenRows {
    pub(crate) fn new(pool: &Arc<MemoryPool>) -> Self {
        Self::after(Arc::default(), pool)
    }

    /// Creates a set that contains the rows of final days.
    pub(super) fn after(final_rows: Arc<FinalRows>, pool: &Arc<MemoryPool>) -> Self {
        Self(Mutex::new(Seen {
            final_rows,
            brought: HashSet::new(),
            memory: pool.reservation(),
        }))
    }

    /// Adds a row. Returns true if the row is new.
    pub(crate) fn insert(&self, id: RowId) -> Result<bool, MemoryError> {
        let mut seen = self.0.lock();
        if seen.final_rows.contains(id) || !seen.brought.insert(id) {
            return Ok(false);
        }
        let bytes = seen.bytes();
        let reserved = seen.memory.resize(bytes);
        if reserved.is_err() {
            seen.brought.remove(&id);
        }
        reserved.map(|()| true)
    }

    /// Removes rows, because the page that returned them is incomplete.
    pub(crate) fn remove(&self, ids: impl Iterator<Item = RowId>) {
        let mut seen = self.0.lock();
        for id in ids {
            seen.brought.remove(&id);
        }
    }

    /// Replaces the final rows by `final_rows`, which contain one more day. `ids` are the rows of that day.
    pub(super) fn add_final(&self, final_rows: Arc<FinalRows>, ids: &[RowId]) {
        let mut seen = self.0.lock();
        for id in ids {
            if final_rows.contains(*id) {
                seen.brought.remove(id);
            }
        }
        seen.brought.shrink_to_fit();
        let bytes = seen.bytes();
        seen.memory.hold(bytes);
        seen.final_rows = final_rows;
    }
}

impl Seen {
    fn bytes(&self) -> usize {
        let rows = &self.brought;
        table_bytes(rows.allocation_size(), rows.len(), rows.capacity())
    }
}

impl FinalRows {
    /// Adds the rows of a day.
    pub(super) fn add(&mut self, ids: &[RowId]) {
        let mut run = ids.to_vec();
        run.sort_unstable();
        run.dedup();
        self.add_run(run);
    }

    /// Bytes of memory that the rows take.
    pub(super) fn bytes(&self) -> usize {
        self.runs.iter().map(|run| size_of_val(&***run)).sum()
    }

    /// Adds a sorted run. Merges it with the last runs if they are not much longer, so that there are few runs.
    fn add_run(&mut self, mut run: Vec<RowId>) {
        while let Some(last) = self.runs.last()
            && last.len() <= 2 * run.len()
            && last.len() + run.len() <= RUN_MAX
        {
            let mut merged = Vec::with_capacity(last.len() + run.len());
            merged.extend_from_slice(last);
            merged.append(&mut run);
            // A stable sort merges two runs in linear time.
            merged.sort();
            merged.dedup();
            self.runs.pop();
            run = merged;
        }
        self.runs.push(Arc::new(run));
    }

    fn contains(&self, id: RowId) -> bool {
        let mut runs = self.runs.iter();
        runs.any(|run| run.binary_search(&id).is_ok())
    }
}

/// Serializes the rows as several base64 texts, with eight bytes per row. A single text of all rows would need more
/// memory than the rows.
impl Serialize for FinalRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encode = |ids: &[RowId]| {
            let bytes = ids.iter().flat_map(|RowId(id)| id.to_le_bytes());
            STANDARD_NO_PAD.encode(bytes.collect::<Vec<u8>>())
        };
        let pieces = self.runs.iter().flat_map(|run| run.chunks(PIECE));
        serializer.collect_seq(pieces.map(encode))
    }
}

/// The sorted rows in one base64 text.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Piece(Vec<RowId>);

impl TryFrom<String> for Piece {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const ERROR: &str = "not row ids";
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| ERROR)?;
        let (ids, rest) = bytes.as_chunks();
        let ids = ids.iter().map(|&id| RowId(u64::from_le_bytes(id)));
        let ids: Vec<RowId> = ids.collect();
        let is_sorted = ids.is_sorted_by(|a, b| a < b);
        (rest.is_empty() && is_sorted)
            .then_some(Self(ids))
            .ok_or(ERROR)
    }
}

impl From<Vec<Piece>> for FinalRows {
    fn from(pieces: Vec<Piece>) -> Self {
        let mut rows = Self::default();
        for Piece(run) in pieces {
            rows.add_run(run);
        }
        rows
    }
}

impl Numbers {
    /// Bytes of memory that the numbers take.
    pub(super) fn bytes(&self) -> usize {
        let counts = &self.counts;
        let table = table_bytes(counts.allocation_size(), counts.len(), counts.capacity());
        table + size_of_val(&*self.page)
    }

    /// Keeps the numbers that rows got since the last commit.
    pub(crate) fn commit(&mut self) {
        self.page.clear();
    }

    /// Takes back the numbers that rows got since the last commit.
    pub(crate) fn roll_back(&mut self) {
        for contents in self.page.drain(..) {
            if let Some(count) = self.counts.get_mut(&contents) {
                *count -= 1;
            }
        }
    }

    /// The hash that identifies a row; `None` if the row has neither an id nor a time.
    pub(crate) fn id(&mut self, record: &Record<'_>) -> Option<RowId> {
        if !record.id.is_empty() {
            return Some(match Uuid::try_parse(record.id) {
                Ok(id) => {
                    let (high, low) = id.as_u64_pair();
                    RowId(mix(mix(high) ^ low))
                }
                Err(_) => RowId(hash([record.id.as_bytes()])),
            });
        }
        let contents = contents(record)?;
        self.page.push(contents);
        let number = self.counts.entry(contents).or_default();
        *number += 1;
        Some(RowId(mix(contents ^ mix(*number))))
    }
}

/// A hash of all properties of a row; `None` if the row has no time.
fn contents(record: &Record<'_>) -> Option<u64> {
    let time = record.time?.to_rfc3339();
    let [charge, other_charge] = record.money.map(|amount| amount.to_string());
    let counts = record.counts.map(|count| count.to_string()).join(", ");
    let figures = format!("{charge} {other_charge} [{counts}]");
    let labels = record.labels.iter().map(|label| label.as_bytes());
    let person = record.person.map(str::as_bytes);
    let all = [time.as_bytes(), figures.as_bytes()];
    Some(hash(all.into_iter().chain(person).chain(labels)))
}

/// The first 64 bits of the SHA-256 of the texts and their lengths.
fn hash<'t>(texts: impl IntoIterator<Item = &'t [u8]>) -> u64 {
    let mut sum = digest::Context::new(&digest::SHA256);
    for text in texts {
        sum.update(&(text.len() as u64).to_le_bytes());
        sum.update(text);
    }
    let sum = sum.finish();
    let (first, _) = sum
        .as_ref()
        .split_first_chunk()
        .expect("SHA-256 has 32 bytes");
    u64::from_le_bytes(*first)
}

/// The finalizer of `SplitMix64`. This permutation makes consecutive ids look random.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Maximum number of rows of a merged run. It limits the memory of a merge, which holds these rows twice.
const RUN_MAX: usize = 1 << 19;

/// Maximum number of rows in one base64 text of a state file.
const PIECE: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_many_days_stay_known_across_a_state_file() {
        let days: Vec<Vec<RowId>> = (0..40_u64)
            .map(|day| {
                (0..day * 100)
                    .map(|row| RowId(mix(day << 32 | row)))
                    .collect()
            })
            .collect();
        let mut rows = FinalRows::default();
        for day in &days {
            rows.add(day);
        }
        assert!(rows.runs.len() <= 8, "{}", rows.runs.len());
        let saved = serde_json::to_string(&rows).unwrap();
        let restored: FinalRows = serde_json::from_str(&saved).unwrap();
        for rows in [&rows, &restored] {
            let count = rows.bytes() / size_of::<RowId>();
            assert_eq!(count, days.iter().map(Vec::len).sum::<usize>());
            assert!(days.iter().flatten().all(|&id| rows.contains(id)));
            assert!(!rows.contains(RowId(1)));
        }
        for bad in [r#"["AA"]"#, r#"["AgAAAAAAAAABAAAAAAAAAA"]"#, r#""""#, "[1]"] {
            assert!(serde_json::from_str::<FinalRows>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_of_a_dropped_page_are_given_again() {
        let record = Record {
            id: "",
            time: Some(chrono::DateTime::UNIX_EPOCH),
            person: [""; 3],
            labels: [const { std::borrow::Cow::Borrowed("") }; _],
            money: [crate::money::Amount::default(); _],
            counts: [0; _],
        };
        let mut numbers = Numbers::default();
        let first = numbers.id(&record);
        numbers.commit();
        let second = numbers.id(&record);
        let third = numbers.id(&record);
        numbers.roll_back();
        assert_eq!([(); 2].map(|()| numbers.id(&record)), [second, third]);
        let all = [first, second, third].map(|id| id.unwrap());
        assert!(all[0] != all[1] && all[1] != all[2] && all[2] != all[0]);
    }

    #[test]
    fn rows_of_a_day_that_becomes_final_stay_seen() {
        let seen = SeenRows::new(&MemoryPool::for_process(None).for_report());
        let ids = [RowId(1), RowId(2)];
        for id in ids {
            assert!(seen.insert(id).unwrap());
        }
        assert!(seen.insert(RowId(3)).unwrap());
        let mut final_rows = FinalRows::default();
        final_rows.add(&ids);
        seen.add_final(Arc::new(final_rows), &ids);
        assert_eq!(seen.0.lock().brought.len(), 1);
        for id in 1..=3 {
            assert!(!seen.insert(RowId(id)).unwrap());
        }
        // A ledger that does not have the rows does not make them unknown.
        seen.add_final(Arc::default(), &[RowId(3)]);
        assert!(!seen.insert(RowId(3)).unwrap());
    }
}
