//! After a restart: every workload that had not ended is found again.

use std::sync::Arc;

use aip::ApiError as _;
use api_runner::v1::WorkloadSpec;

use super::{Live, Runner, Stop, run};
use crate::api::validate;
use crate::domain::admission::Ask;
use crate::domain::state::State;
use crate::error::Error;
use crate::store::{Record, Unfinished};

impl Runner {
    /// Takes up every workload of this node that had not ended. Called once, before the first call is served.
    pub(crate) async fn restore(&self) -> Result<(), Error> {
        let unfinished = self.0.store.unfinished().await?;
        let count = unfinished.len();
        let mut waiting = Vec::new();
        for found in unfinished {
            if found.record.ended_at.is_some() {
                self.remove(&found.record.id).await?;
                continue;
            }
            let id = found.record.id.clone();
            let deleting = found.record.deleting;
            match found.record.state {
                State::Running | State::Stopping => {
                    self.take_up(found).await;
                    if deleting {
                        self.finish_deletion(&id);
                    }
                }
                // Their row and their mark go without further ado.
                _ if deleting => self.remove(&id).await?,
                _ => waiting.push(found),
            }
        }
        for found in waiting {
            self.take_up(found).await;
        }
        self.measure();
        if count > 0 {
            tracing::info!(count, running = self.running(), "took up workloads");
        }
        Ok(())
    }

    /// Drives a workload that had not ended and that nobody drives.
    pub(super) async fn take_up(&self, found: Unfinished) {
        let Unfinished { record, request } = found;
        if record.state.placed() {
            self.adopt(record, request).await;
        } else {
            self.requeue(record, request).await;
        }
    }

    /// Removes what nobody needs any more, every hour.
    pub(crate) async fn collect(self) -> Result<(), Error> {
        const PERIOD: std::time::Duration = std::time::Duration::from_secs(3600);
        const KEEP_MARKS: i64 = 30 * 86_400 * 1_000_000;
        const KEEP_REQUESTS: i64 = 86_400 * 1_000_000;
        self.sweep().await?;
        self.finish_volumes().await?;
        loop {
            self.collect_environments().await?;
            let before = self.0.clock.now().as_micros() - KEEP_MARKS;
            let before = clock::Timestamp::from_micros(before);
            self.0.store.expire_marks(before).await?;
            let before = self.0.clock.now().as_micros() - KEEP_REQUESTS;
            let before = clock::Timestamp::from_micros(before);
            self.0.store.expire_requests(before).await?;
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Removes directories that were made for launches that were never recorded.
    async fn sweep(&self) -> Result<(), Error> {
        let runner = self.clone();
        let ids = tokio::task::spawn_blocking(move || runner.0.files.ids()).await;
        for id in ids.unwrap_or_default() {
            // A launch holds this from before it makes the directory until the row is there.
            let _alone = self.lock_id(&id).await;
            let known = self.live_record(&id).is_some() || self.0.store.get(&id).await?.is_some();
            if !known {
                tracing::info!(%id, "removing files that belong to no workload");
                self.0.files.remove(&id)?;
            }
        }
        Ok(())
    }

    async fn adopt(&self, record: Record, request: Option<WorkloadSpec>) {
        let id = record.id.clone();
        let stop = match (record.deleting, record.state) {
            (true, _) => Stop::Now,
            (false, State::Stopping) => Stop::Gently,
            (false, _) => Stop::No,
        };
        if stop != Stop::No
            && let Err(error) = self.0.files.mark_stop(&id)
        {
            tracing::warn!(%id, error = aip::chain(&error), "cannot mark a stop");
        }
        let (live, _) = self.revive(record, request).await;
        live.signal.send_modify(|signal| signal.stop = stop);
        {
            let mut set = self.live();
            let devices = &live.record.accelerators;
            set.scheduler.hold_again(&live.ask, devices);
            set.workloads.insert(id.clone(), live);
        }
        self.drive(&id, run::First::Unknown);
    }

    async fn requeue(&self, record: Record, request: Option<WorkloadSpec>) {
        let id = record.id.clone();
        let state = record.state;
        let (live, refused) = self.revive(record, request).await;
        let ask = live.ask.clone();
        self.live().workloads.insert(id.clone(), live);
        if let Some(refused) = refused {
            self.fail(&id, refused.reason(), &refused.sentence()).await;
        } else if state == State::Preparing {
            self.prepare_environment(&id);
        } else {
            self.enqueue(ask).await;
        }
    }

    /// What is kept in memory of a workload, made again from its row, and why it cannot start any more.
    async fn revive(&self, record: Record, request: Option<WorkloadSpec>) -> (Live, Option<Error>) {
        let spec = request.unwrap_or_else(|| (*record.spec).clone());
        let wanted = validate::launch(record.id.as_str(), Some(&spec))
            .map(|(_, wanted)| wanted)
            .unwrap_or_default();
        let mut refused = None;
        let (plan, amount) = match self.plan(&spec, &wanted).await {
            Ok(planned) => planned,
            // The machine or its configuration changed.
            Err(error) => {
                tracing::warn!(id = %record.id, error = aip::chain(&error), "cannot plan as before");
                refused = Some(error);
                (Arc::default(), wanted.amount)
            }
        };
        let ask = Ask {
            id: record.id.clone(),
            namespace: record.namespace.clone(),
            amount,
            gang: wanted.gang,
        };
        (Live::new(record, Some(spec), ask, plan), refused)
    }

    fn finish_deletion(&self, id: &ids::WorkloadId) {
        let (runner, id) = (self.clone(), id.clone());
        self.spawn("delete", async move {
            runner.wait_ended(&id).await;
            if let Err(error) = runner.remove(&id).await {
                tracing::warn!(%id, error = aip::chain(&error), "cannot finish a deletion yet");
            }
        });
    }
}
