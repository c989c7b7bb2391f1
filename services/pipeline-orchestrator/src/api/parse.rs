//! Requests of the adopted contract as the use cases take them. Every fault of a request is reported at once.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::run::PipelineSource;
use serde_json::{Map, Value};
use tonic::Request;

use super::value;
use crate::app::{CACHE_FIELD, NewPipeline, NewRun, NewSource, NewVersion, TagChange};
use crate::domain::violation::{
    DESCRIPTION, EXPERIMENT_NAME, LINE, PIPELINE_NAME, RUN_NAME, VERSION_NAME, Violations,
};
use crate::domain::{Asked, Fields, Query};
use crate::error::Error;

/// The metadata by which tags are removed: a message cannot tell an empty map from none.
const CLEAR_TAGS: &str = "x-clear-tags";

/// An id of a path. A text that is no id names nothing.
pub(super) fn id<T: FromStr>(kind: &'static str, field: &str, text: &str) -> Result<T, Error> {
    if text.is_empty() {
        return Err(Error::field(field, "must not be empty"));
    }
    text.parse().map_err(|_| Error::not_found(kind, text))
}

/// The page that a list call asks for.
pub(super) fn query(
    fields: &'static Fields,
    size: i32,
    token: &str,
    sort_by: &str,
    filter: &str,
    parent: &str,
) -> Result<Query, Error> {
    let asked = Asked {
        size,
        token,
        sort_by,
        filter,
        parent,
    };
    Ok(Query::parse(fields, &asked)?)
}

/// A new experiment: its name and description.
pub(super) fn experiment(request: kfp::CreateExperimentRequest) -> Result<(String, String), Error> {
    let Some(experiment) = request.experiment else {
        return Err(Error::field("experiment", "must be given"));
    };
    let mut faults = Violations::new();
    faults.name(
        "experiment.display_name",
        &experiment.display_name,
        EXPERIMENT_NAME,
    );
    faults.text(
        "experiment.description",
        &experiment.description,
        DESCRIPTION,
    );
    Ok(faults.into_result((experiment.display_name, experiment.description))?)
}

/// A new pipeline.
pub(super) fn pipeline(request: kfp::CreatePipelineRequest) -> Result<NewPipeline, Error> {
    let mut faults = Violations::new();
    let pipeline = pipeline_of(request.pipeline, &mut faults);
    Ok(faults.into_result(pipeline)?)
}

/// A new pipeline with its first version, which takes its name unless it has one.
pub(super) fn pipeline_and_version(
    request: kfp::CreatePipelineAndVersionRequest,
) -> Result<(NewPipeline, NewVersion), Error> {
    let mut faults = Violations::new();
    let pipeline = pipeline_of(request.pipeline, &mut faults);
    let mut version = request.pipeline_version;
    if let Some(version) = &mut version
        && version.name.is_empty()
        && version.display_name.is_empty()
    {
        // Versions' names are one character shorter.
        version.name = pipeline.name.chars().take(VERSION_NAME).collect();
        version.display_name = pipeline.display_name.chars().take(VERSION_NAME).collect();
    }
    let version = version_of(version, &mut faults);
    Ok(faults.into_result((pipeline, version))?)
}

/// A new version of a pipeline.
pub(super) fn version(request: kfp::CreatePipelineVersionRequest) -> Result<NewVersion, Error> {
    let mut faults = Violations::new();
    let inner = request
        .pipeline_version
        .as_ref()
        .map_or("", |version| &version.pipeline_id);
    if !inner.is_empty() && inner != request.pipeline_id {
        faults.add(
            "pipeline_version.pipeline_id",
            "must be the pipeline of the request",
        );
    }
    let version = version_of(request.pipeline_version, &mut faults);
    Ok(faults.into_result(version)?)
}

fn pipeline_of(pipeline: Option<kfp::Pipeline>, faults: &mut Violations) -> NewPipeline {
    if pipeline.is_none() {
        faults.add("pipeline", "must be given");
    }
    let pipeline = pipeline.unwrap_or_default();
    let (name, display_name) = names(pipeline.name, pipeline.display_name);
    let tags = tags(pipeline.tags);
    faults.name("pipeline.name", &name, PIPELINE_NAME);
    faults.text("pipeline.display_name", &display_name, PIPELINE_NAME);
    faults.text("pipeline.description", &pipeline.description, DESCRIPTION);
    faults.tags("pipeline.tags", &tags);
    NewPipeline {
        name,
        display_name,
        description: pipeline.description,
        tags,
    }
}

fn version_of(version: Option<kfp::PipelineVersion>, faults: &mut Violations) -> NewVersion {
    if version.is_none() {
        faults.add("pipeline_version", "must be given");
    }
    let version = version.unwrap_or_default();
    let (name, display_name) = names(version.name, version.display_name);
    let tags = tags(version.tags);
    faults.name("pipeline_version.name", &name, VERSION_NAME);
    faults.text("pipeline_version.display_name", &display_name, VERSION_NAME);
    faults.text(
        "pipeline_version.description",
        &version.description,
        DESCRIPTION,
    );
    faults.text(
        "pipeline_version.code_source_url",
        &version.code_source_url,
        LINE,
    );
    faults.tags("pipeline_version.tags", &tags);
    let url = version
        .package_url
        .map(|url| url.pipeline_url)
        .unwrap_or_default();
    let spec = match version.pipeline_spec {
        Some(spec) => spec_of("pipeline_version.pipeline_spec", spec, faults),
        None if url.is_empty() => {
            faults.add("pipeline_version.pipeline_spec", "must be given");
            Value::Null
        }
        None => {
            faults.add(
                "pipeline_version.package_url",
                "specifications are not fetched from URLs; send the document itself, by \
                 POST /apis/v2beta1/pipelines/upload or as pipeline_spec",
            );
            Value::Null
        }
    };
    NewVersion {
        name,
        display_name,
        description: version.description,
        spec,
        code_source_url: version.code_source_url,
        tags,
    }
}

fn spec_of(field: &str, spec: prost_types::Struct, faults: &mut Violations) -> Value {
    value::from_struct(spec).unwrap_or_else(|| {
        faults.add(field, "holds a number that is not finite");
        Value::Null
    })
}

/// What is to change of a pipeline.
pub(super) fn pipeline_update(
    request: &Request<kfp::UpdatePipelineRequest>,
) -> Result<(String, TagChange), Error> {
    let Some(pipeline) = &request.get_ref().pipeline else {
        return Err(Error::field("pipeline", "must be given"));
    };
    update(
        "pipeline",
        PIPELINE_NAME,
        &pipeline.display_name,
        &pipeline.tags,
        clears_tags(request),
    )
}

/// What is to change of a version.
pub(super) fn version_update(
    request: &Request<kfp::UpdatePipelineVersionRequest>,
) -> Result<(String, TagChange), Error> {
    let Some(version) = &request.get_ref().pipeline_version else {
        return Err(Error::field("pipeline_version", "must be given"));
    };
    update(
        "pipeline_version",
        VERSION_NAME,
        &version.display_name,
        &version.tags,
        clears_tags(request),
    )
}

fn update(
    field: &str,
    name_limit: usize,
    display_name: &str,
    tags: &HashMap<String, String>,
    clear: bool,
) -> Result<(String, TagChange), Error> {
    let tags = self::tags(tags.clone());
    let mut faults = Violations::new();
    faults.text(&format!("{field}.display_name"), display_name, name_limit);
    faults.tags(&format!("{field}.tags"), &tags);
    let change = if tags.is_empty() && !clear {
        TagChange::Keep
    } else {
        TagChange::Replace(tags)
    };
    Ok(faults.into_result((display_name.to_owned(), change))?)
}

fn clears_tags<T>(request: &Request<T>) -> bool {
    let value = request.metadata().get(CLEAR_TAGS);
    value.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

/// A name stands in for a missing display name, and the other way round.
fn names(name: String, display_name: String) -> (String, String) {
    match (name.is_empty(), display_name.is_empty()) {
        (true, _) => (display_name.clone(), display_name),
        (false, true) => (name.clone(), name),
        (false, false) => (name, display_name),
    }
}

fn tags(tags: HashMap<String, String>) -> BTreeMap<String, String> {
    tags.into_iter().collect()
}

/// A new run, and the faults of its fields; the use case adds those of its specification and parameters.
pub(super) fn run(request: kfp::CreateRunRequest) -> Result<(NewRun, Violations), Error> {
    let mut faults = Violations::new();
    if request.run.is_none() {
        faults.add("run", "must be given");
    }
    let mut run = request.run.unwrap_or_default();
    #[expect(deprecated, reason = "older clients still send it")]
    let older = request.experiment_id;
    if run.experiment_id.is_empty() {
        run.experiment_id = older;
    }
    faults.name("run.display_name", &run.display_name, RUN_NAME);
    faults.text("run.description", &run.description, DESCRIPTION);
    faults.text("run.service_account", &run.service_account, LINE);
    if !run.plugins_input.is_empty() {
        faults.add("run.plugins_input", "plugins are not served");
    }
    let experiment = match run.experiment_id.as_str() {
        "" => None,
        text => Some(id("experiment", "run.experiment_id", text)?),
    };
    let source = source("run", run.pipeline_source, &mut faults)?;
    let (parameters, pipeline_root) = config("run", run.runtime_config, &mut faults);
    let new = NewRun {
        display_name: run.display_name,
        description: run.description,
        experiment,
        source,
        parameters,
        pipeline_root,
        service_account: run.service_account,
        cache: String::new(),
    };
    Ok((new, faults))
}

/// The parameters and the place for outputs. `field` is the run or the schedule in the request.
pub(super) fn config(
    field: &str,
    config: Option<kfp::RuntimeConfig>,
    faults: &mut Violations,
) -> (Map<String, Value>, String) {
    let config = config.unwrap_or_default();
    faults.text(
        &format!("{field}.runtime_config.pipeline_root"),
        &config.pipeline_root,
        LINE,
    );
    let mut parameters = Map::new();
    for (name, given) in config.parameters {
        match value::from_proto(given) {
            Some(given) => {
                parameters.insert(name, given);
            }
            None => faults.add(
                format!("{field}.runtime_config.parameters.{name}"),
                "must be a finite number",
            ),
        }
    }
    (parameters, config.pipeline_root)
}

/// What is to be run. `field` is the run or the schedule in the request.
pub(super) fn source(
    field: &str,
    source: Option<PipelineSource>,
    faults: &mut Violations,
) -> Result<NewSource, Error> {
    #[expect(deprecated, reason = "older clients still send it")]
    let (pipeline, version) = match source {
        Some(PipelineSource::PipelineSpec(spec)) => {
            let before = faults.clone();
            let spec = spec_of(&format!("{field}.pipeline_spec"), spec, faults);
            let readable = *faults == before;
            return Ok(if readable {
                NewSource::Inline(spec)
            } else {
                NewSource::Missing
            });
        }
        Some(PipelineSource::PipelineVersionId(version)) => (String::new(), version),
        Some(PipelineSource::PipelineVersionReference(reference)) => {
            (reference.pipeline_id, reference.pipeline_version_id)
        }
        None => (String::new(), String::new()),
    };
    let pipeline = match pipeline.as_str() {
        "" => None,
        text => Some(id(
            "pipeline",
            &format!("{field}.pipeline_version_reference.pipeline_id"),
            text,
        )?),
    };
    match (pipeline, version.as_str()) {
        (None, "") => {
            faults.add(
                format!("{field}.pipeline_spec"),
                format!("must be given, or {field}.pipeline_version_reference instead"),
            );
            Ok(NewSource::Missing)
        }
        (Some(pipeline), "") => Ok(NewSource::Latest(pipeline)),
        (pipeline, text) => {
            let field = format!("{field}.pipeline_version_reference.pipeline_version_id");
            let version = id("pipeline version", &field, text)?;
            Ok(NewSource::Version(pipeline, version))
        }
    }
}

/// How a new run uses the cache, from the metadata of the call; empty when it does not say.
pub(super) fn cache<T>(request: &Request<T>) -> Result<String, Error> {
    let text = match request.metadata().get(CACHE_FIELD) {
        None => return Ok(String::new()),
        Some(text) => text,
    };
    match text.to_str() {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Error::field(
            CACHE_FIELD,
            "must be visible ASCII characters",
        )),
    }
}
