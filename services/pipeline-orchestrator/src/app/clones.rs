//! Runs made after other runs.

use std::collections::BTreeMap;

use ids::{ExperimentId, RunId};
use serde_json::{Map, Value};

use super::runs::{NewRun, NewSource, Resolved};
use super::{App, Call, Reply, RunDetails};
use crate::domain::violation::{RUN_NAME, Violations};
use crate::domain::{CacheMode, CachePolicy, RunRecord, Spec};
use crate::error::Error;
use crate::store::{runs, specs};

/// What a clone has different from its original.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    /// Parameters by name; null takes one away.
    pub parameters: Map<String, Value>,
    /// The name; empty for one after the original's.
    pub display_name: String,
    /// The experiment; none for the original's.
    pub experiment: Option<ExperimentId>,
}

impl App {
    /// Creates a run of the specification that another run executes, even when its version is gone by now.
    pub async fn clone_run(
        &self,
        call: Call<RunDetails>,
        id: RunId,
        differences: Differences,
        faults: Violations,
    ) -> Result<Reply<RunDetails>, Error> {
        if let Some(reply) = self.repeated(call.key.clone()).await? {
            return Ok(reply);
        }
        let read = self.read(move |conn| {
            Box::pin(async move {
                let record = runs::visible(conn, id).await?;
                let record = record.ok_or_else(|| Error::not_found("run", id))?;
                let body = specs::get(conn, &record.spec_hash).await?;
                let gone = || Error::Internal(format!("the specification of run {id} is gone"));
                Ok((record, body.ok_or_else(gone)?))
            })
        });
        let (record, body) = read.await?;
        let hash = record.spec_hash.clone();
        let plan = self.parts().plans.of_text(&hash, &body).await?;
        let resolved = Resolved {
            source: record.source,
            spec: Spec { hash, body },
            plan,
        };
        let new = after(record, differences);
        self.store_run(call, new, BTreeMap::new(), resolved, faults)
            .await
    }
}

/// A policy as [`CachePolicy::refined`] reads it.
fn cache_text(policy: CachePolicy) -> String {
    let mode = match policy.mode {
        CacheMode::Off => "off",
        CacheMode::Identity => "identity",
        CacheMode::Content => "content",
    };
    format!("{mode}; max-age={}", policy.max_age_s)
}

/// The new run.
fn after(original: RunRecord, differences: Differences) -> NewRun {
    let mut parameters = original.run.body.parameters;
    for (name, value) in differences.parameters {
        parameters.insert(name, value);
    }
    parameters.retain(|_, value| !value.is_null());
    let display_name = if differences.display_name.is_empty() {
        let name = original.run.display_name;
        format!("Clone of {name}").chars().take(RUN_NAME).collect()
    } else {
        differences.display_name
    };
    NewRun {
        display_name,
        description: original.description,
        experiment: differences.experiment.or(Some(original.run.experiment_id)),
        source: NewSource::Missing,
        parameters,
        pipeline_root: original.requested_root,
        service_account: original.service_account,
        cache: cache_text(original.run.body.cache),
    }
}
