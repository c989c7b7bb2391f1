//! A small orchestrator in memory: it keeps what is created and the text of every request.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use aip::{ApiError, Code};
use api_kfp::v2beta1 as kfp;
use api_pipelines::v1 as own;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

#[derive(Debug, thiserror::Error)]
pub(crate) enum FakeError {
    #[error("{0} does not exist")]
    Missing(String),
    #[error("{0} exists already")]
    Taken(String),
    #[error("not in this test")]
    Unimplemented,
    #[error("code {0:?}")]
    Given(Code),
    #[error("the stream broke")]
    Broken,
}

impl ApiError for FakeError {
    fn code(&self) -> Code {
        match self {
            Self::Missing(_) => Code::NotFound,
            Self::Taken(_) => Code::AlreadyExists,
            Self::Unimplemented => Code::Unimplemented,
            Self::Given(code) => *code,
            Self::Broken => Code::Aborted,
        }
    }

    fn reason(&self) -> &'static str {
        "FAKE"
    }
}

pub(crate) fn fail<T>(error: FakeError) -> Result<T, Status> {
    Err(aip::status("fake", &error))
}

pub(crate) struct Fake {
    pub(crate) requests: Mutex<Vec<String>>,
    pub(crate) metadata: Mutex<tonic::metadata::MetadataMap>,
    pub(crate) pipelines: Mutex<BTreeMap<String, kfp::Pipeline>>,
    pub(crate) versions: Mutex<Vec<kfp::PipelineVersion>>,
    pub(crate) runs: Mutex<BTreeMap<String, kfp::Run>>,
    /// Streams that are open.
    pub(crate) open: watch::Sender<usize>,
    /// Calls that were begun, also those that did not end.
    pub(crate) begun: watch::Sender<usize>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            requests: Mutex::default(),
            metadata: Mutex::default(),
            pipelines: Mutex::default(),
            versions: Mutex::default(),
            runs: Mutex::default(),
            open: watch::Sender::new(0),
            begun: watch::Sender::new(0),
        }
    }
}

impl Fake {
    fn note<T: std::fmt::Debug>(&self, request: Request<T>) -> T {
        *self.metadata.lock().unwrap() = request.metadata().clone();
        let message = request.into_inner();
        let text = format!("{message:?}");
        if text.len() < 100_000 {
            self.requests.lock().unwrap().push(text);
        }
        self.begun.send_modify(|count| *count += 1);
        message
    }

    pub(crate) fn last_request(&self) -> String {
        self.requests
            .lock()
            .unwrap()
            .last()
            .cloned()
            .unwrap_or_default()
    }
}

/// A test-only peer: the server shared by all fake services.
pub(crate) struct Shared(pub(crate) std::sync::Arc<Fake>);

impl std::ops::Deref for Shared {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.0
    }
}

#[tonic::async_trait]
impl kfp::pipeline_service_server::PipelineService for Shared {
    async fn create_pipeline(
        &self,
        request: Request<kfp::CreatePipelineRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        let pipeline = self.note(request).pipeline.unwrap_or_default();
        Ok(Response::new(self.keep(pipeline)?))
    }

    async fn get_pipeline(
        &self,
        request: Request<kfp::GetPipelineRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        let id = self.note(request).pipeline_id;
        match self.pipelines.lock().unwrap().get(&id) {
            Some(pipeline) => Ok(Response::new(pipeline.clone())),
            None => fail(FakeError::Missing(format!("pipeline {id}"))),
        }
    }

    async fn get_pipeline_by_name(
        &self,
        request: Request<kfp::GetPipelineByNameRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        let name = self.note(request).name;
        let pipelines = self.pipelines.lock().unwrap();
        match pipelines.values().find(|pipeline| pipeline.name == name) {
            Some(pipeline) => Ok(Response::new(pipeline.clone())),
            None => fail(FakeError::Missing(format!("pipeline {name}"))),
        }
    }

    async fn list_pipelines(
        &self,
        request: Request<kfp::ListPipelinesRequest>,
    ) -> Result<Response<kfp::ListPipelinesResponse>, Status> {
        self.note(request);
        let pipelines: Vec<_> = self.pipelines.lock().unwrap().values().cloned().collect();
        Ok(Response::new(kfp::ListPipelinesResponse {
            total_size: pipelines.len() as i32,
            pipelines,
            ..Default::default()
        }))
    }

    async fn delete_pipeline(
        &self,
        request: Request<kfp::DeletePipelineRequest>,
    ) -> Result<Response<()>, Status> {
        let id = self.note(request).pipeline_id;
        self.pipelines.lock().unwrap().remove(&id);
        Ok(Response::new(()))
    }

    async fn create_pipeline_and_version(
        &self,
        request: Request<kfp::CreatePipelineAndVersionRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        let request = self.note(request);
        let pipeline = self.keep(request.pipeline.unwrap_or_default())?;
        let mut version = request.pipeline_version.unwrap_or_default();
        version.pipeline_id.clone_from(&pipeline.pipeline_id);
        self.versions.lock().unwrap().push(version);
        Ok(Response::new(pipeline))
    }

    async fn create_pipeline_version(
        &self,
        request: Request<kfp::CreatePipelineVersionRequest>,
    ) -> Result<Response<kfp::PipelineVersion>, Status> {
        let mut version = self.note(request).pipeline_version.unwrap_or_default();
        version.pipeline_version_id = "v2".to_owned();
        self.versions.lock().unwrap().push(version.clone());
        Ok(Response::new(version))
    }

    async fn get_pipeline_version(
        &self,
        request: Request<kfp::GetPipelineVersionRequest>,
    ) -> Result<Response<kfp::PipelineVersion>, Status> {
        self.note(request);
        fail(FakeError::Unimplemented)
    }

    async fn list_pipeline_versions(
        &self,
        request: Request<kfp::ListPipelineVersionsRequest>,
    ) -> Result<Response<kfp::ListPipelineVersionsResponse>, Status> {
        self.note(request);
        Ok(Response::new(kfp::ListPipelineVersionsResponse::default()))
    }

    async fn delete_pipeline_version(
        &self,
        request: Request<kfp::DeletePipelineVersionRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(request);
        Ok(Response::new(()))
    }

    async fn update_pipeline(
        &self,
        request: Request<kfp::UpdatePipelineRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        Ok(Response::new(
            self.note(request).pipeline.unwrap_or_default(),
        ))
    }

    async fn update_pipeline_version(
        &self,
        request: Request<kfp::UpdatePipelineVersionRequest>,
    ) -> Result<Response<kfp::PipelineVersion>, Status> {
        let version = self.note(request).pipeline_version.unwrap_or_default();
        Ok(Response::new(version))
    }
}

impl Fake {
    fn keep(&self, mut pipeline: kfp::Pipeline) -> Result<kfp::Pipeline, Status> {
        let mut pipelines = self.pipelines.lock().unwrap();
        if pipelines.values().any(|other| other.name == pipeline.name) {
            return fail(FakeError::Taken(format!("pipeline {}", pipeline.name)));
        }
        pipeline.pipeline_id = format!("p{}", pipelines.len() + 1);
        pipelines.insert(pipeline.pipeline_id.clone(), pipeline.clone());
        Ok(pipeline)
    }
}

#[tonic::async_trait]
impl kfp::run_service_server::RunService for Shared {
    async fn create_run(
        &self,
        request: Request<kfp::CreateRunRequest>,
    ) -> Result<Response<kfp::Run>, Status> {
        let mut run = self.note(request).run.unwrap_or_default();
        run.run_id = "r1".to_owned();
        run.created_at = Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 500_000_000,
        });
        run.state = kfp::RuntimeState::Pending.into();
        self.runs
            .lock()
            .unwrap()
            .insert(run.run_id.clone(), run.clone());
        Ok(Response::new(run))
    }

    async fn get_run(
        &self,
        request: Request<kfp::GetRunRequest>,
    ) -> Result<Response<kfp::Run>, Status> {
        let id = self.note(request).run_id;
        if let Some(code) = id.strip_prefix("code-") {
            return fail(FakeError::Given(Code::from(code.parse::<i32>().unwrap())));
        }
        if id == "hang" {
            std::future::pending::<()>().await;
        }
        match self.runs.lock().unwrap().get(&id) {
            Some(run) => Ok(Response::new(run.clone())),
            None => fail(FakeError::Missing(format!("run {id}"))),
        }
    }

    async fn list_runs(
        &self,
        request: Request<kfp::ListRunsRequest>,
    ) -> Result<Response<kfp::ListRunsResponse>, Status> {
        self.note(request);
        let runs: Vec<_> = self.runs.lock().unwrap().values().cloned().collect();
        Ok(Response::new(kfp::ListRunsResponse {
            total_size: runs.len() as i32,
            runs,
            ..Default::default()
        }))
    }

    async fn archive_run(
        &self,
        request: Request<kfp::ArchiveRunRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(request);
        Ok(Response::new(()))
    }

    async fn unarchive_run(
        &self,
        request: Request<kfp::UnarchiveRunRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(request);
        Ok(Response::new(()))
    }

    async fn delete_run(
        &self,
        request: Request<kfp::DeleteRunRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(request);
        Ok(Response::new(()))
    }

    async fn terminate_run(
        &self,
        request: Request<kfp::TerminateRunRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(request);
        Ok(Response::new(()))
    }

    async fn retry_run(
        &self,
        request: Request<kfp::RetryRunRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(request);
        fail(FakeError::Unimplemented)
    }
}

type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Counts a stream as open until it is dropped.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn guarded<T: Send + 'static>(
    open: Open,
    items: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Response<Items<T>> {
    Response::new(Box::pin(items.map(move |item| {
        let _ = &open;
        item
    })))
}

#[tonic::async_trait]
impl own::run_service_server::RunService for Shared {
    async fn get_run(
        &self,
        request: Request<own::GetRunRequest>,
    ) -> Result<Response<own::Run>, Status> {
        let id = self.note(request).run_id;
        fail(FakeError::Missing(format!("run {id}")))
    }

    async fn clone_run(
        &self,
        request: Request<own::CloneRunRequest>,
    ) -> Result<Response<own::Run>, Status> {
        let id = self.note(request).run_id;
        fail(FakeError::Missing(format!("run {id}")))
    }

    type WatchRunStream = Items<own::WatchRunResponse>;

    async fn watch_run(
        &self,
        request: Request<own::WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let id = self.note(request).run_id;
        let state = |version| {
            Ok(own::WatchRunResponse {
                run: Some(own::Run {
                    run_id: "r1".to_owned(),
                    version,
                    state: own::State::Running.into(),
                    ..Default::default()
                }),
                tasks: Vec::new(),
            })
        };
        let items = futures_util::stream::iter([state(1), state(2)]);
        let end: Items<_> = match id.as_str() {
            "r1" => Box::pin(futures_util::stream::empty()),
            "broken" => Box::pin(futures_util::stream::iter([fail(FakeError::Broken)])),
            "endless" => Box::pin(futures_util::stream::pending()),
            _ => return fail(FakeError::Missing(format!("run {id}"))),
        };
        Ok(guarded(Open::new(&self.open), items.chain(end)))
    }

    async fn list_tasks(
        &self,
        request: Request<own::ListTasksRequest>,
    ) -> Result<Response<own::ListTasksResponse>, Status> {
        self.note(request);
        Ok(Response::new(own::ListTasksResponse::default()))
    }

    async fn get_task(
        &self,
        request: Request<own::GetTaskRequest>,
    ) -> Result<Response<own::Task>, Status> {
        let request = self.note(request);
        let ids = own::ArtifactIds { ids: vec![7] };
        Ok(Response::new(own::Task {
            task_id: "12".to_owned(),
            run_id: request.run_id,
            name: request.task,
            output_artifacts: [("model".to_owned(), ids)].into(),
            ..Default::default()
        }))
    }

    async fn delete_run(
        &self,
        request: Request<own::DeleteRunRequest>,
    ) -> Result<Response<()>, Status> {
        self.note(request);
        Ok(Response::new(()))
    }

    type ReadLogsStream = Items<own::ReadLogsResponse>;

    async fn read_logs(
        &self,
        request: Request<own::ReadLogsRequest>,
    ) -> Result<Response<Self::ReadLogsStream>, Status> {
        let request = self.note(request);
        if request.task == "missing" {
            return fail(FakeError::Missing("task missing".to_owned()));
        }
        let part = |data: &str| {
            Ok(own::ReadLogsResponse {
                data: bytes::Bytes::copy_from_slice(data.as_bytes()),
                ..Default::default()
            })
        };
        let items = futures_util::stream::iter([part("one\n"), part(""), part("zwö\n")]);
        let end: Items<_> = match (request.follow, request.task.as_str()) {
            (true, _) => Box::pin(futures_util::stream::pending()),
            (_, "broken") => Box::pin(futures_util::stream::iter([fail(FakeError::Broken)])),
            _ => Box::pin(futures_util::stream::empty()),
        };
        Ok(guarded(Open::new(&self.open), items.chain(end)))
    }

    async fn get_replay(
        &self,
        request: Request<own::GetReplayRequest>,
    ) -> Result<Response<own::GetReplayResponse>, Status> {
        self.note(request);
        fail(FakeError::Unimplemented)
    }
}

#[tonic::async_trait]
impl own::artifact_service_server::ArtifactService for Shared {
    async fn list_artifacts(
        &self,
        request: Request<own::ListArtifactsRequest>,
    ) -> Result<Response<own::ListArtifactsResponse>, Status> {
        self.note(request);
        Ok(Response::new(own::ListArtifactsResponse::default()))
    }

    async fn get_artifact(
        &self,
        request: Request<own::GetArtifactRequest>,
    ) -> Result<Response<own::Artifact>, Status> {
        let id = self.note(request).artifact_id;
        if id != 7 {
            return fail(FakeError::Missing(format!("artifact {id}")));
        }
        Ok(Response::new(own::Artifact {
            artifact_id: id,
            name: "page.html".to_owned(),
            ..Default::default()
        }))
    }

    async fn list_artifact_files(
        &self,
        request: Request<own::ListArtifactFilesRequest>,
    ) -> Result<Response<own::ListArtifactFilesResponse>, Status> {
        self.note(request);
        Ok(Response::new(own::ListArtifactFilesResponse::default()))
    }

    type ReadArtifactStream = Items<own::ReadArtifactResponse>;

    async fn read_artifact(
        &self,
        request: Request<own::ReadArtifactRequest>,
    ) -> Result<Response<Self::ReadArtifactStream>, Status> {
        let request = self.note(request);
        if request.path == "missing" {
            return fail(FakeError::Missing("file missing".to_owned()));
        }
        let content = b"<script>alert(1)</script>";
        let parts: Vec<_> = content
            .chunks(7)
            .map(|chunk| {
                Ok(own::ReadArtifactResponse {
                    data: bytes::Bytes::copy_from_slice(chunk),
                    total_bytes: content.len() as u64,
                })
            })
            .collect();
        let items = futures_util::stream::iter(parts);
        Ok(guarded(Open::new(&self.open), items))
    }
}

/// Waits until no stream is open.
pub(crate) async fn all_closed(fake: &Fake) {
    let mut open = fake.open.subscribe();
    let wait = open.wait_for(|count| *count == 0);
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("a stream stays open")
        .unwrap();
}
