//! Retrying a run: what succeeded stays, the rest is executed again.

use std::collections::{BTreeMap, BTreeSet};

use ids::WorkloadId;
use pipeline_spec::plan::{Body, Plan};
use proptest::prelude::*;
use serde_json::json;

use super::build::*;
use super::flow::at_end;
use crate::domain::*;

fn paths(bench: &Bench, effects: &[Effect]) -> Vec<String> {
    let path = |effect: &Effect| match effect {
        Effect::Launch { task, .. } => Some(bench.state.get(*task).unwrap().path.clone()),
        _ => None,
    };
    effects.iter().filter_map(path).collect()
}

#[test]
fn what_succeeded_stays_and_the_rest_runs_again() {
    let plan = flat(&[
        ("load", &[]),
        ("train", &["load"]),
        ("other", &["load"]),
        ("last", &["train", "other"]),
    ]);
    let mut bench = Bench::started(plan, json!({}));
    bench.succeed("load");
    bench.fail("train");
    bench.succeed("other");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    let kept = bench.get("load").clone();
    let again = bench.get("train").id;
    let effects = bench.retry();
    assert_eq!(paths(&bench, &effects), ["train"]);
    assert_eq!(bench.get("load"), &kept);
    let train = bench.get("train");
    assert_eq!((train.id, train.status), (again, TaskStatus::Ready));
    let numbers: Vec<u32> = train.body.attempts.iter().map(|a| a.number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!((train.ended_at, train.body.message.as_str()), (None, ""));
    assert_eq!(bench.get("last").status, TaskStatus::Pending);
    bench.succeed("train");
    bench.succeed("last");
    let history = &bench.state.run.body.history;
    let entered: Vec<RunStatus> = history.iter().map(|entered| entered.status).collect();
    use RunStatus::{Failed, Pending, Running, Succeeded};
    assert_eq!(entered, [Running, Failed, Pending, Running, Succeeded]);
    assert_eq!(bench.state.run.body.failed_task, None);
    assert_eq!(bench.state.run.body.task_counts[&TaskStatus::Succeeded], 5);
}

/// `nested` with `x`, then `y`; then `after`.
fn nested() -> Plan {
    let inner = dag(vec![
        task("x", "program", &[]),
        task("y", "program", &["x"]),
    ]);
    let outer = dag(vec![
        task("nested", "inner", &[]),
        task("after", "program", &["nested"]),
    ]);
    plan(
        component(Body::Dag(outer)),
        vec![
            ("program", program()),
            ("inner", component(Body::Dag(inner))),
        ],
    )
}

#[test]
fn groups_above_a_failure_are_opened_again_with_what_they_have() {
    let mut bench = Bench::started(nested(), json!({}));
    bench.succeed("nested/x");
    bench.fail("nested/y");
    let tasks = bench.state.tasks().count();
    let effects = bench.retry();
    assert_eq!(paths(&bench, &effects), ["nested/y"]);
    assert_eq!(bench.get("nested").status, TaskStatus::Running);
    bench.succeed("nested/y");
    bench.succeed("after");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(bench.state.tasks().count(), tasks, "no task is made twice");
}

#[test]
fn a_stopped_run_goes_on_too() {
    let mut bench = Bench::started(nested(), json!({}));
    bench.succeed("nested/x");
    let reason = "for now".to_owned();
    bench.step(Event::Terminate {
        reason,
        exit_tasks: false,
    });
    bench.end("nested/y", WorkloadState::Stopped(None));
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
    let effects = bench.retry();
    assert_eq!(paths(&bench, &effects), ["nested/y"]);
    assert_eq!(bench.state.run.body.cancel, None);
    bench.succeed("nested/y");
    bench.succeed("after");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_run_that_was_stopped_before_it_started_starts() {
    let mut bench = Bench::new(flat(&[("a", &[])]), json!({}));
    let reason = "not yet".to_owned();
    bench.step(Event::Terminate {
        reason,
        exit_tasks: false,
    });
    let effects = bench.retry();
    assert_eq!(paths(&bench, &effects), ["a"]);
}

#[test]
fn a_root_that_could_not_start_is_tried_again() {
    let mut plan = flat(&[("a", &[])]);
    let required = text(None, false);
    plan.root.input_parameters.insert("needed".into(), required);
    let mut bench = Bench::started(plan, json!({}));
    assert_eq!(bench.statuses(), ["run FAILED", "root FAILED"]);
    bench.retry();
    assert_eq!(bench.statuses(), ["run FAILED", "root FAILED"]);
}

#[test]
fn budgets_begin_anew_and_numbers_go_on() {
    let plan = retrying(flat(&[("a", &[])]), "a", 1, 0);
    let mut bench = Bench::started(plan, json!({}));
    bench.fail("a");
    for _ in 0..=LOST_BUDGET {
        bench.end("a", WorkloadState::Lost);
    }
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    let made = bench.get("a").body.attempts.len();
    bench.retry();
    bench.fail("a");
    bench.end("a", WorkloadState::Lost);
    bench.succeed("a");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(bench.get("a").body.attempts.len(), made + 3);
}

#[test]
fn a_deadline_is_counted_from_the_retry() {
    let mut plan = flat(&[("a", &[])]);
    plan.pipeline_config = json!({ "activeDeadlineSeconds": 60 });
    let mut bench = Bench::started(plan, json!({}));
    let first = bench.state.wake_at().unwrap();
    bench.wake();
    bench.end("a", WorkloadState::Stopped(None));
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    bench.retry();
    assert!(bench.state.wake_at().unwrap() > first);
    bench.succeed("a");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn only_a_run_that_ended_without_success_can_be_retried() {
    let now = clock::Timestamp::from_secs(9);
    for status in RunStatus::ALL {
        let mut run = run(json!({}));
        run.status = *status;
        let possible = matches!(status, RunStatus::Failed | RunStatus::Canceled);
        assert_eq!(run.retry(now).is_ok(), possible, "{status}");
    }
}

/// `work` with `a`, then `b`; then an exit task; and a task after `work`.
fn with_exit() -> Plan {
    let inner = dag(vec![
        task("a", "program", &[]),
        task("b", "program", &["a"]),
    ]);
    let outer = dag(vec![
        task("before", "program", &[]),
        task("work", "inner", &["before"]),
        at_end("exit", "program", &["work"]),
        task("after", "program", &["work"]),
    ]);
    plan(
        component(Body::Dag(outer)),
        vec![
            ("program", program()),
            ("inner", component(Body::Dag(inner))),
        ],
    )
}

fn terminate(bench: &mut Bench) -> Outcome {
    let reason = "asked by a test".to_owned();
    bench.step(Event::Terminate {
        reason,
        exit_tasks: false,
    })
}

#[test]
fn exit_tasks_run_after_what_they_follow_was_stopped() {
    let mut bench = Bench::started(with_exit(), json!({}));
    bench.succeed("before");
    terminate(&mut bench);
    assert_eq!(bench.get("exit").status, TaskStatus::Pending);
    assert_eq!(bench.get("after").status, TaskStatus::Canceled);
    bench.restart();
    let stopped = bench.end("work/a", WorkloadState::Stopped(None));
    assert!(matches!(&stopped.effects[..], [Effect::Launch { .. }]));
    assert_eq!(terminate(&mut bench), Outcome::default(), "asked again");
    assert!(matches!(
        &bench.restart()[..],
        [Effect::Launch { attempt: 1, .. }]
    ));
    bench.succeed("exit");
    assert_eq!(
        bench.statuses(),
        [
            "run CANCELED",
            "root CANCELED",
            "before SUCCEEDED",
            "work CANCELED",
            "exit SUCCEEDED",
            "after CANCELED",
            "work/a CANCELED",
            "work/b CANCELED",
        ]
    );
}

#[test]
fn an_exit_task_that_runs_goes_on_when_the_run_is_stopped() {
    let mut bench = Bench::started(with_exit(), json!({}));
    bench.succeed("before");
    bench.fail("work/a");
    assert_eq!(bench.get("exit").status, TaskStatus::Ready);
    assert_eq!(terminate(&mut bench).effects, []);
    // A program that is not being stopped is repeated as ever.
    bench.end("exit", WorkloadState::Lost);
    assert_eq!(bench.get("exit").status, TaskStatus::Ready);
    bench.succeed("exit");
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
}

#[test]
fn an_exit_task_does_not_follow_what_never_began() {
    let mut bench = Bench::started(with_exit(), json!({}));
    terminate(&mut bench);
    assert_eq!(bench.get("exit").status, TaskStatus::Canceled);
    bench.end("before", WorkloadState::Stopped(None));
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
}

#[test]
fn exit_tasks_run_again_when_what_they_follow_does() {
    let mut bench = Bench::started(with_exit(), json!({}));
    bench.succeed("before");
    bench.succeed("work/a");
    bench.fail("work/b");
    bench.succeed("exit");
    let effects = bench.retry();
    assert_eq!(paths(&bench, &effects), ["work/b"]);
    assert_eq!(bench.get("exit").status, TaskStatus::Pending);
    bench.succeed("work/b");
    assert_eq!(bench.get("exit").body.attempts.len(), 2);
    bench.succeed("exit");
    bench.succeed("after");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

/// A loop over the run's list, two at a time; each iteration is a program.
fn looping() -> Plan {
    let mut each = task("each", "body", &[]);
    each.parameters.insert("list".into(), from_group("list"));
    each.iterator = Some(pipeline_spec::plan::Iterator {
        items: pipeline_spec::plan::Items::Parameter("list".into()),
        item_input: "item".into(),
        parallelism: 2,
    });
    let mut body = component(Body::Dag(dag(vec![
        task("x", "program", &[]),
        task("y", "program", &["x"]),
    ])));
    let any = || typed(pipeline_spec::plan::ParameterType::List, None, true);
    body.input_parameters.insert("list".into(), any());
    body.input_parameters
        .insert("item".into(), text(None, true));
    let mut root = component(Body::Dag(dag(vec![each])));
    root.input_parameters.insert("list".into(), any());
    plan(root, vec![("program", program()), ("body", body)])
}

#[test]
fn iterations_that_succeeded_stay_and_the_others_run_again_within_the_limit() {
    let list = json!({"list": ["a", "b", "c", "d", "e"]});
    let mut bench = Bench::started(looping(), list);
    for path in ["each[0]/x", "each[1]/x", "each[0]/y", "each[2]/x"] {
        bench.succeed(path);
    }
    bench.fail("each[1]/y");
    bench.succeed("each[2]/y");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    let tasks = bench.state.tasks().count();
    let effects = bench.retry();
    assert_eq!(paths(&bench, &effects), ["each[1]/y", "each[3]/x"]);
    let mut done = 0;
    while !bench.state.run.status.ended() {
        bench.restart();
        let open = bench
            .state
            .tasks()
            .find(|task| task.open_attempt().is_some());
        let path = open.unwrap().path.clone();
        bench.succeed(&path);
        done += 1;
    }
    assert_eq!(done, 5, "y of the second, and both of the last two");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(bench.state.tasks().count(), tasks + 4);
}

/// Programs in groups of groups: `(how many tasks, whether it is a group)` decides each.
fn tree() -> impl Strategy<Value = Vec<Vec<bool>>> {
    prop::collection::vec(prop::collection::vec(any::<bool>(), 1..4), 1..4)
}

/// A group per list, after the one before; each task in it after the one before if its flag says so.
fn plan_of(tree: &[Vec<bool>]) -> Plan {
    let mut components = vec![("program".to_owned(), program())];
    let mut outer = Vec::new();
    for (at, flags) in tree.iter().enumerate() {
        let names: Vec<String> = (0..flags.len()).map(|t| format!("t{t}")).collect();
        let inner = flags.iter().enumerate().map(|(t, after)| {
            let before: Vec<&str> = match after {
                true if t > 0 => vec![&names[t - 1]],
                _ => vec![],
            };
            task(&names[t], "program", &before)
        });
        components.push((
            format!("group{at}"),
            component(Body::Dag(dag(inner.collect()))),
        ));
        let before = format!("g{}", at.saturating_sub(1));
        let before: &[&str] = if at > 0 && flags[0] { &[&before] } else { &[] };
        outer.push(task(&format!("g{at}"), &format!("group{at}"), before));
    }
    let components = components
        .iter()
        .map(|(name, c)| (name.as_str(), c.clone()));
    plan(component(Body::Dag(dag(outer))), components.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// However often the run fails, is stopped, is retried and is killed in between: nothing that succeeded runs again,
    /// no workload is launched twice, and in the end all is done.
    #[test]
    fn retries_come_to_an_end_and_repeat_no_success(
        tree in tree(),
        choices in prop::collection::vec((any::<u8>(), any::<bool>()), 0..40),
    ) {
        let mut bench = Bench::started(plan_of(&tree), json!({}));
        let mut launched: BTreeMap<WorkloadId, String> = BTreeMap::new();
        let mut succeeded: BTreeSet<String> = BTreeSet::new();
        let mut ids: BTreeMap<String, ids::TaskId> = BTreeMap::new();
        let mut open: Vec<String> = Vec::new();
        let mut choices = choices.into_iter();
        let mut effects = std::mem::take(&mut bench.effects);
        let mut retries = 0;
        loop {
            for effect in std::mem::take(&mut effects) {
                if let Effect::Launch { task, workload_id, .. } = effect {
                    let path = bench.state.get(task).unwrap().path.clone();
                    prop_assert!(!succeeded.contains(&path), "{path} succeeded before");
                    prop_assert_eq!(*ids.entry(path.clone()).or_insert(task), task);
                    prop_assert!(launched.insert(workload_id, path.clone()).is_none());
                    open.push(path);
                }
            }
            if bench.state.run.status.ended() {
                prop_assert!(open.is_empty());
                if bench.state.run.status == RunStatus::Succeeded {
                    break;
                }
                retries += 1;
                effects = bench.retry();
                continue;
            }
            let (choice, crash) = choices.next().unwrap_or((0, false));
            if crash {
                bench.restart();
            }
            if choice % 8 == 7 {
                bench.step(Event::Terminate { reason: "test".into(), exit_tasks: false });
            }
            let Some(path) = open.pop() else { continue };
            let state = match (bench.get(&path).status, choice % 4) {
                (TaskStatus::Canceling, _) => WorkloadState::Stopped(None),
                (_, 3) => WorkloadState::Failed(None),
                _ => {
                    succeeded.insert(path.clone());
                    WorkloadState::Succeeded(Box::default())
                }
            };
            effects = bench.end(&path, state).effects;
        }
        let programs: usize = tree.iter().map(Vec::len).sum();
        prop_assert_eq!(succeeded.len(), programs);
        let starts = bench.state.run.body.history.iter();
        let starts = starts.filter(|entered| entered.status == RunStatus::Running).count();
        prop_assert!(starts <= retries + 1);
    }
}
