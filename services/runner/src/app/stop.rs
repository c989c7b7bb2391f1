//! Stop, Delete, Forget.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ids::WorkloadId;
use runtime::abort_point;

use super::files::remove_tree;
use super::run::Ending;
use super::{Runner, Stop, id_place, launch};
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
        if self.known(&id).await?.is_some() {
            return self.delete_locked(&id).await;
        }
        let now = self.0.clock.now();
        self.0.store.bury_unknown(&id, "", true, now).await?;
        Ok(())
    }

    /// Deletes a workload, if it has not been deleted meanwhile.
    async fn delete_known(&self, id: WorkloadId) -> Result<(), Error> {
        let _alone = self.lock_id(&id).await;
        match self.known(&id).await? {
            Some(_) => self.delete_locked(&id).await,
            None => Ok(()),
        }
    }

    async fn delete_locked(&self, id: &WorkloadId) -> Result<(), Error> {
        let now = self.0.clock.now();
        let live = {
            let mut live = self.live();
            live.workloads.get_mut(id).map(|live| {
                live.record.deleting = true;
                live.record.version = self.next_version(live.record.version);
                live.record.clone()
            })
        };
        let record = match live {
            Some(live) => live,
            None => {
                let Some(mut stored) = self.0.store.get(id).await? else {
                    return Ok(());
                };
                stored.deleting = true;
                stored.version = self.next_version(stored.version);
                stored
            }
        };
        self.0
            .store
            .bury(std::slice::from_ref(&record), now)
            .await?;
        abort_point("runner.delete.committed");
        self.stop_live(id, "it was deleted", Stop::Now).await?;
        self.wait_ended(id).await;
        self.remove(id).await
    }

    /// Removes the files and the row of a workload that has ended.
    pub(super) async fn remove(&self, id: &WorkloadId) -> Result<(), Error> {
        self.remove_all(vec![id.clone()]).await
    }

    async fn remove_all(&self, ids: Vec<WorkloadId>) -> Result<(), Error> {
        let (runner, gone) = (self.clone(), ids.clone());
        let removed = tokio::task::spawn_blocking(move || {
            let mut gone = gone.iter();
            gone.try_for_each(|id| runner.0.files.remove(id))
        });
        match removed.await {
            Ok(removed) => removed?,
            Err(error) => tracing::error!(%error, "cannot remove files"),
        }
        abort_point("runner.delete.files_removed");
        self.0.store.remove(&ids).await?;
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

    /// Deletes all workloads of an owner and forgets their ids. A repeated call waits for the first.
    pub async fn forget(&self, owner: &str) -> Result<(), Error> {
        const PAGE: u32 = 200;
        let _alone = self.lock_owner(owner).await;
        loop {
            let page = self.0.store.owned(owner, PAGE).await?;
            if page.is_empty() {
                break;
            }
            let rest = self.delete_ended(page).await?;
            // All are told to end before any is waited for.
            let deletions = rest.into_iter().map(|id| self.delete_known(id));
            let deleted = futures_util::future::join_all(deletions).await;
            deleted.into_iter().collect::<Result<(), Error>>()?;
        }
        let workspace = self.workspace_dir(owner);
        let removed = tokio::task::spawn_blocking(move || remove_tree(&workspace)).await;
        match removed {
            Ok(removed) => removed?,
            Err(error) => tracing::error!(%error, "cannot remove a workspace"),
        }
        self.0.store.forget(owner).await?;
        Ok(())
    }

    /// Deletes those that have ended, together; returns the others, and those that somebody else changes now.
    async fn delete_ended(&self, records: Vec<Record>) -> Result<Vec<WorkloadId>, Error> {
        let mut locks = HashMap::new();
        let (mut ended, mut rest) = (Vec::new(), Vec::new());
        for mut record in records {
            let place = id_place(&record.id);
            if let Entry::Vacant(entry) = locks.entry(place)
                && let Ok(lock) = self.0.id_locks[place].try_lock()
            {
                entry.insert(lock);
            }
            let alone = locks.contains_key(&place);
            if alone && record.ended_at.is_some() && self.live_record(&record.id).is_none() {
                record.deleting = true;
                record.version = self.next_version(record.version);
                ended.push(record);
            } else {
                rest.push(record.id);
            }
        }
        if ended.is_empty() {
            return Ok(rest);
        }
        self.0.store.bury(&ended, self.0.clock.now()).await?;
        abort_point("runner.delete.committed");
        self.remove_all(ended.into_iter().map(|record| record.id).collect())
            .await?;
        Ok(rest)
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
