//! Restarts: whatever is killed, no step is lost or repeated.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use api_runner::v1 as pb;
use api_runner::v1::workload_service_client::WorkloadServiceClient;
use flumina_runner::ABORT_POINTS;
use tempfile::TempDir;

use crate::fixture::{Fixture, LIMIT, RUNNER, agent, config, shell, state};
use crate::life::survivors;

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_runner_adopts_what_runs() {
    let dir = TempDir::new().unwrap();
    let gate = dir.path().join("gate");
    let line = format!(
        "echo up; while [ ! -e {} ]; do sleep 0.01; done; echo x >> {}/count",
        gate.display(),
        dir.path().display()
    );
    let runner = Fixture::new(&dir).await;
    runner.launch("long", shell(&line)).await;
    runner.logged("long", "up").await;
    runner.shut_down().await;
    assert!(survivors("long") > 0);
    let runner = Fixture::new(&dir).await;
    assert_eq!(runner.service.runner.running(), 1);
    assert_eq!(
        state(&runner.get("long").await.unwrap()),
        pb::State::Running
    );
    std::fs::write(&gate, "").unwrap();
    assert_eq!(state(&runner.ended("long").await), pb::State::Succeeded);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("count")).unwrap(),
        "x\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_meanwhile_is_taken_from_its_directory() {
    let dir = TempDir::new().unwrap();
    let gate = dir.path().join("gate");
    let runner = Fixture::new(&dir).await;
    let line = format!(
        "while [ ! -e {} ]; do sleep 0.01; done; exit 5",
        gate.display()
    );
    runner.launch("meanwhile", shell(&line)).await;
    runner.shut_down().await;
    std::fs::write(&gate, "").unwrap();
    testkit::eventually("the end of the step", LIMIT, async || {
        if survivors("meanwhile") == 0 {
            Ok(())
        } else {
            Err("it still runs")
        }
    })
    .await;
    let runner = Fixture::new(&dir).await;
    let ended = runner.ended("meanwhile").await;
    assert_eq!(ended.result.unwrap().exit_code, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_agent_without_a_result_is_lost_and_its_survivors_are_killed() {
    let dir = TempDir::new().unwrap();
    let runner = Fixture::new(&dir).await;
    runner
        .launch("lost", shell("(setsid sleep 300 &); echo up; sleep 300"))
        .await;
    runner.logged("lost", "up").await;
    kill_agent(dir.path(), "lost");
    let ended = runner.ended("lost").await;
    assert_eq!(state(&ended), pb::State::Lost, "{ended:?}");
    assert_eq!(survivors("lost"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_another_boot_what_ran_is_lost_and_what_waited_runs() {
    let dir = TempDir::new().unwrap();
    let mut one_core = config(dir.path());
    one_core.cores = Some(1.0);
    let runner = Fixture::with(one_core.clone()).await;
    runner.launch("ran", shell("echo up; sleep 300")).await;
    runner.logged("ran", "up").await;
    runner.launch("waited", shell("true")).await;
    runner.shut_down().await;
    kill_agent(dir.path(), "ran");
    one_core.boot_id = Some("another".to_owned());
    let runner = Fixture::with(one_core).await;
    assert_eq!(state(&runner.ended("ran").await), pb::State::Lost);
    assert_eq!(state(&runner.ended("waited").await), pb::State::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_runner_on_a_data_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let _runner = Fixture::new(&dir).await;
    let deps = flumina_runner::Deps {
        host: runtime::Host::detached("second"),
        agent: flumina_runner::AgentSource::Path(agent()),
        environment: Vec::new(),
    };
    let second = flumina_runner::build(config(dir.path()), deps).await;
    assert!(matches!(second, Err(flumina_runner::BuildError::Locked(_))));
}

/// A runner as a process of its own.
pub(crate) struct Server {
    pub(crate) child: Child,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn start(dir: &Path, abort: Option<&str>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let mut command = Command::new(RUNNER);
        command
            .args(["--set", &format!("listen={address}")])
            .args(["--set", &format!("runner.data_dir={}", dir.display())])
            .args(["--set", "runner.stop_grace_seconds=2"])
            .args(["--set", "process.admin.enabled=false"])
            .args(["--set", &format!("runner.agent={}", agent().display())])
            .stdout(Stdio::null())
            .process_group(0);
        let settings = dir.join("runner.toml");
        if settings.exists() {
            command.arg("--config").arg(settings);
        }
        match abort {
            Some(point) => command.env("FLUMINA_ABORT", point).stderr(Stdio::null()),
            None => command.env_remove("FLUMINA_ABORT"),
        };
        let child = command.spawn().unwrap();
        Self { child, address }
    }

    pub(crate) async fn client(&self) -> WorkloadServiceClient<rpc::Channel> {
        let address = self.address;
        testkit::eventually("the runner listens", LIMIT, async || {
            tokio::net::TcpStream::connect(address).await.map(drop)
        })
        .await;
        let url = format!("http://{}", self.address);
        WorkloadServiceClient::new(rpc::Channel::remote(&url, None).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Kills the runner at every abort point while a workload runs through its life, and looks at what the step wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_killed_at_any_point_neither_loses_nor_repeats_a_step() {
    for point in ABORT_POINTS {
        let dir = TempDir::new().unwrap();
        let count = dir.path().join("count");
        let line = format!("echo x >> {}; echo logged", count.display());
        let launch = pb::LaunchRequest {
            id: "killed".to_owned(),
            spec: Some(shell(&line)),
        };
        let mut server = Server::start(dir.path(), Some(point));
        let mut client = server.client().await;
        // It dies somewhere in here; what it answered until then does not matter.
        client.launch(launch.clone()).await.ok();
        let touches_end = point.contains("stop") || point.contains("delete");
        // Stopped before its agent is ready it would have no result to be read.
        if touches_end {
            client
                .stop(pb::StopRequest {
                    id: "killed".to_owned(),
                    reason: String::new(),
                })
                .await
                .ok();
            client
                .delete(pb::DeleteRequest {
                    id: "killed".to_owned(),
                })
                .await
                .ok();
        }
        if !point.contains("stop") {
            server.child.wait().unwrap();
        }
        drop(server);

        let server = Server::start(dir.path(), None);
        let mut client = server.client().await;
        let again = client.launch(launch).await.unwrap().into_inner();
        let ended = testkit::eventually(point, LIMIT, async || {
            let request = pb::GetRequest {
                id: "killed".to_owned(),
            };
            match client.clone().get(request).await {
                Ok(found) if found.get_ref().ended_at.is_some() => Ok(Some(found.into_inner())),
                Ok(found) => Err(format!("{found:?}")),
                Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
                Err(status) => Err(status.to_string()),
            }
        })
        .await;
        let ran = std::fs::read_to_string(&count).unwrap_or_default();
        assert!(
            ran.is_empty() || ran == "x\n",
            "{point}: it ran more than once"
        );
        let succeeded = ended
            .as_ref()
            .is_some_and(|ended| ended.state() == pb::State::Succeeded);
        assert!(!succeeded || ran == "x\n", "{point}: {ended:?}");
        assert!(again.id == "killed" && survivors("killed") == 0, "{point}");
    }
}

fn kill_agent(dir: &Path, id: &str) {
    signal_agent(dir, id, "-KILL");
}

/// Sends a signal to the agent of a workload.
pub(crate) fn signal_agent(dir: &Path, id: &str, signal: &str) {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    for process in processes {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("flumina-agent")
            && line.contains(&dir.display().to_string())
            && line.trim_end().ends_with(&format!("/{id}"))
        {
            let pid = process.file_name().into_string().unwrap();
            assert!(
                Command::new("kill")
                    .args([signal, &pid])
                    .status()
                    .unwrap()
                    .success()
            );
        }
    }
}
