//! Components that hold themselves: workflows of the SDK 1.8 may call a template from within itself, guarded by a condition.
//!
//! Groups are opened one by one, so such a plan needs nothing but limits: how deep and how many.

use std::collections::{BTreeSet, HashMap};

use pipeline_spec::plan::{Body, Plan};

use super::engine::Engine;
use super::model::Task;
use super::state::MAX_TASKS;

/// How deep groups may be nested while a run goes on; paths grow with the depth, and each task has one.
const MAX_NESTING: usize = 300;

/// Whether some component can be reached from itself.
pub(super) fn holds_itself(plan: &Plan) -> bool {
    let mut holds: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    let mut held_by: HashMap<&str, Vec<&str>> = HashMap::new();
    for (name, component) in &plan.components {
        let Body::Dag(dag) = &component.body else {
            continue;
        };
        let calls = dag.tasks.values().map(|task| task.component.as_str());
        let calls: BTreeSet<&str> = calls.filter(|name| is_group(plan, name)).collect();
        for called in &calls {
            held_by.entry(called).or_default().push(name);
        }
        holds.insert(name, calls);
    }
    // Components that hold no group any more are taken away until only circles are left. Each is looked at once for each
    // that it holds, so that a long chain takes no longer than a wide one.
    let mut open: HashMap<&str, usize> = HashMap::new();
    let mut ended: Vec<&str> = Vec::new();
    for (name, calls) in &holds {
        open.insert(name, calls.len());
        ended.extend(calls.is_empty().then_some(*name));
    }
    let mut left = holds.len();
    while let Some(name) = ended.pop() {
        left -= 1;
        for holder in held_by.get(name).into_iter().flatten() {
            if let Some(count) = open.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    ended.push(holder);
                }
            }
        }
    }
    left > 0
}

fn is_group(plan: &Plan, name: &str) -> bool {
    let component = plan.components.get(name);
    component.is_some_and(|component| matches!(component.body, Body::Dag(_)))
}

impl Engine<'_> {
    /// Why a group of so many tasks must not be opened: its reason and a sentence. None when it may.
    pub(super) fn too_much(&self, task: &Task, tasks: usize) -> Option<(&'static str, String)> {
        if task.path.matches('/').count() >= MAX_NESTING {
            let message = format!(
                "the group would be nested deeper than {MAX_NESTING} levels, the most that a run may have; a template \
                 that calls itself must come to an end before that"
            );
            return Some(("TOO_DEEP", message));
        }
        let all = (self.state.tasks.len() as u64).saturating_add(tasks as u64);
        (all > MAX_TASKS).then(|| {
            let message = format!("the run would come to more than {MAX_TASKS} tasks");
            ("TOO_MANY_TASKS", message)
        })
    }
}
