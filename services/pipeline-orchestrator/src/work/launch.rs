//! Between the engine's terms and the runner's contract.

use api_runner::v1 as runner;
use api_step::v1 as step;
use clock::Timestamp;
use ids::WorkloadId;
use pipeline_spec::plan::{ArtifactType, FileSource, Files, ParameterType, Resources};
use serde_json::{Map, Value};

use super::settings;
use crate::domain::{
    LaunchSpec, OutputSpec, ProducedArtifact, StepReport, Usage, WorkloadState, WorkloadUpdate,
};

/// The owner of a run's workloads.
pub(crate) fn owner(run: ids::RunId) -> String {
    format!("{OWNERS}/{run}")
}

/// The owner of all workloads of this service.
pub(crate) const OWNERS: &str = "pipelines/runs";

/// What to ask the runner for.
pub(crate) fn request(namespace: &str, spec: LaunchSpec) -> runner::LaunchRequest {
    let volume_task = spec.platform.volume_task.clone().map(settings::volume_task);
    let (program, python) = match volume_task {
        Some(_) => (None, None),
        None => {
            let (program, python) = program(&spec);
            (Some(program), python)
        }
    };
    let step = step::Step {
        program,
        inputs_json: spec.inputs_json,
        output_parameters: spec
            .output_parameters
            .into_iter()
            .map(|(name, kind)| step::OutputParameter {
                name,
                r#type: parameter_type(kind).into(),
            })
            .collect(),
        output_artifacts: spec
            .output_artifacts
            .into_iter()
            .map(output_artifact)
            .collect(),
        placeholders: spec.placeholders.into_iter().collect(),
        declared_inputs: spec.declared_inputs,
        files: files(spec.files),
        input_digests: spec.input_digests.into_iter().collect(),
    };
    let labels = [
        ("run", spec.run_id.to_string()),
        ("task", spec.task_path),
        ("attempt", spec.attempt.to_string()),
    ];
    let asked = settings::settings(spec.platform);
    let workload = runner::WorkloadSpec {
        namespace: namespace.to_owned(),
        owner: owner(spec.run_id),
        labels: labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        image: spec.settings.image,
        step: Some(step),
        env: spec
            .settings
            .env
            .into_iter()
            .map(|(name, value)| step::EnvVar { name, value })
            .collect(),
        resources: Some(resources(spec.settings.resources)),
        python,
        volumes: asked.volumes,
        env_from: asked.env_from,
        timeout: asked.timeout,
        placement: asked.placement,
        volume_task,
        ..Default::default()
    };
    runner::LaunchRequest {
        id: spec.workload_id.into(),
        spec: Some(workload),
    }
}

/// Compiled pipelines have none, and then the message says nothing.
fn files(files: Files) -> Option<step::Files> {
    if files.is_empty() {
        return None;
    }
    let inputs = files.inputs.into_iter().map(|file| {
        let mut input = step::InputFile {
            path: file.path,
            ..Default::default()
        };
        match file.source {
            FileSource::Artifact { name, parameter } => {
                input.artifact = name;
                input.parameter = parameter;
            }
            FileSource::Text(text) => input.text = text,
        }
        input
    });
    let outputs = files.outputs.into_iter().map(|file| step::OutputFile {
        path: file.path,
        parameter: file.parameter,
        artifact: file.artifact,
        default_value: file.default,
        optional: file.optional,
    });
    Some(step::Files {
        inputs: inputs.collect(),
        outputs: outputs.collect(),
    })
}

fn resources(asked: Resources) -> runner::Resources {
    runner::Resources {
        cpu_request: asked.cpu_request,
        cpu_limit: asked.cpu_limit,
        memory_request: asked.memory_request,
        memory_limit: asked.memory_limit,
        accelerator_type: asked.accelerator_type,
        accelerator_count: asked.accelerator_count,
    }
}

/// A lightweight component becomes a function with requirements; anything else stays a command.
fn program(spec: &LaunchSpec) -> (step::step::Program, Option<runner::PythonRequirements>) {
    let Some(found) = ::step::template::recognise(&spec.command, &spec.args) else {
        let private = ::step::template::installs_packages(&spec.command, &spec.args);
        // Its image has the SDK besides the component, with all that the SDK needs to read a module.
        let containerised = ::step::template::containerised(&spec.command, &spec.args);
        let packages: Vec<String> = containerised
            .map(|_| "kfp".to_owned())
            .into_iter()
            .collect();
        let wanted = private || !packages.is_empty();
        let python = wanted.then(|| runner::PythonRequirements {
            private,
            packages,
            ..Default::default()
        });
        let command = step::Command {
            command: spec.command.clone(),
            args: spec.args.clone(),
        };
        return (step::step::Program::Command(command), python);
    };
    // A component that does not install kfp expects its image to have one, whichever, or installs its own.
    let own = found.packages.iter().any(|package| names_kfp(package));
    let default = if own { "" } else { "kfp" };
    let python = runner::PythonRequirements {
        packages: found.packages,
        kfp: found.kfp.unwrap_or_else(|| default.to_owned()),
        index_urls: found.index_urls,
        trusted_hosts: found.trusted_hosts,
        private: false,
    };
    let function = step::PythonFunction {
        source: found.source,
        function: found.function,
    };
    (step::step::Program::PythonFunction(function), Some(python))
}

/// Whether a pip requirement is for the package `kfp` itself, such as `kfp==2.9.0` or `kfp[kubernetes]`.
fn names_kfp(requirement: &str) -> bool {
    let rest = requirement.trim().strip_prefix("kfp");
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || "-_.".contains(c)))
}

fn output_artifact(output: OutputSpec) -> step::OutputArtifact {
    let declared = output.declared;
    let empty = declared.metadata.as_object().is_none_or(Map::is_empty);
    step::OutputArtifact {
        name: output.name,
        uri: output.uri,
        schema_title: declared.artifact_type.schema_title,
        schema_version: declared.artifact_type.schema_version,
        instance_schema: declared.artifact_type.instance_schema,
        metadata_json: if empty {
            String::new()
        } else {
            declared.metadata.to_string()
        },
        list: declared.list,
    }
}

fn parameter_type(kind: ParameterType) -> step::ParameterType {
    match kind {
        ParameterType::NumberDouble => step::ParameterType::NumberDouble,
        ParameterType::NumberInteger => step::ParameterType::NumberInteger,
        ParameterType::String => step::ParameterType::String,
        ParameterType::Boolean => step::ParameterType::Boolean,
        ParameterType::List => step::ParameterType::List,
        // The remaining two are objects for a program.
        ParameterType::Struct | ParameterType::TaskFinalStatus | ParameterType::TaskConfig => {
            step::ParameterType::Struct
        }
    }
}

/// What a workload of the runner means to the engine; none for an id that is not of this service.
pub(crate) fn update(workload: runner::Workload) -> Option<WorkloadUpdate> {
    let workload_id: WorkloadId = workload.id.parse().ok()?;
    let mut reason = workload.reason.clone();
    let mut message = workload.message.clone();
    let report = match workload.result.as_ref().map(report).transpose() {
        Ok(report) => report.map(Box::new),
        Err(broken) => {
            // A result that cannot be read must not pass for a success without outputs.
            reason = "RESULT_INVALID".to_owned();
            message = broken;
            None
        }
    };
    let state = match (workload.state(), report) {
        (runner::State::Unspecified | runner::State::Queued, _) => WorkloadState::Queued {
            position: workload.queue_position,
        },
        (runner::State::Preparing, _) => WorkloadState::Preparing,
        (runner::State::Running, _) => WorkloadState::Running,
        (runner::State::Stopping, _) => WorkloadState::Stopping,
        (runner::State::Succeeded, Some(report)) => WorkloadState::Succeeded(report),
        (runner::State::Succeeded, None) => {
            if reason.is_empty() {
                reason = "RESULT_MISSING".to_owned();
                message = "the step succeeded but reported no result".to_owned();
            }
            WorkloadState::Failed(None)
        }
        (runner::State::Failed, report) => WorkloadState::Failed(report),
        (runner::State::Stopped, report) => WorkloadState::Stopped(report),
        (runner::State::Lost, _) => WorkloadState::Lost,
    };
    Some(WorkloadUpdate {
        workload_id,
        version: workload.version,
        state,
        reason,
        message,
        notes: workload.notes,
        started_at: workload.started_at.as_ref().map(aip::time::from_proto),
        ended_at: workload.ended_at.as_ref().map(aip::time::from_proto),
    })
}

fn report(result: &step::StepResult) -> Result<StepReport, String> {
    let mut parameters = Map::new();
    for parameter in &result.parameters {
        let value: Value = serde_json::from_str(&parameter.value_json)
            .map_err(|error| format!("output parameter `{}`: {error}", parameter.name))?;
        parameters.insert(parameter.name.clone(), value);
    }
    let mut artifacts = Vec::with_capacity(result.artifacts.len());
    for output in &result.artifacts {
        let produced: Result<Vec<ProducedArtifact>, String> = output
            .artifacts
            .iter()
            .map(|artifact| produced(&output.name, artifact))
            .collect();
        artifacts.push((output.name.clone(), produced?));
    }
    let usage = result.usage.unwrap_or_default();
    let time = |micros: i64| (micros > 0).then(|| Timestamp::from_micros(micros));
    Ok(StepReport {
        exit_code: result.exit_code,
        signal: result.signal,
        parameters,
        artifacts,
        usage: Usage {
            peak_memory_bytes: usage.peak_memory_bytes,
            user_cpu_us: usage.user_cpu_us,
            system_cpu_us: usage.system_cpu_us,
        },
        started_at: time(result.started_at_us),
        ended_at: time(result.ended_at_us),
        prepare_us: result.prepare_us,
        collect_us: result.collect_us,
    })
}

fn produced(output: &str, artifact: &step::Artifact) -> Result<ProducedArtifact, String> {
    let metadata = match artifact.metadata_json.as_str() {
        "" => Map::new(),
        text => serde_json::from_str(text)
            .map_err(|error| format!("metadata of output artifact `{output}`: {error}"))?,
    };
    Ok(ProducedArtifact {
        name: artifact.name.clone(),
        artifact_type: ArtifactType {
            schema_title: artifact.schema_title.clone(),
            schema_version: artifact.schema_version.clone(),
            instance_schema: artifact.instance_schema.clone(),
        },
        uri: artifact.uri.clone(),
        metadata,
        size_bytes: artifact.size_bytes,
        sha256: artifact.sha256.clone(),
        present: artifact.present,
        directory: artifact.directory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(state: runner::State, result: Option<step::StepResult>) -> runner::Workload {
        runner::Workload {
            id: "r.1.1".to_owned(),
            state: state.into(),
            result,
            ..Default::default()
        }
    }

    #[test]
    fn a_component_that_brings_kfp_gets_no_other() {
        for own in [
            "kfp",
            "kfp==2.9.0",
            " kfp[kubernetes]>=2",
            "kfp @ file:///kfp.whl",
        ] {
            assert!(names_kfp(own), "{own}");
        }
        for other in ["kfp-kubernetes", "kfpx", "numpy", "kfp_server_api==2"] {
            assert!(!names_kfp(other), "{other}");
        }
    }

    #[test]
    fn a_success_without_a_readable_result_is_a_named_failure() {
        let missing = update(workload(runner::State::Succeeded, None)).unwrap();
        assert_eq!(missing.state, WorkloadState::Failed(None));
        assert_eq!(missing.reason, "RESULT_MISSING");
        let parameter = step::ParameterValue {
            name: "n".to_owned(),
            value_json: "{".to_owned(),
            ..Default::default()
        };
        let result = step::StepResult {
            parameters: vec![parameter],
            ..Default::default()
        };
        let broken = update(workload(runner::State::Succeeded, Some(result))).unwrap();
        assert_eq!(broken.state, WorkloadState::Failed(None));
        assert!(broken.message.contains("`n`"), "{}", broken.message);
    }
}
