//! What the application proves its identity with. Every file is read anew at each use, so that rotating one needs no
//! restart.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::assertion;
use super::conversion::{self, Conversion, Role};
use super::managed_identity::{EndpointError, ManagedIdentityEndpoint};
use crate::secret_file;

/// What a token is asked for with.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A client secret.
    Secret(SecretSource),
    /// A certificate and its RSA key, PEM, for an assertion signed with PS256.
    Certificate {
        /// The file of the certificate; a chain may stand there too.
        certificate: PathBuf,
        /// The file of the key, PKCS#8 or PKCS#1, not encrypted; the same file where `None`.
        key: Option<PathBuf>,
    },
    /// The file of a token that a trusted issuer renews: workload identity federation.
    FederatedTokenFile(PathBuf),
    /// The identity that Azure gave the machine.
    ManagedIdentity(ManagedIdentityEndpoint),
}

/// Where a client secret is.
#[derive(Clone, Debug)]
pub enum SecretSource {
    /// In a file, whose trailing newline does not belong to it.
    File(PathBuf),
    /// At hand, from the environment.
    Inline(SecretString),
}

/// Why a credential cannot be used. No message holds any part of it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read, or is longer than any credential.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// There is nothing in it, or nothing that is text.
    #[error("{0} is empty or not text")]
    NotText(String),
    /// There is something around it that is not part of it.
    #[error("{0} {1}")]
    Edges(String, &'static str),
    /// The file of the certificate or the key has another format.
    #[error(
        "cannot sign with {}: it is {format}; convert it into unencrypted PEM by `{command}` and name the new file",
        .path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is.
        format: &'static str,
        /// How it is converted.
        command: String,
    },
    /// The certificate or its key does not serve.
    #[error("cannot sign with {}", .certificate.display())]
    Sign {
        /// The file of the certificate.
        certificate: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The read of an earlier request has not come back.
    #[error("the credential's file is still being read, since an earlier request")]
    Busy,
    /// The endpoint of the machine's identity cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl SecretSource {
    /// Whether it reads as the id of a secret does, which the portal shows for good beside a value that it shows once. Reads
    /// the file; blocks.
    pub(crate) fn looks_like_id(&self) -> bool {
        let secret = match self {
            Self::File(path) => read_text(path),
            Self::Inline(secret) => Ok(secret.clone()),
        };
        secret.is_ok_and(|secret| {
            let secret = secret.expose_secret();
            secret.len() == GUID_LENGTH && Uuid::try_parse(secret).is_ok()
        })
    }
}

/// What goes into the form beside the client's id.
pub(crate) enum Proof {
    Secret(SecretString),
    /// Any JWT; where it was signed with a certificate, that one's end.
    Assertion(SecretString, Option<DateTime<Utc>>),
}

impl Proof {
    /// Reads what has to be read and signs what has to be signed; blocks. `audience` is the token endpoint.
    ///
    /// # Panics
    /// For a managed identity, which proves nothing.
    pub(crate) fn of(
        credential: &Credential,
        client_id: &str,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, CredentialError> {
        match credential {
            Credential::Secret(SecretSource::File(path)) => read_text(path).map(Self::Secret),
            Credential::Secret(SecretSource::Inline(secret)) => {
                text(secret.expose_secret().as_bytes(), "the client secret").map(Self::Secret)
            }
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
                    .map_err(|source| CredentialError::Sign {
                        certificate: certificate.clone(),
                        source: source.into(),
                    })
            }
            Credential::ManagedIdentity(_) => unreachable!("a managed identity has no form"),
        }
    }

    pub(crate) fn secret(&self) -> &SecretString {
        match self {
            Self::Secret(secret) | Self::Assertion(secret, _) => secret,
        }
    }

    /// The fields of the form.
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
    if text.is_empty() {
        return Err(CredentialError::NotText(name.to_owned()));
    }
    match around(text) {
        Some(what) => Err(CredentialError::Edges(name.to_owned(), what)),
        None => Ok(text.into()),
    }
}

/// What stands around a secret or a token that none of Microsoft's begins or ends with, as editors and shells leave it, and
/// what to do.
pub(crate) fn around(text: &str) -> Option<&'static str> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.starts_with('\u{feff}') {
        Some("begins with a byte order mark; remove it")
    } else if text.trim() != text {
        Some("has a blank or a line break at its beginning or end; remove it")
    } else if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        Some("has a quote at its beginning or end; remove it")
    } else if text.contains(['\n', '\r']) {
        Some("has several lines; keep nothing in it but the value of one secret or token")
    } else {
        None
    }
}

/// Reads a file that has to be PEM, and explains if it is something else.
fn read_pem(path: &Path, role: Role) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let bytes = read(path)?;
    match conversion::needed(path, &bytes, role) {
        None => Ok(bytes),
        Some(Conversion { format, command }) => Err(CredentialError::Format {
            path: path.to_owned(),
            format,
            command,
        }),
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    secret_file::read(path, FILE_MAX).map_err(|source| CredentialError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Of a GUID with its hyphens.
const GUID_LENGTH: usize = 36;

/// Ten certificates with a key fit; what is longer is another kind of file.
const FILE_MAX: usize = 64 << 10;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[cfg(test)]
mod tests {
    use super::super::Chain;
    use super::*;

    #[test]
    fn secrets_are_read_by_table() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let longest = "x".repeat(FILE_MAX);
        let long = "x".repeat(FILE_MAX + 1);
        for (content, expected) in [
            (&b"s3cret"[..], Ok("s3cret")),
            (b"s3cret\n", Ok("s3cret")),
            (b"s3cret\r\n", Ok("s3cret")),
            (b"s3cret\ns3cret\n", Err("has several lines")),
            (b"s3cret\rs3cret", Err("has several lines")),
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
        assert!(matches!(error, Some(CredentialError::Read { .. })));
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
        Proof::of(credential, "client", "audience", DateTime::UNIX_EPOCH)
    }
}
