//! Loops: one task per item, gathered when the last one has ended.

use std::sync::Arc;

use ids::{ArtifactId, TaskId};
use pipeline_spec::plan::{Body, Items, Iterator as Loop, ParameterValue};
use serde_json::{Map, Value};

use super::engine::Engine;
use super::event::StepError;
use super::group::kind_of;
use super::model::{Inputs, Outputs, Task};
use super::state::{Group, MAX_TASKS, RunState, Shape, missing};
use super::status::{TaskKind, TaskStatus};

/// The iterations of an open loop.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Iterations {
    /// What each gets; empty once the loop has ended.
    items: ItemList,
    /// The number of the first that waits for its turn.
    pub(super) next: usize,
}

/// The items of a loop.
#[derive(Debug, Clone, PartialEq)]
enum ItemList {
    Values(Arc<Vec<Value>>),
    Artifacts(Vec<ArtifactId>),
}

impl ItemList {
    fn len(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Artifacts(ids) => ids.len(),
        }
    }
}

/// The items of a loop are not what they should be.
#[derive(Debug, thiserror::Error)]
enum NoItems {
    #[error("task `{task}`: `{input}` must be a list or the JSON text of one, not {found}")]
    NoList {
        task: String,
        input: String,
        found: String,
    },
    #[error("task `{task}`: there is no `{input}` to go through")]
    NotGiven { task: String, input: String },
    #[error(transparent)]
    Plan(#[from] StepError),
}

impl Engine<'_> {
    /// Creates the iterations of a loop and starts as many as may run at a time.
    pub(super) fn open_loop(&mut self, id: TaskId) -> Result<(), StepError> {
        let plan = self.plan();
        let task = self.state.task(id)?;
        let items = match items(self.state, task) {
            Ok(items) => items,
            Err(NoItems::Plan(error)) => return Err(error),
            Err(error @ (NoItems::NoList { .. } | NoItems::NotGiven { .. })) => {
                return self.fail(id, "NO_ITEMS", error.to_string());
            }
        };
        let planned = self.state.iterator(task)?;
        let limit = match planned.parallelism {
            0 => items.len(),
            limit => items.len().min(limit as usize),
        };
        let count = items.len();
        let known = matches!(planned.items, Items::Raw(_));
        let component = task.body.component.clone();
        let there = self.state.groups.get(&id);
        let more = count.saturating_sub(there.map_or(0, |group| group.children.len()));
        let expected = self.state.expected_with_loop(&component, more, known);
        let Some(expected) = expected.filter(|tasks| *tasks <= MAX_TASKS) else {
            let message = format!(
                "the loop has {count} items, which come to more tasks than the {MAX_TASKS} that a run may have"
            );
            return self.fail(id, "TOO_MANY_ITEMS", message);
        };
        // What a recursion repeats was planned once only.
        if let Some((reason, message)) = self.too_much(self.state.task(id)?, more) {
            return self.fail(id, reason, message);
        }
        self.state.expected_tasks = expected;
        if self.state.groups.contains_key(&id) {
            return self.reopen_loop(id, items, limit);
        }
        self.act(id, super::status::TaskAction::Open)?;
        let kind = kind_of(&plan, &component)?;
        let mut children = Vec::with_capacity(count);
        for at in 0..count {
            children.push(self.iteration(id, at, kind)?);
        }
        self.ready.extend(&children[..limit]);
        let mut group = Group::new(Arc::new(Shape::default()), children);
        group.iterations = Some(Iterations { items, next: limit });
        self.state.groups.insert(id, group);
        if count == 0 {
            self.end_group(id)
        } else {
            Ok(())
        }
    }

    /// Gives the turn of an iteration that has ended to the next one that has not had any.
    pub(super) fn next_iteration(&mut self, parent: TaskId) -> Result<(), StepError> {
        let Some(next) = self.waiting_iteration(parent)? else {
            return Ok(());
        };
        self.ready
            .push_back(self.state.group(parent)?.children[next]);
        self.set_next_iteration(parent, next + 1)?;
        self.waiting_iteration(parent).map(drop)
    }

    /// The first iteration that waits for its turn; iterations before it are not looked at again.
    pub(super) fn waiting_iteration(&mut self, parent: TaskId) -> Result<Option<usize>, StepError> {
        let group = self.state.group(parent)?;
        let Some(iterations) = &group.iterations else {
            return Ok(None);
        };
        let mut next = iterations.next;
        while let Some(child) = group.children.get(next)
            && self.state.task(*child)?.status != TaskStatus::Pending
        {
            next += 1;
        }
        let found = (next < group.children.len()).then_some(next);
        self.set_next_iteration(parent, next)?;
        Ok(found)
    }

    fn set_next_iteration(&mut self, parent: TaskId, next: usize) -> Result<(), StepError> {
        if let Some(iterations) = &mut self.state.group_mut(parent)?.iterations {
            iterations.next = next;
        }
        Ok(())
    }

    /// Starts the iterations of a loop again that the retry of a run reset: those that are there, and more when there
    /// are more items than before. Those without an item are skipped.
    fn reopen_loop(&mut self, id: TaskId, items: ItemList, limit: usize) -> Result<(), StepError> {
        self.act(id, super::status::TaskAction::Open)?;
        let task = self.state.task(id)?;
        let (component, there) = (
            task.body.component.clone(),
            self.state.group(id)?.children.len(),
        );
        let kind = kind_of(&self.plan(), &component)?;
        let count = items.len();
        for at in there..count {
            let child = self.iteration(id, at, kind)?;
            self.state.group_mut(id)?.children.push(child);
        }
        // Those that are skipped now are still to be settled.
        let mut skipped = 0;
        for at in count..there {
            let child = self.state.group(id)?.children[at];
            if self.state.task(child)?.status == TaskStatus::Pending {
                skipped += 1;
                let message = "the loop has fewer items than before".to_owned();
                self.act_because(child, super::status::TaskAction::Skip, "NO_ITEM", message)?;
            }
        }
        let ended = |child: &&TaskId| {
            self.state
                .tasks
                .get(child)
                .is_some_and(|t| t.status.ended())
        };
        let group = self.state.group(id)?;
        let done = group.children.iter().filter(ended).count();
        let group = self.state.group_mut(id)?;
        group.unended = group.children.len() - done + skipped;
        group.iterations = Some(Iterations { items, next: 0 });
        if group.unended == 0 {
            return self.end_group(id);
        }
        for _ in 0..limit {
            self.next_iteration(id)?;
        }
        Ok(())
    }

    /// Adds an iteration to a loop.
    fn iteration(&mut self, id: TaskId, at: usize, kind: TaskKind) -> Result<TaskId, StepError> {
        let child_id = TaskId((self.ids)());
        let task = self.state.task(id)?;
        let mut child = self.new_task(child_id, kind, &format!("{}[{at}]", task.name));
        child.parent = Some(id);
        child.iteration = i64::try_from(at).unwrap_or(i64::MAX);
        child.path = format!("{}[{at}]", task.path);
        child.body.component.clone_from(&task.body.component);
        child.body.display_name = format!("{}[{at}]", task.body.display_name);
        self.insert(child);
        Ok(child_id)
    }
}

/// The group of a loop that was opened, from its rows.
pub(super) fn rebuild(state: &RunState, task: &Task, ids: Vec<TaskId>) -> Result<Group, StepError> {
    // One that was reset is given its items when it is opened again, and those of before may have been no list at all.
    let open = matches!(task.status, TaskStatus::Running | TaskStatus::Canceling);
    let items = if open {
        items(state, task).map_err(|error| StepError::Inconsistent(error.to_string()))?
    } else {
        ItemList::Artifacts(Vec::new())
    };
    // Those that lost their item when the run was retried stay.
    if open && items.len() > ids.len() {
        return Err(missing("iterations of loop", task.label()));
    }
    let mut group = Group::new(Arc::new(Shape::default()), ids);
    let mut next = group.children.len();
    for (at, child) in group.children.iter().enumerate().rev() {
        let child = state.task(*child)?;
        if usize::try_from(child.iteration) != Ok(at) {
            return Err(missing("iteration of loop", task.label()));
        }
        if child.status.ended() {
            group.unended -= 1;
        }
        // One that asked the cache has begun, although it is PENDING until the answer.
        if child.status == TaskStatus::Pending && child.body.cache.is_none() {
            next = at;
        }
    }
    group.iterations = Some(Iterations { items, next });
    Ok(group)
}

/// What a loop goes through.
fn items(state: &RunState, task: &Task) -> Result<ItemList, NoItems> {
    let inputs = &task.body.inputs;
    let not_given = |input: &str| NoItems::NotGiven {
        task: task.label().to_owned(),
        input: input.to_owned(),
    };
    match &state.iterator(task)?.items {
        Items::Raw(values) => Ok(ItemList::Values(Arc::new(values.clone()))),
        Items::Artifact(input) => {
            let ids = inputs.artifacts.get(input);
            Ok(ItemList::Artifacts(
                ids.ok_or_else(|| not_given(input))?.clone(),
            ))
        }
        Items::Parameter(input) => {
            let value = inputs.parameters.get(input);
            let value = value.or_else(|| inputs.channels.get(input));
            let value = value.ok_or_else(|| not_given(input))?;
            let list = match value {
                Value::Array(values) => Some(values.clone()),
                Value::String(text) => serde_json::from_str(text).ok(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
            };
            let list = list.ok_or_else(|| NoItems::NoList {
                task: task.label().to_owned(),
                input: input.clone(),
                found: value.to_string().chars().take(100).collect(),
            })?;
            Ok(ItemList::Values(Arc::new(list)))
        }
    }
}

/// The inputs of an iteration: those of the loop, with the item in place of the items.
pub(super) fn iteration_inputs(state: &RunState, task: &Task) -> Result<Inputs, StepError> {
    let parent = task
        .parent
        .ok_or_else(|| missing("loop of task", task.label()))?;
    let parent = state.task(parent)?;
    let iterator = state.iterator(parent)?;
    let group = state.group(parent.id)?;
    let iterations = group.iterations.as_ref();
    let items = iterations.map(|iterations| &iterations.items);
    let at = usize::try_from(task.iteration).unwrap_or(usize::MAX);
    let wanted = uses_items(state, task, iterator)?;
    let mut inputs = inherited(&parent.body.inputs, &iterator.items, wanted);
    let item = match (items, &iterator.items) {
        (Some(ItemList::Values(values)), Items::Raw(_) | Items::Parameter(_)) => {
            values.get(at).map(|value| {
                let name = iterator.item_input.clone();
                inputs.parameters.insert(name, value.clone());
            })
        }
        (Some(ItemList::Artifacts(ids)), Items::Artifact(_)) => ids.get(at).map(|id| {
            let name = iterator.item_input.clone();
            inputs.artifacts.insert(name, vec![*id]);
        }),
        (Some(_) | None, _) => None,
    };
    item.ok_or_else(|| missing("item of iteration", task.label()))?;
    Ok(inputs)
}

/// What an iteration has of the inputs of its loop: all of them, but the list of items only where it is wanted.
fn inherited(of_loop: &Inputs, items: &Items, wanted: bool) -> Inputs {
    let (values, artifacts) = match items {
        Items::Parameter(name) if !wanted => (Some(name), None),
        Items::Artifact(name) if !wanted => (None, Some(name)),
        Items::Parameter(_) | Items::Artifact(_) | Items::Raw(_) => (None, None),
    };
    let but = |inputs: &Map<String, Value>| {
        let kept = inputs.iter().filter(|(name, _)| Some(*name) != values);
        kept.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let kept = of_loop.artifacts.iter();
    let kept = kept.filter(|(name, _)| Some(*name) != artifacts);
    Inputs {
        parameters: but(&of_loop.parameters),
        channels: but(&of_loop.channels),
        artifacts: kept
            .map(|(name, ids)| (name.clone(), ids.clone()))
            .collect(),
    }
}

/// Whether the tasks of an iteration read the whole list too. Where they do not, it is left out: a copy of it in each
/// iteration would make the work of a loop grow with the square of its items.
fn uses_items(state: &RunState, task: &Task, iterator: &Loop) -> Result<bool, StepError> {
    let Body::Dag(dag) = &state.component(task)?.body else {
        return Ok(false);
    };
    let used = match &iterator.items {
        Items::Raw(_) => false,
        Items::Parameter(name) => dag.tasks.values().any(|task| {
            let mut sources = task.parameters.values();
            sources.any(
                |source| matches!(&source.value, ParameterValue::ComponentInput(from) if from == name),
            )
        }),
        Items::Artifact(name) => dag.tasks.values().any(|task| {
            let mut sources = task.artifacts.values();
            sources.any(|source| {
                matches!(source, pipeline_spec::ArtifactSource::ComponentInput(from) if from == name)
            })
        }),
    };
    Ok(used)
}

/// What the iterations put out, as lists in their order. One that put nothing out, since a condition skipped what would
/// have, leaves no gap.
pub(super) fn gathered(state: &RunState, task: &Task) -> Result<Outputs, StepError> {
    let component = state.component(task)?;
    let mut outputs = Outputs::default();
    let children = &state.group(task.id)?.children;
    for name in component.output_parameters.keys() {
        let mut values = Vec::with_capacity(children.len());
        for child in children {
            let from = &state.task(*child)?.body.outputs;
            values.extend(from.parameters.get(name).cloned());
        }
        outputs
            .parameters
            .insert(name.clone(), Value::Array(values));
    }
    for name in component.output_artifacts.keys() {
        let mut ids = Vec::with_capacity(children.len());
        for child in children {
            let from = &state.task(*child)?.body.outputs;
            ids.extend(from.artifacts.get(name).into_iter().flatten());
        }
        outputs.artifacts.insert(name.clone(), ids);
    }
    Ok(outputs)
}
