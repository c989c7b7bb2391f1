//! Plans and runs for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::Timestamp;
use ids::{ExperimentId, RunId};
use pipeline_spec::plan::Task;
use pipeline_spec::plan::*;
use serde_json::{Map, Value, json};

use crate::domain::*;

pub(super) fn text(default: Option<Value>, optional: bool) -> InputParameter {
    typed(ParameterType::String, default, optional)
}

pub(super) fn typed(
    parameter_type: ParameterType,
    default: Option<Value>,
    optional: bool,
) -> InputParameter {
    InputParameter {
        parameter_type,
        default,
        optional,
        description: String::new(),
        literals: vec![],
    }
}

pub(super) fn dataset() -> ArtifactType {
    ArtifactType {
        schema_title: "system.Dataset".into(),
        schema_version: "0.0.1".into(),
        instance_schema: String::new(),
    }
}

pub(super) fn output_artifact() -> OutputArtifact {
    OutputArtifact {
        artifact_type: dataset(),
        list: false,
        metadata: json!({}),
    }
}

pub(super) fn input_artifact(optional: bool) -> InputArtifact {
    InputArtifact {
        artifact_type: dataset(),
        list: false,
        optional,
    }
}

pub(super) fn component(body: Body) -> Component {
    Component {
        input_parameters: BTreeMap::new(),
        input_artifacts: BTreeMap::new(),
        output_parameters: BTreeMap::new(),
        output_artifacts: BTreeMap::new(),
        body,
    }
}

/// A program that puts out the text `out` and the artifact `art`.
pub(super) fn program() -> Component {
    let mut program = component(Body::Executor("exec".into()));
    program
        .output_parameters
        .insert("out".into(), ParameterType::String);
    program
        .output_artifacts
        .insert("art".into(), output_artifact());
    program
}

pub(super) fn task(name: &str, component: &str, dependencies: &[&str]) -> Task {
    Task {
        name: name.into(),
        display_name: name.into(),
        component: component.into(),
        parameters: BTreeMap::new(),
        artifacts: BTreeMap::new(),
        dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        trigger: Trigger {
            condition: String::new(),
            strategy: Strategy::AllSucceeded,
        },
        iterator: None,
        retry: None,
        caching: Caching::default(),
    }
}

pub(super) fn source(value: ParameterValue) -> ParameterSource {
    ParameterSource {
        value,
        selector: String::new(),
    }
}

pub(super) fn constant(value: Value) -> ParameterSource {
    source(ParameterValue::Constant(value))
}

pub(super) fn from_group(name: &str) -> ParameterSource {
    source(ParameterValue::ComponentInput(name.into()))
}

pub(super) fn from_task(task: &str, output: &str) -> ParameterSource {
    source(ParameterValue::TaskOutput {
        task: task.into(),
        output: output.into(),
    })
}

/// A group of tasks that are given after all that they depend on.
pub(super) fn dag(tasks: Vec<Task>) -> Dag {
    Dag {
        order: tasks.iter().map(|task| task.name.clone()).collect(),
        tasks: tasks
            .into_iter()
            .map(|task| (task.name.clone(), task))
            .collect(),
        output_parameters: BTreeMap::new(),
        output_artifacts: BTreeMap::new(),
    }
}

pub(super) fn container() -> Container {
    Container {
        image: "python:3.12".into(),
        command: vec!["echo".into()],
        args: vec!["{{$.inputs.parameters['x']}}".into()],
        env: vec![],
        resources: Resources::default(),
        platform: Value::Null,
        files: Default::default(),
    }
}

pub(super) fn plan(root: Component, components: Vec<(&str, Component)>) -> Plan {
    Plan {
        name: "a pipeline".into(),
        display_name: "a pipeline".into(),
        description: String::new(),
        default_root: String::new(),
        root,
        components: components
            .into_iter()
            .map(|(name, c)| (name.to_owned(), c))
            .collect(),
        executors: BTreeMap::from([("exec".to_owned(), Executor::Container(container()))]),
        pipeline_config: Value::Null,
    }
}

/// The plan with these retries of a task of the root.
pub(super) fn retrying(mut plan: Plan, task: &str, retries: u32, backoff_ms: u64) -> Plan {
    let Body::Dag(dag) = &mut plan.root.body else {
        panic!("the root is a group")
    };
    dag.tasks.get_mut(task).unwrap().retry = Some(Retry {
        max_retries: retries,
        backoff_ms,
        backoff_factor: 2.0,
        backoff_max_ms: 3_600_000,
    });
    plan
}

/// A flat pipeline of programs `(name, dependencies)`.
pub(super) fn flat(tasks: &[(&str, &[&str])]) -> Plan {
    let tasks = tasks
        .iter()
        .map(|(name, dependencies)| task(name, "program", dependencies));
    plan(
        component(Body::Dag(dag(tasks.collect()))),
        vec![("program", program())],
    )
}

pub(super) fn run(parameters: Value) -> Run {
    Run {
        id: RunId::derived("run"),
        display_name: "my run".into(),
        experiment_id: ExperimentId::derived("experiment"),
        pipeline_name: "a pipeline".into(),
        pipeline_root: "/data/artifacts".into(),
        status: RunStatus::Pending,
        created_at: Timestamp::from_secs(1_000),
        scheduled_at: None,
        finished_at: None,
        version: 0,
        body: RunBody {
            parameters: match parameters {
                Value::Object(parameters) => parameters,
                _ => Map::new(),
            },
            lost_budget: LOST_BUDGET,
            ..RunBody::default()
        },
    }
}

pub(super) fn update(workload_id: &ids::WorkloadId, version: i64, state: WorkloadState) -> Event {
    Event::Workload(WorkloadUpdate {
        workload_id: workload_id.clone(),
        version,
        state,
        reason: String::new(),
        message: String::new(),
        notes: vec![],
        started_at: None,
        ended_at: None,
    })
}

/// A run under test: events in, effects out, every step written to rows and compared with a load of them.
pub(super) struct Bench {
    pub(super) state: RunState,
    pub(super) rows: super::rows::Rows,
    pub(super) effects: Vec<Effect>,
    next_id: i64,
    pub(super) now: i64,
}

impl Bench {
    pub(super) fn new(plan: Plan, parameters: Value) -> Self {
        let run = run(parameters);
        let rows = super::rows::Rows::new(run.clone(), Arc::new(plan));
        let state = RunState::new(run, Arc::clone(&rows.plan)).unwrap();
        Self {
            state,
            rows,
            effects: vec![],
            next_id: 1,
            now: 2_000_000_000,
        }
    }

    pub(super) fn started(plan: Plan, parameters: Value) -> Self {
        let mut bench = Self::new(plan, parameters);
        bench.step(Event::Start);
        bench
    }

    /// Steps, checks the number of ids that was promised, and commits.
    pub(super) fn step(&mut self, event: Event) -> Outcome {
        let outcome = self.step_uncommitted(event);
        self.rows.commit(&self.state, &outcome.changes);
        self.rows.assert_complete(&self.state);
        self.effects.extend(outcome.effects.iter().cloned());
        outcome
    }

    pub(super) fn step_uncommitted(&mut self, event: Event) -> Outcome {
        let reported = match &event {
            Event::Workload(update) => update.state.report().map_or(0, |report| {
                report
                    .artifacts
                    .iter()
                    .map(|(_, artifacts)| artifacts.len())
                    .sum()
            }),
            Event::Start
            | Event::Timer
            | Event::LaunchRefused { .. }
            | Event::LaunchDelayed { .. }
            | Event::ArtifactLookedUp { .. }
            | Event::CacheLookedUp { .. }
            | Event::Terminate { .. } => 0,
        };
        let promised = self.state.ids_needed() + reported;
        let mut taken = 0;
        self.now += 1;
        let next = &mut self.next_id;
        let mut ids = || {
            taken += 1;
            *next += 1;
            *next
        };
        let now = Timestamp::from_micros(self.now);
        let outcome = step(&mut self.state, event, now, &mut ids).unwrap();
        assert!(taken <= promised, "{taken} ids taken, {promised} promised");
        outcome
    }

    /// The time that the run waits for comes.
    pub(super) fn wake(&mut self) -> Outcome {
        let at = self.state.wake_at().expect("nothing is waited for");
        self.now = self.now.max(at.as_micros() - 1);
        self.step(Event::Timer)
    }

    /// The run that ended is retried: the row changes, then the engine loads it and starts.
    pub(super) fn retry(&mut self) -> Vec<Effect> {
        self.now += 1;
        let mut run = self.state.run.clone();
        run.retry(Timestamp::from_micros(self.now)).unwrap();
        self.rows.store_run(&run);
        let open = self.restart();
        assert_eq!(open, [], "an ended run leaves nothing open");
        self.step(Event::Start).effects
    }

    /// The service is killed and comes back.
    pub(super) fn restart(&mut self) -> Vec<Effect> {
        self.state = self.rows.load();
        self.state.open_effects().unwrap()
    }

    pub(super) fn get(&self, path: &str) -> &crate::domain::Task {
        self.state
            .find(path)
            .unwrap_or_else(|| panic!("no task {path}"))
    }

    pub(super) fn workload(&self, path: &str) -> ids::WorkloadId {
        self.get(path).last_attempt().unwrap().workload_id.clone()
    }

    /// Ends the newest attempt of a program.
    pub(super) fn end(&mut self, path: &str, state: WorkloadState) -> Outcome {
        let workload = self.workload(path);
        self.step(update(&workload, 100, state))
    }

    pub(super) fn succeed(&mut self, path: &str) -> Outcome {
        self.end(path, WorkloadState::Succeeded(Box::default()))
    }

    pub(super) fn fail(&mut self, path: &str) -> Outcome {
        self.end(path, WorkloadState::Failed(None))
    }

    /// `path STATUS` of every task in the order in which they came to be, and the run.
    pub(super) fn statuses(&self) -> Vec<String> {
        let tasks = self
            .state
            .tasks()
            .map(|task| format!("{} {}", task.label(), task.status));
        std::iter::once(format!("run {}", self.state.run.status))
            .chain(tasks)
            .collect()
    }
}
