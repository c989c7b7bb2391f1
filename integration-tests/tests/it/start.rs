//! Starts that must fail, each with one clear error, and one that must not.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use flumina_integration_tests::{
    Client, Fleet, LIMIT, Node, Options, Part, Pipeline, Step, Stores, Verdict,
};
use testkit::Process;

/// Adds a migration that only a later program knows.
const FUTURE: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
columns = [row[1] for row in db.execute('PRAGMA table_info(_sqlx_migrations)')]
assert 'version' in columns, columns
db.execute('INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, ?, 1, ?, 0)', ('later', b'x'))
db.commit()
";

#[test]
fn a_second_node_on_a_data_directory_is_told_who_has_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _within = runtime.enter();
    let node = Node::started();
    let output = node.command(&Options::default()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let pid = node.process().pid().to_string();
    assert!(text.contains("is in use") && text.contains(&pid), "{text}");
    assert!(output.stdout.is_empty());
    runtime.block_on(async { assert!(node.client().serving("").await) });
}

/// Lets nobody run a program: a lease makes whoever opens it wait until the holder gives it up or dies.
const LEASE: &str = "
import fcntl, os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
signal.sigwait([signal.SIGIO])
print('wanted', flush=True)
signal.pause()
";

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_what_the_one_before_was_forking() {
    let mut node = Node::started();
    let witness = node.witness();
    let bin = std::fs::read_dir(node.data_dir().join("runner/bin")).unwrap();
    let mut programs = bin.map(|entry| entry.unwrap().path());
    let agent = programs.find(|path| path.to_str().unwrap().contains("flumina-agent-"));
    let mut lease = Command::new(testkit::python::kfp());
    lease.args(["-c", LEASE]).arg(agent.unwrap());
    let lease = Process::spawn("lease", lease);
    lease.wait_for_line("held", LIMIT);

    let pipeline = Pipeline::new("held").step(Step::witnessed("only", &witness, ""));
    let run = node.client().submit(&pipeline, "key").await;
    lease.wait_for_line("wanted", LIMIT);
    // The child that was to become the agent has every descriptor of the service now, its lock too.
    let before = node.kill_alone();
    node.spawn(&Options::default());
    let line = node.process().wait_for_line("flumina: waiting", LIMIT);
    assert!(line.contains(&before.pid().to_string()), "{line}");
    drop(lease);
    let url = node.process().wait_for_line("ready ", LIMIT);
    let verdict = Verdict::of(&Client::new(&url, None), &run, &witness).await;
    verdict.assert_succeeded();
    verdict.assert_nothing_lost();
    node.wait_quiet().await;
}

#[test]
fn a_database_of_a_newer_program_is_refused() {
    for file in ["pipeline-orchestrator.sqlite", "runner.sqlite"] {
        let mut node = Node::started();
        assert!(node.stop().0.success());
        let path = node.data_dir().join(file);
        testkit::python::run(
            testkit::python::kfp(),
            &["-c", FUTURE, path.to_str().unwrap()],
        );
        let output = node.command(&Options::default()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{file}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("9999") && text.contains("newer program"),
            "{file}: {text}"
        );
    }
}

#[test]
fn no_program_listens_off_loopback_without_a_token() {
    let fleet = Fleet::new(Stores::Sqlite);
    for part in Part::ALL {
        let mut command = fleet.command(part);
        let config = fleet.path(&format!("{}.toml", part.program()));
        let text = std::fs::read_to_string(&config).unwrap();
        let open: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("token") && !line.starts_with("listen = \"127.0.0.1:"))
            .collect();
        let admin = "[process.admin]\nenabled = false";
        let open = open.join("\n").replace("[process.admin]", admin);
        std::fs::write(&config, format!("listen = \"0.0.0.0:0\"\n{open}")).unwrap();
        let output = command.output().unwrap();
        assert_eq!(output.status.signal(), None, "{part:?}");
        assert!(!output.status.success(), "{part:?}");
        let text =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("token"), "{part:?}: {text}");
    }
    let node = Node::new();
    let options = Options {
        listen: "0.0.0.0:0".to_owned(),
        ..Options::default()
    };
    let output = node.command(&options).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("token"), "{text}");
}
