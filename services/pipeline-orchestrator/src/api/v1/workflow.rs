//! A run as an Argo workflow with its status: what clients of kfp 1.8 draw graphs from.
//!
//! The nodes are the run's tasks. What Argo has no word for is left out: the group around the entry point, and the
//! groups around single calls that the translation of conditions adds.

use std::collections::BTreeMap;

use clock::Timestamp;
use ids::TaskId;
use pipeline_spec::argo;
use serde_json::{Map, Value, json};

use super::render;
use crate::domain::{RunRecord, Task, TaskKind, TaskStatus, resource_name};

/// The workflow; `document` is what the run executes.
pub(super) fn manifest(record: &RunRecord, tasks: &[Task], document: &str) -> Value {
    let run = &record.run;
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let workflow = argo::is_workflow(&document).then_some(document);
    let spec = workflow.as_ref().and_then(|workflow| workflow.get("spec"));
    let mut metadata = workflow
        .as_ref()
        .and_then(|workflow| workflow.get("metadata")?.as_object().cloned())
        .unwrap_or_default();
    let name = resource_name(run);
    metadata.insert("name".to_owned(), name.clone().into());
    metadata.insert("namespace".to_owned(), "default".into());
    metadata.insert("uid".to_owned(), run.id.to_string().into());
    metadata.insert("creationTimestamp".to_owned(), time(Some(run.created_at)));
    if let Some(labels) = metadata
        .entry("labels")
        .or_insert_with(|| json!({}))
        .as_object_mut()
    {
        labels.insert("pipeline/runid".to_owned(), run.id.to_string().into());
    }
    let status = json!({
        "phase": render::status(record),
        "startedAt": time(Some(run.created_at)),
        "finishedAt": time(run.finished_at),
        "message": run.body.message,
        "nodes": nodes(&name, tasks),
    });
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": metadata,
        "spec": spec.cloned().unwrap_or_else(|| json!({})),
        "status": status,
    })
}

fn time(at: Option<Timestamp>) -> Value {
    match at {
        Some(at) => Timestamp::from_secs(at.as_secs()).to_string().into(),
        None => Value::Null,
    }
}

fn nodes(workflow: &str, tasks: &[Task]) -> Map<String, Value> {
    let mut children: BTreeMap<TaskId, Vec<&Task>> = BTreeMap::new();
    for task in tasks {
        if let Some(parent) = task.parent {
            children.entry(parent).or_default().push(task);
        }
    }
    let shown = Shown { children };
    let visible = tasks.iter().filter(|task| shown.only_call(task).is_none());
    let by_id: BTreeMap<TaskId, &Task> = tasks.iter().map(|task| (task.id, task)).collect();
    visible
        .map(|task| (task.id.to_string(), shown.node(workflow, task, &by_id)))
        .collect()
}

struct Shown<'a> {
    children: BTreeMap<TaskId, Vec<&'a Task>>,
}

impl<'a> Shown<'a> {
    /// The call in a group that was put around it alone: it is shown in place of the group.
    fn only_call(&self, task: &Task) -> Option<&'a Task> {
        let around = task.kind == TaskKind::Dag && task.body.component.contains('/');
        let inner = self.children.get(&task.id).filter(|_| around)?;
        match inner[..] {
            [call] => Some(call),
            _ => None,
        }
    }

    /// The id under which a task is shown.
    fn id(&self, task: &'a Task) -> String {
        let mut shown = task;
        while let Some(call) = self.only_call(shown) {
            shown = call;
        }
        shown.id.to_string()
    }

    fn node(&self, workflow: &str, task: &'a Task, by_id: &BTreeMap<TaskId, &'a Task>) -> Value {
        // What stands in the graph is the outermost group that this task is shown for.
        let parent_of = |task: &Task| task.parent.and_then(|id| by_id.get(&id).copied());
        let mut outer = task;
        while let Some(parent) = parent_of(outer).filter(|parent| self.only_call(parent).is_some())
        {
            outer = parent;
        }
        let inner = self.children.get(&task.id).map_or(&[][..], Vec::as_slice);
        // Whoever waits for nothing follows the group, and the others follow those that they wait for.
        let first = inner
            .iter()
            .filter(|child| child.body.dependencies.is_empty());
        let siblings = outer.parent.and_then(|parent| self.children.get(&parent));
        let next = siblings.into_iter().flatten();
        let next = next.filter(|other| other.body.dependencies.contains(&outer.id));
        let children: Vec<String> = first.chain(next).map(|child| self.id(child)).collect();
        let mut node = json!({
            "id": task.id.to_string(),
            "name": full_name(workflow, outer),
            "displayName": display_name(workflow, outer),
            "templateName": template_name(task),
            "type": kind(task),
            "phase": phase(task.status),
            "startedAt": time(task.started_at.or(Some(task.created_at))),
            "finishedAt": time(task.ended_at),
            "children": children,
        });
        let boundary = parent_of(outer).map(|parent| parent.id.to_string().into());
        let fields = [
            ("message", message(task)),
            ("inputs", parameters(&task.body.inputs.parameters, &[])),
            (
                "outputs",
                parameters(&task.body.outputs.parameters, &artifact_names(task)),
            ),
            ("boundaryID", boundary.unwrap_or_default()),
        ];
        for (key, value) in fields {
            if !value.is_null() {
                node[key] = value;
            }
        }
        node
    }
}

fn full_name(workflow: &str, task: &Task) -> String {
    match task.path.is_empty() {
        true => workflow.to_owned(),
        false => format!("{workflow}.{}", task.path.replace('/', ".")),
    }
}

/// An iteration is shown as Argo does: `name(3)`.
fn display_name(workflow: &str, task: &Task) -> String {
    match task.path.is_empty() {
        true => workflow.to_owned(),
        false => task.body.display_name.replace('[', "(").replace(']', ")"),
    }
}

/// The template: the component, or of a group around one call, the name of the call.
fn template_name(task: &Task) -> &str {
    let component = &task.body.component;
    component.rsplit('/').next().unwrap_or_default()
}

fn kind(task: &Task) -> &'static str {
    match (task.kind, task.status) {
        (_, TaskStatus::Skipped) => "Skipped",
        (TaskKind::Container, _) if task.body.attempts.len() > 1 => "Retry",
        (TaskKind::Container | TaskKind::Importer, _) => "Pod",
        (TaskKind::Loop, _) => "TaskGroup",
        (TaskKind::Root | TaskKind::Dag, _) => "DAG",
    }
}

fn phase(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Pending | TaskStatus::Ready => "Pending",
        TaskStatus::Running | TaskStatus::Canceling => "Running",
        TaskStatus::Succeeded | TaskStatus::Cached => "Succeeded",
        TaskStatus::Failed => "Failed",
        TaskStatus::Skipped => "Skipped",
        TaskStatus::Canceled => "Error",
    }
}

fn message(task: &Task) -> Value {
    match task.body.message.as_str() {
        "" => Value::Null,
        text => text.into(),
    }
}

fn artifact_names(task: &Task) -> Vec<&str> {
    let artifacts = task.body.outputs.artifacts.iter();
    let produced = artifacts.filter(|(_, ids)| !ids.is_empty());
    produced.map(|(name, _)| name.as_str()).collect()
}

/// Null for nothing.
fn parameters(parameters: &Map<String, Value>, artifacts: &[&str]) -> Value {
    // Names with a dot are the translation's own.
    let own = parameters.iter().filter(|(name, _)| !name.contains('.'));
    let parameters: Vec<Value> = own
        .map(|(name, value)| json!({"name": name, "value": pipeline_spec::text_form(value)}))
        .collect();
    let artifacts: Vec<Value> = artifacts.iter().map(|name| json!({"name": name})).collect();
    let mut found = Map::new();
    for (key, list) in [("parameters", parameters), ("artifacts", artifacts)] {
        if !list.is_empty() {
            found.insert(key.to_owned(), list.into());
        }
    }
    match found.is_empty() {
        true => Value::Null,
        false => Value::Object(found),
    }
}
