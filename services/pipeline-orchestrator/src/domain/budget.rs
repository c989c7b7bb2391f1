//! How much the tasks of a run may receive together.
//!
//! Each task keeps what it received, in memory and in its row, and the iterations of a loop receive what the loop did: one
//! large value beside many items is many large values.

use ids::{ArtifactId, TaskId};
use serde_json::{Map, Value};

use super::engine::Engine;
use super::event::StepError;
use super::model::Inputs;

/// Bytes that the tasks of a run may receive together.
pub(super) const MAX_INPUT_BYTES: u64 = 512 << 20;

/// What a value takes beside its text.
const VALUE: u64 = 32;

impl Engine<'_> {
    /// Gives a task what it receives; false when that is more than the run may hold, and the task failed.
    pub(super) fn set_inputs(&mut self, id: TaskId, inputs: Inputs) -> Result<bool, StepError> {
        let task = self.state.task(id)?;
        let (before, more) = (bytes(&task.body.inputs), bytes(&inputs));
        let all = self.state.input_bytes.saturating_sub(before) + more;
        let limit = self.state.input_limit;
        if all > limit {
            let message = format!(
                "with the {more} bytes that this task would receive, the tasks of the run would hold more than the {} MiB \
                 that they may together; pass large values as artifacts",
                limit >> 20
            );
            self.fail(id, "INPUTS_TOO_LARGE", message)?;
            return Ok(false);
        }
        self.state.input_bytes = all;
        self.task_mut(id)?.body.inputs = inputs;
        Ok(true)
    }

    /// Takes away what a task received.
    pub(super) fn clear_inputs(&mut self, id: TaskId) -> Result<(), StepError> {
        let before = bytes(&self.state.task(id)?.body.inputs);
        self.state.input_bytes = self.state.input_bytes.saturating_sub(before);
        self.task_mut(id)?.body.inputs = Inputs::default();
        Ok(())
    }
}

/// About how much memory it takes to keep what a task received.
pub(super) fn bytes(inputs: &Inputs) -> u64 {
    let artifacts = inputs.artifacts.iter().map(|(name, ids)| {
        let ids = ids.len() * size_of::<ArtifactId>();
        VALUE + (name.len() + ids) as u64
    });
    of_map(&inputs.parameters) + of_map(&inputs.channels) + artifacts.sum::<u64>()
}

fn of_map(map: &Map<String, Value>) -> u64 {
    let entries = map.iter();
    entries
        .map(|(name, value)| name.len() as u64 + of_value(value))
        .sum()
}

fn of_value(value: &Value) -> u64 {
    VALUE
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len() as u64,
            Value::Array(values) => values.iter().map(of_value).sum(),
            Value::Object(map) => of_map(map),
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_inside_a_value_counts() {
        let inputs = |value: Value| Inputs {
            parameters: json!({ "x": value }).as_object().unwrap().clone(),
            ..Inputs::default()
        };
        assert_eq!(bytes(&inputs(json!("abcd"))), 1 + VALUE + 4);
        let nested = bytes(&inputs(json!({"list": ["abcd", 1, null]})));
        assert_eq!(nested, 1 + VALUE + 4 + VALUE + (VALUE + 4) + VALUE + VALUE);
    }
}
