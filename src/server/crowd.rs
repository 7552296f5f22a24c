//! When all places for connections were last taken, for whoever waits for an answer and gets none.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// Noted again and again by the server while all places are taken: that it is crowded, and that it is alive.
#[derive(Clone, Debug, Default)]
pub struct Crowd(Arc<Mutex<Option<Instant>>>);

impl Crowd {
    pub(crate) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether all places have been taken since then, be it for a moment.
    pub fn is_seen_since(&self, begun: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last >= begun)
    }
}
