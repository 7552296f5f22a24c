//! Client certificates: the policies and the verifier.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme, crypto};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

/// The policy for client certificates. The names are those of Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

impl ClientAuth {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        match name {
            "" | "NoClientCert" => Ok(Self::None),
            "RequestClientCert" => Ok(Self::Request),
            // `RequireClientCert` is an older name in the exporter-toolkit.
            "RequireAnyClientCert" | "RequireClientCert" => Ok(Self::RequireAny),
            "VerifyClientCertIfGiven" => Ok(Self::VerifyIfGiven),
            "RequireAndVerifyClientCert" => Ok(Self::RequireAndVerify),
            _ => Err(format!(
                "client_auth_type: {name:?} is none of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"
            )),
        }
    }
}

/// Verifies a client certificate: its issuer if `authority` is set, its alternative names if `allowed_sans` is set.
///
/// The verifier always checks that the client has the certificate's private key.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) authority: Option<Arc<dyn ClientCertVerifier>>,
    /// The certificates of `client_ca`.
    pub(super) anchors: Vec<CertificateDer<'static>>,
    pub(super) mandatory: bool,
    pub(super) allowed_sans: Option<Vec<String>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority
            .as_ref()
            .map_or(&[], |authority| authority.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(authority) = &self.authority
            && let Err(error) = authority.verify_client_cert(end_entity, intermediates, now)
            && !self.is_own_authority(end_entity, now)
        {
            return Err(error);
        }
        match &self.allowed_sans {
            Some(allowed) if !has_san(end_entity, allowed) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl Verifier {
    /// Returns true if this is a CA certificate that is itself in `client_ca` and is currently valid for a client.
    ///
    /// `openssl req -x509` makes such certificates. webpki rejects every CA certificate as a client certificate. Go
    /// accepts a CA certificate that is one of the roots. This adds no risk, because the holder of the CA's key could
    /// issue any client certificate.
    fn is_own_authority(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        if !self.anchors.iter().any(|anchor| anchor == certificate) {
            return false;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let Ok(seconds) = i64::try_from(now.as_secs()) else {
            return false;
        };
        let valid = |time| certificate.validity().is_valid_at(time);
        let for_clients = match certificate.extended_key_usage() {
            Ok(None) => true,
            Ok(Some(usage)) => usage.value.any || usage.value.client_auth,
            Err(_) => false,
        };
        // Rejects critical extensions that are not in this list. In a certificate without a chain, webpki would verify
        // or ignore those in the list.
        let understood = certificate.extensions().iter().all(|extension| {
            !extension.critical
                || matches!(
                    extension.parsed_extension(),
                    ParsedExtension::BasicConstraints(_)
                        | ParsedExtension::KeyUsage(_)
                        | ParsedExtension::ExtendedKeyUsage(_)
                        | ParsedExtension::SubjectAlternativeName(_)
                        | ParsedExtension::NameConstraints(_)
                )
        });
        certificate.is_ca()
            && for_clients
            && understood
            && ASN1Time::from_timestamp(seconds).is_ok_and(valid)
    }
}

/// webpki's name for the error that a client certificate is a CA certificate. rustls passes the error on unchanged.
pub(super) const AUTHORITY_AS_CLIENT: &str = "CaUsedAsEndEntity";

/// Returns whether one of the certificate's alternative names is allowed. The names must match exactly.
fn has_san(certificate: &CertificateDer<'_>, allowed: &[String]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let Ok(Some(sans)) = certificate.subject_alternative_name() else {
        return false;
    };
    sans.value.general_names.iter().any(|name| {
        let address = match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                return allowed.iter().any(|allowed| allowed == name);
            }
            GeneralName::IPAddress(bytes) => match bytes.len() {
                4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
                _ => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
            },
            _ => None,
        };
        address.is_some_and(|address| {
            let address = address.to_canonical().to_string();
            allowed.contains(&address)
        })
    })
}
