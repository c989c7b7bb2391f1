//! The gRPC services of the gateway itself: health, reflection, and what Kubeflow asks a server about itself.

use api_kfp::v2beta1::auth_service_server::{AuthService, AuthServiceServer};
use api_kfp::v2beta1::healthz_service_server::{HealthzService, HealthzServiceServer};
use api_kfp::v2beta1::{AuthorizeRequest, GetHealthzResponse};
use rpc::{Services, Switchboard};
use runtime::{Host, Kind, Readiness};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::{BuildError, peers};

/// What the gateway says about pipelines to clients of Kubeflow: one user, a database.
pub(crate) const PIPELINE_STORE: &str = "database";

/// The descriptor sets of everything public.
pub(crate) const DESCRIPTORS: [&[u8]; 7] = [
    api_kfp::DESCRIPTOR,
    api_kfp1::DESCRIPTOR,
    api_pipelines::DESCRIPTOR,
    api_runner::DESCRIPTOR,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// Connects the gateway's own services.
pub(crate) fn register(
    host: &Host,
    switchboard: &Switchboard,
    reflection: bool,
) -> Result<(), BuildError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let readiness = host.readiness.clone();
    host.supervisor
        .spawn(Kind::HELPER, "gateway-health", move |_| {
            report_health(reporter.clone(), readiness.clone())
        });
    let mut services = Services::new("gateway")
        .add(HealthzServiceServer::new(Answers))
        .add(AuthServiceServer::new(Answers))
        .add(health);
    for descriptor in DESCRIPTORS {
        services = services.descriptor(descriptor);
    }
    if reflection {
        // Older tools know reflection by the name from before it was settled.
        services = services
            .add(reflected().build_v1()?)
            .add(reflected().build_v1alpha()?);
    }
    switchboard.register(services, &host.metrics);
    Ok(())
}

fn reflected() -> tonic_reflection::server::Builder<'static> {
    let mut builder = tonic_reflection::server::Builder::configure();
    for descriptor in DESCRIPTORS {
        builder = builder.register_encoded_file_descriptor_set(descriptor);
    }
    // The sets also hold services that others import, such as the runner's; only public ones are listed.
    for name in peers::public() {
        builder = builder.with_service_name(name);
    }
    builder
}

async fn report_health(reporter: HealthReporter, readiness: Readiness) {
    let mut ready = readiness.ready();
    loop {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        // The empty name stands for the whole server.
        for name in peers::public().chain([""]) {
            reporter.set_service_status(name, status).await;
        }
        ready = readiness.changed_from(ready).await;
    }
}

struct Answers;

#[tonic::async_trait]
impl HealthzService for Answers {
    async fn get_healthz(&self, _: Request<()>) -> Result<Response<GetHealthzResponse>, Status> {
        Ok(Response::new(GetHealthzResponse {
            multi_user: false,
            pipeline_store: PIPELINE_STORE.to_owned(),
        }))
    }
}

#[tonic::async_trait]
impl AuthService for Answers {
    /// Who gets here has presented the token, if there is one, and there is only one user.
    async fn authorize(&self, _: Request<AuthorizeRequest>) -> Result<Response<()>, Status> {
        Ok(Response::new(()))
    }
}
