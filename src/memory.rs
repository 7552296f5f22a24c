//! Limits the memory that reports use during a poll and between polls.
//!
//! Each report has a pool. All memory that grows with the pages and rows of the report is reserved there: pages, rows
//! and totals of a running poll, row ids, the final days of the current and the previous period, and the totals of a
//! log while they are rendered. The pool of the process limits the sum of all reports. Dropping a reservation returns
//! its bytes to the pool, so a failed poll keeps none.
//!
//! This module does not limit the memory of published samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A limit of bytes, and the number of bytes that are reserved.
#[derive(Debug)]
pub(crate) struct MemoryPool {
    max: usize,
    used: AtomicUsize,
    /// The pool of the process. `None` if this pool is itself the pool of the process.
    process: Option<Arc<Self>>,
}

/// Bytes that are reserved in a pool. Dropping a reservation releases them.
#[derive(Debug)]
pub(crate) struct Reservation {
    pool: Arc<MemoryPool>,
    bytes: usize,
}

/// The error that a report needs more bytes than its pool or the pool of the process has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemoryError {
    /// The pool of the report is too small.
    #[error("the report needs more than {} KiB of memory", max >> 10)]
    Report {
        /// The limit of the pool in bytes.
        max: usize,
    },
    /// The pool of the process is too small.
    #[error("all reports together need more than {} KiB of memory", max >> 10)]
    Process {
        /// The limit of the pool in bytes.
        max: usize,
    },
}

impl MemoryPool {
    /// The pool of a process. `limit` is the memory limit of the process, if it has one.
    pub(crate) fn for_process(limit: Option<u64>) -> Arc<Self> {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        Arc::new(Self {
            max: limit.map_or(usize::MAX, |limit| limit / 8 * 5),
            used: AtomicUsize::new(0),
            process: None,
        })
    }

    /// The pool of one report of one tenant.
    pub(crate) fn for_report(self: &Arc<Self>) -> Arc<Self> {
        let max = match self.max {
            usize::MAX => DEFAULT_MAX,
            process_max => (process_max / 16 * 15).min(REPORT_MAX),
        };
        Arc::new(Self {
            max,
            used: AtomicUsize::new(0),
            process: Some(Arc::clone(self)),
        })
    }

    /// An empty reservation.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation {
            pool: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Reserves bytes both in this pool and in the pool of the process. If one of them is too small, reserves none.
    fn grow(&self, bytes: usize) -> Result<(), MemoryError> {
        let max = self.max;
        let sum = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= max);
        let grown = self.used.fetch_update(Relaxed, Relaxed, sum);
        let Some(process) = &self.process else {
            return grown.map(drop).map_err(|_| MemoryError::Process { max });
        };
        grown.map_err(|_| MemoryError::Report { max })?;
        process.grow(bytes).inspect_err(|_| {
            self.used.fetch_sub(bytes, Relaxed);
        })
    }
}

impl Reservation {
    /// Changes the size of the reservation to `bytes`.
    ///
    /// # Errors
    /// If the reservation would grow and there is no room for it. The reservation is then unchanged.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), MemoryError> {
        if bytes <= self.bytes {
            self.hold(bytes);
        } else {
            self.pool.grow(bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Changes the size of the reservation to `bytes`, which are already in use, even if the pool is too small for
    /// them. No report can then reserve more until the pool has room again.
    pub(crate) fn hold(&mut self, bytes: usize) {
        let pools = [Some(&self.pool), self.pool.process.as_ref()];
        for pool in pools.into_iter().flatten() {
            // If `bytes` is below `self.bytes`, the difference wraps, and the sum wraps back.
            pool.used.fetch_add(bytes.wrapping_sub(self.bytes), Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.hold(0);
    }
}

impl MemoryError {
    /// The remedy for an administrator.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Report { .. } => {
                "set or raise the memory limit of the process (MemoryMax= or the container's limit; one report uses at most three fifths of it), or set labels.user or reports[].user to none; if the tenant is small, check graph_url"
            }
            Self::Process { .. } => {
                "raise the memory limit of the process (MemoryMax= or the container's limit), or poll fewer reports or tenants; all reports together use at most five eighths of the limit"
            }
        }
    }
}

/// Bytes of a hash table. If the table is nearly full, includes the larger table that it is copied into when it grows.
pub(crate) fn table_bytes(allocated: usize, entries: usize, capacity: usize) -> usize {
    if capacity - entries < ENTRIES_PER_ROW {
        3 * allocated
    } else {
        allocated
    }
}

/// Maximum number of entries that one row adds to a table: one for each label.
const ENTRIES_PER_ROW: usize = 8;

/// Limit of one report in bytes if the process has no memory limit. It is the same as with a memory limit of 128
/// MiB: all reports can use five eighths of it (80 MiB), and one report fifteen sixteenths of that (75 MiB). The rest
/// of the 128 MiB is for the program and for rendered and published samples. A log with 100,000 calls a day by
/// 50,000 callers needs 72 MiB at the end of a month.
const DEFAULT_MAX: usize = 75 << 20;

/// Maximum limit of one report in bytes, even if the process may use more memory, because texts of a report are
/// addressed by 32 bits.
const REPORT_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_table() {
        for (limit, process, report) in [
            (None, usize::MAX, 75 << 20),
            (Some(128 << 20), 80 << 20, 75 << 20),
            (Some(512 << 20), 320 << 20, 300 << 20),
            (Some(64 << 30), 40 << 30, REPORT_MAX),
        ] {
            let pool = MemoryPool::for_process(limit);
            let found = (pool.max, pool.for_report().max);
            assert_eq!(found, (process, report), "{limit:?}");
        }
    }

    #[test]
    fn reservations_of_a_report_and_of_all_reports_are_limited_and_given_back() {
        let process = MemoryPool::for_process(Some(160));
        let (one, other) = (process.for_report(), process.for_report());
        let mut first = one.reservation();
        first.resize(80).unwrap();
        let mut second = one.reservation();
        assert_eq!(second.resize(11), Err(MemoryError::Report { max: 90 }));
        second.resize(10).unwrap();
        let mut third = other.reservation();
        assert_eq!(third.resize(11), Err(MemoryError::Process { max: 100 }));
        third.resize(10).unwrap();
        // A refused reservation is as before.
        assert_eq!(first.resize(81), Err(MemoryError::Report { max: 90 }));
        drop(second);
        third.resize(20).unwrap();
        first.hold(90);
        assert!(third.resize(21).is_err());
        // Fewer bytes are never refused.
        third.resize(19).unwrap();
        first.resize(70).unwrap();
        drop((first, third));
        let used = [&process, &one, &other].map(|pool| pool.used.load(Relaxed));
        assert_eq!(used, [0; 3]);
    }
}
