//! Converts the section `tls_server_config` of the web configuration file into a configuration of rustls.
//!
//! Options of the exporter-toolkit that rustls does not support are rejected with a message that names the alternative:
//! TLS 1.0 and 1.1, cipher suites with CBC, the curve P-521. Verifying client certificates without `client_ca` is
//! rejected too, because Go would then accept certificates of all public authorities. webpki verifies client
//! certificates. It requires X.509 v3. The certificate of an authority is rejected as a client certificate, unless
//! `client_ca` contains that certificate itself.

mod client_auth;
mod failures;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::with_remedy;
use crate::secret_file;
use crate::secret_file::conversion::{self, Role};
use client_auth::{ClientAuth, Verifier};

pub(super) use failures::Failures;

/// Reason why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} {}", .0, .1.display())]
    Read(&'static str, PathBuf, #[source] io::Error),
    /// rustls rejects the value.
    #[error("cannot use {0}")]
    Rejected(&'static str, #[source] rustls::Error),
    /// The verifier of client certificates cannot be built.
    #[error("cannot use client_ca")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
    /// A value of the section cannot be used, or does not fit the other values. The message names the option and the
    /// remedy.
    #[error("{0}")]
    Setting(String),
}

/// The TLS configuration that was built from the section.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) server: Arc<ServerConfig>,
    /// The verifier of client certificates that `server` uses. It is stored here, because `server` has no getter for
    /// it.
    verifier: Arc<dyn ClientCertVerifier>,
    /// True if every client must have a certificate that is verified with `client_ca`.
    pub(super) identifies_clients: bool,
}

/// The keys of the section.
#[derive(Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub(super) struct Section {
    cert: Option<String>,
    cert_file: Option<PathBuf>,
    key: Option<Zeroizing<String>>,
    key_file: Option<PathBuf>,
    client_ca: Option<String>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

impl From<String> for TlsError {
    fn from(what: String) -> Self {
        Self::Setting(what)
    }
}

impl Tls {
    /// Returns true if a handshake with these client certificates would succeed now. The list is empty if the client
    /// has presented no certificate.
    pub(super) fn allows(&self, certificates: &[CertificateDer<'_>], now: DateTime<Utc>) -> bool {
        let verifier = &self.verifier;
        match certificates {
            _ if !verifier.offer_client_auth() => true,
            [] => !verifier.client_auth_mandatory(),
            [end_entity, intermediates @ ..] => {
                let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
                let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
                verifier
                    .verify_client_cert(end_entity, intermediates, now)
                    .is_ok()
            }
        }
    }
}

impl Section {
    /// Builds the configuration. Returns `None` (no TLS) if the section is empty.
    pub(super) fn server_config(
        &self,
        directory: &Path,
        http2: bool,
    ) -> Result<Option<Arc<Tls>>, TlsError> {
        if *self == Self::default() {
            return Ok(None);
        }
        let pem = |option, inline, file| pem(option, inline, file, directory);
        let missing =
            |option: &str| format!("neither {option} nor {option}_file is given; set one of them");
        let cert = pem("cert", self.cert.as_deref(), self.cert_file.as_deref())?
            .ok_or_else(|| missing("cert"))?;
        let key = self.key.as_deref().map(String::as_str);
        let key = pem("key", key, self.key_file.as_deref())?.ok_or_else(|| missing("key"))?;
        let client_ca = pem(
            "client_ca",
            self.client_ca.as_deref(),
            self.client_ca_file.as_deref(),
        )?;

        let versions = self.versions()?;
        let cipher_suites = cipher_suites(self.cipher_suites.as_deref())?;
        self.check_http2(http2 && versions.contains(&&TLS12))?;
        let provider = Arc::new(CryptoProvider {
            cipher_suites,
            kx_groups: curves(self.curve_preferences.as_deref())?,
            ..ring::default_provider()
        });
        let verifier = self.verifier(client_ca.as_deref().map(Vec::as_slice), &provider)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| TlsError::Rejected("the versions and cipher_suites", error))?
            .with_client_cert_verifier(verifier.clone())
            .with_single_cert(
                certificates("cert", &cert)?,
                PrivateKeyDer::from_pem_slice(&key)
                    .map_err(|_| no_pem("key", "private key without a passphrase"))?,
            )
            .map_err(|error| TlsError::Rejected("cert and key", error))?;
        config.ignore_client_order = self.prefer_server_cipher_suites.unwrap_or(true);
        config.alpn_protocols = if http2 {
            vec![HTTP2.to_vec(), HTTP1.to_vec()]
        } else {
            vec![HTTP1.to_vec()]
        };
        Ok(Some(Arc::new(Tls {
            server: Arc::new(config),
            identifies_clients: self.client_auth()? == ClientAuth::RequireAndVerify,
            verifier,
        })))
    }

    /// Returns the files that the section names.
    pub(super) fn files(&self, directory: &Path) -> Vec<PathBuf> {
        [&self.cert_file, &self.key_file, &self.client_ca_file]
            .into_iter()
            .flatten()
            .map(|file| directory.join(file))
            .collect()
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
        let version = |option, value: &Option<String>, default| match value.as_deref() {
            None | Some("") => Ok(default),
            Some("TLS12") => Ok(2),
            Some("TLS13") => Ok(3),
            Some(value) => {
                let reason = match value {
                    "TLS10" | "TLS11" => "too old to be safe",
                    _ => "not a version of TLS",
                };
                Err(format!(
                    "{option}: {value:?} is {reason}; TLS12 and TLS13 are available"
                ))
            }
        };
        let min = version("min_version", &self.min_version, 2)?;
        let max = version("max_version", &self.max_version, 3)?;
        if min > max {
            return Err("min_version is above max_version; swap them".to_owned());
        }
        Ok([(3, &TLS13), (2, &TLS12)]
            .into_iter()
            .filter(|(version, _)| (min..=max).contains(version))
            .map(|(_, version)| version)
            .collect())
    }

    /// Checks the cipher suites for HTTP/2 over TLS 1.2, as Go does. RFC 9113, section 9.2.2, requires one of two
    /// suites and forbids nearly all others. If the list had neither of the two, clients could not connect.
    fn check_http2(&self, over_tls12: bool) -> Result<(), String> {
        let names = self.cipher_suites.as_deref().unwrap_or_default();
        let has_one = names
            .iter()
            .any(|name| HTTP2_CIPHER_SUITES.contains(&&**name));
        if over_tls12 && !names.is_empty() && !has_one {
            let [rsa, ecdsa] = HTTP2_CIPHER_SUITES;
            return Err(format!(
                "cipher_suites: HTTP/2 needs {rsa} or {ecdsa}; add one of them, or set min_version to TLS13 or http2 to false"
            ));
        }
        Ok(())
    }

    fn client_auth(&self) -> Result<ClientAuth, String> {
        ClientAuth::parse(self.client_auth_type.as_deref().unwrap_or_default())
    }

    fn verifier(
        &self,
        client_ca: Option<&[u8]>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let auth_type = self.client_auth_type.as_deref().unwrap_or_default();
        let auth = self.client_auth()?;
        let problem = match (auth, self.client_allowed_sans.as_deref()) {
            (ClientAuth::None, _) if client_ca.is_some() => Some(
                "client_ca is given, but client_auth_type does not request certificates; set client_auth_type or remove client_ca",
            ),
            (ClientAuth::RequireAndVerify, Some([])) => Some(
                "client_allowed_sans is empty, so no client could connect; remove it to allow every client",
            ),
            (ClientAuth::RequireAndVerify, _) | (_, None) => None,
            (_, Some(_)) => Some(
                "client_allowed_sans needs client_auth_type RequireAndVerifyClientCert: with another type, anyone can make a certificate with these names or present none",
            ),
        };
        if let Some(problem) = problem {
            return Err(problem.to_owned().into());
        }
        let (authority, anchors) = match auth {
            ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
            ClientAuth::Request | ClientAuth::RequireAny => (None, Vec::new()),
            ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
                let pem = client_ca.ok_or_else(|| {
                    format!("client_auth_type {auth_type} needs client_ca or client_ca_file: there is no default set of authorities")
                })?;
                let anchors = certificates("client_ca", pem)?;
                let mut roots = RootCertStore::empty();
                for certificate in &anchors {
                    roots
                        .add(certificate.clone())
                        .map_err(|error| TlsError::Rejected("client_ca", error))?;
                }
                let roots = Arc::new(roots);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                (Some(builder.build()?), anchors)
            }
        };
        Ok(Arc::new(Verifier {
            authority,
            anchors,
            mandatory: matches!(auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify),
            allowed_sans: self.client_allowed_sans.clone(),
            algorithms: provider.signature_verification_algorithms,
        }))
    }
}

/// Returns the value of an option that is given inline or as a file; `None` if it is not given.
fn pem(
    option: &'static str,
    inline: Option<&str>,
    file: Option<&Path>,
    directory: &Path,
) -> Result<Option<Zeroizing<Vec<u8>>>, TlsError> {
    let inline = inline.filter(|text| !text.is_empty());
    let file = file.filter(|path| !path.as_os_str().is_empty());
    match (inline, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(format!("both {option} and {option}_file are given; remove one of them").into())
        }
        (Some(text), None) => Ok(Some(Zeroizing::new(text.as_bytes().to_vec()))),
        (None, Some(file)) => {
            let path = directory.join(file);
            let role = match option {
                "key" => Role::Key,
                _ => Role::Certificate,
            };
            match secret_file::read(&path, FILE_BYTES_MAX) {
                Ok(bytes) => match conversion::needed(&path, &bytes, role) {
                    None => Ok(Some(bytes)),
                    Some(conversion) => {
                        let path = path.display();
                        Err(format!("cannot use {option} {path}: {conversion}").into())
                    }
                },
                Err(source) => Err(TlsError::Read(option, path, with_remedy(source, remedy))),
            }
        }
    }
}

/// Returns the remedy for a failed read of a file. Returns `None` if no remedy is known for this kind of error.
fn remedy(kind: io::ErrorKind) -> Option<&'static str> {
    match kind {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Some(
            "name an existing file; a relative path starts at the folder of this configuration",
        ),
        io::ErrorKind::PermissionDenied => {
            Some("let this user read it and enter the folders on its path")
        }
        _ => None,
    }
}

fn certificates(option: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates.unwrap_or_default();
    if certificates.is_empty() {
        return Err(no_pem(option, "certificate"));
    }
    Ok(certificates)
}

/// Returns the error for a value that is not a PEM text of the expected kind.
fn no_pem(option: &str, kind: &str) -> String {
    format!("{option} holds no PEM {kind}")
}

/// Returns the enabled cipher suites. As in Go, the list restricts only TLS 1.2: all suites of TLS 1.3 are enabled,
/// even those that the list does not have.
fn cipher_suites(names: Option<&[String]>) -> Result<Vec<SupportedCipherSuite>, String> {
    let names = names.unwrap_or_default();
    if names.is_empty() {
        return Ok(ring::ALL_CIPHER_SUITES.to_vec());
    }
    let find = |name: &String| {
        ring::ALL_CIPHER_SUITES
            .iter()
            .find(|suite| go_name(suite) == *name)
            .copied()
            .ok_or_else(|| {
                format!("cipher_suites: {name:?} is not available; use suites with GCM or CHACHA20_POLY1305, such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
            })
    };
    let mut suites = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    for suite in ring::ALL_CIPHER_SUITES {
        if suite.tls13().is_some() && !suites.contains(suite) {
            suites.push(*suite);
        }
    }
    Ok(suites)
}

/// Returns the name of the suite in Go and in the IANA registry. For example, rustls writes `TLS13_AES_128_GCM_SHA256`
/// instead of `TLS_AES_128_GCM_SHA256`.
fn go_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_")
        .map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

fn curves(names: Option<&[String]>) -> Result<Vec<&'static dyn SupportedKxGroup>, String> {
    let names = names.unwrap_or_default();
    if names.is_empty() {
        return Ok(ring::ALL_KX_GROUPS.to_vec());
    }
    names
        .iter()
        .map(|name| match name.as_str() {
            "X25519" => Ok(ring::kx_group::X25519),
            "CurveP256" => Ok(ring::kx_group::SECP256R1),
            "CurveP384" => Ok(ring::kx_group::SECP384R1),
            _ => Err(format!(
                "curve_preferences: {name:?} is not available; use X25519, CurveP256 or CurveP384"
            )),
        })
        .collect()
}

/// If HTTP/2 runs over TLS 1.2, one of these must be in the list of `cipher_suites`.
const HTTP2_CIPHER_SUITES: [&str; 2] = [
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
];

/// Protocol names in the handshake (ALPN).
pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Maximum bytes of the web configuration file, and of each file that it names. Real files are far smaller.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;
