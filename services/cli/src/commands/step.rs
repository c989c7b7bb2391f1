//! `flumina step replay`: one step again, in the terminal.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use api_pipelines::v1 as own;
use api_step::v1::Assignment;
use prost::Message as _;

use crate::args::Step;
use crate::client::Client;

pub(crate) async fn execute(command: Step, client: &Client) -> Result<()> {
    let Step::Replay {
        run,
        task,
        attempt,
        pdb,
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
    eprintln!("replaying {} in {}", assignment.attempt_id, dir.display());
    let mut program = Command::new(agent);
    program.arg("--replay").arg(&dir);
    if pdb {
        program.arg("--pdb");
    }
    // The step takes this process's place: its output, its signals, its exit code.
    let error = program.exec();
    Err(error).with_context(|| format!("cannot start {}", agent.display()))
}

/// Makes a directory in which the step has the same inputs and code but writes only to outputs of its own.
fn prepare(assignment: &mut Assignment, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
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
    std::fs::write(&target, assignment.encode_to_vec())
        .with_context(|| format!("cannot write {}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
