//! When a failed request is tried again, and after how long: a pure function of what happened.
//!
//! What this module does not do: sleep, read a clock, or draw random numbers. So the whole policy is tested by table.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// How often and how patiently one request is repeated. Data only; [`RetryPolicy::default`] is right for Graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one request in all, the first included; 1 never repeats. A wait that the service asked for by
    /// `Retry-After` is not counted.
    pub attempts: u32,
    /// Wait before the second try where the server names none; it doubles with every further one.
    pub delay_base: Duration,
    /// The longest wait that doubling leads to. A `Retry-After` is not bound by it, only by the deadline.
    pub delay_max: Duration,
}

/// Why a request was repeated: the label `reason` of `teams_pstn_graph_retries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// 429.
    Throttled,
    /// 500, 502, 503, 504.
    Status,
    /// No connection, or one that broke before the answer began.
    Connect,
    /// No answer, or no more of it, in time.
    Timeout,
    /// The answer broke off.
    Body,
    /// 401: repeated once, with a new token.
    Auth,
}

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Connect,
    Timeout,
    Body,
    Status(u16),
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Retry { after: Duration },
    GiveUp,
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
    /// The same policy, bound by the deadline only, unless it never repeats.
    pub(crate) fn by_time(self) -> Self {
        let attempts = if self.attempts > 1 { u32::MAX } else { 1 };
        Self { attempts, ..self }
    }

    /// Decides after try number `attempt`, counted from 1.
    ///
    /// A `Retry-After` wins over the policy's own delay. Where the wait would pass the deadline, which is `remaining`
    /// away, there is no point in waiting at all. `random` is in [0, 1) and spreads the policy's own delay over its
    /// upper half, and a `Retry-After` up to a tenth beyond it, so that tenants that failed together do not return
    /// together.
    pub(crate) fn verdict(
        &self,
        attempt: u32,
        kind: FailureKind,
        retry_after: Option<Duration>,
        remaining: Duration,
        random: f64,
    ) -> Verdict {
        if kind.retry_reason().is_none() || attempt >= self.attempts {
            return Verdict::GiveUp;
        }
        let after = match retry_after {
            Some(wait) => {
                let later = spread(wait, random);
                if later < remaining { later } else { wait }
            }
            None => self.delay(attempt, random),
        };
        if after < remaining {
            Verdict::Retry { after }
        } else {
            Verdict::GiveUp
        }
    }

    /// How long all requests wait after `in_a_row` throttled answers, the last of which named `retry_after`.
    ///
    /// Less than a second counts as no wait, for which the policy has its own delay: a service that always answers
    /// `Retry-After: 0` is not asked without a pause. A wait is spread as in [`RetryPolicy::verdict`].
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

impl RetryReason {
    /// Every reason, so that all label values exist from the start.
    pub const ALL: [Self; 6] = [
        Self::Throttled,
        Self::Status,
        Self::Connect,
        Self::Timeout,
        Self::Body,
        Self::Auth,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Status => "status",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Body => "body",
            Self::Auth => "auth",
        }
    }
}

impl FailureKind {
    /// The status, if the service asks all requests of the application to wait: 429, or 503 with a `Retry-After`.
    pub(crate) const fn throttling(self, retry_after: Option<Duration>) -> Option<u16> {
        match self {
            Self::Status(status @ 429) => Some(status),
            Self::Status(status @ 503) if retry_after.is_some() => Some(status),
            _ => None,
        }
    }

    /// The reason to count where this is worth another try; `None` where repeating cannot help.
    pub(crate) const fn retry_reason(self) -> Option<RetryReason> {
        match self {
            Self::Connect => Some(RetryReason::Connect),
            Self::Timeout => Some(RetryReason::Timeout),
            Self::Body => Some(RetryReason::Body),
            Self::Status(429) => Some(RetryReason::Throttled),
            Self::Status(500 | 502 | 503 | 504) => Some(RetryReason::Status),
            Self::Status(_) => None,
        }
    }
}

/// Reads a `Retry-After`: whole seconds, or an HTTP date, which is in UTC and counted from `now`.
///
/// A value that cannot be read, is negative, or is a date that has passed says nothing and is ignored; more seconds
/// than fit are as many as fit. A date has whole seconds, so one second is added: the server may have cut off nearly as
/// much, and a request that comes early prolongs the wait. See <https://learn.microsoft.com/graph/throttling>.
pub(crate) fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = DateTime::<Utc>::from(httpdate::parse_http_date(value).ok()?);
    let wait = (date - now).to_std().ok()?;
    Some(wait.saturating_add(Duration::from_secs(1)))
}

/// A wait that is longer by up to a tenth.
fn spread(wait: Duration, random: f64) -> Duration {
    wait.saturating_add((wait / 10).mul_f64(random.clamp(0.0, 1.0)))
}

/// Of a service that fails half of all requests, twelve tries in a row fail once in 4,000 times, so a report of a hundred
/// requests completes.
const ATTEMPTS: u32 = 12;

/// Twelve tries take about a minute, which leaves a report most of its time.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// A longer `Retry-After` is more likely a mistake than a wish, and one request an hour harms nobody.
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
    fn verdicts_by_table() {
        let check = |attempt, kind, retry_after: Option<u64>, remaining, random, expected| {
            let verdict = POLICY.verdict(
                attempt,
                kind,
                retry_after.map(Duration::from_secs),
                Duration::from_millis(remaining),
                random,
            );
            assert_eq!(verdict, expected, "attempt {attempt}, {kind:?}");
        };
        let retry = |millis| Verdict::Retry {
            after: Duration::from_millis(millis),
        };
        let minute = 60_000;
        check(1, FailureKind::Connect, None, minute, 0.0, retry(500));
        check(1, FailureKind::Connect, None, minute, 1.0, retry(1000));
        check(2, FailureKind::Timeout, None, minute, 0.5, retry(1500));
        check(3, FailureKind::Body, None, minute, 0.0, retry(1500));
        check(4, FailureKind::Body, None, minute, 0.0, Verdict::GiveUp);
        for status in [429, 500, 502, 503, 504] {
            check(
                1,
                FailureKind::Status(status),
                None,
                minute,
                0.0,
                retry(500),
            );
        }
        for status in [200, 302, 400, 401, 403, 404, 406, 418, 501, 509] {
            check(
                1,
                FailureKind::Status(status),
                Some(1),
                minute,
                0.0,
                Verdict::GiveUp,
            );
        }
        // Retry-After wins in both directions, and the deadline over it.
        let throttled = FailureKind::Status(429);
        check(1, throttled, Some(0), minute, 0.9, retry(0));
        check(1, throttled, Some(10), minute, 0.0, retry(10_000));
        check(1, throttled, Some(10), minute, 1.0, retry(11_000));
        // Spread only as far as the deadline allows, and not up to it.
        check(1, throttled, Some(10), 11_000, 1.0, retry(10_000));
        check(1, throttled, Some(10), 11_001, 1.0, retry(11_000));
        check(1, throttled, Some(59), minute, 0.9, retry(59_000));
        check(1, throttled, Some(60), minute, 0.9, Verdict::GiveUp);
        check(1, throttled, Some(86_400), minute, 0.9, Verdict::GiveUp);
        check(1, throttled, Some(u64::MAX), minute, 0.9, Verdict::GiveUp);
        check(1, throttled, None, 500, 0.0, Verdict::GiveUp);
        check(1, throttled, None, 501, 0.0, retry(500));
        check(1, throttled, Some(0), 0, 0.0, Verdict::GiveUp);
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
        let verdict = policy.verdict(u32::MAX - 1, FailureKind::Connect, None, Duration::MAX, 2.0);
        assert_eq!(
            verdict,
            Verdict::Retry {
                after: Duration::from_secs(7)
            }
        );
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
