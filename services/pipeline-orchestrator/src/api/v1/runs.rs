//! `RunService`.

use api_kfp1::v1beta1 as v1;
use ids::RunId;
use tonic::{Request, Response, Status};

use super::super::call::{answer, call, nothing};
use super::super::parse::id;
use super::{metrics, parse, render};
use crate::app::App;
use crate::domain::{RUN_FIELDS, RunsOf};
use crate::error::{Error, SERVICE};

const KIND: &str = "run";

/// The service over the use cases.
pub(super) struct Api {
    app: App,
}

impl Api {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }

    async fn create(&self, request: Request<v1::CreateRunRequest>) -> Result<v1::RunDetail, Error> {
        let call = call(&request, "CreateRunV1", render::created)?;
        // Large documents take a while, so they are not read where other calls wait.
        let request = request.into_inner();
        let parsed = tokio::task::spawn_blocking(move || parse::run(request)).await;
        let (new, faults) =
            parsed.map_err(|error| Error::Internal(format!("reading a run failed: {error}")))??;
        let reply = self.app.create_run(call, new, faults).await?;
        answer(reply, render::created)
    }

    async fn get(&self, text: &str) -> Result<v1::RunDetail, Error> {
        let id: RunId = id(KIND, "run_id", text)?;
        let mut details = self.app.get_run(id).await?;
        if details.spec.is_none() {
            details.spec = self.app.spec_of(&details.record).await?;
        }
        let metrics = self.app.run_metrics(vec![id]).await?;
        let metrics = metrics.into_values().flat_map(metrics::render);
        Ok(render::detail(&details, metrics.collect()))
    }

    async fn list(&self, request: v1::ListRunsRequest) -> Result<v1::ListRunsResponse, Error> {
        let of = parse::runs_of(request.resource_reference_key.clone())?;
        let parent = match &of {
            RunsOf::All => "experiment_id=".to_owned(),
            RunsOf::Experiment(id) => format!("experiment_id={id}"),
            RunsOf::Schedule(id) => format!("job_id={id}"),
        };
        let asked = parse::Page {
            size: request.page_size,
            token: &request.page_token,
            sort_by: &request.sort_by,
            filter: &request.filter,
        };
        let query = asked.query(&RUN_FIELDS, &parent)?;
        let page = self.app.list_runs(of, query).await?;
        let ids = page.items.iter().map(|details| details.record.run.id);
        let mut metrics = self.app.run_metrics(ids.collect()).await?;
        let runs = page.items.iter().map(|details| {
            let found = metrics.remove(&details.record.run.id).unwrap_or_default();
            render::run(details, metrics::render(found).collect())
        });
        Ok(v1::ListRunsResponse {
            runs: runs.collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn archive(&self, request: Request<v1::ArchiveRunRequest>) -> Result<(), Error> {
        let call = call(&request, "ArchiveRunV1", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.archive_run(call, id).await?, nothing)
    }

    async fn unarchive(&self, request: Request<v1::UnarchiveRunRequest>) -> Result<(), Error> {
        let call = call(&request, "UnarchiveRunV1", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.unarchive_run(call, id).await?, nothing)
    }

    async fn delete(&self, request: Request<v1::DeleteRunRequest>) -> Result<(), Error> {
        let call = call(&request, "DeleteRunV1", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.delete_run(call, id, false).await?, nothing)
    }

    async fn terminate(&self, request: Request<v1::TerminateRunRequest>) -> Result<(), Error> {
        let call = call(&request, "TerminateRunV1", nothing)?;
        let id = id(KIND, "run_id", &request.get_ref().run_id)?;
        let reason = format!("terminated by {}", rpc::context(&request).principal.name);
        answer(self.app.terminate_run(call, id, reason).await?, nothing)
    }

    async fn retry(&self, request: Request<v1::RetryRunRequest>) -> Result<(), Error> {
        let call = call(&request, "RetryRunV1", nothing)?;
        let id = id(KIND, "run_id", &request.get_ref().run_id)?;
        answer(self.app.retry_run(call, id).await?, nothing)
    }

    async fn report(
        &self,
        request: v1::ReportRunMetricsRequest,
    ) -> Result<v1::ReportRunMetricsResponse, Error> {
        let id: RunId = id(KIND, "run_id", &request.run_id)?;
        let (good, mut results) = metrics::parse(request.metrics)?;
        let new = self.app.report_metrics(id, good).await?;
        metrics::complete(&mut results, new);
        Ok(v1::ReportRunMetricsResponse { results })
    }
}

#[tonic::async_trait]
impl v1::run_service_server::RunService for Api {
    async fn create_run_v1(
        &self,
        request: Request<v1::CreateRunRequest>,
    ) -> Result<Response<v1::RunDetail>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_run_v1(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::RunDetail>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().run_id).await)
    }

    async fn list_runs_v1(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn archive_run_v1(
        &self,
        request: Request<v1::ArchiveRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.archive(request).await)
    }

    async fn unarchive_run_v1(
        &self,
        request: Request<v1::UnarchiveRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.unarchive(request).await)
    }

    async fn delete_run_v1(
        &self,
        request: Request<v1::DeleteRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }

    async fn report_run_metrics_v1(
        &self,
        request: Request<v1::ReportRunMetricsRequest>,
    ) -> Result<Response<v1::ReportRunMetricsResponse>, Status> {
        aip::unary(SERVICE, self.report(request.into_inner()).await)
    }

    async fn terminate_run_v1(
        &self,
        request: Request<v1::TerminateRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.terminate(request).await)
    }

    async fn retry_run_v1(
        &self,
        request: Request<v1::RetryRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.retry(request).await)
    }
}
