//! Rows as domain values.

use std::sync::Arc;

use api_runner::v1::WorkloadSpec;
use api_step::v1::StepResult;
use clock::Timestamp;
use ids::WorkloadId;
use prost::Message as _;
use sql::{FromRow, Row};

use crate::domain::accelerators::Device;
use crate::domain::state::State;

/// A workload as it is stored.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its id.
    pub id: WorkloadId,
    /// The node that runs it.
    pub node_id: String,
    /// The namespace that admission counts it under.
    pub namespace: String,
    /// Who asked.
    pub owner: String,
    /// Its state.
    pub state: State,
    /// Why, in UPPER_SNAKE_CASE.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// What ran differently from what was asked.
    pub notes: Vec<String>,
    /// The accelerators that it has, or had.
    pub accelerators: Vec<Device>,
    /// What was asked, without program and inputs.
    pub spec: Arc<WorkloadSpec>,
    /// Its result.
    pub result: Option<Arc<StepResult>>,
    /// The boot of the machine in which its agent was started.
    pub boot_id: String,
    /// Whether its files and its row are being removed.
    pub deleting: bool,
    pub created_at: Timestamp,
    pub admitted_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Size of its log when it ended, in bytes.
    pub log_bytes: u64,
    /// Grows with every change.
    pub version: i64,
}

impl FromRow for Record {
    fn from_row(row: &Row) -> Result<Self, sql::Error> {
        let state: String = row.get("state")?;
        let spec: Vec<u8> = row.get("spec")?;
        let result: Option<Vec<u8>> = row.get("result")?;
        let notes: String = row.get("notes")?;
        let accelerators: String = row.get("accelerators")?;
        let log_bytes: i64 = row.get("log_bytes")?;
        Ok(Self {
            id: row.get("id")?,
            node_id: row.get("node_id")?,
            namespace: row.get("namespace")?,
            owner: row.get("owner")?,
            state: State::parse(&state)
                .ok_or_else(|| sql::Error::corrupt("state", format!("unknown state {state}")))?,
            reason: row.get("reason")?,
            message: row.get("message")?,
            notes: notes.lines().map(str::to_owned).collect(),
            accelerators: accelerators.lines().filter_map(Device::parse).collect(),
            spec: Arc::new(
                WorkloadSpec::decode(spec.as_slice())
                    .map_err(|error| sql::Error::corrupt("spec", error))?,
            ),
            result: result
                .map(|bytes| StepResult::decode(bytes.as_slice()))
                .transpose()
                .map_err(|error| sql::Error::corrupt("result", error))?
                .map(Arc::new),
            boot_id: row.get("boot_id")?,
            deleting: row.get("deleting")?,
            created_at: row.get("created_at")?,
            admitted_at: row.get("admitted_at")?,
            started_at: row.get("started_at")?,
            ended_at: row.get("ended_at")?,
            log_bytes: log_bytes.unsigned_abs(),
            version: row.get("version")?,
        })
    }
}

/// A workload that has not ended, with all that was asked.
#[derive(Debug)]
pub struct Unfinished {
    /// The workload.
    pub record: Record,
    /// What was asked, whole.
    pub request: Option<WorkloadSpec>,
}

impl FromRow for Unfinished {
    fn from_row(row: &Row) -> Result<Self, sql::Error> {
        let request: Option<Vec<u8>> = row.get("request")?;
        Ok(Self {
            record: Record::from_row(row)?,
            request: request
                .map(|bytes| WorkloadSpec::decode(bytes.as_slice()))
                .transpose()
                .map_err(|error| sql::Error::corrupt("request", error))?,
        })
    }
}

/// The mark of an id that must not start.
#[derive(Debug, Clone)]
pub struct Tombstone {
    /// Why, for people.
    pub reason: String,
    /// Whether it was deleted, not only stopped.
    pub deleted: bool,
    /// When.
    pub created_at: Timestamp,
}

impl FromRow for Tombstone {
    fn from_row(row: &Row) -> Result<Self, sql::Error> {
        Ok(Self {
            reason: row.get("reason")?,
            deleted: row.get("deleted")?,
            created_at: row.get("created_at")?,
        })
    }
}
