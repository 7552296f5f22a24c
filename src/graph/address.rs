//! Addresses of Graph and of the token endpoint. A bearer token goes to the origin of the configured Graph root only.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// Root URL of Microsoft Graph, without the version (`https://graph.microsoft.com`), or of the identity platform that
/// issues the tokens (`https://login.microsoftonline.com`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootUrl(Url);

closed_set! {
    /// A Microsoft cloud that provides the reports.
    ///
    /// See <https://learn.microsoft.com/graph/deployments>.
    #[derive(Default)]
    Cloud {
        /// The worldwide service, GCC included.
        #[default]
        Global = "global",
        /// US Government L4, GCC High.
        UsGovL4 = "us-gov-l4",
        /// US Government L5, Department of Defense.
        UsGovL5 = "us-gov-l5",
    }
}

/// Reasons why a root URL is invalid.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// The text is not a URL with a host and the scheme http or https.
    #[error("not a URL; write it as https://HOST")]
    Syntax,
    /// The URL uses plain http to another machine.
    #[error(
        "plain http would send the token in the clear; use https, because http is permitted only for 127.0.0.1, [::1] and localhost"
    )]
    Plain,
    /// The URL contains a user or a password.
    #[error("a user or a password has no place in this URL; remove it")]
    UserInfo,
    /// The URL contains a query or a fragment.
    #[error("a query has no place in this URL; end the URL before the `?` or `#`")]
    Query,
}

/// The address of a page, at the origin of the Graph root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NextLink(Url);

/// Reasons why a link is not followed. A message contains the link's origin only if [`known_origin`] shows it, because
/// a link can be any text.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("nextLink is not a URL")]
    Syntax(#[from] url::ParseError),
    #[error("nextLink has {0} bytes; the limit is {LENGTH_MAX}")]
    Length(usize),
    #[error("nextLink leads to {0}, not to the Graph root; the token is not sent there")]
    Foreign(String),
    #[error("nextLink contains a user name or password")]
    UserInfo,
}

impl RootUrl {
    /// The scope in a token request for this root: the origin and `/.default`.
    pub fn scope(&self) -> String {
        format!("{}/.default", self.0.origin().ascii_serialization())
    }

    /// The URL, with a slash at its end.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns true if the URL uses plain http, which is permitted only for this machine.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// The origin of a URL, if it differs from the root's origin.
    pub(crate) fn foreign_origin(&self, url: &str) -> Option<String> {
        let url = self.0.join(url).ok()?;
        (url.origin() != self.0.origin()).then(|| known_origin(&url))
    }

    /// The host, for error messages.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Returns `{root}/{version}/communications/callRecords/{call}`. Characters that would end the path are encoded.
    pub(crate) fn report(&self, version: &str, call: &str) -> NextLink {
        NextLink(self.with_path([version, "communications", "callRecords", call]))
    }

    /// Returns `{authority}/{tenant}/oauth2/v2.0/token`.
    pub(crate) fn token_url(&self, tenant_id: &str) -> Url {
        self.with_path([tenant_id, "oauth2", "v2.0", "token"])
    }

    fn with_path(&self, segments: [&str; 4]) -> Url {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .extend(segments);
        url
    }
}

impl FromStr for RootUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let mut url = Url::parse(text).map_err(|_| UrlError::Syntax)?;
        if has_user_info(&url) {
            return Err(UrlError::UserInfo);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(UrlError::Query);
        }
        let is_safe = match (url.scheme(), url.host()) {
            ("https", Some(_)) => true,
            ("http", Some(Host::Domain(name))) => name == "localhost",
            ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
            ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
            _ => return Err(UrlError::Syntax),
        };
        if !is_safe {
            return Err(UrlError::Plain);
        }
        // The root ends with a slash, so a relative link extends its path. Without the slash, the link would replace
        // the last part of the path.
        url.path_segments_mut()
            .expect("an http URL has a path")
            .pop_if_empty()
            .push("");
        Ok(Self(url))
    }
}

impl fmt::Display for RootUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Cloud {
    /// The root URL of Microsoft Graph in this cloud.
    pub fn graph_root(self) -> RootUrl {
        let root = match self {
            Self::Global => "https://graph.microsoft.com",
            Self::UsGovL4 => "https://graph.microsoft.us",
            Self::UsGovL5 => "https://dod-graph.microsoft.us",
        };
        root.parse().expect("a root that a test parses")
    }

    /// The root URL of the token endpoint in this cloud.
    pub fn authority(self) -> RootUrl {
        let authority = match self {
            Self::Global => "https://login.microsoftonline.com",
            Self::UsGovL4 | Self::UsGovL5 => "https://login.microsoftonline.us",
        };
        authority.parse().expect("an authority that a test parses")
    }
}

impl NextLink {
    /// Resolves the link to the next page. A relative link is relative to the root. The query is not checked, because
    /// some documented links have other parameter names than requests.
    pub(crate) fn resolve(root: &RootUrl, link: &str) -> Result<Self, LinkError> {
        if link.len() > LENGTH_MAX {
            return Err(LinkError::Length(link.len()));
        }
        if link.is_empty() {
            return Err(url::ParseError::EmptyHost.into());
        }
        let mut url = root.0.join(link)?;
        if url.origin() != root.0.origin() {
            return Err(LinkError::Foreign(known_origin(&url)));
        }
        // A URL such as `blob:https://…` has the origin of the URL within it, so the scheme must match too.
        if url.scheme() != root.0.scheme() {
            return Err(LinkError::Foreign("another scheme".to_owned()));
        }
        if has_user_info(&url) {
            return Err(LinkError::UserInfo);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

/// Returns the origin of a URL if its host is a Graph host of Microsoft, localhost or an IP address. Other hosts are
/// hidden, because their names can be any text.
pub(super) fn known_origin(url: &Url) -> String {
    let origin = url.origin().ascii_serialization();
    let is_known = match url.host() {
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Some(Host::Domain(name)) => {
            name == "localhost" || Cloud::ALL.iter().any(|c| c.graph_root().host() == name)
        }
        None => false,
    };
    if is_known {
        origin
    } else {
        "another host".to_owned()
    }
}

/// Maximum bytes of a link that is followed. Common servers reject requests of more than 8 KiB.
const LENGTH_MAX: usize = 8 << 10;

fn has_user_info(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roots_by_table() {
        for (text, expected) in [
            (
                "https://graph.microsoft.com",
                Ok("https://graph.microsoft.com"),
            ),
            (
                "https://graph.microsoft.com/",
                Ok("https://graph.microsoft.com"),
            ),
            (
                "HTTPS://Graph.Example:443/a/",
                Ok("https://graph.example/a"),
            ),
            ("http://localhost:8080", Ok("http://localhost:8080")),
            ("http://127.0.0.1:8080", Ok("http://127.0.0.1:8080")),
            ("http://127.9.9.9", Ok("http://127.9.9.9")),
            ("http://[::1]:1", Ok("http://[::1]:1")),
            ("http://graph.microsoft.com", Err("plain http")),
            ("http://localhost.evil.example", Err("plain http")),
            ("http://128.0.0.1", Err("plain http")),
            ("ftp://localhost", Err("not a URL")),
            ("file:///etc/passwd", Err("not a URL")),
            ("mailto:a@b", Err("not a URL")),
            ("https://user@graph.microsoft.com", Err("a user")),
            ("https://:pw@graph.microsoft.com", Err("a user")),
            ("https://graph.microsoft.com?", Err("a query")),
            ("https://graph.microsoft.com/#a", Err("a query")),
            ("graph.microsoft.com", Err("not a URL")),
            ("https://", Err("not a URL")),
            ("", Err("not a URL")),
        ] {
            match (text.parse::<RootUrl>(), expected) {
                (Ok(root), Ok(expected)) => assert_eq!(root.to_string(), expected),
                (Err(error), Err(start)) => {
                    assert!(error.to_string().starts_with(start), "{text}: {error}");
                }
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
    }

    #[test]
    fn clouds_have_names_roots_authorities_and_scopes() {
        let names = Cloud::ALL.map(Cloud::as_str);
        assert_eq!(names, ["global", "us-gov-l4", "us-gov-l5"]);
        for cloud in Cloud::ALL {
            assert!(
                cloud.graph_root().to_string().starts_with("https://"),
                "{}",
                cloud.as_str()
            );
            assert!(
                cloud.authority().to_string().starts_with("https://"),
                "{}",
                cloud.as_str()
            );
        }
        assert_eq!(
            Cloud::UsGovL5.graph_root().scope(),
            "https://dod-graph.microsoft.us/.default"
        );
        assert_eq!(
            Cloud::Global.authority().token_url("contoso.com").as_str(),
            "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token"
        );
    }

    #[test]
    fn reports_are_addressed_as_documented() {
        let check = |root: &str, call: &str, expected: &str| {
            let root: RootUrl = root.parse().unwrap();
            assert_eq!(root.report("beta", call).url().as_str(), expected);
        };
        check(
            "https://graph.microsoft.com",
            "f(fromDateTime=2022-11-01T00:00:00Z,toDateTime=2022-12-01T00:00:00.9999999Z)",
            "https://graph.microsoft.com/beta/communications/callRecords/f(fromDateTime=2022-11-01T00:00:00Z,toDateTime=2022-12-01T00:00:00.9999999Z)",
        );
        check(
            "http://localhost:1/proxy/",
            "f(a=?#/)",
            "http://localhost:1/proxy/beta/communications/callRecords/f(a=%3F%23%2F)",
        );
    }

    #[test]
    fn links_by_table() {
        let root: RootUrl = "https://graph.microsoft.com".parse().unwrap();
        for (link, expected) in [
            (
                "https://graph.microsoft.com/beta/x(from=1,to=2)?$skip=1000",
                Ok("https://graph.microsoft.com/beta/x(from=1,to=2)?$skip=1000"),
            ),
            (
                "HTTPS://GRAPH.microsoft.com:443/b%2Fc?a=%20#frag",
                Ok("https://graph.microsoft.com/b%2Fc?a=%20"),
            ),
            (
                "/beta/x?$skip=1",
                Ok("https://graph.microsoft.com/beta/x?$skip=1"),
            ),
            ("beta/x", Ok("https://graph.microsoft.com/beta/x")),
            (
                "http://graph.microsoft.com/beta",
                Err("http://graph.microsoft.com"),
            ),
            ("https://graph.microsoft.com:8443/", Err(":8443")),
            (
                "https://graph.microsoft.com.evil.example/",
                Err("another host"),
            ),
            (
                "https://graph.microsoft.com@evil.example/",
                Err("another host"),
            ),
            ("//evil.example/beta", Err("another host")),
            ("\\\\evil.example\\beta", Err("another host")),
            ("https:\\\\evil.example", Err("another host")),
            ("https://a:b@graph.microsoft.com/", Err("user name")),
            (
                "blob:https://graph.microsoft.com/beta",
                Err("another scheme"),
            ),
            ("javascript:alert(1)", Err("another host")),
            ("file:///etc/passwd", Err("another host")),
            ("https://", Err("not a URL")),
            ("", Err("not a URL")),
        ] {
            match (NextLink::resolve(&root, link), expected) {
                (Ok(resolved), Ok(expected)) => assert_eq!(resolved.url().as_str(), expected),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{link}: {error}");
                }
                (resolved, _) => panic!("{link}: {resolved:?}"),
            }
        }
        let of_length = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert!(NextLink::resolve(&root, &of_length(LENGTH_MAX)).is_ok());
        assert!(NextLink::resolve(&root, &of_length(LENGTH_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn a_link_never_leaves_the_origin(
            root in prop_oneof![
                Just("https://graph.microsoft.com"), Just("http://127.0.0.1:8080/graph"), Just("http://[::1]:9")
            ],
            link in prop_oneof![
                "\\PC{0,60}",
                "(https?:)?[/\\\\]{0,3}([a-z]{0,3}(:[a-z]?)?@)?(graph\\.microsoft\\.com|127\\.0\\.0\\.1|\\[::1\\]|evil)(:[0-9]{1,5})?[/\\\\?#@:.]{0,3}[a-z]{0,5}",
            ],
        ) {
            let root: RootUrl = root.parse().unwrap();
            if let Ok(NextLink(url)) = NextLink::resolve(&root, &link) {
                prop_assert_eq!(url.scheme(), root.0.scheme());
                prop_assert_eq!(url.host(), root.0.host());
                prop_assert_eq!(url.port_or_known_default(), root.0.port_or_known_default());
                prop_assert!(!has_user_info(&url));
            }
        }
    }
}
