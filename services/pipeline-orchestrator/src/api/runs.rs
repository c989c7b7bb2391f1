//! `RunService`.

use api_kfp::v2beta1 as kfp;
use tonic::{Request, Response, Status};

use super::call::{answer, call, nothing};
use super::{parse, render};
use crate::app::App;
use crate::domain::{RUN_FIELDS, RunsOf};
use crate::error::{Error, SERVICE};

const KIND: &str = "run";
const FIELD: &str = "run_id";

/// The service over the use cases.
pub(super) struct Api {
    app: App,
}

impl Api {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }

    async fn create(&self, request: Request<kfp::CreateRunRequest>) -> Result<kfp::Run, Error> {
        let call = call(&request, "CreateRun", render::run)?;
        let cache = parse::cache(&request)?;
        let (mut new, faults) = parse::run(request.into_inner())?;
        new.cache = cache;
        answer(self.app.create_run(call, new, faults).await?, render::run)
    }

    async fn get(&self, id: &str) -> Result<kfp::Run, Error> {
        let id = parse::id(KIND, FIELD, id)?;
        Ok(render::run(&self.app.get_run(id).await?))
    }

    async fn list(&self, request: kfp::ListRunsRequest) -> Result<kfp::ListRunsResponse, Error> {
        let kfp::ListRunsRequest {
            namespace: _,
            experiment_id,
            page_token,
            page_size,
            sort_by,
            filter,
        } = request;
        let of = match experiment_id.as_str() {
            "" => RunsOf::All,
            text => RunsOf::Experiment(parse::id("experiment", "experiment_id", text)?),
        };
        let parent = format!("experiment_id={experiment_id}");
        let query = parse::query(
            &RUN_FIELDS,
            page_size,
            &page_token,
            &sort_by,
            &filter,
            &parent,
        )?;
        let page = self.app.list_runs(of, query).await?;
        Ok(kfp::ListRunsResponse {
            runs: page.items.iter().map(render::run).collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn archive(&self, request: Request<kfp::ArchiveRunRequest>) -> Result<(), Error> {
        let call = call(&request, "ArchiveRun", nothing)?;
        let id = parse::id(KIND, FIELD, &request.get_ref().run_id)?;
        answer(self.app.archive_run(call, id).await?, nothing)
    }

    async fn unarchive(&self, request: Request<kfp::UnarchiveRunRequest>) -> Result<(), Error> {
        let call = call(&request, "UnarchiveRun", nothing)?;
        let id = parse::id(KIND, FIELD, &request.get_ref().run_id)?;
        answer(self.app.unarchive_run(call, id).await?, nothing)
    }

    async fn delete(&self, request: Request<kfp::DeleteRunRequest>) -> Result<(), Error> {
        let call = call(&request, "DeleteRun", nothing)?;
        let id = parse::id(KIND, FIELD, &request.get_ref().run_id)?;
        answer(self.app.delete_run(call, id, false).await?, nothing)
    }

    async fn terminate(&self, request: Request<kfp::TerminateRunRequest>) -> Result<(), Error> {
        let call = call(&request, "TerminateRun", nothing)?;
        let id = parse::id(KIND, FIELD, &request.get_ref().run_id)?;
        let reason = format!("terminated by {}", rpc::context(&request).principal.name);
        answer(self.app.terminate_run(call, id, reason).await?, nothing)
    }

    async fn retry(&self, request: Request<kfp::RetryRunRequest>) -> Result<(), Error> {
        let call = call(&request, "RetryRun", nothing)?;
        let id = parse::id(KIND, FIELD, &request.get_ref().run_id)?;
        answer(self.app.retry_run(call, id).await?, nothing)
    }
}

#[tonic::async_trait]
impl kfp::run_service_server::RunService for Api {
    async fn create_run(
        &self,
        request: Request<kfp::CreateRunRequest>,
    ) -> Result<Response<kfp::Run>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_run(
        &self,
        request: Request<kfp::GetRunRequest>,
    ) -> Result<Response<kfp::Run>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().run_id).await)
    }

    async fn list_runs(
        &self,
        request: Request<kfp::ListRunsRequest>,
    ) -> Result<Response<kfp::ListRunsResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn archive_run(
        &self,
        request: Request<kfp::ArchiveRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.archive(request).await)
    }

    async fn unarchive_run(
        &self,
        request: Request<kfp::UnarchiveRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.unarchive(request).await)
    }

    async fn delete_run(
        &self,
        request: Request<kfp::DeleteRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }

    async fn terminate_run(
        &self,
        request: Request<kfp::TerminateRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.terminate(request).await)
    }

    async fn retry_run(
        &self,
        request: Request<kfp::RetryRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.retry(request).await)
    }
}
