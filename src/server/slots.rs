//! Slots for connections and scrapes, and the rules for freeing one when all slots are taken.
//!
//! If all slots are taken, the server closes the connection that is first in the order of [`Activity::close_order`]. So
//! clients that send or read nothing cannot keep a new connection waiting, and a probe always gets a slot. This module
//! does not accept connections and does not read requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::activity::{Activity, Exchange, micros};

/// Slots for connections.
pub(super) struct Slots {
    permits: Arc<Semaphore>,
    limit: usize,
    open: Mutex<HashMap<u64, Arc<Activity>>>,
    next: AtomicU64,
}

/// The entry of an open connection. It is removed on drop.
pub(super) struct Open<'a> {
    slots: &'a Slots,
    id: u64,
}

pub(super) struct Scrapes {
    limit: usize,
    under_way: Mutex<Vec<Arc<Exchange>>>,
}

impl Slots {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(limit)),
            limit,
            open: Mutex::default(),
            next: AtomicU64::new(0),
        }
    }

    /// Waits for a slot for the next connection. If no slot is free, closes other connections until one is free.
    pub(super) async fn acquire(&self) -> OwnedSemaphorePermit {
        loop {
            let permit = Arc::clone(&self.permits).acquire_owned();
            let wait = if self.permits.available_permits() == 0 {
                self.close_one();
                // If no connection may be closed yet, the loop tries again after this pause.
                CLOSE_PAUSE
            } else {
                Duration::MAX
            };
            if let Ok(permit) = tokio::time::timeout(wait, permit).await {
                return permit.expect("the semaphore of the slots is never closed");
            }
        }
    }

    /// Returns true if more than three quarters of the slots are taken. In this case the server asks clients to close
    /// their connections.
    pub(super) fn are_scarce(&self) -> bool {
        self.permits.available_permits() < self.limit / 4
    }

    /// Closes the connection that is first in the closing order.
    pub(super) fn close_one(&self) {
        let open = self.open.lock();
        let candidates = open
            .values()
            .filter_map(|activity| Some((activity.close_order()?, activity)));
        if let Some((_, activity)) = candidates.min_by_key(|(order, _)| *order) {
            activity.close();
        }
    }

    pub(super) fn enter(&self, activity: Arc<Activity>) -> Open<'_> {
        let id = self.next.fetch_add(1, Relaxed);
        self.open.lock().insert(id, activity);
        Open { slots: self, id }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.slots.open.lock().remove(&self.id);
    }
}

impl Scrapes {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            under_way: Mutex::default(),
        }
    }

    /// Admits a scrape. If all slots are taken, aborts the scrape that has stalled longest. If none has stalled,
    /// returns false and does not admit the new scrape.
    pub(super) fn begin(&self, exchange: &Arc<Exchange>, now: u64) -> bool {
        let mut under_way = self.under_way.lock();
        if under_way.len() >= self.limit {
            let slowest = under_way
                .iter()
                .enumerate()
                .min_by_key(|(_, other)| other.last_progress());
            let Some((index, slowest)) = slowest.filter(|(_, slowest)| {
                slowest
                    .last_progress()
                    .saturating_add(micros(STALLED_SCRAPE))
                    <= now
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
        self.under_way
            .lock()
            .retain(|other| !Arc::ptr_eq(other, exchange));
    }
}

/// Time to wait for a free slot before another connection is closed. It is so short that new clients do not notice it.
const CLOSE_PAUSE: Duration = Duration::from_millis(100);

/// Time without progress after which a scrape counts as stalled, and can be aborted to admit another scrape. A scraper
/// on a working network reads at shorter intervals.
const STALLED_SCRAPE: Duration = Duration::from_millis(100);
