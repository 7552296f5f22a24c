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

use super::log::{self, MARGIN, Numbers, Record, RowId, SeenRows, is_near};
use super::row::{Notes, RowError};
use super::{CollectError, Report, ReportKind, row_error};
use crate::graph::Graph;
use crate::graph::pages::{DecodeError, Page, Pages, Read};
use crate::graph::stats::RequestStats;
use crate::memory::{MemoryError, MemoryPool};
use crate::period::{Span, Window};

/// The JSON text of a row, and the JSON text of each property by the name that Graph uses.
pub(crate) struct RowTexts<'a> {
    row: &'a str,
    pub(crate) properties: BTreeMap<String, &'a RawValue>,
}

/// A callback that receives the record of a row.
pub(super) type TakeRecord<'t> = dyn FnMut(&Record<'_>) -> Result<(), Unreadable> + 't;

/// The reason why a row cannot be read, or why the callback cannot take it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) enum Unreadable {
    Json(#[from] serde_json::Error),
    Row(#[from] RowError),
    Memory(#[from] MemoryError),
}

/// The fetch of all rows of a span.
pub(crate) struct Scan<'g> {
    report: ReportKind,
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
    /// Number of rows that were left out because their time is far from the window that returned them.
    pub(crate) unplaced: u64,
}

impl<'g> Scan<'g> {
    /// Prepares to fetch the rows of `span` up to `now`. Each window may take as long as `timeout`. The memory of row
    /// ids is reserved in `memory`.
    pub(crate) fn new(
        report: ReportKind,
        graph: &'g Graph,
        stats: &'g RequestStats,
        (span, now): (Span, DateTime<Utc>),
        timeout: Duration,
        memory: &'g Arc<MemoryPool>,
    ) -> Self {
        let windows: Vec<Window> = if report.is_log() {
            log::windows(span, now).collect()
        } else {
            span.windows(now, Window::MAX).collect()
        };
        Self {
            report,
            graph,
            stats,
            span,
            timeout,
            waiting: windows.into_iter(),
            current: None,
            memory,
            seen: SeenRows::new(memory),
            recent: VecDeque::new(),
            numbers: Numbers::default(),
            asked: None,
            unplaced: 0,
        }
    }

    /// Number of windows that are still waiting. The window that is being fetched is not counted.
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
            let read = read_page(self.report, &mut page, |texts, record| {
                let id = if self.report.is_log() {
                    self.numbers.id(record)
                } else {
                    Some(RowId::of_text(texts.row))
                };
                let time = record.time.unwrap_or(window.start());
                if !(self.span.start()..self.span.end()).contains(&time) {
                    return Ok(());
                }
                if !is_near(*window, time) {
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
        let query = self.report.info().query(window);
        let deadline = Instant::now() + self.timeout;
        self.current = Some((
            window,
            self.graph.pages(&query, deadline, self.stats, self.memory),
        ));
        self.numbers = Numbers::default();
        // In an aggregated report, equal rows of two windows are different rows.
        let forgets_all = !self.report.is_log();
        while let Some((past, ids)) = self.recent.front()
            && (forgets_all || past.end() + REACH <= window.start())
        {
            self.seen.remove(ids.iter().copied());
            self.recent.pop_front();
        }
        self.recent.push_back((window, Vec::new()));
    }
}

pub(super) fn read_row<R: Report>(
    text: &str,
    notes: &mut Notes,
    take: &mut TakeRecord<'_>,
) -> Result<(), Unreadable> {
    let row: R::Row<'_> = serde_json::from_str(text)?;
    take(&R::record(&row, notes)?)
}

fn read_page(
    report: ReportKind,
    page: &mut Page<'_, '_>,
    mut take: impl FnMut(&RowTexts<'_>, &Record<'_>) -> Result<(), MemoryError>,
) -> Result<Read, CollectError> {
    let row_error = row_error(page);
    let mut notes = Notes::default();
    let read = page.decode::<&RawValue, _>(|number, row| {
        let row = row.get();
        let taken = report.read_row(row, &mut notes, &mut |record| {
            let properties = serde_json::from_str(row)?;
            Ok(take(&RowTexts { row, properties }, record)?)
        });
        taken.map_err(|error| (number, error))
    });
    match read {
        Ok(read) => {
            if read == Read::Whole {
                notes.count(page.stats());
            }
            Ok(read)
        }
        Err(DecodeError::Graph(error)) => Err(error.into()),
        Err(DecodeError::Row((number, error))) => Err(match error {
            Unreadable::Json(source) => page.bad_row(number, &source).into(),
            Unreadable::Row(source) => row_error(number, source),
            Unreadable::Memory(error) => error.into(),
        }),
    }
}

/// Maximum time between two windows that can return the same row. A window counts only rows with a time within
/// [`MARGIN`] of the window, so the two windows are at most two margins apart.
const REACH: TimeDelta = TimeDelta::days(2 * MARGIN.num_days());
