//! `flumina.pipelines.v1`: what the adopted contract cannot say.

mod artifacts;
mod cache;
mod keys;
mod lists;
mod logs;
mod programs;
mod render;
mod runs;
mod schedule_requests;
mod schedules;
mod specs;
mod watch;
mod watch_list;

use std::pin::Pin;

use aip::ApiError;
use api_pipelines::v1::artifact_service_server::ArtifactServiceServer;
use api_pipelines::v1::cache_service_server::CacheServiceServer;
use api_pipelines::v1::program_service_server::ProgramServiceServer;
use api_pipelines::v1::run_list_service_server::RunListServiceServer;
use api_pipelines::v1::run_service_server::RunServiceServer;
use api_pipelines::v1::schedule_service_server::ScheduleServiceServer;
use api_pipelines::v1::spec_service_server::SpecServiceServer;
use futures_util::Stream;
use ids::RunId;
use objects::Store;
use rpc::Services;
use tonic::Status;

use crate::app::App;
use crate::error::{Error, SERVICE};
use crate::work::RunEngine;

/// What a server stream is.
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The services of the contract.
#[derive(Clone)]
pub(crate) struct Flumina {
    app: App,
    engine: RunEngine,
    objects: Store,
}

/// Adds the services of the contract.
pub(crate) fn add(services: Services, app: &App, engine: &RunEngine, objects: Store) -> Services {
    let flumina = Flumina {
        app: app.clone(),
        engine: engine.clone(),
        objects,
    };
    let specs =
        SpecServiceServer::new(flumina.clone()).max_decoding_message_size(rpc::MAX_MESSAGE_BYTES);
    let schedules = ScheduleServiceServer::new(flumina.clone())
        .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES);
    let lists = RunListServiceServer::new(flumina.clone())
        .max_decoding_message_size(rpc::MAX_MESSAGE_BYTES);
    services
        .descriptor(api_pipelines::DESCRIPTOR)
        .add(RunServiceServer::new(flumina.clone()))
        .add(CacheServiceServer::new(flumina.clone()))
        .add(ArtifactServiceServer::new(flumina.clone()))
        .add(ProgramServiceServer::new(flumina))
        .add(schedules)
        .add(lists)
        .add(specs)
}

fn status(error: &dyn ApiError) -> Status {
    aip::status(SERVICE, error)
}

fn run_id(text: &str) -> Result<RunId, Status> {
    text.parse()
        .map_err(|invalid: ids::InvalidId| status(&Error::field("run_id", invalid.to_string())))
}

impl From<objects::Error> for Error {
    fn from(error: objects::Error) -> Self {
        match error {
            objects::Error::Foreign { .. } => Self::Precondition {
                reason: "ARTIFACT_OUTSIDE_STORE",
                kind: "artifact",
                name: String::new(),
                message: error.to_string(),
            },
            objects::Error::NotFound(uri) => Self::NotFound {
                kind: "content",
                name: uri,
            },
            objects::Error::Unconfigured { .. } => Self::Precondition {
                reason: "ARTIFACT_STORE_UNCONFIGURED",
                kind: "artifact",
                name: String::new(),
                message: error.to_string(),
            },
            objects::Error::Remote { refused: true, .. } => Self::Precondition {
                reason: "ARTIFACT_STORE_REFUSED",
                kind: "artifact",
                name: String::new(),
                message: error.to_string(),
            },
            objects::Error::Remote { .. } => Self::StoreUnavailable(error.to_string()),
            objects::Error::Full => Self::DiskFull,
            objects::Error::Io { .. } => Self::Internal(aip::chain(&error)),
        }
    }
}
