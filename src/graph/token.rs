//! Access token cache. A token is requested once, kept until shortly before it expires, and renewed by one caller at a
//! time.
//!
//! OAuth 2.0 client credentials, <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
//! This module does not verify tokens: they are meant for Graph, not for the client.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, Utc};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::address::AuthorityUrl;
use super::credential::{Credential, CredentialError, Proof};
use super::foreign::Secrets;
use super::http::{HttpClient, HttpError, classify, connect_remedy};
use super::managed_identity::IMDS_HOST;
use super::retry::{FailureKind, RetryPolicy, Verdict};
use super::throttle::{Held, Throttle};
use super::token_endpoint::TokenEndpoint;
use super::token_endpoint_error::TokenEndpointError;
use super::{Chain, FailureReason, errors, log_seconds, token_endpoint_error};

/// The token cache of one application in one tenant.
pub struct TokenCache {
    endpoint: TokenEndpoint,
    retry: RetryPolicy,
    throttle: Throttle,
    now: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    state: Mutex<State>,
    secrets: Secrets,
    /// Held by the one caller that requests a new token.
    renewal: tokio::sync::Mutex<()>,
}

/// The application, its tenant, and the resource that the tokens are for.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// The token endpoint; not used by a managed identity.
    pub authority: AuthorityUrl,
    /// GUID or domain name of the tenant; not used by a managed identity.
    pub tenant_id: String,
    /// Id of the application. `None` only for a managed identity that is assigned by the system.
    pub client_id: Option<String>,
    /// [`GraphRoot::scope`](super::address::GraphRoot::scope).
    pub scope: String,
    /// The proof of the application's identity.
    pub credential: Credential,
}

/// A bearer token. It is never printed, and wiped when dropped. Copies in buffers of the HTTP client cannot be wiped.
pub struct AccessToken {
    secret: SecretString,
    renew_at: Instant,
    expires_at: Instant,
}

/// Errors of a token request. No message contains a secret, an assertion, a token or the request.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The options are not sufficient for a request.
    #[error("{0}")]
    Options(&'static str),
    /// No client for the managed identity's endpoint.
    #[error("cannot set up the client for the managed identity")]
    Client(#[from] HttpError),
    /// The credential cannot be read or used.
    #[error("cannot use the credential")]
    Credential(#[from] CredentialError),
    /// No complete response.
    #[error("no complete response from {host}")]
    Transport {
        /// Host of the token endpoint.
        host: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The deadline passed.
    #[error("no answer from {host} within the time of the poll")]
    Timeout {
        /// Host of the token endpoint.
        host: String,
    },
    /// The endpoint throttles the application for longer than the poll can wait.
    #[error("{host} throttles the application")]
    Throttled {
        /// Host of the token endpoint.
        host: String,
        /// The remaining wait.
        source: Held,
    },
    /// The endpoint answered with an error.
    #[error(transparent)]
    Refused(#[from] Box<TokenEndpointError>),
    /// The response is neither a token nor an error.
    #[error("{host} sent a response without a valid token: {what}")]
    Malformed {
        /// Host of the token endpoint.
        host: String,
        /// The fault of the response.
        what: String,
    },
}

impl TokenCache {
    /// Returns an empty cache. `now` is the wall clock, for assertions and for responses with a time.
    ///
    /// # Errors
    /// If the tenant id cannot be part of a URL, if the client id is missing, or if a managed identity's endpoint is https
    /// on a machine without CA certificates.
    pub fn new(
        http: HttpClient,
        options: TokenOptions,
        retry: RetryPolicy,
        now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Result<Self, TokenError> {
        let mut fixed = http.proxy_secrets().to_vec();
        let endpoint = TokenEndpoint::new(http, options)?;
        fixed.extend(endpoint.secret().cloned());
        let secrets = Secrets::new(fixed);
        Ok(Self {
            endpoint,
            secrets,
            retry,
            throttle: Throttle::default(),
            now: Box::new(now),
            state: Mutex::new(State::default()),
            renewal: tokio::sync::Mutex::new(()),
        })
    }

    /// Returns a valid token, from the cache or a new one.
    /// A token is renewed some minutes before it expires. If that fails while it is still valid, the failure is logged as a
    /// warning and the old token stays in use. If several callers need a new token, one requests it and the others wait.
    pub async fn token(&self, deadline: Instant) -> Result<Arc<AccessToken>, TokenError> {
        if let Some(token) = self.cached(|state| state.renew_at) {
            return Ok(token);
        }
        let usable = State::expires_at;
        let renewal = match self.renewal.try_lock() {
            Ok(renewal) => renewal,
            Err(_) => match self.cached(usable) {
                Some(token) => return Ok(token),
                None => tokio::time::timeout_at(deadline, self.renewal.lock())
                    .await
                    .map_err(|_| self.endpoint.timeout())?,
            },
        };
        if let Some(token) = self.cached(|state| state.renew_at) {
            return Ok(token);
        }
        if let Some(old) = self.cached(usable) {
            match self.renew_early(deadline.min(old.expires_at)).await {
                Ok(token) => return Ok(token),
                Err(error) if Instant::now() < old.expires_at => {
                    self.defer_renewal(&old, &error);
                    return Ok(old);
                }
                // The old token expired during the request for a new one.
                Err(_) => {}
            }
        }
        let renewed = self.renew(deadline, self.retry).await;
        drop(renewal);
        renewed
    }

    /// Drops a token that Graph rejected, unless it was replaced in the meantime.
    pub fn invalidate(&self, token: &AccessToken) {
        let mut state = self.lock();
        if state
            .token
            .as_deref()
            .is_some_and(|t| std::ptr::eq(t, token))
        {
            state.token = None;
        }
    }

    /// Drops the token, so that the next one has the permissions that an administrator granted in the meantime.
    pub fn clear(&self) {
        self.lock().token = None;
    }

    /// The remaining lifetime of the cached token; `None` if there is none.
    pub fn expires_in(&self) -> Option<Duration> {
        let expires_at = self.lock().expires_at()?;
        expires_at.checked_duration_since(Instant::now())
    }

    /// The expiry of the certificate that was used last, UTC; `None` before its first use and for other credentials.
    pub fn credential_expiry(&self) -> Option<DateTime<Utc>> {
        self.lock().credential_expiry
    }

    /// The tokens and the credentials of their requests, which are redacted in texts of a server.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.now)()
    }

    /// The cached token, if the time that `until` returns has not passed.
    fn cached(&self, until: impl Fn(&State) -> Option<Instant>) -> Option<Arc<AccessToken>> {
        let state = self.lock();
        let token = state.token.as_ref()?;
        (Instant::now() < until(&state)?).then(|| Arc::clone(token))
    }

    /// Sends one request with a short time-out, because the old token is still valid.
    async fn renew_early(&self, deadline: Instant) -> Result<Arc<AccessToken>, TokenError> {
        let once = RetryPolicy {
            attempts: 1,
            ..self.retry
        };
        let patience = Instant::now() + RENEWAL_PATIENCE;
        self.renew(deadline.min(patience), once).await
    }

    /// Keeps the old token in use and schedules the next renewal.
    fn defer_renewal(&self, old: &AccessToken, error: &TokenError) {
        let now = Instant::now();
        tracing::warn!(
            error = %Chain(error),
            remedy = error.remedy(),
            valid_seconds = (old.expires_at - now).as_secs(),
            "cannot renew the token; the old one stays in use"
        );
        self.lock().renew_at = Some(old.expires_at.min(now + RENEWAL_PAUSE));
    }

    async fn renew(
        &self,
        deadline: Instant,
        retry: RetryPolicy,
    ) -> Result<Arc<AccessToken>, TokenError> {
        let patience = deadline.min(Instant::now() + IDENTITY_RETRY_TIME);
        let mut attempt = 0;
        loop {
            let pass = self.throttle.enter(deadline).await;
            let pass = pass.map_err(|held| self.endpoint.throttled(held))?;
            let asked = tokio::time::timeout_at(deadline, self.ask()).await;
            let error = match asked.map_err(|_| self.endpoint.timeout())? {
                Ok(token) => {
                    pass.answered();
                    let token = Arc::new(token);
                    let mut state = self.lock();
                    state.renew_at = Some(token.renew_at);
                    state.token = Some(Arc::clone(&token));
                    return Ok(token);
                }
                Err(error) => error,
            };
            let Some((kind, retry_after)) = error.failure_kind() else {
                return Err(error);
            };
            let (policy, until) = if error.is_identity_not_ready() {
                (retry.by_time(), patience)
            } else {
                (retry, deadline)
            };
            match pass.failed(&policy, &mut attempt, kind, retry_after, until) {
                Verdict::GiveUp => return Err(error),
                Verdict::Retry { after } => {
                    tracing::debug!(error = %Chain(&error), after_seconds = log_seconds(after), "retrying the token request");
                    tokio::time::sleep(after).await;
                }
            }
        }
    }

    async fn ask(&self) -> Result<AccessToken, TokenError> {
        let now = self.now();
        let (request, proof) = self.endpoint.request(now).await?;
        if let Some(Proof::Assertion(_, Some(not_after))) = proof {
            self.lock().credential_expiry = Some(not_after);
        }
        proof.inspect(|proof| self.secrets.add(proof.secret()));
        let token = self.endpoint.send(request, &self.secrets, now).await?;
        self.secrets.add(&token.secret);
        Ok(token)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so the state is consistent after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl AccessToken {
    /// The application permissions in the token. They are not verified, so they are only a hint for people.
    ///
    /// `None` if the token cannot be read: Microsoft reserves the right to change its format.
    pub fn roles(&self) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct Claims {
            #[serde(default)]
            roles: Vec<String>,
        }
        let payload = self.expose().split('.').nth(1)?;
        let payload = Zeroizing::new(BASE64URL.decode(payload).ok()?);
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        Some(claims.roles)
    }

    /// Returns a token that is valid for `lifetime` from the time of the request. `None` if it does not fit into a header.
    pub(crate) fn new(secret: SecretString, asked_at: Instant, lifetime: Duration) -> Option<Self> {
        let text = secret.expose_secret();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let lifetime = lifetime.min(LIFETIME_MAX);
        let unhurried = lifetime.saturating_sub(RENEWAL_LEAD);
        Some(Self {
            secret,
            renew_at: asked_at + unhurried.max(lifetime / 2),
            expires_at: asked_at + lifetime,
        })
    }

    pub(crate) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The value of `Authorization`, marked as sensitive.
    pub(crate) fn authorization(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", self.expose()));
        let mut value = HeaderValue::from_str(&text).expect("a token was checked when it came");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken([redacted])")
    }
}

impl TokenError {
    /// The kind of failure, as metrics label it.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Options(_) | Self::Credential(_) => FailureReason::Auth,
            Self::Client(_) => FailureReason::Connect,
            Self::Transport { source, .. } => FailureReason::of(classify(source)),
            Self::Timeout { .. } => FailureReason::Timeout,
            Self::Throttled { source, .. } => errors::reason(source.status),
            Self::Refused(refusal) => refusal.reason(),
            Self::Malformed { .. } => FailureReason::Malformed,
        }
    }

    /// The remedy for the administrator, if one is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => refusal.remedy(),
            Self::Throttled { .. } => Some(token_endpoint_error::THROTTLED),
            Self::Transport { host, .. } if host == IMDS_HOST => Some(
                "no managed identity is available here: this machine is not in Azure, or a firewall blocks 169.254.169.254",
            ),
            Self::Transport { source, .. } => connect_remedy(source),
            _ => None,
        }
    }

    /// Returns true for an error of a managed identity's endpoint that is not ready yet.
    fn is_identity_not_ready(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_identity_not_ready())
    }

    fn failure_kind(&self) -> Option<(FailureKind, Option<Duration>)> {
        match self {
            Self::Transport { source, .. } => Some((classify(source), None)),
            Self::Refused(refusal) => Some((refusal.failure_kind(), refusal.retry_after)),
            _ => None,
        }
    }
}

#[derive(Default)]
struct State {
    token: Option<Arc<AccessToken>>,
    /// Time of the next renewal; later than the token's own if a renewal failed.
    renew_at: Option<Instant>,
    credential_expiry: Option<DateTime<Utc>>,
}

impl State {
    fn expires_at(&self) -> Option<Instant> {
        self.token.as_ref().map(|token| token.expires_at)
    }
}

/// A token is renewed five minutes before it expires, like in Microsoft's own libraries. If that is more than half of its
/// lifetime, it is renewed after half of its lifetime.
const RENEWAL_LEAD: Duration = Duration::from_mins(5);

/// The longest wait of a poll for a new token while the old one is still valid.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(15);

/// According to Microsoft, an update of a managed identity's endpoint takes up to 70 s. The last attempt comes at most one
/// delay of ten seconds before the end of this time.
const IDENTITY_RETRY_TIME: Duration = Duration::from_secs(80);

/// The time between two attempts to renew a token that is still valid, so that not every page of a report waits.
const RENEWAL_PAUSE: Duration = Duration::from_mins(1);

/// Microsoft's longest lifetime is about a day. A longer one is a mistake, and could overflow a time.
const LIFETIME_MAX: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests;
