//! Request counters of one poll, kept outside the future that sends the requests, so that a time-out loses no count.

use std::sync::atomic::{AtomicU64, Ordering};

use super::retry::RetryReason;

/// Request counters of one poll of one report. The pages increment them by reference, and the owner reads them.
#[derive(Debug, Default)]
pub struct RequestStats {
    requests: [AtomicU64; RequestCode::ALL.len()],
    retries: [AtomicU64; RetryReason::ALL.len()],
    pages: AtomicU64,
    rows: AtomicU64,
    oddities: [AtomicU64; Oddity::ALL.len()],
}

/// An unusual value of a row. The row counts nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Text that was truncated.
    Cut,
    /// Text in which something was replaced.
    Replaced,
    /// A null that was read as 0.
    Null,
}

impl Oddity {
    const ALL: [Self; 3] = [Self::Cut, Self::Replaced, Self::Null];
}

/// The result of a request to Graph: the label `code` of `teams_pstn_graph_requests_total`, a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestCode(usize);

impl RequestStats {
    /// Requests to Graph with this result. Requests for tokens are not counted.
    pub fn requests(&self, code: RequestCode) -> u64 {
        self.requests[code.0].load(Ordering::Relaxed)
    }

    /// Requests to Graph that were repeated for this reason.
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries[reason as usize].load(Ordering::Relaxed)
    }

    /// Pages that arrived completely.
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Rows that were read, including those of a page that broke off later.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Unusual values in complete pages.
    pub fn oddities(&self, oddity: Oddity) -> u64 {
        self.oddities[oddity as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_oddities(&self, oddity: Oddity, count: u64) {
        self.oddities[oddity as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a request. `status` is `None` if there was no response.
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

    /// The label's value: a known status, `other` for an unknown one, `none` if there was no response.
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
