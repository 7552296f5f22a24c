//! Exposure of the server: the clients that can read its responses.

use std::fmt;
use std::net::SocketAddr;

use super::listen::{Listen, ListenAddress};
use super::web_config::WebConfig;

/// The addresses that the server listens on, and the clients that can read its responses there.
#[derive(Debug)]
pub(crate) struct Exposure {
    /// The addresses and the clients, for messages.
    description: String,
    /// True if every client that reaches an address of the server can read the responses.
    pub(crate) is_open: bool,
}

impl Exposure {
    /// Returns the exposure of a server that will listen on these addresses. Sockets of systemd can have any address,
    /// so they are assumed to be reachable from other machines.
    pub(crate) fn expected(listen: &Listen, web_config: Option<&WebConfig>) -> Self {
        match listen {
            Listen::Addresses(addresses) => {
                let local = addresses.iter().all(ListenAddress::is_loopback);
                Self::of(addresses, local, web_config)
            }
            Listen::Systemd => Self::of(&["the sockets of systemd"], false, web_config),
        }
    }

    /// Returns the exposure of a server that listens on these addresses.
    pub(crate) fn bound(addresses: &[SocketAddr], web_config: Option<&WebConfig>) -> Self {
        let local = addresses.iter().all(|address| address.ip().is_loopback());
        Self::of(addresses, local, web_config)
    }

    fn of(addresses: &[impl ToString], local: bool, web_config: Option<&WebConfig>) -> Self {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let is_protected = web_config.is_some_and(WebConfig::identifies_clients);
        let readers = match (is_protected, local) {
            (true, _) => "clients with a password or certificate",
            (false, true) => "this machine only",
            (false, false) => "everyone who can reach the port",
        };
        Self {
            description: format!("at {} by {readers}", addresses.join(", ")),
            is_open: !is_protected && !local,
        }
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

/// The remedy if names of users are readable by everyone.
pub(crate) const EXPOSED_REMEDY: &str = "if a firewall protects the port, nothing is needed; otherwise set passwords or client certificates in --web.config.file, listen on 127.0.0.1:10053 only (--web.listen-address), or show no names (labels.user and reports[].user: pseudonym or none)";
