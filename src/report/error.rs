//! Errors of a collection, and their remedies.

use super::row::RowError;
use crate::graph::pages::DecodeError;
use crate::graph::token::TokenError;
use crate::graph::{self, FailureReason};
use crate::memory::MemoryError;

/// The reason why there is no complete report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    #[error(transparent)]
    Graph(graph::Error),
    #[error("row {number} of the report cannot be counted (request-id {request_id})")]
    Row {
        number: u64,
        request_id: String,
        source: RowError,
    },
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl CollectError {
    pub(crate) fn reason(&self) -> FailureReason {
        match self {
            Self::Graph(error) => error.reason(),
            Self::Memory(_) => FailureReason::Limit,
            Self::Row { .. } => FailureReason::Malformed,
        }
    }

    /// The remedy for an administrator. Every error has a remedy, even if the error of Graph has none.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Graph(error) => error.remedy().unwrap_or_else(|| remedy_of(error)),
            Self::Memory(error) => error.remedy(),
            Self::Row { .. } => {
                "a property of the row is not what Microsoft documents; if the next poll fails too, install the newest exporter; if the error remains, report it with this log line"
            }
        }
    }
}

impl From<graph::Error> for CollectError {
    fn from(error: graph::Error) -> Self {
        match error {
            graph::Error::Memory(error) => Self::Memory(error),
            error => Self::Graph(error),
        }
    }
}

impl From<DecodeError<Self>> for CollectError {
    fn from(error: DecodeError<Self>) -> Self {
        match error {
            DecodeError::Graph(error) => error.into(),
            DecodeError::Row(error) => error,
        }
    }
}

/// The remedy for a kind of failure.
fn remedy_of(error: &graph::Error) -> &'static str {
    match error {
        graph::Error::Token(TokenError::Credential(_)) => {
            return "give a file that the exporter's user may read and that contains only the secret, the token, or a certificate and its RSA key in PEM";
        }
        graph::Error::Token(TokenError::Malformed(..)) => {
            return "check authority_url, and whether a proxy or portal answers in its place";
        }
        _ => {}
    }
    match error.reason() {
        FailureReason::Auth => "check tenant_id, client_id and the credential",
        FailureReason::Forbidden => {
            "grant the application permission CallRecord-PstnCalls.Read.All and admin consent; if Graph still refuses, add CallRecords.Read.All"
        }
        FailureReason::Throttled => {
            "poll less often, and check which other programs use this application"
        }
        FailureReason::Timeout => {
            "if it persists, raise poll.timeout or find out what slows the network"
        }
        FailureReason::Connect => {
            "if it persists, find out what interrupts connections to Microsoft"
        }
        FailureReason::Status => "if it persists, see the service health page of Microsoft 365",
        FailureReason::Malformed => {
            "check graph_url, and whether a proxy or portal answers in Graph's place"
        }
        FailureReason::Limit => "no real report is that large; check graph_url",
    }
}
