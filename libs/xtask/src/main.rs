//! Developer commands: `cargo xtask demo | test | setup | codegen | bench | tidy`.
//!
//! Kept to two small dependencies so that it builds in seconds. Whatever it starts builds into the cache outside
//! the checkout (see [`workspace`]); whatever it needs from the machine is found or installed by [`setup`].

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a developer's tool: it prints, reads its environment and looks at the clock"
)]

mod bench;
mod codegen;
mod conformance;
mod demo;
mod digest;
mod environments;
mod files;
mod report;
mod setup;
mod system;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};
use workspace::Workspace;

const USAGE: &str = "\
cargo xtask COMMAND

  demo [--stop]      start Flumina, run the example pipeline with the kfp SDK, leave Flumina running (or stop it)
  test [--quick]     every check and every test; --quick: Rust only, without the suites of real clients
  setup              find or install what tests need; prints the file that describes it (FLUMINA_TESTENV)
  codegen [--check]  generate the contract crates from proto/, or compare them with what is committed
  tidy [--write]     the rules that the compiler does not know; --write renews docs/call-graph.txt
  bench AREA         measure: start, pipelines; raw results go to integration-tests/bench/results/
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let ok = |()| ExitCode::SUCCESS;
    match words.as_slice() {
        ["demo"] => demo::run(&Workspace::open()?, false).map(ok),
        ["demo", "--stop"] => demo::run(&Workspace::open()?, true).map(ok),
        ["test"] => test::run(&Workspace::open()?, test::Scope::Full),
        ["test", "--quick"] => test::run(&Workspace::open()?, test::Scope::Quick),
        ["setup"] => setup_and_print(&Workspace::open()?).map(ok),
        ["codegen"] => codegen::write(&Workspace::open()?).map(ok),
        ["codegen", "--check"] => codegen::check(&Workspace::open()?).map(ok),
        ["tidy"] => tidy::run(&Workspace::open()?, false),
        ["tidy", "--write"] => tidy::run(&Workspace::open()?, true),
        ["bench", area] => bench::run(&Workspace::open()?, area).map(ok),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        other => bail!("unknown command `{}`\n\n{USAGE}", other.join(" ")),
    }
}

fn setup_and_print(workspace: &Workspace) -> Result<()> {
    let env = setup::prepare(workspace, setup::Need::Everything)?;
    println!("{}", env.write(workspace)?.display());
    Ok(())
}
