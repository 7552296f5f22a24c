//! Graph error responses and their remedies.
//!
//! See <https://learn.microsoft.com/graph/errors>. Graph can add error codes at any time, and the message may be empty.
//! So the remedy depends on the status only.

use std::fmt;
use std::time::Duration;

use reqwest::Response;

use super::FailureReason;
use super::error_body::ErrorBody;
use super::foreign::{self, Secrets};
use super::http::{content_type, header};

/// A response of Graph with a status other than 200.
#[derive(Debug)]
pub(crate) struct GraphError {
    pub(crate) status: u16,
    /// The parts of the body that can be shown. A request id or date in the headers replaces that of the body.
    shown: ErrorBody,
    content_type: &'static str,
    pub(crate) retry_after: Option<Duration>,
}

impl GraphError {
    /// Reads the body and keeps only the text that can be shown; see [`foreign`].
    pub(crate) fn new(
        response: &Response,
        body: &[u8],
        retry_after: Option<Duration>,
        secrets: &Secrets,
        hides_people: bool,
    ) -> Self {
        let body = ErrorBody::parse(body).unwrap_or_default();
        let mut shown = body.shown(secrets, hides_people);
        let request_id = header(response, "request-id").and_then(|text| secrets.request_id(text));
        shown.request_id = request_id.or(shown.request_id);
        let date = header(response, "date").and_then(foreign::date);
        shown.date = date.or(shown.date);
        Self {
            status: response.status().as_u16(),
            shown,
            content_type: content_type(response),
            retry_after,
        }
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Graph answered {}", self.status)?;
        let shown = &self.shown;
        match (&shown.code, &shown.message) {
            (Some(code), Some(message)) => write!(f, " {code}: {message}")?,
            (Some(code), None) => write!(f, " {code} without a message")?,
            (None, Some(message)) => write!(f, ": {message}")?,
            (None, None) => {
                let content_type = self.content_type;
                write!(
                    f,
                    " without an error in JSON (Content-Type: {content_type})"
                )?;
            }
        }
        if let Some(wait) = self.retry_after {
            write!(f, ", retry after {} s", wait.as_secs())?;
        }
        let unknown = "unknown";
        let request_id = shown.request_id.as_deref().unwrap_or(unknown);
        let date = shown.date.as_deref().unwrap_or(unknown);
        write!(f, " (request-id {request_id}, date {date})")
    }
}

impl std::error::Error for GraphError {}

/// The failure reason of a status.
pub(crate) fn reason(status: u16) -> FailureReason {
    match status {
        401 => FailureReason::Auth,
        403 => FailureReason::Forbidden,
        429 | 509 => FailureReason::Throttled,
        _ => FailureReason::Status,
    }
}

/// The remedy for a status.
pub(crate) fn remedy(status: u16) -> Option<&'static str> {
    Some(match status {
        300..=399 => {
            "the exporter never follows a redirect with a token; check the Graph URL, and whether a proxy or portal redirects requests"
        }
        400 => {
            "Graph did not understand the request; check the Graph URL, and report it as a bug if the URL is Microsoft's"
        }
        401 => {
            "Graph refused the token and also a new one; check that tenant, cloud and Graph URL belong together"
        }
        403 => {
            "add the application permission CallRecord-PstnCalls.Read.All of Microsoft Graph and grant admin consent; if that does not suffice, CallRecords.Read.All is the broader fallback; delegated permissions never work"
        }
        404 => {
            "this Graph does not know the report; check the cloud and the Graph URL, as most reports are in beta only"
        }
        406 => "the time range is longer than the 90 days that Graph permits; report it as a bug",
        407 => "the proxy wants credentials; put them into HTTPS_PROXY",
        408 => {
            "Graph waited too long for the request; if it persists, find out what slows the network"
        }
        429 | 509 => "Graph throttles the application; poll less often, and see what else uses it",
        500.. => {
            "a failure at Microsoft, which may be over at the next poll; see the service health page"
        }
        _ => return None,
    })
}
