//! Launches of ids that are known, and launches that are refused: nothing is left of them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api_runner::v1 as pb;
use clock::Timestamp;
use flumina_runner::domain::state::State;
use flumina_runner::store::{Inserted, Record, Store};
use prost::Message as _;
use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{Fixture, LIMIT, config, shell, state};

/// The directory of a workload.
pub(crate) fn dir_of(data: &Path, id: &str) -> PathBuf {
    let add = |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte);
    let sum = id.bytes().fold(0, add);
    data.join(format!("workloads/{sum:02x}/{id}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_id_is_returned_whatever_is_asked_and_its_files_stay() {
    let dir = TempDir::new().unwrap();
    let mut strict = config(dir.path());
    strict.strict = true;
    let runner = Fixture::with(strict).await;
    runner.launch("k", shell("echo first")).await;
    let ended = runner.ended("k").await;
    let assignment = dir_of(dir.path(), "k").join("assignment");
    let before = std::fs::read(&assignment).unwrap();
    let mut large = shell("echo second");
    large.resources = Some(pb::Resources {
        cpu_request: "1000".to_owned(),
        ..Default::default()
    });
    for spec in [shell("echo second"), large, pb::WorkloadSpec::default()] {
        let again = runner.launch("k", spec).await;
        assert_eq!(again.version, ended.version);
        assert_eq!(std::fs::read(&assignment).unwrap(), before);
    }
    assert_eq!(runner.log("k").await, "first\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_starts_nothing_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner.stop("buried").await;
    let buried = runner.launch("buried", shell("true")).await;
    assert_eq!(state(&buried), pb::State::Stopped);
    assert!(!dir_of(dir.path(), "buried").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_a_launch_until_there_is_room() {
    let dir = TempDir::new().unwrap();
    let orphan = dir_of(dir.path(), "orphan");
    std::fs::create_dir_all(&orphan).unwrap();
    let runner = Fixture::new(&dir).await;
    // What is made from here on is not swept away.
    testkit::eventually("the sweep", LIMIT, async || {
        let there = orphan.exists();
        if there { Err("it is there") } else { Ok(()) }
    })
    .await;
    let place = dir_of(dir.path(), "full");
    std::fs::create_dir_all(&place).unwrap();
    symlink("/dev/full", place.join("assignment.new")).unwrap();
    let refused = runner.try_launch("full", shell("true")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "DISK_FULL");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    assert!(!place.exists());
    assert_eq!(runner.get("full").await.unwrap_err().code(), Code::NotFound);
    runner.launch("full", shell("true")).await;
    assert_eq!(state(&runner.ended("full").await), pb::State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_run_here_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let mut strict = config(dir.path());
    strict.strict = true;
    strict.strict_images = true;
    strict.python = "no-such-python".to_owned();
    let runner = Fixture::with(strict).await;
    let mut large = shell("true");
    large.resources = Some(pb::Resources {
        cpu_request: "1000".to_owned(),
        ..Default::default()
    });
    let mut image = shell("true");
    image.image = "registry.example/own:1".to_owned();
    let mut python = shell("true");
    python.python = Some(pb::PythonRequirements::default());
    for (spec, code, reason) in [
        (large, Code::InvalidArgument, "RESOURCES_ABOVE_MACHINE"),
        (image, Code::InvalidArgument, "IMAGE_NOT_AVAILABLE"),
        (python, Code::FailedPrecondition, "PYTHON_NOT_FOUND"),
    ] {
        let refused = runner.try_launch("never", spec).await.unwrap_err();
        let details = refused.get_error_details();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert_eq!(details.error_info().unwrap().reason, reason);
        assert!(details.retry_info().is_none());
        assert!(!details.bad_request().unwrap().field_violations.is_empty());
    }
}

/// As if the connection had broken between a commit and its answer.
async fn commit_unseen(runner: &Fixture, dir: &TempDir, id: &str, line: &str) {
    let node = runner.service.runner.node_id();
    let options = config(dir.path()).database();
    let store = Store::open(&options, node, "test").await.unwrap();
    let spec = shell(line);
    let record = Record {
        id: id.parse().unwrap(),
        node_id: node.to_owned(),
        namespace: "default".to_owned(),
        owner: spec.owner.clone(),
        state: State::Running,
        reason: String::new(),
        message: String::new(),
        notes: Vec::new(),
        accelerators: Vec::new(),
        spec: Arc::new(pb::WorkloadSpec::default()),
        result: None,
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap()
            .trim()
            .to_owned(),
        deleting: false,
        created_at: Timestamp::from_micros(1),
        admitted_at: Some(Timestamp::from_micros(1)),
        started_at: Some(Timestamp::from_micros(1)),
        ended_at: None,
        log_bytes: 0,
        version: 1,
    };
    let inserted = store.insert(&record, spec.encode_to_vec()).await.unwrap();
    assert!(matches!(inserted, Inserted::New));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_committed_unseen_is_taken_up() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    commit_unseen(&runner, &dir, "w", "echo ran").await;
    let known = runner.launch("w", shell("echo other")).await;
    assert_eq!(state(&known), pb::State::Running);
    assert_eq!(state(&runner.ended("w").await), pb::State::Succeeded);
    assert_eq!(runner.log("w").await, "ran\n");
    commit_unseen(&runner, &dir, "stopped", "sleep 300").await;
    runner.stop("stopped").await;
    assert_eq!(state(&runner.ended("stopped").await), pb::State::Stopped);
}
