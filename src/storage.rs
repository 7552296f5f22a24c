//! What survives a restart: one file for each report of each tenant, with the newest complete report, the days of a log
//! that need not be asked for again, and the period before.
//!
//! A file is replaced as a whole or not at all: written beside, synced, renamed, and the folder synced. It begins with a
//! version and ends with a checksum, and says of which configuration it is; one that is torn, foreign, newer or of another
//! configuration is set aside with a word and never believed. It is readable by its owner only, and people are in it under
//! the names that the labels have, no others. Where those change, the files of a tenant are removed, with all that stands
//! beside them: by a reload all of them, at a start all that do not say themselves that their names are those of now, be
//! they of a report that is polled or not. Else files of a report that is no longer configured stay until somebody removes
//! them, or until it is configured again; so do those of a tenant that is not configured here, whatever their names, since
//! it may be another exporter's, and those in a folder that is no longer the configured one.
//!
//! What this module does not do: decide what is remembered, or when.

mod file;
mod format;
mod sweep;
mod wire;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::exposition::{Family, Samples};
use crate::period::BillingPeriod;
use crate::report::budget::Budget;
use crate::report::log::Ledgers;
use crate::snapshot::Summary;

pub(crate) use format::{Rejected, decode, encode};
pub(crate) use sweep::{TenantFiles, forget, sweep};

use file::OpenedFile;
use format::{check_version, may_be_quarantined};

/// Where one report of one tenant is kept, and what a file must say to be its own.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    identity: Identity,
}

/// Of which configuration the numbers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// How people are named. What was named otherwise may hold names that are not to be shown.
    pub(crate) naming: String,
    /// Whether that is by names of their own, so that what is in a file of which nothing is known is no secret.
    pub(crate) shows_names: bool,
    /// Whose numbers, of which periods, under which name.
    pub(crate) numbers: String,
    /// The names of the labels and columns of a report, in the order in which its figures are kept.
    pub(crate) columns: Vec<String>,
}

/// What is kept of one report of one tenant.
#[derive(Clone, Debug)]
pub(crate) struct SavedState {
    /// None where no report has been complete yet, but days of a log are known.
    pub(crate) last_success: Option<DateTime<Utc>>,
    pub(crate) pages: u64,
    pub(crate) folded: u64,
    pub(crate) unplaced: Option<u64>,
    pub(crate) summary: Option<Summary>,
    /// The current period's figures.
    pub(crate) current: Vec<Samples>,
    /// The fingerprint of the budgets that are among them.
    pub(crate) budgets: String,
    /// What they will be when the period has ended.
    pub(crate) closing: Option<(BillingPeriod, Vec<Samples>)>,
    pub(crate) closed: Option<ClosedPeriod>,
    pub(crate) ledgers: Ledgers,
}

/// The period before.
#[derive(Clone, Debug)]
pub(crate) struct ClosedPeriod {
    pub(crate) period: BillingPeriod,
    pub(crate) samples: Vec<Samples>,
    /// When it was last fetched after its end, and since when it has looked as it does.
    pub(crate) fetched: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Why nothing was kept or restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot remove what is no longer wanted from {}", .path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("{} is not used, and {fate}", .path.display())]
    Rejected {
        path: PathBuf,
        fate: String,
        source: Rejected,
    },
}

impl StateFile {
    /// In `folder`, under a name made of what tells tenants and reports apart: ids and words without a slash.
    pub(crate) fn new(folder: &Path, name: &str, identity: Identity) -> Self {
        Self {
            path: folder.join(format!("{name}.state")),
            identity,
        }
    }

    /// Keeps this, in place of what was kept before, where it is still `wanted` when all of it is on the disk; what that
    /// returns is held until the file has its place. Tells whether it was wanted.
    ///
    /// # Errors
    /// Where the file cannot be written to its end, and what was kept before stays; or where the folder cannot be synced.
    pub(crate) fn write<G>(
        &self,
        saved: &SavedState,
        wanted: impl FnOnce() -> Option<G>,
    ) -> Result<bool, StorageError> {
        let failed = |source| StorageError::Write {
            path: self.path.clone(),
            source,
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        create_folder(folder).map_err(failed)?;
        // Under a name of its own, for another poller's write may not be over; and never through what stands there.
        let name = format!("state.{:016x}.new", fastrand::u64(..));
        let temp = TempFile(self.path.with_extension(name));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_ONLY)
            .open(&temp.0)
            .and_then(|mut file| {
                encode(saved, &self.identity, &mut file)?;
                file.sync_all()
            })
            .map_err(failed)?;
        let Some(held) = wanted() else {
            return Ok(false);
        };
        fs::rename(&temp.0, &self.path).map_err(failed)?;
        drop(held);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(true)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// That nothing is known of a write after so long, or, where nothing was `waited`, of the one before.
    pub(crate) fn timed_out(&self, waited: Option<Duration>) -> StorageError {
        let what = match waited {
            Some(waited) => format!("the disk has not taken it for {} s", waited.as_secs()),
            None => "the disk has not taken what was written before".to_owned(),
        };
        StorageError::Write {
            path: self.path.clone(),
            source: io::Error::new(io::ErrorKind::TimedOut, what),
        }
    }

    /// What was kept; none where nothing was. `family` knows the families by name, `budgets` are those of the report.
    ///
    /// # Errors
    /// Where a file cannot be read or is not to be believed; it is out of the way then.
    pub(crate) fn read(
        &self,
        family: impl Fn(&str) -> Option<&'static Family>,
        budgets: &[Budget],
    ) -> Result<Option<SavedState>, StorageError> {
        self.load(family, budgets, |found| self.quarantine(found))
    }

    /// The same, with the file left where it is.
    pub(crate) fn look(
        &self,
        family: impl Fn(&str) -> Option<&'static Family>,
        budgets: &[Budget],
    ) -> Result<Option<SavedState>, StorageError> {
        self.load(family, budgets, |_| {
            "is out of the way after the next start".to_owned()
        })
    }

    fn load(
        &self,
        family: impl Fn(&str) -> Option<&'static Family>,
        budgets: &[Budget],
        reject: impl FnOnce(Option<&OpenedFile>) -> String,
    ) -> Result<Option<SavedState>, StorageError> {
        let failed = |source| StorageError::Read {
            path: self.path.clone(),
            source,
        };
        let found = match OpenedFile::open(&self.path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let (found, decoded) = match found {
            Ok(found) => {
                let decoded = self.decode(&found, family, budgets).map_err(failed)?;
                (Some(found), decoded)
            }
            Err(rejected) => (None, Err(rejected)),
        };
        decoded.map(Some).map_err(|source| StorageError::Rejected {
            path: self.path.clone(),
            fate: reject(found.as_ref()),
            source,
        })
    }

    /// Reads a file piece by piece first: no memory is taken for one that is damaged.
    fn decode(
        &self,
        found: &OpenedFile,
        family: impl Fn(&str) -> Option<&'static Family>,
        budgets: &[Budget],
    ) -> io::Result<Result<SavedState, Rejected>> {
        if let Err(rejected) = check_version(&found.head) {
            return Ok(Err(rejected));
        }
        if !found.is_whole()? {
            return Ok(Err(Rejected::Torn));
        }
        Ok(decode(&found.read()?, &self.identity, family, budgets))
    }

    /// Puts a file that is not believed out of the way: beside, for people to look at, unless it may name people who are
    /// not to be named. Tells what became of it.
    fn quarantine(&self, found: Option<&OpenedFile>) -> String {
        let quarantined = self.path.with_extension("state.rejected");
        let done = if OpenedFile::may_be_quarantined(found, &self.identity) {
            fs::rename(&self.path, &quarantined)
                .map(|()| format!("has been set aside as {}", quarantined.display()))
        } else {
            // What was set aside before is under those names too, or under even older ones.
            let quarantined = match fs::remove_file(quarantined) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            fs::remove_file(&self.path)
                .and(quarantined)
                .map(|()| "has been removed".to_owned())
        };
        done.unwrap_or_else(|error| format!("stays where it is: {error}"))
    }
}

impl OpenedFile {
    /// Whether a file may be kept beside. Of one that is not found, as it cannot be read, nothing is known.
    fn may_be_quarantined(found: Option<&Self>, identity: &Identity) -> bool {
        let head = found.map_or(&[][..], |found| &found.head);
        let is_whole = || found.is_some_and(|found| found.is_whole().unwrap_or(false));
        may_be_quarantined(head, is_whole, identity)
    }
}

impl SavedState {
    /// Bytes of all texts.
    fn text(&self) -> u64 {
        let closing = self.closing.iter().flat_map(|(_, samples)| samples);
        let closed = self.closed.iter().flat_map(|closed| &closed.samples);
        let all = self.current.iter().chain(closing).chain(closed);
        all.map(|samples| samples.block.length()).sum()
    }
}

/// A file that has not its place yet. Half a one is of no use, and on a full disk in the way.
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        // Where it has got its place, there is none.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a folder is there in which files can be made; false if it can be made itself. Leaves nothing behind.
pub(crate) fn try_folder(folder: &Path) -> Result<bool, StorageError> {
    let is_there = |folder: &&Path| {
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        !fs::symlink_metadata(folder).is_err_and(|error| missing(&error))
    };
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let found = absolute.ancestors().find(is_there).unwrap_or(&absolute);
    let probe = TempFile(found.join(format!(".check.{:016x}", fastrand::u64(..))));
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&probe.0);
    match made {
        Ok(_) => Ok(found == absolute),
        Err(source) => Err(StorageError::Write {
            path: found.to_owned(),
            source,
        }),
    }
}

/// Makes the folder where it is missing, for its owner only.
fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY_FOLDER)
        .create(folder)
}

/// The owner reads and writes, nobody else does anything: amounts and names are in it.
const OWNER_ONLY: u32 = 0o600;

/// The same of a folder.
const OWNER_ONLY_FOLDER: u32 = 0o700;

/// Bytes of a file: ten times what a report of 600,000 series takes. It is read whole, so no longer one is written.
const BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests;
