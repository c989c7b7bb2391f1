//! A fleet in a child process, and the few requests that these tests make.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use single_node::UpOptions;
use testkit::process::Signal;
use testkit::{Process, eventually_blocking};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The options of the child, as JSON.
const OPTIONS: &str = "FLUMINA_TEST_UP";

/// Not a test of its own: `flumina up` in the process that [`command`] starts.
#[test]
fn run_as_child() {
    let Ok(options) = std::env::var(OPTIONS) else {
        return;
    };
    let options: Value = serde_json::from_str(&options).unwrap();
    let text = |name: &str| options[name].as_str().map(str::to_owned);
    let code = single_node::up(UpOptions {
        data_dir: PathBuf::from(text("data_dir").unwrap()),
        listen: text("listen"),
        config: text("config").map(PathBuf::from),
        insecure: false,
        stop_on_exit: options["stop_on_exit"] == true,
        token: None,
    });
    let failed = code != std::process::ExitCode::SUCCESS;
    let bad_config = code == std::process::ExitCode::from(runtime::EXIT_BAD_CONFIG);
    std::process::exit(if bad_config { 64 } else { i32::from(failed) });
}

/// `flumina up` in a process of its own.
pub(crate) fn command(options: &Value) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--quiet", "--nocapture", "--exact", "fleet::run_as_child"])
        .env(OPTIONS, options.to_string());
    command
}

/// Runs `flumina up` that is expected to fail; its exit code and what it said.
pub(crate) fn refused(options: &Value) -> (i32, String) {
    let output = command(options).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!String::from_utf8(output.stdout).unwrap().contains("ready "));
    (output.status.code().unwrap(), text)
}

/// A fleet that is ready. Dropping it stops every step of its data directory.
pub(crate) struct Fleet {
    pub(crate) process: Process,
    pub(crate) dir: PathBuf,
    pub(crate) address: String,
}

impl Fleet {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, json!({}))
    }

    pub(crate) fn start_with(dir: &Path, more: Value) -> Self {
        let mut options = json!({"data_dir": dir, "listen": "127.0.0.1:0"});
        options
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let process = Process::spawn("flumina", command(&options));
        let address = process.wait_for_line("ready http://", LIMIT);
        Self {
            process,
            dir: dir.to_owned(),
            address,
        }
    }

    /// Sends a signal and waits for the end with success.
    pub(crate) fn end(&mut self, signal: Signal) {
        self.process.signal(signal);
        assert_eq!(
            self.process.wait(LIMIT).code(),
            Some(0),
            "{}",
            self.process.output()
        );
    }

    /// Sends a request; the answer must be a success.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200"),
            "{method} {path}: {answer}"
        );
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error} in {answer}"))
    }

    /// Starts a run of shell steps in a chain and returns its id.
    pub(crate) fn submit(&self, scripts: &[&str]) -> String {
        let run = json!({"display_name": "test", "pipeline_spec": pipeline(scripts)});
        let run = self.call("POST", "/apis/v2beta1/runs", Some(&run));
        run["run_id"].as_str().unwrap().to_owned()
    }

    /// Starts a run whose one step writes an artifact.
    pub(crate) fn submit_producer(&self) -> String {
        let script = "mkdir -p \"$(dirname \"$0\")\"; echo content > \"$0\"";
        let mut spec = pipeline(&[script]);
        let container = &mut spec["deploymentSpec"]["executors"]["exec-step-0"]["container"];
        container["args"] = json!(["{{$.outputs.artifacts['out'].path}}"]);
        let kind = json!({"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"});
        spec["components"]["comp-step-0"]["outputDefinitions"] =
            json!({"artifacts": {"out": {"artifactType": kind}}});
        let run = json!({"display_name": "test", "pipeline_spec": spec});
        let run = self.call("POST", "/apis/v2beta1/runs", Some(&run));
        run["run_id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn run(&self, id: &str) -> Value {
        self.call("GET", &format!("/apis/v2beta1/runs/{id}"), None)
    }

    /// Waits until a run is in a state.
    pub(crate) fn wait_for(&self, id: &str, state: &str) -> Value {
        eventually_blocking(&format!("the run is {state}"), LIMIT, || {
            let run = self.run(id);
            if run["state"] == state {
                Ok(run)
            } else {
                Err(run.to_string())
            }
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.process.kill();
        if self.dir.exists() {
            // A test that failed must not leave programs behind.
            drop(single_node::down(&self.dir));
        }
    }
}

/// Waits until a file has as many lines.
pub(crate) fn wait_for_lines(path: &Path, count: usize) {
    eventually_blocking("the step writes its line", LIMIT, || {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() == count {
            Ok(())
        } else {
            Err(text)
        }
    });
}

/// A pipeline of shell steps, each after the one before.
fn pipeline(scripts: &[&str]) -> Value {
    let mut components = json!({});
    let mut executors = json!({});
    let mut tasks = json!({});
    for (number, script) in scripts.iter().enumerate() {
        let name = format!("step-{number}");
        let container = json!({"image": "alpine", "command": ["sh", "-c", script]});
        executors[format!("exec-{name}")] = json!({"container": container});
        components[format!("comp-{name}")] = json!({"executorLabel": format!("exec-{name}")});
        let mut task = json!({
            "componentRef": {"name": format!("comp-{name}")},
            "taskInfo": {"name": name},
        });
        if number > 0 {
            task["dependentTasks"] = json!([format!("step-{}", number - 1)]);
        }
        tasks[name] = task;
    }
    json!({
        "components": components,
        "deploymentSpec": {"executors": executors},
        "pipelineInfo": {"name": "test"},
        "root": {"dag": {"tasks": tasks}},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
    })
}
