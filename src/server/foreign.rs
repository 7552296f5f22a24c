//! Rejects requests that a web page of another site has caused in a browser.
//!
//! Any page can send a POST request to any address. So a reload request is rejected if it has a header that only
//! browsers send.
//!
//! An exporter that listens only on loopback should not be reachable from other sites. But a page in a browser on the
//! same machine can read its responses if the host name of the page resolves to 127.0.0.1. The browser then treats the
//! page and the exporter as one origin (DNS rebinding). Such a request has that host name in `Host`, so requests with
//! internet names are rejected. Addresses, `localhost`, and names without a dot, which are common on internal networks,
//! are accepted, because they cannot be registered on the internet. The name in `--web.listen-address` is accepted too.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::http::request::Parts;

/// Returns the reason to reject a request, or `None` if the request is not rejected. The server calls this before it
/// checks the login. `own` has the hosts of `--web.listen-address`.
pub(super) fn refusal(
    request: &Parts,
    is_reload: bool,
    checks_host: bool,
    own: &[String],
) -> Option<&'static str> {
    if checks_host && !is_trusted(request, own) {
        return Some(FOREIGN_HOST);
    }
    let is_of_browser = |name: &HeaderName| *name == ORIGIN || name.as_str().starts_with(SEC_FETCH);
    (is_reload && request.headers.keys().any(is_of_browser)).then_some(RELOAD_BY_BROWSER)
}

/// Returns true if no host in the request (`Host` and URI) can be the name of another site on the internet.
fn is_trusted(request: &Parts, own: &[String]) -> bool {
    let mut hosts = request.headers.get_all(HOST).iter();
    let is_trusted = |host: &str| is_trusted_name(host.trim(), own);
    let authority = request.uri.authority();
    authority.is_none_or(|authority| is_trusted(authority.as_str()))
        && hosts.all(|host| host.to_str().is_ok_and(is_trusted))
}

fn is_trusted_name(host: &str, own: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    !name.contains('.')
        || name.parse::<IpAddr>().is_ok()
        || name.ends_with(".localhost")
        || own.iter().any(|own| own.eq_ignore_ascii_case(&name))
}

/// The response to a request on loopback if its `Host` could be the name of a page on the internet.
const FOREIGN_HOST: &str = "forbidden: the exporter listens on loopback only, but the Host of the request is an internet name; use localhost or an address, or let the proxy set Host to the address that it connects to\n";

/// The response to a reload request that a web page may have caused. Browsers add `Origin` or a `Sec-Fetch-*` header to
/// every POST request of a page.
const RELOAD_BY_BROWSER: &str = "forbidden: a reload cannot be requested by a browser (Origin or Sec-Fetch-*); use curl -X POST\n";

/// Prefix of the names of headers that only browsers send.
const SEC_FETCH: &str = "sec-fetch-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_by_table() {
        let own = ["Exporter.internal".to_owned()];
        for (hosts, trusted) in [
            (&[][..], true),
            (&[""], true),
            (&["localhost"], true),
            (&["LOCALHOST:10053"], true),
            (&["a.localhost:10053"], true),
            (&["127.0.0.1:10053"], true),
            (&["127.0.0.1"], true),
            (&["192.0.2.1:10053"], true),
            (&["[::1]:10053"], true),
            (&["[::1]"], true),
            (&["exporter:10053"], true),
            (&["exporter.internal:10053"], true),
            (&["EXPORTER.INTERNAL."], true),
            (&["evil.example"], false),
            (&["evil.example:10053"], false),
            (&["evil.example."], false),
            (&["localhost.evil.example"], false),
            (&["127.0.0.1.evil.example:10053"], false),
            (&["127.0.0.1.nip.io"], false),
            (&["user@evil.example"], false),
            (&["evillocalhost.example"], false),
            (&["sub.exporter.internal"], false),
            (&["localhost", "evil.example"], false),
            (&["evil.example", "localhost"], false),
        ] {
            let mut request = hyper::Request::builder();
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let (request, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(is_trusted(&request, &own), trusted, "{hosts:?}");
        }
    }

    #[test]
    fn the_host_in_the_request_line_is_checked_too() {
        for (uri, trusted) in [
            ("/metrics", true),
            ("http://localhost/metrics", true),
            ("http://evil.example/metrics", false),
        ] {
            let request = hyper::Request::builder().uri(uri).header(HOST, "localhost");
            let (request, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(is_trusted(&request, &[]), trusted, "{uri}");
        }
    }
}
