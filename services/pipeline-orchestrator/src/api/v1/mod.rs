//! The contract of kfp 1.8, over the same use cases as its successor: both see the same objects.

mod experiments;
mod jobs;
mod metrics;
mod parse;
mod pipelines;
mod render;
mod runs;
mod workflow;

use api_kfp1::v1beta1 as v1;
use rpc::{MAX_MESSAGE_BYTES, Services};
use tonic::{Request, Response, Status};

use super::call::Mutation;
use crate::app::App;

/// Adds the services of the contract.
pub(crate) fn add(services: Services, app: &App) -> Services {
    use v1::auth_service_server::AuthServiceServer;
    use v1::experiment_service_server::ExperimentServiceServer;
    use v1::job_service_server::JobServiceServer;
    use v1::pipeline_service_server::PipelineServiceServer;
    use v1::run_service_server::RunServiceServer;

    let runs = RunServiceServer::new(runs::Api::new(app.clone()));
    services
        .descriptor(api_kfp1::DESCRIPTOR)
        .add(ExperimentServiceServer::new(experiments::Api::new(
            app.clone(),
        )))
        .add(PipelineServiceServer::new(pipelines::Api::new(app.clone())))
        .add(runs.max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add(
            JobServiceServer::new(jobs::Api::new(app.clone()))
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
        )
        .add(AuthServiceServer::new(Auth))
}

/// Whoever reaches this service may do everything: it has one user.
struct Auth;

#[tonic::async_trait]
impl v1::auth_service_server::AuthService for Auth {
    async fn authorize_v1(
        &self,
        _request: Request<v1::AuthorizeRequest>,
    ) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }
}

/// The parameters of a specification in a fixed order.
fn parameters(spec: Option<&mut v1::PipelineSpec>) -> Vec<u8> {
    let config = spec.and_then(|spec| spec.runtime_config.as_mut());
    config.map_or_else(Vec::new, |config| {
        super::call::sorted(&mut config.parameters, |value| {
            prost::Message::encode_to_vec(&value)
        })
    })
}

impl Mutation for v1::CreateRunRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        parameters(self.run.as_mut().and_then(|run| run.pipeline_spec.as_mut()))
    }
}

impl Mutation for v1::CreateJobRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        parameters(self.job.as_mut().and_then(|job| job.pipeline_spec.as_mut()))
    }
}

impl Mutation for v1::EnableJobRequest {}
impl Mutation for v1::DisableJobRequest {}
impl Mutation for v1::DeleteJobRequest {}

impl Mutation for v1::CreateExperimentRequest {}
impl Mutation for v1::DeleteExperimentRequest {}
impl Mutation for v1::ArchiveExperimentRequest {}
impl Mutation for v1::UnarchiveExperimentRequest {}
impl Mutation for v1::CreatePipelineRequest {}
impl Mutation for v1::DeletePipelineRequest {}
impl Mutation for v1::DeletePipelineVersionRequest {}
impl Mutation for v1::ArchiveRunRequest {}
impl Mutation for v1::UnarchiveRunRequest {}
impl Mutation for v1::DeleteRunRequest {}
impl Mutation for v1::TerminateRunRequest {}
impl Mutation for v1::RetryRunRequest {}
