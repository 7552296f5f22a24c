//! Faults, and the requests that they affect.
//!
//! Faults wait in a queue. A request takes the first one that matches it, so a request has at most one fault.

use std::time::Duration;

use super::address::percent_decoded;

pub use super::random_faults::RandomFaults;
pub use super::unreliable::Unreliable;

/// A fault of one request.
///
/// A fault that has no meaning for the request that takes it (a token error on a page) is consumed without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error status. See [`Fault::status`] and [`Fault::throttle`].
    Status {
        /// 429, 503, …
        status: u16,
        /// The body of the error.
        body: ErrorBody,
        /// The header `Retry-After` verbatim; omitted if no header can contain it.
        retry_after: Option<String>,
    },
    /// This JSON text with this status, verbatim, for any request.
    Literal {
        /// 200, 403, …
        status: u16,
        /// The text.
        json: String,
    },
    /// A random error, and 429 while the tenant is throttled. Use it with [`When::always`]. Other requests are answered as
    /// usual.
    Unreliable(Unreliable),
    /// The connection is closed without a response. To refuse connections, stop the simulator.
    RefuseConnection,
    /// No response until the client or the simulator closes the connection.
    StallHead,
    /// The head and half of the body, then nothing until the client or the simulator closes the connection.
    StallBody,
    /// The body in pieces of so many bytes with a pause before each.
    SlowDrip {
        /// Bytes of a piece.
        bytes: usize,
        /// Time between two pieces.
        pause: Duration,
    },
    /// The connection breaks off in the middle of the body.
    CutBody,
    /// Graph reports an expired token.
    ExpireToken,
    /// Graph's 403, which has an empty message.
    EmptyForbidden,
    /// An error of the token endpoint, by its AADSTS number.
    TokenError(u32),
    /// A token that is no longer valid when it arrives.
    ZeroLifetimeToken,
    /// The page links to this URL as the next page, also if it is the last one.
    ForeignNextLink(String),
    /// The page links to itself as the next page.
    LoopingNextLink,
    /// The link to the next page has no scheme and host.
    RelativeNextLink,
    /// The key `@odata.nextLink` is spelt like this.
    NextLinkSpelling(String),
    /// The response with another `Content-Type`.
    WrongContentType(String),
    /// 200 with a web page.
    Html,
    /// 200 with a body that is not JSON despite its `Content-Type`.
    NotJson,
    /// A page that decompresses to at least so many bytes. It is compressed even if the client does not accept that.
    GzipBomb(u64),
    /// A page with a field of so many bytes, uncompressed.
    HugePage(u64),
    /// A page with arrays nested so deep.
    DeepNesting(u32),
    /// Each row of the page has its charge twice, with different values.
    DuplicateKeys,
    /// The page has this JSON text as an additional row.
    BadRow {
        /// Position in the page, from 0; at the end if the page is shorter.
        at: usize,
        /// The text, which need not be a row and need not be JSON.
        json: String,
    },
    /// Bytes that are no UTF-8 in the first user principal name of the page.
    InvalidUtf8,
    /// 302 to this URL.
    Redirect(String),
    /// The page starts this many rows early, so that it repeats the end of the preceding page.
    RepeatRows(usize),
}

/// The body of an error status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorBody {
    /// The JSON that the endpoint writes for its errors.
    Json,
    /// A gateway's HTML page.
    Html,
    /// Empty.
    Empty,
}

/// The requests that a fault affects: one, unless stated otherwise.
#[derive(Clone, Debug)]
pub struct When {
    moment: Moment,
    left: Option<u32>,
    tenant: Option<String>,
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Any,
    Token,
    Graph,
    Page(usize),
}

/// Properties of a request that faults match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'a> {
    /// Page number of a request to Graph, from 1.
    pub(super) page: Option<usize>,
    pub(super) tenant: Option<&'a str>,
    /// Path and query, not decoded.
    pub(super) path: &'a str,
}

#[derive(Debug, Default)]
pub(super) struct Queue(Vec<(When, Fault)>);

impl Fault {
    /// An error status with the endpoint's own body.
    pub fn status(status: u16) -> Self {
        Self::status_with(status, ErrorBody::Json)
    }

    /// An error status with this body.
    pub fn status_with(status: u16, body: ErrorBody) -> Self {
        Self::Status {
            status,
            body,
            retry_after: None,
        }
    }

    /// A response with this JSON and status.
    pub fn literal(status: u16, json: impl Into<String>) -> Self {
        let json = json.into();
        Self::Literal { status, json }
    }

    /// 429 with this `Retry-After`: `"1"`, an HTTP date, `"86400"`, `"-5"`.
    pub fn throttle(retry_after: &str) -> Self {
        Self::Status {
            status: 429,
            body: ErrorBody::Json,
            retry_after: Some(retry_after.to_owned()),
        }
    }
}

impl When {
    /// The next request of any kind.
    pub fn any() -> Self {
        Self::at(Moment::Any)
    }

    /// The next request for a token.
    pub fn token() -> Self {
        Self::at(Moment::Token)
    }

    /// The next request to Graph.
    pub fn graph() -> Self {
        Self::at(Moment::Graph)
    }

    /// The next request to Graph for this page, counted from 1.
    pub fn page(number: usize) -> Self {
        Self::at(Moment::Page(number))
    }

    /// This many matching requests instead of one.
    pub fn times(self, times: u32) -> Self {
        Self {
            left: Some(times),
            ..self
        }
    }

    /// All matching requests until the faults are cleared.
    pub fn always(self) -> Self {
        Self { left: None, ..self }
    }

    /// Only those of one tenant, by its id.
    pub fn tenant(self, tenant_id: &str) -> Self {
        Self {
            tenant: Some(tenant_id.to_owned()),
            ..self
        }
    }

    /// Only those whose path and query have this text once percent signs are decoded: a function's name, `=2026-11-05`, …
    pub fn asking(self, text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            ..self
        }
    }

    fn at(moment: Moment) -> Self {
        Self {
            moment,
            left: Some(1),
            tenant: None,
            text: None,
        }
    }

    fn is(&self, occasion: Occasion<'_>) -> bool {
        let moment = match self.moment {
            Moment::Any => true,
            Moment::Token => occasion.page.is_none(),
            Moment::Graph => occasion.page.is_some(),
            Moment::Page(number) => occasion.page == Some(number),
        };
        let tenant = match &self.tenant {
            None => true,
            tenant => tenant.as_deref() == occasion.tenant,
        };
        let text = self.text.as_ref().is_none_or(|text| {
            percent_decoded(occasion.path).is_some_and(|path| path.contains(text))
        });
        moment && tenant && text && self.left != Some(0)
    }
}

impl Queue {
    pub(super) fn push(&mut self, when: When, fault: Fault) {
        self.0.push((when, fault));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes the first fault that matches a request.
    pub(super) fn take(&mut self, occasion: Occasion<'_>) -> Option<Fault> {
        let at = self.0.iter().position(|(when, _)| when.is(occasion))?;
        let (when, fault) = &mut self.0[at];
        let fault = fault.clone();
        if let Some(left) = &mut when.left {
            *left -= 1;
            if *left == 0 {
                self.0.remove(at);
            }
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: Occasion<'_> = Occasion {
        page: None,
        tenant: Some("a"),
        path: "/a/oauth2/v2.0/token",
    };
    const FIRST_PAGE: Occasion<'_> = Occasion {
        page: Some(1),
        tenant: Some("a"),
        path: "/beta/communications/callRecords/getSmsLog(fromDateTime=2026-11-01T00%3A00%3A00Z)",
    };
    const SECOND_PAGE_OF_B: Occasion<'_> = Occasion {
        page: Some(2),
        tenant: Some("b"),
        path: "/v1.0/communications/callRecords/getPstnCalls(from=2026-11-01)?$skip=1000",
    };

    #[test]
    fn a_request_takes_the_first_fault_meant_for_it() {
        let check = |when: When, expected: [bool; 6]| {
            let mut queue = Queue::default();
            queue.push(when, Fault::Html);
            let occasions = [TOKEN, FIRST_PAGE, SECOND_PAGE_OF_B];
            let taken: Vec<bool> = occasions
                .into_iter()
                .chain(occasions)
                .map(|occasion| queue.take(occasion).is_some())
                .collect();
            assert_eq!(taken, expected);
        };
        check(When::any(), [true, false, false, false, false, false]);
        check(When::token(), [true, false, false, false, false, false]);
        check(When::graph(), [false, true, false, false, false, false]);
        check(When::page(2), [false, false, true, false, false, false]);
        check(When::any().times(0), [false; 6]);
        check(
            When::any().times(2),
            [true, true, false, false, false, false],
        );
        check(
            When::graph().always(),
            [false, true, true, false, true, true],
        );
        check(
            When::graph().tenant("b").always(),
            [false, false, true, false, false, true],
        );
        check(
            When::graph().asking("getSmsLog").always(),
            [false, true, false, false, true, false],
        );
        check(
            When::any().asking("T00:00:00Z"),
            [false, true, false, false, false, false],
        );
    }

    #[test]
    fn cleared_faults_are_gone() {
        let mut queue = Queue::default();
        queue.push(When::any().always(), Fault::Html);
        queue.clear();
        assert_eq!(queue.take(TOKEN), None);
    }
}
