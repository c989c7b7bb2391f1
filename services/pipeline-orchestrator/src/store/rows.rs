//! Rows and what they mean.

use std::collections::BTreeMap;

use clock::Timestamp;
use sql::{Error, FromRow, Row};

use crate::domain::{
    Cancel, Experiment, Pipeline, Run, RunBody, RunRecord, RunStatus, Source, Spec, StorageState,
    Version,
};

impl FromRow for Experiment {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            description: row.get("description")?,
            created_at: row.get("created_at")?,
            last_run_created_at: row.get("last_run_created_at")?,
            storage_state: storage_state(row)?,
        })
    }
}

impl FromRow for Pipeline {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            display_name: row.get("display_name")?,
            description: row.get("description")?,
            created_at: row.get("created_at")?,
            tags: tags(row)?,
        })
    }
}

impl FromRow for Version {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            pipeline_id: row.get("pipeline_id")?,
            name: row.get("name")?,
            display_name: row.get("display_name")?,
            description: row.get("description")?,
            created_at: row.get("created_at")?,
            spec: Spec {
                hash: row.get("spec_hash")?,
                body: row.get("spec_body")?,
            },
            code_source_url: row.get("code_source_url")?,
            tags: tags(row)?,
        })
    }
}

impl FromRow for RunRecord {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let status: String = row.get("status")?;
        let status =
            RunStatus::parse(&status).ok_or_else(|| Error::corrupt("status", "unknown state"))?;
        let body: String = row.get("body")?;
        let body: RunBody =
            serde_json::from_str(&body).map_err(|error| Error::corrupt("body", error))?;
        let inline: bool = row.get("inline")?;
        let source = if inline {
            Source::Inline
        } else {
            Source::Version(row.get("pipeline_id")?, row.get("pipeline_version_id")?)
        };
        let cancel = match time(row, "cancel_requested_at")? {
            Some(at) => Some(Cancel {
                reason: row.get("cancel_reason")?,
                at,
                overdue: false,
                exit_tasks: row.get("cancel_exit_tasks")?,
            }),
            None => None,
        };
        Ok(Self {
            run: Run {
                id: row.get("id")?,
                display_name: row.get("display_name")?,
                experiment_id: row.get("experiment_id")?,
                pipeline_name: row.get("pipeline_name")?,
                pipeline_root: row.get("pipeline_root")?,
                status,
                created_at: row.get("created_at")?,
                scheduled_at: time(row, "scheduled_at")?,
                finished_at: time(row, "finished_at")?,
                version: row.get("version")?,
                body,
            },
            description: row.get("description")?,
            storage_state: storage_state(row)?,
            source,
            spec_hash: row.get("spec_hash")?,
            requested_root: row.get("requested_root")?,
            service_account: row.get("service_account")?,
            recurring_run_id: row.get("recurring_run_id")?,
            cancel,
            deleting: row.get("deleting")?,
            keep_artifacts: row.get("keep_artifacts")?,
        })
    }
}

/// A run of a list, with its specification when it brought its own.
#[derive(Debug)]
pub(crate) struct ListedRun(pub(crate) RunRecord, pub(crate) Option<String>);

impl FromRow for ListedRun {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self(RunRecord::from_row(row)?, row.get("spec_body")?))
    }
}

/// What a mutation answered before.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body_hash: String,
    pub(crate) response: Vec<u8>,
}

impl FromRow for Answer {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            body_hash: row.get("body_hash")?,
            response: row.get("response")?,
        })
    }
}

/// A time, none for 0.
pub(crate) fn time(row: &Row, column: &str) -> Result<Option<Timestamp>, Error> {
    let time: Timestamp = row.get(column)?;
    Ok(Some(time).filter(|time| *time != Timestamp::EPOCH))
}

fn storage_state(row: &Row) -> Result<StorageState, Error> {
    let text: String = row.get("storage_state")?;
    StorageState::parse(&text).ok_or_else(|| Error::corrupt("storage_state", "unknown state"))
}

fn tags(row: &Row) -> Result<BTreeMap<String, String>, Error> {
    let text: String = row.get("tags")?;
    serde_json::from_str(&text).map_err(|error| Error::corrupt("tags", error))
}

/// Tags as their column holds them.
pub(crate) fn tags_text(tags: &BTreeMap<String, String>) -> Result<String, Error> {
    serde_json::to_string(tags).map_err(|error| Error::corrupt("tags", error))
}

/// A time as its column holds it.
pub(crate) fn time_or_zero(time: Option<Timestamp>) -> i64 {
    time.map_or(0, Timestamp::as_micros)
}
