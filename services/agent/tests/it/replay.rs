//! A step once more, in the foreground.

use std::process::{Command, Output, Stdio};

use api_step::v1::ParameterType;

use crate::attempt::Attempt;

fn replay(attempt: &Attempt, args: &[&str]) -> Output {
    attempt.write_assignment();
    let mut process = Command::new(env!("CARGO_BIN_EXE_flumina-agent"));
    process.arg("--replay").arg(attempt.path("")).args(args);
    process.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_replay_speaks_to_the_terminal_and_leaves_no_records() {
    let attempt = Attempt::script("echo out $GREETING; echo err >&2; exit 5");
    let output = replay(&attempt, &[]);
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out hello\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    for record in ["lock", "started", "log", "result", "exit"] {
        assert!(!attempt.path(record).exists(), "{record}");
    }
}

#[test]
fn a_replay_checks_the_outputs() {
    let attempt = Attempt::script("true").parameter("n", ParameterType::NumberInteger);
    let output = replay(&attempt, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("OUTPUT_MISSING"));
}

#[test]
fn a_replay_reports_what_cannot_start_and_signals() {
    assert_eq!(
        replay(&Attempt::command(&["no-such-program"]), &[])
            .status
            .code(),
        Some(127)
    );
    assert_eq!(
        replay(&Attempt::script("kill -KILL $$"), &[]).status.code(),
        Some(137)
    );
    let output = replay(&Attempt::script("true"), &["--pdb"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--pdb"));
}
