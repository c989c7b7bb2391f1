//! Groups: opening them, starting what may start, ending them.

use std::sync::Arc;

use ids::TaskId;
use pipeline_spec::plan::{Body, Dag, Executor, OutputSelector, Plan};

use super::condition;
use super::engine::Engine;
use super::event::StepError;
use super::loops;
use super::model::{Entered, Outputs, Task, TaskBody};
use super::resolve;
use super::state::{Group, MAX_DEPTH, MAX_TASKS, RunState, missing};
use super::status::{TaskAction, TaskKind, TaskStatus};

impl Engine<'_> {
    /// Creates the root task and opens it.
    pub(super) fn create_root(&mut self) -> Result<(), StepError> {
        let plan = self.plan();
        let id = TaskId((self.ids)());
        let mut root = self.new_task(id, TaskKind::Root, "root");
        root.body.display_name.clone_from(&plan.display_name);
        self.insert(root);
        self.state.root = Some(id);
        self.open_root(id)
    }

    /// Opens the root with what the run was given.
    pub(super) fn open_root(&mut self, id: TaskId) -> Result<(), StepError> {
        if self.state.planned_tasks.is_none() {
            let message = format!(
                "the pipeline comes to more than {MAX_TASKS} tasks, or is nested deeper than {MAX_DEPTH}"
            );
            return self.fail(id, "TOO_MANY_TASKS", message);
        }
        match resolve::root_inputs(self.state, self.state.task(id)?) {
            Ok(inputs) => {
                if !self.set_inputs(id, inputs)? {
                    return Ok(());
                }
            }
            Err(unresolved) => return self.fail_unresolved(id, &unresolved),
        }
        self.open_group(id)
    }

    /// Starts a task whose dependencies have all ended as it wants it, unless its condition says otherwise.
    pub(super) fn begin(&mut self, id: TaskId) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        // A failure, or the end of the run, may have come between.
        if task.status != TaskStatus::Pending {
            return Ok(());
        }
        let kind = task.kind;
        let iteration = self.state.is_iteration(task)?;
        let inputs = if iteration {
            loops::iteration_inputs(self.state, task)?
        } else {
            match resolve::inputs(self.state, task) {
                Ok(inputs) => inputs,
                Err(unresolved) => return self.fail_unresolved(id, &unresolved),
            }
        };
        // The condition of a loop decides about the whole of it.
        let unmet = if iteration {
            Ok(None)
        } else {
            condition::unmet(self.state, task, &inputs)
        };
        let entries = inputs.parameters.len() + inputs.channels.len() + inputs.artifacts.len();
        self.state.operations += entries as u64;
        if !self.set_inputs(id, inputs)? {
            return Ok(());
        }
        match unmet {
            Ok(None) => {}
            Ok(Some(why)) => {
                let message = format!("not run because the condition is false: {why}");
                return self.act_because(id, TaskAction::Skip, "CONDITION_FALSE", message);
            }
            Err(error) => return self.fail(id, "CONDITION_FAILED", error.to_string()),
        }
        match kind {
            TaskKind::Container => self.begin_program(id),
            TaskKind::Importer => self.begin_import(id),
            TaskKind::Root | TaskKind::Dag => self.open_group(id),
            TaskKind::Loop => self.open_loop(id),
        }
    }

    /// Creates the tasks of a group and starts those that wait for nothing.
    fn open_group(&mut self, id: TaskId) -> Result<(), StepError> {
        if self.state.groups.contains_key(&id) {
            self.act(id, TaskAction::Open)?;
            return self.reopen_group(id);
        }
        let plan = self.plan();
        let task = self.state.task(id)?;
        if let Some((reason, message)) = self.too_much(task, dag_of(&plan, task)?.order.len()) {
            return self.fail(id, reason, message);
        }
        self.act(id, TaskAction::Open)?;
        let task = self.state.task(id)?;
        let shape = self.state.shape(task)?;
        let (path, iteration) = (task.path.clone(), task.iteration);
        let dag = dag_of(&plan, task)?;
        let children: Vec<TaskId> = dag.order.iter().map(|_| TaskId((self.ids)())).collect();
        for (at, name) in dag.order.iter().enumerate() {
            let planned = dag.tasks.get(name).ok_or_else(|| missing("task", name))?;
            let kind = match planned.iterator {
                Some(_) => TaskKind::Loop,
                None => kind_of(&plan, &planned.component)?,
            };
            let mut child = self.new_task(children[at], kind, name);
            child.parent = Some(id);
            child.iteration = iteration;
            child.path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            child.body.component.clone_from(&planned.component);
            child.body.display_name.clone_from(&planned.display_name);
            let dependencies = shape.dependencies[at].iter();
            child.body.dependencies = dependencies.map(|on| children[*on]).collect();
            if child.body.dependencies.is_empty() {
                self.ready.push_back(child.id);
            }
            self.insert(child);
        }
        let empty = children.is_empty();
        self.state.groups.insert(id, Group::new(shape, children));
        if empty { self.end_group(id) } else { Ok(()) }
    }

    pub(super) fn new_task(&self, id: TaskId, kind: TaskKind, name: &str) -> Task {
        let status = TaskStatus::Pending;
        Task {
            id,
            run_id: self.state.run.id,
            parent: None,
            name: name.to_owned(),
            path: String::new(),
            kind,
            status,
            iteration: -1,
            created_at: self.now,
            started_at: None,
            ended_at: None,
            version: 0,
            body: TaskBody {
                history: vec![Entered {
                    status,
                    at: self.now,
                }],
                ..TaskBody::default()
            },
        }
    }

    /// Tells the group that one of its tasks has ended.
    pub(super) fn settle(&mut self, id: TaskId) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        let (status, name) = (task.status, task.name.clone());
        let Some(parent) = task.parent else {
            return self.end_run(id);
        };
        let group = self.state.group_mut(parent)?;
        group.unended -= 1;
        let (unended, loops) = (group.unended, group.iterations.is_some());
        debug_assert!(status.ended(), "task {id} has not ended");
        if self.state.task(parent)?.status.ended() {
            // It ended before its tasks, without having been opened again.
            return self.waiting_iteration(parent).map(drop);
        }
        if status == TaskStatus::Failed {
            self.stop_group(parent, id)?;
        }
        if loops && status == TaskStatus::Skipped {
            // It never had a turn to hand on.
            self.waiting_iteration(parent)?;
        } else if loops {
            self.next_iteration(parent)?;
        } else {
            self.tell_dependents(parent, id, status, &name)?;
        }
        if unended == 0 {
            self.end_group(parent)
        } else {
            Ok(())
        }
    }

    /// Lets the tasks that wait for a task come nearer to their start, or skips them with it.
    fn tell_dependents(
        &mut self,
        parent: TaskId,
        id: TaskId,
        status: TaskStatus,
        name: &str,
    ) -> Result<(), StepError> {
        let shape = Arc::clone(&self.state.group(parent)?.shape);
        let at = *shape
            .positions
            .get(name)
            .ok_or_else(|| missing("task", name))?;
        let mut omitted = Vec::new();
        for dependent in &shape.dependents[at] {
            let met = shape.met(*dependent, self.state.task(id)?);
            let group = self.state.group_mut(parent)?;
            if met {
                group.waiting[*dependent] -= 1;
                if group.waiting[*dependent] == 0 {
                    self.ready.push_back(group.children[*dependent]);
                }
            } else if matches!(status, TaskStatus::Skipped | TaskStatus::Canceled) {
                omitted.push(group.children[*dependent]);
            }
        }
        self.state.operations += shape.dependents[at].len() as u64;
        if omitted.is_empty() {
            return Ok(());
        }
        let skipped = self.state.task(id)?.label();
        let message = format!("not started because `{skipped}` was skipped");
        for dependent in omitted {
            if self.state.task(dependent)?.status != TaskStatus::Pending {
                continue;
            }
            if status == TaskStatus::Canceled {
                self.cancel(dependent)?;
            } else {
                self.act_because(
                    dependent,
                    TaskAction::Skip,
                    "UPSTREAM_SKIPPED",
                    message.clone(),
                )?;
            }
        }
        Ok(())
    }

    /// After a failure nothing new starts in the group but what waits for ends of any kind; what runs goes on.
    fn stop_group(&mut self, parent: TaskId, failed: TaskId) -> Result<(), StepError> {
        if self.state.task(parent)?.body.failed_child.is_some() {
            return Ok(());
        }
        self.task_mut(parent)?.body.failed_child = Some(failed);
        let message = format!(
            "not started because `{}` failed",
            self.state.task(failed)?.label()
        );
        let group = self.state.group(parent)?;
        let any_end = |at: usize| group.shape.any_end.get(at).is_some_and(|any| *any);
        let ordinary: Vec<TaskId> = (group.children.iter().enumerate())
            .filter(|(at, _)| !any_end(*at))
            .map(|(_, child)| *child)
            .collect();
        self.state.operations += ordinary.len() as u64;
        for child in ordinary {
            if self.state.task(child)?.status == TaskStatus::Pending {
                self.act_because(child, TaskAction::Skip, "UPSTREAM_FAILED", message.clone())?;
            }
        }
        Ok(())
    }

    /// Ends a group all of whose tasks have ended.
    pub(super) fn end_group(&mut self, id: TaskId) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        if task.status == TaskStatus::Canceling {
            return self.act(id, TaskAction::End);
        }
        if let Some(failed) = task.body.failed_child {
            let message = format!("`{}` failed", self.state.task(failed)?.label());
            return self.fail(id, "INNER_TASK_FAILED", message);
        }
        let outputs = match task.kind {
            TaskKind::Loop => loops::gathered(self.state, task)?,
            TaskKind::Root | TaskKind::Dag | TaskKind::Container | TaskKind::Importer => {
                group_outputs(self.state, task)?
            }
        };
        let gathered = outputs.parameters.len() + outputs.artifacts.len();
        self.state.operations += gathered as u64;
        self.task_mut(id)?.body.outputs = outputs;
        self.act(id, TaskAction::Succeed)
    }
}

/// What a group puts out: of a parameter the first candidate that is there, of an artifact all of them.
fn group_outputs(state: &RunState, task: &Task) -> Result<Outputs, StepError> {
    let dag = state.dag(task)?;
    let mut outputs = Outputs::default();
    let produced = |selector: &OutputSelector| -> Result<Option<&Outputs>, StepError> {
        let producer = state.sibling(task.id, &selector.task)?;
        Ok(match producer.status {
            TaskStatus::Succeeded | TaskStatus::Cached => Some(&producer.body.outputs),
            TaskStatus::Pending
            | TaskStatus::Ready
            | TaskStatus::Running
            | TaskStatus::Failed
            | TaskStatus::Skipped
            | TaskStatus::Canceling
            | TaskStatus::Canceled => None,
        })
    };
    for (name, candidates) in &dag.output_parameters {
        for selector in candidates {
            let value = produced(selector)?.and_then(|from| from.parameters.get(&selector.output));
            if let Some(value) = value {
                outputs.parameters.insert(name.clone(), value.clone());
                break;
            }
        }
    }
    for (name, candidates) in &dag.output_artifacts {
        for selector in candidates {
            let found = produced(selector)?.and_then(|from| from.artifacts.get(&selector.output));
            if let Some(found) = found {
                outputs
                    .artifacts
                    .entry(name.clone())
                    .or_default()
                    .extend(found);
            }
        }
    }
    Ok(outputs)
}

fn dag_of<'a>(plan: &'a Plan, task: &Task) -> Result<&'a Dag, StepError> {
    let component = match task.kind {
        TaskKind::Root => Some(&plan.root),
        TaskKind::Dag | TaskKind::Container | TaskKind::Importer | TaskKind::Loop => {
            plan.components.get(&task.body.component)
        }
    };
    match component.map(|component| &component.body) {
        Some(Body::Dag(dag)) => Ok(dag),
        Some(Body::Executor(_)) | None => Err(missing("group of task", task.label())),
    }
}

/// What a task of a component is, apart from loops.
pub(super) fn kind_of(plan: &Plan, component: &str) -> Result<TaskKind, StepError> {
    let known = plan.components.get(component);
    match &known.ok_or_else(|| missing("component", component))?.body {
        Body::Dag(_) => Ok(TaskKind::Dag),
        Body::Executor(label) => match plan.executors.get(label) {
            Some(Executor::Container(_)) => Ok(TaskKind::Container),
            Some(Executor::Importer(_)) => Ok(TaskKind::Importer),
            None => Err(missing("executor", label)),
        },
    }
}
