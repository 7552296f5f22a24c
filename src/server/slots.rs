//! Slots for connections and scrapes, and which of them yields when all are taken.
//!
//! A new connection is never kept waiting by clients that send or read nothing: the one with the weakest claim is closed
//! for it. So a probe always gets a slot. What this module does not do: accept, or know what a request asks for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::activity::{Activity, Exchange, micros};
use super::crowd::Crowd;

/// Slots for connections.
#[derive(Debug)]
pub(super) struct Slots {
    permits: Arc<Semaphore>,
    limit: usize,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    next: AtomicU64,
    /// When all were taken.
    crowd: Crowd,
}

/// The entry of a connection that is open.
pub(super) struct Open<'a> {
    slots: &'a Slots,
    id: u64,
}

/// Scrapes under way.
#[derive(Debug)]
pub(super) struct Scrapes {
    limit: usize,
    under_way: Mutex<Vec<Arc<Exchange>>>,
}

impl Slots {
    pub(super) fn new(limit: usize, crowd: Crowd) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            open: Mutex::default(),
            next: AtomicU64::new(0),
            crowd,
        }
    }

    /// A slot for the next connection. If none is free, others are closed until one is.
    pub(super) async fn acquire(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            let patience = if self.permits.available_permits() == 0 {
                self.crowd.note();
                self.close_one();
                // Those that may not be closed now may be the next time.
                CROWDED_PAUSE
            } else {
                Duration::MAX
            };
            if let Ok(permit) = tokio::time::timeout(patience, permit).await {
                return permit.expect("the semaphore of the slots is never closed");
            }
        }
    }

    /// Whether three quarters are taken, so that clients are asked not to keep their connections.
    pub(super) fn are_scarce(&self) -> bool {
        self.permits.available_permits() < self.limit / 4
    }

    /// Closes the connection with the weakest claim to its slot.
    pub(super) fn close_one(&self) {
        let open = lock(&self.open);
        let claims = open
            .values()
            .filter_map(|activity| Some((activity.claim()?, activity)));
        if let Some((_, activity)) = claims.min_by_key(|(claim, _)| *claim) {
            activity.close();
        }
    }

    pub(super) fn enter(&self, activity: Arc<Activity>) -> Open<'_> {
        let id = self.next.fetch_add(1, Relaxed);
        lock(&self.open).insert(id, activity);
        Open { slots: self, id }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        lock(&self.slots.open).remove(&self.id);
    }
}

impl Scrapes {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            under_way: Mutex::default(),
        }
    }

    /// Admits a scrape. If there are too many, the one that has stalled longest is aborted for it.
    pub(super) fn begin(&self, exchange: &Arc<Exchange>, now: u64) -> bool {
        let mut under_way = lock(&self.under_way);
        if under_way.len() >= self.limit {
            let slowest = under_way
                .iter()
                .enumerate()
                .min_by_key(|(_, other)| other.waits_since());
            let Some((index, slowest)) = slowest.filter(|(_, slowest)| {
                let patience = micros(STALLED_SCRAPE);
                slowest.waits_since().saturating_add(patience) <= now
            }) else {
                return false;
            };
            slowest.abort();
            under_way.swap_remove(index);
        }
        under_way.push(Arc::clone(exchange));
        true
    }

    pub(super) fn end(&self, exchange: &Arc<Exchange>) {
        lock(&self.under_way).retain(|other| !Arc::ptr_eq(other, exchange));
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves whole entries.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How soon the next connection is closed if one that was closed has not left yet: new clients notice no delay.
const CROWDED_PAUSE: Duration = Duration::from_millis(100);

/// Without progress for this long, a scrape yields to another when there are too many: a scraper on any working network
/// reads more often.
const STALLED_SCRAPE: Duration = Duration::from_millis(100);
