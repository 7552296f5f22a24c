//! The client of Microsoft Graph's telephony reports: from a query to a stream of pages.
//!
//! Data from the network is treated as hostile. A page has a limited size, and a report a limited number of pages and
//! rows. A link to the next page is followed only within the origin of the configured root, so the bearer token goes
//! nowhere else. Redirects are not followed. Text of the server is logged on one line of limited length.
//!
//! This module does not know the columns of a report and adds nothing up. The caller passes in the wall clock.

mod access_token;
pub mod address;
pub(crate) mod assertion;
pub mod credential;
pub(crate) mod decode;
mod error_body;
mod errors;
mod foreign;
pub mod http;
pub mod managed_identity;
pub(crate) mod pages;
pub(crate) mod reach;
mod request;
pub mod retry;
pub(crate) mod stats;
#[cfg(test)]
pub(crate) mod testing;
mod throttle;
pub mod token;
mod token_endpoint;
mod token_endpoint_error;
mod token_error;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::address::RootUrl;
use self::errors::GraphError;
use self::http::HttpClient;
use self::pages::Pages;
use self::request::About;
use self::retry::{FailureKind, RetryPolicy};
use self::stats::RequestStats;
use self::throttle::{Held, Throttle};
use self::token::{TokenCache, TokenError};
use crate::memory::{MemoryError, MemoryPool};

/// The client of one application in one tenant.
#[derive(Debug)]
pub(crate) struct Graph {
    http: HttpClient,
    root: RootUrl,
    /// The token cache. Metrics and the preflight check read it too.
    pub(crate) tokens: TokenCache,
    limits: Limits,
    retry: RetryPolicy,
    /// True if errors do not contain Graph's messages, because these can name people.
    pub(crate) hides_people: bool,
    throttle: Throttle,
}

/// A request for a report: the function that Graph provides for it, and a time range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The version of Graph that has the function.
    pub(crate) version: Version,
    /// The function's name: `getPstnOnlineMeetingDialoutReport`.
    pub(crate) function: &'static str,
    /// `fromDateTime`, an `Edm.DateTimeOffset` literal in UTC, ending in `Z`.
    pub(crate) from: String,
    /// `toDateTime`, an `Edm.DateTimeOffset` literal too. Some functions include this time in the range, others do not.
    pub(crate) to: String,
}

closed_set! {
    /// A version of Graph.
    Version {
        /// The stable version, which has two of the five reports.
        V1 = "v1.0",
        /// The beta version, which has all five reports. Microsoft can change it at any time.
        Beta = "beta",
    }
}

/// Limits of one report. A report that exceeds a limit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Maximum bytes of one page, after decompression.
    pub(crate) body_bytes: usize,
    /// Maximum pages of one report.
    pub(crate) pages: u64,
    /// Maximum rows of one report.
    pub(crate) rows: u64,
}

/// The reason why a page is malformed. Each reason has its own remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The response is not JSON, for example because it is the error page of a proxy.
    NotJson,
    /// The page is truncated or empty.
    BrokenOff,
    /// The JSON is complete, but differs from Microsoft's documentation.
    Changed,
    /// The page contains an error, although its status is 200.
    PageError,
    /// The link to the next page leads to another origin.
    ForeignLink,
    /// The link to the next page leads to a page that was already read.
    Repeated,
}

closed_set! {
    /// The kind of a failure: the label `reason` of `teams_pstn_report_failures_total`.
    FailureReason {
        /// The credential cannot be used, the token endpoint rejects it, or Graph rejects the token.
        Auth = "auth",
        /// A permission is missing.
        Forbidden = "forbidden",
        /// Status 429 or 509, and no retry succeeded.
        Throttled = "throttled",
        /// The response did not arrive in time.
        Timeout = "timeout",
        /// There is no connection, or the connection broke.
        Connect = "connect",
        /// The response has another error status.
        Status = "status",
        /// The response cannot be read, or its link to the next page is not followed.
        Malformed = "malformed",
        /// The report has more pages, rows or bytes than permitted, or needs more memory than there is.
        Limit = "limit",
    }
}

/// Errors of a report. Messages contain Graph's request-id, never a token, a secret or a body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The token cache returned no token.
    #[error("cannot get a token")]
    Token(#[from] TokenError),
    /// The deadline passed. A caller that drops the pages at its own timeout returns this error too.
    #[error("the report was not complete at its deadline")]
    Timeout,
    /// Graph throttles the application for longer than the report can wait.
    #[error("Graph throttles the application")]
    Throttled(#[from] Held),
    /// There is no complete response.
    #[error("no complete response from {host}{}", with_id(.request_id.as_deref()))]
    Transport {
        host: String,
        /// Graph's request id, for Microsoft's support. `None` if no response began.
        request_id: Option<String>,
        source: reqwest::Error,
    },
    /// The response has a status other than 200.
    #[error(transparent)]
    Status(Box<GraphError>),
    /// The response is not a page, or has a link that is not followed.
    #[error(
        "page {}{} is malformed (request-id {}, Content-Type {})",
        .about.page, in_row(*.row), .about.request_id.as_deref().unwrap_or("none"), .about.content_type
    )]
    Malformed {
        about: About,
        flaw: Flaw,
        /// Number of the row that is the cause, if it is one row. The first row of the first page is 1, and the numbers
        /// continue from page to page.
        row: Option<u64>,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A limit is exceeded.
    #[error("the report has more than {max} {what} on page {page}{}", with_id(.request_id.as_deref()))]
    Limit {
        /// Number of the page, from 1.
        page: u64,
        /// The unit of the limit: pages, rows or bytes.
        what: &'static str,
        max: u64,
        /// Graph's request id, for Microsoft's support. `None` if there is no response.
        request_id: Option<String>,
    },
    /// There is no memory for the page.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Graph {
    /// Returns a client that requests all reports from the origin of `root`.
    pub(crate) fn new(
        http: HttpClient,
        root: RootUrl,
        tokens: TokenCache,
        limits: Limits,
        retry: RetryPolicy,
    ) -> Self {
        Self {
            http,
            root,
            tokens,
            limits,
            retry,
            throttle: Throttle::default(),
            hides_people: false,
        }
    }

    /// Returns the error of a report that has passed its deadline. This is [`Error::Throttled`] if requests must
    /// currently wait because Graph throttles the application, otherwise [`Error::Timeout`].
    pub(crate) fn late(&self) -> Error {
        let held = self.throttle.held();
        held.map_or(Error::Timeout, Error::Throttled)
    }

    /// Returns the pages of a report, all of which must arrive before `deadline`. Counts each request in `stats`, even
    /// if the caller drops the future that sends it. Reserves memory for each page in `memory`.
    ///
    /// ```ignore
    /// let mut pages = graph.pages(&query, deadline, &stats, &memory);
    /// while let Some(mut page) = pages.next().await? {
    ///     page.decode(|number, row: Row<'_>| totals.add(number, row))?;
    /// }
    /// ```
    pub(crate) fn pages<'g>(
        &'g self,
        query: &Query,
        deadline: Instant,
        stats: &'g RequestStats,
        memory: &Arc<MemoryPool>,
    ) -> Pages<'g> {
        let call = format!(
            "{}(fromDateTime={},toDateTime={})",
            query.function, query.from, query.to
        );
        let first = self.root.report(query.version.as_str(), &call);
        Pages::new(self, first, deadline, stats, memory.reservation())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: BODY_BYTES_MAX,
            pages: PAGES_MAX,
            rows: ROWS_MAX,
        }
    }
}

impl FailureReason {
    const fn from_kind(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Timeout => Self::Timeout,
            FailureKind::Connect | FailureKind::Body => Self::Connect,
            FailureKind::Status(_) => Self::Status,
        }
    }
}

impl Error {
    /// The kind of failure, as metrics label it.
    pub(crate) fn reason(&self) -> FailureReason {
        match self {
            Self::Token(error) => error.reason(),
            Self::Timeout => FailureReason::Timeout,
            Self::Throttled(held) => errors::reason(held.status),
            Self::Transport { source, .. } => FailureReason::from_kind(http::classify(source)),
            Self::Status(answer) => errors::reason(answer.status),
            Self::Malformed { .. } => FailureReason::Malformed,
            Self::Limit { .. } | Self::Memory(_) => FailureReason::Limit,
        }
    }

    /// The remedy for the administrator, if one is known.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Token(error) => error.remedy(),
            Self::Transport { source, .. } => http::connect_remedy(source),
            Self::Throttled(held) => errors::remedy(held.status),
            Self::Status(answer) => errors::remedy(answer.status),
            Self::Malformed { flaw, .. } => Some(flaw.remedy()),
            Self::Memory(error) => Some(error.remedy()),
            _ => None,
        }
    }

    pub(crate) fn malformed(
        about: &About,
        flaw: Flaw,
        row: Option<u64>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Malformed {
            about: about.clone(),
            flaw,
            row,
            source: source.into(),
        }
    }

    pub(crate) fn limit(page: u64, what: &'static str, max: u64, about: Option<&About>) -> Self {
        let request_id = about.and_then(|about| about.request_id.clone());
        Self::Limit {
            page,
            what,
            max,
            request_id,
        }
    }
}

impl Flaw {
    /// The remedy for the administrator.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::NotJson => {
                "a proxy, filter or login page answers in Graph's place; let the exporter reach graph_url without it, or name the proxy in HTTPS_PROXY"
            }
            Self::BrokenOff => {
                "the response breaks off even after retries; check whether something between the exporter and Graph limits the size or time of responses, and see the service health page of Microsoft 365"
            }
            Self::Changed => {
                "the response is not what Microsoft documents; check graph_url and install the newest exporter; if the message stays, report it with this line"
            }
            Self::PageError => {
                "a failure at Microsoft, which may be over at the next poll; if it persists, see the service health page, or give Microsoft's support the code and the request-id"
            }
            Self::ForeignLink => {
                "graph_url leads to a proxy that does not rewrite links; let it replace Graph's address with its own in response bodies (@odata.nextLink), or set graph_url to Graph itself and name a forward proxy in HTTPS_PROXY"
            }
            Self::Repeated => {
                "the server ignores the link's query; if graph_url leads to a proxy, let it forward the whole query, else see the service health page of Microsoft 365"
            }
        }
    }
}

/// A duration for the log: seconds with three decimals.
pub(crate) fn log_seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

fn with_id(request_id: Option<&str>) -> String {
    request_id.map_or_else(String::new, |id| format!(" (request-id {id})"))
}

fn in_row(number: Option<u64>) -> String {
    number.map_or_else(String::new, |number| format!(", row {number}"))
}

/// Maximum bytes of a page. A real page has 1000 rows of some 300 bytes, or of up to 1 KiB in a log. The limit is low
/// because four pages of a log are read in parallel.
const BODY_BYTES_MAX: usize = 8 << 20;

/// Maximum pages of a report: ten million rows if every page is full. No tenant has more rows, so beyond this limit the
/// server's links probably never end.
const PAGES_MAX: u64 = 10_000;

/// Maximum rows of a report. Five million rows take some seconds to add up. The totals of more rows do not fit into the
/// memory of a small machine.
const ROWS_MAX: u64 = 5_000_000;

#[cfg(test)]
mod tests;
