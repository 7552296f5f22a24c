//! Journal of requests and their responses.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::address::{Function, Path, Version, arguments, skip, skip_token};

/// A request that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query, not decoded.
    pub path: String,
    /// Status of the response; `None` if the request stalls or its connection was closed.
    pub status: Option<u16>,
    /// True if the request had a bearer token. The token itself is not stored.
    pub bearer: bool,
    /// The tenant that the path or the token names.
    pub tenant: Option<String>,
    /// The header `client-request-id`.
    pub client_request_id: Option<String>,
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
}

/// The parameters of a request to a function of the call records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The function.
    pub function: Function,
    /// The version of Graph.
    pub version: Version,
    /// Start of the window.
    pub from: DateTime<Utc>,
    /// End of the window.
    pub to: DateTime<Utc>,
    /// Rows before the page; 0 for the first page.
    pub skip: usize,
}

/// Counts of requests since the start, including those that the journal no longer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All requests.
    pub received: u64,
    /// Requests for a token.
    pub token: u64,
    /// Requests to Graph.
    pub graph: u64,
    /// Requests with a response that has begun.
    pub answered: u64,
    /// Requests with a response that a fault changed or prevented. A fault without effect is not counted.
    pub struck: u64,
}

#[derive(Debug)]
pub(super) struct Journal {
    newest: Mutex<VecDeque<(u64, Request)>>,
    kept: usize,
    counts: watch::Sender<Counts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Token,
    Graph,
    Other,
}

impl Request {
    /// Parses the request to Graph. `None` if it is another request or malformed.
    pub fn asked(&self) -> Option<Asked> {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let path = Path::parse(path)?;
        let function = Function::named(&path.function)?;
        let is_further_page = skip_token(query).is_some();
        let (from, to, _) = arguments(function, &path.arguments, is_further_page).ok()?;
        Some(Asked {
            function,
            version: path.version,
            from,
            to,
            skip: skip(query),
        })
    }
}

impl Journal {
    /// Returns a journal of the newest `kept` requests, at least one.
    pub(super) fn new(kept: usize) -> Self {
        Self {
            newest: Mutex::default(),
            kept,
            counts: watch::Sender::new(Counts::default()),
        }
    }

    /// Records a request. Returns its numbers, from 0: among all requests, and among those to Graph.
    pub(super) fn received(&self, kind: Kind, request: Request) -> (u64, u64) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *self.counts.borrow();
        if newest.len() >= self.kept {
            newest.pop_front();
        }
        newest.push_back((before.received, request));
        // Under the same lock as the read of the number.
        self.counts.send_modify(|counts| {
            counts.received += 1;
            match kind {
                Kind::Token => counts.token += 1,
                Kind::Graph => counts.graph += 1,
                Kind::Other => {}
            }
        });
        (before.received, before.graph)
    }

    pub(super) fn answered(&self, number: u64, status: u16) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = newest.front().map_or(0, |(number, _)| *number);
        let at = number
            .checked_sub(oldest)
            .and_then(|at| usize::try_from(at).ok());
        if let Some((_, request)) = at.and_then(|at| newest.get_mut(at)) {
            request.status = Some(status);
        }
        drop(newest);
        self.counts.send_modify(|counts| counts.answered += 1);
    }

    pub(super) fn struck(&self) {
        self.counts.send_modify(|counts| counts.struck += 1);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.iter().map(|(_, request)| request.clone()).collect()
    }

    pub(super) fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }
}

/// Enough for any test. The limit is for a demo that runs for months.
pub(super) const KEPT: usize = 10_000;
