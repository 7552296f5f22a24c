//! Log messages for TLS handshakes that fail because of a certificate: which side rejected which certificate, and the
//! remedy.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::{AlertDescription, CertificateError, Error};
use tokio::time::Instant;
use tracing::{debug, info};

use super::client_auth::AUTHORITY_AS_CLIENT;

/// Failed handshakes, logged at a limited rate, because a scraper with an expired certificate retries every few
/// seconds.
#[derive(Debug, Default)]
pub(in crate::server) struct Failures(Mutex<Since>);

/// Failures since the last log line.
#[derive(Debug, Default)]
struct Since {
    line: Option<Instant>,
    failures: u64,
}

impl Failures {
    /// Logs a failed handshake: at info if a certificate is the cause, otherwise at debug.
    pub(in crate::server) fn log(&self, error: &io::Error, client: IpAddr) {
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        let own_probe = client.is_loopback() && tls == Some(&Error::NoCertificatesPresented);
        let Some(remedy) = tls.and_then(remedy).filter(|_| !own_probe) else {
            debug!(%error, %client, "a TLS handshake failed");
            return;
        };
        let mut since = self.0.lock();
        since.failures += 1;
        if since
            .line
            .is_some_and(|line| line.elapsed() < LINE_INTERVAL)
        {
            return;
        }
        let failures = std::mem::take(&mut since.failures);
        since.line = Some(Instant::now());
        drop(since);
        info!(%error, %client, failures, remedy, "TLS handshake failed because of a certificate");
    }
}

/// Returns the remedy for a certificate that the exporter or the client rejects; `None` if the handshake failed for
/// another reason.
fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NoCertificatesPresented => {
            "let the client present a certificate, or change client_auth_type"
        }
        Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the client certificate, and check the clocks of the client and of this machine"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "check the clocks of the client and of this machine"
            }
            // BadSignature: the issuer has the name of a CA in client_ca, but another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "use a client certificate that a CA in client_ca has issued, or add its CA to client_ca"
            }
            CertificateError::ApplicationVerificationFailure => {
                "use a client certificate with a name of client_allowed_sans, or add a name of the certificate to client_allowed_sans"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "issue the client certificate with the extended key usage clientAuth"
            }
            error if format!("{error:?}").contains(AUTHORITY_AS_CLIENT) => {
                "issue a client certificate with CA:FALSE, or put this certificate itself into client_ca"
            }
            _ => {
                "issue the client certificate again, in X.509 version 3 with a supported algorithm"
            }
        },
        Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate,
        ) => {
            "the client does not accept the certificate of this server: check that the certificate is valid, that the client trusts its issuer, and that the client uses a name in the certificate"
        }
        _ => return None,
    })
}

/// Minimum time between two log lines.
const LINE_INTERVAL: Duration = Duration::from_mins(1);
