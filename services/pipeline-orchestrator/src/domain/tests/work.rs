//! The work of a run is linear in its tasks.

use serde_json::json;

use super::build::*;
use crate::domain::*;

/// A first task, `width` tasks after it, and one that waits for all of them.
fn fan(width: usize) -> pipeline_spec::plan::Plan {
    let names: Vec<String> = (0..width).map(|number| format!("t{number}")).collect();
    let mut tasks = vec![task("first", "program", &[])];
    tasks.extend(names.iter().map(|name| task(name, "program", &["first"])));
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut join = task("join", "join", &all);
    let mut component_of_join = program();
    for name in &all {
        component_of_join
            .input_parameters
            .insert((*name).into(), text(None, false));
        join.parameters
            .insert((*name).into(), from_task(name, "out"));
    }
    tasks.push(join);
    plan(
        component(pipeline_spec::plan::Body::Dag(dag(tasks))),
        vec![("program", program()), ("join", component_of_join)],
    )
}

/// Runs a plan to its end with two reports per task; gives the number of operations.
fn work(plan: pipeline_spec::plan::Plan) -> u64 {
    let mut state = RunState::new(run(json!({})), plan.into()).unwrap();
    let mut last_id = 0;
    let mut ids = || {
        last_id += 1;
        last_id
    };
    let now = clock::Timestamp::from_secs(5_000);
    let mut open = step(&mut state, Event::Start, now, &mut ids)
        .unwrap()
        .effects;
    while let Some(effect) = open.pop() {
        let Effect::Launch { workload_id, .. } = effect else {
            continue;
        };
        let report = StepReport {
            parameters: json!({"out": "x"}).as_object().unwrap().clone(),
            ..StepReport::default()
        };
        let states = [
            WorkloadState::Running,
            WorkloadState::Succeeded(Box::new(report)),
        ];
        for (version, workload) in (0..).zip(states) {
            let event = update(&workload_id, version, workload);
            let outcome = step(&mut state, event, now, &mut ids).unwrap();
            open.extend(outcome.effects);
        }
    }
    assert_eq!(state.run.status, RunStatus::Succeeded);
    state.operations
}

/// A loop over `width` items whose outputs are gathered, at most ten at a time.
fn collected(width: usize) -> pipeline_spec::plan::Plan {
    use pipeline_spec::plan::{Body, Items, Iterator, OutputSelector};
    let mut inner = dag(vec![task("t", "program", &[])]);
    let select = OutputSelector {
        task: "t".into(),
        output: "out".into(),
    };
    inner.output_parameters.insert("out".into(), vec![select]);
    let mut body = component(Body::Dag(inner));
    body.input_parameters
        .insert("item".into(), text(None, false));
    body.output_parameters
        .insert("out".into(), pipeline_spec::ParameterType::List);
    let mut each = task("each", "body", &[]);
    each.iterator = Some(Iterator {
        items: Items::Raw((0..width).map(|at| json!(at)).collect()),
        item_input: "item".into(),
        parallelism: 10,
    });
    let root = component(Body::Dag(dag(vec![each])));
    plan(root, vec![("program", program()), ("body", body)])
}

#[test]
fn the_work_of_a_loop_grows_with_its_items_and_no_faster() {
    let small = work(collected(300));
    let large = work(collected(3_000));
    let ratio = large as f64 / small as f64;
    assert!(
        (9.0..11.0).contains(&ratio),
        "{small} operations, then {large}"
    );
}

#[test]
fn work_grows_with_the_number_of_tasks_and_no_faster() {
    let small = work(fan(200));
    let large = work(fan(2_000));
    let ratio = large as f64 / small as f64;
    assert!(
        (9.0..11.0).contains(&ratio),
        "{small} operations, then {large}"
    );
}

#[test]
fn loading_gives_back_a_run_of_ten_thousand_tasks() {
    let width = 10_000;
    let mut bench = Bench::started(fan(width), json!({}));
    let outcome = bench.succeed("first");
    assert_eq!(outcome.effects.len(), width);
    assert_eq!(bench.restart().len(), width);
}
