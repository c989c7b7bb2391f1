//! `ExperimentService`.

use api_kfp::v2beta1 as kfp;
use tonic::{Request, Response, Status};

use super::call::{answer, call, nothing};
use super::{parse, render};
use crate::app::App;
use crate::domain::EXPERIMENT_FIELDS;
use crate::error::{Error, SERVICE};

/// The service over the use cases.
pub(super) struct Api {
    app: App,
}

impl Api {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }

    async fn create(
        &self,
        request: Request<kfp::CreateExperimentRequest>,
    ) -> Result<kfp::Experiment, Error> {
        let call = call(&request, "CreateExperiment", render::experiment)?;
        let (name, description) = parse::experiment(request.into_inner())?;
        let reply = self.app.create_experiment(call, name, description).await?;
        answer(reply, render::experiment)
    }

    async fn get(&self, id: &str) -> Result<kfp::Experiment, Error> {
        let id = parse::id("experiment", "experiment_id", id)?;
        Ok(render::experiment(&self.app.get_experiment(id).await?))
    }

    async fn list(
        &self,
        request: kfp::ListExperimentsRequest,
    ) -> Result<kfp::ListExperimentsResponse, Error> {
        let kfp::ListExperimentsRequest {
            page_token,
            page_size,
            sort_by,
            filter,
            namespace: _,
        } = request;
        let query = parse::query(
            &EXPERIMENT_FIELDS,
            page_size,
            &page_token,
            &sort_by,
            &filter,
            "",
        )?;
        let page = self.app.list_experiments(query).await?;
        Ok(kfp::ListExperimentsResponse {
            experiments: page.items.iter().map(render::experiment).collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn archive(&self, request: Request<kfp::ArchiveExperimentRequest>) -> Result<(), Error> {
        let call = call(&request, "ArchiveExperiment", nothing)?;
        let id = parse::id(
            "experiment",
            "experiment_id",
            &request.get_ref().experiment_id,
        )?;
        answer(self.app.archive_experiment(call, id).await?, nothing)
    }

    async fn unarchive(
        &self,
        request: Request<kfp::UnarchiveExperimentRequest>,
    ) -> Result<(), Error> {
        let call = call(&request, "UnarchiveExperiment", nothing)?;
        let id = parse::id(
            "experiment",
            "experiment_id",
            &request.get_ref().experiment_id,
        )?;
        answer(self.app.unarchive_experiment(call, id).await?, nothing)
    }

    async fn delete(&self, request: Request<kfp::DeleteExperimentRequest>) -> Result<(), Error> {
        let call = call(&request, "DeleteExperiment", nothing)?;
        let id = parse::id(
            "experiment",
            "experiment_id",
            &request.get_ref().experiment_id,
        )?;
        answer(self.app.delete_experiment(call, id).await?, nothing)
    }
}

#[tonic::async_trait]
impl kfp::experiment_service_server::ExperimentService for Api {
    async fn create_experiment(
        &self,
        request: Request<kfp::CreateExperimentRequest>,
    ) -> Result<Response<kfp::Experiment>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_experiment(
        &self,
        request: Request<kfp::GetExperimentRequest>,
    ) -> Result<Response<kfp::Experiment>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().experiment_id).await)
    }

    async fn list_experiments(
        &self,
        request: Request<kfp::ListExperimentsRequest>,
    ) -> Result<Response<kfp::ListExperimentsResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn archive_experiment(
        &self,
        request: Request<kfp::ArchiveExperimentRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.archive(request).await)
    }

    async fn unarchive_experiment(
        &self,
        request: Request<kfp::UnarchiveExperimentRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.unarchive(request).await)
    }

    async fn delete_experiment(
        &self,
        request: Request<kfp::DeleteExperimentRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }
}
