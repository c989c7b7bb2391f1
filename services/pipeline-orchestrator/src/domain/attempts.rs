//! Attempts: committing them, following their workloads, taking over what they produced.

use ids::{ArtifactId, TaskId, WorkloadId};

use super::engine::Engine;
use super::event::{Effect, StepError, StepReport, WorkloadState, WorkloadUpdate};
use super::launch;
use super::model::{Artifact, Attempt, Task};
use super::platform;
use super::state::parse_workload_id;
use super::status::{Advance, AttemptStatus, RunStatus, TaskAction, TaskStatus};

impl Engine<'_> {
    /// Commits the first attempt of a program.
    pub(super) fn begin_program(&mut self, id: TaskId) -> Result<(), StepError> {
        let task = self.state.task(id)?;
        let container = launch::container(self.state, task)?;
        // Names may come from values, so it is asked now what the launch will ask for again.
        if let Err(unresolved) = platform::platform(self.state, task, container, &task.body.inputs)
        {
            return self.fail_unresolved(id, &unresolved);
        }
        match launch::settings(task, container, &task.body.inputs) {
            Ok(settings) => {
                let repeats = platform::must_run(self.state, container);
                self.task_mut(id)?.body.image.clone_from(&settings.image);
                if !repeats && self.asks_cache(id, &settings)? {
                    return Ok(());
                }
            }
            Err(unresolved) => return self.fail_unresolved(id, &unresolved),
        }
