//! Volumes: mounted, made and removed, wherever the runner dies.

use std::path::Path;

use api_runner::v1 as pb;
use flumina_runner::VOLUME_ABORT_POINTS;
use pb::{volume, volume_task};
use tempfile::TempDir;
use tonic::Code;

use crate::fixture::{LIMIT, shell, state};
use crate::restart::Server;
use crate::supplies::{NAMESPACE, Stores, mount, pvc, reason};

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_outlives_its_workloads() {
    let stores = Stores::new().await;
    let with = |line: &str, source: volume::Source| {
        let mut spec = shell(line);
        spec.volumes = vec![mount("/flumina-data", source)];
        spec
    };
    // One that does not exist is made, and the workload says so.
    let writes = with(
        "mkdir /flumina-data/in && echo kept > /flumina-data/in/file",
        pvc("v", ""),
    );
    stores.runner.launch("writes", writes).await;
    let ended = stores.runner.ended("writes").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    assert!(
        ended
            .notes
            .iter()
            .any(|note| note.contains("`v` did not exist")),
        "{:?}",
        ended.notes
    );
    let reads = with(
        "cat /flumina-data/file; echo > /flumina-data/ready; while [ ! -e /flumina-data/go ]; do sleep 0.01; done",
        pvc("v", "in"),
    );
    stores.runner.launch("reads", reads).await;
    stores.runner.logged("reads", "kept").await;

    let delete = pb::DeleteVolumeRequest {
        namespace: NAMESPACE.to_owned(),
        name: "v".to_owned(),
        request_id: String::new(),
    };
    let mut volumes = stores.volumes.clone();
    let used = volumes.delete_volume(delete.clone()).await.unwrap_err();
    assert_eq!(reason(&used), "VOLUME_IN_USE");
    let get = pb::GetVolumeRequest {
        namespace: NAMESPACE.to_owned(),
        name: "v".to_owned(),
    };
    let path = volumes
        .get_volume(get.clone())
        .await
        .unwrap()
        .into_inner()
        .path;
    std::fs::write(Path::new(&path).join("in/go"), "").unwrap();
    let ended = stores.runner.ended("reads").await;
    assert_eq!(state(&ended), pb::State::Succeeded);
    assert!(ended.notes.is_empty(), "{:?}", ended.notes);
    volumes.delete_volume(delete.clone()).await.unwrap();
    assert!(!Path::new(&path).exists());
    assert_eq!(
        volumes.delete_volume(delete).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        volumes.get_volume(get).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_do_not_exist_can_be_refused() {
    let strict = Stores::with(TempDir::new().unwrap(), |config| {
        config.strict_volumes = true
    })
    .await;
    let mut spec = shell("true");
    spec.volumes = vec![mount("/flumina-data", pvc("v", ""))];
    strict.runner.launch("w", spec).await;
    let ended = strict.runner.ended("w").await;
    assert_eq!(ended.reason, "VOLUME_NOT_FOUND");
    assert!(
        ended.message.contains("flumina volume create v"),
        "{}",
        ended.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspace_is_shared_by_an_owner_and_goes_with_it() {
    let stores = Stores::new().await;
    let spec = |line: &str| {
        let source = volume::Source::Workspace(pb::WorkspaceSource::default());
        let scratch = volume::Source::Scratch(pb::ScratchSource {
            size_limit: "1Gi".to_owned(),
        });
        let mut spec = shell(line);
        spec.volumes = vec![
            mount("/kfp-workspace", source),
            mount("/flumina-scratch", scratch),
        ];
        spec
    };
    stores
        .runner
        .launch(
            "one",
            spec("echo 1 | tee /kfp-workspace/f /flumina-scratch/f"),
        )
        .await;
    let ended = stores.runner.ended("one").await;
    assert!(
        ended
            .notes
            .iter()
            .any(|note| note.contains("/flumina-scratch (1Gi)")),
        "{:?}",
        ended.notes
    );
    stores
        .runner
        .launch(
            "two",
            spec("cat /kfp-workspace/f && test ! -e /flumina-scratch/f"),
        )
        .await;
    assert_eq!(
        state(&stores.runner.ended("two").await),
        pb::State::Succeeded
    );
    let dir = stores.data().join("workspaces/tests/one");
    assert!(dir.join("f").exists());
    let forget = pb::ForgetRequest {
        owner: "tests/one".to_owned(),
    };
    stores.runner.client.clone().forget(forget).await.unwrap();
    assert!(!dir.exists());
}

fn create(name: &str, suffix: &str) -> pb::WorkloadSpec {
    task(volume_task::Task::Create(pb::NewVolume {
        name: name.to_owned(),
        name_suffix: suffix.to_owned(),
        size: "5Mi".to_owned(),
        access_modes: vec!["ReadWriteOnce".to_owned()],
        storage_class: "standard".to_owned(),
    }))
}

fn task(task: volume_task::Task) -> pb::WorkloadSpec {
    pb::WorkloadSpec {
        owner: "tests/one".to_owned(),
        volume_task: Some(pb::VolumeTask { task: Some(task) }),
        ..Default::default()
    }
}

/// The output of a task about a volume.
fn named(ended: &pb::Workload) -> String {
    let result = ended.result.as_ref().unwrap();
    let value = &result.parameters[0];
    assert_eq!(value.name, "name");
    serde_json::from_str(&value.value_json).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_and_removed_without_a_program() {
    let stores = Stores::new().await;
    stores.runner.launch("c", create("", "-my-pvc")).await;
    let ended = stores.runner.ended("c").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    let name = named(&ended);
    assert!(name.ends_with("-my-pvc") && name.len() > 40, "{name}");
    let dir = stores.data().join("volumes/default").join(&name);
    assert!(dir.is_dir());

    stores.runner.launch("again", create(&name, "")).await;
    assert_eq!(stores.runner.ended("again").await.reason, "VOLUME_EXISTS");
    let wrong = stores
        .runner
        .try_launch("wrong", create("../x", ""))
        .await
        .unwrap_err();
    assert!(wrong.message().contains("no name of a volume"), "{wrong:?}");

    let delete = task(volume_task::Task::Delete(name.clone()));
    stores.runner.launch("d", delete.clone()).await;
    assert_eq!(named(&stores.runner.ended("d").await), name);
    assert!(!dir.exists());
}

/// Kills the runner wherever something about a volume is committed or done.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_neither_lost_nor_doubled_wherever_the_runner_dies() {
    for point in VOLUME_ABORT_POINTS {
        let dir = TempDir::new().unwrap();
        let launch = |id: &str, spec| pb::LaunchRequest {
            id: id.to_owned(),
            spec: Some(spec),
        };
        let makes = launch("makes", create("", "-v"));
        let name = format!("{}-v", ids::RequestId::derived("makes"));
        let removes = launch("removes", task(volume_task::Task::Delete(name.clone())));
        let mut server = Server::start(dir.path(), Some(point));
        let mut client = server.client().await;
        for request in [&makes, &removes] {
            if client.launch(request.clone()).await.is_ok() {
                ended(&client, &request.id).await;
            }
        }
        server.child.wait().unwrap();
        drop(server);

        let server = Server::start(dir.path(), None);
        let mut client = server.client().await;
        let volumes = dir.path().join("volumes/default");
        let count = || std::fs::read_dir(&volumes).into_iter().flatten().count();
        client.launch(makes).await.unwrap();
        let made = ended(&client, "makes").await.expect(point);
        assert_eq!(state(&made), pb::State::Succeeded, "{point}: {made:?}");
        assert_eq!(named(&made), name, "{point}");
        assert!(count() <= 1, "{point}");
        client.launch(removes).await.unwrap();
        let removed = ended(&client, "removes").await.expect(point);
        assert_eq!(
            state(&removed),
            pb::State::Succeeded,
            "{point}: {removed:?}"
        );
        assert_eq!(count(), 0, "{point}");
    }
}

/// Waits for the end of a workload; none when the runner dies meanwhile.
async fn ended(
    client: &pb::workload_service_client::WorkloadServiceClient<rpc::Channel>,
    id: &str,
) -> Option<pb::Workload> {
    testkit::eventually("the end of the workload", LIMIT, async || {
        let request = pb::GetRequest { id: id.to_owned() };
        match client.clone().get(request).await {
            Ok(found) if found.get_ref().ended_at.is_some() => Ok(Some(found.into_inner())),
            Ok(found) => Err(format!("{found:?}")),
            Err(_) => Ok(None),
        }
    })
    .await
}
