//! Reads all files that an administrator or an orchestrator provides: configuration, keys, secrets, tokens,
//! certificates. A file is read whole or not at all, and its content is wiped from memory after use.
//!
//! Only regular files are read, and symbolic links to regular files, because Kubernetes and systemd mount secrets as
//! links. Pipes and devices are rejected. A pipe blocks until another process writes, a device never ends, and neither
//! can be re-read. A read from a mount that does not answer blocks in the kernel, and no time limit can end it. So a
//! separate thread reads, and the caller waits for a limited time.

pub(crate) mod conversion;

use std::fs::{self, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::machine;

/// Metadata that changes when a file changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// The inode differs if another file gets the same name, for example by `rename` or by a change of a symbolic link
    /// in the path.
    inode: u64,
}

impl Stamp {
    /// Returns the current metadata, or `None` if there is no such file. This can block, so call it within [`in_time`].
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// Returns the content of a regular file of at most `max` bytes. Blocks for at most [`TIME_MAX`].
///
/// # Errors
/// If there is no such file or it cannot be read. The kind is [`io::ErrorKind::FileTooLarge`] if the file is longer
/// than `max`, because `path` then names the wrong file. The kind is [`io::ErrorKind::TimedOut`] if the disk or mount
/// does not answer.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let owned = path.to_owned();
    in_time(path, move || read_regular(&owned, max))
}

/// Runs `work`, which reads files in the folder of `path`, and waits for at most [`TIME_MAX`].
///
/// Work that hangs keeps its thread. As long as it hangs, other work in the same folder fails at once. So a dead mount
/// costs one wait and one thread, however often and from however many files the exporter reads.
///
/// # Errors
/// The error of `work`, or [`io::ErrorKind::TimedOut`].
pub(crate) fn in_time<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    wait_for(path, TIME_MAX, work)
}

fn wait_for<T: Send + 'static>(
    path: &Path,
    time_max: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let folder = path.parent().unwrap_or(path);
    if hung().iter().any(|(hung, _)| hung == folder) {
        return Err(timed_out("an earlier read in this folder still hangs"));
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let alive = Arc::new(());
    let watched = Arc::downgrade(&alive);
    machine::spawn("file-reader", move || {
        // The caller may have stopped waiting.
        let _ = sender.send(work());
        drop(alive);
    })?;
    match receiver.recv_timeout(time_max) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => {
            hung().push((folder.to_owned(), watched));
            let seconds = time_max.as_secs_f64();
            Err(timed_out(&format!("no answer in {seconds} s")))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the reader has failed")),
    }
}

/// Returns the folders with work that hangs. An entry stays until its thread ends.
fn hung() -> MutexGuard<'static, Vec<(PathBuf, Weak<()>)>> {
    static HUNG: Mutex<Vec<(PathBuf, Weak<()>)>> = Mutex::new(Vec::new());
    let mut hung = HUNG.lock();
    hung.retain(|(_, alive)| alive.strong_count() > 0);
    hung
}

fn timed_out(what: &str) -> io::Error {
    let message = format!("{what}; check whether its disk or network mount answers");
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn read_regular(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Checked before the file is opened, because opening a device can have an effect, such as rewinding a tape.
    refuse_irregular(fs::metadata(path)?.file_type())?;
    let file = OpenOptions::new()
        .read(true)
        // Does not block if a pipe has replaced the file since the check.
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    refuse_irregular(metadata.file_type())?;
    if metadata.len() > max as u64 {
        return Err(too_large(max));
    }
    // Allocates the full capacity at once, because growing would leave copies of the content in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    // Reads up to the limit, whatever length the metadata states: files of /proc state a length of 0, and a file can
    // grow.
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(too_large(max));
    }
    Ok(bytes)
}

fn too_large(max: usize) -> io::Error {
    let message =
        format!("longer than {max} bytes, so it is probably another file; check the path");
    io::Error::new(io::ErrorKind::FileTooLarge, message)
}

fn refuse_irregular(kind: FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let message = format!("{what}, not a regular file; write the content into a file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Time limit for reading a file. Disks and network mounts that work need milliseconds. The limit is shorter than the
/// ten seconds after which a container runtime kills a process that is shutting down.
const TIME_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn file_is_read_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for length in [0, 1, 15, 16] {
            let content = vec![7; length];
            fs::write(&path, &content).unwrap();
            let read = read(&path, 16).unwrap();
            assert_eq!(*read, content);
            assert_eq!(read.capacity(), 17, "it has grown");
        }
        fs::write(&path, [7; 17]).unwrap();
        let error = read(&path, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().starts_with("longer than 16 bytes"));
        // It has no length before it is read.
        let error = read(Path::new("/proc/self/status"), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let error = read(&folder.path().join("none"), 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn only_regular_files_and_links_to_them_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "x").unwrap();
        let status = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(status.unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (link, target) in [
            ("to file", at("file")),
            ("to link", at("to file")),
            ("to pipe", at("pipe")),
            ("to null", "/dev/null".into()),
            ("to folder", at("")),
            ("to nothing", at("nothing")),
        ] {
            symlink(target, at(link)).unwrap();
        }
        for (path, expected) in [
            (at("file"), None),
            (at("to file"), None),
            (at("to link"), None),
            (at("pipe"), Some("a pipe, not a regular file; write")),
            (at("to pipe"), Some("a pipe, not a regular file; write")),
            (at("socket"), Some("a socket, not a regular file; write")),
            (
                "/dev/null".into(),
                Some("a device, not a regular file; write"),
            ),
            (
                "/dev/zero".into(),
                Some("a device, not a regular file; write"),
            ),
            (at("to null"), Some("a device, not a regular file; write")),
            (at(""), Some("is a directory")),
            (at("to folder"), Some("is a directory")),
            (at("to nothing"), Some("No such file")),
        ] {
            let error = read(&path, 16).err().map(|error| error.to_string());
            match (&error, expected) {
                (None, None) => {}
                (Some(error), Some(expected)) if error.starts_with(expected) => {}
                _ => panic!("{}: {error:?}, expected {expected:?}", path.display()),
            }
        }
    }

    #[test]
    fn work_that_hangs_costs_one_wait_and_one_thread_for_its_folder() {
        let (release, hanging) = mpsc::channel::<()>();
        let (ended, wait_for_end) = mpsc::channel::<()>();
        let path = Path::new("/mount that is dead/a");
        let work = move || {
            let _ = hanging.recv();
            drop(ended);
            Ok(())
        };
        let error = wait_for(path, Duration::from_millis(1), work).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("network mount"), "{error}");
        // Refused without a wait, which has another message.
        let sibling = path.with_file_name("b");
        for _ in 0..100 {
            let error = in_time(&sibling, || Ok(())).unwrap_err();
            assert!(error.to_string().contains("still hangs"), "{error}");
        }
        in_time(Path::new("/mount that answers/a"), || Ok(())).unwrap();
        drop(release);
        assert!(wait_for_end.recv().is_err());
        // The thread ends a moment after the work.
        while in_time(&sibling, || Ok(())).is_err() {
            std::thread::yield_now();
        }
    }
}
