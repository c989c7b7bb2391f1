//! What is collected from a successful program.

use std::fs;

use api_step::v1::{Outcome, ParameterType};

use crate::attempt::{Attempt, assert_outcome};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn parameters_are_read_from_their_files_by_type() {
    let attempt = Attempt::script(
        "printf ' text\n' > {{$.outputs.parameters['s'].output_file}}
         echo 42 > {{$.outputs.parameters['n'].output_file}}
         echo 1e3 > {{$.outputs.parameters['d'].output_file}}
         echo True > {{$.outputs.parameters['b'].output_file}}
         echo '[1, 2.0]' > {{$.outputs.parameters['l'].output_file}}
         echo '{\"a\": null}' > {{$.outputs.parameters['o'].output_file}}",
    )
    .parameter("s", ParameterType::String)
    .parameter("n", ParameterType::NumberInteger)
    .parameter("d", ParameterType::NumberDouble)
    .parameter("b", ParameterType::Boolean)
    .parameter("l", ParameterType::List)
    .parameter("o", ParameterType::Struct);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let found: Vec<(&str, &str, u64)> = result
        .parameters
        .iter()
        .map(|parameter| {
            (
                parameter.name.as_str(),
                parameter.value_json.as_str(),
                parameter.size_bytes,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("b", "true", 5),
            ("d", "1000", 4),
            ("l", "[1,2]", 9),
            ("n", "42", 3),
            ("o", "{\"a\":null}", 12),
            ("s", "\" text\\n\"", 6),
        ]
    );
    assert!(
        result
            .parameters
            .iter()
            .all(|parameter| parameter.sha256.len() == 64)
    );
}

#[test]
fn the_executor_output_wins_over_files() {
    let attempt = Attempt::script(
        "echo 1 > {{$.outputs.parameters['n'].output_file}}
         echo '{\"parameterValues\": {\"n\": 2.0, \"other\": 3}}' > {{$.outputs.output_file}}",
    )
    .parameter("n", ParameterType::NumberInteger);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert_eq!(result.parameters.len(), 1);
    assert_eq!(result.parameters[0].value_json, "2");
}

#[test]
fn a_missing_parameter_fails_the_step_by_name() {
    let result = Attempt::script("true")
        .parameter("loss", ParameterType::NumberDouble)
        .run();
    assert_outcome(&result, Outcome::Failed, "OUTPUT_MISSING");
    assert_eq!(result.exit_code, Some(0));
    assert!(result.message.contains("\"loss\""), "{}", result.message);
}

#[test]
fn unreadable_outputs_fail_the_step_by_name() {
    for (script, fragment) in [
        (
            "echo x > {{$.outputs.parameters['n'].output_file}}",
            "\"n\" must be a whole number",
        ),
        (
            "printf '\\377' > {{$.outputs.parameters['n'].output_file}}",
            "not UTF-8",
        ),
        (
            "mkdir {{$.outputs.parameters['n'].output_file}}",
            "regular file",
        ),
        (
            "mkfifo {{$.outputs.parameters['n'].output_file}}",
            "regular file",
        ),
        (
            "echo '{\"parameterValues\": {\"n\": NaN}}' > {{$.outputs.output_file}}",
            "parameterValues.n is NaN",
        ),
        (
            "echo '{\"parameterValues\": {\"n\": []}}' > {{$.outputs.output_file}}",
            "\"n\" must be",
        ),
        ("echo nonsense > {{$.outputs.output_file}}", "not JSON"),
    ] {
        let result = Attempt::script(script)
            .parameter("n", ParameterType::NumberInteger)
            .run();
        assert_outcome(&result, Outcome::Failed, "OUTPUT_INVALID");
        assert!(
            result.message.contains(fragment),
            "{script}: {}",
            result.message
        );
    }
}

#[test]
fn large_parameters_are_refused_with_advice() {
    for script in [
        "head -c 5000 /dev/zero | tr '\\0' x > {{$.outputs.parameters['s'].output_file}}",
        "printf '{\"parameterValues\": {\"s\": \"%05000d\"}}' 0 > {{$.outputs.output_file}}",
    ] {
        let result = Attempt::script(script)
            .parameter("s", ParameterType::String)
            .run();
        assert_outcome(&result, Outcome::Failed, "OUTPUT_TOO_LARGE");
        assert!(
            result.message.contains("as an artifact"),
            "{}",
            result.message
        );
    }
}

#[test]
fn artifacts_are_recorded_with_size_and_digest() {
    let attempt = Attempt::script(
        "printf abc > {{$.outputs.artifacts['file'].path}}
         mkdir -p {{$.outputs.artifacts['tree'].path}}/sub
         printf abc > {{$.outputs.artifacts['tree'].path}}/sub/x
         ln -s /etc {{$.outputs.artifacts['tree'].path}}/link",
    )
    .artifact("file")
    .artifact("tree")
    .artifact("none");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let [file, tree, none] = [0, 1, 2].map(|index| &result.artifacts[index].artifacts[0]);
    assert_eq!((file.size_bytes, file.sha256.as_str()), (3, ABC));
    assert_eq!((file.present, file.directory), (true, false));
    assert_eq!(
        file.uri,
        attempt.path("store/attempt/file").to_str().unwrap()
    );
    assert_eq!(
        (file.schema_title.as_str(), file.metadata_json.as_str()),
        ("system.Model", "{\"declared\":1}")
    );
    assert_eq!(
        (tree.size_bytes, tree.present, tree.directory),
        (3, true, true)
    );
    assert_eq!(
        (none.present, none.size_bytes, none.sha256.as_str()),
        (false, 0, "")
    );
}

#[test]
fn an_empty_file_is_there() {
    let result = Attempt::script(": > {{$.outputs.artifacts['m'].path}}")
        .artifact("m")
        .run();
    let artifact = &result.artifacts[0].artifacts[0];
    assert_eq!((artifact.present, artifact.sha256.as_str()), (true, EMPTY));
}

#[test]
fn the_program_may_rename_move_and_describe_its_artifacts() {
    let attempt = Attempt::script(
        "printf abc > elsewhere
         cat > {{$.outputs.output_file}} <<END
         {\"artifacts\": {\"m\": {\"artifacts\": [{\"name\": \"mine\", \"metadata\": {\"auc\": 0.5}, \"custom_path\": \"$PWD/elsewhere\"}]}}}
END",
    )
    .artifact("m");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let artifact = &result.artifacts[0].artifacts[0];
    assert_eq!(
        (artifact.name.as_str(), artifact.sha256.as_str()),
        ("mine", ABC)
    );
    assert_eq!(artifact.metadata_json, "{\"auc\":0.5,\"declared\":1}");
    assert_eq!(
        artifact.uri,
        attempt.path("store/attempt/m").to_str().unwrap()
    );
    assert_eq!(attempt.read("store/attempt/m"), "abc");
    assert!(
        attempt.path("work/elsewhere").exists(),
        "the program's own file stays"
    );
}

#[test]
fn artifacts_kept_elsewhere_are_recorded_without_content() {
    let json = r#"{"artifacts": {"m": {"artifacts": [{"uri": "s3://bucket/model"}]}}}"#;
    let attempt =
        Attempt::script(&format!("echo '{json}' > {{{{$.outputs.output_file}}}}")).artifact("m");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    let artifact = &result.artifacts[0].artifacts[0];
    assert_eq!(
        (artifact.uri.as_str(), artifact.present),
        ("s3://bucket/model", false)
    );
}

#[test]
fn the_executor_output_lies_beside_the_artifacts() {
    // `dsl.get_uri()` is the directory of the executor output; what is written there must outlive the attempt.
    let attempt = Attempt::script("echo {{$.outputs.output_file}}").artifact("m");
    attempt.run();
    let expected = attempt.path("store/attempt/executor_output.json");
    assert_eq!(attempt.log().trim(), expected.to_str().unwrap());
}

#[test]
fn a_failed_program_has_no_outputs() {
    let attempt = Attempt::script("echo 1 > {{$.outputs.parameters['n'].output_file}}; exit 1")
        .parameter("n", ParameterType::NumberInteger)
        .artifact("m");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "PROGRAM_FAILED");
    assert!(result.parameters.is_empty() && result.artifacts.is_empty());
}

#[test]
fn odd_output_names_stay_inside_the_directory() {
    let attempt = Attempt::script("echo 7 > '{{$.outputs.parameters['../../n'].output_file}}'")
        .parameter("../../n", ParameterType::NumberInteger);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert_eq!(fs::read_dir(attempt.path("outputs")).unwrap().count(), 1);
}
