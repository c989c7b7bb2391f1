//! `--replay DIR`: runs the step of an assignment once more, in the foreground, for someone who wants to look.
//!
//! The directory is a fresh one with an `assignment` whose outputs lead into it. Nothing of the protocol happens: no lock,
//! no records, no limits.

use std::path::Path;

use api_step::v1::{Assignment, Confidential, EnvVar};
use prost::Message as _;
use rustix::process::Pid;

use crate::failure::{self, Failure, cannot};
use crate::program::{self, Output};
use crate::remote::Courier;
use crate::sys::{self, Reaped, Signals};
use crate::{collect, confidential, mounts, prepare, workspace};

/// What a shell reports for a program that it could not start.
const NOT_STARTED: u8 = 127;
const OUTPUTS_FAILED: u8 = 1;

/// Variables of the terminal that an interactive program needs.
const TERMINAL: [&str; 3] = ["TERM", "COLORTERM", "LANG"];

/// How to replay.
#[derive(Default)]
pub(crate) struct Options {
    /// In the debugger.
    debug: bool,
    /// The file with the values of secrets and config maps.
    confidential: Option<std::path::PathBuf>,
}

impl Options {
    /// Reads the arguments after the directory.
    pub(crate) fn parse(words: &[&str]) -> Option<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--pdb" => options.debug = true,
                "--confidential" => options.confidential = Some(words.next()?.into()),
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Replays; returns the program's exit code, or 128 and the signal.
pub(crate) fn run(dir: &Path, options: &Options) -> u8 {
    match replay(dir, options) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{}: {}", failure.reason, failure.message);
            NOT_STARTED
        }
    }
}

fn replay(dir: &Path, options: &Options) -> Result<u8, Failure> {
    let debug = options.debug;
    let dir = std::path::absolute(dir).map_err(cannot("find", dir))?;
    let path = dir.join("assignment");
    let bytes = std::fs::read(&path).map_err(cannot("read", &path))?;
    let mut assignment = Assignment::decode(bytes.as_slice()).map_err(|error| {
        Failure::new(
            failure::AGENT_ERROR,
            format!("{} is no assignment: {error}", path.display()),
        )
    })?;
    assignment.env.splice(0..0, terminal());

    // Ctrl-C is for the program; the agent waits for its end.
    let mut signals = Signals::block().map_err(cannot("block signals for", &dir))?;
    let confidential = match &options.confidential {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(cannot("read", path))?;
            confidential::decode(&bytes)?
        }
        None => Confidential::default(),
    };
    mounts::isolate(&dir, &assignment)?.make(&confidential)?;
    assignment.env.extend(confidential.env);
    let secrets = confidential.store_secrets;
    let mut prepared = prepare::prepare(&dir, &assignment, debug)?;
    let items = std::mem::take(&mut prepared.fetch);
    Courier::new(&dir, &assignment, &secrets, None, &mut signals).fetch(items)?;
    workspace::put(&prepared.for_workspace, &assignment.attempt_id)?;
    if debug && !prepared.python_function {
        let message = "only Python functions can be debugged; run this step without --pdb";
        return Err(Failure::new(failure::STEP_INVALID, message));
    }
    let child = sys::Child {
        oom_score: None,
        cgroup: None,
        own_group: false,
    };
    let pid = program::find(&assignment, &prepared)?.start(Output::Inherit, child)?;
    let code = wait(pid, &mut signals);
    let mut courier = Courier::new(&dir, &assignment, &secrets, None, &mut signals);
    if code == 0
        && let Err(failure) =
            collect::collect(&prepared, assignment.max_parameter_bytes, &mut courier)
    {
        eprintln!("{}: {}", failure.reason, failure.message);
        return Ok(OUTPUTS_FAILED);
    }
    Ok(code)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a replay belongs to the terminal that it runs on"
)]
fn terminal() -> Vec<EnvVar> {
    let var = |name: &str| {
        Some(EnvVar {
            name: name.to_owned(),
            value: std::env::var(name).ok()?,
        })
    };
    TERMINAL.into_iter().filter_map(var).collect()
}

fn wait(program: Pid, signals: &mut Signals) -> u8 {
    loop {
        match sys::reap() {
            Reaped::Child(pid, status) if pid == program => {
                let code = status
                    .exit_status()
                    .or(status.terminating_signal().map(|signal| 128 + signal));
                return code
                    .and_then(|code| u8::try_from(code).ok())
                    .unwrap_or(u8::MAX);
            }
            Reaped::Child(..) => {}
            Reaped::Running => signals.wait(std::time::Duration::from_secs(3600)),
            Reaped::None => return u8::MAX,
        }
    }
}
