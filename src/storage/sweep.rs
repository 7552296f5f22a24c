//! What is removed from the folder besides files that are read and not believed. Files of strangers stay.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::StorageError;

/// Removes all that is kept of a tenant, of every report, and everything beside it: it names people as they are not to be
/// named any more. `name` is what its files begin with.
///
/// # Errors
/// Where a file stays.
pub(crate) fn forget(folder: &Path, name: &str) -> Result<(), StorageError> {
    remove(folder, |owner, _| owner == name)
}

/// Removes what the processes before did not write to its end, of the tenants whose files begin with `names`. Others may
/// be those of a process that is at it.
///
/// # Errors
/// Where a file stays.
pub(crate) fn sweep(folder: &Path, names: &BTreeSet<&str>) -> Result<(), StorageError> {
    remove(folder, |owner, state| {
        state == State::Unfinished && names.contains(owner)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unfinished,
    /// As it was kept, or set aside.
    Whole,
}

/// Removes the files of which `unwanted` says so, of all that can be removed.
fn remove(folder: &Path, unwanted: impl Fn(&str, State) -> bool) -> Result<(), StorageError> {
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
        let parts = name.to_str().and_then(parts);
        if parts.is_some_and(|(owner, state)| unwanted(owner, state)) {
            match fs::remove_file(entry.path()) {
                // A write that was under way has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => outcome = outcome.and(removed.map_err(failed)),
            }
        }
    }
    outcome
}

/// Whose file it is by its name, `OWNER.REPORT.state` and what follows; none where it is not one of ours.
fn parts(name: &str) -> Option<(&str, State)> {
    let (stem, rest) = name.rsplit_once(".state")?;
    let (owner, _report) = stem.rsplit_once('.')?;
    let state = match rest {
        "" | ".rejected" => State::Whole,
        rest if rest.starts_with('.') && rest.strip_suffix(".new").is_some() => State::Unfinished,
        _ => return None,
    };
    Some((owner, state))
}
