//! Verifies client assertions, which a client signs instead of sending a secret:
//! <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use x509_parser::parse_x509_certificate;

/// A valid assertion. The caller still has to check that it was not used before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assertion {
    pub(super) id: String,
    /// Unix seconds.
    pub(super) expires: i64,
}

/// AADSTS number and text.
pub(super) type Refusal = (u32, String);

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    #[serde(rename = "x5t#S256")]
    sha256: Option<String>,
    /// The SHA-1 thumbprint, which Microsoft's own libraries send.
    #[serde(rename = "x5t")]
    sha1: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    iss: String,
    sub: String,
    jti: String,
    nbf: Option<i64>,
    iat: Option<i64>,
    exp: i64,
}

/// As strict as the documentation, which requires PS256 and `x5t#S256`. Microsoft's own libraries write RS256, `x5t` and no
/// `nbf`, which is accepted too, like by Entra.
pub(super) fn verify(
    assertion: &str,
    audience: &str,
    client_id: &str,
    certificates: &[Vec<u8>],
    now: DateTime<Utc>,
) -> Result<Assertion, Refusal> {
    let malformed = || refusal(50_027, "JWT token is invalid or malformed.");
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let header: Header = decoded(header).ok_or_else(malformed)?;
    let claims: Claims = decoded(claims).ok_or_else(malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?;
    let Some(parameters) = header.parameters() else {
        return Err(refusal(
            700_027,
            "Client assertion failed signature validation: the algorithm is not PS256 or RS256 or the type is not JWT.",
        ));
    };
    if header.sha256.is_none() && header.sha1.is_none() {
        return Err(malformed());
    }
    let certificate = certificates.iter().find(|der| header.names(der));
    let certificate = certificate.ok_or_else(|| {
        let thumbprint = header.sha256.as_ref().or(header.sha1.as_ref());
        let thumbprint = thumbprint.map_or("", String::as_str);
        refusal(
            700_027,
            &format!(
                "Client assertion contains an invalid signature. [Reason - The key was not found., Thumbprint of \
                 key used by client: '{thumbprint}']"
            ),
        )
    })?;
    if !is_signature_of(parameters, &signature, signed, certificate) {
        return Err(refusal(
            700_027,
            "Client assertion contains an invalid signature. [Reason - The key was found, but the signature is not its.]",
        ));
    }
    if claims.aud != audience {
        return Err(refusal(
            700_023,
            "Client assertion audience claim does not match Realm issuer.",
        ));
    }
    if claims.iss != client_id || claims.sub != client_id {
        return Err(refusal(
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        ));
    }
    let now = now.timestamp();
    let begin = claims.nbf.or(claims.iat).unwrap_or(now);
    if begin > now + CLOCK_SKEW
        || claims.exp <= now - CLOCK_SKEW
        || claims.exp <= begin
        || claims.exp - begin > LIFETIME_MAX
    {
        return Err(refusal(
            700_024,
            "Client assertion is not within its valid time range.",
        ));
    }
    if claims.jti.is_empty() {
        return Err(malformed());
    }
    Ok(Assertion {
        id: claims.jti,
        expires: claims.exp,
    })
}

impl Header {
    /// The verification algorithm of the signature.
    fn parameters(&self) -> Option<&'static RsaParameters> {
        if self.typ.as_ref().is_some_and(|typ| typ != "JWT") {
            return None;
        }
        match self.alg.as_str() {
            "PS256" => Some(&RSA_PSS_2048_8192_SHA256),
            "RS256" => Some(&RSA_PKCS1_2048_8192_SHA256),
            _ => None,
        }
    }

    /// Returns true if each thumbprint in it is this certificate's.
    fn names(&self, der: &[u8]) -> bool {
        [
            (&self.sha256, &SHA256),
            (&self.sha1, &SHA1_FOR_LEGACY_USE_ONLY),
        ]
        .into_iter()
        .all(|(named, hash)| {
            let named = named.as_ref();
            named.is_none_or(|named| *named == thumbprint(hash, der))
        })
    }
}

fn refusal(code: u32, text: &str) -> Refusal {
    (code, text.to_owned())
}

fn decoded<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn thumbprint(hash: &'static ring::digest::Algorithm, der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(hash, der))
}

fn is_signature_of(
    parameters: &'static RsaParameters,
    signature: &[u8],
    signed: &str,
    certificate: &[u8],
) -> bool {
    parse_x509_certificate(certificate).is_ok_and(|(_, certificate)| {
        let key = &certificate.public_key().subject_public_key.data;
        UnparsedPublicKey::new(parameters, key)
            .verify(signed.as_bytes(), signature)
            .is_ok()
    })
}

/// Tolerated difference of clocks, in seconds.
const CLOCK_SKEW: i64 = 300;

/// The documentation asks for 5 to 10 minutes.
const LIFETIME_MAX: i64 = 600;

#[cfg(test)]
mod unit_tests {
    use base64::engine::general_purpose::STANDARD;

    use super::vectors::{ASSERTION, CERTIFICATE, LONG_LIVED, RS256_ASSERTION, RS256_CERTIFICATE};
    use super::*;

    #[test]
    fn assertions_by_table() {
        let right = (AUDIENCE, "app", NOT_BEFORE + 60);
        let check = |assertion: &str, (audience, client_id, now): (&str, &str, i64), code: u32| {
            let certificates = [b"another".to_vec(), STANDARD.decode(CERTIFICATE).unwrap()];
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let verified = verify(assertion, audience, client_id, &certificates, now);
            assert_eq!(verified.map_or_else(|(code, _)| code, |_| 0), code);
        };
        check(ASSERTION, right, 0);
        check(ASSERTION, (AUDIENCE, "app", NOT_BEFORE - 299), 0);
        check(ASSERTION, (AUDIENCE, "app", NOT_BEFORE - 301), 700_024);
        check(ASSERTION, (AUDIENCE, "app", NOT_BEFORE + 899), 0);
        check(ASSERTION, (AUDIENCE, "app", NOT_BEFORE + 901), 700_024);
        check(LONG_LIVED, right, 700_024);
        check(
            ASSERTION,
            ("https://login.example/", "app", NOT_BEFORE),
            700_023,
        );
        check(ASSERTION, (AUDIENCE, "another", NOT_BEFORE), 700_021);
        check("", right, 50_027);
        check("a.b", right, 50_027);
        check("e30.e30.e30", right, 50_027);
        let (signed, signature) = ASSERTION.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let (_, other_signature) = LONG_LIVED.rsplit_once('.').unwrap();
        check(&format!("{signed}.{other_signature}"), right, 700_027);
        let with_header = |from: &str, to: &str| {
            let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
            let header = URL_SAFE_NO_PAD.encode(header.replace(from, to));
            format!("{header}.{claims}.{signature}")
        };
        check(&with_header("PS256", "RS256"), right, 700_027);
        check(&with_header("x5t#S256", "x5t"), right, 700_027);
        check(&with_header("x5t#S256", "kid"), right, 50_027);
        check(&with_header("PS256", "HS256"), right, 700_027);
        check(&with_header("JWT", "jwt"), right, 700_027);
        check(&with_header("\"}", "x\"}"), right, 700_027);
    }

    #[test]
    fn the_assertions_of_microsofts_libraries_are_verified_too() {
        let certificates = [CERTIFICATE, RS256_CERTIFICATE].map(|it| STANDARD.decode(it).unwrap());
        let check = |assertion: &str, now: i64, code: u32| {
            let now = DateTime::from_timestamp(now, 0).unwrap();
            let verified = verify(assertion, AUDIENCE, "app", &certificates, now);
            assert_eq!(verified.map_or_else(|(code, _)| code, |_| 0), code);
        };
        check(RS256_ASSERTION, NOT_BEFORE + 60, 0);
        check(RS256_ASSERTION, NOT_BEFORE - 301, 700_024);
        check(RS256_ASSERTION, NOT_BEFORE + 901, 700_024);
        let (signed, signature) = RS256_ASSERTION.rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        let (_, other_signature) = ASSERTION.rsplit_once('.').unwrap();
        let header = String::from_utf8(URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        for (from, to) in [
            ("RS256", "PS256"),
            ("RS256", "none"),
            ("\"x5t\":\"", "\"x5t\":\"x"),
        ] {
            let header = URL_SAFE_NO_PAD.encode(header.replace(from, to));
            check(
                &format!("{header}.{claims}.{signature}"),
                NOT_BEFORE,
                700_027,
            );
        }
        check(&format!("{signed}.{other_signature}"), NOT_BEFORE, 700_027);
    }

    #[test]
    fn a_certificate_that_is_not_there_is_named() {
        let now = DateTime::from_timestamp(NOT_BEFORE, 0).unwrap();
        let (code, text) = verify(ASSERTION, AUDIENCE, "app", &[], now).unwrap_err();
        assert_eq!(code, 700_027);
        let certificate = STANDARD.decode(CERTIFICATE).unwrap();
        assert!(text.contains(&thumbprint(&SHA256, &certificate)), "{text}");
    }

    const AUDIENCE: &str = "https://login.example/contoso.com/oauth2/v2.0/token";
    const NOT_BEFORE: i64 = 1_700_000_000;
}

/// Signed by OpenSSL, an implementation independent of the verifier and of the exporter's signer.
#[cfg(test)]
pub(super) mod vectors {
    /// Self-signed, RSA of 2048 bits; its key was thrown away.
    pub(crate) const CERTIFICATE: &str = "MIIDAjCCAeqgAwIBAgIBATANBgkqhkiG9w0BAQsFADAZMRcwFQYDVQQDDA5zaW11bGF0b3IgdGVzdDAgFw0yNjExMjExNDA3MzBa\
        GA8yMTI2MTAyODE0MDczMFowGTEXMBUGA1UEAwwOc2ltdWxhdG9yIHRlc3QwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIB\
        AQCqTHPFfxA43/0NiQaizb4wEAOmDnYu6A5YJFSJudQbI3BhAhV5iUeuZz3YKO+VIpZUsawHQr6EYKDoPQ0nDgQyRvB6J33TvPGC\
        cUJjLt6b7aYaMtOAnUp7XAR1sikZn3iJmAgjf0hQc8wsAREa1relZxTLWWGXVY6nbR5yMTJe9umJEW36IPfOP83dsXSoZSNkHfFe\
        SR722txKhUqJAMnQnWEOIjsmq2c6lsW7rbef43OlKpXvmden0VC+JbrQ8Z8zJzkfLPE965FENYMUb6pGL3aF9QOXqbZo9sJCRgiZ\
        j/7e3zoUbTcOY3G6ILqiapUd3yVlKSO8QZcePsoZUzgZAgMBAAGjUzBRMB0GA1UdDgQWBBSZqYvVBHd6Pp0vtAJsfhw/XPBmYTAf\
        BgNVHSMEGDAWgBSZqYvVBHd6Pp0vtAJsfhw/XPBmYTAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4IBAQA1LjPz5HE5\
        1G8veZUIRTB9KFMDKm0L5CuXqbF1hQqmTblR7N96CL63Y0boC9Q/VoFb0OusEJnCm+QE5eUncPaa1irS4g3hUr22Wa+hPh7QC+f4\
        o6RDRgTn3zRi4k5qBTfw8/EeWk8NquBht1tWh3IEVHuENRx4pDHS3OaPTy/zzqzCvg/+IADvI6aK/0TMlND1f4SBKjuXNh4ilaL9\
        v5Kayb9NSRbb3iYCi6FJXG2IHrlqYj1QvQu3IB33j4HALSPj0qNaL5hBCrgq2NGjgkyNS85nuI0DdcL11EbPOJcXoAPm1Rpkt171\
        rWHZxh6kg3JZDgrtjzGwU3TchnolIKjz";

    /// Of "app", for ten minutes.
    pub(crate) const ASSERTION: &str = "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCIsIng1dCNTMjU2Ijoic254SFctelQxZXdmbUdlY0lMbUhVeWZKZ0VuU1djWElMekF0\
        V2h2RDhjTSJ9.eyJhdWQiOiJodHRwczovL2xvZ2luLmV4YW1wbGUvY29udG9zby5jb20vb2F1dGgyL3YyLjAvdG9rZW4iLCJpc3M\
        iOiJhcHAiLCJzdWIiOiJhcHAiLCJqdGkiOiJvbmUiLCJuYmYiOjE3MDAwMDAwMDAsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjoxNzA\
        wMDAwNjAwfQ.J-bP2JqqLjY_am5He6pgH94bTZuOXHd0FITP7A0u5EIZBjz3Y90N0I6wKmkS5_CnqeqwlqSx1lcUl2WWTF1zrpFt\
        UGRMnAYHVMWmcCTQlwVGtHtC5mtoy-c3aRaRc_GQYFbKK7nGsEWAyhAKyO7980H3recRe3QHFeBr9pP7qMTKkZIUvKOQCxh5tZ2D\
        l2S_fLrl5avmQjvDWlsn-AIdhxuOYv_Dn0RVFyeB9tebShXGpGdsAt5nxkNK0H3wJviJAgrZU9VWcKj_CxjEc4pUXxyGkYqTg2AK\
        ffTnOYd1pMkrKIPJdciVd9jsW13jZ22-OvA1Hwz4EkrGcNWCkluKgw";

    /// The same, valid for an hour.
    pub(crate) const LONG_LIVED: &str = "eyJhbGciOiJQUzI1NiIsInR5cCI6IkpXVCIsIng1dCNTMjU2Ijoic254SFctelQxZXdmbUdlY0lMbUhVeWZKZ0VuU1djWElMekF0\
        V2h2RDhjTSJ9.eyJhdWQiOiJodHRwczovL2xvZ2luLmV4YW1wbGUvY29udG9zby5jb20vb2F1dGgyL3YyLjAvdG9rZW4iLCJpc3M\
        iOiJhcHAiLCJzdWIiOiJhcHAiLCJqdGkiOiJ0d28iLCJuYmYiOjE3MDAwMDAwMDAsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjoxNzA\
        wMDAzNjAwfQ.Ng8Qeheu4an4arzqJ02z0HAe0AaY-VUei-iRcNYmNyrUz__rtf83-09wBKX5lD7rmfJBfp6sZGegRTz2XEzn6duE\
        fZQjDVA0TRaudrAxqx6-8CbD5it4Y03chQ4R9-ctaD3iR3hJGrNjVw_-kLxCR1eGV-TLdJOUIXppvo81A_VgZ0UX0YZxk784w0Gq\
        hXBnFngzh1SYLArZRd4naqb6sD5Pts-kr611dUdzjlTdB72iNNb8mDmJTxwHQjqwGE-yrxigfRFr1-qj4zw-IenBtRnql045S9Nb\
        UJZcQlBQhBMARvKo529s1QAtHgP4t034nEnojH2IDf2GKs8FpwXIvQ";

    /// Of the assertion below; its key was thrown away too.
    pub(crate) const RS256_CERTIFICATE: &str = "MIIDFTCCAf2gAwIBAgIUf6U+8IJZto+R/PCwbHTg5rxTEugwDQYJKoZIhvcNAQELBQAwGTEXMBUGA1UEAwwOc2ltdWxhdG9yIHRl\
        c3QwIBcNMjYxMTI5MDkwMzUzWhgPMjEyNjExMDUwOTAzNTNaMBkxFzAVBgNVBAMMDnNpbXVsYXRvciB0ZXN0MIIBIjANBgkqhkiG\
        9w0BAQEFAAOCAQ8AMIIBCgKCAQEAuF4/RUzWt2Q9oYqo/yw1bh5mnEs9A+opjNeRK4co138MdI2ZyfURouvfg0m+Hwr0vf3Mhhrt\
        yp4ZRBd0qrbJOUojNC4dcnb8jsp5HbS8E6LzRRLGzx6lEzpGIqs1cnOgYI4aP0+tZTLFlMTfM9TpkKARsg21gKkUB+u8tHMsr/Y2\
        0S5N7IZN6eS+ShUO4TM+M8oZcCT3rzRiElGwqyOzadV//XFX2I6TUqhk+/ervvE5gEx+PySCMUt1oxC371cjVGnsqGjRUYRiuprF\
        4ulmeaAz1jWwBzLCZjdPzAhiUZHOAD1T54CkPhU4bULgZaAOTnf0yj0gM/KWYuL+bg4cyQIDAQABo1MwUTAdBgNVHQ4EFgQUDRXH\
        qGlPjTjIxQuahYvsl9HhwqswHwYDVR0jBBgwFoAUDRXHqGlPjTjIxQuahYvsl9HhwqswDwYDVR0TAQH/BAUwAwEB/zANBgkqhkiG\
        9w0BAQsFAAOCAQEAFrzNzZv4hDG8oaP49L3oyTG8yfOb1I4PVSyhAuhHMJoMoGltHA0Pyq0CWWlBnDPIieN63X67yu1opzgq07hk\
        gHDgOCdOUlxtw9YskDEOpjQotCnP5/IRcx12nDceVcmEYeqDlYa5ZIYXJH9yzfmGwdyrcH2hNCtW256KBV/i0xa0lBmiPKoLOGeX\
        NoAJUB5NW/9EVzuhZ8EnUKJ2Hm0zzP7MfEFTdS22ow8qSeOw3fvz/nS70p4ovdOk/DCCyaPpzgjRnGyn+2Tm1tt3Xyiolf8D1Vju\
        +S71qPFQvxw4BHWnUgbINEKApMQeNT65adbuB4jXR7I6Ga29/pLagYg18Q==";

    /// The same in the form of Microsoft's own libraries: RS256, `x5t` and no `nbf`.
    pub(crate) const RS256_ASSERTION: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsIng1dCI6ImNxcUxaeU91VWprV0h3T2x2cWQ4M0tQLWZsNCJ9.eyJhdWQiOiJodHR\
        wczovL2xvZ2luLmV4YW1wbGUvY29udG9zby5jb20vb2F1dGgyL3YyLjAvdG9rZW4iLCJleHAiOjE3MDAwMDA2MDAsImlzcyI6ImF\
        wcCIsInN1YiI6ImFwcCIsImp0aSI6InRocmVlIiwiaWF0IjoxNzAwMDAwMDAwfQ.gl0SA4cyLnmb_RHJjFrIIuyCcuucZxMxViBw\
        Nn1d4FLPfQcGYG5qBaFNt0AwYb9XTxb0D3VVqB74Y1L7Bk7znVpHDLNHpgr1TJf3w6sUFnQwSu69Ag2_Poonr11iiP4v4XYM6hCb\
        IPkwQOF0AYTrgYhfbdXAMqQha-y9ImBCoT8pbtBOjJPPSws0wABrVQP3dD2yWsGv0cAvKfRYJOLdkUMXeUQ6VaYHYUSMdM2XlUUo\
        HhtVmRu57L5gun57eddTZaw9ixfgAZx84Yu-JeaqRLkRBorn9tJRebj6CEy7hwE5ZlWGKfk04AsssfVhZQW3u8bdY2HseWiH9PRB\
        gxg-Lw";
}
