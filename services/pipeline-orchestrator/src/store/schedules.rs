//! Schedules and backfills.

use clock::Timestamp;
use ids::{BackfillId, ExperimentId, RunId, ScheduleId};
use sql::{Conn, Error, FromRow, Row, Value, args};

use super::lists::{self, Page, Select};
use super::rows::{time, time_or_zero};
use super::schedule_sql as text;
use super::specs;
use crate::domain::Query;
use crate::domain::schedule::{Backfill, BackfillState, Schedule, ScheduleSource};

pub(super) const LIST: Select = Select {
    columns: text::LISTED_COLUMNS,
    from: text::LISTED_FROM,
    counted: "schedules",
    base: "1 = 1",
    bytes: text::LISTED_BYTES,
};

/// How far in the future something can be blocked; what is beyond was stored before the clock was set back.
const LONGEST_BLOCK: std::time::Duration = std::time::Duration::from_secs(120);

impl FromRow for Schedule {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let version: String = row.get("pipeline_version_id")?;
        let inline: bool = row.get("inline")?;
        let source = if inline {
            ScheduleSource::Inline
        } else if version.is_empty() {
            ScheduleSource::Latest(row.get("pipeline_id")?)
        } else {
            ScheduleSource::Version(row.get("pipeline_id")?, row.get("pipeline_version_id")?)
        };
        Ok(Self {
            id: row.get("id")?,
            experiment_id: row.get("experiment_id")?,
            display_name: row.get("display_name")?,
            description: row.get("description")?,
            enabled: row.get("enabled")?,
            source,
            spec_hash: row.get("spec_hash")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            cursor: row.get("cursor_at")?,
            next_at: time(row, "next_at")?,
            blocked_until: time(row, "blocked_until")?,
            runs: row.get("runs")?,
            version: row.get("version")?,
            body: document(row)?,
        })
    }
}

impl FromRow for Backfill {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let state: String = row.get("state")?;
        Ok(Self {
            id: row.get("id")?,
            schedule_id: row.get("schedule_id")?,
            state: BackfillState::parse(&state).ok_or_else(|| Error::corrupt("state", &state))?,
            created_at: row.get("created_at")?,
            next: row.get("next_run")?,
            skipped: row.get("skipped")?,
            blocked_until: time(row, "blocked_until")?,
            body: document(row)?,
        })
    }
}

/// A schedule with its own specification.
struct Listed(Schedule, Option<String>);

impl FromRow for Listed {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self(Schedule::from_row(row)?, row.get("spec_body")?))
    }
}

/// A row of a list that is worked through: one that cannot be read does not hide the others.
pub(crate) enum Readable<T> {
    Yes(T),
    /// The id, the slot that is due, and why.
    No(String, i64, Error),
}

impl<T> Readable<T> {
    fn of(row: &Row, read: Result<T, Error>, place: &str) -> Result<Self, Error> {
        match read {
            Ok(found) => Ok(Self::Yes(found)),
            Err(error @ Error::Corrupt { .. }) => {
                Ok(Self::No(row.get("id")?, row.get(place)?, error))
            }
            Err(error) => Err(error),
        }
    }
}

impl FromRow for Readable<Schedule> {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Self::of(row, Schedule::from_row(row), "next_at")
    }
}

impl FromRow for Readable<Backfill> {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Self::of(row, Backfill::from_row(row), "created_at")
    }
}

fn document<T: serde::de::DeserializeOwned>(row: &Row) -> Result<T, Error> {
    let body: String = row.get("body")?;
    serde_json::from_str(&body).map_err(|error| Error::corrupt("body", error))
}

fn written<T: serde::Serialize>(body: &T) -> Result<String, Error> {
    serde_json::to_string(body).map_err(|error| Error::corrupt("body", error))
}

fn source(schedule: &Schedule) -> (String, String, bool) {
    match schedule.source {
        ScheduleSource::Inline => (String::new(), String::new(), true),
        ScheduleSource::Version(pipeline, version) => {
            (pipeline.to_string(), version.to_string(), false)
        }
        ScheduleSource::Latest(pipeline) => (pipeline.to_string(), String::new(), false),
    }
}

/// Adds a schedule; its specification must be kept already.
pub(crate) async fn insert(conn: &mut Conn, schedule: &Schedule) -> Result<(), Error> {
    let (pipeline, version, inline) = source(schedule);
    let args = args![
        schedule.id,
        schedule.experiment_id,
        &schedule.display_name,
        &schedule.description,
        schedule.enabled,
        pipeline,
        version,
        inline,
        schedule.spec_hash.clone(),
        schedule.created_at,
        schedule.updated_at,
        schedule.cursor,
        time_or_zero(schedule.next_at),
        time_or_zero(schedule.blocked_until),
        schedule.runs,
        schedule.version,
        written(&schedule.body)?
    ];
    conn.execute(text::INSERT_SCHEDULE, args).await.map(drop)
}

/// Writes all of a schedule that can change; false when somebody else changed it, or it is gone.
pub(crate) async fn update(conn: &mut Conn, schedule: &Schedule) -> Result<bool, Error> {
    let (pipeline, version, inline) = source(schedule);
    let args = args![
        schedule.id,
        schedule.experiment_id,
        &schedule.display_name,
        &schedule.description,
        schedule.enabled,
        pipeline,
        version,
        inline,
        schedule.spec_hash.clone(),
        schedule.updated_at,
        schedule.cursor,
        time_or_zero(schedule.next_at),
        time_or_zero(schedule.blocked_until),
        schedule.runs,
        written(&schedule.body)?,
        schedule.version
    ];
    Ok(conn.execute(text::UPDATE_SCHEDULE, args).await? > 0)
}

/// The schedule of an id.
pub(crate) async fn get(conn: &mut Conn, id: ScheduleId) -> Result<Option<Schedule>, Error> {
    conn.fetch_optional(text::GET_SCHEDULE, args![id]).await
}

/// The schedule of an id, which nobody else changes before the transaction has ended.
pub(crate) async fn lock(conn: &mut Conn, id: ScheduleId) -> Result<Option<Schedule>, Error> {
    conn.fetch_optional(text::LOCK_SCHEDULE, args![id]).await
}

/// The schedule of an id with its own specification.
pub(crate) async fn get_listed(
    conn: &mut Conn,
    id: ScheduleId,
) -> Result<Option<(Schedule, Option<String>)>, Error> {
    let found: Option<Listed> = conn
        .fetch_optional(text::GET_LISTED_SCHEDULE, args![id])
        .await?;
    Ok(found.map(|Listed(schedule, spec)| (schedule, spec)))
}

/// A page of schedules, each with its own specification.
pub(crate) async fn list(
    conn: &mut Conn,
    experiment: Option<ExperimentId>,
    query: &Query,
) -> Result<Page<(Schedule, Option<String>)>, Error> {
    let parent = experiment.map(|id| ("schedules.experiment_id", id.to_string()));
    let page: Page<Listed> = lists::page(conn, LIST, parent, query).await?;
    Ok(page.map(|Listed(schedule, spec)| (schedule, spec)))
}

/// Removes a schedule with its backfills and leaves its runs; false when there is none.
pub(crate) async fn delete(conn: &mut Conn, id: ScheduleId) -> Result<bool, Error> {
    let hash: Option<Option<String>> = conn
        .fetch_optional(text::DELETE_SCHEDULE, args![id])
        .await?;
    if let Some(Some(hash)) = &hash {
        specs::forget(conn, hash).await?;
    }
    Ok(hash.is_some())
}

/// Disables the schedules of an experiment.
pub(crate) async fn disable_of(conn: &mut Conn, experiment: ExperimentId) -> Result<(), Error> {
    conn.execute(text::DISABLE_OF_EXPERIMENT, args![experiment])
        .await
        .map(drop)
}

/// The schedules with a slot that is due, after the place (slot, id); as many as fit.
pub(crate) async fn due(
    conn: &mut Conn,
    now: Timestamp,
    after: (i64, String),
    limit: u32,
) -> Result<Vec<Readable<Schedule>>, Error> {
    let unreal = now.plus(LONGEST_BLOCK);
    let args = args![now, after.0, after.1, unreal, limit];
    let page = conn.fetch_fitting(text::DUE_SCHEDULES_SIZES, text::DUE_SCHEDULES, args);
    Ok(page.await?.0)
}

/// The ids of schedules whose cursor is ahead of an instant, after an id.
pub(crate) async fn ahead(
    conn: &mut Conn,
    of: Timestamp,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, Error> {
    conn.fetch_all(text::AHEAD_SCHEDULES, args![of, after, limit])
        .await
}

/// The earliest slot after an instant.
pub(crate) async fn next_due(conn: &mut Conn, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let next: Option<i64> = conn.fetch_one(text::NEXT_DUE, args![now]).await?;
    Ok(next.map(Timestamp::from_micros))
}

/// How many runs of a schedule have not ended.
pub(crate) async fn active_runs(conn: &mut Conn, id: ScheduleId) -> Result<usize, Error> {
    count(conn, text::ACTIVE_RUNS, args![id]).await
}

/// Whether there is a run of an id, also one that is being removed.
pub(crate) async fn run_exists(conn: &mut Conn, id: RunId) -> Result<bool, Error> {
    Ok(count(conn, text::KNOWN_RUN, args![id]).await? > 0)
}

async fn count(conn: &mut Conn, statement: &'static str, args: Vec<Value>) -> Result<usize, Error> {
    let count: i64 = conn.fetch_one(statement, args).await?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Adds a backfill.
pub(crate) async fn insert_backfill(conn: &mut Conn, backfill: &Backfill) -> Result<(), Error> {
    let args = args![
        backfill.id,
        backfill.schedule_id,
        backfill.state.as_str(),
        backfill.created_at,
        backfill.next,
        backfill.skipped,
        time_or_zero(backfill.blocked_until),
        written(&backfill.body)?
    ];
    conn.execute(text::INSERT_BACKFILL, args).await.map(drop)
}

/// Writes how far a backfill is; false when it is not active any more.
pub(crate) async fn update_backfill(conn: &mut Conn, backfill: &Backfill) -> Result<bool, Error> {
    let args = args![
        backfill.id,
        backfill.state.as_str(),
        backfill.next,
        backfill.skipped,
        time_or_zero(backfill.blocked_until),
        written(&backfill.body)?
    ];
    Ok(conn.execute(text::UPDATE_BACKFILL, args).await? > 0)
}

/// The backfill of an id.
pub(crate) async fn get_backfill(
    conn: &mut Conn,
    id: BackfillId,
) -> Result<Option<Backfill>, Error> {
    conn.fetch_optional(text::GET_BACKFILL, args![id]).await
}

/// The backfill of an id, which nobody else changes before the transaction has ended.
pub(crate) async fn lock_backfill(
    conn: &mut Conn,
    id: BackfillId,
) -> Result<Option<Backfill>, Error> {
    conn.fetch_optional(text::LOCK_BACKFILL, args![id]).await
}

/// The backfills of a schedule, newest first, after the place (time, id), and whether there are more.
pub(crate) async fn backfills_of(
    conn: &mut Conn,
    schedule: ScheduleId,
    before: (i64, String),
    limit: u32,
) -> Result<(Vec<Backfill>, bool), Error> {
    let args = args![schedule, before.0, before.1, limit];
    conn.fetch_fitting(text::BACKFILLS_OF_SIZES, text::BACKFILLS_OF, args)
        .await
}

/// The backfills that still make runs, after an id; as many as fit.
pub(crate) async fn active_backfills(
    conn: &mut Conn,
    now: Timestamp,
    after: &str,
    limit: u32,
) -> Result<Vec<Readable<Backfill>>, Error> {
    let args = args![now, after, now.plus(LONGEST_BLOCK), limit];
    let page = conn.fetch_fitting(text::ACTIVE_BACKFILLS_SIZES, text::ACTIVE_BACKFILLS, args);
    Ok(page.await?.0)
}

/// How many backfills of a schedule still make runs.
pub(crate) async fn count_backfills(conn: &mut Conn, schedule: ScheduleId) -> Result<usize, Error> {
    count(conn, text::COUNT_ACTIVE_BACKFILLS, args![schedule]).await
}

/// Notes that a backfill made a run.
pub(crate) async fn add_run(conn: &mut Conn, id: BackfillId, run: RunId) -> Result<(), Error> {
    conn.execute(text::INSERT_BACKFILL_RUN, args![id, run])
        .await
        .map(drop)
}

/// How many runs of a backfill have not ended.
pub(crate) async fn active_of_backfill(conn: &mut Conn, id: BackfillId) -> Result<usize, Error> {
    count(conn, text::ACTIVE_OF_BACKFILL, args![id]).await
}
