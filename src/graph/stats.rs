//! What a report cost in requests, counted outside the future that makes them, so that a time-out loses nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use super::retry::RetryReason;

/// Counts of one report of one tenant. Shared by reference with the pages, read by whoever owns it.
#[derive(Debug, Default)]
pub struct RequestStats {
    requests: [AtomicU64; RequestCode::ALL.len()],
    retries: [AtomicU64; RetryReason::ALL.len()],
    pages: AtomicU64,
    rows: AtomicU64,
    oddities: [AtomicU64; Oddity::ALL.len()],
}

/// A value of a row that is odd, and counts all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Text that was cut.
    Cut,
    /// Text in which something was replaced.
    Replaced,
    /// A null that was read as 0.
    Null,
}

impl Oddity {
    const ALL: [Self; 3] = [Self::Cut, Self::Replaced, Self::Null];
}

/// How Graph answered a request: the label `code` of `teams_pstn_graph_requests_total`, a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestCode(usize);

impl RequestStats {
    /// Requests to Graph that were answered so; requests for tokens are not among them.
    pub fn requests(&self, code: RequestCode) -> u64 {
        self.requests[code.0].load(Ordering::Relaxed)
    }

    /// Requests to Graph that were repeated for this reason.
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries[reason as usize].load(Ordering::Relaxed)
    }

    /// Pages that arrived whole.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Rows that were read, those of a page that broke further on included.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Odd values of whole pages.
    pub fn oddities(&self, oddity: Oddity) -> u64 {
        self.oddities[oddity as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_oddities(&self, oddity: Oddity, count: u64) {
        self.oddities[oddity as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// `None` where there was no answer.
    pub(crate) fn count_request(&self, status: Option<u16>) {
        self.requests[RequestCode::of(status).0].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_retry(&self, reason: RetryReason) {
        self.retries[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_page(&self) {
        self.pages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_rows(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }
}

impl RequestCode {
    /// Every code, so that all label values exist from the start.
    pub const ALL: [Self; NAMES.len()] = {
        let mut all = [Self(0); NAMES.len()];
        let mut index = 0;
        while index < all.len() {
            all[index] = Self(index);
            index += 1;
        }
        all
    };

    /// The label's value: a status, `other` for one that has no place of its own, `none` where no answer came.
    pub const fn as_str(self) -> &'static str {
        NAMES[self.0]
    }

    fn of(status: Option<u16>) -> Self {
        let Some(status) = status else {
            return Self(NONE);
        };
        STATUSES
            .iter()
            .position(|&known| known == status)
            .map_or(Self(OTHER), Self)
    }
}

/// The statuses that Graph documents for these reports, in the order of [`NAMES`].
const STATUSES: [u16; 11] = [200, 400, 401, 403, 404, 406, 429, 500, 502, 503, 504];
const NAMES: [&str; 13] = [
    "200", "400", "401", "403", "404", "406", "429", "500", "502", "503", "504", "other", "none",
];
const OTHER: usize = 11;
const NONE: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_code() {
        for (status, code) in [
            (Some(200), "200"),
            (Some(401), "401"),
            (Some(504), "504"),
            (Some(302), "other"),
            (Some(999), "other"),
            (None, "none"),
        ] {
            assert_eq!(RequestCode::of(status).as_str(), code);
        }
        for status in STATUSES {
            assert_eq!(RequestCode::of(Some(status)).as_str(), status.to_string());
        }
    }

    #[test]
    fn counts_land_where_they_are_read() {
        let stats = RequestStats::default();
        stats.count_request(Some(429));
        stats.count_request(None);
        for reason in RetryReason::ALL {
            stats.count_retry(reason);
        }
        let sum = |code: &str| {
            RequestCode::ALL
                .into_iter()
                .filter(|known| known.as_str() == code)
                .map(|code| stats.requests(code))
                .sum::<u64>()
        };
        assert_eq!((sum("429"), sum("none"), sum("200")), (1, 1, 0));
        assert!(RetryReason::ALL.into_iter().all(|r| stats.retries(r) == 1));
    }
}
