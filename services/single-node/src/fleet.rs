//! The services of one process: built side by side, connected in memory, started in the order of their needs.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use gateway::Peers;
use rpc::Switchboard;
use runner::{AgentSource, Runner};
use runtime::{Host, Kind, OnCancel, OnError, Shutdown};

use crate::AGENT;
use crate::config::Config;
use crate::data_dir::{DOWN, Locked, Up, url, write_json};
use crate::down::Report;

/// What the end of the process means for running steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnExit {
    /// They go on.
    Leave,
    /// They are stopped.
    Stop,
}

/// The steps are looked after between the ends of the pipelines service and of the runner, whatever happens.
const STEPS: Kind = Kind {
    on_cancel: OnCancel::Wait,
    on_error: OnError::Fail,
};

/// Builds and starts everything; returns when the fleet is ready and has said so.
pub(crate) async fn start(
    config: Config,
    locked: Arc<Locked>,
    on_exit: OnExit,
    host: Host,
) -> Result<()> {
    let switchboard = Switchboard::new();
    // In this order, since the supervisor ends its parts in reverse.
    let runner_host = part(&host, "runner");
    let steps = Arc::new(OnceLock::new());
    watch_over_steps(&host, Arc::clone(&steps), Arc::clone(&locked), on_exit);
    let pipelines_host = part(&host, "pipelines");
    let public_host = part(&host, "gateway");

    let runner_channel = switchboard.channel(WORKLOADS);
    let ready = host.readiness.condition("pipelines");
    let variables = environment();
    let mut config = config;
    let known = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    config.pipelines.environment = objects::Environment::of(known);
    let deps = runner::Deps {
        host: runner_host,
        agent: AgentSource::Embedded(AGENT),
        environment: variables,
    };
    let gateway_config = config.gateway;
    let peers = Peers::local(&switchboard);
    // Opening a database waits for the disk; building the gateway's tables needs a processor.
    let routes = tokio::task::spawn_blocking(move || gateway::build(gateway_config, peers));
    let (runner, pipelines, gateway) = tokio::join!(
        runner::build(config.runner, deps),
        pipeline_orchestrator::build(&config.pipelines, &pipelines_host, runner_channel),
        routes,
    );
    let (runner, pipelines, gateway) = (runner?, pipelines?, gateway??);

    switchboard.register(runner.services.clone(), &host.metrics);
    runner
        .start()
        .await
        .context("cannot take over the steps that run")?;
    // It was empty until now.
    steps.set(runner.runner.clone()).ok();
    switchboard.register(pipelines.services(), &host.metrics);
    pipelines.start().await?;
    ready.ready();
    let address = gateway.start(&public_host)?;
    host.readiness.wait_ready().await;

    let up = Up {
        address: Some(address),
        admin: host.admin,
        ..Up::this()
    };
    locked.write_up(&up)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {}", url(address)).context("cannot write to standard output")?;
    Ok(())
}

/// The name under which the runner is called.
const WORKLOADS: &str = api_runner::v1::workload_service_server::SERVICE_NAME;

/// The same process with a supervisor of its own.
fn part(host: &Host, name: &str) -> Host {
    Host {
        supervisor: host.supervisor.child(name),
        ..host.clone()
    }
}

/// The variables of this process; the runner passes on only harmless ones.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn watch_over_steps(
    host: &Host,
    steps: Arc<OnceLock<Runner>>,
    locked: Arc<Locked>,
    on_exit: OnExit,
) {
    host.supervisor
        .spawn(STEPS, "steps", move |shutdown: Shutdown| {
            let (steps, locked) = (Arc::clone(&steps), Arc::clone(&locked));
            async move {
                shutdown.wait().await;
                // A start that failed has taken over nothing.
                if let Some(runner) = steps.get() {
                    end_steps(runner, &locked, on_exit).await;
                }
            }
        });
}

/// At the end: stops the steps, or says that they go on.
async fn end_steps(runner: &Runner, locked: &Locked, on_exit: OnExit) {
    let asked = locked.dir.join(DOWN);
    let reason = match on_exit {
        _ if asked.exists() => "it was stopped by `flumina down`",
        OnExit::Stop => "it was stopped because `flumina up --on-exit=stop` ended",
        OnExit::Leave => {
            let running = runner.running();
            if running > 0 {
                eprintln!(
                    "flumina: {running} running steps go on; `flumina up` takes them over, `flumina down` stops them"
                );
            }
            return;
        }
    };
    let running = runner.running();
    match runner.stop_all(reason).await {
        Ok(_) => eprintln!("flumina: stopped {running} running steps"),
        Err(error) => {
            tracing::error!(error = aip::chain(&error), "cannot stop all steps");
            return;
        }
    }
    let report = Report {
        stopped_steps: Some(running),
    };
    if let Err(error) = write_json(&asked, &report) {
        tracing::warn!(
            error = aip::chain(&error),
            "cannot say how many steps were stopped"
        );
    }
}
