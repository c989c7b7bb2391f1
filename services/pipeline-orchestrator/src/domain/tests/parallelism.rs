//! The limit of a run on the programs that it executes at a time.

use serde_json::json;

use super::build::*;
use crate::domain::*;

fn plan(limit: u32) -> pipeline_spec::Plan {
    let mut plan = flat(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &["a"])]);
    plan.pipeline_config = json!({ "parallelism": limit });
    plan
}

fn launched(effects: &[Effect]) -> usize {
    let launches = effects.iter();
    launches
        .filter(|effect| matches!(effect, Effect::Launch { .. }))
        .count()
}

fn waiting(bench: &Bench) -> Vec<&str> {
    let tasks = bench.state.tasks();
    let waiting = tasks.filter(|task| task.body.reason == "PARALLELISM");
    waiting.map(|task| task.name.as_str()).collect()
}

#[test]
fn no_more_programs_than_the_limit_run_and_the_rest_says_why() {
    let mut bench = Bench::started(plan(2), json!({}));
    assert_eq!(waiting(&bench), ["c"]);
    let message = &bench.get("c").body.message;
    assert!(message.contains("at most 2 at a time"), "{message}");
    // A restart launches what was launched, and not what waits.
    assert_eq!(launched(&bench.restart()), 2);
    assert_eq!(waiting(&bench), ["c"]);
    bench.succeed("b");
    assert_eq!(waiting(&bench), [""; 0]);
    assert_eq!(bench.get("c").body.message, "");
    bench.succeed("a");
    bench.succeed("c");
    bench.succeed("d");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn whoever_came_first_goes_first() {
    let mut bench = Bench::started(plan(1), json!({}));
    assert_eq!(waiting(&bench), ["b", "c"]);
    bench.succeed("a");
    assert_eq!(waiting(&bench), ["c", "d"]);
    assert_eq!(bench.get("b").status, TaskStatus::Ready);
    bench.restart();
    bench.succeed("b");
    assert_eq!(waiting(&bench), ["d"]);
}

#[test]
fn a_retry_keeps_its_place() {
    let mut bench = Bench::started(retrying(plan(1), "a", 2, 1_000), json!({}));
    bench.fail("a");
    assert_eq!(bench.get("a").body.reason, "RETRY_WAITS");
    bench.restart();
    assert_eq!(waiting(&bench), ["b", "c"]);
    assert_eq!(launched(&bench.wake().effects), 1);
    assert_eq!(launched(&bench.succeed("a").effects), 1);
}

#[test]
fn a_failure_leaves_nothing_waiting() {
    let mut bench = Bench::started(plan(1), json!({}));
    assert_eq!(launched(&bench.fail("a").effects), 0);
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    let canceled = bench.get("b");
    assert_eq!(
        (canceled.status, canceled.body.attempts.len()),
        (TaskStatus::Canceled, 0)
    );
    // A retry of the run begins with the same limit.
    assert_eq!(launched(&bench.retry()), 1);
    assert_eq!(waiting(&bench), ["b", "c"]);
}

#[test]
fn whoever_waits_is_stopped_with_the_run() {
    let mut bench = Bench::started(plan(1), json!({}));
    let reason = "enough".to_owned();
    bench.step(Event::Terminate {
        reason,
        exit_tasks: false,
    });
    assert_eq!(bench.get("b").status, TaskStatus::Canceled);
    bench.end("a", WorkloadState::Stopped(None));
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
}
