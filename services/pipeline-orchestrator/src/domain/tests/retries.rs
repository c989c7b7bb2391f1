//! Retries, their waits and their budgets; deadlines.

use std::time::Duration;

use clock::Timestamp;
use serde_json::json;

use super::build::*;
use crate::domain::*;

const SECOND: Duration = Duration::from_secs(1);

fn launches(outcome: &Outcome) -> Vec<u32> {
    let attempt = |effect: &Effect| match effect {
        Effect::Launch { attempt, .. } => Some(*attempt),
        _ => None,
    };
    outcome.effects.iter().filter_map(attempt).collect()
}

#[test]
fn a_failure_is_retried_at_once_without_a_pause() {
    let plan = retrying(flat(&[("a", &[]), ("b", &["a"])]), "a", 2, 0);
    let mut bench = Bench::started(plan, json!({}));
    assert_eq!(launches(&bench.fail("a")), [2]);
    assert_eq!(bench.state.wake_at(), None);
    assert_eq!(launches(&bench.fail("a")), [3]);
    bench.succeed("a");
    assert_eq!(bench.get("a").body.attempts.len(), 3);
    assert_eq!(bench.get("b").status, TaskStatus::Ready);
}

#[test]
fn the_last_failure_is_the_tasks_own() {
    let plan = retrying(flat(&[("a", &[])]), "a", 1, 0);
    let mut bench = Bench::started(plan, json!({}));
    bench.fail("a");
    assert_eq!(launches(&bench.fail("a")), [0_u32; 0]);
    let task = bench.get("a");
    assert_eq!(task.status, TaskStatus::Failed);
    assert!(task.body.message.contains("failed 2 times"), "{task:?}");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
}

#[test]
fn a_waiting_task_says_so_and_starts_when_its_time_has_come() {
    let plan = retrying(flat(&[("a", &[])]), "a", 2, 1_000);
    let mut bench = Bench::started(plan, json!({}));
    assert_eq!(launches(&bench.fail("a")), [0_u32; 0]);
    let task = bench.get("a");
    assert_eq!(
        (task.status, task.body.reason.as_str()),
        (TaskStatus::Ready, "RETRY_WAITS")
    );
    let failed_at = task.last_attempt().unwrap().ended_at.unwrap();
    assert_eq!(task.body.retry_at, Some(failed_at.plus(SECOND)));
    assert_eq!(bench.state.wake_at(), task.body.retry_at);
    assert!(
        task.body.message.contains("retry 1 of 2 starts at"),
        "{task:?}"
    );
    // Too early: an alarm of before the restart, or a clock that was set back.
    assert_eq!(bench.step(Event::Timer), Outcome::default());
    assert_eq!(bench.restart(), []);
    assert_eq!(launches(&bench.wake()), [2]);
    assert_eq!(bench.step(Event::Timer), Outcome::default());
    let task = bench.get("a");
    assert_eq!((task.body.retry_at, task.body.reason.as_str()), (None, ""));
    bench.fail("a");
    let task = bench.get("a");
    let failed_at = task.last_attempt().unwrap().ended_at.unwrap();
    assert_eq!(task.body.retry_at, Some(failed_at.plus(2 * SECOND)));
    assert_eq!(launches(&bench.wake()), [3]);
    bench.fail("a");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    assert_eq!(bench.state.wake_at(), None);
}

#[test]
fn losses_and_failures_have_budgets_of_their_own() {
    let plan = retrying(flat(&[("a", &[])]), "a", 2, 0);
    let mut bench = Bench::started(plan, json!({}));
    for number in 2..=5 {
        let outcome = if number % 2 == 0 {
            bench.end("a", WorkloadState::Lost)
        } else {
            bench.fail("a")
        };
        assert_eq!(launches(&outcome), [number]);
    }
    bench.succeed("a");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_group_lends_its_retries_to_the_programs_inside() {
    let mut inner = dag(vec![task("x", "program", &[]), task("y", "program", &[])]);
    let own = inner.tasks.get_mut("y").unwrap();
    own.retry = Some(pipeline_spec::plan::Retry {
        max_retries: 0,
        backoff_ms: 0,
        backoff_factor: 2.0,
        backoff_max_ms: 0,
    });
    let outer = dag(vec![task("nested", "inner", &[])]);
    let plan = plan(
        component(pipeline_spec::plan::Body::Dag(outer)),
        vec![
            ("program", program()),
            ("inner", component(pipeline_spec::plan::Body::Dag(inner))),
        ],
    );
    let mut bench = Bench::started(retrying(plan, "nested", 1, 0), json!({}));
    assert_eq!(launches(&bench.fail("nested/x")), [2]);
    bench.fail("nested/y");
    assert_eq!(bench.get("nested/y").status, TaskStatus::Failed);
    // The group has failed; what started before goes on to its end.
    bench.fail("nested/x");
    assert_eq!(bench.get("nested/x").body.attempts.len(), 2);
    assert_eq!(bench.state.run.status, RunStatus::Failed);
}

#[test]
fn a_task_that_waits_for_its_retry_is_stopped_at_once() {
    let plan = retrying(flat(&[("a", &[])]), "a", 2, 1_000);
    let mut bench = Bench::started(plan, json!({}));
    bench.fail("a");
    let reason = "enough".to_owned();
    let outcome = bench.step(Event::Terminate {
        reason,
        exit_tasks: false,
    });
    assert_eq!(outcome.effects, [Effect::RunEnded]);
    assert_eq!(
        bench.statuses(),
        ["run CANCELED", "root CANCELED", "a CANCELED"]
    );
    assert_eq!(bench.state.wake_at(), None);
}

#[test]
fn a_failure_while_being_stopped_is_not_retried() {
    let plan = retrying(flat(&[("a", &[])]), "a", 2, 0);
    let mut bench = Bench::started(plan, json!({}));
    let reason = "enough".to_owned();
    bench.step(Event::Terminate {
        reason,
        exit_tasks: false,
    });
    bench.fail("a");
    assert_eq!(bench.get("a").body.attempts.len(), 1);
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
}

fn limited(mut plan: pipeline_spec::plan::Plan, seconds: u64) -> pipeline_spec::plan::Plan {
    plan.pipeline_config = json!({ "activeDeadlineSeconds": seconds });
    plan
}

#[test]
fn a_run_that_takes_too_long_is_stopped_and_fails_by_name() {
    let plan = limited(flat(&[("a", &[]), ("b", &["a"])]), 60);
    let mut bench = Bench::started(plan, json!({}));
    let started = bench.state.run.body.history.last().unwrap().at;
    assert_eq!(bench.state.wake_at(), Some(started.plus(60 * SECOND)));
    assert_eq!(bench.step(Event::Timer), Outcome::default());
    bench.restart();
    let outcome = bench.wake();
    assert!(matches!(&outcome.effects[..], [Effect::Stop { .. }]));
    assert_eq!(bench.state.run.status, RunStatus::Canceling);
    assert_eq!(bench.restart(), outcome.effects);
    bench.end("a", WorkloadState::Stopped(None));
    assert_eq!(bench.state.wake_at(), None);
    assert_eq!(
        bench.statuses(),
        ["run FAILED", "root CANCELED", "a CANCELED", "b CANCELED"]
    );
    let body = &bench.state.run.body;
    assert_eq!(body.reason, "DEADLINE_EXCEEDED");
    assert_eq!(
        body.message,
        "stopped: the run took longer than its limit of 60 s"
    );
    assert_eq!(bench.get("a").body.reason, "DEADLINE_EXCEEDED");
}

/// They have as long as the run had, and at least an hour; nobody may be there to stop them.
#[test]
fn exit_tasks_after_the_limit_of_a_run_have_a_limit_too() {
    for (limit, granted) in [(60, 3_600), (7_200, 7_200)] {
        let work = task("work", "program", &[]);
        let mut exit = task("exit", "program", &["work"]);
        exit.trigger.strategy = pipeline_spec::plan::Strategy::AllCompleted;
        let root = component(pipeline_spec::plan::Body::Dag(dag(vec![work, exit])));
        let plan = limited(plan(root, vec![("program", program())]), limit);
        let mut bench = Bench::started(plan, json!({}));
        bench.wake();
        let stopped = Timestamp::from_micros(bench.now);
        bench.end("work", WorkloadState::Stopped(None));
        let begun = update(&bench.workload("exit"), 1, WorkloadState::Running);
        bench.step(begun);
        bench.restart();
        let at = stopped.plus(std::time::Duration::from_secs(granted));
        assert_eq!(bench.state.wake_at(), Some(at));
        assert_eq!(bench.step(Event::Timer), Outcome::default());
        let outcome = bench.wake();
        assert!(matches!(&outcome.effects[..], [Effect::Stop { .. }]));
        assert_eq!(bench.state.wake_at(), None);
        assert_eq!(bench.step(Event::Timer), Outcome::default());
        bench.end("exit", WorkloadState::Stopped(None));
        assert_eq!(
            bench.statuses(),
            [
                "run FAILED",
                "root CANCELED",
                "work CANCELED",
                "exit CANCELED"
            ]
        );
        assert_eq!(bench.get("exit").body.reason, "DEADLINE_EXCEEDED");
    }
}

#[test]
fn a_run_that_ends_in_time_waits_for_nothing() {
    let mut bench = Bench::started(limited(flat(&[("a", &[])]), 60), json!({}));
    bench.succeed("a");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
    assert_eq!(bench.state.wake_at(), None);
    assert_eq!(bench.step(Event::Timer), Outcome::default());
}

#[test]
fn the_limit_of_a_program_goes_with_each_attempt() {
    let mut plan = retrying(flat(&[("a", &[])]), "a", 1, 0);
    let mut container = container();
    container.platform = json!({ "activeDeadlineSeconds": "7" });
    let executor = pipeline_spec::plan::Executor::Container(container);
    plan.executors.insert("exec".into(), executor);
    let mut bench = Bench::started(plan, json!({}));
    for _ in 0..2 {
        let spec = launch_spec(&bench.state, bench.get("a").id).unwrap();
        assert_eq!(spec.platform.timeout_seconds, 7);
        bench.fail("a");
    }
}
