//! Components that hold themselves: workflows of the SDK 1.8 may call a template from within itself, guarded by a condition.
//!
//! Groups are opened one by one, so such a plan needs nothing but limits: how deep and how many.

use std::collections::BTreeMap;

use pipeline_spec::plan::{Body, Plan};

use super::engine::Engine;
use super::model::Task;
use super::state::MAX_TASKS;

/// How deep groups may be nested while a run goes on; paths grow with the depth, and each task has one.
const MAX_NESTING: usize = 300;

/// Whether some component can be reached from itself.
pub(super) fn holds_itself(plan: &Plan) -> bool {
    let mut inner: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, component) in &plan.components {
        if let Body::Dag(dag) = &component.body {
            let calls = dag.tasks.values().map(|task| task.component.as_str());
            inner.insert(name, calls.collect());
        }
    }
    // Components that hold no group any more are taken away until only circles are left.
    loop {
        let ended: Vec<&str> = inner
            .iter()
            .filter(|(_, calls)| !calls.iter().any(|name| inner.contains_key(name)))
            .map(|(name, _)| *name)
            .collect();
        if ended.is_empty() {
            return !inner.is_empty();
        }
        for name in ended {
            inner.remove(name);
        }
    }
}

impl Engine<'_> {
    /// Why a group of so many tasks must not be opened: its reason and a sentence. None when it may.
    pub(super) fn too_much(&self, task: &Task, tasks: usize) -> Option<(&'static str, String)> {
        if task.path.matches('/').count() >= MAX_NESTING {
            let message =
                format!("groups are nested deeper than {MAX_NESTING}, so a recursion does not end");
            return Some(("TOO_DEEP", message));
        }
        let all = (self.state.tasks.len() as u64).saturating_add(tasks as u64);
        (all > MAX_TASKS).then(|| {
            let message = format!("the run would come to more than {MAX_TASKS} tasks");
            ("TOO_MANY_TASKS", message)
        })
    }
}
