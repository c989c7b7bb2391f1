//! Python functions through kfp's own executor.

use std::io::Write as _;
use std::process::{Command, Stdio};

use api_step::v1::step::Program;
use api_step::v1::{Outcome, ParameterType, PythonFunction};

use crate::attempt::{Attempt, assert_outcome};

/// What the SDK puts before every function.
const IMPORTS: &str =
    "\nimport kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\n";

/// A step that runs a function `step` with the real SDK.
fn function(source: &str) -> Attempt {
    let mut attempt = Attempt::new(Program::PythonFunction(PythonFunction {
        source: format!("{IMPORTS}{source}"),
        function: "step".to_owned(),
    }));
    let python = testkit::python::kfp();
    attempt.assignment.path_prefix = vec![python.parent().unwrap().to_str().unwrap().to_owned()];
    attempt.assignment.python = python.to_str().unwrap().to_owned();
    attempt
}

#[test]
fn a_function_gets_its_inputs_and_returns_its_outputs() {
    let attempt = function(
        r#"
def step(number: int, words: List[str], data: Input[Dataset], model: Output[Model]) -> NamedTuple("R", total=int, text=str):
    assert type(number) is int, type(number)
    with open(data.path) as f:
        text = f.read() + "".join(words)
    with open(model.path, "w") as f:
        f.write("abc")
    model.metadata["accuracy"] = 0.5
    print("on stdout")
    return (number + 1, text)
"#,
    )
    .parameter("total", ParameterType::NumberInteger)
    .parameter("text", ParameterType::String)
    .artifact("model");
    let data = attempt.path("data");
    std::fs::write(&data, "data ").unwrap();
    let attempt = attempt.inputs(&format!(
        r#"{{"parameterValues": {{"number": 2.0, "words": ["a", "b"]}},
             "artifacts": {{"data": {{"artifacts": [{{"name": "12", "uri": "file://{}", "metadata": {{}},
                 "type": {{"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}}}}]}}}}}}"#,
        data.display()
    ));
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let values: Vec<&str> = result
        .parameters
        .iter()
        .map(|parameter| parameter.value_json.as_str())
        .collect();
    assert_eq!(values, ["\"data ab\"", "3"]);
    let model = &result.artifacts[0].artifacts[0];
    assert_eq!(model.metadata_json, r#"{"accuracy":0.5,"declared":1}"#);
    assert_eq!((model.size_bytes, model.present), (3, true));
    assert!(attempt.log().contains("on stdout"));
}

#[test]
fn an_exception_is_told_with_the_users_own_line() {
    let attempt = function("def check(n):\n    raise ValueError(f'{n} is too small')\n\ndef step(n: int):\n    check(n)\n")
        .inputs(r#"{"parameterValues": {"n": 3}}"#);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "PROGRAM_FAILED");
    assert_eq!(
        result.message,
        "exit code 1; ValueError: 3 is too small (ephemeral_component.py line 8, in check: \
         raise ValueError(f'{n} is too small'))"
    );
    let log = attempt.log();
    assert!(log.contains("line 11, in step\n    check(n)"), "{log}");
}

#[test]
fn large_inputs_do_not_meet_the_limits_of_a_command_line() {
    let attempt = function("def step(text: str) -> int:\n    return len(text)\n")
        .inputs(&format!(
            r#"{{"parameterValues": {{"text": "{}"}}}}"#,
            "x".repeat(3 << 20)
        ))
        .parameter("Output", ParameterType::NumberInteger);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert_eq!(result.parameters[0].value_json, (3 << 20).to_string());
}

#[test]
fn an_artifact_at_the_uri_of_the_task_outlives_the_attempt() {
    let source = r#"
def step() -> Model:
    model = Model(uri=dsl.get_uri(suffix="mine"), metadata={"k": 1})
    with open(model.path, "w") as f:
        f.write("abc")
    return model
"#;
    let attempt = function(source).artifact("Output");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let artifact = &result.artifacts[0].artifacts[0];
    assert_eq!(
        artifact.uri,
        attempt.path("store/attempt/mine").to_str().unwrap()
    );
    assert!(artifact.present);
}

#[test]
fn outputs_that_json_cannot_carry_are_named() {
    let attempt = function("def step() -> float:\n    return float('nan')\n")
        .parameter("Output", ParameterType::NumberDouble);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "OUTPUT_INVALID");
    assert!(
        result.message.contains("parameterValues.Output is NaN"),
        "{}",
        result.message
    );
}

#[test]
fn a_function_that_returns_nothing_misses_its_output() {
    let attempt = function("def step() -> str:\n    return None\n")
        .parameter("Output", ParameterType::String);
    assert_outcome(&attempt.run(), Outcome::Failed, "OUTPUT_MISSING");
}

#[test]
fn a_function_runs_as_under_python_m() {
    let source = r#"
def square(n):
    return n * n

def step() -> List[str]:
    import multiprocessing, os, shutil, subprocess, sys
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(abs, (-3,)) == 3
    python = subprocess.run(["python3", "-c", "import kfp, sys; print(sys.prefix)"], capture_output=True, text=True)
    # The SDK puts the directory of the source first.
    return [sys.path[1], os.getcwd(), sys.modules["__main__"].__spec__.name, python.stdout.strip(), sys.prefix]
"#;
    let attempt = function(source).parameter("Output", ParameterType::List);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let seen: Vec<String> = serde_json::from_str(&result.parameters[0].value_json).unwrap();
    assert_eq!(seen[0], attempt.assignment.working_dir);
    assert_eq!(seen[1], attempt.assignment.working_dir);
    assert_eq!(seen[2], "kfp.dsl.executor_main");
    assert_eq!(seen[3], seen[4], "a child finds the same environment");
}

#[test]
fn a_replay_can_stop_in_the_debugger() {
    let attempt = function("def step(n: int):\n    secret = n * 7\n    raise KeyError(secret)\n")
        .inputs(r#"{"parameterValues": {"n": 6}}"#);
    attempt.write_assignment();
    let mut process = Command::new(env!("CARGO_BIN_EXE_flumina-agent"));
    process.arg("--replay").arg(attempt.path("")).arg("--pdb");
    process
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = process.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"p 'secret', secret\nq\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("('secret', 42)"), "{stdout}");
    assert_eq!(output.status.code(), Some(1));
}
