//! What was asked of the simulator and what it answered.

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
    /// Path and query, as they came.
    pub path: String,
    /// What was answered; nothing where the request stalls or its connection was closed.
    pub status: Option<u16>,
    /// Whether a bearer token came with it. The token itself is kept nowhere.
    pub bearer: bool,
    /// The tenant that the path or the token names.
    pub tenant: Option<String>,
    /// The header `client-request-id`.
    pub client_request_id: Option<String>,
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
}

/// What a request to a function of the call records asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which function.
    pub function: Function,
    /// In which version of Graph.
    pub version: Version,
    /// Since when.
    pub from: DateTime<Utc>,
    /// Until when.
    pub to: DateTime<Utc>,
    /// Rows before the page; 0 asks for the first.
    pub skip: usize,
}

/// Requests since the start, also those that the journal no longer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub received: u64,
    /// Those for a token.
    pub token: u64,
    /// Those to Graph.
    pub graph: u64,
    /// Those whose answer has begun.
    pub answered: u64,
    /// Those whose answer a fault has changed or prevented. One that is used up without effect is not among them.
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
    /// What it asks Graph for; nothing where it is another request, or one that cannot be understood.
    #[must_use]
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
    /// Holds the newest `kept`, or one.
    pub(super) fn new(kept: usize) -> Self {
        Self {
            newest: Mutex::default(),
            kept,
            counts: watch::Sender::new(Counts::default()),
        }
    }

    /// Writes a request down; the numbers are those that it itself has, from 0: among all, and among those to Graph.
    pub(super) fn received(&self, kind: Kind, request: Request) -> (u64, u64) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *self.counts.borrow();
        if newest.len() >= self.kept {
            newest.pop_front();
        }
        newest.push_back((before.received, request));
        // Under the same lock as the number was read.
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

/// Enough for any test; and a demo may run for months.
pub(super) const KEPT: usize = 10_000;
