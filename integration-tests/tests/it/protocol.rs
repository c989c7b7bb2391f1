//! The runner as a process of its own: at most one start per id, whatever callers do.

use std::process::Command;

use api_runner::v1 as pb;
use api_runner::v1::workload_service_client::WorkloadServiceClient;
use api_step::v1 as step;
use flumina_integration_tests::{Fleet, LIMIT, Part, Stores};
use futures_util::future::join_all;
use rpc::Channel;

const OWNER: &str = "tests/protocol";

struct Runner {
    fleet: Fleet,
}

impl Runner {
    async fn started() -> Self {
        let mut fleet = Fleet::new(Stores::Sqlite);
        fleet.start(Part::Runner, &[]).await;
        Self { fleet }
    }

    fn client(&self) -> WorkloadServiceClient<Channel> {
        WorkloadServiceClient::new(self.fleet.client_of(Part::Runner).channel())
    }

    /// A workload that leaves marks and then waits for a gate.
    fn request(&self, id: &str) -> pb::LaunchRequest {
        let witness = self.fleet.path("witness");
        let gate = self.fleet.path("gate");
        let script = format!(
            "echo \"start step $FLUMINA_ATTEMPT $$\" >> '{}'; while [ ! -e '{}' ]; do sleep 0.02; done",
            witness.display(),
            gate.display()
        );
        let command = step::Command {
            command: ["sh", "-c", &script].map(str::to_owned).to_vec(),
            args: Vec::new(),
        };
        let step = step::Step {
            program: Some(step::step::Program::Command(command)),
            ..Default::default()
        };
        let spec = pb::WorkloadSpec {
            owner: OWNER.to_owned(),
            step: Some(step),
            ..Default::default()
        };
        pb::LaunchRequest {
            id: id.to_owned(),
            spec: Some(spec),
        }
    }

    async fn launch(&self, id: &str) -> pb::Workload {
        self.client()
            .launch(self.request(id))
            .await
            .unwrap()
            .into_inner()
    }

    async fn get(&self, id: &str) -> pb::Workload {
        let request = pb::GetRequest { id: id.to_owned() };
        self.client().get(request).await.unwrap().into_inner()
    }

    async fn wait_for(&self, id: &str, state: pb::State) -> pb::Workload {
        testkit::eventually(state.as_str_name(), LIMIT, || async {
            let workload = self.get(id).await;
            if workload.state() == state {
                Ok(workload)
            } else {
                Err(workload.state())
            }
        })
        .await
    }

    fn open_gate(&self) {
        std::fs::write(self.fleet.path("gate"), "").unwrap();
    }
}

#[tokio::test]
async fn many_launches_of_one_id_start_one_program() {
    let runner = Runner::started().await;
    let id = "run.1.1";
    let answers = join_all((0..20).map(|_| runner.launch(id))).await;
    assert!(answers.iter().all(|workload| workload.id == id));
    runner.fleet.witness().wait_for("start", "step").await;
    runner.launch(id).await;
    runner.open_gate();
    runner.wait_for(id, pb::State::Succeeded).await;
    // And when it has ended.
    assert_eq!(runner.launch(id).await.state(), pb::State::Succeeded);
    assert_eq!(runner.fleet.witness().marks().len(), 1);
    runner.fleet.wait_quiet().await;
}

#[tokio::test]
async fn a_launch_after_stop_or_delete_starts_nothing() {
    let mut runner = Runner::started().await;
    runner.open_gate();
    let stop = pb::StopRequest {
        id: "run.1.1".to_owned(),
        reason: "enough".to_owned(),
    };
    let stopped = runner.client().stop(stop).await.unwrap().into_inner();
    assert_eq!(stopped.state(), pb::State::Stopped);
    let delete = |id: &str| pb::DeleteRequest { id: id.to_owned() };
    runner.client().delete(delete("run.2.1")).await.unwrap();
    // One that ran and was deleted is no other.
    runner.launch("run.3.1").await;
    runner.wait_for("run.3.1", pb::State::Succeeded).await;
    runner.client().delete(delete("run.3.1")).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            runner.fleet.kill(Part::Runner);
            runner.fleet.start(Part::Runner, &[]).await;
        }
        for id in ["run.1.1", "run.2.1", "run.3.1"] {
            let late = runner.launch(id).await;
            assert_eq!(
                late.state(),
                pb::State::Stopped,
                "{id} after a restart: {restarted}"
            );
        }
    }
    runner.fleet.wait_quiet().await;
    assert_eq!(runner.fleet.witness().marks().len(), 1);
    // Once the owner is gone, its ids mean nothing any more.
    let forget = pb::ForgetRequest {
        owner: OWNER.to_owned(),
    };
    runner.client().forget(forget).await.unwrap();
    runner.launch("run.3.1").await;
    runner.wait_for("run.3.1", pb::State::Succeeded).await;
    assert_eq!(runner.fleet.witness().marks().len(), 2);
}

#[tokio::test]
async fn a_second_agent_for_an_id_leaves_it_alone() {
    let runner = Runner::started().await;
    let id = "run.1.1";
    runner.launch(id).await;
    runner.fleet.witness().wait_for("start", "step").await;
    let agents = runner.fleet.processes();
    let line = std::fs::read(format!("/proc/{}/cmdline", agents[0].pid)).unwrap();
    let line = String::from_utf8(line).unwrap();
    let words: Vec<&str> = line.split('\0').filter(|word| !word.is_empty()).collect();
    let second = Command::new(testkit::binary("flumina-agent"))
        .arg(words[1])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(3), "{second:?}");
    runner.open_gate();
    runner.wait_for(id, pb::State::Succeeded).await;
    let third = Command::new(testkit::binary("flumina-agent"))
        .arg(words[1])
        .output()
        .unwrap();
    assert_eq!(third.status.code(), Some(4), "{third:?}");
    assert_eq!(runner.fleet.witness().marks().len(), 1);
    runner.fleet.wait_quiet().await;
}

#[tokio::test]
async fn a_runner_that_was_stopped_for_a_while_goes_on() {
    let mut runner = Runner::started().await;
    runner.launch("run.1.1").await;
    runner.fleet.witness().wait_for("start", "step").await;
    assert!(runner.fleet.stop(Part::Runner).success());
    // Its step goes on, and ends while nobody looks.
    assert!(!runner.fleet.processes().is_empty());
    runner.open_gate();
    runner.fleet.wait_quiet().await;
    runner.fleet.start(Part::Runner, &[]).await;
    let workload = runner.wait_for("run.1.1", pb::State::Succeeded).await;
    assert!(workload.started_at.is_some() && workload.ended_at.is_some());
}
