//! Random runs that share a cache, under random ends, stops and restarts: one task leads for a key, nobody waits for ever,
//! and what succeeded once is not run again.

use std::collections::{BTreeMap, BTreeSet};

use ids::{RunId, TaskId};
use pipeline_spec::plan::{Body, Plan};
use proptest::prelude::*;
use serde_json::json;

use super::build::*;
use crate::domain::*;

/// A task: which ones before it it waits for, as bits, and its input. Tasks with one input have one key.
type Node = (u8, u8);

fn plan_of(nodes: &[Node]) -> Plan {
    let mut tasks = Vec::new();
    for (at, (mask, input)) in nodes.iter().enumerate() {
        let before: Vec<String> = (0..at)
            .filter(|on| mask >> on & 1 == 1)
            .map(|on| format!("t{on}"))
            .collect();
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let mut task = task(&format!("t{at}"), "program", &before);
        task.caching.enabled = true;
        task.parameters
            .insert("n".into(), constant(json!(format!("{}", input % 3))));
        tasks.push(task);
    }
    let mut program = program();
    program
        .input_parameters
        .insert("n".into(), text(None, false));
    plan(component(Body::Dag(dag(tasks))), vec![("program", program)])
}

struct World {
    runs: Vec<Bench>,
    leaders: BTreeMap<String, (usize, TaskId)>,
    entries: BTreeMap<String, Outputs>,
    /// Runs that are to ask again and have not heard of it yet.
    told: BTreeSet<usize>,
}

impl World {
    fn new(plan: &Plan, runs: usize) -> Self {
        let mut world = Self {
            runs: (0..runs)
                .map(|_| Bench::new(plan.clone(), json!({})))
                .collect(),
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            told: BTreeSet::new(),
        };
        for run in 0..runs {
            world.step(run, Event::Start);
        }
        world
    }

    fn step(&mut self, run: usize, event: Event) {
        let outcome = self.runs[run].step(event);
        self.write(run, &outcome.changes.cache);
        self.answer(run, outcome.effects);
    }

    /// Answers what a run asks, from what is written.
    fn answer(&mut self, run: usize, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::FindCached { task, key, .. } = effect else {
                continue;
            };
            let answer = match (self.entries.get(&key), self.leaders.get(&key)) {
                (Some(outputs), _) => CacheAnswer::Hit(Box::new(CacheHit {
                    run: RunId::derived("run"),
                    task: TaskId(1),
                    path: "t0".to_owned(),
                    parameters: outputs.parameters.clone(),
                    artifacts: BTreeMap::new(),
                })),
                (None, Some((leader, task))) => CacheAnswer::Running {
                    run: RunId::derived(&leader.to_string()),
                    task: *task,
                },
                (None, None) => CacheAnswer::Miss {
                    note: String::new(),
                },
            };
            self.step(run, Event::CacheLookedUp { task, answer });
        }
    }

    fn write(&mut self, run: usize, changed: &[TaskId]) {
        for id in changed {
            let state = &self.runs[run].state;
            let task = state.get(*id).unwrap();
            let entry = CacheEntry::of(state, task).unwrap();
            if !task.status.ended() {
                let before = self.leaders.insert(entry.key, (run, *id));
                assert_eq!(before, None, "two tasks lead for one key");
                continue;
            }
            let leader = self.leaders.remove(&entry.key);
            assert_eq!(leader, Some((run, *id)), "a task ends that did not lead");
            if task.status == TaskStatus::Succeeded {
                let before = self.entries.insert(entry.key, entry.outputs);
                assert!(before.is_none(), "a task ran although there was an entry");
            }
            let waits = |run: &usize| !self.runs[*run].state.cache_questions().is_empty();
            self.told.extend((0..self.runs.len()).filter(waits));
        }
    }

    fn tell(&mut self, run: usize) {
        if self.told.remove(&run) {
            let questions = self.runs[run].state.cache_questions();
            self.answer(run, questions);
        }
    }

    /// Ends one of the attempts that are open in a run; false when there is none.
    fn end(&mut self, run: usize, state: WorkloadState) -> bool {
        let open = self.runs[run].state.tasks().find_map(|task| {
            let stopping = task.status == TaskStatus::Canceling;
            Some((task.open_attempt()?.workload_id.clone(), stopping))
        });
        let Some((workload, stopping)) = open else {
            return false;
        };
        let state = if stopping {
            WorkloadState::Stopped(None)
        } else {
            state
        };
        self.step(run, update(&workload, 100, state));
        true
    }

    fn random(&mut self, run: u8, what: u8) {
        let run = usize::from(run) % self.runs.len();
        match what % 10 {
            0..=2 => drop(self.end(run, succeeded())),
            3 => drop(self.end(run, WorkloadState::Failed(None))),
            4 => drop(self.end(run, WorkloadState::Lost)),
            5..=7 => self.tell(run),
            8 => {
                // Who asks again after a restart need not be told.
                self.told.remove(&run);
                let effects = self.runs[run].restart();
                self.answer(run, effects);
            }
            _ => self.step(
                run,
                Event::Terminate {
                    reason: "no need".to_owned(),
                    exit_tasks: false,
                },
            ),
        }
    }

    /// Lets everything end well.
    fn finish(&mut self) {
        loop {
            let mut moved = false;
            for run in 0..self.runs.len() {
                moved |= self.told.contains(&run);
                self.tell(run);
                moved |= self.end(run, succeeded());
            }
            if !moved {
                break;
            }
        }
        for bench in &self.runs {
            assert!(
                bench.state.run.status.ended(),
                "somebody waits for ever: {:?}",
                bench.statuses()
            );
        }
        assert_eq!(self.leaders, BTreeMap::new());
    }
}

fn succeeded() -> WorkloadState {
    let report = StepReport {
        parameters: json!({ "out": "x" }).as_object().unwrap().clone(),
        ..StepReport::default()
    };
    WorkloadState::Succeeded(Box::new(report))
}

proptest! {
    #[test]
    fn one_leads_and_nobody_waits_for_ever(
        nodes in prop::collection::vec(any::<Node>(), 1..6),
        runs in 1_usize..4,
        events in prop::collection::vec(any::<(u8, u8)>(), 0..60),
    ) {
        let mut world = World::new(&plan_of(&nodes), runs);
        for (run, what) in events {
            world.random(run, what);
        }
        world.finish();
    }
}
