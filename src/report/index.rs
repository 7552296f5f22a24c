//! Finds the number of a value. The caller stores the values in the order of their numbers.

use std::hash::{BuildHasher as _, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::memory::table_bytes;

/// The numbers of distinct values.
///
/// An entry has the hash of its value. Without the stored hash, a growing table would read every value from memory
/// again, and a search would read values that do not match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    entries: HashTable<(u32, u32)>,
    hasher: DefaultHashBuilder,
}

impl Index {
    /// Returns the number of the value. If the value is new, its number is `next`. `is_same` takes a number, and
    /// returns whether the stored value with this number equals `value`.
    #[inline]
    pub(crate) fn number(
        &mut self,
        value: impl Hash,
        next: u32,
        is_same: impl Fn(u32) -> bool,
    ) -> u32 {
        let hash = self.hasher.hash_one(value) >> 32;
        let hash = u32::try_from(hash).expect("the upper half");
        let same = |&(other, number): &(u32, u32)| other == hash && is_same(number);
        if let Some(&(_, number)) = self.entries.find(spread(hash), same) {
            return number;
        }
        self.entries
            .insert_unique(spread(hash), (hash, next), |&(hash, _)| spread(hash));
        next
    }

    /// Bytes of memory that the index takes.
    pub(crate) fn bytes(&self) -> usize {
        let entries = &self.entries;
        table_bytes(entries.allocation_size(), entries.len(), entries.capacity())
    }
}

/// The hash in both halves of 64 bits. A hash table needs both: it takes the position of an entry from the low bits,
/// and seven check bits from the high bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
