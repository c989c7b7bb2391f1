//! A run whose rows nobody can read: it ends by name, and takes its programs along.

use std::os::unix::process::ExitStatusExt as _;

use api_pipelines::v1::State;
use flumina_integration_tests::{Node, Options};

use crate::cases::each;
use crate::service_deaths::armed;
use crate::stop_deaths::stuck;

/// Takes what a run executes away.
const DAMAGE: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
changed = db.execute('UPDATE specs SET body = ? WHERE hash = (SELECT spec_hash FROM runs WHERE id = ?)', ('{}', sys.argv[2]))
assert changed.rowcount == 1, changed.rowcount
db.commit()
";

#[derive(Debug)]
struct Case {
    /// Whether the service dies before it has written that the run ended.
    dies: bool,
}

#[test]
fn a_run_that_cannot_be_read_fails_by_name_and_leaves_no_program() {
    each(vec![Case { dies: false }, Case { dies: true }], gives_up);
}

async fn gives_up(case: &Case) {
    let mut node = Node::new();
    let witness = node.witness();
    node.start(&Options::default().boot("boot-one"));
    let pipeline = stuck(&witness, &node.path("gate"));
    let run = node.client().submit(&pipeline, "key").await;
    witness.wait_for("start", "one").await;
    witness.wait_for("start", "two").await;
    node.kill();
    let database = node.data_dir().join("pipeline-orchestrator.sqlite");
    let args = ["-c", DAMAGE, database.to_str().unwrap(), &run];
    testkit::python::run(testkit::python::kfp(), &args);
    if case.dies {
        node.spawn(&armed("orchestrator.give_up.stopped", 1));
        let (status, _) = node.wait();
        assert_eq!(status.signal(), Some(9), "the point was not reached");
    }
    node.start(&Options::default().boot("boot-one"));
    let ended = node.client().wait_end(&run).await;
    assert_eq!(ended.state(), State::Failed, "{ended:?}");
    let message = &ended.message;
    assert!(
        message.contains("the stored run cannot be executed"),
        "{message}"
    );
    node.wait_quiet().await;
    let marks = witness.marks();
    assert!(
        marks
            .iter()
            .all(|mark| mark.what != "end" || mark.step == "done"),
        "{marks:?}"
    );
}
