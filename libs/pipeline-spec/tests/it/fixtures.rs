//! What the SDK compiles is planned, with the meaning that it has there.

use flumina_pipeline_spec::{
    ArtifactSource, Body, Executor, ImporterUri, Items, OutputSelector, ParameterType,
    ParameterValue, Plan, Retry, Strategy, Task,
};
use serde_json::{Value, json};

use crate::{fixture, lines, planned};

const VALID: [&str; 17] = [
    "all_types",
    "artifact_loop",
    "artifacts",
    "conditions",
    "containers",
    "exit_handler",
    "f_strings",
    "importer",
    "kubernetes",
    "loops",
    "nested",
    "nested_collected",
    "one_of_artifacts",
    "optional_inputs",
    "required_inputs",
    "retries_and_resources",
    "workspace",
];

fn task<'p>(plan: &'p Plan, component: &str, name: &str) -> &'p Task {
    let component = match component {
        "root" => &plan.root,
        name => plan.components.get(name).unwrap(),
    };
    match &component.body {
        Body::Dag(dag) => dag.tasks.get(name).unwrap(),
        Body::Executor(_) => panic!("not a group"),
    }
}

fn constant<'p>(task: &'p Task, name: &str) -> &'p Value {
    match &task.parameters.get(name).unwrap().value {
        ParameterValue::Constant(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_compiled_pipeline_is_planned() {
    for name in VALID {
        let document = fixture(name);
        let plan = planned(name);
        assert_eq!(plan.name, document.name());
        // The plan survives being stored.
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "{name}");
        // What is handed back to clients reads as the same pipeline.
        let again = flumina_pipeline_spec::Document::from_value(document.to_value()).unwrap();
        assert_eq!(flumina_pipeline_spec::plan(&again).unwrap(), plan, "{name}");
    }
}

#[test]
fn the_compilers_broken_loop_is_named_by_task_and_input() {
    let faults = flumina_pipeline_spec::plan(&fixture("broken_loop_in_exit_handler")).unwrap_err();
    let at =
        "root.dag.tasks.exit-handler-1.inputs.parameters.pipelinechannel--loop-item-param-2-subvar";
    let why = ": the compiler of the SDK lost an item of a loop, as it does with fields of items inside exit handlers and \
               conditions and with items in texts; put the loop into a pipeline of its own, or give the whole item to a \
               component";
    assert_eq!(
        lines(&faults),
        [
            format!(
                "{at}-a: the enclosing component has no input parameter 'loop-item-param-2'{why}"
            ),
            format!(
                "{at}-b: the enclosing component has no input parameter 'loop-item-param-2'{why}"
            ),
        ]
    );
}

#[test]
fn whole_numbers_are_integers() {
    let plan = planned("all_types");
    let root = &plan.root.input_parameters;
    assert_eq!(root["whole"].default, Some(json!(2)));
    assert_eq!(root["real"].default, Some(json!(0.5)));
    assert_eq!(root["items"].default, Some(json!([1, "two", 3.5, false])));
    assert_eq!(root["needed"].default, Some(json!("12e3x")));
    assert_eq!(plan.display_name, "All types");
    let third = task(&plan, "root", "describe-3");
    assert_eq!(constant(third, "text"), "007");
    assert_eq!(constant(third, "whole"), &json!(3));
    assert_eq!(constant(third, "real"), &json!(3.0));
    assert_eq!(
        constant(third, "table"),
        &json!({"n": "1_000", "yes": "no"})
    );
}

#[test]
fn f_strings_keep_their_channels() {
    let plan = planned("f_strings");
    let echo = task(&plan, "root", "echo-2");
    assert_eq!(
        constant(echo, "text"),
        "{{$.inputs.parameters['pipelinechannel--echo-Output']}}, \
         {{$.inputs.parameters['pipelinechannel--add-Output']}} times from \
         {{$.inputs.parameters['pipelinechannel--who']}}"
    );
    assert_eq!(
        echo.parameters["pipelinechannel--add-Output"].value,
        ParameterValue::TaskOutput {
            task: "add".to_owned(),
            output: "Output".to_owned()
        }
    );
    assert_eq!(echo.dependencies, ["add", "echo"]);
}

#[test]
fn nested_groups_and_artifacts_are_resolved() {
    let plan = planned("nested");
    let Body::Dag(root) = &plan.root.body else {
        panic!()
    };
    assert_eq!(root.order, ["inner", "inner-2", "train"]);
    let selector = OutputSelector {
        task: "train".to_owned(),
        output: "model".to_owned(),
    };
    assert_eq!(root.output_artifacts["Output"], [selector]);
    assert_eq!(
        root.tasks["train"].artifacts["data"],
        ArtifactSource::TaskOutput {
            task: "inner-2".to_owned(),
            output: "data".to_owned()
        }
    );
    let artifacts = planned("artifacts");
    assert_eq!(artifacts.default_root, "/tmp/root");
    assert_eq!(
        task(&artifacts, "root", "join").dependencies,
        ["make-dataset", "train"]
    );
}

#[test]
fn optional_inputs_are_optional() {
    let plan = planned("optional_inputs");
    let sometimes = &plan.components["comp-sometimes"].input_parameters;
    assert_eq!(sometimes["text"].default, Some(json!("n")));
    assert!(sometimes["extra"].optional && sometimes["extra"].default.is_none());
    assert!(plan.components["comp-optional-artifact"].input_artifacts["data"].optional);
}

#[test]
fn importers_have_a_uri_or_a_parameter() {
    let plan = planned("importer");
    let importers: Vec<_> = plan
        .executors
        .values()
        .filter_map(|executor| match executor {
            Executor::Importer(importer) => Some(importer),
            Executor::Container(_) => None,
        })
        .collect();
    assert_eq!(
        importers[0].uri,
        ImporterUri::Constant("gs://bucket/data.csv".to_owned())
    );
    assert_eq!(importers[0].metadata, json!({"from": "x", "rows": 3}));
    assert!(importers[0].reimport);
    assert_eq!(importers[1].uri, ImporterUri::Parameter("uri".to_owned()));
    assert_eq!(importers[1].artifact_type.schema_title, "system.Dataset");
}

#[test]
fn conditions_and_one_of_are_planned() {
    let plan = planned("conditions");
    let branches = task(&plan, "root", "condition-branches-1");
    assert!(branches.trigger.condition.is_empty());
    let heads = task(&plan, "comp-condition-branches-1", "condition-2");
    assert_eq!(
        heads.trigger.condition,
        "inputs.parameter_values['pipelinechannel--flip-Output'] == 'heads'"
    );
    let Body::Dag(dag) = &plan.components["comp-condition-branches-1"].body else {
        panic!()
    };
    let (_, selectors) = dag.output_parameters.first_key_value().unwrap();
    assert_eq!(selectors.len(), 3);
}

#[test]
fn loops_have_items_and_limits() {
    let plan = planned("loops");
    let fixed = task(&plan, "root", "for-loop-2").iterator.as_ref().unwrap();
    assert_eq!(fixed.items, Items::Raw(vec![json!(1), json!(2), json!(3)]));
    assert_eq!(fixed.item_input, "pipelinechannel--loop-item-param-1");
    assert_eq!(fixed.parallelism, 2);
    let dynamic = task(&plan, "root", "for-loop-3").iterator.as_ref().unwrap();
    assert_eq!(
        dynamic.items,
        Items::Parameter("pipelinechannel--words".to_owned())
    );
    let artifacts = planned("artifact_loop");
    let over = task(&artifacts, "root", "for-loop-1")
        .iterator
        .as_ref()
        .unwrap();
    assert_eq!(
        over.items,
        Items::Artifact("pipelinechannel--many-Output".to_owned())
    );
}

#[test]
fn exit_tasks_run_however_the_group_ended() {
    let plan = planned("exit_handler");
    let report = task(&plan, "root", "report");
    assert_eq!(report.trigger.strategy, Strategy::AllCompleted);
    assert_eq!(report.dependencies, ["exit-handler-1"]);
    assert_eq!(
        report.parameters["status"].value,
        ParameterValue::FinalStatus {
            task: "exit-handler-1".to_owned()
        }
    );
    let status = &plan.components["comp-report"].input_parameters["status"];
    assert_eq!(status.parameter_type, ParameterType::TaskFinalStatus);
}

#[test]
fn retries_and_resources_are_read() {
    let plan = planned("retries_and_resources");
    assert_eq!(
        task(&plan, "root", "echo").retry,
        Some(Retry {
            max_retries: 3,
            backoff_ms: 10_000,
            backoff_factor: 1.5,
            backoff_max_ms: 60_000
        })
    );
    assert!(!task(&plan, "root", "echo").caching.enabled);
    assert_eq!(task(&plan, "root", "echo-2").caching.key, "mine");
    assert_eq!(task(&plan, "root", "echo-3").display_name, "The third");
    let Executor::Container(container) = &plan.executors["exec-echo-2"] else {
        panic!()
    };
    let resources = &container.resources;
    assert_eq!(resources.cpu_request, "500m");
    assert_eq!(resources.memory_request, "512Mi");
    assert_eq!(resources.accelerator_type, "nvidia.com/gpu");
    assert_eq!(resources.accelerator_count, "1");
    assert_eq!(container.env, [("NAME".to_owned(), "value".to_owned())]);
}

#[test]
fn platform_settings_stand_with_their_executor() {
    let plan = planned("kubernetes");
    let Executor::Container(container) = &plan.executors["exec-echo"] else {
        panic!()
    };
    assert_eq!(container.platform["imagePullPolicy"], "Always");
    assert_eq!(
        container.platform["securityContext"],
        json!({"runAsUser": "1000"})
    );
    let plan = planned("workspace");
    assert_eq!(plan.pipeline_config["workspace"]["size"], "1Gi");
}
