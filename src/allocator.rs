//! Runs the program with fixed thresholds of glibc's `malloc`, so that freed memory returns to the system.
//!
//! A poll uses some 50 MiB for half a second, and a seventh of that afterwards. By default glibc raises its thresholds
//! when the first large block is freed, and then returns little memory. After twenty polls of 200,000 rows the process
//! has 143 MiB, although only 16 MiB are in use. With fixed thresholds it has 16 MiB.
//!
//! Alternatives: `mallopt` and `malloc_trim` are unsafe to call, and unsafe code is forbidden here. jemalloc returns as
//! much memory, but it makes the program half a megabyte larger, uses two more megabytes of memory, and needs a C
//! compiler in every build. mimalloc keeps more memory than glibc. With musl, a poll takes twice as long.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Fixes the thresholds with the environment variable `GLIBC_TUNABLES`. If the variable is set, as in the systemd unit,
/// this function changes nothing. Otherwise it sets the variable and executes the program again, because glibc reads
/// the variable only once, before `main`. The process id, the arguments and the inherited descriptors stay the same. If
/// the execution fails, the exporter runs anyway and uses more memory.
///
/// Call this function before the program starts threads or opens descriptors, because they end with the execution. Call
/// it only in a process that polls repeatedly. A process that ends soon returns its memory anyway.
pub fn fix_thresholds() {
    // Only glibc's allocator has these thresholds.
    let is_glibc = cfg!(all(target_os = "linux", target_env = "gnu"));
    if !is_glibc || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        // `exec` returns only if it fails.
        let _error = Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(VARIABLE, TUNABLES)
            .exec();
    }
}

const VARIABLE: &str = "GLIBC_TUNABLES";

/// glibc maps blocks of 512 KiB or more outside its heaps. A page of Graph is smaller, so it is in a heap. When 512 KiB
/// at the end of a heap are free, glibc returns them to the system. There are two heaps, so that threads that poll and
/// threads that serve rarely wait for each other.
const TUNABLES: &str = "glibc.malloc.mmap_threshold=524288:glibc.malloc.trim_threshold=524288:glibc.malloc.arena_max=2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_sets_the_same_thresholds() {
        let unit = include_str!("../deploy/systemd/teams-pstn-exporter.service");
        let line = format!("Environment={VARIABLE}={TUNABLES}");
        assert!(unit.lines().any(|found| found == line), "no {line}");
    }
}
