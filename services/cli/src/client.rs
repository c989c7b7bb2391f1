//! The server as the client commands see it, and what its errors mean to a script.

use std::fmt;

use anyhow::Result;
use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::experiment_service_client::ExperimentServiceClient;
use api_kfp::v2beta1::healthz_service_client::HealthzServiceClient;
use api_kfp::v2beta1::pipeline_service_client::PipelineServiceClient;
use api_kfp::v2beta1::run_service_client::RunServiceClient;
use api_pipelines::v1::artifact_service_client::ArtifactServiceClient;
use api_pipelines::v1::cache_service_client::CacheServiceClient;
use api_pipelines::v1::run_list_service_client::RunListServiceClient;
use api_pipelines::v1::run_service_client::RunServiceClient as RunDetailServiceClient;
use api_pipelines::v1::schedule_service_client::ScheduleServiceClient;
use api_runner::v1::config_map_service_client::ConfigMapServiceClient;
use api_runner::v1::secret_service_client::SecretServiceClient;
use api_runner::v1::volume_service_client::VolumeServiceClient;
use tonic::{Code, Status};

use crate::Context;
use crate::output::safe;

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
        check_server(&server, context)?;
        let token = context
            .token
            .as_ref()
            .map(auth::BearerToken::new)
            .transpose()?;
        let channel = rpc::Channel::remote(&server, token)
            .map_err(|error| Unusable(format!("--server {server} cannot be used: {error}")))?;
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
    service!(cache, CacheServiceClient);
    service!(secrets, SecretServiceClient);
    service!(config_maps, ConfigMapServiceClient);
    service!(volumes, VolumeServiceClient);
    service!(schedules, ScheduleServiceClient);
    service!(run_lists, RunListServiceClient);

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

/// Refuses a server that cannot be spoken to, or to which the token would go in the clear.
fn check_server(server: &str, context: &Context) -> Result<()> {
    if server.starts_with("https://") {
        return Err(Unusable(format!(
            "--server {server}: this program speaks plain HTTP/2; reach a server behind TLS through a tunnel, or \
             through a local port that a proxy forwards to it"
        ))
        .into());
    }
    if context.token.is_some() && !context.allow_plaintext && !is_loopback(server) {
        return Err(Unusable(format!(
            "--server {server}: FLUMINA_TOKEN would cross the network unencrypted; use a tunnel to a local port, or \
             set FLUMINA_ALLOW_PLAINTEXT=1 where the network is trusted"
        ))
        .into());
    }
    Ok(())
}

fn is_loopback(server: &str) -> bool {
    let Ok(uri) = server.parse::<tonic::codegen::http::Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
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

/// An argument that cannot be used, found without the server's help.
#[derive(Debug)]
pub(crate) struct Unusable(pub(crate) String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unusable {}

/// A run that did not end well.
#[derive(Debug)]
pub(crate) struct RunFailed(pub(crate) String);

impl fmt::Display for RunFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for RunFailed {}

/// Exit codes of the client commands.
pub(crate) mod exit {
    /// The call failed.
    pub(crate) const FAILED: u8 = 1;
    /// The arguments cannot be used; the parser of the command line ends with the same.
    pub(crate) const UNUSABLE: u8 = 2;
    /// The run failed or was stopped.
    pub(crate) const RUN_FAILED: u8 = 3;
    /// What was named does not exist.
    pub(crate) const NOT_FOUND: u8 = 4;
    /// The server cannot be reached, or is starting or ending.
    pub(crate) const UNREACHABLE: u8 = 5;
    /// A token is missing, or it may not do this.
    pub(crate) const FORBIDDEN: u8 = 6;
}

/// The exit code and the sentence for an error, without what would drive a terminal.
pub(crate) fn explain(error: &anyhow::Error, server: &str) -> (u8, String) {
    let (code, sentence) = sentence(error, server);
    (code, safe(&sentence))
}

fn sentence(error: &anyhow::Error, server: &str) -> (u8, String) {
    if error.is::<Unusable>() {
        return (exit::UNUSABLE, format!("{error:#}"));
    }
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
            // The connection's own error names the server; one that a server sends while it stops does not.
            let cause = match message.contains(server) {
                true => message.to_owned(),
                false => format!("cannot reach {server}: {message}"),
            };
            (exit::UNREACHABLE, format!("{cause} ({hint})"))
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
            explain(&Unusable("x".to_owned()).into(), "").0,
            exit::UNUSABLE
        );
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
    fn a_server_that_is_away_is_named_once() {
        for message in ["cannot reach http://x", "stopping"] {
            let error = anyhow::Error::from(Status::unavailable(message));
            let (_, sentence) = explain(&error, "http://x");
            assert_eq!(sentence.matches("http://x").count(), 1, "{sentence}");
        }
    }

    #[test]
    fn what_a_server_says_does_not_drive_the_terminal() {
        let error = anyhow::Error::from(Status::not_found("no \u{1b}]0;x\u{7}\u{9b}31m"));
        let (_, sentence) = explain(&error, "http://x");
        assert!(!sentence.contains(char::is_control), "{sentence:?}");
    }

    #[test]
    fn a_token_does_not_cross_the_network_unencrypted() {
        let check = |server: &str, token: Option<&str>, allow_plaintext| {
            let context = Context {
                server: server.to_owned(),
                token: token.map(|token| auth::Secret::new(token.to_owned())),
                allow_plaintext,
            };
            check_server(server, &context).map_err(|error| explain(&error, server))
        };
        for local in [
            "http://127.0.0.1:8080",
            "http://localhost:1",
            "http://[::1]:80",
        ] {
            assert_eq!(check(local, Some("t"), false), Ok(()), "{local}");
        }
        assert_eq!(check("http://10.0.0.7:8080", None, false), Ok(()));
        assert_eq!(check("http://10.0.0.7:8080", Some("t"), true), Ok(()));
        for remote in [
            "http://10.0.0.7:8080",
            "http://localhost.example",
            "http://[::]:1",
        ] {
            let (code, sentence) = check(remote, Some("t"), false).unwrap_err();
            assert_eq!(code, exit::UNUSABLE);
            assert!(sentence.contains("FLUMINA_ALLOW_PLAINTEXT"), "{sentence}");
        }
        let (code, sentence) = check("https://flumina.example", None, true).unwrap_err();
        assert_eq!(code, exit::UNUSABLE);
        assert!(sentence.contains("plain HTTP/2"), "{sentence}");
    }

    #[test]
    fn names_and_ids_are_told_apart() {
        assert!(looks_like_id("0197a5d2-7a4b-7cc0-9d3c-2f64b4a3e1aa"));
        assert!(!looks_like_id("my-experiment"));
    }
}
