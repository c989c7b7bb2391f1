//! Runs.

use clock::Timestamp;
use ids::{ExperimentId, RunId};
use sql::{Conn, Error, args};

use super::lists::{self, Page, Select};
use super::rows::{ListedRun, time_or_zero};
use super::specs;
use super::sql as text;
use crate::domain::{Query, Run, RunRecord, RunsOf, Source, Spec, StorageState, shown_state};

pub(super) const LIST: Select = Select {
    columns: text::LISTED_RUN_COLUMNS,
    from: text::LISTED_RUN_FROM,
    counted: "runs",
    base: "NOT runs.deleting",
    bytes: text::LISTED_RUN_BYTES,
};

/// Adds a run with the specification that it executes.
pub(crate) async fn insert(conn: &mut Conn, record: &RunRecord, spec: &Spec) -> Result<(), Error> {
    specs::keep(conn, spec).await?;
    let run = &record.run;
    let (pipeline, version) = match record.source {
        Source::Inline => (String::new(), String::new()),
        Source::Version(pipeline, version) => (pipeline.to_string(), version.to_string()),
    };
    let args = args![
        run.id,
        run.experiment_id,
        &run.display_name,
        &record.description,
        record.storage_state.as_str(),
        run.status.as_str(),
        shown_state(run.status, false),
        history(run),
        pipeline,
        version,
        record.source == Source::Inline,
        &spec.hash,
        &run.pipeline_name,
        &run.pipeline_root,
        &record.requested_root,
        &record.service_account,
        &record.recurring_run_id,
        run.created_at,
        time_or_zero(run.scheduled_at),
        time_or_zero(run.finished_at),
        run.version,
        body(run)?
    ];
    conn.execute(text::INSERT_RUN, args).await.map(drop)
}

/// The engine's write: the state, the times and the body of a run. False when the run is gone.
pub(crate) async fn update(conn: &mut Conn, run: &Run) -> Result<bool, Error> {
    let args = args![
        run.id,
        run.status.as_str(),
        shown_state(run.status, false),
        history(run),
        time_or_zero(run.finished_at),
        run.version,
        body(run)?
    ];
    Ok(conn.execute(text::UPDATE_RUN, args).await? > 0)
}

/// The run of an id, also one that is being removed ([`RunRecord::deleting`]).
pub(crate) async fn get(conn: &mut Conn, id: RunId) -> Result<Option<RunRecord>, Error> {
    conn.fetch_optional(text::GET_RUN, args![id]).await
}

/// The run of an id as clients see it: none when it is being removed.
pub(crate) async fn visible(conn: &mut Conn, id: RunId) -> Result<Option<RunRecord>, Error> {
    Ok(get(conn, id).await?.filter(|record| !record.deleting))
}

/// A page of runs, each with its specification when it brought its own.
pub(crate) async fn list(
    conn: &mut Conn,
    of: RunsOf,
    query: &Query,
) -> Result<Page<(RunRecord, Option<String>)>, Error> {
    let parent = match of {
        RunsOf::All => None,
        RunsOf::Experiment(id) => Some(("runs.experiment_id", id.to_string())),
        RunsOf::Schedule(id) => Some(("runs.recurring_run_id", id.to_string())),
    };
    let page: Page<ListedRun> = lists::page(conn, LIST, parent, query).await?;
    Ok(page.map(|ListedRun(record, spec)| (record, spec)))
}

/// Puts a run away or takes it back; false when there is none.
pub(crate) async fn set_storage(
    conn: &mut Conn,
    id: RunId,
    state: StorageState,
) -> Result<bool, Error> {
    Ok(conn
        .execute(text::SET_RUN_STORAGE, args![id, state.as_str()])
        .await?
        > 0)
}

/// Puts all runs of an experiment away.
pub(crate) async fn archive_of(conn: &mut Conn, experiment: ExperimentId) -> Result<(), Error> {
    conn.execute(text::ARCHIVE_RUNS_OF_EXPERIMENT, args![experiment])
        .await
        .map(drop)
}

/// Asks for the end of a run; false when it has ended or is gone.
pub(crate) async fn request_cancel(
    conn: &mut Conn,
    id: RunId,
    now: Timestamp,
    reason: &str,
) -> Result<bool, Error> {
    Ok(conn
        .execute(text::REQUEST_CANCEL, args![id, now, reason])
        .await?
        > 0)
}

/// Stores a run that ended as one that starts again; false when it is gone, or no longer at `version`.
pub(crate) async fn retry(conn: &mut Conn, run: &Run, version: i64) -> Result<bool, Error> {
    let args = args![
        run.id,
        version,
        run.status.as_str(),
        shown_state(run.status, false),
        history(run),
        run.version,
        body(run)?
    ];
    Ok(conn.execute(text::RETRY_RUN, args).await? > 0)
}

/// Marks a run as being removed: from now on no client sees it. False when there is none.
pub(crate) async fn request_delete(
    conn: &mut Conn,
    id: RunId,
    keep_artifacts: bool,
) -> Result<bool, Error> {
    Ok(conn
        .execute(text::REQUEST_DELETE, args![id, keep_artifacts])
        .await?
        > 0)
}

/// Removes the row of a run with its tasks and uses of artifacts, and its specification unless it is still needed.
pub(crate) async fn delete(conn: &mut Conn, id: RunId) -> Result<(), Error> {
    let hash: Option<String> = conn.fetch_optional(text::DELETE_RUN, args![id]).await?;
    match hash {
        Some(hash) => specs::forget(conn, &hash).await,
        None => Ok(()),
    }
}

/// The runs that the engine has something to do for: those that have not ended, and those being removed.
pub(crate) async fn open(conn: &mut Conn) -> Result<Vec<RunId>, Error> {
    let ids: Vec<String> = conn.fetch_all(text::OPEN_RUNS, args![]).await?;
    let parse = |id: String| id.parse().map_err(|error| Error::corrupt("id", error));
    ids.into_iter().map(parse).collect()
}

/// The names of the states that a run entered, for filters.
fn history(run: &Run) -> String {
    let names: Vec<&str> = run
        .body
        .history
        .iter()
        .map(|entered| entered.status.as_str())
        .collect();
    names.join(" ")
}

fn body(run: &Run) -> Result<String, Error> {
    serde_json::to_string(&run.body).map_err(|error| Error::corrupt("body", error))
}
