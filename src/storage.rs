//! State files: one file for each report of each tenant, with the newest complete report, the final days of a log,
//! and the previous period.
//!
//! A file is replaced as a whole or not at all: the exporter writes a temporary file, syncs it, renames it and syncs
//! the folder. A file begins with a version, ends with a checksum and names its configuration. A file is never used if
//! it is damaged, or if it is of another program, version or configuration. The exporter logs a message about it, and
//! sets it aside or removes it. A file shows users only by their current labels, and only its owner can read it.
//!
//! If the user labels of a tenant's reports change, the exporter removes the files of these reports, temporary and
//! rejected files included. A reload removes all files with the previous labels. A start removes all files that do not
//! state the current user labels, even if their report is not polled.
//!
//! If a report is no longer configured, its files with the current user labels stay, until an administrator removes
//! them or configures the report again. If a folder is no longer configured, its files stay. If a tenant is not
//! configured, all its files stay, whatever their user labels, because another exporter may use them.
//!
//! This module does not decide what is saved, or when.

mod file;
mod format;
mod sweep;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::exposition::{Family, Samples};
use crate::period::BillingPeriod;
use crate::report::labels::UserLabel;
use crate::report::log::Ledgers;
use crate::report::pool::UsedSeconds;
use crate::snapshot::Summary;

pub(crate) use format::{Rejected, decode, encode};
pub(crate) use sweep::Storage;

use file::OpenedFile;
use format::check_version;

/// The state file of one report of one tenant, and the identity that its content must have.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    identity: Identity,
}

/// The configuration to which the figures in a file belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The kind of the user labels, as set by `labels.user`. A file with another kind can contain labels that must not
    /// be shown.
    pub(crate) naming: String,
    /// True if labels show real names. A file of unknown content then reveals no more than `/metrics` does.
    pub(crate) shows_names: bool,
    /// The id and name of the tenant, its cloud and configured URLs, and the cycle day of the figures.
    pub(crate) numbers: String,
    /// The names of the labels and columns of a report, in the order in which its figures are kept.
    pub(crate) columns: Vec<String>,
}

/// The saved state of one report of one tenant. `S` is a family with its samples.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedState<S = Samples> {
    /// `None` if no report has been complete yet. The state then has only final days of a log.
    pub(crate) last_success: Option<DateTime<Utc>>,
    pub(crate) pages: u64,
    pub(crate) aggregated: u64,
    pub(crate) unplaced: Option<u64>,
    pub(crate) summary: Option<Summary>,
    /// The figures of the current period.
    pub(crate) current: Vec<S>,
    /// The fingerprint of the allocation in `current`, which can differ from the configured one.
    pub(crate) allocation: String,
    /// The figures of the current period without users, under the metric names of the previous period. They are served
    /// when the current period ends.
    pub(crate) closing: Option<(BillingPeriod, Vec<S>)>,
    pub(crate) closed: Option<ClosedPeriod<S>>,
    pub(crate) ledgers: Ledgers,
}

/// The figures of the previous period.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ClosedPeriod<S = Samples> {
    pub(crate) period: BillingPeriod,
    pub(crate) samples: Vec<S>,
    /// The time of the last fetch after the end of the period, and the time since which the figures have not changed.
    pub(crate) fetched: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The seconds of pools that were used in the period, as of the last fetch.
    #[serde(default)]
    pub(crate) used_seconds: UsedSeconds,
}

/// Errors of writing and reading state files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("cannot write {}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not used, and {fate}", .path.display())]
    Rejected {
        path: PathBuf,
        fate: String,
        source: Rejected,
    },
}

impl Identity {
    /// Creates the identity of figures with this user label. The identity lists no columns, so it is the same for every
    /// report.
    pub(crate) fn new(user_label: &UserLabel, numbers: String) -> Self {
        Self {
            naming: user_label.identity(),
            shows_names: user_label.shows_names(),
            numbers,
            columns: Vec::new(),
        }
    }
}

impl StateFile {
    /// Returns the state file `{name}.state` in `folder`. `name` must be unique for the tenant and report, and must not
    /// contain a slash.
    pub(crate) fn new(folder: &Path, name: &str, identity: Identity) -> Self {
        Self {
            path: folder.join(format!("{name}.state")),
            identity,
        }
    }

    /// Writes the state to a temporary file. If `wanted` returns true after that, the temporary file replaces the state
    /// file. Returns the result of `wanted`.
    ///
    /// # Errors
    /// If the file cannot be written (then the previous file stays), or if the folder cannot be synced.
    pub(crate) fn write(
        &self,
        saved: &SavedState,
        wanted: impl FnOnce() -> bool,
    ) -> Result<bool, StorageError> {
        let failed = |source| StorageError::Write {
            path: self.path.clone(),
            source,
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new()
            .recursive(true)
            .mode(OWNER_ONLY_FOLDER)
            .create(folder)
            .map_err(failed)?;
        let (temp, mut file) = TempFile::beside(&self.path, OWNER_ONLY).map_err(failed)?;
        encode(saved, &self.identity, &mut file)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        if !wanted() {
            return Ok(false);
        }
        temp.replace(&self.path).map_err(failed)?;
        Ok(true)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The error for a write that the disk has not completed in time.
    pub(crate) fn timed_out(&self, what: &str) -> StorageError {
        StorageError::Write {
            path: self.path.clone(),
            source: io::Error::new(io::ErrorKind::TimedOut, what),
        }
    }

    /// Reads the saved state. Returns `None` if there is no file. `family` finds a metric family by its name.
    ///
    /// # Errors
    /// If the file cannot be read or is rejected. A rejected file is set aside or removed.
    pub(crate) fn read(
        &self,
        family: impl Fn(&str) -> Option<&'static Family>,
    ) -> Result<Option<SavedState>, StorageError> {
        self.load(family, |found| self.quarantine(found))
    }

    /// Reads the saved state like [`StateFile::read`], but leaves a rejected file where it is.
    pub(crate) fn look(
        &self,
        family: impl Fn(&str) -> Option<&'static Family>,
    ) -> Result<Option<SavedState>, StorageError> {
        self.load(family, |_| {
            "will be set aside or removed at the next start".to_owned()
        })
    }

    fn load(
        &self,
        family: impl Fn(&str) -> Option<&'static Family>,
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
                let decoded = self.decode(&found, family).map_err(failed)?;
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

    /// Checks the file in pieces, and then decodes it. So a damaged file is not read into memory as a whole.
    fn decode(
        &self,
        found: &OpenedFile,
        family: impl Fn(&str) -> Option<&'static Family>,
    ) -> io::Result<Result<SavedState, Rejected>> {
        if let Err(rejected) = check_version(&found.head) {
            return Ok(Err(rejected));
        }
        if !found.is_whole()? {
            return Ok(Err(Rejected::Torn));
        }
        Ok(decode(&found.read()?, &self.identity, family))
    }

    /// Sets a rejected file aside for people to look at. If the file may name users whose names must not be shown,
    /// removes it instead. Returns the outcome as text.
    fn quarantine(&self, found: Option<&OpenedFile>) -> String {
        let quarantined = self.path.with_extension("state.rejected");
        let done = if OpenedFile::may_be_quarantined(found, &self.identity) {
            fs::rename(&self.path, &quarantined)
                .map(|()| format!("has been set aside as {}", quarantined.display()))
        } else {
            // Also removes the file set aside earlier: it may name users too, because its labels are the same or older.
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

impl<S> SavedState<S> {
    /// Replaces each `S` by the result of `replace`, in the order of the fields.
    fn with_samples<T, E>(
        self,
        mut replace: impl FnMut(S) -> Result<T, E>,
    ) -> Result<SavedState<T>, E> {
        let mut all = |samples: Vec<S>| -> Result<Vec<T>, E> {
            samples.into_iter().map(&mut replace).collect()
        };
        Ok(SavedState {
            current: all(self.current)?,
            closing: match self.closing {
                Some((period, samples)) => Some((period, all(samples)?)),
                None => None,
            },
            closed: match self.closed {
                Some(closed) => Some(ClosedPeriod {
                    period: closed.period,
                    samples: all(closed.samples)?,
                    fetched: closed.fetched,
                    used_seconds: closed.used_seconds,
                }),
                None => None,
            },
            last_success: self.last_success,
            pages: self.pages,
            aggregated: self.aggregated,
            unplaced: self.unplaced,
            summary: self.summary,
            allocation: self.allocation,
            ledgers: self.ledgers,
        })
    }
}

/// A temporary file. It is removed on drop, because an incomplete file is useless and takes space on a full disk.
#[derive(Debug)]
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    /// Creates a temporary file in the folder of `path`.
    pub(crate) fn beside(path: &Path, mode: u32) -> io::Result<(Self, File)> {
        // The name is unique, because an earlier process may still write its own temporary file. An existing file is
        // never opened.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.new", fastrand::u64(..)));
        let temp = Self(path.with_file_name(name));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temp.0)?;
        Ok((temp, file))
    }

    /// Moves the file to `path` and syncs the folder. The caller has synced the file.
    pub(crate) fn replace(self, path: &Path) -> io::Result<()> {
        fs::rename(&self.0, path)?;
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // This fails if the file has been renamed, because its old name no longer exists.
        let _ = fs::remove_file(&self.0);
    }
}

/// Returns true if files can be created in the folder, and false if the folder does not exist but can be created.
/// Leaves no file behind.
pub(crate) fn try_folder(folder: &Path) -> Result<bool, StorageError> {
    let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    let is_there = |folder: &&Path| !fs::symlink_metadata(folder).is_err_and(is_missing);
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let found = absolute.ancestors().find(is_there).unwrap_or(&absolute);
    let probe = TempFile::beside(&found.join(".check"), OWNER_ONLY);
    probe
        .map(|_| found == absolute)
        .map_err(|source| StorageError::Write {
            path: found.to_owned(),
            source,
        })
}

/// Permissions of a state file. Only the owner can read and write it, because it contains amounts and names.
const OWNER_ONLY: u32 = 0o600;

/// Permissions of the folder of state files. Only the owner can use it.
const OWNER_ONLY_FOLDER: u32 = 0o700;

/// Maximum bytes of a state file: ten times the size of a report with 600,000 series. A longer file is not written,
/// because a file is read into memory as a whole.
const BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests;
