//! Accelerators: who has which, across ends and deaths.

use std::path::Path;

use api_runner::v1 as pb;
use flumina_runner::Config;
use flumina_runner::domain::accelerators::Pool;
use tempfile::TempDir;

use crate::fixture::{Fixture, LIMIT, config, shell, state};
use crate::restart::Server;

const KIND: &str = "nvidia.com/gpu";

fn with_devices(dir: &Path, ids: &[&str]) -> Config {
    Config {
        cores: Some(16.0),
        accelerators: Some(vec![Pool {
            kind: KIND.to_owned(),
            ids: ids.iter().map(|&id| id.to_owned()).collect(),
        }]),
        ..config(dir)
    }
}

fn asking(count: &str, line: &str) -> pb::WorkloadSpec {
    let mut spec = shell(line);
    spec.resources = Some(pb::Resources {
        accelerator_type: KIND.to_owned(),
        accelerator_count: count.to_owned(),
        ..Default::default()
    });
    spec
}

/// Says what it sees and waits for a file.
fn looking(gate: &Path) -> String {
    format!(
        "echo \"sees=$CUDA_VISIBLE_DEVICES=$NVIDIA_VISIBLE_DEVICES=\"; while [ ! -e {} ]; do sleep 0.01; done",
        gate.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_given_once_kept_over_restarts_and_handed_on() {
    let dir = TempDir::new().unwrap();
    let gates = ["one", "two", "three"].map(|name| dir.path().join(name));
    let runner = Fixture::with(with_devices(dir.path(), &["4", "7"])).await;
    runner.launch("one", asking("1", &looking(&gates[0]))).await;
    runner.logged("one", "sees=4=4=").await;
    runner.shut_down().await;

    let runner = Fixture::with(with_devices(dir.path(), &["4", "7"])).await;
    let one = runner.get("one").await.unwrap();
    assert_eq!(one.accelerators, [format!("{KIND} 4")]);
    runner.launch("two", asking("1", &looking(&gates[1]))).await;
    runner.logged("two", "sees=7=7=").await;
    runner
        .launch("three", asking("2", &looking(&gates[2])))
        .await;
    let waiting = |workload: &pb::Workload| workload.reason == "WAITING_FOR_ACCELERATOR";
    let waits = runner.until("three", waiting).await;
    assert_eq!(state(&waits), pb::State::Queued);
    // Who asks for none sees none.
    runner
        .launch(
            "none",
            shell("echo \"sees=$CUDA_VISIBLE_DEVICES=$NVIDIA_VISIBLE_DEVICES=\""),
        )
        .await;
    runner.logged("none", "sees==void=").await;
    for gate in &gates[..2] {
        std::fs::write(gate, "").unwrap();
    }
    runner.logged("three", "sees=4,7=4,7=").await;
    std::fs::write(&gates[2], "").unwrap();
    for id in ["one", "two", "three", "none"] {
        assert_eq!(state(&runner.ended(id).await), pb::State::Succeeded, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_there_are_is_refused_and_none_of_the_type_is_noted() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::with(with_devices(dir.path(), &["0"])).await;
    let refused = runner
        .try_launch("many", asking("2", "true"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let details = String::from_utf8_lossy(refused.details()).into_owned();
    assert!(details.contains("ACCELERATORS_NOT_AVAILABLE"), "{details}");
    assert!(
        details.contains("this machine has 1 nvidia.com/gpu"),
        "{details}"
    );
    let mut other = asking("1", "true");
    if let Some(resources) = &mut other.resources {
        "fpga".clone_into(&mut resources.accelerator_type);
    }
    runner.launch("other", other.clone()).await;
    let ended = runner.ended("other").await;
    assert_eq!(state(&ended), pb::State::Succeeded);
    assert!(
        ended.notes[0].contains("it runs without"),
        "{:?}",
        ended.notes
    );
    runner.shut_down().await;
    let mut none = with_devices(dir.path(), &[]);
    none.accelerators = Some(Vec::new());
    none.strict = true;
    let runner = Fixture::with(none).await;
    assert!(runner.try_launch("strict", other).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_devices_that_are_gone_fails_by_name() {
    let dir = TempDir::new().unwrap();
    let gate = dir.path().join("gate");
    let runner = Fixture::with(with_devices(dir.path(), &["0", "1"])).await;
    runner.launch("runs", asking("1", &looking(&gate))).await;
    runner.launch("waits", asking("2", "true")).await;
    runner.shut_down().await;
    let runner = Fixture::with(with_devices(dir.path(), &["0"])).await;
    assert_eq!(
        runner.ended("waits").await.reason,
        "ACCELERATORS_NOT_AVAILABLE"
    );
    std::fs::write(&gate, "").unwrap();
    assert_eq!(state(&runner.ended("runs").await), pb::State::Succeeded);
}

/// A directory stands for each device: making it fails when another has it.
#[tokio::test(flavor = "multi_thread")]
async fn no_two_share_a_device_wherever_the_runner_is_killed() {
    let points = [
        "runner.launch.committed",
        "runner.dir.made",
        "runner.running.committed",
        "runner.agent.spawned",
        "runner.result.read",
        "runner.final.committed",
    ];
    for point in points {
        let dir = TempDir::new().unwrap();
        let base = dir.path().display();
        let settings = format!(
            "[runner]\ncores = 16\n[[runner.accelerators]]\ntype = \"{KIND}\"\nids = [4, 7]\n"
        );
        std::fs::write(dir.path().join("runner.toml"), settings).unwrap();
        let line = format!(
            "d={base}/device.$CUDA_VISIBLE_DEVICES; mkdir $d || echo $d >> {base}/clash; echo $CUDA_VISIBLE_DEVICES >> {base}/seen; \
             sleep 0.1; rmdir $d"
        );
        let ids = ["a", "b", "c", "d"];
        let launch = |id: &str| pb::LaunchRequest {
            id: id.to_owned(),
            spec: Some(asking("1", &line)),
        };
        let mut server = Server::start(dir.path(), Some(point));
        let mut client = server.client().await;
        for id in ids {
            client.launch(launch(id)).await.ok();
        }
        server.child.wait().unwrap();
        drop(server);
        let server = Server::start(dir.path(), None);
        let mut client = server.client().await;
        for id in ids {
            client.launch(launch(id)).await.unwrap();
        }
        for id in ids {
            let ended = testkit::eventually(point, LIMIT, async || {
                let request = pb::GetRequest { id: id.to_owned() };
                let found = client.clone().get(request).await.unwrap().into_inner();
                found.ended_at.is_some().then_some(found).ok_or(id)
            })
            .await;
            assert_eq!(ended.state(), pb::State::Succeeded, "{point} {ended:?}");
        }
        let seen = std::fs::read_to_string(dir.path().join("seen")).unwrap();
        let fine = seen.lines().count() == 4 && seen.lines().all(|id| id == "4" || id == "7");
        assert!(fine, "{point}: {seen}");
        assert!(!dir.path().join("clash").exists(), "{point}: {seen}");
    }
}
