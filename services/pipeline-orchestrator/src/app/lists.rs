//! Lists of runs with tags, parameters and metrics, and what runs differ in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ids::RunId;
use serde_json::{Map, Value};
use sql::Conn;

use super::runs::{NewRun, RunDetails};
use super::{App, Call, Reply};
use crate::domain::compare::{Compared, Difference, differences};
use crate::domain::violation::{TAGS, Violations};
use crate::domain::{Condition, RunRecord, Task};
use crate::error::Error;
use crate::store::facts::{self, Kind};
use crate::store::{Facts, runs, specs, tasks};

const KIND: &str = "run";
/// Runs that are compared.
const COMPARED: std::ops::RangeInclusive<usize> = 2..=10;
/// Bytes of their specifications together; two of the largest fit.
const COMPARED_BYTES: usize = 64 << 20;

/// A run with what it is found by.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The run.
    pub record: RunRecord,
    /// Its tags, parameters and metrics.
    pub facts: Facts,
}

impl App {
    /// Creates a run with tags.
    pub async fn submit_run(
        &self,
        call: Call<RunDetails>,
        new: NewRun,
        tags: BTreeMap<String, String>,
        mut faults: Violations,
    ) -> Result<Reply<RunDetails>, Error> {
        faults.tags("tags", &tags);
        self.create_tagged_run(call, new, tags, faults).await
    }

    /// Returns runs that fulfil the conditions, newest first, before the place (time, id), and whether there are more.
    pub async fn find_runs(
        &self,
        conditions: Vec<Condition>,
        before: Option<(i64, String)>,
        limit: u32,
    ) -> Result<(Vec<Listed>, bool), Error> {
        let read = self.read(move |conn| {
            Box::pin(async move {
                let (found, more) = facts::list(conn, &conditions, before.as_ref(), limit).await?;
                Ok((with_facts(conn, found).await?, more))
            })
        });
        read.await
    }

    /// Returns those of the runs that fulfil the conditions, and those that did not fit into the answer.
    pub async fn find_among(
        &self,
        conditions: Vec<Condition>,
        ids: Vec<RunId>,
    ) -> Result<(Vec<Listed>, Vec<RunId>), Error> {
        let read = self.read(move |conn| {
            Box::pin(async move {
                let (found, left) = facts::among(conn, &conditions, &ids).await?;
                Ok((with_facts(conn, found).await?, left))
            })
        });
        read.await
    }

    /// Sets and removes tags of a run.
    pub async fn tag_run(
        &self,
        call: Call<Listed>,
        id: RunId,
        set: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<Reply<Listed>, Error> {
        let mut faults = Violations::new();
        faults.tags("set", &set);
        if remove.len() > TAGS {
            faults.add("remove", format!("must not have more than {TAGS} entries"));
        }
        faults.into_result(())?;
        let tag = self.mutate_listed(call, Some(id), move |conn| {
            Box::pin(async move {
                let record = visible(conn, id).await?;
                for name in &remove {
                    facts::remove_tag(conn, id, name).await?;
                }
                put_tags(conn, id, &set).await?;
                let listed = with_facts(conn, vec![record]).await?.pop();
                let listed = listed.ok_or_else(|| Error::not_found(KIND, id))?;
                if listed.facts.tags.len() > TAGS {
                    let message = format!("a run must not have more than {TAGS} tags");
                    return Err(Error::field("set", message));
                }
                Ok(listed)
            })
        });
        tag.await
    }

    /// Says in what runs differ: the runs, the differences, and whether there are more.
    pub async fn compare_runs(
        &self,
        ids: Vec<RunId>,
    ) -> Result<(Vec<Listed>, Vec<Difference>, bool), Error> {
        if !COMPARED.contains(&ids.len()) {
            let message = format!("must name {} to {} runs", COMPARED.start(), COMPARED.end());
            return Err(Error::field("run_ids", message));
        }
        let read = self.read(move |conn| {
            Box::pin(async move {
                let (mut all, mut specs) = (Vec::new(), Specs::default());
                for id in ids {
                    all.push(compared(conn, id, &mut specs).await?);
                }
                Ok(all)
            })
        });
        let (runs, compared): (Vec<Listed>, Vec<Compared>) = read.await?.into_iter().unzip();
        let work = tokio::task::spawn_blocking(move || differences(&compared));
        let (found, more) = work
            .await
            .map_err(|error| Error::Internal(format!("comparing failed: {error}")))?;
        Ok((runs, found, more))
    }
}

/// The specifications of runs that are compared, each once.
#[derive(Default)]
struct Specs {
    by_hash: HashMap<String, Arc<Value>>,
    bytes: usize,
}

impl Specs {
    async fn get(&mut self, conn: &mut Conn, hash: &str) -> Result<Arc<Value>, Error> {
        if let Some(known) = self.by_hash.get(hash) {
            return Ok(Arc::clone(known));
        }
        let text = specs::get(conn, hash).await?.unwrap_or_default();
        self.bytes += text.len();
        if self.bytes > COMPARED_BYTES {
            let message = format!(
                "the specifications of these runs are larger than {} MiB together; compare fewer runs",
                COMPARED_BYTES >> 20
            );
            return Err(Error::field("run_ids", message));
        }
        let spec: Arc<Value> = Arc::new(serde_json::from_str(&text).unwrap_or_default());
        self.by_hash.insert(hash.to_owned(), Arc::clone(&spec));
        Ok(spec)
    }
}

async fn compared(
    conn: &mut Conn,
    id: RunId,
    specs: &mut Specs,
) -> Result<(Listed, Compared), Error> {
    let record = visible(conn, id).await?;
    let spec = specs.get(conn, &record.spec_hash).await?;
    let parameters = match tasks::by_path(conn, id, "").await? {
        Some(root) => inputs(root)?,
        // It has not started.
        None => with_defaults(&spec, &record.run.body.parameters),
    };
    let listed = with_facts(conn, vec![record]).await?.pop();
    let listed = listed.ok_or_else(|| Error::not_found(KIND, id))?;
    let compared = Compared {
        parameters,
        metrics: listed.facts.metrics.clone(),
        spec,
    };
    Ok((listed, compared))
}

/// The parameters that were given, with the pipeline's defaults.
fn with_defaults(spec: &Value, given: &Map<String, Value>) -> Map<String, Value> {
    let document = spec.get("pipeline_spec").unwrap_or(spec);
    let declared = document
        .pointer("/root/inputDefinitions/parameters")
        .and_then(Value::as_object);
    let defaults = declared.into_iter().flatten().filter_map(|(name, one)| {
        let default = one.get("defaultValue")?;
        Some((name.clone(), default.clone()))
    });
    let mut all: Map<String, Value> = defaults.collect();
    all.extend(given.clone());
    all
}

fn inputs(root: crate::domain::TaskRecord) -> Result<Map<String, Value>, Error> {
    let root = Task::from_record(root)
        .map_err(|error| Error::Internal(format!("a stored task: {error}")))?;
    Ok(root.body.inputs.parameters)
}

async fn visible(conn: &mut Conn, id: RunId) -> Result<RunRecord, Error> {
    let record = runs::visible(conn, id).await?;
    record.ok_or_else(|| Error::not_found(KIND, id))
}

async fn with_facts(conn: &mut Conn, records: Vec<RunRecord>) -> Result<Vec<Listed>, Error> {
    let ids: Vec<RunId> = records.iter().map(|record| record.run.id).collect();
    let mut all = facts::of_runs(conn, &ids).await?;
    let listed = records.into_iter().map(|record| Listed {
        facts: all.remove(&record.run.id).unwrap_or_default(),
        record,
    });
    Ok(listed.collect())
}

/// Writes tags of a run.
pub(super) async fn put_tags(
    conn: &mut Conn,
    id: RunId,
    tags: &BTreeMap<String, String>,
) -> Result<(), Error> {
    for (name, value) in tags {
        facts::put(conn, id, Kind::Tag, name, &Value::String(value.clone())).await?;
    }
    Ok(())
}
