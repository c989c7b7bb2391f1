//! `flumina up`: from the options to the end of the process.

use std::path::PathBuf;
use std::process::ExitCode;

use auth::Secret;
use runtime::{EXIT_BAD_CONFIG, EXIT_FAILED, Process};

use crate::config::Config;
use crate::data_dir::{DOWN, DataDir, Locked, UP, Up};
use crate::fleet::{self, OnExit};
use crate::{Error, restore};

/// What `flumina up` was told.
#[derive(Debug)]
pub struct UpOptions {
    /// The data directory; made if it is not there.
    pub data_dir: PathBuf,
    /// `ADDRESS:PORT` of the public port; port 0 picks a free one.
    pub listen: Option<String>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Whether to listen off loopback without a token.
    pub insecure: bool,
    /// Whether the end of this process stops running steps.
    pub stop_on_exit: bool,
    /// What callers must present.
    pub token: Option<Secret>,
}

/// Runs the fleet until a signal, or until it cannot go on. Prints `ready http://HOST:PORT` when everything is ready;
/// everything else goes to standard error. The exit code is 64 for an unusable configuration and 1 for a failure.
pub fn up(options: UpOptions) -> ExitCode {
    let (config, locked) = match prepare(&options) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("flumina: {}", aip::chain(&error));
            let code = match error {
                Error::Config(_) => EXIT_BAD_CONFIG,
                _ => EXIT_FAILED,
            };
            return ExitCode::from(code);
        }
    };
    let process = Process {
        name: "flumina",
        version: env!("CARGO_PKG_VERSION"),
    };
    let on_exit = if options.stop_on_exit {
        OnExit::Stop
    } else {
        OnExit::Leave
    };
    let locked = std::sync::Arc::new(locked);
    let options = config.process.clone();
    let code = runtime::run_with(process, &options, |host| {
        fleet::start(config, std::sync::Arc::clone(&locked), on_exit, host)
    });
    locked.dir.remove(UP);
    code
}

/// Everything that can be found out before anything runs.
fn prepare(options: &UpOptions) -> Result<(Config, Locked), Error> {
    let mut config = Config::load(options)?;
    let locked = DataDir::create(&options.data_dir)?.lock_after_another()?;
    // In this order: a request is written by someone who knows whom it is for.
    locked.dir.remove(DOWN);
    locked.write_up(&Up::this())?;
    let moved = match locked.dir.format()? {
        None => true,
        Some(format) if format.path != locked.dir.text() => {
            eprintln!(
                "flumina: the data directory was at {}; bringing stored paths up to date",
                format.path
            );
            restore::relocate(&locked.dir, &format.path, locked.dir.text())?;
            true
        }
        Some(_) => false,
    };
    if moved {
        locked.write_format()?;
    }
    config.place(&locked.dir);
    Ok((config, locked))
}
