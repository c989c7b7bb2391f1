//! Components that hold themselves.

use std::sync::Arc;

use clock::Timestamp;
use pipeline_spec::plan::{Body, Component, Items, Iterator as Loop, Plan};
use serde_json::json;

use super::build::{Bench, component, dag, from_group, plan, program, run, task, typed};
use crate::domain::recursion::holds_itself;
use crate::domain::state::MAX_TASKS;
use crate::domain::*;

const ITEM: &str = "item";

fn each(name: &str, component: &str, items: Items) -> pipeline_spec::plan::Task {
    let mut task = task(name, component, &[]);
    task.iterator = Some(Loop {
        items,
        item_input: ITEM.into(),
        parallelism: 1,
    });
    task
}

fn group(tasks: Vec<pipeline_spec::plan::Task>) -> Component {
    component(Body::Dag(dag(tasks)))
}

#[test]
fn circles_of_components_are_found() {
    let group = |callee: &str| component(Body::Dag(dag(vec![task("a", callee, &[])])));
    let leaf = component(Body::Executor("exec".to_owned()));
    let straight = vec![("x", group("y")), ("y", group("z")), ("z", leaf.clone())];
    assert!(!holds_itself(&plan(group("x"), straight)));
    let circle = vec![("x", group("y")), ("y", group("x")), ("z", leaf)];
    assert!(holds_itself(&plan(group("x"), circle)));
}

#[test]
fn a_long_chain_is_looked_at_once() {
    let name = |level: usize| format!("level-{level:05}");
    let mut chain = plan(group(vec![task("a", "level-00000", &[])]), vec![]);
    for level in 0..20_000 {
        let inner = group(vec![task("a", &name(level + 1), &[])]);
        chain.components.insert(name(level), inner);
    }
    chain.components.insert(name(20_000), program());
    assert!(!holds_itself(&chain));
    let back = group(vec![task("a", "level-00000", &[])]);
    chain.components.insert(name(20_000), back);
    assert!(holds_itself(&chain));
}

/// What a run comes to that starts.
fn started(plan: Plan) -> RunState {
    let mut state = RunState::new(run(json!({})), Arc::new(plan)).unwrap();
    let promised = state.ids_needed();
    let mut taken = 0;
    let mut ids = || {
        taken += 1;
        taken
    };
    step(&mut state, Event::Start, Timestamp::from_secs(1), &mut ids).unwrap();
    assert!(usize::try_from(taken).unwrap() <= promised, "{taken} ids");
    state
}

#[test]
fn a_loop_in_a_recursion_ends_at_the_limit_of_tasks() {
    let items: Vec<_> = (0..400).map(|item| json!(item)).collect();
    let mut takes = program();
    takes.input_parameters.insert(
        ITEM.into(),
        typed(
            pipeline_spec::plan::ParameterType::NumberInteger,
            None,
            false,
        ),
    );
    let mut again = task("again", "again", &[]);
    again.trigger.condition = "1 == 1".into();
    let body = || {
        group(vec![
            each("each", "takes", Items::Raw(items.clone())),
            again.clone(),
        ])
    };
    let state = started(plan(body(), vec![("again", body()), ("takes", takes)]));
    assert!(state.tasks().count() as u64 <= MAX_TASKS);
    let refused = state
        .tasks()
        .find(|task| task.body.reason == "TOO_MANY_TASKS");
    assert!(refused.is_some());
}

#[test]
fn a_recursion_that_only_a_condition_could_end_says_how_deep_it_may_be() {
    let mut again = task("again", "again", &[]);
    again.trigger.condition = "1 == 1".into();
    let body = || group(vec![again.clone()]);
    let state = started(plan(body(), vec![("again", body())]));
    let refused = state.tasks().find(|task| task.body.reason == "TOO_DEEP");
    let message = &refused.unwrap().body.message;
    assert!(message.contains("deeper than 300 levels"), "{message}");
}

#[test]
fn a_list_that_is_empty_ends_a_recursion() {
    let list = typed(pipeline_spec::plan::ParameterType::List, None, false);
    let mut inner = each("each", "again", Items::Parameter("xs".into()));
    inner.parameters.insert("xs".into(), from_group(ITEM));
    let mut again = group(vec![inner]);
    again.input_parameters.insert(ITEM.into(), list.clone());
    again.input_parameters.insert("xs".into(), list.clone());
    let mut first = each("each", "again", Items::Parameter("xs".into()));
    first.parameters.insert("xs".into(), from_group("xs"));
    let mut root = group(vec![first]);
    root.input_parameters.insert("xs".into(), list);
    let bench = Bench::started(
        plan(root, vec![("again", again)]),
        json!({"xs": [[[], []], []]}),
    );
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(bench.get("each[0]/each[1]").status, TaskStatus::Succeeded);
    assert!(bench.state.find("each[0]/each[2]").is_none());
}
