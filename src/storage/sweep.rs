//! Removal of files from the folder, besides files that are read and rejected. Files of others stay.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::file::OpenedFile;
use super::{Identity, StorageError};
use crate::report::ReportKind;

/// Removes all files of a tenant, of every report, with all that is beside them, because their user labels are no
/// longer wanted. `name` is the prefix of its files.
///
/// # Errors
/// If a file cannot be removed.
pub(crate) fn forget(folder: &Path, name: &str) -> Result<(), StorageError> {
    remove(folder, |found| found.owner == name)
}

/// A tenant without a running writer in this folder.
#[derive(Clone)]
pub(crate) struct TenantFiles {
    pub(crate) identity: Identity,
    /// Reports with files that are read next, which shows whether they are valid.
    pub(crate) reports: Vec<ReportKind>,
}

/// Removes unfinished files of earlier processes and files that may have other user labels, for the tenants with the
/// prefixes in `tenants`. Other files may belong to a running process.
///
/// # Errors
/// If a file cannot be removed.
pub(crate) fn sweep(
    folder: &Path,
    tenants: &BTreeMap<String, TenantFiles>,
) -> Result<(), StorageError> {
    remove(folder, |found| {
        let Some(owner) = tenants.get(found.owner) else {
            return false;
        };
        let is_read = owner
            .reports
            .iter()
            .any(|kind| kind.as_str() == found.report);
        match found.state {
            State::Unfinished => true,
            State::Kept if is_read => false,
            State::Kept | State::Quarantined => {
                // A file that cannot be read may have any labels.
                let file = OpenedFile::open(&folder.join(found.name));
                let file = file.ok().and_then(Result::ok);
                !OpenedFile::may_be_quarantined(file.as_ref(), &owner.identity)
            }
        }
    })
}

/// A file of the exporter by its name, `OWNER.REPORT.state` with a suffix.
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
fn remove(
    folder: &Path,
    unwanted: impl Fn(&StateFileName<'_>) -> bool,
) -> Result<(), StorageError> {
    let failed = |source| StorageError::Remove {
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
            .and_then(StateFileName::of)
            .is_some_and(|found| unwanted(&found))
        {
            match fs::remove_file(entry.path()) {
                // A write that was under way has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => outcome = outcome.and(removed.map_err(failed)),
            }
        }
    }
    outcome
}

impl<'a> StateFileName<'a> {
    /// `None` if it is not a file of the exporter.
    fn of(name: &'a str) -> Option<Self> {
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
