//! Reachability of a host. The preflight check reports failures of name resolution, proxy and TLS separately.
//!
//! This module sends no credential and ignores the contents of the response.

use std::io;
use std::net::{IpAddr, SocketAddr};

use chrono::{DateTime, Utc};
use hyper_util::client::proxy::matcher::Matcher;
use tokio::time::Instant;
use url::Url;

use super::http::{HttpClient, date, tls_error};

/// A host, and the proxy through which it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    url: Url,
    proxy: Option<(String, u16)>,
}

/// Errors of reaching a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    /// The name cannot be resolved.
    #[error("{host} cannot be resolved")]
    Name {
        host: String,
        /// True if `host` is the name of the proxy.
        proxied: bool,
        source: io::Error,
    },
    /// There is no connection, or TLS does not trust the peer.
    #[error("no connection to {host}")]
    Connection {
        host: String,
        /// True if the connection uses a proxy.
        proxied: bool,
        source: reqwest::Error,
    },
    /// No response before the deadline.
    #[error("no answer from {0} in time")]
    Timeout(String),
}

impl Target {
    /// Returns the host of a URL, and the proxy that the environment names for this URL. The HTTP client selects the
    /// same proxy.
    pub(crate) fn new(root: &str) -> Result<Self, url::ParseError> {
        Ok(Self::through(&Matcher::from_env(), root.parse()?))
    }

    fn through(proxies: &Matcher, url: Url) -> Self {
        let uri = url
            .as_str()
            .parse()
            .ok()
            .filter(|_| url.scheme() == "https");
        let proxy = uri.and_then(|uri| proxies.intercept(&uri));
        let proxy = proxy.and_then(|proxy| {
            let uri = proxy.uri();
            let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
                Some("https") => 443,
                _ => 80,
            });
            Some((uri.host()?.to_owned(), port))
        });
        Self { url, proxy }
    }

    /// The host, with its port if it is not the scheme's default.
    pub(crate) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The proxy as `host:port`, without the password that its URL can contain.
    pub(crate) fn proxy(&self) -> Option<String> {
        let (host, port) = self.proxy.as_ref()?;
        Some(format!("{host}:{port}"))
    }

    /// Returns true if the connection goes to an IP address, so no name has to be resolved. With a proxy, the
    /// connection goes to the proxy.
    pub(crate) fn is_address(&self) -> bool {
        self.next_hop()
            .0
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok()
    }

    /// Resolves the name of the host. If there is a proxy, resolves the proxy's name instead, because the proxy
    /// resolves the host's name.
    pub(crate) async fn resolve(&self, deadline: Instant) -> Result<Vec<IpAddr>, ReachError> {
        let (host, port) = self.next_hop();
        let lookup = tokio::net::lookup_host(format!("{host}:{port}"));
        let found = tokio::time::timeout_at(deadline, lookup).await;
        match found {
            Err(_) => {
                let asked = format!("the name server about {host}");
                Err(ReachError::Timeout(asked))
            }
            Ok(Err(source)) => Err(ReachError::Name {
                host,
                proxied: self.proxy.is_some(),
                source,
            }),
            Ok(Ok(addresses)) => Ok(addresses.map(|address: SocketAddr| address.ip()).collect()),
        }
    }

    /// Requests the root without a credential. Any response is a success. Returns the `Date` of the response, which is
    /// the time of the host's clock.
    pub(crate) async fn connect(
        &self,
        http: &HttpClient,
        deadline: Instant,
    ) -> Result<Option<DateTime<Utc>>, ReachError> {
        let asked = http.client.get(self.url.clone()).send();
        match tokio::time::timeout_at(deadline, asked).await {
            Err(_) => Err(ReachError::Timeout(self.host())),
            Ok(Err(source)) => Err(ReachError::Connection {
                host: self.host(),
                proxied: self.proxy.is_some(),
                source: source.without_url(),
            }),
            Ok(Ok(response)) => Ok(date(&response)),
        }
    }

    fn next_hop(&self) -> (String, u16) {
        self.proxy.clone().unwrap_or_else(|| {
            let host = self.url.host_str().unwrap_or_default().to_owned();
            (host, self.url.port_or_known_default().unwrap_or(443))
        })
    }
}

impl ReachError {
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Name { proxied: true, .. } => {
                "check the proxy's name in HTTPS_PROXY, and this machine's resolver"
            }
            Self::Name { .. } => {
                "check the name and this machine's resolver; if a proxy is the only way out, name it in HTTPS_PROXY"
            }
            Self::Connection {
                source, proxied, ..
            } if !source.is_timeout() => match tls_error(source) {
                Some(error) => tls_remedy(error),
                None if *proxied => {
                    "check HTTPS_PROXY, its user and password, and that the proxy allows this host; hosts in NO_PROXY are reached directly"
                }
                None => {
                    "check the URL and the firewall; if a proxy is the only way out, name it in HTTPS_PROXY"
                }
            },
            Self::Connection { .. } | Self::Timeout(_) => {
                "check whether a firewall drops the packets; if a proxy is the only way out, name it in HTTPS_PROXY"
            }
        }
    }
}

fn tls_remedy(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Wrong;
    use rustls::Error::InvalidCertificate;
    match error {
        // A bad signature means that another CA with the same name signed the certificate.
        InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature) => {
            "the certificate is from a CA that is not trusted; if a proxy decrypts TLS, set SSL_CERT_FILE to a PEM file with its CA certificate"
        }
        InvalidCertificate(
            Wrong::Expired
            | Wrong::ExpiredContext { .. }
            | Wrong::NotValidYet
            | Wrong::NotValidYetContext { .. },
        ) => "the certificate has expired or is not valid yet; check this machine's clock first",
        InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "the certificate is for another host; check the URL, and check whether a proxy answers in place of the host"
        }
        _ => "TLS failed; check whether a proxy decrypts TLS or does not support TLS 1.2",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::http::HttpOptions;
    use super::super::testing::{Reply, Server};
    use super::*;

    #[test]
    fn routes_to_hosts_by_table() {
        for (url, proxy, host, through, is_address) in [
            (
                "https://graph.microsoft.com",
                "",
                "graph.microsoft.com",
                None,
                false,
            ),
            (
                "https://graph.microsoft.com:443/x",
                "",
                "graph.microsoft.com",
                None,
                false,
            ),
            (
                "http://127.0.0.1:81/",
                "http://proxy.example:3128",
                "127.0.0.1:81",
                None,
                true,
            ),
            ("https://[::1]:8443", "", "[::1]:8443", None, true),
            (
                "https://graph.microsoft.com",
                "http://user:password@proxy.example:3128",
                "graph.microsoft.com",
                Some("proxy.example:3128"),
                false,
            ),
            (
                "https://g.example",
                "http://10.0.0.1",
                "g.example",
                Some("10.0.0.1:80"),
                true,
            ),
            (
                "https://10.0.0.1",
                "https://p.example",
                "10.0.0.1",
                Some("p.example:443"),
                false,
            ),
        ] {
            let target = target(url, proxy);
            assert_eq!(target.host(), host, "{url} by {proxy}");
            assert_eq!(target.proxy().as_deref(), through, "{url} by {proxy}");
            assert_eq!(target.is_address(), is_address, "{url} by {proxy}");
        }
        assert!(Target::new("graph.microsoft.com").is_err());
    }

    #[tokio::test]
    async fn next_hop_is_resolved() {
        let deadline = Instant::now() + Duration::from_secs(20);
        for (url, proxy) in [
            ("https://127.0.0.3", ""),
            ("https://graph.invalid", "http://127.0.0.3:3128"),
        ] {
            let found = target(url, proxy).resolve(deadline).await.unwrap();
            assert_eq!(found, ["127.0.0.3".parse::<IpAddr>().unwrap()]);
        }
    }

    #[tokio::test]
    async fn any_answer_counts_and_its_date_is_the_clock() {
        let server = Server::start(|_, request| match request.path.as_str() {
            "/dated" => Reply::Full(
                404,
                vec![("date", "Sat, 21 Nov 2026 09:30:00 GMT".to_owned())],
                String::new(),
            ),
            "/undated" => Reply::json(200, "{}"),
            "/stall" => Reply::Stall,
            _ => Reply::Hangup,
        })
        .await;
        let http = HttpClient::new(&HttpOptions::default()).unwrap();
        let connect = async |path: &str, patience: Duration| {
            let target = target(&format!("{}{path}", server.url), "");
            target.connect(&http, Instant::now() + patience).await
        };
        let enough = Duration::from_secs(20);
        for (path, date) in [
            ("/dated", Some("2026-11-21T09:30:00Z".parse().unwrap())),
            ("/undated", None),
        ] {
            assert_eq!(connect(path, enough).await.unwrap(), date);
        }
        let firewall = "check whether a firewall drops the packets";
        for (path, patience, remedy) in [
            ("/stall", Duration::from_millis(50), firewall),
            ("/hangup", enough, "check the URL and the firewall"),
        ] {
            let error = connect(path, patience).await.unwrap_err();
            assert!(error.remedy().starts_with(remedy), "{error:?}");
        }
    }

    #[tokio::test]
    async fn remedies_of_the_client_s_own_failures_by_table() {
        let server = Server::start(|_, _| Reply::Stall).await;
        let options = HttpOptions {
            read_timeout: Duration::from_millis(50),
            ..HttpOptions::default()
        };
        let http = HttpClient::new(&options).unwrap();
        // The same port at an address at which nothing listens.
        let gone = server.url.replace("http://127.0.0.1", "https://127.0.0.9");
        for (url, proxy, remedy) in [
            (
                &server.url,
                "",
                "check whether a firewall drops the packets",
            ),
            (&gone, "", "check the URL and the firewall"),
            (&gone, "http://proxy.example", "check HTTPS_PROXY, its user"),
        ] {
            let deadline = Instant::now() + Duration::from_secs(20);
            let error = target(url, proxy)
                .connect(&http, deadline)
                .await
                .unwrap_err();
            assert!(matches!(error, ReachError::Connection { .. }), "{error:?}");
            assert!(error.remedy().starts_with(remedy), "{error:?}");
        }
    }

    fn target(url: &str, proxy: &str) -> Target {
        let proxies = Matcher::builder().https(proxy).build();
        Target::through(&proxies, url.parse().unwrap())
    }
}
