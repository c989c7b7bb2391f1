//! The service as a process of its own, with a port.

use anyhow::Context as _;
use auth::BearerToken;
use rpc::{Channel, ServeOptions};
use runtime::{Guard, Host, Listener};

use crate::config::Standalone;
use crate::service::build;

/// Starts the service in the host.
///
/// # Errors
/// The configuration cannot be used, or something cannot be opened.
pub async fn start(mut config: Standalone, host: Host) -> anyhow::Result<()> {
    let ready = host.readiness.condition("pipelines");
    let token = config.token.as_ref().map(BearerToken::new).transpose()?;
    let guard = Guard::new(token.as_ref(), config.insecure);
    let listener = Listener::bind("the pipelines API", config.listen, guard)?;
    let runner_token = config
        .runner
        .token
        .as_ref()
        .map(BearerToken::new)
        .transpose()?;
    let runner = Channel::remote(&config.runner.address, runner_token)
        .context("the key `runner.address` cannot be used")?;
    let variables: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let variables = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    config.pipelines.environment = objects::Environment::of(variables);
    let service = build(&config.pipelines, &host, runner).await?;
    service.start().await?;
    let options = ServeOptions {
        token,
        ..ServeOptions::default()
    };
    rpc::serve(&host, listener, service.services(), options)?;
    ready.ready();
    Ok(())
}
