//! A stored run as the engine goes on with it.

use std::sync::Arc;

use sql::Db;

use crate::domain::{Event, RunRecord, RunState, StepError, Task, step};
use crate::store::{artifacts, specs, tasks};

/// Why the engine cannot go on with a stored run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The database failed.
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    /// The rows are not what the engine made.
    #[error("the engine refused an event")]
    Step(#[from] StepError),
    /// A row cannot be read.
    #[error("{0}")]
    Corrupt(String),
}

/// Reads all of a run.
pub(crate) async fn state(db: &Db, record: RunRecord) -> Result<RunState, Unreadable> {
    let run = record.run.id;
    let hash = record.spec_hash.clone();
    let (spec, tasks, artifacts) = db
        .read(move |conn| {
            Box::pin(async move {
                let spec = specs::get(conn, &hash).await?;
                let tasks = tasks::of_run(conn, run).await?;
                Ok::<_, sql::Error>((spec, tasks, artifacts::used_by(conn, run).await?))
            })
        })
        .await?;
    let corrupt = Unreadable::Corrupt;
    let spec = spec.ok_or_else(|| corrupt("its specification is missing".to_owned()))?;
    let spec = serde_json::from_str(&spec).map_err(|error| corrupt(error.to_string()))?;
    let source =
        pipeline_spec::Source::from_value(spec).map_err(|error| corrupt(error.to_string()))?;
    let plan = source
        .plan()
        .map_err(|faults| corrupt(format!("{} faults in its specification", faults.len())))?;
    let tasks: Result<Vec<Task>, _> = tasks.into_iter().map(Task::from_record).collect();
    let tasks = tasks.map_err(|error| corrupt(error.to_string()))?;
    Ok(RunState::load(
        record.run,
        Arc::new(plan),
        tasks,
        artifacts,
    )?)
}

/// Whether the engine could start a run that is retried: it is begun without being stored.
pub(crate) async fn begins(db: &Db, record: RunRecord) -> Result<(), Unreadable> {
    let now = record.run.created_at;
    let mut state = state(db, record).await?;
    let mut last = i64::MAX / 2;
    let mut ids = || {
        last += 1;
        last
    };
    step(&mut state, Event::Start, now, &mut ids)?;
    Ok(())
}
