//! The destination of a table: a file or standard output.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::ExportError;
use crate::storage::TempFile;

/// Standard output, or a file that is replaced only after everything is written.
pub(crate) struct Output {
    out: BufWriter<Box<dyn Write + Send>>,
    file: Option<Replacement>,
    /// The path of the file, or `standard output`, for messages.
    name: String,
}

/// A temporary file that replaces the file at `path` when it is complete.
struct Replacement {
    temp: TempFile,
    file: File,
    path: PathBuf,
}

impl Output {
    /// Creates an output to the file at `path`, or to `out` if there is no path.
    pub(crate) fn new(
        path: Option<&Path>,
        out: Box<dyn Write + Send>,
    ) -> Result<Self, ExportError> {
        let name = path.map_or("standard output".to_owned(), |path| {
            path.display().to_string()
        });
        let file = path.map(Replacement::new).transpose().map_err(|source| {
            let to = name.clone();
            let remedy = "give the path of a regular file in a folder that you may write";
            ExportError::Write { to, source, remedy }
        })?;
        let out = match &file {
            Some(replacement) => Box::new(replacement.file.try_clone()?),
            None => out,
        };
        let out = BufWriter::new(out);
        Ok(Self { out, file, name })
    }

    /// Returns true for standard output. Its reader can see lines before the output is complete.
    pub(super) fn is_stream(&self) -> bool {
        self.file.is_none()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let written = self.out.write_all(bytes);
        written.map_err(|source| self.failed(source))
    }

    pub(super) fn flush(&mut self) -> Result<(), ExportError> {
        let flushed = self.out.flush();
        flushed.map_err(|source| self.failed(source))
    }

    /// Writes the buffered bytes. If the output is a file, the temporary file then replaces the file at `path`.
    pub(crate) fn finish(mut self) -> Result<(), ExportError> {
        self.flush()?;
        let Some(Replacement { temp, file, path }) = self.file.take() else {
            return Ok(());
        };
        let replaced = file.sync_all().and_then(|()| temp.replace(&path));
        replaced.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ExportError {
        let remedy = match source.kind() {
            io::ErrorKind::BrokenPipe => {
                "the program that reads the output has ended; let it read to the end"
            }
            io::ErrorKind::StorageFull => "free space, or choose another place",
            _ => "choose another place",
        };
        let to = self.name.clone();
        ExportError::Write { to, source, remedy }
    }
}

impl Replacement {
    fn new(path: &Path) -> io::Result<Self> {
        let unfit = |what: &'static str| Err(io::Error::other(what));
        // If the path is a symbolic link, the file that it names is replaced, not the link.
        let path = match fs::canonicalize(path) {
            Ok(path) if !path.is_file() => return unfit("it is not a regular file"),
            Ok(path) => path,
            Err(_) if path.is_symlink() => {
                return unfit("it is a symbolic link that leads to no file");
            }
            Err(_) => path.to_owned(),
        };
        let (temp, file) = TempFile::beside(&path, ALL)?;
        if let Ok(old) = fs::metadata(&path) {
            file.set_permissions(old.permissions())?;
        }
        Ok(Self { temp, file, path })
    }
}

/// Permissions of a new file before the umask is applied, as for a file that a shell creates.
const ALL: u32 = 0o666;
