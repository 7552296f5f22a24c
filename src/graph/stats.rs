//! Request counters of one poll. A time-out drops the future that sends the requests. The counters are outside this
//! future, so no count is lost.

use std::sync::atomic::{AtomicU64, Ordering};

use super::retry::RetryReason;

/// Request counters of one poll of one report. The code that requests the pages increments them through a shared
/// reference. The code that starts the poll owns them and reads them.
#[derive(Debug, Default)]
pub(crate) struct RequestStats {
    requests: [AtomicU64; REQUEST_CODES.len()],
    retries: [AtomicU64; RetryReason::ALL.len()],
    pages: AtomicU64,
    rows: AtomicU64,
    oddities: [AtomicU64; ODDITIES],
}

/// An unusual value of a row. The row is counted nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// Text that was truncated.
    Cut,
    /// Text in which something was replaced.
    Replaced,
    /// A null that was read as 0.
    Null,
}

/// Number of variants of [`Oddity`].
const ODDITIES: usize = Oddity::Null as usize + 1;

impl RequestStats {
    /// Requests to Graph for each code of [`REQUEST_CODES`]. Token requests do not go to Graph and are not included.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.requests.iter();
        REQUEST_CODES
            .into_iter()
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    /// Requests to Graph that were repeated for this reason.
    pub(crate) fn retries(&self, reason: RetryReason) -> u64 {
        self.retries[reason as usize].load(Ordering::Relaxed)
    }

    /// Pages that arrived completely.
    pub(crate) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }

    /// Rows that were read. Rows of an incomplete page are not counted, because the page is requested again.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Unusual values in complete pages.
    pub(crate) fn oddities(&self, oddity: Oddity) -> u64 {
        self.oddities[oddity as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_oddities(&self, oddity: Oddity, count: u64) {
        self.oddities[oddity as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Counts a request. `status` is `None` if there was no response.
    pub(crate) fn count_request(&self, status: Option<u16>) {
        self.requests[code_index(status)].fetch_add(1, Ordering::Relaxed);
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

/// The index in [`REQUEST_CODES`] for a request with this status. `None` means that there was no response.
fn code_index(status: Option<u16>) -> usize {
    let code = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    let known = REQUEST_CODES.iter().position(|known| *known == code);
    known.unwrap_or(OTHER)
}

/// The values of the label `code` of `teams_pstn_graph_requests_total`: the statuses that Graph documents for these
/// reports, `other` for all other statuses, and `none` if there was no response.
pub(crate) const REQUEST_CODES: [&str; 13] = [
    "200", "400", "401", "403", "404", "406", "429", "500", "502", "503", "504", "other", "none",
];
const OTHER: usize = 11;

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
            assert_eq!(REQUEST_CODES[code_index(status)], code);
        }
        for code in REQUEST_CODES {
            let status = code.parse().ok();
            if code != "other" {
                assert_eq!(REQUEST_CODES[code_index(status)], code);
            }
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
            let requests = stats.requests().filter(|(known, _)| *known == code);
            requests.map(|(_, count)| count).sum::<u64>()
        };
        assert_eq!((sum("429"), sum("none"), sum("200")), (1, 1, 0));
        assert!(RetryReason::ALL.into_iter().all(|r| stats.retries(r) == 1));
    }
}
