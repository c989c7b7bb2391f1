//! The life of a workload, from Launch to its end.

use api_runner::v1 as pb;
use api_step::v1 as step;
use tempfile::TempDir;
use tonic::Code;

use crate::fixture::{Fixture, LIMIT, command, config, shell, state};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_and_its_result_and_log_are_kept() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let launched = runner
        .launch("a.1.0", shell("echo hello; echo oops >&2"))
        .await;
    assert_eq!(state(&launched), pb::State::Running);
    let ended = runner.ended("a.1.0").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    assert_eq!(ended.result.unwrap().outcome(), step::Outcome::Succeeded);
    assert!(ended.started_at.is_some() && ended.admitted_at.is_some());
    assert_eq!(runner.log("a.1.0").await, "hello\noops\n");
    assert_eq!(ended.log_bytes, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn launching_a_known_id_starts_nothing() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let line = format!("echo x >> {}/count", dir.path().display());
    let launches = (0..10).map(|_| runner.launch("a.1.0", shell(&line)));
    futures_util::future::join_all(launches).await;
    let ended = runner.ended("a.1.0").await;
    let again = runner.launch("a.1.0", shell("exit 7")).await;
    assert_eq!(again.version, ended.version);
    assert_eq!(state(&again), pb::State::Succeeded);
    let count = std::fs::read_to_string(dir.path().join("count")).unwrap();
    assert_eq!(count, "x\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_have_names() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner.launch("exit", shell("exit 3")).await;
    runner
        .launch("missing", command(&["no-such-program"]))
        .await;
    let mut slow = shell("sleep 60");
    slow.timeout = Some(prost_types::Duration {
        seconds: 0,
        nanos: 200_000_000,
    });
    runner.launch("slow", slow).await;
    let exit = runner.ended("exit").await;
    assert_eq!(state(&exit), pb::State::Failed);
    assert_eq!(exit.result.unwrap().exit_code, Some(3));
    let missing = runner.ended("missing").await;
    assert_eq!(missing.reason, "PROGRAM_NOT_FOUND", "{missing:?}");
    let slow = runner.ended("slow").await;
    assert_eq!(slow.reason, "TIMED_OUT", "{slow:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_a_clean_environment() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config
        .environment
        .insert("FROM_CONFIG".to_owned(), "1".to_owned());
    let runner = Fixture::with(config).await;
    let mut spec = shell("env; pwd; echo TMP=$TMPDIR");
    spec.env = vec![step::EnvVar {
        name: "MINE".to_owned(),
        value: "2".to_owned(),
    }];
    spec.ports = vec![pb::Port {
        name: "http-main".to_owned(),
        number: 0,
    }];
    runner.launch("env", spec).await;
    runner.ended("env").await;
    let log = runner.log("env").await;
    for line in [
        "FROM_CONFIG=1",
        "MINE=2",
        "FLUMINA_ATTEMPT=env",
        "PORT_HTTP_MAIN=",
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
    assert!(!log.contains("CARGO"), "{log}");
    // The name of a folder, and that of a socket in it, must fit into the path of a socket.
    let temporary = log.lines().find_map(|line| line.strip_prefix("TMP="));
    let below = std::path::Path::new(temporary.unwrap()).strip_prefix(dir.path());
    assert!(below.unwrap().as_os_str().len() <= 30, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_printed_line_arrives_while_the_program_runs() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let gate = dir.path().join("gate");
    let line = format!(
        "echo first; while [ ! -e {} ]; do sleep 0.01; done; echo second; date +%s%N",
        gate.display()
    );
    runner.launch("log", shell(&line)).await;
    let log = runner.logged("log", "first\n").await;
    assert_eq!(log, "first\n");
    std::fs::write(&gate, "").unwrap();
    runner.logged("log", "second\n").await;
    runner.ended("log").await;
    assert!(runner.log("log").await.starts_with("first\nsecond\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_log_sees_its_end() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let gate = dir.path().join("gate");
    let line = format!(
        "while [ ! -e {} ]; do sleep 0.01; done; printf last",
        gate.display()
    );
    runner.launch("log", shell(&line)).await;
    let request = pb::LogsRequest {
        id: "log".to_owned(),
        follow: true,
        ..Default::default()
    };
    let mut parts = runner
        .client
        .clone()
        .logs(request)
        .await
        .unwrap()
        .into_inner();
    std::fs::write(&gate, "").unwrap();
    let mut log = Vec::new();
    let all = async {
        while let Some(part) = parts.message().await.unwrap() {
            log.extend_from_slice(&part.data);
        }
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
    assert_eq!(log, b"last");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_followers_of_a_log_see_every_line_as_it_comes() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    // Each line is written when all followers have seen the one before, so a missed one would stop everything.
    let gate = |number: usize| dir.path().join(format!("gate{number}"));
    let line = format!(
        "for i in 0 1 2 3 4 5 6 7 8 9; do echo line$i.; while [ ! -e {}/gate$i ]; do sleep 0.01; done; done",
        dir.path().display()
    );
    runner.launch("log", shell(&line)).await;
    for number in 0..10 {
        let text = format!("line{number}.");
        let followers = (0..20).map(|_| runner.logged("log", &text));
        futures_util::future::join_all(followers).await;
        std::fs::write(gate(number), "").unwrap();
    }
    assert_eq!(state(&runner.ended("log").await), pb::State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_the_whole_tree() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner
        .launch(
            "s",
            shell("trap '' TERM; (setsid sleep 300 &) ; echo up; sleep 300; sleep 300"),
        )
        .await;
    runner.logged("s", "up").await;
    let stopping = runner.stop("s").await;
    assert_eq!(state(&stopping), pb::State::Stopping);
    assert_eq!(stopping.message, "enough");
    let ended = runner.ended("s").await;
    assert_eq!(state(&ended), pb::State::Stopped, "{ended:?}");
    assert_eq!(survivors("s"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_stopped_first_never_starts() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    assert_eq!(state(&runner.stop("late").await), pb::State::Stopped);
    let line = format!("touch {}/ran", dir.path().display());
    let launched = runner.launch("late", shell(&line)).await;
    assert_eq!(state(&launched), pb::State::Stopped);
    assert_eq!(launched.message, "enough");
    runner.delete("gone").await;
    let launched = runner.launch("gone", shell(&line)).await;
    assert_eq!(
        (state(&launched), launched.reason.as_str()),
        (pb::State::Stopped, "DELETED")
    );
    assert_eq!(runner.get("gone").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        state(&runner.get("late").await.unwrap()),
        pb::State::Stopped
    );
    assert!(!dir.path().join("ran").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_kills_and_removes_and_forget_frees_the_id() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner.launch("one.1.0", shell("echo up; sleep 300")).await;
    runner.logged("one.1.0", "up").await;
    runner.delete("one.1.0").await;
    assert_eq!(survivors("one.1.0"), 0);
    assert_eq!(
        runner.get("one.1.0").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(files_of(dir.path(), "one.1.0"), 0);
    assert_eq!(
        state(&runner.launch("one.1.0", shell("true")).await),
        pb::State::Stopped
    );
    runner.stop("one.2.0").await;
    let request = pb::ForgetRequest {
        owner: "tests/one".to_owned(),
    };
    runner.client.clone().forget(request).await.unwrap();
    runner.launch("one.1.0", shell("true")).await;
    assert_eq!(state(&runner.ended("one.1.0").await), pb::State::Succeeded);
    runner.launch("one.2.0", shell("true")).await;
    assert_eq!(state(&runner.ended("one.2.0").await), pb::State::Succeeded);
}

/// It clears its environment, leaves its session, has no output and ignores SIGTERM.
fn hiding(dir: &TempDir) -> (pb::WorkloadSpec, impl Fn() -> bool) {
    let pid = dir.path().join("pid");
    let line = format!(
        "env -i setsid sh -c 'trap : TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.1; done' \
         > /dev/null 2>&1 & while [ ! -e {0} ]; do sleep 0.01; done; echo up; trap : TERM; while :; do sleep 0.1; done",
        pid.display()
    );
    let lives = move || {
        let pid = std::fs::read_to_string(&pid).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // One that has ended may wait for its new parent.
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    (shell(&line), lives)
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_leaves_nothing_behind_that_hides() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let (spec, lives) = hiding(&dir);
    runner.launch("h", spec).await;
    runner.logged("h", "up").await;
    assert!(lives());
    runner.delete("h").await;
    assert!(!lives());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_hangs_is_ended_with_all_that_is_below_it() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let (spec, lives) = hiding(&dir);
    runner.launch("h", spec).await;
    runner.logged("h", "up").await;
    crate::restart::signal_agent(dir.path(), "h", "-STOP");
    runner.delete("h").await;
    assert!(!lives());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_the_grace_of_a_stop() {
    let dir = TempDir::new().unwrap();
    let mut long = config(dir.path());
    long.stop_grace_seconds = 20;
    let runner = Fixture::with(long).await;
    let done = dir.path().join("done");
    let line = format!(
        "trap 'sleep 3; touch {}; exit' TERM; echo up; while :; do sleep 0.1; done",
        done.display()
    );
    runner.launch("g", shell(&line)).await;
    runner.logged("g", "up").await;
    runner.stop("g").await;
    runner.delete("g").await;
    assert!(done.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_of_secrets_and_the_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let runner = Fixture::with(config(&data)).await;
    let mut spec = shell("echo up");
    spec.env = vec![step::EnvVar {
        name: "PASSWORD".to_owned(),
        value: "hidden".to_owned(),
    }];
    spec.python = Some(pb::PythonRequirements {
        index_urls: vec!["https://me:hidden@index.example/simple".to_owned()],
        ..Default::default()
    });
    runner.launch("secret", spec).await;
    let ended = runner.ended("secret").await;
    let seen = format!("{ended:?} {:?}", runner.get("secret").await.unwrap());
    assert!(!seen.contains("hidden"), "{seen}");
    assert!(seen.contains("PASSWORD") && seen.contains("https://index.example/simple"));
    let request = pb::DescribeRequest {
        id: "secret".to_owned(),
    };
    let described = runner.client.clone().describe(request).await.unwrap();
    assert!(format!("{described:?}").contains("hidden"), "for a replay");
    for (path, mode) in [
        ("", 0o700),
        ("workloads", 0o700),
        ("runner.sqlite", 0o600),
        ("runner.sqlite-wal", 0o600),
    ] {
        let meta = std::fs::metadata(data.join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_forget_waits_for_the_first() {
    let dir = TempDir::new().unwrap();
    let mut one_core = config(dir.path());
    one_core.cores = Some(1.0);
    let runner = Fixture::with(one_core).await;
    for id in ["f.1", "f.2", "f.3"] {
        runner.launch(id, shell("true")).await;
        runner.ended(id).await;
    }
    let slow = "trap 'sleep 0.5; exit' TERM; echo up; while :; do sleep 0.05; done";
    runner.launch("f.4", shell(slow)).await;
    runner.logged("f.4", "up").await;
    runner.launch("f.5", shell("true")).await;
    let metrics = runner.host.metrics.encode();
    for line in ["workloads_running 1", "workloads_queued 1"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let forget = async || {
        let request = pb::ForgetRequest {
            owner: "tests/one".to_owned(),
        };
        runner.client.clone().forget(request).await.unwrap();
        for id in ["f.1", "f.2", "f.3", "f.4", "f.5"] {
            assert_eq!(runner.get(id).await.unwrap_err().code(), Code::NotFound);
            assert_eq!(files_of(dir.path(), id), 0);
        }
        assert_eq!(survivors("f.4"), 0);
    };
    futures_util::join!(forget(), forget());
    assert_eq!(
        state(&runner.launch("f.4", shell("true")).await),
        pb::State::Running
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_and_description_of_a_running_workload() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner.launch("u", shell("echo up; sleep 300")).await;
    runner.logged("u", "up").await;
    let request = pb::UsageRequest { id: "u".to_owned() };
    let mut usage = runner
        .client
        .clone()
        .usage(request)
        .await
        .unwrap()
        .into_inner();
    let first = usage.message().await.unwrap().unwrap();
    assert!(first.memory_bytes > 100_000, "{first:?}");
    let request = pb::DescribeRequest { id: "u".to_owned() };
    let described = runner
        .client
        .clone()
        .describe(request)
        .await
        .unwrap()
        .into_inner();
    let step = described.assignment.unwrap().step.unwrap();
    assert!(format!("{step:?}").contains("sleep 300"));
    assert!(std::path::Path::new(&described.agent_path).is_file());
    let seen = runner.get("u").await.unwrap();
    assert!(
        !format!("{seen:?}").contains("sleep 300"),
        "the program is not shown"
    );
    runner.delete("u").await;
}

/// Processes that carry a workload's id.
pub(crate) fn survivors(id: &str) -> usize {
    let entry = format!("FLUMINA_ATTEMPT={id}\0");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment).into_owned();
            environment.starts_with(&entry) || environment.contains(&format!("\0{entry}"))
        })
        .count()
}

fn files_of(dir: &std::path::Path, id: &str) -> usize {
    let groups = std::fs::read_dir(dir.join("workloads")).unwrap().flatten();
    groups
        .filter(|group| group.path().join(id).exists())
        .count()
}
