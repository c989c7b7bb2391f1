//! Our process dies while a run is terminated or removed.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use api_pipelines::v1::State;
use flumina_integration_tests::{LIMIT, Node, Options, Pipeline, Step, Verdict, Witness};

use crate::cases::each;
use crate::service_deaths::{Death, armed};

#[derive(Debug)]
struct Case {
    point: &'static str,
    death: Death,
}

fn cases(part: &str) -> Vec<Case> {
    let points = [
        runner::ABORT_POINTS,
        pipeline_orchestrator::work::ABORT_POINTS,
    ]
    .concat();
    let points = points.into_iter().filter(|point| point.contains(part));
    points
        .flat_map(|point| Death::ALL.map(|death| Case { point, death }))
        .collect()
}

/// One step that is done, two that do not end by themselves, one that waits for them.
pub(crate) fn stuck(witness: &Witness, gate: &Path) -> Pipeline {
    let done = Step::witnessed("done", witness, "printf x > \"$OUTPUT_model\"").artifact("model");
    Pipeline::new("stuck")
        .step(done)
        .step(Step::gated("one", witness, gate).after(&["done"]))
        .step(Step::gated("two", witness, gate).after(&["done"]))
        .step(Step::witnessed("never", witness, "").after(&["one", "two"]))
}

/// A node with a run of [`stuck`] in the middle.
async fn in_the_middle(options: &Options) -> (Node, String) {
    let mut node = Node::new();
    let witness = node.witness();
    node.start(options);
    let run = node
        .client()
        .submit(&stuck(&witness, &node.path("gate")), "key")
        .await;
    witness.wait_for("start", "one").await;
    witness.wait_for("start", "two").await;
    (node, run)
}

#[test]
fn a_terminated_run_ends_canceled_wherever_the_service_dies() {
    let cases = cases(".stop.");
    assert!(cases.len() >= 6, "{cases:?}");
    each(cases, async |case| {
        let (mut node, run) = in_the_middle(&armed(case.point, 1)).await;
        // The answer may be lost with the service, the request was not.
        drop(node.client().terminate(&run).await);
        let (status, _) = node.wait();
        assert_eq!(status.signal(), Some(9), "the point was not reached");
        case.death.finish(&mut node);
        let verdict = Verdict::of(&node.client(), &run, &node.witness()).await;
        verdict.assert_promise();
        assert_eq!(verdict.run.state(), State::Canceled, "{verdict:#?}");
        node.wait_quiet().await;
        let marks = node.witness().of_run(&run);
        assert!(marks.iter().all(|mark| mark.step != "never"), "{marks:?}");
        assert_eq!(
            marks.iter().filter(|mark| mark.what == "end").count(),
            1,
            "{marks:?}"
        );
    });
}

#[test]
fn a_deleted_run_goes_whole_wherever_the_service_dies() {
    let cases = cases(".delete.");
    assert!(cases.len() >= 15, "{cases:?}");
    each(cases, async |case| {
        let (mut node, run) = in_the_middle(&armed(case.point, 1)).await;
        assert!(!left_of(&node, &run).is_empty());
        drop(node.client().delete(&run, false).await);
        let (status, _) = node.wait();
        assert_eq!(status.signal(), Some(9), "the point was not reached");
        case.death.finish(&mut node);
        node.client().wait_gone(&run).await;
        wait_nothing_left(&node, &run).await;
        node.wait_quiet().await;
        let marks = node.witness().of_run(&run);
        assert!(marks.iter().all(|mark| mark.step != "never"), "{marks:?}");
        let client = node.client();
        testkit::eventually("no artifact is recorded", LIMIT, || async {
            let left = client.artifacts_of(&run).await;
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    });
}

/// Files and directories of the data directory whose path names the run.
pub(crate) fn left_of(node: &Node, run: &str) -> Vec<String> {
    let mut left = Vec::new();
    let mut todo = vec![node.data_dir()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.to_string_lossy().contains(run) {
                left.push(path.display().to_string());
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                todo.push(path);
            }
        }
    }
    left
}

pub(crate) async fn wait_nothing_left(node: &Node, run: &str) {
    testkit::eventually("no file of the run is left", LIMIT, || async {
        let left = left_of(node, run);
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}
