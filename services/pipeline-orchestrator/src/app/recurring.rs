//! Schedules, which the adopted contract calls recurring runs.

use clock::Timestamp;
use ids::{ExperimentId, RunId, ScheduleId};
use serde_json::{Map, Value};
use sql::Conn;

use super::plans::unsupported;
use super::runs::{NewSource, Resolved, in_use, parameters};
use super::{App, Call, Reply};
use crate::domain::macros::Facts;
use crate::domain::schedule::{
    MAX_CONCURRENCY, Schedule, ScheduleBody, ScheduleSource, Trigger, TriggerSpec,
};
use crate::domain::violation::Violations;
use crate::domain::{DEFAULT_EXPERIMENT, Query, Source};
use crate::error::Error;
use crate::store::{Page, experiments, schedules, specs};

pub(super) const KIND: &str = "recurring run";

/// A schedule to create. It knows no dialect: `field` is its place in the request, for faults.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    /// Where the schedule stands in the request, such as `recurring_run`.
    pub field: &'static str,
    /// The name.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// The experiment of its runs; none for the default one.
    pub experiment: Option<ExperimentId>,
    /// What its runs execute.
    pub source: NewSource,
    /// The parameters of its runs.
    pub parameters: Map<String, Value>,
    /// Where outputs go; empty for the default.
    pub pipeline_root: String,
    /// The account of its runs.
    pub service_account: String,
    /// How many of its runs may be active at a time; what is out of range is brought into it, as upstream does.
    pub max_concurrency: i64,
    /// The trigger.
    pub trigger: TriggerSpec,
    /// Whether it makes runs from now on.
    pub enabled: bool,
    /// Whether late slots are made one by one.
    pub catch_up: bool,
}

/// What is to change of a schedule; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct ScheduleEdit {
    /// The name.
    pub display_name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The experiment of its runs.
    pub experiment: Option<ExperimentId>,
    /// What its runs execute.
    pub source: Option<NewSource>,
    /// The parameters of its runs, all of them.
    pub parameters: Option<Map<String, Value>>,
    /// Where outputs go.
    pub pipeline_root: Option<String>,
    /// The account of its runs.
    pub service_account: Option<String>,
    /// How many of its runs may be active at a time.
    pub max_concurrency: Option<i64>,
    /// The trigger.
    pub trigger: Option<TriggerSpec>,
    /// Whether late slots are made one by one.
    pub catch_up: Option<bool>,
    /// The version that was seen; none to change any.
    pub seen: Option<i64>,
}

/// A schedule with what its answer shows.
#[derive(Debug, Clone)]
pub struct ScheduleDetails {
    /// The schedule.
    pub schedule: Schedule,
    /// The specification, of a schedule that brought its own.
    pub spec: Option<String>,
}

impl App {
    /// Creates a schedule: checks everything a run of it would need. `faults` are those found so far.
    pub async fn create_schedule(
        &self,
        call: Call<ScheduleDetails>,
        mut new: NewSchedule,
        mut faults: Violations,
    ) -> Result<Reply<ScheduleDetails>, Error> {
        if let Some(reply) = self.repeated(call.key.clone()).await? {
            return Ok(reply);
        }
        let asked = std::mem::replace(&mut new.source, NewSource::Missing);
        let source = wanted(&asked);
        let resolved = self
            .resolve_or_faults(new.field, asked, &mut faults)
            .await?;
        let now = self.parts().clock.now();
        let field = new.field;
        let experiment = new.experiment;
        let (mut schedule, resolved) = match resolved {
            Some(resolved) => (drafted(new, source, &resolved, now), resolved),
            None => return Err(Error::Invalid(faults.into_vec())),
        };
        let trigger = self.check(field, &schedule, &resolved, &mut faults);
        let trigger = match trigger {
            Some(trigger) if faults.is_empty() => trigger,
            Some(_) | None => return Err(Error::Invalid(faults.into_vec())),
        };
        schedule.next_at = trigger.next_after(schedule.cursor);
        let create = self.mutate_schedules(call, move |conn| {
            Box::pin(async move {
                let experiment = match experiment {
                    Some(id) => experiments::get(conn, id)
                        .await?
                        .ok_or_else(|| Error::not_found("experiment", id))?,
                    None => experiments::ensure(conn, DEFAULT_EXPERIMENT, "", now).await?,
                };
                in_use(&experiment)?;
                schedule.experiment_id = experiment.id;
                keep_spec(conn, &schedule, &resolved).await?;
                schedules::insert(conn, &schedule).await?;
                Ok(details(schedule, resolved))
            })
        });
        create.await
    }

    async fn resolve_or_faults(
        &self,
        field: &str,
        source: NewSource,
        faults: &mut Violations,
    ) -> Result<Option<Resolved>, Error> {
        match self.resolve(field, source).await {
            Ok(resolved) => Ok(resolved),
            Err(Error::Invalid(more)) => {
                faults.extend(more);
                Ok(None)
            }
            Err(other) if faults.is_empty() => Err(other),
            Err(_) => Ok(None),
        }
    }

    /// Checks what the runs of a schedule would need, and that it fires at all.
    fn check(
        &self,
        field: &str,
        schedule: &Schedule,
        resolved: &Resolved,
        faults: &mut Violations,
    ) -> Option<Trigger> {
        faults.extend(unsupported(
            &format!("{field}.pipeline_spec"),
            &resolved.plan,
        ));
        let body = &schedule.body;
        let place = format!("{field}.trigger");
        let anchor = Timestamp::from_micros(body.anchor);
        let trigger = body
            .trigger
            .parse(&place, anchor, &self.parts().time_zone, faults);
        let first = trigger
            .as_ref()
            .and_then(|trigger| trigger.next_after(anchor));
        if let (Some(trigger), None) = (&trigger, first) {
            let (part, message) = body.trigger.never(trigger);
            faults.add(format!("{place}.{part}"), message);
        }
        let slot = first.unwrap_or(schedule.created_at);
        let facts = Facts {
            run_id: RunId::derived(&schedule.id.to_string()),
            now: slot,
            scheduled_at: Some(slot),
            index: Some(1),
        };
        let given = body.parameters.clone();
        let _checked = parameters(field, &resolved.plan, given, &facts, faults);
        if let Err(wrong) = self.parts().roots.of(&resolved.plan, &body.pipeline_root) {
            faults.add(format!("{field}.{}", wrong.field), wrong.message);
        }
        trigger
    }

    /// A mutation after which the schedules are looked at.
    pub(super) async fn mutate_schedules<T, F>(
        &self,
        call: Call<T>,
        run: F,
    ) -> Result<Reply<T>, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Conn) -> sql::BoxFuture<'c, Result<T, Error>> + Send + 'static,
    {
        let app = self.clone();
        let whole = async move {
            let reply = app.mutate(call, run).await?;
            app.parts().schedules.notify_one();
            Ok(reply)
        };
        self.parts().supervisor.run_to_end(whole).await
    }

    /// Returns a schedule.
    pub async fn get_schedule(&self, id: ScheduleId) -> Result<ScheduleDetails, Error> {
        let read = self
            .read(move |conn| Box::pin(async move { Ok(schedules::get_listed(conn, id).await?) }));
        let (schedule, spec) = read.await?.ok_or_else(|| Error::not_found(KIND, id))?;
        Ok(ScheduleDetails { schedule, spec })
    }

    /// Returns a page of schedules.
    pub async fn list_schedules(
        &self,
        experiment: Option<ExperimentId>,
        query: Query,
    ) -> Result<Page<ScheduleDetails>, Error> {
        let page = self.read(move |conn| {
            Box::pin(async move { Ok(schedules::list(conn, experiment, &query).await?) })
        });
        let details = |(schedule, spec)| ScheduleDetails { schedule, spec };
        Ok(page.await?.map(details))
    }

    /// Lets a schedule make runs, or not. What it missed meanwhile is late: it depends on catch-up.
    pub async fn enable_schedule(
        &self,
        call: Call<()>,
        id: ScheduleId,
        enabled: bool,
    ) -> Result<Reply<()>, Error> {
        let now = self.parts().clock.now();
        let enable = self.mutate_schedules(call, move |conn| {
            Box::pin(async move {
                let mut schedule = locked(conn, id).await?;
                if enabled
                    && let Some(found) = experiments::get(conn, schedule.experiment_id).await?
                {
                    in_use(&found)?;
                }
                schedule.enabled = enabled;
                schedule.updated_at = now;
                schedule.blocked_until = None;
                schedule.body.problem = None;
                changed(schedules::update(conn, &schedule).await?)
            })
        });
        enable.await
    }

    /// Removes a schedule; its runs stay and go on.
    pub async fn delete_schedule(
        &self,
        call: Call<()>,
        id: ScheduleId,
    ) -> Result<Reply<()>, Error> {
        let delete = self.mutate(call, move |conn| {
            Box::pin(async move {
                match schedules::delete(conn, id).await? {
                    true => Ok(()),
                    false => Err(Error::not_found(KIND, id)),
                }
            })
        });
        delete.await
    }

    /// Changes a schedule. With a new trigger, its slots count from the new start or from now, and never from before the
    /// last slot that was dealt with.
    pub async fn edit_schedule(
        &self,
        call: Call<ScheduleDetails>,
        id: ScheduleId,
        mut edit: ScheduleEdit,
        mut faults: Violations,
    ) -> Result<Reply<ScheduleDetails>, Error> {
        let before = self.get_schedule(id).await?.schedule;
        if edit.seen.is_some_and(|seen| seen != before.version) {
            return Err(Error::Conflict);
        }
        let asked = edit.source.take();
        let source = asked.as_ref().and_then(wanted);
        let resolved = match asked {
            None => Some(self.runnable(&before).await?),
            Some(asked) => {
                self.resolve_or_faults("schedule", asked, &mut faults)
                    .await?
            }
        };
        let Some(resolved) = resolved else {
            return Err(Error::Invalid(faults.into_vec()));
        };
        let now = self.parts().clock.now();
        let mut schedule = edited(before.clone(), edit, now);
        if let Some(source) = source {
            (schedule.source, schedule.spec_hash) = pinned(source, &resolved);
        }
        let trigger = self.check("schedule", &schedule, &resolved, &mut faults);
        let trigger = match trigger {
            Some(trigger) if faults.is_empty() => trigger,
            Some(_) | None => return Err(Error::Invalid(faults.into_vec())),
        };
        schedule.next_at = trigger.next_after(schedule.cursor);
        let store = self.mutate_schedules(call, move |conn| {
            Box::pin(async move {
                let found = experiments::get(conn, schedule.experiment_id).await?;
                if schedule.experiment_id != before.experiment_id && found.is_none() {
                    return Err(Error::not_found("experiment", schedule.experiment_id));
                }
                keep_spec(conn, &schedule, &resolved).await?;
                changed(schedules::update(conn, &schedule).await?)?;
                if let Some(old) = &before.spec_hash
                    && before.spec_hash != schedule.spec_hash
                {
                    specs::forget(conn, old).await?;
                }
                schedule.version += 1;
                Ok(details(schedule, resolved))
            })
        });
        store.await
    }
}

/// What a schedule keeps of the source that it was asked to have; none when nothing was named.
fn wanted(asked: &NewSource) -> Option<ScheduleSource> {
    match asked {
        NewSource::Latest(pipeline) => Some(ScheduleSource::Latest(*pipeline)),
        NewSource::Inline(_) | NewSource::Version(..) => Some(ScheduleSource::Inline),
        NewSource::Missing => None,
    }
}

/// The source and the specification that it holds on to, so that a version may be deleted.
fn pinned(wanted: ScheduleSource, resolved: &Resolved) -> (ScheduleSource, Option<String>) {
    match (wanted, resolved.source) {
        (ScheduleSource::Latest(pipeline), _) => (ScheduleSource::Latest(pipeline), None),
        (_, Source::Inline) => (ScheduleSource::Inline, Some(resolved.spec.hash.clone())),
        (_, Source::Version(pipeline, version)) => (
            ScheduleSource::Version(pipeline, version),
            Some(resolved.spec.hash.clone()),
        ),
    }
}

fn drafted(
    new: NewSchedule,
    wanted: Option<ScheduleSource>,
    resolved: &Resolved,
    now: Timestamp,
) -> Schedule {
    let (source, spec_hash) = pinned(wanted.unwrap_or(ScheduleSource::Inline), resolved);
    let start = new.trigger.start.map(Timestamp::from_micros);
    Schedule {
        id: ScheduleId::generate(),
        // Found when it is stored.
        experiment_id: ExperimentId::derived(""),
        display_name: new.display_name,
        description: new.description,
        enabled: new.enabled,
        source,
        spec_hash,
        created_at: now,
        updated_at: now,
        cursor: start.unwrap_or(now),
        next_at: None,
        blocked_until: None,
        runs: 0,
        version: 1,
        body: ScheduleBody {
            anchor: now.as_micros(),
            trigger: new.trigger,
            parameters: new.parameters,
            pipeline_root: new.pipeline_root,
            service_account: new.service_account,
            max_concurrency: concurrency(new.max_concurrency),
            catch_up: new.catch_up,
            problem: None,
        },
    }
}

fn edited(mut schedule: Schedule, edit: ScheduleEdit, now: Timestamp) -> Schedule {
    fn set<T>(place: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *place = value;
        }
    }
    set(&mut schedule.display_name, edit.display_name);
    set(&mut schedule.description, edit.description);
    set(&mut schedule.experiment_id, edit.experiment);
    let body = &mut schedule.body;
    set(&mut body.parameters, edit.parameters);
    set(&mut body.pipeline_root, edit.pipeline_root);
    set(&mut body.service_account, edit.service_account);
    set(
        &mut body.max_concurrency,
        edit.max_concurrency.map(concurrency),
    );
    set(&mut body.catch_up, edit.catch_up);
    if let Some(trigger) = edit.trigger {
        let start = trigger.start.map(Timestamp::from_micros);
        schedule.cursor = schedule.cursor.max(start.unwrap_or(now));
        body.anchor = now.as_micros();
        body.trigger = trigger;
    }
    body.problem = None;
    schedule.blocked_until = None;
    schedule.updated_at = now;
    schedule
}

/// Upstream brings the number into its range without a word.
fn concurrency(asked: i64) -> u32 {
    u32::try_from(asked.clamp(1, i64::from(MAX_CONCURRENCY))).unwrap_or(1)
}

pub(super) async fn locked(conn: &mut Conn, id: ScheduleId) -> Result<Schedule, Error> {
    schedules::lock(conn, id)
        .await?
        .ok_or_else(|| Error::not_found(KIND, id))
}

fn changed(changed: bool) -> Result<(), Error> {
    if changed {
        Ok(())
    } else {
        Err(Error::Conflict)
    }
}

async fn keep_spec(conn: &mut Conn, schedule: &Schedule, resolved: &Resolved) -> Result<(), Error> {
    match schedule.spec_hash {
        Some(_) => Ok(specs::keep(conn, &resolved.spec).await?),
        None => Ok(()),
    }
}

fn details(schedule: Schedule, resolved: Resolved) -> ScheduleDetails {
    let inline = schedule.source == ScheduleSource::Inline;
    ScheduleDetails {
        schedule,
        spec: inline.then_some(resolved.spec.body),
    }
}
