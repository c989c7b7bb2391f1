//! The life of a process, from its arguments to its exit code.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use auth::BearerToken;
use clap::{Args, Command, FromArgMatches};
use clock::Clock;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::Admin;
use crate::{
    CommonArgs, ConfigError, Ending, LogControl, Metrics, OnCancel, ProcessConfig, Readiness,
    ServiceConfig, Supervisor, arm_abort_points, build_tokio, config, dump,
};

/// The exit code for arguments or a configuration that cannot be used (`EX_USAGE`).
pub const EXIT_BAD_CONFIG: u8 = 64;
/// The exit code for a start that failed, or an essential task that did.
pub const EXIT_FAILED: u8 = 1;

/// How long threads that block may hold up the end.
const BLOCKING_LINGER: Duration = Duration::from_secs(1);

/// A second signal this soon is the first one again: some tools signal a process and then its group.
const SAME_REQUEST: Duration = Duration::from_millis(250);

/// What a program is called.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// The service's name, as in its folder: `pipeline-orchestrator`.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// What a service gets from its process. Everything in it can be cloned.
#[derive(Debug, Clone)]
pub struct Host {
    /// The root of the tasks.
    pub supervisor: Supervisor,
    /// The registry that the admin port prints.
    pub metrics: Metrics,
    /// What the admin port and health checks tell.
    pub readiness: Readiness,
    /// The log's filter.
    pub log: LogControl,
    /// The time.
    pub clock: Clock,
    /// Where the admin port listens, if there is one.
    pub admin: Option<SocketAddr>,
}

impl Host {
    /// A host without a process, for tests.
    pub fn detached(name: &str) -> Self {
        Self {
            supervisor: Supervisor::new(name),
            metrics: Metrics::new(),
            readiness: Readiness::new(),
            log: LogControl::none(),
            clock: Clock::system(),
            admin: None,
        }
    }
}

/// The main function of a service: parses the arguments, loads the configuration and calls [`run_with`].
///
/// `start` builds the service and spawns its tasks in the host's supervisor; it returns when they are started.
pub fn run<C, S, F>(process: Process, start: S) -> ExitCode
where
    C: ServiceConfig,
    S: FnOnce(C, Host) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    ExitCode::from(run_args(process, std::env::args_os(), start))
}

fn run_args<C, S, F>(process: Process, args: impl Iterator<Item = OsString>, start: S) -> u8
where
    C: ServiceConfig,
    S: FnOnce(C, Host) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let command = CommonArgs::augment_args(Command::new(process.name).version(process.version));
    let args = command
        .try_get_matches_from(args)
        .and_then(|matches| CommonArgs::from_arg_matches(&matches));
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            error.print().ok();
            let code = if error.use_stderr() {
                EXIT_BAD_CONFIG
            } else {
                0
            };
            return code;
        }
    };
    let config: C = match load_valid(process.name, &args) {
        Ok(config) => config,
        Err(error) => return refuse(process, &error),
    };
    if args.dump_config {
        let text = match dump::toml(&config) {
            Ok(text) => text,
            Err(error) => return refuse(process, &error),
        };
        let printed = std::io::stdout().write_all(text.as_bytes());
        return if printed.is_ok() { 0 } else { EXIT_FAILED };
    }
    if args.check_config {
        return 0;
    }
    let options = config.process().clone();
    run_process(process, &options, |host| start(config, host))
}

/// Runs a program whose configuration is already there: log, threads, admin port, signals, `start`, drain.
///
/// The first SIGTERM or SIGINT withdraws readiness, waits for the pre-stop delay and stops the supervisor's tasks in
/// reverse order within the grace; the second ends the process at once.
pub fn run_with<S, F>(process: Process, options: &ProcessConfig, start: S) -> ExitCode
where
    S: FnOnce(Host) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    ExitCode::from(run_process(process, options, start))
}

fn run_process<S, F>(process: Process, options: &ProcessConfig, start: S) -> u8
where
    S: FnOnce(Host) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    arm_abort_points();
    let log = match LogControl::init(&options.log) {
        Ok(log) => log,
        Err(error) => return refuse(process, &error),
    };
    log_panics();
    let runtime = match build_tokio(options.threads) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start threads");
            return EXIT_FAILED;
        }
    };
    let code = runtime.block_on(live(process, options, log, start));
    runtime.shutdown_timeout(BLOCKING_LINGER);
    code
}

fn load_valid<C: ServiceConfig>(name: &str, args: &CommonArgs) -> Result<C, ConfigError> {
    let config: C = config::load(name, args)?;
    let mut problems = config.process().validate();
    problems.extend(config.validate());
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError(problems))
    }
}

fn refuse(process: Process, error: &dyn std::error::Error) -> u8 {
    eprintln!("{}: {error}", process.name);
    EXIT_BAD_CONFIG
}

/// A panic is logged where it happens, like every other line, so that machines can read it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let location = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(message, location, %backtrace, "a panic, which is a bug");
    }));
}

async fn live<S, F>(process: Process, options: &ProcessConfig, log: LogControl, start: S) -> u8
where
    S: FnOnce(Host) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let supervisor = Supervisor::new(process.name);
    let mut host = Host {
        supervisor: supervisor.clone(),
        log,
        ..Host::detached(process.name)
    };
    let readiness = host.readiness.clone();
    let signals = watch_signals(&supervisor);
    let started = async {
        signals?;
        host.admin = start_admin(options, &host)?;
        start(host).await
    };
    let ending = tokio::select! {
        biased;
        outcome = started => match outcome {
            Ok(()) => supervisor.ending().await,
            Err(error) => Ending::Failed(format!("cannot start: {error:#}")),
        },
        ending = supervisor.ending() => ending,
    };
    drain(options, &supervisor, &readiness).await;
    match ending {
        Ending::Stop => {
            tracing::info!("ended");
            0
        }
        Ending::Failed(reason) => {
            tracing::error!(reason, "ended");
            EXIT_FAILED
        }
    }
}

fn start_admin(options: &ProcessConfig, host: &Host) -> anyhow::Result<Option<SocketAddr>> {
    if !options.admin.enabled {
        return Ok(None);
    }
    let token = options.admin.token.as_ref().map(BearerToken::new);
    let admin = Admin {
        metrics: host.metrics.clone(),
        readiness: host.readiness.clone(),
        log: host.log.clone(),
        token: token.transpose()?,
    };
    Ok(Some(admin.start(&host.supervisor, &options.admin)?))
}

fn watch_signals(supervisor: &Supervisor) -> std::io::Result<()> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    // First of all tasks, so that it is the last to end and a second signal is always heard.
    let heard = hear_signals(terminate, interrupt, supervisor.clone());
    supervisor.spawn_once(OnCancel::Abort, "signals", heard);
    Ok(())
}

async fn hear_signals(mut terminate: Signal, mut interrupt: Signal, root: Supervisor) {
    let mut first: Option<tokio::time::Instant> = None;
    loop {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        if let Some(first) = first {
            if first.elapsed() < SAME_REQUEST {
                continue;
            }
            tracing::warn!(name, "second signal, ending now");
            std::process::exit(i32::from(EXIT_FAILED));
        }
        first = Some(tokio::time::Instant::now());
        tracing::info!(name, "draining");
        root.request_stop();
    }
}

async fn drain(options: &ProcessConfig, supervisor: &Supervisor, readiness: &Readiness) {
    readiness.drain();
    tokio::time::sleep(Duration::from_secs(options.pre_stop_seconds)).await;
    let grace = Duration::from_secs(options.grace_seconds);
    let late = supervisor.shutdown(grace).await;
    if !late.is_empty() {
        tracing::warn!(?late, "tasks did not end within the grace");
    }
}

#[cfg(test)]
mod tests;
