//! `flumina down`: stops everything of a data directory, whoever uses it.

use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::data_dir::{DOWN, DataDir, Locked, RUNNER_DATABASE, UP, Up, start_time, write_json};
use crate::fleet::environment;
use crate::{AGENT, Error};

/// How long a fleet may take to end: its own grace, and room for slow disks.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `flumina down` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Down {
    /// Whether a fleet was running.
    pub was_running: bool,
    /// How many running steps were stopped.
    pub stopped_steps: usize,
}

/// The content of [`DOWN`]: a request while it is empty, then what was done.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) stopped_steps: Option<usize>,
}

/// Stops the fleet that uses `dir`, if there is one, and every step that runs there. The runs of these steps end at the
/// next start. Doing it again does nothing.
///
/// # Errors
/// The directory cannot be used, or the fleet does not end.
pub fn down(dir: &Path) -> Result<Down, Error> {
    if !dir.exists() {
        return Ok(Down {
            was_running: false,
            stopped_steps: 0,
        });
    }
    let dir = DataDir::existing(dir)?;
    let mut stopped = 0;
    let mut was_running = false;
    let locked = match dir.clone().lock() {
        Ok(locked) => locked,
        Err(Error::InUse { .. }) => {
            stop_process(&dir)?;
            was_running = true;
            let report = std::fs::read(dir.join(DOWN)).unwrap_or_default();
            let report: Report = serde_json::from_slice(&report).unwrap_or_default();
            stopped = report.stopped_steps.unwrap_or_default();
            dir.lock()?
        }
        Err(error) => return Err(error),
    };
    locked.dir.format()?;
    // What a fleet left behind that ended without doing it, or that was not asked to.
    stopped += stop_steps(&locked)?;
    locked.remove(DOWN);
    locked.remove(UP);
    Ok(Down {
        was_running,
        stopped_steps: stopped,
    })
}

/// Asks the process that uses the directory to stop its steps and end, and waits for its end.
fn stop_process(dir: &DataDir) -> Result<(), Error> {
    write_json(&dir.join(DOWN), &Report::default())?;
    let in_use = || Error::InUse {
        dir: dir.root().to_owned(),
        holder: "a process that does not say who it is".to_owned(),
    };
    let up: Up = dir.up().ok_or_else(in_use)?;
    let pid = Pid::from_raw(up.pid).ok_or_else(in_use)?;
    let process = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        // It ended a moment ago.
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => {
            return Err(Error::io("signal the process that uses", dir.root())(
                error.into(),
            ));
        }
    };
    // The number may have been given away before it was opened; what is open now is what is looked at.
    if start_time(up.pid) != Some(up.started) {
        return Err(in_use());
    }
    match rustix::process::pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => {
            return Err(Error::io("signal the process that uses", dir.root())(
                error.into(),
            ));
        }
    }
    let seconds = PATIENCE.as_secs();
    let limit = Timespec {
        tv_sec: seconds as i64,
        tv_nsec: 0,
    };
    let ended = rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    match ended {
        Ok(0) => Err(Error::Unstoppable {
            pid: up.pid,
            seconds,
        }),
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io("wait for the process that uses", dir.root())(
            error.into(),
        )),
    }
}

/// Takes over what still runs with the runner alone, and stops it; nothing new starts.
fn stop_steps(locked: &Locked) -> Result<usize, Error> {
    if !locked.dir.join(RUNNER_DATABASE).exists() {
        return Ok(0);
    }
    let config = Config::placed(&locked.dir);
    let grace = Duration::from_secs(config.process.grace_seconds);
    let threads =
        runtime::build_tokio(Some(1)).map_err(Error::io("start threads for", locked.dir.root()))?;
    let outcome = threads.block_on(async {
        let host = runtime::Host::detached("down");
        let deps = runner::Deps {
            host: host.clone(),
            agent: runner::AgentSource::Embedded(AGENT),
            environment: environment(),
        };
        let runner = runner::build(config.runner, deps).await?;
        let stopped = runner
            .stop_everything("it was stopped by `flumina down`")
            .await?;
        host.supervisor.shutdown(grace).await;
        anyhow::Ok(stopped)
    });
    threads.shutdown_timeout(Duration::from_secs(1));
    outcome.map_err(Error::Runner)
}
