//! Requests about schedules as the use cases take them.

use std::collections::BTreeMap;

use api_kfp::v2beta1 as kfp;
use api_pipelines::v1 as own;
use api_pipelines::v1::schedule_trigger::Timing as AskedTiming;
use clock::Timestamp;
use ids::ExperimentId;
use kfp::run::PipelineSource;
use serde_json::{Map, Value};

use crate::api::recurring::instant;
use crate::api::{parse, value};
use crate::app::{NewBackfill, NewSchedule, NewSource, ScheduleEdit};
use crate::domain::schedule::{Timing, TriggerSpec};
use crate::domain::violation::{DESCRIPTION, LINE, RUN_NAME, Violations};
use crate::error::Error;

const PLACE: &str = "schedule";

/// The experiment that a request names; none for the default one.
pub(super) fn experiment(text: &str) -> Result<Option<ExperimentId>, Error> {
    match text {
        "" => Ok(None),
        text => parse::id("experiment", "experiment_id", text).map(Some),
    }
}

/// What is to be run, in the words of the adopted contract.
pub(super) fn source(
    field: &str,
    asked: Option<own::RunSource>,
    faults: &mut Violations,
) -> Result<NewSource, Error> {
    let asked = asked
        .and_then(|asked| asked.source)
        .map(|asked| match asked {
            own::run_source::Source::PipelineSpec(spec) => PipelineSource::PipelineSpec(spec),
            own::run_source::Source::Pipeline(stored) => {
                PipelineSource::PipelineVersionReference(kfp::PipelineVersionReference {
                    pipeline_id: stored.pipeline_id,
                    pipeline_version_id: stored.pipeline_version_id,
                })
            }
        });
    parse::source(field, asked, faults)
}

/// An object of a request as JSON.
pub(super) fn object(
    field: &str,
    object: Option<prost_types::Struct>,
    faults: &mut Violations,
) -> Map<String, Value> {
    let Some(object) = object else {
        return Map::new();
    };
    match value::from_struct(object) {
        Some(Value::Object(map)) => map,
        Some(_) | None => {
            faults.add(field, "holds a number that is not finite");
            Map::new()
        }
    }
}

/// A trigger as it was asked for.
pub(super) fn trigger(asked: own::ScheduleTrigger, faults: &mut Violations) -> TriggerSpec {
    let timing = match asked.timing {
        Some(AskedTiming::Cron(cron)) => Timing::Cron(cron),
        Some(AskedTiming::IntervalSeconds(seconds)) => Timing::Interval(seconds),
        None => {
            faults.add("schedule.trigger", "must have cron or interval_seconds");
            Timing::Interval(1)
        }
    };
    TriggerSpec {
        timing,
        start: instant("schedule.trigger.start_time", asked.start_time, faults),
        end: instant("schedule.trigger.end_time", asked.end_time, faults),
        time_zone: asked.time_zone,
    }
}

/// A new schedule, and the faults of its fields.
pub(super) fn created(
    request: own::CreateScheduleRequest,
) -> Result<(NewSchedule, Violations), Error> {
    let mut faults = Violations::new();
    faults.name("schedule.display_name", &request.display_name, RUN_NAME);
    faults.text("schedule.description", &request.description, DESCRIPTION);
    faults.text("schedule.pipeline_root", &request.pipeline_root, LINE);
    faults.text("schedule.service_account", &request.service_account, LINE);
    let new = NewSchedule {
        field: PLACE,
        display_name: request.display_name,
        description: request.description,
        experiment: experiment(&request.experiment_id)?,
        source: source(PLACE, request.source, &mut faults)?,
        parameters: object("schedule.parameters", request.parameters, &mut faults),
        pipeline_root: request.pipeline_root,
        service_account: request.service_account,
        max_concurrency: i64::from(request.max_concurrency),
        trigger: trigger(request.trigger.unwrap_or_default(), &mut faults),
        enabled: !request.disabled,
        catch_up: !request.no_catch_up,
    };
    Ok((new, faults))
}

/// What is to change of a schedule, and the faults of its fields.
pub(super) fn edited(
    request: own::EditScheduleRequest,
) -> Result<(ScheduleEdit, Violations), Error> {
    let mut faults = Violations::new();
    if let Some(name) = &request.display_name {
        faults.name("schedule.display_name", name, RUN_NAME);
    }
    let texts = [
        ("schedule.description", &request.description, DESCRIPTION),
        ("schedule.pipeline_root", &request.pipeline_root, LINE),
        ("schedule.service_account", &request.service_account, LINE),
    ];
    for (field, text, max) in texts {
        faults.text(field, text.as_deref().unwrap_or_default(), max);
    }
    let source = match request.source {
        None => None,
        given => Some(source(PLACE, given, &mut faults)?),
    };
    let parameters = request
        .parameters
        .map(|given| object("schedule.parameters", Some(given), &mut faults));
    let edit = ScheduleEdit {
        display_name: request.display_name,
        description: request.description,
        experiment: experiment(request.experiment_id.as_deref().unwrap_or_default())?,
        source,
        parameters,
        pipeline_root: request.pipeline_root,
        service_account: request.service_account,
        max_concurrency: request.max_concurrency.map(i64::from),
        trigger: request.trigger.map(|asked| trigger(asked, &mut faults)),
        catch_up: request.catch_up,
        seen: Some(request.version).filter(|version| *version != 0),
    };
    Ok((edit, faults))
}

/// A new backfill.
pub(super) fn new_backfill(request: own::CreateBackfillRequest) -> Result<NewBackfill, Error> {
    let mut faults = Violations::new();
    let from = instant("from", request.from, &mut faults).map(Timestamp::from_micros);
    let to = instant("to", request.to, &mut faults).map(Timestamp::from_micros);
    let range = match (from, to) {
        (Some(from), Some(to)) => Some((from, to)),
        (None, None) => None,
        (Some(_), None) => {
            faults.add("to", "must be given with `from`");
            None
        }
        (None, Some(_)) => {
            faults.add("from", "must be given with `to`");
            None
        }
    };
    let mut grid = BTreeMap::new();
    for (name, values) in object("grid", request.grid, &mut faults) {
        match values {
            Value::Array(values) => {
                grid.insert(name, values);
            }
            _ => faults.add(format!("grid.{name}"), "must be a list of values"),
        }
    }
    let max_concurrency = u32::try_from(request.max_concurrency);
    if max_concurrency.is_err() {
        faults.add("max_concurrency", "must not be negative");
    }
    let new = NewBackfill {
        range,
        grid,
        max_concurrency: max_concurrency.ok().filter(|given| *given > 0),
        again: request.again,
    };
    Ok(faults.into_result(new)?)
}
