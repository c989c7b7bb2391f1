//! A run with its tasks, as answers show it.

use ids::{RunId, TaskId};
use sql::Conn;

use super::App;
use super::runs::RunDetails;
use crate::domain::{RunRecord, Source, Task};
use crate::error::Error;
use crate::store::{runs, specs, tasks};

const KIND: &str = "run";
/// Tasks that are read at a time.
const TASKS: u32 = 1_000;
/// Bytes of the tasks of a run whose values are shown.
const SHOWN_BYTES: usize = 32 << 20;

impl App {
    /// Returns a run with its tasks.
    pub async fn get_run(&self, id: RunId) -> Result<RunDetails, Error> {
        let details = self.read(move |conn| {
            Box::pin(async move {
                let record = runs::visible(conn, id).await?;
                let record = record.ok_or_else(|| Error::not_found(KIND, id))?;
                let spec = match record.source {
                    Source::Inline => specs::get(conn, &record.spec_hash).await?,
                    Source::Version(..) => None,
                };
                let tasks = shown_tasks(conn, id).await?;
                Ok(RunDetails {
                    record,
                    spec,
                    tasks,
                })
            })
        });
        details.await
    }

    /// The specification that a run executes, also when it came from a version.
    pub async fn spec_of(&self, record: &RunRecord) -> Result<Option<String>, Error> {
        let hash = record.spec_hash.clone();
        let found =
            self.read(move |conn| Box::pin(async move { Ok(specs::get(conn, &hash).await?) }));
        found.await
    }
}

/// The tasks of a run as answers show them. What they received and produced is left out once that is large.
async fn shown_tasks(conn: &mut Conn, run: RunId) -> Result<Vec<Task>, Error> {
    let (mut shown, mut bytes, mut after) = (Vec::new(), 0, TaskId(0));
    loop {
        let (records, more) = tasks::page(conn, run, after, TASKS).await?;
        for record in records {
            after = record.id;
            bytes += record.body.len();
            let task = Task::from_record(record);
            let mut task =
                task.map_err(|error| Error::Internal(format!("task {after}: {error}")))?;
            if bytes > SHOWN_BYTES {
                task.body.inputs.parameters.clear();
                task.body.inputs.channels.clear();
                task.body.outputs.parameters.clear();
            }
            shown.push(task);
        }
        if !more {
            return Ok(shown);
        }
    }
}
