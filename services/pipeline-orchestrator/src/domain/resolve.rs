//! What a task receives: values and artifacts from the group's inputs, from tasks before it, from constants.
//!
//! The order is that of the kfp driver: sources, then placeholders in constants, then types, then defaults.

use std::collections::BTreeMap;

use ids::ArtifactId;
use pipeline_spec::plan::{
    ArtifactSource, Component, ParameterSource, ParameterType, ParameterValue, Task as PlanTask,
};
use serde_json::{Map, Value, json};

use super::event::StepError;
use super::failures;
use super::model::{Inputs, Run, Task};
use super::placeholder::{self, Placeholder};
use super::platform::{self, WORKSPACE};
use super::state::RunState;
use super::status::TaskStatus;

/// What failed so far, for tasks that run at the end.
const FAILURES: &str = "pipeline_job_failures";

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
    #[error("task `{task}`, {place}: {problem}")]
    Setting {
        task: String,
        place: String,
        problem: String,
    },
    #[error("task `{task}`: there is no input `{input}`")]
    Unknown { task: String, input: String },
    #[error("task `{task}`, input `{input}`: `{selector}` takes nothing from the value: {error}")]
    Selector {
        task: String,
        input: String,
        selector: String,
        error: String,
    },
    #[error("task `{task}`: the URI of the artifact is empty")]
    EmptyUri { task: String },
    #[error(transparent)]
    Plan(#[from] StepError),
}

/// The inputs of the pipeline itself: what the run was given, with the defaults.
pub(super) fn root_inputs(state: &RunState, task: &Task) -> Result<Inputs, Unresolved> {
    let given = state.run.body.parameters.clone();
    let inputs = declare(&state.plan.root, task, "", given)?;
    match inputs.channels.keys().next() {
        Some(input) => Err(Unresolved::Unknown {
            task: task.name.clone(),
            input: input.clone(),
        }),
        None => Ok(inputs),
    }
}

/// The inputs of a task whose dependencies have all ended as it wants it.
pub(super) fn inputs(state: &RunState, task: &Task) -> Result<Inputs, Unresolved> {
    let planned = state.planned(task)?;
    let component = state.component(task)?;

    let mut given = Map::new();
    let mut constants = Vec::new();
    for (input, source) in &planned.parameters {
        match &source.value {
            ParameterValue::Constant(constant) => constants.push((input, constant, source)),
            ParameterValue::ComponentInput(_)
            | ParameterValue::TaskOutput { .. }
            | ParameterValue::FinalStatus { .. } => {
                let value = parameter(state, task, component, input, source)?;
                given.insert(input.clone(), selected(task, input, source, value)?);
            }
        }
    }
    let filled = fill_constants(state, task, &given, constants)?;
    given.extend(filled);

    let item = planned.iterator.as_ref();
    let item = item.map_or("", |iterator| iterator.item_input.as_str());
    let mut inputs = declare(component, task, item, given)?;
    inputs.artifacts = artifacts(state, task, planned, component)?;
    Ok(inputs)
}

/// The value of a source that is no constant; null for one that was not given.
pub(super) fn parameter(
    state: &RunState,
    task: &Task,
    component: &Component,
    input: &str,
    source: &ParameterSource,
) -> Result<Value, Unresolved> {
    let label = || task.label().to_owned();
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
            if let Some(value) = outputs.parameters.get(output) {
                return Ok(value.clone());
            }
            // The producer may have failed, or what it selects may not have run.
            let declared = component.input_parameters.get(input);
            declared
                .filter(|declared| declared.optional || declared.default.is_some())
                .map(|_| Value::Null)
                .ok_or_else(|| Unresolved::NoOutput {
                    task: label(),
                    input: input.to_owned(),
                    producer: producer.clone(),
                    output: output.clone(),
                })
        }
        ParameterValue::FinalStatus { task: producer } => {
            Ok(final_status(state, state.sibling(parent.id, producer)?))
        }
    }
}

/// The part of a value that the selector of its source names.
fn selected(
    task: &Task,
    input: &str,
    source: &ParameterSource,
    value: Value,
) -> Result<Value, Unresolved> {
    if source.selector.is_empty() || value.is_null() {
        return Ok(value);
    }
    pipeline_spec::select(&source.selector, &value).map_err(|error| Unresolved::Selector {
        task: task.label().to_owned(),
        input: input.to_owned(),
        selector: source.selector.clone(),
        error: error.to_string(),
    })
}

/// How a task ended, in the form that the SDK reads. The names of the states are those of the metadata store upstream.
fn final_status(state: &RunState, task: &Task) -> Value {
    const UNKNOWN: i32 = 2;
    const CANCELLED: i32 = 1;
    let (name, code) = match task.status {
        TaskStatus::Succeeded => ("COMPLETE", None),
        TaskStatus::Cached => ("CACHED", None),
        TaskStatus::Failed => ("FAILED", Some(UNKNOWN)),
        TaskStatus::Canceled => ("CANCELED", Some(CANCELLED)),
        // Nothing starts after a task that was skipped or goes on.
        TaskStatus::Skipped
        | TaskStatus::Pending
        | TaskStatus::Ready
        | TaskStatus::Running
        | TaskStatus::Canceling => ("UNKNOWN", None),
    };
    let error = code.map_or_else(
        || json!({}),
        |code| json!({ "code": code, "message": state.failure_of(task) }),
    );
    json!({
        "state": name,
        "pipelineJobResourceName": resource_name(&state.run),
        "pipelineTaskName": task.name,
        "error": error,
    })
}

/// Fills the placeholders of constants from the other inputs; a constant does not see other constants.
fn fill_constants(
    state: &RunState,
    task: &Task,
    given: &Map<String, Value>,
    constants: Vec<(&String, &Value, &ParameterSource)>,
) -> Result<Map<String, Value>, Unresolved> {
    let context = context(state, task);
    let mut filled = Map::new();
    for (input, constant, source) in constants {
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
            Placeholder::Context(FAILURES) => Ok(Some(Value::String(failures::list(state)))),
            Placeholder::Context(name) => Ok(context.get(name).cloned().map(Value::String)),
        };
        let value = placeholder::fill(constant, &lookup)?;
        filled.insert(input.clone(), selected(task, input, source, value)?);
    }
    Ok(filled)
}

/// Gives each declared parameter its value, of its type, or its default; the rest are channels. The item of a loop comes
/// with each iteration.
fn declare(
    component: &Component,
    task: &Task,
    item: &str,
    mut given: Map<String, Value>,
) -> Result<Inputs, Unresolved> {
    let mut inputs = Inputs::default();
    for (name, declared) in &component.input_parameters {
        if name == item {
            continue;
        }
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
        // The compiler declares STRING where it does not know the type of items. On their way into a group they keep
        // their own, for the task that takes them may want a number.
        if task.kind.groups()
            && declared.parameter_type == ParameterType::String
            && pipeline_spec::keeps_item(name)
        {
            inputs.parameters.insert(name.clone(), value);
            continue;
        }
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
    let item = planned.iterator.as_ref();
    let item = item.map_or("", |iterator| iterator.item_input.as_str());
    for (input, declared) in &component.input_artifacts {
        if input == item {
            continue;
        }
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
    let workspace = platform::workspace(state).map(|_| ("workspace_path", WORKSPACE.to_owned()));
    [
        ("pipeline_job_name", run.display_name.clone()),
        ("pipeline_job_uuid", run.id.to_string()),
        ("pipeline_job_resource_name", resource_name(&state.run)),
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
    .chain(workspace)
    .map(|(name, value)| (name.to_owned(), value))
    .chain(parts_of_time(run.created_at))
    .collect()
}

/// Parts of the time of creation by the letter of `strftime`, as workflows name them.
fn parts_of_time(at: clock::Timestamp) -> impl Iterator<Item = (String, String)> {
    const LETTERS: &str = "aAbBdHImMpSyYZ";
    let zoned = jiff::Timestamp::from_second(at.as_secs()).ok();
    let zoned = zoned.map(|at| at.to_zoned(jiff::tz::TimeZone::UTC));
    let parts = LETTERS.chars().filter_map(move |letter| {
        let text = zoned.as_ref()?.strftime(&format!("%{letter}")).to_string();
        Some((letter.to_string(), text))
    });
    parts
        .chain([("seconds".to_owned(), at.as_secs().to_string())])
        .map(|(part, text)| (format!("pipeline_job_create_time_{part}"), text))
}

/// The name of the run among all runs: what `{{workflow.name}}` and the newer contract's counterpart stand for.
pub fn resource_name(run: &Run) -> String {
    format!("{}-{}", file_name(&run.pipeline_name), run.id)
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
