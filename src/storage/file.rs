//! Files of the storage folder as they are found there: damaged, another user's, far too long, or no files at all. A file
//! is opened without waiting, checked, and read only if it may be a state file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use bytes::Bytes;
use ring::digest;
use rustix::fs::OFlags;

use super::BYTES_MAX;
use super::format::{Rejected, SUM};

/// A regular file that only this user can write, and that is not too long.
#[derive(Debug)]
pub(super) struct Found {
    file: File,
    length: u64,
    /// Its first bytes, up to [`HEAD`] of them.
    pub(super) head: Vec<u8>,
}

impl Found {
    /// Opens a file. A pipe or a device is not waited for, and a link is not followed.
    ///
    /// # Errors
    /// If it cannot be opened or read; the inner error if it cannot be a state file of this user.
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
        } else if found.mode() & WRITABLE_BY_OTHERS != 0 {
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

    /// Whether it ends with the checksum of all that stands before it. Reads it piece by piece.
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

    /// All of it.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        let length = usize::try_from(self.length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.into())
    }
}

/// Whether a path leads to something that cannot be opened as a file, as a link or a socket.
fn is_no_file(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [rustix::io::Errno::LOOP, rustix::io::Errno::NXIO]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

/// Bytes that are enough to tell version and naming.
const HEAD: u64 = 64 << 10;

/// Write permission of the group and of everyone: the exporter creates its files without.
const WRITABLE_BY_OTHERS: u32 = 0o022;
