//! The files that a configuration names: they must be there, and this process must be able to read them.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::read::Field;
use super::{Mistakes, written};
use crate::graph::credential::around;

/// The files that the configuration names.
pub(super) struct Files<'a> {
    folder: &'a Path,
}

impl<'a> Files<'a> {
    /// Relative paths start at this folder.
    pub(super) fn of(folder: &'a Path) -> Self {
        Self { folder }
    }

    /// The path of a file that is there and can be read; else none, told unless the key is not there.
    pub(super) fn readable(
        &self,
        field: Field<PathBuf>,
        at: &str,
        told: &mut Mistakes,
    ) -> Option<PathBuf> {
        let (line, written) = field.good()?;
        let path = self.folder.join(&written);
        if let Err(what) = usable(&written, &path, "the folder of the configuration file") {
            told.tell(line, format!("{at}: {what}"));
        }
        Some(path)
    }

    /// The same for a secret or a token, which must be all that is in its file.
    pub(super) fn secret(
        &self,
        field: Field<PathBuf>,
        at: &str,
        told: &mut Mistakes,
    ) -> Option<PathBuf> {
        let line = field.line()?;
        let count = told.len();
        let path = self.readable(field, at, told)?;
        // A file that cannot be read has been told, or will be when it is used.
        if told.len() == count
            && let Ok(Some(bytes)) = first_bytes(&path, SECRET_BYTES_MAX)
            && let Some(what) = std::str::from_utf8(&bytes).ok().and_then(around)
        {
            let shown = written::shown(&path);
            told.tell(line, format!("{at}: {shown}the file {what}"));
        }
        Some(path)
    }

    /// The same for the key of the pseudonyms, which must have a length that a key may have.
    pub(super) fn key(&self, field: Field<PathBuf>, told: &mut Mistakes) -> Option<PathBuf> {
        let at = "labels.pseudonym_key_file";
        let line = field.line()?;
        let path = self.readable(field, at, told)?;
        // What could not be read, and what is empty, has been told.
        if let Ok(Some(key)) = first_bytes(&path, PSEUDONYM_KEY_BYTES_MAX + 1)
            && !key.is_empty()
            && let Some(what) = mistake_of_length(&key)
        {
            told.tell(
                line,
                format!("{at}: {what}; make one with `openssl rand -hex 32`"),
            );
        }
        Some(path)
    }
}

/// What is wrong with the length of a key.
fn mistake_of_length(key: &[u8]) -> Option<String> {
    if key.len() > PSEUDONYM_KEY_BYTES_MAX {
        let max = PSEUDONYM_KEY_BYTES_MAX;
        return Some(format!(
            "the file is longer than {max} bytes, which no key is"
        ));
    }
    let length = key.trim_ascii_end().len();
    (length < KEY_BYTES_MIN)
        .then(|| format!("the key has {length} bytes, at least {KEY_BYTES_MIN} are needed"))
}

/// Whether the file at `path`, as it was `written`, can be read; what is wrong and what to do if not. A relative path
/// starts at `base`.
pub(super) fn usable(written: &Path, path: &Path, base: &str) -> Result<(), String> {
    let base = written.is_relative().then_some(base);
    readable(path, base).map_err(|what| {
        let no_path = written.to_str().and_then(written::no_path);
        match no_path.filter(|_| !path.exists()) {
            Some(no_path) => no_path.to_owned(),
            None => format!("{}{what}", written::shown(path)),
        }
    })
}

/// Whether a file can be read; what is wrong and what to do where it cannot. Says nothing of its name, because a secret
/// is sometimes pasted where the name of its file belongs. `base` tells where a path that is relative starts.
fn readable(path: &Path, base: Option<&str>) -> Result<(), String> {
    match first_bytes(path, 1) {
        Ok(Some(bytes)) if bytes.is_empty() => {
            Err("the file is empty; write into it what it is for".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => match base {
                Some(base) => {
                    format!("there is no such file; mind that a relative path starts at {base}")
                }
                None if path.starts_with(CREDENTIALS) => {
                    "there is no such file; systemd makes it for as long as the service runs: check while it does, as root"
                        .to_owned()
                }
                None => "there is no such file; write it, or correct the path".to_owned(),
            },
            io::ErrorKind::PermissionDenied => {
                "this user may not read the file; change its owner or mode or, where systemd hands over a copy, name that"
                    .to_owned()
            }
            io::ErrorKind::IsADirectory => "a folder is not a file; name a file in it".to_owned(),
            _ => format!("the file cannot be read: {error}; name another one"),
        }),
    }
}

/// The beginning of a file; none of what is not a plain file, because what is read from a pipe is gone.
fn first_bytes(path: &Path, count: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Ok(None);
    }
    // Room for all of it from the start: most of these files hold a secret, and growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(count));
    fs::File::open(path)?
        .take(count as u64)
        .read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Where systemd puts the files that it hands over, by `LoadCredential=`.
const CREDENTIALS: &str = "/run/credentials";

/// More than any secret or token has.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// A key shorter than half of a hash can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// More than any key has. What is longer is another file, of which a part must not become the key.
pub(crate) const PSEUDONYM_KEY_BYTES_MAX: usize = 64 << 10;
