//! How programs are found, what they are given, and what cannot be started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use api_step::v1::step::Program;
use api_step::v1::{Command, EnvVar, File, Outcome};

use crate::attempt::{Attempt, assert_outcome};

#[test]
fn a_program_that_exits_with_0_succeeds() {
    let attempt = Attempt::script("echo out; echo err >&2");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Succeeded, "");
    assert_eq!(result.exit_code, Some(0));
    assert_eq!((result.signal, result.message.as_str()), (None, ""));
    assert!(result.started_at_us > 0 && result.started_at_us <= result.ended_at_us);
    assert!(result.prepare_us > 0);
    assert_eq!(attempt.log(), "out\nerr\n");
    assert!(attempt.path("started").exists());
}

#[test]
fn a_program_gets_the_declared_environment_and_nothing_else() {
    let mut attempt = Attempt::command(&["env"])
        .agent_env("SECRET", "x")
        .agent_env("FLUMINA_ABORT", "none");
    attempt.assignment.path_prefix = vec!["/venv/bin".to_owned(), "/other".to_owned()];
    attempt.assignment.env.push(EnvVar {
        name: "PATH".to_owned(),
        value: "/usr/bin:/bin".to_owned(),
    });
    assert_outcome(&attempt.run(), Outcome::Succeeded, "");
    let log = attempt.log();
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "FLUMINA_ATTEMPT=run.7.1",
            "GREETING=hello",
            "PATH=/venv/bin:/other:/usr/bin:/bin"
        ]
    );
}

#[test]
fn a_program_inherits_no_lock_and_no_terminal() {
    let attempt = Attempt::script(
        "ls -l /proc/self/fd | grep -- '->' | grep -v /proc/ | sed 's/.*[0-9] -> //'; \
         pwd; ps -o sid=,pgid=,pid= -p $$",
    );
    assert_outcome(&attempt.run(), Outcome::Succeeded, "");
    let log = attempt.log();
    let lines: Vec<&str> = log.lines().collect();
    let path = attempt.path("log");
    // stdout of ls is the pipe to grep.
    assert_eq!(lines[0], "/dev/null", "{log}");
    assert!(lines[1].starts_with("pipe:"), "{log}");
    assert_eq!(lines[2], path.to_str().unwrap(), "{log}");
    assert_eq!(lines[3], attempt.assignment.working_dir);
    let ids: Vec<&str> = lines[4].split_whitespace().collect();
    assert_eq!(ids[1], ids[2], "leads its process group");
    assert_ne!(ids[0], ids[2], "its session is the agent's");
}

#[test]
fn a_program_starts_with_default_signals() {
    // Without a shell in between, which would tidy up by itself.
    let attempt = Attempt::command(&["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]);
    attempt.run();
    let zero = "0".repeat(16);
    assert_eq!(attempt.log(), format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n"));
}

#[test]
fn the_log_is_appended_to() {
    let attempt = Attempt::script("echo second");
    fs::write(attempt.path("log"), "first\n").unwrap();
    attempt.run();
    assert_eq!(attempt.log(), "first\nsecond\n");
}

#[test]
fn a_failing_program_is_explained() {
    let attempt = Attempt::script("echo starting; echo 'error: no such table' >&2; exit 3");
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "PROGRAM_FAILED");
    assert_eq!(result.exit_code, Some(3));
    assert_eq!(
        result.message,
        "exit code 3; last line of the log: error: no such table"
    );
}

#[test]
fn a_signal_is_told_from_an_exit_code() {
    let result = Attempt::script("kill -SEGV $$").run();
    assert_outcome(&result, Outcome::Failed, "PROGRAM_SIGNALED");
    assert_eq!((result.exit_code, result.signal), (None, Some(11)));
    assert!(result.message.contains("crashed"), "{}", result.message);
    let result = Attempt::script("exit 139").run();
    assert_eq!((result.exit_code, result.signal), (Some(139), None));
}

#[test]
fn a_missing_program_says_what_to_do() {
    let attempt = Attempt::command(&["no-such-program", "x"]);
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "PROGRAM_NOT_FOUND");
    assert!(
        result.message.contains("\"no-such-program\""),
        "{}",
        result.message
    );
    assert!(result.message.contains("install"), "{}", result.message);
    assert!(!attempt.path("started").exists(), "nothing ran");
    for program in ["./here", "/no/such/program"] {
        assert_outcome(
            &Attempt::command(&[program]).run(),
            Outcome::Failed,
            "PROGRAM_NOT_FOUND",
        );
    }
}

#[test]
fn a_missing_interpreter_is_a_missing_program() {
    let mut attempt = Attempt::command(&["./main"]);
    attempt.assignment.files.push(File {
        path: "work/main".to_owned(),
        content: b"#!/no/such/interpreter\n".to_vec(),
        mode: 0o755,
    });
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "PROGRAM_NOT_FOUND");
    assert!(result.message.contains("interpreter"), "{}", result.message);
}

#[test]
fn a_file_that_is_no_program_is_refused() {
    let mut attempt = Attempt::command(&["./main"]);
    attempt.assignment.files.push(File {
        path: "work/main".to_owned(),
        content: Vec::new(),
        mode: 0o644,
    });
    assert_outcome(&attempt.run(), Outcome::Failed, "PROGRAM_NOT_EXECUTABLE");
    assert_outcome(
        &Attempt::command(&["/"]).run(),
        Outcome::Failed,
        "PROGRAM_NOT_EXECUTABLE",
    );
}

#[test]
fn an_empty_command_is_refused() {
    assert_outcome(&Attempt::command(&[]).run(), Outcome::Failed, "NO_COMMAND");
    assert_outcome(
        &Attempt::command(&[""]).run(),
        Outcome::Failed,
        "NO_COMMAND",
    );
    let absent = r#"{"IfPresent": {"InputName": "x", "Then": "sh"}}"#;
    let mut attempt = Attempt::command(&[absent]);
    attempt.step().declared_inputs.push("x".to_owned());
    assert_outcome(&attempt.run(), Outcome::Failed, "NO_COMMAND");
}

#[test]
fn python_in_a_command_is_the_environments() {
    let attempt = |python: &str, prefix: Option<&str>| {
        let mut attempt = Attempt::command(&["python3", "-c", "ignored"]);
        for (dir, text) in [("first", "first"), ("second", "second")] {
            let path = attempt.path(dir);
            fs::create_dir(&path).unwrap();
            let program = path.join("python3");
            fs::write(&program, format!("#!/bin/sh\necho {text} $0\n")).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        attempt.assignment.python = attempt
            .path(python)
            .join("python3")
            .to_str()
            .unwrap()
            .to_owned();
        attempt.assignment.path_prefix = prefix
            .map(|dir| attempt.path(dir).to_str().unwrap().to_owned())
            .into_iter()
            .collect();
        assert_outcome(&attempt.run(), Outcome::Succeeded, "");
        attempt.log().split(' ').next().unwrap().to_owned()
    };
    assert_eq!(attempt("second", Some("first")), "first");
    assert_eq!(attempt("second", None), "second");
}

#[test]
fn placeholders_are_replaced_in_command_and_arguments() {
    let mut attempt = Attempt::new(Program::Command(Command {
        command: vec![
            "sh".to_owned(),
            "-c".to_owned(),
            "echo \"$0\" \"$@\"".to_owned(),
        ],
        args: [
            "{{$.inputs.parameters['n']}}",
            r#"{"IfPresent": {"InputName": "n", "Then": ["a", "b"]}}"#,
            "{{$.pipeline_job_name}}",
        ]
        .map(str::to_owned)
        .into(),
    }))
    .inputs(r#"{"parameterValues": {"n": 2.0}}"#);
    attempt
        .step()
        .placeholders
        .insert("pipeline_job_name".to_owned(), "my run".to_owned());
    assert_outcome(&attempt.run(), Outcome::Succeeded, "");
    assert_eq!(attempt.log(), "2 a b my run\n");
}

#[test]
fn an_unknown_placeholder_fails_the_step_by_name() {
    let result = Attempt::script("echo {{$.inputs.parameters['typo']}}").run();
    assert_outcome(&result, Outcome::Failed, "PLACEHOLDER_INVALID");
    assert!(result.message.contains("\"typo\""), "{}", result.message);
}

#[test]
fn remote_inputs_fail_the_step_by_name() {
    let inputs =
        r#"{"artifacts": {"data": {"artifacts": [{"name": "1", "uri": "gs://bucket/x"}]}}}"#;
    let result = Attempt::script("true").inputs(inputs).run();
    assert_outcome(&result, Outcome::Failed, "INPUT_UNAVAILABLE");
    assert!(
        result.message.contains("gs://bucket/x"),
        "{}",
        result.message
    );
}

#[test]
fn an_argument_that_linux_refuses_is_named() {
    let attempt = Attempt::new(Program::Command(Command {
        command: vec!["echo".to_owned()],
        args: vec!["x".repeat(128 * 1024)],
    }));
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "ARGUMENT_TOO_LARGE");
    assert!(result.message.contains("argument 1"), "{}", result.message);
    assert!(!attempt.path("started").exists());

    let largest = Attempt::new(Program::Command(Command {
        command: vec!["true".to_owned()],
        args: vec!["x".repeat(128 * 1024 - 1)],
    }));
    assert_outcome(&largest.run(), Outcome::Succeeded, "");
}

#[test]
fn files_are_written_below_the_directory_only() {
    let with = |path: &str| {
        let mut attempt = Attempt::script("cat ../files/a/b");
        attempt.assignment.files.push(File {
            path: path.to_owned(),
            content: b"content".to_vec(),
            mode: 0o600,
        });
        attempt
    };
    let attempt = with("files/a/b");
    assert_outcome(&attempt.run(), Outcome::Succeeded, "");
    assert_eq!(attempt.log(), "content");
    let mode = fs::metadata(attempt.path("files/a/b"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    for path in [
        "",
        "/etc/x",
        "../x",
        "a/../../x",
        "result",
        "stop",
        "./lock",
    ] {
        assert_outcome(&with(path).run(), Outcome::Failed, "STEP_INVALID");
    }
}

#[test]
fn a_damaged_assignment_is_reported() {
    let attempt = Attempt::script("true");
    fs::write(attempt.path("assignment"), b"\xff\xff\xff").unwrap();
    assert_eq!(attempt.start_again().wait().code(), Some(0));
    assert_outcome(&attempt.result().unwrap(), Outcome::Failed, "AGENT_ERROR");
    assert!(attempt.path("exit").exists());
}

#[test]
fn a_step_gets_a_higher_oom_score() {
    let mut attempt = Attempt::command(&["cat", "/proc/self/oom_score_adj"]);
    attempt.assignment.oom_score_adj = 321;
    attempt.run();
    assert_eq!(attempt.log(), "321\n");
}

#[test]
fn a_cgroup_that_cannot_be_joined_is_reported() {
    let mut attempt = Attempt::script("true");
    attempt.assignment.cgroup_dir = attempt.path("none").to_str().unwrap().to_owned();
    let result = attempt.run();
    assert_outcome(&result, Outcome::Failed, "AGENT_ERROR");
    assert!(
        result.message.contains("cgroup.procs"),
        "{}",
        result.message
    );
}
