//! The server as the client commands see it, and what its errors mean to a script.

use std::fmt;

use anyhow::{Context as _, Result};
use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::experiment_service_client::ExperimentServiceClient;
use api_kfp::v2beta1::healthz_service_client::HealthzServiceClient;
use api_kfp::v2beta1::pipeline_service_client::PipelineServiceClient;
use api_kfp::v2beta1::run_service_client::RunServiceClient;
use api_pipelines::v1::artifact_service_client::ArtifactServiceClient;
use api_pipelines::v1::run_service_client::RunServiceClient as RunDetailServiceClient;
use tonic::{Code, Status};

use crate::Context;

/// Larger than any answer of the API, smaller than what would exhaust memory.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Clients of the services, all over one connection.
#[derive(Clone)]
pub(crate) struct Client {
    channel: rpc::Channel,
    server: String,
}

macro_rules! service {
    ($name:ident, $client:ident) => {
        pub(crate) fn $name(&self) -> $client<rpc::Channel> {
            $client::new(self.channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE)
        }
    };
}

impl Client {
    /// Prepares a connection; it is made with the first call.
    pub(crate) fn new(context: &Context) -> Result<Self> {
        let server = context.server.trim_end_matches('/').to_owned();
        let token = context
            .token
            .as_ref()
            .map(auth::BearerToken::new)
            .transpose()?;
        let channel = rpc::Channel::remote(&server, token)
            .with_context(|| format!("--server {server} is not a usable URL"))?;
        Ok(Self { channel, server })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    service!(pipelines, PipelineServiceClient);
    service!(experiments, ExperimentServiceClient);
    service!(runs, RunServiceClient);
    service!(healthz, HealthzServiceClient);
    service!(run_details, RunDetailServiceClient);
    service!(artifacts, ArtifactServiceClient);

    /// The experiment with this id or name.
    pub(crate) async fn experiment(&self, name: &str) -> Result<kfp::Experiment> {
        if looks_like_id(name) {
            let request = kfp::GetExperimentRequest {
                experiment_id: name.to_owned(),
            };
            return Ok(self
                .experiments()
                .get_experiment(request)
                .await?
                .into_inner());
        }
        let request = kfp::ListExperimentsRequest {
            filter: equals("display_name", name),
            page_size: 1,
            ..Default::default()
        };
        let found = self
            .experiments()
            .list_experiments(request)
            .await?
            .into_inner();
        found
            .experiments
            .into_iter()
            .next()
            .ok_or_else(|| Missing::new("experiment", name).into())
    }

    /// The pipeline with this id or name.
    pub(crate) async fn pipeline(&self, name: &str) -> Result<kfp::Pipeline> {
        let mut pipelines = self.pipelines();
        let found = if looks_like_id(name) {
            let request = kfp::GetPipelineRequest {
                pipeline_id: name.to_owned(),
            };
            pipelines.get_pipeline(request).await
        } else {
            let request = kfp::GetPipelineByNameRequest {
                name: name.to_owned(),
                ..Default::default()
            };
            pipelines.get_pipeline_by_name(request).await
        };
        match found {
            Err(status) if status.code() == Code::NotFound => {
                Err(Missing::new("pipeline", name).into())
            }
            other => Ok(other?.into_inner()),
        }
    }
}

/// A filter for one key that must equal a value.
pub(crate) fn equals(key: &str, value: &str) -> String {
    let predicate = serde_json::json!({"operation": "EQUALS", "key": key, "string_value": value});
    serde_json::json!({ "predicates": [predicate] }).to_string()
}

fn looks_like_id(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(index, c)| {
            if matches!(index, 8 | 13 | 18 | 23) {
                c == '-'
            } else {
                c.is_ascii_hexdigit()
            }
        })
}

/// A thing that was named on the command line and does not exist.
#[derive(Debug)]
pub(crate) struct Missing {
    kind: &'static str,
    name: String,
}

impl Missing {
    pub(crate) fn new(kind: &'static str, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no {} `{}`", self.kind, self.name)
    }
}

impl std::error::Error for Missing {}

/// A run that did not end well.
#[derive(Debug)]
pub(crate) struct RunFailed(pub(crate) String);

impl fmt::Display for RunFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for RunFailed {}

/// Exit codes of the client commands; 2 is for arguments that cannot be used, as the shell's own programs do.
pub(crate) mod exit {
    /// The call failed.
    pub(crate) const FAILED: u8 = 1;
    /// The run failed or was stopped.
    pub(crate) const RUN_FAILED: u8 = 3;
    /// What was named does not exist.
    pub(crate) const NOT_FOUND: u8 = 4;
    /// The server cannot be reached, or is starting or ending.
    pub(crate) const UNREACHABLE: u8 = 5;
    /// A token is missing, or it may not do this.
    pub(crate) const FORBIDDEN: u8 = 6;
}

/// The exit code and the sentence for an error.
pub(crate) fn explain(error: &anyhow::Error, server: &str) -> (u8, String) {
    if error.is::<RunFailed>() {
        return (exit::RUN_FAILED, error.to_string());
    }
    if error.is::<Missing>() {
        return (exit::NOT_FOUND, error.to_string());
    }
    let Some(status) = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Status>())
    else {
        return (exit::FAILED, format!("{error:#}"));
    };
    let message = status.message();
    match status.code() {
        Code::Unavailable => {
            let hint = "is it running? `flumina up` starts it";
            (
                exit::UNREACHABLE,
                format!("cannot reach {server}: {message} ({hint})"),
            )
        }
        Code::NotFound => (exit::NOT_FOUND, message.to_owned()),
        Code::Unauthenticated => {
            let hint = "set FLUMINA_TOKEN to the server's token";
            (exit::FORBIDDEN, format!("{message} ({hint})"))
        }
        Code::PermissionDenied => (exit::FORBIDDEN, message.to_owned()),
        _ => (exit::FAILED, message.to_owned()),
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "statuses as a server would send them"
)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_failures_apart() {
        let code = |status: Status| explain(&anyhow::Error::from(status), "http://x").0;
        assert_eq!(code(Status::not_found("x")), exit::NOT_FOUND);
        assert_eq!(code(Status::unavailable("x")), exit::UNREACHABLE);
        assert_eq!(code(Status::unauthenticated("x")), exit::FORBIDDEN);
        assert_eq!(code(Status::invalid_argument("x")), exit::FAILED);
        assert_eq!(
            explain(&RunFailed("x".to_owned()).into(), "").0,
            exit::RUN_FAILED
        );
        assert_eq!(
            explain(&Missing::new("run", "x").into(), "").0,
            exit::NOT_FOUND
        );
    }

    #[test]
    fn names_and_ids_are_told_apart() {
        assert!(looks_like_id("0197a5d2-7a4b-7cc0-9d3c-2f64b4a3e1aa"));
        assert!(!looks_like_id("my-experiment"));
    }
}
