//! Schedules: declared, and not served yet.

use api_kfp::v2beta1 as kfp;
use tonic::{Request, Response, Status};

use crate::error::{Error, SERVICE};

/// Answers that there are no schedules yet.
pub(super) struct Api;

fn unimplemented<T>() -> Result<Response<T>, Status> {
    aip::unary(SERVICE, Err(Error::Unimplemented("RecurringRunService")))
}

#[tonic::async_trait]
impl kfp::recurring_run_service_server::RecurringRunService for Api {
    async fn create_recurring_run(
        &self,
        _request: Request<kfp::CreateRecurringRunRequest>,
    ) -> Result<Response<kfp::RecurringRun>, Status> {
        unimplemented()
    }

    async fn get_recurring_run(
        &self,
        _request: Request<kfp::GetRecurringRunRequest>,
    ) -> Result<Response<kfp::RecurringRun>, Status> {
        unimplemented()
    }

    async fn list_recurring_runs(
        &self,
        _request: Request<kfp::ListRecurringRunsRequest>,
    ) -> Result<Response<kfp::ListRecurringRunsResponse>, Status> {
        unimplemented()
    }

    async fn enable_recurring_run(
        &self,
        _request: Request<kfp::EnableRecurringRunRequest>,
    ) -> Result<Response<()>, Status> {
        unimplemented()
    }

    async fn disable_recurring_run(
        &self,
        _request: Request<kfp::DisableRecurringRunRequest>,
    ) -> Result<Response<()>, Status> {
        unimplemented()
    }

    async fn delete_recurring_run(
        &self,
        _request: Request<kfp::DeleteRecurringRunRequest>,
    ) -> Result<Response<()>, Status> {
        unimplemented()
    }
}
