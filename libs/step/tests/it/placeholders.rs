use std::collections::{BTreeMap, BTreeSet};

use flumina_step::placeholders::{Scope, resolve_inputs};
use proptest::prelude::*;
use serde_json::{Value, json};

fn input() -> Value {
    json!({
        "inputs": {
            "parameterValues": {"s": "a'b\"c{{$}}", "n": 2, "d": 1e-7, "b": true, "l": [1, "x"], "o": {"k": null}, "none": null},
            "artifacts": {
                "data": {"artifacts": [
                    {"name": "42", "uri": "/store/data", "metadata": {"rows": 3, "deep": {"er": "x"}}},
                    {"name": "43", "uri": "/store/other"},
                ]},
                "custom": {"artifacts": [{"name": "1", "uri": "/u", "customPath": "/c"}]},
            },
        },
        "outputs": {
            "parameters": {"out": {"outputFile": "/w/outputs/out"}},
            "artifacts": {"model": {"artifacts": [{"name": "model", "uri": "/store/model", "metadata": {}}]}},
            "outputFile": "/w/executor_output.json",
        },
    })
}

fn context() -> BTreeMap<String, String> {
    BTreeMap::from([
        ("pipeline_job_name".to_owned(), "my run".to_owned()),
        ("pipeline_root".to_owned(), "/root".to_owned()),
    ])
}

fn declared() -> BTreeSet<String> {
    [
        "s", "n", "d", "b", "l", "o", "none", "data", "custom", "absent",
    ]
    .map(str::to_owned)
    .into()
}

fn resolve_all(elements: &[&str]) -> Result<Vec<String>, String> {
    let elements: Vec<String> = elements.iter().map(|&element| element.to_owned()).collect();
    let scope = Scope {
        executor_input: &input(),
        context: &context(),
        declared_inputs: &declared(),
    };
    scope
        .resolve_all(&elements)
        .map_err(|error| error.to_string())
}

fn resolve(text: &str) -> Result<String, String> {
    resolve_all(&[text]).map(|mut elements| elements.remove(0))
}

#[test]
fn the_table_of_placeholders() {
    for (text, want) in [
        ("{{$.inputs.parameters['s']}}", "a'b\"c{{$}}"),
        ("{{$.inputs.parameters[''n'']}}", "2"),
        ("{{$.inputs.parameters[\"d\"]}}", "0.0000001"),
        ("{{$.inputs.parameters['b']}}", "true"),
        ("{{$.inputs.parameters['l']}}", "[1,\"x\"]"),
        ("{{$.inputs.parameters['o']}}", "{\"k\":null}"),
        ("{{$.inputs.parameters['none']}}", "null"),
        ("{{$.inputs.parameters['absent']}}", "null"),
        ("{{$.inputs.artifacts['data'].uri}}", "/store/data"),
        ("{{$.inputs.artifacts['data'].path}}", "/store/data"),
        ("{{$.inputs.artifacts['custom'].path}}", "/c"),
        ("{{$.inputs.artifacts['custom'].uri}}", "/u"),
        ("{{$.inputs.artifacts['data'].name}}", "42"),
        (
            "{{$.inputs.artifacts['data'].metadata}}",
            "{\"deep\":{\"er\":\"x\"},\"rows\":3}",
        ),
        ("{{$.inputs.artifacts['data'].metadata['rows']}}", "3"),
        ("{{$.inputs.artifacts['data'].metadata['deep']['er']}}", "x"),
        ("{{$.inputs.artifacts['data'].metadata['nope']}}", "null"),
        ("{{$.inputs.artifacts['absent'].uri}}", "null"),
        (
            "{{$.inputs.artifacts['custom']}}",
            "[{\"customPath\":\"/c\",\"name\":\"1\",\"uri\":\"/u\"}]",
        ),
        ("{{$.inputs.artifacts['absent']}}", "null"),
        (
            "{{$.outputs.artifacts['model']}}",
            "[{\"metadata\":{},\"name\":\"model\",\"uri\":\"/store/model\"}]",
        ),
        ("{{$.outputs.artifacts['model'].uri}}", "/store/model"),
        ("{{$.outputs.artifacts['model'].path}}", "/store/model"),
        (
            "{{$.outputs.parameters['out'].output_file}}",
            "/w/outputs/out",
        ),
        ("{{$.outputs.output_file}}", "/w/executor_output.json"),
        ("{{$.outputMetadataUri}}", "/w/executor_output.json"),
        ("{{$.pipeline_job_name}}", "my run"),
        (
            "--root={{$.pipeline_root}}/{{$.inputs.parameters['n']}}!",
            "--root=/root/2!",
        ),
        ("no placeholder", "no placeholder"),
        ("{{$HOME}} {{$", "{{$HOME}} {{$"),
        ("{{$.unfinished", "{{$.unfinished"),
        ("{{ $.inputs }}", "{{ $.inputs }}"),
    ] {
        assert_eq!(resolve(text).as_deref(), Ok(want), "{text}");
    }
    assert_eq!(resolve("x{{$}}").unwrap(), format!("x{}", input()));
}

#[test]
fn unknown_placeholders_are_named() {
    for (text, fragments) in [
        (
            "{{$.inputs.parameters['typo']}}",
            ["\"typo\"", "absent, b, custom"],
        ),
        ("{{$.inputs.artifacts['typo'].uri}}", ["\"typo\"", "inputs"]),
        (
            "{{$.outputs.parameters['typo'].output_file}}",
            ["\"typo\"", "output parameters: out"],
        ),
        (
            "{{$.outputs.artifacts['typo'].uri}}",
            ["\"typo\"", "output artifacts: model"],
        ),
        (
            "{{$.outputs.parameters['out']}}",
            ["{{$.outputs.parameters['out']}}", "not a placeholder"],
        ),
        (
            "{{$.inputs.artifacts['data'].size}}",
            ["{{$.inputs.artifacts['data'].size}}", "not a placeholder"],
        ),
        (
            "{{$.inputs.parameters[s]}}",
            ["{{$.inputs.parameters[s]}}", "not a placeholder"],
        ),
        (
            "{{$.pipeline_job_nam}}",
            ["{{$.pipeline_job_nam}}", "not a placeholder"],
        ),
        (
            "{{$.workspace_path}}/x",
            ["{{$.workspace_path}}", "no workspace"],
        ),
        (
            "{{$.inputs.parameters['s'].json_escape[1]}}",
            ["json_escape", "Vertex"],
        ),
    ] {
        let error = resolve(text).unwrap_err();
        for fragment in fragments {
            assert!(error.contains(fragment), "{text}: {error}");
        }
    }
}

#[test]
fn structures_become_any_number_of_arguments() {
    for (text, want) in [
        (
            r#"{"IfPresent": {"InputName": "n", "Then": ["--n", "{{$.inputs.parameters['n']}}"]}}"#,
            vec!["--n", "2"],
        ),
        (
            r#"{"IfPresent": {"InputName": "absent", "Then": ["--n"]}}"#,
            vec![],
        ),
        (
            r#"{"IfPresent": {"InputName": "none", "Then": "x", "Else": "default"}}"#,
            vec!["default"],
        ),
        (
            r#"{"IfPresent": {"InputName": "data", "Then": "{{$.inputs.artifacts['data'].uri}}"}}"#,
            vec!["/store/data"],
        ),
        (
            r#"{"Concat": ["a-", "{{$.inputs.parameters['n']}}", "-b"]}"#,
            vec!["a-2-b"],
        ),
        (
            r#"{"Concat": ["s=", "{{$.inputs.parameters['s']}}"]}"#,
            vec!["s=a'b\"c{{$}}"],
        ),
        (
            r#"{"Concat": ["x", {"IfPresent": {"InputName": "absent", "Then": "y"}}, {"Concat": ["z", "w"]}]}"#,
            vec!["xzw"],
        ),
        (
            r#"{"IfPresent": {"InputName": "n", "Then": ["a", {"IfPresent": {"InputName": "absent", "Then": "b", "Else": ["c", {"Concat": ["d", "e"]}]}}]}}"#,
            vec!["a", "c", "de"],
        ),
        (
            r#"{"IfPresent":{"InputName":"n","Then":"tight"}}"#,
            vec!["tight"],
        ),
        (
            r#"{"config": {"IfPresent": 1}}"#,
            vec![r#"{"config": {"IfPresent": 1}}"#],
        ),
    ] {
        assert_eq!(resolve_all(&[text]).unwrap(), want, "{text}");
    }
}

#[test]
fn malformed_structures_are_refused() {
    for text in [
        r#"{"IfPresent": 1}"#,
        r#"{"IfPresent": {"Then": "x"}}"#,
        r#"{"IfPresent": {"InputName": "n"}}"#,
        r#"{"Concat": "x"}"#,
        r#"{"Concat": [1]}"#,
        r#"{"Concat": ["a""#,
    ] {
        assert!(
            resolve_all(&[text]).unwrap_err().contains("malformed"),
            "{text}"
        );
    }
    let error = resolve_all(&[r#"{"IfPresent": {"InputName": "typo", "Then": "x"}}"#]).unwrap_err();
    assert!(error.contains("\"typo\""), "{error}");
}

#[test]
fn values_with_placeholders_are_resolved_before_and_once() {
    let mut input = json!({
        "inputs": {
            "parameterValues": {
                "text": "{{$.inputs.parameters['pipelinechannel--a-Output']}}-bar in {{$.pipeline_job_name}}",
                "pipelinechannel--a-Output": "{{$.inputs.parameters['other']}}",
                "other": "o",
                "list": ["{{$.inputs.parameters['other']}}", {"k": "{{$.inputs.parameters['other']}}"}],
                "data": "{{$.inputs.parameters['unknown']}} {{$.Values.x}} {{$}} {{$.outputs.output_file}}",
            },
            "artifacts": {},
        },
        "outputs": {"parameters": {}, "artifacts": {}, "outputFile": "/o"},
    });
    resolve_inputs(&mut input, &context(), &BTreeSet::new());
    let values = &input["inputs"]["parameterValues"];
    assert_eq!(
        values["text"],
        "{{$.inputs.parameters['other']}}-bar in my run"
    );
    assert_eq!(values["list"], json!(["o", {"k": "o"}]));
    assert_eq!(
        values["data"],
        "{{$.inputs.parameters['unknown']}} {{$.Values.x}} {{$}} {{$.outputs.output_file}}"
    );
}

proptest! {
    #[test]
    fn text_without_placeholders_is_kept(text in "[^$]*") {
        prop_assume!(!text.trim_start().starts_with('{'));
        prop_assert_eq!(resolve(&text), Ok(text));
    }

    #[test]
    fn what_is_put_in_is_not_looked_at_again(value in ".*") {
        let mut input = input();
        input["inputs"]["parameterValues"]["s"] = json!(value);
        let scope = Scope { executor_input: &input, context: &context(), declared_inputs: &declared() };
        let resolved = scope.resolve("<{{$.inputs.parameters['s']}}>").unwrap();
        prop_assert_eq!(resolved, format!("<{value}>"));
    }

    #[test]
    fn any_text_is_survived(text in "[{}$.\\[\\]'\"a-z]{0,60}") {
        drop(resolve_all(&[&text]));
    }
}
