//! Random deaths of random things at random times. The seed is printed; `FLUMINA_SEED` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use api_pipelines::v1::{Attempt, State, Task};
use api_runner::v1::State as Workload;
use flumina_integration_tests::{
    Kind, Node, Options, Pipeline, Step, Verdict, Witness, kill, kill_all,
};
use testkit::process::Signal;

const KILLS: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Service,
    Agent,
    Program,
    Everything,
    OtherBoot,
    Pause,
}

const FAULTS: [Fault; 6] = [
    Fault::Service,
    Fault::Agent,
    Fault::Program,
    Fault::Everything,
    Fault::OtherBoot,
    Fault::Pause,
];

/// splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let given = std::env::var_os("FLUMINA_SEED").map(|seed| seed.to_string_lossy().parse());
        let seed = match given {
            Some(seed) => seed.expect("FLUMINA_SEED is a number"),
            None => RandomState::new().build_hasher().finish(),
        };
        println!("FLUMINA_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

/// Twenty steps in five rows; each waits for two of the row before.
fn rows(witness: &Witness) -> Pipeline {
    let mut pipeline = Pipeline::new("rows");
    for row in 0..5 {
        for column in 0..4 {
            let mut step = Step::witnessed(&format!("s{row}{column}"), witness, "sleep 0.1");
            if row > 0 {
                let above = |column: usize| format!("s{}{}", row - 1, column % 4);
                step = step.after(&[&above(column), &above(column + 1)]);
            }
            pipeline = pipeline.step(step);
        }
    }
    pipeline
}

/// What was done to one run.
#[derive(Debug, Default)]
pub(crate) struct Done {
    faults: BTreeMap<Fault, usize>,
    /// Workloads whose program was killed.
    killed: BTreeSet<String>,
    /// At most so many attempts may be lost.
    lost: usize,
}

#[tokio::test]
async fn random_kills_neither_lose_nor_repeat_a_step() {
    let mut random = Random::new();
    let mut node = Node::new();
    let witness = node.witness();
    let pipeline = rows(&witness);
    let mut boot = 1;
    let options = |boot: u32| Options::default().boot(&format!("boot-{boot}"));
    node.start(&options(boot));
    let mut total = 0;
    for round in 0.. {
        let key = format!("round-{round}");
        let run = node.client().submit(&pipeline, &key).await;
        let mut done = Done::default();
        while total < KILLS {
            tokio::time::sleep(Duration::from_millis(50 + random.below(300) as u64)).await;
            let now = node.client().run(&run).await.unwrap();
            if ended(now.state()) {
                break;
            }
            let fault = FAULTS[random.below(FAULTS.len())];
            if !strike(fault, &mut random, &mut node, &run, &mut done).await {
                continue;
            }
            total += 1;
            *done.faults.entry(fault).or_default() += 1;
            if !node.running() {
                if fault == Fault::OtherBoot {
                    boot += 1;
                }
                node.start(&options(boot));
            }
        }
        let verdict = Verdict::of(&node.client(), &run, &witness).await;
        println!("{key}: {:?} after {:?}", verdict.run.state(), done.faults);
        judge(&verdict, &done);
        if total >= KILLS {
            break;
        }
    }
    node.wait_quiet().await;
}

pub(crate) fn ended(state: State) -> bool {
    matches!(state, State::Succeeded | State::Failed | State::Canceled)
}

/// Does the damage; false when there was nothing to damage.
pub(crate) async fn strike(
    fault: Fault,
    random: &mut Random,
    node: &mut Node,
    run: &str,
    done: &mut Done,
) -> bool {
    match fault {
        Fault::Service => node.kill(),
        Fault::Pause => {
            node.process().signal(Signal::STOP);
            tokio::time::sleep(Duration::from_secs(1)).await;
            node.process().signal(Signal::CONT);
        }
        Fault::Everything | Fault::OtherBoot => {
            node.kill();
            // Each of four cores has an attempt, and one may just have begun.
            done.lost += 8;
            kill_all(&node.data_dir());
        }
        Fault::Agent => {
            let mut agents = node.processes();
            agents.retain(|process| process.kind == Kind::Agent);
            if agents.is_empty() {
                return false;
            }
            kill(&agents[random.below(agents.len())]);
            done.lost += 1;
        }
        Fault::Program => {
            let pids: BTreeSet<i32> = node
                .witness()
                .of_run(run)
                .iter()
                .map(|mark| mark.pid)
                .collect();
            let mut programs = node.processes();
            programs.retain(|process| process.kind == Kind::Program && pids.contains(&process.pid));
            if programs.is_empty() {
                return false;
            }
            let chosen = &programs[random.below(programs.len())];
            kill(chosen);
            done.killed.insert(chosen.workload.clone());
        }
    }
    true
}

fn judge(verdict: &Verdict, done: &Done) {
    verdict.assert_promise();
    assert!(
        verdict.lost() <= done.lost,
        "{} lost, {done:?}: {verdict:#?}",
        verdict.lost()
    );
    let failed: Vec<&Task> = verdict
        .tasks
        .iter()
        .filter(|task| task.state() == State::Failed)
        .collect();
    if failed.is_empty() {
        verdict.assert_succeeded();
        assert_eq!(verdict.tasks.len(), 20);
        return;
    }
    assert_eq!(verdict.run.state(), State::Failed, "{verdict:#?}");
    // Something failed by itself; what was lost afterwards is not repeated.
    assert!(
        failed.iter().any(|task| failed_by_itself(task, done)),
        "{done:?} {verdict:#?}"
    );
    for task in failed {
        let fair = failed_by_itself(task, done) || task.reason == "LOST";
        assert!(fair, "{done:?} {task:#?} {verdict:#?}");
    }
}

/// Its program was killed, or its attempts were lost too often.
fn failed_by_itself(task: &Task, done: &Done) -> bool {
    let lost = |attempt: &&Attempt| attempt.state() == Workload::Lost;
    let killed = task
        .attempts
        .last()
        .is_some_and(|last| done.killed.contains(&last.workload_id) && last.signal == Some(9));
    killed || (task.reason == "LOST" && task.attempts.iter().filter(lost).count() == 3)
}
