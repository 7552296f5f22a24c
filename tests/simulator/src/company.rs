//! A believable company: its people, who share its calls and messages by how active they are.
//!
//! Everything about a company is a function of its seed. The module `traffic` makes the rows.

use super::people::{Person, User};
use super::rng::Rng;

/// A company. Another seed is another company.
#[derive(Debug)]
pub struct Company {
    pub(super) seed: u64,
    pub(super) people: Vec<Person>,
    /// Cumulative activity up to each person.
    activity: Vec<u64>,
}

impl Company {
    /// Creates the company and its people. About one person in seven never calls.
    pub fn new(seed: u64, people: u32) -> Self {
        let people: Vec<Person> = (0..people)
            .map(|number| Person::hire(seed, number))
            .collect();
        let sums = people.iter().scan(0, |sum, person| {
            *sum += u64::from(person.activity);
            Some(*sum)
        });
        Self {
            seed,
            activity: sums.collect(),
            people,
        }
    }

    /// Its accounts, in an order that does not change.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.people.iter().map(|person| &person.user)
    }

    /// A random person, weighted by activity.
    ///
    /// # Panics
    /// If the company has no people.
    pub(super) fn anyone(&self, rng: &mut Rng) -> &Person {
        let total = self.activity.last().map_or(1, |sum| (*sum).max(1));
        let lot = rng.roll() % total;
        &self.people[self
            .activity
            .partition_point(|sum| *sum <= lot)
            .min(self.people.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn user_names_differ() {
        let company = Company::new(1, 2_000);
        let names: BTreeMap<_, _> = company
            .people
            .iter()
            .map(|person| (&person.user.principal_name, &person.user.id))
            .collect();
        assert_eq!(names.len(), 2_000);
        assert!(names.keys().all(|name| name.is_ascii()));
    }
}
