//! `flumina schedule …`.

use anyhow::Result;
use api_pipelines::v1 as own;
use own::schedule_trigger::Timing;

use crate::args::{BackfillArgs, Schedule, ScheduleCreate, ScheduleEdit, Trigger};
use crate::client::{Client, Unusable};
use crate::output::{Printer, fields, safe, table, time};
use crate::values;

const SCHEDULE: &str = "flumina.pipelines.v1.Schedule";
const LIST: &str = "flumina.pipelines.v1.ListSchedulesResponse";
const BACKFILL: &str = "flumina.pipelines.v1.Backfill";

pub(crate) async fn execute(command: Schedule, client: &Client, printer: &Printer) -> Result<()> {
    let mut service = client.schedules();
    match command {
        Schedule::Create(create) => self::create(create, client, printer).await,
        Schedule::List { paging } => {
            let request = own::ListSchedulesRequest {
                page_size: paging.page_size,
                page_token: paging.page_token,
                ..Default::default()
            };
            let found = service.list_schedules(request).await?.into_inner();
            printer.message(LIST, &found, list)
        }
        Schedule::Get { schedule } => {
            let request = own::GetScheduleRequest {
                schedule_id: schedule,
            };
            let found = service.get_schedule(request).await?.into_inner();
            printer.message(SCHEDULE, &found, show)
        }
        Schedule::Edit(edit) => self::edit(edit, client, printer).await,
        Schedule::Enable { schedule } => enable(&schedule, true, client, printer).await,
        Schedule::Disable { schedule } => enable(&schedule, false, client, printer).await,
        Schedule::Delete { schedule } => {
            let request = own::DeleteScheduleRequest {
                schedule_id: schedule.clone(),
                request_id: request_id(),
            };
            service.delete_schedule(request).await?;
            printer.done(&format!("deleted {schedule}; its runs stay"))
        }
        Schedule::Backfill(backfill) => self::backfill(backfill, client, printer).await,
    }
}

fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

async fn enable(schedule: &str, enable: bool, client: &Client, printer: &Printer) -> Result<()> {
    let request = own::EnableScheduleRequest {
        schedule_id: schedule.to_owned(),
        disable: !enable,
        request_id: request_id(),
    };
    client.schedules().enable_schedule(request).await?;
    let word = if enable { "enabled" } else { "disabled" };
    printer.done(&format!("{word} {schedule}"))
}

async fn create(create: ScheduleCreate, client: &Client, printer: &Printer) -> Result<()> {
    let (source, name, spec) = super::run::source(&create.file, client).await?;
    let parameters = values::parameters(&create.params, spec.as_ref())?;
    let experiment_id = match &create.experiment {
        None => String::new(),
        Some(experiment) => super::run::experiment_or_new(experiment, client).await?,
    };
    let Some(trigger) = trigger(&create.trigger)? else {
        return Err(Unusable("--cron or --every is missing".to_owned()).into());
    };
    let request = own::CreateScheduleRequest {
        display_name: create.name.unwrap_or(name),
        experiment_id,
        source: Some(own_source(source, create.latest)),
        parameters: Some(prost_types::Struct { fields: parameters }),
        trigger: Some(trigger),
        max_concurrency: create.max_concurrency.unwrap_or_default(),
        no_catch_up: create.no_catch_up,
        disabled: create.disabled,
        request_id: request_id(),
        ..Default::default()
    };
    let created = client
        .schedules()
        .create_schedule(request)
        .await?
        .into_inner();
    printer.message(SCHEDULE, &created, show)
}

async fn edit(edit: ScheduleEdit, client: &Client, printer: &Printer) -> Result<()> {
    let (source, spec) = match &edit.file {
        None => (None, None),
        Some(file) => {
            let (source, _, spec) = super::run::source(file, client).await?;
            (Some(own_source(source, edit.latest)), spec)
        }
    };
    let parameters = match edit.params.is_empty() {
        true => None,
        false => Some(prost_types::Struct {
            fields: values::parameters(&edit.params, spec.as_ref())?,
        }),
    };
    let request = own::EditScheduleRequest {
        schedule_id: edit.schedule,
        display_name: edit.name,
        source,
        parameters,
        trigger: trigger(&edit.trigger)?,
        max_concurrency: edit.max_concurrency,
        catch_up: edit.catch_up,
        request_id: request_id(),
        ..Default::default()
    };
    let edited = client
        .schedules()
        .edit_schedule(request)
        .await?
        .into_inner();
    printer.message(SCHEDULE, &edited, show)
}

async fn backfill(asked: BackfillArgs, client: &Client, printer: &Printer) -> Result<()> {
    let mut grid = std::collections::BTreeMap::new();
    for pair in &asked.grid {
        let values = pair.split_once('=').and_then(|(name, text)| {
            let values: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
            Some((name.to_owned(), values::to_proto(&values.into())))
        });
        let (name, values) = values.ok_or_else(|| {
            Unusable(format!(
                "--grid {pair}: expected NAME=[VALUE, …] with a JSON list"
            ))
        })?;
        grid.insert(name, values);
    }
    let request = own::CreateBackfillRequest {
        schedule_id: asked.schedule,
        from: instant("--from", asked.from.as_deref())?,
        to: instant("--to", asked.to.as_deref())?,
        grid: Some(prost_types::Struct { fields: grid }),
        max_concurrency: asked.max_concurrency.unwrap_or_default(),
        again: asked.again,
        request_id: request_id(),
    };
    let made = client
        .schedules()
        .create_backfill(request)
        .await?
        .into_inner();
    printer.message(BACKFILL, &made, |made| {
        fields(&[
            ("backfill", made.backfill_id.clone()),
            ("schedule", made.schedule_id.clone()),
            ("runs", made.total.to_string()),
            ("at a time", made.max_concurrency.to_string()),
        ])
    })
}

/// What to run, in the words of the own contract.
pub(super) fn own_source(
    source: api_kfp::v2beta1::run::PipelineSource,
    latest: bool,
) -> own::RunSource {
    use api_kfp::v2beta1::run::PipelineSource as Kfp;
    use own::run_source::Source;
    let stored = |pipeline_id, pipeline_version_id| {
        Source::Pipeline(own::StoredPipeline {
            pipeline_id,
            pipeline_version_id,
        })
    };
    #[expect(deprecated, reason = "the enum still has it; nothing here makes it")]
    let source = match source {
        Kfp::PipelineSpec(spec) => Source::PipelineSpec(spec),
        Kfp::PipelineVersionReference(reference) if latest => {
            stored(reference.pipeline_id, String::new())
        }
        Kfp::PipelineVersionReference(reference) => {
            stored(reference.pipeline_id, reference.pipeline_version_id)
        }
        Kfp::PipelineVersionId(version) => stored(String::new(), version),
    };
    own::RunSource {
        source: Some(source),
    }
}

fn trigger(asked: &Trigger) -> Result<Option<own::ScheduleTrigger>> {
    let timing = match (&asked.cron, asked.every) {
        (Some(cron), _) => Timing::Cron(cron.clone()),
        (None, Some(seconds)) => Timing::IntervalSeconds(seconds),
        (None, None) => return Ok(None),
    };
    Ok(Some(own::ScheduleTrigger {
        timing: Some(timing),
        start_time: instant("--start", asked.start.as_deref())?,
        end_time: instant("--end", asked.end.as_deref())?,
        time_zone: asked.time_zone.clone().unwrap_or_default(),
    }))
}

fn instant(option: &str, text: Option<&str>) -> Result<Option<prost_types::Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let at: jiff::Timestamp = text.parse().map_err(|_| {
        Unusable(format!(
            "{option} {text}: expected a time such as 2026-01-31T12:00:00Z"
        ))
    })?;
    Ok(Some(prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }))
}

fn list(found: &own::ListSchedulesResponse) -> String {
    let rows: Vec<Vec<String>> = found
        .schedules
        .iter()
        .map(|schedule| {
            vec![
                schedule.schedule_id.clone(),
                safe(&schedule.display_name),
                if schedule.enabled {
                    "enabled"
                } else {
                    "disabled"
                }
                .to_owned(),
                when(schedule),
                time(schedule.next_slots.first()),
                schedule.runs.to_string(),
                safe(&schedule.problem),
            ]
        })
        .collect();
    let headings = ["ID", "NAME", "STATE", "WHEN", "NEXT", "RUNS", "PROBLEM"];
    table(&headings, &rows) + &super::run::more(&found.next_page_token)
}

fn when(schedule: &own::Schedule) -> String {
    let trigger = schedule.trigger.clone().unwrap_or_default();
    let zone = match trigger.time_zone.as_str() {
        "" => String::new(),
        zone => format!(" ({})", safe(zone)),
    };
    match trigger.timing {
        Some(Timing::Cron(cron)) => format!("{}{zone}", safe(&cron)),
        Some(Timing::IntervalSeconds(seconds)) => format!("every {seconds} s"),
        None => String::new(),
    }
}

fn show(schedule: &own::Schedule) -> String {
    let slots: Vec<String> = schedule
        .next_slots
        .iter()
        .map(|slot| time(Some(slot)))
        .collect();
    let mut text = fields(&[
        ("schedule", schedule.schedule_id.clone()),
        ("name", safe(&schedule.display_name)),
        (
            "state",
            if schedule.enabled {
                "enabled"
            } else {
                "disabled"
            }
            .to_owned(),
        ),
        ("when", when(schedule)),
        ("next", slots.join(", ")),
        ("runs", schedule.runs.to_string()),
        ("at a time", schedule.max_concurrency.to_string()),
        (
            "catch-up",
            if schedule.catch_up { "yes" } else { "no" }.to_owned(),
        ),
        ("problem", safe(&schedule.problem)),
    ]);
    for note in &schedule.notes {
        text.push_str(&format!("note: {}\n", safe(note)));
    }
    text
}
