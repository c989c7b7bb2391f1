//! Stop, Delete, Forget.

use ids::WorkloadId;
use runtime::abort_point;

use super::run::Ending;
use super::{Runner, Stop, launch};
use crate::domain::state::{Event, State};
use crate::error::Error;
use crate::store::{Record, Unfinished};

impl Runner {
    /// Ends a workload, or marks an id that is not known so that it never starts.
    pub async fn stop(&self, id: WorkloadId, why: &str) -> Result<Record, Error> {
        let _alone = self.lock_id(&id).await;
        let known = self.known(&id).await?;
        if self.live_record(&id).is_some() {
            self.stop_live(&id, why, Stop::Gently).await?;
            return self.get(&id).await;
        }
        let now = self.0.clock.now();
        if known.is_none() && self.0.store.bury_unknown(&id, why, false, now).await? {
            tracing::info!(%id, "an id that is not known was stopped");
        }
        match self.0.store.get(&id).await? {
            Some(record) => Ok(record),
            None => {
                let mark = self.0.store.tombstone(&id).await?;
                let mark = mark.ok_or_else(|| Error::NotFound(id.to_string()))?;
                let record = self.new_record(id, &Default::default(), &Default::default());
                Ok(launch::buried(record, &mark))
            }
        }
    }

    async fn stop_live(&self, id: &WorkloadId, why: &str, how: Stop) -> Result<(), Error> {
        let message = if why.is_empty() {
            "it was stopped on request"
        } else {
            why
        };
        // What it is, is decided under the same lock: it may be about to start.
        let (record, ended) = {
            let mut live = self.live();
            let Some(found) = live.workloads.get_mut(id) else {
                return Ok(());
            };
            let namespace = found.ask.namespace.clone();
            match found.record.state {
                State::Queued | State::Preparing => {
                    live.scheduler.remove(&namespace, id);
                    let ending = Ending::new(Event::Stop, "STOPPED", message);
                    (None, self.decide_end(&mut live, id, ending))
                }
                State::Running | State::Stopping => {
                    let mut record = found.record.clone();
                    self.advance(&mut record, Event::Stop, "STOPPING", message);
                    found.record = record.clone();
                    (Some(record), None)
                }
                State::Succeeded | State::Failed | State::Stopped | State::Lost => (None, None),
            }
        };
        if let Some(ended) = ended {
            self.record_end(id, ended).await;
        }
        let Some(record) = record else { return Ok(()) };
        self.0.store.save(std::slice::from_ref(&record)).await?;
        self.0.files.mark_stop(id)?;
        abort_point("runner.stop.marked");
        self.publish(record);
        if let Some(live) = self.live().workloads.get(id) {
            live.signal
                .send_modify(|signal| signal.stop = signal.stop.max(how));
        }
        Ok(())
    }

    /// Ends a workload, removes its files and keeps its id from ever starting.
    pub async fn delete(&self, id: WorkloadId) -> Result<(), Error> {
        let _alone = self.lock_id(&id).await;
        self.known(&id).await?;
        let now = self.0.clock.now();
        let live = {
            let mut live = self.live();
            live.workloads.get_mut(&id).map(|live| {
                live.record.deleting = true;
                live.record.version = self.next_version(live.record.version);
                live.record.clone()
            })
        };
        let stored = match &live {
            Some(_) => None,
            None => self.0.store.get(&id).await?,
        };
        let record = match (live, stored) {
            (Some(live), _) => live,
            (None, Some(mut stored)) => {
                stored.deleting = true;
                stored.version = self.next_version(stored.version);
                stored
            }
            (None, None) => {
                self.0.store.bury_unknown(&id, "", true, now).await?;
                return Ok(());
            }
        };
        self.0.store.bury(&record, now).await?;
        abort_point("runner.delete.committed");
        self.stop_live(&id, "it was deleted", Stop::Now).await?;
        self.wait_ended(&id).await;
        self.remove(&id).await
    }

    /// Removes the files and the row of a workload that has ended.
    pub(super) async fn remove(&self, id: &WorkloadId) -> Result<(), Error> {
        let (runner, gone) = (self.clone(), id.clone());
        let removed = tokio::task::spawn_blocking(move || runner.0.files.remove(&gone)).await;
        match removed {
            Ok(removed) => removed?,
            Err(error) => tracing::error!(%id, %error, "cannot remove files"),
        }
        abort_point("runner.delete.files_removed");
        self.0.store.remove(id).await?;
        Ok(())
    }

    /// Waits until a workload has ended and that is recorded.
    pub(super) async fn wait_ended(&self, id: &WorkloadId) {
        let signal = self
            .live()
            .workloads
            .get(id)
            .map(|live| live.signal.subscribe());
        let Some(mut signal) = signal else { return };
        while signal.changed().await.is_ok() {}
    }

    /// Deletes all workloads of an owner and forgets their ids.
    pub async fn forget(&self, owner: &str) -> Result<(), Error> {
        loop {
            let page = self.0.store.page(owner, None, false, 200).await?;
            if page.is_empty() {
                break;
            }
            for record in page {
                self.delete(record.id).await?;
            }
        }
        self.0.store.forget(owner).await?;
        Ok(())
    }

    /// Ends everything that runs or waits, and waits for it: the end of `flumina down`.
    pub async fn stop_all(&self, why: &str) -> Result<usize, Error> {
        // Those that wait come first, so that none of them takes the place of one that ends.
        let (mut ids, running): (Vec<_>, Vec<_>) = self
            .live()
            .workloads
            .values()
            .map(|live| (live.record.id.clone(), live.record.state.placed()))
            .partition(|(_, placed)| !placed);
        ids.extend(running);
        for (id, _) in &ids {
            self.stop(id.clone(), why).await?;
        }
        for (id, _) in &ids {
            self.wait_ended(id).await;
        }
        Ok(ids.len())
    }

    /// Before anything is taken up: ends what waits, and marks what runs so that it will be stopped and never started.
    /// Returns how many may run.
    pub(crate) async fn stop_stored(&self, why: &str) -> Result<usize, Error> {
        let mut records = Vec::new();
        let mut running = 0;
        for Unfinished { mut record, .. } in self.0.store.unfinished().await? {
            if record.ended_at.is_some() || record.deleting {
                continue;
            }
            if record.state.placed() {
                running += 1;
                self.advance(&mut record, Event::Stop, "STOPPING", why);
                self.0.files.mark_stop(&record.id)?;
            } else {
                self.advance(&mut record, Event::Stop, "STOPPED", why);
                record.ended_at = Some(self.0.clock.now());
            }
            records.push(record);
        }
        self.0.store.save(&records).await?;
        Ok(running)
    }
}
