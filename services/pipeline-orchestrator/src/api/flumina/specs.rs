//! `flumina.pipelines.v1.SpecService`.

use api_pipelines::v1 as own;
use api_pipelines::v1::spec_service_server::SpecService;
use pipeline_spec::{Fault, Source};
use tonic::{Request, Response, Status};

use super::Flumina;
use crate::app::features;

#[tonic::async_trait]
impl SpecService for Flumina {
    async fn validate_spec(
        &self,
        request: Request<own::ValidateSpecRequest>,
    ) -> Result<Response<own::ValidateSpecResponse>, Status> {
        let document = request.into_inner().document;
        let faults = faults(&document)
            .into_iter()
            .map(|fault| own::SpecFault {
                field: fault.field,
                message: fault.message,
            })
            .collect();
        Ok(Response::new(own::ValidateSpecResponse { faults }))
    }
}

fn faults(document: &str) -> Vec<Fault> {
    let source = match Source::parse(document.as_bytes()) {
        Ok(source) => source,
        Err(error) => return vec![Fault::new("document", error.to_string())],
    };
    match source.plan() {
        Err(faults) => faults,
        Ok(plan) => pipeline_spec::unsupported(&plan, &features()),
    }
}
