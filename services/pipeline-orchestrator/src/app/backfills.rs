//! Backfills: runs of a schedule for slots of the past, or for combinations of parameters.

use std::collections::BTreeMap;

use clock::Timestamp;
use ids::{BackfillId, RunId, ScheduleId};
use serde_json::Value;

use super::recurring::{KIND, locked};
use super::runs::{Resolved, parameters};
use super::{App, Call, Reply};
use crate::domain::macros::Facts;
use crate::domain::schedule::{Backfill, BackfillBody, BackfillState, Schedule, combinations};
use crate::domain::violation::Violations;
use crate::error::Error;
use crate::store::schedules;

const BACKFILL: &str = "backfill";
/// Runs of a backfill.
const MAX_BACKFILL: usize = 1_000;
/// Parameters of a grid.
const MAX_GRID: usize = 20;
/// Bytes of a grid as JSON.
const MAX_GRID_BYTES: usize = 1 << 20;
/// Backfills of a schedule that still make runs.
const MAX_BACKFILLS: usize = 10;
/// Runs of a backfill at a time.
const MAX_BACKFILL_CONCURRENCY: u32 = 100;

/// A backfill to create.
#[derive(Debug, Clone)]
pub struct NewBackfill {
    /// The first instant and the one after the last.
    pub range: Option<(Timestamp, Timestamp)>,
    /// Values of parameters.
    pub grid: BTreeMap<String, Vec<Value>>,
    /// How many runs may be active at a time; none for as many as of the schedule.
    pub max_concurrency: Option<u32>,
    /// Whether runs are made although there are some of the same slot and parameters.
    pub again: bool,
}

impl App {
    /// Asks for runs of a schedule for slots of the past or for combinations of parameters.
    pub async fn create_backfill(
        &self,
        call: Call<Backfill>,
        id: ScheduleId,
        new: NewBackfill,
    ) -> Result<Reply<Backfill>, Error> {
        let schedule = self.get_schedule(id).await?.schedule;
        let resolved = self.runnable(&schedule).await?;
        let now = self.parts().clock.now();
        let body = self.backfill_body(&schedule, &resolved, new)?;
        let backfill = Backfill {
            id: BackfillId::generate(),
            schedule_id: id,
            state: BackfillState::Active,
            created_at: now,
            next: 0,
            skipped: 0,
            blocked_until: None,
            body,
        };
        let create = self.mutate_schedules(call, move |conn| {
            Box::pin(async move {
                locked(conn, id).await?;
                if schedules::count_backfills(conn, id).await? >= MAX_BACKFILLS {
                    return Err(Error::Precondition {
                        reason: "TOO_MANY_BACKFILLS",
                        kind: KIND,
                        name: id.to_string(),
                        message: format!(
                            "{MAX_BACKFILLS} backfills of this schedule are active; wait for one or stop one"
                        ),
                    });
                }
                schedules::insert_backfill(conn, &backfill).await?;
                Ok(backfill)
            })
        });
        create.await
    }

    fn backfill_body(
        &self,
        schedule: &Schedule,
        resolved: &Resolved,
        new: NewBackfill,
    ) -> Result<BackfillBody, Error> {
        let mut faults = Violations::new();
        let mut slots = Vec::new();
        if let Some((from, to)) = new.range {
            let anchor = Timestamp::from_micros(schedule.body.anchor);
            let trigger = schedule.body.trigger.parse(
                "schedule.trigger",
                anchor,
                &self.parts().time_zone,
                &mut faults,
            );
            if let Some(trigger) = trigger {
                slots = trigger.between(from, to, MAX_BACKFILL + 1);
            }
            if from < Timestamp::EPOCH || to <= from {
                faults.add("to", format!("{to} is not later than {from}"));
            } else if slots.is_empty() {
                faults.add("from", format!("there is no slot from {from} until {to}"));
            }
        } else if new.grid.is_empty() {
            faults.add("from", "must be given with `to`, or a grid of parameters");
        }
        let count =
            combinations(&new.grid).and_then(|count| count.checked_mul(slots.len().max(1) as u64));
        check_grid(&new.grid, &mut faults);
        if count.is_none_or(|count| count > MAX_BACKFILL as u64) {
            faults.add(
                "grid",
                format!("slots times combinations must not be more than {MAX_BACKFILL} runs"),
            );
        }
        let body = BackfillBody {
            slots: slots.into_iter().map(Timestamp::as_micros).collect(),
            grid: new.grid,
            max_concurrency: new
                .max_concurrency
                .unwrap_or(schedule.body.max_concurrency)
                .clamp(1, MAX_BACKFILL_CONCURRENCY),
            again: new.again,
            problem: None,
        };
        if faults.is_empty() {
            self.check_items(schedule, resolved, &body, &mut faults);
        }
        Ok(faults.into_result(body)?)
    }

    /// Whether the parameters of every run fit.
    fn check_items(
        &self,
        schedule: &Schedule,
        resolved: &Resolved,
        body: &BackfillBody,
        faults: &mut Violations,
    ) {
        let count = combinations(&body.grid).unwrap_or(1);
        for index in 0..count {
            let (slot, chosen) = body.item(index);
            let mut given = schedule.body.parameters.clone();
            given.extend(chosen);
            let slot = slot.unwrap_or(schedule.created_at);
            let facts = Facts {
                run_id: RunId::derived(&schedule.id.to_string()),
                now: slot,
                scheduled_at: Some(slot),
                index: Some(1),
            };
            let _checked = parameters("schedule", &resolved.plan, given, &facts, faults);
            if !faults.is_empty() {
                return;
            }
        }
    }

    /// Returns a backfill.
    pub async fn get_backfill(&self, id: BackfillId) -> Result<Backfill, Error> {
        let read = self.read(move |conn| {
            Box::pin(async move { Ok(schedules::get_backfill(conn, id).await?) })
        });
        read.await?.ok_or_else(|| Error::not_found(BACKFILL, id))
    }

    /// Returns backfills of a schedule, newest first, before the place (time, id), and whether there are more.
    pub async fn list_backfills(
        &self,
        id: ScheduleId,
        before: (i64, String),
        limit: u32,
    ) -> Result<(Vec<Backfill>, bool), Error> {
        let read = self.read(move |conn| {
            Box::pin(async move {
                if schedules::get(conn, id).await?.is_none() {
                    return Err(Error::not_found(KIND, id));
                }
                Ok(schedules::backfills_of(conn, id, before, limit).await?)
            })
        });
        read.await
    }

    /// Makes no more runs of a backfill; those that are there go on.
    pub async fn stop_backfill(
        &self,
        call: Call<Backfill>,
        id: BackfillId,
    ) -> Result<Reply<Backfill>, Error> {
        let stop = self.mutate(call, move |conn| {
            Box::pin(async move {
                let found = schedules::lock_backfill(conn, id).await?;
                let mut backfill = found.ok_or_else(|| Error::not_found(BACKFILL, id))?;
                if backfill.state == BackfillState::Active {
                    backfill.state = BackfillState::Stopped;
                    schedules::update_backfill(conn, &backfill).await?;
                }
                Ok(backfill)
            })
        });
        stop.await
    }
}

fn check_grid(grid: &BTreeMap<String, Vec<Value>>, faults: &mut Violations) {
    if grid.len() > MAX_GRID {
        faults.add(
            "grid",
            format!("must not name more than {MAX_GRID} parameters"),
        );
    }
    for (name, values) in grid {
        if values.is_empty() {
            faults.add(format!("grid.{name}"), "must have at least one value");
        }
    }
    let bytes = serde_json::to_string(grid).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_GRID_BYTES {
        faults.add(
            "grid",
            format!("must not be larger than {MAX_GRID_BYTES} bytes"),
        );
    }
}
