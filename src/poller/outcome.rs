//! Outcome of a poll: its requests, the reason of a failure, and the log line.

use std::time::Duration;

use crate::chain::Chain;
use crate::graph::stats::{Oddity, RequestStats};
use crate::graph::{FailureReason, log_seconds};
use crate::period::BillingPeriod;
use crate::report::{CollectError, Rendered, ReportKind};
use crate::snapshot::Failure;
use crate::telemetry::Telemetry;

/// Request counts of one poll. They are added to the telemetry on drop, so that a cancelled poll is counted too.
pub(super) struct StatsGuard<'a> {
    stats: RequestStats,
    telemetry: &'a Telemetry,
}

/// Reason and message of a failed poll.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: FailureReason,
    pub(super) failure: Failure,
}

impl<'a> StatsGuard<'a> {
    pub(super) fn new(telemetry: &'a Telemetry) -> Self {
        Self {
            stats: RequestStats::default(),
            telemetry,
        }
    }
}

impl Drop for StatsGuard<'_> {
    fn drop(&mut self) {
        self.telemetry.add(&self.stats);
    }
}

impl std::ops::Deref for StatsGuard<'_> {
    type Target = RequestStats;

    fn deref(&self) -> &RequestStats {
        &self.stats
    }
}

impl From<CollectError> for Failed {
    fn from(error: CollectError) -> Self {
        let reason = error.reason();
        let failure = Failure {
            reason: reason.as_str(),
            message: Chain(&error).to_string(),
            remedy: error.remedy(),
        };
        Self { reason, failure }
    }
}

pub(super) fn log_success(
    tenant: Option<&str>,
    report: ReportKind,
    period: BillingPeriod,
    rendered: &Rendered,
    stats: &RequestStats,
    duration: Duration,
) {
    let spend: Vec<String> = rendered
        .spend
        .iter()
        .map(|spend| format!("{} {}", spend.total, spend.currency))
        .collect();
    let odd = |oddity| Some(stats.oddities(oddity)).filter(|&count| count > 0);
    tracing::info!(
        tenant,
        report = report.as_str(),
        %period,
        rows = rendered.rows,
        pages = stats.pages(),
        overlapping_rows = rendered.overlapping,
        repeated_rows = rendered.repeated,
        unplaced_rows = (rendered.unplaced > 0).then_some(rendered.unplaced),
        aggregated_series = rendered.aggregated,
        cut_names = odd(Oddity::Cut),
        replaced_names = odd(Oddity::Replaced),
        null_values = odd(Oddity::Null),
        duration_seconds = log_seconds(duration),
        spend = (!spend.is_empty()).then(|| spend.join(", ")),
        "poll complete"
    );
    if rendered.unplaced > 0 {
        tracing::warn!(
            tenant,
            report = report.as_str(),
            %period,
            unplaced_rows = rendered.unplaced,
            remedy = "compare the figures with the usage report of the Teams admin center; if graph_url is a proxy, let it forward fromDateTime and toDateTime unchanged",
            "rows are not counted, because their time is outside the billing period and far from the requested time range"
        );
    }
}

pub(super) fn log_failure(
    tenant: Option<&str>,
    report: ReportKind,
    period: BillingPeriod,
    failed: &Failed,
    duration: Duration,
    remaining: &str,
) {
    let failure = &failed.failure;
    tracing::warn!(
        tenant,
        report = report.as_str(),
        %period,
        reason = failure.reason,
        error = failure.message,
        remedy = failure.remedy,
        duration_seconds = log_seconds(duration),
        "poll failed; {remaining}"
    );
}
