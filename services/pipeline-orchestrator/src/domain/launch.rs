//! What the runner is asked to run for an attempt.

use std::collections::BTreeMap;

use ids::{ArtifactId, RunId, TaskId, WorkloadId};
use pipeline_spec::plan::{
    ArtifactType, Body, Component, Container, Executor, Files, OutputArtifact, ParameterType,
    Resources,
};
use serde_json::{Map, Value, json};

use super::cache::CACHE_VARIABLE;
use super::event::StepError;
use super::model::{Inputs, Run, Task};
use super::placeholder::{self, Placeholder};
use super::platform::{self, Platform};
use super::resolve::{self, Unresolved, file_name};
use super::state::{RunState, missing};

/// The placeholder of the whole ExecutorInput.
const EXECUTOR_INPUT: &str = "{{$}}";

/// The whole of an attempt, in the engine's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchSpec {
    /// The workload.
    pub workload_id: WorkloadId,
    /// The run.
    pub run_id: RunId,
    /// The task.
    pub task_id: TaskId,
    /// The path of the task.
    pub task_path: String,
    /// The number of the attempt.
    pub attempt: u32,
    /// The image, environment and resources, with placeholders filled.
    pub settings: Settings,
    /// The program and its leading arguments; placeholders are the agent's.
    pub command: Vec<String>,
    /// The remaining arguments; placeholders are the agent's.
    pub args: Vec<String>,
    /// `inputs` of the kfp ExecutorInput as JSON.
    pub inputs_json: String,
    /// The parameters that the step must produce.
    pub output_parameters: Vec<(String, ParameterType)>,
    /// The artifacts that the step may produce.
    pub output_artifacts: Vec<OutputSpec>,
    /// Values of the context placeholders, by name without braces.
    pub placeholders: BTreeMap<String, String>,
    /// Names of the declared inputs, those without a value included.
    pub declared_inputs: Vec<String>,
    /// What the task asks of the platform.
    pub platform: Platform,
    /// Files that the program knows by absolute paths of its own.
    pub files: Files,
    /// The digests of input artifacts by URI, where they are known; empty for one that is known to have no content.
    pub input_digests: BTreeMap<String, String>,
}

/// The settings of a program that may come from inputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// The image.
    pub image: String,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Quantities as Kubernetes writes them; empty for none.
    pub resources: Resources,
}

impl Settings {
    /// Those of what is no program and is done in no time.
    fn small() -> Self {
        Self {
            resources: Resources {
                cpu_request: "1m".to_owned(),
                ..Resources::default()
            },
            ..Self::default()
        }
    }
}

/// Where an output artifact goes.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSpec {
    /// The output's name.
    pub name: String,
    /// The place; it belongs to this attempt alone.
    pub uri: String,
    /// The declared type, metadata and arity.
    pub declared: OutputArtifact,
}

/// What to run for the newest attempt of a task. It depends on stored facts alone, so asking again after a restart
/// gives the same.
///
/// # Errors
/// The task is no program that was launched, or the stored run does not fit its plan.
pub fn launch_spec(state: &RunState, id: TaskId) -> Result<LaunchSpec, StepError> {
    let task = state.task(id)?;
    let attempt = task
        .last_attempt()
        .ok_or_else(|| missing("attempt of task", id))?;
    let component = state.component(task)?;
    let container = container(state, task)?;
    let placeholders = placeholders(state, task, attempt.number);
    let mut settings = settings(task, container, &task.body.inputs, &placeholders)
        .map_err(|unresolved| StepError::Inconsistent(unresolved.to_string()))?;
    // It is for the engine.
    settings.env.retain(|(name, _)| name != CACHE_VARIABLE);
    if platform::is_volume_task(container) {
        settings = Settings::small();
    }
    let platform = platform::platform(state, task, container, &task.body.inputs)
        .map_err(|unresolved| StepError::Inconsistent(unresolved.to_string()))?;
    let base = output_base(state, task, attempt.number);
    let output_artifacts = component
        .output_artifacts
        .iter()
        .map(|(name, declared)| OutputSpec {
            name: name.clone(),
            uri: format!("{base}/{}", file_name(name)),
            declared: declared.clone(),
        });
    let declared_inputs = component
        .input_parameters
        .keys()
        .chain(component.input_artifacts.keys())
        .cloned();
    Ok(LaunchSpec {
        workload_id: attempt.workload_id.clone(),
        run_id: state.run.id,
        task_id: id,
        task_path: task.path.clone(),
        attempt: attempt.number,
        settings,
        command: container.command.clone(),
        args: container.args.clone(),
        inputs_json: executor_inputs(state, component, container, &task.body.inputs)?.to_string(),
        output_parameters: component
            .output_parameters
            .iter()
            .map(|(name, parameter_type)| (name.clone(), *parameter_type))
            .collect(),
        output_artifacts: output_artifacts.collect(),
        placeholders,
        declared_inputs: declared_inputs.collect(),
        platform,
        files: match platform::is_volume_task(container) {
            true => Files::default(),
            false => container.files.clone(),
        },
        input_digests: input_digests(state, &task.body.inputs),
    })
}

fn placeholders(state: &RunState, task: &Task, attempt: u32) -> BTreeMap<String, String> {
    let mut placeholders = resolve::context(state, task);
    let retries = attempt.saturating_sub(1).to_string();
    placeholders.insert("retries".to_owned(), retries);
    placeholders
}

/// `<root>/<pipeline>/<run>/<task id>-<task>/<attempt>`: no two attempts share a place.
fn output_base(state: &RunState, task: &Task, attempt: u32) -> String {
    let base = run_base(&state.run);
    format!("{base}/{}-{}/{attempt}", task.id, file_name(&task.name))
}

/// `<root>/<pipeline>/<run>`: everything that the run's programs write lies below it.
pub fn run_base(run: &Run) -> String {
    let root = run.pipeline_root.trim_end_matches('/');
    format!("{root}/{}/{}", file_name(&run.pipeline_name), run.id)
}

pub(super) fn container<'a>(state: &'a RunState, task: &Task) -> Result<&'a Container, StepError> {
    let executor = match &state.component(task)?.body {
        Body::Executor(label) => state.plan.executors.get(label),
        Body::Dag(_) => None,
    };
    match executor {
        Some(Executor::Container(container)) => Ok(container),
        Some(Executor::Importer(_)) | None => Err(missing("container of task", task.label())),
    }
}

/// Fills the placeholders of a program's settings; they see the channels that the component does not declare. `context` is
/// what the run and the attempt are called.
pub(super) fn settings(
    task: &Task,
    container: &Container,
    inputs: &Inputs,
    context: &BTreeMap<String, String>,
) -> Result<Settings, Unresolved> {
    let fill = |place: &str, text: &str| -> Result<String, Unresolved> {
        let lookup = |placeholder: Placeholder<'_>| match placeholder {
            Placeholder::Parameter(name) => {
                let value = inputs
                    .parameters
                    .get(name)
                    .or_else(|| inputs.channels.get(name));
                value
                    .cloned()
                    .map(Some)
                    .ok_or_else(|| Unresolved::Placeholder {
                        task: task.label().to_owned(),
                        place: place.to_owned(),
                        name: name.to_owned(),
                    })
            }
            Placeholder::Context(name) => Ok(context.get(name).cloned().map(Value::String)),
        };
        Ok(pipeline_spec::text_form(&placeholder::fill_text(
            text, &lookup,
        )?))
    };
    let asked = &container.resources;
    let mut env = Vec::with_capacity(container.env.len());
    for (name, value) in &container.env {
        env.push((
            name.clone(),
            fill(&format!("environment variable `{name}`"), value)?,
        ));
    }
    Ok(Settings {
        image: fill("image", &container.image)?,
        env,
        resources: Resources {
            cpu_request: fill("CPU request", &asked.cpu_request)?,
            cpu_limit: fill("CPU limit", &asked.cpu_limit)?,
            memory_request: fill("memory request", &asked.memory_request)?,
            memory_limit: fill("memory limit", &asked.memory_limit)?,
            accelerator_type: fill("accelerator type", &asked.accelerator_type)?,
            accelerator_count: fill("accelerator count", &asked.accelerator_count)?,
        },
    })
}

/// `inputs` of the kfp ExecutorInput. The name of an input artifact is its id, as the upstream driver has it.
fn executor_inputs(
    state: &RunState,
    component: &Component,
    container: &Container,
    inputs: &Inputs,
) -> Result<Value, StepError> {
    let mut parameters = inputs.parameters.clone();
    // The SDK's executor looks for the fields of a final status without asking whether there is one, so a component
    // that is run by itself, with nothing before it, would break. Others tell what was not given by its absence.
    let mut words = container.command.iter().chain(&container.args);
    if words.any(|word| word == EXECUTOR_INPUT) {
        for (name, declared) in &component.input_parameters {
            if declared.parameter_type == ParameterType::TaskFinalStatus {
                parameters.entry(name.clone()).or_insert_with(|| json!({}));
            }
        }
    }
    let mut artifacts = Map::new();
    for (input, ids) in &inputs.artifacts {
        artifacts.insert(input.clone(), artifact_list(state, ids)?);
    }
    Ok(json!({ "parameterValues": parameters, "artifacts": artifacts }))
}

/// An `ArtifactList` as kfp writes it.
pub(super) fn artifact_list(state: &RunState, ids: &[ArtifactId]) -> Result<Value, StepError> {
    let list: Result<Vec<Value>, StepError> =
        ids.iter().map(|id| runtime_artifact(state, *id)).collect();
    Ok(json!({ "artifacts": list? }))
}

fn input_digests(state: &RunState, inputs: &Inputs) -> BTreeMap<String, String> {
    let ids = inputs.artifacts.values().flatten();
    let artifacts = ids.filter_map(|id| state.artifact(*id));
    artifacts
        .filter_map(|artifact| {
            let digest = if artifact.present {
                Some(artifact.sha256.clone()).filter(|digest| !digest.is_empty())
            } else {
                // Elsewhere than where its run writes, nobody looked.
                let own = format!("/{}/", artifact.run_id);
                artifact.uri.contains(&own).then(String::new)
            };
            Some((artifact.uri.clone(), digest?))
        })
        .collect()
}

fn runtime_artifact(state: &RunState, id: ArtifactId) -> Result<Value, StepError> {
    let artifact = state.artifact(id).ok_or_else(|| missing("artifact", id))?;
    Ok(json!({
        "name": id.to_string(),
        "type": runtime_type(&artifact.artifact_type),
        "uri": artifact.uri,
        "metadata": artifact.metadata,
    }))
}

pub(super) fn runtime_type(artifact_type: &ArtifactType) -> Value {
    let fields = [
        ("schemaTitle", &artifact_type.schema_title),
        ("schemaVersion", &artifact_type.schema_version),
        ("instanceSchema", &artifact_type.instance_schema),
    ];
    let given = fields.into_iter().filter(|(_, text)| !text.is_empty());
    given
        .map(|(name, text)| (name.to_owned(), Value::from(text.as_str())))
        .collect()
}
