//! What the use cases answer, as messages of the contract.

use aip::time::to_proto;
use api_kfp1::v1beta1 as v1;
use clock::Timestamp;
use pipeline_spec::argo;
use serde_json::Value;

use super::workflow;
use crate::app::RunDetails;
use crate::domain::{Experiment, Pipeline, RunRecord, RunStatus, Source, StorageState, Version};

/// An experiment.
pub(super) fn experiment(experiment: &Experiment) -> v1::Experiment {
    let state = match experiment.storage_state {
        StorageState::Available => v1::experiment::StorageState::StoragestateAvailable,
        StorageState::Archived => v1::experiment::StorageState::StoragestateArchived,
    };
    v1::Experiment {
        id: experiment.id.to_string(),
        name: experiment.name.clone(),
        description: experiment.description.clone(),
        created_at: Some(to_proto(experiment.created_at)),
        resource_references: Vec::new(),
        storage_state: state.into(),
    }
}

/// A pipeline without its versions.
pub(super) fn bare_pipeline(pipeline: &Pipeline) -> v1::Pipeline {
    self::pipeline(pipeline, None)
}

/// A pipeline with its newest version, which is the default one.
pub(super) fn pipeline(pipeline: &Pipeline, latest: Option<&Version>) -> v1::Pipeline {
    let version = latest.map(version);
    let parameters = version.as_ref().map(|version| version.parameters.clone());
    v1::Pipeline {
        id: pipeline.id.to_string(),
        created_at: Some(to_proto(pipeline.created_at)),
        name: pipeline.name.clone(),
        description: pipeline.description.clone(),
        parameters: parameters.unwrap_or_default(),
        url: None,
        error: String::new(),
        default_version: version,
        resource_references: Vec::new(),
    }
}

/// A version.
pub(super) fn version(version: &Version) -> v1::PipelineVersion {
    let id = version.pipeline_id.to_string();
    let owner = reference(v1::ResourceType::Pipeline, id, v1::Relationship::Owner);
    v1::PipelineVersion {
        id: version.id.to_string(),
        name: version.name.clone(),
        created_at: Some(to_proto(version.created_at)),
        parameters: parameters(&version.spec.body),
        code_source_url: version.code_source_url.clone(),
        package_url: None,
        resource_references: vec![owner],
        description: version.description.clone(),
    }
}

/// A reference to another resource.
pub(super) fn reference(
    kind: v1::ResourceType,
    id: String,
    relationship: v1::Relationship,
) -> v1::ResourceReference {
    v1::ResourceReference {
        key: Some(v1::ResourceKey {
            r#type: kind.into(),
            id,
        }),
        name: String::new(),
        relationship: relationship.into(),
    }
}

/// The parameters of a document with their defaults.
fn parameters(document: &str) -> Vec<v1::Parameter> {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let pairs = match argo::is_workflow(&document) {
        true => argo::parameters(&document),
        false => compiled_parameters(&document),
    };
    pairs
        .into_iter()
        .map(|(name, value)| v1::Parameter { name, value })
        .collect()
}

fn compiled_parameters(document: &Value) -> Vec<(String, String)> {
    let document = document.get("pipeline_spec").unwrap_or(document);
    let inputs = document.pointer("/root/inputDefinitions/parameters");
    let inputs = inputs.and_then(Value::as_object).into_iter().flatten();
    let pair = |(name, input): (&String, &Value)| {
        let default = input.get("defaultValue").map(pipeline_spec::text_form);
        (name.clone(), default.unwrap_or_default())
    };
    inputs.map(pair).collect()
}

/// A run as it was just created.
pub(super) fn created(details: &RunDetails) -> v1::RunDetail {
    detail(details, Vec::new())
}

/// A run with its status as that of a workflow.
pub(super) fn detail(details: &RunDetails, metrics: Vec<v1::RunMetric>) -> v1::RunDetail {
    let document = details.spec.as_deref().unwrap_or_default();
    let manifest = workflow::manifest(&details.record, &details.tasks, document);
    v1::RunDetail {
        run: Some(run(details, metrics)),
        pipeline_runtime: Some(v1::PipelineRuntime {
            pipeline_manifest: String::new(),
            workflow_manifest: manifest.to_string(),
        }),
    }
}

/// A run.
pub(super) fn run(details: &RunDetails, metrics: Vec<v1::RunMetric>) -> v1::Run {
    let record = &details.record;
    let run = &record.run;
    let storage = match record.storage_state {
        StorageState::Available => v1::run::StorageState::StoragestateAvailable,
        StorageState::Archived => v1::run::StorageState::StoragestateArchived,
    };
    let experiment = run.experiment_id.to_string();
    let mut references = vec![reference(
        v1::ResourceType::Experiment,
        experiment,
        v1::Relationship::Owner,
    )];
    if let Source::Version(_, version) = record.source {
        references.push(reference(
            v1::ResourceType::PipelineVersion,
            version.to_string(),
            v1::Relationship::Creator,
        ));
    }
    if !record.recurring_run_id.is_empty() {
        references.push(reference(
            v1::ResourceType::Job,
            record.recurring_run_id.clone(),
            v1::Relationship::Creator,
        ));
    }
    let error = match run.status {
        RunStatus::Failed | RunStatus::Canceled => run.body.message.clone(),
        RunStatus::Pending | RunStatus::Running | RunStatus::Succeeded | RunStatus::Canceling => {
            String::new()
        }
    };
    v1::Run {
        id: run.id.to_string(),
        name: run.display_name.clone(),
        storage_state: storage.into(),
        description: record.description.clone(),
        pipeline_spec: Some(pipeline_spec(details)),
        resource_references: references,
        service_account: record.service_account.clone(),
        created_at: Some(to_proto(run.created_at)),
        scheduled_at: Some(to_proto(run.scheduled_at.unwrap_or(run.created_at))),
        finished_at: Some(to_proto(run.finished_at.unwrap_or(Timestamp::EPOCH))),
        status: status(record).to_owned(),
        error,
        metrics,
        metric_errors: String::new(),
    }
}

fn pipeline_spec(details: &RunDetails) -> v1::PipelineSpec {
    let record = &details.record;
    let body = &record.run.body;
    let parameters = body.parameters.iter();
    let parameters = parameters.map(|(name, value)| v1::Parameter {
        name: name.clone(),
        value: pipeline_spec::text_form(value),
    });
    let mut spec = v1::PipelineSpec {
        pipeline_name: record.run.pipeline_name.clone(),
        parameters: parameters.collect(),
        ..document(details.spec.clone().unwrap_or_default())
    };
    if let Source::Version(pipeline, _) = record.source {
        spec.pipeline_id = pipeline.to_string();
    }
    spec
}

/// A stored document in the field of its kind.
pub(super) fn document(text: String) -> v1::PipelineSpec {
    let mut spec = v1::PipelineSpec::default();
    match is_workflow(&text) {
        true => spec.workflow_manifest = text,
        false => spec.pipeline_manifest = text,
    }
    spec
}

/// Whether a stored document is a workflow.
fn is_workflow(text: &str) -> bool {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    argo::is_workflow(&document)
}

/// The state of a run as older clients know it.
pub(super) fn status(record: &RunRecord) -> &'static str {
    match record.shown_state() {
        "PENDING" => "Pending",
        "RUNNING" => "Running",
        "SUCCEEDED" => "Succeeded",
        "CANCELING" => "Terminating",
        _ => "Failed",
    }
}
