//! Admission, seen from outside.

use api_runner::v1 as pb;
use tempfile::TempDir;
use tonic::Code;

use crate::fixture::{Fixture, LIMIT, config, shell, state};

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_waits_with_a_place_and_a_reason() {
    let dir = TempDir::new().unwrap();
    let mut one_core = config(dir.path());
    one_core.cores = Some(1.0);
    let runner = Fixture::with(one_core).await;
    let gate = dir.path().join("gate");
    let wait = format!("while [ ! -e {} ]; do sleep 0.01; done", gate.display());
    runner.launch("first", shell(&wait)).await;
    runner.launch("second", shell("true")).await;
    runner.launch("third", shell("true")).await;
    let third = runner
        .until("third", |workload| workload.reason == "WAITING_FOR_CPU")
        .await;
    assert_eq!(
        (state(&third), third.queue_position),
        (pb::State::Queued, 2)
    );
    assert_eq!(runner.get("second").await.unwrap().queue_position, 1);
    assert_eq!(state(&runner.stop("second").await), pb::State::Stopped);
    assert_eq!(runner.get("third").await.unwrap().queue_position, 1);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(state(&runner.ended("third").await), pb::State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_above_the_machine_is_cut_or_refused() {
    let dir = TempDir::new().unwrap();
    let mut large = shell("true");
    large.resources = Some(pb::Resources {
        cpu_request: "1000".to_owned(),
        ..Default::default()
    });
    let runner = Fixture::new(&dir).await;
    runner.launch("large", large.clone()).await;
    let ended = runner.ended("large").await;
    assert_eq!(state(&ended), pb::State::Succeeded);
    assert!(ended.notes[0].contains("1000 cores"), "{:?}", ended.notes);
    runner.shut_down().await;
    let mut strict = config(dir.path());
    strict.strict = true;
    let runner = Fixture::with(strict).await;
    let refused = runner.try_launch("strict", large).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_starts_when_it_is_complete_and_one_that_never_fits_fails() {
    let dir = TempDir::new().unwrap();
    let mut two_cores = config(dir.path());
    two_cores.cores = Some(2.0);
    let runner = Fixture::with(two_cores).await;
    let member = |gang: &str, size| {
        let mut spec = shell("true");
        spec.gang = Some(pb::Gang {
            name: gang.to_owned(),
            size,
            minimum: 0,
        });
        spec
    };
    runner.launch("a.0", member("a", 2)).await;
    let waiting = runner
        .until("a.0", |workload| workload.reason == "WAITING_FOR_GANG")
        .await;
    assert_eq!(state(&waiting), pb::State::Queued);
    runner.launch("a.1", member("a", 2)).await;
    for id in ["a.0", "a.1"] {
        assert_eq!(state(&runner.ended(id).await), pb::State::Succeeded);
    }
    for id in ["b.0", "b.1", "b.2"] {
        runner.launch(id, member("b", 3)).await;
    }
    let failed = runner.ended("b.0").await;
    assert_eq!(failed.reason, "GANG_TOO_LARGE", "{failed:?}");
}

/// Not a measurement of ours alone, but a watch over it: a thousand trivial steps end, each once.
#[tokio::test(flavor = "multi_thread")]
async fn a_fan_of_many_ends() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let count = 300;
    let launches = (0..count).map(|number| {
        let id = format!("fan.{number}");
        let line = format!("echo {number} >> {}/ran", dir.path().display());
        let runner = &runner;
        async move { runner.launch(&id, shell(&line)).await }
    });
    futures_util::future::join_all(launches).await;
    let mut watch = runner.watch("tests").await;
    let mut ended = std::collections::HashSet::new();
    let all = async {
        while ended.len() < count {
            let told = watch.message().await.unwrap().unwrap();
            if let Some(workload) = told.workload
                && workload.ended_at.is_some()
            {
                assert_eq!(workload.state(), pb::State::Succeeded, "{workload:?}");
                ended.insert(workload.id);
            }
        }
    };
    tokio::time::timeout(4 * LIMIT, all).await.unwrap();
    let ran = std::fs::read_to_string(dir.path().join("ran")).unwrap();
    assert_eq!(ran.lines().count(), count);
}
