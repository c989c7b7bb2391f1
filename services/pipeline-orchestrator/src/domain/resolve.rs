//! What a task receives: values and artifacts from the group's inputs, from tasks before it, from constants.
//!
//! The order is that of the kfp driver: sources, then placeholders in constants, then types, then defaults.

use std::collections::BTreeMap;

use ids::ArtifactId;
use pipeline_spec::plan::{
    ArtifactSource, Component, ParameterSource, ParameterValue, Strategy, Task as PlanTask,
};
use serde_json::{Map, Value};

use super::event::StepError;
use super::model::{Inputs, Task};
use super::placeholder::{self, Placeholder};
use super::state::RunState;

/// A task cannot be given what it needs; the message names the task and the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("task `{task}`, input `{input}`: the enclosing pipeline has no input `{source_input}`")]
    NoGroupInput {
        task: String,
        input: String,
        source_input: String,
    },
    #[error("task `{task}`, input `{input}`: `{producer}` put out no `{output}`")]
    NoOutput {
        task: String,
        input: String,
        producer: String,
        output: String,
    },
    #[error("task `{task}`, input `{input}`: a value is required and none was given")]
    NotGiven { task: String, input: String },
    #[error("task `{task}`, input `{input}`: {mismatch}")]
    Type {
        task: String,
        input: String,
        mismatch: String,
    },
    #[error("task `{task}`, input `{input}`: {value} is not one of the allowed values")]
    NotAllowed {
        task: String,
        input: String,
        value: String,
    },
    #[error("task `{task}`, {place}: there is no input `{name}` to take for a placeholder")]
    Placeholder {
        task: String,
        place: String,
        name: String,
    },
    #[error("task `{task}`: there is no input `{input}`")]
    Unknown { task: String, input: String },
    #[error("task `{task}`, {what} is not executed by this version")]
    Reserved { task: String, what: String },
    #[error("task `{task}`: the URI of the artifact is empty")]
    EmptyUri { task: String },
    #[error(transparent)]
    Plan(#[from] StepError),
}

/// The inputs of the pipeline itself: what the run was given, with the defaults.
pub(super) fn root_inputs(state: &RunState, task: &Task) -> Result<Inputs, Unresolved> {
    let given = state.run.body.parameters.clone();
    let inputs = declare(&state.plan.root, task, given)?;
    match inputs.channels.keys().next() {
        Some(input) => Err(Unresolved::Unknown {
            task: task.name.clone(),
            input: input.clone(),
        }),
        None => Ok(inputs),
    }
}

/// The inputs of a task whose dependencies have all succeeded.
pub(super) fn inputs(state: &RunState, task: &Task) -> Result<Inputs, Unresolved> {
    let planned = state.planned(task)?;
    let component = state.component(task)?;
    refuse_reserved(task, planned)?;

    let mut given = Map::new();
    let mut constants = Vec::new();
    for (input, source) in &planned.parameters {
        match &source.value {
            ParameterValue::Constant(constant) => constants.push((input, constant)),
            ParameterValue::ComponentInput(_)
            | ParameterValue::TaskOutput { .. }
            | ParameterValue::FinalStatus { .. } => {
                given.insert(input.clone(), parameter(state, task, input, source)?);
            }
        }
    }
    let filled = fill_constants(state, task, &given, constants)?;
    given.extend(filled);

    let mut inputs = declare(component, task, given)?;
    inputs.artifacts = artifacts(state, task, planned, component)?;
    Ok(inputs)
}

/// Names what a plan may hold and this engine does not execute; the validator refuses it before, so this is a net.
fn refuse_reserved(task: &Task, planned: &PlanTask) -> Result<(), Unresolved> {
    let strategy = match planned.trigger.strategy {
        Strategy::AllSucceeded => false,
        Strategy::AllCompleted => true,
    };
    let reserved = [
        (planned.iterator.is_some(), "the iterator"),
        (
            !planned.trigger.condition.is_empty(),
            "the trigger condition",
        ),
        (strategy, "the trigger strategy"),
    ];
    match reserved.into_iter().find(|(there, _)| *there) {
        Some((_, what)) => Err(Unresolved::Reserved {
            task: task.label().to_owned(),
            what: what.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The value of a source that is no constant; null for one that was not given.
fn parameter(
    state: &RunState,
    task: &Task,
    input: &str,
    source: &ParameterSource,
) -> Result<Value, Unresolved> {
    let label = || task.label().to_owned();
    if !source.selector.is_empty() {
        let what = format!("the expression of input `{input}`");
        return Err(Unresolved::Reserved {
            task: label(),
            what,
        });
    }
    let parent = parent(state, task)?;
    match &source.value {
        ParameterValue::Constant(constant) => Ok(constant.clone()),
        ParameterValue::ComponentInput(name) => {
            if let Some(value) = parent.body.inputs.parameters.get(name) {
                return Ok(value.clone());
            }
            let declared = state.component(parent)?.input_parameters.get(name);
            // An optional input that nobody gave is null; one that is not declared is a fault of the document.
            declared
                .filter(|declared| declared.optional)
                .map(|_| Value::Null)
                .ok_or_else(|| Unresolved::NoGroupInput {
                    task: label(),
                    input: input.to_owned(),
                    source_input: name.clone(),
                })
        }
        ParameterValue::TaskOutput {
            task: producer,
            output,
        } => {
            let outputs = &state.sibling(parent.id, producer)?.body.outputs;
            outputs
                .parameters
                .get(output)
                .cloned()
                .ok_or_else(|| Unresolved::NoOutput {
                    task: label(),
                    input: input.to_owned(),
                    producer: producer.clone(),
                    output: output.clone(),
                })
        }
        ParameterValue::FinalStatus { task: _ } => Err(Unresolved::Reserved {
            task: label(),
            what: format!("the final status for input `{input}`"),
        }),
    }
}

/// Fills the placeholders of constants from the other inputs; a constant does not see other constants.
fn fill_constants(
    state: &RunState,
    task: &Task,
    given: &Map<String, Value>,
    constants: Vec<(&String, &Value)>,
) -> Result<Map<String, Value>, Unresolved> {
    let context = context(state, task);
    let mut filled = Map::new();
    for (input, constant) in constants {
        let lookup = |placeholder: Placeholder<'_>| match placeholder {
            Placeholder::Parameter(name) => {
                given
                    .get(name)
                    .cloned()
                    .map(Some)
                    .ok_or_else(|| Unresolved::Placeholder {
                        task: task.label().to_owned(),
                        place: format!("input `{input}`"),
                        name: name.to_owned(),
                    })
            }
            Placeholder::Context(name) => Ok(context.get(name).cloned().map(Value::String)),
        };
        filled.insert(input.clone(), placeholder::fill(constant, &lookup)?);
    }
    Ok(filled)
}

/// Gives each declared parameter its value, of its type, or its default; the rest are channels.
fn declare(
    component: &Component,
    task: &Task,
    mut given: Map<String, Value>,
) -> Result<Inputs, Unresolved> {
    let mut inputs = Inputs::default();
    for (name, declared) in &component.input_parameters {
        let names = || (task.label().to_owned(), name.clone());
        let value = match given.remove(name).filter(|value| !value.is_null()) {
            Some(value) => value,
            None => match (&declared.default, declared.optional) {
                (Some(default), _) => default.clone(),
                (None, true) => continue,
                (None, false) => {
                    let (task, input) = names();
                    return Err(Unresolved::NotGiven { task, input });
                }
            },
        };
        let value = pipeline_spec::coerce(value, declared.parameter_type).map_err(|mismatch| {
            let (task, input) = names();
            Unresolved::Type {
                task,
                input,
                mismatch,
            }
        })?;
        if !declared.literals.is_empty() && !declared.literals.contains(&value) {
            let (task, input) = names();
            return Err(Unresolved::NotAllowed {
                task,
                input,
                value: value.to_string(),
            });
        }
        inputs.parameters.insert(name.clone(), value);
    }
    inputs.channels = given;
    Ok(inputs)
}

/// The declared artifacts; optional ones may be absent.
fn artifacts(
    state: &RunState,
    task: &Task,
    planned: &PlanTask,
    component: &Component,
) -> Result<BTreeMap<String, Vec<ArtifactId>>, Unresolved> {
    let parent = parent(state, task)?;
    let mut found = BTreeMap::new();
    for (input, declared) in &component.input_artifacts {
        let names = || (task.label().to_owned(), input.clone());
        let ids = match planned.artifacts.get(input) {
            None => None,
            Some(ArtifactSource::ComponentInput(name)) => parent.body.inputs.artifacts.get(name),
            Some(ArtifactSource::TaskOutput {
                task: producer,
                output,
            }) => {
                let ids = state
                    .sibling(parent.id, producer)?
                    .body
                    .outputs
                    .artifacts
                    .get(output);
                if ids.is_none() && !declared.optional {
                    let (task, input) = names();
                    let (producer, output) = (producer.clone(), output.clone());
                    return Err(Unresolved::NoOutput {
                        task,
                        input,
                        producer,
                        output,
                    });
                }
                ids
            }
        };
        match ids {
            Some(ids) => {
                found.insert(input.clone(), ids.clone());
            }
            None if declared.optional => {}
            None => {
                let (task, input) = names();
                return Err(Unresolved::NotGiven { task, input });
            }
        }
    }
    Ok(found)
}

/// The values of the context placeholders of a task, by name without braces.
pub(super) fn context(state: &RunState, task: &Task) -> BTreeMap<String, String> {
    let run = &state.run;
    let seconds = |at: clock::Timestamp| clock::Timestamp::from_secs(at.as_secs()).to_string();
    let resource = format!("{}-{}", file_name(&run.pipeline_name), run.id);
    [
        ("pipeline_job_name", run.display_name.clone()),
        ("pipeline_job_uuid", run.id.to_string()),
        ("pipeline_job_resource_name", resource),
        ("pipeline_job_create_time_utc", seconds(run.created_at)),
        (
            "pipeline_job_schedule_time_utc",
            seconds(run.scheduled_at.unwrap_or(run.created_at)),
        ),
        ("pipeline_root", run.pipeline_root.clone()),
        ("pipeline_task_name", task.name.clone()),
        ("pipeline_task_uuid", task.id.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// A name as one safe segment of a path: other characters become `-`, dots do not lead.
pub(super) fn file_name(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let text: String = name
        .trim_start_matches('.')
        .chars()
        .take(100)
        .map(safe)
        .collect();
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

fn parent<'a>(state: &'a RunState, task: &Task) -> Result<&'a Task, StepError> {
    let id = task
        .parent
        .ok_or_else(|| super::state::missing("group of task", task.label()))?;
    state.task(id)
}
