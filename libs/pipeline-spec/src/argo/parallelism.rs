//! The limit of a template on the tasks that it runs at a time.
//!
//! Of a loop, or of what a loop calls, it is the limit of the iterations, as the SDK means it. Any other group is cut into as
//! many rows of tasks as may run, each waiting for the one before it, so that there are never more.

use std::collections::{BTreeMap, BTreeSet};

use super::Lowering;
use super::template::{Call, Template, Templates};
use crate::plan::Task;

/// What makes a call a loop.
const LOOPS: [&str; 3] = ["withItems", "withParam", "withSequence"];

/// Whether a call is a loop.
pub(super) fn is_loop(call: &Call<'_>) -> bool {
    LOOPS.iter().any(|key| call.node.has(key))
}

/// The templates that loops call.
pub(super) fn looped(templates: &Templates<'_>) -> BTreeSet<String> {
    let calls = templates.values().flat_map(Template::calls);
    calls.filter(is_loop).map(|call| call.template).collect()
}

impl Lowering<'_> {
    /// Lets tasks wait for others so that no more than the limit of their group run at a time.
    pub(super) fn hold_back(
        &self,
        template: &Template<'_>,
        calls: &[Call<'_>],
        order: &[String],
        tasks: &mut BTreeMap<String, Task>,
    ) {
        let limit = template.node.number("parallelism").unwrap_or_default();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit == 0 || limit >= order.len() || self.looped.contains(&template.name) {
            return;
        }
        // A loop takes all of the limit for its iterations.
        let limit = if calls.iter().any(is_loop) { 1 } else { limit };
        let mut rows: Vec<&String> = Vec::new();
        let mut next = 0;
        for name in order {
            let Some(task) = tasks.get_mut(name) else {
                continue;
            };
            if rows.len() < limit {
                rows.push(name);
                continue;
            }
            // Behind a task that it waits for anyway, if one is the last of its row.
            let own = rows
                .iter()
                .position(|last| task.dependencies.contains(last));
            let row = own.unwrap_or_else(|| {
                next = (next + 1) % limit;
                next
            });
            if !task.dependencies.contains(rows[row]) {
                task.dependencies.push(rows[row].clone());
            }
            rows[row] = name;
        }
    }

    /// Names a limit that nothing would keep: what is no group is one task.
    pub(super) fn check_limit(&self, template: &Template<'_>) {
        if template.node.has("parallelism") {
            template.node.fault(
                "parallelism",
                "`parallelism` of what is no group is not supported; set it on the group that calls it",
            );
        }
    }
}
