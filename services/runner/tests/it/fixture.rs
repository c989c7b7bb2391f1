//! A runner in this process, with a client.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use api_runner::v1 as pb;
use api_runner::v1::workload_service_client::WorkloadServiceClient;
use api_step::v1 as step;
use flumina_runner::{AgentSource, Config, Deps, Service, build};
use runtime::Host;
use tempfile::TempDir;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The agent, as the workspace built it; built here when it is not there yet.
pub(crate) fn agent() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let find = || {
        // The runner was built for this test into the folder that the agent is in.
        let path = Path::new(RUNNER).with_file_name("flumina-agent");
        if !path.is_file() {
            let mut build = Command::new("cargo");
            let done = build
                .args(["build", "--quiet", "-p", "flumina-agent"])
                .status();
            assert!(done.unwrap().success(), "cannot build the agent");
        }
        path
    };
    BUILT.get_or_init(find).clone()
}

/// The runner as a program.
pub(crate) const RUNNER: &str = env!("CARGO_BIN_EXE_flumina-runner");

pub(crate) struct Fixture {
    pub(crate) service: Service,
    pub(crate) client: WorkloadServiceClient<rpc::Channel>,
    pub(crate) host: Host,
}

pub(crate) fn config(dir: &Path) -> Config {
    Config {
        data_dir: dir.to_owned(),
        stop_grace_seconds: 2,
        ..Config::default()
    }
}

impl Fixture {
    pub(crate) async fn new(dir: &TempDir) -> Self {
        Self::with(config(dir.path())).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let host = Host::detached("test");
        let deps = Deps {
            host: host.clone(),
            agent: AgentSource::Path(agent()),
            environment: std::env::vars().collect(),
        };
        let service = build(config, deps).await.unwrap();
        service.start().await.unwrap();
        let switchboard = rpc::Switchboard::new();
        switchboard.register(service.services.clone(), &host.metrics);
        let channel = switchboard.channel("flumina.runner.v1.WorkloadService");
        Self {
            service,
            client: WorkloadServiceClient::new(channel),
            host,
        }
    }

    /// Ends the runner as a restart would; steps go on.
    pub(crate) async fn shut_down(self) {
        let late = self.host.supervisor.shutdown(Duration::from_secs(5)).await;
        assert_eq!(late, Vec::<String>::new());
        drop(self.service);
    }

    pub(crate) async fn launch(&self, id: &str, spec: pb::WorkloadSpec) -> pb::Workload {
        self.try_launch(id, spec).await.unwrap()
    }

    pub(crate) async fn try_launch(
        &self,
        id: &str,
        spec: pb::WorkloadSpec,
    ) -> Result<pb::Workload, tonic::Status> {
        let request = pb::LaunchRequest {
            id: id.to_owned(),
            spec: Some(spec),
        };
        let answer = self.client.clone().launch(request).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn get(&self, id: &str) -> Result<pb::Workload, tonic::Status> {
        let request = pb::GetRequest { id: id.to_owned() };
        Ok(self.client.clone().get(request).await?.into_inner())
    }

    pub(crate) async fn stop(&self, id: &str) -> pb::Workload {
        let request = pb::StopRequest {
            id: id.to_owned(),
            reason: "enough".to_owned(),
        };
        self.client
            .clone()
            .stop(request)
            .await
            .unwrap()
            .into_inner()
    }

    pub(crate) async fn delete(&self, id: &str) {
        let request = pb::DeleteRequest { id: id.to_owned() };
        self.client.clone().delete(request).await.unwrap();
    }

    pub(crate) async fn watch(&self, owner: &str) -> tonic::Streaming<pb::WatchResponse> {
        let request = pb::WatchRequest {
            owner: owner.to_owned(),
            live_only: false,
        };
        self.client
            .clone()
            .watch(request)
            .await
            .unwrap()
            .into_inner()
    }

    /// Watches until a workload is as `wanted`.
    pub(crate) async fn until(
        &self,
        id: &str,
        wanted: impl Fn(&pb::Workload) -> bool,
    ) -> pb::Workload {
        self.until_within(id, LIMIT, wanted).await
    }

    pub(crate) async fn until_within(
        &self,
        id: &str,
        limit: Duration,
        wanted: impl Fn(&pb::Workload) -> bool,
    ) -> pb::Workload {
        let mut seen = None;
        let search = async {
            let mut watch = self.watch("").await;
            while let Some(told) = watch.message().await.unwrap() {
                let Some(workload) = told.workload.filter(|workload| workload.id == id) else {
                    continue;
                };
                if wanted(&workload) {
                    return workload;
                }
                seen = Some(workload);
            }
            panic!("the watch ended");
        };
        match tokio::time::timeout(limit, search).await {
            Ok(workload) => workload,
            Err(_) => panic!("{id} did not become as wanted, last seen {seen:?}"),
        }
    }

    pub(crate) async fn ended(&self, id: &str) -> pb::Workload {
        self.until(id, |workload| workload.ended_at.is_some()).await
    }

    /// Watches until the log has a text, and returns the whole log so far.
    pub(crate) async fn logged(&self, id: &str, text: &str) -> String {
        let request = pb::LogsRequest {
            id: id.to_owned(),
            follow: true,
            ..Default::default()
        };
        let mut log = String::new();
        let search = async {
            let mut parts = self
                .client
                .clone()
                .logs(request)
                .await
                .unwrap()
                .into_inner();
            while let Some(part) = parts.message().await.unwrap() {
                log.push_str(&String::from_utf8_lossy(&part.data));
                if log.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(LIMIT, search).await;
        assert!(matches!(found, Ok(true)), "no `{text}` in the log: {log}");
        log
    }

    pub(crate) async fn log(&self, id: &str) -> String {
        let request = pb::LogsRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let mut parts = self
            .client
            .clone()
            .logs(request)
            .await
            .unwrap()
            .into_inner();
        let mut log = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            assert_eq!(part.offset, log.len() as u64);
            log.extend_from_slice(&part.data);
        }
        String::from_utf8(log).unwrap()
    }
}

/// A step that runs a line of shell.
pub(crate) fn shell(line: &str) -> pb::WorkloadSpec {
    command(&["sh", "-c", line])
}

pub(crate) fn command(words: &[&str]) -> pb::WorkloadSpec {
    let program = step::step::Program::Command(step::Command {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        args: Vec::new(),
    });
    pb::WorkloadSpec {
        owner: "tests/one".to_owned(),
        step: Some(step::Step {
            program: Some(program),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn state(workload: &pb::Workload) -> pb::State {
    workload.state()
}
