//! Notifications to systemd (`sd_notify(3)`): ready, reloading, stopping, and the watchdog. Without `NOTIFY_SOCKET` in the
//! environment, the exporter sends none.
//!
//! A watchdog notification follows each successful request to the exporter's own server. So systemd also restarts a process
//! that is alive but does not serve. What this module does not do: remove the variables from the environment. That is
//! unsafe, and would matter to child processes only.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::warn;

/// The connection to systemd, if systemd started the process and wants notifications.
#[derive(Clone, Debug, Default)]
pub struct Systemd {
    socket: Option<Arc<UnixDatagram>>,
    /// Longest time between two watchdog notifications, if the watchdog is on.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Connects to the socket that the environment names. `pid` is this process: the watchdog variables may be meant for
    /// another one.
    ///
    /// If the socket cannot be reached, a warning is logged and the exporter runs without it: a container may have
    /// inherited the variable, but not the socket.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let socket = match connect(&address) {
            Ok(socket) => socket,
            Err(error) => {
                warn!(%error, socket = ?address, "cannot reach the socket in NOTIFY_SOCKET, so systemd gets no notifications");
                return Self::default();
            }
        };
        let number = |name| -> Option<u64> { variable(name)?.to_str()?.parse().ok() };
        let meant = number("WATCHDOG_PID").is_none_or(|meant| meant == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| meant && *usec > 0);
        Self {
            socket: Some(Arc::new(socket)),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// Reports that the exporter serves, after the start or a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that the exporter re-reads its configuration. [`Self::ready`] ends the reload.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// Reports that the exporter shuts down and lets open requests end.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Sends a watchdog notification after each successful `probe`, at half the watchdog's interval, as
    /// `sd_watchdog_enabled(3)` recommends. If the watchdog is off, the future never completes.
    pub(crate) async fn watch<P, E: Display>(self, probe: impl Fn() -> P)
    where
        P: Future<Output = Result<(), E>>,
    {
        let Some(interval) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(interval / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match probe().await {
                Ok(()) => self.send("WATCHDOG=1"),
                Err(error) => {
                    warn!(%error, "self-check failed, so the watchdog notification is not sent");
                }
            }
        }
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send(message.as_bytes()) {
            warn!(%error, message, "cannot notify systemd");
        }
    }
}

/// Connects to the address, which is a path or, if it begins with `@`, an abstract socket name.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_TIME))?;
    Ok(socket)
}

/// Limit for sending one notification: systemd reads at once, and if it does not, a thread that serves must not hang.
const SEND_TIME: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a connection and the socket that receives its notifications.
    fn connected(usec: &str, meant: &str) -> (Systemd, UnixDatagram) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let systemd = at(path.as_os_str(), usec, meant);
        (systemd, socket)
    }

    fn at(address: &OsStr, usec: &str, meant: &str) -> Systemd {
        let variable = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(address.to_owned()),
            "WATCHDOG_USEC" => Some(usec.into()),
            "WATCHDOG_PID" => Some(meant.into()),
            _ => None,
        };
        Systemd::from_environment(variable, 7)
    }

    /// Returns the notifications that have not been read yet.
    fn received(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut messages = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length) = socket.recv(&mut buffer) {
            messages.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        messages
    }

    #[test]
    fn states_are_sent_as_the_protocol_demands() {
        let (systemd, socket) = connected("0", "7");
        systemd.ready("tenants: 3");
        systemd.reloading();
        systemd.stopping();
        let messages = received(&socket);
        assert_eq!(messages[0], "READY=1\nSTATUS=tenants: 3");
        assert_eq!(messages[2], "STOPPING=1\nSTATUS=stopping");
        let now = clock_gettime(ClockId::Monotonic);
        let usec = messages[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let usec: i64 = usec.unwrap().parse().unwrap();
        let seconds = usec / 1_000_000;
        assert!(seconds <= now.tv_sec && now.tv_sec - seconds < 60, "{usec}");
        assert_eq!(messages.len(), 3);
    }

    #[test]
    fn abstract_socket_names_are_supported() {
        let name = format!("teams-pstn-exporter-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let systemd = at(OsStr::new(&format!("@{name}")), "0", "7");
        systemd.ready("");
        assert_eq!(received(&socket), ["READY=1\nSTATUS="]);
    }

    #[test]
    fn without_a_reachable_socket_nothing_is_sent() {
        let none = Systemd::from_environment(|_| None, 7);
        assert!(none.socket.is_none() && none.watchdog.is_none());
        none.ready("not sent");
        for unreachable in ["", "/nowhere/notify", "vsock:2:1"] {
            let none = at(OsStr::new(unreachable), "1", "7");
            assert!(
                none.socket.is_none() && none.watchdog.is_none(),
                "{unreachable}"
            );
        }
    }

    #[test]
    fn watchdogs_by_table() {
        for (usec, meant, seconds) in [
            ("60000000", "7", Some(60)),
            ("60000000", "8", None),
            ("60000000", "", Some(60)),
            ("0", "7", None),
            ("", "7", None),
            ("soon", "7", None),
        ] {
            let (systemd, _) = connected(usec, meant);
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(systemd.watchdog, expected, "{usec} {meant}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_notified_at_half_its_interval_while_the_probe_succeeds() {
        for (works, count) in [(true, 5), (false, 0)] {
            let (systemd, socket) = connected("10000000", "7");
            let probe = || async move { if works { Ok(()) } else { Err("silence") } };
            let watching = systemd.watch(probe);
            let time = Duration::from_secs(24);
            assert!(tokio::time::timeout(time, watching).await.is_err());
            assert_eq!(received(&socket), vec!["WATCHDOG=1"; count]);
        }
    }
}
