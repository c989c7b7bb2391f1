//! `ExperimentService`.

use api_kfp1::v1beta1 as v1;
use tonic::{Request, Response, Status};

use super::super::call::{answer, call, nothing};
use super::super::parse::id;
use super::{parse, render};
use crate::app::App;
use crate::domain::EXPERIMENT_FIELDS;
use crate::error::{Error, SERVICE};

const KIND: &str = "experiment";

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
        request: Request<v1::CreateExperimentRequest>,
    ) -> Result<v1::Experiment, Error> {
        let call = call(&request, "CreateExperimentV1", render::experiment)?;
        let (name, description) = parse::experiment(request.into_inner())?;
        let reply = self.app.create_experiment(call, name, description).await?;
        answer(reply, render::experiment)
    }

    async fn get(&self, text: &str) -> Result<v1::Experiment, Error> {
        let id = id(KIND, "id", text)?;
        Ok(render::experiment(&self.app.get_experiment(id).await?))
    }

    async fn list(
        &self,
        request: v1::ListExperimentsRequest,
    ) -> Result<v1::ListExperimentsResponse, Error> {
        let asked = parse::Page {
            size: request.page_size,
            token: &request.page_token,
            sort_by: &request.sort_by,
            filter: &request.filter,
        };
        let page = self
            .app
            .list_experiments(asked.query(&EXPERIMENT_FIELDS, "")?)
            .await?;
        Ok(v1::ListExperimentsResponse {
            experiments: page.items.iter().map(render::experiment).collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn delete(&self, request: Request<v1::DeleteExperimentRequest>) -> Result<(), Error> {
        let call = call(&request, "DeleteExperimentV1", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.delete_experiment(call, id).await?, nothing)
    }

    async fn archive(&self, request: Request<v1::ArchiveExperimentRequest>) -> Result<(), Error> {
        let call = call(&request, "ArchiveExperimentV1", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.archive_experiment(call, id).await?, nothing)
    }

    async fn unarchive(
        &self,
        request: Request<v1::UnarchiveExperimentRequest>,
    ) -> Result<(), Error> {
        let call = call(&request, "UnarchiveExperimentV1", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.unarchive_experiment(call, id).await?, nothing)
    }
}

#[tonic::async_trait]
impl v1::experiment_service_server::ExperimentService for Api {
    async fn create_experiment_v1(
        &self,
        request: Request<v1::CreateExperimentRequest>,
    ) -> Result<Response<v1::Experiment>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_experiment_v1(
        &self,
        request: Request<v1::GetExperimentRequest>,
    ) -> Result<Response<v1::Experiment>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().id).await)
    }

    async fn list_experiments_v1(
        &self,
        request: Request<v1::ListExperimentsRequest>,
    ) -> Result<Response<v1::ListExperimentsResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn delete_experiment_v1(
        &self,
        request: Request<v1::DeleteExperimentRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }

    async fn archive_experiment_v1(
        &self,
        request: Request<v1::ArchiveExperimentRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.archive(request).await)
    }

    async fn unarchive_experiment_v1(
        &self,
        request: Request<v1::UnarchiveExperimentRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.unarchive(request).await)
    }
}
