//! What of Argo workflows is refused, and by which name.

use flumina_pipeline_spec::Source;
use serde_json::{Value, json};

use crate::argo::{argument, call, faults, program, step, workflow};

#[test]
fn what_is_wrong_or_not_supported_is_named() {
    let with = |name: &str, key: &str, value: Value| {
        let mut template = program(name);
        template[key] = value;
        workflow(json!([template]))
    };
    let tasks =
        |tasks: Value| workflow(json!([{"name": "main", "dag": {"tasks": tasks}}, step("step")]));
    let resource = |action: &str, manifest: &str| {
        let resource = json!({"action": action, "manifest": manifest});
        workflow(json!([{"name": "r", "resource": resource}]))
    };
    let table: Vec<(Value, &str)> = vec![
        (
            workflow(json!([{"name": "r", "resource": {"action": "create"}}])),
            "spec.templates[0].resource.manifest: must be one object",
        ),
        (
            resource("apply", "kind: PersistentVolumeClaim"),
            "would apply a `PersistentVolumeClaim` of a cluster, which is not supported",
        ),
        (
            resource("create", "kind: VolumeSnapshot"),
            "would create a `VolumeSnapshot` of a cluster",
        ),
        (
            resource(
                "create",
                "{kind: PersistentVolumeClaim, metadata: {name: a}, spec: {dataSource: {name: s}}}",
            ),
            "`dataSource` of a volume is not supported",
        ),
        (
            with("p", "sidecars", json!([{}])),
            "spec.templates[0].sidecars: `sidecars`",
        ),
        (
            with("p", "initContainers", json!([{}])),
            "`initContainers` of Argo workflows is not supported: a step is one program here",
        ),
        (with("p", "memoize", json!({})), "`memoize`"),
        (
            tasks(json!([call("a", "none", json!({}))])),
            "spec.templates[0].dag.tasks[0].template: there is no template `none`",
        ),
        (
            tasks(json!([call("a", "step", json!({"dependencies": ["z"]}))])),
            "there is no task `z`",
        ),
        (
            tasks(json!([
                call("a", "step", json!({"dependencies": ["b"]})),
                call("b", "step", json!({"dependencies": ["a"]})),
            ])),
            "tasks wait for each other in a circle: a → b → a",
        ),
        (
            tasks(json!([
                call("a", "step", json!({})),
                call("a", "step", json!({}))
            ])),
            "there are two tasks `a`",
        ),
        (
            tasks(json!([call("a", "step", json!({"hooks": {}}))])),
            "`hooks`",
        ),
        (
            tasks(json!([call("a", "step", json!({"depends": "b.Failed"}))])),
            "`b.Failed` is not supported",
        ),
        (
            tasks(json!([call("a", "step", json!({"when": "1 +"}))])),
            "dag.tasks[0].when: the condition `1 +`",
        ),
        (
            tasks(json!([call(
                "a",
                "step",
                json!({"arguments": argument("{{item}}")})
            )])),
            "{{item}} is no value here",
        ),
        (
            tasks(json!([call(
                "a",
                "step",
                json!({"arguments": argument("{{tasks.z.outputs.parameters.y}}")})
            )])),
            "there is no task `z` in template `main`",
        ),
        (
            tasks(json!([call(
                "a",
                "step",
                json!({"arguments": argument("{{tasks.a.outputs.result}}")})
            )])),
            "{{tasks.a.outputs.result}} is not supported",
        ),
        (
            tasks(json!([call("a", "main", json!({}))])),
            "template `main` calls itself without a condition",
        ),
        (
            workflow(json!([{"name": "x"}])),
            "must have one of container, script, dag and steps",
        ),
        (
            workflow(json!([program("a"), program("a")])),
            "there are two templates `a`",
        ),
    ];
    for (workflow, want) in table {
        let found = faults(&workflow);
        assert!(
            found.iter().any(|fault| fault.contains(want)),
            "{want}: {found:?}"
        );
    }
}

#[test]
fn documents_of_other_kinds_are_told_apart() {
    let mut cron = workflow(json!([program("a")]));
    cron["kind"] = "CronWorkflow".into();
    let error = Source::from_value(cron).unwrap_err().to_string();
    assert!(error.contains("Argo CronWorkflow"), "{error}");
    let two = format!("{0}\n---\n{0}", workflow(json!([program("a")])));
    let error = Source::parse(two.as_bytes()).unwrap_err().to_string();
    assert!(error.contains('2'), "{error}");
}
