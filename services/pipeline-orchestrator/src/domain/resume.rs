//! Retrying a run that ended without success: what failed, was skipped or was stopped is executed again; what
//! succeeded stays, with its id, its outputs and its history.

use clock::Timestamp;
use ids::TaskId;

use super::engine::Engine;
use super::event::StepError;
use super::loops;
use super::model::{Entered, Outputs, Run};
use super::status::{IllegalMove, RunAction, TaskAction, TaskKind, TaskStatus};

impl Run {
    /// Makes a run that ended without success one that has not started; the engine goes on from what its tasks are.
    ///
    /// # Errors
    /// The run has not ended, or it succeeded.
    pub fn retry(&mut self, now: Timestamp) -> Result<(), IllegalMove> {
        self.status = self.status.after(RunAction::Retry)?;
        self.finished_at = None;
        self.version += 1;
        let body = &mut self.body;
        body.history.push(Entered {
            status: self.status,
            at: now,
        });
        body.outputs = Outputs::default();
        body.reason.clear();
        body.message.clear();
        (body.failed_task, body.cancel, body.deadline) = (None, None, None);
        Ok(())
    }
}

impl Engine<'_> {
    /// Starts a run that has tasks already.
    pub(super) fn resume(&mut self, root: TaskId) -> Result<(), StepError> {
        // A run that was given up in the middle has open tasks, and simply goes on.
        if !self.state.task(root)?.status.ended() {
            return Ok(());
        }
        self.reset(root, false)?;
        self.open_root(root)
    }

    /// Makes a task one that has not started, with what is to be executed again inside it; `whole` for all of that.
    fn reset(&mut self, id: TaskId, whole: bool) -> Result<(), StepError> {
        let group = self.state.groups.contains_key(&id);
        self.act(id, TaskAction::Reset)?;
        // The items of a loop are among its inputs; they say how many iterations it has.
        if !group {
            self.clear_inputs(id)?;
        }
        let task = self.task_mut(id)?;
        if whole || !group {
            task.started_at = None;
        }
        let body = &mut task.body;
        body.reason.clear();
        body.message.clear();
        (body.failed_child, body.cache) = (None, None);
        body.outputs = Outputs::default();
        body.attempts_before = u32::try_from(body.attempts.len()).unwrap_or(u32::MAX);
        if group {
            self.reset_inside(id, whole)
        } else {
            Ok(())
        }
    }

    fn reset_inside(&mut self, id: TaskId, whole: bool) -> Result<(), StepError> {
        let group = self.state.group(id)?;
        let (shape, children) = (group.shape.clone(), group.children.clone());
        let mut again = vec![false; children.len()];
        // The order of the plan has each task after those that it depends on.
        for (at, child) in children.iter().enumerate() {
            let status = self.state.task(*child)?.status;
            if !status.ended() {
                continue;
            }
            // What it was told may change with those, so nothing inside it stays either.
            let before = shape.dependencies.get(at).map_or(&[][..], Vec::as_slice);
            let told_anew = whole || before.iter().any(|on| again[*on]);
            again[at] = told_anew || !matches!(status, TaskStatus::Succeeded | TaskStatus::Cached);
            if again[at] {
                self.reset(*child, told_anew)?;
            }
        }
        self.state.operations += children.len() as u64;
        let task = self.state.task(id)?;
        let group = match task.kind {
            TaskKind::Loop => loops::rebuild(self.state, task, children)?,
            TaskKind::Root | TaskKind::Dag | TaskKind::Container | TaskKind::Importer => {
                self.state.rebuild_group(id, children)?
            }
        };
        self.state.groups.insert(id, group);
        Ok(())
    }

    /// Ends what is inside a group that ends without having been opened again: its condition is false this time, say, or
    /// something before it failed.
    pub(super) fn end_inside(&mut self, id: TaskId) -> Result<(), StepError> {
        let Some(group) = self.state.groups.get(&id) else {
            return Ok(());
        };
        let children = group.children.clone();
        let task = self.state.task(id)?;
        let (action, reason, message) = match task.status {
            TaskStatus::Canceled | TaskStatus::Skipped => {
                let body = &task.body;
                let action = match task.status {
                    TaskStatus::Canceled => TaskAction::End,
                    _ => TaskAction::Skip,
                };
                (action, body.reason.clone(), body.message.clone())
            }
            _ => {
                let message = format!("not started because `{}` failed", task.label());
                (TaskAction::Skip, "UPSTREAM_FAILED".to_owned(), message)
            }
        };
        for child in children {
            if !self.state.task(child)?.status.ended() {
                self.act_because(child, action, &reason, message.clone())?;
            }
        }
        Ok(())
    }

    /// Starts what may start in a group whose tasks are there.
    pub(super) fn reopen_group(&mut self, id: TaskId) -> Result<(), StepError> {
        let group = self.state.group(id)?;
        let (children, waiting) = (group.children.clone(), group.waiting.clone());
        let done = group.unended == 0;
        for (child, waiting) in children.into_iter().zip(waiting) {
            if waiting == 0 && self.state.task(child)?.status == TaskStatus::Pending {
                self.ready.push_back(child);
            }
        }
        if done { self.end_group(id) } else { Ok(()) }
    }
}
