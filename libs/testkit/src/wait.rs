//! Waiting for a condition with a deadline.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// The first pause between two looks; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);

/// A point in time by which something must have happened.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So far from now.
    pub fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    /// What is left, zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether nothing is left.
    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

/// Looks again and again until `probe` returns a value. `Err` is what it saw instead; when `limit` has passed, the
/// test fails with `what` and the last of these.
pub async fn eventually<T, E, F, P>(what: &str, limit: Duration, mut probe: P) -> T
where
    P: FnMut() -> F,
    F: Future<Output = Result<T, E>>,
    E: Debug,
{
    let deadline = Deadline::after(limit);
    let mut pause = SHORTEST;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(seen) if deadline.passed() => {
                panic!("{what}: not within {limit:?}; last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(pause.min(deadline.remaining())).await,
        }
        pause = (pause * 2).min(LONGEST);
    }
}

/// [`eventually`] without a runtime.
pub fn eventually_blocking<T, E: Debug>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Deadline::after(limit);
    let mut pause = SHORTEST;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(seen) if deadline.passed() => {
                panic!("{what}: not within {limit:?}; last seen: {seen:?}")
            }
            Err(_) => std::thread::sleep(pause.min(deadline.remaining())),
        }
        pause = (pause * 2).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_value_that_appears_is_returned() {
        let mut looks = 0;
        let value = eventually("three looks", Duration::from_secs(10), || {
            looks += 1;
            std::future::ready(if looks == 3 { Ok(looks) } else { Err(looks) })
        })
        .await;
        assert_eq!(value, 3);
    }

    #[test]
    fn a_value_that_never_appears_fails_with_what_was_seen() {
        let panic = std::panic::catch_unwind(|| {
            eventually_blocking("the run ends", Duration::from_millis(20), || {
                Err::<(), _>("RUNNING")
            });
        });
        let message = *panic.unwrap_err().downcast::<String>().unwrap();
        assert!(
            message.contains("the run ends") && message.contains("RUNNING"),
            "{message}"
        );
    }
}
