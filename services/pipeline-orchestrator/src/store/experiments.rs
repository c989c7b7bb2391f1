//! Experiments.

use clock::Timestamp;
use ids::ExperimentId;
use sql::{Conn, Error, args};

use super::lists::{self, Page, Select};
use super::sql as text;
use crate::domain::{Experiment, Query, StorageState};

pub(super) const LIST: Select = Select {
    columns: text::EXPERIMENT_COLUMNS,
    from: "experiments",
    counted: "experiments",
    base: "1 = 1",
    bytes: "octet_length(experiments.description)",
};

/// Adds an experiment; its name must be free.
pub(crate) async fn insert(conn: &mut Conn, experiment: &Experiment) -> Result<(), Error> {
    let args = args![
        experiment.id,
        &experiment.name,
        &experiment.description,
        experiment.created_at
    ];
    conn.execute(text::INSERT_EXPERIMENT, args).await.map(drop)
}

/// Returns the experiment of a name, and adds it when there is none.
pub(crate) async fn ensure(
    conn: &mut Conn,
    name: &str,
    description: &str,
    now: Timestamp,
) -> Result<Experiment, Error> {
    if let Some(experiment) = by_name(conn, name).await? {
        return Ok(experiment);
    }
    let args = args![ExperimentId::generate(), name, description, now];
    conn.execute(text::ENSURE_EXPERIMENT, args).await?;
    conn.fetch_one(text::GET_EXPERIMENT_BY_NAME, args![name])
        .await
}

/// The experiment of an id.
pub(crate) async fn get(conn: &mut Conn, id: ExperimentId) -> Result<Option<Experiment>, Error> {
    conn.fetch_optional(text::GET_EXPERIMENT, args![id]).await
}

/// The experiment of a name.
pub(crate) async fn by_name(conn: &mut Conn, name: &str) -> Result<Option<Experiment>, Error> {
    conn.fetch_optional(text::GET_EXPERIMENT_BY_NAME, args![name])
        .await
}

/// A page of experiments.
pub(crate) async fn list(conn: &mut Conn, query: &Query) -> Result<Page<Experiment>, Error> {
    lists::page(conn, LIST, None, query).await
}

/// Puts an experiment away or takes it back; false when there is none.
pub(crate) async fn set_storage(
    conn: &mut Conn,
    id: ExperimentId,
    state: StorageState,
) -> Result<bool, Error> {
    let changed = conn
        .execute(text::SET_EXPERIMENT_STORAGE, args![id, state.as_str()])
        .await?;
    Ok(changed > 0)
}

/// Notes that a run was created; false when the experiment is put away or gone.
pub(crate) async fn touch(
    conn: &mut Conn,
    id: ExperimentId,
    now: Timestamp,
) -> Result<bool, Error> {
    Ok(conn.execute(text::TOUCH_EXPERIMENT, args![id, now]).await? > 0)
}

/// Removes an experiment and leaves its runs; false when there is none.
pub(crate) async fn delete(conn: &mut Conn, id: ExperimentId) -> Result<bool, Error> {
    Ok(conn.execute(text::DELETE_EXPERIMENT, args![id]).await? > 0)
}
