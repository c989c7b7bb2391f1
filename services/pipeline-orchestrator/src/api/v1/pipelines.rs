//! `PipelineService`.

use api_kfp1::v1beta1 as v1;
use ids::{PipelineId, PipelineVersionId};
use tonic::{Request, Response, Status};

use super::super::call::{answer, call, nothing};
use super::super::parse::id;
use super::{parse, render};
use crate::app::App;
use crate::domain::{PIPELINE_FIELDS, Pipeline, VERSION_FIELDS, Version};
use crate::error::{Error, SERVICE};

const PIPELINE: &str = "pipeline";
const VERSION: &str = "pipeline version";

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
        request: Request<v1::CreatePipelineRequest>,
    ) -> Result<v1::Pipeline, Error> {
        let call = call(&request, "CreatePipelineV1", render::bare_pipeline)?;
        let new = parse::pipeline(request.into_inner())?;
        let reply = self.app.create_pipeline(call, new).await?;
        answer(reply, render::bare_pipeline)
    }

    async fn get(&self, text: &str) -> Result<v1::Pipeline, Error> {
        let id = id(PIPELINE, "id", text)?;
        self.with_version(self.app.get_pipeline(id).await?).await
    }

    async fn get_by_name(&self, name: String) -> Result<v1::Pipeline, Error> {
        let pipeline = self.app.get_pipeline_by_name(name).await?;
        self.with_version(pipeline).await
    }

    async fn with_version(&self, pipeline: Pipeline) -> Result<v1::Pipeline, Error> {
        let latest = self.app.latest_version(pipeline.id).await?;
        Ok(render::pipeline(&pipeline, latest.as_ref()))
    }

    async fn list(
        &self,
        request: v1::ListPipelinesRequest,
    ) -> Result<v1::ListPipelinesResponse, Error> {
        let asked = parse::Page {
            size: request.page_size,
            token: &request.page_token,
            sort_by: &request.sort_by,
            filter: &request.filter,
        };
        let query = asked.query(&PIPELINE_FIELDS, "")?;
        let (page, latest) = self.app.list_pipelines_with_latest(query).await?;
        let pipelines = page
            .items
            .iter()
            .map(|pipeline| render::pipeline(pipeline, latest.get(&pipeline.id)));
        Ok(v1::ListPipelinesResponse {
            pipelines: pipelines.collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn delete(&self, request: Request<v1::DeletePipelineRequest>) -> Result<(), Error> {
        let call = call(&request, "DeletePipelineV1", nothing)?;
        let id = id(PIPELINE, "id", &request.get_ref().id)?;
        // In this contract a pipeline goes with its versions.
        answer(self.app.delete_pipeline(call, id, true).await?, nothing)
    }

    async fn template(&self, text: &str) -> Result<v1::GetTemplateResponse, Error> {
        let id: PipelineId = id(PIPELINE, "id", text)?;
        let pipeline = self.app.get_pipeline(id).await?;
        let latest = self.app.latest_version(pipeline.id).await?;
        latest
            .map(|version| v1::GetTemplateResponse {
                template: version.spec.body,
            })
            .ok_or_else(|| Error::not_found(VERSION, format!("of pipeline {id}")))
    }

    async fn version(&self, text: &str) -> Result<Version, Error> {
        let id: PipelineVersionId = id(VERSION, "version_id", text)?;
        self.app.find_version(id).await
    }

    async fn list_versions(
        &self,
        request: v1::ListPipelineVersionsRequest,
    ) -> Result<v1::ListPipelineVersionsResponse, Error> {
        let key = request.resource_key.clone().unwrap_or_default();
        if key.r#type() != v1::ResourceType::Pipeline {
            return Err(Error::field("resource_key.type", "must be PIPELINE"));
        }
        let pipeline = id(PIPELINE, "resource_key.id", &key.id)?;
        let asked = parse::Page {
            size: request.page_size,
            token: &request.page_token,
            sort_by: &request.sort_by,
            filter: &request.filter,
        };
        let query = asked.query(&VERSION_FIELDS, &format!("pipeline_id={pipeline}"))?;
        let page = self.app.list_versions(pipeline, query).await?;
        Ok(v1::ListPipelineVersionsResponse {
            versions: page.items.iter().map(render::version).collect(),
            next_page_token: page.next,
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
        })
    }

    async fn delete_version(
        &self,
        request: Request<v1::DeletePipelineVersionRequest>,
    ) -> Result<(), Error> {
        let call = call(&request, "DeletePipelineVersionV1", nothing)?;
        let version = self.version(&request.get_ref().version_id).await?;
        let reply = self
            .app
            .delete_version(call, version.pipeline_id, version.id)
            .await?;
        answer(reply, nothing)
    }

    /// The newest version is always the default one, so this can only agree.
    async fn choose(&self, request: v1::UpdatePipelineDefaultVersionRequest) -> Result<(), Error> {
        let pipeline: PipelineId = id(PIPELINE, "pipeline_id", &request.pipeline_id)?;
        let version: PipelineVersionId = id(VERSION, "version_id", &request.version_id)?;
        let version = self.app.get_version(pipeline, version).await?;
        match self.app.latest_version(pipeline).await? {
            Some(latest) if latest.id == version.id => Ok(()),
            _ => Err(Error::Precondition {
                reason: "NOT_NEWEST_VERSION",
                kind: VERSION,
                name: version.id.to_string(),
                message: "the newest version of a pipeline is always its default; name the version when you create a run"
                    .to_owned(),
            }),
        }
    }
}

#[tonic::async_trait]
impl v1::pipeline_service_server::PipelineService for Api {
    async fn create_pipeline_v1(
        &self,
        request: Request<v1::CreatePipelineRequest>,
    ) -> Result<Response<v1::Pipeline>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_pipeline_v1(
        &self,
        request: Request<v1::GetPipelineRequest>,
    ) -> Result<Response<v1::Pipeline>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().id).await)
    }

    async fn get_pipeline_by_name_v1(
        &self,
        request: Request<v1::GetPipelineByNameRequest>,
    ) -> Result<Response<v1::Pipeline>, Status> {
        aip::unary(SERVICE, self.get_by_name(request.into_inner().name).await)
    }

    async fn list_pipelines_v1(
        &self,
        request: Request<v1::ListPipelinesRequest>,
    ) -> Result<Response<v1::ListPipelinesResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn delete_pipeline_v1(
        &self,
        request: Request<v1::DeletePipelineRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }

    async fn get_template(
        &self,
        request: Request<v1::GetTemplateRequest>,
    ) -> Result<Response<v1::GetTemplateResponse>, Status> {
        aip::unary(SERVICE, self.template(&request.get_ref().id).await)
    }

    async fn create_pipeline_version_v1(
        &self,
        _request: Request<v1::CreatePipelineVersionRequest>,
    ) -> Result<Response<v1::PipelineVersion>, Status> {
        let refused = Error::field("version.package_url.pipeline_url", parse::NOT_FETCHED);
        aip::unary(SERVICE, Err(refused))
    }

    async fn get_pipeline_version_v1(
        &self,
        request: Request<v1::GetPipelineVersionRequest>,
    ) -> Result<Response<v1::PipelineVersion>, Status> {
        let found = self.version(&request.get_ref().version_id).await;
        aip::unary(SERVICE, found.map(|version| render::version(&version)))
    }

    async fn list_pipeline_versions_v1(
        &self,
        request: Request<v1::ListPipelineVersionsRequest>,
    ) -> Result<Response<v1::ListPipelineVersionsResponse>, Status> {
        aip::unary(SERVICE, self.list_versions(request.into_inner()).await)
    }

    async fn delete_pipeline_version_v1(
        &self,
        request: Request<v1::DeletePipelineVersionRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete_version(request).await)
    }

    async fn get_pipeline_version_template(
        &self,
        request: Request<v1::GetPipelineVersionTemplateRequest>,
    ) -> Result<Response<v1::GetTemplateResponse>, Status> {
        let found = self.version(&request.get_ref().version_id).await;
        let answer = found.map(|version| v1::GetTemplateResponse {
            template: version.spec.body,
        });
        aip::unary(SERVICE, answer)
    }

    async fn update_pipeline_default_version_v1(
        &self,
        request: Request<v1::UpdatePipelineDefaultVersionRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.choose(request.into_inner()).await)
    }
}
