//! Interned persons of a report. A person is stored once, even if several rows name the person.

use hashbrown::HashMap;

use super::index::Index;

/// Interned persons. A person is the triple of id, principal name and display name. Each of the three may be empty. Two
/// rows have the same person only if all three are equal.
#[derive(Default)]
pub(crate) struct PersonTable {
    text: String,
    spans: Vec<Span>,
    index: Index,
}

/// Index of a person.
pub(crate) type PersonId = u32;

struct Span {
    start: usize,
    lengths: [u16; 3],
}

impl PersonTable {
    /// Returns the person with these names. Each name is at most 1,024 bytes long.
    pub(crate) fn intern(&mut self, names: [&str; 3]) -> PersonId {
        let Self { text, spans, index } = self;
        let next = PersonId::try_from(spans.len()).expect("fewer persons than rows");
        // Hashes a tuple, because hashing an array would also hash its length.
        let person = index.number((names[0], names[1], names[2]), next, |person| {
            spans[person as usize].names(text) == names
        });
        if person == next {
            let length = |name: &str| {
                u16::try_from(name.len()).expect("the reader of rows limits the length of a name")
            };
            spans.push(Span {
                start: text.len(),
                lengths: names.map(length),
            });
            text.extend(names);
        }
        person
    }

    /// Bytes of memory that the persons take.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.spans) + self.index.bytes()
    }

    /// The number of persons. Every [`PersonId`] is below this number.
    pub(crate) fn count(&self) -> u32 {
        PersonId::try_from(self.spans.len()).expect("fewer persons than rows")
    }

    /// For each id that several persons with different names share, maps all of these persons to the first of them.
    /// There are few such persons, if any.
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
        self.spans[person as usize].names(&self.text)
    }
}

impl Span {
    fn names<'t>(&self, text: &'t str) -> [&'t str; 3] {
        let mut rest = &text[self.start..];
        self.lengths.map(|length| {
            let name;
            (name, rest) = rest.split_at(length.into());
            name
        })
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
