//! Kubernetes settings of tasks.

use std::collections::BTreeMap;

use pipeline_spec::plan::*;
use serde_json::{Value, json};

use super::build::*;
use crate::domain::platform::*;
use crate::domain::*;

/// A task `t` with settings, in a pipeline with an optional input `name`.
fn settings(settings: Value, parameters: Value) -> Bench {
    let mut component_of_t = program();
    component_of_t.input_parameters = BTreeMap::new();
    let t = task("t", "comp-t", &[]);
    let mut plan = plan(
        component(Body::Dag(dag(vec![t]))),
        vec![("comp-t", component_of_t)],
    );
    let inputs = &mut plan.root.input_parameters;
    inputs.insert("name".into(), text(None, true));
    if let Executor::Container(container) = plan.executors.get_mut("exec").unwrap() {
        container.platform = settings;
        container.args.clear();
    }
    plan.pipeline_config = json!({"workspace": {"size": "1Gi"}});
    Bench::started(plan, parameters)
}

fn asked(bench: &Bench) -> Platform {
    let id = bench.get("t").id;
    launch_spec(&bench.state, id).unwrap().platform
}

#[test]
fn settings_become_mounts_variables_and_labels() {
    let document = json!({
        "secretAsEnv": [{
            "secretNameParameter": {"componentInputParameter": "name"},
            "keyToEnv": [{"secretKey": "k", "envVar": "V"}],
        }],
        "configMapAsVolume": [{"configMapName": "old", "mountPath": "/c", "optional": true}],
        "pvcMount": [
            {"pvcNameParameter": {"runtimeValue": {"constant": "v-{{$.pipeline_job_name}}"}}, "mountPath": "/v", "subPath": "s"},
            {"constant": "w", "mountPath": "/w"},
        ],
        "emptyDirMounts": [{"volumeName": "e", "mountPath": "/e", "sizeLimit": "5Mi"}],
        "fieldPathAsEnv": [{"name": "POD", "fieldPath": "metadata.name"}],
        "podMetadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "activeDeadlineSeconds": "20",
        "tolerations": [{"key": "x"}],
    });
    let bench = settings(document, json!({"name": "s"}));
    let volume = |name: &str, sub_path: &str| MountSource::Volume {
        name: name.to_owned(),
        sub_path: sub_path.to_owned(),
    };
    let size = |size: &str| size.to_owned();
    let mounts = [
        (
            "/kfp-workspace",
            MountSource::Workspace { size: size("1Gi") },
        ),
        (
            "/c",
            MountSource::ConfigMap {
                name: "old".to_owned(),
                optional: true,
            },
        ),
        (
            "/e",
            MountSource::Scratch {
                name: "e".to_owned(),
                size: size("5Mi"),
            },
        ),
        ("/v", volume("v-my run", "s")),
        ("/w", volume("w", "")),
    ];
    let found = asked(&bench);
    let expected = mounts.map(|(path, source)| PlatformMount {
        path: path.to_owned(),
        source,
    });
    assert_eq!(found.mounts, expected);
    let variable = |name: &str, source| PlatformVariable {
        name: name.to_owned(),
        source,
    };
    let key = KeyOf {
        name: "s".to_owned(),
        key: "k".to_owned(),
        optional: false,
    };
    assert_eq!(
        found.env,
        [
            variable("POD", VariableSource::Field("metadata.name".to_owned())),
            variable("V", VariableSource::Secret(key)),
        ]
    );
    assert_eq!(found.timeout_seconds, 20);
    assert_eq!(
        (&found.labels["a"][..], &found.annotations["c"][..]),
        ("b", "d")
    );
    let ignored: Vec<&String> = found.ignored.keys().collect();
    assert_eq!(ignored, ["tolerations"]);
}

#[test]
fn a_name_that_nobody_gave_is_skipped_where_it_is_optional_and_an_error_where_not() {
    let secret = |optional: bool| {
        json!({"secretAsVolume": [{
            "secretNameParameter": {"componentInputParameter": "name"},
            "mountPath": "/s",
            "optional": optional,
        }]})
    };
    let bench = settings(secret(true), json!({}));
    assert_eq!(asked(&bench).mounts.len(), 1, "the workspace alone");
    let bench = settings(secret(false), json!({}));
    let failed = bench.get("t");
    assert_eq!(failed.status, TaskStatus::Failed);
    assert_eq!(failed.body.reason, "INPUT_UNRESOLVED");
    assert_eq!(
        failed.body.message,
        "task `t`, secretAsVolume[0]: the name of the secret is not given"
    );
}

#[test]
fn names_come_from_tasks_before() {
    let mut make = program();
    make.input_parameters = BTreeMap::from([
        ("pvc_name_suffix".to_owned(), text(None, true)),
        (
            "access_modes".to_owned(),
            typed(ParameterType::List, None, false),
        ),
    ]);
    make.output_parameters = BTreeMap::from([("name".to_owned(), ParameterType::String)]);
    make.body = Body::Executor("make".to_owned());
    let mut makes = task("make", "comp-make", &[]);
    makes.parameters = BTreeMap::from([
        ("pvc_name_suffix".to_owned(), constant(json!("-v"))),
        (
            "access_modes".to_owned(),
            constant(json!(["ReadWriteOnce"])),
        ),
    ]);
    let mut user = program();
    user.input_parameters = BTreeMap::new();
    let uses = task("use", "comp-use", &["make"]);
    let mut plan = plan(
        component(Body::Dag(dag(vec![makes, uses]))),
        vec![("comp-make", make), ("comp-use", user)],
    );
    let with = |edit: &dyn Fn(&mut Container)| {
        let mut container = container();
        container.args.clear();
        edit(&mut container);
        Executor::Container(container)
    };
    let marker = with(&|container| container.image = "argostub/createpvc".to_owned());
    plan.executors.insert("make".to_owned(), marker);
    let name = json!({"producerTask": "make", "outputParameterKey": "name"});
    let mount = json!({"pvcMount": [{"mountPath": "/v", "pvcNameParameter": {"taskOutputParameter": name}}]});
    let mounting = with(&|container| container.platform = mount.clone());
    plan.executors.insert("exec".to_owned(), mounting);
    let mut bench = Bench::started(plan, json!({}));

    let spec = launch_spec(&bench.state, bench.get("make").id).unwrap();
    assert_eq!(spec.settings.image, "");
    let expected = PlatformVolumeTask::Create {
        name: String::new(),
        suffix: "-v".to_owned(),
        size: String::new(),
        access_modes: vec!["ReadWriteOnce".to_owned()],
        storage_class: String::new(),
    };
    assert_eq!(spec.platform.volume_task, Some(expected));

    let report = StepReport {
        parameters: [("name".to_owned(), json!("made-v"))].into_iter().collect(),
        ..StepReport::default()
    };
    bench.end("make", WorkloadState::Succeeded(Box::new(report)));
    let spec = launch_spec(&bench.state, bench.get("use").id).unwrap();
    let source = MountSource::Volume {
        name: "made-v".to_owned(),
        sub_path: String::new(),
    };
    assert_eq!(spec.platform.mounts[0].source, source);
}

#[test]
fn a_workflow_makes_a_volume_and_knows_its_parts_beforehand() {
    let mut make = program();
    make.input_parameters = BTreeMap::from([("size".to_owned(), text(None, false))]);
    let given = ["made-manifest", "made-name"];
    make.output_parameters = given
        .map(|name| (name.to_owned(), ParameterType::String))
        .into();
    let mut makes = task("make", "comp", &[]);
    makes.parameters = BTreeMap::from([("size".to_owned(), constant(json!("1\"Gi")))]);
    let mut plan = plan(component(Body::Dag(dag(vec![makes]))), vec![("comp", make)]);
    let output = |parameter: &str, known: &str| OutputFile {
        path: String::new(),
        parameter: parameter.to_owned(),
        artifact: String::new(),
        default: Some(known.to_owned()),
        optional: false,
    };
    let size = "{{$.inputs.parameters['size']}}";
    let mut container = container();
    container.args.clear();
    container.image = "argostub/createpvc".to_owned();
    container.platform = json!({"createPvc": {
        "pvcName": "{{$.pipeline_job_resource_name}}-v", "size": size, "accessModes": ["ReadWriteOnce"],
    }});
    container.files.outputs = vec![
        output("made-name", "{{$.pipeline_job_resource_name}}-v"),
        output("made-manifest", &json!({ "size": size }).to_string()),
    ];
    plan.executors
        .insert("exec".to_owned(), Executor::Container(container));
    let mut bench = Bench::started(plan, json!({}));
    let name = format!("{}-v", resource_name(&bench.state.run));
    let spec = launch_spec(&bench.state, bench.get("make").id).unwrap();
    assert!(spec.files.is_empty(), "{:?}", spec.files);
    let expected = PlatformVolumeTask::Create {
        name: name.clone(),
        suffix: String::new(),
        size: "1\"Gi".to_owned(),
        access_modes: vec!["ReadWriteOnce".to_owned()],
        storage_class: String::new(),
    };
    assert_eq!(spec.platform.volume_task, Some(expected));

    bench.end("make", WorkloadState::Succeeded(Box::default()));
    let outputs = &bench.get("make").body.outputs.parameters;
    assert_eq!(outputs["made-name"], Value::from(name));
    assert_eq!(outputs["made-manifest"], r#"{"size":"1\"Gi"}"#);
}

#[test]
fn programs_know_their_run_by_the_labels_of_their_pod() {
    let own = json!({"podMetadata": {"labels": {"of": "{{$.pipeline_job_uuid}}"}}});
    let bench = settings(own, json!({"name": "x"}));
    let labels = asked(&bench).labels;
    let run = bench.state.run.id.to_string();
    assert_eq!((&labels["of"], &labels["pipeline/runid"]), (&run, &run));
    let workflow = &labels["workflows.argoproj.io/workflow"];
    assert_eq!(*workflow, resource_name(&bench.state.run));
}
