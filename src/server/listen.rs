//! Listen addresses from the command line, and their sockets.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::str::FromStr;

use super::with_remedy;

/// Addresses or sockets that the server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// The addresses of `--web.listen-address`.
    Addresses(Vec<ListenAddress>),
    /// The sockets that systemd passes (`--web.systemd-socket`).
    Systemd,
}

/// `HOST:PORT`, `[IPV6]:PORT`, or `:PORT` for every interface, IPv6 and IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A host name, or an address without brackets; empty for every interface.
    host: String,
    port: u16,
}

/// Error for a text that is not a [`ListenAddress`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not HOST:PORT, [IPV6]:PORT or :PORT")]
pub struct ListenAddressError(String);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is in use, forbidden, or not an address of this machine. The source error has a remedy.
    #[error("cannot listen on {0}")]
    Address(String, #[source] io::Error),
    /// A socket from systemd cannot be used. Sockets are counted from 0, in the order of the unit file.
    #[error("cannot use socket {0} from systemd; configure it with ListenStream= and a TCP port")]
    Socket(usize, #[source] io::Error),
    /// systemd passed no socket to listen on.
    #[error("systemd passed no socket; start the .socket unit of the service")]
    NoSocket,
}

impl ListenAddress {
    /// Returns the hosts and the port to which clients on this machine can connect. If the server listens on every
    /// interface, the hosts are loopback addresses.
    pub(crate) fn reached_at(&self) -> (Vec<&str>, u16) {
        let hosts = match self.host.as_str() {
            "0.0.0.0" => LOOPBACK[..1].to_vec(),
            "" | "::" => LOOPBACK.to_vec(),
            host => vec![host],
        };
        (hosts, self.port)
    }

    /// Returns true if only clients on this machine can connect.
    pub(super) fn is_loopback(&self) -> bool {
        let ip = self.host.parse::<IpAddr>();
        self.host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    pub(super) fn host(&self) -> String {
        self.host.clone()
    }

    pub(super) fn bind(&self) -> Result<TcpListener, BindError> {
        self.listen()
            .map_err(|error| BindError::Address(self.to_string(), with_remedy(error, remedy)))
    }

    fn listen(&self) -> io::Result<TcpListener> {
        if self.host.is_empty() {
            return match listen((Ipv6Addr::UNSPECIFIED, self.port).into()) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
                    ) =>
                {
                    // The machine probably has no IPv6, so this falls back to IPv4.
                    listen((Ipv4Addr::UNSPECIFIED, self.port).into())
                }
                bound => bound,
            };
        }
        let mut addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        // Prefers IPv4 if the name has addresses of both kinds, as Go does.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let first = addresses.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        listen(*first)
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, ListenAddressError> {
        let error = || ListenAddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().map_err(|_| error())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let host = rest.strip_suffix(']').ok_or_else(error)?;
                host.parse::<Ipv6Addr>().map_err(|_| error())?;
                host
            }
            None if host.contains([':', '/', ' ', ']']) => return Err(error()),
            None => host,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Returns the remedy for an address that cannot be bound; `None` if no remedy is known for this kind of error.
fn remedy(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::AddrInUse => Some(
            "another process listens there; find it with ss -ltnp and stop it, or choose another --web.listen-address",
        ),
        io::ErrorKind::PermissionDenied => {
            Some("ports below 1024 need a privilege; choose another --web.listen-address")
        }
        io::ErrorKind::AddrNotAvailable => {
            Some("this machine has no such address; choose another --web.listen-address")
        }
        _ => None,
    }
}

/// Opens a socket that listens on `address`. If the address is `[::]`, the socket listens on IPv4 too, whatever the
/// system's default is.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};

    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Without this option, a restart would fail while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Returns the sockets that systemd passes.
pub(super) fn inherited() -> Result<Vec<TcpListener>, BindError> {
    let mut inherited = listenfd::ListenFd::from_env();
    let listeners: Vec<TcpListener> = (0..inherited.len())
        .map(|index| {
            let listener = inherited
                .take_tcp_listener(index)
                .and_then(|listener| listener.ok_or(io::ErrorKind::NotFound.into()));
            listener
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(|source| BindError::Socket(index, source))
        })
        .collect::<Result<_, _>>()?;
    if listeners.is_empty() {
        Err(BindError::NoSocket)
    } else {
        Ok(listeners)
    }
}

/// The loopback addresses of IPv4 and IPv6. A server that listens on every interface may answer at only one of these
/// two: `[::]` can be bound even if IPv6 is disabled, and a socket from systemd may be for IPv6 only.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// Maximum number of connections that wait to be accepted: a usual value for busy servers. The system may lower it.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_by_table() {
        for (text, printed) in [
            (":10053", Some(":10053")),
            (":0", Some(":0")),
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("localhost:80", Some("localhost:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("::1:80", None),
            ("[localhost]:80", None),
            ("[::1]", None),
            ("localhost", None),
            ("localhost:", None),
            (":65536", None),
            ("http://localhost:80", None),
            ("", None),
        ] {
            let parsed = text.parse::<ListenAddress>();
            assert_eq!(
                parsed.ok().map(|address| address.to_string()).as_deref(),
                printed,
                "{text}"
            );
        }
    }

    #[test]
    fn remedies_by_table() {
        use io::ErrorKind as Kind;
        for (kind, remedy) in [
            (Kind::AddrInUse, "; another process listens there"),
            (Kind::PermissionDenied, "; ports below 1024 need"),
            (Kind::AddrNotAvailable, "; this machine has no such"),
            (Kind::OutOfMemory, ""),
        ] {
            let error = with_remedy(kind.into(), super::remedy);
            assert_eq!(error.kind(), kind);
            let begin = format!("{}{remedy}", io::Error::from(kind));
            assert!(error.to_string().starts_with(&begin), "{error}");
            assert_eq!(error.to_string() == begin, remedy.is_empty(), "{error}");
        }
    }

    #[test]
    fn reachable_hosts_by_table() {
        for (text, hosts) in [
            (":1", &LOOPBACK[..]),
            ("[::]:1", &LOOPBACK),
            ("0.0.0.0:1", &["127.0.0.1"]),
            ("192.0.2.1:1", &["192.0.2.1"]),
            ("[::1]:1", &["::1"]),
            ("localhost:1", &["localhost"]),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.reached_at(), (hosts.to_vec(), 1), "{text}");
        }
    }
}
