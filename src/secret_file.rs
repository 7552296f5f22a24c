//! Reads all files that an administrator or an orchestrator provides: configuration, keys, secrets, tokens,
//! certificates. A file is read whole or not at all, and its content is wiped from memory after use.
//!
//! Only regular files are read, or symbolic links to one, as Kubernetes and systemd mount secrets. A pipe blocks until
//! another process writes, a device never ends, and both give their content once, while these files are read again and
//! again. A mount that does not answer blocks in the kernel, out of reach of any time limit. So a thread of its own reads,
//! and the caller waits for a limited time.

pub(crate) mod conversion;

use std::fs::{self, File, FileType, OpenOptions};
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
    /// Differs for another file of the same name, for example after `rename` or a change of a symbolic link in its path.
    inode: u64,
}

impl Stamp {
    /// The metadata now; `None` if there is no such file. Can block, so it belongs into [`in_time`].
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// The content of a regular file of `max` bytes at the most. Blocks for [`TIME_MAX`] at the most.
///
/// # Errors
/// If there is no such file or it cannot be read. The kind is [`io::ErrorKind::FileTooLarge`] if it is longer: then it
/// is not the file that was meant. The kind is [`io::ErrorKind::TimedOut`] if the disk or mount does not answer.
pub(crate) fn read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let owned = path.to_owned();
    in_time(path, move || read_regular(&owned, max))
}

/// Runs `work`, which reads files near `path`, and gives it [`TIME_MAX`].
///
/// Work that hangs keeps its thread. As long as it hangs, other work in the same folder fails at once: a dead mount costs
/// one wait and one thread, however many files on it are wanted and however often.
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
        // The caller may have gone.
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

/// Folders with work that hangs. Each entry lives until its thread ends.
fn hung() -> MutexGuard<'static, Vec<(PathBuf, Weak<()>)>> {
    static HUNG: Mutex<Vec<(PathBuf, Weak<()>)>> = Mutex::new(Vec::new());
    let mut hung = HUNG.lock();
    hung.retain(|(_, alive)| alive.strong_count() > 0);
    hung
}

fn timed_out(what: &str) -> io::Error {
    let message = format!("{what}; see if its disk or network mount answers");
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn read_regular(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Checked before the file is opened, because opening a device can have an effect, such as rewinding a tape.
    refuse_irregular(fs::metadata(path)?.file_type())?;
    let file = OpenOptions::new()
        .read(true)
        // In case a pipe takes its place in between.
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)?;
    let metadata = file.metadata()?;
    refuse_irregular(metadata.file_type())?;
    if metadata.len() > max as u64 {
        return Err(too_large(max));
    }
    read_whole(file, max)
}

fn read_whole(file: File, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it from the start, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    // Files of /proc say that they have no bytes, and a file can grow.
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(too_large(max));
    }
    Ok(bytes)
}

fn too_large(max: usize) -> io::Error {
    let message = format!("longer than {max} bytes; name the file that is meant");
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

/// Time limit for reading a file. Disks and network mounts that work need milliseconds, and at shutdown a container
/// runtime kills after ten seconds.
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
