//! A copy of a fleet that runs, brought to life elsewhere.

use std::fs;

use testkit::process::Signal;
use testkit::temp_dir;

use crate::fleet::{Fleet, wait_for_lines};

#[test]
fn a_backup_comes_to_life_elsewhere_and_spares_the_original() {
    let temp = temp_dir();
    let (data, copy) = (temp.path().join("data"), temp.path().join("elsewhere/copy"));
    let archive = temp.path().join("backup.tar.gz");
    let (marks, go) = (temp.path().join("marks"), temp.path().join("go"));
    let script = format!(
        "echo begin >> '{0}'; while [ ! -e '{1}' ]; do sleep 0.02; done; echo end >> '{0}'",
        marks.display(),
        go.display()
    );
    let original = Fleet::start(&data);
    let done = original.submit(&["echo kept"]);
    original.wait_for(&done, "SUCCEEDED");
    let running = original.submit(&[&script]);
    wait_for_lines(&marks, 1);

    let written = single_node::backup(&data, &archive).unwrap();
    assert_eq!(written.bytes, fs::metadata(&archive).unwrap().len());
    assert_eq!(written.skipped, Vec::<std::path::PathBuf>::new());
    let again = single_node::backup(&data, &archive).unwrap_err();
    assert!(again.to_string().contains("exists"), "{again}");

    single_node::restore(&archive, &copy).unwrap();
    let again = single_node::restore(&archive, &copy).unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
    let left: Vec<_> = fs::read_dir(temp.path().join("elsewhere"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let restored = Fleet::start(&copy);
    assert_eq!(restored.run(&done)["state"], "SUCCEEDED");
    let list = "/apis/flumina.pipelines/v1/runs";
    let log = restored.call("GET", &format!("{list}/{done}/tasks"), None);
    assert!(!log.to_string().contains("/data/"), "{log}");
    // The step of the original goes on; the copy repeats it visibly, as a second attempt.
    wait_for_lines(&marks, 2);
    fs::write(&go, "").unwrap();
    original.wait_for(&running, "SUCCEEDED");
    restored.wait_for(&running, "SUCCEEDED");
    let tasks = restored.call("GET", &format!("{list}/{running}/tasks"), None);
    assert!(tasks.to_string().contains("LOST"), "{tasks}");
    assert_eq!(
        fs::read_to_string(&marks).unwrap(),
        "begin\nbegin\nend\nend\n"
    );
}

#[test]
fn artifacts_are_found_after_a_move() {
    let temp = temp_dir();
    let (first, second) = (temp.path().join("first"), temp.path().join("second"));
    let mut fleet = Fleet::start(&first);
    let run = fleet.submit_producer();
    fleet.wait_for(&run, "SUCCEEDED");
    fleet.end(Signal::TERM);
    fs::rename(&first, &second).unwrap();
    fleet.dir.clone_from(&second);

    let moved = Fleet::start(&second);
    let artifacts = moved.call("GET", "/apis/flumina.pipelines/v1/artifacts", None);
    let uri = artifacts["artifacts"][0]["uri"]
        .as_str()
        .unwrap_or_default();
    assert!(uri.starts_with(second.to_str().unwrap()), "{artifacts}");
    assert_eq!(fs::read_to_string(uri).unwrap(), "content\n");
    let body = moved.run(&run).to_string();
    assert!(!body.contains(first.to_str().unwrap()), "{body}");
}
