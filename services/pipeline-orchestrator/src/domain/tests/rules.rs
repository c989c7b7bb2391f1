//! One rule per test.

use serde_json::json;

use super::build::*;
use crate::domain::*;

#[test]
fn tasks_start_when_all_before_them_succeeded() {
    let mut bench = Bench::started(
        flat(&[("a", &[]), ("b", &[]), ("c", &["a", "b"])]),
        json!({}),
    );
    assert_eq!(bench.effects.len(), 2);
    bench.succeed("a");
    assert_eq!(bench.get("c").status, TaskStatus::Pending);
    let outcome = bench.succeed("b");
    assert!(matches!(
        &outcome.effects[..],
        [Effect::Launch { attempt: 1, .. }]
    ));
    let outcome = bench.succeed("c");
    assert_eq!(outcome.effects, [Effect::RunEnded]);
    assert_eq!(
        bench.statuses(),
        [
            "run SUCCEEDED",
            "root SUCCEEDED",
            "a SUCCEEDED",
            "b SUCCEEDED",
            "c SUCCEEDED"
        ]
    );
}

#[test]
fn a_failure_lets_running_tasks_finish_and_starts_nothing_new() {
    let plan = flat(&[
        ("train", &[]),
        ("other", &[]),
        ("eval", &["train"]),
        ("last", &["other"]),
    ]);
    let mut bench = Bench::started(plan, json!({}));
    let failed = WorkloadUpdate {
        workload_id: bench.workload("train"),
        version: 3,
        state: WorkloadState::Failed(Some(Box::new(StepReport {
            exit_code: Some(3),
            ..StepReport::default()
        }))),
        reason: "PROGRAM_FAILED".into(),
        message: "exit code 3".into(),
        notes: vec!["ran on python 3.11".into()],
        started_at: None,
        ended_at: None,
    };
    bench.step(Event::Workload(failed));
    assert_eq!(bench.state.run.status, RunStatus::Running);
    let eval = bench.get("eval");
    assert_eq!(eval.body.message, "not started because `train` failed");
    assert_eq!(
        (eval.status, eval.body.reason.as_str()),
        (TaskStatus::Skipped, "UPSTREAM_FAILED")
    );
    let outcome = bench.succeed("other");
    assert_eq!(outcome.effects, [Effect::RunEnded]);
    assert_eq!(
        bench.statuses(),
        [
            "run FAILED",
            "root FAILED",
            "train FAILED",
            "other SUCCEEDED",
            "eval SKIPPED",
            "last SKIPPED"
        ]
    );
    let run = &bench.state.run;
    assert_eq!(run.body.message, "`train` failed: exit code 3");
    assert_eq!(run.body.failed_task, Some(bench.get("train").id));
    let attempt = bench.get("train").last_attempt().unwrap();
    assert_eq!(attempt.exit_code, Some(3));
    assert_eq!(attempt.notes, ["ran on python 3.11"]);
    assert_eq!(run.body.task_counts[&TaskStatus::Skipped], 2);
}

#[test]
fn an_inner_failure_reaches_the_outer_group_when_the_inner_one_has_ended() {
    let inner = dag(vec![task("x", "program", &[]), task("y", "program", &[])]);
    let outer = dag(vec![
        task("nested", "inner", &[]),
        task("first", "program", &[]),
        task("second", "program", &["first"]),
        task("third", "program", &["second"]),
    ]);
    let plan = plan(
        component(pipeline_spec::plan::Body::Dag(outer)),
        vec![
            ("program", program()),
            ("inner", component(pipeline_spec::plan::Body::Dag(inner))),
        ],
    );
    let mut bench = Bench::started(plan, json!({}));
    bench.fail("nested/x");
    // `nested` still runs, so the other branch goes on.
    bench.succeed("first");
    assert_eq!(bench.get("second").status, TaskStatus::Ready);
    bench.succeed("nested/y");
    assert_eq!(bench.get("nested").status, TaskStatus::Failed);
    assert_eq!(bench.get("third").status, TaskStatus::Skipped);
    bench.succeed("second");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    assert_eq!(
        bench.state.run.body.failed_task,
        Some(bench.get("nested/x").id)
    );
}

#[test]
fn the_first_program_starts_its_groups() {
    let mut bench = Bench::started(flat(&[("a", &[])]), json!({}));
    let workload = bench.workload("a");
    bench.step(update(&workload, 1, WorkloadState::Queued { position: 4 }));
    assert_eq!(bench.get("a").last_attempt().unwrap().queue_position, 4);
    assert_eq!(bench.get("a").status, TaskStatus::Ready);
    assert_eq!(bench.get("").started_at, None);
    bench.step(update(&workload, 2, WorkloadState::Running));
    assert_eq!(bench.get("a").status, TaskStatus::Running);
    assert!(bench.get("").started_at.is_some());
}

#[test]
fn late_and_repeated_reports_change_nothing() {
    let mut bench = Bench::started(flat(&[("a", &[]), ("b", &["a"])]), json!({}));
    let workload = bench.workload("a");
    bench.step(update(&workload, 5, WorkloadState::Running));
    let unknown = "other.1.1".parse().unwrap();
    let next_attempt = format!("{workload}0").parse().unwrap();
    let mut nothing = |event: Event| {
        let outcome = bench.step(event.clone());
        assert_eq!(outcome, Outcome::default(), "{event:?}");
    };
    nothing(Event::Start);
    nothing(update(
        &workload,
        5,
        WorkloadState::Succeeded(Box::default()),
    ));
    nothing(update(&workload, 6, WorkloadState::Queued { position: 1 }));
    nothing(update(&unknown, 9, WorkloadState::Running));
    nothing(update(&next_attempt, 9, WorkloadState::Running));
    nothing(Event::LaunchRefused {
        workload_id: workload.clone(),
        reason: "INVALID".into(),
        message: "late".into(),
    });
    bench.step(update(
        &workload,
        7,
        WorkloadState::Succeeded(Box::default()),
    ));
    let mut nothing = |event: Event| {
        assert_eq!(bench.step(event.clone()), Outcome::default(), "{event:?}");
    };
    nothing(update(&workload, 8, WorkloadState::Failed(None)));
    nothing(update(&workload, 9, WorkloadState::Lost));
}

#[test]
fn a_lost_attempt_is_repeated_under_its_own_budget() {
    let mut bench = Bench::started(flat(&[("a", &[])]), json!({}));
    for number in 1..=2 {
        let outcome = bench.end("a", WorkloadState::Lost);
        let expected = Effect::Launch {
            task: bench.get("a").id,
            attempt: number + 1,
            workload_id: bench.workload("a"),
        };
        assert_eq!(outcome.effects, [expected]);
        assert_eq!(bench.get("a").status, TaskStatus::Ready);
    }
    let last = bench.workload("a");
    assert!(last.as_str().ends_with(".3"));
    bench.end("a", WorkloadState::Lost);
    let task = bench.get("a");
    assert_eq!(
        (task.status, task.body.reason.as_str()),
        (TaskStatus::Failed, "LOST")
    );
    assert_eq!(task.body.message, "lost 3 times");
    assert_eq!(bench.state.run.status, RunStatus::Failed);
}

#[test]
fn nothing_lost_is_repeated_after_a_failure_in_the_group() {
    let mut bench = Bench::started(flat(&[("a", &[]), ("b", &[])]), json!({}));
    bench.fail("a");
    bench.end("b", WorkloadState::Lost);
    assert_eq!(bench.get("b").body.attempts.len(), 1);
    assert_eq!(bench.state.run.status, RunStatus::Failed);
    assert_eq!(bench.state.run.body.failed_task, Some(bench.get("a").id));
}

#[test]
fn terminate_stops_what_runs_and_cancels_what_waits() {
    let mut bench = Bench::started(flat(&[("a", &[]), ("b", &[]), ("c", &["a"])]), json!({}));
    let reason = || "asked by a test".to_owned();
    let outcome = bench.step(Event::Terminate {
        exit_tasks: false,
        reason: reason(),
    });
    let stop = |path| Effect::Stop {
        workload_id: bench.workload(path),
        reason: reason(),
    };
    assert_eq!(outcome.effects, [stop("a"), stop("b")]);
    assert_eq!(
        bench.statuses(),
        [
            "run CANCELING",
            "root CANCELING",
            "a CANCELING",
            "b CANCELING",
            "c CANCELED"
        ]
    );
    assert_eq!(bench.restart(), outcome.effects);
    assert_eq!(
        bench.step(Event::Terminate {
            exit_tasks: false,
            reason: "again".into()
        }),
        Outcome::default()
    );
    // It was faster than the request.
    bench.succeed("a");
    bench.end("b", WorkloadState::Stopped(None));
    assert_eq!(
        bench.statuses(),
        [
            "run CANCELED",
            "root CANCELED",
            "a SUCCEEDED",
            "b CANCELED",
            "c CANCELED"
        ]
    );
    assert_eq!(bench.state.run.body.message, "stopped: asked by a test");
    assert_eq!(bench.effects.last(), Some(&Effect::RunEnded));
}

#[test]
fn a_run_that_was_stopped_tells_of_the_failure_before() {
    let mut bench = Bench::started(flat(&[("a", &[]), ("b", &[])]), json!({}));
    bench.fail("a");
    bench.step(Event::Terminate {
        exit_tasks: false,
        reason: "enough".into(),
    });
    bench.end("b", WorkloadState::Lost);
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
    let message = &bench.state.run.body.message;
    assert!(
        message.starts_with("stopped: enough; before that `a` failed"),
        "{message}"
    );
}

#[test]
fn a_run_that_has_not_started_is_canceled_at_once() {
    let mut bench = Bench::new(flat(&[("a", &[])]), json!({}));
    let outcome = bench.step(Event::Terminate {
        exit_tasks: false,
        reason: "no".into(),
    });
    assert_eq!(outcome.effects, [Effect::RunEnded]);
    assert_eq!(bench.state.run.status, RunStatus::Canceled);
    assert_eq!(bench.step(Event::Start), Outcome::default());
}

#[test]
fn a_refused_launch_fails_the_task() {
    let mut bench = Bench::started(flat(&[("a", &[])]), json!({}));
    let workload_id = bench.workload("a");
    let (reason, message) = ("STRICT_IMAGES".to_owned(), "no such image".to_owned());
    bench.step(Event::LaunchRefused {
        workload_id,
        reason,
        message,
    });
    let task = bench.get("a");
    assert_eq!(
        (task.status, task.body.reason.as_str()),
        (TaskStatus::Failed, "STRICT_IMAGES")
    );
    assert_eq!(bench.state.run.body.message, "`a` failed: no such image");
}

#[test]
fn a_program_that_the_runner_does_not_take_says_why_until_it_does() {
    let mut bench = Bench::started(flat(&[("a", &[])]), json!({}));
    let delayed = |bench: &Bench, cause: &str| Event::LaunchDelayed {
        workload_id: bench.workload("a"),
        cause: cause.to_owned(),
    };
    let (full, gone) = (delayed(&bench, "full"), delayed(&bench, "gone"));
    bench.step(full.clone());
    let shown = |bench: &Bench| {
        let task = bench.get("a");
        let attempt = task.last_attempt().unwrap();
        assert_eq!(attempt.message, task.body.message);
        (
            task.status,
            task.body.reason.clone(),
            attempt.message.clone(),
        )
    };
    let said = |cause: &str| {
        let message = format!("the runner does not take it yet and is asked again: {cause}");
        (TaskStatus::Ready, "LAUNCH_WAITS".to_owned(), message)
    };
    assert_eq!(shown(&bench), said("full"));
    assert_eq!(bench.step(full), Outcome::default(), "nothing new");
    let launch = bench.restart();
    assert!(matches!(&launch[..], [Effect::Launch { .. }]));
    bench.step(gone.clone());
    assert_eq!(shown(&bench), said("gone"));
    let queued = WorkloadState::Queued { position: 1 };
    bench.step(update(&bench.workload("a"), 1, queued));
    let nothing = (TaskStatus::Ready, String::new(), String::new());
    assert_eq!(shown(&bench), nothing);
    assert_eq!(bench.step(gone), Outcome::default(), "it is late");
    bench.succeed("a");
    assert_eq!(bench.state.run.status, RunStatus::Succeeded);
}

#[test]
fn a_program_that_the_runner_does_not_take_can_be_stopped() {
    let mut bench = Bench::started(flat(&[("a", &[])]), json!({}));
    let delayed = Event::LaunchDelayed {
        workload_id: bench.workload("a"),
        cause: "x".repeat(5_000),
    };
    bench.step(delayed.clone());
    assert!(bench.get("a").body.message.len() < 1_100);
    bench.step(Event::Terminate {
        exit_tasks: false,
        reason: "enough".into(),
    });
    assert_eq!(bench.get("a").body.reason, "TERMINATED");
    assert_eq!(bench.step(delayed), Outcome::default());
}

#[test]
fn a_pipeline_without_end_fails_by_name() {
    let body = |tasks| component(pipeline_spec::plan::Body::Dag(dag(tasks)));
    let twice = |name: &str| body(vec![task("l", name, &[]), task("r", name, &[])]);
    let names: Vec<String> = (0..40).map(|level| format!("level-{level}")).collect();
    let mut components: Vec<_> = names
        .windows(2)
        .map(|pair| (pair[0].as_str(), twice(&pair[1])))
        .collect();
    components.push((&names[39], program()));
    let wide = plan(twice("level-0"), components);
    let endless = plan(twice("again"), vec![("again", twice("again"))]);
    for plan in [wide, endless] {
        let bench = Bench::started(plan, json!({}));
        assert_eq!(bench.statuses(), ["run FAILED", "root FAILED"]);
        assert_eq!(bench.get("").body.reason, "TOO_MANY_TASKS");
    }
}

#[test]
fn an_empty_group_succeeds() {
    let bench = Bench::started(flat(&[]), json!({}));
    assert_eq!(bench.statuses(), ["run SUCCEEDED", "root SUCCEEDED"]);
}

#[test]
fn tasks_are_found_by_path() {
    let bench = Bench::started(flat(&[("a", &[])]), json!({}));
    assert_eq!(bench.get("a").path, "a");
    assert!(bench.state.find("a/b").is_none());
    assert!(bench.state.find("b").is_none());
}
