//! Components inside components.

use std::collections::BTreeMap;

use super::{Faults, path_of};
use crate::{
    graph,
    plan::{Body, Component},
};

/// How deeply groups may be nested.
const MAX_NESTING: usize = 64;
/// How many tasks one pass over the pipeline may start, loops counted once.
const MAX_TASKS: u64 = 100_000;

/// Refuses components that contain themselves, and pipelines that unfold into too much.
pub(super) fn check(
    root: &Component,
    components: &BTreeMap<String, Component>,
    faults: &mut Faults,
) {
    let nodes: BTreeMap<&str, Vec<&str>> = components
        .iter()
        .map(|(name, component)| (name.as_str(), inner(component)))
        .collect();
    let order = graph::order(&nodes);
    for circle in &order.circles {
        let name = circle.first().copied().unwrap_or_default();
        faults.add(
            path_of(name),
            format!("the component contains itself: {}", graph::show(circle)),
        );
    }
    if !order.circles.is_empty() {
        return;
    }
    let mut sizes: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for name in order.names {
        if let Some(component) = components.get(name) {
            let size = size(component, &sizes);
            sizes.insert(name, size);
        }
    }
    let (depth, tasks) = size(root, &sizes);
    if depth > MAX_NESTING {
        faults.add(
            "root.dag",
            format!("groups are nested {depth} levels deep; {MAX_NESTING} are allowed"),
        );
    }
    if tasks > MAX_TASKS {
        faults.add(
            "root.dag",
            format!("the pipeline unfolds into {tasks} tasks; {MAX_TASKS} are allowed"),
        );
    }
}

fn inner(component: &Component) -> Vec<&str> {
    match &component.body {
        Body::Dag(dag) => dag
            .tasks
            .values()
            .map(|task| task.component.as_str())
            .collect(),
        Body::Executor(_) => Vec::new(),
    }
}

/// Levels of groups, and tasks, below a component whose inner components are measured.
fn size(component: &Component, sizes: &BTreeMap<&str, (usize, u64)>) -> (usize, u64) {
    let Body::Dag(_) = component.body else {
        return (0, 0);
    };
    let mut depth = 0;
    let mut tasks = 0_u64;
    for name in inner(component) {
        let (inner_depth, inner_tasks) = sizes.get(name).copied().unwrap_or_default();
        depth = depth.max(inner_depth);
        tasks = tasks.saturating_add(inner_tasks).saturating_add(1);
    }
    (depth + 1, tasks)
}
