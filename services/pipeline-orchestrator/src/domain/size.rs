//! How many tasks a plan comes to.

use std::collections::HashMap;

use pipeline_spec::plan::{Body, Component, Items, Plan, Task};

use super::state::{MAX_DEPTH, MAX_TASKS};

/// What is known of a component.
#[derive(Debug, Clone, Copy)]
enum Size {
    /// It is being counted; so many tasks around it may turn out not to run: they have a condition, or go through a list
    /// that may be empty.
    Open {
        conditions: usize,
    },
    Known(u64),
}

/// The tasks of a plan; none when it is nested too deep, or a component holds itself and neither a condition nor an empty list can end that. Groups
/// that share a component multiply, so a small document can ask for any number. A loop whose items the plan does not know
/// counts as one task, and a component that holds itself is opened as often as its condition says, so it counts once. Also the
/// sizes of the components, by name.
pub(super) fn planned(plan: &Plan) -> (Option<u64>, HashMap<String, u64>) {
    let mut counter = Counter {
        plan,
        sizes: HashMap::new(),
        depth: 0,
        conditions: 0,
    };
    let all = counter.count(&plan.root);
    let known = counter
        .sizes
        .into_iter()
        .filter_map(|(name, size)| match size {
            Size::Known(tasks) => Some((name.to_owned(), tasks)),
            Size::Open { .. } => None,
        });
    (all, known.collect())
}

/// Why a plan can never be executed to its end, as a run would say at its start.
pub fn boundless(plan: &Plan) -> Option<String> {
    match planned(plan).0 {
        Some(tasks) if tasks <= MAX_TASKS => None,
        Some(_) | None => Some(format!(
            "the pipeline comes to more than {MAX_TASKS} tasks, or is nested deeper than {MAX_DEPTH}"
        )),
    }
}

struct Counter<'p> {
    plan: &'p Plan,
    sizes: HashMap<&'p str, Size>,
    depth: usize,
    conditions: usize,
}

/// Whether a task is a loop over items that the plan does not know; there may be none, which ends a recursion too.
fn may_be_empty(task: &Task) -> bool {
    let items = task.iterator.as_ref().map(|iterator| &iterator.items);
    match items {
        Some(Items::Parameter(_) | Items::Artifact(_)) => true,
        Some(Items::Raw(items)) => items.is_empty(),
        None => false,
    }
}

impl<'p> Counter<'p> {
    fn count(&mut self, component: &'p Component) -> Option<u64> {
        if self.depth > MAX_DEPTH {
            return None;
        }
        let Body::Dag(dag) = &component.body else {
            return Some(1);
        };
        let mut tasks = 1_u64;
        for task in dag.tasks.values() {
            let ends = !task.trigger.condition.is_empty() || may_be_empty(task);
            let condition = usize::from(ends);
            self.conditions += condition;
            let inner = self.inner(&task.component)?;
            self.conditions -= condition;
            let with_loop = match task.iterator.as_ref().map(|iterator| &iterator.items) {
                Some(Items::Raw(items)) => {
                    inner.saturating_mul(items.len() as u64).saturating_add(1)
                }
                Some(Items::Parameter(_) | Items::Artifact(_)) => 1,
                None => inner,
            };
            tasks = tasks.saturating_add(with_loop);
        }
        Some(tasks)
    }

    fn inner(&mut self, name: &'p str) -> Option<u64> {
        match self.sizes.get(name) {
            Some(Size::Known(tasks)) => return Some(*tasks),
            Some(Size::Open { conditions }) => {
                return (self.conditions > *conditions).then_some(1);
            }
            None => {}
        }
        let Some(component) = self.plan.components.get(name) else {
            return Some(1);
        };
        let conditions = self.conditions;
        self.sizes.insert(name, Size::Open { conditions });
        self.depth += 1;
        let tasks = self.count(component)?;
        self.depth -= 1;
        self.sizes.insert(name, Size::Known(tasks));
        Some(tasks)
    }
}
