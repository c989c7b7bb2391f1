//! The runner as a process of its own; `flumina-runner transfer …` is the program that agents start to move artifacts.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "transfer") {
        let rest: Vec<_> = args.collect();
        return objects::transfer::run(&rest);
    }
    let process = runtime::Process {
        name: flumina_runner::NAME,
        version: env!("CARGO_PKG_VERSION"),
    };
    runtime::run(process, flumina_runner::serve_alone)
}
