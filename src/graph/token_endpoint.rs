//! Requests to the token endpoint of Entra or of a managed identity, and their responses.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderValue;
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::access_token::AccessToken;
use super::address::RootUrl;
use super::credential::{Credential, Proof};
use super::error_body::without_bom;
use super::foreign::Secrets;
use super::http::{
    BodyError, HttpClient, HttpOptions, content_type, header, read_body, retry_after_of,
};
use super::managed_identity::ManagedIdentityEndpoint;
use super::token_endpoint_error::{self, CredentialKind, TokenEndpointError};
use super::token_error::TokenError;

/// The application, its tenant, and the resource that the tokens are for.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// The root URL of the token endpoint; not used by a managed identity.
    pub authority: RootUrl,
    /// GUID or domain name of the tenant; not used by a managed identity.
    pub tenant_id: String,
    /// Id of the application. `None` only for a managed identity that is assigned by the system.
    pub client_id: Option<String>,
    /// The scope of the tokens, see [`RootUrl::scope`](super::address::RootUrl::scope).
    pub scope: String,
    /// The proof of the application's identity.
    pub credential: Credential,
}

/// The endpoint that issues the tokens.
#[derive(Debug)]
pub(crate) enum TokenEndpoint {
    /// Entra's token endpoint of the tenant.
    Tenant {
        http: HttpClient,
        url: Url,
        client_id: String,
        scope: String,
        credential: Arc<Credential>,
        /// Held while the credential's files are read, so that a file system that hangs blocks one thread instead of
        /// one thread per poll.
        reading: Arc<Semaphore>,
    },
    /// The endpoint of the machine's managed identity.
    ManagedIdentity {
        http: HttpClient,
        endpoint: ManagedIdentityEndpoint,
        client_id: Option<String>,
        resource: String,
    },
}

impl TokenEndpoint {
    pub(crate) fn new(http: HttpClient, options: TokenOptions) -> Result<Self, TokenError> {
        if let Credential::ManagedIdentity(endpoint) = options.credential {
            // A separate client without a proxy: a proxy cannot reach this machine's endpoint, and must not see its
            // responses.
            let http = HttpClient::new(&HttpOptions {
                connect_timeout: IDENTITY_CONNECT_TIMEOUT,
                proxies: false,
                plain_only: endpoint.is_plain(),
                ..HttpOptions::default()
            })?;
            let resource = options.scope.trim_end_matches("/.default").to_owned();
            return Ok(Self::ManagedIdentity {
                http,
                endpoint,
                client_id: options.client_id,
                resource,
            });
        }
        let is_part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        let tenant = options.tenant_id.as_str();
        if !tenant.contains(char::is_alphanumeric) || !tenant.chars().all(is_part_of_name) {
            return Err(TokenError::Options(
                "the tenant id is neither a GUID nor a domain name",
            ));
        }
        Ok(Self::Tenant {
            http,
            url: options.authority.token_url(tenant),
            client_id: options.client_id.ok_or(TokenError::Options(
                "the client id is missing; set it, because only a managed identity needs none",
            ))?,
            scope: options.scope,
            credential: Arc::new(options.credential),
            reading: Arc::new(Semaphore::new(1)),
        })
    }

    /// Returns the request, and the client's proof of identity if the request has one.
    pub(crate) async fn request(
        &self,
        now: DateTime<Utc>,
    ) -> Result<(RequestBuilder, Option<Proof>), TokenError> {
        match self {
            Self::ManagedIdentity {
                http,
                endpoint,
                client_id,
                resource,
            } => {
                let (url, name, value) = endpoint.request(resource, client_id.as_deref());
                let request = http.client.get(url);
                Ok((request.header(name, sensitive(value)?), None))
            }
            Self::Tenant {
                http,
                url,
                client_id,
                scope,
                credential,
                reading,
            } => {
                // The read of an earlier request that was dropped may still hold the permit. That read ends in a
                // limited time, so this wait ends too.
                let permit = Arc::clone(reading).acquire_owned();
                let permit = permit.await.expect("the semaphore is never closed");
                let (owned, client, audience) =
                    (Arc::clone(credential), client_id.clone(), url.clone());
                // Runs on a blocking thread, because files can be on a network file system, and signing takes a
                // millisecond.
                let proof = tokio::task::spawn_blocking(move || {
                    let _permit = permit;
                    Proof::create(&owned, &client, audience.as_str(), now)
                })
                .await
                .expect(
                    "creating a proof does not panic, and no task is polled after its runtime has ended",
                )?;
                let mut form = vec![
                    ("client_id", client_id.as_str()),
                    ("grant_type", "client_credentials"),
                    ("scope", scope.as_str()),
                ];
                form.extend(proof.fields());
                let request = http.client.post(url.clone()).form(&form);
                Ok((request, Some(proof)))
            }
        }
    }

    /// Sends a request and reads the token in the response. `secrets` are redacted if the server repeats them.
    pub(crate) async fn send(
        &self,
        request: RequestBuilder,
        secrets: &Secrets,
        now: DateTime<Utc>,
    ) -> Result<AccessToken, TokenError> {
        let asked_at = Instant::now();
        let transport =
            |source: reqwest::Error| TokenError::Transport(self.host(), source.without_url());
        let mut response = request
            .header("client-request-id", uuid::Uuid::new_v4().to_string())
            .header("accept", "application/json")
            .send()
            .await
            .map_err(transport)?;
        tracing::debug!(
            host = self.host(),
            status = response.status().as_u16(),
            request_id = header(&response, "x-ms-request-id").and_then(|id| secrets.request_id(id)),
            duration_ms = asked_at.elapsed().as_millis(),
            "asked for a token"
        );
        // The buffer has its full capacity from the start, because growing would leave copies of the token in memory.
        let mut body = Zeroizing::new(Vec::with_capacity(BODY_MAX));
        match read_body(&mut body, &mut response, BODY_MAX, |_| Ok(())).await {
            Ok(()) => {}
            Err(BodyError::Transport(error)) => return Err(transport(error)),
            Err(BodyError::TooLong | BodyError::Memory(_)) => {
                return Err(self.malformed(format!("more than {BODY_MAX} bytes")));
            }
        }
        if response.status() != StatusCode::OK {
            return Err(self.refused(&response, &body, secrets, now));
        }
        match serde_json::from_slice::<Grant>(without_bom(&body)) {
            Ok(grant) => self.token(grant, asked_at, now),
            Err(_) if token_endpoint_error::has_error(&body) => {
                Err(self.refused(&response, &body, secrets, now))
            }
            Err(error) => Err(self.no_token(&response, &error)),
        }
    }

    fn token(
        &self,
        grant: Grant,
        asked_at: Instant,
        now: DateTime<Utc>,
    ) -> Result<AccessToken, TokenError> {
        if grant
            .token_type
            .is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer"))
        {
            return Err(self.malformed("a token of another type than Bearer".to_owned()));
        }
        let lifetime = match (grant.expires_in, grant.expires_on) {
            (Some(Seconds(lifetime)), _) => lifetime,
            (None, Some(Seconds(end))) => {
                end.saturating_sub(u64::try_from(now.timestamp()).unwrap_or(0))
            }
            (None, None) => return Err(self.malformed("a token without a lifetime".to_owned())),
        };
        AccessToken::new(grant.access_token, asked_at, Duration::from_secs(lifetime))
            .ok_or_else(|| self.malformed("a token that a header cannot contain".to_owned()))
    }

    fn refused(
        &self,
        response: &Response,
        body: &[u8],
        secrets: &Secrets,
        now: DateTime<Utc>,
    ) -> TokenError {
        let kind = match self {
            Self::Tenant { credential, .. } => match **credential {
                Credential::FederatedTokenFile(_) => CredentialKind::TokenFile,
                _ => CredentialKind::Own,
            },
            Self::ManagedIdentity { .. } => CredentialKind::ManagedIdentity,
        };
        Box::new(TokenEndpointError::new(
            response.status().as_u16(),
            body,
            content_type(response),
            retry_after_of(response, now),
            secrets,
            kind,
        ))
        .into()
    }

    /// Returns the error for a response without a readable token. The error omits Serde's message, which can quote the
    /// token.
    fn no_token(&self, response: &Response, error: &serde_json::Error) -> TokenError {
        if error.is_eof() {
            return TokenError::BrokenOff(self.host());
        }
        self.malformed(if error.is_data() {
            "access_token or its lifetime is missing or unreadable".to_owned()
        } else {
            format!("not JSON (Content-Type: {})", content_type(response))
        })
    }

    fn malformed(&self, what: String) -> TokenError {
        TokenError::Malformed(self.host(), what)
    }

    /// The host, for error messages.
    pub(crate) fn host(&self) -> String {
        let url = match self {
            Self::Tenant { url, .. } => url,
            Self::ManagedIdentity { endpoint, .. } => endpoint.url(),
        };
        url.host_str().unwrap_or_default().to_owned()
    }
}

/// A response with a token. `expires_in` is the lifetime in seconds. Some managed identity endpoints send only
/// `expires_on`, a Unix time.
#[derive(Deserialize)]
struct Grant {
    access_token: SecretString,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
    expires_on: Option<Seconds>,
}

/// A number of seconds, which managed identity endpoints write in quotes.
struct Seconds(u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let seconds = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let seconds = seconds.ok_or_else(|| serde::de::Error::custom("not a number of seconds"));
        seconds.map(Self)
    }
}

fn sensitive(secret: &SecretString) -> Result<HeaderValue, TokenError> {
    let mut value = HeaderValue::from_str(secret.expose_secret())
        .map_err(|_| TokenError::Options("IDENTITY_HEADER has invalid characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Maximum bytes of a response. A token has a few KiB, and a response of ten times that size does not contain a token.
const BODY_MAX: usize = 64 << 10;

/// Time limit for a connection to the endpoint of a managed identity. It is short, because the endpoint is one hop
/// away, and because its address does not answer on a machine without a managed identity.
const IDENTITY_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
