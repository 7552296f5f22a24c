//! Reads the rows of a report one by one, for the command `export`. A row is returned once, even if several windows or
//! pages contain it.
//!
//! The rows of a page are passed on when the page is complete, so only one page is in memory. A log is fetched one day
//! after another. The row ids of the last days are kept, because windows of neighbouring days can return the same row.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::column::Column;
use super::log::{self, Log, MARGIN, Numbers, Record, RowId, SeenRows};
use super::row::{Notes, RowError};
use super::{CollectError, Report, ReportKind, RowContext, Visitor};
use crate::graph::pages::{DecodeError, Page, Pages, Read};
use crate::graph::stats::RequestStats;
use crate::graph::{Graph, Query};
use crate::memory::{MemoryError, MemoryPool};
use crate::period::{Span, Window};

/// The facts of a report that an export needs.
pub(crate) struct Source {
    /// The properties of a row, in snake case.
    pub(crate) properties: &'static [&'static str],
    /// The labels of a record.
    pub(crate) labels: &'static [&'static str],
    /// The figures of a record.
    pub(crate) columns: &'static [Column],
    windows: fn(Span, DateTime<Utc>) -> Vec<Window>,
    query: fn(Window) -> Query,
    read: ReadRow,
    /// True for a log. The rows of any other report are already sums.
    pub(crate) is_log: bool,
}

/// The JSON text of a row, and the JSON text of each property by the name that Graph uses.
pub(crate) struct RowTexts<'a> {
    row: &'a str,
    pub(crate) properties: BTreeMap<String, &'a RawValue>,
}

type Take<'t> = dyn FnMut(&RowTexts<'_>, &Record<'_>) -> Result<(), MemoryError> + 't;

/// A function that reads the text of a row and calls the callback with the row's record.
type ReadRow = fn(
    &str,
    &mut Notes,
    &mut dyn FnMut(&Record<'_>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable>;

/// The reason why a row is not taken.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Unreadable {
    Json(#[from] serde_json::Error),
    Row(#[from] RowError),
    Memory(#[from] MemoryError),
}

/// The fetch of all rows of a span.
pub(crate) struct Scan<'g> {
    source: &'g Source,
    graph: &'g Graph,
    stats: &'g RequestStats,
    span: Span,
    /// Time limit of each window.
    timeout: Duration,
    waiting: std::vec::IntoIter<Window>,
    current: Option<(Window, Pages<'g>)>,
    memory: &'g Arc<MemoryPool>,
    seen: SeenRows,
    /// The ids of the rows that the last windows returned.
    recent: VecDeque<(Window, Vec<RowId>)>,
    numbers: Numbers,
    /// Time of Graph's first answer with a page, by Graph's clock.
    pub(crate) asked: Option<DateTime<Utc>>,
    /// Number of rows that were left out because their time is far from the query that returned them.
    pub(crate) unplaced: u64,
}

impl ReportKind {
    /// Describes how the rows of the report are read one by one.
    pub(crate) fn source(self) -> Source {
        struct Sources;
        impl Visitor for Sources {
            type Output = Source;

            fn aggregated<R: Report>(self) -> Source {
                Source {
                    properties: R::PROPERTIES,
                    labels: R::LABELS,
                    columns: R::COLUMNS,
                    windows: |span, now| span.windows(now, Window::MAX).collect(),
                    query: R::query,
                    read: |text, notes, take| {
                        let row: R::Row<'_> = serde_json::from_str(text)?;
                        take(&R::record(&row, notes)?)
                    },
                    is_log: false,
                }
            }

            fn log<L: Log>(self) -> Source {
                Source {
                    properties: L::PROPERTIES,
                    labels: L::LABELS,
                    columns: L::COLUMNS,
                    windows: |span, now| log::windows(span, now).collect(),
                    query: |window| log::query(&L::INFO, window),
                    read: |text, notes, take| {
                        let row: L::Row<'_> = serde_json::from_str(text)?;
                        take(&L::record(&row, notes)?)
                    },
                    is_log: true,
                }
            }
        }
        self.visit(Sources)
    }
}

impl Source {
    /// The position of a label in the labels of a record.
    pub(crate) fn label(&self, name: &str) -> Option<usize> {
        self.labels.iter().position(|label| *label == name)
    }
}

impl<'g> Scan<'g> {
    /// Prepares to fetch the rows of `span` up to `now`. Each window may take as long as `timeout`. The memory of row
    /// ids is reserved in `memory`.
    pub(crate) fn new(
        source: &'g Source,
        graph: &'g Graph,
        stats: &'g RequestStats,
        (span, now): (Span, DateTime<Utc>),
        timeout: Duration,
        memory: &'g Arc<MemoryPool>,
    ) -> Self {
        Self {
            source,
            graph,
            stats,
            span,
            timeout,
            waiting: (source.windows)(span, now).into_iter(),
            current: None,
            memory,
            seen: SeenRows::new(memory),
            recent: VecDeque::new(),
            numbers: Numbers::default(),
            asked: None,
            unplaced: 0,
        }
    }

    /// Windows that are not fetched yet.
    pub(crate) fn windows_left(&self) -> usize {
        self.waiting.len()
    }

    /// Fetches the next complete page. Calls `convert` with each of its rows, except for rows that are not counted.
    /// Returns `None` after the last page.
    pub(crate) async fn next_page<T>(
        &mut self,
        convert: impl Fn(&RowTexts<'_>, &Record<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, CollectError> {
        loop {
            if self.current.is_none() {
                let Some(window) = self.waiting.next() else {
                    return Ok(None);
                };
                self.begin(window);
            }
            let (window, pages) = self.current.as_mut().expect("a window was begun");
            let Some(mut page) = pages.next().await? else {
                self.current = None;
                continue;
            };
            let asked = self.asked.into_iter().chain(page.server_date());
            self.asked = asked.min();
            page.replace_invalid_utf8();
            let (mut rows, mut ids, mut unplaced) = (Vec::new(), Vec::new(), 0);
            let read = read_page(self.source.read, &mut page, &mut |texts, record| {
                let id = if self.source.is_log {
                    self.numbers.id(record)
                } else {
                    Some(RowId::of_text(texts.row))
                };
                let time = record.time.unwrap_or(window.start());
                if !(self.span.start()..self.span.end()).contains(&time) {
                    return Ok(());
                }
                if !(window.start() - MARGIN..=window.end() + MARGIN).contains(&time) {
                    unplaced += 1;
                    return Ok(());
                }
                let is_new = id.map_or(Ok(true), |id| self.seen.insert(id))?;
                if is_new {
                    ids.extend(id);
                    rows.extend(convert(texts, record));
                }
                Ok(())
            })?;
            match read {
                Read::Whole => {
                    self.numbers.commit();
                    self.unplaced += unplaced;
                    let (_, recent) = self.recent.back_mut().expect("a window was begun");
                    recent.append(&mut ids);
                    return Ok(Some(rows));
                }
                // The page is requested again.
                Read::Broken => {
                    self.numbers.roll_back();
                    self.seen.remove(ids.into_iter());
                }
            }
        }
    }

    /// Begins a window, and forgets the ids of rows that this window cannot return.
    fn begin(&mut self, window: Window) {
        let query = (self.source.query)(window);
        let deadline = Instant::now() + self.timeout;
        self.current = Some((
            window,
            self.graph.pages(&query, deadline, self.stats, self.memory),
        ));
        self.numbers = Numbers::default();
        // In an aggregated report, equal rows of two windows are different rows.
        let forgets_all = !self.source.is_log;
        while let Some((past, ids)) = self.recent.front()
            && (forgets_all || past.end() + REACH <= window.start())
        {
            self.seen.remove(ids.iter().copied());
            self.recent.pop_front();
        }
        self.recent.push_back((window, Vec::new()));
    }
}

fn read_page(
    read_row: ReadRow,
    page: &mut Page<'_, '_>,
    take: &mut Take<'_>,
) -> Result<Read, CollectError> {
    let mut notes = Notes::default();
    let read = page.decode::<&RawValue, _>(|number, row| {
        let row = row.get();
        let taken = read_row(row, &mut notes, &mut |record| {
            let properties = serde_json::from_str(row)?;
            Ok(take(&RowTexts { row, properties }, record)?)
        });
        taken.map_err(|error| (number, error))
    });
    let (number, error) = match read {
        Ok(read) => {
            if read == Read::Whole {
                notes.count(page.stats());
            }
            return Ok(read);
        }
        Err(DecodeError::Graph(error)) => return Err(error.into()),
        Err(DecodeError::Row(unreadable)) => unreadable,
    };
    match error {
        Unreadable::Json(source) => Err(page.bad_row(number, &source).into()),
        Unreadable::Row(source) => RowContext::of(page).wrap(number, Err(source)),
        Unreadable::Memory(error) => Err(error.into()),
    }
}

/// Maximum time between two windows that can return the same row. A window counts only rows with a time within
/// [`MARGIN`] of the window, so the two windows are at most two margins apart.
const REACH: TimeDelta = TimeDelta::days(2 * MARGIN.num_days());
