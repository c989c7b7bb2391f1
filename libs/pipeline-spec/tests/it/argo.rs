//! Workflows and the plans that they become.

use flumina_pipeline_spec::{
    ArtifactSource, Body, Component, Dag, Executor, Features, FileSource, Files, Items,
    ParameterSource, ParameterValue, Plan, Source, Strategy, Task, unsupported,
};
use serde_json::{Value, json};

/// A workflow of these templates; the first is the entry point.
pub(crate) fn workflow(templates: Value) -> Value {
    let entry = templates[0]["name"].clone();
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "test-"},
        "spec": {"entrypoint": entry, "templates": templates},
    })
}

pub(crate) fn plan(workflow: &Value) -> Plan {
    let source = Source::parse(workflow.to_string().as_bytes()).unwrap();
    source.plan().unwrap_or_else(|faults| panic!("{faults:?}"))
}

pub(crate) fn faults(workflow: &Value) -> Vec<String> {
    let source = Source::parse(workflow.to_string().as_bytes()).unwrap();
    let faults = source.plan().unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

pub(crate) fn program(name: &str) -> Value {
    json!({"name": name, "container": {"image": "alpine", "command": ["true"]}})
}

/// A program with an input and an output.
pub(crate) fn step(name: &str) -> Value {
    json!({
        "name": name,
        "container": {
            "image": "python:3.7",
            "command": ["sh", "-c", "cp $0 $1"],
            "args": ["{{inputs.parameters.x}}", "{{outputs.parameters.y.path}}"],
        },
        "inputs": {"parameters": [{"name": "x"}]},
        "outputs": {"parameters": [{"name": "y", "valueFrom": {"path": "/tmp/outputs/y/data"}}]},
    })
}

pub(crate) fn call(name: &str, template: &str, more: Value) -> Value {
    let mut call = json!({"name": name, "template": template});
    for (key, value) in more.as_object().unwrap() {
        call[key] = value.clone();
    }
    call
}

pub(crate) fn argument(value: &str) -> Value {
    json!({"parameters": [{"name": "x", "value": value}]})
}

fn dag<'a>(plan: &'a Plan, component: &str) -> &'a Dag {
    let component = match component {
        "" => &plan.root,
        name => &plan.components[name],
    };
    let Body::Dag(dag) = &component.body else {
        panic!("no group")
    };
    dag
}

fn files<'a>(plan: &'a Plan, template: &str) -> &'a Files {
    let Executor::Container(container) = &plan.executors[&format!("exec-{template}")] else {
        panic!("no container")
    };
    &container.files
}

fn source<'a>(task: &'a Task, input: &str) -> &'a ParameterSource {
    &task.parameters[input]
}

fn input(name: &str) -> ParameterValue {
    ParameterValue::ComponentInput(name.to_owned())
}

fn output(task: &str, output: &str) -> ParameterValue {
    ParameterValue::TaskOutput {
        task: task.to_owned(),
        output: output.to_owned(),
    }
}

#[test]
fn programs_keep_their_paths_and_get_placeholders() {
    let plan = plan(&workflow(json!([
        {"name": "main", "dag": {"tasks": [call("a", "step", json!({"arguments": argument("1")}))]}},
        step("step"),
    ])));
    let Executor::Container(container) = &plan.executors["exec-step"] else {
        panic!("no container")
    };
    assert_eq!(
        container.args,
        ["{{$.inputs.parameters['x']}}", "/tmp/outputs/y/data"]
    );
    let file = &container.files.outputs[0];
    assert_eq!(
        (&*file.path, &*file.parameter),
        ("/tmp/outputs/y/data", "y")
    );
    assert_eq!(plan.name, "test");
    assert_eq!(dag(&plan, "").order, ["main"]);
}

#[test]
fn arguments_are_constants_outputs_inputs_and_mixtures() {
    let mut workflow = workflow(json!([
        {
            "name": "main",
            "inputs": {"parameters": [{"name": "p"}]},
            "dag": {"tasks": [
                call("a", "step", json!({"arguments": argument("{{inputs.parameters.p}}")})),
                call("b", "step", json!({"arguments": argument("{{tasks.a.outputs.parameters.y}}")})),
                call("c", "step", json!({"arguments": argument("<{{inputs.parameters.p}}|{{workflow.uid}}>")})),
                call("d", "step", json!({"arguments": argument("text"), "dependencies": ["a", "c"]})),
            ]},
        },
        step("step"),
    ]));
    workflow["spec"]["arguments"] = json!({"parameters": [{"name": "p", "value": 5}]});
    let plan = plan(&workflow);
    let main = dag(&plan, "main");
    assert_eq!(source(&main.tasks["a"], "x").value, input("p"));
    assert_eq!(source(&main.tasks["b"], "x").value, output("a", "y"));
    assert_eq!(main.tasks["b"].dependencies, ["a"]);
    let mixed = "<{{$.inputs.parameters['channel--inputs.parameters.p']}}|{{$.pipeline_job_uuid}}>";
    assert_eq!(
        source(&main.tasks["c"], "x").value,
        ParameterValue::Constant(mixed.into())
    );
    assert_eq!(
        source(&main.tasks["d"], "x").value,
        ParameterValue::Constant("text".into())
    );
    assert_eq!(main.tasks["d"].dependencies, ["a", "c"]);
    let root = &plan.root.input_parameters["p"];
    assert_eq!(root.default, Some("5".into()));
}

#[test]
fn a_condition_is_inside_a_group_that_succeeds_without_it() {
    let when = json!({
        "arguments": argument("1"),
        "when": "\"{{tasks.a.outputs.parameters.y}}\" == \"heads\"",
    });
    let plan = plan(&workflow(json!([
        {"name": "main", "dag": {"tasks": [
            call("a", "step", json!({"arguments": argument("1")})),
            call("b", "step", when),
            call("c", "step", json!({"arguments": argument("1"), "dependencies": ["b"]})),
        ]}},
        step("step"),
    ])));
    let outer = &dag(&plan, "main").tasks["b"];
    assert_eq!(
        (&*outer.component, &*outer.trigger.condition),
        ("main/b", "")
    );
    assert_eq!(
        source(outer, "tasks.a.outputs.parameters.y").value,
        output("a", "y")
    );
    let inner = &dag(&plan, "main/b").tasks["b"];
    assert_eq!(
        inner.trigger.condition,
        "inputs.parameter_values[\"when--tasks.a.outputs.parameters.y\"] == \"heads\""
    );
    assert_eq!(inner.component, "step");
    assert!(dag(&plan, "main/b").output_parameters.contains_key("y"));
}

#[test]
fn loops_have_items_and_fields_of_items() {
    let plan = plan(&workflow(json!([
        {"name": "main", "parallelism": 2, "dag": {"tasks": [
            call("a", "step", json!({"arguments": argument("{{item}}"), "withItems": [1, "b"]})),
            call("b", "step", json!({"arguments": argument("{{item.k}}"), "withItems": [{"k": 1}]})),
            call("c", "step", json!({
                "arguments": argument("{{item}}"),
                "withParam": "{{tasks.a.outputs.parameters.y}}",
            })),
            call("d", "step", json!({"arguments": argument("{{item}}"), "withSequence": {"start": 2, "count": "3"}})),
        ]}},
        step("step"),
    ])));
    let main = dag(&plan, "main");
    let iterator = main.tasks["a"].iterator.as_ref().unwrap();
    assert_eq!(iterator.items, Items::Raw(vec![json!(1), json!("b")]));
    assert_eq!((&*iterator.item_input, iterator.parallelism), ("item", 2));
    let inner = &dag(&plan, "main/b").tasks["b"];
    assert_eq!(source(inner, "x").value, input("item"));
    assert_eq!(
        source(inner, "x").selector,
        "parseJson(string_value)[\"k\"]"
    );
    let dynamic = &main.tasks["c"];
    assert_eq!(
        dynamic.iterator.as_ref().unwrap().items,
        Items::Parameter("items".into())
    );
    assert_eq!(source(dynamic, "items").value, output("a", "y"));
    // Loops of a group with a limit follow each other.
    assert_eq!(dynamic.dependencies, ["a", "b"]);
    let counted = main.tasks["d"].iterator.as_ref().unwrap();
    assert_eq!(
        counted.items,
        Items::Raw(vec![json!("2"), json!("3"), json!("4")])
    );
}

#[test]
fn items_may_name_what_only_the_run_knows() {
    let items = json!(["{{workflow.parameters.p}}", {"k": "{{inputs.parameters.x}}/q", "n": 1}]);
    let mut workflow = workflow(json!([
        {
            "name": "main",
            "inputs": {"parameters": [{"name": "x"}]},
            "dag": {"tasks": [
                call("a", "step", json!({"arguments": argument("{{item}}"), "withItems": items})),
            ]},
        },
        step("step"),
    ]));
    workflow["spec"]["arguments"] = json!({"parameters": [{"name": "x"}, {"name": "p"}]});
    let plan = plan(&workflow);
    let task = &dag(&plan, "main").tasks["a"];
    assert_eq!(
        task.iterator.as_ref().unwrap().items,
        Items::Parameter("items".into())
    );
    let placeholder = |name: &str| format!("{{{{$.inputs.parameters['channel--{name}']}}}}");
    let filled = json!([
        placeholder("workflow.parameters.p"),
        {"k": format!("{}/q", placeholder("inputs.parameters.x")), "n": 1},
    ]);
    assert_eq!(
        source(task, "items").value,
        ParameterValue::Constant(filled)
    );
    assert_eq!(
        source(task, "channel--inputs.parameters.x").value,
        input("x")
    );
}

#[test]
fn a_program_that_names_its_run_is_not_taken_from_the_cache() {
    let enabled = |word: &str| {
        let mut step = step("step");
        step["metadata"] = json!({"labels": {"pipelines.kubeflow.org/enable_caching": "true"}});
        step["container"]["env"] = json!([{"name": "E", "value": word}]);
        let plan = plan(&workflow(json!([
            {"name": "main", "dag": {"tasks": [
                call("a", "step", json!({"arguments": argument("{{workflow.uid}}")})),
            ]}},
            step,
        ])));
        dag(&plan, "main").tasks["a"].caching.enabled
    };
    assert!(enabled("plain"));
    assert!(!enabled("of {{workflow.uid}}"));
    assert!(!enabled("{{pod.name}}"));
}

#[test]
fn a_loop_takes_the_limit_of_the_group_that_it_calls() {
    let limited = |caller: u32, callee: u32| {
        let plan = plan(&workflow(json!([
            {"name": "main", "parallelism": caller, "dag": {"tasks": [
                call("a", "inner", json!({"withItems": [1, 2, 3]})),
            ]}},
            {"name": "inner", "parallelism": callee, "dag": {"tasks": [call("b", "p", json!({}))]}},
            program("p"),
        ])));
        let main = dag(&plan, "main");
        main.tasks["a"].iterator.as_ref().unwrap().parallelism
    };
    assert_eq!(limited(0, 0), 0);
    assert_eq!(limited(0, 2), 2);
    assert_eq!(limited(3, 0), 3);
    assert_eq!(limited(3, 2), 2);
}

#[test]
fn the_parallelism_of_a_workflow_is_that_of_its_programs() {
    let limit = |limit: Value| {
        let mut workflow = workflow(json!([program("p")]));
        workflow["spec"]["parallelism"] = limit;
        let plan = plan(&workflow);
        let refused = unsupported(&plan, &Features::default());
        assert!(refused.is_empty(), "{refused:?}");
        plan.parallelism()
    };
    assert_eq!(limit(json!(3)), Some(3));
    assert_eq!(limit(json!("3")), Some(3));
    assert_eq!(limit(json!(0)), None);
    assert_eq!(limit(Value::Null), None);
}

#[test]
fn what_waits_for_something_refused_is_not_blamed() {
    let found = faults(&workflow(json!([
        {"name": "main", "dag": {"tasks": [
            call("a", "cluster", json!({})),
            call("b", "p", json!({"dependencies": ["a"]})),
        ]}},
        {"name": "cluster", "resource": {"action": "create", "manifest": "kind: Secret"}},
        program("p"),
    ])));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("is a `resource` of Argo"), "{found:?}");
}

#[test]
fn rows_of_steps_follow_each_other() {
    let plan = plan(&workflow(json!([
        {"name": "main", "steps": [
            [call("a", "step", json!({"arguments": argument("1")})), call("b", "step", json!({"arguments": argument("2")}))],
            [call("c", "step", json!({"arguments": argument("{{steps.a.outputs.parameters.y}}")}))],
        ]},
        step("step"),
    ])));
    let main = dag(&plan, "main");
    assert_eq!(main.tasks["c"].dependencies, ["a", "b"]);
    assert_eq!(source(&main.tasks["c"], "x").value, output("a", "y"));
}

#[test]
fn values_of_the_workflow_reach_every_template_that_needs_them() {
    let mut inner = step("step");
    inner["container"]["args"] = json!(["{{workflow.parameters.p}} {{workflow.labels.team}}"]);
    let mut workflow = workflow(json!([
        {"name": "main", "dag": {"tasks": [call("g", "group", json!({"when": "a == a"}))]}},
        {"name": "group", "dag": {"tasks": [call("a", "step", json!({"arguments": argument("1")}))]}},
        inner,
    ]));
    workflow["spec"]["arguments"] = json!({"parameters": [{"name": "p"}]});
    workflow["metadata"]["labels"] = json!({"team": "blue"});
    let plan = plan(&workflow);
    for component in ["main", "main/g", "group", "step"] {
        let inputs = &plan.components[component].input_parameters;
        assert!(inputs.contains_key("workflow.parameters.p"), "{component}");
    }
    assert_eq!(
        source(&dag(&plan, "").tasks["main"], "workflow.parameters.p").value,
        input("p")
    );
    let Executor::Container(container) = &plan.executors["exec-step"] else {
        panic!("no container")
    };
    assert_eq!(
        container.args,
        ["{{$.inputs.parameters['workflow.parameters.p']}} blue"]
    );
}

#[test]
fn the_exit_handler_waits_for_any_end_and_knows_it() {
    let mut last = program("last");
    last["container"]["args"] = json!(["{{workflow.status}}"]);
    let mut workflow = workflow(json!([program("main"), last]));
    workflow["spec"]["onExit"] = "last".into();
    let plan = plan(&workflow);
    let task = &dag(&plan, "").tasks["last"];
    assert_eq!(task.trigger.strategy, Strategy::AllCompleted);
    assert_eq!(task.dependencies, ["main"]);
    let status = source(task, "workflow.status");
    assert_eq!(
        status.value,
        ParameterValue::FinalStatus {
            task: "main".to_owned()
        }
    );
    assert!(status.selector.contains("Succeeded"), "{}", status.selector);
}

#[test]
fn templates_may_call_those_that_called_them() {
    let again = json!({
        "arguments": argument("{{tasks.a.outputs.parameters.y}}"),
        "when": "{{tasks.a.outputs.parameters.y}} > 0",
    });
    let plan = plan(&workflow(json!([
        {"name": "main", "dag": {"tasks": [call("start", "loop", json!({"arguments": argument("3")}))]}},
        {
            "name": "loop",
            "inputs": {"parameters": [{"name": "x"}]},
            "dag": {"tasks": [
                call("a", "step", json!({"arguments": argument("{{inputs.parameters.x}}")})),
                call("again", "loop", again),
            ]},
        },
        step("step"),
    ])));
    assert_eq!(dag(&plan, "loop/again").tasks["again"].component, "loop");
}

#[test]
fn artifacts_come_from_tasks_inputs_and_text() {
    let reader = |name: &str| {
        json!({
            "name": name,
            "container": {"image": "alpine", "command": ["cat", "/tmp/inputs/in/data"]},
            "inputs": {"artifacts": [{"name": "in", "path": "/tmp/inputs/in/data"}]},
        })
    };
    let writer = json!({
        "name": "writer",
        "container": {"image": "alpine", "command": ["touch", "/tmp/outputs/out/data"]},
        "outputs": {"artifacts": [{"name": "out", "path": "/tmp/outputs/out/data"}]},
    });
    let from = |text: &str| json!({"arguments": {"artifacts": [{"name": "in", "from": text}]}});
    let raw = json!({"arguments": {"artifacts": [{"name": "in", "raw": {"data": "text"}}]}});
    let plan = plan(&workflow(json!([
        {"name": "main", "dag": {"tasks": [
            call("w", "writer", json!({})),
            call("r", "reader", from("{{tasks.w.outputs.artifacts.out}}")),
            call("t", "reader", raw),
        ]}},
        reader("reader"),
        writer,
    ])));
    let main = dag(&plan, "main");
    assert_eq!(
        main.tasks["r"].artifacts["in"],
        ArtifactSource::TaskOutput {
            task: "w".to_owned(),
            output: "out".to_owned()
        }
    );
    assert_eq!(
        source(&main.tasks["t"], "inputs.artifacts.in.raw").value,
        ParameterValue::Constant("text".into())
    );
    assert_eq!(
        files(&plan, "reader").inputs[0].source,
        FileSource::Artifact {
            name: "in".to_owned(),
            parameter: "inputs.artifacts.in.raw".to_owned()
        }
    );
    let Component {
        input_artifacts, ..
    } = &plan.components["reader"];
    assert!(input_artifacts["in"].optional);
}

#[test]
fn texts_in_templates_and_scripts_are_files() {
    let plan = plan(&workflow(json!([
        {"name": "main", "dag": {"tasks": [
            call("a", "raw", json!({"arguments": argument("1")})), call("b", "script", json!({})),
        ]}},
        {
            "name": "raw",
            "container": {"image": "alpine", "command": ["cat", "/tmp/inputs/in/data"]},
            "inputs": {
                "parameters": [{"name": "x"}],
                "artifacts": [{"name": "in", "path": "/tmp/inputs/in/data", "raw": {"data": "x={{inputs.parameters.x}}"}}],
            },
            "outputs": {"parameters": [{"name": "known", "value": "{{pod.name}}"}]},
        },
        {"name": "script", "script": {"image": "python:3.9", "command": ["python"], "source": "print(1)"}},
    ])));
    let raw = files(&plan, "raw");
    let text = |text: &str| FileSource::Text(text.to_owned());
    assert_eq!(raw.inputs[0].source, text("x={{$.inputs.parameters['x']}}"));
    assert_eq!(raw.inputs[1].source, text("{{$.pipeline_task_uuid}}"));
    assert_eq!(raw.inputs[1].path, raw.outputs[0].path);
    assert_eq!(files(&plan, "script").inputs[0].source, text("print(1)"));
}

#[test]
fn retries_deadlines_and_settings_are_taken() {
    let mut flaky = program("flaky");
    flaky["retryStrategy"] = json!({
        "limit": "3", "retryPolicy": "Always", "backoff": {"duration": "1m30s", "factor": 2, "maxDuration": "1h"},
    });
    flaky["activeDeadlineSeconds"] = json!(20);
    flaky["metadata"] = json!({
        "labels": {"pipelines.kubeflow.org/enable_caching": "true"},
        "annotations": {"pipelines.kubeflow.org/task_display_name": "Flaky one"},
    });
    flaky["container"]["resources"] =
        json!({"limits": {"cpu": "1", "memory": "1G", "nvidia.com/gpu": 2}});
    flaky["container"]["env"] = json!([
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]);
    let mut workflow = workflow(json!([
        {"name": "main", "dag": {"tasks": [call("f", "flaky", json!({}))]}}, flaky,
    ]));
    workflow["spec"]["activeDeadlineSeconds"] = json!(60);
    let plan = plan(&workflow);
    let task = &dag(&plan, "main").tasks["f"];
    let retry = task.retry.as_ref().unwrap();
    assert_eq!(
        (retry.max_retries, retry.backoff_ms, retry.backoff_max_ms),
        (3, 90_000, 3_600_000)
    );
    assert!(task.caching.enabled);
    assert_eq!(task.display_name, "Flaky one");
    let Executor::Container(container) = &plan.executors["exec-flaky"] else {
        panic!("no container")
    };
    assert_eq!(container.resources.accelerator_type, "nvidia.com/gpu");
    assert_eq!(container.platform["activeDeadlineSeconds"], "20");
    assert_eq!(
        container.platform["secretAsEnv"][0]["keyToEnv"][0]["envVar"],
        "B"
    );
    assert_eq!(plan.pipeline_config["activeDeadlineSeconds"], 60);
}
