//! Random pipelines under random events, repetitions and restarts, against the reference model.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ids::WorkloadId;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::build::*;
use super::pipelines::{nodes, plan_of};
use super::reference::{Ending, Node, Reference, place};
use super::values::digest;
use crate::domain::*;

/// A runner that starts programs when the test says so.
#[derive(Default)]
struct Runner {
    /// What was launched, with what it was told, by workload.
    known: HashMap<WorkloadId, (String, LaunchSpec)>,
    /// Workloads that have not ended, with the version of their state.
    open: BTreeMap<WorkloadId, i64>,
    stopping: BTreeSet<WorkloadId>,
    /// Everything that was ever said.
    said: Vec<Event>,
    /// The task that made an artifact, by URI.
    origins: HashMap<String, String>,
}

struct World {
    bench: Bench,
    reference: Reference,
    runner: Runner,
    /// Decides how attempts end.
    seed: u64,
    /// How often the run ended without success and went on.
    retries: usize,
}

/// How often a run goes on at most.
const RETRIES: usize = 3;

impl World {
    fn new(tasks: Vec<Node>, seed: u64) -> Self {
        let reference = Reference::new(tasks);
        let bench = Bench::new(plan_of(&reference), json!({}));
        let mut world = Self {
            bench,
            reference,
            runner: Runner::default(),
            seed,
            retries: 0,
        };
        world.commit(Event::Start);
        world.reference.start();
        world.compare();
        world
    }

    fn commit(&mut self, event: Event) {
        let outcome = self.bench.step(event);
        self.perform(outcome.effects);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Launch {
                    task,
                    attempt,
                    workload_id,
                } => {
                    self.launch(task, attempt, workload_id);
                }
                Effect::Stop { workload_id, .. } => {
                    self.runner.stopping.insert(workload_id.clone());
                    // Also one that was never launched: its launch was lost with the service.
                    self.runner.open.entry(workload_id).or_insert(0);
                }
                Effect::FindArtifact { .. } | Effect::FindCached { .. } => {
                    panic!("nobody asks")
                }
                Effect::RunEnded => assert!(self.bench.state.run.status.ended()),
            }
        }
    }

    fn launch(&mut self, task: ids::TaskId, attempt: u32, workload: WorkloadId) {
        let spec = launch_spec(&self.bench.state, task).unwrap();
        assert_eq!((spec.attempt, &spec.workload_id), (attempt, &workload));
        if let Some((_, known)) = self.runner.known.get(&workload) {
            assert_eq!(*known, spec, "a workload is described differently");
            return;
        }
        let task = self.bench.state.get(task).unwrap();
        let any_end = self.reference.node(&task.path).0.any_end;
        for dependency in &task.body.dependencies {
            let before = self.bench.state.get(*dependency).unwrap();
            assert!(
                before.status == TaskStatus::Succeeded
                    || any_end
                        && matches!(before.status, TaskStatus::Failed | TaskStatus::Canceled),
                "{} {} before {}",
                before.path,
                before.status,
                task.path
            );
        }
        let first = self.runner.open.insert(workload.clone(), 0).is_none();
        assert!(first, "{workload} is started twice");
        self.runner
            .known
            .insert(workload, (task.path.clone(), spec));
    }

    fn ending(&self, workload: &WorkloadId) -> Ending {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (self.seed, workload.as_str()).hash(&mut hasher);
        match (
            hasher.finish() % 16,
            self.runner.stopping.contains(workload),
        ) {
            (0..8, true) => Ending::Stop,
            (8, _) => Ending::Failure,
            (9..12, _) => Ending::Loss,
            (_, _) => Ending::Success,
        }
    }

    /// The next thing that the runner says about a workload, and how the workload ends with it.
    fn next_report(&mut self, workload: &WorkloadId, hurry: bool) -> (Event, Option<Ending>) {
        let version = self.runner.open[workload] + 1;
        let (state, ending) = match version {
            1 if !hurry => (WorkloadState::Queued { position: 2 }, None),
            2 if !hurry => (WorkloadState::Running, None),
            _ => {
                let ending = self.ending(workload);
                let state = match ending {
                    Ending::Success => WorkloadState::Succeeded(self.report(workload)),
                    Ending::Failure => WorkloadState::Failed(None),
                    Ending::Loss => WorkloadState::Lost,
                    Ending::Stop => WorkloadState::Stopped(None),
                };
                (state, Some(ending))
            }
        };
        (update(workload, version, state), ending)
    }

    /// Runs the program: its output depends on what it was told.
    fn report(&mut self, workload: &WorkloadId) -> Box<StepReport> {
        let Some((path, spec)) = self.runner.known.get(workload) else {
            return Box::default();
        };
        let inputs: Value = serde_json::from_str(&spec.inputs_json).unwrap();
        let mut parameters = inputs["parameterValues"].as_object().unwrap().clone();
        for (name, value) in &mut parameters {
            if name.starts_with('s') {
                *value = value["state"].clone();
            }
        }
        let mut artifacts = BTreeMap::new();
        for (name, list) in inputs["artifacts"].as_object().unwrap() {
            let list = list["artifacts"].as_array().unwrap().iter();
            // What an importer brought in has its path as URI.
            let origin = |one: &Value| {
                let uri = one["uri"].as_str().unwrap();
                let origin = self.runner.origins.get(uri);
                origin.map_or(uri, String::as_str).to_owned()
            };
            artifacts.insert(name.clone(), list.map(origin).collect::<Vec<String>>());
        }
        assert_eq!(
            self.reference.inputs(path),
            (parameters.clone(), artifacts.clone()),
            "{path}"
        );
        let out = digest(path, &parameters, &artifacts);
        let uri = spec.output_artifacts[0].uri.clone();
        self.runner.origins.insert(uri.clone(), path.clone());
        let artifact = ProducedArtifact {
            uri,
            present: true,
            ..ProducedArtifact::default()
        };
        Box::new(StepReport {
            parameters: json!({"out": out}).as_object().unwrap().clone(),
            artifacts: vec![("art".into(), vec![artifact])],
            ..StepReport::default()
        })
    }

    fn speak(&mut self, choice: u16, crash: bool) {
        let open: Vec<WorkloadId> = self.runner.open.keys().cloned().collect();
        let Some(workload) = open.get(usize::from(choice) % open.len().max(1)).cloned() else {
            return;
        };
        let (event, ending) = self.next_report(&workload, choice.is_multiple_of(3));
        if crash {
            // The service dies before the commit, so the runner will have to say it again.
            self.bench.step_uncommitted(event);
            self.restart();
            return;
        }
        self.runner.said.push(event.clone());
        match ending {
            Some(ending) => {
                self.runner.open.remove(&workload);
                let task = parse_workload_id(&workload).unwrap().1;
                let path = self.bench.state.get(task).unwrap().path.clone();
                self.commit(event);
                self.reference.end(&path, ending);
            }
            None => {
                *self.runner.open.get_mut(&workload).unwrap() += 1;
                self.commit(event);
            }
        }
    }

    fn restart(&mut self) {
        let effects = self.bench.restart();
        self.perform(effects);
    }

    /// A commit whose effects nobody did: the service died right after it.
    fn terminate(&mut self, crash: bool, exit_tasks: bool) {
        let outcome = self.bench.step(Event::Terminate {
            reason: "test".into(),
            exit_tasks,
        });
        if crash {
            self.restart()
        } else {
            self.perform(outcome.effects)
        }
        self.reference.terminate(exit_tasks);
    }

    /// The next time that programs wait for comes, if any do.
    fn wake(&mut self, crash: bool) {
        let Some(at) = self.bench.state.wake_at() else {
            assert_eq!(self.reference.waiting, BTreeSet::new());
            return;
        };
        let tasks = self.bench.state.tasks();
        let due = tasks.filter(|task| task.body.retry_at.is_some_and(|due| due <= at));
        let due: Vec<String> = due.map(|task| task.path.clone()).collect();
        if crash {
            self.restart();
        }
        let outcome = self.bench.wake();
        self.perform(outcome.effects);
        due.iter().for_each(|path| self.reference.wake(path));
    }

    fn retry(&mut self) {
        let failed = self.reference.run_ended()
            && self.bench.state.run.status != RunStatus::Succeeded
            && self.retries < RETRIES;
        if failed {
            self.retries += 1;
            let effects = self.bench.retry();
            self.perform(effects);
            self.reference.retry();
        }
    }

    fn act(&mut self, action: u8, choice: u16) {
        match action {
            0..100 => self.speak(choice, false),
            100..110 => self.speak(choice, true),
            110..130 => {
                let at = usize::from(choice) % self.runner.said.len().max(1);
                if let Some(event) = self.runner.said.get(at).cloned() {
                    assert_eq!(
                        self.bench.step(event),
                        Outcome::default(),
                        "a report came twice"
                    );
                }
            }
            130..145 => {
                self.restart();
                for event in self.runner.said.clone() {
                    assert_eq!(
                        self.bench.step(event),
                        Outcome::default(),
                        "a report came twice"
                    );
                }
            }
            145..147 => self.terminate(choice.is_multiple_of(2), choice % 8 < 3),
            147..157 => self.wake(choice.is_multiple_of(3)),
            157..160 => self.retry(),
            _ => assert_eq!(self.bench.step(Event::Start), Outcome::default()),
        }
        self.compare();
    }

    /// Same tasks, same states, apart from the machine's own: whether a program runs or waits.
    fn compare(&self) {
        let plain = |status| match status {
            TaskStatus::Running => TaskStatus::Ready,
            other => other,
        };
        let tasks = self.bench.state.tasks();
        let actual: BTreeMap<&str, TaskStatus> = tasks
            .map(|task| (task.path.as_str(), plain(task.status)))
            .collect();
        let expected: BTreeMap<&str, TaskStatus> = self
            .reference
            .status
            .iter()
            .map(|(path, s)| (path.as_str(), plain(*s)))
            .collect();
        assert_eq!(actual, expected);
        for (path, attempts) in &self.reference.attempts {
            let task = self.bench.get(path);
            let numbers: Vec<u32> = task.body.attempts.iter().map(|a| a.number).collect();
            assert_eq!(numbers, (1..=*attempts).collect::<Vec<u32>>(), "{path}");
        }
        let counted: u32 = self.bench.state.run.body.task_counts.values().sum();
        assert_eq!(counted as usize, expected.len());
    }

    /// To the end, and on from there a few times.
    fn finish(&mut self) {
        loop {
            self.end();
            self.judge();
            if self.bench.state.run.status == RunStatus::Succeeded || self.retries == RETRIES {
                return;
            }
            self.retry();
            self.compare();
        }
    }

    fn end(&mut self) {
        while !self.reference.run_ended() {
            match self.runner.open.is_empty() {
                true if self.bench.state.wake_at().is_some() => self.wake(false),
                true => panic!("the run hangs: {:?}", self.bench.statuses()),
                false => self.speak(0, false),
            }
            self.compare();
        }
    }

    fn judge(&self) {
        let run = &self.bench.state.run;
        let expected = match self.reference.status[""] {
            TaskStatus::Succeeded => RunStatus::Succeeded,
            TaskStatus::Failed => RunStatus::Failed,
            _ => RunStatus::Canceled,
        };
        assert_eq!(run.status, expected);
        let effects = self.bench.effects.iter();
        let ends = effects.filter(|effect| **effect == Effect::RunEnded);
        assert_eq!(ends.count(), 1 + self.retries);
        for task in self.bench.state.tasks() {
            if task.path.is_empty() || task.status != TaskStatus::Succeeded {
                continue;
            }
            let out = task.body.outputs.parameters.get("out");
            let expected = self.reference.value(&task.path);
            assert_eq!(out, expected.as_ref(), "{}", task.path);
        }
        for task in self.bench.state.tasks() {
            let number = task.path.rsplit(['[', ']']).nth(1);
            if task.path.ends_with(']') {
                assert_eq!(Some(task.iteration.to_string().as_str()), number);
            }
            assert_eq!(task.iteration >= 0, place(&task.path) != task.path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_run_goes_as_the_rules_say(
        tasks in nodes(),
        seed in any::<u64>(),
        actions in prop::collection::vec((0..162_u8, any::<u16>()), 0..60),
    ) {
        let mut world = World::new(tasks, seed);
        for (action, choice) in actions {
            world.act(action, choice);
        }
        world.finish();
    }
}
