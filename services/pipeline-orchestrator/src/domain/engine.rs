//! The engine: what an event does to a run.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use clock::Timestamp;
use ids::TaskId;

use super::event::{Effect, Event, Outcome, StepError};
use super::model::{Cancel, Entered, Run, Task};
use super::resolve::Unresolved;
use super::state::RunState;
use super::status::{RunAction, RunStatus, TaskAction, TaskKind, TaskStatus};

/// Takes an event into a run.
///
/// `ids` gives a number that was never given before; [`RunState::ids_needed`] says how many it may be asked for. What
/// changed is to be written in one transaction, then the effects are to be done.
///
/// # Errors
/// The run is not what the engine made; `state` is then not to be used any more.
pub fn step(
    state: &mut RunState,
    event: Event,
    now: Timestamp,
    ids: &mut dyn FnMut() -> i64,
) -> Result<Outcome, StepError> {
    let mut engine = Engine {
        state,
        now,
        ids,
        outcome: Outcome::default(),
        touched: HashSet::new(),
        ended: VecDeque::new(),
        ready: VecDeque::new(),
    };
    match event {
        Event::Start => engine.start()?,
        Event::Workload(update) => engine.workload_updated(update)?,
        Event::LaunchRefused {
            workload_id,
            reason,
            message,
        } => {
            engine.launch_refused(&workload_id, reason, message)?;
        }
        Event::LaunchDelayed { workload_id, cause } => {
            engine.launch_delayed(&workload_id, &cause)?;
        }
        Event::ArtifactLookedUp { task, found } => {
            engine.artifact_looked_up(task, found.map(|artifact| *artifact))?;
        }
        Event::CacheLookedUp { task, answer } => engine.cache_looked_up(task, answer)?,
        Event::Timer => engine.timer()?,
        Event::Terminate { reason, exit_tasks } => engine.terminate(reason, exit_tasks)?,
    }
    engine.drain()?;
    Ok(engine.finish())
}

/// One step in the making.
pub(super) struct Engine<'a> {
    pub(super) state: &'a mut RunState,
    pub(super) now: Timestamp,
    pub(super) ids: &'a mut dyn FnMut() -> i64,
    pub(super) outcome: Outcome,
    touched: HashSet<TaskId>,
    /// Tasks that ended and whose groups do not know yet. They go first, so that a failure is known before anything
    /// else starts.
    ended: VecDeque<TaskId>,
    /// Tasks whose dependencies have all succeeded.
    pub(super) ready: VecDeque<TaskId>,
}

impl Engine<'_> {
    fn start(&mut self) -> Result<(), StepError> {
        match self.state.run.status {
            RunStatus::Pending => {}
            RunStatus::Running
            | RunStatus::Succeeded
            | RunStatus::Failed
            | RunStatus::Canceling
            | RunStatus::Canceled => return Ok(()),
        }
        self.act_run(RunAction::Start)?;
        self.set_deadline();
        match self.state.root {
            None => self.create_root(),
            Some(root) => self.resume(root),
        }
    }

    fn terminate(&mut self, reason: String, exit_tasks: bool) -> Result<(), StepError> {
        self.stop_run(Cancel {
            reason,
            at: self.now,
            overdue: false,
            exit_tasks,
        })
    }

    /// Stops a run, once. Exit tasks, which wait for ends of any kind, are left alone with all that is inside them: they
    /// start when what they wait for has been stopped, unless that never began. Only who asks again stops them too.
    pub(super) fn stop_run(&mut self, cancel: Cancel) -> Result<(), StepError> {
        let run = &mut self.state.run;
        if run.status.ended() {
            return Ok(());
        }
        let everything = cancel.exit_tasks;
        match &mut run.body.cancel {
            Some(known) if known.exit_tasks || !everything => return Ok(()),
            Some(known) => {
                known.exit_tasks = true;
                self.outcome.changes.run = true;
            }
            none => {
                *none = Some(cancel);
                if run.status == RunStatus::Pending {
                    return self.end_run_stopped();
                }
                self.act_run(RunAction::Cancel)?;
            }
        }
        self.stop_tasks(everything)
    }

    fn stop_tasks(&mut self, exit_tasks: bool) -> Result<(), StepError> {
        let mut spared: HashSet<TaskId> = HashSet::new();
        let mut stopped = Vec::new();
        // Groups come before their tasks.
        for task in self
            .state
            .tasks
            .values()
            .filter(|task| !task.status.ended())
        {
            let inside = task.parent.is_some_and(|parent| spared.contains(&parent));
            if !exit_tasks && (inside || self.state.any_end(task)) {
                spared.insert(task.id);
            } else if task.status != TaskStatus::Canceling {
                stopped.push(task.id);
            }
        }
        for id in stopped {
            // A group that a retry of the run reset ends with all that is inside it.
            if !self.state.task(id)?.status.ended() {
                self.cancel(id)?;
            }
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: TaskId) -> Result<(), StepError> {
        let (cause, reason) = self.state.stop_cause();
        let task = self.state.task(id)?;
        if task.status == TaskStatus::Pending {
            let message = "not started because the run was stopped".to_owned();
            return self.act_because(id, TaskAction::End, cause, message);
        }
        let stop = task
            .open_attempt()
            .map(|attempt| attempt.workload_id.clone());
        let kind = task.kind;
        self.wait_until(id, None)?;
        self.act_because(id, TaskAction::Cancel, cause, reason.clone())?;
        match (kind, stop) {
            (TaskKind::Container, Some(workload_id)) => {
                self.outcome.effects.push(Effect::Stop {
                    workload_id,
                    reason,
                });
            }
            // Its next attempt was still to be committed.
            (TaskKind::Container, None) => self.act(id, TaskAction::End)?,
            // A question that is asked can be left alone.
            (TaskKind::Importer, _) => self.act(id, TaskAction::End)?,
            (TaskKind::Root | TaskKind::Dag | TaskKind::Loop, _) => {}
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), StepError> {
        loop {
            if let Some(id) = self.ended.pop_front() {
                self.settle(id)?;
            } else if let Some(id) = self.ready.pop_front() {
                self.begin(id)?;
            } else {
                self.launch_held()?;
                if self.ended.is_empty() {
                    return Ok(());
                }
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let changes = &mut self.outcome.changes;
        if self.touched.is_empty() && !changes.run && changes.artifacts.is_empty() {
            return self.outcome;
        }
        changes.run = true;
        self.state.run.version += 1;
        let version = self.state.run.version;
        for id in changes.inserted.iter().chain(&changes.updated) {
            if let Some(task) = self.state.tasks.get_mut(id) {
                task.version = version;
            }
        }
        self.outcome
    }

    /// Ends the run as its root ended.
    pub(super) fn end_run(&mut self, root: TaskId) -> Result<(), StepError> {
        let root = self.state.task(root)?;
        match root.status {
            TaskStatus::Succeeded | TaskStatus::Cached => {
                self.state.run.body.outputs = root.body.outputs.clone();
                self.act_run(RunAction::Succeed)?;
            }
            TaskStatus::Failed => {
                let message = self.failure();
                let body = &mut self.state.run.body;
                (body.reason, body.message) = ("TASK_FAILED".to_owned(), message);
                self.act_run(RunAction::Fail)?;
            }
            TaskStatus::Canceled => return self.end_run_stopped(),
            // The root waits for nothing, and only tasks that ended are settled.
            TaskStatus::Pending
            | TaskStatus::Ready
            | TaskStatus::Running
            | TaskStatus::Canceling
            | TaskStatus::Skipped => {}
        }
        Ok(())
    }

    fn end_run_stopped(&mut self) -> Result<(), StepError> {
        let failure = self.state.run.body.failed_task.map(|_| self.failure());
        let (cause, reason) = self.state.stop_cause();
        let mut message = format!("stopped: {reason}");
        if let Some(failure) = failure {
            message = format!("{message}; before that {failure}");
        }
        let body = &mut self.state.run.body;
        (body.reason, body.message) = (cause.to_owned(), message);
        let overdue = body.cancel.as_ref().is_some_and(|cancel| cancel.overdue);
        self.act_run(if overdue {
            RunAction::Fail
        } else {
            RunAction::End
        })
    }

    /// One sentence about the failure that decided the run.
    fn failure(&self) -> String {
        let failed = self
            .state
            .run
            .body
            .failed_task
            .and_then(|id| self.state.get(id));
        match failed {
            Some(task) if task.kind == TaskKind::Root => task.body.message.clone(),
            Some(task) => format!("`{}` failed: {}", task.label(), task.body.message),
            None => "a task failed".to_owned(),
        }
    }

    /// Moves the run.
    fn act_run(&mut self, action: RunAction) -> Result<(), StepError> {
        let Run {
            status,
            finished_at,
            body,
            ..
        } = &mut self.state.run;
        *status = status.after(action).map_err(StepError::IllegalRunMove)?;
        body.history.push(Entered {
            status: *status,
            at: self.now,
        });
        self.outcome.changes.run = true;
        if status.ended() {
            *finished_at = Some(self.now);
            self.outcome.effects.push(Effect::RunEnded);
        }
        Ok(())
    }

    /// Moves a task.
    pub(super) fn act(&mut self, id: TaskId, action: TaskAction) -> Result<(), StepError> {
        let now = self.now;
        let task = self.task_mut(id)?;
        let (before, open) = (task.status, task.is_open_program());
        let after = before
            .after(action)
            .map_err(|illegal| StepError::IllegalTaskMove { task: id, illegal })?;
        task.status = after;
        task.body.history.push(Entered {
            status: after,
            at: now,
        });
        let opened = task.is_open_program();
        if after.ended() {
            task.ended_at = Some(now);
            let leads = task.leads();
            if task.kind == TaskKind::Importer {
                self.state.open_importers -= 1;
            }
            if leads {
                self.outcome.changes.cache.push(id);
            }
            self.ended.push_back(id);
        } else if before.ended() {
            task.ended_at = None;
            self.state.open_importers += usize::from(task.kind == TaskKind::Importer);
        }
        self.count_program(id, open, opened);
        let counts = &mut self.state.run.body.task_counts;
        if let Some(count) = counts.get_mut(&before) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&before);
            }
        }
        *counts.entry(after).or_default() += 1;
        if before == TaskStatus::Pending && after.ended() {
            self.end_inside(id)?;
        }
        Ok(())
    }

    /// Counts the programs that the run executes; those that wait for others are not among them.
    fn count_program(&mut self, id: TaskId, before: bool, after: bool) {
        let state = &mut self.state;
        if before && !state.held.remove(&id) {
            state.programs -= 1;
        }
        if after && !state.held.contains(&id) {
            state.programs += 1;
        }
    }

    /// Moves a task and says why.
    pub(super) fn act_because(
        &mut self,
        id: TaskId,
        action: TaskAction,
        reason: &str,
        message: String,
    ) -> Result<(), StepError> {
        let body = &mut self.task_mut(id)?.body;
        (body.reason, body.message) = (reason.to_owned(), message);
        self.act(id, action)
    }

    /// Fails a task; the first one that is no group decides the run.
    pub(super) fn fail(
        &mut self,
        id: TaskId,
        reason: &str,
        message: String,
    ) -> Result<(), StepError> {
        let run = &mut self.state.run;
        if run.status == RunStatus::Running && run.body.failed_task.is_none() {
            run.body.failed_task = Some(id);
        }
        self.act_because(id, TaskAction::Fail, reason, message)
    }

    pub(super) fn fail_unresolved(
        &mut self,
        id: TaskId,
        unresolved: &Unresolved,
    ) -> Result<(), StepError> {
        self.fail(id, "INPUT_UNRESOLVED", unresolved.to_string())
    }

    /// Notes when a program started, also on the groups around it.
    pub(super) fn mark_started(&mut self, id: TaskId, at: Timestamp) -> Result<(), StepError> {
        let mut next = Some(id);
        while let Some(id) = next {
            let task = self.state.task(id)?;
            if task.started_at.is_some() {
                break;
            }
            let task = self.task_mut(id)?;
            task.started_at = Some(at);
            next = task.parent;
        }
        Ok(())
    }

    /// A task that is going to change.
    pub(super) fn task_mut(&mut self, id: TaskId) -> Result<&mut Task, StepError> {
        self.state.operations += 1;
        if self.touched.insert(id) {
            self.outcome.changes.updated.push(id);
        }
        let missing = || super::state::missing("task", id);
        self.state.tasks.get_mut(&id).ok_or_else(missing)
    }

    /// A task that comes to be.
    pub(super) fn insert(&mut self, task: Task) {
        self.state.operations += 1;
        self.touched.insert(task.id);
        self.state.open_importers += usize::from(task.kind == TaskKind::Importer);
        self.outcome.changes.inserted.push(task.id);
        *self
            .state
            .run
            .body
            .task_counts
            .entry(task.status)
            .or_default() += 1;
        self.state.tasks.insert(task.id, task);
    }

    /// The plan, apart from the state that is about to change.
    pub(super) fn plan(&self) -> Arc<pipeline_spec::plan::Plan> {
        Arc::clone(&self.state.plan)
    }
}
