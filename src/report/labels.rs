//! User labels, and the limit on the number of series of a report.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::hash::BuildHasher as _;

use hashbrown::DefaultHashBuilder;
use ring::hmac;

use super::allocation::Allocation;
use super::column::COUNTS_MAX;
use super::interner::{Dictionary, UNKNOWN};
use super::person_table::{PersonId, PersonTable};
use crate::money::Sum;
use crate::period::BillingPeriod;

/// Pseudonyms by a keyed hash (HMAC-SHA-256) of the user principal name in lower case. A pseudonym is the first 128
/// bits of the hash, in hexadecimal. If the name is missing, the object id is hashed.
///
/// With the same key, a person has the same pseudonym across restarts and machines. Without the key, a guessed name
/// cannot be verified.
#[derive(Clone)]
pub struct Pseudonyms(hmac::Key);

/// Content of the label `user`.
#[derive(Clone, Debug, PartialEq)]
pub enum UserLabel {
    /// The user principal name.
    Upn,
    /// The object id.
    Id,
    /// The display name.
    DisplayName,
    /// A pseudonym.
    Pseudonym(Pseudonyms),
    /// No label `user`. Every sample is a sum over all users.
    None,
}

/// Everything that rendering a report needs, except for the rows.
pub struct RenderContext<'a> {
    /// The tenant's name, if tenants have names.
    pub tenant: Option<&'a str>,
    /// The billing period of the report.
    pub period: BillingPeriod,
    /// Content of the label `user`.
    pub user_label: &'a UserLabel,
    /// The setting `max_series`.
    pub series_max: usize,
    /// The budgets and pools of the tenant for this report, and the departments.
    pub allocation: &'a Allocation,
    /// The series that the last poll kept.
    pub retained: &'a RetainedSeries,
}

/// The series that the last aggregation into `__other__` kept. If a series near the limit was kept, later polls prefer
/// to keep it, so that a user does not appear and disappear from poll to poll.
#[derive(Clone, Default)]
pub struct RetainedSeries {
    hasher: DefaultHashBuilder,
    series: HashSet<u64>,
}

/// The distinct values of the label `user` in a report, and the value of each person.
pub(crate) struct UserLabels {
    pub(crate) labels: Dictionary,
    /// For each person, the rank of the label in `labels`.
    of: Vec<u32>,
}

/// Size of a series: its first figure without the sign. If first figures are equal, the counts decide.
pub(crate) type Size = (Sum, [i64; COUNTS_MAX]);

impl Pseudonyms {
    /// Creates pseudonyms with a key of any length. The key should have at least 16 bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The pseudonym of a user principal name, or of the object id of a user without such a name.
    pub fn of(&self, user: &str) -> String {
        String::from_utf8(self.digits(user).to_vec()).expect("hexadecimal digits are ASCII")
    }

    fn digits(&self, user: &str) -> [u8; PSEUDONYM_LENGTH] {
        let tag = hmac::sign(&self.0, user.to_lowercase().as_bytes());
        let mut digits = [0; PSEUDONYM_LENGTH];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(tag.as_ref()) {
            pair[0] = HEXADECIMAL[usize::from(byte >> 4)];
            pair[1] = HEXADECIMAL[usize::from(byte & 15)];
        }
        digits
    }
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms")
    }
}

/// Equal if the keys are equal, because then all pseudonyms are equal.
impl PartialEq for Pseudonyms {
    fn eq(&self, other: &Self) -> bool {
        self.of("") == other.of("")
    }
}

impl UserLabel {
    /// The text of this value in the configuration and in state files.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Upn => "upn",
            Self::Id => "id",
            Self::DisplayName => "display_name",
            Self::Pseudonym(_) => "pseudonym",
            Self::None => "none",
        }
    }

    /// Text that identifies the kind of user labels in a state file. For pseudonyms, it contains a sample pseudonym, so
    /// that a change of the key is detected.
    pub(crate) fn identity(&self) -> String {
        let key = match self {
            Self::Pseudonym(pseudonyms) => pseudonyms.of(""),
            _ => String::new(),
        };
        format!("{} {key}", self.as_str())
    }

    /// Returns true if labels show names that identify a person without other data.
    pub(crate) fn shows_names(&self) -> bool {
        matches!(self, Self::Upn | Self::DisplayName)
    }

    /// Returns whether samples have the label `user`.
    pub(crate) fn names_users(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The user label of a person. Empty if samples do not have the label `user`.
    pub(crate) fn label<'p>(&self, names: [&'p str; 3]) -> Cow<'p, str> {
        match (self, self.name(names)) {
            (Self::None, _) => Cow::Borrowed(""),
            (_, "") => Cow::Borrowed(UNKNOWN),
            (Self::Pseudonym(pseudonyms), name) => Cow::Owned(pseudonyms.of(name)),
            (_, name) => Cow::Borrowed(name),
        }
    }

    /// The name from which the user label of a person is made. Empty if the person has no such name, or if samples do
    /// not have the label `user`.
    pub(crate) fn name<'p>(&self, [id, principal_name, display_name]: [&'p str; 3]) -> &'p str {
        match self {
            Self::Upn | Self::Pseudonym(_) => first_of(principal_name, id),
            Self::Id => id,
            Self::DisplayName => first_of(display_name, id),
            Self::None => "",
        }
    }
}

impl UserLabels {
    /// Makes the configured user label of every person. The result does not contain the persons' other names.
    pub(crate) fn new(persons: &PersonTable, user_label: &UserLabel) -> Self {
        let name = |person| user_label.name(persons.names(person));
        let pseudonyms: Vec<[u8; PSEUDONYM_LENGTH]> = match user_label {
            UserLabel::Pseudonym(pseudonyms) => (0..persons.count())
                .map(|person| pseudonyms.digits(name(person)))
                .collect(),
            _ => Vec::new(),
        };
        let label = |person: PersonId| match (user_label, name(person)) {
            (UserLabel::None, _) => "",
            (_, "") => UNKNOWN,
            (UserLabel::Pseudonym(_), _) => std::str::from_utf8(&pseudonyms[person as usize])
                .expect("hexadecimal digits are ASCII"),
            (_, name) => name,
        };
        let persons = sorted(persons.count(), &label);
        let (labels, of) = Dictionary::from_sorted(persons.map(|person| (person, label(person))));
        Self { labels, of }
    }

    /// The rank of a person's label.
    pub(crate) fn of(&self, person: PersonId) -> u32 {
        self.of[person as usize]
    }
}

impl RetainedSeries {
    /// Selects which `room` of `count` series are kept. Returns the indices of the other series, which must be
    /// aggregated, and the series that are kept.
    ///
    /// Nine tenths of the room are for the largest series. In the last tenth, series that the last poll kept are
    /// preferred to other series of similar size.
    pub(crate) fn select<'k>(
        &self,
        count: usize,
        room: usize,
        size: &dyn Fn(usize) -> Size,
        key: &dyn Fn(usize) -> (String, &'k str),
    ) -> (Vec<usize>, Self) {
        let mut by_size: Vec<usize> = (0..count).collect();
        by_size.sort_unstable_by_key(|&index| (Reverse(size(index)), index));
        let certain = room - room / 10;
        let edge_end = (room + room / 10).min(by_size.len());
        let hash = |&index: &usize| {
            let (group, user) = key(index);
            self.hasher.hash_one((&*group, user))
        };
        by_size[certain..edge_end].sort_by_key(|index| !self.series.contains(&hash(index)));
        let aggregated = by_size.split_off(room);
        let retained = Self {
            hasher: self.hasher.clone(),
            series: by_size.iter().map(hash).collect(),
        };
        (aggregated, retained)
    }
}

/// Persons, sorted by their labels.
///
/// Nearly all labels differ in the 16 bytes after the prefix that all labels share. These bytes are stored with the
/// person, so a comparison rarely reads the text, which is elsewhere in memory.
fn sorted<'a>(
    count: u32,
    label: &impl Fn(PersonId) -> &'a str,
) -> impl ExactSizeIterator<Item = PersonId> {
    let first = if count == 0 { "" } else { label(0) };
    let shared = (0..count).fold(first.len(), |shared, person| {
        first.as_bytes()[..shared]
            .iter()
            .zip(label(person).as_bytes())
            .take_while(|(a, b)| a == b)
            .count()
    });
    let mut order: Vec<(u128, PersonId)> = (0..count)
        .map(|person| {
            let rest = &label(person).as_bytes()[shared..];
            let mut bytes = [0; 16];
            let length = rest.len().min(bytes.len());
            bytes[..length].copy_from_slice(&rest[..length]);
            (u128::from_be_bytes(bytes), person)
        })
        .collect();
    // Sorts by the 16 bytes alone. A comparison that may read the text has a branch and takes four times as long.
    order.sort_unstable_by_key(|&(number, _)| number);
    for same in order.chunk_by_mut(|a, b| a.0 == b.0) {
        if same.len() > 1 {
            same.sort_unstable_by_key(|&(_, person)| label(person));
        }
    }
    order.into_iter().map(|(_, person)| person)
}

fn first_of<'a>(name: &'a str, otherwise: &'a str) -> &'a str {
    if name.is_empty() { otherwise } else { name }
}

/// Number of hexadecimal digits of a pseudonym. With 128 bits, a collision among a million users is practically
/// impossible.
const PSEUDONYM_LENGTH: usize = 32;

const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_names_have_a_million_pseudonyms() {
        let pseudonyms = Pseudonyms::new(b"0123456789abcdef");
        let distinct: HashSet<[u8; PSEUDONYM_LENGTH]> = (0..1_000_000)
            .map(|number| pseudonyms.digits(&format!("user{number}@contoso.com")))
            .collect();
        assert_eq!(distinct.len(), 1_000_000);
    }

    #[test]
    fn a_pseudonym_depends_on_key_and_name_but_not_on_case() {
        let pseudonyms = Pseudonyms::new(b"0123456789abcdef");
        assert_eq!(
            pseudonyms.of("Ann@Contoso.com"),
            pseudonyms.of("ann@contoso.com")
        );
        assert_ne!(
            pseudonyms.of("ann@contoso.com"),
            pseudonyms.of("bob@contoso.com")
        );
        assert_ne!(
            pseudonyms.of("ann@contoso.com"),
            Pseudonyms::new(b"fedcba9876543210").of("ann@contoso.com")
        );
    }
}
