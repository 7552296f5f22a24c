//! The logs of a tenant: rows with a time, cut into windows and pages.
//!
//! A log shows a row from its arrival on, which is up to two days after its time. Its rows are given, or follow from a
//! seed one by one, so that a million of them take no memory.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::address::Version;
use super::blocks::BlockEvent;
use super::calls::Call;
use super::direct_routing::DirectRoutingCall;
use super::messages::Message;
use super::scenario::Company;
use super::sums::{Amounts, Sums};
use super::traffic::{Pace, Stamp, Traffic};

/// All logs of a tenant. Clones share what they stand for, so that a test can keep one and change what is served.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    /// What `getPstnCalls` tells.
    pub calls: Log<Call>,
    /// What `getDirectRoutingCalls` tells.
    pub direct_routing: Log<DirectRoutingCall>,
    /// What `getSmsLog` tells.
    pub messages: Log<Message>,
    /// What `getPstnBlockedUsersLog` tells.
    pub blocks: Log<BlockEvent>,
}

/// The log of one function; none of its rows to begin with.
#[derive(Debug)]
pub struct Log<R>(Arc<Mutex<Source<R>>>);

/// A row of a log.
pub trait LogRow: Clone + std::fmt::Debug {
    /// What a report of this log may tell its rows apart by.
    const LABELS: &'static [&'static str];

    /// The values of [`LogRow::LABELS`] as JSON tells them; empty where it says null.
    fn labels(&self) -> Vec<String>;

    /// What a report adds up.
    fn amounts(&self) -> Amounts;

    /// What windows go by.
    fn time(&self) -> DateTime<Utc>;

    /// Since when the log shows it.
    fn arrival(&self) -> DateTime<Utc>;

    /// As Graph writes it.
    fn json(&self, version: Version) -> String;
}

/// What a request asks a log for.
pub(super) struct Page {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    /// Whether a row that lies on `to` is in.
    pub(super) has_end: bool,
    /// Only what has arrived by then.
    pub(super) now: DateTime<Utc>,
    pub(super) skip: usize,
    pub(super) take: usize,
}

#[derive(Debug)]
enum Source<R> {
    /// In the order of their times.
    Given(Arc<Vec<R>>),
    Made(Traffic<R>),
    /// Of any time.
    Texts(Arc<[String]>),
}

impl Logs {
    /// The logs of a company, of so many rows as so many people bring about in a week.
    #[must_use]
    pub fn of(company: &Arc<Company>) -> Self {
        let weekly = |per_person: u64| Pace::Weekly {
            rows: per_person * company.people.len() as u64,
        };
        Self {
            calls: Log::made(Traffic::new(company, weekly(40), 1, Call::make)),
            direct_routing: Log::made(Traffic::new(
                company,
                weekly(12),
                2,
                DirectRoutingCall::make,
            )),
            messages: Log::made(Traffic::new(company, weekly(6), 3, Message::make)),
            blocks: Log::made(Traffic::new(
                company,
                Pace::Weekly {
                    rows: company.people.len().div_ceil(16) as u64,
                },
                4,
                BlockEvent::make,
            )),
        }
    }

    /// As many calls as asked for between two times and nothing else.
    #[must_use]
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
    /// A log of these rows.
    #[must_use]
    pub fn new(rows: Vec<R>) -> Self {
        let log = Self::default();
        log.set(rows);
        log
    }

    fn made(traffic: Traffic<R>) -> Self {
        Self(Arc::new(Mutex::new(Source::Made(traffic))))
    }

    /// From now on these rows, in every clone. Rows of one time stay in this order.
    pub fn set(&self, mut rows: Vec<R>) {
        rows.sort_by_key(LogRow::time);
        self.change(|source| *source = Source::Given(Arc::new(rows)));
    }

    /// From now on these JSON texts letter by letter, in every clone and whatever the window. Nothing is known of what
    /// they add up to.
    pub fn set_texts<T: Into<String>>(&self, texts: impl IntoIterator<Item = T>) {
        let texts = texts.into_iter().map(Into::into).collect();
        self.change(|source| *source = Source::Texts(texts));
    }

    /// What the rows of a period add up to that have arrived by then: its first moment is in, its last is not.
    #[must_use]
    pub fn expected(&self, period: Range<DateTime<Utc>>, now: DateTime<Utc>) -> Sums {
        let mut sums = Sums::new(R::LABELS);
        self.each(period, now, |row| sums.add(row.labels(), row.amounts()));
        sums
    }

    /// Those rows.
    #[must_use]
    pub fn rows(&self, period: Range<DateTime<Utc>>, now: DateTime<Utc>) -> Vec<R> {
        let mut rows = Vec::new();
        self.each(period, now, |row| rows.push(row));
        rows
    }

    /// In the plainest way: looks at every row around, and knows nothing of pages.
    fn each(&self, period: Range<DateTime<Utc>>, now: DateTime<Utc>, mut visit: impl FnMut(R)) {
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

    /// Some rows of the log as JSON, and whether more follow.
    pub(super) fn page(&self, version: Version, page: &Page) -> (Vec<String>, bool) {
        // One more than wanted tells whether more follow; it need not be written.
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

    /// As it is now; a change after that makes no difference to who has it.
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
