//! What a database would hold: written by changes alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ids::{ArtifactId, TaskId};
use pipeline_spec::plan::Plan;

use crate::domain::*;

#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) plan: Arc<Plan>,
    run: Run,
    run_body: String,
    tasks: BTreeMap<TaskId, TaskRecord>,
    pub(super) artifacts: BTreeMap<ArtifactId, Artifact>,
}

impl Rows {
    pub(super) fn new(run: Run, plan: Arc<Plan>) -> Self {
        let run_body = serde_json::to_string(&run.body).unwrap();
        Self {
            plan,
            run,
            run_body,
            tasks: BTreeMap::new(),
            artifacts: BTreeMap::new(),
        }
    }

    pub(super) fn commit(&mut self, state: &RunState, changes: &Changes) {
        if changes.run {
            self.run_body = serde_json::to_string(&state.run.body).unwrap();
            self.run = state.run.clone();
        }
        for id in &changes.inserted {
            let record = state.get(*id).unwrap().to_record().unwrap();
            let group_first = record
                .parent_id
                .is_none_or(|parent| self.tasks.contains_key(&parent));
            assert!(group_first, "task {id} is inserted before its group");
            assert!(
                self.tasks.insert(*id, record).is_none(),
                "task {id} is inserted twice"
            );
        }
        for id in &changes.updated {
            let record = state.get(*id).unwrap().to_record().unwrap();
            assert!(
                self.tasks.insert(*id, record).is_some(),
                "task {id} was never inserted"
            );
        }
        for id in &changes.artifacts {
            let artifact = state.artifact(*id).unwrap().clone();
            // One that another run recorded is only noted as used.
            let own = artifact.run_id == self.run.id;
            let before = self.artifacts.insert(*id, artifact);
            assert!(before.is_none() || !own, "artifact {id} twice");
        }
    }

    /// What another than the engine writes.
    pub(super) fn store_run(&mut self, run: &Run) {
        self.run_body = serde_json::to_string(&run.body).unwrap();
        self.run = run.clone();
    }

    pub(super) fn load(&self) -> RunState {
        let mut run = self.run.clone();
        run.body = serde_json::from_str(&self.run_body).unwrap();
        let tasks = self
            .tasks
            .values()
            .cloned()
            .map(|row| Task::from_record(row).unwrap());
        RunState::load(
            run,
            Arc::clone(&self.plan),
            tasks,
            self.artifacts.values().cloned(),
        )
        .unwrap()
    }

    /// The changes so far covered everything, and a load gives the state in memory.
    pub(super) fn assert_complete(&self, state: &RunState) {
        let loaded = self.load();
        assert_eq!(loaded.run, state.run);
        assert_eq!(loaded.tasks, state.tasks);
        assert_eq!(loaded.root, state.root);
        assert_eq!(loaded.open_importers, state.open_importers);
        assert_eq!(loaded.expected_tasks, state.expected_tasks);
        assert_eq!(loaded.waits, state.waits);
        assert_eq!(loaded.input_bytes, state.input_bytes);
        assert_eq!(loaded.groups.len(), state.groups.len());
        for (id, group) in &state.groups {
            let other = &loaded.groups[id];
            assert_eq!(
                (&other.children, &other.waiting, other.unended),
                (&group.children, &group.waiting, group.unended),
                "group {id}"
            );
            let next = |group: &crate::domain::state::Group| {
                group.iterations.as_ref().map(|iterations| iterations.next)
            };
            assert_eq!(next(other), next(group), "loop {id}");
        }
    }
}
