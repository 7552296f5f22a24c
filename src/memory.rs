//! The memory of reports: the bytes that a report retains while it is polled and from poll to poll have one limit.
//!
//! Everything that grows with the pages and rows of a report is reserved in its pool: pages, rows and totals under way, row
//! ids, the final days of the current and the previous period, and the totals of a log that are rendered. The pool of the
//! process limits the sum of all reports. A reservation that is dropped is given back, so a poll that fails keeps nothing.
//!
//! This module does not limit what is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that may be reserved, and those that are.
#[derive(Debug)]
pub(crate) struct MemoryPool {
    max: usize,
    used: AtomicUsize,
    /// The pool of the process; `None` if this is it.
    process: Option<Arc<Self>>,
}

/// Bytes that are reserved in a pool until this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    pool: Arc<MemoryPool>,
    bytes: usize,
}

/// A pool has fewer bytes left than are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The pool of one report.
    #[error("the report needs more than {} KiB of memory", max >> 10)]
    Report {
        /// The bytes that the pool has.
        max: usize,
    },
    /// The pool of the process.
    #[error("all reports together need more than {} KiB of memory", max >> 10)]
    Process {
        /// The bytes that the pool has.
        max: usize,
    },
}

impl MemoryPool {
    /// The pool of a process with this limit of memory, if it has one.
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

    /// A reservation of nothing yet.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation {
            pool: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Reserves more bytes here and in the pool of the process, or in neither.
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
    /// Changes the reservation to this many bytes.
    ///
    /// # Errors
    /// If they are more, and there is no room for them. The reservation is unchanged then.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), MemoryError> {
        if bytes <= self.bytes {
            self.hold(bytes);
        } else {
            self.pool.grow(bytes - self.bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Changes the reservation to bytes that are in use already, even if the pool is too small for them. Until the pool
    /// has room again, no report can reserve more.
    pub(crate) fn hold(&mut self, bytes: usize) {
        let pools = [Some(&self.pool), self.pool.process.as_ref()];
        for pool in pools.into_iter().flatten() {
            // Wraps if they are fewer than before.
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
                "set or raise the memory limit of the process (MemoryMax=, a container's limit): one report uses at most three fifths of it; or set user of the report, or labels.user, to none; if the tenant is small, check graph_url"
            }
            Self::Process { .. } => {
                "raise the memory limit of the process (MemoryMax=, a container's limit): all reports use at most five eighths of it; or poll fewer reports or tenants"
            }
        }
    }
}

/// Bytes of a hash table. If it is full, includes the larger table that the next entry will need beside it.
pub(crate) fn table_bytes(allocated: usize, entries: usize, capacity: usize) -> usize {
    if capacity - entries < ENTRIES_PER_ROW {
        3 * allocated
    } else {
        allocated
    }
}

/// Entries that one row adds to a table at most: its labels.
const ENTRIES_PER_ROW: usize = 8;

/// Bytes of a report if the process has no limit of memory, as if that were 128 MiB. Five eighths of that are for reports,
/// and the rest is for the program, pages, and what is rendered and published. A report leaves a sixteenth of that to
/// others. 100,000 calls a day by 50,000 callers need 72 MiB at the end of a month.
const DEFAULT_MAX: usize = 75 << 20;

/// Maximum bytes of a report, however much memory there is, because its texts are addressed by 32 bits.
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
