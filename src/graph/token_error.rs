//! Errors of a token request, with their reasons and remedies.

use std::time::Duration;

use super::credential::CredentialError;
use super::http::{HttpError, classify, connect_remedy};
use super::managed_identity::IMDS_HOST;
use super::retry::FailureKind;
use super::throttle::Held;
use super::token_endpoint_error::{self, TokenEndpointError};
use super::{FailureReason, errors};

/// Errors of a token request. Most messages contain the host of the token endpoint. No message contains a secret, an
/// assertion, a token or the request.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The options are invalid or incomplete.
    #[error("{0}")]
    Options(&'static str),
    /// The client for the managed identity's endpoint cannot be set up.
    #[error("cannot set up the client for the managed identity")]
    Client(#[from] HttpError),
    /// The credential cannot be read or used.
    #[error("cannot use the credential")]
    Credential(#[from] CredentialError),
    /// There is no complete response.
    #[error("no complete response from {0}")]
    Transport(String, #[source] reqwest::Error),
    /// The deadline passed.
    #[error("no response from {0} within the time of the poll")]
    Timeout(String),
    /// The endpoint throttles the application for longer than the poll can wait.
    #[error("{0} throttles the application")]
    Throttled(String, #[source] Held),
    /// The endpoint answered with an error.
    #[error(transparent)]
    Refused(#[from] Box<TokenEndpointError>),
    /// The JSON of the response is truncated, even at the last attempt.
    #[error("{0} sent a response that breaks off")]
    BrokenOff(String),
    /// The response is neither a token nor an error. The second field states the fault.
    #[error("{0} sent a response without a valid token: {1}")]
    Malformed(String, String),
}

impl TokenError {
    /// The kind of failure, as metrics label it.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Options(_) | Self::Credential(_) => FailureReason::Auth,
            Self::Client(_) => FailureReason::Connect,
            Self::Transport(_, source) => FailureReason::from_kind(classify(source)),
            Self::Timeout(_) => FailureReason::Timeout,
            Self::Throttled(_, held) => errors::reason(held.status),
            Self::Refused(refusal) => refusal.reason(),
            Self::BrokenOff(_) | Self::Malformed(..) => FailureReason::Malformed,
        }
    }

    /// The remedy for the administrator, if one is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => refusal.remedy(),
            Self::Throttled(..) => Some(token_endpoint_error::THROTTLED),
            Self::Transport(host, _) if host == IMDS_HOST => Some(
                "no managed identity is available here: this machine is not in Azure, or a firewall blocks 169.254.169.254",
            ),
            Self::Transport(_, source) => connect_remedy(source),
            Self::BrokenOff(_) => Some(
                "the response breaks off even after retries; check whether something between the exporter and authority_url limits the size or time of responses",
            ),
            _ => None,
        }
    }

    /// Returns true if the error is due to a managed identity's endpoint that is not ready yet.
    pub(super) fn is_identity_not_ready(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_identity_not_ready())
    }

    pub(super) fn failure_kind(&self) -> Option<(FailureKind, Option<Duration>)> {
        match self {
            Self::Transport(_, source) => Some((classify(source), None)),
            Self::BrokenOff(_) => Some((FailureKind::Body, None)),
            Self::Refused(refusal) => Some((refusal.failure_kind(), refusal.retry_after)),
            _ => None,
        }
    }
}
