//! Retry policy: pure functions that decide whether a failed request is retried, and after which wait.
//!
//! This module does not sleep, read a clock, or draw random numbers, so tests with tables cover the whole policy.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The number of attempts for one request and the waits between them. [`RetryPolicy::default`] is right for Graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Maximum attempts for one request, including the first. The value 1 means no retries. An attempt that is answered
    /// with throttling and a `Retry-After` is not counted.
    pub attempts: u32,
    /// Wait before the second attempt, if the server does not request a wait. The wait doubles with every further
    /// attempt.
    pub delay_base: Duration,
    /// The longest wait after doubling. A `Retry-After` can request a longer wait, up to the deadline.
    pub delay_max: Duration,
}

closed_set! {
    /// The reason of a retry: the label `reason` of `teams_pstn_graph_retries_total`.
    RetryReason {
        /// 429, 509.
        Throttled = "throttled",
        /// 408, 500, 502, 503, 504.
        Status = "status",
        /// There is no connection, or the connection broke before the response began.
        Connect = "connect",
        /// The response, or the rest of the response, did not arrive in time.
        Timeout = "timeout",
        /// The response was cut off.
        Body = "body",
        /// 401. The request is retried once, with a new token.
        Auth = "auth",
    }
}

/// The failure of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Connect,
    Timeout,
    Body,
    Status(u16),
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: ATTEMPTS,
            delay_base: Duration::from_secs(1),
            delay_max: DELAY_MAX,
        }
    }
}

impl RetryPolicy {
    /// Returns the same policy with the deadline as its only limit. A policy without retries stays unchanged.
    pub(crate) fn by_time(self) -> Self {
        let attempts = if self.attempts > 1 { u32::MAX } else { 1 };
        Self { attempts, ..self }
    }

    /// Returns the same policy with few attempts, for a response with an incomplete body.
    pub(crate) fn for_incomplete(self) -> Self {
        let attempts = self.attempts.min(INCOMPLETE_MAX);
        Self { attempts, ..self }
    }

    /// Returns the wait after attempt number `attempt`, counted from 1, or `None` if the request is not retried. A
    /// `Retry-After` has precedence over the policy's own delay. The request is not retried if the wait would end after
    /// the deadline, which is `remaining` away. `random` in [0, 1) adds jitter, so that tenants that failed together do
    /// not retry together. It selects a wait between half and all of the policy's own delay, and prolongs a
    /// `Retry-After` by up to a tenth.
    pub(crate) fn retry_wait(
        &self,
        attempt: u32,
        kind: FailureKind,
        retry_after: Option<Duration>,
        remaining: Duration,
        random: f64,
    ) -> Option<Duration> {
        if kind.retry_reason().is_none() || attempt >= self.attempts {
            return None;
        }
        let wait = match retry_after {
            Some(wait) => {
                let later = spread(wait, random);
                if later < remaining { later } else { wait }
            }
            None => self.delay(attempt, random),
        };
        (wait < remaining).then_some(wait)
    }

    /// Returns the time for which all requests wait after `in_a_row` throttled responses in a row, at most
    /// [`HOLD_MAX`]. `retry_after` is from the last of these responses. If it is missing or below a second, the
    /// policy's own delay applies, because `Retry-After: 0` would lead to requests without a pause. `random` adds
    /// jitter as in [`RetryPolicy::retry_wait`].
    pub(crate) fn hold(
        &self,
        in_a_row: u32,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Duration {
        match retry_after {
            Some(wait) if wait >= Duration::from_secs(1) => spread(wait, random),
            _ => self.delay(in_a_row, random),
        }
        .min(HOLD_MAX)
    }

    fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let delay = self
            .delay_base
            .saturating_mul(1 << doublings)
            .min(self.delay_max);
        delay / 2 + (delay / 2).mul_f64(random.clamp(0.0, 1.0))
    }
}

impl FailureKind {
    /// Returns the status if it means that the service throttles the whole application: 429, 509, or 503 with a
    /// `Retry-After`.
    pub(crate) const fn throttling(self, retry_after: Option<Duration>) -> Option<u16> {
        match self {
            Self::Status(status @ (429 | 509)) => Some(status),
            Self::Status(status @ 503) if retry_after.is_some() => Some(status),
            _ => None,
        }
    }

    /// Returns the reason for a retry, or `None` if a retry cannot help.
    pub(crate) const fn retry_reason(self) -> Option<RetryReason> {
        match self {
            Self::Connect => Some(RetryReason::Connect),
            Self::Timeout => Some(RetryReason::Timeout),
            Self::Body => Some(RetryReason::Body),
            Self::Status(429 | 509) => Some(RetryReason::Throttled),
            Self::Status(408 | 500 | 502 | 503 | 504) => Some(RetryReason::Status),
            Self::Status(_) => None,
        }
    }
}

/// Reads a `Retry-After`: whole seconds, or an HTTP date, which is compared with `now`. An unreadable or negative
/// value, or a date in the past, is ignored. A number above `u64::MAX` is read as `u64::MAX`. The wait until a date is
/// prolonged by one second, because an HTTP date has whole seconds and may have been rounded down. A request that comes
/// too early prolongs the throttling: <https://learn.microsoft.com/graph/throttling>.
pub(crate) fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
    let wait = (date - now).to_std().ok()?;
    Some(wait.saturating_add(Duration::from_secs(1)))
}

/// Prolongs a wait by up to a tenth.
fn spread(wait: Duration, random: f64) -> Duration {
    wait.saturating_add((wait / 10).mul_f64(random.clamp(0.0, 1.0)))
}

/// Maximum attempts for one request. If half of all requests fail, twelve attempts in a row fail once in 4,000 times,
/// so a report of a hundred requests nearly always completes.
const ATTEMPTS: u32 = 12;

/// Maximum attempts for a response with a truncated body. If the fault is temporary, a further attempt succeeds. If it
/// is permanent, it is reported within 15 s.
const INCOMPLETE_MAX: u32 = 5;

/// The longest delay without a `Retry-After`. Twelve attempts then take about a minute, which leaves four of the five
/// minutes that a poll has by default.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// The longest hold. A longer `Retry-After` is probably a mistake. If it is not, one request per hour does no harm.
const HOLD_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 4,
        delay_base: Duration::from_secs(1),
        delay_max: Duration::from_secs(3),
    };

    #[test]
    fn waits_by_table() {
        let check = |attempt, kind, retry_after: Option<u64>, remaining, random, expected| {
            let wait = POLICY.retry_wait(
                attempt,
                kind,
                retry_after.map(Duration::from_secs),
                Duration::from_millis(remaining),
                random,
            );
            assert_eq!(wait, expected, "attempt {attempt}, {kind:?}");
        };
        let retry = |millis| Some(Duration::from_millis(millis));
        let minute = 60_000;
        check(1, FailureKind::Connect, None, minute, 0.0, retry(500));
        check(1, FailureKind::Connect, None, minute, 1.0, retry(1000));
        check(2, FailureKind::Timeout, None, minute, 0.5, retry(1500));
        check(3, FailureKind::Body, None, minute, 0.0, retry(1500));
        check(4, FailureKind::Body, None, minute, 0.0, None);
        for status in [408, 429, 500, 502, 503, 504, 509] {
            check(
                1,
                FailureKind::Status(status),
                None,
                minute,
                0.0,
                retry(500),
            );
        }
        for status in [200, 302, 400, 401, 403, 404, 406, 418, 501, 507] {
            check(1, FailureKind::Status(status), Some(1), minute, 0.0, None);
        }
        // `Retry-After` has precedence over the policy's delay, and the deadline has precedence over `Retry-After`.
        let throttled = FailureKind::Status(429);
        check(1, throttled, Some(0), minute, 0.9, retry(0));
        check(1, throttled, Some(10), minute, 0.0, retry(10_000));
        check(1, throttled, Some(10), minute, 1.0, retry(11_000));
        // Jitter prolongs a wait only if the wait still ends before the deadline.
        check(1, throttled, Some(10), 11_000, 1.0, retry(10_000));
        check(1, throttled, Some(10), 11_001, 1.0, retry(11_000));
        check(1, throttled, Some(59), minute, 0.9, retry(59_000));
        check(1, throttled, Some(60), minute, 0.9, None);
        check(1, throttled, Some(86_400), minute, 0.9, None);
        check(1, throttled, Some(u64::MAX), minute, 0.9, None);
        check(1, throttled, None, 500, 0.0, None);
        check(1, throttled, None, 501, 0.0, retry(500));
        check(1, throttled, Some(0), 0, 0.0, None);
    }

    #[test]
    fn holds_by_table() {
        for (in_a_row, retry_after, random, expected) in [
            (1, Some(5), 0.0, 5_000),
            (9, Some(5), 1.0, 5_500),
            (1, Some(1), 0.0, 1_000),
            (1, Some(0), 1.0, 1_000),
            (2, Some(0), 1.0, 2_000),
            (9, Some(0), 1.0, 3_000),
            (9, None, 1.0, 3_000),
            (1, Some(3_599), 0.0, 3_599_000),
            (1, Some(86_400), 0.0, 3_600_000),
            (1, Some(u64::MAX), 1.0, 3_600_000),
        ] {
            let retry_after = retry_after.map(Duration::from_secs);
            let hold = POLICY.hold(in_a_row, retry_after, random);
            assert_eq!(
                hold,
                Duration::from_millis(expected),
                "{in_a_row} {retry_after:?}"
            );
        }
    }

    #[test]
    fn reasons_have_their_labels() {
        assert_eq!(
            RetryReason::ALL.map(RetryReason::as_str),
            ["throttled", "status", "connect", "timeout", "body", "auth"]
        );
    }

    #[test]
    fn delays_never_overflow() {
        let policy = RetryPolicy {
            attempts: u32::MAX,
            delay_base: Duration::MAX,
            delay_max: Duration::from_secs(7),
        };
        let wait = policy.retry_wait(u32::MAX - 1, FailureKind::Connect, None, Duration::MAX, 2.0);
        assert_eq!(wait, Some(Duration::from_secs(7)));
    }

    #[test]
    fn retry_after_by_table() {
        let now = "2026-11-21T13:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("10", Some(10)),
            (" 10 ", Some(10)),
            ("0", Some(0)),
            ("86400", Some(86_400)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sat, 21 Nov 2026 13:02:00 GMT", Some(121)),
            ("Saturday, 21-Nov-26 13:02:00 GMT", Some(121)),
            ("Sat Nov 21 13:02:00 2026", Some(121)),
            ("Sat, 21 Nov 2026 12:59:59 GMT", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("١٠", None),
        ] {
            assert_eq!(
                retry_after(value, now),
                expected.map(Duration::from_secs),
                "{value:?}"
            );
        }
    }
}
