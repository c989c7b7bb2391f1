//! What workflows say beyond the common: bundles of variables, all parameters, times, states, limits of groups.

use flumina_pipeline_spec::{
    Body, Component, Container, Dag, Executor, ParameterSource, ParameterValue, Plan,
};
use serde_json::{Value, json};

use crate::argo::{argument, call, faults, plan, program, step, workflow};

fn dag<'a>(plan: &'a Plan, component: &str) -> &'a Dag {
    let component: &Component = match component {
        "" => &plan.root,
        name => &plan.components[name],
    };
    match &component.body {
        Body::Dag(dag) => dag,
        Body::Executor(label) => panic!("{label} is no group"),
    }
}

fn container<'a>(plan: &'a Plan, template: &str) -> &'a Container {
    match &plan.executors[&format!("exec-{template}")] {
        Executor::Container(container) => container,
        other => panic!("{other:?}"),
    }
}

/// A workflow of one task that takes this argument.
fn given(text: &str) -> Value {
    workflow(json!([
        {"name": "main", "dag": {"tasks": [call("a", "step", json!({"arguments": argument(text)}))]}},
        step("step"),
    ]))
}

#[test]
fn all_of_a_secret_or_a_config_map_becomes_variables() {
    let mut template = program("p");
    template["container"]["envFrom"] = json!([
        {"secretRef": {"name": "s"}},
        {"prefix": "P_", "configMapRef": {"name": "c", "optional": true}},
    ]);
    let plan = plan(&workflow(json!([template])));
    let platform = &container(&plan, "p").platform;
    assert_eq!(
        platform["secretAsEnv"],
        json!([{"secretName": "s", "prefix": "", "optional": false}])
    );
    assert_eq!(
        platform["configMapAsEnv"],
        json!([{"configMapName": "c", "prefix": "P_", "optional": true}])
    );
    for (from, message) in [
        (
            json!({"prefix": "x"}),
            "must have one of secretRef and configMapRef",
        ),
        (
            json!({"secretRef": {}}),
            "envFrom[0].secretRef.name: must be given",
        ),
        (
            json!({"podRef": {}}),
            "`podRef` of Argo workflows is not supported",
        ),
    ] {
        let mut template = program("p");
        template["container"]["envFrom"] = json!([from]);
        let faults = faults(&workflow(json!([template])));
        assert!(
            faults.iter().any(|fault| fault.contains(message)),
            "{faults:?}"
        );
    }
}

#[test]
fn shared_memory_is_that_of_the_machine() {
    let mut template = program("p");
    template["volumes"] = json!([{"name": "d", "emptyDir": {"medium": "Memory"}}]);
    template["container"]["volumeMounts"] = json!([{"name": "d", "mountPath": "/dev/shm"}]);
    let plan = plan(&workflow(json!([template])));
    let platform = &container(&plan, "p").platform;
    assert_eq!(
        platform,
        &json!({"enabledSharedMemory": {"volumeName": "d"}})
    );
}

#[test]
fn all_parameters_are_a_list() {
    let mut workflow = given("{{workflow.parameters}}");
    workflow["spec"]["arguments"] = json!({"parameters": [{"name": "p"}, {"name": "q"}]});
    let plan = plan(&workflow);
    let entry = |name: &str| json!({"name": name, "value": format!("{{{{$.inputs.parameters['channel--{name}']}}}}")});
    let task = &dag(&plan, "").tasks["main"];
    assert_eq!(
        task.parameters["workflow.parameters"].value,
        ParameterValue::Constant(json!([entry("p"), entry("q")]))
    );
    assert_eq!(
        task.parameters["channel--q"].value,
        ParameterValue::ComponentInput("q".to_owned())
    );
    assert_eq!(
        dag(&plan, "main").tasks["a"].parameters["x"].value,
        ParameterValue::ComponentInput("workflow.parameters".to_owned())
    );
}

#[test]
fn times_of_creation_have_parts() {
    for (letter, name) in [
        ("Y", "pipeline_job_create_time_Y"),
        ("m", "pipeline_job_create_time_m"),
        ("s", "pipeline_job_create_time_seconds"),
        ("RFC3339", "pipeline_job_create_time_utc"),
    ] {
        let plan = plan(&given(&format!(
            "{{{{workflow.creationTimestamp.{letter}}}}}"
        )));
        assert_eq!(
            dag(&plan, "main").tasks["a"].parameters["x"].value,
            ParameterValue::Constant(format!("{{{{$.{name}}}}}").into())
        );
    }
    let faults = faults(&given("{{workflow.creationTimestamp.Q}}"));
    assert!(
        faults[0].contains("creationTimestamp.Q}} is not supported"),
        "{faults:?}"
    );
}

#[test]
fn what_failed_is_told_at_the_end_only() {
    let mut told = workflow(json!([program("main"), step("end")]));
    told["spec"]["templates"][1]["container"]["args"] = json!(["{{workflow.failures}}"]);
    told["spec"]["templates"][1]["inputs"] = json!({});
    let faults = faults(&{
        let mut early = told.clone();
        early["spec"]["entrypoint"] = "end".into();
        early
    });
    assert!(
        faults[0].contains("known to what `onExit` calls only"),
        "{faults:?}"
    );
    told["spec"]["onExit"] = "end".into();
    let plan = plan(&told);
    assert_eq!(
        dag(&plan, "").tasks["end"].parameters["workflow.failures"].value,
        ParameterValue::Constant("{{$.pipeline_job_failures}}".into())
    );
    assert_eq!(
        container(&plan, "end").args,
        ["{{$.inputs.parameters['workflow.failures']}}"]
    );
}

#[test]
fn the_status_of_a_task_is_an_argument() {
    let group = |when: Value| {
        let mut first = call("a", "step", json!({"arguments": argument("1")}));
        first["when"] = when;
        let second = json!({"arguments": argument("{{tasks.a.status}}")});
        workflow(
            json!([{"name": "main", "dag": {"tasks": [first, call("b", "step", second)]}}, step("step")]),
        )
    };
    let plan = plan(&group(Value::Null));
    let task = &dag(&plan, "main").tasks["b"];
    let ParameterSource { value, selector } = &task.parameters["x"];
    assert_eq!(
        value,
        &ParameterValue::FinalStatus {
            task: "a".to_owned()
        }
    );
    assert!(selector.contains("Succeeded"), "{selector}");
    assert_eq!(task.dependencies, ["a"]);
    let faults = faults(&group("1 == 1".into()));
    assert!(faults[0].contains("`a` has a condition"), "{faults:?}");
}

#[test]
fn the_limit_of_a_group_makes_rows() {
    let tasks = |limit: u64, more: Value| {
        let mut calls: Vec<Value> = (0..6)
            .map(|at| call(&format!("t{at}"), "p", json!({})))
            .collect();
        calls[5]["dependencies"] = json!(["t0"]);
        calls[4]["withItems"] = more;
        let main = json!({"name": "main", "parallelism": limit, "dag": {"tasks": calls}});
        plan(&workflow(json!([main, program("p")])))
    };
    let first = |plan: &Plan| {
        let dag = dag(plan, "main");
        let free = dag
            .tasks
            .values()
            .filter(|task| task.dependencies.is_empty());
        free.count()
    };
    assert_eq!(first(&tasks(2, Value::Null)), 2);
    assert_eq!(first(&tasks(4, Value::Null)), 4);
    assert_eq!(first(&tasks(0, Value::Null)), 5);
    // A loop takes all of the limit, so nothing else runs beside it.
    assert_eq!(first(&tasks(2, json!([1, 2, 3]))), 1);
    let limited = tasks(1, Value::Null);
    let order = &dag(&limited, "main").order;
    for pair in order.windows(2) {
        let later = &dag(&limited, "main").tasks[&pair[1]];
        assert!(later.dependencies.contains(&pair[0]), "{order:?}");
    }
    let mut alone = program("p");
    alone["parallelism"] = 2.into();
    let faults = faults(&workflow(json!([alone])));
    assert!(faults[0].contains("set it on the group"), "{faults:?}");
}

#[test]
fn many_conditional_calls_of_a_template_with_many_outputs_are_refused() {
    let outputs: Vec<Value> = (0..2_000)
        .map(|at| json!({"name": format!("o{at}"), "valueFrom": {"path": format!("/tmp/{at}")}}))
        .collect();
    let calls: Vec<Value> = (0..300)
        .map(|at| call(&format!("t{at}"), "p", json!({"when": "1 == 1"})))
        .collect();
    let mut wide = program("p");
    wide["outputs"] = json!({"parameters": outputs});
    let faults = faults(&workflow(
        json!([{"name": "main", "dag": {"tasks": calls}}, wide]),
    ));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("more than 500000 outputs"), "{faults:?}");
}
