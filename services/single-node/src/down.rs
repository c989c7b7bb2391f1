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
    let (locked, was_running) = match lock_from_nobody(&dir) {
        Ok(locked) => (locked, false),
        Err(Error::InUse { .. }) => {
            let locked = stop_process(&dir).and_then(|()| dir.clone().lock_after_another());
            if locked.is_err() {
                // Whoever goes on to use the directory must not take this for a request at its own end.
                dir.remove(DOWN);
            }
            (locked?, true)
        }
        Err(error) => return Err(error),
    };
    let report = std::fs::read(dir.join(DOWN)).unwrap_or_default();
    let report: Report = serde_json::from_slice(&report).unwrap_or_default();
    let of_fleet = report.stopped_steps.filter(|_| was_running);
    // What a fleet left behind that ended without doing it, or that was not asked to.
    let left = dir.format().and_then(|_| stop_steps(&locked));
    dir.remove(DOWN);
    let stopped_steps = of_fleet.unwrap_or_default() + left?;
    dir.remove(UP);
    Ok(Down {
        was_running,
        stopped_steps,
    })
}

/// Takes a directory that no fleet uses. Where nobody says that he does, somebody may be about to, or have just ended.
fn lock_from_nobody(dir: &DataDir) -> Result<Locked, Error> {
    match dir.clone().lock() {
        Err(Error::InUse { .. }) if dir.up().is_none() => dir.clone().lock_after_another(),
        other => other,
    }
}

/// Asks the process that uses the directory to stop its steps and end, and waits for its end. The request is written only
/// when it is known who is asked.
fn stop_process(dir: &DataDir) -> Result<(), Error> {
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
    write_json(&dir.join(DOWN), &Report::default())?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_cannot_be_verified_is_asked_nothing() {
        let temp = testkit::temp_dir();
        let locked = DataDir::create(temp.path()).unwrap().lock().unwrap();
        let mut stranger = Up::this();
        stranger.started += 1;
        for up in [None, Some(stranger)] {
            if let Some(up) = up {
                locked.write_up(&up).unwrap();
            }
            let error = down(temp.path()).unwrap_err();
            assert!(matches!(error, Error::InUse { .. }), "{error}");
            assert!(!locked.dir.join(DOWN).exists());
        }
    }

    #[test]
    fn a_request_is_withdrawn_when_the_directory_stays_in_use() {
        let temp = testkit::temp_dir();
        let locked = DataDir::create(temp.path()).unwrap().lock().unwrap();
        // A process that ends when asked, while another holds the lock.
        let mut asked = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let pid = i32::try_from(asked.id()).unwrap();
        let up = Up {
            pid,
            started: start_time(pid).unwrap(),
            ..Up::this()
        };
        locked.write_up(&up).unwrap();
        let error = down(temp.path()).unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert!(!locked.dir.join(DOWN).exists());
        assert!(!asked.wait().unwrap().success());
    }
}
