//! Removing a run: its workloads, then the content that nobody else uses, then its rows.
//!
//! Each part may be repeated, so a removal that was cut short is simply done again at the next start.

use std::time::Duration;

use api_runner::v1 as runner;
use ids::{ArtifactId, RunId, TaskId};

use super::engine::Inner;
use super::launch;
use crate::domain::{RunRecord, Task, run_base};
use crate::store::artifacts::Place;
use crate::store::{artifacts, cache, runs, tasks};

/// Stopping a program may take its whole grace.
const FORGET_TIMEOUT: Duration = Duration::from_secs(120);
/// Tasks that are read at a time.
const TASKS: u32 = 1_000;
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a run is still there.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    #[error("the runner answered {code:?}: {message}")]
    Runner { code: tonic::Code, message: String },
    #[error("the runner did not say all that it executes for the run")]
    Unfinished,
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
    stop_open_attempts(engine, run, "the run is being deleted").await?;
    leave_cache(engine, record).await?;
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
        let own: Vec<Place> = engine
            .db
            .read(move |conn| Box::pin(async move { artifacts::used_by_only(conn, run).await }))
            .await?;
        gone = own.iter().map(|artifact| artifact.id).collect();
        remove_content(engine, record, &own).await?;
        gone.extend(remove_left_behind(engine, run).await?);
    }
    let keep = record.keep_artifacts;
    runtime::abort_point("orchestrator.delete.content");
    let removed = engine.db.write(move |conn| {
        Box::pin(async move {
            artifacts::delete(conn, &gone).await?;
            if keep {
                artifacts::keep(conn, run).await?;
            }
            runs::delete(conn, run).await
        })
    });
    removed.await?;
    runtime::abort_point("orchestrator.delete.committed");
    Ok(())
}

/// Takes the run out of the cache, before its content goes: who used an entry by then has noted that, and nobody else
/// can any more.
async fn leave_cache(engine: &Inner, record: &RunRecord) -> Result<(), Error> {
    let (run, keep) = (record.run.id, record.keep_artifacts);
    let write = engine.db.write(move |conn| {
        Box::pin(async move {
            cache::forget_run(conn, run, keep).await?;
            cache::release_run(conn, run).await
        })
    });
    let released: Result<_, sql::Error> = write.await;
    engine.cache_ended(&released?);
    Ok(())
}

/// Marks every open attempt as stopped, so that a launch that is still on its way starts nothing.
pub(super) async fn stop_open_attempts(
    engine: &Inner,
    run: RunId,
    reason: &str,
) -> Result<(), Error> {
    let mut after = TaskId(0);
    loop {
        let read = engine
            .db
            .read(move |conn| Box::pin(async move { tasks::page(conn, run, after, TASKS).await }));
        let (records, more) = read.await?;
        for record in records {
            after = record.id;
            let task = Task::from_record(record).ok();
            let attempt = task.as_ref().and_then(Task::open_attempt);
            if let Some(attempt) = attempt {
                stop(engine, attempt.workload_id.to_string(), reason).await?;
            }
        }
        if !more {
            return Ok(());
        }
    }
}

/// Asks the runner to end a program.
pub(super) async fn stop(engine: &Inner, id: String, reason: &str) -> Result<(), Error> {
    let request = runner::StopRequest {
        id,
        reason: reason.to_owned(),
    };
    let context = rpc::Context::background("pipeline-orchestrator");
    engine
        .workloads()
        .stop(context.request(STOP_TIMEOUT, request))
        .await?;
    Ok(())
}

/// Removes what other runs left for this one when they went, and returns which artifacts these were.
async fn remove_left_behind(engine: &Inner, run: RunId) -> Result<Vec<ArtifactId>, Error> {
    let left: Vec<Place> = engine
        .db
        .read(move |conn| Box::pin(async move { artifacts::left_behind(conn, run).await }))
        .await?;
    for artifact in &left {
        let path = artifact
            .uri
            .strip_prefix("file://")
            .unwrap_or(&artifact.uri);
        // The directory of the run that wrote it; an importer may have named any other place, which is not ours.
        let marker = format!("/{}/", artifact.run_id);
        let Some(start) = path.find(&marker) else {
            continue;
        };
        let base = path[..start + marker.len() - 1].to_owned();
        if !engine.objects.contains(&base) {
            continue;
        }
        let below = base.clone();
        let in_use = engine
            .db
            .read(move |conn| Box::pin(async move { artifacts::in_use(conn, run, &below).await }))
            .await?;
        let shared = |used: &String| within(used, path) || within(path, used);
        if in_use.is_empty() {
            engine.objects.delete(&base).await?;
        } else if !in_use.iter().any(shared) {
            engine.objects.delete(path).await?;
        }
    }
    Ok(left.iter().map(|artifact| artifact.id).collect())
}

/// Removes what lies in the run's own directory, but for what other runs use there.
///
/// Only that directory was written by the run: an importer may name any place, and another run may have imported
/// something from here, or been told to write here.
async fn remove_content(engine: &Inner, record: &RunRecord, own: &[Place]) -> Result<(), Error> {
    let run = record.run.id;
    let base = run_base(&record.run);
    if !engine.objects.contains(&base) {
        return Ok(());
    }
    let below = base.clone();
    let in_use = engine
        .db
        .read(move |conn| Box::pin(async move { artifacts::in_use(conn, run, &below).await }))
        .await?;
    if in_use.is_empty() {
        return Ok(engine.objects.delete(&base).await?);
    }
    for artifact in own {
        let path = artifact
            .uri
            .strip_prefix("file://")
            .unwrap_or(&artifact.uri);
        let shared = in_use
            .iter()
            .any(|used| within(used, path) || within(path, used));
        if within(path, &base) && !shared {
            engine.objects.delete(path).await?;
        }
    }
    Ok(())
}

/// Whether `path` is `folder` or lies in it.
fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_itself_and_what_is_below() {
        assert!(within("/a/b", "/a/b"));
        assert!(within("/a/b/c", "/a/b"));
        assert!(!within("/a/bc", "/a/b"));
        assert!(!within("/a", "/a/b"));
    }
}
