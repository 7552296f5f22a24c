//! The client of Microsoft Graph's telephony reports: from a query to a stream of pages.
//!
//! What comes from the network is hostile input here. A page has a bounded size, a report a bounded number of pages and
//! rows; a link to the next page is followed only within the origin of the configured root, so that the bearer token
//! goes nowhere else; redirects are not followed; text of the server reaches a log line only bounded and on one line.
//!
//! What this module does not do: know a report's columns, add anything up, or read the wall clock, which is passed in.
//! It depends on no other module of the crate.

pub mod address;
mod assertion;
mod conversion;
pub mod credential;
pub(crate) mod decode;
mod error_body;
mod errors;
mod foreign;
pub mod http;
pub mod managed_identity;
pub mod pages;
pub mod reach;
mod request;
pub mod retry;
pub mod stats;
#[cfg(test)]
mod testing;
mod throttle;
pub mod token;
mod token_endpoint;
mod token_endpoint_error;

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use self::address::GraphRoot;
use self::errors::GraphError;
use self::http::HttpClient;
use self::pages::{About, Pages};
use self::retry::{FailureKind, RetryPolicy};
use self::stats::RequestStats;
use self::throttle::{Held, Throttle};
use self::token::{TokenCache, TokenError};

/// Graph, as one application in one tenant may see it.
#[derive(Debug)]
pub struct Graph {
    http: HttpClient,
    root: GraphRoot,
    tokens: TokenCache,
    limits: Limits,
    retry: RetryPolicy,
    hides_people: bool,
    throttle: Throttle,
}

/// What to ask for: a function on call records, and its range of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The version of Graph that has the function.
    pub version: Version,
    /// Its name: `getPstnOnlineMeetingDialoutReport`.
    pub function: &'static str,
    /// `fromDateTime`, an `Edm.DateTimeOffset` literal in UTC, ending in `Z`.
    pub from: String,
    /// `toDateTime`, likewise. Whether it belongs to the range depends on the function.
    pub to: String,
}

/// A version of Graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `v1.0`, which has two of the five reports.
    V1,
    /// `beta`, which has them all and may change.
    Beta,
}

/// How much one report may be. Beyond, it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one page, after decompression.
    pub body_bytes: usize,
    /// Pages of one report.
    pub pages: u64,
    /// Rows of one report.
    pub rows: u64,
}

/// The cause for which a page is malformed. Each has its own remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Something else than JSON, such as the page of a proxy.
    NotJson,
    /// JSON that ends too early or breaks in the middle.
    BrokenOff,
    /// Whole JSON that is not what is documented.
    Changed,
    /// An error in a page with status 200.
    PageError,
    /// A link to another origin.
    ForeignLink,
    /// A link to a page that was read already.
    Repeated,
}

/// The kind of a failure: the label `reason` of `teams_pstn_report_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// No token, or one that Graph does not accept.
    Auth,
    /// A permission is missing.
    Forbidden,
    /// 429 to the end.
    Throttled,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Connect,
    /// Another status than 200.
    Status,
    /// An answer that cannot be read or a link that is not followed.
    Malformed,
    /// More pages, rows or bytes than allowed.
    Limit,
}

/// Why a report is not there. Messages hold Graph's request-id, never a token, a secret or a body.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No token.
    #[error("cannot get a token")]
    Token(#[from] TokenError),
    /// The deadline passed. For callers too, where a time-out of their own dropped the pages.
    #[error("the report was not complete at its deadline")]
    Timeout,
    /// Graph throttles the application for longer than the report can wait.
    #[error("Graph throttles the application")]
    Throttled(#[from] Held),
    /// No whole answer.
    #[error("no whole answer from {host}{}", with_id(.request_id.as_deref()))]
    Transport {
        /// Graph's host.
        host: String,
        /// What Microsoft's support asks for, where the answer had begun.
        request_id: Option<String>,
        /// What happened.
        source: reqwest::Error,
    },
    /// Another status than 200.
    #[error(transparent)]
    Status(Box<GraphError>),
    /// Not a page, or a link that is not followed.
    #[error("page {page}{} is malformed (request-id {request_id}, Content-Type {content_type})", in_row(*.row))]
    Malformed {
        /// Number of the page, from 1.
        page: u64,
        /// The cause.
        flaw: Flaw,
        /// Number of the row, from 1 over all pages, where it is one row's fault.
        row: Option<u64>,
        /// Graph's id of the request.
        request_id: String,
        /// What the answer claimed to be.
        content_type: &'static str,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too much of something.
    #[error("the report has more than {max} {what} on page {page}{}", with_id(.request_id.as_deref()))]
    Limit {
        /// Number of the page, from 1.
        page: u64,
        /// Of what.
        what: &'static str,
        /// How much is allowed.
        max: u64,
        /// What Microsoft's support asks for, where there is an answer.
        request_id: Option<String>,
    },
}

/// An error and its sources on one line, for the log and for people.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl Graph {
    /// A client whose requests all go to the origin of `root`.
    pub fn new(
        http: HttpClient,
        root: GraphRoot,
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

    /// The same client. If `hides` is true, its errors do not have Graph's messages, which can name people.
    #[must_use]
    pub fn hiding_people(self, hides: bool) -> Self {
        Self {
            hides_people: hides,
            ..self
        }
    }

    /// The error of a report whose deadline has passed: throttling, if requests are held at this moment.
    pub(crate) fn late(&self) -> Error {
        let held = self.throttle.held();
        held.map_or(Error::Timeout, Error::Throttled)
    }

    /// The tokens, for what metrics and the preflight tell about them.
    pub fn tokens(&self) -> &TokenCache {
        &self.tokens
    }

    /// The pages of a report, all of which must have arrived at `deadline`. What it cost is counted in `stats`, also
    /// where the future is dropped.
    ///
    /// ```ignore
    /// let mut pages = graph.pages(&query, deadline, &stats);
    /// while let Some(mut page) = pages.next().await? {
    ///     page.decode(|number, row: Row<'_>| totals.add(number, row))?;
    /// }
    /// ```
    pub fn pages<'g>(
        &'g self,
        query: &Query,
        deadline: Instant,
        stats: &'g RequestStats,
    ) -> Pages<'g> {
        let call = format!(
            "{}(fromDateTime={},toDateTime={})",
            query.function, query.from, query.to
        );
        let first = self.root.report(query.version.as_str(), &call);
        Pages::new(self, first, deadline, stats)
    }
}

impl Version {
    const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1.0",
            Self::Beta => "beta",
        }
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
    /// Every reason, so that all label values exist from the start.
    pub const ALL: [Self; 8] = [
        Self::Auth,
        Self::Forbidden,
        Self::Throttled,
        Self::Timeout,
        Self::Connect,
        Self::Status,
        Self::Malformed,
        Self::Limit,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Status => "status",
            Self::Malformed => "malformed",
            Self::Limit => "limit",
        }
    }

    const fn of(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Timeout => Self::Timeout,
            FailureKind::Connect | FailureKind::Body => Self::Connect,
            FailureKind::Status(_) => Self::Status,
        }
    }
}

impl Error {
    /// The kind of failure, as metrics label it.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Token(error) => error.reason(),
            Self::Timeout => FailureReason::Timeout,
            Self::Throttled(held) => errors::reason(held.status),
            Self::Transport { source, .. } => FailureReason::of(http::classify(source)),
            Self::Status(answer) => answer.reason(),
            Self::Malformed { .. } => FailureReason::Malformed,
            Self::Limit { .. } => FailureReason::Limit,
        }
    }

    /// What the admin must do, where that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Token(error) => error.remedy(),
            Self::Transport { source, .. } => http::connect_remedy(source),
            Self::Throttled(held) => errors::remedy(held.status),
            Self::Status(answer) => answer.remedy(),
            Self::Malformed { flaw, .. } => Some(flaw.remedy()),
            _ => None,
        }
    }

    pub(crate) fn malformed(
        about: &About,
        flaw: Flaw,
        row: Option<u64>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let request_id = about.request_id.as_deref().unwrap_or("none");
        Self::Malformed {
            page: about.page,
            flaw,
            row,
            request_id: request_id.to_owned(),
            content_type: about.content_type,
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
    /// The thing to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NotJson => {
                "a proxy, filter or login page answers in Graph's place; let the exporter reach graph_url without it, or name the proxy in HTTPS_PROXY"
            }
            Self::BrokenOff => {
                "the body breaks off in spite of retries; check what limits size or time of answers between the exporter and Graph, and see the service health page of Microsoft 365"
            }
            Self::Changed => {
                "the answer is not what Microsoft documents; check graph_url, install the newest exporter, and if it says the same, report it with this line"
            }
            Self::PageError => {
                "a failure at Microsoft's, which the next poll may not meet; if it stays, see the service health page, or give Microsoft's support the code and the request-id"
            }
            Self::ForeignLink => {
                "graph_url leads to a proxy that does not rewrite links; let it replace Graph's address by its own in response bodies (@odata.nextLink), or set graph_url to Graph itself and name a forward proxy in HTTPS_PROXY"
            }
            Self::Repeated => {
                "the server ignores the link's query; if graph_url leads to a proxy, let it forward the whole query, else see the service health page of Microsoft 365"
            }
        }
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let part = error.to_string();
            // Some errors print their source themselves.
            if !text.contains(&part) {
                text = format!("{text}: {part}");
            }
            source = error.source();
        }
        f.write_str(&http::one_line(&text))
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

/// A page has 1000 rows of some 300 bytes, or up to 1 KiB in a log; eight times that is not a page, and four are read side by
/// side.
const BODY_BYTES_MAX: usize = 8 << 20;

/// Ten million rows at Graph's page size: more than any tenant has users, so a server that never ends.
const PAGES_MAX: u64 = 10_000;

/// Five million rows take some seconds to add up; beyond, the totals no longer fit into a small machine's memory.
const ROWS_MAX: u64 = 5_000_000;

#[cfg(test)]
mod tests;
