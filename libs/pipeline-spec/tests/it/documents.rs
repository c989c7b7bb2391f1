//! Reading text: what is taken, and what each kind of bad input is told.

use flumina_pipeline_spec::{Document, Error, parse};
use serde_json::json;

use crate::fixture;

const MINIMAL: &str = r#"
components:
  comp-a:
    executorLabel: exec-a
deploymentSpec:
  executors:
    exec-a:
      container:
        image: busybox
        command: [echo]
pipelineInfo:
  name: minimal
root:
  dag:
    tasks:
      a:
        componentRef:
          name: comp-a
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"#;

fn error(text: &str) -> String {
    match parse(text.as_bytes()) {
        Ok(document) => panic!("read as {}", document.name()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn yaml_json_and_wrappers_are_the_same_pipeline() {
    let from_yaml = parse(MINIMAL.as_bytes()).unwrap();
    assert_eq!(from_yaml.name(), "minimal");
    let spec = from_yaml.to_value();
    assert_eq!(spec["pipelineInfo"]["name"], "minimal");
    let plan = flumina_pipeline_spec::plan(&from_yaml).unwrap();
    let platform = json!({"platforms": {"kubernetes": {}}});
    let texts = [
        spec.to_string(),
        format!("\u{feff}\n  {spec}"),
        json!({"pipeline_spec": spec}).to_string(),
        json!({"pipelineSpec": spec, "platformSpec": platform}).to_string(),
        format!("{MINIMAL}---\nplatforms:\n  kubernetes: {{}}\n"),
        format!("platforms: {{}}\n---\n{MINIMAL}"),
        format!("---\n{MINIMAL}\n---\n"),
    ];
    for text in texts {
        let document = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(
            flumina_pipeline_spec::plan(&document).unwrap(),
            plan,
            "{text}"
        );
    }
}

#[test]
fn clients_get_back_what_they_sent() {
    let document = fixture("kubernetes");
    let value = document.to_value();
    assert_eq!(&value["pipeline_spec"], document.spec());
    assert_eq!(Some(&value["platform_spec"]), document.platform());
    let again = Document::from_value(value.clone()).unwrap();
    assert_eq!(again.to_value(), value);
    assert!(
        fixture("f_strings")
            .to_value()
            .get("pipelineInfo")
            .is_some()
    );
}

#[test]
fn plain_scalars_are_read_as_the_sdk_meant_them() {
    let text = MINIMAL.replace("image: busybox", "image: busybox\n        env: [{name: A, value: 1e3}, {name: n, value: y}, {name: B, value: 08}, {name: y, value: 0o17}]");
    let document = parse(text.as_bytes()).unwrap();
    let env = document
        .spec()
        .pointer("/deploymentSpec/executors/exec-a/container/env");
    let expected = json!([
        {"name": "A", "value": "1e3"}, {"name": "n", "value": "y"}, {"name": "B", "value": "08"}, {"name": "y", "value": "0o17"}
    ]);
    assert_eq!(env, Some(&expected));
}

#[test]
fn bad_documents_are_refused_by_name() {
    let twice = format!("{MINIMAL}---\n{MINIMAL}");
    let three = format!("{MINIMAL}---\na: 1\n---\nb: 2\n");
    let with_nothing = "deploymentSpec: {}\n";
    let cases: [(&str, &str); 10] = [
        ("", "the document is empty"),
        ("# only a comment\n", "the document is empty"),
        (
            "just text",
            "this is not a compiled pipeline: it has neither pipelineInfo nor root",
        ),
        (
            "- 1\n- 2\n",
            "this is not a compiled pipeline: it has neither pipelineInfo nor root",
        ),
        (
            with_nothing,
            "this is not a compiled pipeline: it has neither pipelineInfo nor root",
        ),
        (
            "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec: {}\n",
            "this is an Argo Workflow; of Argo, documents of the kind Workflow are executed",
        ),
        (&twice, "the file holds two pipelines"),
        (
            &three,
            "the file holds 3 documents; a pipeline is one document, and one more for its platform settings",
        ),
        (
            "platforms: {}\n",
            "this is not a compiled pipeline: it has neither pipelineInfo nor root",
        ),
        (
            "{\"pipeline_spec\": {\"root\": {}}, \"extra\": 1}",
            "extra: there is no such field",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
    assert_eq!(parse(b"\xff\xfe{").unwrap_err(), Error::NotText);
}

#[test]
fn broken_text_says_where() {
    for text in [
        "root: [1, 2",
        "{\"root\": {\"dag\": ",
        "root:\n\t- tab",
        "root: *nowhere",
        "root: 1\nroot: 2",
    ] {
        let message = error(text);
        assert!(
            message.starts_with("the document cannot be read: "),
            "{message}"
        );
        assert!(
            message.contains("line") || message.contains("anchor"),
            "{message}"
        );
    }
}

#[test]
fn fields_that_do_not_exist_are_named_by_their_path() {
    let cases = [
        (
            "sdkVersion",
            "sdkVersions",
            "sdkVersions: there is no such field",
        ),
        (
            "componentRef:",
            "componentReference:",
            "root.dag.tasks.a.componentReference: there is no such field",
        ),
        (
            "image: busybox",
            "picture: busybox",
            "deploymentSpec.executors.exec-a.container.picture: there is no such field",
        ),
        (
            "command: [echo]",
            "command: [echo, [1]]",
            "deploymentSpec.executors.exec-a.container.command[1]: invalid type: sequence, expected a string",
        ),
        (
            "executorLabel: exec-a",
            "executorLabel: {}",
            "components.comp-a.executorLabel: invalid type: map, expected a string",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(error(&MINIMAL.replace(from, to)), expected);
    }
    let platform = "platforms:\n  kubernetes:\n    deploymentSpec:\n      executors:\n        exec-a:\n          secretAsEnvs: []\n";
    assert_eq!(
        error(&format!("{MINIMAL}---\n{platform}")),
        "platforms.kubernetes.deploymentSpec.executors.exec-a.secretAsEnvs: there is no such field"
    );
}

#[test]
fn huge_and_deep_documents_are_refused_quickly() {
    let mut large = MINIMAL.as_bytes().to_vec();
    large.resize(flumina_pipeline_spec::MAX_BYTES + 1, b' ');
    assert_eq!(parse(&large).unwrap_err(), Error::TooLarge);

    let depth = 100_000;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let inner = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for text in [format!("{{\"root\": {inner}}}"), format!("root: {inner}")] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, Error::TooDeep | Error::Syntax(_)),
                "{error}"
            );
        }
    }
    let mut value = json!(1);
    for _ in 0..100 {
        value = json!([value]);
    }
    let error = Document::from_value(json!({"root": value})).unwrap_err();
    assert_eq!(error, Error::TooDeep);
    let mut value = json!(1);
    for _ in 0..45 {
        value = json!({"a": value});
    }
    let mut spec = parse(MINIMAL.as_bytes()).unwrap().to_value();
    spec["root"]["dag"]["tasks"]["a"]["inputs"] =
        json!({"parameters": {"x": {"runtimeValue": {"constant": value}}}});
    assert_eq!(Document::from_value(spec).unwrap_err(), Error::TooDeep);
    let nested = "- ".repeat(depth) + "1";
    assert!(parse(nested.as_bytes()).is_err());
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let previous = format!("*a{},", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
    }
    bomb.push_str("root: *a11\n");
    assert!(matches!(
        parse(bomb.as_bytes()).unwrap_err(),
        Error::Syntax(_)
    ));
}
