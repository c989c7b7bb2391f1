//! Attempts: committing them, following their workloads, taking over what they produced.

use ids::{ArtifactId, TaskId, WorkloadId};

use super::engine::Engine;
use super::event::{Effect, StepError, StepReport, WorkloadState, WorkloadUpdate};
use super::launch;
use super::model::{Artifact, Attempt, Task};
use super::platform;
use super::state::parse_workload_id;
use super::status::{Advance, AttemptStatus, TaskAction, TaskKind, TaskStatus};

/// The reason of a program that the runner does not take yet.
const NOT_TAKEN: &str = "LAUNCH_WAITS";
/// Characters of what the runner says about that.
const MAX_CAUSE: usize = 1_000;
/// The reason of a program that waits for others of its run to end.
pub(super) const HELD: &str = "PARALLELISM";

impl Task {
    /// Whether it waits for other programs of the run to end.
    pub(super) fn held(&self) -> bool {
        self.status == TaskStatus::Ready && self.body.reason == HELD
    }

    /// Whether it is a program that was begun and has not ended.
    pub(super) fn is_open_program(&self) -> bool {
        self.kind == TaskKind::Container
            && match self.status {
                TaskStatus::Ready | TaskStatus::Running | TaskStatus::Canceling => true,
                TaskStatus::Pending
                | TaskStatus::Succeeded
                | TaskStatus::Cached
                | TaskStatus::Failed
                | TaskStatus::Skipped
                | TaskStatus::Canceled => false,
            }
    }
}

impl Engine<'_> {
    /// Commits the first attempt of a program.
    pub(super) fn begin_program(&mut self, id: TaskId) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        let container = launch::container(self.state, task)?;
        // Names may come from values, so it is asked now what the launch will ask for again.
        let asked = platform::platform(self.state, task, container, &task.body.inputs);
        let volumes = match asked {
            Ok(asked) => asked.volumes(),
            Err(unresolved) => return self.fail_unresolved(id, &unresolved),
        };
        let must_run = platform::must_run(self.state, container);
        match launch::settings(task, container, &task.body.inputs, &Default::default()) {
            Ok(settings) => {
                self.task_mut(id)?.body.image.clone_from(&settings.image);
                if !must_run && self.asks_cache(id, &settings, &volumes)? {
                    return Ok(());
                }
            }
            Err(unresolved) => return self.fail_unresolved(id, &unresolved),
        }
        self.launch_program(id)
    }

    /// Commits an attempt, or lets the program wait for others to end.
    pub(super) fn launch_program(&mut self, id: TaskId) -> Result<(), StepError> {
        match self.state.plan.parallelism() {
            // Who waits already goes first.
            Some(limit) if self.state.programs >= limit || !self.state.held.is_empty() => {
                let message = format!("waits because the run executes at most {limit} at a time");
                self.state.held.insert(id);
                self.act_because(id, TaskAction::Launch, HELD, message)
            }
            Some(_) | None => {
                self.act(id, TaskAction::Launch)?;
                self.add_attempt(id)
            }
        }
    }

    /// Launches programs that waited for others to end.
    pub(super) fn launch_held(&mut self) -> Result<(), StepError> {
        let limit = self.state.plan.parallelism().unwrap_or(u64::MAX);
        while self.state.programs < limit
            && let Some(id) = self.state.held.first().copied()
        {
            let task = self.state.task(id)?;
            if self.state.stopped_by_failure(task)? {
                let message = "not started because another task of its group failed".to_owned();
                self.act_because(id, TaskAction::Cancel, "GROUP_FAILED", message)?;
                self.act(id, TaskAction::End)?;
                continue;
            }
            let body = &mut self.task_mut(id)?.body;
            body.reason.clear();
            body.message.clear();
            self.state.held.remove(&id);
            self.state.programs += 1;
            self.add_attempt(id)?;
        }
        Ok(())
    }

    pub(super) fn add_attempt(&mut self, id: TaskId) -> Result<(), StepError> {
        let (run, now) = (self.state.run.id, self.now);
        let attempts = &mut self.task_mut(id)?.body.attempts;
        let number = attempts.last().map_or(1, |last| last.number + 1);
        let attempt = Attempt::new(run, id, number, now);
        let workload_id = attempt.workload_id.clone();
        attempts.push(attempt);
        self.outcome.effects.push(Effect::Launch {
            task: id,
            attempt: number,
            workload_id,
        });
        Ok(())
    }

    /// The task whose newest attempt the workload is, while that is open.
    fn open_task(&self, workload: &WorkloadId) -> Option<&Task> {
        let (run, task, _) = parse_workload_id(workload)?;
        let task = self.state.get(task).filter(|_| run == self.state.run.id)?;
        let attempt = task.open_attempt()?;
        (attempt.workload_id == *workload).then_some(task)
    }

    /// Takes in what the runner says about a workload.
    pub(super) fn workload_updated(&mut self, update: WorkloadUpdate) -> Result<(), StepError> {
        let Some(task) = self.open_task(&update.workload_id) else {
            return Ok(());
        };
        let Some(attempt) = task.open_attempt() else {
            return Ok(());
        };
        if update.version <= attempt.seen_version {
            return Ok(());
        }
        match attempt.status.advance(update.state.status()) {
            Advance::Enter | Advance::Same => {}
            Advance::Stale => return Ok(()),
        }
        let id = task.id;
        let mut next = described(attempt, &update);
        if next == *attempt {
            return Ok(());
        }
        next.seen_version = update.version;
        if next.status.ended() && next.ended_at.is_none() {
            next.ended_at = Some(self.now);
        }
        if next.status == AttemptStatus::Preparing && next.preparing_at.is_none() {
            next.preparing_at = Some(self.now);
        }
        if next.status == AttemptStatus::Running && next.started_at.is_none() {
            next.started_at = Some(self.now);
        }
        let started_at = next.started_at;
        let body = &mut self.task_mut(id)?.body;
        if body.reason == NOT_TAKEN {
            body.reason.clear();
            body.message.clear();
        }
        if let Some(last) = body.attempts.last_mut() {
            *last = next;
        }
        if let Some(at) = started_at {
            self.mark_started(id, at)?;
        }
        self.follow(id, update)
    }

    /// Moves the task as its attempt moved.
    fn follow(&mut self, id: TaskId, update: WorkloadUpdate) -> Result<(), StepError> {
        let status = self.state.task(id)?.status;
        let canceling = status == TaskStatus::Canceling;
        let WorkloadUpdate {
            state,
            reason,
            message,
            ..
        } = update;
        match state {
            WorkloadState::Queued { .. } | WorkloadState::Preparing | WorkloadState::Stopping => {
                Ok(())
            }
            WorkloadState::Running if status == TaskStatus::Ready => self.act(id, TaskAction::Run),
            WorkloadState::Running => Ok(()),
            WorkloadState::Succeeded(report) => self.succeed(id, *report),
            WorkloadState::Failed(_) => self.retry_or_fail(id, or(&reason, "FAILED"), message),
            WorkloadState::Stopped(_) | WorkloadState::Lost if canceling => {
                self.act(id, TaskAction::End)
            }
            WorkloadState::Stopped(_) => {
                let message = if message.is_empty() {
                    "its program was stopped from outside".to_owned()
                } else {
                    message
                };
                self.fail(id, or(&reason, "STOPPED"), message)
            }
            WorkloadState::Lost => self.repeat_lost(id, &message),
        }
    }

    /// Repeats a lost attempt as a new one while the budget lasts and the result can still matter.
    fn repeat_lost(&mut self, id: TaskId, message: &str) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        let lost = task.ended_so(AttemptStatus::Lost);
        let budget = self.state.run.body.lost_budget;
        let group_failed = self.state.stopped_by_failure(task)?;
        if !group_failed && lost <= budget as usize {
            self.act(id, TaskAction::Repeat)?;
            return self.add_attempt(id);
        }
        let message = match (group_failed, lost) {
            (true, _) => format!("lost, and not repeated because the run has failed: {message}"),
            (false, 1) => format!("lost: {message}"),
            (false, _) => format!("lost {lost} times: {message}"),
        };
        self.fail(id, "LOST", message.trim_end_matches([':', ' ']).to_owned())
    }

    /// Makes what an attempt produced the task's.
    fn succeed(&mut self, id: TaskId, report: StepReport) -> Result<(), StepError> {
        let plan = self.plan();
        let component = plan.components.get(&self.state.task(id)?.body.component);
        let component = component.ok_or_else(|| super::state::missing("component of task", id))?;
        let mut outputs = super::model::Outputs {
            parameters: report.parameters,
            ..Default::default()
        };
        outputs
            .parameters
            .retain(|name, _| component.output_parameters.contains_key(name));
        let task = self.state.task(id)?;
        if let Ok(container) = launch::container(self.state, task)
            && platform::is_volume_task(container)
        {
            let known = platform::volume_outputs(self.state, task, container)
                .map_err(|unresolved| StepError::Inconsistent(unresolved.to_string()))?;
            outputs.parameters.extend(known);
        }
        for (name, produced) in report.artifacts {
            // The executor may report more than the component declares; nobody can refer to that.
            let Some(declared) = component.output_artifacts.get(&name) else {
                continue;
            };
            let mut list = Vec::with_capacity(produced.len());
            for one in produced {
                let untyped = one.artifact_type == Default::default();
                let artifact_type = if untyped {
                    declared.artifact_type.clone()
                } else {
                    one.artifact_type
                };
                let artifact = Artifact {
                    id: ArtifactId((self.ids)()),
                    run_id: self.state.run.id,
                    task_id: id,
                    name: if one.name.is_empty() {
                        name.clone()
                    } else {
                        one.name
                    },
                    artifact_type,
                    uri: one.uri,
                    metadata: one.metadata,
                    size_bytes: one.size_bytes,
                    sha256: one.sha256,
                    present: one.present,
                    directory: one.directory,
                    created_at: self.now,
                };
                list.push(artifact.id);
                self.outcome.changes.artifacts.push(artifact.id);
                self.state.artifacts.insert(artifact.id, artifact.into());
            }
            outputs.artifacts.insert(name, list);
        }
        self.task_mut(id)?.body.outputs = outputs;
        self.act(id, TaskAction::Succeed)
    }

    /// The runner does not take an attempt yet: the task says so until it does.
    pub(super) fn launch_delayed(
        &mut self,
        workload: &WorkloadId,
        cause: &str,
    ) -> Result<(), StepError> {
        let Some(task) = self.open_task(workload) else {
            return Ok(());
        };
        let committed = |attempt: &Attempt| attempt.status == AttemptStatus::Committed;
        if task.status != TaskStatus::Ready || !task.open_attempt().is_some_and(committed) {
            return Ok(());
        }
        let cause: String = cause.chars().take(MAX_CAUSE).collect();
        let message = format!("the runner does not take it yet and is asked again: {cause}");
        let id = task.id;
        if task.body.reason == NOT_TAKEN && task.body.message == message {
            return Ok(());
        }
        let body = &mut self.task_mut(id)?.body;
        if let Some(attempt) = body.attempts.last_mut() {
            NOT_TAKEN.clone_into(&mut attempt.reason);
            attempt.message.clone_from(&message);
        }
        (body.reason, body.message) = (NOT_TAKEN.to_owned(), message);
        Ok(())
    }

    /// The runner will never run an attempt.
    pub(super) fn launch_refused(
        &mut self,
        workload: &WorkloadId,
        reason: String,
        message: String,
    ) -> Result<(), StepError> {
        let Some(task) = self.open_task(workload) else {
            return Ok(());
        };
        let (id, canceling) = (task.id, task.status == TaskStatus::Canceling);
        let accepted = |attempt: &Attempt| attempt.status != AttemptStatus::Committed;
        if task.open_attempt().is_none_or(accepted) {
            return Ok(());
        }
        let now = self.now;
        if let Some(attempt) = self.task_mut(id)?.body.attempts.last_mut() {
            attempt.status = AttemptStatus::Failed;
            attempt.reason.clone_from(&reason);
            attempt.message.clone_from(&message);
            attempt.ended_at = Some(now);
        }
        if canceling {
            return self.act(id, TaskAction::End);
        }
        self.fail(id, or(&reason, "LAUNCH_REFUSED"), message)
    }
}

fn or<'a>(reason: &'a str, otherwise: &'a str) -> &'a str {
    if reason.is_empty() { otherwise } else { reason }
}

/// The attempt as an update describes it.
fn described(attempt: &Attempt, update: &WorkloadUpdate) -> Attempt {
    let mut next = attempt.clone();
    next.status = update.state.status();
    next.reason.clone_from(&update.reason);
    next.message.clone_from(&update.message);
    next.notes.clone_from(&update.notes);
    next.queue_position = match update.state {
        WorkloadState::Queued { position } => position,
        WorkloadState::Preparing
        | WorkloadState::Running
        | WorkloadState::Stopping
        | WorkloadState::Succeeded(_)
        | WorkloadState::Failed(_)
        | WorkloadState::Stopped(_)
        | WorkloadState::Lost => 0,
    };
    next.started_at = update.started_at.or(next.started_at);
    next.ended_at = update.ended_at.or(next.ended_at);
    if let Some(report) = update.state.report() {
        next.exit_code = report.exit_code;
        next.signal = report.signal;
        next.usage = report.usage;
        next.prepare_us = report.prepare_us;
        next.collect_us = report.collect_us;
        next.started_at = report.started_at.or(next.started_at);
        next.ended_at = report.ended_at.or(next.ended_at);
    }
    next
}
