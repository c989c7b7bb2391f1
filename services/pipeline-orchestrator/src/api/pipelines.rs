//! `PipelineService`.

use api_kfp::v2beta1 as kfp;
use ids::PipelineId;
use tonic::{Request, Response, Status};

use super::call::{answer, call, nothing};
use super::{parse, render};
use crate::app::App;
use crate::domain::{PIPELINE_FIELDS, VERSION_FIELDS};
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
        request: Request<kfp::CreatePipelineRequest>,
    ) -> Result<kfp::Pipeline, Error> {
        let call = call(&request, "CreatePipeline", render::pipeline)?;
        let new = parse::pipeline(request.into_inner())?;
        answer(self.app.create_pipeline(call, new).await?, render::pipeline)
    }

    async fn create_both(
        &self,
        request: Request<kfp::CreatePipelineAndVersionRequest>,
    ) -> Result<kfp::Pipeline, Error> {
        let call = call(&request, "CreatePipelineAndVersion", render::pipeline)?;
        let (new, version) = parse::pipeline_and_version(request.into_inner())?;
        let reply = self
            .app
            .create_pipeline_and_version(call, new, version)
            .await?;
        answer(reply, render::pipeline)
    }

    async fn get(&self, id: &str) -> Result<kfp::Pipeline, Error> {
        let id = parse::id(PIPELINE, "pipeline_id", id)?;
        Ok(render::pipeline(&self.app.get_pipeline(id).await?))
    }

    async fn get_by_name(&self, name: String) -> Result<kfp::Pipeline, Error> {
        if name.is_empty() {
            return Err(Error::field("name", "must not be empty"));
        }
        if name.contains('\0') {
            return Err(Error::not_found(PIPELINE, name));
        }
        Ok(render::pipeline(
            &self.app.get_pipeline_by_name(name).await?,
        ))
    }

    async fn list(
        &self,
        request: kfp::ListPipelinesRequest,
    ) -> Result<kfp::ListPipelinesResponse, Error> {
        let kfp::ListPipelinesRequest {
            namespace: _,
            page_token,
            page_size,
            sort_by,
            filter,
        } = request;
        let query = parse::query(
            &PIPELINE_FIELDS,
            page_size,
            &page_token,
            &sort_by,
            &filter,
            "",
        )?;
        let page = self.app.list_pipelines(query).await?;
        Ok(kfp::ListPipelinesResponse {
            pipelines: page.items.iter().map(render::pipeline).collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn update(
        &self,
        request: Request<kfp::UpdatePipelineRequest>,
    ) -> Result<kfp::Pipeline, Error> {
        let call = call(&request, "UpdatePipeline", render::pipeline)?;
        let (name, tags) = parse::pipeline_update(&request)?;
        let pipeline = request.into_inner().pipeline.unwrap_or_default();
        let id = parse::id(PIPELINE, "pipeline.pipeline_id", &pipeline.pipeline_id)?;
        answer(
            self.app.update_pipeline(call, id, name, tags).await?,
            render::pipeline,
        )
    }

    async fn delete(&self, request: Request<kfp::DeletePipelineRequest>) -> Result<(), Error> {
        let call = call(&request, "DeletePipeline", nothing)?;
        let request = request.into_inner();
        let id = parse::id(PIPELINE, "pipeline_id", &request.pipeline_id)?;
        answer(
            self.app.delete_pipeline(call, id, request.cascade).await?,
            nothing,
        )
    }

    async fn create_version(
        &self,
        request: Request<kfp::CreatePipelineVersionRequest>,
    ) -> Result<kfp::PipelineVersion, Error> {
        let call = call(&request, "CreatePipelineVersion", render::version)?;
        let mut request = request.into_inner();
        if request.pipeline_id.is_empty()
            && let Some(version) = &request.pipeline_version
        {
            request.pipeline_id.clone_from(&version.pipeline_id);
        }
        let pipeline = parse::id(PIPELINE, "pipeline_id", &request.pipeline_id)?;
        let new = parse::version(request)?;
        answer(
            self.app.create_version(call, pipeline, new).await?,
            render::version,
        )
    }

    async fn get_version(
        &self,
        request: &kfp::GetPipelineVersionRequest,
    ) -> Result<kfp::PipelineVersion, Error> {
        let pipeline = parse::id(PIPELINE, "pipeline_id", &request.pipeline_id)?;
        let id = parse::id(VERSION, "pipeline_version_id", &request.pipeline_version_id)?;
        Ok(render::version(&self.app.get_version(pipeline, id).await?))
    }

    async fn list_versions(
        &self,
        request: kfp::ListPipelineVersionsRequest,
    ) -> Result<kfp::ListPipelineVersionsResponse, Error> {
        let kfp::ListPipelineVersionsRequest {
            pipeline_id,
            page_token,
            page_size,
            sort_by,
            filter,
        } = request;
        let pipeline: PipelineId = parse::id(PIPELINE, "pipeline_id", &pipeline_id)?;
        let parent = format!("pipeline_id={pipeline}");
        let query = parse::query(
            &VERSION_FIELDS,
            page_size,
            &page_token,
            &sort_by,
            &filter,
            &parent,
        )?;
        let page = self.app.list_versions(pipeline, query).await?;
        Ok(kfp::ListPipelineVersionsResponse {
            pipeline_versions: page.items.iter().map(render::version).collect(),
            next_page_token: page.next,
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
        })
    }

    async fn update_version(
        &self,
        request: Request<kfp::UpdatePipelineVersionRequest>,
    ) -> Result<kfp::PipelineVersion, Error> {
        let call = call(&request, "UpdatePipelineVersion", render::version)?;
        let (name, tags) = parse::version_update(&request)?;
        let version = request.into_inner().pipeline_version.unwrap_or_default();
        let pipeline = parse::id(
            PIPELINE,
            "pipeline_version.pipeline_id",
            &version.pipeline_id,
        )?;
        let field = "pipeline_version.pipeline_version_id";
        let id = parse::id(VERSION, field, &version.pipeline_version_id)?;
        let reply = self
            .app
            .update_version(call, pipeline, id, name, tags)
            .await?;
        answer(reply, render::version)
    }

    async fn delete_version(
        &self,
        request: Request<kfp::DeletePipelineVersionRequest>,
    ) -> Result<(), Error> {
        let call = call(&request, "DeletePipelineVersion", nothing)?;
        let request = request.into_inner();
        let pipeline = parse::id(PIPELINE, "pipeline_id", &request.pipeline_id)?;
        let id = parse::id(VERSION, "pipeline_version_id", &request.pipeline_version_id)?;
        answer(self.app.delete_version(call, pipeline, id).await?, nothing)
    }
}

#[tonic::async_trait]
impl kfp::pipeline_service_server::PipelineService for Api {
    async fn create_pipeline(
        &self,
        request: Request<kfp::CreatePipelineRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_pipeline(
        &self,
        request: Request<kfp::GetPipelineRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().pipeline_id).await)
    }

    async fn get_pipeline_by_name(
        &self,
        request: Request<kfp::GetPipelineByNameRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        aip::unary(SERVICE, self.get_by_name(request.into_inner().name).await)
    }

    async fn list_pipelines(
        &self,
        request: Request<kfp::ListPipelinesRequest>,
    ) -> Result<Response<kfp::ListPipelinesResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn delete_pipeline(
        &self,
        request: Request<kfp::DeletePipelineRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }

    async fn create_pipeline_and_version(
        &self,
        request: Request<kfp::CreatePipelineAndVersionRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        aip::unary(SERVICE, self.create_both(request).await)
    }

    async fn create_pipeline_version(
        &self,
        request: Request<kfp::CreatePipelineVersionRequest>,
    ) -> Result<Response<kfp::PipelineVersion>, Status> {
        aip::unary(SERVICE, self.create_version(request).await)
    }

    async fn get_pipeline_version(
        &self,
        request: Request<kfp::GetPipelineVersionRequest>,
    ) -> Result<Response<kfp::PipelineVersion>, Status> {
        aip::unary(SERVICE, self.get_version(request.get_ref()).await)
    }

    async fn list_pipeline_versions(
        &self,
        request: Request<kfp::ListPipelineVersionsRequest>,
    ) -> Result<Response<kfp::ListPipelineVersionsResponse>, Status> {
        aip::unary(SERVICE, self.list_versions(request.into_inner()).await)
    }

    async fn delete_pipeline_version(
        &self,
        request: Request<kfp::DeletePipelineVersionRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete_version(request).await)
    }

    async fn update_pipeline(
        &self,
        request: Request<kfp::UpdatePipelineRequest>,
    ) -> Result<Response<kfp::Pipeline>, Status> {
        aip::unary(SERVICE, self.update(request).await)
    }

    async fn update_pipeline_version(
        &self,
        request: Request<kfp::UpdatePipelineVersionRequest>,
    ) -> Result<Response<kfp::PipelineVersion>, Status> {
        aip::unary(SERVICE, self.update_version(request).await)
    }
}
