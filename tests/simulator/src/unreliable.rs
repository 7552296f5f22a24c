//! A service that fails at random and throttles a tenant as a whole, like Microsoft's Dev Proxy:
//! <https://learn.microsoft.com/microsoft-cloud/dev/dev-proxy/technical-reference/graphrandomerrorplugin>.

use std::collections::HashMap;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};

use super::faults::Fault;
use super::rng::mixed;

/// Failure rate and throttling of a service.
///
/// After a 429, every request of the same tenant is answered 429 until the time in `Retry-After` has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreliable {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Percentage of requests that fail with 429, 500, 502, 503 or 504, with equal probability.
    pub percent: u8,
    /// Seconds in the `Retry-After` of a 429.
    pub retry_after: u16,
    /// True to send `Retry-After` as an HTTP date.
    pub as_date: bool,
    /// True if an early request restarts the wait.
    pub penalty: bool,
}

/// Throttled tenants, with the end of the wait.
#[derive(Debug, Default)]
pub(super) struct Throttled(HashMap<String, DateTime<Utc>>);

impl Throttled {
    /// The error of the request with this number, if any.
    pub(super) fn fault(
        &mut self,
        service: Unreliable,
        tenant: &str,
        number: u64,
        now: DateTime<Utc>,
    ) -> Option<Fault> {
        let released = now + TimeDelta::seconds(service.retry_after.into());
        let throttle = |until| Some(Fault::throttle(&service.spelled(until, now)));
        if let Some(until) = self.0.get_mut(tenant).filter(|until| now < **until) {
            if service.penalty {
                *until = released;
            }
            return throttle(*until);
        }
        let random = mixed(service.seed ^ mixed(number));
        if random % 100 >= service.percent.into() {
            return None;
        }
        match STATUSES[usize::try_from(random / 100 % 5).expect("one of five")] {
            429 => {
                self.0.insert(tenant.to_owned(), released);
                throttle(released)
            }
            status => Some(Fault::status(status)),
        }
    }
}

impl Unreliable {
    /// A wait until `until`, rounded up to whole seconds.
    fn spelled(self, until: DateTime<Utc>, now: DateTime<Utc>) -> String {
        if self.as_date {
            let second = TimeDelta::seconds(1);
            let until = until.duration_round_up(second).unwrap_or(until);
            return httpdate::fmt_http_date(until.into());
        }
        let millis = (until - now).num_milliseconds();
        u64::try_from(millis)
            .unwrap_or(0)
            .div_ceil(1_000)
            .to_string()
    }
}

const STATUSES: [u16; 5] = [429, 500, 502, 503, 504];

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: Unreliable = Unreliable {
        seed: 1,
        percent: 100,
        retry_after: 5,
        as_date: false,
        penalty: false,
    };

    #[test]
    fn as_many_requests_fail_as_were_asked_for() {
        for percent in [0, 20, 50, 100] {
            let service = Unreliable {
                percent,
                retry_after: 0,
                ..SERVICE
            };
            let mut throttled = Throttled::default();
            let mut now: DateTime<Utc> = "2026-11-21T12:00:00Z".parse().unwrap();
            let failed = (0..10_000).filter(|&number| {
                now += TimeDelta::milliseconds(1);
                throttled.fault(service, "a", number, now).is_some()
            });
            let failed = failed.count().abs_diff(usize::from(percent) * 100);
            assert!(failed < 150, "{percent} %: off by {failed}");
        }
    }

    #[test]
    fn a_429_holds_its_tenant_and_an_early_request_prolongs_it_with_the_penalty() {
        let start: DateTime<Utc> = "2026-11-21T12:00:00.5Z".parse().unwrap();
        let after = |seconds| start + TimeDelta::seconds(seconds);
        let throttles = (0..1_000).find(|&number| {
            let fault = Throttled::default().fault(SERVICE, "a", number, start);
            fault == Some(Fault::throttle("5"))
        });
        let throttles = throttles.unwrap();
        let quiet = Unreliable {
            percent: 0,
            ..SERVICE
        };
        for (penalty, as_date, early, released) in [
            (false, false, "2", 5),
            (true, false, "5", 8),
            (false, true, "Sat, 21 Nov 2026 12:00:06 GMT", 5),
            (true, true, "Sat, 21 Nov 2026 12:00:09 GMT", 8),
        ] {
            let mut throttled = Throttled::default();
            throttled.fault(SERVICE, "a", throttles, start);
            let quiet = Unreliable {
                as_date,
                penalty,
                ..quiet
            };
            assert_eq!(throttled.fault(quiet, "b", 0, after(3)), None);
            let fault = throttled.fault(quiet, "a", 0, after(3));
            assert_eq!(fault, Some(Fault::throttle(early)));
            assert_eq!(throttled.fault(quiet, "a", 0, after(released)), None);
        }
    }
}
