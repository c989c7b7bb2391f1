//! Ends, and what becomes of steps that run.

use std::fs;
use std::path::Path;

use serde_json::json;
use single_node::Down;
use testkit::process::Signal;
use testkit::{eventually_blocking, temp_dir};

use crate::fleet::{Fleet, LIMIT, wait_for_lines};

/// A step that tells `marks` when it begins and ends, and waits for the file `go` between.
fn patient(dir: &Path) -> String {
    let (marks, go) = (dir.join("marks"), dir.join("go"));
    format!(
        "echo begin >> '{}'; while [ ! -e '{}' ]; do sleep 0.02; done; echo end >> '{}'",
        marks.display(),
        go.display(),
        marks.display()
    )
}

fn marks(dir: &Path) -> String {
    fs::read_to_string(dir.join("marks")).unwrap_or_default()
}

#[test]
fn steps_outlive_the_fleet_and_are_taken_over() {
    let temp = temp_dir();
    let data = temp.path().join("data");
    let mut fleet = Fleet::start(&data);
    let run = fleet.submit(&[&patient(temp.path()), "true"]);
    wait_for_lines(&temp.path().join("marks"), 1);
    fleet.process.signal(Signal::INT);
    assert_eq!(fleet.process.wait(LIMIT).code(), Some(0));
    let output = fleet.process.output();
    assert!(output.contains("1 running steps go on"), "{output}");

    // Not `drop(fleet)`, which would stop the step.
    let next = Fleet::start(&data);
    fs::write(temp.path().join("go"), "").unwrap();
    next.wait_for(&run, "SUCCEEDED");
    assert_eq!(marks(temp.path()), "begin\nend\n");
    drop(next);
}

#[test]
fn an_end_that_stops_steps_fails_their_runs_and_says_why() {
    let temp = temp_dir();
    let data = temp.path().join("data");
    let mut fleet = Fleet::start_with(&data, json!({"stop_on_exit": true}));
    let after = format!("echo after >> '{}'", temp.path().join("marks").display());
    let run = fleet.submit(&[&patient(temp.path()), &after]);
    wait_for_lines(&temp.path().join("marks"), 1);
    fleet.end(Signal::TERM);
    let output = fleet.process.output();
    assert!(output.contains("stopped 1 running steps"), "{output}");

    let next = Fleet::start(&data);
    let ended = next.wait_for(&run, "FAILED");
    assert!(ended.to_string().contains("--on-exit=stop"), "{ended}");
    assert_eq!(marks(temp.path()), "begin\n");
}

#[test]
fn down_stops_a_fleet_with_its_steps() {
    let temp = temp_dir();
    let data = temp.path().join("data");
    let mut fleet = Fleet::start(&data);
    let run = fleet.submit(&[&patient(temp.path())]);
    wait_for_lines(&temp.path().join("marks"), 1);
    let down = single_node::down(&data).unwrap();
    assert_eq!(
        down,
        Down {
            was_running: true,
            stopped_steps: 1
        }
    );
    assert_eq!(fleet.process.wait(LIMIT).code(), Some(0));
    let again = single_node::down(&data).unwrap();
    assert_eq!(
        again,
        Down {
            was_running: false,
            stopped_steps: 0
        }
    );

    let next = Fleet::start(&data);
    let ended = next.wait_for(&run, "FAILED");
    assert!(ended.to_string().contains("flumina down"), "{ended}");
}

#[test]
fn down_stops_what_a_killed_fleet_left_behind_and_starts_nothing() {
    let temp = temp_dir();
    let data = temp.path().join("data");
    let config = temp.path().join("flumina.toml");
    fs::write(&config, "[runner]\ncores = 1\n").unwrap();
    let mut fleet = Fleet::start_with(&data, json!({"config": config}));
    let first = fleet.submit(&[&patient(temp.path())]);
    wait_for_lines(&temp.path().join("marks"), 1);
    // It waits for the core.
    let queued = format!("echo queued >> '{}'", temp.path().join("marks").display());
    let second = fleet.submit(&[&queued]);
    // A step that the runner has not heard of is not stopped: it starts with the next fleet.
    let tasks = format!("/apis/flumina.pipelines/v1/runs/{second}/tasks");
    eventually_blocking("the second step is queued", LIMIT, || {
        let tasks = fleet.call("GET", &tasks, None).to_string();
        if tasks.contains("queue_position") {
            Ok(())
        } else {
            Err(tasks)
        }
    });
    fleet.process.kill();
    let down = single_node::down(&data).unwrap();
    assert_eq!(
        down,
        Down {
            was_running: false,
            stopped_steps: 1
        }
    );

    let next = Fleet::start(&data);
    next.wait_for(&first, "FAILED");
    let ended = next.wait_for(&second, "FAILED");
    assert!(ended.to_string().contains("flumina down"), "{ended}");
    assert_eq!(marks(temp.path()), "begin\n");
}

#[test]
fn down_of_nothing_does_nothing() {
    let temp = temp_dir();
    let none = single_node::down(&temp.path().join("none")).unwrap();
    assert_eq!(
        none,
        Down {
            was_running: false,
            stopped_steps: 0
        }
    );
    assert!(!temp.path().join("none").exists());
}
