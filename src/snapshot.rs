//! What is served: whole, immutable, prepared.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::exposition::Format;
use crate::period::BillingPeriod;
use crate::report::ReportKind;

/// Everything that a request may ask for, as it was at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    states: Vec<State>,
}

/// The newest snapshot, for readers; never waits for a poll.
#[derive(Clone, Debug)]
pub struct Subscriber(watch::Receiver<Arc<Snapshot>>);

/// How a body is encoded on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// One gzip member.
    Gzip,
}

/// A prepared body: its length on the wire, and its parts in order.
#[derive(Debug)]
pub struct Body {
    /// Bytes on the wire, all parts together.
    pub length: u64,
    /// The parts in order; `Parts::next` costs a reference count, or, for large identity bodies, the inflation of a few KiB.
    pub parts: Parts,
}

/// Iterator over the parts of a body.
#[derive(Debug)]
pub struct Parts(std::vec::IntoIter<Bytes>);

/// What is known of one report of one tenant, for the page and for readiness.
#[derive(Clone, Debug)]
pub struct State {
    /// The tenant's name where tenants are named.
    pub tenant: Option<Arc<str>>,
    /// The report.
    pub report: ReportKind,
    /// When the last poll began, if one has ended.
    pub last_attempt: Option<DateTime<Utc>>,
    /// When the last complete report was asked for.
    pub last_success: Option<DateTime<Utc>>,
    /// When the next poll is due.
    pub next_poll: Option<DateTime<Utc>>,
    /// Why the newest poll failed; none where it succeeded.
    pub failure: Option<Failure>,
    /// The newest complete report in brief.
    pub summary: Option<Arc<Summary>>,
}

/// A failed poll, as told to people.
#[derive(Clone, Debug)]
pub struct Failure {
    /// As in the label `reason`.
    pub reason: &'static str,
    /// What failed: the chain of errors on one line.
    pub message: String,
    /// What the admin can do about it, where that is known.
    pub remedy: Option<&'static str>,
}

/// A complete report in brief.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The period that the numbers belong to.
    pub period: BillingPeriod,
    /// Rows that Graph sent, after overlaps of pages were removed.
    pub rows: u64,
    /// Spend by currency, in the order of the currencies.
    pub spend: Vec<Spend>,
    /// The ten organizers with the highest charge in each currency, highest first; empty where users are not exported.
    pub top: Vec<Organizer>,
}

/// Spend in one currency. Amounts are exact decimals as text, to be shown as they are.
#[derive(Clone, Debug)]
pub struct Spend {
    /// ISO 4217, upper case, or `unknown`.
    pub currency: String,
    /// All of it.
    pub total: String,
    /// By destination context (`Domestic`, `International`, …), highest first: context, amount, share of the total in
    /// percent where the total is positive.
    pub contexts: Vec<(String, String, Option<u8>)>,
    /// Calls.
    pub calls: i128,
    /// Seconds.
    pub seconds: i128,
}

/// One organizer's spend in one currency, over all locations and contexts.
#[derive(Clone, Debug)]
pub struct Organizer {
    /// As `labels.user` has it.
    pub user: String,
    /// ISO 4217.
    pub currency: String,
    /// Exact decimal.
    pub charge: String,
    /// Calls.
    pub calls: i128,
    /// Seconds.
    pub seconds: i128,
}

impl Snapshot {
    /// The body of `/metrics`. `names`: only these families, all where it is empty (`name[]=` as promhttp has it).
    pub fn body(&self, _format: Format, _encoding: Encoding, _names: &[String]) -> Body {
        Body {
            length: 0,
            parts: Parts(Vec::new().into_iter()),
        }
    }

    /// Every report of every tenant, tenants in the order of the configuration.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// Ready once every tenant has been tried and at least one has a complete report; else the reason why not.
    pub fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Subscriber {
    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.0.borrow().clone()
    }

    /// A subscriber of one snapshot that never changes, for tests and benchmarks.
    pub fn fixed(snapshot: Snapshot) -> Self {
        Self(watch::channel(Arc::new(snapshot)).1)
    }

    /// Waits for the next publication; false once there can be none.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Iterator for Parts {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.0.next()
    }
}
