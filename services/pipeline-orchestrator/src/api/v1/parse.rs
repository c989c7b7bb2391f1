//! Requests of the contract as the use cases take them.

use api_kfp::v2beta1 as kfp;
use api_kfp1::v1beta1 as v1;
use ids::{ExperimentId, PipelineId, PipelineVersionId};
use pipeline_spec::Source;
use serde_json::{Map, Value};

use super::super::parse::id;
use super::super::{recurring, value};
use crate::app::{NewPipeline, NewRun, NewSchedule, NewSource};
use crate::domain::violation::{
    DESCRIPTION, EXPERIMENT_NAME, LINE, PIPELINE_NAME, RUN_NAME, Violations,
};
use crate::domain::{Asked, Fields, Query, RunsOf};
use crate::error::Error;

/// What a list call asks for.
pub(super) struct Page<'a> {
    pub(super) size: i32,
    pub(super) token: &'a str,
    pub(super) sort_by: &'a str,
    pub(super) filter: &'a str,
}

impl Page<'_> {
    pub(super) fn query(&self, fields: &'static Fields, parent: &str) -> Result<Query, Error> {
        // The states of storage have longer names in this contract.
        let filter = self.filter.replace("STORAGESTATE_", "");
        let asked = Asked {
            size: self.size,
            token: self.token,
            sort_by: self.sort_by,
            filter: &filter,
            parent,
        };
        Ok(Query::parse(fields, &asked)?)
    }
}

const SCOPE: &str = "resource_reference_key";

/// What a list of runs is limited to.
pub(super) fn runs_of(key: Option<v1::ResourceKey>) -> Result<RunsOf, Error> {
    const ID: &str = "resource_reference_key.id";
    let Some(key) = key else {
        return Ok(RunsOf::All);
    };
    match key.r#type() {
        // There is one namespace.
        v1::ResourceType::UnknownResourceType | v1::ResourceType::Namespace => Ok(RunsOf::All),
        v1::ResourceType::Experiment if key.id.is_empty() => Ok(RunsOf::All),
        v1::ResourceType::Experiment => Ok(RunsOf::Experiment(id("experiment", ID, &key.id)?)),
        v1::ResourceType::Job => Ok(RunsOf::Schedule(id("job", ID, &key.id)?)),
        v1::ResourceType::Pipeline | v1::ResourceType::PipelineVersion => Err(Error::field(
            SCOPE,
            "must be of the type EXPERIMENT, JOB or NAMESPACE",
        )),
    }
}

/// The experiment that a list of jobs is limited to; none for all of them.
pub(super) fn jobs_of(key: Option<v1::ResourceKey>) -> Result<Option<ExperimentId>, Error> {
    match runs_of(key)? {
        RunsOf::All => Ok(None),
        RunsOf::Experiment(id) => Ok(Some(id)),
        RunsOf::Schedule(_) => Err(Error::field(
            SCOPE,
            "must be of the type EXPERIMENT or NAMESPACE",
        )),
    }
}

/// A new experiment: its name and description.
pub(super) fn experiment(request: v1::CreateExperimentRequest) -> Result<(String, String), Error> {
    let Some(experiment) = request.experiment else {
        return Err(Error::field("experiment", "must be given"));
    };
    let mut faults = Violations::new();
    faults.name("experiment.name", &experiment.name, EXPERIMENT_NAME);
    faults.text(
        "experiment.description",
        &experiment.description,
        DESCRIPTION,
    );
    Ok(faults.into_result((experiment.name, experiment.description))?)
}

/// A new pipeline, without a version.
pub(super) fn pipeline(request: v1::CreatePipelineRequest) -> Result<NewPipeline, Error> {
    let Some(pipeline) = request.pipeline else {
        return Err(Error::field("pipeline", "must be given"));
    };
    let mut faults = Violations::new();
    faults.name("pipeline.name", &pipeline.name, PIPELINE_NAME);
    faults.text("pipeline.description", &pipeline.description, DESCRIPTION);
    if pipeline.url.is_some_and(|url| !url.pipeline_url.is_empty()) {
        faults.add("pipeline.url.pipeline_url", NOT_FETCHED);
    }
    Ok(faults.into_result(NewPipeline {
        display_name: pipeline.name.clone(),
        name: pipeline.name,
        description: pipeline.description,
        tags: Default::default(),
    })?)
}

/// Why a URL is refused.
pub(super) const NOT_FETCHED: &str = "pipelines are not fetched from URLs; send the document itself, by \
     POST /apis/v1beta1/pipelines/upload or upload_version";

/// A new run, and the faults of its fields; the use case adds those of its specification and parameters.
pub(super) fn run(request: v1::CreateRunRequest) -> Result<(NewRun, Violations), Error> {
    let Some(run) = request.run else {
        return Err(Error::field("run", "must be given"));
    };
    let mut faults = Violations::new();
    faults.name("run.name", &run.name, RUN_NAME);
    faults.text("run.description", &run.description, DESCRIPTION);
    faults.text("run.service_account", &run.service_account, LINE);
    let of = References::read("run", &run.resource_references)?;
    let what = what("run", run.pipeline_spec, of.version, &mut faults)?;
    let new = NewRun {
        display_name: run.name,
        description: run.description,
        experiment: of.experiment,
        source: what.source,
        parameters: what.parameters,
        pipeline_root: what.root,
        service_account: run.service_account,
        cache: String::new(),
    };
    Ok((new, faults))
}

/// A new job, and the faults of its fields.
pub(super) fn job(request: v1::CreateJobRequest) -> Result<(NewSchedule, Violations), Error> {
    let Some(job) = request.job else {
        return Err(Error::field("job", "must be given"));
    };
    let mut faults = Violations::new();
    faults.name("job.name", &job.name, RUN_NAME);
    faults.text("job.description", &job.description, DESCRIPTION);
    faults.text("job.service_account", &job.service_account, LINE);
    let enabled = match job.mode() {
        v1::job::Mode::UnknownMode => job.enabled,
        v1::job::Mode::Enabled => true,
        v1::job::Mode::Disabled => false,
    };
    let of = References::read("job", &job.resource_references)?;
    let what = what("job", job.pipeline_spec, of.version, &mut faults)?;
    let trigger = job.trigger.and_then(|trigger| trigger.trigger);
    let trigger = recurring::trigger(trigger.map(newer_trigger), &mut faults);
    let new = NewSchedule {
        field: "job",
        display_name: job.name,
        description: job.description,
        experiment: of.experiment,
        source: what.source,
        parameters: what.parameters,
        pipeline_root: what.root,
        service_account: job.service_account,
        max_concurrency: job.max_concurrency,
        trigger,
        enabled,
        catch_up: !job.no_catchup,
    };
    Ok((new, faults))
}

/// The same trigger in the newer contract.
fn newer_trigger(trigger: v1::trigger::Trigger) -> kfp::Trigger {
    let trigger = match trigger {
        v1::trigger::Trigger::CronSchedule(cron) => {
            kfp::trigger::Trigger::CronSchedule(kfp::CronSchedule {
                start_time: cron.start_time,
                end_time: cron.end_time,
                cron: cron.cron,
            })
        }
        v1::trigger::Trigger::PeriodicSchedule(periodic) => {
            kfp::trigger::Trigger::PeriodicSchedule(kfp::PeriodicSchedule {
                start_time: periodic.start_time,
                end_time: periodic.end_time,
                interval_second: periodic.interval_second,
            })
        }
    };
    kfp::Trigger {
        trigger: Some(trigger),
    }
}

/// What a run or a job executes, and with what.
struct What {
    source: NewSource,
    parameters: Map<String, Value>,
    root: String,
}

fn what(
    field: &str,
    spec: Option<v1::PipelineSpec>,
    version: Option<PipelineVersionId>,
    faults: &mut Violations,
) -> Result<What, Error> {
    let spec = spec.unwrap_or_default();
    let source = source(field, &spec, version, faults)?;
    let config = spec.runtime_config.unwrap_or_default();
    let place = format!("{field}.pipeline_spec.runtime_config");
    faults.text(
        &format!("{place}.pipeline_root"),
        &config.pipeline_root,
        LINE,
    );
    let mut parameters = Map::new();
    for parameter in spec.parameters {
        parameters.insert(parameter.name, Value::from(parameter.value));
    }
    for (name, given) in config.parameters {
        match value::from_proto(given) {
            Some(given) => {
                parameters.insert(name, given);
            }
            None => faults.add(
                format!("{place}.parameters.{name}"),
                "must be a finite number",
            ),
        }
    }
    Ok(What {
        source,
        parameters,
        root: config.pipeline_root,
    })
}

/// What a run or a job belongs to.
#[derive(Debug, Default)]
struct References {
    experiment: Option<ExperimentId>,
    version: Option<PipelineVersionId>,
}

impl References {
    fn read(field: &str, references: &[v1::ResourceReference]) -> Result<Self, Error> {
        let mut found = Self::default();
        for (index, reference) in references.iter().enumerate() {
            let Some(key) = &reference.key else {
                continue;
            };
            let field = format!("{field}.resource_references[{index}].key.id");
            match key.r#type() {
                v1::ResourceType::Experiment => {
                    found.experiment = Some(id("experiment", &field, &key.id)?);
                }
                v1::ResourceType::PipelineVersion => {
                    found.version = Some(id("pipeline version", &field, &key.id)?);
                }
                v1::ResourceType::UnknownResourceType
                | v1::ResourceType::Job
                | v1::ResourceType::Pipeline
                | v1::ResourceType::Namespace => {}
            }
        }
        Ok(found)
    }
}

fn source(
    field: &str,
    spec: &v1::PipelineSpec,
    version: Option<PipelineVersionId>,
    faults: &mut Violations,
) -> Result<NewSource, Error> {
    let documents = [
        ("workflow_manifest", &spec.workflow_manifest),
        ("pipeline_manifest", &spec.pipeline_manifest),
    ];
    let place = format!("{field}.pipeline_spec");
    for (key, text) in documents {
        if text.is_empty() {
            continue;
        }
        return Ok(match Source::parse(text.as_bytes()) {
            Ok(source) => NewSource::Inline(source.to_value()),
            Err(error) => {
                faults.add(format!("{place}.{key}"), error.to_string());
                NewSource::Missing
            }
        });
    }
    let pipeline: Option<PipelineId> = match spec.pipeline_id.as_str() {
        "" => None,
        text => Some(id("pipeline", &format!("{place}.pipeline_id"), text)?),
    };
    Ok(match (pipeline, version) {
        (pipeline, Some(version)) => NewSource::Version(pipeline, version),
        (Some(pipeline), None) => NewSource::Latest(pipeline),
        (None, None) => {
            faults.add(
                format!("{place}.workflow_manifest"),
                "must be given, or pipeline_id, or a reference to a pipeline version",
            );
            NewSource::Missing
        }
    })
}

#[cfg(test)]
mod tests {
    use ids::ScheduleId;

    use super::*;

    #[test]
    fn lists_of_runs_are_limited_to_an_experiment_or_a_job() {
        let key = |kind: v1::ResourceType, id: &str| {
            Some(v1::ResourceKey {
                r#type: kind.into(),
                id: id.to_owned(),
            })
        };
        let experiment = ExperimentId::generate();
        let job = ScheduleId::generate();
        assert_eq!(runs_of(None).unwrap(), RunsOf::All);
        let namespace = runs_of(key(v1::ResourceType::Namespace, "kubeflow"));
        assert_eq!(namespace.unwrap(), RunsOf::All);
        let found = runs_of(key(v1::ResourceType::Experiment, &experiment.to_string()));
        assert_eq!(found.unwrap(), RunsOf::Experiment(experiment));
        let found = runs_of(key(v1::ResourceType::Job, &job.to_string()));
        assert_eq!(found.unwrap(), RunsOf::Schedule(job));
        assert!(runs_of(key(v1::ResourceType::Job, "x")).is_err());
        assert!(runs_of(key(v1::ResourceType::Pipeline, "x")).is_err());
        assert!(jobs_of(key(v1::ResourceType::Job, &job.to_string())).is_err());
    }
}
