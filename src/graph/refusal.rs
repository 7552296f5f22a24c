//! What the token endpoint says when it gives no token, and what the admin must do about it.
//!
//! Classified by the first of `error_codes`, because the HTTP status is 400 for nearly everything. See
//! <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::FailureReason;
use super::foreign::Secrets;
use super::http::one_line;
use super::retry::Trouble;

/// An answer of the token endpoint other than a token.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    code: Option<u64>,
    /// `error`, description and the ids that support asks for; one line.
    text: String,
    pub(crate) retry_after: Option<Duration>,
    of_machine: bool,
}

impl Refusal {
    /// Reads the body. Of its text only that is kept which can be shown; see [`foreign`](super::foreign).
    pub(crate) fn new(
        status: u16,
        body: &[u8],
        content_type: &'static str,
        retry_after: Option<Duration>,
        secrets: &Secrets,
    ) -> Self {
        let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
            return Self {
                status,
                code: None,
                text: format!("a body ({content_type}) that does not say why"),
                retry_after,
                of_machine: false,
            };
        };
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
        let code = answer.error_codes.and_then(|codes| codes.first().copied());
        Self {
            status,
            code: code.or_else(|| code_in(&description)),
            text: one_line(&text),
            retry_after,
            of_machine: false,
        }
    }

    /// The same from the endpoint of a managed identity, whose statuses mean other things.
    pub(crate) fn of_machine(self) -> Self {
        Self {
            of_machine: true,
            ..self
        }
    }

    /// Whether asking again may help: as the code says, and by the status only where the code is not known.
    pub(crate) fn trouble(&self) -> Trouble {
        match self.known() {
            Some(Known { retry: true, .. }) => Trouble::Status(503),
            Some(Known { retry: false, .. }) => Trouble::Status(400),
            None => Trouble::Status(self.status),
        }
    }

    pub(crate) fn reason(&self) -> FailureReason {
        match (self.known(), self.status) {
            (Some(Known { retry: true, .. }) | None, 429) => FailureReason::Throttled,
            (Some(Known { retry: true, .. }), _) | (None, 300..=399 | 500..) => {
                FailureReason::Status
            }
            _ => FailureReason::Auth,
        }
    }

    pub(crate) fn remedy(&self) -> Option<&'static str> {
        if let Some(known) = self.known() {
            return Some(known.remedy);
        }
        match self.status {
            400 | 401 | 403 | 404 if self.of_machine => Some(
                "assign a managed identity to this machine, and check the client id where it is a user-assigned one",
            ),
            300..=399 => Some(
                "a redirect is never followed with a credential; check the authority URL and whether a proxy or portal stands in between",
            ),
            404 => Some("check the authority URL: no token endpoint is there"),
            _ => None,
        }
    }

    fn known(&self) -> Option<&'static Known> {
        let code = self.code?;
        KNOWN.iter().find(|known| known.codes.contains(&code))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the token endpoint answered {}: {}",
            self.status, self.text
        )
    }
}

impl std::error::Error for Refusal {}

#[derive(Deserialize)]
struct Answer {
    error: Option<String>,
    error_description: Option<String>,
    error_codes: Option<Vec<u64>>,
    trace_id: Option<String>,
    correlation_id: Option<String>,
}

/// The code in "AADSTS7000215: …", for answers that lack `error_codes`.
fn code_in(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("AADSTS")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

struct Known {
    codes: &'static [u64],
    retry: bool,
    remedy: &'static str,
}

const fn known(codes: &'static [u64], remedy: &'static str) -> Known {
    Known {
        codes,
        retry: false,
        remedy,
    }
}

const KNOWN: &[Known] = &[
    known(
        &[7_000_215],
        "the client secret is wrong; often the secret's id was pasted instead of its value",
    ),
    known(
        &[7_000_222],
        "the client secret has expired; create a new one in the app registration under certificates & secrets",
    ),
    known(
        &[700_016],
        "no such application in this tenant; check the client id, the tenant id and whether an admin has consented",
    ),
    known(
        &[700_027],
        "the signature does not verify; upload this very certificate to the app registration and check that it has not expired",
    ),
    known(
        &[90_002],
        "no such tenant; check the tenant id and whether the cloud is the right one",
    ),
    known(
        &[900_023],
        "the tenant id is neither a GUID nor a domain name",
    ),
    known(
        &[90_038, 900_382, 900_432],
        "the tenant belongs to another national cloud; set its cloud",
    ),
    known(
        &[70_011, 1_002_012],
        "the scope must be the origin of the Graph root and /.default; check the cloud and the Graph URL",
    ),
    known(
        &[70_001, 700_011, 7_000_112],
        "the application is disabled or not in this directory; check the client id and the enterprise application",
    ),
    known(
        &[7_000_229],
        "the application is registered but not in this tenant; check the tenant id, and let an admin consent so that it becomes an enterprise application",
    ),
    known(
        &[700_024],
        "the assertion is not valid at this time; set this machine's clock, by NTP or chrony",
    ),
    known(
        &[700_025],
        "the application is a public client, which has no secret or certificate; register a confidential one",
    ),
    known(
        &[53_003],
        "Conditional Access blocks the application; exclude it or add this host to the locations that are allowed",
    ),
    known(
        &[700_213],
        "no federated credential of the application matches the token's subject; compare issuer, subject and audience",
    ),
    known(
        &[50_196],
        "too many identical requests; wait some minutes and run one exporter for the tenant",
    ),
    Known {
        codes: &[90_006, 90_012, 90_024, 90_033, 90_055, 90_090],
        retry: true,
        remedy: "the identity platform has a passing failure; it needs no action unless it stays",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_by_table() {
        use FailureReason as Reason;
        for (code, status, retried, reason, remedy) in [
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
            (700_213, 400, false, Reason::Auth, "federated credential"),
            // A known code wins over the status.
            (50_196, 503, false, Reason::Auth, "too many identical"),
            (90_006, 400, true, Reason::Status, "passing"),
            (90_090, 400, true, Reason::Status, "passing"),
            (1, 400, false, Reason::Auth, ""),
            (1, 429, true, Reason::Throttled, ""),
            (1, 503, true, Reason::Status, ""),
            (1, 302, false, Reason::Status, "redirect"),
            (1, 404, false, Reason::Auth, "check the authority URL"),
        ] {
            let with_codes = format!(r#"{{"error":"e","error_codes":[{code},5]}}"#);
            let without = format!(r#"{{"error":"e","error_description":"AADSTS{code}: no"}}"#);
            for body in [with_codes, without] {
                let refusal = Refusal::new(
                    status,
                    body.as_bytes(),
                    "of no type",
                    None,
                    &Secrets::default(),
                );
                assert_eq!(
                    refusal.trouble().retry_reason().is_some(),
                    retried,
                    "{code}"
                );
                assert_eq!(refusal.reason(), reason, "{code}");
                let told = refusal.remedy().unwrap_or_default();
                assert!(told.contains(remedy), "{code}");
                assert_eq!(told.is_empty(), remedy.is_empty(), "{code}");
            }
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
        let refusal = Refusal::new(400, body.as_bytes(), "of no type", None, &secrets);
        assert_eq!(
            refusal.to_string(),
            "the token endpoint answered 400: invalid_scope: AADSTS70011: The provided value for the input parameter \
             'scope' is not valid. The scope [redacted] is not valid. \
             Trace ID: 255d1aef-8c98-452f-ac51-23d051240864 Correlation ID: fb3d2015-bc17-4bb9-bb85-30c5cf1aaaa7 \
             Timestamp: 2016-01-09 02:02:12Z"
        );
    }

    #[test]
    fn what_is_not_json_is_told_by_its_type() {
        let refusal = Refusal::new(
            502,
            b"<html>secret</html>",
            "text/html",
            None,
            &Secrets::default(),
        );
        assert_eq!(
            refusal.to_string(),
            "the token endpoint answered 502: a body (text/html) that does not say why"
        );
    }
}
