//! At most one start per attempt, and what is left when the agent dies at any point.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use api_step::v1::Outcome;

use crate::attempt::{Attempt, alive, assert_outcome, signal};

/// A program that counts how often it ran, and stays while it is not told to go.
const COUNT: &str = "echo run >> count; echo $$ > pid; while [ ! -e go ]; do sleep 0.1; done";

#[test]
fn a_second_agent_leaves_the_first_alone() {
    let attempt = Attempt::script(COUNT);
    let mut first = attempt.start();
    attempt.await_line("work/pid");
    assert_eq!(attempt.start_again().wait().code(), Some(3));
    assert!(attempt.result().is_none());
    fs::write(attempt.path("work/go"), "").unwrap();
    assert_eq!(first.wait().code(), Some(0));
    assert_eq!(attempt.read("work/count"), "run\n");
}

#[test]
fn an_attempt_that_was_started_is_never_started_again() {
    for left in ["started", "result"] {
        let attempt = Attempt::script(COUNT);
        fs::write(attempt.path(left), "").unwrap();
        assert_eq!(attempt.start().wait().code(), Some(4));
        assert_eq!(attempt.read("work/count"), "");
        assert!(!attempt.path("exit").exists());
    }
}

#[test]
fn the_program_does_not_hold_the_lock() {
    let attempt = Attempt::script(COUNT);
    let mut first = attempt.start();
    let pid = attempt.await_line("work/pid");
    signal(first.pid(), "KILL");
    first.wait();
    assert!(alive(&pid), "the program is still there");
    // The lock is free, and the attempt is known to have been started.
    assert_eq!(attempt.start_again().wait().code(), Some(4));
    fs::write(attempt.path("work/go"), "").unwrap();
}

/// What a runner finds after the agent died at a point.
struct Left {
    started: bool,
    ran: bool,
    result: bool,
    exit: bool,
}

fn left_after(point: &str) -> Left {
    let at = POINTS.iter().position(|known| *known == point).unwrap();
    let passed = |other: &str| at >= POINTS.iter().position(|known| *known == other).unwrap();
    Left {
        started: passed("agent.after_started"),
        ran: passed("agent.after_fork"),
        result: passed("agent.after_result"),
        exit: passed("agent.after_exit_record"),
    }
}

const POINTS: [&str; 13] = [
    "agent.locked",
    "agent.prepared",
    "agent.before_started",
    "agent.after_started",
    "agent.after_fork",
    "agent.ended",
    "agent.collected",
    "agent.before_result",
    "agent.result_tmp",
    "agent.after_result",
    "agent.before_exit_record",
    "agent.exit_tmp",
    "agent.after_exit_record",
];

#[test]
fn the_agent_lists_its_abort_points() {
    let output = Command::new(env!("CARGO_BIN_EXE_flumina-agent"))
        .arg("--abort-points")
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), POINTS);
}

#[test]
fn every_abort_point_leaves_what_the_protocol_promises() {
    for point in POINTS {
        let mut attempt =
            Attempt::script("echo run >> count; echo $$ > pid").agent_env("FLUMINA_ABORT", point);
        let status = attempt.start().wait();
        assert_eq!(status.signal(), Some(9), "{point} was not reached");
        let left = left_after(point);
        assert_eq!(attempt.path("started").exists(), left.started, "{point}");
        assert_eq!(attempt.result().is_some(), left.result, "{point}");
        assert_eq!(attempt.path("exit").exists(), left.exit, "{point}");
        if left.ran {
            attempt.await_line("work/pid");
        }
        let runs = attempt.read("work/count");

        // Whatever starts the agent again: the program never runs twice, and runs once when it had not been started.
        attempt = attempt.agent_env("FLUMINA_ABORT", "");
        let code = attempt.start_again().wait().code();
        if left.started || left.result {
            assert_eq!(code, Some(4), "{point}");
            assert_eq!(attempt.read("work/count"), runs, "{point}");
        } else {
            assert_eq!(code, Some(0), "{point}");
            assert_outcome(&attempt.result().unwrap(), Outcome::Succeeded, "");
            assert_eq!(attempt.read("work/count"), "run\n", "{point}");
        }
    }
}

#[test]
fn abort_points_before_the_program_hold_for_steps_that_fail_early_too() {
    for point in [
        "agent.before_result",
        "agent.result_tmp",
        "agent.after_result",
        "agent.exit_tmp",
    ] {
        let attempt = Attempt::command(&["no-such-program"]).agent_env("FLUMINA_ABORT", point);
        assert_eq!(attempt.start().wait().signal(), Some(9), "{point}");
        assert!(!attempt.path("started").exists() && !attempt.path("exit").exists());
        assert_eq!(
            attempt.result().is_some(),
            left_after(point).result,
            "{point}"
        );
    }
}

#[test]
fn the_nth_arrival_can_be_chosen() {
    let attempt = Attempt::script("true").agent_env("FLUMINA_ABORT", "agent.locked:2");
    assert_outcome(&attempt.run(), Outcome::Succeeded, "");
}

#[test]
fn wrong_arguments_are_refused() {
    for args in [&[][..], &["--unknown"], &["a", "b"]] {
        let status = Command::new(env!("CARGO_BIN_EXE_flumina-agent"))
            .args(args)
            .status();
        assert_eq!(status.unwrap().code(), Some(64), "{args:?}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let status = Command::new(env!("CARGO_BIN_EXE_flumina-agent"))
        .arg("/no/such/directory")
        .status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_full_disk_is_named() {
    // /dev/full takes the place of a file that the step must write.
    let mut attempt = Attempt::script("true");
    std::os::unix::fs::symlink("/dev/full", attempt.path("full")).unwrap();
    attempt.assignment.files.push(api_step::v1::File {
        path: "full".to_owned(),
        content: b"x".to_vec(),
        mode: 0,
    });
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "DISK_FULL");
}
