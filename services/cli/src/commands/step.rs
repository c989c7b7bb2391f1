//! `flumina step replay`: one step again, in the terminal.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};
use api_pipelines::v1 as own;
use api_step::v1::Assignment;
use prost::Message as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Step;
use crate::client::Client;
use crate::output::safe;

pub(crate) async fn execute(command: Step, client: &Client) -> Result<ExitCode> {
    let Step::Replay {
        run,
        task,
        attempt,
        pdb,
        keep,
    } = command;
    let request = own::GetReplayRequest {
        run_id: run,
        task,
        attempt,
    };
    let replay = client.run_details().get_replay(request).await?.into_inner();
    let workload = replay
        .workload
        .context("the server did not say how the step ran")?;
    let agent = Path::new(&workload.agent_path);
    if !agent.is_file() {
        bail!(
            "the step ran where {} is not on this machine: replay it on the machine that ran it",
            agent.display()
        );
    }
    let mut assignment = workload
        .assignment
        .context("the server did not say how the step ran")?;
    let dir =
        std::env::temp_dir().join(format!("flumina-replay-{}", uuid::Uuid::now_v7().simple()));
    prepare(&mut assignment, &dir)?;
    eprintln!(
        "replaying {} in {}",
        safe(&assignment.attempt_id),
        dir.display()
    );
    let mut program = Command::new(agent);
    program.arg("--replay").arg(&dir);
    if pdb {
        program.arg("--pdb");
    }
    if !workload.confidential_path.is_empty() {
        // Values of secrets, in the memory of the server: only its own user can open it, and only for a minute.
        program
            .arg("--confidential")
            .arg(&workload.confidential_path);
    }
    if assignment
        .mounts
        .iter()
        .any(|mount| !mount.source.is_empty())
    {
        eprintln!("volumes are mounted as they are: what the step writes there stays");
    }
    let replayed = match program.spawn() {
        Ok(child) => wait(child).await.context("cannot wait for the replay"),
        Err(error) => Err(error).with_context(|| format!("cannot start {}", agent.display())),
    };
    let succeeded = replayed.as_ref().is_ok_and(ExitStatus::success);
    if !succeeded || keep {
        eprintln!("the replay is still in {}", dir.display());
    } else if let Err(error) = std::fs::remove_dir_all(&dir) {
        eprintln!("cannot remove {}: {error}", dir.display());
    }
    Ok(ExitCode::from(exit_code(replayed?)))
}

/// Waits for the replay, which shares this terminal: Ctrl-C reaches it by itself and must not end its keeper.
async fn wait(mut child: Child) -> Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let forward = tokio::select! {
            status = child.wait() => return Ok(status?),
            _ = interrupt.recv() => None,
            _ = quit.recv() => None,
            _ = terminate.recv() => Some(Signal::TERM),
            _ = hangup.recv() => Some(Signal::HUP),
        };
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let (Some(signal), Some(pid)) = (forward, pid) {
            // It may have ended in the meantime, which the next turn sees.
            kill_process(pid, signal).ok();
        }
    }
}

/// As a shell tells it: the exit code, or 128 and the signal.
fn exit_code(status: ExitStatus) -> u8 {
    status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}

/// Makes a directory in which the step has the same inputs and code but writes only to outputs of its own. It holds
/// the step's environment, so it is nobody else's to read.
fn prepare(assignment: &mut Assignment, dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    assignment.working_dir = dir.join("work").display().to_string();
    assignment.timeout_ms = 0;
    assignment.cgroup_dir = String::new();
    if let Some(step) = &mut assignment.step {
        for artifact in &mut step.output_artifacts {
            artifact.uri = dir
                .join("artifacts")
                .join(&artifact.name)
                .display()
                .to_string();
        }
    }
    let target = dir.join("assignment");
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&target)
        .and_then(|mut file| file.write_all(&assignment.encode_to_vec()))
        .with_context(|| format!("cannot write {}", target.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_exit_code_is_the_one_of_the_step() {
        for (script, expected) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)] {
            let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            assert_eq!(exit_code(wait(child).await.unwrap()), expected, "{script}");
        }
    }

    #[test]
    fn a_replay_writes_nowhere_but_its_own_directory() {
        let dir = std::env::temp_dir().join(format!("replay-test-{}", std::process::id()));
        let output = api_step::v1::OutputArtifact {
            name: "model".to_owned(),
            uri: "/data/artifacts/model".to_owned(),
            ..Default::default()
        };
        let step = api_step::v1::Step {
            output_artifacts: vec![output],
            ..Default::default()
        };
        let mut assignment = Assignment {
            working_dir: "/data/work".to_owned(),
            step: Some(step),
            ..Default::default()
        };
        prepare(&mut assignment, &dir).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("assignment")), 0o600);
        let again = prepare(&mut assignment.clone(), &dir);
        assert!(again.is_err(), "a directory that is there is not taken");
        let written = std::fs::read(dir.join("assignment")).unwrap();
        let written = Assignment::decode(written.as_slice()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let root = dir.display().to_string();
        assert!(written.working_dir.starts_with(&root));
        assert!(
            written.step.unwrap().output_artifacts[0]
                .uri
                .starts_with(&root)
        );
    }
}
