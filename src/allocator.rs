//! glibc's allocator, told to give back what a poll has used.
//!
//! A poll takes some 50 MiB for half a second and then holds a seventh of it. By default glibc moves its thresholds up at
//! the first large block that is freed, and from then on keeps most of what it was ever given: 143 MiB after twenty
//! polls of 200,000 rows, where 16 MiB are in use. With thresholds that stay where they are it keeps 16. The other roads:
//! `mallopt` and `malloc_trim` are unsafe to call, and unsafe code is forbidden here; jemalloc does as well, for half a
//! megabyte of program, a C compiler in every build, and two more megabytes of memory; mimalloc keeps more than glibc;
//! musl takes twice the time for a poll (`performance.md`, F).

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::os::unix::process::CommandExt as _;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::process::Command;

/// Makes the thresholds stay where they are. glibc reads them once, before `main`, so the program replaces itself with
/// itself: same process, same arguments, same descriptors, one variable more. Where that variable is set already, it
/// is the administrator's; where it cannot be done, the exporter runs all the same and keeps more memory.
///
/// To be called first, before there are threads or descriptors of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn fix_thresholds() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        // Comes back only where it failed.
        let _error = Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(VARIABLE, TUNABLES)
            .exec();
    }
}

/// Other allocators have no such thresholds.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn fix_thresholds() {}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
const VARIABLE: &str = "GLIBC_TUNABLES";

/// Blocks from 512 KiB have pages of their own, so that a page of Graph's does not; what is free at the end of a heap is
/// given back from there on too. Two heaps, as there are two workers.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TUNABLES: &str = "glibc.malloc.mmap_threshold=524288:glibc.malloc.trim_threshold=524288:glibc.malloc.arena_max=2";
