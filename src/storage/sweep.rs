//! What is removed from the folder besides files that are read and not believed. Files of strangers stay.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::file::OpenedFile;
use super::{Identity, StorageError};
use crate::report::ReportKind;

/// Removes all that is kept of a tenant, of every report, and everything beside it: it names people as they are not to be
/// named any more. `name` is what its files begin with.
///
/// # Errors
/// Where a file stays.
pub(crate) fn forget(folder: &Path, name: &str) -> Result<(), StorageError> {
    remove(folder, |found| found.owner == name)
}

/// A tenant that nobody writes files of there yet.
#[derive(Clone)]
pub(crate) struct TenantFiles {
    pub(crate) identity: Identity,
    /// Those whose files are about to be read, which is when it turns out what they are.
    pub(crate) reports: Vec<ReportKind>,
}

/// Removes what the processes before did not write to its end, and what may be under other names than those of now, of the
/// tenants whose files begin with the names of `owners`. Others may be those of a process that is at it.
///
/// # Errors
/// Where a file stays.
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
                // What cannot be read cannot be known.
                let file = OpenedFile::open(&folder.join(found.name));
                let file = file.ok().and_then(Result::ok);
                !OpenedFile::may_be_quarantined(file.as_ref(), &owner.identity)
            }
        }
    })
}

/// A file of ours by its name, `OWNER.REPORT.state` and what follows.
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

/// Removes the files of which `unwanted` says so, of all that can be removed.
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
    /// None where it is not one of ours.
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
