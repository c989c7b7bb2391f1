//! The `flumina` program: the whole fleet on one machine, and the client of any server.
//!
//! Exit codes: 0 done; 1 the call failed; 2 unusable arguments; 3 the run failed or was stopped; 4 what was named
//! does not exist; 5 the server cannot be reached; 6 a token is missing or not allowed. `flumina up` ends with 64
//! for an unusable configuration, and `flumina step replay` with the exit code of the step.

mod args;
mod client;
mod commands;
mod output;
mod proto;
mod schedule_args;
mod timeline;
mod traceback;
mod values;
mod watch;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use client::Client;
use output::Printer;

/// What every command knows.
pub(crate) struct Context {
    pub(crate) server: String,
    /// FLUMINA_TOKEN: never an argument, since arguments are visible to every process of the machine.
    pub(crate) token: Option<auth::Secret>,
    /// FLUMINA_ALLOW_PLAINTEXT=1: the token may go over a network as it is.
    pub(crate) allow_plaintext: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context {
        server: cli.global.server.clone(),
        token: variable("FLUMINA_TOKEN").map(auth::Secret::new),
        allow_plaintext: variable("FLUMINA_ALLOW_PLAINTEXT").as_deref() == Some("1"),
    };
    match execute(cli, &context) {
        Ok(code) => code,
        Err(error) => {
            let (code, message) = client::explain(&error, &context.server);
            eprintln!("{message}");
            ExitCode::from(code)
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line's own environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn execute(cli: Cli, context: &Context) -> Result<ExitCode> {
    match cli.command {
        Command::Transfer { files } => return Ok(objects::transfer::run(&files)),
        Command::Up(up) => return commands::node::up(up, context),
        Command::Down(dir) => commands::node::down(dir)?,
        Command::Backup(backup) => commands::node::backup(backup)?,
        Command::Restore(restore) => commands::node::restore(restore)?,
        Command::Completion { shell } => {
            // Into memory first: the generator panics when the reader has gone.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "flumina", &mut script);
            output::write(&script)?;
        }
        Command::Proto(args::Proto::Export { dir }) => {
            let count = proto::export(&dir)?;
            output::print(&format!("wrote {count} files to {}\n", dir.display()))?;
        }
        remote => {
            let printer = Printer::new(cli.global.output)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            return runtime.block_on(call(remote, context, &printer));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The commands that talk to a server.
async fn call(command: Command, context: &Context, printer: &Printer) -> Result<ExitCode> {
    let client = Client::new(context)?;
    let done = match command {
        Command::Status => commands::node::status(&client, printer).await,
        Command::Pipeline(command) => commands::pipeline::execute(command, &client, printer).await,
        Command::Experiment(command) => {
            commands::experiment::execute(command, &client, printer).await
        }
        Command::Run(command) => commands::run::execute(command, &client, printer).await,
        Command::Artifact(command) => commands::artifact::execute(command, &client, printer).await,
        Command::Cache(command) => commands::cache::execute(command, &client, printer).await,
        Command::Secret(command) => commands::store::secret(command, &client, printer).await,
        Command::Configmap(command) => commands::store::config_map(command, &client, printer).await,
        Command::Volume(command) => commands::store::volume(command, &client, printer).await,
        Command::Schedule(command) => commands::schedule::execute(command, &client, printer).await,
        Command::Step(command) => return commands::step::execute(command, &client).await,
        Command::Up(_)
        | Command::Down(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Completion { .. }
        | Command::Transfer { .. }
        | Command::Proto(_) => unreachable!("handled without a server"),
    };
    done.map(|()| ExitCode::SUCCESS)
}
