//! One attempt in a temporary directory, for tests.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::time::Duration;

use api_step::v1::step::Program;
use api_step::v1::{
    Assignment, Command, Confidential, EnvVar, ExitRecord, Outcome, OutputArtifact,
    OutputParameter, ParameterType,
};
use api_step::v1::{Step, StepResult};
use prost::Message as _;

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// An ordinary user's id, for tests that root runs.
pub(crate) const ORDINARY: &str = "65534";

pub(crate) struct Attempt {
    dir: testkit::TempDir,
    pub(crate) assignment: Assignment,
    env: Vec<(&'static str, String)>,
    confidential: Confidential,
    /// Programs that start the agent, with their arguments.
    wrapper: Vec<String>,
}

impl Attempt {
    /// A step that runs a command.
    pub(crate) fn command(command: &[&str]) -> Attempt {
        let command = Command {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            args: Vec::new(),
        };
        Attempt::new(Program::Command(command))
    }

    /// A step that runs a shell script.
    pub(crate) fn script(script: &str) -> Attempt {
        Attempt::command(&["sh", "-c", script])
    }

    pub(crate) fn new(program: Program) -> Attempt {
        let dir = testkit::temp_dir();
        let assignment = Assignment {
            attempt_id: "run.7.1".to_owned(),
            step: Some(Step {
                program: Some(program),
                ..Step::default()
            }),
            env: vec![EnvVar {
                name: "GREETING".to_owned(),
                value: "hello".to_owned(),
            }],
            working_dir: dir.path().join("work").to_str().unwrap().to_owned(),
            stop_grace_ms: 5_000,
            max_parameter_bytes: 4096,
            ..Assignment::default()
        };
        Attempt {
            dir,
            assignment,
            env: Vec::new(),
            confidential: Confidential::default(),
            wrapper: Vec::new(),
        }
    }

    /// Values that the agent reads from its standard input.
    pub(crate) fn confidential(mut self, confidential: Confidential) -> Attempt {
        self.confidential = confidential;
        self.assignment.confidential = true;
        self
    }

    /// Starts the agent by way of another program.
    pub(crate) fn wrapped(mut self, wrapper: &[&str]) -> Attempt {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(crate) fn step(&mut self) -> &mut Step {
        self.assignment.step.as_mut().unwrap()
    }

    pub(crate) fn parameter(mut self, name: &str, kind: ParameterType) -> Attempt {
        self.step().output_parameters.push(OutputParameter {
            name: name.to_owned(),
            r#type: kind.into(),
        });
        self
    }

    pub(crate) fn artifact(mut self, name: &str) -> Attempt {
        let uri = self.path("store/attempt").join(name);
        self.step().output_artifacts.push(OutputArtifact {
            name: name.to_owned(),
            uri: uri.to_str().unwrap().to_owned(),
            schema_title: "system.Model".to_owned(),
            schema_version: "0.0.1".to_owned(),
            metadata_json: r#"{"declared":1}"#.to_owned(),
            ..OutputArtifact::default()
        });
        self
    }

    pub(crate) fn inputs(mut self, json: &str) -> Attempt {
        json.clone_into(&mut self.step().inputs_json);
        self
    }

    /// A variable of the agent itself.
    pub(crate) fn agent_env(mut self, name: &'static str, value: &str) -> Attempt {
        self.env.push((name, value.to_owned()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write_assignment(&self) {
        fs::write(self.path("assignment"), self.assignment.encode_to_vec()).unwrap();
    }

    /// Starts an agent as the runner does.
    pub(crate) fn start(&self) -> Agent {
        self.write_assignment();
        self.start_again()
    }

    pub(crate) fn start_again(&self) -> Agent {
        let stderr = File::options()
            .append(true)
            .create(true)
            .open(self.path("agent.log"))
            .unwrap();
        let mut words = self.wrapper.clone();
        words.push(env!("CARGO_BIN_EXE_flumina-agent").to_owned());
        let mut process = Process::new(&words[0]);
        process.args(&words[1..]);
        process.arg(self.dir.path()).env_remove("FLUMINA_ABORT");
        process.envs(self.env.iter().map(|(name, value)| (name, value)));
        process
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr);
        let mut child = process.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // An agent that needs none does not read it.
        drop(input.write_all(&self.confidential.encode_to_vec()));
        drop(input);
        Agent { child }
    }

    /// Runs to the end; the agent must have done all of its work.
    pub(crate) fn run(&self) -> StepResult {
        let status = self.start().wait();
        assert_eq!(
            status.code(),
            Some(0),
            "agent.log: {}",
            self.read("agent.log")
        );
        let exit = ExitRecord::decode(fs::read(self.path("exit")).unwrap().as_slice()).unwrap();
        assert_eq!(exit.attempt_id, self.assignment.attempt_id);
        assert!(!self.path("result.tmp").exists() && !self.path("exit.tmp").exists());
        self.result().unwrap()
    }

    pub(crate) fn result(&self) -> Option<StepResult> {
        let bytes = fs::read(self.path("result")).ok()?;
        Some(StepResult::decode(bytes.as_slice()).unwrap())
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        self.read("log")
    }

    /// Waits until a program of the test has written a whole line to a file.
    pub(crate) fn await_line(&self, name: &str) -> String {
        let path = self.path(name);
        eventually(&format!("a line in {name}"), || {
            let text = fs::read_to_string(&path).ok()?;
            text.ends_with('\n').then(|| text.trim().to_owned())
        })
    }
}

/// Lets an ordinary user use the directory of an attempt, when root runs the tests.
pub(crate) fn as_ordinary_user(attempt: Attempt) -> Attempt {
    if !rustix::process::geteuid().is_root() {
        return attempt;
    }
    let status = Process::new("chown")
        .arg("-R")
        .arg(ORDINARY)
        .arg(attempt.path(""))
        .status();
    assert!(status.unwrap().success());
    let id = format!("--reuid={ORDINARY}");
    let group = format!("--regid={ORDINARY}");
    attempt.wrapped(&["setpriv", &id, &group, "--clear-groups"])
}

pub(crate) struct Agent {
    child: Child,
}

impl Agent {
    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the agent's end", || self.child.try_wait().unwrap())
    }

    pub(crate) fn terminate(&self) {
        signal(self.child.id(), "TERM");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Attempt {
    /// Ends what a killed agent left running, which nobody else would.
    fn drop(&mut self) {
        let Ok(processes) = std::fs::read_dir("/proc") else {
            return;
        };
        for process in processes.flatten() {
            let name = process.file_name().to_string_lossy().into_owned();
            let cwd = std::fs::read_link(process.path().join("cwd"));
            if name.parse::<u32>().is_ok() && cwd.is_ok_and(|cwd| cwd.starts_with(self.dir.path()))
            {
                drop(Process::new("kill").args(["-KILL", &name]).status());
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Process::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// Whether a process runs: neither gone nor a zombie.
pub(crate) fn alive(pid: &str) -> bool {
    let status =
        fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    testkit::eventually_blocking(what, PATIENCE, || look().ok_or("nothing yet"))
}

pub(crate) fn assert_outcome(result: &StepResult, outcome: Outcome, reason: &str) {
    assert_eq!(
        (result.outcome(), result.reason.as_str()),
        (outcome, reason),
        "{result:#?}"
    );
}
