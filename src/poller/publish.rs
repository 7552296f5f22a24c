//! Publication of a report: its figures and metrics, until they are older than the maximum age.

use chrono::{DateTime, TimeDelta, Utc};

use crate::period::BillingPeriod;
use crate::report_metrics::expiry_samples;
use crate::snapshot::{Key, State};

use super::Poller;
use super::state::{ReportState, SharedState, lock};

impl Poller {
    pub(super) fn publish(&self, state: &ReportState) {
        if state.retired {
            return;
        }
        let tenant = self.plan.tenant.as_deref();
        let publisher = &self.shared.publisher;
        let published = State {
            tenant: self.plan.tenant.clone(),
            report: state.report,
            last_attempt: state.health.last_attempt,
            last_success: state.health.last_success,
            next_poll: state.next_poll,
            failure: state.failure.clone(),
            summary: state.summary.clone().filter(|_| !state.expired),
            expired: state.expired,
        };
        let key = Key {
            tenant: self.plan.tenant.clone(),
            report: Some(state.report),
        };
        // Without current figures nothing names the current period, so the clock decides which period is the previous
        // one.
        let (current, before) = if state.expired {
            let now = self.shared.clock.now();
            let period = BillingPeriod::containing(now, self.plan.cycle_day);
            (&[][..], Some(period.previous()))
        } else {
            (state.current.as_slice(), None)
        };
        let previous = state.previous.samples(before);
        publisher.update(
            key,
            current.iter().cloned().chain(previous).collect(),
            state.health.samples(tenant, state.report),
            Some(published),
        );
        let token_expiry = self
            .graph
            .tokens()
            .expires_in()
            .and_then(|left| Some(self.shared.clock.now() + TimeDelta::from_std(left).ok()?));
        let credential_expiry = self
            .plan
            .credential_expiry
            .or_else(|| self.graph.tokens().credential_expiry());
        let key = Key {
            tenant: self.plan.tenant.clone(),
            report: None,
        };
        publisher.update(
            key,
            Vec::new(),
            expiry_samples(tenant, token_expiry, credential_expiry),
            None,
        );
    }

    /// Stops serving figures that are too old or of a billing period that has not begun.
    pub(super) fn expire(&self, state: &SharedState) {
        let now = self.shared.clock.now();
        let mut state = lock(state);
        if state.drop_future(now) {
            tracing::warn!(
                tenant = self.plan.tenant.as_deref(),
                report = state.report.as_str(),
                remedy = "set the clock if it is wrong now; otherwise nothing need be done",
                "figures are no longer served: their billing period has not begun, so the clock has been set back"
            );
            self.publish(&state);
        }
        // A time in the future comes from a clock that was wrong. It counts as far off as one in the past.
        let too_old = |last: DateTime<Utc>| {
            let max_age = self.plan.max_age;
            max_age.is_some_and(|max_age| (now - last).abs() > max_age)
        };
        let expired = state.health.last_success.is_some_and(too_old);
        if expired == state.expired {
            return;
        }
        state.expired = expired;
        if expired {
            tracing::warn!(
                tenant = self.plan.tenant.as_deref(),
                report = state.report.as_str(),
                "the newest complete report is older than poll.max_age and no longer served"
            );
        }
        self.publish(&state);
    }
}
