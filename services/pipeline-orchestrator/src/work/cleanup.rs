//! Removing a run: its workloads, then the content that nobody else uses, then its rows.
//!
//! Each part may be repeated, so a removal that was cut short is simply done again at the next start.

use std::time::Duration;

use api_runner::v1 as runner;
use ids::ArtifactId;

use super::engine::Inner;
use super::launch;
use crate::domain::{Artifact, RunRecord, Task};
use crate::store::{artifacts, runs, tasks};

/// Stopping a program may take its whole grace.
const FORGET_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a run is still there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    #[error("the runner answered {code:?}: {message}")]
    Runner { code: tonic::Code, message: String },
    #[error("content cannot be removed")]
    Objects(#[from] objects::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Runner {
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

/// Removes a run and all that is its own.
pub(super) async fn remove(engine: &Inner, record: &RunRecord) -> Result<(), Error> {
    let run = record.run.id;
    stop_open_attempts(engine, record).await?;
    let context = rpc::Context::background("pipeline-orchestrator");
    let request = runner::ForgetRequest {
        owner: launch::owner(run),
    };
    engine
        .workloads()
        .forget(context.request(FORGET_TIMEOUT, request))
        .await?;
    runtime::abort_point("orchestrator.delete.forgotten");
    let mut gone: Vec<ArtifactId> = Vec::new();
    if !record.keep_artifacts {
        let own: Vec<Artifact> = engine
            .db
            .read(move |conn| Box::pin(async move { artifacts::used_by_only(conn, run).await }))
            .await?;
        gone = own.iter().map(|artifact| artifact.id).collect();
        remove_content(engine, record, &own).await?;
    }
    runtime::abort_point("orchestrator.delete.content");
    let removed = engine.db.write(move |conn| {
        Box::pin(async move {
            artifacts::delete(conn, &gone).await?;
            runs::delete(conn, run).await
        })
    });
    removed.await?;
    runtime::abort_point("orchestrator.delete.committed");
    Ok(())
}

/// Marks every open attempt as stopped, so that a launch that is still on its way starts nothing.
async fn stop_open_attempts(engine: &Inner, record: &RunRecord) -> Result<(), Error> {
    let run = record.run.id;
    let records = engine
        .db
        .read(move |conn| Box::pin(async move { tasks::of_run(conn, run).await }))
        .await?;
    for task in records
        .into_iter()
        .filter_map(|record| Task::from_record(record).ok())
    {
        let Some(attempt) = task.open_attempt() else {
            continue;
        };
        let request = runner::StopRequest {
            id: attempt.workload_id.to_string(),
            reason: "the run is being deleted".to_owned(),
        };
        let context = rpc::Context::background("pipeline-orchestrator");
        engine
            .workloads()
            .stop(context.request(STOP_TIMEOUT, request))
            .await?;
    }
    Ok(())
}

/// Removes content that this run wrote and no other run uses, and what failed attempts left.
async fn remove_content(engine: &Inner, record: &RunRecord, own: &[Artifact]) -> Result<(), Error> {
    let run = record.run.id;
    // Only what lies in the run's own directory was written by it: an importer may name any place.
    let marker = format!("/{run}/");
    let kept: i64 = engine
        .db
        .read(move |conn| Box::pin(async move { artifacts::recorded(conn, run).await }))
        .await?;
    for artifact in own {
        if artifact.uri.contains(&marker) && engine.objects.contains(&artifact.uri) {
            engine.objects.delete(&artifact.uri).await?;
        }
    }
    if kept == i64::try_from(own.len()).unwrap_or(i64::MAX) {
        let base = crate::domain::run_base(&record.run);
        if engine.objects.contains(&base) {
            engine.objects.delete(&base).await?;
        }
    }
    Ok(())
}
