//! What is shown of a report: its numbers and its health, for as long as they are young enough.

use chrono::{DateTime, TimeDelta, Utc};

use crate::health::expiry_samples;
use crate::period::BillingPeriod;
use crate::snapshot::{Key, State};

use super::Poller;
use super::memory::{Memory, SharedMemory, lock};

impl Poller {
    pub(super) fn publish(&self, memory: &Memory) {
        if memory.retired {
            return;
        }
        let tenant = self.plan.tenant.as_deref();
        let publisher = &self.shared.publisher;
        let state = State {
            tenant: self.plan.tenant.clone(),
            report: memory.report,
            last_attempt: memory.health.last_attempt,
            last_success: memory.health.last_success,
            next_poll: memory.next_poll,
            failure: memory.failure.clone(),
            summary: memory.summary.clone().filter(|_| !memory.expired),
            expired: memory.expired,
        };
        let key = Key {
            tenant: self.plan.tenant.clone(),
            report: Some(memory.report),
        };
        // Nothing says which period the one before is once the current one's figures are gone, so it must be by the clock.
        let (current, before) = if memory.expired {
            let now = self.shared.clock.now();
            let period = BillingPeriod::containing(now, self.plan.cycle_day);
            (&[][..], Some(period.previous()))
        } else {
            (memory.current.as_slice(), None)
        };
        let previous = memory.previous.samples(before);
        publisher.update(
            key,
            current.iter().cloned().chain(previous).collect(),
            memory.health.samples(tenant, memory.report),
            Some(state),
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
    pub(super) fn expire(&self, memory: &SharedMemory) {
        let now = self.shared.clock.now();
        let mut memory = lock(memory);
        if memory.drop_future(now) {
            tracing::warn!(
                tenant = self.plan.tenant.as_deref(),
                report = memory.report.as_str(),
                remedy = "nothing need be done if the clock is right now; else set it",
                "figures are no longer served: their billing period has not begun, so the clock has been set back"
            );
            self.publish(&memory);
        }
        // A time ahead is one of a clock that was wrong: as far off as one that is behind.
        let too_old = |last: DateTime<Utc>| {
            let max_age = self.plan.max_age;
            max_age.is_some_and(|max_age| (now - last).abs() > max_age)
        };
        let expired = memory.health.last_success.is_some_and(too_old);
        if expired == memory.expired {
            return;
        }
        memory.expired = expired;
        if expired {
            tracing::warn!(
                tenant = self.plan.tenant.as_deref(),
                report = memory.report.as_str(),
                "the newest complete report is older than poll.max_age and no longer served"
            );
        }
        self.publish(&memory);
    }
}
