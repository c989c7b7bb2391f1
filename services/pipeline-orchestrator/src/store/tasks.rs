//! Tasks: one row each, written by the engine alone.

use ids::{RunId, TaskId};
use sql::{Builder, Conn, Error, FromRow, Row, Value, args};

use super::engine_sql as statements;
use super::facts;
use crate::domain::{TaskKind, TaskRecord, TaskStatus};

/// Rows of one insert. SQLite looks for the name of each of the 13 binds of a row among all, so the time of an insert grows
/// with the square of its rows.
const CHUNK: usize = 100;

impl FromRow for TaskRecord {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let kind: String = row.get("kind")?;
        let status: String = row.get("status")?;
        Ok(Self {
            id: row.get("id")?,
            run_id: row.get("run_id")?,
            parent_id: row.get("parent_id")?,
            name: row.get("name")?,
            path: row.get("path")?,
            kind: TaskKind::parse(&kind).ok_or_else(|| Error::corrupt("kind", &kind))?,
            status: TaskStatus::parse(&status).ok_or_else(|| Error::corrupt("status", &status))?,
            iteration: row.get("iteration")?,
            created_at: row.get("created_at")?,
            started_at: row.get("started_at")?,
            ended_at: row.get("ended_at")?,
            version: row.get("version")?,
            body: row.get("body")?,
        })
    }
}

/// Adds tasks, groups before their members.
pub(crate) async fn insert(conn: &mut Conn, records: Vec<TaskRecord>) -> Result<(), Error> {
    for record in &records {
        if record.kind == TaskKind::Root {
            facts::parameters_of(conn, record).await?;
        }
    }
    let mut rows: Vec<Vec<Value>> = records.into_iter().map(columns).collect();
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(CHUNK));
        let mut builder = Builder::new(statements::INSERT_TASKS);
        builder.bind_rows(std::mem::replace(&mut rows, rest));
        let (sql, args) = builder.finish();
        conn.execute(sql, args).await?;
    }
    Ok(())
}

fn columns(record: TaskRecord) -> Vec<Value> {
    args![
        record.id,
        record.run_id,
        record.parent_id.map(|id| id.0),
        record.name,
        record.path,
        record.kind.as_str(),
        record.status.as_str(),
        record.iteration,
        record.created_at,
        record.started_at.map(clock::Timestamp::as_micros),
        record.ended_at.map(clock::Timestamp::as_micros),
        record.version,
        record.body,
    ]
}

/// Writes what can change of a task.
pub(crate) async fn update(conn: &mut Conn, record: TaskRecord) -> Result<(), Error> {
    let args = args![
        record.id,
        record.status.as_str(),
        record.started_at.map(clock::Timestamp::as_micros),
        record.ended_at.map(clock::Timestamp::as_micros),
        record.version,
        record.body,
    ];
    conn.execute(statements::UPDATE_TASK, args).await.map(drop)
}

/// All tasks of a run, in the order in which they came to be.
pub(crate) async fn of_run(conn: &mut Conn, run: RunId) -> Result<Vec<TaskRecord>, Error> {
    conn.fetch_all(statements::TASKS_OF_RUN, args![run]).await
}

/// A page of the tasks of a run, after a task, and whether there are more.
pub(crate) async fn page(
    conn: &mut Conn,
    run: RunId,
    after: TaskId,
    limit: u32,
) -> Result<(Vec<TaskRecord>, bool), Error> {
    let args = args![run, after, limit];
    conn.fetch_fitting(statements::TASKS_PAGE_SIZES, statements::TASKS_PAGE, args)
        .await
}

/// The tasks of a run that changed after a version, at most `limit` after (version, id), and whether there are more.
pub(crate) async fn changed(
    conn: &mut Conn,
    run: RunId,
    after: (i64, TaskId),
    limit: u32,
) -> Result<(Vec<TaskRecord>, bool), Error> {
    conn.fetch_fitting(
        statements::TASKS_CHANGED_SIZES,
        statements::TASKS_CHANGED,
        args![run, after.0, after.1, limit],
    )
    .await
}

/// The task of an id.
pub(crate) async fn by_id(
    conn: &mut Conn,
    run: RunId,
    id: TaskId,
) -> Result<Option<TaskRecord>, Error> {
    conn.fetch_optional(statements::TASK_BY_ID, args![run, id])
        .await
}

/// The task of a path.
pub(crate) async fn by_path(
    conn: &mut Conn,
    run: RunId,
    path: &str,
) -> Result<Option<TaskRecord>, Error> {
    conn.fetch_optional(statements::TASK_BY_PATH, args![run, path])
        .await
}

/// At most two tasks of a name: enough to see that it is not unique.
pub(crate) async fn by_name(
    conn: &mut Conn,
    run: RunId,
    name: &str,
) -> Result<Vec<TaskRecord>, Error> {
    conn.fetch_all(statements::TASKS_BY_NAME, args![run, name])
        .await
}
