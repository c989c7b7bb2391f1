//! Waits and limits: retries after a pause, the run's deadline, and when the engine wants to be woken for them.

use std::time::Duration;

use clock::Timestamp;
use ids::TaskId;
use pipeline_spec::plan::Retry;

use super::engine::Engine;
use super::event::StepError;
use super::model::{Cancel, Task};
use super::state::RunState;
use super::status::{AttemptStatus, RunStatus, TaskAction, TaskStatus};

/// What exit tasks of a run that took too long have at least; else they have as long as the run had.
const LEAST_FOR_EXITS: Duration = Duration::from_secs(3_600);

impl RunState {
    /// When [`super::Event::Timer`] is wanted next; none for never. It depends on stored facts alone.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let deadline = match self.run.status {
            RunStatus::Running => self.run.body.deadline,
            RunStatus::Canceling => self.exit_deadline(),
            RunStatus::Pending | RunStatus::Succeeded | RunStatus::Failed | RunStatus::Canceled => {
                None
            }
        };
        let retry = self.waits.first().map(|(at, _)| *at);
        deadline.into_iter().chain(retry).min()
    }

    /// When the exit tasks of a run that took too long are stopped too: nobody may be there to ask for that.
    fn exit_deadline(&self) -> Option<Timestamp> {
        let cancel = self.run.body.cancel.as_ref();
        let cancel = cancel.filter(|cancel| cancel.overdue && !cancel.exit_tasks)?;
        Some(cancel.at.plus(self.plan.deadline()?.max(LEAST_FOR_EXITS)))
    }

    /// Why the run is being stopped: in `UPPER_SNAKE_CASE`, and for people.
    pub(super) fn stop_cause(&self) -> (&'static str, String) {
        match &self.run.body.cancel {
            Some(cancel) if cancel.overdue => ("DEADLINE_EXCEEDED", cancel.reason.clone()),
            Some(cancel) => ("TERMINATED", cancel.reason.clone()),
            None => ("TERMINATED", String::new()),
        }
    }

    /// The retries of a task: its own, or those of the nearest group around it that has any.
    fn retry_policy(&self, task: &Task) -> Result<Option<&Retry>, StepError> {
        let mut next = Some(task);
        while let Some(task) = next {
            let Some(parent) = task.parent else { break };
            if let Some(retry) = &self.planned(task)?.retry {
                return Ok(Some(retry));
            }
            next = Some(self.task(parent)?);
        }
        Ok(None)
    }
}

impl Engine<'_> {
    /// Something waited for has come, or nothing has.
    pub(super) fn timer(&mut self) -> Result<(), StepError> {
        let run = &self.state.run;
        let due = run.body.deadline.is_some_and(|at| at <= self.now);
        if due && run.status == RunStatus::Running {
            let limit = self.state.plan.deadline().unwrap_or_default();
            self.stop_run(Cancel {
                reason: format!(
                    "the run took longer than its limit of {} s",
                    limit.as_secs()
                ),
                at: self.now,
                overdue: true,
                exit_tasks: false,
            })?;
        }
        let exits_due = self.state.exit_deadline().is_some_and(|at| at <= self.now);
        if exits_due && self.state.run.status == RunStatus::Canceling {
            self.stop_run(Cancel {
                reason: "its exit tasks took too long".to_owned(),
                at: self.now,
                overdue: true,
                exit_tasks: true,
            })?;
        }
        while let Some((at, id)) = self.state.waits.first().copied() {
            if at > self.now {
                break;
            }
            self.wait_until(id, None)?;
            let body = &mut self.task_mut(id)?.body;
            body.reason.clear();
            body.message.clear();
            self.add_attempt(id)?;
        }
        Ok(())
    }

    /// Sets the end of a run that has one, counted from its start.
    pub(super) fn set_deadline(&mut self) {
        let limit = self.state.plan.deadline();
        self.state.run.body.deadline = limit.map(|limit| self.now.plus(limit));
    }

    /// Follows a failed attempt by another while the user's budget lasts. What the group around made of it meanwhile
    /// does not matter: a task that has started goes on to its end.
    pub(super) fn retry_or_fail(
        &mut self,
        id: TaskId,
        reason: &str,
        message: String,
    ) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        let policy = self.state.retry_policy(task)?;
        let Some(policy) = policy.filter(|policy| policy.max_retries > 0) else {
            return self.fail(id, reason, message);
        };
        let failed = u32::try_from(task.ended_so(AttemptStatus::Failed)).unwrap_or(u32::MAX);
        if task.status == TaskStatus::Canceling {
            return self.fail(id, reason, message);
        }
        if failed > policy.max_retries {
            let message = format!("{message} (failed {failed} times)");
            return self.fail(id, reason, message);
        }
        let pause = pause(policy, failed);
        if pause.is_zero() {
            self.act(id, TaskAction::Repeat)?;
            return self.add_attempt(id);
        }
        let at = self.now.plus(pause);
        let message = format!(
            "retry {failed} of {} starts at {at}; before that: {message}",
            policy.max_retries
        );
        self.act_because(id, TaskAction::Repeat, "RETRY_WAITS", message)?;
        self.wait_until(id, Some(at))
    }

    /// Lets a program wait for its next attempt, or ends the wait.
    pub(super) fn wait_until(
        &mut self,
        id: TaskId,
        at: Option<Timestamp>,
    ) -> Result<(), StepError> {
        let before = self.state.task(id)?.body.retry_at;
        if before == at {
            return Ok(());
        }
        self.task_mut(id)?.body.retry_at = at;
        if let Some(before) = before {
            self.state.waits.remove(&(before, id));
        }
        self.state.waits.extend(at.map(|at| (at, id)));
        Ok(())
    }
}

/// The pause before the retry of that number, from 1: it grows by the factor and never beyond the longest pause.
fn pause(policy: &Retry, number: u32) -> Duration {
    if policy.backoff_ms == 0 {
        return Duration::ZERO;
    }
    let exponent = i32::try_from(number.saturating_sub(1)).unwrap_or(i32::MAX);
    let wait = policy.backoff_ms as f64 * policy.backoff_factor.powi(exponent);
    let longest = Duration::from_millis(policy.backoff_max_ms);
    Duration::try_from_secs_f64(wait / 1_000.0).map_or(longest, |wait| wait.min(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(backoff_ms: u64, backoff_factor: f64, backoff_max_ms: u64) -> Vec<u128> {
        let policy = Retry {
            max_retries: 5,
            backoff_ms,
            backoff_factor,
            backoff_max_ms,
        };
        let pause = |number| pause(&policy, number).as_millis();
        (1..=5).map(pause).collect()
    }

    #[test]
    fn pauses_grow_by_the_factor_up_to_the_longest() {
        assert_eq!(
            pauses(1_000, 2.0, 5_000),
            [1_000, 2_000, 4_000, 5_000, 5_000]
        );
        assert_eq!(pauses(1_000, 1.0, 5_000), [1_000; 5]);
        assert_eq!(pauses(1_000, 0.5, 5_000), [1_000, 500, 250, 125, 62]);
        assert_eq!(pauses(9_000, 2.0, 5_000), [5_000; 5]);
    }

    #[test]
    fn no_pause_stays_none_and_the_largest_numbers_stay_within_the_longest() {
        assert_eq!(pauses(0, 1e300, 5_000), [0; 5]);
        assert_eq!(pauses(u64::MAX, 1e300, 5_000), [5_000; 5]);
        assert_eq!(pauses(1, f64::MAX, 7)[4], 7);
    }
}
