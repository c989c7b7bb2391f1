//! Retries of calls whose repetition is harmless.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aip::Code;
use tokio::time::Instant;
use tonic::Status;
use tonic_types::StatusExt;

use crate::random;

/// What one retry costs, in the unit in which successes pay in 1.
const RETRY_COST: i64 = 10;
const FULL: i64 = 100 * RETRY_COST;

/// When to try again. Only for methods whose repetition is harmless.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Calls in total, with the first.
    pub attempts: u32,
    /// The longest pause after the first failure; it doubles with each.
    pub first_pause: Duration,
    /// The longest pause at all.
    pub last_pause: Duration,
    /// No retry begins later.
    pub deadline: Option<Instant>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_pause: Duration::from_millis(50),
            last_pause: Duration::from_secs(2),
            deadline: None,
        }
    }
}

/// Keeps retries below a tenth of the successful calls, after an initial hundred, so that a peer in trouble is not
/// called more than one in health. Share it among all callers of a peer; clones are the same budget.
#[derive(Debug, Clone)]
pub struct RetryBudget(Arc<AtomicI64>);

impl Default for RetryBudget {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(FULL)))
    }
}

impl RetryBudget {
    fn pay_in(&self) {
        let more = |left: i64| (left < FULL).then_some(left + 1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok();
    }

    fn spend(&self) -> bool {
        let less = |left: i64| (left >= RETRY_COST).then_some(left - RETRY_COST);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }
}

/// Makes a call again while it fails with `UNAVAILABLE`, within the policy and the budget.
pub async fn retry<T, C, F>(
    policy: &RetryPolicy,
    budget: &RetryBudget,
    mut call: C,
) -> Result<T, Status>
where
    C: FnMut() -> F,
    F: Future<Output = Result<T, Status>>,
{
    let mut longest = policy.first_pause;
    let mut attempt = 1;
    loop {
        let status = match call().await {
            Ok(value) => {
                budget.pay_in();
                return Ok(value);
            }
            Err(status) => status,
        };
        // Full jitter, but not before the peer wants it.
        let asked = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay)
            .unwrap_or_default()
            .min(policy.last_pause);
        let pause = asked + longest.mul_f64(random::fraction());
        let too_late = policy
            .deadline
            .is_some_and(|deadline| Instant::now() + pause >= deadline);
        if status.code() != Code::Unavailable
            || attempt >= policy.attempts
            || too_late
            || !budget.spend()
        {
            return Err(status);
        }
        tokio::time::sleep(pause).await;
        longest = (longest * 2).min(policy.last_pause);
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::Error;

    fn quick() -> RetryPolicy {
        RetryPolicy {
            first_pause: Duration::from_millis(1),
            last_pause: Duration::from_millis(2),
            ..RetryPolicy::default()
        }
    }

    async fn count(
        policy: &RetryPolicy,
        budget: &RetryBudget,
        error: Error,
        good_after: u32,
    ) -> (u32, bool) {
        let calls = Cell::new(0);
        let outcome = retry(policy, budget, || {
            calls.set(calls.get() + 1);
            let outcome = match calls.get() > good_after {
                true => Ok(()),
                false => Err(aip::status("test", &error)),
            };
            async move { outcome }
        });
        let good = outcome.await.is_ok();
        (calls.get(), good)
    }

    #[tokio::test]
    async fn only_unavailable_is_tried_again_and_not_for_ever() {
        let budget = RetryBudget::default();
        assert_eq!(
            count(&quick(), &budget, Error::Draining, 2).await,
            (3, true)
        );
        assert_eq!(
            count(&quick(), &budget, Error::Draining, 9).await,
            (4, false)
        );
        assert_eq!(
            count(&quick(), &budget, Error::Deadline, 9).await,
            (1, false)
        );
    }

    #[tokio::test]
    async fn no_retry_begins_after_the_deadline() {
        let policy = RetryPolicy {
            deadline: Some(Instant::now()),
            ..quick()
        };
        let budget = RetryBudget::default();
        assert_eq!(
            count(&policy, &budget, Error::Draining, 9).await,
            (1, false)
        );
    }

    #[tokio::test]
    async fn an_empty_budget_stops_retries_until_calls_succeed() {
        let budget = RetryBudget(Arc::new(AtomicI64::new(RETRY_COST)));
        assert_eq!(
            count(&quick(), &budget, Error::Draining, 9).await,
            (2, false)
        );
        assert_eq!(
            count(&quick(), &budget, Error::Draining, 9).await,
            (1, false)
        );
        for _ in 0..RETRY_COST {
            assert_eq!(
                count(&quick(), &budget, Error::Draining, 0).await,
                (1, true)
            );
        }
        assert_eq!(
            count(&quick(), &budget, Error::Draining, 1).await,
            (2, true)
        );
    }
}
