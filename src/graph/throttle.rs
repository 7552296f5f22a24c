//! Throttling: while the service throttles an application in a tenant, the exporter sends no request of this
//! application.
//!
//! Microsoft throttles an application in a tenant as a whole, and requests that come too early prolong the throttling:
//! <https://learn.microsoft.com/graph/throttling>. So all requests share one *hold*, a time in which none is sent. When
//! the hold ends, requests are sent one at a time at first. After every [`ANSWERS_PER_STEP`] responses without
//! throttling, one more parallel request is permitted.
//!
//! [`RetryPolicy::hold`] decides how long a hold lasts.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::log_seconds;
use super::retry::{FailureKind, RetryPolicy};

/// The hold that all requests of one application share.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    state: Mutex<State>,
    /// Queue of requests, in the order of their arrival.
    line: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// The error if a hold would end after the caller's deadline. The seconds in its message are rounded up, because "0 s"
/// would read as no wait at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no request was sent: an earlier request was answered {status} and all requests must wait for another {} s",
    wait.as_millis().div_ceil(1_000)
)]
pub struct Held {
    /// Status of the response that caused the hold.
    pub(crate) status: u16,
    /// Remaining time of the hold.
    pub(crate) wait: Duration,
}

/// Permission for one request. Dropping it admits the next request.
#[derive(Debug)]
pub(crate) struct Pass<'t> {
    throttle: &'t Throttle,
    round: u64,
}

#[derive(Debug)]
struct State {
    /// Status of the last throttled response and the end of its hold.
    hold: Option<(u16, Instant)>,
    /// Number of holds so far. Each hold starts a new round and resets the counts of requests and responses below.
    /// Requests that began in an earlier round do not change these counts.
    round: u64,
    /// Number of requests in progress that began in the current round.
    in_progress: usize,
    /// Maximum number of requests in progress.
    allowed: usize,
    /// Number of responses since `allowed` changed.
    answered: usize,
    /// Number of holds since the last response that was not throttled.
    consecutive_throttled: u32,
}

/// Decision about one request.
enum Entry {
    /// The request may be sent, in this round.
    Proceed(u64),
    WaitUntil(u16, Instant),
    WaitForChange,
}

impl Throttle {
    /// Waits until a request may be sent.
    ///
    /// # Errors
    /// If the hold lasts until the deadline or longer. This error is returned without a wait.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<Pass<'_>, Held> {
        let _turn = self.line.lock().await;
        loop {
            let entry = self.state.lock().enter(Instant::now());
            match entry {
                Entry::Proceed(round) => {
                    let throttle = self;
                    return Ok(Pass { throttle, round });
                }
                Entry::WaitUntil(status, until) if until >= deadline => {
                    let wait = until - Instant::now();
                    return Err(Held { status, wait });
                }
                // The next iteration notices if the hold was prolonged.
                Entry::WaitUntil(_, until) => tokio::time::sleep_until(until).await,
                Entry::WaitForChange => self.changed.notified().await,
            }
        }
    }

    /// The current hold.
    pub(crate) fn held(&self) -> Option<Held> {
        let (status, until) = self.state.lock().hold?;
        let wait = until.checked_duration_since(Instant::now())?;
        (!wait.is_zero()).then_some(Held { status, wait })
    }
}

impl Pass<'_> {
    /// Records a response that was not throttled.
    pub(crate) fn answered(self) {
        self.throttle.state.lock().answered(self.round);
    }

    /// Returns the wait after a failed request, or `None` if the request is not retried. If the request was throttled,
    /// starts a hold for all requests. After the wait, the caller calls [`Throttle::enter`], which waits for the end of
    /// the hold. An attempt that is throttled with a `Retry-After` is not counted, so only the deadline limits such
    /// attempts.
    pub(crate) fn failed(
        self,
        policy: &RetryPolicy,
        attempt: &mut u32,
        kind: FailureKind,
        retry_after: Option<Duration>,
        deadline: Instant,
    ) -> Option<Duration> {
        let now = Instant::now();
        let random = fastrand::f64();
        let Some(status) = kind.throttling(retry_after) else {
            *attempt += 1;
            if matches!(kind, FailureKind::Status(_)) {
                self.throttle.state.lock().answered(self.round);
            }
            let remaining = deadline.saturating_duration_since(now);
            return policy.retry_wait(*attempt, kind, retry_after, remaining, random);
        };
        if retry_after.is_none() {
            *attempt += 1;
        }
        let hold = |in_a_row| now + policy.hold(in_a_row, retry_after, random);
        let until = self
            .throttle
            .state
            .lock()
            .throttled(self.round, status, hold);
        tracing::debug!(
            status,
            wait_seconds = log_seconds(until - now),
            "throttled: all requests of this application wait"
        );
        let is_retried = until < deadline && policy.attempts > 1 && *attempt < policy.attempts;
        is_retried.then_some(Duration::ZERO)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.throttle.state.lock();
        if state.round == self.round {
            state.in_progress -= 1;
        }
        self.throttle.changed.notify_one();
    }
}

impl State {
    fn enter(&mut self, now: Instant) -> Entry {
        match self.hold {
            Some((status, until)) if now < until => Entry::WaitUntil(status, until),
            _ if self.in_progress >= self.allowed => Entry::WaitForChange,
            _ => {
                self.in_progress += 1;
                Entry::Proceed(self.round)
            }
        }
    }

    fn answered(&mut self, round: u64) {
        if round != self.round {
            return;
        }
        self.consecutive_throttled = 0;
        self.answered += 1;
        if self.answered >= ANSWERS_PER_STEP {
            self.answered = 0;
            self.allowed = self.allowed.saturating_add(1);
        }
    }

    /// Starts a hold. If a hold began after the request was sent, prolongs that hold instead. Returns the hold's end.
    fn throttled(&mut self, round: u64, status: u16, hold: impl Fn(u32) -> Instant) -> Instant {
        if round == self.round {
            self.round += 1;
            self.consecutive_throttled = self.consecutive_throttled.saturating_add(1);
            self.in_progress = 0;
            self.allowed = 1;
            self.answered = 0;
        }
        let until = hold(self.consecutive_throttled.max(1));
        match self.hold {
            Some((_, later)) if later >= until => later,
            _ => {
                self.hold = Some((status, until));
                until
            }
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            hold: None,
            round: 0,
            in_progress: 0,
            allowed: usize::MAX,
            answered: 0,
            consecutive_throttled: 0,
        }
    }
}

/// Number of responses after a hold until one more parallel request is permitted. With a smaller number, more parallel
/// requests fail when the next hold starts. With a larger number, a report of many days is slower.
const ANSWERS_PER_STEP: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 3,
        delay_base: Duration::from_secs(1),
        delay_max: Duration::from_secs(10),
    };

    #[tokio::test(start_paused = true)]
    async fn a_hold_stops_all_and_one_goes_first() {
        let throttle = Throttle::default();
        let begun = Instant::now();
        let deadline = begun + Duration::from_mins(5);
        let mut passes = Vec::new();
        for _ in 0..20 {
            passes.push(throttle.enter(deadline).await.unwrap());
        }
        let mut attempt = 0;
        for pass in passes {
            let wait = throttled(pass, Some(10), &mut attempt, deadline);
            assert_eq!(wait, AT_ONCE);
        }
        assert_eq!(attempt, 0, "waiting is no attempt");
        let first = throttle.enter(deadline).await.unwrap();
        assert!((10..=11).contains(&begun.elapsed().as_secs()));
        // The second request waits for the response to the first.
        let second = tokio::time::timeout_at(deadline, throttle.enter(deadline));
        let answer = async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            first.answered();
        };
        let (second, ()) = tokio::join!(second, answer);
        assert!(begun.elapsed() >= Duration::from_secs(30));
        second.unwrap().unwrap().answered();
        // Later requests run in parallel again.
        let mut answers = 2;
        while throttle.state.lock().allowed < 3 {
            throttle.enter(deadline).await.unwrap().answered();
            answers += 1;
        }
        assert_eq!(answers, 2 * ANSWERS_PER_STEP);
        let _three = [(); 3].map(|()| throttle.enter(deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn request_that_cannot_wait_fails_at_once() {
        let throttle = Throttle::default();
        let begun = Instant::now();
        let soon = begun + Duration::from_mins(5);
        let pass = throttle.enter(soon).await.unwrap();
        assert_eq!(throttled(pass, Some(86_400), &mut 0, soon), None);
        let held = throttle.enter(soon).await.unwrap_err();
        assert_eq!(
            held.to_string(),
            "no request was sent: an earlier request was answered 429 and all requests must wait for another 3600 s"
        );
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(throttle.held(), Some(held));
        // A `Retry-After` of a day is limited to an hour.
        let later = begun + Duration::from_hours(2);
        throttle.enter(later).await.unwrap().answered();
        assert_eq!(begun.elapsed(), Duration::from_hours(1));
        assert_eq!(throttle.held(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_are_named_end_with_the_deadline_and_others_with_the_attempts() {
        for (retry_after, least, most) in [
            (Some(5), 20, 60),
            // `Retry-After: 0` leads to pauses too, however often the service sends it.
            (Some(0), 25, 70),
            (None, 3, 3),
        ] {
            let throttle = Throttle::default();
            let deadline = Instant::now() + Duration::from_mins(5);
            let mut attempt = 0;
            let mut requests = 0;
            loop {
                let pass = throttle.enter(deadline).await.unwrap();
                requests += 1;
                if throttled(pass, retry_after, &mut attempt, deadline).is_none() {
                    break;
                }
            }
            assert!(
                (least..=most).contains(&requests),
                "{retry_after:?}: {requests}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_hold_other_requests_by_table() {
        let wait = Some(Duration::from_secs(7));
        for (kind, retry_after, holds) in [
            (FailureKind::Status(429), wait, true),
            (FailureKind::Status(429), None, true),
            (FailureKind::Status(509), wait, true),
            (FailureKind::Status(509), None, true),
            (FailureKind::Status(408), wait, false),
            (FailureKind::Status(503), wait, true),
            (FailureKind::Status(503), None, false),
            (FailureKind::Status(500), wait, false),
            (FailureKind::Status(504), wait, false),
            (FailureKind::Connect, None, false),
            (FailureKind::Timeout, None, false),
        ] {
            let throttle = Throttle::default();
            let deadline = Instant::now() + Duration::from_mins(5);
            let pass = throttle.enter(deadline).await.unwrap();
            pass.failed(&POLICY, &mut 0, kind, retry_after, deadline);
            assert_eq!(throttle.held().is_some(), holds, "{kind:?} {retry_after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_dropped_lets_the_next_one_go() {
        let throttle = Throttle::default();
        let deadline = Instant::now() + Duration::from_mins(5);
        let pass = throttle.enter(deadline).await.unwrap();
        throttled(pass, Some(1), &mut 0, deadline);
        for _ in 0..3 {
            drop(throttle.enter(deadline).await.unwrap());
        }
        // A request that is still waiting is held too.
        let first = throttle.enter(deadline).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_secs(1), throttle.enter(deadline));
        assert!(waiting.await.is_err());
        drop(first);
        drop(throttle.enter(deadline).await.unwrap());
        assert_eq!(throttle.state.lock().in_progress, 0);
    }

    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

    fn throttled(
        pass: Pass<'_>,
        retry_after: Option<u64>,
        attempt: &mut u32,
        deadline: Instant,
    ) -> Option<Duration> {
        let retry_after = retry_after.map(Duration::from_secs);
        pass.failed(
            &POLICY,
            attempt,
            FailureKind::Status(429),
            retry_after,
            deadline,
        )
    }
}
