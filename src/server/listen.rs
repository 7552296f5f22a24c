//! Where the server listens: addresses as they are written on the command line, and sockets for them.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::str::FromStr;

use super::with_remedy;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On addresses of its own.
    Addresses(Vec<ListenAddress>),
    /// On the sockets that systemd hands over (`--web.systemd-socket`).
    Systemd,
}

/// `HOST:PORT`, `[IPV6]:PORT`, or `:PORT` for every interface, IPv6 and IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or an address without brackets; empty for every interface.
    host: String,
    port: u16,
}

/// What is no [`ListenAddress`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not HOST:PORT, [IPV6]:PORT or :PORT")]
pub struct ListenAddressError(String);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, forbidden, or not ours.
    #[error("cannot listen on {address}")]
    Address {
        /// As it was asked for.
        address: String,
        /// What the system said, and what to do.
        source: io::Error,
    },
    /// A socket of systemd's cannot be used.
    #[error("cannot use socket {index} of systemd's, it must be a TCP stream that listens")]
    Socket {
        /// Counted from 0, in the order of the unit file.
        index: usize,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to listen on.
    #[error("systemd handed over no socket: is the service started by its .socket unit?")]
    NoSocket,
}

impl ListenAddress {
    /// Every interface.
    pub const fn any(port: u16) -> Self {
        Self {
            host: String::new(),
            port,
        }
    }

    /// Hosts and port by which this machine reaches it: loopback where it is every interface.
    pub(crate) fn reached_at(&self) -> (Vec<&str>, u16) {
        let hosts = match self.host.as_str() {
            "0.0.0.0" => LOOPBACK[..1].to_vec(),
            "" | "::" => LOOPBACK.to_vec(),
            host => vec![host],
        };
        (hosts, self.port)
    }

    pub(super) fn host(&self) -> String {
        self.host.clone()
    }

    pub(super) fn bind(&self) -> Result<TcpListener, BindError> {
        self.listen().map_err(|error| BindError::Address {
            address: self.to_string(),
            source: with_remedy(error, remedy),
        })
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
                    // A machine without IPv6.
                    listen((Ipv4Addr::UNSPECIFIED, self.port).into())
                }
                bound => bound,
            };
        }
        let mut addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        // As Go has it: of a name that has both, IPv4.
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

/// What to do where an address cannot be listened on, where that is known.
fn remedy(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::AddrInUse => Some(
            "another process listens there (`ss -ltnp` names it), so stop it or choose another --web.listen-address",
        ),
        io::ErrorKind::PermissionDenied => {
            Some("ports below 1024 are not for every user, so choose another --web.listen-address")
        }
        io::ErrorKind::AddrNotAvailable => {
            Some("this machine has no such address, so choose another --web.listen-address")
        }
        _ => None,
    }
}

/// One socket that listens on `address`; on IPv4 too where that is every IPv6 address, whatever the system's default.
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
    // Else a restart would fail while old connections linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The sockets that systemd hands over.
pub(super) fn inherited() -> Result<Vec<TcpListener>, BindError> {
    let mut inherited = listenfd::ListenFd::from_env();
    let listeners: Vec<TcpListener> = (0..inherited.len())
        .map(|index| {
            let listener = inherited
                .take_tcp_listener(index)
                .and_then(|listener| listener.ok_or(io::ErrorKind::NotFound.into()));
            listener
                .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                .map_err(|source| BindError::Socket { index, source })
        })
        .collect::<Result<_, _>>()?;
    if listeners.is_empty() {
        Err(BindError::NoSocket)
    } else {
        Ok(listeners)
    }
}

/// This machine by IPv4 and by IPv6. Where every interface is listened on, one of them may be missing: `[::]` can be bound
/// although IPv6 is disabled, and a socket of systemd's may be of IPv6 alone.
pub(crate) const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];

/// Connections that wait to be accepted: the usual figure of busy servers; the system may lower it.
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
            (Kind::PermissionDenied, "; ports below 1024 are not for"),
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
    fn where_it_is_reached_by_table() {
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
