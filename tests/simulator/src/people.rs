//! The employees of a believable company, their countries, and tariffs there.

use std::sync::Arc;

use super::rng::{Rng, mixed};

/// An account as in rows. Clones share the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The object id in Entra, a GUID.
    pub id: Arc<str>,
    /// The user principal name.
    pub principal_name: Arc<str>,
    /// The display name.
    pub display_name: Arc<str>,
}

#[derive(Debug)]
pub(super) struct Person {
    pub(super) user: User,
    pub(super) country: &'static Country,
    /// Share in the company's calls, relative to the others'.
    pub(super) activity: u32,
    /// Percentage of calls that go abroad.
    pub(super) abroad: u32,
}

#[derive(Debug)]
pub(super) struct Country {
    pub(super) code: &'static str,
    /// The name in the logs.
    pub(super) name: &'static str,
    /// Prefix of its telephone numbers.
    pub(super) calling_code: &'static str,
    pub(super) currency: &'static str,
    pub(super) tariff: Tariff,
}

/// Ten-thousandths of the currency's unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tariff {
    pub(super) per_started_minute: u32,
    pub(super) per_connection: u32,
}

impl User {
    /// Returns the account with this number, which determines its texts.
    pub fn numbered(number: u32) -> Self {
        Self {
            id: format!("00000000-0000-4000-8000-{number:012}").into(),
            principal_name: format!("user{number}@contoso.com").into(),
            display_name: format!("User {number}").into(),
        }
    }
}

impl Person {
    pub(super) fn hire(seed: u64, number: u32) -> Self {
        let mut rng = Rng(mixed(seed) ^ mixed(u64::from(number) << 32));
        // The step and the number of names have no common divisor, so every name is used before one repeats.
        let names = FIRST_NAMES.len() * LAST_NAMES.len();
        let nth = usize::try_from(number).expect("at least 32 bits");
        let name = (nth * 371 + usize::from(seed.to_le_bytes()[0])) % names;
        let (first, last) = (
            FIRST_NAMES[name % FIRST_NAMES.len()],
            LAST_NAMES[name / FIRST_NAMES.len()],
        );
        let namesakes = match nth / names {
            0 => String::new(),
            n => (n + 1).to_string(),
        };
        Self {
            user: User {
                id: rng.id().to_string().into(),
                principal_name: format!("{}.{}{namesakes}@contoso.com", ascii(first), ascii(last))
                    .into(),
                display_name: format!("{first} {last}").into(),
            },
            country: match rng.below(100) {
                0..40 => &COUNTRIES[0],
                40..60 => &COUNTRIES[1],
                60..80 => &COUNTRIES[2],
                80..90 => &COUNTRIES[3],
                _ => &COUNTRIES[4],
            },
            activity: match rng.below(100) {
                0..14 => 0,
                14..90 => 1 + rng.below(8),
                _ => 15 + rng.below(25),
            },
            abroad: match rng.below(100) {
                0..45 => 0,
                45..93 => 2 + rng.below(7),
                _ => 20 + rng.below(30),
            },
        }
    }
}

pub(super) const fn tariff(per_started_minute: u32, per_connection: u32) -> Tariff {
    Tariff {
        per_started_minute,
        per_connection,
    }
}

fn ascii(name: &str) -> String {
    name.to_lowercase()
        .replace('ö', "oe")
        .replace('ü', "ue")
        .replace(['ë', 'é'], "e")
        .replace(['\'', ' '], "")
}

/// Countries of a company's employees.
pub(super) const COUNTRIES: [Country; 5] = [
    Country {
        code: "US",
        name: "United States",
        calling_code: "+1",
        currency: "USD",
        tariff: tariff(118, 0),
    },
    Country {
        code: "GB",
        name: "United Kingdom",
        calling_code: "+44",
        currency: "GBP",
        tariff: tariff(96, 50),
    },
    Country {
        code: "DE",
        name: "Germany",
        calling_code: "+49",
        currency: "EUR",
        tariff: tariff(125, 0),
    },
    Country {
        code: "NL",
        name: "Netherlands",
        calling_code: "+31",
        currency: "EUR",
        tariff: tariff(140, 25),
    },
    Country {
        code: "IN",
        name: "India",
        calling_code: "+91",
        currency: "USD",
        tariff: tariff(310, 0),
    },
];

const FIRST_NAMES: [&str; 24] = [
    "Adele", "Aisha", "Alex", "Anna", "Arjun", "Ben", "Chloé", "Diego", "Emily", "Grady", "Hana",
    "Isaiah", "Johanna", "Jörg", "Lidia", "Lynne", "Megan", "Miriam", "Nestor", "Patti", "Pradeep",
    "Ruwini", "Thijs", "Zoë",
];

const LAST_NAMES: [&str; 25] = [
    "Archer",
    "Bakker",
    "Berger",
    "Bowen",
    "Cartwright",
    "De Vries",
    "Fischer",
    "Graham",
    "Gupta",
    "Holloway",
    "Iyer",
    "Jansen",
    "Keller",
    "Langer",
    "Müller",
    "Nair",
    "O'Brien",
    "Patel",
    "Perera",
    "Robbins",
    "Schröder",
    "Sherman",
    "Vance",
    "Wilber",
    "Young",
];
