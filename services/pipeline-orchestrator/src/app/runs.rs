//! Runs. The engine alone brings them forward; these use cases create them and ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use clock::Timestamp;
use ids::{ExperimentId, PipelineId, PipelineVersionId, RunId};
use pipeline_spec::Plan;
use serde_json::{Map, Value};
use sql::Conn;

use super::lists::put_tags;
use super::pipelines::version_of;
use super::plans::{unsupported, violation};
use super::{App, Call, Reply};
use crate::domain::macros::{self, Facts};
use crate::domain::violation::Violations;
use crate::domain::{
    CachePolicy, DEFAULT_EXPERIMENT, Entered, LOST_BUDGET, Query, Run, RunBody, RunRecord,
    RunStatus, RunsOf, Source, Spec, StorageState, Task,
};
use crate::error::Error;
use crate::store::{Page, experiments, pipelines, runs};

const KIND: &str = "run";
/// The metadata of a call that says how a new run uses the cache.
pub const CACHE_FIELD: &str = "flumina-cache";

/// A run to create.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The name for people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// The experiment; none for the default one.
    pub experiment: Option<ExperimentId>,
    /// What to run.
    pub source: NewSource,
    /// The pipeline's parameters.
    pub parameters: Map<String, Value>,
    /// Where outputs go; empty for the default.
    pub pipeline_root: String,
    /// The account; it has no effect on one machine.
    pub service_account: String,
    /// How its tasks use the cache, as [`CachePolicy::refined`] reads it; empty for what is configured.
    pub cache: String,
}

/// What a new run executes.
#[derive(Debug, Clone)]
pub enum NewSource {
    /// A specification that came with the request.
    Inline(Value),
    /// A stored version, of the pipeline if one is named.
    Version(Option<PipelineId>, PipelineVersionId),
    /// The newest version of a pipeline.
    Latest(PipelineId),
    /// Nothing that could be read; the faults say why.
    Missing,
}

/// A run with what its answer shows.
#[derive(Debug, Clone)]
pub struct RunDetails {
    /// The run.
    pub record: RunRecord,
    /// The specification, of a run that brought its own.
    pub spec: Option<String>,
    /// Its tasks.
    pub tasks: Vec<Task>,
}

/// What a new run executes, found and checked.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub(crate) source: Source,
    pub(crate) spec: Spec,
    pub(crate) plan: Arc<Plan>,
}

/// A run that has not started and is not stored yet.
pub(super) fn pending(
    id: RunId,
    plan: &Plan,
    parameters: Map<String, Value>,
    cache: CachePolicy,
    now: Timestamp,
) -> Run {
    Run {
        id,
        display_name: String::new(),
        // Found when it is stored.
        experiment_id: ExperimentId::derived(""),
        pipeline_name: plan.name.clone(),
        pipeline_root: String::new(),
        status: RunStatus::Pending,
        created_at: now,
        scheduled_at: Some(now),
        finished_at: None,
        version: 1,
        body: RunBody {
            parameters,
            history: vec![Entered {
                status: RunStatus::Pending,
                at: now,
            }],
            lost_budget: LOST_BUDGET,
            cache,
            ..RunBody::default()
        },
    }
}

fn record(run: Run, new: NewRun, source: Source, spec: &Spec) -> RunRecord {
    RunRecord {
        run: Run {
            display_name: new.display_name,
            ..run
        },
        description: new.description,
        storage_state: StorageState::Available,
        source,
        spec_hash: spec.hash.clone(),
        requested_root: new.pipeline_root,
        service_account: new.service_account,
        recurring_run_id: String::new(),
        cancel: None,
        deleting: false,
        keep_artifacts: false,
    }
}

impl App {
    /// Creates a run: checks everything, stores it and wakes the engine. `faults` are those found so far.
    pub async fn create_run(
        &self,
        call: Call<RunDetails>,
        new: NewRun,
        faults: Violations,
    ) -> Result<Reply<RunDetails>, Error> {
        self.create_tagged_run(call, new, BTreeMap::new(), faults)
            .await
    }

    /// The same with tags.
    pub(super) async fn create_tagged_run(
        &self,
        call: Call<RunDetails>,
        mut new: NewRun,
        tags: BTreeMap<String, String>,
        mut faults: Violations,
    ) -> Result<Reply<RunDetails>, Error> {
        if let Some(reply) = self.repeated(call.key.clone()).await? {
            return Ok(reply);
        }
        let asked = std::mem::replace(&mut new.source, NewSource::Missing);
        let resolved = match self.resolve("run", asked).await {
            Ok(resolved) => resolved,
            Err(Error::Invalid(more)) => {
                faults.extend(more);
                None
            }
            Err(other) if faults.is_empty() => return Err(other),
            Err(_) => None,
        };
        match resolved {
            Some(resolved) => self.store_run(call, new, tags, resolved, faults).await,
            None => Err(Error::Invalid(faults.into_vec())),
        }
    }

    /// Checks the rest of a new run, stores it and wakes the engine.
    pub(super) async fn store_run(
        &self,
        call: Call<RunDetails>,
        mut new: NewRun,
        tags: BTreeMap<String, String>,
        resolved: Resolved,
        mut faults: Violations,
    ) -> Result<Reply<RunDetails>, Error> {
        let Resolved { source, spec, plan } = resolved;
        faults.extend(unsupported("run.pipeline_spec", &plan));
        let now = self.parts().clock.now();
        let id = RunId::generate();
        let facts = Facts {
            run_id: id,
            now,
            scheduled_at: None,
            index: None,
        };
        let parameters = parameters(
            "run",
            &plan,
            std::mem::take(&mut new.parameters),
            &facts,
            &mut faults,
        );
        let place = self.parts().roots.of(&plan, &new.pipeline_root);
        let pipeline_root = place.unwrap_or_else(|wrong| {
            faults.add(format!("run.{}", wrong.field), wrong.message);
            String::new()
        });
        let mut cache = self.parts().cache;
        if !new.cache.is_empty() {
            cache = cache.refined(&new.cache).unwrap_or_else(|message| {
                faults.add(CACHE_FIELD, message);
                cache
            });
        }
        faults.into_result(())?;
        let experiment = new.experiment;
        let run = Run {
            pipeline_root,
            ..pending(id, &plan, parameters, cache, now)
        };
        let record = record(run, new, source, &spec);
        let create = self.mutate_run(call, id, move |conn| {
            Box::pin(async move {
                let details = insert(conn, record, spec, experiment).await?;
                put_tags(conn, id, &tags).await?;
                Ok(details)
            })
        });
        let reply = create.await?;
        if let Reply::Fresh(_) = &reply {
            self.parts().metrics.runs_created.inc();
        }
        Ok(reply)
    }

    /// Finds and plans what a new run executes; none when the request names nothing. `field` is the run or the schedule
    /// in the request.
    pub(super) async fn resolve(
        &self,
        field: &str,
        source: NewSource,
    ) -> Result<Option<Resolved>, Error> {
        let plans = &self.parts().plans;
        let version = match source {
            NewSource::Missing => return Ok(None),
            NewSource::Inline(value) => {
                let checked = plans
                    .check(&format!("{field}.pipeline_spec"), value)
                    .await?;
                return Ok(Some(Resolved {
                    source: Source::Inline,
                    spec: checked.spec,
                    plan: checked.plan,
                }));
            }
            NewSource::Version(pipeline, id) => {
                let read = self.read(move |conn| {
                    Box::pin(async move { version_of(conn, pipeline, id).await })
                });
                read.await?
            }
            NewSource::Latest(pipeline) => {
                let read =
                    self.read(move |conn| Box::pin(async move { latest(conn, pipeline).await }));
                read.await?
            }
        };
        let plan = plans
            .of_text(&version.spec.hash, &version.spec.body)
            .await?;
        Ok(Some(Resolved {
            source: Source::Version(version.pipeline_id, version.id),
            spec: version.spec,
            plan,
        }))
    }

    /// Returns a page of runs, without their tasks: those of one run may be thousands.
    pub async fn list_runs(&self, of: RunsOf, query: Query) -> Result<Page<RunDetails>, Error> {
        let page =
            self.read(move |conn| Box::pin(async move { Ok(runs::list(conn, of, &query).await?) }));
        let details = |(record, spec)| RunDetails {
            record,
            spec,
            tasks: Vec::new(),
        };
        Ok(page.await?.map(details))
    }

    /// Puts a run away.
    pub async fn archive_run(&self, call: Call<()>, id: RunId) -> Result<Reply<()>, Error> {
        let archive = self.mutate_listed(call, Some(id), move |conn| {
            Box::pin(async move {
                match runs::set_storage(conn, id, StorageState::Archived).await? {
                    true => Ok(()),
                    false => Err(Error::not_found(KIND, id)),
                }
            })
        });
        archive.await
    }

    /// Takes a run back, unless its experiment is put away.
    pub async fn unarchive_run(&self, call: Call<()>, id: RunId) -> Result<Reply<()>, Error> {
        let unarchive = self.mutate_listed(call, Some(id), move |conn| {
            Box::pin(async move {
                let record = runs::visible(conn, id).await?;
                let record = record.ok_or_else(|| Error::not_found(KIND, id))?;
                let experiment = experiments::get(conn, record.run.experiment_id).await?;
                if let Some(experiment) = experiment {
                    in_use(&experiment)?;
                }
                runs::set_storage(conn, id, StorageState::Available).await?;
                Ok(())
            })
        });
        unarchive.await
    }

    /// Asks for the end of a run.
    pub async fn terminate_run(
        &self,
        call: Call<()>,
        id: RunId,
        reason: String,
    ) -> Result<Reply<()>, Error> {
        let now = self.parts().clock.now();
        let terminate = self.mutate_run(call, id, move |conn| {
            Box::pin(async move {
                if runs::request_cancel(conn, id, now, &reason).await? {
                    return Ok(());
                }
                let record = runs::visible(conn, id).await?;
                let record = record.ok_or_else(|| Error::not_found(KIND, id))?;
                Err(Error::Precondition {
                    reason: "RUN_ENDED",
                    kind: KIND,
                    name: id.to_string(),
                    message: format!(
                        "run {id} has ended already, with the state {}",
                        record.shown_state()
                    ),
                })
            })
        });
        terminate.await
    }

    /// Lets a run that ended without success go on: what succeeded stays, the rest is executed again.
    pub async fn retry_run(&self, call: Call<()>, id: RunId) -> Result<Reply<()>, Error> {
        let now = self.parts().clock.now();
        self.check_given_up(id, now).await?;
        let retry = self.mutate_run(call, id, move |conn| {
            Box::pin(async move {
                let record = runs::visible(conn, id).await?;
                let mut record = record.ok_or_else(|| Error::not_found(KIND, id))?;
                let version = record.run.version;
                if record.run.retry(now).is_err() {
                    return Err(Error::Precondition {
                        reason: "RUN_NOT_FAILED",
                        kind: KIND,
                        name: id.to_string(),
                        message: format!(
                            "run {id} is {}; only a run that failed or was stopped can be retried",
                            record.shown_state()
                        ),
                    });
                }
                match runs::retry(conn, &record.run, version).await? {
                    true => Ok(()),
                    false => Err(Error::Conflict),
                }
            })
        });
        retry.await
    }

    /// Removes a run: it is gone for clients at once, and the engine stops it and cleans up.
    pub async fn delete_run(
        &self,
        call: Call<()>,
        id: RunId,
        keep_artifacts: bool,
    ) -> Result<Reply<()>, Error> {
        let delete = self.mutate_run(call, id, move |conn| {
            Box::pin(async move {
                match runs::request_delete(conn, id, keep_artifacts).await? {
                    true => Ok(()),
                    false => Err(Error::not_found(KIND, id)),
                }
            })
        });
        delete.await
    }
}

/// Stores a run in its experiment.
pub(crate) async fn insert(
    conn: &mut Conn,
    mut record: RunRecord,
    spec: Spec,
    experiment: Option<ExperimentId>,
) -> Result<RunDetails, Error> {
    let now = record.run.created_at;
    let experiment = match experiment {
        Some(id) => experiments::get(conn, id)
            .await?
            .ok_or_else(|| Error::not_found("experiment", id))?,
        None => experiments::ensure(conn, DEFAULT_EXPERIMENT, "", now).await?,
    };
    in_use(&experiment)?;
    // False when it was put away or deleted since the line above.
    if !experiments::touch(conn, experiment.id, now).await? {
        return Err(Error::Conflict);
    }
    record.run.experiment_id = experiment.id;
    runs::insert(conn, &record, &spec).await?;
    let spec = (record.source == Source::Inline).then_some(spec.body);
    Ok(RunDetails {
        record,
        spec,
        tasks: Vec::new(),
    })
}

pub(super) fn in_use(experiment: &crate::domain::Experiment) -> Result<(), Error> {
    match experiment.storage_state {
        StorageState::Available => Ok(()),
        StorageState::Archived => Err(Error::Precondition {
            reason: "EXPERIMENT_ARCHIVED",
            kind: "experiment",
            name: experiment.id.to_string(),
            message: format!(
                "experiment \"{}\" is archived; unarchive it first",
                experiment.name
            ),
        }),
    }
}

pub(super) async fn latest(
    conn: &mut Conn,
    pipeline: PipelineId,
) -> Result<crate::domain::Version, Error> {
    if let Some(version) = pipelines::latest_version(conn, pipeline).await? {
        return Ok(version);
    }
    match pipelines::get(conn, pipeline).await? {
        Some(_) => Err(Error::Precondition {
            reason: "PIPELINE_WITHOUT_VERSION",
            kind: "pipeline",
            name: pipeline.to_string(),
            message: format!("pipeline {pipeline} has no version yet"),
        }),
        None => Err(Error::not_found("pipeline", pipeline)),
    }
}

/// The parameters that were given, with macros replaced and fitted to their types.
pub(super) fn parameters(
    field: &str,
    plan: &Plan,
    given: Map<String, Value>,
    facts: &Facts,
    faults: &mut Violations,
) -> Map<String, Value> {
    let expanded = given
        .into_iter()
        .map(|(name, value)| (name, macros::expand_value(value, facts)));
    let given: Map<String, Value> = expanded.collect();
    match pipeline_spec::check_parameters(plan, &given) {
        Ok(mut checked) => {
            // Defaults are the engine's business: clients get back what they gave.
            checked.retain(|name, _| given.get(name).is_some_and(|value| !value.is_null()));
            checked
        }
        Err(found) => {
            let found = found
                .into_iter()
                .map(|fault| violation(&format!("{field}.runtime_config"), fault));
            faults.extend(found.collect());
            Map::new()
        }
    }
}
