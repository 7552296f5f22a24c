//! The endpoint from which a machine in Azure gets tokens for its managed identity.

use std::net::Ipv4Addr;

use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

/// The endpoint of virtual machines or of App Service, as Microsoft documents them:
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token> and
/// <https://learn.microsoft.com/azure/app-service/overview-managed-identity>.
#[derive(Clone, Debug)]
pub struct ManagedIdentityEndpoint {
    url: Url,
    api_version: &'static str,
    header: (&'static str, SecretString),
}

/// Reasons why the endpoint in the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// `IDENTITY_ENDPOINT` is not a URL.
    #[error("IDENTITY_ENDPOINT is not a URL")]
    NotUrl(#[from] url::ParseError),
    /// `IDENTITY_ENDPOINT` is a URL with which the exporter would send `IDENTITY_HEADER` over a network without
    /// encryption.
    #[error(
        "IDENTITY_ENDPOINT is neither https nor plain http to a loopback or link-local address; unset it, or correct it to the one that Azure gives this machine"
    )]
    Plain,
    /// `IDENTITY_ENDPOINT` is set, but `IDENTITY_HEADER` is not.
    #[error("IDENTITY_ENDPOINT is set but IDENTITY_HEADER is not; set both or neither")]
    NoHeader,
}

impl PartialEq for ManagedIdentityEndpoint {
    fn eq(&self, other: &Self) -> bool {
        let (name, value) = &self.header;
        (&self.url, self.api_version, *name) == (&other.url, other.api_version, other.header.0)
            && value.expose_secret() == other.header.1.expose_secret()
    }
}

impl ManagedIdentityEndpoint {
    /// Returns the endpoint that `IDENTITY_ENDPOINT` and `IDENTITY_HEADER` name. App Service and Container Apps set
    /// these variables. If they are not set, returns the endpoint of virtual machines.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, EndpointError> {
        let Some(endpoint) = variable("IDENTITY_ENDPOINT") else {
            return Ok(Self::virtual_machine(
                Url::parse(IMDS).expect("a URL that a test parses"),
            ));
        };
        let secret = variable("IDENTITY_HEADER").ok_or(EndpointError::NoHeader)?;
        let url = Url::parse(&endpoint)?;
        // The request's header and the token in the response must not cross a network unencrypted.
        let plain_is_safe =
            url.scheme() == "http" && url.host().as_ref().is_some_and(is_on_this_machine);
        if url.scheme() != "https" && !plain_is_safe {
            return Err(EndpointError::Plain);
        }
        Ok(Self {
            url,
            api_version: "2019-08-01",
            header: ("x-identity-header", secret.into()),
        })
    }

    /// Returns an endpoint at `url` that uses the protocol of virtual machines. Tests call this with another address
    /// than Azure's.
    pub fn virtual_machine(url: Url) -> Self {
        Self {
            url,
            api_version: "2018-02-01",
            header: ("metadata", "true".to_owned().into()),
        }
    }

    /// Returns true if the URL is plain http, as the URLs of Azure's endpoints are.
    pub(crate) fn is_plain(&self) -> bool {
        self.url.scheme() == "http"
    }

    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The value of the header. `None` for virtual machines, because their header is not a secret.
    pub(crate) fn secret(&self) -> Option<&SecretString> {
        let (name, value) = &self.header;
        (*name != "metadata").then_some(value)
    }

    /// Returns the URL, header name and header value of a token request. `resource` is a scope without `/.default`.
    pub(crate) fn request(
        &self,
        resource: &str,
        client_id: Option<&str>,
    ) -> (Url, &'static str, &SecretString) {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("api-version", self.api_version)
            .append_pair("resource", resource)
            .extend_pairs(client_id.map(|id| ("client_id", id)));
        (url, self.header.0, &self.header.1)
    }
}

/// Returns true if a host has a loopback or link-local address, as Azure's managed identity endpoints have.
fn is_on_this_machine(host: &Host<&str>) -> bool {
    let v4 = |address: Ipv4Addr| address.is_loopback() || address.is_link_local();
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => v4(*address),
        Host::Ipv6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(v4)
        }
    }
}

/// The link-local address of the endpoint on every virtual machine in Azure.
pub(crate) const IMDS_HOST: &str = "169.254.169.254";
const IMDS: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_identity_endpoints_by_table() {
        let check = |endpoint: Option<&str>, header: Option<&str>, expected: &str| {
            let variable = |name: &str| match name {
                "IDENTITY_ENDPOINT" => endpoint.map(str::to_owned),
                "IDENTITY_HEADER" => header.map(str::to_owned),
                _ => None,
            };
            let text = match ManagedIdentityEndpoint::from_environment(variable) {
                Ok(endpoint) => {
                    let (url, name, value) = endpoint.request("https://g", Some("id"));
                    format!("{url} {name}: {}", value.expose_secret())
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(text, expected);
        };
        check(
            None,
            None,
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fg&client_id=id metadata: true",
        );
        check(
            Some("http://127.0.0.1:41/msi/token?a=b"),
            Some("h"),
            "http://127.0.0.1:41/msi/token?a=b&api-version=2019-08-01&resource=https%3A%2F%2Fg&client_id=id x-identity-header: h",
        );
        check(
            Some("http://127.0.0.1:41/"),
            None,
            "IDENTITY_ENDPOINT is set but IDENTITY_HEADER is not; set both or neither",
        );
        check(Some("?"), Some("h"), "IDENTITY_ENDPOINT is not a URL");
        for (endpoint, accepted) in [
            ("http://localhost:42356/msi/token", true),
            ("http://LOCALHOST/msi/token", true),
            ("http://127.8.9.10/msi/token", true),
            ("http://[::1]:81/msi/token", true),
            ("http://169.254.129.2:8081/msi/token", true),
            ("http://[fe80::1]/msi/token", true),
            ("http://[::ffff:127.0.0.1]/msi/token", true),
            ("https://identity.example/msi/token", true),
            ("http://192.0.2.1:8081/msi/token", false),
            ("http://10.0.0.1/msi/token", false),
            ("http://0.0.0.0/msi/token", false),
            ("http://[2001:db8::1]/msi/token", false),
            ("http://[fd00::1]/msi/token", false),
            ("http://[::ffff:192.0.2.1]/msi/token", false),
            ("http://identity.example/msi/token", false),
            ("http://localhost.example/msi/token", false),
            ("ftp://127.0.0.1/msi/token", false),
            ("file:///msi/token", false),
        ] {
            let variable = |name: &str| match name {
                "IDENTITY_ENDPOINT" => Some(endpoint.to_owned()),
                _ => Some("h".to_owned()),
            };
            let parsed = ManagedIdentityEndpoint::from_environment(variable);
            assert_eq!(parsed.is_ok(), accepted, "{endpoint}");
            if let Err(error) = parsed {
                assert!(matches!(error, EndpointError::Plain), "{error}");
            }
        }
        for (url, plain) in [("http://127.0.0.1", true), ("https://localhost", false)] {
            let endpoint = ManagedIdentityEndpoint::virtual_machine(url.parse().unwrap());
            assert_eq!(endpoint.is_plain(), plain, "{url}");
        }
    }
}
