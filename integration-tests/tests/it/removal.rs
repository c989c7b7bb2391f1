//! Runs that are stopped or removed: what goes, and what stays.

use std::path::Path;

use api_pipelines::v1::State;
use flumina_integration_tests::{LIMIT, Node, Options, Pipeline, Step, Verdict};
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

/// Says how many rows a run has.
const ROWS: &str = "
import sqlite3, sys
db = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)
print(db.execute('SELECT COUNT(*) FROM runs WHERE id = ?', (sys.argv[2],)).fetchone()[0])
";

/// Waits until a run is not only gone for clients: its row goes last.
async fn wait_removed(node: &Node, run: &str) {
    let database = node.data_dir().join("pipeline-orchestrator.sqlite");
    let args = ["-c", ROWS, database.to_str().unwrap(), run];
    testkit::eventually("the run is removed", LIMIT, || async {
        let rows = testkit::python::run(testkit::python::kfp(), &args);
        if rows.trim() == "0" {
            Ok(())
        } else {
            Err(rows)
        }
    })
    .await;
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
        .import("kept", &uris[0])
        .step(Step::witnessed("use", &witness, body).reads("import", "artifact"));
    let user = client.submit(&user, "user").await;
    assert_eq!(client.wait_end(&user).await.state(), State::Succeeded);

    client.delete(&kept, true).await.unwrap();
    client.delete(&used, false).await.unwrap();
    for (run, uri) in [&kept, &used].into_iter().zip(&uris) {
        client.wait_gone(run).await;
        wait_removed(&node, run).await;
        let content = std::fs::read_to_string(uri);
        assert_eq!(content.ok().as_deref(), Some("content"), "{uri}");
        // Nothing else of it is left.
        let mut left = left_of(&node, run);
        left.retain(|path| !uri.starts_with(path.as_str()));
        assert_eq!(left, Vec::<String>::new());
    }
    // With the last run that uses it, an artifact goes, unless somebody said that it stays.
    client.delete(&user, false).await.unwrap();
    wait_removed(&node, &user).await;
    assert_eq!(left_of(&node, &used), Vec::<String>::new());
    assert_eq!(std::fs::read_to_string(&uris[0]).unwrap(), "content");
    let listed = client.artifacts_of(&kept).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
}
