//! Reading: one workload, pages, descriptions.

use api_step::v1::Assignment;
use clock::Timestamp;
use ids::WorkloadId;

use super::{Runner, launch};
use crate::domain::admission::Why;
use crate::domain::state::State;
use crate::error::Error;
use crate::store::Record;

/// A page of workloads.
#[derive(Debug)]
pub struct Page {
    /// The workloads.
    pub records: Vec<Record>,
    /// The token of the next page; empty on the last.
    pub next: String,
}

impl Runner {
    /// Returns a workload.
    pub async fn get(&self, id: &WorkloadId) -> Result<Record, Error> {
        if let Some(record) = self.live_record(id) {
            return Ok(record);
        }
        if let Some(record) = self
            .0
            .store
            .get(id)
            .await?
            .filter(|record| !record.deleting)
        {
            return Ok(record);
        }
        // Stopped before it was launched: there is nothing to say but that.
        match self.0.store.tombstone(id).await? {
            Some(mark) if !mark.deleted => {
                let record = self.new_record(id.clone(), &Default::default(), &Default::default());
                Ok(launch::buried(record, &mark))
            }
            _ => Err(Error::NotFound(id.to_string())),
        }
    }

    /// Returns a page of an owner's workloads, oldest first.
    pub async fn list(&self, owner: &str, size: i32, token: &str) -> Result<Page, Error> {
        let size = aip::page::size(size)?;
        let query = format!("workloads/{owner}");
        let after = match aip::page::decode(&query, token)?.as_deref() {
            None => None,
            Some([time, id]) => {
                let micros: i64 = time.parse().map_err(|_| aip::page::Error::Foreign)?;
                Some((Timestamp::from_micros(micros), id.clone()))
            }
            Some(_) => return Err(aip::page::Error::Foreign.into()),
        };
        let mut records = self.0.store.page(owner, after, false, size + 1).await?;
        let more = records.len() > size as usize;
        records.truncate(size as usize);
        let next = match records.last().filter(|_| more) {
            Some(last) => {
                let time = last.created_at.as_micros().to_string();
                aip::page::encode(&query, &[&time, last.id.as_str()])
            }
            None => String::new(),
        };
        let records = records
            .into_iter()
            .map(|record| self.current(record))
            .collect();
        Ok(Page { records, next })
    }

    /// The newest that is known of a stored workload.
    pub(super) fn current(&self, stored: Record) -> Record {
        match self.live_record(&stored.id) {
            Some(live) if live.version > stored.version => live,
            _ => stored,
        }
    }

    /// The assignment of a workload's agent.
    pub async fn describe(&self, id: &WorkloadId) -> Result<Assignment, Error> {
        self.get(id).await?;
        self.0.files.assignment(id)
    }

    /// The agent's program.
    pub fn agent_path(&self) -> String {
        self.0.agent.display().to_string()
    }

    /// The place in the queue, from 1, and why it waits; none when it does not wait.
    pub(crate) fn place_in_queue(&self, record: &Record) -> Option<(u32, Why)> {
        if record.state != State::Queued {
            return None;
        }
        let live = self.live();
        live.scheduler.position(&record.namespace, &record.id)
    }

    /// The size of a workload's log, which grows while it runs.
    pub fn log_bytes(&self, record: &Record) -> u64 {
        if record.state.placed() {
            self.0.files.log_bytes(&record.id)
        } else {
            record.log_bytes
        }
    }
}

impl Runner {
    /// The time.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The node's name.
    pub fn node_id(&self) -> &str {
        self.0.store.node_id()
    }
}
