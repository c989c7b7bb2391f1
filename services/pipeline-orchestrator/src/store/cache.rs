//! The cache: entries, the tasks that run for one, and who took outputs from which.

use std::collections::HashMap;

use clock::Timestamp;
use ids::{RunId, TaskId};
use sql::{Builder, Conn, Db, Error, FromRow, Row, Value, args};

use super::cache_sql as text;
use crate::domain::{CacheEntry, KeyKind, Outputs};

/// Entries of a key that are looked at: those that are not used since they are too old may be many.
const LOOKED_AT: u32 = 20;
/// Keys of one look-up: well below what a statement can bind.
const CHUNK: usize = 500;

/// What the cache has for a key.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entry: CacheEntry,
    /// Whether its task still runs.
    pub(crate) running: bool,
    /// Whether the run of the task has ended, or is gone.
    pub(crate) run_ended: bool,
}

/// The rows of the cache that a commit of a run writes.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// Entries that turned out to be of no use.
    pub(crate) stale: Vec<TaskId>,
    /// Entries that tasks of the run took their outputs from: `(entry, task)`.
    pub(crate) used: Vec<(TaskId, TaskId)>,
    /// Tasks that are launched.
    pub(crate) leading: Vec<CacheEntry>,
    /// Tasks that succeeded.
    pub(crate) succeeded: Vec<CacheEntry>,
    /// Tasks that ended otherwise.
    pub(crate) released: Vec<TaskId>,
}

impl FromRow for CacheEntry {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let kind: String = row.get("kind")?;
        let outputs: String = row.get("outputs")?;
        let time = |column: &str| -> Result<Option<Timestamp>, Error> {
            let time: Timestamp = row.get(column)?;
            Ok(Some(time).filter(|time| *time != Timestamp::EPOCH))
        };
        Ok(Self {
            id: row.get("id")?,
            pipeline_name: row.get("pipeline_name")?,
            key: row.get("key")?,
            kind: KeyKind::parse(&kind).ok_or_else(|| Error::corrupt("kind", &kind))?,
            run_id: row.get("run_id")?,
            task_path: row.get("task_path")?,
            outputs: serde_json::from_str(&outputs)
                .map_err(|error| Error::corrupt("outputs", error))?,
            created_at: row.get("created_at")?,
            expires_at: time("expires_at")?,
            hits: row.get("hits")?,
            last_hit_at: time("last_hit_at")?,
        })
    }
}

impl FromRow for Found {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            entry: CacheEntry::from_row(row)?,
            running: row.get("running")?,
            run_ended: row.get("run_ended")?,
        })
    }
}

/// What the cache has for keys of a pipeline, newest first for each, and not more than are worth a look.
pub(crate) async fn look_up(
    db: &Db,
    pipeline: &str,
    keys: &[String],
) -> Result<HashMap<String, Vec<Found>>, Error> {
    let mut by_key: HashMap<String, Vec<Found>> = HashMap::new();
    for chunk in keys.chunks(CHUNK) {
        let mut builder = Builder::new(text::LOOK_UP);
        builder.bind(pipeline).push(" AND key IN (");
        builder.bind_list(chunk.iter().map(String::as_str));
        builder.push(")) AS placed WHERE place <= ").bind(LOOKED_AT);
        builder.push(") ORDER BY cache_entries.created_at DESC, cache_entries.id DESC");
        let (sql, args) = builder.finish();
        let found: Vec<Found> = db.fetch_all(sql, args).await?;
        for one in found {
            by_key.entry(one.entry.key.clone()).or_default().push(one);
        }
    }
    Ok(by_key)
}

/// Which of some tasks still run for their key.
pub(crate) async fn running(db: &Db, tasks: &[TaskId]) -> Result<Vec<TaskId>, Error> {
    let mut running = Vec::new();
    for chunk in tasks.chunks(CHUNK) {
        let mut builder = Builder::new(text::RUNNING);
        builder.bind_list(chunk.iter().copied()).push(")");
        let (sql, args) = builder.finish();
        let ids: Vec<i64> = db.fetch_all(sql, args).await?;
        running.extend(ids.into_iter().map(TaskId));
    }
    Ok(running)
}

/// Writes what a run changed in the cache. False when somebody else was faster: an entry that it used is gone, or a task
/// with the same key runs by now; then nothing of it may stay.
pub(crate) async fn write(
    conn: &mut Conn,
    run: RunId,
    writes: Writes,
    now: Timestamp,
) -> Result<bool, Error> {
    for id in writes.released.iter().chain(&writes.stale) {
        conn.execute(text::DELETE, args![*id]).await?;
    }
    for entry in writes.succeeded {
        let expires_at = entry.expires_at.map_or(0, Timestamp::as_micros);
        let outputs = outputs(&entry.outputs)?;
        let args = args![entry.id, outputs, entry.created_at, expires_at];
        conn.execute(text::SUCCEED, args).await?;
    }
    for (entry, task) in writes.used {
        if conn.execute(text::COUNT_USE, args![entry, now]).await? == 0 {
            return Ok(false);
        }
        conn.execute(text::INSERT_USE, args![entry, task, run])
            .await?;
    }
    let count = writes.leading.len() as u64;
    let mut inserted = 0;
    for chunk in writes.leading.chunks(CHUNK) {
        let mut builder = Builder::new(text::INSERT_LEADERS);
        builder.bind_rows(chunk.iter().map(leader));
        builder.push(text::UNLESS_RUNNING);
        let (sql, args) = builder.finish();
        inserted += conn.execute(sql, args).await?;
    }
    Ok(inserted == count)
}

fn leader(entry: &CacheEntry) -> Vec<Value> {
    args![
        entry.id,
        "",
        &entry.pipeline_name,
        &entry.key,
        entry.kind.as_str(),
        true,
        entry.run_id,
        &entry.task_path,
        "{\"parameters\":{},\"artifacts\":{}}",
        entry.created_at,
        0_i64,
    ]
}

fn outputs(outputs: &Outputs) -> Result<String, Error> {
    serde_json::to_string(outputs).map_err(|error| Error::corrupt("outputs", error))
}

/// Removes the tasks of a run that run for a key, when the engine gives the run up, and returns which these were.
pub(crate) async fn release_run(conn: &mut Conn, run: RunId) -> Result<Vec<TaskId>, Error> {
    let ids: Vec<i64> = conn.fetch_all(text::RELEASE_RUN, args![run]).await?;
    Ok(ids.into_iter().map(TaskId).collect())
}

/// Prepares the removal of a run: its entries go unless another run took outputs from them, or `keep` says that they
/// stay; and so do entries of runs that are gone from which only this run took outputs.
pub(crate) async fn forget_run(conn: &mut Conn, run: RunId, keep: bool) -> Result<(), Error> {
    if keep {
        conn.execute(text::KEEP_RUN, args![run]).await?;
    }
    conn.execute(text::FORGET_RUN, args![run]).await.map(drop)
}

/// The entry of an id.
pub(crate) async fn by_id(conn: &mut Conn, id: TaskId) -> Result<Option<CacheEntry>, Error> {
    conn.fetch_optional(text::BY_ID, args![id]).await
}

/// The tasks that took their outputs from an entry, newest first, at most `limit`.
pub(crate) async fn uses(
    conn: &mut Conn,
    id: TaskId,
    limit: u32,
) -> Result<Vec<(RunId, TaskId)>, Error> {
    let uses: Vec<Use> = conn.fetch_all(text::USES, args![id, limit]).await?;
    Ok(uses.into_iter().map(|Use(run, task)| (run, task)).collect())
}

struct Use(RunId, TaskId);

impl FromRow for Use {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self(row.get("run_id")?, row.get("task_id")?))
    }
}

/// A page of entries, newest first, before an entry, and whether there are more; of one pipeline or run unless these are
/// empty.
pub(crate) async fn page(
    conn: &mut Conn,
    pipeline: &str,
    run: Option<RunId>,
    before: TaskId,
    limit: u32,
) -> Result<(Vec<CacheEntry>, bool), Error> {
    let statement = |begin| {
        let mut builder = Builder::new(begin);
        builder.bind(before);
        if !pipeline.is_empty() {
            builder.push(" AND pipeline_name = ").bind(pipeline);
        }
        if let Some(run) = run {
            builder.push(" AND run_id = ").bind(run);
        }
        builder.push(" ORDER BY id DESC LIMIT ").bind(limit);
        builder.finish()
    };
    let (sizes, _) = statement(text::PAGE_SIZES);
    let (sql, args) = statement(text::PAGE);
    conn.fetch_fitting(sizes, sql, args).await
}

/// Removes an entry; false when there is none.
pub(crate) async fn delete(conn: &mut Conn, id: TaskId) -> Result<bool, Error> {
    Ok(conn.execute(text::DELETE_ENTRY, args![id]).await? > 0)
}

/// Removes entries that have expired.
pub(crate) async fn purge(conn: &mut Conn, now: Timestamp) -> Result<u64, Error> {
    conn.execute(text::PURGE, args![now]).await
}
