//! The pages of one report, one after another, and the rows of each.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::time::Instant;

use super::address::{LinkError, NextLink};
use super::decode::{Envelope, Stop, decode};
use super::error_body::{ErrorBody, without_bom};
use super::request::About;
use super::retry::{FailureKind, RetryReason};
use super::stats::RequestStats;
use super::{Error, Flaw, Graph, log_seconds};
use crate::chain::Chain;
use crate::memory::Reservation;

#[derive(Debug)]
#[must_use = "no request is sent until `next` is called"]
pub(crate) struct Pages<'g> {
    graph: &'g Graph,
    deadline: Instant,
    stats: &'g RequestStats,
    /// The memory that is reserved for the current page.
    memory: Reservation,
    state: State,
    page_count: u64,
    row_count: u64,
    /// Number of incomplete responses so far for the current page.
    broken: u32,
    /// The wait before an incomplete page is requested again.
    wait: Option<Duration>,
    /// Fingerprints of the requested links. They take less memory than the links, which the server can make long. If
    /// two are equal by chance, one poll fails. For ten thousand links, the probability is 10⁻¹².
    visited: HashSet<u64>,
    fingerprint: RandomState,
    /// The origin in `@odata.context` of the last page, if it is not the root's origin.
    foreign_context: Option<String>,
}

/// One page in memory, not yet decoded. It can be truncated.
#[derive(Debug)]
#[must_use = "the report fails if a page is not decoded"]
pub(crate) struct Page<'p, 'g> {
    pages: &'p mut Pages<'g>,
    link: NextLink,
    body: Vec<u8>,
    about: About,
}

/// The result of reading a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// All rows of the page were passed to the callback.
    Whole,
    /// The page is truncated or has an error. The caller must drop its rows, because the next call of [`Pages::next`]
    /// requests the same page again.
    Broken,
}

/// Errors of decoding a page: a fault in the page, or an error of the callback.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError<E> {
    /// The page or a row is malformed, the link to the next page is not followed, or a limit is exceeded.
    #[error(transparent)]
    Graph(#[from] Error),
    /// The error that the callback returned, unchanged.
    #[error(transparent)]
    Row(E),
}

impl<'g> Pages<'g> {
    pub(crate) fn new(
        graph: &'g Graph,
        first: NextLink,
        deadline: Instant,
        stats: &'g RequestStats,
        memory: Reservation,
    ) -> Self {
        let mut pages = Self {
            graph,
            deadline,
            stats,
            memory,
            state: State::Undecoded,
            page_count: 0,
            row_count: 0,
            broken: 0,
            wait: None,
            visited: HashSet::new(),
            fingerprint: RandomState::new(),
            foreign_context: None,
        };
        pages.visit(first);
        pages
    }

    /// Requests the next page, or an incomplete page again. Returns `None` after the last page.
    ///
    /// # Errors
    /// If no complete page arrives before the deadline, despite retries; if Graph answers with an error; or if there
    /// are more pages than [`Limits::pages`](super::Limits::pages).
    ///
    /// # Panics
    /// If the preceding page was not decoded. Without the panic, its rows would be lost silently.
    pub(crate) async fn next(&mut self) -> Result<Option<Page<'_, 'g>>, Error> {
        let link = match std::mem::replace(&mut self.state, State::Undecoded) {
            State::Ask(link) => link,
            State::End => {
                self.state = State::End;
                return Ok(None);
            }
            State::Undecoded => panic!("a page must be decoded before the next page is requested"),
        };
        let page = self.page_count + 1;
        if page > self.graph.limits.pages {
            return Err(Error::limit(page, "pages", self.graph.limits.pages, None));
        }
        if let Some(wait) = self.wait.take() {
            tokio::time::sleep(wait).await;
        }
        let memory = &mut self.memory;
        memory.hold(0);
        let asked = self
            .graph
            .ask(&link, page, self.deadline, self.stats, memory);
        let (body, about) = tokio::time::timeout_at(self.deadline, asked)
            .await
            .unwrap_or_else(|_| Err(self.graph.late()))?;
        Ok(Some(Page {
            pages: self,
            link,
            body,
            about,
        }))
    }

    /// Returns true if the page that was decoded last is the report's last one.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// The origin in the context of the last decoded page, if it differs from the root's origin. It differs if the root
    /// is a proxy that does not rewrite links.
    pub(crate) fn foreign_context(&self) -> Option<&str> {
        self.foreign_context.as_deref()
    }

    /// Makes the page's link the next request. If the page has no link, the report is complete.
    fn follow(&mut self, envelope: Envelope, about: &About) -> Result<(), Error> {
        let root = &self.graph.root;
        if let Some(context) = envelope.context {
            self.foreign_context = root.foreign_origin(&context);
        }
        let Some(link) = envelope.next else {
            self.state = State::End;
            return Ok(());
        };
        let link = NextLink::resolve(root, &link).map_err(|error| {
            let flaw = match error {
                LinkError::Foreign(_) => Flaw::ForeignLink,
                _ => Flaw::Changed,
            };
            Error::malformed(about, flaw, None, error)
        })?;
        if self.visit(link) {
            Ok(())
        } else {
            self.state = State::Undecoded;
            let source = "nextLink leads back to a page that was read already";
            Err(Error::malformed(about, Flaw::Repeated, None, source))
        }
    }

    /// Returns the error that Graph wrote into a page.
    fn page_error(&self, about: &About, error: &ErrorBody) -> Error {
        let shown = error.shown(self.graph.tokens.secrets(), self.graph.hides_people);
        let mut about = about.clone();
        about.request_id = about.request_id.or(shown.request_id);
        let code = shown.code.as_deref().unwrap_or("no code");
        let message = shown.message.as_deref().unwrap_or("no message");
        let source = format!("the page has an error: {code}: {message}");
        Error::malformed(&about, Flaw::PageError, None, source)
    }

    /// Schedules a retry of an incomplete page, as after a broken connection. [`Pages::next`] then requests `link`
    /// again. Returns `error` if there is no attempt left.
    fn ask_again(&mut self, link: &NextLink, error: Error) -> Result<Read, Error> {
        self.broken += 1;
        let remaining = self.deadline.saturating_duration_since(Instant::now());
        let random = fastrand::f64();
        let policy = self.graph.retry.for_incomplete();
        let wait = policy.retry_wait(self.broken, FailureKind::Body, None, remaining, random);
        let Some(after) = wait else {
            return Err(error);
        };
        tracing::debug!(error = %Chain(&error), attempt = self.broken, after_seconds = log_seconds(after), "asking Graph again");
        self.stats.count_retry(RetryReason::Body);
        self.wait = Some(after);
        self.state = State::Ask(link.clone());
        Ok(Read::Broken)
    }

    /// Makes `link` the next request. Returns false if it was requested before.
    fn visit(&mut self, link: NextLink) -> bool {
        let fingerprint = self.fingerprint.hash_one(link.url().as_str());
        self.state = State::Ask(link);
        self.visited.insert(fingerprint)
    }
}

impl<'g> Page<'_, 'g> {
    /// Decodes the page and calls `add` with each row and its number, counted from 1 over the whole report. A row can
    /// borrow from the page. Returns [`Read::Broken`] if the page is incomplete and there is time for another attempt.
    /// After an error the report has failed, and `add` has received only a part of the rows.
    pub(crate) fn decode<'t, R, E>(
        &'t mut self,
        add: impl FnMut(u64, R) -> Result<(), E>,
    ) -> Result<Read, DecodeError<E>>
    where
        R: Deserialize<'t>,
    {
        let Self {
            pages,
            link,
            body,
            about,
        } = self;
        let mut rows = 0;
        let rows_max = pages.graph.limits.rows;
        let decoded = decode(body, pages.row_count, rows_max, &mut rows, add);
        let envelope = match decoded {
            Ok(envelope) => envelope,
            Err(Stop::Callback(error)) => {
                pages.stats.count_rows(rows);
                return Err(DecodeError::Row(error));
            }
            Err(Stop::RowLimit) => {
                return Err(Error::limit(about.page, "rows", rows_max, Some(about)).into());
            }
            Err(Stop::Error(error)) => {
                let error = pages.page_error(about, &error);
                return Ok(pages.ask_again(link, error)?);
            }
            Err(Stop::Json { row, source }) => {
                let flaw = flaw_of(body, &source);
                let in_stream = ErrorBody::in_broken_page(body).filter(|_| !source.is_data());
                if let Some(error) = in_stream {
                    let error = pages.page_error(about, &error);
                    return Ok(pages.ask_again(link, error)?);
                }
                let error = Error::malformed(about, flaw, row, unquoted(&source));
                if flaw == Flaw::BrokenOff {
                    return Ok(pages.ask_again(link, error)?);
                }
                return Err(error.into());
            }
        };
        pages.page_count = about.page;
        pages.row_count += rows;
        pages.broken = 0;
        pages.stats.count_page();
        pages.stats.count_rows(rows);
        pages.follow(envelope, about)?;
        Ok(Read::Whole)
    }

    /// Returns the error for a row that the caller cannot decode.
    pub(crate) fn bad_row(&self, number: u64, source: &serde_json::Error) -> Error {
        Error::malformed(&self.about, Flaw::Changed, Some(number), unquoted(source))
    }

    /// Replaces bytes of the page that are not UTF-8, for a caller that reads rows as text.
    pub(crate) fn replace_invalid_utf8(&mut self) {
        if std::str::from_utf8(&self.body).is_err() {
            self.body = String::from_utf8_lossy(&self.body)
                .into_owned()
                .into_bytes();
        }
    }

    pub(crate) fn stats(&self) -> &'g RequestStats {
        self.pages.stats
    }

    /// Graph's request id of this page, for Microsoft's support.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.about.request_id.as_deref()
    }

    /// The time of the response by the server's clock.
    pub(crate) fn server_date(&self) -> Option<DateTime<Utc>> {
        self.about.date
    }
}

/// Returns the flaw of a page that cannot be decoded. If a value is not as expected, or the page is complete, Microsoft
/// changed the format. Otherwise the page is truncated or not JSON.
fn flaw_of(body: &[u8], source: &serde_json::Error) -> Flaw {
    let body = without_bom(body).trim_ascii();
    match (source.is_data(), body.first(), body.last()) {
        (true, ..) => Flaw::Changed,
        (false, Some(b'{'), Some(b'}')) if !source.is_eof() => Flaw::Changed,
        (false, None | Some(b'{'), _) => Flaw::BrokenOff,
        (false, ..) => Flaw::NotJson,
    }
}

/// Returns the text of the error without the value that Serde quotes. The value can be a person's name or number.
fn unquoted(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let between = |mark: char| {
        let (before, rest) = text.split_once(mark)?;
        let (quoted, after) = rest.rsplit_once(mark)?;
        Some((before, quoted, after))
    };
    // Backticks enclose numbers, but also names of expected properties. So only a text with a digit is removed.
    let has_digit = |text: &str| text.contains(|c: char| c.is_ascii_digit());
    let in_backticks = || between('`').filter(|(_, quoted, _)| has_digit(quoted));
    match between('"').or_else(in_backticks) {
        Some((before, _, after)) => format!("{before}…{after}"),
        None => text,
    }
}

#[derive(Debug)]
enum State {
    Ask(NextLink),
    /// The caller has a page that it has not decoded, or the report has failed.
    Undecoded,
    End,
}
