//! Callers that go away in the middle of a call.

use std::time::Duration;

use api_kfp::v2beta1 as kfp;
use api_pipelines::v1::State;
use flumina_integration_tests::{Node, Pipeline, Step};

const CALLS: u64 = 40;

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_whole_run_or_none() {
    let node = Node::started();
    let witness = node.witness();
    let pipeline = Pipeline::new("left").step(Step::witnessed("step", &witness, ""));
    for number in 0..CALLS {
        // A connection of its own each time, which breaks when the call is dropped.
        let client = node.client();
        let key = format!("key-{number}");
        let call = client.try_submit(&pipeline, &key);
        let patience = Duration::from_micros(number * 250);
        drop(tokio::time::timeout(patience, call).await);
    }
    let client = node.client();
    // The same key afterwards: the run that was made, or a new one, but never a second one.
    let mut runs = Vec::new();
    for number in 0..CALLS {
        runs.push(client.submit(&pipeline, &format!("key-{number}")).await);
    }
    for run in &runs {
        assert_eq!(client.wait_end(run).await.state(), State::Succeeded);
        let starts = witness.starts(run);
        assert_eq!(
            starts.values().copied().collect::<Vec<_>>(),
            [1],
            "{starts:?}"
        );
    }
    let request = kfp::ListRunsRequest {
        page_size: 200,
        ..Default::default()
    };
    let listed = client
        .kfp_runs()
        .list_runs(request)
        .await
        .unwrap()
        .into_inner();
    let mut listed: Vec<String> = listed.runs.into_iter().map(|run| run.run_id).collect();
    listed.sort();
    runs.sort();
    assert_eq!(listed, runs);
    node.wait_quiet().await;
}
