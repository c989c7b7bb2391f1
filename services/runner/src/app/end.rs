//! The end of a workload, and what it makes room for.

use std::sync::Arc;

use ids::WorkloadId;
use runtime::abort_point;

use super::run::Ending;
use super::{LiveSet, Runner, likeness};
use crate::domain::state::{Event, State};
use crate::store::Record;

/// An end that memory knows and the database does not yet.
pub(super) struct Ended {
    record: Record,
    /// What starts instead.
    admitted: Vec<Record>,
}

impl Runner {
    /// Records the end of a workload together with the start of what takes its place.
    pub(super) async fn end(&self, id: &WorkloadId, ending: Ending) {
        let ended = self.decide_end(&mut self.live(), id, ending);
        if let Some(ended) = ended {
            self.record_end(id, ended).await;
        }
    }

    /// Ends a workload in memory, for a caller that holds the lock since it decided to; none when it has ended already.
    pub(super) fn decide_end(
        &self,
        live: &mut LiveSet,
        id: &WorkloadId,
        ending: Ending,
    ) -> Option<Ended> {
        let found = live.workloads.get_mut(id)?;
        if found.record.state.ended() {
            return None;
        }
        let mut record = found.record.clone();
        // Whoever asked for the end said why; the agent knows only that somebody did.
        let stopped = record.state == State::Stopping
            && matches!(ending.event, Event::EndStopped | Event::Lose);
        let message = if stopped {
            record.message.clone()
        } else {
            let code = ending
                .result
                .as_ref()
                .map_or(0, |result| result.exit_code());
            let hint = likeness::hint(&found.plan, code, &ending.message);
            ending.message + hint
        };
        if !self.advance(&mut record, ending.event, &ending.reason, &message) {
            return None;
        }
        record.ended_at = Some(self.0.clock.now());
        record.log_bytes = self.0.files.log_bytes(id);
        record.result = ending.result.map(|result| Arc::new(*result));
        found.record = record.clone();
        live.scheduler.release(id);
        let admitted = self.admit(live);
        Some(Ended { record, admitted })
    }

    /// Writes an end down and starts what takes its place.
    pub(super) async fn record_end(&self, id: &WorkloadId, ended: Ended) {
        let Ended { record, admitted } = ended;
        let state = record.state;
        let message = record.message.as_str();
        tracing::debug!(%id, state = state.as_str(), reason = record.reason, message, "ended");
        if !self.begin(admitted, vec![record.clone()]).await {
            return;
        }
        abort_point("runner.final.committed");
        self.0.metrics.ended(state);
        // From here on the database knows; receivers of the signal see its end.
        self.live().workloads.remove(id);
        self.publish(record);
        self.queue_changed();
    }

    /// Fails a workload that has no agent.
    pub(super) async fn fail(&self, id: &WorkloadId, reason: &str, message: &str) {
        self.end(id, Ending::new(Event::Fail, reason, message))
            .await;
    }

    /// Tells watchers their new places, soon.
    pub(super) fn queue_changed(&self) {
        self.measure();
        self.0.queue_changed.notify_one();
    }

    /// Tells watchers who is next whenever the queue changed, at most twice a second and the first hundred only.
    pub(crate) async fn tell_places(self, shutdown: runtime::Shutdown) {
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
        while shutdown
            .guard(self.0.queue_changed.notified())
            .await
            .is_some()
        {
            if self.0.hub.watched() {
                for record in self.moved() {
                    self.publish(record);
                }
            }
            if shutdown.guard(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
    }

    fn moved(&self) -> Vec<Record> {
        let mut live = self.live();
        let line = live.scheduler.line(100);
        let mut moved = Vec::new();
        for (id, _, why) in line {
            if let Some(live) = live.workloads.get_mut(&id) {
                live.record.reason = why.reason().to_owned();
                live.record.version = self.next_version(live.record.version);
                moved.push(live.record.clone());
            }
        }
        moved
    }
}
