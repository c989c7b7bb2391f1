//! Programs that write down absolute paths.

use api_step::v1::{Files, InputFile, Outcome, OutputFile, ParameterType};

use crate::attempt::{Attempt, assert_outcome};

fn output(path: &str, parameter: &str, artifact: &str) -> OutputFile {
    OutputFile {
        path: path.to_owned(),
        parameter: parameter.to_owned(),
        artifact: artifact.to_owned(),
        ..OutputFile::default()
    }
}

fn with_files(mut attempt: Attempt, inputs: Vec<InputFile>, outputs: Vec<OutputFile>) -> Attempt {
    attempt.step().files = Some(Files { inputs, outputs });
    attempt
}

fn value<'a>(result: &'a api_step::v1::StepResult, name: &str) -> &'a str {
    let found = result.parameters.iter().find(|one| one.name == name);
    &found.unwrap().value_json
}

#[test]
fn outputs_are_taken_from_where_the_paths_were_moved() {
    let attempt = Attempt::script(
        "mkdir -p /tmp/outputs/both && echo ' 42' > /tmp/outputs/both/data && echo $HOME_OF_OUT > /tmp/flumina-it.txt",
    )
    .parameter("both", ParameterType::String)
    .parameter("path", ParameterType::String)
    .artifact("both");
    let mut attempt = with_files(
        attempt,
        Vec::new(),
        vec![
            output("/tmp/outputs/both/data", "both", ""),
            output("/tmp/outputs/both/data", "", "both"),
            output("/tmp/flumina-it.txt", "path", ""),
        ],
    );
    attempt.assignment.env.push(api_step::v1::EnvVar {
        name: "HOME_OF_OUT".to_owned(),
        value: "/tmp/outputs".to_owned(),
    });
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    // One newline at the end is the shell's.
    assert_eq!(value(&result, "both"), "\" 42\"");
    let moved = format!("\"{}\"", attempt.path("root/tmp/outputs").display());
    assert_eq!(value(&result, "path"), moved);
    assert_eq!(result.artifacts[0].artifacts[0].size_bytes, 4);
    let stored = std::fs::read(attempt.path("store/attempt/both")).unwrap();
    assert_eq!(stored, b" 42\n");
    assert!(!std::path::Path::new("/tmp/flumina-it.txt").exists());
}

#[test]
fn inputs_are_there_before_the_program() {
    let attempt =
        Attempt::script("cat /tmp/inputs/a/data /tmp/inputs/t/data /in/p > /tmp/outputs/all/data")
            .parameter("all", ParameterType::String);
    std::fs::write(attempt.path("artifact"), "A").unwrap();
    let uri = attempt.path("artifact");
    let inputs = serde_json::json!({
        "parameterValues": {"x": "X", "raw": 7},
        "artifacts": {"a": {"artifacts": [{"uri": uri, "name": "a", "metadata": {}}]}},
    });
    let mut attempt = attempt.inputs(&inputs.to_string());
    attempt.step().declared_inputs = ["x", "raw", "a", "none"].map(str::to_owned).into();
    let file = |path: &str, artifact: &str, parameter: &str, text: &str| InputFile {
        path: path.to_owned(),
        artifact: artifact.to_owned(),
        parameter: parameter.to_owned(),
        text: text.to_owned(),
    };
    let attempt = with_files(
        attempt,
        vec![
            file("/tmp/inputs/a/data", "a", "", ""),
            file(
                "/tmp/inputs/t/data",
                "",
                "",
                "<{{$.inputs.parameters['x']}}>",
            ),
            file("/in/p", "none", "raw", ""),
        ],
        vec![output("/tmp/outputs/all/data", "all", "")],
    );
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert_eq!(value(&result, "all"), "\"A<X>7\"");
}

#[test]
fn what_is_missing_is_named_by_the_programs_own_path() {
    let parameter = with_files(
        Attempt::script("true").parameter("p", ParameterType::String),
        Vec::new(),
        vec![output("/tmp/outputs/p/data", "p", "")],
    );
    let result = parameter.run();
    assert_outcome(&result, Outcome::Failed, "OUTPUT_MISSING");
    assert!(
        result.message.contains("/tmp/outputs/p/data"),
        "{}",
        result.message
    );

    let artifact = |optional| {
        let file = OutputFile {
            optional,
            ..output("/tmp/outputs/a/data", "", "a")
        };
        with_files(
            Attempt::script("true").artifact("a"),
            Vec::new(),
            vec![file],
        )
    };
    let result = artifact(false).run();
    assert_outcome(&result, Outcome::Failed, "OUTPUT_MISSING");
    assert!(
        result.message.contains("/tmp/outputs/a/data"),
        "{}",
        result.message
    );
    let result = artifact(true).run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert!(!result.artifacts[0].artifacts[0].present);
}

#[test]
fn a_missing_parameter_takes_its_default() {
    let file = OutputFile {
        default_value: Some("none".to_owned()),
        ..output("/tmp/outputs/p/data", "p", "")
    };
    let attempt = Attempt::script("true").parameter("p", ParameterType::String);
    let result = with_files(attempt, Vec::new(), vec![file]).run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert_eq!(value(&result, "p"), "\"none\"");
}

#[test]
fn metrics_become_metadata() {
    let script = r#"echo '{"metrics":[{"name":"auc","numberValue":0.5,"format":"RAW"}]}' > /mlpipeline-metrics.json"#;
    let mut attempt = Attempt::script(script).artifact("m");
    "system.Metrics".clone_into(&mut attempt.step().output_artifacts[0].schema_title);
    let attempt = with_files(
        attempt,
        Vec::new(),
        vec![output("/mlpipeline-metrics.json", "", "m")],
    );
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let metadata: serde_json::Value =
        serde_json::from_str(&result.artifacts[0].artifacts[0].metadata_json).unwrap();
    assert_eq!(metadata["auc"], 0.5);
    assert_eq!(metadata["formats"]["auc"], "RAW");
}
