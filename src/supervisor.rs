//! What systemd is told, by the protocol of `sd_notify(3)`: ready, reloading, stopping, and at intervals that the
//! exporter still works. Without `NOTIFY_SOCKET` in the environment, nobody is told anything.
//!
//! The watchdog is fed only where the exporter's own server has just answered, so that a process that is alive and serves
//! nobody is started anew. What this module does not do: remove the variables from the environment, which is unsafe and
//! would matter to child processes only.

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

/// Whoever started the process, where they want to be told.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// How long the process may be silent, where that is limited.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the variables name. `pid`: this process, since the watchdog's may be meant for another.
    ///
    /// One that cannot be reached is logged and nothing more: a container may have inherited the variable alone.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let Some(address) = variable("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Self::default();
        };
        let socket = match connect(&address) {
            Ok(socket) => socket,
            Err(error) => {
                warn!(%error, socket = ?address, "cannot tell systemd, whose socket NOTIFY_SOCKET names");
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

    /// It serves, after the start or a reload.
    pub(crate) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// It reads its configuration again; [`Self::ready`] is the end of that.
    pub(crate) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// It lets the requests under way end.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// Feeds the watchdog at half its patience, as `sd_watchdog_enabled(3)` recommends, each time after `probe` has found
    /// that everything works. Pending for ever where there is none.
    pub(crate) async fn watch<P, E: Display>(self, probe: impl Fn() -> P)
    where
        P: Future<Output = Result<(), E>>,
    {
        let Some(patience) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(patience / 2);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match probe().await {
                Ok(()) => self.tell("WATCHDOG=1"),
                Err(error) => {
                    warn!(%error, "it does not answer itself, so the watchdog is not fed");
                }
            }
        }
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send(message.as_bytes()) {
            warn!(%error, message, "cannot tell systemd");
        }
    }
}

/// A path, or a name without a file, which begins with `@`.
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

/// For a message to be taken: systemd reads at once, and a thread that serves must not hang where it does not.
const SEND_TIME: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// A supervisor, and the socket where it hears.
    fn supervised(usec: &str, meant: &str) -> (Supervisor, UnixDatagram) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let supervisor = of(path.as_os_str(), usec, meant);
        (supervisor, socket)
    }

    fn of(address: &OsStr, usec: &str, meant: &str) -> Supervisor {
        let variable = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(address.to_owned()),
            "WATCHDOG_USEC" => Some(usec.into()),
            "WATCHDOG_PID" => Some(meant.into()),
            _ => None,
        };
        Supervisor::from_environment(variable, 7)
    }

    /// All that was heard and not yet read.
    fn heard(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let mut messages = Vec::new();
        let mut buffer = [0; 1024];
        while let Ok(length) = socket.recv(&mut buffer) {
            messages.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        messages
    }

    #[test]
    fn states_in_the_words_of_the_protocol() {
        let (supervisor, socket) = supervised("0", "7");
        supervisor.ready("tenants: 3");
        supervisor.reloading();
        supervisor.stopping();
        let messages = heard(&socket);
        assert_eq!(messages[0], "READY=1\nSTATUS=tenants: 3");
        assert_eq!(messages[2], "STOPPING=1\nSTATUS=stopping");
        let now = clock_gettime(ClockId::Monotonic);
        let told = messages[1].strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let told: i64 = told.unwrap().parse().unwrap();
        let seconds = told / 1_000_000;
        assert!(seconds <= now.tv_sec && now.tv_sec - seconds < 60, "{told}");
        assert_eq!(messages.len(), 3);
    }

    #[test]
    fn a_name_without_a_file() {
        let name = format!("teams-pstn-exporter-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = of(OsStr::new(&format!("@{name}")), "0", "7");
        supervisor.ready("");
        assert_eq!(heard(&socket), ["READY=1\nSTATUS="]);
    }

    #[test]
    fn nobody_to_tell() {
        let none = Supervisor::from_environment(|_| None, 7);
        assert!(none.socket.is_none() && none.watchdog.is_none());
        none.ready("nobody hears it");
        for unreachable in ["", "/nowhere/notify", "vsock:2:1"] {
            let nobody = of(OsStr::new(unreachable), "1", "7");
            assert!(
                nobody.socket.is_none() && nobody.watchdog.is_none(),
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
            let (supervisor, _) = supervised(usec, meant);
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(supervisor.watchdog, expected, "{usec} {meant}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_at_half_its_patience_while_the_probe_succeeds() {
        for (well, fed) in [(true, 5), (false, 0)] {
            let (supervisor, socket) = supervised("10000000", "7");
            let probe = || async move { if well { Ok(()) } else { Err("silence") } };
            let watching = supervisor.watch(probe);
            let time = Duration::from_secs(24);
            assert!(tokio::time::timeout(time, watching).await.is_err());
            assert_eq!(heard(&socket), vec!["WATCHDOG=1"; fed]);
        }
    }
}
