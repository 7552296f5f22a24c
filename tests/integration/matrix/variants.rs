//! The table has each fault of the simulator.

use std::collections::BTreeSet;

use teams_pstn_simulator::faults::Fault;

use super::table::{What, rows};

/// If the simulator gets another fault, the compiler requires its name here, and the test requires a row for it.
macro_rules! variants {
    ($($variant:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($variant)),*];

        const fn name(fault: &Fault) -> &'static str {
            match fault {
                $(Fault::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

variants![
    Status,
    Literal,
    Unreliable,
    RefuseConnection,
    StallHead,
    StallBody,
    SlowDrip,
    CutBody,
    ExpireToken,
    EmptyForbidden,
    TokenError,
    ZeroLifetimeToken,
    ForeignNextLink,
    LoopingNextLink,
    RelativeNextLink,
    NextLinkSpelling,
    WrongContentType,
    Html,
    NotJson,
    GzipBomb,
    HugePage,
    DeepNesting,
    DuplicateKeys,
    BadRow,
    InvalidUtf8,
    Redirect,
    RepeatRows,
];

#[test]
fn every_fault_of_the_simulator_has_a_row() {
    let row = |what: &What| {
        Some(match what {
            What::Answer(fault) => name(fault),
            What::Row { dialout, .. } => name(&Fault::BadRow {
                at: 0,
                json: (*dialout).to_owned(),
            }),
            What::Connections(_) | What::Name(_) | What::Clock { .. } => return None,
        })
    };
    let mut with_a_row: BTreeSet<_> = rows().iter().filter_map(|it| row(&it.what)).collect();
    // A mix of others by chance, which has tests of its own.
    with_a_row.insert("Unreliable");
    let all: BTreeSet<_> = NAMES.iter().copied().collect();
    assert_eq!(with_a_row, all);
}
