//! The logs of a tenant: rows with a time, cut into windows and pages.
//!
//! A log shows a row from its arrival on, which is up to two days after its time. Its rows are either given, or computed
//! from a seed one by one, so that a million of them need no memory.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::address::Version;
use super::blocked_users::BlockEvent;
use super::calls::Call;
use super::company::Company;
use super::direct_routing::DirectRoutingCall;
use super::sms::Message;
use super::sums::{Amounts, Sums};
use super::traffic::{Pace, Stamp, Traffic};

/// All logs of a tenant. Clones share their rows, so a test can keep one and change the served rows.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// Log of `getPstnCalls`.
    pub calls: Log<Call>,
    /// Log of `getDirectRoutingCalls`.
    pub direct_routing: Log<DirectRoutingCall>,
    /// Log of `getSmsLog`.
    pub sms: Log<Message>,
    /// Log of `getPstnBlockedUsersLog`.
    pub blocked_users: Log<BlockEvent>,
}

/// The log of one function, initially without rows.
#[derive(Debug)]
pub struct Log<R>(Arc<Mutex<Source<R>>>);

/// A row of a log.
pub trait LogRow: Clone + std::fmt::Debug {
    /// Names of the labels that a report of this log can have.
    const LABELS: &'static [&'static str];

    /// The values of [`LogRow::LABELS`] as in JSON; empty for null.
    fn labels(&self) -> Vec<String>;

    /// The values that a report adds up.
    fn amounts(&self) -> Amounts;

    /// The time that windows filter by.
    fn time(&self) -> DateTime<Utc>;

    /// Time of arrival in the log.
    fn arrival(&self) -> DateTime<Utc>;

    /// JSON in Graph's form.
    fn json(&self, version: Version) -> String;
}

/// The page of a log that a request asks for.
pub(super) struct Page {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    /// True to include rows exactly at `to`.
    pub(super) has_end: bool,
    /// Rows that arrived later are not served.
    pub(super) now: DateTime<Utc>,
    pub(super) skip: usize,
    pub(super) take: usize,
}

#[derive(Debug)]
enum Source<R> {
    /// Rows in the order of their times.
    Given(Arc<Vec<R>>),
    Made(Traffic<R>),
    /// Verbatim rows, served for any window.
    Texts(Arc<[String]>),
}

impl Logs {
    /// The logs of a company. The number of rows depends on the number of people.
    pub fn of(company: &Arc<Company>) -> Self {
        let weekly = |per_person: u64| Pace::Weekly {
            rows: per_person * company.people.len() as u64,
        };
        Self {
            calls: Log::made(Traffic::new(company, weekly(60), 1, Call::make)),
            direct_routing: Log::made(Traffic::new(
                company,
                weekly(12),
                2,
                DirectRoutingCall::make,
            )),
            sms: Log::made(Traffic::new(company, weekly(6), 3, Message::make)),
            blocked_users: Log::made(Traffic::new(
                company,
                Pace::Weekly {
                    rows: company.people.len().div_ceil(16).min(BLOCK_EVENTS_MAX) as u64,
                },
                4,
                BlockEvent::make,
            )),
        }
    }

    /// Logs with this many calls between two times and no other rows.
    pub fn of_calls(company: &Arc<Company>, rows: u64, within: Range<DateTime<Utc>>) -> Self {
        Self {
            calls: Log::made(Traffic::new(
                company,
                Pace::within(rows, within),
                1,
                Call::make,
            )),
            ..Self::default()
        }
    }
}

impl<R: LogRow> Log<R> {
    /// Returns a log of these rows.
    pub fn new(rows: Vec<R>) -> Self {
        let log = Self::default();
        log.set(rows);
        log
    }

    fn made(traffic: Traffic<R>) -> Self {
        Self(Arc::new(Mutex::new(Source::Made(traffic))))
    }

    /// Replaces the rows in every clone. Rows with the same time keep this order.
    pub fn set(&self, mut rows: Vec<R>) {
        rows.sort_by_key(LogRow::time);
        self.change(|source| *source = Source::Given(Arc::new(rows)));
    }

    /// Replaces the rows by these JSON texts, verbatim, in every clone and for any window. Their totals are unknown.
    pub fn set_texts<T: Into<String>>(&self, texts: impl IntoIterator<Item = T>) {
        let texts = texts.into_iter().map(Into::into).collect();
        self.change(|source| *source = Source::Texts(texts));
    }

    /// Totals of the rows that have arrived, of a period that includes its start and excludes its end.
    pub fn expected(&self, period: Range<DateTime<Utc>>, now: DateTime<Utc>) -> Sums {
        let mut sums = Sums::new(R::LABELS);
        self.each(period, now, |row| sums.add(row.labels(), row.amounts()));
        sums
    }

    /// The rows of [`Log::expected`].
    pub fn rows(&self, period: Range<DateTime<Utc>>, now: DateTime<Utc>) -> Vec<R> {
        let mut rows = Vec::new();
        self.each(period, now, |row| rows.push(row));
        rows
    }

    /// The simplest implementation: it checks every row near the period and ignores pages.
    pub(super) fn each(
        &self,
        period: Range<DateTime<Utc>>,
        now: DateTime<Utc>,
        mut visit: impl FnMut(R),
    ) {
        let mut look = |row: R| {
            if period.contains(&row.time()) && row.arrival() <= now {
                visit(row);
            }
        };
        match &self.source() {
            Source::Given(rows) => rows.iter().cloned().for_each(look),
            Source::Made(traffic) => {
                for stamp in traffic.stamps(period.start, period.end) {
                    look(traffic.row(stamp));
                }
            }
            Source::Texts(_) => {}
        }
    }

    /// The rows of a page as JSON, and true if more follow.
    pub(super) fn page(&self, version: Version, page: &Page) -> (Vec<String>, bool) {
        // One more row than requested shows if more follow. It is not written.
        let mut rows = match &self.source() {
            Source::Given(rows) => {
                let begin = rows.partition_point(|row| row.time() < page.from);
                rows[begin..]
                    .iter()
                    .take_while(|row| page.is_before_end(row.time()))
                    .filter(|row| row.arrival() <= page.now)
                    .skip(page.skip)
                    .take(page.take.saturating_add(1))
                    .map(|row| row.json(version))
                    .collect()
            }
            Source::Made(traffic) => {
                let stamps = traffic.page(page);
                let json = |stamp: Stamp| traffic.row(stamp).json(version);
                stamps.into_iter().map(json).collect::<Vec<_>>()
            }
            Source::Texts(texts) => texts
                .iter()
                .skip(page.skip)
                .take(page.take.saturating_add(1))
                .cloned()
                .collect(),
        };
        let has_more = rows.len() > page.take;
        rows.truncate(page.take);
        (rows, has_more)
    }

    /// The current rows. A later change does not affect them.
    fn source(&self) -> Source<R> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::Given(rows) => Source::Given(Arc::clone(rows)),
            Source::Made(traffic) => Source::Made(traffic.clone()),
            Source::Texts(texts) => Source::Texts(Arc::clone(texts)),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Source<R>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl<R> Default for Log<R> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Source::Given(Arc::default()))))
    }
}

impl<R> Clone for Log<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Page {
    pub(super) fn is_before_end(&self, time: DateTime<Utc>) -> bool {
        time < self.to || self.has_end && time == self.to
    }

    pub(super) fn contains(&self, time: DateTime<Utc>) -> bool {
        self.from <= time && self.is_before_end(time)
    }
}

/// Events in an average week: a company of any size blocks a user now and then.
const BLOCK_EVENTS_MAX: usize = 4;
