//! Client assertions: a JWT that proves possession of a certificate's key.
//!
//! See <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>. Only RSA keys are supported,
//! because Microsoft requires PS256. This module reads neither files nor a clock. For files that are not
//! unencrypted PEM, the messages in `secret_file::conversion` explain how to convert them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, TimeDelta, Utc};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A signed assertion and the expiry of its certificate.
pub(crate) struct Assertion {
    pub(crate) jwt: SecretString,
    pub(crate) not_after: DateTime<Utc>,
}

/// Errors of a certificate and its key. No message contains any part of the key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssertionError {
    #[error("the certificate file contains no certificate in PEM format")]
    NoCertificate,
    #[error("the key file contains no private key in PEM format")]
    NoKey,
    #[error("the private key is not an RSA key, the only kind that the token endpoint takes")]
    NotRsa,
    #[error("the private key cannot be used: {0}")]
    Key(ring::error::KeyRejected),
    /// The PEM cannot be read. The cause is omitted, because it can quote the file.
    #[error("cannot read the PEM of the {0}")]
    Pem(&'static str),
    #[error("cannot read the certificate")]
    Certificate(#[source] x509_parser::error::X509Error),
    #[error("the private key belongs to none of the certificates in the file")]
    Mismatch,
}

/// Signs an assertion, valid from `now`, that proves the identity of `client_id` to the token endpoint `audience`.
///
/// Selects the certificate in `certificate_pem` that matches the key, so the file can be a chain in any order.
pub(crate) fn sign(
    certificate_pem: &[u8],
    key_pem: &[u8],
    client_id: &str,
    audience: &str,
    now: DateTime<Utc>,
) -> Result<Assertion, AssertionError> {
    let key = read_key(key_pem)?;
    let (certificate, not_after) = read_certificate(certificate_pem, &key)?;
    let header = json!({
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": BASE64URL.encode(digest(&SHA256, &certificate)),
    });
    let issued = now.timestamp();
    let claims = json!({
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": uuid::Uuid::new_v4().to_string(),
        "iat": issued,
        "nbf": issued,
        "exp": issued + LIFETIME.num_seconds(),
    });
    let part = |json: Value| BASE64URL.encode(json.to_string());
    let unsigned = format!("{}.{}", part(header), part(claims));
    let mut signature = Zeroizing::new(vec![0; key.public().modulus_len()]);
    key.sign(
        &RSA_PSS_SHA256,
        &SystemRandom::new(),
        unsigned.as_bytes(),
        &mut signature,
    )
    .expect("the buffer has the length of the modulus, which has room for a salt and a digest");
    let signature = Zeroizing::new(BASE64URL.encode(&signature));
    Ok(Assertion {
        // `concat` allocates the full length at once. A buffer that grows would leave copies in memory.
        jwt: [unsigned.as_str(), ".", signature.as_str()].concat().into(),
        not_after,
    })
}

fn read_key(text: &[u8]) -> Result<RsaKeyPair, AssertionError> {
    let der = PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => AssertionError::NoKey,
        _ => AssertionError::Pem("key"),
    })?;
    let der = Zeroizing::new(der);
    match &*der {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(AssertionError::NotRsa),
    }
    .map_err(|error| match error.to_string().as_str() {
        "WrongAlgorithm" => AssertionError::NotRsa,
        _ => AssertionError::Key(error),
    })
}

fn read_certificate(
    text: &[u8],
    key: &RsaKeyPair,
) -> Result<(CertificateDer<'static>, DateTime<Utc>), AssertionError> {
    let mut found = false;
    for der in CertificateDer::pem_slice_iter(text) {
        let der = der.map_err(|_| AssertionError::Pem("certificate"))?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)
            .map_err(|error| AssertionError::Certificate(error.into()))?;
        found = true;
        if *certificate.public_key().subject_public_key.data == *key.public().as_ref() {
            let not_after = certificate.validity().not_after.timestamp();
            let not_after =
                DateTime::from_timestamp(not_after, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
            return Ok((der, not_after));
        }
    }
    Err(if found {
        AssertionError::Mismatch
    } else {
        AssertionError::NoCertificate
    })
}

/// Lifetime of an assertion: the longest that the token endpoint accepts. With it, an assertion tolerates the largest
/// error of this machine's clock.
const LIFETIME: TimeDelta = TimeDelta::minutes(10);

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;
    use std::process::Command;

    use secrecy::ExposeSecret as _;

    use super::*;

    /// Runs openssl, the independent implementation that these tests compare with.
    pub(crate) fn openssl(folder: &Path, arguments: &str) -> Vec<u8> {
        let output = Command::new("openssl")
            .current_dir(folder)
            .args(arguments.split(' '))
            .output()
            .expect("these tests need the openssl command");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {complaint}");
        output.stdout
    }

    /// Writes `key.pem` (PKCS#8), `key1.pem` (PKCS#1) and `cert.pem` in the folder.
    pub(crate) fn make_certificate(folder: &Path) {
        openssl(
            folder,
            "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=exporter",
        );
        openssl(folder, "rsa -in key.pem -traditional -out key1.pem");
    }

    #[test]
    fn openssl_verifies_the_assertion() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let read = |name: &str| std::fs::read(path(name)).unwrap();
        make_certificate(folder.path());
        let now: DateTime<Utc> = "2026-11-21T13:00:00Z".parse().unwrap();
        let audience = "https://login.example/t/oauth2/v2.0/token";
        let both = [read("key.pem"), read("cert.pem")].concat();
        for (certificates, key) in [
            (read("cert.pem"), read("key.pem")),
            (read("cert.pem"), read("key1.pem")),
            (both.clone(), both),
        ] {
            let assertion = sign(&certificates, &key, "client", audience, now).unwrap();
            let jwt = assertion.jwt.expose_secret();
            let (signed, signature) = jwt.rsplit_once('.').unwrap();
            let (header, claims) = signed.split_once('.').unwrap();

            std::fs::write(path("signed"), signed).unwrap();
            std::fs::write(path("signature"), BASE64URL.decode(signature).unwrap()).unwrap();
            openssl(
                folder.path(),
                "x509 -in cert.pem -pubkey -noout -out pub.pem",
            );
            let verdict = openssl(
                folder.path(),
                "dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32 -verify pub.pem -signature signature signed",
            );
            assert_eq!(verdict, b"Verified OK\n");

            let json = |part: &str| -> serde_json::Value {
                serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap()
            };
            let (header, claims) = (json(header), json(claims));
            let print = openssl(folder.path(), "x509 -in cert.pem -outform DER");
            assert_eq!(header["alg"], "PS256");
            assert_eq!(header["typ"], "JWT");
            assert_eq!(
                header["x5t#S256"],
                BASE64URL.encode(digest(&SHA256, &print))
            );
            assert_eq!(
                (&claims["iss"], &claims["sub"]),
                (&"client".into(), &"client".into())
            );
            assert_eq!(claims["aud"], audience);
            let times = ["nbf", "iat", "exp"].map(|claim| claims[claim].as_i64().unwrap());
            assert_eq!(times.map(|time| time - now.timestamp()), [0, 0, 600]);
            assert_eq!(claims["jti"].as_str().unwrap().len(), 36);

            let end = openssl(
                folder.path(),
                "x509 -in cert.pem -noout -enddate -dateopt iso_8601",
            );
            let end = String::from_utf8(end).unwrap();
            let end = end.trim().strip_prefix("notAfter=").unwrap();
            assert_eq!(
                assertion.not_after.format("%Y-%m-%d %H:%M:%SZ").to_string(),
                end
            );
        }
    }

    #[test]
    fn unusable_files_are_explained() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        make_certificate(folder.path());
        openssl(folder.path(), "genrsa -out other.pem 2048");
        openssl(folder.path(), "genrsa -out small.pem 1024");
        openssl(
            folder.path(),
            "ecparam -name prime256v1 -genkey -noout -out ec1.pem",
        );
        openssl(folder.path(), "pkey -in ec1.pem -out ec8.pem");
        let mut chain = [read("cert.pem"), read("cert.pem")].concat();
        chain[40] = b'!';
        for (certificate, key, expected) in [
            (read("cert.pem"), read("other.pem"), "belongs to none"),
            (read("cert.pem"), read("small.pem"), "cannot be used"),
            (read("cert.pem"), read("ec1.pem"), "not an RSA key"),
            (read("cert.pem"), read("ec8.pem"), "not an RSA key"),
            (read("cert.pem"), read("cert.pem"), "no private key"),
            (read("key.pem"), read("key.pem"), "no certificate"),
            (Vec::new(), read("key.pem"), "no certificate"),
            (chain, read("key.pem"), "certificate"),
        ] {
            let error = sign(&certificate, &key, "c", "a", DateTime::UNIX_EPOCH)
                .err()
                .unwrap();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
