//! Checks of the files that a configuration names: they must exist, and this process must be able to read them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::read::{Field, Place};
use super::{ConfigErrors, Departments, written};
use crate::graph::credential::{FILE_BYTES_MAX, stray_characters};
use crate::report::department::{self, Mistake};
use crate::report::labels::Pseudonyms;
use crate::secret_file::{self, Stamp};

/// The content of a file, which may be a secret.
type Content = Zeroizing<Vec<u8>>;

/// Returns the path of a file, and records an error if the file cannot be read. `None` if the key has no valid path. A
/// relative path starts at `folder`, here and in the functions below.
pub(super) fn file(
    folder: &Path,
    field: Field<PathBuf>,
    errors: &mut ConfigErrors,
) -> Option<PathBuf> {
    read(folder, field, errors).map(|(_, path, _)| path)
}

/// Returns the path of a file that must contain only a secret or a token. Records an error if the file cannot be
/// read, or if it contains anything else.
pub(super) fn secret(
    folder: &Path,
    field: Field<PathBuf>,
    errors: &mut ConfigErrors,
) -> Option<PathBuf> {
    let (place, path, content) = read(folder, field, errors)?;
    if let Some(content) = content
        && let Some(what) = std::str::from_utf8(&content)
            .ok()
            .and_then(stray_characters)
    {
        let shown = written::shown(&path);
        errors.at(&place, format!("{shown}the file {what}"));
    }
    Some(path)
}

/// Reads the departments, and records an error for each mistake.
pub(super) fn departments(
    folder: &Path,
    field: Field<PathBuf>,
    errors: &mut ConfigErrors,
) -> Option<Departments> {
    let (place, written) = field.set()?;
    let path = folder.join(&written);
    let watched = path.clone();
    let stamp = secret_file::in_time(&path, move || Ok(Stamp::read(&watched)));
    let content = content(&written, &path, FOLDER, DEPARTMENTS_BYTES_MAX)
        .map_err(|what| errors.at(&place, what))
        .ok()?;
    match department::Departments::parse(&content) {
        Ok(of) => Some(Departments {
            file: Some((path, stamp.ok().flatten())),
            of: Arc::new(of),
        }),
        Err(mistakes) => {
            let shown = path.display();
            for mistake in mistakes {
                let Mistake { line: row, what } = mistake;
                errors.at(&place, format!("{shown}:{row}: {what}"));
            }
            None
        }
    }
}

/// Reads the key of the pseudonyms, and records an error if it is not valid.
pub(super) fn pseudonyms(
    folder: &Path,
    field: Field<PathBuf>,
    errors: &mut ConfigErrors,
) -> Option<Pseudonyms> {
    let (place, path, content) = read(folder, field, errors)?;
    let key = pseudonym_key(content?).map_err(|error| {
        let shown = written::shown(&path);
        errors.at(&place, format!("{shown}{error}"));
    });
    key.ok().map(|key| Pseudonyms::new(&key))
}

/// Reads the file that a key names. Returns the place of the key, the path and the content. If the file cannot be read,
/// records an error, and the content is `None`. Returns `None` if the key has no valid path.
fn read(
    folder: &Path,
    field: Field<PathBuf>,
    errors: &mut ConfigErrors,
) -> Option<(Place, PathBuf, Option<Content>)> {
    let (place, written) = field.set()?;
    let path = folder.join(&written);
    let content =
        content(&written, &path, FOLDER, FILE_BYTES_MAX).map_err(|what| errors.at(&place, what));
    Some((place, path, content.ok()))
}

/// Returns the HMAC key of the pseudonyms, from the content of its file. There is no default key, because with an empty
/// or guessed key anyone can compute the pseudonym of a known name.
///
/// As with secrets, a line break at the end is not part of the key. Editors add a line break and Kubernetes does not,
/// and both files must give the same key.
fn pseudonym_key(mut key: Content) -> Result<Content, String> {
    let end = key.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
    key.truncate(end.map_or(0, |end| end + 1));
    let length = key.trim_ascii_end().len();
    let what = if length < KEY_BYTES_MIN {
        format!("the key has {length} bytes, at least {KEY_BYTES_MIN} are needed")
    } else if key.iter().all(|byte| *byte == key[0]) {
        "all bytes of the key are the same".to_owned()
    } else {
        return Ok(key);
    };
    Err(format!("{what}; make a key with `openssl rand -hex 32`"))
}

/// Checks that the file at `path` can be read. `written` is the path in the configuration, and `base` describes the
/// folder at which a relative path starts. The error has the cause and the remedy.
pub(super) fn usable(written: &Path, path: &Path, base: &str) -> Result<(), String> {
    content(written, path, base, FILE_BYTES_MAX).map(drop)
}

/// Returns the content of the file at `path`. A file of more than `bytes_max` bytes is an error. The other arguments
/// and the error are those of [`usable`].
fn content(written: &Path, path: &Path, base: &str, bytes_max: usize) -> Result<Content, String> {
    let base = written.is_relative().then_some(base);
    readable(path, base, bytes_max).map_err(|what| {
        let no_path = written.to_str().and_then(written::no_path);
        match no_path.filter(|_| !exists(path)) {
            Some(no_path) => no_path.to_owned(),
            None => format!("{}{what}", written::shown(path)),
        }
    })
}

/// Returns true if the path exists. Also returns true if its disk does not answer in time, because the file may exist.
fn exists(path: &Path) -> bool {
    let owned = path.to_owned();
    secret_file::in_time(path, move || Ok(owned.exists())).unwrap_or(true)
}

/// Reads a file. The error has the cause and the remedy. It omits the path, because sometimes a secret is pasted
/// instead of the path of its file. `base` describes the folder at which a relative path starts.
fn readable(path: &Path, base: Option<&str>, bytes_max: usize) -> Result<Content, String> {
    match secret_file::read(path, bytes_max) {
        Ok(bytes) if bytes.is_empty() => {
            Err("the file is empty; write its content".to_owned())
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => match base {
                Some(base) => {
                    format!("there is no such file; a relative path starts at {base}")
                }
                None if path.starts_with(CREDENTIALS) => {
                    "there is no such file; systemd creates it only while the service runs, so run the check as root during that time"
                        .to_owned()
                }
                None => "there is no such file; write it, or correct the path".to_owned(),
            },
            io::ErrorKind::PermissionDenied => {
                "this user may not read the file; change its owner or mode, or, if systemd makes a copy in /run/credentials, name that copy"
                    .to_owned()
            }
            io::ErrorKind::IsADirectory => "this is a folder; name a file in it".to_owned(),
            // The messages of these errors already have a remedy.
            io::ErrorKind::InvalidInput
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::TimedOut => format!("the file cannot be read: {error}"),
            _ => format!("the file cannot be read: {error}; name another one"),
        }),
    }
}

/// Folder in which systemd puts the files of `LoadCredential=`.
const CREDENTIALS: &str = "/run/credentials";

/// Minimum bytes of a key, because a shorter key can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// Maximum bytes of the departments file, enough for the maximum number of lines with long names.
const DEPARTMENTS_BYTES_MAX: usize = 16 << 20;

/// The folder at which a relative path in the configuration file starts, for messages.
const FOLDER: &str = "the folder of the configuration file";
