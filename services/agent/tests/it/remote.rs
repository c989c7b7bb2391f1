//! What the agent does around the program that moves artifacts; what that program does is tested with it.

use std::fs;

use api_step::v1::{Outcome, OutputArtifact, Transfer};

use crate::attempt::{Attempt, assert_outcome, signal};

const INPUTS: &str =
    r#"{"artifacts": {"data": {"artifacts": [{"name": "7", "uri": "s3://b/run/data.csv"}]}}}"#;

/// A step with an input and an output in a store, and a shell command in place of the program.
fn attempt(script: &str, transfer: &str) -> Attempt {
    let mut attempt = Attempt::script(script).inputs(INPUTS);
    attempt.step().declared_inputs = vec!["data".to_owned()];
    attempt.step().output_artifacts = vec![OutputArtifact {
        name: "model".to_owned(),
        uri: "s3://b/run/7/model".to_owned(),
        schema_title: "system.Model".to_owned(),
        ..OutputArtifact::default()
    }];
    attempt.assignment.transfer = Some(Transfer {
        command: ["sh", "-c", transfer, "transfer"].map(str::to_owned).into(),
        access_file: "/nowhere".to_owned(),
        namespace: "default".to_owned(),
    });
    attempt
}

#[test]
fn a_step_whose_inputs_cannot_be_fetched_does_not_start() {
    for (transfer, how) in [("exit 3", "with code 3"), ("kill -9 $$", "by signal 9")] {
        let attempt = attempt("echo ran > ran", transfer);
        let result = attempt.run();
        assert_outcome(&result, Outcome::Failed, "TRANSFER_FAILED");
        assert!(result.message.contains(how), "{}", result.message);
        assert!(!attempt.path("work/ran").exists() && !attempt.path("started").exists());
    }
    let mut attempt = attempt("echo ran", "exit 0");
    attempt.assignment.transfer.as_mut().unwrap().command = vec!["/no/such/program".to_owned()];
    assert_outcome(&attempt.run(), Outcome::Failed, "TRANSFER_FAILED");
}

#[test]
fn a_request_to_stop_ends_the_transfer_and_the_step() {
    let attempt = attempt("echo ran > ran", "exec sleep 60");
    let mut agent = attempt.start();
    crate::attempt::eventually("the transfer", || {
        attempt.path("remote/fetch.request").exists().then_some(())
    });
    agent.terminate();
    agent.wait();
    let result = attempt.result().unwrap();
    assert_outcome(&result, Outcome::Stopped, "STOPPED");
    assert!(!attempt.path("work/ran").exists());
}

#[test]
fn a_result_that_was_not_stored_has_no_outputs() {
    // Nothing to fetch, so that the only transfer is that of the output.
    let mut attempt = attempt(
        r#"mkdir -p "$0" 2>/dev/null; printf weights > "{{$.outputs.artifacts['model'].path}}""#,
        "exit 5",
    );
    attempt.step().inputs_json.clear();
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "TRANSFER_FAILED");
    assert!(result.artifacts.is_empty() && result.exit_code == Some(0));
}

#[test]
fn programs_see_paths_of_their_own_and_the_uris_of_the_store() {
    let mut attempt = attempt(
        r#"echo "{{$.inputs.artifacts['data'].path}} {{$.inputs.artifacts['data'].uri}} {{$.outputs.artifacts['model'].path}}"; echo "$PYTHONPATH""#,
        "exit 5",
    );
    // Known to have no content, so there is nothing to fetch.
    let known = ("s3://b/run/data.csv".to_owned(), String::new());
    attempt.step().input_digests = [known].into();
    attempt.run();
    let log = attempt.log();
    let base = attempt.path("remote");
    let expected = format!(
        "{0}/inputs/0/data.csv s3://b/run/data.csv {0}/outputs/0/model",
        base.display()
    );
    assert!(log.contains(&expected), "{log}");
    let site = attempt.path("files/site");
    assert!(log.contains(site.to_str().unwrap()), "{log}");
    assert!(site.join("sitecustomize.py").exists());
}

#[test]
fn a_step_without_such_artifacts_starts_no_other_program() {
    let mut attempt = attempt("echo done", "exit 5").inputs("");
    attempt.step().output_artifacts.clear();
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert!(!attempt.path("remote").exists());
    assert!(fs::read_dir(attempt.path("files")).is_err());
}

/// A transfer that says who it is and does not end by itself; the next one fails at once.
const HANGS: &str = r#"test ! -e "$1.pid" || exit 5; echo $$ > "$1.pid"; exec sleep 60"#;

/// Kills the agent while the transfer of a request is under way, and then the transfer, as the runner does.
fn die_during(attempt: &Attempt, request: &str) {
    let mut agent = attempt.start();
    let transfer = attempt.await_line(&format!("remote/{request}.request.pid"));
    signal(agent.pid(), "KILL");
    agent.wait();
    signal(transfer.trim().parse().unwrap(), "KILL");
    assert!(attempt.result().is_none());
}

#[test]
fn an_agent_that_died_while_it_fetched_has_started_nothing_and_may_try_again() {
    let attempt = attempt("echo ran > ran", HANGS);
    die_during(&attempt, "fetch");
    assert!(!attempt.path("started").exists());
    attempt.start_again().wait();
    let result = attempt.result().unwrap();
    assert_outcome(&result, Outcome::Failed, "TRANSFER_FAILED");
    assert!(result.message.contains("with code 5"), "it was asked again");
    assert!(!attempt.path("work/ran").exists());
}

#[test]
fn a_program_whose_outputs_were_being_stored_is_not_run_again() {
    let mut attempt = attempt(
        r#"echo ran >> ran; printf weights > "{{$.outputs.artifacts['model'].path}}""#,
        HANGS,
    );
    attempt.step().inputs_json.clear();
    die_during(&attempt, "store");
    assert_eq!(attempt.start_again().wait().code(), Some(4));
    assert!(attempt.result().is_none());
    assert_eq!(attempt.read("work/ran"), "ran\n");
}

/// A step that writes its output, and nothing to fetch.
fn writes(script: &str, transfer: &str) -> Attempt {
    let output = r#"printf weights > "{{$.outputs.artifacts['model'].path}}""#;
    let mut attempt = attempt(&format!("{script} {output}"), transfer);
    attempt.step().inputs_json.clear();
    attempt
}

#[test]
fn the_time_of_a_step_is_also_that_of_its_transfers() {
    // One that does not listen is made to end.
    let stubborn = "trap '' TERM; while :; do sleep 0.1; done";
    for transfer in ["exec sleep 60", stubborn] {
        let mut attempt = attempt("echo ran > ran", transfer);
        attempt.assignment.timeout_ms = 100;
        attempt.assignment.stop_grace_ms = 100;
        let result = attempt.run();
        assert_outcome(&result, Outcome::TimedOut, "TIMED_OUT");
        let said = &result.message;
        assert!(said.contains("0.1 s") && said.contains("inputs"), "{said}");
        assert!(!attempt.path("work/ran").exists() && !attempt.path("started").exists());
    }
    let mut attempt = writes("", "exec sleep 60");
    attempt.assignment.timeout_ms = 2_000;
    let result = attempt.run();
    assert_outcome(&result, Outcome::TimedOut, "TIMED_OUT");
    let said = &result.message;
    assert!(said.contains("2 s") && said.contains("outputs"), "{said}");
    assert!(result.artifacts.is_empty() && result.exit_code == Some(0));
}

#[test]
fn a_request_to_stop_ends_the_storing_of_outputs() {
    let attempt = writes("", r#"echo there > "$1.there"; exec sleep 60"#);
    let mut agent = attempt.start();
    attempt.await_line("remote/store.request.there");
    agent.terminate();
    agent.wait();
    let result = attempt.result().unwrap();
    assert_outcome(&result, Outcome::Stopped, "STOPPED");
    assert!(result.message.contains("outputs"), "{}", result.message);
}

#[test]
fn what_a_program_left_is_gone_when_its_outputs_are_stored() {
    let mut attempt = writes(
        "trap '' TERM; sh -c 'echo $$ > pid; while :; do sleep 0.1; done' & while [ ! -s pid ]; do sleep 0.01; done;",
        r#"dir=$(dirname "$1")/..; if kill -0 $(cat "$dir/work/pid"); then echo lives; else echo gone; fi > "$dir/seen"; exit 5"#,
    );
    attempt.assignment.stop_grace_ms = 50;
    assert_outcome(&attempt.run(), Outcome::Failed, "TRANSFER_FAILED");
    assert_eq!(attempt.read("seen"), "gone\n");
}

#[test]
fn two_outputs_at_one_place_are_refused_by_name() {
    let script = r#"mkdir -p "$(dirname "{{$.outputs.output_file}}")"
        printf '{"artifacts":{"other":{"artifacts":[{"name":"o","uri":"s3://b/run/7/model/"}]}}}' > "{{$.outputs.output_file}}";"#;
    let mut attempt = writes(script, "echo stored > \"$1.stored\"; exit 5");
    let other = OutputArtifact {
        name: "other".to_owned(),
        uri: "s3://b/run/7/other".to_owned(),
        schema_title: "system.Model".to_owned(),
        ..OutputArtifact::default()
    };
    attempt.step().output_artifacts.push(other);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "OUTPUT_INVALID");
    let said = &result.message;
    assert!(
        said.contains("\"model\" and \"other\"") && said.contains("s3://b/run/7/model"),
        "{said}"
    );
    assert!(result.artifacts.is_empty());
}
