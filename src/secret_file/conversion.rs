//! Certificate and key files in another format than unencrypted PEM, and the command that converts each.
//!
//! Portals and tools hand out PKCS #12 (PFX), DER, PKCS #7 and encrypted keys; editors and shells add a byte order mark.
//! This module does not convert files: the administrator decides where a decrypted key is stored.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

/// The required contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Certificate,
    Key,
    Both,
}

/// A file that must be converted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conversion {
    /// The format of the file.
    pub(crate) format: &'static str,
    /// The command that converts it into one or two PEM files.
    pub(crate) command: String,
}

/// The conversion that `bytes`, the content of the file `path`, needs. `None` if they are unencrypted PEM or unknown.
pub(crate) fn needed(path: &Path, bytes: &[u8], role: Role) -> Option<Conversion> {
    let file = quoted(&path.display().to_string());
    if let Some((prefix, format)) = encoding(bytes) {
        let read = format!("{prefix} {file} | openssl");
        let inner = decoded(bytes)?;
        let object = object(&inner).unwrap_or(Object::Plain);
        return Some(conversion(format, &read, path, object, role, ""));
    }
    let object = object(bytes)?;
    // Only the certificate is read from such a file, whatever else it contains.
    let is_pem = matches!(
        object,
        Object::EncryptedKey(Form::Pem) | Object::Pkcs7(Form::Pem)
    );
    if is_pem && role == Role::Certificate && contains(bytes, b"-----BEGIN CERTIFICATE-----") {
        return None;
    }
    Some(conversion(
        object.name(),
        "openssl",
        path,
        object,
        role,
        &format!(" -in {file}"),
    ))
}

/// The type of object for openssl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// PEM, or an unknown format.
    Plain,
    Pkcs12,
    Pkcs7(Form),
    Certificate,
    Key,
    EncryptedKey(Form),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Pem,
    Der,
}

impl Object {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PEM",
            Self::Pkcs12 => "a PKCS #12 file (PFX)",
            Self::Pkcs7(_) => "a PKCS #7 file",
            Self::Certificate => "a certificate in DER",
            Self::Key => "a private key in DER",
            Self::EncryptedKey(_) => "an encrypted private key",
        }
    }
}

fn conversion(
    format: &'static str,
    openssl: &str,
    path: &Path,
    object: Object,
    role: Role,
    input: &str,
) -> Conversion {
    let new = |suffix: &str| quoted(&format!("{}{suffix}", path.display()));
    let one = |tool: &str| format!("{openssl} {tool}{input} -out {}", new(".pem"));
    let command = match object {
        Object::Pkcs12 => one("pkcs12 -nodes"),
        Object::Pkcs7(Form::Pem) => one("pkcs7 -print_certs"),
        Object::Pkcs7(Form::Der) => one("pkcs7 -inform DER -print_certs"),
        Object::Certificate => one("x509 -inform DER"),
        Object::Key => one("pkey -inform DER"),
        Object::EncryptedKey(Form::Der) => one("pkcs8 -inform DER"),
        Object::EncryptedKey(Form::Pem) | Object::Plain => match (object, role) {
            (_, Role::Key) => one("pkey"),
            (Object::Plain, Role::Certificate) => one("x509"),
            (_, _) => format!(
                "{openssl} x509{input} -out {} && {openssl} pkey{input} -out {}",
                new(".cert.pem"),
                new(".key.pem")
            ),
        },
    };
    Conversion { format, command }
}

/// The command that removes an encoding around the file, and the name of the encoding.
fn encoding(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => Some(("tail -c +4", "PEM after a byte order mark")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some((
            "iconv -f UTF-16 -t UTF-8",
            "PEM in UTF-16 with a byte order mark",
        )),
        [b'M', ..] if from_base64(bytes).is_some() => Some(("base64 -d", "DER in base64")),
        _ => None,
    }
}

/// The content without its encoding.
fn decoded(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => Some(Zeroizing::new(rest.to_vec())),
        // Only the ASCII characters of UTF-16 matter here.
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] => {
            let ascii = rest.iter().copied().filter(|&byte| byte != 0);
            Some(Zeroizing::new(ascii.collect()))
        }
        _ => from_base64(bytes),
    }
}

fn from_base64(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = bytes
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace());
    let text = Zeroizing::new(text.collect::<Vec<u8>>());
    let der = Zeroizing::new(BASE64_STANDARD.decode(&*text).ok()?);
    object(&der).map(|_| der)
}

/// The object in a file, if it is not PEM that can be used unchanged.
fn object(bytes: &[u8]) -> Option<Object> {
    // An encrypted PKCS #8 key has it in its label, a PKCS #1 key in a header.
    let marks: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
    if marks.iter().any(|mark| contains(bytes, mark)) {
        return Some(Object::EncryptedKey(Form::Pem));
    }
    let marks: [&[u8]; 2] = [b"BEGIN PKCS7", b"BEGIN CMS"];
    if marks.iter().any(|mark| contains(bytes, mark)) {
        return Some(Object::Pkcs7(Form::Pem));
    }
    if bytes.first() != Some(&SEQUENCE) {
        return None;
    }
    let begin = &bytes[..bytes.len().min(BEGIN)];
    if x509_parser::parse_x509_certificate(&CertificateDer::from(bytes)).is_ok() {
        Some(Object::Certificate)
    } else if contains(begin, PKCS7_SIGNED) && !contains(begin, VERSION_3) {
        Some(Object::Pkcs7(Form::Der))
    } else if contains(begin, VERSION_3) && contains(begin, PKCS7) {
        Some(Object::Pkcs12)
    } else if contains(begin, PKCS5) || contains(begin, PKCS12_PBE) {
        Some(Object::EncryptedKey(Form::Der))
    } else {
        PrivateKeyDer::try_from(bytes).ok().map(|_| Object::Key)
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Quotes an argument for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@:,".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The first byte of each of these objects in DER.
const SEQUENCE: u8 = 0x30;

/// The version of PKCS #12.
const VERSION_3: &[u8] = &[0x02, 0x01, 0x03];

/// The arc 1.2.840.113549.1.7: contents of PKCS #7, which PKCS #12 has too.
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];

/// Signed data, the type of certificate lists.
const PKCS7_SIGNED: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// The arc 1.2.840.113549.1.5: encryption by password.
const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];

/// The arc 1.2.840.113549.1.12.1: the older form of it.
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];

/// Bytes at the beginning of a file that contain the type of its object.
const BEGIN: usize = 48;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use chrono::DateTime;

    use crate::graph::assertion::tests::{make_certificate, openssl};
    use crate::graph::credential::{Credential, CredentialError, Proof};

    use super::*;

    /// Formats, the command that makes each from `cert.pem` and `key.pem`, and the files that the conversion makes.
    const FORMATS: &[(&str, &str, &str, &[&str])] = &[
        (
            "both",
            "a PKCS #12 file (PFX)",
            "openssl pkcs12 -export -in cert.pem -inkey key.pem -passout pass:x -out it",
            &["it.pem"],
        ),
        (
            "both",
            "a PKCS #12 file (PFX)",
            "openssl pkcs12 -export -in cert.pem -inkey key.pem -passout pass: -out it",
            &["it.pem"],
        ),
        (
            "both",
            "DER in base64",
            "openssl pkcs12 -export -in cert.pem -inkey key.pem -passout pass: | base64 -w0 > it",
            &["it.pem"],
        ),
        (
            "cert",
            "a certificate in DER",
            "openssl x509 -in cert.pem -outform DER -out it",
            &["it.pem"],
        ),
        (
            "cert",
            "DER in base64",
            "openssl x509 -in cert.pem -outform DER | base64 > it",
            &["it.pem"],
        ),
        (
            "cert",
            "a PKCS #7 file",
            "openssl crl2pkcs7 -nocrl -certfile cert.pem -out it",
            &["it.pem"],
        ),
        (
            "cert",
            "a PKCS #7 file",
            "openssl crl2pkcs7 -nocrl -certfile cert.pem -outform DER -out it",
            &["it.pem"],
        ),
        (
            "cert",
            "PEM after a byte order mark",
            "{ printf '\\357\\273\\277'; cat cert.pem; } > it",
            &["it.pem"],
        ),
        (
            "cert",
            "PEM in UTF-16 with a byte order mark",
            "iconv -f UTF-8 -t UTF-16 cert.pem > it",
            &["it.pem"],
        ),
        (
            "cert",
            "PEM in UTF-16 with a byte order mark",
            "{ printf '\\376\\377'; iconv -f UTF-8 -t UTF-16BE cert.pem; } > it",
            &["it.pem"],
        ),
        (
            "key",
            "an encrypted private key",
            "openssl pkey -in key.pem -aes256 -passout pass:x -out it",
            &["it.pem"],
        ),
        (
            "key",
            "an encrypted private key",
            "openssl rsa -in key.pem -traditional -aes256 -passout pass:x -out it",
            &["it.pem"],
        ),
        (
            "key",
            "an encrypted private key",
            "openssl pkcs8 -topk8 -in key.pem -passout pass:x -outform DER -out it",
            &["it.pem"],
        ),
        (
            "key",
            "an encrypted private key",
            "openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -in key.pem -passout pass:x -outform DER -out it",
            &["it.pem"],
        ),
        (
            "key",
            "a private key in DER",
            "openssl pkey -in key.pem -outform DER -out it",
            &["it.pem"],
        ),
        (
            "key",
            "a private key in DER",
            "openssl pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out it",
            &["it.pem"],
        ),
        (
            "key",
            "DER in base64",
            "openssl pkey -in key.pem -outform DER | base64 > it",
            &["it.pem"],
        ),
        (
            "key",
            "PEM after a byte order mark",
            "{ printf '\\357\\273\\277'; cat key.pem; } > it",
            &["it.pem"],
        ),
        (
            "both",
            "PEM after a byte order mark",
            "{ printf '\\357\\273\\277'; cat cert.pem key.pem; } > it",
            &["it.cert.pem", "it.key.pem"],
        ),
        (
            "both",
            "an encrypted private key",
            "{ cat cert.pem; openssl pkey -in key.pem -aes256 -passout pass:x; } > it",
            &["it.cert.pem", "it.key.pem"],
        ),
    ];

    #[test]
    fn command_of_each_message_makes_usable_files() {
        for name in ["plain", "with a blank and a ' quote"] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            make_certificate(&folder);
            let path = |name: &str| folder.join(name);
            let shell = |command: &str| {
                let done = Command::new("sh")
                    .current_dir(&folder)
                    .args(["-c", command])
                    .output();
                let done = done.unwrap();
                assert!(
                    done.status.success(),
                    "{command}: {}",
                    String::from_utf8_lossy(&done.stderr)
                );
            };
            for (role, format, made_by, files) in FORMATS {
                shell(made_by);
                let (certificate, key) = match *role {
                    "both" => (path("it"), None),
                    "cert" => (path("it"), Some(path("key.pem"))),
                    _ => (path("cert.pem"), Some(path("it"))),
                };
                let (is, command) = refused(certificate, key);
                assert_eq!(is, *format, "{made_by}");
                let password = if made_by.contains("pass:x") {
                    "pass:x"
                } else {
                    "pass:"
                };
                let mut unasked = command.clone();
                for tool in ["pkcs12", "pkey", "pkcs8"] {
                    let asking = format!("openssl {tool}");
                    unasked = unasked.replace(&asking, &format!("{asking} -passin {password}"));
                }
                shell(&unasked);
                let new: Vec<PathBuf> = files.iter().map(|file| path(file)).collect();
                let (certificate, key) = match (*role, &new[..]) {
                    ("both", [one]) => (one.clone(), None),
                    ("both", [certificate, key]) => (certificate.clone(), Some(key.clone())),
                    ("cert", [new]) => (new.clone(), Some(path("key.pem"))),
                    (_, [new]) => (path("cert.pem"), Some(new.clone())),
                    (_, files) => panic!("{files:?}"),
                };
                prove(certificate, key).unwrap_or_else(|error| panic!("{command}: {error:?}"));
                for file in &new {
                    std::fs::remove_file(file).unwrap();
                }
            }
        }
    }

    #[test]
    fn usable_files_are_not_converted() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let read = |name: &str| std::fs::read(path(name)).unwrap();
        make_certificate(folder.path());
        let encrypted = openssl(folder.path(), "pkey -in key.pem -aes256 -passout pass:x");
        for (content, role) in [
            (read("cert.pem"), Role::Certificate),
            (read("key.pem"), Role::Key),
            (read("key1.pem"), Role::Key),
            ([read("cert.pem"), read("key.pem")].concat(), Role::Both),
            ([read("cert.pem"), encrypted].concat(), Role::Certificate),
            (b"MII is no base64 of anything".to_vec(), Role::Both),
            (b"0".to_vec(), Role::Both),
            (vec![SEQUENCE; 200], Role::Both),
            (Vec::new(), Role::Both),
        ] {
            assert_eq!(needed(&path("it"), &content, role), None, "{role:?}");
        }
    }

    fn refused(certificate: PathBuf, key: Option<PathBuf>) -> (&'static str, String) {
        match prove(certificate, key) {
            Err(CredentialError::Format {
                format, command, ..
            }) => (format, command),
            Err(error) => panic!("{error:?}"),
            Ok(()) => panic!("it serves"),
        }
    }

    fn prove(certificate: PathBuf, key: Option<PathBuf>) -> Result<(), CredentialError> {
        let credential = Credential::Certificate { certificate, key };
        Proof::of(&credential, "client", "audience", DateTime::UNIX_EPOCH).map(drop)
    }
}
