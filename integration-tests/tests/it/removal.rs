//! Runs that are stopped or removed: what goes, and what stays.

use std::path::Path;

use api_pipelines::v1::State;
use flumina_integration_tests::{Node, Options, Pipeline, Step, Verdict};
use tonic::Code;

use crate::stop_deaths::{left_of, stuck, wait_nothing_left};

#[tokio::test]
async fn a_terminated_run_stops_its_programs_and_starts_no_more() {
    let mut node = Node::new();
    let witness = node.witness();
    node.start(&Options::default());
    let client = node.client();
    let run = client
        .submit(&stuck(&witness, &node.path("gate")), "key")
        .await;
    witness.wait_for("start", "one").await;
    client.terminate(&run).await.unwrap();
    let verdict = Verdict::of(&client, &run, &witness).await;
    verdict.assert_promise();
    assert_eq!(verdict.run.state(), State::Canceled);
    assert_eq!(verdict.task("done").state(), State::Succeeded);
    assert!(witness.marks().iter().all(|mark| mark.step != "never"));
    node.wait_quiet().await;
    // What was printed can still be read, and a second time is refused by name.
    assert_eq!(client.log(&run, "one", 0).await.unwrap(), "one one\n");
    let again = client.terminate(&run).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
}

#[tokio::test]
async fn a_deleted_run_takes_its_programs_files_and_artifacts_along() {
    let node = Node::started();
    let witness = node.witness();
    let client = node.client();
    let run = client
        .submit(&stuck(&witness, &node.path("gate")), "key")
        .await;
    witness.wait_for("start", "one").await;
    let uri = client.artifacts_of(&run).await[0].uri.clone();
    assert_eq!(std::fs::read_to_string(&uri).unwrap(), "x");
    client.delete(&run, false).await.unwrap();
    assert_eq!(client.run(&run).await.unwrap_err().code(), Code::NotFound);
    wait_nothing_left(&node, &run).await;
    node.wait_quiet().await;
    assert!(!Path::new(&uri).exists());
    assert_eq!(
        client.log(&run, "one", 0).await.unwrap_err().code(),
        Code::NotFound
    );
    assert!(witness.marks().iter().all(|mark| mark.step != "never"));
    // The key of a run that is gone makes no new one by accident, nor an error of ours.
    let again = client.delete(&run, false).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
}

#[tokio::test]
async fn artifacts_stay_when_asked_for_or_when_another_run_uses_them() {
    let node = Node::started();
    let witness = node.witness();
    let client = node.client();
    let make = |name: &str| {
        let body = "printf content > \"$OUTPUT_model\"";
        Pipeline::new(name).step(Step::witnessed("make", &witness, body).artifact("model"))
    };
    let kept = client.submit(&make("kept"), "kept").await;
    let used = client.submit(&make("used"), "used").await;
    let mut uris = Vec::new();
    for run in [&kept, &used] {
        assert_eq!(client.wait_end(run).await.state(), State::Succeeded);
        uris.push(client.artifacts_of(run).await[0].uri.clone());
    }
    let body = "test \"$(cat \"$INPUT_artifact\")\" = content || exit 9";
    let user = Pipeline::new("user")
        .import("import", &uris[1])
        .step(Step::witnessed("use", &witness, body).reads("import", "artifact"));
    let user = client.submit(&user, "user").await;
    assert_eq!(client.wait_end(&user).await.state(), State::Succeeded);

    client.delete(&kept, true).await.unwrap();
    client.delete(&used, false).await.unwrap();
    for (run, uri) in [&kept, &used].into_iter().zip(&uris) {
        client.wait_gone(run).await;
        testkit::eventually(
            "only the artifact is left",
            flumina_integration_tests::LIMIT,
            || async {
                let mut left = left_of(&node, run);
                left.retain(|path| !uri.starts_with(path.as_str()));
                if left.is_empty() { Ok(()) } else { Err(left) }
            },
        )
        .await;
        assert_eq!(std::fs::read_to_string(uri).unwrap(), "content", "{uri}");
    }
    // With the last run that uses it, an artifact goes.
    client.delete(&user, false).await.unwrap();
    testkit::eventually(
        "the artifact is gone",
        flumina_integration_tests::LIMIT,
        || async {
            if Path::new(&uris[1]).exists() {
                Err(())
            } else {
                Ok(())
            }
        },
    )
    .await;
    assert_eq!(std::fs::read_to_string(&uris[0]).unwrap(), "content");
}
