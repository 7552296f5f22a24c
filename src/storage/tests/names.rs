//! User labels that files in the folder may have.

use std::collections::BTreeMap;

use super::super::sweep::{TenantFiles, forget, sweep};
use super::*;
use crate::report::ReportKind;

/// A rejected file has the current user labels, other ones, or unknown ones.
#[test]
fn file_with_other_user_labels_is_not_quarantined() {
    let summed = |text: &str| {
        let sum = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        [text.as_bytes(), sum.as_ref()].concat()
    };
    let written = |naming: &str, numbers: &str| {
        let identity = Identity {
            naming: naming.to_owned(),
            numbers: numbers.to_owned(),
            shows_names: false,
            columns: Vec::new(),
        };
        let mut file = Vec::new();
        encode(&saved(&[1]), &identity, &mut file).unwrap();
        file
    };
    let cut = |file: Vec<u8>| file[..file.len() - 1].to_vec();
    let newer = "teams-pstn-exporter state 2\n{\"naming\":\"Id\",\"more\":1}\n";
    // With ids as labels, and with real names: `Id` and `Upn`.
    for (what, [hidden, shows_names], file) in [
        ("of another tenant", [true, false], written("Id", "other")),
        ("of another tenant", [false, true], written("Upn", "other")),
        ("torn", [false, false], cut(written("Id", "other"))),
        ("torn", [false, true], cut(written("Upn", "other"))),
        ("newer", [true, false], summed(newer)),
        ("newer and torn", [false, false], newer.into()),
        ("not ours", [false, true], b"PK\x03\x04".to_vec()),
        (
            "cut in its naming",
            [false, true],
            newer.as_bytes()[..40].to_vec(),
        ),
        ("empty", [false, true], Vec::new()),
    ] {
        for (naming, shows_names, stays) in [("Id", false, hidden), ("Upn", true, shows_names)] {
            let folder = TempDir::new().unwrap();
            let identity = Identity {
                naming: naming.to_owned(),
                shows_names,
                ..identity()
            };
            fs::write(folder.path().join("a.dialout.state"), &file).unwrap();
            fs::write(folder.path().join("a.sms.state"), &file).unwrap();
            fs::write(folder.path().join("a.sms.state.rejected"), &file).unwrap();
            let owner = TenantFiles {
                identity: identity.clone(),
                reports: vec![(ReportKind::Dialout, identity.clone())],
            };
            sweep(folder.path(), &BTreeMap::from([("a".to_owned(), owner)])).unwrap();
            let file = StateFile::new(folder.path(), "a.dialout", identity);
            file.read(family).unwrap_err();
            let expected: &[_] = if stays {
                &[
                    "a.dialout.state.rejected",
                    "a.sms.state",
                    "a.sms.state.rejected",
                ]
            } else {
                &[]
            };
            assert_eq!(listed(folder.path()), expected, "{what}, {naming}");
        }
    }
}

#[test]
fn quarantined_file_with_other_user_labels_is_deleted() {
    let folder = TempDir::new().unwrap();
    let file = StateFile::new(folder.path(), "a", identity());
    let (path, quarantined) = ("a.state", "a.state.rejected");
    fs::write(folder.path().join(path), "torn").unwrap();
    file.read(family).unwrap_err();
    assert_eq!(listed(folder.path()), [quarantined]);
    write(&file, &saved(&[1])).unwrap();
    assert_eq!(listed(folder.path()), [path, quarantined]);
    let other = Identity {
        naming: "none".to_owned(),
        ..identity()
    };
    let error = StateFile::new(folder.path(), "a", other)
        .read(family)
        .unwrap_err();
    assert!(matches!(error, StorageError::Rejected { .. }), "{error}");
    assert_eq!(listed(folder.path()), [""; 0]);
}

#[test]
fn removed_files_by_table() {
    let all = [
        "a.b.dialout.state",
        "a.b.dialout.state.0123.new",
        "a.b.sms.state.new",
        "a.b.sms.state.rejected",
        "a.b.state.old",
        "a.c.dialout.state",
        "a.c.dialout.state.0123.new",
        "b.dialout.state",
        "notes.txt",
    ];
    let check = |removing: &dyn Fn(&Path), gone: &[usize]| {
        let folder = TempDir::new().unwrap();
        removing(&folder.path().join("missing"));
        for name in all {
            fs::write(folder.path().join(name), "").unwrap();
        }
        removing(folder.path());
        let stays = (0..all.len()).filter(|index| !gone.contains(index));
        let stays: Vec<_> = stays.map(|index| all[index]).collect();
        assert_eq!(listed(folder.path()), stays);
    };
    let [dialout, sms] = [ReportKind::Dialout, ReportKind::Sms];
    let forget = |folder: &Path, name: &str, reports: &[ReportKind]| {
        forget(folder, name, reports).unwrap();
    };
    check(
        &|folder| forget(folder, "a.b", &[dialout, sms]),
        &[0, 1, 2, 3],
    );
    check(&|folder| forget(folder, "a.b", &[sms]), &[2, 3]);
    check(&|folder| forget(folder, "a", &[dialout, sms]), &[]);
    let identity = identity();
    let owner = TenantFiles {
        identity: identity.clone(),
        reports: vec![(ReportKind::Dialout, identity.clone())],
    };
    let both: BTreeMap<_, _> = ["a.b", "x"]
        .map(|name| (name.to_owned(), owner.clone()))
        .into();
    // The file that is set aside is empty, so nothing says that it has the current user labels.
    check(&|folder| sweep(folder, &both).unwrap(), &[1, 2]);
    let hidden = Identity {
        shows_names: false,
        ..identity.clone()
    };
    let owner = TenantFiles {
        identity: hidden.clone(),
        reports: vec![(dialout, hidden.clone())],
    };
    let both: BTreeMap<_, _> = ["a.b", "x"]
        .map(|name| (name.to_owned(), owner.clone()))
        .into();
    check(&|folder| sweep(folder, &both).unwrap(), &[1, 2, 3]);
}
