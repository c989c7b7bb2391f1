//! A cgroup for each step, where this machine lets us make some.

use std::path::{Path, PathBuf};

use api_runner::v1 as pb;
use tempfile::TempDir;

use crate::fixture::{Fixture, LIMIT, agent, config, shell, state};
use crate::life::survivors;
use crate::restart::signal_agent;

/// A cgroup of the test's own; none where it may not make one, which says so.
fn own_cgroup() -> Option<PathBuf> {
    let name = format!("flumina-test-{}", std::process::id());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| words[1].to_owned())
    });
    let dir = Path::new(&mount?).join(name);
    match std::fs::create_dir(&dir) {
        Ok(()) => Some(dir),
        Err(error) => {
            eprintln!("no cgroups here: {error}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_step_survives_in_its_cgroup() {
    let Some(cgroup) = own_cgroup() else { return };
    let dir = TempDir::new().unwrap();
    let mut with = config(dir.path());
    with.cgroup = Some(cgroup.clone());
    let runner = Fixture::with(with).await;
    let mut spec = shell("cat /proc/self/cgroup; (setsid sleep 300 &); exec sleep 300");
    spec.resources = Some(pb::Resources {
        cpu_limit: "1".to_owned(),
        ..Default::default()
    });
    runner.launch("kept", spec).await;
    let log = runner.logged("kept", "/kept").await;
    assert!(log.contains("flumina-test-"), "{log}");
    assert_eq!(state(&runner.stop("kept").await), pb::State::Stopping);
    let ended = runner.ended("kept").await;
    assert!(
        ended.ended_at.is_some() && survivors("kept") == 0,
        "{ended:?}"
    );
    assert!(!cgroup.join("kept").exists());

    // One that hides from everything else, after its agent has died.
    let pid = dir.path().join("pid");
    let hides = format!(
        "setsid env -i PATH=$PATH sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 300' >/dev/null 2>&1 & sleep 300",
        pid.display()
    );
    runner.launch("lost", shell(&hides)).await;
    let hidden = testkit::eventually("the hidden process", LIMIT, async || {
        std::fs::read_to_string(&pid)
    })
    .await;
    signal_agent(dir.path(), "lost", "-KILL");
    assert_eq!(state(&runner.ended("lost").await), pb::State::Lost);
    // A process that has ended has no arguments, also while nobody has waited for it.
    let arguments = std::fs::read(Path::new("/proc").join(hidden.trim()).join("cmdline"));
    assert!(arguments.unwrap_or_default().is_empty());
    let enabled = std::fs::read_to_string(cgroup.join("cgroup.subtree_control")).unwrap();
    let noted = ended
        .notes
        .iter()
        .any(|note| note.contains("cores is not enforced"));
    assert_eq!(noted, !enabled.contains("cpu"), "{:?}", ended.notes);
    runner.shut_down().await;
    std::fs::remove_dir(&cgroup).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_no_cgroup_is_refused_at_the_start() {
    let dir = TempDir::new().unwrap();
    let mut with = config(dir.path());
    with.cgroup = Some(dir.path().to_owned());
    let deps = flumina_runner::Deps {
        host: runtime::Host::detached("none"),
        agent: flumina_runner::AgentSource::Path(agent()),
        environment: Vec::new(),
    };
    let refused = flumina_runner::build(with, deps).await;
    assert!(matches!(
        refused,
        Err(flumina_runner::BuildError::Io { .. })
    ));
}
