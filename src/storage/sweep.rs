//! Names of the files in the storage folder, and removal of state files that are no longer read. Files of other
//! programs stay.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::file::OpenedFile;
use super::{Identity, StateFile};
use crate::report::ReportKind;
use crate::report::labels::UserLabel;
use crate::secret_file::in_time;

/// Location and identity of a tenant's state files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) folder: PathBuf,
    /// Prefix of the file names.
    pub(crate) name: String,
    /// Identity of the files of a report to which the general `labels.user` applies.
    pub(crate) identity: Identity,
}

/// The files of a tenant, for a sweep. Before the sweep, the caller waits a limited time for a write in progress.
#[derive(Clone)]
pub(super) struct TenantFiles {
    /// Identity of the files of reports that are not in `reports`.
    pub(super) identity: Identity,
    /// Reports that are polled. The sweep keeps their state files, because the exporter reads them after the sweep and
    /// rejects invalid ones then.
    pub(super) reports: Vec<(ReportKind, Identity)>,
}

/// The error that unwanted files cannot be removed from a folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove unwanted files from {}", .path.display())]
pub(crate) struct RemoveError {
    path: PathBuf,
    source: io::Error,
}

impl Storage {
    /// Returns the state file of a report with this user label.
    pub(crate) fn file(&self, report: ReportKind, user_label: &UserLabel) -> StateFile {
        let identity = Identity {
            columns: report.columns(),
            ..self.identity_with(user_label)
        };
        StateFile::new(&self.folder, &format!("{}.{report}", self.name), identity)
    }

    fn identity_with(&self, user_label: &UserLabel) -> Identity {
        Identity::new(user_label, self.identity.numbers.clone())
    }

    /// Removes all state files of these reports of the tenant, because their user labels are no longer wanted.
    pub(crate) fn forget(&self, reports: &[ReportKind]) -> Result<(), RemoveError> {
        let (name, reports) = (self.name.clone(), reports.to_vec());
        remove_in_time(&self.folder, move |folder| forget(folder, &name, &reports))
    }

    /// Removes unfinished files of earlier processes, and files with another kind of user labels than the given one.
    /// Returns an error for each folder from which files cannot be removed.
    pub(crate) fn sweep<'a>(
        tenants: impl Iterator<Item = (&'a Self, Vec<(ReportKind, &'a UserLabel)>)>,
    ) -> Vec<RemoveError> {
        let mut folders: BTreeMap<&Path, BTreeMap<String, TenantFiles>> = BTreeMap::new();
        for (storage, reports) in tenants {
            let files = TenantFiles {
                identity: storage.identity.clone(),
                reports: reports
                    .into_iter()
                    .map(|(report, user_label)| (report, storage.identity_with(user_label)))
                    .collect(),
            };
            let folder = folders.entry(&storage.folder).or_default();
            folder.insert(storage.name.clone(), files);
        }
        let swept = folders
            .into_iter()
            .map(|(folder, tenants)| remove_in_time(folder, move |folder| sweep(folder, &tenants)));
        swept.filter_map(Result::err).collect()
    }
}

/// Removes files. Returns an error if the disk does not answer in time.
fn remove_in_time(
    folder: &Path,
    remove: impl FnOnce(&Path) -> Result<(), RemoveError> + Send + 'static,
) -> Result<(), RemoveError> {
    let path = folder.to_owned();
    let removed = in_time(&folder.join("state"), move || Ok(remove(&path)));
    removed.unwrap_or_else(|source| {
        let path = folder.to_owned();
        Err(RemoveError { path, source })
    })
}

/// Removes the state files of these reports of a tenant, and their temporary and rejected files. `name` is the prefix
/// of the tenant's files.
pub(super) fn forget(folder: &Path, name: &str, reports: &[ReportKind]) -> Result<(), RemoveError> {
    let is_forgotten = |report: &str| reports.iter().any(|kind| kind.as_str() == report);
    remove(folder, |found| {
        found.owner == name && is_forgotten(found.report)
    })
}

/// Removes unfinished files of earlier processes, and files that may have other user labels. Only files with a prefix
/// in `tenants` are removed, because other files may belong to a running process.
pub(super) fn sweep(
    folder: &Path,
    tenants: &BTreeMap<String, TenantFiles>,
) -> Result<(), RemoveError> {
    remove(folder, |found| {
        let Some(owner) = tenants.get(found.owner) else {
            return false;
        };
        let read = owner
            .reports
            .iter()
            .find(|(kind, _)| kind.as_str() == found.report);
        match found.state {
            State::Unfinished => true,
            State::Kept if read.is_some() => false,
            State::Kept | State::Quarantined => {
                // A file that cannot be read may have any labels.
                let file = OpenedFile::open(&folder.join(found.name));
                let file = file.ok().and_then(Result::ok);
                let identity = read.map_or(&owner.identity, |(_, identity)| identity);
                !OpenedFile::may_be_quarantined(file.as_ref(), identity)
            }
        }
    })
}

/// The parts of a state file's name, `OWNER.REPORT.state` with a suffix.
struct StateFileName<'a> {
    name: &'a str,
    owner: &'a str,
    report: &'a str,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Unfinished,
    Kept,
    Quarantined,
}

/// Removes every `unwanted` file that can be removed.
fn remove(folder: &Path, unwanted: impl Fn(&StateFileName<'_>) -> bool) -> Result<(), RemoveError> {
    let failed = |source| RemoveError {
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut outcome = Ok(());
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name
            .to_str()
            .and_then(StateFileName::parse)
            .is_some_and(|found| unwanted(&found))
        {
            match fs::remove_file(entry.path()) {
                // A write that has just ended has renamed or removed this temporary file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => outcome = outcome.and(removed.map_err(failed)),
            }
        }
    }
    outcome
}

impl<'a> StateFileName<'a> {
    /// Splits the name of a file. Returns `None` if it is not a file of the exporter.
    fn parse(name: &'a str) -> Option<Self> {
        let (stem, rest) = name.rsplit_once(".state")?;
        let (owner, report) = stem.rsplit_once('.')?;
        let state = match rest {
            "" => State::Kept,
            ".rejected" => State::Quarantined,
            rest if rest.starts_with('.') && rest.strip_suffix(".new").is_some() => {
                State::Unfinished
            }
            _ => return None,
        };
        Some(Self {
            name,
            owner,
            report,
            state,
        })
    }
}
