//! `flumina.pipelines.v1.RunService`.

use api_pipelines::v1 as own;
use api_pipelines::v1::run_service_server::RunService;
use api_runner::v1 as runner;
use ids::{RunId, TaskId};
use serde_json::{Map, Value};
use tonic::{Request, Response, Status};

use super::{Flumina, Streaming, logs, render, run_id, status, watch};
use crate::api::call::{answer, call, nothing};
use crate::api::value;
use crate::app::{Differences, RunDetails};
use crate::domain::violation::{RUN_NAME, Violations};
use crate::domain::{RunRecord, Task};
use crate::error::{Error, SERVICE};
use crate::store::{runs, tasks};

const DESCRIBE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

#[tonic::async_trait]
impl RunService for Flumina {
    type WatchRunStream = Streaming<own::WatchRunResponse>;
    type ReadLogsStream = Streaming<own::ReadLogsResponse>;

    async fn get_run(
        &self,
        request: Request<own::GetRunRequest>,
    ) -> Result<Response<own::Run>, Status> {
        let id = run_id(&request.into_inner().run_id)?;
        let read = self.app.db().read(move |conn| {
            Box::pin(async move {
                let record = visible(conn, id).await?;
                let root = tasks::by_path(conn, id, "").await?;
                Ok::<_, Error>((record, root))
            })
        });
        let answer = read.await.and_then(|(record, root)| {
            let parameters = root
                .map(parse)
                .transpose()?
                .map(|root| root.body.inputs.parameters);
            let parameters = parameters.unwrap_or_else(|| record.run.body.parameters.clone());
            Ok(render::run(&record.run, &parameters))
        });
        aip::unary(SERVICE, answer)
    }

    async fn watch_run(
        &self,
        request: Request<own::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let id = run_id(&request.into_inner().run_id)?;
        let stream = watch::stream(self.app.db().clone(), self.engine.subscribe(id), id);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_tasks(
        &self,
        request: Request<own::ListTasksRequest>,
    ) -> Result<Response<own::ListTasksResponse>, Status> {
        let request = request.into_inner();
        let id = run_id(&request.run_id)?;
        let query = format!("tasks of {id}");
        let size = aip::page::size(request.page_size).map_err(|error| status(&error))?;
        let key = aip::page::decode(&query, &request.page_token).map_err(|error| status(&error))?;
        let after = page_key(key).map_err(|error| status(&error))?.unwrap_or(0);
        let read = self.app.db().read(move |conn| {
            Box::pin(async move {
                visible(conn, id).await?;
                Ok::<_, Error>(tasks::page(conn, id, TaskId(after), size).await?)
            })
        });
        let answer = read.await.and_then(|(records, more)| {
            let next = records
                .last()
                .filter(|_| more)
                .map(|last| last.id.to_string());
            let tasks: Result<Vec<Task>, Error> = records.into_iter().map(parse).collect();
            Ok(own::ListTasksResponse {
                tasks: tasks?.iter().map(render::task).collect(),
                next_page_token: next
                    .map_or_else(String::new, |key| aip::page::encode(&query, &[&key])),
            })
        });
        aip::unary(SERVICE, answer)
    }

    async fn get_task(
        &self,
        request: Request<own::GetTaskRequest>,
    ) -> Result<Response<own::Task>, Status> {
        let request = request.into_inner();
        let id = run_id(&request.run_id)?;
        let found = self.find_task(id, request.task).await;
        aip::unary(SERVICE, found.map(|task| render::task(&task)))
    }

    async fn delete_run(
        &self,
        request: Request<own::DeleteRunRequest>,
    ) -> Result<Response<()>, Status> {
        let id = run_id(&request.get_ref().run_id)?;
        let method = "flumina.pipelines.v1.RunService/DeleteRun";
        let call = call(&request, method, nothing);
        let call = call.map_err(|error| status(&error))?;
        let deleted = self
            .app
            .delete_run(call, id, request.get_ref().keep_artifacts)
            .await;
        aip::unary(SERVICE, deleted.map(drop))
    }

    async fn clone_run(
        &self,
        request: Request<own::CloneRunRequest>,
    ) -> Result<Response<own::Run>, Status> {
        aip::unary(SERVICE, self.make_clone(request).await)
    }

    async fn read_logs(
        &self,
        request: Request<own::ReadLogsRequest>,
    ) -> Result<Response<Self::ReadLogsStream>, Status> {
        let context = rpc::context(&request);
        let request = request.into_inner();
        let id = run_id(&request.run_id)?;
        let task = self
            .find_task(id, request.task.clone())
            .await
            .map_err(|error| status(&error))?;
        let wanted = logs::attempt(&task, request.attempt).map_err(|error| status(&error))?;
        let stream = logs::stream(self.clone(), context, id, task.id, wanted, &request);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_replay(
        &self,
        request: Request<own::GetReplayRequest>,
    ) -> Result<Response<own::GetReplayResponse>, Status> {
        let context = rpc::context(&request);
        let request = request.into_inner();
        let id = run_id(&request.run_id)?;
        let task = self
            .find_task(id, request.task)
            .await
            .map_err(|error| status(&error))?;
        let number = logs::attempt(&task, request.attempt).map_err(|error| status(&error))?;
        let attempt = task
            .body
            .attempts
            .iter()
            .find(|attempt| attempt.number == number);
        let Some(attempt) = attempt else {
            let message = format!(
                "task {} was not started, so there is nothing to replay",
                task.label()
            );
            return Err(status(&Error::Precondition {
                reason: "TASK_NOT_STARTED",
                kind: "task",
                name: task.id.to_string(),
                message,
            }));
        };
        let describe = runner::DescribeRequest {
            id: attempt.workload_id.to_string(),
        };
        let described = self
            .engine
            .workloads()
            .describe(context.request(DESCRIBE_TIMEOUT, describe))
            .await;
        let workload = described
            .map_err(|failed| logs::runner_status(&failed))?
            .into_inner();
        Ok(Response::new(own::GetReplayResponse {
            task: Some(render::task(&task)),
            workload: Some(workload),
        }))
    }
}

impl Flumina {
    async fn make_clone(&self, request: Request<own::CloneRunRequest>) -> Result<own::Run, Error> {
        let method = "flumina.pipelines.v1.RunService/CloneRun";
        let call = call(&request, method, cloned)?;
        let request = request.into_inner();
        let id = id_of("run_id", &request.run_id)?;
        let mut faults = Violations::new();
        faults.text("display_name", &request.display_name, RUN_NAME);
        let parameters = request.parameters.unwrap_or_default();
        let parameters = match value::from_struct(parameters) {
            Some(Value::Object(parameters)) => parameters,
            Some(_) | None => {
                faults.add("parameters", "hold a number that is not finite");
                Map::new()
            }
        };
        let experiment = match request.experiment_id.as_str() {
            "" => None,
            text => Some(id_of("experiment_id", text)?),
        };
        let differences = Differences {
            parameters,
            display_name: request.display_name,
            experiment,
        };
        let made = self.app.clone_run(call, id, differences, faults).await?;
        answer(made, cloned)
    }

    /// The task of an id, a path with dots, or a name that is unique in the run.
    pub(super) async fn find_task(&self, run: RunId, task: String) -> Result<Task, Error> {
        let read = self.app.db().read(move |conn| {
            Box::pin(async move {
                visible(conn, run).await?;
                if let Ok(id) = task.parse::<TaskId>()
                    && let Some(found) = tasks::by_id(conn, run, id).await?
                {
                    return Ok(found);
                }
                if let Some(found) = tasks::by_path(conn, run, &task.replace('.', "/")).await? {
                    return Ok(found);
                }
                let mut named = tasks::by_name(conn, run, &task).await?;
                match (named.pop(), named.pop()) {
                    (Some(found), None) => Ok(found),
                    (Some(_), Some(_)) => Err(Error::field(
                        "task",
                        format!(
                            "several tasks are called `{task}`: give the id, or the path with dots"
                        ),
                    )),
                    (None, _) => Err(Error::not_found("task", &task)),
                }
            })
        });
        read.await.and_then(parse)
    }
}

fn cloned(details: &RunDetails) -> own::Run {
    let run = &details.record.run;
    render::run(run, &run.body.parameters)
}

fn id_of<T>(field: &str, text: &str) -> Result<T, Error>
where
    T: std::str::FromStr<Err = ids::InvalidId>,
{
    text.parse()
        .map_err(|invalid: ids::InvalidId| Error::field(field, invalid.to_string()))
}

pub(super) async fn visible(conn: &mut sql::Conn, id: RunId) -> Result<RunRecord, Error> {
    runs::visible(conn, id)
        .await?
        .ok_or_else(|| Error::not_found("run", id))
}

pub(super) fn parse(record: crate::domain::TaskRecord) -> Result<Task, Error> {
    Task::from_record(record).map_err(|error| Error::Internal(format!("a stored task: {error}")))
}

/// The number that a page of numbered things goes on after.
pub(super) fn page_key(key: Option<Vec<String>>) -> Result<Option<i64>, aip::page::Error> {
    let Some(key) = key else { return Ok(None) };
    let number = key.first().and_then(|number| number.parse().ok());
    number.map(Some).ok_or(aip::page::Error::Foreign)
}
