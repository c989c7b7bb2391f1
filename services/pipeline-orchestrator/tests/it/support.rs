//! A service on a real database with a clock that stands still.

use api_kfp::v2beta1 as kfp;
use clock::{Clock, ManualClock, Timestamp};
use flumina_pipeline_orchestrator::{Config, Service, build};
use kfp::experiment_service_client::ExperimentServiceClient;
use kfp::pipeline_service_client::PipelineServiceClient;
use kfp::recurring_run_service_client::RecurringRunServiceClient;
use kfp::run::PipelineSource;
use kfp::run_service_client::RunServiceClient;
use rpc::{Channel, Switchboard};
use runtime::Host;
use serde_json::{Value, json};
use testkit::TempDir;

/// 2023-11-14T22:13:20Z.
pub(crate) const START: i64 = 1_700_000_000;

/// A started service. There is no runner, so programs wait for ever; importers run.
pub(crate) struct Server {
    pub(crate) switchboard: Switchboard,
    pub(crate) hand: ManualClock,
    pub(crate) dir: TempDir,
    pub(crate) supervisor: runtime::Supervisor,
    metrics: runtime::Metrics,
    config: Config,
    _service: Service,
}

/// On a SQLite file.
pub(crate) async fn server() -> Server {
    open(testkit::temp_dir(), None).await
}

/// One on a SQLite file, one on PostgreSQL.
pub(crate) async fn servers() -> [Server; 2] {
    let url = testkit::postgres().create_database();
    [server().await, open(testkit::temp_dir(), Some(url)).await]
}

/// On the database of an earlier server.
pub(crate) async fn open(dir: TempDir, url: Option<String>) -> Server {
    let (clock, hand) = Clock::manual(Timestamp::from_secs(START));
    let host = Host {
        clock,
        ..Host::detached("test")
    };
    let config = Config {
        data_dir: dir.path().to_owned(),
        database_url: url.map(auth::Secret::new),
        ..Config::default()
    };
    let switchboard = Switchboard::new();
    let runner = switchboard.channel("flumina.runner.v1.WorkloadService");
    let service = build(&config, &host, runner).await.unwrap();
    service.start().await.unwrap();
    let _registration = switchboard.register(service.services(), &host.metrics);
    Server {
        switchboard,
        hand,
        dir,
        supervisor: host.supervisor,
        metrics: host.metrics,
        config,
        _service: service,
    }
}

impl Server {
    /// The service's database, for what no call does to it.
    pub(crate) async fn database(&self) -> sql::Db {
        let migrations = flumina_pipeline_orchestrator::store::migrations();
        sql::Db::open(&self.config.database(), &migrations)
            .await
            .unwrap()
    }

    pub(crate) fn channel(&self, service: &str) -> Channel {
        self.switchboard
            .channel(&format!("kubeflow.pipelines.backend.api.v2beta1.{service}"))
    }

    pub(crate) fn experiments(&self) -> ExperimentServiceClient<Channel> {
        ExperimentServiceClient::new(self.channel("ExperimentService"))
    }

    pub(crate) fn pipelines(&self) -> PipelineServiceClient<Channel> {
        PipelineServiceClient::new(self.channel("PipelineService"))
    }

    pub(crate) fn runs(&self) -> RunServiceClient<Channel> {
        RunServiceClient::new(self.channel("RunService"))
    }

    pub(crate) fn recurring(&self) -> RecurringRunServiceClient<Channel> {
        RecurringRunServiceClient::new(self.channel("RecurringRunService"))
    }

    /// Waits until the engine holds that many runs in memory.
    pub(crate) async fn wait_for_active(&self, runs: usize) {
        let line = format!("runs_active {runs}");
        let limit = std::time::Duration::from_secs(20);
        let probe = async || {
            let metrics = self.metrics.encode();
            let seen = metrics
                .lines()
                .find(|line| !line.starts_with('#') && line.contains("runs_active "));
            match seen {
                Some(seen) if seen.ends_with(&line) => Ok(()),
                seen => Err(format!("{seen:?}")),
            }
        };
        testkit::eventually("the active runs", limit, probe).await;
    }

    /// Creates an experiment and returns its id.
    pub(crate) async fn experiment(&self, name: &str) -> String {
        let experiment = kfp::Experiment {
            display_name: name.to_owned(),
            ..Default::default()
        };
        let request = kfp::CreateExperimentRequest {
            experiment: Some(experiment),
        };
        self.experiments()
            .create_experiment(request)
            .await
            .unwrap()
            .into_inner()
            .experiment_id
    }

    /// Creates a pipeline with one version and returns its id.
    pub(crate) async fn pipeline(&self, name: &str) -> String {
        let request = kfp::CreatePipelineAndVersionRequest {
            pipeline: Some(kfp::Pipeline {
                name: name.to_owned(),
                ..Default::default()
            }),
            pipeline_version: Some(kfp::PipelineVersion {
                pipeline_spec: Some(object(&program())),
                ..Default::default()
            }),
        };
        let created = self.pipelines().create_pipeline_and_version(request).await;
        created.unwrap().into_inner().pipeline_id
    }

    /// Creates a run.
    pub(crate) async fn run(&self, run: kfp::Run) -> Result<kfp::Run, tonic::Status> {
        let request = kfp::CreateRunRequest {
            run: Some(run),
            ..Default::default()
        };
        self.runs()
            .create_run(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Reads a run.
    pub(crate) async fn get(&self, run_id: &str) -> Result<kfp::Run, tonic::Status> {
        let request = kfp::GetRunRequest {
            run_id: run_id.to_owned(),
            ..Default::default()
        };
        self.runs()
            .get_run(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Waits until a run is in a state.
    pub(crate) async fn wait_for(&self, run_id: &str, state: kfp::RuntimeState) -> kfp::Run {
        let limit = std::time::Duration::from_secs(20);
        let probe = async || {
            let run = self
                .get(run_id)
                .await
                .map_err(|status| format!("{status:?}"))?;
            if run.state() == state {
                Ok(run)
            } else {
                Err(format!("{:?}", run.state()))
            }
        };
        testkit::eventually("the run's state", limit, probe).await
    }
}

/// A run of a specification.
pub(crate) fn inline(name: &str, spec: &Value, parameters: &Value) -> kfp::Run {
    kfp::Run {
        display_name: name.to_owned(),
        runtime_config: Some(kfp::RuntimeConfig {
            parameters: object(parameters).fields.into_iter().collect(),
            pipeline_root: String::new(),
        }),
        pipeline_source: Some(PipelineSource::PipelineSpec(object(spec))),
        ..Default::default()
    }
}

/// A pipeline of one program with a required integer, a text and a list.
pub(crate) fn program() -> Value {
    let parameters = json!({
        "rows": {"parameterType": "NUMBER_INTEGER"},
        "text": {"parameterType": "STRING", "defaultValue": "hi", "isOptional": true},
        "items": {"parameterType": "LIST", "isOptional": true},
    });
    json!({
        "pipelineInfo": {"name": "program"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": {"comp-echo": {"executorLabel": "exec-echo"}},
        "deploymentSpec": {"executors": {"exec-echo": {"container": {"image": "python:3.11", "command": ["echo"]}}}},
        "root": {
            "inputDefinitions": {"parameters": parameters},
            "dag": {"tasks": {"echo": {"componentRef": {"name": "comp-echo"}, "taskInfo": {"name": "echo"}}}},
        },
    })
}

/// A pipeline of one importer: it ends without a runner.
pub(crate) fn importer() -> Value {
    let artifact =
        json!({"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}});
    json!({
        "pipelineInfo": {"name": "importer"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "components": {"comp-get": {
            "executorLabel": "exec-get",
            "inputDefinitions": {"parameters": {"uri": {"parameterType": "STRING"}}},
            "outputDefinitions": {"artifacts": {"artifact": artifact}},
        }},
        "deploymentSpec": {"executors": {"exec-get": {"importer": {
            "artifactUri": {"constant": "/data/x.csv"},
            "typeSchema": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"},
        }}}},
        "root": {"dag": {"tasks": {"get": {
            "componentRef": {"name": "comp-get"},
            "taskInfo": {"name": "get"},
            "inputs": {"parameters": {"uri": {"runtimeValue": {"constant": "/data/x.csv"}}}},
        }}}},
    })
}

/// JSON as a message.
pub(crate) fn object(value: &Value) -> prost_types::Struct {
    let fields = value.as_object().into_iter().flatten();
    prost_types::Struct {
        fields: fields
            .map(|(key, value)| (key.clone(), message(value)))
            .collect(),
    }
}

pub(crate) fn message(value: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue {
            values: items.iter().map(message).collect(),
        }),
        Value::Object(_) => Kind::StructValue(object(value)),
    };
    prost_types::Value { kind: Some(kind) }
}

/// A message's time in seconds.
pub(crate) fn seconds(time: Option<prost_types::Timestamp>) -> Option<i64> {
    time.map(|time| time.seconds)
}
