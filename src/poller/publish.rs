//! What is shown of a report: its numbers and its health, for as long as they are young enough.

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
        // Nothing says which period the one before is once the current one's figures are gone, so it must be by the clock.
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

    /// Serves what is young enough and of a billing period that has begun, and nothing else.
    pub(super) fn expire(&self, state: &SharedState) {
        let now = self.shared.clock.now();
        let mut state = lock(state);
        if state.drop_future(now) {
            tracing::warn!(
                tenant = self.plan.tenant.as_deref(),
                report = state.report.as_str(),
                remedy = "nothing need be done if the clock is right now; else set it",
                "figures are no longer served: their billing period has not begun, so the clock has been set back"
            );
            self.publish(&state);
        }
        // A time ahead is one of a clock that was wrong: as far off as one that is behind.
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
