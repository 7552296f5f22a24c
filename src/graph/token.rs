//! Access tokens: asked for once, kept until they are about to expire, and renewed by one caller at a time.
//!
//! OAuth 2.0 client credentials, <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.
//! What this module does not do: verify a token, which is meant for Graph and not for us.

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
use super::http::{HttpClient, HttpError, trouble};
use super::issuer::Issuer;
use super::refusal::Refusal;
use super::retry::{RetryPolicy, Trouble, Verdict};
use super::{Chain, FailureReason};

/// The tokens of one application in one tenant.
pub struct TokenCache {
    issuer: Issuer,
    retry: RetryPolicy,
    now: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    state: Mutex<State>,
    /// Held by the one caller that asks for a new token.
    renewal: tokio::sync::Mutex<()>,
}

/// Whose tokens, and for what.
#[derive(Clone, Debug)]
pub struct TokenOptions {
    /// Who issues them; not used by a managed identity.
    pub authority: AuthorityUrl,
    /// GUID or domain name of the tenant; not used by a managed identity.
    pub tenant_id: String,
    /// Id of the application. `None` only for the identity that Azure assigned to the machine itself.
    pub client_id: Option<String>,
    /// [`GraphRoot::scope`](super::address::GraphRoot::scope).
    pub scope: String,
    /// What to prove the identity with.
    pub credential: Credential,
}

/// A bearer token: not printed, and wiped when dropped.
pub struct AccessToken {
    secret: SecretString,
    renew_at: Instant,
    expires_at: Instant,
}

/// Why there is no token. No message holds a secret, an assertion, a token or the request.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The options do not make a request.
    #[error("{0}")]
    Options(&'static str),
    /// No client for the managed identity's endpoint.
    #[error("cannot reach for the managed identity")]
    Client(#[from] HttpError),
    /// The credential cannot be read or used.
    #[error("cannot use the credential")]
    Credential(#[from] CredentialError),
    /// The answer did not come, or not whole.
    #[error("no whole answer from {host}")]
    Transport {
        /// Host of the token endpoint.
        host: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The deadline passed.
    #[error("no answer from {host} within the time of the poll")]
    Timeout {
        /// Host of the token endpoint.
        host: String,
    },
    /// The endpoint said no.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// The endpoint said something else.
    #[error("{host} answered with what is not a token: {what}")]
    Malformed {
        /// Host of the token endpoint.
        host: String,
        /// What is wrong with the answer.
        what: String,
    },
}

impl TokenCache {
    /// An empty cache. `now` is the wall clock, for the times in assertions and for answers that name one.
    ///
    /// # Errors
    /// Where the tenant id cannot be part of a URL, the client id is missing, or a managed identity's endpoint is https
    /// on a machine without CA certificates.
    pub fn new(
        http: HttpClient,
        options: TokenOptions,
        retry: RetryPolicy,
        now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Result<Self, TokenError> {
        Ok(Self {
            issuer: Issuer::new(http, options)?,
            retry,
            now: Box::new(now),
            state: Mutex::new(State::default()),
            renewal: tokio::sync::Mutex::new(()),
        })
    }

    /// A token that is valid now: the one at hand, or a new one.
    ///
    /// A token is renewed some minutes before it expires. Where that fails while it is still valid, the failure is
    /// logged as a warning and the old token serves on. Of several callers one asks, the others wait for it.
    pub async fn token(&self, deadline: Instant) -> Result<Arc<AccessToken>, TokenError> {
        if let Some(token) = self.at_hand(|state| state.renew_at) {
            return Ok(token);
        }
        let usable = State::expires_at;
        let renewal = match self.renewal.try_lock() {
            Ok(renewal) => renewal,
            Err(_) => match self.at_hand(usable) {
                Some(token) => return Ok(token),
                None => tokio::time::timeout_at(deadline, self.renewal.lock())
                    .await
                    .map_err(|_| self.issuer.timeout())?,
            },
        };
        if let Some(token) = self.at_hand(|state| state.renew_at) {
            return Ok(token);
        }
        let Some(old) = self.at_hand(usable) else {
            return self.renew(deadline, self.retry).await;
        };
        let patience = deadline.min(Instant::now() + RENEWAL_PATIENCE);
        let once = RetryPolicy {
            attempts: 1,
            ..self.retry
        };
        let renewed = self.renew(patience, once).await;
        drop(renewal);
        renewed.or_else(|error| {
            let left = old.expires_at.saturating_duration_since(Instant::now());
            tracing::warn!(
                error = %Chain(&error),
                remedy = error.remedy(),
                valid_seconds = left.as_secs(),
                "cannot renew the token, the old one serves on"
            );
            self.lock().renew_at = Some(Instant::now() + RENEWAL_PAUSE);
            Ok(old)
        })
    }

    /// Drops the token, which was refused, unless it has been replaced meanwhile.
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

    /// For how long the token at hand is valid; `None` where there is none.
    pub fn expires_in(&self) -> Option<Duration> {
        let expires_at = self.lock().expires_at()?;
        expires_at.checked_duration_since(Instant::now())
    }

    /// When the certificate that was last used ends, UTC; `None` before its first use and for other credentials.
    pub fn credential_expiry(&self) -> Option<DateTime<Utc>> {
        self.lock().credential_expiry
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.now)()
    }

    /// The token at hand, where the time that `until` names has not come.
    fn at_hand(&self, until: impl Fn(&State) -> Option<Instant>) -> Option<Arc<AccessToken>> {
        let state = self.lock();
        let token = state.token.as_ref()?;
        (Instant::now() < until(&state)?).then(|| Arc::clone(token))
    }

    async fn renew(
        &self,
        deadline: Instant,
        retry: RetryPolicy,
    ) -> Result<Arc<AccessToken>, TokenError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let asked = tokio::time::timeout_at(deadline, self.ask()).await;
            let error = match asked.map_err(|_| self.issuer.timeout())? {
                Ok(token) => {
                    let token = Arc::new(token);
                    let mut state = self.lock();
                    state.renew_at = Some(token.renew_at);
                    state.token = Some(Arc::clone(&token));
                    return Ok(token);
                }
                Err(error) => error,
            };
            let Some((trouble, retry_after)) = error.trouble() else {
                return Err(error);
            };
            let remaining = deadline.saturating_duration_since(Instant::now());
            let random = fastrand::f64();
            match retry.verdict(attempt, trouble, retry_after, remaining, random) {
                Verdict::GiveUp => return Err(error),
                Verdict::Retry { after } => {
                    tracing::debug!(error = %Chain(&error), ?after, "asking for a token again");
                    tokio::time::sleep(after).await;
                }
            }
        }
    }

    async fn ask(&self) -> Result<AccessToken, TokenError> {
        let now = self.now();
        let (request, proof) = self.issuer.request(now).await?;
        if let Some(Proof::Assertion(_, Some(not_after))) = proof {
            self.lock().credential_expiry = Some(not_after);
        }
        let secret = proof.as_ref().map_or("", |p| p.secret().expose_secret());
        self.issuer.send(request, secret, now).await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl AccessToken {
    /// The application permissions that the token grants, by its own unverified word: a hint for people, no more.
    ///
    /// `None` where the token cannot be read, to which Microsoft reserves the right.
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

    /// A token that is valid for `lifetime` from when it was asked for. `None` where it does not fit into a header.
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
            Self::Transport { source, .. } => FailureReason::of(trouble(source)),
            Self::Timeout { .. } => FailureReason::Timeout,
            Self::Refused(refusal) => refusal.reason(),
            Self::Malformed { .. } => FailureReason::Malformed,
        }
    }

    /// What the admin must do, where that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => refusal.remedy(),
            _ => None,
        }
    }

    fn trouble(&self) -> Option<(Trouble, Option<Duration>)> {
        match self {
            Self::Transport { source, .. } => Some((trouble(source), None)),
            Self::Refused(refusal) => Some((refusal.trouble(), refusal.retry_after)),
            _ => None,
        }
    }
}

#[derive(Default)]
struct State {
    token: Option<Arc<AccessToken>>,
    /// When to ask for the next one; later than the token says where asking failed.
    renew_at: Option<Instant>,
    credential_expiry: Option<DateTime<Utc>>,
}

impl State {
    fn expires_at(&self) -> Option<Instant> {
        self.token.as_ref().map(|token| token.expires_at)
    }
}

/// How long before its end a token is renewed, as Microsoft's own libraries do. Where that is over half its lifetime,
/// half the lifetime counts.
const RENEWAL_LEAD: Duration = Duration::from_secs(5 * 60);

/// The longest that a poll waits for a new token while the old one would do.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(15);

/// The time between two attempts to renew a token that is still valid, so that not every page of a report waits.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// Microsoft's longest lifetime is about a day; more is a mistake, and could not be added to a time.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::super::credential::{ManagedIdentityEndpoint, SecretSource};
    use super::super::http::HttpOptions;
    use super::super::testing::{Received, Reply, Server};
    use super::*;

    const SECRET: &str = "s3cret-of-a-known-value";

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_again_before_it_ends() {
        let server = Server::start(|number, _| Reply::token(&format!("t{number}"), 3599)).await;
        let cache = cache(&server, secret());
        assert_eq!(cache.expires_in(), None);
        for _ in 0..3 {
            assert_eq!(token(&cache).await.expose(), "t0");
        }
        assert!(
            cache
                .expires_in()
                .is_some_and(|left| left.as_secs() >= 3590)
        );
        later(3290).await;
        assert_eq!(token(&cache).await.expose(), "t0");
        later(10).await;
        assert_eq!(token(&cache).await.expose(), "t1");
        let received = server.received();
        assert_eq!(received.len(), 2);
        let request = &received[0];
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/contoso.com/oauth2/v2.0/token")
        );
        for (field, value) in [
            ("grant_type", "client_credentials"),
            ("client_id", "client"),
            ("client_secret", SECRET),
            ("scope", "https://graph.microsoft.com/.default"),
        ] {
            assert_eq!(request.field(field).as_deref(), Some(value));
        }
    }

    #[tokio::test]
    async fn lifetimes_by_table() {
        let now = Instant::now();
        for (lifetime, renewed) in [
            (3600, 3300),
            (600, 300),
            (599, 299),
            (60, 30),
            (0, 0),
            (86_400, 86_100),
            (u64::MAX, 86_100),
        ] {
            let token = AccessToken::new("t".into(), now, Duration::from_secs(lifetime)).unwrap();
            assert_eq!((token.renew_at - now).as_secs(), renewed);
        }
        for bad in ["", "a b", "a\r\nb", "ä"] {
            assert!(AccessToken::new(bad.into(), now, Duration::ZERO).is_none());
        }
    }

    #[tokio::test]
    async fn a_token_without_lifetime_serves_one_request() {
        let server = Server::start(|number, _| Reply::token(&format!("t{number}"), 0)).await;
        let cache = cache(&server, secret());
        assert_eq!(token(&cache).await.expose(), "t0");
        assert_eq!(token(&cache).await.expose(), "t1");
        assert_eq!(cache.expires_in(), None);
    }

    #[tokio::test]
    async fn many_callers_make_one_request() {
        let server = Server::start(|_, _| Reply::token("t", 3599)).await;
        let cache = Arc::new(cache(&server, secret()));
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let cache = Arc::clone(&cache);
                tokio::spawn(async move { cache.token(soon()).await.unwrap() })
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap().expose(), "t");
        }
        assert_eq!(server.received().len(), 1);
    }

    #[tokio::test]
    async fn the_old_token_serves_while_renewing_fails() {
        let server = Server::start(|number, _| match number {
            0 => Reply::token("old", 3599),
            3 => Reply::token("new", 3599),
            _ => Reply::json(500, ""),
        })
        .await;
        let cache = cache(&server, secret());
        assert_eq!(token(&cache).await.expose(), "old");
        later(3400).await;
        for _ in 0..3 {
            assert_eq!(token(&cache).await.expose(), "old");
        }
        assert_eq!(server.received().len(), 2, "one attempt, then a pause");
        later(61).await;
        assert_eq!(token(&cache).await.expose(), "old");
        later(61).await;
        assert_eq!(token(&cache).await.expose(), "new");
        assert_eq!(server.received().len(), 4);
    }

    #[tokio::test]
    async fn a_failure_counts_where_no_token_is_left() {
        let server = Server::start(|number, _| match number {
            0 => Reply::token("old", 3599),
            _ => refusal(7_000_222),
        })
        .await;
        let cache = cache(&server, secret());
        token(&cache).await;
        later(3600).await;
        let error = cache.token(soon()).await.unwrap_err();
        assert_eq!(error.reason(), FailureReason::Auth);
        assert!(error.remedy().unwrap().contains("expired"));
        assert!(error.to_string().contains("AADSTS7000222"), "{error}");
        assert_eq!(
            server.received().len(),
            2,
            "what is known to be final is not retried"
        );
    }

    #[tokio::test]
    async fn only_the_token_at_hand_is_invalidated() {
        let server = Server::start(|number, _| Reply::token(&format!("t{number}"), 3599)).await;
        let cache = cache(&server, secret());
        let first = token(&cache).await;
        cache.invalidate(&first);
        let second = token(&cache).await;
        assert_eq!(second.expose(), "t1");
        cache.invalidate(&first);
        assert_eq!(token(&cache).await.expose(), "t1");
    }

    #[tokio::test]
    async fn what_passes_is_retried_and_a_secret_never_shown() {
        let server = Server::start(|number, _| match number {
            0 => Reply::Hangup,
            1 => refusal(90_033),
            2 => Reply::Full(429, vec![("retry-after", "0".to_owned())], String::new()),
            3 => Reply::Cut,
            4 => Reply::token("t", 3599),
            _ => Reply::json(
                400,
                format!(r#"{{"error":"e","error_description":"{SECRET} is\r\nwrong"}}"#),
            ),
        })
        .await;
        let cache = cache(&server, secret());
        let granted = token(&cache).await;
        cache.invalidate(&granted);
        let error = cache.token(soon()).await.unwrap_err();
        assert!(error.to_string().ends_with("400: e: [redacted] is wrong"));
        assert!(!format!("{error:?} {cache:?} {granted:?}").contains(SECRET));
        assert!(granted.authorization().is_sensitive());
    }

    #[tokio::test]
    async fn what_is_not_a_token_by_table() {
        for (reply, expected, reason) in [
            (
                Reply::json(200, "{}"),
                "access_token",
                FailureReason::Malformed,
            ),
            (
                Reply::json(200, "<html>"),
                "not JSON",
                FailureReason::Malformed,
            ),
            (Reply::token("a b", 5), "header", FailureReason::Malformed),
            (
                Reply::json(200, r#"{"access_token":"t","expires_in":-5}"#),
                "lifetime",
                FailureReason::Malformed,
            ),
            (
                Reply::json(200, r#"{"access_token":"t"}"#),
                "lifetime",
                FailureReason::Malformed,
            ),
            (
                Reply::json(
                    200,
                    r#"{"access_token":"t","expires_in":5,"token_type":"mac"}"#,
                ),
                "Bearer",
                FailureReason::Malformed,
            ),
            (
                Reply::json(200, " ".repeat(100_000)),
                "bytes",
                FailureReason::Malformed,
            ),
            (
                Reply::Full(
                    302,
                    vec![("location", "http://evil".to_owned())],
                    String::new(),
                ),
                "302",
                FailureReason::Status,
            ),
        ] {
            let mut reply = Some(reply);
            let server = Server::start(move |_, _| reply.take().unwrap_or(Reply::Stall)).await;
            let error = cache(&server, secret()).token(soon()).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.reason(), reason, "{error}");
        }
    }

    #[tokio::test]
    async fn a_stalled_endpoint_ends_with_the_deadline() {
        let server = Server::start(|_, _| Reply::Stall).await;
        let cache = cache(&server, secret());
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = cache.token(deadline).await.unwrap_err();
        assert_eq!(error.reason(), FailureReason::Timeout);
    }

    #[tokio::test]
    async fn files_are_read_anew_and_a_certificate_tells_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let server = Server::start(|_, _| Reply::token("t", 0)).await;

        std::fs::write(path("secret"), "one\n").unwrap();
        let by_secret = cache(
            &server,
            Credential::Secret(SecretSource::File(path("secret"))),
        );
        token(&by_secret).await;
        std::fs::write(path("secret"), "two\n").unwrap();
        token(&by_secret).await;
        assert_eq!(by_secret.credential_expiry(), None);

        std::fs::write(path("federated"), "a.b.c\n").unwrap();
        let by_file = cache(&server, Credential::FederatedTokenFile(path("federated")));
        token(&by_file).await;

        super::super::assertion::tests::make_certificate(folder.path());
        let by_certificate = cache(
            &server,
            Credential::Certificate {
                certificate: path("cert.pem"),
                key: Some(path("key.pem")),
            },
        );
        assert_eq!(by_certificate.credential_expiry(), None);
        token(&by_certificate).await;
        assert!(by_certificate.credential_expiry().is_some());

        let sent = |field: &str| -> Vec<Option<String>> {
            let received = server.received();
            received
                .iter()
                .map(|request| request.field(field))
                .collect()
        };
        let secrets = sent("client_secret");
        assert_eq!(
            (secrets[0].as_deref(), secrets[1].as_deref()),
            (Some("one"), Some("two"))
        );
        let assertions = sent("client_assertion");
        assert_eq!(assertions[2].as_deref(), Some("a.b.c"));
        let claims = assertions[3].as_deref().unwrap().split('.').nth(1).unwrap();
        let claims = String::from_utf8(BASE64URL.decode(claims).unwrap()).unwrap();
        let audience = format!("{}/contoso.com/oauth2/v2.0/token", server.url);
        assert!(
            claims.contains(&format!(r#""aud":"{audience}""#)),
            "{claims}"
        );

        std::fs::remove_file(path("secret")).unwrap();
        let error = by_secret.token(soon()).await.unwrap_err();
        assert_eq!(error.reason(), FailureReason::Auth);
        assert!(
            Chain(&error).to_string().contains("cannot read /"),
            "{}",
            Chain(&error)
        );
    }

    #[tokio::test]
    async fn a_managed_identity_is_asked_by_get() {
        let reply = |number: usize, _: &Received| match number {
            0 => Reply::json(404, r#"{"error":"invalid_request"}"#),
            _ => {
                let end = wall_clock().timestamp() + 1800;
                Reply::json(
                    200,
                    format!(r#"{{"access_token":"t","expires_on":"{end}","token_type":"Bearer"}}"#),
                )
            }
        };
        let server = Server::start(reply).await;
        let url = server.url.clone();
        let endpoint = ManagedIdentityEndpoint::from_environment(|name| match name {
            "IDENTITY_ENDPOINT" => Some(format!("{url}/msi/token")),
            "IDENTITY_HEADER" => Some("identity-header".to_owned()),
            _ => None,
        });
        let cache = cache(&server, Credential::ManagedIdentity(endpoint.unwrap()));
        let error = cache.token(soon()).await.unwrap_err();
        assert!(error.remedy().unwrap().contains("identity"), "{error}");
        token(&cache).await;
        assert!(
            cache
                .expires_in()
                .is_some_and(|left| left.as_secs().abs_diff(1800) < 10)
        );
        let request = &server.received()[1];
        assert_eq!(request.method, "GET");
        assert_eq!(request.header("x-identity-header"), Some("identity-header"));
        assert_eq!(
            request.path,
            "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fgraph.microsoft.com&client_id=client"
        );
    }

    #[test]
    fn roles_are_a_hint() {
        let roles = |payload: &str| {
            let jwt = format!("e30.{}.sig", BASE64URL.encode(payload));
            let token = AccessToken::new(jwt.into(), Instant::now(), Duration::ZERO).unwrap();
            token.roles()
        };
        let read = "CallRecord-PstnCalls.Read.All";
        assert_eq!(
            roles(&format!(r#"{{"aud":"x","roles":["{read}"]}}"#)),
            Some(vec![read.to_owned()])
        );
        assert_eq!(roles("{}"), Some(Vec::new()));
        assert_eq!(roles("garbage"), None);
        let opaque = AccessToken::new("opaque".into(), Instant::now(), Duration::ZERO).unwrap();
        assert_eq!(opaque.roles(), None);
    }

    #[tokio::test]
    async fn options_that_make_no_request_are_refused() {
        let server = Server::start(|_, _| Reply::Stall).await;
        for (tenant, client) in [
            ("", Some("c")),
            ("a/../b", Some("c")),
            ("..", Some("c")),
            ("t", None),
        ] {
            let mut options = options(&server, secret());
            tenant.clone_into(&mut options.tenant_id);
            options.client_id = client.map(str::to_owned);
            assert!(TokenCache::new(http(), options, RetryPolicy::default(), wall_clock).is_err());
        }
    }

    fn cache(server: &Server, credential: Credential) -> TokenCache {
        let retry = RetryPolicy {
            delay_base: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        TokenCache::new(http(), options(server, credential), retry, wall_clock).unwrap()
    }

    fn options(server: &Server, credential: Credential) -> TokenOptions {
        TokenOptions {
            authority: server.url.parse().unwrap(),
            tenant_id: "contoso.com".to_owned(),
            client_id: Some("client".to_owned()),
            scope: "https://graph.microsoft.com/.default".to_owned(),
            credential,
        }
    }

    fn http() -> HttpClient {
        HttpClient::new(&HttpOptions {
            proxies: false,
            plain_only: true,
            ..HttpOptions::default()
        })
        .unwrap()
    }

    fn secret() -> Credential {
        Credential::Secret(SecretSource::Inline(SECRET.into()))
    }

    fn refusal(code: u32) -> Reply {
        let body = format!(
            r#"{{"error":"e","error_description":"AADSTS{code}: no","error_codes":[{code}]}}"#
        );
        Reply::json(400, body)
    }

    fn wall_clock() -> DateTime<Utc> {
        "2026-11-21T13:00:00Z".parse().unwrap()
    }

    async fn token(cache: &TokenCache) -> Arc<AccessToken> {
        cache.token(soon()).await.unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// Moves tokio's clock, and lets it run on by itself so that sockets work.
    async fn later(seconds: u64) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    }
}
