//! Errors of `export` and `backfill`. Each message has the remedy.

use std::io;

use crate::chain::Chain;
use crate::report::{CollectError, ReportKind};
use crate::tenant::SetupError;

/// The reason why there is no complete table.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The flags do not fit the report or the configuration.
    #[error("cannot export this: {0}")]
    Choice(String),
    /// The tenant cannot be set up.
    #[error("the configuration cannot be used: {}", Chain(.0))]
    Setup(#[from] SetupError),
    /// The figures may still change, and the flags require final figures.
    #[error(
        "the figures of {name} may change until {until}; export them after that, or leave out --require-final"
    )]
    NotFinal {
        /// The period or range.
        name: String,
        /// The time from which the figures are final.
        until: String,
    },
    /// The report cannot be fetched.
    #[error("cannot export {report}: {message}")]
    Report {
        /// The report.
        report: ReportKind,
        /// The error and its remedy.
        message: String,
    },
    /// The table cannot be written.
    #[error("cannot write {to}: {source}; {remedy}")]
    Write {
        /// The path, or standard output.
        to: String,
        /// The cause.
        source: io::Error,
        /// The remedy.
        remedy: &'static str,
    },
    /// A signal stopped the export.
    #[error("the export was stopped by a signal and is not complete; run it again")]
    Stopped,
    /// The runtime or a signal handler cannot be set up.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl ExportError {
    pub(crate) fn report(report: ReportKind, error: &CollectError) -> Self {
        Self::Report {
            report,
            message: format!("{}; {}", Chain(error), error.remedy()),
        }
    }

    /// Returns true if the flags or the configuration must be corrected.
    pub(crate) fn is_misconfigured(&self) -> bool {
        matches!(
            self,
            Self::Choice(_) | Self::Setup(SetupError::Token { .. })
        )
    }
}
