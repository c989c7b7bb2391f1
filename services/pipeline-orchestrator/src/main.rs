//! The pipelines service as a process of its own.

use std::process::ExitCode;

use flumina_pipeline_orchestrator::standalone;
use runtime::Process;

fn main() -> ExitCode {
    let process = Process {
        name: "pipeline-orchestrator",
        version: env!("CARGO_PKG_VERSION"),
    };
    runtime::run(process, standalone::start)
}
