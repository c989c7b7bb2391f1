//! `RecurringRunService`.

use aip::time::{from_proto, to_proto};
use api_kfp::v2beta1 as kfp;
use api_kfp::v2beta1::recurring_run::{Mode, PipelineSource as Asked, Status as Shown};
use api_kfp::v2beta1::run::PipelineSource;
use api_kfp::v2beta1::trigger::Trigger as AskedTrigger;
use clock::Timestamp;
use ids::ExperimentId;
use tonic::{Request, Response, Status};

use super::call::{answer, call, nothing};
use super::{parse, render, value};
use crate::app::{App, NewSchedule, ScheduleDetails};
use crate::domain::schedule::{SCHEDULE_FIELDS, ScheduleSource, Timing, TriggerSpec};
use crate::domain::violation::{DESCRIPTION, LINE, RUN_NAME, Violations};
use crate::error::{Error, SERVICE};

const KIND: &str = "recurring run";
const FIELD: &str = "recurring_run_id";
const PLACE: &str = "recurring_run";
/// 10000-01-01T00:00:00Z, in microseconds since 1970.
const LAST_INSTANT: i64 = 253_402_300_800_000_000;

/// The service over the use cases.
pub(super) struct Api {
    app: App,
}

impl Api {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }

    async fn create(
        &self,
        request: Request<kfp::CreateRecurringRunRequest>,
    ) -> Result<kfp::RecurringRun, Error> {
        let call = call(&request, "CreateRecurringRun", rendered)?;
        let (new, faults) = parsed(request.into_inner())?;
        answer(self.app.create_schedule(call, new, faults).await?, rendered)
    }

    async fn get(&self, id: &str) -> Result<kfp::RecurringRun, Error> {
        let id = parse::id(KIND, FIELD, id)?;
        Ok(rendered(&self.app.get_schedule(id).await?))
    }

    async fn list(
        &self,
        request: kfp::ListRecurringRunsRequest,
    ) -> Result<kfp::ListRecurringRunsResponse, Error> {
        let experiment: Option<ExperimentId> = match request.experiment_id.as_str() {
            "" => None,
            text => Some(parse::id("experiment", "experiment_id", text)?),
        };
        let query = parse::query(
            &SCHEDULE_FIELDS,
            request.page_size,
            &request.page_token,
            &request.sort_by,
            &request.filter,
            &format!("experiment_id={}", request.experiment_id),
        )?;
        let page = self.app.list_schedules(experiment, query).await?;
        Ok(kfp::ListRecurringRunsResponse {
            recurring_runs: page.items.iter().map(rendered).collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn delete(&self, request: Request<kfp::DeleteRecurringRunRequest>) -> Result<(), Error> {
        let call = call(&request, "DeleteRecurringRun", nothing)?;
        let id = parse::id(KIND, FIELD, &request.get_ref().recurring_run_id)?;
        answer(self.app.delete_schedule(call, id).await?, nothing)
    }
}

fn parsed(request: kfp::CreateRecurringRunRequest) -> Result<(NewSchedule, Violations), Error> {
    let mut faults = Violations::new();
    if request.recurring_run.is_none() {
        faults.add(PLACE, "must be given");
    }
    let run = request.recurring_run.unwrap_or_default();
    let enabled = run.mode() != Mode::Disable;
    faults.name("recurring_run.display_name", &run.display_name, RUN_NAME);
    faults.text("recurring_run.description", &run.description, DESCRIPTION);
    faults.text("recurring_run.service_account", &run.service_account, LINE);
    if !run.plugins_input.is_empty() {
        faults.add("recurring_run.plugins_input", "plugins are not served");
    }
    let experiment = match run.experiment_id.as_str() {
        "" => None,
        text => Some(parse::id(
            "experiment",
            "recurring_run.experiment_id",
            text,
        )?),
    };
    #[expect(deprecated, reason = "older clients still send it")]
    let source = run.pipeline_source.map(|asked| match asked {
        Asked::PipelineVersionId(id) => PipelineSource::PipelineVersionId(id),
        Asked::PipelineSpec(spec) => PipelineSource::PipelineSpec(spec),
        Asked::PipelineVersionReference(reference) => {
            PipelineSource::PipelineVersionReference(reference)
        }
    });
    let source = parse::source(PLACE, source, &mut faults)?;
    let (parameters, pipeline_root) = parse::config(PLACE, run.runtime_config, &mut faults);
    let trigger = trigger(run.trigger, &mut faults);
    let new = NewSchedule {
        field: PLACE,
        display_name: run.display_name,
        description: run.description,
        experiment,
        source,
        parameters,
        pipeline_root,
        service_account: run.service_account,
        max_concurrency: run.max_concurrency,
        trigger,
        enabled,
        catch_up: !run.no_catchup,
    };
    Ok((new, faults))
}

/// The trigger that is asked for.
pub(super) fn trigger(trigger: Option<kfp::Trigger>, faults: &mut Violations) -> TriggerSpec {
    let (timing, start, end) = match trigger.and_then(|trigger| trigger.trigger) {
        Some(AskedTrigger::CronSchedule(cron)) => {
            (Timing::Cron(cron.cron), cron.start_time, cron.end_time)
        }
        Some(AskedTrigger::PeriodicSchedule(periodic)) => {
            let timing = Timing::Interval(periodic.interval_second);
            (timing, periodic.start_time, periodic.end_time)
        }
        None => {
            let message = "must be given, with cron_schedule or periodic_schedule";
            faults.add("recurring_run.trigger", message);
            // Valid, so that it adds no fault of its own.
            (Timing::Interval(1), None, None)
        }
    };
    TriggerSpec {
        timing,
        start: instant("recurring_run.trigger.start_time", start, faults),
        end: instant("recurring_run.trigger.end_time", end, faults),
        time_zone: String::new(),
    }
}

/// A time in microseconds since 1970, before the year 10000.
pub(super) fn instant(
    place: &str,
    time: Option<prost_types::Timestamp>,
    faults: &mut Violations,
) -> Option<i64> {
    let micros = from_proto(&time?).as_micros();
    if (0..LAST_INSTANT).contains(&micros) {
        return Some(micros);
    }
    faults.add(place, "must be a time from 1970 to 9999");
    None
}

/// A schedule as the adopted contract shows it.
fn rendered(details: &ScheduleDetails) -> kfp::RecurringRun {
    let schedule = &details.schedule;
    let body = &schedule.body;
    let reference = |pipeline: String, version: String| {
        Asked::PipelineVersionReference(kfp::PipelineVersionReference {
            pipeline_id: pipeline,
            pipeline_version_id: version,
        })
    };
    let source = match schedule.source {
        ScheduleSource::Inline => {
            let spec = details.spec.as_deref().and_then(render::spec);
            spec.map(Asked::PipelineSpec)
        }
        ScheduleSource::Version(pipeline, version) => {
            Some(reference(pipeline.to_string(), version.to_string()))
        }
        ScheduleSource::Latest(pipeline) => Some(reference(pipeline.to_string(), String::new())),
    };
    let (mode, status) = match schedule.enabled {
        true => (Mode::Enable, Shown::Enabled),
        false => (Mode::Disable, Shown::Disabled),
    };
    let parameters = body.parameters.iter();
    let parameters = parameters.map(|(name, given)| (name.clone(), value::to_proto(given)));
    let problem = body.problem.as_ref();
    let error =
        problem.map(|one| render::error(aip::Code::FailedPrecondition, &one.reason, &one.message));
    kfp::RecurringRun {
        recurring_run_id: schedule.id.to_string(),
        display_name: schedule.display_name.clone(),
        description: schedule.description.clone(),
        pipeline_source: source,
        runtime_config: Some(kfp::RuntimeConfig {
            parameters: parameters.collect(),
            pipeline_root: body.pipeline_root.clone(),
        }),
        service_account: body.service_account.clone(),
        max_concurrency: i64::from(body.max_concurrency),
        trigger: Some(shown_trigger(&body.trigger)),
        mode: mode.into(),
        created_at: Some(to_proto(schedule.created_at)),
        updated_at: Some(to_proto(schedule.updated_at)),
        status: status.into(),
        error,
        no_catchup: !body.catch_up,
        namespace: String::new(),
        experiment_id: schedule.experiment_id.to_string(),
        plugins_input: Default::default(),
    }
}

/// A trigger as the contract shows it.
pub(super) fn shown_trigger(spec: &TriggerSpec) -> kfp::Trigger {
    let time = |at: Option<i64>| at.map(|at| to_proto(Timestamp::from_micros(at)));
    let (start_time, end_time) = (time(spec.start), time(spec.end));
    let trigger = match &spec.timing {
        Timing::Cron(cron) => AskedTrigger::CronSchedule(kfp::CronSchedule {
            start_time,
            end_time,
            cron: cron.clone(),
        }),
        Timing::Interval(seconds) => AskedTrigger::PeriodicSchedule(kfp::PeriodicSchedule {
            start_time,
            end_time,
            interval_second: *seconds,
        }),
    };
    kfp::Trigger {
        trigger: Some(trigger),
    }
}

#[tonic::async_trait]
impl kfp::recurring_run_service_server::RecurringRunService for Api {
    async fn create_recurring_run(
        &self,
        request: Request<kfp::CreateRecurringRunRequest>,
    ) -> Result<Response<kfp::RecurringRun>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_recurring_run(
        &self,
        request: Request<kfp::GetRecurringRunRequest>,
    ) -> Result<Response<kfp::RecurringRun>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().recurring_run_id).await)
    }

    async fn list_recurring_runs(
        &self,
        request: Request<kfp::ListRecurringRunsRequest>,
    ) -> Result<Response<kfp::ListRecurringRunsResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn enable_recurring_run(
        &self,
        request: Request<kfp::EnableRecurringRunRequest>,
    ) -> Result<Response<()>, Status> {
        let enable = async {
            let call = call(&request, "EnableRecurringRun", nothing)?;
            let id = parse::id(KIND, FIELD, &request.get_ref().recurring_run_id)?;
            answer(self.app.enable_schedule(call, id, true).await?, nothing)
        };
        aip::unary(SERVICE, enable.await)
    }

    async fn disable_recurring_run(
        &self,
        request: Request<kfp::DisableRecurringRunRequest>,
    ) -> Result<Response<()>, Status> {
        let disable = async {
            let call = call(&request, "DisableRecurringRun", nothing)?;
            let id = parse::id(KIND, FIELD, &request.get_ref().recurring_run_id)?;
            answer(self.app.enable_schedule(call, id, false).await?, nothing)
        };
        aip::unary(SERVICE, disable.await)
    }

    async fn delete_recurring_run(
        &self,
        request: Request<kfp::DeleteRecurringRunRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }
}
