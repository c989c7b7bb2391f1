//! One schedule or backfill: its runs and its cursor are written in one transaction.

use std::time::Duration;

use clock::Timestamp;
use ids::{RunId, ScheduleId};
use sql::Conn;

use super::schedules::Scheduler;
use crate::app::App;
use crate::app::runs::{self, Resolved};
use crate::app::slots::Occasion;
use crate::domain::schedule::{Backfill, BackfillState, Problem, Schedule, Trigger, run_key};
use crate::domain::violation::Violations;
use crate::error::Error;
use crate::store::{schedules, sequences};

/// How long a schedule is left alone after a problem.
const PAUSE: Duration = Duration::from_secs(60);

/// What came of a look at a schedule or a backfill.
#[derive(Debug)]
pub(super) enum Made {
    /// So many runs.
    Runs(u64),
    /// Nothing: too many runs are active, or somebody changed it.
    Nothing,
    /// The next run cannot be made. It is tried again, so no slot is lost.
    Problem(Problem),
}

/// Why a look has to be repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    #[error("another process took over the database")]
    Fenced,
    #[error("the run cannot be made")]
    Run(#[source] Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

impl Failure {
    /// What somebody has to change; anything else passes by itself.
    fn problem(self) -> Result<Problem, Self> {
        let Self::Run(error) = self else {
            return Err(self);
        };
        let message = match &error {
            Error::Invalid(violations) => {
                let texts: Vec<String> = violations
                    .iter()
                    .map(|one| format!("{}: {}", one.field, one.message))
                    .collect();
                texts.join("; ")
            }
            Error::NotFound { .. } | Error::Precondition { .. } | Error::Internal(_) => {
                error.to_string()
            }
            _ => return Err(Self::Run(error)),
        };
        Ok(Problem {
            reason: aip::ApiError::reason(&error).to_owned(),
            message,
        })
    }
}

impl Scheduler {
    /// Makes the runs that are due of a schedule.
    pub(super) async fn make_due(
        &self,
        schedule: Schedule,
        now: Timestamp,
    ) -> Result<Made, Failure> {
        let app = self.app.clone();
        let epoch = self.engine.0.epoch();
        let prepared = async {
            let resolved = self.app.runnable(&schedule).await?;
            Ok::<_, Failure>((resolved, trigger(&schedule, self.app.time_zone())?))
        };
        let made = match prepared.await {
            Ok((resolved, trigger)) => {
                let seen = schedule.clone();
                let write = self.app.db().write(move |conn| {
                    Box::pin(async move {
                        fence(conn, epoch).await?;
                        due_runs(conn, &app, seen, &resolved, &trigger, now).await
                    })
                });
                write.await
            }
            Err(failure) => Err(failure),
        };
        match made {
            Ok(runs) => Ok(self.announce(runs)),
            Err(failure) => {
                let problem = failure.problem()?;
                self.block_schedule(schedule, problem.clone(), now).await?;
                Ok(Made::Problem(problem))
            }
        }
    }

    /// Brings a schedule back whose cursor is in the future; false when it is where it belongs.
    pub(super) async fn follow_clock_back(
        &self,
        id: ScheduleId,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        let epoch = self.engine.0.epoch();
        let zone = self.app.time_zone().to_owned();
        let write = self.app.db().write(move |conn| {
            Box::pin(async move {
                fence(conn, epoch).await?;
                let locked = schedules::lock(conn, id).await?;
                let Some(mut schedule) = locked.filter(|found| found.outran(now)) else {
                    return Ok(false);
                };
                schedule.follow_clock_back(now);
                schedule.next_at = trigger(&schedule, &zone)?.next_after(schedule.cursor);
                Ok(schedules::update(conn, &schedule).await?)
            })
        });
        write.await
    }

    fn announce(&self, runs: Vec<RunId>) -> Made {
        if runs.is_empty() {
            return Made::Nothing;
        }
        runtime::abort_point("orchestrator.schedule.committed");
        for run in &runs {
            self.app.run_made(*run);
        }
        Made::Runs(runs.len() as u64)
    }

    async fn block_schedule(
        &self,
        mut schedule: Schedule,
        problem: Problem,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let epoch = self.engine.0.epoch();
        schedule.body.problem = Some(problem);
        schedule.blocked_until = Some(now.plus(PAUSE));
        let write = self.app.db().write(move |conn| {
            Box::pin(async move {
                fence(conn, epoch).await?;
                // Somebody who changed it meanwhile may have solved the problem.
                schedules::update(conn, &schedule).await?;
                Ok(())
            })
        });
        write.await
    }

    /// Makes the next runs of a backfill.
    pub(super) async fn make_backfill(
        &self,
        backfill: Backfill,
        now: Timestamp,
    ) -> Result<Made, Failure> {
        let app = self.app.clone();
        let epoch = self.engine.0.epoch();
        let prepared = async {
            let schedule = self.app.get_schedule(backfill.schedule_id).await?.schedule;
            let resolved = self.app.runnable(&schedule).await?;
            Ok::<_, Failure>((schedule, resolved))
        };
        let made = match prepared.await {
            Ok((schedule, resolved)) => {
                let seen = backfill.clone();
                let write = self.app.db().write(move |conn| {
                    Box::pin(async move {
                        fence(conn, epoch).await?;
                        backfill_runs(conn, &app, seen, &schedule, &resolved, now).await
                    })
                });
                write.await
            }
            Err(failure) => Err(failure),
        };
        match made {
            Ok(runs) => Ok(self.announce(runs)),
            Err(failure) => {
                let problem = failure.problem()?;
                let mut blocked = backfill;
                blocked.body.problem = Some(problem.clone());
                blocked.blocked_until = Some(now.plus(PAUSE));
                let write = self.app.db().write(move |conn| {
                    Box::pin(async move {
                        fence(conn, epoch).await?;
                        schedules::update_backfill(conn, &blocked).await?;
                        Ok::<_, Failure>(())
                    })
                });
                write.await?;
                Ok(Made::Problem(problem))
            }
        }
    }
}

/// When a schedule makes runs; `zone` is the server's.
fn trigger(schedule: &Schedule, zone: &str) -> Result<Trigger, Error> {
    let mut faults = Violations::new();
    let body = &schedule.body;
    let anchor = Timestamp::from_micros(body.anchor);
    let trigger = body.trigger.parse("trigger", anchor, zone, &mut faults);
    trigger.ok_or_else(|| Error::Invalid(faults.into_vec()))
}

/// Only the newest process makes runs.
async fn fence(conn: &mut Conn, epoch: i64) -> Result<(), Failure> {
    if sequences::epoch(conn).await? == epoch {
        Ok(())
    } else {
        Err(Failure::Fenced)
    }
}

async fn due_runs(
    conn: &mut Conn,
    app: &App,
    seen: Schedule,
    resolved: &Resolved,
    trigger: &Trigger,
    now: Timestamp,
) -> Result<Vec<RunId>, Failure> {
    let locked = schedules::lock(conn, seen.id).await?;
    let Some(mut schedule) = locked.filter(|found| found.version == seen.version) else {
        return Ok(Vec::new());
    };
    let active = schedules::active_runs(conn, schedule.id).await?;
    let limit = usize::try_from(schedule.body.max_concurrency).unwrap_or(1);
    let room = limit.saturating_sub(active);
    let due = trigger.due(schedule.cursor, now, schedule.body.catch_up, room);
    if due.slots.is_empty() {
        return Ok(Vec::new());
    }
    let mut made = Vec::new();
    for slot in due.slots {
        let id = run_key(schedule.id, Some(slot), &serde_json::Map::new(), None);
        // A backfill was here before.
        if schedules::run_exists(conn, id).await? {
            continue;
        }
        schedule.runs += 1;
        let occasion = Occasion {
            id,
            slot: Some(slot),
            index: schedule.runs,
            chosen: serde_json::Map::new(),
            suffix: "",
        };
        store(conn, app, &schedule, resolved, occasion, now).await?;
        made.push(id);
    }
    schedule.cursor = due.cursor;
    schedule.next_at = due.next;
    schedule.blocked_until = None;
    schedule.body.problem = None;
    schedules::update(conn, &schedule).await?;
    runtime::abort_point("orchestrator.schedule.computed");
    Ok(made)
}

async fn backfill_runs(
    conn: &mut Conn,
    app: &App,
    seen: Backfill,
    schedule: &Schedule,
    resolved: &Resolved,
    now: Timestamp,
) -> Result<Vec<RunId>, Failure> {
    let locked = schedules::lock_backfill(conn, seen.id).await?;
    let still = |found: &Backfill| found.state == BackfillState::Active && found.next == seen.next;
    let Some(mut backfill) = locked.filter(still) else {
        return Ok(Vec::new());
    };
    let active = schedules::active_of_backfill(conn, backfill.id).await?;
    let limit = usize::try_from(backfill.body.max_concurrency).unwrap_or(1);
    let mut room = limit.saturating_sub(active);
    let total = backfill.body.total();
    let (before, mut made) = (backfill.next, Vec::new());
    while backfill.next < total && room > 0 {
        let number = u64::try_from(backfill.next).unwrap_or(0);
        let (slot, chosen) = backfill.body.item(number);
        let id = run_key(
            schedule.id,
            slot,
            &chosen,
            backfill.body.again.then_some(backfill.id),
        );
        backfill.next += 1;
        if schedules::run_exists(conn, id).await? {
            backfill.skipped += 1;
            continue;
        }
        let occasion = Occasion {
            id,
            slot,
            index: backfill.next,
            chosen,
            suffix: "-backfill",
        };
        store(conn, app, schedule, resolved, occasion, now).await?;
        schedules::add_run(conn, backfill.id, id).await?;
        made.push(id);
        room -= 1;
    }
    if backfill.next == before && backfill.next < total {
        return Ok(Vec::new());
    }
    if backfill.next >= total {
        backfill.state = BackfillState::Complete;
    }
    backfill.blocked_until = None;
    backfill.body.problem = None;
    schedules::update_backfill(conn, &backfill).await?;
    runtime::abort_point("orchestrator.schedule.computed");
    Ok(made)
}

async fn store(
    conn: &mut Conn,
    app: &App,
    schedule: &Schedule,
    resolved: &Resolved,
    occasion: Occasion,
    now: Timestamp,
) -> Result<(), Failure> {
    let record = app.run_of(schedule, resolved, occasion, now)?;
    let experiment = Some(schedule.experiment_id);
    runs::insert(conn, record, resolved.spec.clone(), experiment).await?;
    Ok(())
}
