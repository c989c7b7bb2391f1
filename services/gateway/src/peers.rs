//! The services that the outside may reach.

use std::collections::BTreeMap;

use api_kfp::v2beta1::auth_service_server::SERVICE_NAME as AUTH;
use api_kfp::v2beta1::experiment_service_server::SERVICE_NAME as EXPERIMENTS;
use api_kfp::v2beta1::healthz_service_server::SERVICE_NAME as HEALTHZ;
use api_kfp::v2beta1::pipeline_service_server::SERVICE_NAME as PIPELINES;
use api_kfp::v2beta1::recurring_run_service_server::SERVICE_NAME as RECURRING_RUNS;
use api_kfp::v2beta1::run_service_server::SERVICE_NAME as KFP_RUNS;
use api_kfp1::v1beta1::auth_service_server::SERVICE_NAME as AUTH_V1;
use api_kfp1::v1beta1::experiment_service_server::SERVICE_NAME as EXPERIMENTS_V1;
use api_kfp1::v1beta1::job_service_server::SERVICE_NAME as JOBS_V1;
use api_kfp1::v1beta1::pipeline_service_server::SERVICE_NAME as PIPELINES_V1;
use api_kfp1::v1beta1::run_service_server::SERVICE_NAME as RUNS_V1;
use api_pipelines::v1::artifact_service_server::SERVICE_NAME as ARTIFACTS;
use api_pipelines::v1::cache_service_server::SERVICE_NAME as CACHE;
use api_pipelines::v1::program_service_server::SERVICE_NAME as PROGRAMS;
use api_pipelines::v1::run_list_service_server::SERVICE_NAME as RUN_LISTS;
use api_pipelines::v1::run_service_server::SERVICE_NAME as RUNS;
use api_pipelines::v1::schedule_service_server::SERVICE_NAME as SCHEDULES;
use api_pipelines::v1::spec_service_server::SERVICE_NAME as SPECS;
use api_runner::v1::config_map_service_server::SERVICE_NAME as CONFIG_MAPS;
use api_runner::v1::secret_service_server::SERVICE_NAME as SECRETS;
use api_runner::v1::volume_service_server::SERVICE_NAME as VOLUMES;
use rpc::{Channel, Switchboard};

/// What the pipeline orchestrator serves.
const ORCHESTRATOR: [&str; 16] = [
    AUTH_V1,
    EXPERIMENTS_V1,
    JOBS_V1,
    PIPELINES_V1,
    RUNS_V1,
    EXPERIMENTS,
    PIPELINES,
    RECURRING_RUNS,
    KFP_RUNS,
    RUNS,
    ARTIFACTS,
    CACHE,
    SPECS,
    SCHEDULES,
    RUN_LISTS,
    PROGRAMS,
];
/// What the runner serves to the outside; its workloads are for other services alone.
const RUNNER: [&str; 3] = [SECRETS, CONFIG_MAPS, VOLUMES];
/// What the gateway serves itself.
pub(crate) const OWN: [&str; 5] = [
    AUTH,
    HEALTHZ,
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Channels to the public services by their full names. What is not here cannot be reached from the outside.
#[derive(Debug, Clone)]
pub struct Peers(BTreeMap<&'static str, Channel>);

impl Peers {
    /// The channels that `channel` gives for the names of the services.
    pub fn new(channel: impl Fn(&'static str) -> Channel) -> Self {
        let names = ORCHESTRATOR.into_iter().chain(RUNNER);
        Self(names.map(|name| (name, channel(name))).collect())
    }

    /// Services of the same process.
    pub fn local(switchboard: &Switchboard) -> Self {
        Self::new(|name| switchboard.channel(name))
    }

    /// Whether the runner serves a public service.
    pub(crate) fn is_of_runner(service: &str) -> bool {
        RUNNER.contains(&service)
    }

    pub(crate) fn with_own(mut self, own: &Switchboard) -> Self {
        self.0.extend(OWN.map(|name| (name, own.channel(name))));
        self
    }

    pub(crate) fn channel(&self, service: &str) -> Option<&Channel> {
        self.0.get(service)
    }

    pub(crate) fn kfp_pipelines(&self) -> Option<&Channel> {
        self.channel(PIPELINES)
    }

    pub(crate) fn kfp1_pipelines(&self) -> Option<&Channel> {
        self.channel(PIPELINES_V1)
    }

    pub(crate) fn runs(&self) -> Option<&Channel> {
        self.channel(RUNS)
    }

    pub(crate) fn artifacts(&self) -> Option<&Channel> {
        self.channel(ARTIFACTS)
    }
}

/// Tells whether the outside may reach a service.
pub(crate) fn is_public(service: &str) -> bool {
    public().any(|name| name == service)
}

/// All public services.
pub(crate) fn public() -> impl Iterator<Item = &'static str> {
    ORCHESTRATOR.into_iter().chain(RUNNER).chain(OWN)
}
