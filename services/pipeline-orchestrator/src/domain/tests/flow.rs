//! Conditions, exit tasks and tasks that ignore failures: one rule per test.

use pipeline_spec::plan::{
    Body, Executor, OutputSelector, ParameterType, ParameterValue, Plan, Strategy,
};
use serde_json::{Value, json};

use super::build::*;
use crate::domain::*;

fn when(name: &str, component: &str, after: &[&str], condition: &str) -> pipeline_spec::plan::Task {
    let mut task = task(name, component, after);
    task.trigger.condition = condition.to_owned();
    task
}

pub(super) fn at_end(name: &str, component: &str, after: &[&str]) -> pipeline_spec::plan::Task {
    let mut task = task(name, component, after);
    task.trigger.strategy = Strategy::AllCompleted;
    task
}

/// A group of one program `t` that gives its output on.
fn branch(input: &str) -> pipeline_spec::plan::Component {
    let mut inner = dag(vec![task("t", "program", &[])]);
    let selector = OutputSelector {
        task: "t".into(),
        output: "out".into(),
    };
    inner.output_parameters.insert("out".into(), vec![selector]);
    let mut group = component(Body::Dag(inner));
    let number = typed(ParameterType::NumberDouble, None, false);
    group.input_parameters.insert(input.into(), number);
    group
        .output_parameters
        .insert("out".into(), ParameterType::String);
    group
}

const ACC: &str = "pipelinechannel--acc";

/// `if acc > 0.9`, and a task after it, and one after that; and one of its own.
fn lone_if() -> Plan {
    let mut condition = when(
        "condition-1",
        "branch",
        &[],
        "inputs.parameter_values['pipelinechannel--acc'] > 0.9",
    );
    condition.parameters.insert(ACC.into(), from_group("acc"));
    let tasks = vec![
        condition,
        task("after", "program", &["condition-1"]),
        task("last", "program", &["after"]),
        task("own", "program", &[]),
    ];
    let mut root = component(Body::Dag(dag(tasks)));
    let number = typed(ParameterType::NumberDouble, None, false);
    root.input_parameters.insert("acc".into(), number);
    plan(root, vec![("program", program()), ("branch", branch(ACC))])
}

#[test]
fn a_false_condition_skips_the_group_and_all_after_it_and_the_run_succeeds() {
    let mut bench = Bench::started(lone_if(), json!({"acc": 0.84}));
    let condition = bench.get("condition-1");
    assert_eq!(condition.body.reason, "CONDITION_FALSE");
    assert_eq!(
        condition.body.message,
        "not run because the condition is false: `acc > 0.9`, acc = 0.84"
    );
    let after = bench.get("after");
    assert_eq!(after.body.reason, "UPSTREAM_SKIPPED");
    assert_eq!(
        after.body.message,
        "not started because `condition-1` was skipped"
    );
    bench.succeed("own");
    assert_eq!(
        bench.statuses(),
        [
            "run SUCCEEDED",
            "root SUCCEEDED",
            "condition-1 SKIPPED",
            "after SKIPPED",
            "last SKIPPED",
            "own SUCCEEDED"
        ]
    );
}

#[test]
fn a_true_condition_runs_the_group() {
    let mut bench = Bench::started(lone_if(), json!({"acc": 0.95}));
    bench.succeed("own");
    bench.succeed("condition-1/t");
    bench.succeed("after");
    bench.succeed("last");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

/// `if … else …` whose outputs come from the branch that ran, and a task that takes them.
fn branches(second: &str) -> Plan {
    let mut first = when(
        "condition-2",
        "branch",
        &[],
        "inputs.parameter_values['x'] > 1.0",
    );
    let mut other = when("condition-3", "branch", &[], second);
    for task in [&mut first, &mut other] {
        task.parameters.insert("x".into(), from_group("x"));
    }
    let mut inner = dag(vec![first, other]);
    let one_of = ["condition-2", "condition-3"].map(|task| OutputSelector {
        task: task.into(),
        output: "out".into(),
    });
    inner
        .output_parameters
        .insert("out".into(), one_of.to_vec());
    let number = || typed(ParameterType::NumberDouble, None, false);
    let mut both = component(Body::Dag(inner));
    both.input_parameters.insert("x".into(), number());
    let mut group = task("condition-branches-1", "both", &[]);
    group.parameters.insert("x".into(), from_group("x"));
    let mut taker = task("taker", "taker", &["condition-branches-1"]);
    taker
        .parameters
        .insert("got".into(), from_task("condition-branches-1", "out"));
    let mut takes = program();
    takes
        .input_parameters
        .insert("got".into(), text(Some(json!("nothing")), true));
    let mut root = component(Body::Dag(dag(vec![group, taker])));
    root.input_parameters.insert("x".into(), number());
    let components = vec![
        ("program", program()),
        ("branch", branch("x")),
        ("both", both),
        ("taker", takes),
    ];
    plan(root, components)
}

fn report(value: &str) -> WorkloadState {
    WorkloadState::Succeeded(Box::new(StepReport {
        parameters: json!({ "out": value }).as_object().unwrap().clone(),
        ..StepReport::default()
    }))
}

#[test]
fn one_of_takes_the_branch_that_ran() {
    for (x, ran, skipped) in [
        (2.0, "condition-2", "condition-3"),
        (1.0, "condition-3", "condition-2"),
    ] {
        let plan = branches("!(inputs.parameter_values['x'] > 1.0)");
        let mut bench = Bench::started(plan, json!({ "x": x }));
        let skipped = bench.get(&format!("condition-branches-1/{skipped}"));
        assert_eq!(skipped.status, TaskStatus::Skipped);
        bench.end(&format!("condition-branches-1/{ran}/t"), report(ran));
        assert_eq!(bench.get("taker").body.inputs.parameters["got"], ran);
        bench.succeed("taker");
        assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    }
}

#[test]
fn branches_of_which_none_ran_have_succeeded_and_their_output_is_not_given() {
    let mut bench = Bench::started(branches("false"), json!({"x": 1.0}));
    let group = bench.get("condition-branches-1");
    assert_eq!(group.status, TaskStatus::Succeeded);
    assert_eq!(bench.get("taker").body.inputs.parameters["got"], "nothing");
    bench.succeed("taker");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_condition_without_an_answer_fails_its_task() {
    let cases = [
        (
            "inputs.parameter_values['gone'] > 1.0",
            "there is no `gone`",
        ),
        (
            "inputs.parameter_values['x'] + 1.0",
            "must be true or false, not 2",
        ),
    ];
    for (condition, expected) in cases {
        let bench = Bench::started(branches(condition), json!({"x": 1.0}));
        let failed = bench.get("condition-branches-1/condition-3");
        assert_eq!(failed.status, TaskStatus::Failed);
        assert_eq!(failed.body.reason, "CONDITION_FAILED");
        let message = &failed.body.message;
        assert!(
            message.contains(expected) && message.contains("condition-3"),
            "{message}"
        );
        assert_eq!(bench.state.run.status, RunStatus::Failed);
    }
}

/// A handled group of two programs, its exit task, and an ordinary task after the group.
fn handled() -> Plan {
    let inner = dag(vec![
        task("a", "program", &[]),
        task("b", "program", &["a"]),
    ]);
    let mut exit = at_end("exit", "exit", &["handler"]);
    let status = source(ParameterValue::FinalStatus {
        task: "handler".into(),
    });
    exit.parameters.insert("status".into(), status);
    let mut exits = program();
    exits.input_parameters.insert(
        "status".into(),
        typed(ParameterType::TaskFinalStatus, None, false),
    );
    let tasks = vec![
        task("handler", "inner", &[]),
        exit,
        task("next", "program", &["handler"]),
    ];
    plan(
        component(Body::Dag(dag(tasks))),
        vec![
            ("program", program()),
            ("inner", component(Body::Dag(inner))),
            ("exit", exits),
        ],
    )
}

fn failed(message: &str, bench: &Bench, path: &str) -> Event {
    Event::Workload(WorkloadUpdate {
        workload_id: bench.workload(path),
        version: 9,
        state: WorkloadState::Failed(None),
        reason: "PROGRAM_FAILED".into(),
        message: message.into(),
        notes: vec![],
        started_at: None,
        ended_at: None,
    })
}

fn status_of(bench: &Bench) -> Value {
    bench.get("exit").body.inputs.parameters["status"].clone()
}

#[test]
fn an_exit_task_runs_after_a_failure_and_learns_of_it() {
    let mut bench = Bench::started(handled(), json!({}));
    let event = failed("exit code 3", &bench, "handler/a");
    bench.step(event);
    assert_eq!(
        status_of(&bench),
        json!({
            "state": "FAILED",
            "pipelineJobResourceName": format!("a-pipeline-{}", bench.state.run.id),
            "pipelineTaskName": "handler",
            "error": {"code": 2, "message": "`handler/a` failed: exit code 3"},
        })
    );
    bench.succeed("exit");
    assert_eq!(
        bench.statuses(),
        [
            "run FAILED",
            "root FAILED",
            "handler FAILED",
            "exit SUCCEEDED",
            "next SKIPPED",
            "handler/a FAILED",
            "handler/b SKIPPED"
        ]
    );
    assert_eq!(
        bench.state.run.body.message,
        "`handler/a` failed: exit code 3"
    );
}

#[test]
fn an_exit_task_can_be_told_what_failed_and_when_the_run_came_to_be() {
    let mut plan = handled();
    let exits = plan.components.get_mut("exit").unwrap();
    for name in ["failures", "time"] {
        let input = typed(ParameterType::String, None, false);
        exits.input_parameters.insert(name.into(), input);
    }
    let Body::Dag(root) = &mut plan.root.body else {
        panic!("no group")
    };
    let exit = root.tasks.get_mut("exit").unwrap();
    let time = "{{$.pipeline_job_create_time_Y}}-{{$.pipeline_job_create_time_m}}";
    for (name, text) in [("failures", "{{$.pipeline_job_failures}}"), ("time", time)] {
        exit.parameters.insert(name.into(), constant(json!(text)));
    }
    let mut bench = Bench::started(plan, json!({}));
    let event = failed("exit code 3", &bench, "handler/a");
    bench.step(event);
    let given = &bench.get("exit").body.inputs.parameters;
    let quoted: String = serde_json::from_str(given["failures"].as_str().unwrap()).unwrap();
    let failures: Value = serde_json::from_str(&quoted).unwrap();
    let found: Vec<_> = failures.as_array().unwrap().iter().collect();
    let told = |name: &str| {
        let one = found.iter().find(|failure| failure["displayName"] == name);
        one.map(|failure| (failure["message"].clone(), failure["phase"].clone()))
    };
    assert_eq!(told("a"), Some((json!("exit code 3"), json!("Failed"))));
    assert_eq!((found.len(), told("handler").is_some()), (2, true));
    let created = bench.state.run.created_at.to_string();
    assert_eq!(given["time"], json!(created[..7]));
}

/// A component with a final status as its input, run by itself.
fn alone(args: &[&str]) -> Plan {
    let mut exits = program();
    exits.input_parameters.insert(
        "status".into(),
        typed(ParameterType::TaskFinalStatus, None, true),
    );
    let mut plan = plan(
        component(Body::Dag(dag(vec![task("exit", "exit", &[])]))),
        vec![("exit", exits)],
    );
    let mut container = container();
    container.args = args.iter().map(|&arg| arg.to_owned()).collect();
    plan.executors
        .insert("exec".into(), Executor::Container(container));
    plan
}

#[test]
fn a_final_status_that_nobody_gave_is_empty_for_those_who_read_the_whole_input() {
    let given = |args: &[&str]| {
        let bench = Bench::started(alone(args), json!({}));
        let spec = launch_spec(&bench.state, bench.get("exit").id).unwrap();
        let inputs: Value = serde_json::from_str(&spec.inputs_json).unwrap();
        inputs["parameterValues"].clone()
    };
    assert_eq!(
        given(&["--executor_input", "{{$}}"]),
        json!({ "status": {} })
    );
    assert_eq!(
        given(&["{{$.inputs.parameters['status']}}"]),
        json!({}),
        "what asks whether it is there must see that it is not"
    );
}

#[test]
fn an_exit_task_runs_after_a_success() {
    let mut bench = Bench::started(handled(), json!({}));
    bench.succeed("handler/a");
    bench.succeed("handler/b");
    let status = status_of(&bench);
    assert_eq!(
        (&status["state"], &status["error"]),
        (&json!("COMPLETE"), &json!({}))
    );
    bench.succeed("next");
    bench.succeed("exit");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_lost_exit_task_is_repeated_although_the_run_has_failed() {
    let mut bench = Bench::started(handled(), json!({}));
    bench.fail("handler/a");
    bench.end("exit", WorkloadState::Lost);
    assert_eq!(bench.get("exit").body.attempts.len(), 2);
    bench.fail("exit");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
}

#[test]
fn a_task_that_ignores_failures_runs_with_its_defaults_and_what_follows_does_not() {
    let mut second = at_end("second", "takes", &["first"]);
    second
        .parameters
        .insert("in".into(), from_task("first", "out"));
    let mut takes = program();
    takes
        .input_parameters
        .insert("in".into(), text(Some(json!("default")), true));
    let tasks = vec![
        task("first", "program", &[]),
        second,
        task("third", "program", &["second"]),
    ];
    let root = component(Body::Dag(dag(tasks)));
    let plan = plan(root, vec![("program", program()), ("takes", takes)]);
    let mut bench = Bench::started(plan, json!({}));
    bench.fail("first");
    assert_eq!(bench.get("second").body.inputs.parameters["in"], "default");
    bench.succeed("second");
    assert_eq!(
        bench.statuses(),
        [
            "run FAILED",
            "root FAILED",
            "first FAILED",
            "second SUCCEEDED",
            "third SKIPPED"
        ]
    );
}

#[test]
fn an_exit_task_of_what_was_skipped_is_skipped() {
    let tasks = vec![
        task("first", "program", &[]),
        task("handler", "program", &["first"]),
        at_end("exit", "program", &["handler"]),
    ];
    let plan = plan(
        component(Body::Dag(dag(tasks))),
        vec![("program", program())],
    );
    let mut bench = Bench::started(plan, json!({}));
    bench.fail("first");
    assert_eq!(bench.get("exit").body.reason, "UPSTREAM_SKIPPED");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
}
