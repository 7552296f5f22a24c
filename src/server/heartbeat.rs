//! Heartbeat of the loops that accept connections, for the watchdog.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Notify;

/// Shows whether the server accepts connections.
///
/// The server has no heartbeat while `accept` fails. If all connection slots are taken by clients that are being
/// answered, a new client has to wait. In this case the server still has a heartbeat, because a restart would only help
/// the clients that overload it.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    requested: Notify,
    given: Notify,
}

impl Heartbeat {
    /// Waits for the next heartbeat.
    pub async fn next(&self) {
        // Discards a heartbeat that was given after an earlier caller had stopped waiting, because it says nothing
        // about the server now.
        let _old = self.0.given.notified().now_or_never();
        self.0.requested.notify_one();
        self.0.given.notified().await;
    }

    /// Gives a heartbeat whenever one is requested, for as long as the future is polled.
    pub(super) async fn give(&self) -> Infallible {
        loop {
            self.0.requested.notified().await;
            self.0.given.notify_one();
        }
    }

    /// Gives a heartbeat if one is requested.
    pub(super) fn give_now(&self) {
        let _endless = self.give().now_or_never();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_is_given_on_request_only() {
        let heartbeat = Heartbeat::default();
        heartbeat.give_now();
        assert!(heartbeat.next().now_or_never().is_none(), "no loop gave it");
        // The request is still there. Its late heartbeat must not count for the next request.
        heartbeat.give_now();
        assert!(
            heartbeat.next().now_or_never().is_none(),
            "it is a late one"
        );
        let giving = heartbeat.clone();
        let giving = tokio::spawn(async move { giving.give().await });
        heartbeat.next().await;
        heartbeat.next().await;
        giving.abort();
    }
}
