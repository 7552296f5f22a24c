//! Notifications to systemd (`sd_notify(3)`): ready, reloading, stopping, and the watchdog. Without `NOTIFY_SOCKET` in
//! the environment, the exporter sends none.
//!
//! A watchdog notification is sent only after a heartbeat of the server. So systemd also restarts a process that is
//! alive and does not accept connections. This module does not remove the variables from the environment, because that
//! is unsafe and would only affect child processes.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The notifications that the environment asks for. The default sends none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Systemd {
    notifies: bool,
    /// Longest time between two watchdog notifications, if the watchdog is on.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Reads the environment. The watchdog is off if it is meant for another process.
    pub fn from_environment() -> Self {
        Self {
            notifies: true,
            watchdog: sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero()),
        }
    }

    /// Reports that the exporter serves requests, after the start or a reload.
    pub(crate) fn ready(self, status: &str) {
        self.send(|| sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]));
    }

    /// Reports that the exporter re-reads its configuration. [`Self::ready`] ends the reload.
    pub(crate) fn reloading(self) {
        self.send(|| {
            let now = NotifyState::monotonic_usec_now()?;
            sd_notify::notify(&[NotifyState::Reloading, now])
        });
    }

    /// Reports that the exporter shuts down and lets open requests end.
    pub(crate) fn stopping(self) {
        self.send(|| sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]));
    }

    /// Sends a watchdog notification after each heartbeat. If the watchdog is off, the future never completes.
    pub(crate) async fn watch<B: Future<Output = ()>>(self, heartbeat: impl Fn() -> B) {
        let Some(interval) = self.watchdog else {
            return std::future::pending().await;
        };
        let notify = || async move {
            // Runs on a thread that may block, because systemd can be slow to read.
            let sending = tokio::task::spawn_blocking(move || {
                self.send(|| sd_notify::notify(&[NotifyState::Watchdog]));
            });
            sending.await.expect("sending does not panic");
        };
        follow(interval, heartbeat, notify).await;
    }

    fn send(self, notify: impl FnOnce() -> io::Result<()>) {
        if self.notifies
            && let Err(error) = notify()
        {
            warn!(%error, "cannot reach the socket in NOTIFY_SOCKET, so systemd gets no notification");
        }
    }
}

/// Calls `notify` twice per watchdog interval, as `sd_watchdog_enabled(3)` recommends, but only after a heartbeat. If
/// no heartbeat comes within half the interval, logs a warning instead.
async fn follow<B: Future<Output = ()>, N: Future<Output = ()>>(
    interval: Duration,
    heartbeat: impl Fn() -> B,
    notify: impl Fn() -> N,
) {
    let mut ticks = tokio::time::interval(interval / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match tokio::time::timeout(interval / 2, heartbeat()).await {
            Ok(()) => notify().await,
            Err(_) => {
                warn!(
                    "the server does not accept connections, so the watchdog notification is not sent"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_notified_at_half_its_interval_while_the_server_has_a_heartbeat() {
        for (delay, expected) in [(0, 5), (3, 5), (6, 0)] {
            let count = Cell::new(0);
            let heartbeat = || tokio::time::sleep(Duration::from_secs(delay));
            let notify = async || count.set(count.get() + 1);
            let following = follow(Duration::from_secs(10), heartbeat, notify);
            let time = Duration::from_secs(24);
            assert!(tokio::time::timeout(time, following).await.is_err());
            assert_eq!(count.get(), expected, "{delay}");
        }
    }
}
