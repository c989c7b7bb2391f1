//! The gRPC services: parse, call the use case, render.

mod call;
mod experiments;
pub(crate) mod flumina;
mod other;
mod parse;
mod pipelines;
mod recurring;
mod render;
mod runs;
pub(crate) mod v1;
mod value;

use api_kfp::v2beta1 as kfp;
use rpc::{MAX_MESSAGE_BYTES, Services};

use crate::app::App;

/// Adds the services of the adopted contract.
pub(crate) fn add_kfp(services: Services, app: &App) -> Services {
    use kfp::auth_service_server::AuthServiceServer;
    use kfp::experiment_service_server::ExperimentServiceServer;
    use kfp::healthz_service_server::HealthzServiceServer;
    use kfp::pipeline_service_server::PipelineServiceServer;
    use kfp::recurring_run_service_server::RecurringRunServiceServer;
    use kfp::run_service_server::RunServiceServer;

    let pipelines = PipelineServiceServer::new(pipelines::Api::new(app.clone()));
    let experiments = ExperimentServiceServer::new(experiments::Api::new(app.clone()));
    let runs = RunServiceServer::new(runs::Api::new(app.clone()));
    let recurring = RecurringRunServiceServer::new(recurring::Api::new(app.clone()));
    services
        .descriptor(api_kfp::DESCRIPTOR)
        .add(limits(
            pipelines,
            PipelineServiceServer::max_decoding_message_size,
        ))
        .add(limits(
            experiments,
            ExperimentServiceServer::max_decoding_message_size,
        ))
        .add(limits(runs, RunServiceServer::max_decoding_message_size))
        .add(limits(
            recurring,
            RecurringRunServiceServer::max_decoding_message_size,
        ))
        .add(HealthzServiceServer::new(other::Health))
        .add(AuthServiceServer::new(other::Auth))
}

/// Generated servers take 4 MiB unless told otherwise.
fn limits<S>(server: S, set: fn(S, usize) -> S) -> S {
    set(server, MAX_MESSAGE_BYTES)
}
