//! A written file is read again unchanged, and any other file is rejected.

mod files;
mod hostile;
mod names;

use std::os::unix::fs::PermissionsExt as _;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::exposition::{FamilyWriter, Format, write_label};
use crate::report::allocation::{AllocatedSummary, Allocation, DepartmentSpend};
use crate::report::budget::BudgetSpend;
use crate::report::pool::{PoolUse, UsedSeconds};
use crate::report::threshold::Threshold;
use crate::report::{Count, Organizer, Spend};

static CHARGE: Family = Family::gauge("charge", "What it costs.");
static CALLS: Family = Family::gauge("calls", "How many.");

fn family(name: &str) -> Option<&'static Family> {
    [&CHARGE, &CALLS]
        .into_iter()
        .find(|family| family.name == name)
}

fn identity() -> Identity {
    Identity {
        naming: "Upn".to_owned(),
        shows_names: true,
        numbers: "contoso Global 1".to_owned(),
        columns: vec!["label a".to_owned(), "money 0 charge".to_owned()],
    }
}

fn november() -> BillingPeriod {
    let start: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
    start.try_into().unwrap()
}

fn saved(users: &[u32]) -> SavedState {
    let period = november();
    let samples = || {
        let mut writer = FamilyWriter::new(&[&CHARGE, &CALLS]);
        for user in users {
            let mut labels = Vec::new();
            write_label("user", &format!("user{user}@contoso.com"), &mut labels);
            writer.sample(&labels, |family, out| {
                out.extend(format!("{user}.{family}").as_bytes());
            });
        }
        writer.finish().collect::<Vec<_>>()
    };
    let counts = vec![Count {
        what: "calls".into(),
        value: 7,
    }];
    let at = |text: &str| text.parse().unwrap();
    SavedState {
        last_success: Some(at("2026-11-21T12:34:56.789Z")),
        pages: 3,
        aggregated: 1,
        unplaced: Some(2),
        summary: Some(Summary {
            period,
            rows: users.len() as u64,
            newest: Some(at("2026-11-20T23:59:59.5Z")),
            spend: vec![Spend {
                currency: "USD".to_owned(),
                total: "12.83".to_owned(),
                contexts: vec![("International".to_owned(), "12.83".to_owned(), Some(100))],
                counts: counts.clone(),
            }],
            counts: counts.clone(),
            top: vec![Organizer {
                user: "ann@x".to_owned(),
                currency: "USD".to_owned(),
                charge: "12.83".to_owned(),
                counts: counts.clone(),
            }],
            allocated: AllocatedSummary {
                budgets: vec![BudgetSpend {
                    name: "all".to_owned(),
                    currency: "USD".to_owned(),
                    amount: "100".to_owned(),
                    spent: "12.83".to_owned(),
                    percent: 12,
                    thresholds: Threshold::defaults(),
                }],
                pools: vec![PoolUse {
                    name: "us".to_owned(),
                    seconds: 6_000,
                    used: 3_000,
                    percent: 50,
                    thresholds: Vec::new(),
                }],
                departments: vec![DepartmentSpend {
                    department: "Sales".to_owned(),
                    currency: "USD".to_owned(),
                    charge: "12.83".to_owned(),
                    counts: counts.clone(),
                }],
            },
        }),
        current: samples(),
        allocation: Allocation::default().fingerprint(),
        closing: Some((period, samples())),
        closed: Some(ClosedPeriod {
            period: period.previous(),
            samples: samples(),
            fetched: Some((at("2026-11-20T00:00:00Z"), at("2026-11-04T00:00:00Z"))),
            used_seconds: UsedSeconds::default(),
        }),
        ledgers: Ledgers::default(),
    }
}

fn bytes(saved: &SavedState) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(saved, &identity(), &mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<SavedState, Rejected> {
    decode(&bytes.to_vec().into(), &identity(), family)
}

/// All content as text, which must not depend on compression.
fn shown(saved: &SavedState) -> String {
    let text = |samples: &[Samples]| {
        let mut out = Vec::new();
        for samples in samples {
            samples.write(Format::Text, &mut out);
        }
        String::from_utf8(out).unwrap()
    };
    let SavedState {
        last_success,
        pages,
        aggregated,
        summary,
        current,
        closing,
        closed,
        ..
    } = saved;
    let closing = closing
        .as_ref()
        .map(|(period, samples)| (period, text(samples)));
    let closed = closed
        .as_ref()
        .map(|closed| (closed.period, text(&closed.samples), closed.fetched));
    let current = text(current);
    format!("{last_success:?} {pages} {aggregated} {summary:?} {current} {closing:?} {closed:?}")
}

proptest! {
    #[test]
    fn written_state_is_read_unchanged(users in vec(0_u32..1_000_000, 0..2_000)) {
        let saved = saved(&users);
        prop_assert_eq!(shown(&read(&bytes(&saved)).unwrap()), shown(&saved));
    }

    #[test]
    fn truncated_or_changed_file_is_rejected(
        cut in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
    ) {
        let whole = bytes(&saved(&[1, 2, 3]));
        prop_assert!(read(&whole[..cut.index(whole.len())]).is_err());
        let mut changed = whole;
        let bit = bit.index(changed.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read(&changed).is_err());
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(garbage in vec(any::<u8>(), 0..200), summed in any::<bool>()) {
        let mut file = b"teams-pstn-exporter state 2\n".to_vec();
        file.extend(garbage);
        if summed {
            file.extend(ring::digest::digest(&ring::digest::SHA256, &file.clone()).as_ref());
        }
        prop_assert!(read(&file).is_err());
    }
}

#[test]
fn state_files_of_others_are_rejected() {
    let whole = bytes(&saved(&[1]));
    let check = |file: &[u8], identity: &Identity, message: &str| {
        let error = decode(&file.to_vec().into(), identity, family).unwrap_err();
        assert_eq!(error.to_string(), message);
    };
    let own = identity();
    check(b"", &own, "it is not a state file of this program");
    check(
        b"PK\x03\x04",
        &own,
        "it is not a state file of this program",
    );
    check(
        b"teams-pstn-exporter state 3\n{}",
        &own,
        "it was written by a newer version of this program",
    );
    let torn = "it is damaged: its checksum is not that of its content";
    check(b"teams-pstn-exporter state ", &own, torn);
    check(b"teams-pstn-exporter state 0\n", &own, torn);
    check(&whole[..whole.len() - 1], &own, torn);
    let names = Identity {
        naming: "Pseudonym".to_owned(),
        ..identity()
    };
    let other = Identity {
        numbers: "fabrikam".to_owned(),
        ..identity()
    };
    // The columns of a version that has inserted a label.
    let inserted = Identity {
        columns: vec![
            "label 0".to_owned(),
            "label a".to_owned(),
            "money 0 charge".to_owned(),
        ],
        ..identity()
    };
    check(
        &whole,
        &inserted,
        "its labels or columns are not those of this version of the program",
    );
    check(
        &whole,
        &names,
        "its user labels differ from the current setting of labels.user",
    );
    check(
        &whole,
        &other,
        "it belongs to another configuration: another tenant, name of the tenant, cloud, URL or cycle day",
    );
}

#[test]
fn file_is_replaced_in_one_step_and_private() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("made/when/missing");
    let file = StateFile::new(&inner, "contoso.dialout", identity());
    assert!(file.read(family).unwrap().is_none());
    for users in [vec![1; 1_000], vec![2]] {
        write(&file, &saved(&users)).unwrap();
        let read = file.read(family).unwrap().unwrap();
        assert_eq!(shown(&read), shown(&saved(&users)));
    }
    let names: Vec<_> = fs::read_dir(&inner)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["contoso.dialout.state"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner.join(&names[0])), 0o600);
    assert_eq!(mode(&inner), 0o700);
}

#[test]
fn rejected_file_is_quarantined_or_deleted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.state");
    let quarantined = folder.path().join("a.state.rejected");
    let check = |content: &[u8], kept: bool| {
        fs::write(&path, content).unwrap();
        let _ = fs::remove_file(&quarantined);
        let file = StateFile::new(folder.path(), "a", identity());
        let error = file.read(family).unwrap_err();
        assert!(matches!(error, StorageError::Rejected { .. }), "{error}");
        assert!(!path.exists());
        assert_eq!(
            fs::read(&quarantined).ok().as_deref(),
            kept.then_some(content)
        );
        assert!(file.read(family).unwrap().is_none());
    };
    check(b"something else", true);
    let mut named = Vec::new();
    let other = Identity {
        naming: "DisplayName".to_owned(),
        ..identity()
    };
    encode(&saved(&[1]), &other, &mut named).unwrap();
    // These labels must not be shown any more, and an administrator would not look for them here.
    check(&named, false);
}

#[test]
fn temporary_file_of_another_is_neither_followed_nor_reused() {
    let folder = TempDir::new().unwrap();
    let elsewhere = TempDir::new().unwrap();
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    std::os::unix::fs::symlink(&victim, folder.path().join("a.state.new")).unwrap();
    let file = StateFile::new(folder.path(), "a", identity());
    write(&file, &saved(&[1])).unwrap();
    assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    let written = folder.path().join("a.state");
    let metadata = fs::symlink_metadata(&written).unwrap();
    assert!(metadata.is_file());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn unwanted_files_are_deleted() {
    let folder = TempDir::new().unwrap();
    let file = StateFile::new(folder.path(), "a", identity());
    write(&file, &saved(&[1])).unwrap();
    let mut temp = Vec::new();
    let kept = file.write(&saved(&[2]), || {
        temp = listed(folder.path());
        false
    });
    assert!(!kept.unwrap());
    // The file was complete, under a unique name.
    assert_eq!(temp.len(), 2, "{temp:?}");
    assert_eq!(listed(folder.path()), ["a.state"]);
    let read = file.read(family).unwrap().unwrap();
    assert_eq!(shown(&read), shown(&saved(&[1])));
}

#[test]
fn two_writers_at_once_leave_a_whole_file() {
    let folder = TempDir::new().unwrap();
    let file = StateFile::new(folder.path(), "a", identity());
    let outer = file.write(&saved(&[1; 1_000]), || {
        write(&file, &saved(&[2])).unwrap();
        true
    });
    assert!(outer.unwrap());
    assert_eq!(listed(folder.path()), ["a.state"]);
    let read = file.read(family).unwrap().unwrap();
    assert_eq!(shown(&read), shown(&saved(&[1; 1_000])));
}

#[test]
fn files_that_are_too_long_to_read_are_not_written() {
    let saved = saved(&[1, 2, 3]);
    let whole = bytes(&saved);
    let within = |bytes_max| {
        let mut out = Vec::new();
        format::encode_within(bytes_max, &saved, &identity(), &mut out).map(|()| out)
    };
    let length = whole.len() as u64;
    assert_eq!(within(length).unwrap(), whole);
    for less in [length - 1, length / 2, 10, 0] {
        let error = within(less).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{less}");
        let message =
            "it would be longer than 256 MiB, the limit of state files; lower labels.max_series";
        assert_eq!(error.to_string(), message);
    }
}

fn write(file: &StateFile, saved: &SavedState) -> Result<bool, StorageError> {
    file.write(saved, || true)
}

/// The names in a folder, sorted.
fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_old_one() {
    let folder = TempDir::new().unwrap();
    // A name at the limit of the file system, so that the longer temporary name is not possible.
    let name = "a".repeat(240);
    let file = StateFile::new(folder.path(), &name, identity());
    fs::write(
        folder.path().join(format!("{name}.state")),
        bytes(&saved(&[1])),
    )
    .unwrap();
    let error = write(&file, &saved(&[2])).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    let read = file.read(family).unwrap().unwrap();
    assert_eq!(shown(&read), shown(&saved(&[1])));
}

#[test]
fn ledgers_are_read_again() {
    use crate::memory::MemoryPool;
    use crate::report::log::{DayTotals, SeenRows, Totals};
    let period = november();
    let now = "2026-11-21T12:00:00Z".parse().unwrap();
    let memory = MemoryPool::for_process(None).for_report();
    let mut with = saved(&[1]);
    let ledger = with.ledgers.of(period, &Allocation::default());
    let windows_due = ledger.windows_due(now, &memory);
    for window in windows_due.becoming_final.into_iter().take(5) {
        let day = DayTotals {
            window,
            totals: Totals::new(&Allocation::default()),
            ids: Vec::new(),
            is_final: true,
            _memory: memory.reservation(),
        };
        ledger.add_final(&day, &SeenRows::new(&memory));
    }
    let mut read = read(&bytes(&with)).unwrap();
    assert_eq!(read.ledgers.final_days(period), Some(5));
    let left = read
        .ledgers
        .of(period, &Allocation::default())
        .windows_due(now, &memory);
    assert_eq!((left.becoming_final.len(), left.open.len()), (12, 4));
    let json = |totals: &Totals| serde_json::to_string(totals).unwrap();
    let totals = read.ledgers.of(period, &Allocation::default()).totals();
    assert_eq!(json(&totals), json(&Totals::new(&Allocation::default())));
}
