//! Python environments, built by the real uv from a real index.

use std::path::PathBuf;
use std::time::Duration;

use api_runner::v1 as pb;
use api_step::v1 as step;
use tempfile::TempDir;

use crate::fixture::{Fixture, LIMIT, command, config, shell, state};
use crate::known::dir_of;

/// Packages are downloaded here.
const LONG: Duration = Duration::from_secs(300);
/// A package without dependencies, of a few kilobytes.
const SMALL: &str = "iniconfig==2.0.0";

fn with_uv(dir: &TempDir) -> flumina_runner::Config {
    let mut config = config(dir.path());
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("uv").is_file()));
    // Without one the build would fetch its own, which is right but slow.
    config.uv = (!on_path).then(|| testkit::env().path("uv"));
    config
}

fn python(packages: &[&str]) -> pb::PythonRequirements {
    pb::PythonRequirements {
        packages: packages
            .iter()
            .map(|package| (*package).to_owned())
            .collect(),
        ..Default::default()
    }
}

async fn ended(runner: &Fixture, id: &str) -> pb::Workload {
    runner
        .until_within(id, LONG, |workload| workload.ended_at.is_some())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_that_want_the_same_build_it_once() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::with(with_uv(&dir)).await;
    let mut builds = runner.watch("runner/environments").await;
    let mut spec = command(&["python3", "-c", "import iniconfig, sys; print(sys.prefix)"]);
    spec.python = Some(python(&[SMALL]));
    let first = runner.launch("w0", spec.clone()).await;
    assert_eq!(state(&first), pb::State::Preparing);
    for number in 1..20 {
        runner.launch(&format!("w{number}"), spec.clone()).await;
    }
    for number in 0..20 {
        let ended = ended(&runner, &format!("w{number}")).await;
        assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    }
    let again = runner.launch("again", spec).await;
    assert_eq!(state(&again), pb::State::Running, "it is there now");
    assert!(runner.log("w7").await.contains("/environments/"));
    let mut seen = std::collections::HashSet::new();
    while let Ok(Ok(Some(told))) =
        tokio::time::timeout(Duration::from_millis(200), builds.message()).await
    {
        seen.extend(told.workload.map(|workload| workload.id));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_says_what_the_installer_said() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::with(with_uv(&dir)).await;
    let mut spec = shell("true");
    spec.python = Some(python(&["iniconfig==99.99"]));
    runner.launch("bad", spec).await;
    let ended = ended(&runner, "bad").await;
    assert_eq!(ended.reason, "ENVIRONMENT_FAILED", "{ended:?}");
    assert!(ended.message.contains("iniconfig"), "{}", ended.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_of_the_sdk_run_with_kfp_apart() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::with(with_uv(&dir)).await;
    let source = "import kfp\nfrom kfp import dsl\nfrom kfp.dsl import *\nfrom typing import *\n\n\
                  def add(a: int, b: int) -> int:\n    import iniconfig\n    print(kfp.__version__)\n    return a + b\n";
    let mut spec = shell("true");
    spec.image = "python:3.11".to_owned();
    spec.python = Some(pb::PythonRequirements {
        kfp: "kfp==2.17.0".to_owned(),
        ..python(&[SMALL])
    });
    spec.step = Some(step::Step {
        program: Some(step::step::Program::PythonFunction(step::PythonFunction {
            source: source.to_owned(),
            function: "add".to_owned(),
        })),
        inputs_json: r#"{"parameterValues":{"a":2,"b":3}}"#.to_owned(),
        output_parameters: vec![step::OutputParameter {
            name: "Output".to_owned(),
            r#type: step::ParameterType::NumberInteger.into(),
        }],
        declared_inputs: vec!["a".to_owned(), "b".to_owned()],
        ..Default::default()
    });
    runner.launch("add", spec.clone()).await;
    let ended = ended(&runner, "add").await;
    let log = runner.log("add").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?} {log}");
    assert!(log.contains("2.17.0"), "{log}");
    assert_eq!(ended.result.unwrap().parameters[0].value_json, "5");

    // An older pin, be it one that nobody has, is served by the same executor.
    spec.python = Some(pb::PythonRequirements {
        kfp: "kfp==2.16.9999".to_owned(),
        ..python(&[SMALL])
    });
    runner.launch("pinned", spec).await;
    let ended = self::ended(&runner, "pinned").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?}");
    let log = runner.log("pinned").await;
    assert!(log.contains("2.17.0"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_environment_has_pip_and_what_is_below_it() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::with(with_uv(&dir)).await;
    let mut spec = shell(
        "set -e; python -c 'import iniconfig'; pip --version; pip install --quiet tomli==2.0.1; \
         python3 -c 'import tomli; print(tomli.__file__)'",
    );
    spec.python = Some(pb::PythonRequirements {
        private: true,
        ..python(&[SMALL])
    });
    runner.launch("private", spec).await;
    let ended = ended(&runner, "private").await;
    let log = runner.log("private").await;
    assert_eq!(state(&ended), pb::State::Succeeded, "{ended:?} {log}");
    let installed = log.lines().last().unwrap();
    let own: PathBuf = dir.path().canonicalize().unwrap().join("workloads");
    assert!(installed.starts_with(own.to_str().unwrap()), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_survives_a_restart_of_the_runner() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::with(with_uv(&dir)).await;
    let mut spec = command(&["python", "-c", "import iniconfig"]);
    spec.python = Some(python(&[SMALL]));
    runner.launch("w", spec).await;
    let mut builds = runner.watch("runner/environments").await;
    while builds.message().await.unwrap().unwrap().workload.is_none() {}
    // A stream that is read keeps the runner, and with it the lock of its directory.
    drop(builds);
    runner.shut_down().await;
    let runner = Fixture::with(with_uv(&dir)).await;
    assert_eq!(state(&ended(&runner, "w").await), pb::State::Succeeded);
}

/// The environments that are there whole.
fn whole(dir: &TempDir) -> usize {
    let entries = std::fs::read_dir(dir.path().join("environments")).unwrap();
    let whole = |entry: &std::fs::DirEntry| entry.path().join("complete").exists();
    entries.flatten().filter(whole).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_removed_when_nothing_uses_it_any_more() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::with(with_uv(&dir)).await;
    let gate = dir.path().join("gate");
    let line = format!("while [ ! -e {} ]; do sleep 0.01; done", gate.display());
    let mut spec = shell(&line);
    spec.python = Some(python(&[SMALL]));
    runner.launch("user", spec).await;
    let is_running = |workload: &pb::Workload| state(workload) == pb::State::Running;
    runner.until_within("user", LONG, is_running).await;
    runner.shut_down().await;
    // An orphan, which the same collection removes first.
    let orphan = dir_of(dir.path(), "orphan");
    let swept = async || {
        testkit::eventually("the sweep", LIMIT, async || {
            let there = orphan.exists();
            if there { Err("it is there") } else { Ok(()) }
        })
        .await;
    };
    let mut config = with_uv(&dir);
    config.keep_environments_days = 0;
    std::fs::create_dir_all(&orphan).unwrap();
    let runner = Fixture::with(config.clone()).await;
    swept().await;
    assert_eq!(whole(&dir), 1);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(state(&runner.ended("user").await), pb::State::Succeeded);
    assert_eq!(whole(&dir), 1);
    runner.shut_down().await;
    let runner = Fixture::with(config).await;
    testkit::eventually("the environment is removed", LIMIT, async || {
        let count = whole(&dir);
        if count == 0 { Ok(()) } else { Err(count) }
    })
    .await;
    assert!(
        runner.log("user").await.is_empty(),
        "what has ended keeps its files"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_noted_or_refused() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    let mut spec = command(&["python3", "-c", "print(1)"]);
    spec.image = "python:2.7".to_owned();
    runner.launch("old", spec.clone()).await;
    let ended = runner.ended("old").await;
    assert_eq!(state(&ended), pb::State::Succeeded);
    assert!(
        ended.notes[0].contains("no Python 2.7"),
        "{:?}",
        ended.notes
    );
    runner.shut_down().await;
    let mut strict = config(dir.path());
    strict.strict_images = true;
    let runner = Fixture::with(strict).await;
    let refused = runner.try_launch("strict", spec).await.unwrap_err();
    assert!(refused.message().contains("spec.image"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shell_of_a_python_image_knows_its_interpreter_by_both_names() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    // No directory of PATH has any interpreter, as on machines that have `python3` only.
    let empty = TempDir::new().unwrap();
    let line =
        "python -c 'print(\"first\")' && exec python3 -c 'import sys; print(sys.argv[1:])' \"$0\"";
    let mut spec = command(&["/bin/sh", "-c", line, "a b"]);
    spec.env.push(step::EnvVar {
        name: "PATH".to_owned(),
        value: empty.path().display().to_string(),
    });
    for (id, image) in [
        ("alpine", "python:3.11-alpine3.9"),
        ("ubi", "registry.example/ubi9/python-311:latest"),
    ] {
        spec.image = image.to_owned();
        runner.launch(id, spec.clone()).await;
        let ended = runner.ended(id).await;
        let log = runner.log(id).await;
        assert_eq!(state(&ended), pb::State::Succeeded, "{log}");
        assert!(log.contains("first") && log.contains("['a b']"), "{log}");
    }
    spec.image = "registry.example/other:1".to_owned();
    runner.launch("other", spec).await;
    let ended = runner.ended("other").await;
    assert_eq!(
        state(&ended),
        pb::State::Failed,
        "no interpreter was asked for"
    );
    runner.shut_down().await;
}
