//! Volumes of workflows, and what else of a pod means something here.

use flumina_pipeline_spec::{Body, Container, Executor, Items, ParameterValue, Plan};
use serde_json::{Value, json};

use crate::argo::{argument, call, faults, plan, program, step, workflow};

fn container<'a>(plan: &'a Plan, template: &str) -> &'a Container {
    let Executor::Container(container) = &plan.executors[&format!("exec-{template}")] else {
        panic!("no container")
    };
    container
}

/// A template as the SDK writes its operation for a volume.
fn makes(manifest: Value) -> Value {
    json!({
        "name": "make",
        "inputs": {"parameters": [{"name": "size"}]},
        "resource": {"action": "create", "manifest": manifest.to_string()},
        "outputs": {"parameters": [
            {"name": "make-name", "valueFrom": {"jsonPath": "{.metadata.name}"}},
            {"name": "make-size", "valueFrom": {"jsonPath": "{.status.capacity.storage}"}},
            {"name": "make-manifest", "valueFrom": {"jsonPath": "{}"}},
        ]},
    })
}

fn claim() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "{{workflow.name}}-mine"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "{{inputs.parameters.size}}"}},
            "storageClassName": "fast",
        },
    })
}

fn making(template: Value) -> Value {
    let size = json!({"arguments": {"parameters": [{"name": "size", "value": "1Gi"}]}});
    workflow(json!([
        {"name": "main", "dag": {"tasks": [call("m", "make", size)]}},
        template,
    ]))
}

#[test]
fn a_claim_becomes_a_volume_with_its_parts_as_outputs() {
    let plan = plan(&making(makes(claim())));
    let made = container(&plan, "make");
    let name = "{{$.pipeline_job_resource_name}}-mine";
    let size = "{{$.inputs.parameters['size']}}";
    assert_eq!(made.image, "argostub/createpvc");
    assert_eq!(
        made.platform["createPvc"],
        json!({"pvcName": name, "size": size, "accessModes": ["ReadWriteMany"], "storageClassName": "fast"})
    );
    let outputs = &made.files.outputs;
    let text = |at: usize| outputs[at].default.clone().unwrap();
    assert_eq!((&*text(0), &*text(1)), (name, size));
    let manifest: Value = serde_json::from_str(&text(2)).unwrap();
    assert_eq!(manifest["metadata"]["name"], name);
    assert_eq!(manifest["status"]["phase"], "Bound");
    let given: Vec<&String> = plan.components["make"].output_parameters.keys().collect();
    assert_eq!(given, ["make-manifest", "make-name", "make-size"]);
    assert!(matches!(plan.components["make"].body, Body::Executor(_)));
}

#[test]
fn names_are_made_up_and_outputs_that_nothing_has_are_named() {
    let mut generated = claim();
    generated["metadata"] = json!({"generateName": "own-"});
    let made = plan(&making(makes(generated)));
    let name = &container(&made, "make").platform["createPvc"]["pvcName"];
    assert_eq!(name, "own-{{$.pipeline_job_uuid}}-{{$.pipeline_task_uuid}}");
    let mut strange = makes(claim());
    strange["outputs"]["parameters"][0]["valueFrom"] = json!({"jsonPath": "{.status.colour}"});
    let found = faults(&making(strange.clone()));
    assert!(
        found[0].contains("`{.status.colour}` names nothing"),
        "{found:?}"
    );
    strange["outputs"]["parameters"][0]["valueFrom"]["default"] = "none".into();
    let made = plan(&making(strange));
    let output = &container(&made, "make").files.outputs[0];
    assert_eq!(output.default.as_deref(), Some("none"));
}

#[test]
fn volumes_are_removed_by_an_object_and_by_the_words_of_the_sdk() {
    let mut resource = json!({"name": "gone", "resource": {"action": "delete"}});
    resource["resource"]["manifest"] =
        "kind: PersistentVolumeClaim\nmetadata: {name: '{{workflow.name}}-mine'}".into();
    let words = |kind: &str, name: &str| {
        let mut program = program("gone");
        program["container"]["command"] = json!([
            "kubectl",
            "delete",
            kind,
            name,
            "--ignore-not-found",
            "--output",
            "name"
        ]);
        program
    };
    let name = "{{$.pipeline_job_resource_name}}-mine";
    for template in [
        resource,
        words("PersistentVolumeClaim", "{{workflow.name}}-mine"),
    ] {
        let plan = plan(&workflow(json!([template])));
        let gone = container(&plan, "gone");
        assert_eq!(gone.image, "argostub/deletepvc");
        assert_eq!(gone.platform["deletePvc"]["constant"], name);
    }
    let other = plan(&workflow(json!([words("secret", "x")])));
    assert_eq!(container(&other, "gone").command[0], "kubectl");
}

#[test]
fn quantities_that_only_the_run_knows_come_from_the_patch() {
    let mut patched = step("step");
    patched["container"]["resources"] = json!({"limits": {"cpu": "2"}});
    let patch = json!({"containers": [{
        "name": "main",
        "resources": {"limits": {"memory": "{{inputs.parameters.x}}"}},
    }]});
    patched["podSpecPatch"] = patch.to_string().into();
    let document = |template: &Value| {
        workflow(json!([
            {"name": "main", "dag": {"tasks": [call("a", "step", json!({"arguments": argument("1Gi")}))]}},
            template,
        ]))
    };
    let plan = plan(&document(&patched));
    let resources = &container(&plan, "step").resources;
    assert_eq!(
        (&*resources.cpu_limit, &*resources.memory_limit),
        ("2", "{{$.inputs.parameters['x']}}")
    );
    patched["podSpecPatch"] = "no: json".into();
    let found = faults(&document(&patched));
    assert!(found[0].contains("podSpecPatch"), "{found:?}");
}

#[test]
fn notes_of_a_pod_are_kept_but_for_the_documents_of_the_sdk() {
    let mut noted = program("p");
    noted["metadata"] = json!({
        "labels": {"team": "{{workflow.name}}"},
        "annotations": {"a": "b", "pipelines.kubeflow.org/component_spec": "{}"},
    });
    let plan = plan(&workflow(json!([noted])));
    assert_eq!(
        container(&plan, "p").platform["podMetadata"],
        json!({"labels": {"team": "{{$.pipeline_job_resource_name}}"}, "annotations": {"a": "b"}})
    );
}

#[test]
fn what_a_skipped_task_would_have_put_out_stays_as_it_is_written() {
    let taken = "{{tasks.maybe.outputs.parameters.y}}";
    let maybe = json!({"arguments": argument("1"), "when": "a == b"});
    let plan = plan(&workflow(json!([
        {"name": "main", "dag": {"tasks": [
            call("maybe", "step", maybe),
            call("after", "step", json!({"arguments": argument(taken)})),
            call("each", "step", json!({"arguments": argument(taken), "withItems": [1]})),
        ]}},
        step("step"),
    ])));
    for name in ["after", "each"] {
        let around = &plan.components[&format!("main/{name}")];
        let input = &around.input_parameters["tasks.maybe.outputs.parameters.y"];
        assert_eq!(input.default, Some(taken.into()), "{name}");
    }
    let Body::Dag(main) = &plan.components["main"].body else {
        panic!("no group")
    };
    assert_eq!(main.tasks["after"].iterator, None);
    let each = main.tasks["each"].iterator.as_ref().unwrap();
    assert_eq!(each.items, Items::Raw(vec![json!(1)]));
    let value = &main.tasks["after"].parameters["tasks.maybe.outputs.parameters.y"].value;
    assert!(
        matches!(value, ParameterValue::TaskOutput { .. }),
        "{value:?}"
    );
}

#[test]
fn files_of_secrets_are_whole_and_may_be_missing() {
    let mounted = |volume: Value, sub_path: &str| {
        let mut program = program("p");
        program["volumes"] = json!([volume]);
        let mut mount = json!({"name": "v", "mountPath": "/v"});
        if !sub_path.is_empty() {
            mount["subPath"] = sub_path.into();
        }
        program["container"]["volumeMounts"] = json!([mount]);
        workflow(json!([program]))
    };
    let optional = json!({"name": "v", "secret": {"secretName": "s", "optional": true}});
    let plan = plan(&mounted(optional.clone(), ""));
    assert_eq!(
        container(&plan, "p").platform["secretAsVolume"],
        json!([{"secretName": "s", "mountPath": "/v", "optional": true}])
    );
    let items = json!([{"key": "k", "path": "p"}]);
    let chosen = json!({"name": "v", "secret": {"secretName": "s", "items": items}});
    let found = faults(&mounted(chosen, ""));
    assert!(found[0].contains("`items`"), "{found:?}");
    let found = faults(&mounted(optional, "k"));
    assert!(found[0].contains("subPath"), "{found:?}");
}
