//! What failed in a run, as workflows tell it to what they call at the end.

use serde_json::{Value, json};

use super::state::RunState;
use super::status::TaskStatus;

/// Failures that are listed: arguments of programs are short.
const MAX_LISTED: usize = 50;
/// Characters of a message.
const MAX_MESSAGE: usize = 400;

/// The failed tasks in the order in which they came to be. Argo puts the list in quotes, as JSON in a text of JSON.
pub(super) fn list(state: &RunState) -> String {
    let failed = state
        .tasks()
        .filter(|task| task.status == TaskStatus::Failed && task.parent.is_some());
    let entries = failed.take(MAX_LISTED).map(|task| {
        let component = &task.body.component;
        json!({
            "displayName": task.body.display_name,
            "message": task.body.message.chars().take(MAX_MESSAGE).collect::<String>(),
            "templateName": component.rsplit('/').next().unwrap_or_default(),
            "phase": "Failed",
            "podName": task.id.to_string(),
            "finishedAt": task.ended_at.map(|at| clock::Timestamp::from_secs(at.as_secs()).to_string()),
        })
    });
    let entries: Vec<Value> = entries.collect();
    Value::from(Value::Array(entries).to_string()).to_string()
}
