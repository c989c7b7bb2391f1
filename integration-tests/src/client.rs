//! Calls as clients make them, over TCP.

use std::future::Future;

use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::experiment_service_client::ExperimentServiceClient;
use api_kfp::v2beta1::run_service_client::RunServiceClient as KfpRuns;
use api_pipelines::v1 as own;
use api_pipelines::v1::artifact_service_client::ArtifactServiceClient;
use api_pipelines::v1::run_service_client::RunServiceClient;
use auth::{BearerToken, Secret};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use rpc::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::{LIMIT, Pipeline};

/// A client of the public port.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client of `http://HOST:PORT`. Must be called within a tokio runtime.
    pub fn new(url: &str, token: Option<&str>) -> Self {
        let token = token.map(|token| BearerToken::new(&Secret::new(token)).expect("a token"));
        Self {
            channel: Channel::remote(url, token).expect("an address"),
        }
    }

    /// For generated clients.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Whether the health check of a service, or of the whole process, says so.
    pub async fn serving(&self, service: &str) -> bool {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = within(HealthClient::new(self.channel()).check(request)).await;
        answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
    }

    /// The own contract of runs.
    pub fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel())
    }

    /// The adopted contract of runs.
    pub fn kfp_runs(&self) -> KfpRuns<Channel> {
        KfpRuns::new(self.channel())
    }

    /// Artifacts.
    pub fn artifacts(&self) -> ArtifactServiceClient<Channel> {
        ArtifactServiceClient::new(self.channel())
    }

    /// Experiments.
    pub fn experiments(&self) -> ExperimentServiceClient<Channel> {
        ExperimentServiceClient::new(self.channel())
    }

    /// Creates a run and returns its id; the same key again returns the same run.
    pub async fn try_submit(&self, pipeline: &Pipeline, key: &str) -> Result<String, Status> {
        let spec = structure(&pipeline.spec());
        let run = kfp::Run {
            display_name: key.to_owned(),
            pipeline_source: Some(kfp::run::PipelineSource::PipelineSpec(spec)),
            ..kfp::Run::default()
        };
        let mut request = Request::new(kfp::CreateRunRequest {
            run: Some(run),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert("idempotency-key", key.parse().expect("a key"));
        let answer = within(self.kfp_runs().create_run(request)).await;
        Ok(answer?.into_inner().run_id)
    }

    /// [`Client::try_submit`] that must succeed.
    pub async fn submit(&self, pipeline: &Pipeline, key: &str) -> String {
        self.try_submit(pipeline, key).await.unwrap()
    }

    /// Follows a run to its end. The connection may break meanwhile only when `try_` is used.
    pub async fn wait_end(&self, run: &str) -> own::Run {
        match self.try_wait_end(run).await {
            Ok(run) => run,
            Err(status) => panic!("cannot follow run {run}: {status}"),
        }
    }

    /// Follows a run to its end, or to the end of the server.
    pub async fn try_wait_end(&self, run: &str) -> Result<own::Run, Status> {
        let request = own::WatchRunRequest {
            run_id: run.to_owned(),
        };
        let watch = async {
            let mut stream = self.runs().watch_run(request).await?.into_inner();
            let mut last = None;
            while let Some(update) = stream.message().await? {
                last = update.run.or(last);
            }
            Ok::<_, Status>(last.expect("at least one state of the run"))
        };
        within(watch).await
    }

    /// The run.
    pub async fn run(&self, run: &str) -> Result<own::Run, Status> {
        let request = own::GetRunRequest {
            run_id: run.to_owned(),
        };
        Ok(within(self.runs().get_run(request)).await?.into_inner())
    }

    /// All tasks of a run, without the root.
    pub async fn tasks(&self, run: &str) -> Vec<own::Task> {
        let request = own::ListTasksRequest {
            run_id: run.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        let answer = within(self.runs().list_tasks(request))
            .await
            .unwrap()
            .into_inner();
        let mut tasks = answer.tasks;
        tasks.retain(|task| task.kind() == own::TaskKind::Container);
        tasks
    }

    /// A task by its name.
    pub async fn task(&self, run: &str, name: &str) -> own::Task {
        let request = own::GetTaskRequest {
            run_id: run.to_owned(),
            task: name.to_owned(),
        };
        within(self.runs().get_task(request))
            .await
            .unwrap()
            .into_inner()
    }

    /// The whole log of an attempt.
    pub async fn log(&self, run: &str, task: &str, attempt: i32) -> Result<String, Status> {
        let request = own::ReadLogsRequest {
            run_id: run.to_owned(),
            task: task.to_owned(),
            attempt,
            ..Default::default()
        };
        let read = async {
            let mut stream = self.runs().read_logs(request).await?.into_inner();
            let mut bytes = Vec::new();
            while let Some(part) = stream.message().await? {
                assert_eq!(part.offset, bytes.len() as u64, "a gap in the log");
                bytes.extend(part.data);
            }
            Ok::<_, Status>(bytes)
        };
        Ok(String::from_utf8(within(read).await?).expect("text"))
    }

    /// Asks for the end of a run.
    pub async fn terminate(&self, run: &str) -> Result<(), Status> {
        let request = kfp::TerminateRunRequest {
            run_id: run.to_owned(),
            ..Default::default()
        };
        within(self.kfp_runs().terminate_run(request))
            .await
            .map(drop)
    }

    /// Lets a run go on that ended without success; the same key again is the same request.
    pub async fn retry(&self, run: &str, key: &str) -> Result<(), Status> {
        let mut request = Request::new(kfp::RetryRunRequest {
            run_id: run.to_owned(),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert("idempotency-key", key.parse().expect("a key"));
        within(self.kfp_runs().retry_run(request)).await.map(drop)
    }

    /// Deletes a run.
    pub async fn delete(&self, run: &str, keep_artifacts: bool) -> Result<(), Status> {
        let request = own::DeleteRunRequest {
            run_id: run.to_owned(),
            keep_artifacts,
            ..Default::default()
        };
        within(self.runs().delete_run(request)).await.map(drop)
    }

    /// Waits until a run is gone for clients.
    pub async fn wait_gone(&self, run: &str) {
        testkit::eventually("the run is gone", LIMIT, || async {
            match self.run(run).await {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// The artifacts of a run.
    pub async fn artifacts_of(&self, run: &str) -> Vec<own::Artifact> {
        let request = own::ListArtifactsRequest {
            run_id: run.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        within(self.artifacts().list_artifacts(request))
            .await
            .unwrap()
            .into_inner()
            .artifacts
    }

    /// Creates an experiment.
    pub async fn create_experiment(&self, name: &str) -> Result<kfp::Experiment, Status> {
        let experiment = kfp::Experiment {
            display_name: name.to_owned(),
            ..Default::default()
        };
        let request = kfp::CreateExperimentRequest {
            experiment: Some(experiment),
        };
        Ok(within(self.experiments().create_experiment(request))
            .await?
            .into_inner())
    }
}

async fn within<T>(call: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(LIMIT, call).await;
    limited.unwrap_or_else(|_| panic!("no answer within {LIMIT:?}"))
}

/// An object of JSON as a message.
pub fn structure(value: &serde_json::Value) -> Struct {
    match proto(value).kind {
        Some(Kind::StructValue(fields)) => fields,
        other => panic!("{other:?} is no object"),
    }
}

fn proto(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(*flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().expect("a number")),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(proto).collect(),
        }),
        serde_json::Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), proto(value)));
            Kind::StructValue(Struct {
                fields: fields.collect(),
            })
        }
    };
    Value { kind: Some(kind) }
}
