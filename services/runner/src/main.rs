//! The runner as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    let process = runtime::Process {
        name: flumina_runner::NAME,
        version: env!("CARGO_PKG_VERSION"),
    };
    runtime::run(process, flumina_runner::serve_alone)
}
