//! The rows that were counted, so that each counts once, whichever windows and pages return it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hashbrown::HashSet;
use ring::digest;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::Record;
use crate::report::row::RowError;

/// 64 bits of a row's identity: of its id or, if it has none, of all its properties. Two of a million rows collide in one of
/// 30 million billing periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RowId(u64);

/// The rows of final days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FinalRows {
    /// Sorted, without duplicates.
    ids: Vec<RowId>,
}

/// The rows that were counted: those of final days, and those that a window of this poll has returned.
#[derive(Debug, Default)]
pub(crate) struct SeenRows {
    final_rows: Arc<FinalRows>,
    /// Behind a lock, because the windows of a poll are fetched concurrently.
    brought: Mutex<HashSet<RowId>>,
}

/// Numbers rows without an id: the second of two that are alike is another row within a window, and the same in the next
/// window.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(HashMap<u64, u64>);

impl SeenRows {
    pub(super) fn new(final_rows: Arc<FinalRows>) -> Self {
        Self {
            final_rows,
            brought: Mutex::default(),
        }
    }

    /// Returns whether the row is new.
    pub(super) fn insert(&self, id: RowId) -> bool {
        if self.final_rows.ids.binary_search(&id).is_ok() {
            return false;
        }
        // Each change is one insertion, so a panic elsewhere leaves nothing half done.
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        brought.insert(id)
    }

    /// Removes rows, because the page that returned them is incomplete.
    pub(super) fn remove(&self, ids: impl Iterator<Item = RowId>) {
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            brought.remove(&id);
        }
    }
}

impl FinalRows {
    /// Adds the rows of a day.
    ///
    /// # Errors
    /// If there are more rows than a period may have.
    pub(super) fn add(&mut self, ids: &[RowId]) -> Result<(), RowError> {
        if self.ids.len() + ids.len() > ROWS_MAX {
            return Err(RowError::TooMany { what: "rows" });
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        self.ids.append(&mut ids);
        // A stable sort merges two runs in linear time.
        self.ids.sort();
        self.ids.dedup();
        Ok(())
    }
}

/// Base64 of eight bytes for each row.
impl Serialize for FinalRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.ids.iter().flat_map(|RowId(id)| id.to_le_bytes());
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes.collect::<Vec<_>>()))
    }
}

impl<'de> Deserialize<'de> for FinalRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(D::Error::custom)?;
        let (ids, rest) = bytes.as_chunks();
        let ids: Vec<RowId> = ids
            .iter()
            .map(|&id| RowId(u64::from_le_bytes(id)))
            .collect();
        // A search in the ids relies on their order.
        if rest.is_empty() && ids.is_sorted() {
            Ok(Self { ids })
        } else {
            Err(D::Error::custom("row ids are not complete or not sorted"))
        }
    }
}

impl Numbers {
    /// The identity of a row; `None` if it has neither an id nor a time.
    pub(super) fn id(&mut self, record: &Record<'_>) -> Option<RowId> {
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
        let number = self.0.entry(contents).or_default();
        *number += 1;
        Some(RowId(mix(contents ^ mix(*number))))
    }
}

/// A hash of all properties of a row; `None` if it has no time.
fn contents(record: &Record<'_>) -> Option<u64> {
    let time = record.time?.to_rfc3339();
    let figures = (record.money.map(|amount| amount.to_string()), record.counts);
    let figures = format!("{} {} {:?}", figures.0[0], figures.0[1], figures.1);
    let labels = record.labels.iter().map(|label| label.as_bytes());
    let person = record.person.map(str::as_bytes);
    let all = [time.as_bytes(), figures.as_bytes()];
    Some(hash(all.into_iter().chain(person).chain(labels)))
}

/// The first 64 bits of the SHA-256 of some texts.
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

/// The finalizer of `SplitMix64`: a permutation after which ids that are counted up look random.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Rows of a billing period: ten times what the largest tenants have, and 80 MB.
const ROWS_MAX: usize = 10_000_000;
