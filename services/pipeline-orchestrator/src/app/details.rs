//! A run with its tasks, as answers show it.

use clock::Timestamp;
use ids::{RunId, TaskId};
use sql::Conn;

use super::runs::RunDetails;
use super::{App, loaded};
use crate::domain::{GIVEN_UP, RunRecord, Source, Task};
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

    /// Refuses to retry a run that was given up since the engine cannot go on with what is stored of it, unless it can now.
    pub(super) async fn check_given_up(&self, id: RunId, now: Timestamp) -> Result<(), Error> {
        let read =
            self.read(move |conn| Box::pin(async move { Ok(runs::visible(conn, id).await?) }));
        let given_up = |record: &RunRecord| record.run.body.reason == GIVEN_UP;
        let Some(mut record) = read.await?.filter(given_up) else {
            return Ok(());
        };
        if record.run.retry(now).is_err() {
            return Ok(());
        }
        match loaded::begins(self.db(), record).await {
            Ok(()) => Ok(()),
            Err(loaded::Unreadable::Sql(error)) => Err(error.into()),
            Err(unreadable) => Err(Error::Precondition {
                reason: GIVEN_UP,
                kind: KIND,
                name: id.to_string(),
                message: format!(
                    "run {id} cannot be retried, since what is stored of it cannot be executed ({}); create it anew",
                    aip::chain(&unreadable)
                ),
            }),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ids::ExperimentId;
    use runtime::Host;
    use serde_json::json;

    use super::super::{Call, Parts, Plans, Roots};
    use super::*;
    use crate::domain::{RunStatus, Spec};
    use crate::metrics::OrchestratorMetrics;
    use crate::store::tests::{both, run};
    use crate::work::{Deps, RunEngine};

    fn app(db: sql::Db, folder: &std::path::Path) -> App {
        let host = Host::detached("test");
        let engine = RunEngine::new(Deps {
            db: db.clone(),
            runner: rpc::Switchboard::new().channel("flumina.runner.v1.WorkloadService"),
            objects: objects::Store::open(folder).unwrap(),
            clock: host.clock.clone(),
            supervisor: host.supervisor.clone(),
            active: Default::default(),
            any_end: Arc::default(),
        });
        App::new(Parts {
            db,
            clock: host.clock.clone(),
            engine: Arc::new(engine),
            supervisor: host.supervisor.clone(),
            roots: Roots::new(Vec::<String>::new(), objects::Access::default()),
            plans: Plans::default(),
            cache: Default::default(),
            metrics: OrchestratorMetrics::new(&host.metrics),
            schedules: Arc::default(),
            time_zone: "UTC".to_owned(),
        })
    }

    async fn retried(app: &App, name: &str, spec: serde_json::Value) -> Result<(), Error> {
        let mut record = run(name, 1, ExperimentId::derived("e"));
        let spec = Spec {
            hash: name.to_owned(),
            body: spec.to_string(),
        };
        record.spec_hash.clone_from(&spec.hash);
        record.run.status = RunStatus::Failed;
        record.run.body.reason = GIVEN_UP.to_owned();
        let id = record.run.id;
        let stored = app
            .db()
            .write(move |conn| Box::pin(async move { runs::insert(conn, &record, &spec).await }));
        let stored: Result<(), sql::Error> = stored.await;
        stored.unwrap();
        let call = Call {
            key: None,
            encode: Box::new(|()| Vec::new()),
        };
        app.retry_run(call, id).await.map(drop)
    }

    #[tokio::test]
    async fn a_run_that_was_given_up_is_retried_only_when_it_can_be_executed() {
        for opened in both().await {
            let dir = testkit::temp_dir();
            let app = app(opened.db.clone(), dir.path());
            let refused = retried(&app, "broken", json!({})).await.unwrap_err();
            assert_eq!(aip::ApiError::code(&refused), aip::Code::FailedPrecondition);
            assert_eq!(aip::ApiError::reason(&refused), GIVEN_UP);
            let message = refused.to_string();
            assert!(message.contains("cannot be retried"), "{message}");
            assert!(message.contains("create it anew"), "{message}");
            let whole = json!({
                "pipelineInfo": {"name": "empty"},
                "schemaVersion": "2.1.0",
                "sdkVersion": "kfp-2.17.0",
                "components": {"comp-a": {"executorLabel": "exec-a"}},
                "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "alpine", "command": ["true"]}}}},
                "root": {"dag": {"tasks": {"a": {"componentRef": {"name": "comp-a"}, "taskInfo": {"name": "a"}}}}},
            });
            retried(&app, "whole", whole).await.unwrap();
        }
    }
}
