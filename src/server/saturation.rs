//! Record of when the connection limit was last reached, for a health check that gets no response.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// The last time at which all connection slots were taken. The server updates it again and again as long as they are, so a
/// recent time also shows that the server is alive.
#[derive(Clone, Debug, Default)]
pub struct Saturation(Arc<Mutex<Option<Instant>>>);

impl Saturation {
    pub(crate) fn mark(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether all slots were taken at any time since then.
    pub fn occurred_since(&self, begun: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last >= begun)
    }
}
