//! The fuzzers of `tests/fuzz`, for a bounded time: their seeds, and random changes of them.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use teams_pstn_exporter::fuzz;

/// A target, and the folders and files that its seeds are in, besides those of its name in `tests/fuzz/seeds`.
type Target = (&'static str, fn(&[u8]), &'static [&'static str]);

const TARGETS: &[Target] = &[
    ("page", fuzz::page, &["tests/fixtures"]),
    ("next_link", fuzz::next_link, &["tests/fixtures"]),
    (
        "configuration",
        fuzz::configuration,
        &["deploy/teams-pstn-exporter.example.yml"],
    ),
    ("web_configuration", fuzz::web_configuration, &[]),
    ("headers", fuzz::headers, &[]),
    ("state", |bytes| _ = fuzz::state(bytes), &[]),
];

#[test]
fn invariants_hold_after_every_mutation_of_a_seed() {
    for (name, target, others) in TARGETS {
        let seeds = seeds(name, others);
        for (path, seed) in &seeds {
            assert!(
                catch_unwind(|| target(seed)).is_ok(),
                "{name}: {}",
                path.display()
            );
        }
        let seed = any::<Index>().prop_map(|index| index.get(&seeds).1.clone());
        let mut runner = TestRunner::new(Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        });
        let changed = (seed, vec(change(), 1..8)).prop_map(|(seed, changes)| {
            changes
                .iter()
                .fold(seed, |bytes, change| change.apply(bytes))
        });
        let run = runner.run(&changed, |bytes| {
            target(&bytes);
            Ok(())
        });
        assert!(run.is_ok(), "{name}: {run:?}");
    }
}

/// Else the fuzzer would begin with nothing: it finds no way through a header by itself.
#[test]
fn state_file_seeds_are_accepted() {
    let seeds = seeds("state", &[]);
    assert!(seeds.iter().all(|(_, seed)| fuzz::state(seed)));
}

/// Each has a file of its own for the fuzzer, and the fuzzer knows it.
#[test]
fn every_fuzz_target_has_a_fuzzer() {
    let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).unwrap();
    let listed: Vec<&str> = manifest
        .lines()
        .filter_map(|line| {
            line.strip_prefix("path = \"targets/")?
                .strip_suffix(".rs\"")
        })
        .collect();
    let names: Vec<&str> = TARGETS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(listed, names);
    for name in names {
        let path = root().join(format!("tests/fuzz/targets/{name}.rs"));
        let text = fs::read_to_string(path).unwrap();
        let call = format!("teams_pstn_exporter::fuzz::{name}(bytes);");
        assert!(text.contains(&call), "{name}");
    }
}

/// A change that a fuzzer makes to bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// A piece comes a second time elsewhere.
    Copy(Index, Index, usize),
    Cut(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let words = prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec());
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (at(), vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), words).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), 1..20_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (at(), at(), 1..80_usize).prop_map(|(from, to, length)| Change::Copy(from, to, length)),
        at().prop_map(Change::Cut),
    ]
}

impl Change {
    fn apply(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() {
            return bytes;
        }
        let end = |from: usize, length: usize| (from + length).min(bytes.len());
        match self {
            Self::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Self::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, length) => {
                let at = at.index(bytes.len());
                let end = end(at, *length);
                bytes.drain(at..end);
            }
            Self::Copy(from, to, length) => {
                let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
                let piece = bytes[from..end(from, *length)].to_vec();
                bytes.splice(to..to, piece);
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
        bytes
    }
}

fn seeds(name: &str, others: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let own = format!("tests/fuzz/seeds/{name}");
    let mut seeds = Vec::new();
    for path in others.iter().copied().chain([own.as_str()]) {
        let path = root().join(path);
        let files = if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        } else {
            vec![path]
        };
        for file in files {
            let bytes = fs::read(&file).unwrap();
            seeds.push((file, bytes));
        }
    }
    seeds.sort();
    assert!(!seeds.is_empty(), "{name}");
    seeds
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Of every target, so that a second in a test reaches further than chance alone.
const CASES: u32 = 1_000;

/// Tokens of the languages that the exporter reads.
const WORDS: &[&str] = &[
    "null",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    "\n",
    ":",
    ",",
    "1e400",
    "NaN",
    "-0",
    "1e-30",
    "\\u0000",
    "\\ud800",
    "9223372036854775808",
    "\"value\":",
    "&a",
    "*a",
    "? ",
    "- ",
    "!!binary ",
    "<<: ",
    "|\n",
    "//evil.example",
    "@",
    "#",
    "%00",
    ";q=0.",
    "text/plain",
    "{user}",
];
