//! Large workflows: what is slow for them is slow enough to be noticed here.

use flumina_pipeline_spec::{Body, Executor};
use serde_json::{Value, json};

use crate::argo::{argument, call, faults, plan, program, step, workflow};

const COUNT: usize = 5_000;

/// Names in an order that is the reverse of their places.
fn name(at: usize) -> String {
    format!("t{}", 99_999 - at)
}

fn group(name: &str, tasks: Vec<Value>) -> Value {
    json!({"name": name, "dag": {"tasks": tasks}})
}

#[test]
fn a_long_chain_of_tasks_is_ordered() {
    let tasks = (0..COUNT).map(|at| {
        let value = match at.checked_sub(1) {
            Some(before) => format!("{{{{tasks.{}.outputs.parameters.y}}}}", name(before)),
            None => "0".to_owned(),
        };
        call(&name(at), "step", json!({"arguments": argument(&value)}))
    });
    let plan = plan(&workflow(json!([
        group("main", tasks.collect()),
        step("step")
    ])));
    let Body::Dag(main) = &plan.components["main"].body else {
        panic!("no group")
    };
    assert_eq!(main.order, (0..COUNT).map(name).collect::<Vec<_>>());
}

#[test]
fn values_reach_the_end_of_a_long_chain_of_templates() {
    let mut last = program("last");
    last["container"]["args"] = (0..20)
        .map(|at| format!("{{{{workflow.parameters.p{at}}}}}"))
        .collect();
    let mut templates: Vec<Value> = (0..COUNT)
        .map(|at| {
            let next = match at + 1 {
                COUNT => "last".to_owned(),
                next => name(next),
            };
            group(&name(at), vec![call("next", &next, json!({}))])
        })
        .collect();
    templates.push(last);
    let mut workflow = workflow(templates.into());
    let parameters = (0..20).map(|at| json!({"name": format!("p{at}")}));
    workflow["spec"]["arguments"] = json!({"parameters": parameters.collect::<Vec<_>>()});
    let plan = plan(&workflow);
    for component in [name(0), name(COUNT - 1), "last".to_owned()] {
        let inputs = &plan.components[&component].input_parameters;
        assert!(inputs.contains_key("workflow.parameters.p19"), "{inputs:?}");
    }
}

#[test]
fn values_that_every_template_gives_on_are_bounded() {
    let templates = (0..COUNT).map(|at| {
        let mut group = group(&name(at), vec![call("next", &name(at + 1), json!({}))]);
        group["metadata"] =
            json!({"annotations": {"a": format!("{{{{workflow.parameters.p{at}}}}}")}});
        group
    });
    let mut templates: Vec<Value> = templates.collect();
    templates.push(program(&name(COUNT)));
    let found = faults(&workflow(templates.into()));
    assert!(found[0].contains("give on more values"), "{found:?}");
}

#[test]
fn circles_at_the_end_of_long_chains_are_found() {
    let chain = (0..COUNT).map(|at| {
        let next = if at + 1 == COUNT { at } else { at + 1 };
        group(&name(at), vec![call("next", &name(next), json!({}))])
    });
    let found = faults(&workflow(chain.collect()));
    let last = name(COUNT - 1);
    assert!(
        found[0].contains(&format!("template `{last}` calls itself without")),
        "{found:?}"
    );
    // Each template calls itself, and so does each task wait for itself.
    let circles = (0..COUNT).map(|at| {
        let next = name((at + 1).min(COUNT - 1));
        let calls = [
            call("next", &next, json!({})),
            call("own", &name(at), json!({})),
        ];
        group(&name(at), calls.into())
    });
    let found = faults(&workflow(circles.collect()));
    assert!(found[0].contains("calls itself"), "{found:?}");
    let tasks = (0..COUNT).map(|at| {
        let before = [name(at + 1), name(at)];
        call(
            &name(at),
            "step",
            json!({"arguments": argument("1"), "dependencies": before}),
        )
    });
    let mut tasks: Vec<Value> = tasks.collect();
    tasks.push(call(
        &name(COUNT),
        "step",
        json!({"arguments": argument("1")}),
    ));
    let found = faults(&workflow(json!([group("main", tasks), step("step")])));
    assert!(found[0].contains("wait for each other"), "{found:?}");
}

#[test]
fn many_calls_of_a_long_program_and_many_files_are_read() {
    let mut long = program("long");
    long["container"]["args"] = json!([format!("{}{{{{x}}}}", "# {{y}}\n".repeat(20_000))]);
    long["metadata"] = json!({"labels": {"pipelines.kubeflow.org/enable_caching": "true"}});
    let mut wide = program("wide");
    let names: Vec<String> = (0..COUNT).map(name).collect();
    let files = names
        .iter()
        .map(|name| json!({"name": name, "path": format!("/tmp/{name}")}));
    wide["outputs"] = json!({"artifacts": files.collect::<Vec<_>>()});
    let paths = names
        .iter()
        .map(|name| format!("{{{{outputs.artifacts.{name}.path}}}}"));
    wide["container"]["args"] = paths.collect();
    let mounts = names
        .iter()
        .map(|name| json!({"name": name, "mountPath": format!("/mnt/{name}")}));
    wide["container"]["volumeMounts"] = mounts.collect();
    let volumes = names
        .iter()
        .map(|name| json!({"name": name, "emptyDir": {}}));
    wide["volumes"] = volumes.collect();
    let mut tasks: Vec<Value> = names
        .iter()
        .map(|name| call(name, "long", json!({})))
        .collect();
    tasks.push(call("wide", "wide", json!({})));
    let plan = plan(&workflow(json!([group("main", tasks), long, wide])));
    let Executor::Container(container) = &plan.executors["exec-wide"] else {
        panic!("no program")
    };
    assert_eq!(
        container.args[COUNT - 1],
        format!("/tmp/{}", name(COUNT - 1))
    );
}

#[test]
fn what_a_short_document_would_become_is_bounded() {
    let long = "x".repeat(100_000);
    let named = "{{workflow.labels.long}}".repeat(10_000);
    let mut wide = program("wide");
    wide["container"]["args"] = json!([named]);
    let mut named = workflow(json!([wide]));
    named["metadata"]["labels"] = json!({ "long": long });
    let found = faults(&named);
    assert!(found[0].contains("fill more than"), "{found:?}");
    let row = |prefix: &str| -> Value {
        let names = (0..COUNT).map(|at| format!("{prefix}{at}"));
        names.map(|name| call(&name, "p", json!({}))).collect()
    };
    let rows = json!({"name": "main", "steps": [row("a"), row("b")]});
    let found = faults(&workflow(json!([rows, program("p")])));
    assert!(found[0].contains("rows are too wide"), "{found:?}");
}
