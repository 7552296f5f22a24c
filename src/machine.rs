//! Requirements on the machine: a clock after 1970, and sufficient limits of the process. They are checked at the
//! start. Without these checks, a library would panic later, or the allocator would abort the process.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::{fs, io};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

/// Reasons why the exporter cannot work on this machine.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The clock is before 1970. Certificates, tokens and billing periods do not work with such a clock.
    #[error("the clock shows {0}, which is before 1970; set it, for example by NTP")]
    Clock(DateTime<Utc>),
    /// The limit of file descriptors is so low that standard streams, sockets and timers need nearly all of them.
    #[error("the limit of open files is {0}; raise it to 64 or more, by ulimit -n or LimitNOFILE=")]
    Descriptors(u64),
    /// A limit of memory is so low that memory would run out during the start or the first poll.
    #[error(
        "the limit of {what} is {limit} bytes; raise it to {} KiB or more, or limit memory by MemoryMax= or a container instead of {setting}",
        min >> 10
    )]
    Memory {
        /// The kind of memory.
        what: &'static str,
        /// The current limit in bytes.
        limit: u64,
        /// The minimum limit in bytes.
        min: u64,
        /// The settings with which an administrator sets the limit.
        setting: &'static str,
    },
    /// The system lets the process start too few threads.
    #[error(
        "the system does not let the exporter start {THREADS_MIN} threads: {0}; raise the limit of processes (ulimit -u, TasksMax=, --pids-limit) or add memory"
    )]
    Threads(io::Error),
}

/// Checks the clock and the limits of open files and memory.
pub fn check(now: DateTime<Utc>) -> Result<(), MachineError> {
    check_clock(now)?;
    let below = |resource, min| getrlimit(resource).current.filter(|limit| *limit < min);
    if let Some(limit) = below(Resource::Nofile, DESCRIPTORS_MIN) {
        return Err(MachineError::Descriptors(limit));
    }
    for (resource, min, what, setting) in [
        (
            Resource::Stack,
            STACK_MIN,
            "the stack",
            "ulimit -s or LimitSTACK=",
        ),
        (
            Resource::As,
            MEMORY_MIN,
            "address space",
            "ulimit -v or LimitAS=",
        ),
        (
            Resource::Data,
            MEMORY_MIN,
            "data memory",
            "ulimit -d or LimitDATA=",
        ),
    ] {
        if let Some(limit) = below(resource, min) {
            return Err(MachineError::Memory {
                what,
                limit,
                min,
                setting,
            });
        }
    }
    Ok(())
}

/// Checks that the system lets the process start its threads, by starting eight threads and ending them. Without this
/// check, the runtime would panic.
pub fn check_threads() -> Result<(), MachineError> {
    start_threads(THREADS_MIN, STACK).map_err(MachineError::Threads)
}

/// Returns the bytes of memory that the process may use: the lowest limit of the process and of its control groups.
/// Returns `None` if there is no limit. The limits of the process also count addresses that it reserves without using
/// them, so [`ADDRESSES`] is subtracted from these limits.
pub(crate) fn memory_limit() -> Option<u64> {
    let usable = |limit: u64| limit.saturating_sub(ADDRESSES).max(limit / 4);
    let own = [Resource::As, Resource::Data];
    let own = own.map(|resource| getrlimit(resource).current.map(usable));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = group_limits(&groups, Path::new("/sys/fs/cgroup"));
    own.into_iter().flatten().chain(of_groups).min()
}

/// Returns the memory limits of the control groups and of their parents, from the file systems under `root`. In a
/// container, the top folder of such a file system is the container's own control group.
fn group_limits(groups: &str, root: &Path) -> Vec<u64> {
    let limits = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, file) = if controllers.is_empty() {
            (root.to_owned(), "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        let folders = Path::new(path.trim_start_matches('/')).ancestors();
        let read = |folder| fs::read_to_string(root.join(folder).join(file)).ok();
        // If there is no limit, the file contains `max` in version 2, and a number larger than any memory in version 1.
        let limit = |text: String| text.trim().parse().ok().filter(|limit| *limit < 1 << 60);
        Some(
            folders
                .filter_map(read)
                .filter_map(limit)
                .collect::<Vec<u64>>(),
        )
    };
    groups.lines().filter_map(limits).flatten().collect()
}

/// Checks the clock. The daemon repeats this check, because the clock can be set back at any time.
pub(crate) fn check_clock(now: DateTime<Utc>) -> Result<(), MachineError> {
    if now < DateTime::UNIX_EPOCH {
        return Err(MachineError::Clock(now));
    }
    Ok(())
}

/// Starts `count` threads that run at the same time, and then ends them.
fn start_threads(count: usize, stack: usize) -> io::Result<()> {
    let (release, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let mut threads = Vec::new();
    let mut outcome = Ok(());
    for _ in 0..count {
        let wait = Arc::clone(&wait);
        let started = thread::Builder::new().stack_size(stack).spawn(move || {
            // Each thread ends when the sender is dropped.
            let _ = wait.lock().recv();
        });
        match started {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    drop(release);
    for thread in threads {
        let _ = thread.join();
    }
    outcome
}

/// Starts a thread with a small stack, for work that does not need the runtime.
///
/// # Errors
/// If the system cannot start the thread. The message contains the remedy.
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    spawn_with(HELPER_STACK, name, work)
}

fn spawn_with<T: Send + 'static>(
    stack: usize,
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let builder = thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack);
    builder.spawn(work).map_err(|error| {
        let message = format!(
            "cannot start the thread {name}: {error}; raise the limit of processes (ulimit -u, TasksMax=) or add memory"
        );
        io::Error::new(error.kind(), message)
    })
}

/// Minimum number of file descriptors with which one tenant can be polled and scraped: 3 standard streams, 6 of the
/// runtime, a socket that listens, and a few for Graph, files and scrapers.
const DESCRIPTORS_MIN: u64 = 16;

/// Bytes of address space that the process reserves but does not use: 64 MiB for a heap, and the stacks of threads.
const ADDRESSES: u64 = 96 << 20;

/// Minimum bytes of memory for the program, its threads and a small report. The start alone needs up to 40 MiB.
const MEMORY_MIN: u64 = 64 << 20;

/// Minimum bytes of the stack of the main thread, which reads the flags and the configuration. In a build without
/// optimization, 128 KiB are not enough.
const STACK_MIN: u64 = 512 << 10;

/// Number of threads that the system must be able to start: three for the log, files and the shutdown, and some for
/// serving, polling, rendering, writing and checking passwords.
const THREADS_MIN: usize = 8;

/// Bytes of a runtime thread's stack, the default of Rust and Tokio.
const STACK: usize = 2 << 20;

/// Bytes of the stack of a helper thread. Helpers do not recurse, and their buffers are on the heap.
const HELPER_STACK: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// More bytes than any address space has.
    const HUGE: usize = 1 << 56;

    #[test]
    fn limits_of_control_groups_by_table() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("kube/pod/memory.max", "134217728\n"),
            ("kube/memory.max", "max\n"),
            ("memory.max", "268435456\n"),
            ("memory/docker/1/memory.limit_in_bytes", "67108864\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        for (groups, expected) in [
            ("0::/kube/pod\n", &[134_217_728, 268_435_456][..]),
            ("0::/kube\n", &[268_435_456]),
            // A container whose path is that of the host.
            ("0::/elsewhere/1\n", &[268_435_456]),
            ("9:cpu,cpuacct:/x\n5:memory:/docker/1\n", &[67_108_864]),
            (
                "5:memory:/other\n0::/kube/pod\n",
                &[134_217_728, 268_435_456],
            ),
            ("5:cpu:/kube/pod\n", &[]),
            ("", &[]),
            ("nonsense", &[]),
        ] {
            assert_eq!(group_limits(groups, root.path()), expected, "{groups}");
        }
    }

    #[test]
    fn threads_that_cannot_be_started_are_errors_with_a_remedy() {
        check_threads().unwrap();
        let error = MachineError::Threads(start_threads(2, HUGE).unwrap_err()).to_string();
        assert!(error.contains("start 8 threads: "), "{error}");
        assert!(error.contains("; raise the limit of processes"), "{error}");
        let error = spawn_with(HUGE, "log", || ()).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot start the thread log: "),
            "{error}"
        );
        assert!(error.contains("; raise the limit of processes"), "{error}");
        spawn("helper", || ()).unwrap().join().unwrap();
    }
}
