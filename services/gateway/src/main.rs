//! The gateway as a process of its own.

use std::process::ExitCode;

use flumina_gateway::Config;
use runtime::{Host, Process};

const PROCESS: Process = Process {
    name: "gateway",
    version: env!("CARGO_PKG_VERSION"),
};

fn main() -> ExitCode {
    runtime::run(PROCESS, |config: Config, host: Host| async move {
        let peers = flumina_gateway::remote_peers(&config)?;
        let address = flumina_gateway::build(config, peers)?.start(&host)?;
        tracing::info!(%address, "ready");
        Ok(())
    })
}
