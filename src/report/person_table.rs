//! Interned persons of a report. A person is stored once, even if several rows name the person.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::memory::table_bytes;

/// Interned persons. A person is the triple of id, principal name and display name. Each of the three may be empty. Two
/// rows have the same person only if all three are equal.
#[derive(Default)]
pub(crate) struct PersonTable {
    text: String,
    spans: Vec<Span>,
    index: HashTable<(Hash, PersonId)>,
    hasher: DefaultHashBuilder,
}

/// Index of a person.
pub(crate) type PersonId = u32;

/// A hash that a hash table stores with each entry. Without the stored hash, a growing table would read every entry
/// from memory again, and a search would read entries that do not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hash(u32);

struct Span {
    start: usize,
    lengths: [u16; 3],
}

impl PersonTable {
    /// Returns the person with these names. Each name is at most 1,024 bytes long.
    pub(crate) fn intern(&mut self, names: [&str; 3]) -> PersonId {
        // Hashes a tuple, because hashing an array would also hash its length.
        let hash = Hash::of(&self.hasher, (names[0], names[1], names[2]));
        let same =
            |&(other, person): &(Hash, PersonId)| other == hash && self.names(person) == names;
        if let Some(&(_, person)) = self.index.find(hash.spread(), same) {
            return person;
        }
        let person = PersonId::try_from(self.spans.len()).expect("fewer persons than rows");
        let length = |name: &str| {
            u16::try_from(name.len()).expect("the reader of rows limits the length of a name")
        };
        self.spans.push(Span {
            start: self.text.len(),
            lengths: names.map(length),
        });
        self.text.extend(names);
        self.index
            .insert_unique(hash.spread(), (hash, person), |(hash, _)| hash.spread());
        person
    }

    /// Bytes of memory that the persons take.
    pub(crate) fn bytes(&self) -> usize {
        let index = &self.index;
        let index = table_bytes(index.allocation_size(), index.len(), index.capacity());
        self.text.len() + size_of_val(&*self.spans) + index
    }

    /// The number of persons. Every [`PersonId`] is below this number.
    pub(crate) fn count(&self) -> u32 {
        PersonId::try_from(self.spans.len()).expect("fewer persons than rows")
    }

    /// Map of the persons that share an id but have different names. The value of each is the first person with that
    /// id. There are few such persons, if any.
    pub(crate) fn namesakes_by_id(&self) -> HashMap<PersonId, PersonId> {
        let mut first: HashMap<&str, PersonId> = HashMap::with_capacity(self.spans.len());
        let mut shared = HashMap::new();
        for person in 0..self.count() {
            let one = *first.entry(self.names(person)[0]).or_insert(person);
            if one != person {
                shared.insert(one, one);
                shared.insert(person, one);
            }
        }
        shared
    }

    /// Id, user principal name and display name.
    pub(crate) fn names(&self, person: PersonId) -> [&str; 3] {
        let Span { start, lengths } = self.spans[person as usize];
        let mut rest = &self.text[start..];
        lengths.map(|length| {
            let name;
            (name, rest) = rest.split_at(length.into());
            name
        })
    }
}

impl Hash {
    pub(crate) fn of(hasher: &DefaultHashBuilder, value: impl std::hash::Hash) -> Self {
        let hash = hasher.hash_one(value);
        Self(u32::try_from(hash >> 32).expect("the upper half"))
    }

    /// The hash in 64 bits for a hash table. The table takes the position of an entry from the low bits, and seven
    /// check bits from the high bits.
    pub(crate) fn spread(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_the_triple() {
        let mut persons = PersonTable::default();
        let first = persons.intern(["1", "ann@x", "Ann"]);
        assert_eq!(persons.intern(["1", "ann@x", "Ann"]), first);
        let others = [
            ["1", "ann@x", ""],
            ["", "1ann@x", "Ann"],
            ["1ann@x", "", "Ann"],
            ["", "", ""],
        ];
        for (index, names) in others.into_iter().enumerate() {
            let person = persons.intern(names);
            assert_eq!(person as usize, index + 1);
            assert_eq!(persons.names(person), names);
        }
        assert_eq!(persons.count(), 5);
    }
}
