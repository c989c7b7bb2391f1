//! Conditions of tasks: what they see, and what is said when one is false.

use pipeline_spec::plan::{ParameterType, ParameterValue, Task as PlanTask};
use pipeline_spec::{ExpressionError, Scope};
use serde_json::{Map, Value};

use super::event::StepError;
use super::launch;
use super::model::{Inputs, Task};
use super::state::RunState;

/// What the compiler puts before the names of values that pass through a component.
const CHANNEL: &str = "pipelinechannel--";
/// The name of an output that is the only one.
const ONLY_OUTPUT: &str = "Output";

/// The condition of a task has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConditionError {
    #[error("task `{task}`, condition {shown}: {error}")]
    Expression {
        task: String,
        shown: String,
        error: ExpressionError,
    },
    #[error(transparent)]
    Plan(#[from] StepError),
}

/// Why a task must not run: its condition with the values that it saw. None when it may, or has no condition.
pub(super) fn unmet(
    state: &RunState,
    task: &Task,
    inputs: &Inputs,
) -> Result<Option<String>, ConditionError> {
    let planned = state.planned(task)?;
    let text = &planned.trigger.condition;
    if text.is_empty() {
        return Ok(None);
    }
    // Items of a loop keep their own type on their way in; a condition sees what was declared.
    let mut declared = Map::new();
    for (name, input) in &state.component(task)?.input_parameters {
        if let Some(value) = inputs.parameters.get(name)
            && input.parameter_type == ParameterType::String
            && !value.is_string()
        {
            let text = Value::String(pipeline_spec::text_form(value));
            declared.insert(name.clone(), text);
        }
    }
    let parameters = [&inputs.channels, &inputs.parameters, &declared];
    let mut artifacts = Map::new();
    for (name, ids) in &inputs.artifacts {
        artifacts.insert(name.clone(), launch::artifact_list(state, ids)?);
    }
    let scope = Scope {
        parameters: &parameters,
        artifacts,
    };
    let value = |name: &str| parameters.iter().rev().find_map(|map| map.get(name));
    let shown = || pipeline_spec::explain(text, |input| short_name(planned, input), value);
    match pipeline_spec::condition(text, &scope) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(shown())),
        Err(error) => Err(ConditionError::Expression {
            task: task.label().to_owned(),
            shown: shown(),
            error,
        }),
    }
}

/// The name that people gave to what an input carries: a parameter, a task, or one of its outputs.
fn short_name(planned: &PlanTask, input: &str) -> String {
    let source = planned.parameters.get(input).map(|source| &source.value);
    let name = match source {
        Some(ParameterValue::TaskOutput { task, output }) if output == ONLY_OUTPUT => task,
        Some(ParameterValue::TaskOutput { output, .. }) => output,
        Some(ParameterValue::ComponentInput(name)) => name,
        Some(ParameterValue::Constant(_) | ParameterValue::FinalStatus { .. }) | None => input,
    };
    let name = name.strip_prefix(CHANNEL).unwrap_or(name);
    let only = format!("-{ONLY_OUTPUT}");
    name.strip_suffix(&only).unwrap_or(name).to_owned()
}
