//! Checks of the files in the storage folder. A file can be damaged, too long, owned by another user, or not a regular
//! file. It is opened without waiting and checked, and is read only if it can be a state file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use bytes::Bytes;
use ring::digest;
use rustix::fs::OFlags;

use super::format::{Rejected, SUM, naming};
use super::{BYTES_MAX, Identity};

/// A regular file of limited length that only this user and the process's groups can write.
#[derive(Debug)]
pub(super) struct OpenedFile {
    file: File,
    length: u64,
    /// The first bytes, up to [`HEAD`] of them.
    pub(super) head: Vec<u8>,
}

impl OpenedFile {
    /// Opens a file. Does not wait for a pipe or a device, and does not follow a link.
    ///
    /// # Errors
    /// If the file cannot be opened or read. The inner error states why the file cannot be a state file of this user.
    pub(super) fn open(path: &Path) -> io::Result<Result<Self, Rejected>> {
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).expect("flags fit into an int");
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if is_no_file(&error) => return Ok(Err(Rejected::NoFile)),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        let user = rustix::process::geteuid().as_raw();
        let rejected = if !found.is_file() {
            Some(Rejected::NoFile)
        } else if found.uid() != user {
            Some(Rejected::OtherOwner {
                owner: found.uid(),
                user,
            })
        } else if is_writable_by_others(found.mode(), found.gid(), &own_groups()?) {
            Some(Rejected::Writable)
        } else if found.len() > BYTES_MAX {
            Some(Rejected::TooLong)
        } else {
            None
        };
        if let Some(rejected) = rejected {
            return Ok(Err(rejected));
        }
        let mut head = Vec::new();
        (&file).take(HEAD).read_to_end(&mut head)?;
        Ok(Ok(Self {
            file,
            length: found.len(),
            head,
        }))
    }

    /// Returns true if the file ends with the checksum of all bytes before it. Reads it in pieces.
    pub(super) fn is_whole(&self) -> io::Result<bool> {
        let Some(mut left) = self.length.checked_sub(SUM as u64) else {
            return Ok(false);
        };
        let mut sum = digest::Context::new(&digest::SHA256);
        let mut piece = vec![0; 64 << 10];
        let mut at = 0;
        while left > 0 {
            let length = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            let piece = &mut piece[..length];
            self.file.read_exact_at(piece, at)?;
            sum.update(piece);
            at += length as u64;
            left -= length as u64;
        }
        let mut stored = [0; SUM];
        self.file.read_exact_at(&mut stored, at)?;
        Ok(sum.finish().as_ref() == stored)
    }

    /// Returns true if a rejected file may be set aside for people to look at. `found` is `None` if the file cannot be
    /// opened, so its content is unknown.
    ///
    /// A file that states another kind of user labels than the current one must not be set aside. Every other file may
    /// be set aside if the current labels show real names. If they do not, the file must state the current kind and
    /// have the right checksum, because a damaged file can be a mixture of two files.
    pub(super) fn may_be_quarantined(found: Option<&Self>, identity: &Identity) -> bool {
        let is_whole = || found.is_some_and(|found| found.is_whole().unwrap_or(false));
        match found.and_then(|found| naming(&found.head)) {
            Some(naming) if naming != identity.naming => false,
            Some(_) => identity.shows_names || is_whole(),
            None => identity.shows_names,
        }
    }

    pub(super) fn read(&self) -> io::Result<Bytes> {
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.into())
    }
}

/// Returns true if the error means that the path is a link, a socket or the like, and not a regular file.
fn is_no_file(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::LOOP, rustix::io::Errno::NXIO]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Returns whether a user outside the process's own groups can write a file of this mode and group.
///
/// Kubernetes gives every file of a volume to the pod's `fsGroup` and makes it writable for that group. The exporter's
/// process is in this group.
fn is_writable_by_others(mode: u32, group: u32, own_groups: &[u32]) -> bool {
    mode & WRITABLE_BY_EVERYONE != 0
        || mode & WRITABLE_BY_GROUP != 0 && !own_groups.contains(&group)
}

/// The effective and the supplementary groups of the process.
fn own_groups() -> io::Result<Vec<u32>> {
    let mut groups = rustix::process::getgroups()?;
    groups.push(rustix::process::getegid());
    Ok(groups
        .into_iter()
        .map(rustix::process::Gid::as_raw)
        .collect())
}

/// Number of bytes at the beginning of a file that contain the version and the kind of the user labels.
const HEAD: u64 = 64 << 10;

/// Write permission of the file's group. The exporter creates its files without this permission.
const WRITABLE_BY_GROUP: u32 = 0o020;

/// Write permission of everyone. The exporter creates its files without this permission.
const WRITABLE_BY_EVERYONE: u32 = 0o002;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_write_is_accepted_only_for_a_group_of_the_process() {
        let own_groups = [1_000, 65_534];
        for (mode, group, rejected) in [
            (0o600, 1, false),
            (0o640, 1, false),
            (0o644, 1, false),
            (0o620, 1, true),
            (0o660, 0, true),
            (0o620, 1_000, false),
            (0o660, 65_534, false),
            // As the kubelet leaves a file of a volume, with the set-group-ID bit of a folder too.
            (0o2660, 65_534, false),
            (0o2660, 1, true),
            (0o602, 65_534, true),
            (0o662, 65_534, true),
            (0o666, 1_000, true),
        ] {
            let found = is_writable_by_others(mode, group, &own_groups);
            assert_eq!(found, rejected, "{mode:o} of group {group}");
        }
        assert!(is_writable_by_others(0o620, 1_000, &[]));
    }

    #[test]
    fn the_effective_group_is_an_own_group() {
        let effective = rustix::process::getegid().as_raw();
        assert!(own_groups().unwrap().contains(&effective));
    }
}
