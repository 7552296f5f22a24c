//! Certificate and key files in a format other than unencrypted PEM, and the commands that convert them.
//!
//! Portals and tools provide PKCS #12 (PFX), DER, PKCS #7 and encrypted keys; editors and shells add a byte order mark.
//! This module does not convert files: the administrator decides where a decrypted key is stored.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

/// The required contents of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Certificate,
    Key,
    Both,
}

/// Returns a message with the format of the file and the remedy. `bytes` is the content of the file `path`. Returns
/// `None` if the format is unencrypted PEM or unknown.
pub(crate) fn needed(path: &Path, bytes: &[u8], role: Role) -> Option<String> {
    let file = quoted(&path.display().to_string());
    let ((object, form), format, openssl, input) =
        if let Some((prefix, format, decoded)) = encoding(bytes) {
            let object = object(&decoded).unwrap_or((Object::Plain, Form::Pem));
            let openssl = format!("{prefix} {file} | openssl");
            (object, format, openssl, String::new())
        } else {
            let (object, form) = object(bytes)?;
            // No conversion is needed, because only the PEM certificates of a certificate file are read.
            if form == Form::Pem && role == Role::Certificate && contains(bytes, CERTIFICATE) {
                return None;
            }
            // The PEM reader skips such an object. If the file also has all required contents, no conversion is needed.
            let is_skipped = matches!(
                (object, form),
                (Object::Request, Form::Pem) | (Object::PublicKey | Object::OtherCertificate, _)
            );
            let has_key = role != Role::Certificate && contains(bytes, b"PRIVATE KEY-----");
            if is_skipped && has_key && (role == Role::Key || contains(bytes, CERTIFICATE)) {
                return None;
            }
            let input = format!(" -in {file}");
            ((object, form), object.name(), "openssl".to_owned(), input)
        };
    let name = object.name();
    Some(match object {
        Object::Request => format!(
            "it is {name}, not a certificate; send it to a certificate authority, and name the file of the certificate that the authority issues"
        ),
        Object::PublicKey => {
            format!("it is {name}; name the file of the private key or certificate")
        }
        _ => {
            let command = command(&openssl, path, (object, form), role, &input);
            format!(
                "it is {format}; convert it into unencrypted PEM by `{command}` and name the new file"
            )
        }
    })
}

/// The type of the object in a file. It determines the openssl command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Object {
    /// PEM, or an unknown format.
    Plain,
    Pkcs12,
    Pkcs7,
    Certificate,
    Key,
    EncryptedKey,
    OpenSshKey,
    /// A certificate with another PEM label: `TRUSTED CERTIFICATE`, with which openssl marks permitted purposes, or
    /// `X509 CERTIFICATE`, which the first versions of openssl wrote.
    OtherCertificate,
    Request,
    PublicKey,
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
            Self::Pkcs7 => "a PKCS #7 file",
            Self::Certificate => "a certificate in DER",
            Self::Key => "a private key in DER",
            Self::EncryptedKey => "an encrypted private key",
            Self::OpenSshKey => "a private key in OpenSSH's format",
            Self::OtherCertificate => "a trusted certificate of openssl",
            Self::Request => "a certificate request (CSR)",
            Self::PublicKey => "a public key",
        }
    }
}

/// Returns the command that converts the file into one or two PEM files. `openssl` is the start of the command line:
/// the program openssl, or a command that decodes the file, with a pipe to openssl. `input` is the option that names
/// the input file; empty if openssl reads from the pipe.
fn command(
    openssl: &str,
    path: &Path,
    (object, form): (Object, Form),
    role: Role,
    input: &str,
) -> String {
    let new = |suffix: &str| quoted(&format!("{}{suffix}", path.display()));
    let one = |tool: &str| format!("{openssl} {tool}{input} -out {}", new(".pem"));
    match (object, form, role) {
        (Object::Pkcs12, ..) => one("pkcs12 -nodes"),
        (Object::Pkcs7, Form::Pem, _) => one("pkcs7 -print_certs"),
        (Object::Pkcs7, Form::Der, _) => one("pkcs7 -inform DER -print_certs"),
        (Object::Certificate, ..) => one("x509 -inform DER"),
        (Object::Key, ..) => one("pkey -inform DER"),
        (Object::EncryptedKey, Form::Der, _) => one("pkcs8 -inform DER"),
        (Object::OpenSshKey, ..) => {
            let certificate = match role {
                Role::Both => format!("{openssl} x509{input} -out {} && ", new(".cert.pem")),
                Role::Certificate | Role::Key => String::new(),
            };
            // ssh-keygen overwrites its file, so the command first makes a copy, which other users must not be able to
            // read.
            format!(
                "{certificate}(umask 77 && sed -n '/BEGIN OPENSSH/,/END OPENSSH/p' {} > {new}) && ssh-keygen -p -N '' -m PEM -f {new}",
                new(""),
                new = new(".key.pem")
            )
        }
        (_, _, Role::Key) => one("pkey"),
        (Object::Plain | Object::OtherCertificate, _, Role::Certificate) => one("x509"),
        _ => format!(
            "{openssl} x509{input} -out {} && {openssl} pkey{input} -out {}",
            new(".cert.pem"),
            new(".key.pem")
        ),
    }
}

/// If a file is encoded (byte order mark, UTF-16 or base64), returns the command that decodes the file, the name of the
/// file's format, and the decoded content.
fn encoding(bytes: &[u8]) -> Option<(&'static str, &'static str, Zeroizing<Vec<u8>>)> {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => {
            let text = Zeroizing::new(rest.to_vec());
            Some(("tail -c +4", "PEM after a byte order mark", text))
        }
        [0xff, 0xfe, rest @ ..] | [0xfe, 0xff, rest @ ..] => {
            // Only the ASCII characters of UTF-16 matter here.
            let ascii = rest.iter().copied().filter(|&byte| byte != 0);
            let format = "PEM in UTF-16 with a byte order mark";
            Some((
                "iconv -f UTF-16 -t UTF-8",
                format,
                Zeroizing::new(ascii.collect()),
            ))
        }
        [b'M', ..] => {
            let text = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
            let text = Zeroizing::new(text.copied().collect::<Vec<u8>>());
            let der = Zeroizing::new(BASE64_STANDARD.decode(&*text).ok()?);
            object(&der).map(|_| ("base64 -d", "DER in base64", der))
        }
        _ => None,
    }
}

/// Returns the object in a file, unless the file is PEM that can be used unchanged.
fn object(bytes: &[u8]) -> Option<(Object, Form)> {
    // In PEM, the label of a PKCS #8 key states that the key is encrypted. For a PKCS #1 key, a header states it.
    let marks: [(&[u8], Object); 11] = [
        (b"BEGIN ENCRYPTED PRIVATE KEY", Object::EncryptedKey),
        (b"Proc-Type: 4,ENCRYPTED", Object::EncryptedKey),
        (b"BEGIN OPENSSH PRIVATE KEY", Object::OpenSshKey),
        (b"BEGIN PKCS7", Object::Pkcs7),
        (b"BEGIN CMS", Object::Pkcs7),
        (b"BEGIN TRUSTED CERTIFICATE", Object::OtherCertificate),
        (b"BEGIN X509 CERTIFICATE", Object::OtherCertificate),
        (b"BEGIN CERTIFICATE REQUEST", Object::Request),
        (b"BEGIN NEW CERTIFICATE REQUEST", Object::Request),
        (b"BEGIN PUBLIC KEY", Object::PublicKey),
        (b"BEGIN RSA PUBLIC KEY", Object::PublicKey),
    ];
    if let Some(&(_, object)) = marks.iter().find(|(mark, _)| contains(bytes, mark)) {
        return Some((object, Form::Pem));
    }
    if bytes.first() != Some(&SEQUENCE) {
        return None;
    }
    let begin = &bytes[..bytes.len().min(BEGIN)];
    let object = if x509_parser::parse_x509_certificate(&CertificateDer::from(bytes)).is_ok() {
        Object::Certificate
    } else if X509CertificationRequest::from_der(bytes).is_ok() {
        Object::Request
    } else if contains(begin, PKCS7_SIGNED) && !contains(begin, VERSION_3) {
        Object::Pkcs7
    } else if contains(begin, VERSION_3) && contains(begin, PKCS7) {
        Object::Pkcs12
    } else if contains(begin, PKCS5) || contains(begin, PKCS12_PBE) {
        Object::EncryptedKey
    } else {
        PrivateKeyDer::try_from(bytes).ok().map(|_| Object::Key)?
    };
    Some((object, Form::Der))
}

pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
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

/// The first line of a certificate in PEM.
pub(crate) const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The first byte of every certificate, key and container in DER.
const SEQUENCE: u8 = 0x30;

/// The version number at the beginning of a PKCS #12 file.
const VERSION_3: &[u8] = &[0x02, 0x01, 0x03];

/// The OID arc 1.2.840.113549.1.7: contents of PKCS #7. A PKCS #12 file contains it too.
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];

/// The OID 1.2.840.113549.1.7.2: signed data, the PKCS #7 content that lists certificates.
const PKCS7_SIGNED: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// The OID arc 1.2.840.113549.1.5: encryption by password.
const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];

/// The OID arc 1.2.840.113549.1.12.1: encryption by password in the older form of PKCS #12.
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];

/// Number of bytes at the beginning of a file that contain the type of its object.
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
            "key",
            "a private key in OpenSSH's format",
            "openssl pkey -in key.pem -traditional -out it && chmod 600 it && ssh-keygen -q -p -N '' -f it",
            &["it.key.pem"],
        ),
        (
            "both",
            "a private key in OpenSSH's format",
            "openssl pkey -in key.pem -traditional -out it && chmod 600 it && ssh-keygen -q -p -N '' -f it && cat cert.pem it > both && mv both it",
            &["it.cert.pem", "it.key.pem"],
        ),
        (
            "cert",
            "a trusted certificate of openssl",
            "openssl x509 -in cert.pem -trustout -out it",
            &["it.pem"],
        ),
        (
            "both",
            "a trusted certificate of openssl",
            "openssl x509 -in cert.pem -trustout -out it && cat key.pem >> it",
            &["it.cert.pem", "it.key.pem"],
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

    #[test]
    fn files_of_another_kind_are_explained() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        make_certificate(folder.path());
        let request = "req -new -key key.pem -subj /CN=x";
        for (command, is) in [
            (
                request,
                "it is a certificate request (CSR), not a certificate; send it",
            ),
            (
                &format!("{request} -outform DER"),
                "it is a certificate request (CSR), not a certificate; send it",
            ),
            (
                "pkey -in key.pem -pubout",
                "it is a public key; name the file of the private key",
            ),
        ] {
            let content = openssl(folder.path(), command);
            for role in [Role::Certificate, Role::Key, Role::Both] {
                let found = needed(&path, &content, role);
                let found = found.unwrap_or_default();
                assert!(found.starts_with(is), "{command}: {found}");
            }
        }
    }

    #[test]
    fn objects_beside_a_usable_key_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        make_certificate(folder.path());
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let (certificate, key) = (read("cert.pem"), read("key.pem"));
        for command in [
            "req -new -key key.pem -subj /CN=x",
            "pkey -in key.pem -pubout",
            "x509 -in cert.pem -trustout",
        ] {
            let other = openssl(folder.path(), command);
            let beside_key = [&*other, &*key].concat();
            assert_eq!(needed(&path, &beside_key, Role::Key), None, "{command}");
            let both = [&*other, &*key, &*certificate].concat();
            assert_eq!(needed(&path, &both, Role::Both), None, "{command}");
        }
    }

    /// The format and the command of the message.
    fn refused(certificate: PathBuf, key: Option<PathBuf>) -> (String, String) {
        let message = match prove(certificate, key) {
            Err(CredentialError::Sign(_, conversion)) => conversion.to_string(),
            Err(error) => panic!("{error:?}"),
            Ok(()) => panic!("it serves"),
        };
        let format = message.strip_prefix("it is ").unwrap();
        let (format, rest) = format.split_once("; convert it").unwrap();
        let (_, command) = rest.split_once('`').unwrap();
        let (command, _) = command.rsplit_once('`').unwrap();
        (format.to_owned(), command.to_owned())
    }

    fn prove(certificate: PathBuf, key: Option<PathBuf>) -> Result<(), CredentialError> {
        let credential = Credential::Certificate { certificate, key };
        Proof::create(&credential, "client", "audience", DateTime::UNIX_EPOCH).map(drop)
    }
}
