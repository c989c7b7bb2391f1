//! Runs of slots: what the runs of a schedule execute, and how one is made.

use clock::Timestamp;
use ids::RunId;
use serde_json::{Map, Value};

use super::App;
use super::runs::{Resolved, latest, parameters, pending};
use crate::domain::macros::Facts;
use crate::domain::schedule::{Schedule, ScheduleSource, run_name};
use crate::domain::violation::Violations;
use crate::domain::{Run, RunRecord, Source, Spec, StorageState};
use crate::error::Error;
use crate::store::specs;

/// A slot, or a part of a backfill.
pub(crate) struct Occasion {
    /// The id of the run.
    pub(crate) id: RunId,
    /// The slot; none for a run without one.
    pub(crate) slot: Option<Timestamp>,
    /// The number of the run, from 1.
    pub(crate) index: i64,
    /// Parameters in place of the schedule's.
    pub(crate) chosen: Map<String, Value>,
    /// What comes between the schedule's name and the number.
    pub(crate) suffix: &'static str,
}

impl App {
    /// What the next run of a schedule executes.
    ///
    /// # Errors
    /// The pipeline is gone, or has no version.
    pub(crate) async fn runnable(&self, schedule: &Schedule) -> Result<Resolved, Error> {
        let (source, hash) = match (schedule.source, &schedule.spec_hash) {
            (ScheduleSource::Latest(pipeline), _) => {
                let version = self
                    .read(move |conn| Box::pin(async move { latest(conn, pipeline).await }))
                    .await?;
                let spec = version.spec;
                let plan = self.parts().plans.of_text(&spec.hash, &spec.body).await?;
                let source = Source::Version(version.pipeline_id, version.id);
                return Ok(Resolved { source, spec, plan });
            }
            (ScheduleSource::Inline, Some(hash)) => (Source::Inline, hash.clone()),
            (ScheduleSource::Version(pipeline, version), Some(hash)) => {
                (Source::Version(pipeline, version), hash.clone())
            }
            (ScheduleSource::Inline | ScheduleSource::Version(..), None) => {
                let message = format!("schedule {} has no specification", schedule.id);
                return Err(Error::Internal(message));
            }
        };
        let wanted = hash.clone();
        let body = self
            .read(move |conn| Box::pin(async move { Ok(specs::get(conn, &wanted).await?) }))
            .await?;
        let body = body.ok_or_else(|| Error::Internal(format!("specification {hash} is gone")))?;
        let plan = self.parts().plans.of_text(&hash, &body).await?;
        let spec = Spec { hash, body };
        Ok(Resolved { source, spec, plan })
    }

    /// The run of an occasion, not stored yet.
    ///
    /// # Errors
    /// The parameters do not fit the pipeline, or outputs cannot go where they should.
    pub(crate) fn run_of(
        &self,
        schedule: &Schedule,
        resolved: &Resolved,
        occasion: Occasion,
        now: Timestamp,
    ) -> Result<RunRecord, Error> {
        let body = &schedule.body;
        let scheduled_at = occasion.slot.unwrap_or(now);
        let facts = Facts {
            run_id: occasion.id,
            now,
            scheduled_at: Some(scheduled_at),
            index: Some(occasion.index),
        };
        let mut faults = Violations::new();
        let mut given = body.parameters.clone();
        given.extend(occasion.chosen);
        let plan = &resolved.plan;
        let given = parameters("run", plan, given, &facts, &mut faults);
        let place = self.parts().roots.of(plan, &body.pipeline_root);
        let pipeline_root = place.unwrap_or_else(|wrong| {
            faults.add(format!("run.{}", wrong.field), wrong.message);
            String::new()
        });
        faults.into_result(())?;
        let name = format!("{}{}", schedule.display_name, occasion.suffix);
        Ok(RunRecord {
            run: Run {
                display_name: run_name(&name, &facts),
                experiment_id: schedule.experiment_id,
                pipeline_root,
                scheduled_at: Some(scheduled_at),
                ..pending(occasion.id, plan, given, self.parts().cache, now)
            },
            description: schedule.description.clone(),
            storage_state: StorageState::Available,
            source: resolved.source,
            spec_hash: resolved.spec.hash.clone(),
            requested_root: body.pipeline_root.clone(),
            service_account: body.service_account.clone(),
            recurring_run_id: schedule.id.to_string(),
            cancel: None,
            deleting: false,
            keep_artifacts: false,
        })
    }

    /// Says that a run was made.
    pub(crate) fn run_made(&self, id: RunId) {
        self.parts().engine.wake(id);
        self.parts().metrics.runs_created.inc();
    }

    /// The time zone of schedules that name none.
    pub(crate) fn time_zone(&self) -> &str {
        &self.parts().time_zone
    }
}
