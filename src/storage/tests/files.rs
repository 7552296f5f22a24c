//! Files and other entries in the place of a state file.

use std::os::unix::fs::{chown, symlink};
use std::process::Command;

use super::*;

#[test]
fn file_of_another_user_is_rejected_unread() {
    let check = |what: &str, message: &str, make: &dyn Fn(&Path)| {
        let folder = TempDir::new().unwrap();
        let file = StateFile::new(folder.path(), "a", identity());
        make(file.path());
        let error = file.read(family).unwrap_err();
        let StorageError::Rejected { source, .. } = error else {
            panic!("{what}: {error:?}");
        };
        assert_eq!(source.to_string(), message, "{what}");
        assert_eq!(listed(folder.path()), ["a.state.rejected"], "{what}");
        // The next start finds no file, and the file that was set aside does not prevent a new one.
        assert!(file.read(family).unwrap().is_none(), "{what}");
        assert!(write(&file, &saved(&[1])).unwrap(), "{what}");
        file.read(family).unwrap().unwrap();
    };
    let write_good = |path: &Path| fs::write(path, bytes(&saved(&[1]))).unwrap();
    let with_mode = |mode: u32| {
        move |path: &Path| {
            write_good(path);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    let no_file = "it is not a regular file";
    check("a pipe", no_file, &|path| {
        let made = Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    });
    check("a folder", no_file, &|path| fs::create_dir(path).unwrap());
    check("a link to a device", no_file, &|path| {
        symlink("/dev/zero", path).unwrap();
    });
    check("a link to itself", no_file, &|path| {
        symlink(path, path).unwrap();
    });
    let writable = "other users may write to it";
    check("of everyone", writable, &with_mode(0o602));
    let too_long = "it is longer than any state file of this program";
    check("too long", too_long, &|path| {
        File::create(path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    });
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        check("of another group", writable, &|path| {
            with_mode(0o620)(path);
            chown(path, None, Some(OTHER_GROUP)).unwrap();
        });
        let of_another = "it belongs to user 65534, and this program runs as user 0";
        check("of another user", of_another, &|path| {
            write_good(path);
            chown(path, Some(65_534), None).unwrap();
        });
    }
}

/// The kubelet makes each file of a volume writable for the `fsGroup` of the pod, which is a group of the exporter.
#[test]
fn files_that_the_own_group_can_write_are_restored() {
    for mode in [0o620, 0o660, 0o2660] {
        let folder = TempDir::new().unwrap();
        let file = StateFile::new(folder.path(), "a", identity());
        write(&file, &saved(&[1])).unwrap();
        let group = rustix::process::getegid().as_raw();
        chown(file.path(), None, Some(group)).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(file.read(family).unwrap().is_some(), "{mode:o}");
        assert_eq!(listed(folder.path()), ["a.state"], "{mode:o}");
    }
}

/// A group that no process of a test has.
const OTHER_GROUP: u32 = 65_533;

/// Files of another version or from a damaged disk are rejected by their beginning or checksum.
#[test]
fn damaged_file_is_rejected() {
    let good = bytes(&saved(&[1]));
    let mut old = good.clone();
    let digit = old.iter().position(|&byte| byte == b'\n').unwrap() - 1;
    old[digit] = b'1';
    let check = |content: &[u8], message: &str| {
        let folder = TempDir::new().unwrap();
        let file = StateFile::new(folder.path(), "a", identity());
        fs::write(file.path(), content).unwrap();
        let Err(StorageError::Rejected { source, .. }) = file.read(family) else {
            panic!("{message}: it is believed");
        };
        assert_eq!(source.to_string(), message);
    };
    let torn = "it is damaged: its checksum is not that of its content";
    check(b"", "it is not a state file of this program");
    check(&[0; 4_000], "it is not a state file of this program");
    check(&old, "it was written by an older version of this program");
    check(&good[..good.len() - 1], torn);
    check(&good[..30], torn);
}
