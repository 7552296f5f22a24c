//! Runs the program with fixed thresholds of glibc's `malloc`, so that freed memory returns to the system.
//!
//! A poll uses some 50 MiB for half a second and then keeps a seventh of it. By default glibc raises its thresholds
//! when the first large block is freed, and then keeps most of its memory: 143 MiB after twenty polls of 200,000 rows,
//! although only 16 MiB are in use. With fixed thresholds it keeps 16 MiB.
//!
//! Alternatives: `mallopt` and `malloc_trim` are unsafe to call, and unsafe code is forbidden here. jemalloc returns as
//! much memory, but needs half a megabyte of program, a C compiler in every build, and two more megabytes of memory.
//! mimalloc keeps more memory than glibc. With musl a poll takes twice the time.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Fixes the thresholds. The unit of systemd sets them, and any value of the variable applies. Without it, the program
/// executes itself again, because glibc reads the variable once, before `main`: same process, same arguments, same
/// descriptors, and one more variable. If the execution fails, the exporter runs anyway and keeps more memory.
///
/// Call it before the program has threads or descriptors of its own, and only for a process that polls.
pub fn fix_thresholds() {
    // Other allocators have no such thresholds.
    let is_glibc = cfg!(all(target_os = "linux", target_env = "gnu"));
    if !is_glibc || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        // Returns only on an error.
        let _error = Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(VARIABLE, TUNABLES)
            .exec();
    }
}

const VARIABLE: &str = "GLIBC_TUNABLES";

/// Blocks of 512 KiB and more are mapped separately; a page of Graph is smaller. Free memory of this size at the end of
/// a heap returns to the system. There are two heaps, because there are two workers.
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
