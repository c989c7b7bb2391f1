//! The wait of an actor for the time at which its run wants to be woken.
//!
//! The time is stored as one of day, which may jump. While the process lives it is waited for by a clock that does not,
//! so that a pause neither shrinks nor grows with a step of the clock; after a restart the time of day is all there is.

use clock::{Clock, Timestamp};
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Alarm {
    set: Option<(Timestamp, Instant)>,
    /// The latest time that was waited for: it has come, whatever the clock says.
    reached: Timestamp,
}

impl Alarm {
    /// Sets the time; one that is set already stays as it is.
    pub(super) fn set(&mut self, at: Option<Timestamp>, clock: &Clock) {
        if self.set.map(|(set, _)| set) == at {
            return;
        }
        let due = |at: Timestamp| {
            let now = Instant::from_std(clock.monotonic());
            (at, now + at.since(self.now(clock)))
        };
        self.set = at.map(due);
    }

    /// Waits for the time, for ever when there is none.
    pub(super) async fn rings(&self) {
        match self.set {
            Some((_, due)) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Notes that the time has come.
    pub(super) fn rang(&mut self) {
        if let Some((at, _)) = self.set.take() {
            self.reached = self.reached.max(at);
        }
    }

    /// The time of day, which is not before what was waited for.
    pub(super) fn now(&self, clock: &Clock) -> Timestamp {
        clock.now().max(self.reached)
    }
}
