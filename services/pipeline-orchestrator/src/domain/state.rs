//! A run in memory: its rows, its plan, and the counters that make each event cheap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use clock::Timestamp;
use ids::{ArtifactId, RunId, TaskId, WorkloadId};
use pipeline_spec::plan::{
    Body, Component, Dag, Items, Iterator as Loop, Plan, Strategy, Task as PlanTask,
};

use super::budget;
use super::event::{Effect, StepError};
use super::importer;
use super::loops::{self, Iterations};
use super::model::{Artifact, Run, Task};
use super::recursion;
use super::size::planned;
use super::status::{RunStatus, TaskKind, TaskStatus};

/// How many tasks a run may have, inner ones included.
pub const MAX_TASKS: u64 = 100_000;

/// How deep groups may be nested.
pub const MAX_DEPTH: usize = 100;

/// A run with all that the engine needs to take the next step.
///
/// It is a function of the stored rows alone: [`RunState::load`] gives the same state at any commit.
#[derive(Debug, Clone)]
pub struct RunState {
    /// The run.
    pub run: Run,
    pub(super) plan: Arc<Plan>,
    /// The order of each group of the plan by component name; the root's is under the empty name.
    pub(super) shapes: HashMap<String, Arc<Shape>>,
    /// Ids grow, so this is the order in which tasks came to be.
    pub(super) tasks: BTreeMap<TaskId, Task>,
    pub(super) groups: HashMap<TaskId, Group>,
    pub(super) root: Option<TaskId>,
    pub(super) artifacts: HashMap<ArtifactId, Arc<Artifact>>,
    /// What importers of this run recorded, by URI.
    pub(super) imported: HashMap<String, Vec<ArtifactId>>,
    /// How many tasks the plan comes to, but those in loops whose items it does not know; none for too many.
    pub(super) planned_tasks: Option<u64>,
    /// The planned tasks, and those of the loops that were opened since.
    pub(super) expected_tasks: u64,
    /// How many tasks each component of the plan comes to, itself included.
    sizes: HashMap<String, u64>,
    /// Whether the plan has loops over items that it does not know, or components that hold themselves.
    open_ended: bool,
    /// How many importers have not ended: each may still take an id for its artifact.
    pub(super) open_importers: usize,
    /// Programs that wait for their next attempt, by the time of it.
    pub(super) waits: BTreeSet<(Timestamp, TaskId)>,
    /// Programs that wait until the run executes fewer of them.
    pub(super) held: BTreeSet<TaskId>,
    /// How many programs the run executes, pauses before retries included.
    pub(super) programs: u64,
    /// The bytes of all that its tasks received.
    pub(super) input_bytes: u64,
    /// How many these may be.
    pub(super) input_limit: u64,
    /// Elementary operations so far, so that tests can see that the work is linear.
    pub(super) operations: u64,
}

/// The fixed part of a group: who waits for whom, by the position in the plan's order.
#[derive(Debug, Default)]
pub(super) struct Shape {
    pub(super) positions: HashMap<String, usize>,
    /// Whether the task waits for ends of any kind, not for successes, by position.
    pub(super) any_end: Vec<bool>,
    pub(super) dependencies: Vec<Vec<usize>>,
    pub(super) dependents: Vec<Vec<usize>>,
}

/// The moving part of a group.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) shape: Arc<Shape>,
    /// The tasks, by position.
    pub(super) children: Vec<TaskId>,
    /// How many dependencies have not ended as the task wants it, by position.
    pub(super) waiting: Vec<usize>,
    /// How many tasks have not ended.
    pub(super) unended: usize,
    /// Of a loop: its items and whose turn it is. Its shape is empty: iterations do not wait for each other.
    pub(super) iterations: Option<Iterations>,
}

impl Shape {
    fn of(dag: &Dag) -> Result<Self, StepError> {
        let positions: HashMap<String, usize> = dag
            .order
            .iter()
            .cloned()
            .enumerate()
            .map(|(at, name)| (name, at))
            .collect();
        let mut dependencies = vec![Vec::new(); dag.order.len()];
        let mut dependents = vec![Vec::new(); dag.order.len()];
        let mut any_end = vec![false; dag.order.len()];
        for (at, name) in dag.order.iter().enumerate() {
            let task = dag.tasks.get(name).ok_or_else(|| missing("task", name))?;
            for dependency in &task.dependencies {
                let on = *positions
                    .get(dependency)
                    .ok_or_else(|| missing("task", dependency))?;
                dependencies[at].push(on);
            }
            any_end[at] = match task.trigger.strategy {
                Strategy::AllCompleted => true,
                Strategy::AllSucceeded => false,
            };
            dependencies[at].sort_unstable();
            dependencies[at].dedup();
            for on in &dependencies[at] {
                dependents[*on].push(at);
            }
        }
        Ok(Self {
            positions,
            any_end,
            dependencies,
            dependents,
        })
    }

    /// Whether the task at a position may start as far as a dependency matters that ended so.
    pub(super) fn met(&self, at: usize, ended: &Task) -> bool {
        match ended.status {
            TaskStatus::Succeeded | TaskStatus::Cached => true,
            TaskStatus::Failed => self.any_end[at],
            // Nothing is to be done after a task that never began.
            TaskStatus::Canceled => self.any_end[at] && ended.begun(),
            TaskStatus::Pending
            | TaskStatus::Ready
            | TaskStatus::Running
            | TaskStatus::Skipped
            | TaskStatus::Canceling => false,
        }
    }
}

impl Group {
    /// A group none of whose tasks has ended.
    pub(super) fn new(shape: Arc<Shape>, children: Vec<TaskId>) -> Self {
        let waiting = shape.dependencies.iter().map(Vec::len).collect();
        let unended = children.len();
        Self {
            shape,
            children,
            waiting,
            unended,
            iterations: None,
        }
    }
}

impl RunState {
    /// A run that has no tasks yet.
    ///
    /// # Errors
    /// The plan refers to tasks that it does not have.
    pub fn new(run: Run, plan: Arc<Plan>) -> Result<Self, StepError> {
        let mut shapes = HashMap::new();
        for (name, component) in &plan.components {
            if let Body::Dag(dag) = &component.body {
                shapes.insert(name.clone(), Arc::new(Shape::of(dag)?));
            }
        }
        if let Body::Dag(dag) = &plan.root.body {
            shapes.insert(String::new(), Arc::new(Shape::of(dag)?));
        }
        let (planned_tasks, sizes) = planned(&plan);
        let planned_tasks = planned_tasks.filter(|tasks| *tasks <= MAX_TASKS);
        Ok(Self {
            run,
            planned_tasks,
            expected_tasks: planned_tasks.unwrap_or(1),
            sizes,
            open_ended: open_ended(&plan) || recursion::holds_itself(&plan),
            plan,
            shapes,
            tasks: BTreeMap::new(),
            groups: HashMap::new(),
            root: None,
            artifacts: HashMap::new(),
            imported: HashMap::new(),
            open_importers: 0,
            waits: BTreeSet::new(),
            held: BTreeSet::new(),
            programs: 0,
            input_bytes: 0,
            input_limit: budget::MAX_INPUT_BYTES,
            operations: 0,
        })
    }

    /// The run as it was committed. `artifacts` are those that its tasks produced or used.
    ///
    /// # Errors
    /// The rows do not fit each other or the plan.
    pub fn load(
        run: Run,
        plan: Arc<Plan>,
        tasks: impl IntoIterator<Item = Task>,
        artifacts: impl IntoIterator<Item = Artifact>,
    ) -> Result<Self, StepError> {
        let mut state = Self::new(run, plan)?;
        for artifact in artifacts {
            state.artifacts.insert(artifact.id, Arc::new(artifact));
        }
        state.tasks = tasks.into_iter().map(|task| (task.id, task)).collect();
        let mut children: HashMap<TaskId, Vec<TaskId>> = HashMap::new();
        for task in state.tasks.values() {
            state.programs += u64::from(task.is_open_program() && !task.held());
            state.input_bytes += budget::bytes(&task.body.inputs);
            state.held.extend(task.held().then_some(task.id));
            state
                .waits
                .extend(task.body.retry_at.map(|at| (at, task.id)));
            match task.parent {
                Some(parent) => children.entry(parent).or_default().push(task.id),
                None => state.root = Some(task.id),
            }
            let outputs = task.body.outputs.artifacts.values().flatten();
            if let Some(id) = outputs.clone().find(|id| !state.artifacts.contains_key(id)) {
                return Err(missing("artifact", id));
            }
            if task.kind == TaskKind::Importer {
                state.open_importers += usize::from(!task.status.ended());
                for artifact in outputs.filter_map(|id| state.artifacts.get(id)) {
                    state
                        .imported
                        .entry(artifact.uri.clone())
                        .or_default()
                        .push(artifact.id);
                }
            }
        }
        let opened: Vec<TaskId> = state
            .tasks
            .values()
            .filter(|task| {
                task.kind.groups()
                    && task
                        .body
                        .history
                        .iter()
                        .any(|e| e.status == TaskStatus::Running)
            })
            .map(|task| task.id)
            .collect();
        for id in opened {
            let ids = children.remove(&id).unwrap_or_default();
            let task = state.task(id)?;
            let group = if task.kind == TaskKind::Loop {
                let known = matches!(state.iterator(task)?.items, Items::Raw(_));
                let component = task.body.component.clone();
                let expected = state.expected_with_loop(&component, ids.len(), known);
                let group = loops::rebuild(&state, task, ids)?;
                state.expected_tasks = expected.unwrap_or(MAX_TASKS);
                group
            } else {
                state.rebuild_group(id, ids)?
            };
            state.groups.insert(id, group);
        }
        Ok(state)
    }

    pub(super) fn rebuild_group(&self, id: TaskId, ids: Vec<TaskId>) -> Result<Group, StepError> {
        let shape = self.shape(self.task(id)?)?;
        let mut slots = vec![None; shape.dependencies.len()];
        for child in ids {
            let name = &self.task(child)?.name;
            let at = *shape
                .positions
                .get(name)
                .ok_or_else(|| missing("task", name))?;
            slots[at] = Some(child);
        }
        let children: Option<Vec<TaskId>> = slots.into_iter().collect();
        let children = children.ok_or_else(|| missing("rows of group", id))?;
        let mut group = Group::new(shape, children);
        for at in 0..group.children.len() {
            let child = self.task(group.children[at])?;
            if child.status.ended() {
                group.unended -= 1;
            }
            for dependent in &group.shape.dependents[at] {
                if group.shape.met(*dependent, child) {
                    group.waiting[*dependent] -= 1;
                }
            }
        }
        Ok(group)
    }

    /// The plan that the run follows.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The tasks in the order in which they came to be.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    /// A task.
    pub fn get(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id)
    }

    /// The task of a path such as `train/inner` or `loop[3]/inner`; the empty path is the root's.
    pub fn find(&self, path: &str) -> Option<&Task> {
        let mut at = self.root?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let group = self.groups.get(&at)?;
            if let Some(position) = group.shape.positions.get(name) {
                at = group.children[*position];
                continue;
            }
            let (name, number) = name.strip_suffix(']')?.rsplit_once('[')?;
            at = group.children[*group.shape.positions.get(name)?];
            let iterations = self.groups.get(&at)?;
            at = *iterations.children.get(number.parse::<usize>().ok()?)?;
        }
        self.tasks.get(&at)
    }

    /// An artifact that a task of the run produced or used.
    pub fn artifact(&self, id: ArtifactId) -> Option<&Artifact> {
        self.artifacts.get(&id).map(Arc::as_ref)
    }

    /// What has been asked of others and not been answered: to be done again after a restart.
    ///
    /// # Errors
    /// The stored run does not fit its plan.
    pub fn open_effects(&self) -> Result<Vec<Effect>, StepError> {
        let mut effects = Vec::new();
        for task in self.tasks.values().filter(|task| !task.status.ended()) {
            if let Some(attempt) = task.open_attempt() {
                let workload_id = attempt.workload_id.clone();
                effects.push(if task.status == TaskStatus::Canceling {
                    let reason = self.stop_cause().1;
                    Effect::Stop {
                        workload_id,
                        reason,
                    }
                } else {
                    Effect::Launch {
                        task: task.id,
                        attempt: attempt.number,
                        workload_id,
                    }
                });
            } else if task.kind == TaskKind::Importer && task.status == TaskStatus::Running {
                effects.push(importer::question(self, task.id)?);
            } else {
                effects.extend(task.cache_question());
            }
        }
        if self.run.status.ended() {
            effects.push(Effect::RunEnded);
        }
        Ok(effects)
    }

    /// How many ids the next event can take at most, besides one per artifact that it reports.
    pub fn ids_needed(&self) -> usize {
        // A run that is too large gets its root only, which fails. A loop may come to any number of tasks.
        let expected = match self.open_ended {
            true => self.planned_tasks.map_or(1, |_| MAX_TASKS),
            false => self.expected_tasks,
        };
        let left = expected.saturating_sub(self.tasks.len() as u64);
        // Any of the tasks to come may be an importer, which takes a second one.
        let left = usize::try_from(left.saturating_mul(2)).unwrap_or(usize::MAX);
        // A run that is retried may bring in again what any of its importers did.
        let importers = match self.run.status {
            RunStatus::Pending => {
                let all = self.tasks.values();
                all.filter(|task| task.kind == TaskKind::Importer).count()
            }
            _ => self.open_importers,
        };
        left.saturating_add(importers)
    }

    pub(super) fn task(&self, id: TaskId) -> Result<&Task, StepError> {
        self.tasks.get(&id).ok_or_else(|| missing("task", id))
    }

    /// The component that a task runs.
    pub(super) fn component(&self, task: &Task) -> Result<&Component, StepError> {
        match task.kind {
            TaskKind::Root => Ok(&self.plan.root),
            TaskKind::Container | TaskKind::Dag | TaskKind::Importer | TaskKind::Loop => {
                let name = &task.body.component;
                self.plan
                    .components
                    .get(name)
                    .ok_or_else(|| missing("component", name))
            }
        }
    }

    /// The group that a task opens, in the plan.
    pub(super) fn dag(&self, task: &Task) -> Result<&Dag, StepError> {
        match &self.component(task)?.body {
            Body::Dag(dag) => Ok(dag),
            Body::Executor(_) => Err(missing("group of task", task.label())),
        }
    }

    pub(super) fn shape(&self, task: &Task) -> Result<Arc<Shape>, StepError> {
        let shape = self.shapes.get(&task.body.component);
        shape
            .cloned()
            .ok_or_else(|| missing("group", &task.body.component))
    }

    /// What the plan says of a task within its group.
    pub(super) fn planned(&self, task: &Task) -> Result<&PlanTask, StepError> {
        let parent = task
            .parent
            .ok_or_else(|| missing("group of task", task.label()))?;
        let parent = self.task(parent)?;
        if parent.kind == TaskKind::Loop {
            return self.planned(parent);
        }
        let dag = self.dag(parent)?;
        dag.tasks
            .get(&task.name)
            .ok_or_else(|| missing("task", &task.name))
    }

    /// The loop that a task is.
    pub(super) fn iterator(&self, task: &Task) -> Result<&Loop, StepError> {
        let iterator = self.planned(task)?.iterator.as_ref();
        iterator.ok_or_else(|| missing("iterator of task", task.label()))
    }

    /// Whether a task is an iteration of a loop.
    pub(super) fn is_iteration(&self, task: &Task) -> Result<bool, StepError> {
        match task.parent {
            Some(parent) => Ok(self.task(parent)?.kind == TaskKind::Loop),
            None => Ok(false),
        }
    }

    /// How many tasks the run comes to with one more loop of `count` items; none for too many to count.
    pub(super) fn expected_with_loop(
        &self,
        component: &str,
        count: usize,
        planned: bool,
    ) -> Option<u64> {
        if planned {
            return Some(self.expected_tasks);
        }
        let size = self.sizes.get(component).copied().unwrap_or(1);
        let more = (count as u64).checked_mul(size)?;
        self.expected_tasks.checked_add(more)
    }

    /// Another task of the same group.
    pub(super) fn sibling(&self, parent: TaskId, name: &str) -> Result<&Task, StepError> {
        let group = self.group(parent)?;
        let at = *group
            .shape
            .positions
            .get(name)
            .ok_or_else(|| missing("task", name))?;
        self.task(group.children[at])
    }

    /// Whether a task waits for ends of any kind: exit tasks, and those that ignore failures.
    pub(super) fn any_end(&self, task: &Task) -> bool {
        let group = task.parent.and_then(|parent| self.groups.get(&parent));
        group.is_some_and(|group| {
            let at = group.shape.positions.get(&task.name);
            at.is_some_and(|at| group.shape.any_end[*at])
        })
    }

    /// Whether a failure in the group of a task keeps it from starting.
    pub(super) fn stopped_by_failure(&self, task: &Task) -> Result<bool, StepError> {
        let Some(parent) = task.parent else {
            return Ok(false);
        };
        if self.task(parent)?.body.failed_child.is_none() {
            return Ok(false);
        }
        Ok(!self.any_end(task))
    }

    /// One sentence about the failure of a task; of a group, about the inner task that decided it.
    pub(super) fn failure_of(&self, task: &Task) -> String {
        let mut at = task;
        while let Some(inner) = at.body.failed_child.and_then(|id| self.tasks.get(&id)) {
            at = inner;
        }
        if at.id == task.id {
            return at.body.message.clone();
        }
        format!("`{}` failed: {}", at.label(), at.body.message)
    }

    pub(super) fn group(&self, id: TaskId) -> Result<&Group, StepError> {
        self.groups.get(&id).ok_or_else(|| missing("group", id))
    }

    pub(super) fn group_mut(&mut self, id: TaskId) -> Result<&mut Group, StepError> {
        self.groups.get_mut(&id).ok_or_else(|| missing("group", id))
    }
}

/// Whether some loop goes through items that the plan does not know.
fn open_ended(plan: &Plan) -> bool {
    let components = plan.components.values().chain([&plan.root]);
    let dags = components.filter_map(|component| match &component.body {
        Body::Dag(dag) => Some(dag),
        Body::Executor(_) => None,
    });
    let mut loops = dags
        .flat_map(|dag| dag.tasks.values())
        .filter_map(|task| task.iterator.as_ref());
    loops.any(|iterator| match iterator.items {
        Items::Raw(_) => false,
        Items::Parameter(_) | Items::Artifact(_) => true,
    })
}

/// The run, the task and the attempt that a workload id names.
pub fn parse_workload_id(id: &WorkloadId) -> Option<(RunId, TaskId, u32)> {
    let mut parts = id.as_str().splitn(3, '.');
    let run = parts.next()?.parse().ok()?;
    let task = parts.next()?.parse().ok()?;
    let attempt = parts.next()?.parse().ok()?;
    Some((run, task, attempt))
}

pub(super) fn missing(what: &str, which: impl std::fmt::Display) -> StepError {
    StepError::Inconsistent(format!("no {what} `{which}`"))
}
