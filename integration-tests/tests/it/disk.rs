//! A disk without room: a small one of the test's own, mounted where only the node sees it.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use api_kfp::v2beta1::ListRunsRequest;
use api_pipelines::v1::State;
use flumina_integration_tests::{Node, Options, Pipeline, Step};
use tonic::Code;

/// Starts its arguments with a disk of 24 MB at the data directory. The mount is the processes' own and ends with them.
const MOUNT: &str = r#"mount -t tmpfs -o size=24m,mode=700 flumina-test "$0" && exec "$@""#;

/// Root may mount; anybody else may within a user namespace.
fn unshare() -> Vec<String> {
    let works = |flags: &str| {
        let mut command = Command::new("unshare");
        command.args([flags, "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]);
        command
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let flags = ["-m", "-Urm"].into_iter().find(|flags| works(flags));
    let flags = flags.expect("a mount namespace: neither root's nor a user's can be made here");
    ["unshare", flags, "sh", "-c", MOUNT]
        .map(str::to_owned)
        .to_vec()
}

/// The data directory as the node sees it.
fn inside(node: &Node) -> PathBuf {
    let dir = node.data_dir();
    PathBuf::from(format!(
        "/proc/{}/root{}",
        node.process().pid(),
        dir.display()
    ))
}

/// Writes until nothing fits any more.
fn fill(ballast: &PathBuf) {
    let mut file = fs::File::create(ballast).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        let block = vec![1; size];
        while file.write_all(&block).is_ok() {}
    }
}

#[tokio::test]
async fn a_full_disk_fails_calls_and_steps_by_name_and_the_server_goes_on() {
    let mut node = Node::new();
    let witness = node.witness();
    let mut wrapper = unshare();
    wrapper.push(node.data_dir().display().to_string());
    node.start(&Options {
        wrapper,
        ..Options::default()
    });
    let client = node.client();
    let pipeline = Pipeline::new("small").step(Step::witnessed("step", &witness, ""));
    let before = client.submit(&pipeline, "before").await;
    assert_eq!(client.wait_end(&before).await.state(), State::Succeeded);

    // A step that finds no room fails by its own error, as it would anywhere.
    let gate = node.path("gate");
    let wait = format!("while [ ! -e '{}' ]; do sleep 0.02; done", gate.display());
    let body = format!("{wait}; head -c 100000 /dev/zero > \"$OUTPUT_model\" || exit 7");
    let writer =
        Pipeline::new("writer").step(Step::witnessed("writer", &witness, &body).artifact("model"));
    let writer = client.submit(&writer, "writer").await;
    witness.wait_for("start", "writer").await;

    let ballast = inside(&node).join("ballast");
    fill(&ballast);
    // Some writes may still fit into room that the database has already.
    let mut refused = None;
    for number in 0..200 {
        let name = format!("{number}-{}", "x".repeat(100));
        refused = client.create_experiment(&name).await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("a call that finds no room");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("disk"), "{refused:?}");
    // A run that was refused is not there; the same call makes it later.
    let during = client.try_submit(&pipeline, "during").await;
    println!(
        "refused: {}; a run meanwhile: {during:?}",
        refused.message()
    );
    if let Err(status) = &during {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
    // Reading needs no room.
    assert_eq!(client.run(&before).await.unwrap().state(), State::Succeeded);
    assert_eq!(
        client.log(&before, "step", 0).await.unwrap(),
        "one step\ntwo step\n"
    );
    assert!(client.serving("").await);

    fs::write(&gate, "").unwrap();
    node.wait_quiet().await;
    fs::remove_file(&ballast).unwrap();
    let after = client.submit(&pipeline, "after").await;
    assert_eq!(client.wait_end(&after).await.state(), State::Succeeded);
    client.create_experiment("after").await.unwrap();
    let again = client.submit(&pipeline, "during").await;
    assert!(during.is_err() || during.is_ok_and(|run| run == again));
    assert_eq!(client.wait_end(&again).await.state(), State::Succeeded);
    let request = ListRunsRequest {
        page_size: 100,
        ..Default::default()
    };
    let listed = client
        .kfp_runs()
        .list_runs(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.runs.len(), 4, "{listed:?}");
    let writer = client.wait_end(&writer).await;
    assert_eq!(writer.state(), State::Failed, "{writer:?}");
    let task = client.task(&writer.run_id, "writer").await;
    assert_eq!(task.attempts.len(), 1, "{task:?}");
    assert_ne!(task.reason, "", "{task:?}");
}
