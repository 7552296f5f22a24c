//! Access token cache. A token is requested once, kept until shortly before it expires, and renewed by one caller at a
//! time.
//!
//! OAuth 2.0 client credentials,
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>. This module does not verify
//! tokens, because they are meant for Graph and not for the client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::credential::{Credential, Proof};
use super::foreign::Secrets;
use super::http::HttpClient;
use super::log_seconds;
use super::retry::RetryPolicy;
use super::throttle::Throttle;
use super::token_endpoint::TokenEndpoint;
use crate::chain::Chain;

pub use super::access_token::AccessToken;
pub use super::token_endpoint::TokenOptions;
pub use super::token_error::TokenError;

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

impl TokenCache {
    /// Returns an empty cache. `now` reads the wall clock, for the times in assertions and in responses.
    ///
    /// # Errors
    /// If the tenant id is neither a GUID nor a domain name, or if the client id is missing. Also if the endpoint of a
    /// managed identity uses https and the machine has no CA certificates.
    pub fn new(
        http: HttpClient,
        options: TokenOptions,
        retry: RetryPolicy,
        now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Result<Self, TokenError> {
        let mut fixed = http.proxy_secrets.clone();
        if let Credential::ManagedIdentity(endpoint) = &options.credential {
            fixed.extend(endpoint.secret().cloned());
        }
        Ok(Self {
            endpoint: TokenEndpoint::new(http, options)?,
            secrets: Secrets::new(fixed),
            retry,
            throttle: Throttle::default(),
            now: Box::new(now),
            state: Mutex::new(State::default()),
            renewal: tokio::sync::Mutex::new(()),
        })
    }

    /// Returns a valid token: the cached one or a new one. A token is renewed some minutes before it expires. If the
    /// renewal fails while the old token is still valid, the failure is logged as a warning and the old token stays in
    /// use. If several callers need a new token, one caller requests it and the others wait.
    pub async fn token(&self, deadline: Instant) -> Result<Arc<AccessToken>, TokenError> {
        if let Some(token) = self.cached(|state| state.renew_at) {
            return Ok(token);
        }
        let usable = State::expires_at;
        let _renewal = match self.renewal.try_lock() {
            Ok(renewal) => renewal,
            Err(_) => match self.cached(usable) {
                Some(token) => return Ok(token),
                None => tokio::time::timeout_at(deadline, self.renewal.lock())
                    .await
                    .map_err(|_| TokenError::Timeout(self.endpoint.host()))?,
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
        self.renew(deadline, self.retry).await
    }

    /// Drops a token that Graph rejected, unless it was replaced in the meantime.
    pub fn invalidate(&self, token: &AccessToken) {
        let is_rejected = |known: &mut Arc<AccessToken>| std::ptr::eq(known.as_ref(), token);
        self.state.lock().token.take_if(is_rejected);
    }

    /// Drops the token, so that the next one has the permissions that an administrator granted in the meantime.
    pub fn clear(&self) {
        self.state.lock().token = None;
    }

    /// The remaining lifetime of the cached token; `None` if there is none.
    pub fn expires_in(&self) -> Option<Duration> {
        let expires_at = self.state.lock().expires_at()?;
        expires_at.checked_duration_since(Instant::now())
    }

    /// The expiry (UTC) of the certificate that was used last. `None` if no certificate was used yet, or if the
    /// credential is not a certificate.
    pub fn credential_expiry(&self) -> Option<DateTime<Utc>> {
        self.state.lock().credential_expiry
    }

    /// The secrets to redact in text that a server sends: tokens, and the credentials of token requests.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.now)()
    }

    /// Returns the cached token, or `None` if the time that `until` returns has come.
    fn cached(&self, until: impl Fn(&State) -> Option<Instant>) -> Option<Arc<AccessToken>> {
        let state = self.state.lock();
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
        self.state.lock().renew_at = Some(old.expires_at.min(now + RENEWAL_PAUSE));
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
            let pass = pass.map_err(|held| TokenError::Throttled(self.endpoint.host(), held))?;
            let asked = tokio::time::timeout_at(deadline, self.ask()).await;
            let error = match asked.map_err(|_| TokenError::Timeout(self.endpoint.host()))? {
                Ok(token) => {
                    pass.answered();
                    let token = Arc::new(token);
                    let mut state = self.state.lock();
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
            } else if matches!(error, TokenError::BrokenOff(_)) {
                (retry.for_incomplete(), deadline)
            } else {
                (retry, deadline)
            };
            let Some(after) = pass.failed(&policy, &mut attempt, kind, retry_after, until) else {
                return Err(error);
            };
            tracing::debug!(error = %Chain(&error), after_seconds = log_seconds(after), "retrying the token request");
            tokio::time::sleep(after).await;
        }
    }

    async fn ask(&self) -> Result<AccessToken, TokenError> {
        let now = self.now();
        let (request, proof) = self.endpoint.request(now).await?;
        if let Some(Proof::Assertion(_, Some(not_after))) = proof {
            self.state.lock().credential_expiry = Some(not_after);
        }
        proof.inspect(|proof| self.secrets.add(proof.secret()));
        let token = self.endpoint.send(request, &self.secrets, now).await?;
        self.secrets.add(&token.secret);
        Ok(token)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    token: Option<Arc<AccessToken>>,
    /// Time of the next renewal. After a failed renewal, this is later than `renew_at` of the token.
    renew_at: Option<Instant>,
    credential_expiry: Option<DateTime<Utc>>,
}

impl State {
    fn expires_at(&self) -> Option<Instant> {
        self.token.as_ref().map(|token| token.expires_at)
    }
}

/// The longest wait of a poll for a new token while the old one is still valid.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(15);

/// Time for which requests are retried if the endpoint of a managed identity is not ready. According to Microsoft, an
/// update of the endpoint takes up to 70 s. Ten seconds are added, because two attempts can be ten seconds apart. So
/// the last attempt comes after the update.
const IDENTITY_RETRY_TIME: Duration = Duration::from_secs(80);

/// The time between two attempts to renew a token that is still valid. Without it, every page of a report would wait
/// for an attempt.
const RENEWAL_PAUSE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
