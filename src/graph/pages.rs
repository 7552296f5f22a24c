//! The pages of one report, one after another, and the rows of each.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::time::Instant;

use super::address::NextLink;
use super::decode::{Envelope, Stop, decode};
use super::request::Answered;
use super::tally::Tally;
use super::{Error, Graph};

/// The pages of one report; see [`Graph::pages`](super::Graph::pages).
#[derive(Debug)]
#[must_use = "nothing is asked for until `next` is called"]
pub struct Pages<'g> {
    graph: &'g Graph,
    deadline: Instant,
    tally: &'g Tally,
    state: State,
    page_count: u64,
    row_count: u64,
    /// Fingerprints instead of the links, whose length is the server's choice. That two of ten thousand links collide
    /// by chance has a probability of 10⁻¹², and would fail one poll.
    visited: HashSet<u64>,
    fingerprint: RandomState,
}

/// One page, whole and in memory.
#[derive(Debug)]
#[must_use = "a page that is not decoded breaks off the report"]
pub struct Page<'p, 'g> {
    pages: &'p mut Pages<'g>,
    text: String,
    about: About,
}

/// Why a page was not read to its end: Graph's fault or the caller's decision.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError<E> {
    /// Not a page, a row that is not one, a link that is not followed, or too much of something.
    #[error(transparent)]
    Graph(#[from] Error),
    /// The caller's own error, as the caller made it.
    #[error(transparent)]
    Row(E),
}

/// What an error about a page tells besides what is wrong.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) page: u64,
    pub(crate) request_id: Option<String>,
    pub(crate) content_type: &'static str,
    pub(crate) date: Option<String>,
}

impl<'g> Pages<'g> {
    pub(crate) fn new(
        graph: &'g Graph,
        first: NextLink,
        deadline: Instant,
        tally: &'g Tally,
    ) -> Self {
        let mut pages = Self {
            graph,
            deadline,
            tally,
            state: State::Undecoded,
            page_count: 0,
            row_count: 0,
            visited: HashSet::new(),
            fingerprint: RandomState::new(),
        };
        pages.visit(first);
        pages
    }

    /// Asks for the next page: `None` after the last one.
    ///
    /// # Errors
    /// Where no whole page arrives before the deadline in spite of retries, where Graph says no, or where there are
    /// more pages than [`Limits::pages`](super::Limits::pages).
    ///
    /// # Panics
    /// Where the page before was not decoded, since to go on would lose rows without a word.
    pub async fn next(&mut self) -> Result<Option<Page<'_, 'g>>, Error> {
        let link = match std::mem::replace(&mut self.state, State::Undecoded) {
            State::Ask(link) => link,
            State::End => {
                self.state = State::End;
                return Ok(None);
            }
            State::Undecoded => panic!("a page is decoded before the next one is asked for"),
        };
        let page = self.page_count + 1;
        if page > self.graph.limits.pages {
            return Err(Error::limit(page, "pages", self.graph.limits.pages, None));
        }
        let asked = self.graph.ask(&link, page, self.deadline, self.tally);
        let Answered { body, about } = tokio::time::timeout_at(self.deadline, asked)
            .await
            .unwrap_or_else(|_| Err(self.graph.late()))?;
        self.page_count = page;
        self.tally.count_page();
        let text = String::from_utf8(body)
            .map_err(|error| Error::malformed(&about, None, error.utf8_error()))?;
        Ok(Some(Page {
            pages: self,
            text,
            about,
        }))
    }

    /// Whether the page that was decoded last is the last one.
    pub fn is_last(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Makes `link` the next to ask for; `false` where that has been done before.
    fn visit(&mut self, link: NextLink) -> bool {
        let fingerprint = self.fingerprint.hash_one(link.url().as_str());
        self.state = State::Ask(link);
        self.visited.insert(fingerprint)
    }
}

impl Page<'_, '_> {
    /// Reads the page and calls `add` with each row and its number, counted from 1 over the whole report. A row may
    /// borrow from the page.
    ///
    /// On any error the report is over: the rows that `add` has seen are not the whole of it.
    pub fn decode<'t, R, E>(
        &'t mut self,
        add: impl FnMut(u64, R) -> Result<(), E>,
    ) -> Result<(), DecodeError<E>>
    where
        R: Deserialize<'t>,
    {
        let Self { pages, text, about } = self;
        let mut rows = 0;
        let rows_max = pages.graph.limits.rows;
        let decoded = decode(text, pages.row_count, rows_max, &mut rows, add);
        pages.row_count += rows;
        pages.tally.count_rows(rows);
        let Envelope { next } = decoded.map_err(|stop| match stop {
            Stop::Callback(error) => DecodeError::Row(error),
            Stop::RowLimit => Error::limit(about.page, "rows", rows_max, Some(about)).into(),
            Stop::Json { row, source } => Error::malformed(about, row, unquoted(&source)).into(),
        })?;
        let Some(link) = next else {
            pages.state = State::End;
            return Ok(());
        };
        let link = NextLink::resolve(&pages.graph.root, &link)
            .map_err(|error| Error::malformed(about, None, error))?;
        if pages.visit(link) {
            Ok(())
        } else {
            pages.state = State::Undecoded;
            Err(Error::malformed(about, None, Repeated).into())
        }
    }

    /// What Microsoft's support asks for.
    pub fn request_id(&self) -> Option<&str> {
        self.about.request_id.as_deref()
    }

    /// The server's clock when it answered, UTC.
    pub fn server_date(&self) -> Option<DateTime<Utc>> {
        let date = httpdate::parse_http_date(self.about.date.as_deref()?).ok()?;
        Some(date.into())
    }
}

/// Serde quotes what it found, which may be a person's name or number; the log gets the rest.
fn unquoted(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let between = |text: &str, mark: char| {
        let (before, rest) = text.split_once(mark)?;
        let (quoted, after) = rest.rsplit_once(mark)?;
        Some((before.to_owned(), quoted.to_owned(), after.to_owned()))
    };
    if let Some((before, _, after)) = between(&text, '"') {
        return format!("{before}…{after}");
    }
    // Names of our own properties are in backticks too.
    match between(&text, '`') {
        Some((before, found, after)) if found.contains(|c: char| c.is_ascii_digit()) => {
            format!("{before}…{after}")
        }
        _ => text,
    }
}

/// The link to the next page was followed before.
#[derive(Debug, thiserror::Error)]
#[error("nextLink leads back to a page that was read already")]
struct Repeated;

#[derive(Debug)]
enum State {
    Ask(NextLink),
    /// A page is with the caller, or something failed.
    Undecoded,
    End,
}
