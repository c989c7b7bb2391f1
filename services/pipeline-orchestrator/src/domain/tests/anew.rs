//! Retrying a run in which things go otherwise than the first time, and stopping what only a second request stops.

use pipeline_spec::plan::{Body, Items, ParameterType, Plan};
use serde_json::{Value, json};

use super::build::*;
use super::flow::at_end;
use crate::domain::*;

/// `flaky`; then `list`, whatever became of it; then a loop over what `list` put out, two at a time, and a group of one
/// task unless it put out nothing.
fn relisted() -> Plan {
    let any = || typed(ParameterType::List, None, true);
    let mut list = program();
    list.output_parameters
        .insert("out".into(), ParameterType::List);
    let mut each = at_end("each", "body", &["list"]);
    each.parameters
        .insert("xs".into(), from_task("list", "out"));
    each.iterator = Some(pipeline_spec::plan::Iterator {
        items: Items::Parameter("xs".into()),
        item_input: "item".into(),
        parallelism: 2,
    });
    let mut body = component(Body::Dag(dag(vec![
        task("x", "program", &[]),
        task("y", "program", &["x"]),
    ])));
    body.input_parameters.insert("xs".into(), text(None, true));
    body.input_parameters
        .insert("item".into(), text(None, true));
    let mut some = at_end("some", "branch", &["list"]);
    some.parameters
        .insert("xs".into(), from_task("list", "out"));
    some.trigger.condition = "size(inputs.parameter_values['xs']) > 0".into();
    let mut branch = component(Body::Dag(dag(vec![task("z", "program", &[])])));
    branch.input_parameters.insert("xs".into(), any());
    let root = component(Body::Dag(dag(vec![
        task("flaky", "program", &[]),
        at_end("list", "list", &["flaky"]),
        each,
        some,
    ])));
    let components = vec![
        ("program", program()),
        ("list", list),
        ("body", body),
        ("branch", branch),
    ];
    plan(root, components)
}

fn put_out(bench: &mut Bench, value: Value) {
    let report = StepReport {
        parameters: json!({ "out": value }).as_object().unwrap().clone(),
        ..StepReport::default()
    };
    bench.end("list", WorkloadState::Succeeded(Box::new(report)));
}

/// The programs whose attempt is open.
fn open(bench: &Bench) -> Vec<String> {
    let tasks = bench.state.tasks();
    let open = tasks.filter(|task| task.open_attempt().is_some());
    open.map(|task| task.path.clone()).collect()
}

/// Ends everything that runs, never more than two iterations at a time, with restarts in between.
fn finish(bench: &mut Bench) -> usize {
    let mut ended = 0;
    while !bench.state.run.status.ended() {
        let running = open(bench);
        let iterations = running.iter().filter(|path| path.starts_with("each"));
        assert!(iterations.count() <= 2, "{running:?}");
        bench.restart();
        bench.succeed(&running[0]);
        ended += 1;
    }
    ended
}

#[test]
fn a_loop_has_as_many_iterations_as_its_list_has_items_the_second_time() {
    for (before, after) in [(2, 5), (5, 3), (5, 0), (0, 2), (3, 3)] {
        let items = |count: usize| json!((0..count).map(|n| n.to_string()).collect::<Vec<_>>());
        let mut bench = Bench::started(relisted(), json!({}));
        bench.fail("flaky");
        put_out(&mut bench, items(before));
        finish(&mut bench);
        assert_eq!(bench.state.run.status, RunStatus::Failed);
        bench.retry();
        bench.succeed("flaky");
        put_out(&mut bench, items(after));
        let again = finish(&mut bench);
        assert_eq!(
            again,
            2 * after + usize::from(after > 0),
            "{before}, {after}"
        );
        assert_eq!(bench.state.run.status, RunStatus::Succeeded);
        for at in 0..before.max(after) {
            for path in ["", "/x", "/y"] {
                let task = bench.get(&format!("each[{at}]{path}"));
                let expected = match at < after {
                    true => (TaskStatus::Succeeded, ""),
                    false => (TaskStatus::Skipped, "NO_ITEM"),
                };
                let body = &task.body;
                assert_eq!(
                    (task.status, body.reason.as_str()),
                    expected,
                    "{}",
                    task.path
                );
            }
        }
    }
}

#[test]
fn a_branch_that_is_not_taken_the_second_time_is_skipped_with_all_inside() {
    let mut bench = Bench::started(relisted(), json!({}));
    bench.fail("flaky");
    put_out(&mut bench, json!(["a"]));
    finish(&mut bench);
    assert_eq!(bench.get("some/z").status, TaskStatus::Succeeded);
    bench.retry();
    bench.succeed("flaky");
    put_out(&mut bench, json!([]));
    for path in ["some", "some/z"] {
        let task = bench.get(path);
        assert_eq!(task.status, TaskStatus::Skipped);
        assert_eq!(task.body.reason, "CONDITION_FALSE");
    }
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_loop_that_got_no_list_the_second_time_is_tried_a_third_time() {
    let mut bench = Bench::started(relisted(), json!({}));
    bench.fail("flaky");
    put_out(&mut bench, json!(["a", "b", "c"]));
    finish(&mut bench);
    bench.retry();
    bench.succeed("flaky");
    put_out(&mut bench, json!("no list"));
    assert_eq!(bench.get("each").status, TaskStatus::Failed);
    let inner = bench.get("each[1]/x");
    assert_eq!(inner.status, TaskStatus::Skipped);
    assert_eq!(inner.body.reason, "UPSTREAM_FAILED");
    finish(&mut bench);
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    // `list` succeeded, so it keeps what it put out, and the loop fails by the same name.
    bench.retry();
    assert_eq!(bench.get("each").body.reason, "NO_ITEMS");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
}

#[test]
fn a_run_that_goes_on_can_be_stopped_before_its_groups_are_opened_again() {
    let mut bench = Bench::started(relisted(), json!({}));
    bench.fail("flaky");
    put_out(&mut bench, json!(["a", "b"]));
    finish(&mut bench);
    bench.retry();
    terminate(&mut bench, true);
    bench.end("flaky", WorkloadState::Stopped(None));
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
    for task in bench.state.tasks() {
        assert_eq!(task.status, TaskStatus::Canceled, "{}", task.label());
    }
    bench.retry();
    bench.succeed("flaky");
    put_out(&mut bench, json!(["a", "b"]));
    finish(&mut bench);
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

fn terminate(bench: &mut Bench, exit_tasks: bool) -> Outcome {
    let reason = "asked by a test".to_owned();
    bench.step(Event::Terminate { reason, exit_tasks })
}

/// `work`, then the exit group `exit` with `clean`.
fn with_exit() -> Plan {
    let inner = component(Body::Dag(dag(vec![task("clean", "program", &[])])));
    let outer = dag(vec![
        task("work", "program", &[]),
        at_end("exit", "inner", &["work"]),
    ]);
    plan(
        component(Body::Dag(outer)),
        vec![("program", program()), ("inner", inner)],
    )
}

#[test]
fn a_second_request_stops_exit_tasks_that_run() {
    let mut bench = Bench::started(with_exit(), json!({}));
    terminate(&mut bench, false);
    bench.end("work", WorkloadState::Stopped(None));
    assert_eq!(bench.get("exit/clean").status, TaskStatus::Ready);
    let stopped = terminate(&mut bench, true);
    assert!(matches!(&stopped.effects[..], [Effect::Stop { .. }]));
    assert!(matches!(&bench.restart()[..], [Effect::Stop { .. }]));
    assert_eq!(terminate(&mut bench, true), Outcome::default());
    bench.end("exit/clean", WorkloadState::Stopped(None));
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
    assert_eq!(bench.get("exit").status, TaskStatus::Canceled);
}

#[test]
fn a_second_request_keeps_exit_tasks_from_starting() {
    let mut bench = Bench::started(with_exit(), json!({}));
    terminate(&mut bench, false);
    assert_eq!(terminate(&mut bench, true).effects, []);
    assert_eq!(bench.get("exit").status, TaskStatus::Canceled);
    assert!(bench.end("work", WorkloadState::Stopped(None)).effects == [Effect::RunEnded]);
    // What asked for the end is forgotten, so the exit task runs this time.
    bench.retry();
    bench.succeed("work");
    bench.succeed("exit/clean");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn exit_tasks_of_a_run_that_took_too_long_can_be_stopped() {
    let mut plan = with_exit();
    plan.pipeline_config = json!({ "activeDeadlineSeconds": 60 });
    let mut bench = Bench::started(plan, json!({}));
    bench.wake();
    bench.end("work", WorkloadState::Stopped(None));
    assert_eq!(open(&bench), ["exit/clean"]);
    terminate(&mut bench, true);
    bench.end("exit/clean", WorkloadState::Stopped(None));
    let run = &bench.state.run;
    assert_eq!(run.status, RunStatus::Failed);
    assert_eq!(run.body.reason, "DEADLINE_EXCEEDED");
}
