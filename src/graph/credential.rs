//! Client credentials: secret, certificate, federated token, managed identity. The exporter re-reads a credential's
//! files for each use, so rotating a credential needs no restart.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::fmt::Hyphenated;
use zeroize::Zeroizing;

use super::assertion;
use super::managed_identity::ManagedIdentityEndpoint;
use crate::secret_file;
use crate::secret_file::conversion::{self, Role};

/// The credential of the application.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// A client secret.
    Secret(SecretSource),
    /// A certificate and its RSA key, both in PEM. The key signs an assertion with PS256.
    Certificate {
        /// The file of the certificate, which can contain a chain.
        certificate: PathBuf,
        /// The file of the unencrypted key: PKCS#8 or PKCS#1. `None` if the key is in the file of the certificate.
        key: Option<PathBuf>,
    },
    /// The file of a token for workload identity federation. A trusted issuer writes and renews the token.
    FederatedTokenFile(PathBuf),
    /// The managed identity that Azure assigned to the machine.
    ManagedIdentity(ManagedIdentityEndpoint),
}

/// The source of a client secret.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// A file. A trailing newline is not part of the secret.
    File(PathBuf),
    /// A value from the environment.
    Inline(SecretString),
}

/// Errors of a credential. No message contains any part of the credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read, or is longer than any credential.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// The secret or token is empty, is not text in UTF-8, or has stray characters, such as quotes around it.
    #[error("{0} {1}")]
    Text(String, &'static str),
    /// The file of the certificate or the key has another format, or the certificate or its key cannot be used.
    #[error("cannot sign with {}", .0.display())]
    Sign(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl PartialEq for SecretSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => one == other,
            (Self::Inline(one), Self::Inline(other)) => {
                one.expose_secret() == other.expose_secret()
            }
            _ => false,
        }
    }
}

impl SecretSource {
    /// Returns true if the secret has the form of a secret's id. It is easy to copy the id by mistake, because the
    /// portal always shows the id, but shows the secret only once. Reads the file and blocks.
    pub(crate) fn looks_like_id(&self) -> bool {
        let is_id = |secret: SecretString| secret.expose_secret().parse::<Hyphenated>().is_ok();
        self.read().is_ok_and(is_id)
    }

    fn read(&self) -> Result<SecretString, CredentialError> {
        match self {
            Self::File(path) => read_text(path),
            Self::Inline(secret) => text(secret.expose_secret().as_bytes(), "the client secret"),
        }
    }
}

/// The proof of the client's identity, which a token request contains as form data.
pub(crate) enum Proof {
    Secret(SecretString),
    /// A JWT. If a certificate signed it, also the expiry of the certificate.
    Assertion(SecretString, Option<DateTime<Utc>>),
}

impl Proof {
    /// Reads the credential's files, and signs an assertion if the credential is a certificate. Blocks. `audience` is
    /// the token endpoint.
    ///
    /// # Panics
    /// For a managed identity, which needs no proof.
    pub(crate) fn create(
        credential: &Credential,
        client_id: &str,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, CredentialError> {
        match credential {
            Credential::Secret(source) => source.read().map(Self::Secret),
            Credential::FederatedTokenFile(path) => {
                read_text(path).map(|token| Self::Assertion(token, None))
            }
            Credential::Certificate { certificate, key } => {
                let role = key.as_ref().map_or(Role::Both, |_| Role::Certificate);
                let pem = read_pem(certificate, role)?;
                let key = key.as_deref().map(|key| read_pem(key, Role::Key));
                let key = key.transpose()?;
                let key = key.as_ref().unwrap_or(&pem);
                assertion::sign(&pem, key, client_id, audience, now)
                    .map(|signed| Self::Assertion(signed.jwt, Some(signed.not_after)))
                    .map_err(|error| CredentialError::Sign(certificate.clone(), error.into()))
            }
            Credential::ManagedIdentity(_) => unreachable!("a managed identity needs no proof"),
        }
    }

    pub(crate) fn secret(&self) -> &SecretString {
        match self {
            Self::Secret(secret) | Self::Assertion(secret, _) => secret,
        }
    }

    /// The form fields of a token request.
    pub(crate) fn fields(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Secret(secret) => vec![("client_secret", secret.expose_secret())],
            Self::Assertion(jwt, _) => vec![
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", jwt.expose_secret()),
            ],
        }
    }
}

fn read_text(path: &Path) -> Result<SecretString, CredentialError> {
    text(&read(path)?, &path.display().to_string())
}

fn text(bytes: &[u8], name: &str) -> Result<SecretString, CredentialError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let text = text.trim_end_matches(['\r', '\n']);
    let fault = if text.is_empty() {
        Some("is empty or not text")
    } else {
        stray_characters(text)
    };
    match fault {
        Some(fault) => Err(CredentialError::Text(name.to_owned(), fault)),
        None => Ok(text.into()),
    }
}

/// Detects characters that an editor or a shell added to a secret or token, and returns the fault with its remedy.
/// Microsoft's secrets and tokens are one line without control characters. They do not begin with a byte order mark,
/// and do not begin or end with white space or quotes.
pub(crate) fn stray_characters(text: &str) -> Option<&'static str> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.starts_with('\u{feff}') {
        Some("begins with a byte order mark; remove it")
    } else if text.contains(|c: char| c.is_control() && !c.is_ascii_whitespace()) {
        Some("has a control character, as text in UTF-16 does; save it as UTF-8")
    } else if text.trim() != text {
        Some("has a blank or a line break at its beginning or end; remove it")
    } else if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        Some("has a quote at its beginning or end; remove it")
    } else if text.contains(['\n', '\r']) {
        Some("has several lines; keep nothing in it but the value of one secret or token")
    } else if text.contains(char::is_control) {
        Some("has a tab or another control character; remove it")
    } else {
        None
    }
}

/// Reads a file in PEM. If the file has another known format, returns an error that explains how to convert it.
fn read_pem(path: &Path, role: Role) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let bytes = read(path)?;
    match conversion::needed(path, &bytes, role) {
        None => Ok(bytes),
        Some(conversion) => Err(CredentialError::Sign(path.to_owned(), conversion.into())),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    secret_file::read(path, FILE_BYTES_MAX)
        .map_err(|source| CredentialError::Read(path.to_owned(), source))
}

/// Maximum bytes of a file: enough for ten certificates and a key. A longer file is the wrong file, and its first part
/// must not be used as a secret or a key.
pub(crate) const FILE_BYTES_MAX: usize = 64 << 10;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;

    #[test]
    fn secrets_are_read_by_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let longest = "x".repeat(FILE_BYTES_MAX);
        let long = "x".repeat(FILE_BYTES_MAX + 1);
        for (content, expected) in [
            (&b"s3cret"[..], Ok("s3cret")),
            (b"s3cret\n", Ok("s3cret")),
            (b"s3cret\r\n", Ok("s3cret")),
            (b"s3cret\ns3cret\n", Err("has several lines")),
            (b"s3cret\rs3cret", Err("has several lines")),
            (b"s3\0cret", Err("has a control character")),
            (b"s\x003\0c\0r\0e\0t\0", Err("has a control character")),
            (b"s\x003\0\r\0\n\0", Err("has a control character")),
            (b"\0s\x003\0\r\0\n", Err("has a control character")),
            (b"s3\x1b[1mcret", Err("has a control character")),
            (b"s3 \"c'ret\n\r\n", Ok("s3 \"c'ret")),
            (b"\xef\xbb\xbfs3cret", Err("begins with a byte order mark")),
            (b"\"s3cret\"\n", Err("has a quote at its beginning or end")),
            (b"'s3cret", Err("has a quote at its beginning or end")),
            (b"s3cret' ", Err("has a blank or a line break at its")),
            (b" s3cret", Err("has a blank or a line break at its")),
            (b"\ns3cret", Err("has a blank or a line break at its")),
            (b"s3cret \n", Err("has a blank or a line break at its")),
            (b" \n", Err("has a blank or a line break at its")),
            (b"", Err("empty")),
            (b"\n", Err("empty")),
            (b"\xff\xfe", Err("not text")),
            (longest.as_bytes(), Ok(longest.as_str())),
            (long.as_bytes(), Err("longer than 65536 bytes")),
        ] {
            std::fs::write(&path, content).unwrap();
            let credential = Credential::Secret(SecretSource::File(path.clone()));
            match (prove(&credential), expected) {
                (Ok(proof), Ok(expected)) => {
                    assert_eq!(proof.fields(), [("client_secret", expected)]);
                }
                (Err(error), Err(expected)) => {
                    let error = Chain(&error).to_string();
                    assert!(error.contains(expected), "{error}");
                    assert!(
                        !error.contains("cret\"") && !error.contains("s3cret"),
                        "{error}"
                    );
                }
                (proof, _) => panic!("{content:?}: {:?}", proof.err()),
            }
        }
        std::fs::remove_file(&path).unwrap();
        let error = prove(&Credential::Secret(SecretSource::File(path))).err();
        assert!(matches!(error, Some(CredentialError::Read(..))));
    }

    #[test]
    fn ids_by_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (content, expected) in [
            ("11111111-2222-3333-4444-55555555555A", true),
            ("11111111-2222-3333-4444-55555555555a\n", true),
            ("11111111222233334444555555555555", false),
            ("abc8Q~11111111-2222-3333-4444-5555555", false),
            ("", false),
        ] {
            std::fs::write(&path, content).unwrap();
            let file = SecretSource::File(path.clone());
            assert_eq!(file.looks_like_id(), expected, "{content}");
        }
        let inline = SecretSource::Inline("11111111-2222-3333-4444-555555555555".into());
        assert!(inline.looks_like_id());
    }

    #[test]
    fn a_federated_token_is_the_assertion() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "a.b.c\n").unwrap();
        let proof = prove(&Credential::FederatedTokenFile(path)).unwrap();
        assert_eq!(
            proof.fields(),
            [
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", "a.b.c")
            ]
        );
    }

    #[test]
    fn nothing_secret_is_in_debug_output() {
        let secret = || SecretString::from("hunter2");
        let credential = Credential::Secret(SecretSource::Inline(secret()));
        let variable = |name: &str| match name {
            "IDENTITY_ENDPOINT" => Some("http://127.0.0.1/".to_owned()),
            _ => Some("hunter2".to_owned()),
        };
        let endpoint = ManagedIdentityEndpoint::from_environment(variable).unwrap();
        assert!(endpoint.secret().is_some());
        let printed = format!("{credential:?} {:?}", Credential::ManagedIdentity(endpoint));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    fn prove(credential: &Credential) -> Result<Proof, CredentialError> {
        Proof::create(credential, "client", "audience", DateTime::UNIX_EPOCH)
    }
}
