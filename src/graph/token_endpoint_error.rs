//! Token endpoint errors (AADSTS codes) and their remedies.
//!
//! The first known code of `error_codes` decides whether a request is retried, and selects the remedy. The HTTP status
//! does not tell, because it is 400 for nearly every error.
//! See <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.

mod codes;

use std::time::Duration;

use serde::Deserialize;

use self::codes::Known;
use super::FailureReason;
use super::error_body::{lenient, without_bom};
use super::foreign::Secrets;
use super::retry::FailureKind;
use crate::chain::one_line;

/// An error response of the token endpoint.
#[derive(Debug, thiserror::Error)]
#[error("the token endpoint answered {status}: {text}")]
pub struct TokenEndpointError {
    status: u16,
    known: Option<&'static Known>,
    /// The fields `error` and `error_description`, and the ids that Microsoft's support asks for, on one line.
    text: String,
    pub(crate) retry_after: Option<Duration>,
    /// True if `error` is `temporarily_unavailable`. A retry can then succeed, whatever the code is.
    is_transient: bool,
    credential: CredentialKind,
}

/// The kind of credential in the request, on which remedies depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A client secret, or a certificate that signs an assertion.
    Own,
    /// A file with the token of another issuer.
    TokenFile,
    /// A managed identity. Some statuses have another meaning at its endpoint than at Entra.
    ManagedIdentity,
}

impl TokenEndpointError {
    /// Reads the body and keeps only the text that can be shown; see [`foreign`](super::foreign).
    pub(crate) fn new(
        status: u16,
        body: &[u8],
        content_type: &'static str,
        retry_after: Option<Duration>,
        secrets: &Secrets,
        credential: CredentialKind,
    ) -> Self {
        let mut error = Self {
            status,
            known: None,
            text: format!("no readable error (Content-Type: {content_type})"),
            retry_after,
            is_transient: false,
            credential,
        };
        let Some(answer) = ErrorResponse::parse(body) else {
            return error;
        };
        error.is_transient = answer.error.as_deref() == Some("temporarily_unavailable");
        let description = answer.error_description.unwrap_or_default();
        let mut text = [
            answer.error.and_then(|error| secrets.code(&error)),
            secrets.message(&description),
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(": ");
        for (name, id) in [
            ("Trace ID", answer.trace_id),
            ("Correlation ID", answer.correlation_id),
        ] {
            let id = id.and_then(|id| secrets.request_id(&id));
            if let Some(id) = id.filter(|id| !text.contains(id)) {
                text = format!("{text} {name}: {id}");
            }
        }
        let codes = answer.error_codes.unwrap_or_default();
        let mut codes: Vec<u64> = codes.iter().filter_map(serde_json::Value::as_u64).collect();
        if codes.is_empty() {
            codes.extend(code_in(&description));
        }
        error.known = codes.into_iter().find_map(codes::known);
        error.text = one_line(&text);
        error
    }

    /// The failure kind, which decides whether the request is retried. It depends on the code, or on the status if the
    /// code is unknown.
    pub(crate) fn failure_kind(&self) -> FailureKind {
        if self.is_identity_not_ready() {
            return FailureKind::Connect;
        }
        FailureKind::Status(match self.is_retried() {
            Some(true) if self.status != 429 => 503,
            Some(false) => 400,
            _ => self.status,
        })
    }

    /// Returns true if a managed identity's endpoint is starting, being updated, or busy:
    /// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling>.
    pub(crate) fn is_identity_not_ready(&self) -> bool {
        self.credential == CredentialKind::ManagedIdentity
            && self.known.is_none()
            && matches!(self.status, 404 | 410 | 429 | 500..)
    }

    pub(crate) fn reason(&self) -> FailureReason {
        if self.is_identity_not_ready() {
            return FailureReason::Connect;
        }
        match (self.is_retried(), self.status) {
            (Some(true) | None, 429) => FailureReason::Throttled,
            (Some(true), _) | (None, 300..=399 | 500..) => FailureReason::Status,
            _ => FailureReason::Auth,
        }
    }

    pub(crate) fn remedy(&self) -> Option<&'static str> {
        if self.is_transient {
            return Some(codes::TRANSIENT);
        }
        if let Some(known) = self.known {
            let other = known
                .token_file
                .filter(|_| self.credential == CredentialKind::TokenFile);
            return Some(other.unwrap_or(known.remedy));
        }
        if self.is_identity_not_ready() {
            return Some(
                "the endpoint of the managed identity is not ready yet (this can take 70 s); if this persists, assign a managed identity to this machine and check that its Azure agent runs",
            );
        }
        match self.status {
            400 | 401 | 403 if self.credential == CredentialKind::ManagedIdentity => Some(
                "assign a managed identity to this machine; if the identity is user-assigned, check the client id",
            ),
            429 => Some(THROTTLED),
            300..=399 => Some(
                "the exporter never follows a redirect with a credential; check the authority URL, and whether a proxy or portal redirects requests",
            ),
            404 => Some("check the authority URL: there is no token endpoint at this address"),
            _ => None,
        }
    }

    /// Returns true if a retry can succeed. `None` if neither the code nor the error's name decides it.
    fn is_retried(&self) -> Option<bool> {
        if self.is_transient {
            return Some(true);
        }
        self.known.map(|known| known.retry)
    }
}

#[derive(Deserialize)]
struct ErrorResponse {
    error: Option<String>,
    error_description: Option<String>,
    /// Codes as numbers. Values of another type are ignored, because the description contains the code too.
    error_codes: Option<Vec<serde_json::Value>>,
    trace_id: Option<String>,
    correlation_id: Option<String>,
}

impl ErrorResponse {
    fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_value(lenient(without_bom(body))?).ok()
    }
}

/// Returns whether a response has an error. Gateways can send an error with status 200.
pub(crate) fn has_error(body: &[u8]) -> bool {
    ErrorResponse::parse(body).is_some_and(|answer| answer.error.is_some())
}

/// Returns the code in a description such as "AADSTS7000215: …", for responses without `error_codes`.
fn code_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("AADSTS")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The remedy if the token endpoint throttles the application.
pub(crate) const THROTTLED: &str = "the token endpoint throttles the application; run only one exporter for the tenant, and see what else asks for tokens with this client id";

#[cfg(test)]
mod tests {
    use super::super::FailureReason as Reason;

    use super::*;

    /// Code, status, whether it is retried, reason, and a part of the remedy.
    const CODES: &[(u64, u16, bool, Reason, &str)] = &[
        (7_000_215, 401, false, Reason::Auth, "secret's id"),
        (7_000_222, 401, false, Reason::Auth, "expired"),
        (700_016, 400, false, Reason::Auth, "no such application"),
        (700_027, 401, false, Reason::Auth, "certificate"),
        (90_002, 400, false, Reason::Auth, "no such tenant"),
        (900_023, 400, false, Reason::Auth, "neither a GUID"),
        (90_038, 400, false, Reason::Auth, "national cloud"),
        (900_382, 400, false, Reason::Auth, "national cloud"),
        (900_432, 400, false, Reason::Auth, "national cloud"),
        (70_011, 400, false, Reason::Auth, "/.default"),
        (1_002_012, 400, false, Reason::Auth, "/.default"),
        (70_001, 400, false, Reason::Auth, "disabled"),
        (700_011, 400, false, Reason::Auth, "disabled"),
        (7_000_112, 400, false, Reason::Auth, "disabled"),
        (7_000_229, 401, false, Reason::Auth, "consent"),
        (700_024, 401, false, Reason::Auth, "clock"),
        (700_025, 400, false, Reason::Auth, "public client"),
        (53_003, 400, false, Reason::Auth, "Conditional Access"),
        (700_213, 400, false, Reason::Auth, "the token's claim sub"),
        (700_211, 401, false, Reason::Auth, "the token's claim iss"),
        (700_212, 401, false, Reason::Auth, "the token's claim aud"),
        (70_021, 401, false, Reason::Auth, "claims iss, sub and aud"),
        (7_002_138, 401, false, Reason::Auth, "the token's claim sub"),
        (1_000_502, 401, false, Reason::Auth, "create a new one"),
        (7_000_214, 401, false, Reason::Auth, "revoked"),
        (
            7_000_274,
            401,
            false,
            Reason::Auth,
            "upload this very certificate",
        ),
        (7_000_277, 401, false, Reason::Auth, "revoked"),
        (
            50_012,
            401,
            false,
            Reason::Auth,
            "upload this very certificate",
        ),
        (50_027, 400, false, Reason::Auth, "clock"),
        (700_021, 401, false, Reason::Auth, "client_id"),
        (700_023, 401, false, Reason::Auth, "authority_url"),
        (900_384, 400, false, Reason::Auth, "set its cloud"),
        (500_011, 400, false, Reason::Auth, "enterprise application"),
        (50_001, 400, false, Reason::Auth, "graph_url"),
        (500_021, 400, false, Reason::Auth, "proxy"),
        (530_032, 400, false, Reason::Auth, "security policy"),
        (530_035, 400, false, Reason::Auth, "security defaults"),
        (50_059, 400, false, Reason::Auth, "names no tenant"),
        (50_194, 400, false, Reason::Auth, "the one tenant"),
        (9_001_023, 400, false, Reason::Auth, "the one tenant"),
        (5_000_224, 400, false, Reason::Auth, "deleted"),
        (
            7_000_216,
            400,
            false,
            Reason::Auth,
            "without its credential",
        ),
        (
            7_000_218,
            401,
            false,
            Reason::Auth,
            "without its credential",
        ),
        (70_002, 401, false, Reason::Auth, "secret is wrong"),
        (1_002_016, 400, false, Reason::Auth, "decrypts TLS"),
        // A known code has precedence over the status.
        (50_196, 503, false, Reason::Auth, "too many identical"),
        (90_006, 400, true, Reason::Status, "temporary"),
        (90_090, 400, true, Reason::Status, "temporary"),
        (1, 400, false, Reason::Auth, ""),
        (1, 429, true, Reason::Throttled, "run only one exporter"),
        (1, 503, true, Reason::Status, ""),
        (1, 302, false, Reason::Status, "redirect"),
        (1, 404, false, Reason::Auth, "check the authority URL"),
    ];

    fn error(status: u16, body: &str, credential: CredentialKind) -> TokenEndpointError {
        let secrets = Secrets::default();
        TokenEndpointError::new(status, body.as_bytes(), "none", None, &secrets, credential)
    }

    #[test]
    fn codes_by_table() {
        for &(code, status, retried, reason, remedy) in CODES {
            let with_codes = format!(r#"{{"error":"e","error_codes":[{code},5]}}"#);
            let without = format!(r#"{{"error":"e","error_description":"AADSTS{code}: no"}}"#);
            for body in [with_codes, without] {
                let error = error(status, &body, CredentialKind::Own);
                assert_eq!(
                    error.failure_kind().retry_reason().is_some(),
                    retried,
                    "{code}"
                );
                assert_eq!(error.reason(), reason, "{code}");
                let shown = error.remedy().unwrap_or_default();
                assert!(shown.contains(remedy), "{code}");
                assert_eq!(shown.is_empty(), remedy.is_empty(), "{code}");
            }
        }
    }

    #[test]
    fn remedies_depend_on_the_credential() {
        for (code, own, token_file) in [
            (700_024, "clock by NTP", "projected service account token"),
            (500_133, "clock by NTP", "projected service account token"),
            (700_027, "upload this very certificate", "jwks_uri"),
            (50_012, "upload this very certificate", "jwks_uri"),
            (50_027, "clock", "one whole JWT"),
            (700_021, "check client_id", "external issuer"),
            (700_023, "authority_url", "api://AzureADTokenExchange"),
            (7_000_215, "secret's id", "secret's id"),
        ] {
            let body = format!(r#"{{"error":"e","error_codes":[{code}]}}"#);
            for (credential, expected) in [
                (CredentialKind::Own, own),
                (CredentialKind::TokenFile, token_file),
            ] {
                let error = error(401, &body, credential);
                let remedy = error.remedy().unwrap();
                assert!(
                    remedy.contains(expected),
                    "{code}, {credential:?}: {remedy}"
                );
            }
        }
    }

    #[test]
    fn the_first_known_code_decides() {
        for (codes, remedy) in [
            ("[7000222]", "expired"),
            ("[50000, 7000222]", "expired"),
            ("[7000222, 90002]", "expired"),
            (r#"["a", 7000222]"#, "expired"),
            (r#"["a", null, 18446744073709551616]"#, "no such tenant"),
            ("null", "no such tenant"),
        ] {
            let body = format!(
                r#"{{"error":"e","error_description":"AADSTS90002: no","error_codes":{codes}}}"#
            );
            let error = error(400, &body, CredentialKind::Own);
            assert!(error.remedy().unwrap().contains(remedy), "{codes}");
        }
    }

    #[test]
    fn temporarily_unavailable_is_retried_whatever_the_code_and_status() {
        for (codes, status, reason) in [
            ("[90033]", 503, FailureReason::Status),
            ("[7000215]", 401, FailureReason::Status),
            ("[50196]", 400, FailureReason::Status),
            ("[1]", 400, FailureReason::Status),
            ("[]", 200, FailureReason::Status),
            ("[1]", 429, FailureReason::Throttled),
            ("null", 404, FailureReason::Status),
        ] {
            let body = format!(r#"{{"error":"temporarily_unavailable","error_codes":{codes}}}"#);
            let error = error(status, &body, CredentialKind::Own);
            assert!(error.failure_kind().retry_reason().is_some(), "{codes}");
            assert_eq!(error.reason(), reason, "{codes}");
            assert!(error.remedy().unwrap().contains("temporary"), "{codes}");
        }
    }

    #[test]
    fn the_documented_example_fits_on_a_line() {
        let body = r#"{
            "error": "invalid_scope",
            "error_description": "AADSTS70011: The provided value for the input parameter 'scope' is not valid. The scope https://foo.microsoft.com/.default is not valid.\r\nTrace ID: 255d1aef-8c98-452f-ac51-23d051240864\r\nCorrelation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7\r\nTimestamp: 2016-01-09 02:02:12Z",
            "error_codes": [70011],
            "timestamp": "YYYY-MM-DD HH:MM:SSZ",
            "trace_id": "255d1aef-8c98-452f-ac51-23d051240864",
            "correlation_id": "fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7"
        }"#;
        let secrets = Secrets::default();
        secrets.add(&"foo.microsoft.com".into());
        let error = TokenEndpointError::new(
            400,
            body.as_bytes(),
            "none",
            None,
            &secrets,
            CredentialKind::Own,
        );
        assert_eq!(
            error.to_string(),
            "the token endpoint answered 400: invalid_scope: AADSTS70011: The provided value for the input parameter \
             'scope' is not valid. The scope [redacted] is not valid. \
             Trace ID: 255d1aef-8c98-452f-ac51-23d051240864 Correlation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7 \
             Timestamp: 2016-01-09 02:02:12Z"
        );
    }

    #[test]
    fn body_that_is_not_json_is_reported_by_its_type() {
        let error = TokenEndpointError::new(
            502,
            b"<html>secret</html>",
            "text/html",
            None,
            &Secrets::default(),
            CredentialKind::Own,
        );
        assert_eq!(
            error.to_string(),
            "the token endpoint answered 502: no readable error (Content-Type: text/html)"
        );
    }
}
