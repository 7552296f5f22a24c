//! Access tokens: bearer tokens with their times of renewal and expiry.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A bearer token. It is never printed, and it is wiped from memory when it is dropped. Copies in buffers of the HTTP
/// client cannot be wiped.
#[derive(Debug)]
pub struct AccessToken {
    pub(super) secret: SecretString,
    pub(super) renew_at: Instant,
    pub(super) expires_at: Instant,
}

impl AccessToken {
    /// The application permissions in the token. The token is not verified, so the permissions are only a hint for
    /// people.
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

    /// Returns a token that is valid for `lifetime` from the request at `asked_at`. Returns `None` if `secret` is empty
    /// or has characters that a header cannot contain.
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
        let mut value =
            HeaderValue::from_str(&text).expect("a token is checked when it is received");
        value.set_sensitive(true);
        value
    }
}

/// Time between the renewal of a token and its expiry, the same as in Microsoft's own libraries. A token with a
/// lifetime of less than ten minutes is renewed after half of its lifetime.
const RENEWAL_LEAD: Duration = Duration::from_mins(5);

/// Maximum lifetime of a token. Microsoft issues tokens for about a day at most. A longer lifetime is a mistake, and
/// could overflow an `Instant`.
const LIFETIME_MAX: Duration = Duration::from_hours(24);
