//! The client of one connection, and the check that it may still use the connection.
//!
//! A client can lose its access while a connection is open: a certificate expires, a name is removed from
//! `client_allowed_sans`, an authority is replaced, a user is removed. So each request is checked again, and the
//! connection ends after the first request that is rejected. `tls` verifies certificates, `auth` passwords.

use std::hash::RandomState;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::{HandshakeKind, ServerConnection};
use tokio::time::Instant;

use super::auth::Credentials;
use super::tls::Tls;
use crate::period::Clock;

#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The TLS handshake; empty without TLS.
    handshake: OnceLock<Handshake>,
    /// Hash of the login that was last admitted on this connection, computed with `keys`. It does not reveal the
    /// password, and is comparable only with hashes of the same connection.
    admitted: Mutex<Option<u64>>,
    keys: RandomState,
}

/// The certificates of the client, and when they were last verified.
#[derive(Debug)]
struct Handshake {
    certificates: Vec<CertificateDer<'static>>,
    verified: Mutex<Option<(Arc<Tls>, Instant)>>,
}

impl Peer {
    /// Records the client certificates of a successful handshake.
    pub(super) fn record_handshake(&self, connection: &ServerConnection, tls: Arc<Tls>) {
        // rustls does not verify the certificates of a resumed session again, so the first request verifies them.
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let certificates = connection.peer_certificates().unwrap_or_default();
        let handshake = Handshake {
            certificates: certificates.to_vec(),
            verified: Mutex::new((!is_resumed).then(|| (tls, Instant::now()))),
        };
        let first = self.handshake.set(handshake);
        debug_assert!(first.is_ok(), "a connection has one handshake");
    }

    /// Returns whether the current TLS settings allow the client certificates of this connection.
    pub(super) fn certificate_is_allowed(&self, tls: Option<&Arc<Tls>>, clock: &Clock) -> bool {
        let (Some(handshake), Some(tls)) = (self.handshake.get(), tls) else {
            return true;
        };
        let mut verified = handshake.verified.lock();
        let is_recent = verified.as_ref().is_some_and(|(verifier, time)| {
            Arc::ptr_eq(verifier, tls) && time.elapsed() < VERIFIED_AGE_MAX
        });
        if is_recent {
            return true;
        }
        let allowed = tls.allows(&handshake.certificates, clock.now());
        *verified = allowed.then(|| (Arc::clone(tls), Instant::now()));
        allowed
    }

    /// Returns a hash that identifies the login of a request; `None` if the request has no credentials.
    pub(super) fn login(&self, credentials: Option<&Credentials>) -> Option<u64> {
        credentials.map(|credentials| credentials.hash(&self.keys))
    }

    /// Records that this login was admitted.
    pub(super) fn admit(&self, login: Option<u64>) {
        *self.admitted.lock() = login;
    }

    /// Returns true if this login, which is rejected now, was admitted earlier on this connection.
    pub(super) fn was_admitted(&self, login: Option<u64>) -> bool {
        login.is_some() && *self.admitted.lock() == login
    }
}

/// Time after which client certificates are verified again, because they can expire. A scraper that scrapes every
/// minute costs at most one verification per scrape.
const VERIFIED_AGE_MAX: Duration = Duration::from_mins(1);
