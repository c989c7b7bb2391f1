//! `flumina.pipelines.v1.ScheduleService`.

use aip::time::to_proto;
use api_pipelines::v1 as own;
use api_pipelines::v1::schedule_service_server::ScheduleService;
use api_pipelines::v1::schedule_trigger::Timing as AskedTiming;
use clock::Timestamp;
use ids::{BackfillId, ScheduleId};
use tonic::{Request, Response, Status};

use super::schedule_requests::{created, edited, experiment, new_backfill, trigger};
use super::{Flumina, render};
use crate::api::call::{answer, call, nothing};
use crate::api::parse;
use crate::app::ScheduleDetails;
use crate::domain::schedule::{
    Backfill, BackfillState, SCHEDULE_FIELDS, ScheduleSource, Timing, TriggerSpec,
};
use crate::domain::violation::Violations;
use crate::error::{Error, SERVICE};

/// Slots that are shown in advance.
const UPCOMING: usize = 5;

impl Flumina {
    async fn create(
        &self,
        request: Request<own::CreateScheduleRequest>,
    ) -> Result<own::Schedule, Error> {
        let zone = self.app.time_zone().to_owned();
        let method = "flumina.pipelines.v1.ScheduleService/CreateSchedule";
        let call = call(&request, method, rendered)?;
        let (new, faults) = created(request.into_inner())?;
        let reply = self.app.create_schedule(call, new, faults).await?;
        Ok(with_slots(answer(reply, rendered)?, &zone))
    }

    async fn edit(
        &self,
        request: Request<own::EditScheduleRequest>,
    ) -> Result<own::Schedule, Error> {
        let method = "flumina.pipelines.v1.ScheduleService/EditSchedule";
        let call = call(&request, method, rendered)?;
        let id = schedule_id(&request.get_ref().schedule_id)?;
        let (edit, faults) = edited(request.into_inner())?;
        let reply = self.app.edit_schedule(call, id, edit, faults).await?;
        Ok(with_slots(answer(reply, rendered)?, self.app.time_zone()))
    }

    async fn list(
        &self,
        request: own::ListSchedulesRequest,
    ) -> Result<own::ListSchedulesResponse, Error> {
        let experiment = experiment(&request.experiment_id)?;
        let query = parse::query(
            &SCHEDULE_FIELDS,
            request.page_size,
            &request.page_token,
            "created_at desc",
            "",
            &format!("own experiment_id={}", request.experiment_id),
        )?;
        let page = self.app.list_schedules(experiment, query).await?;
        let zone = self.app.time_zone();
        let shown = page.items.iter().map(|one| with_slots(rendered(one), zone));
        Ok(own::ListSchedulesResponse {
            schedules: shown.collect(),
            next_page_token: page.next,
        })
    }

    async fn backfill(
        &self,
        request: Request<own::CreateBackfillRequest>,
    ) -> Result<own::Backfill, Error> {
        let method = "flumina.pipelines.v1.ScheduleService/CreateBackfill";
        let call = call(&request, method, shown_backfill)?;
        let id = schedule_id(&request.get_ref().schedule_id)?;
        let new = new_backfill(request.into_inner())?;
        let reply = self.app.create_backfill(call, id, new).await?;
        answer(reply, shown_backfill)
    }

    async fn backfills(
        &self,
        request: own::ListBackfillsRequest,
    ) -> Result<own::ListBackfillsResponse, Error> {
        let id = schedule_id(&request.schedule_id)?;
        let query = format!("backfills of {id}");
        let page = |error: aip::page::Error| match error {
            aip::page::Error::NegativeSize(_) => Error::field("page_size", error.to_string()),
            aip::page::Error::Foreign | aip::page::Error::OtherQuery => {
                Error::PageToken("page_token is not one that this list returned")
            }
        };
        let size = aip::page::size(request.page_size).map_err(page)?;
        let key = aip::page::decode(&query, &request.page_token).map_err(page)?;
        let before = match key.as_deref() {
            None => (i64::MAX, String::new()),
            Some([at, id]) => match at.parse() {
                Ok(at) => (at, id.clone()),
                Err(_) => return Err(page(aip::page::Error::Foreign)),
            },
            Some(_) => return Err(page(aip::page::Error::Foreign)),
        };
        let (found, more) = self.app.list_backfills(id, before, size).await?;
        let next = found.last().filter(|_| more).map(|last| {
            let at = last.created_at.as_micros().to_string();
            aip::page::encode(&query, &[&at, &last.id.to_string()])
        });
        Ok(own::ListBackfillsResponse {
            backfills: found.iter().map(shown_backfill).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }
}

fn schedule_id(text: &str) -> Result<ScheduleId, Error> {
    parse::id("recurring run", "schedule_id", text)
}

fn backfill_id(text: &str) -> Result<BackfillId, Error> {
    parse::id("backfill", "backfill_id", text)
}

fn rendered(details: &ScheduleDetails) -> own::Schedule {
    let schedule = &details.schedule;
    let body = &schedule.body;
    let stored = |pipeline: String, version: String| {
        own::run_source::Source::Pipeline(own::StoredPipeline {
            pipeline_id: pipeline,
            pipeline_version_id: version,
        })
    };
    let source = match schedule.source {
        ScheduleSource::Inline => {
            let spec = details.spec.as_deref().and_then(crate::api::render::spec);
            spec.map(own::run_source::Source::PipelineSpec)
        }
        ScheduleSource::Version(pipeline, version) => {
            Some(stored(pipeline.to_string(), version.to_string()))
        }
        ScheduleSource::Latest(pipeline) => Some(stored(pipeline.to_string(), String::new())),
    };
    let problem = body.problem.as_ref();
    own::Schedule {
        schedule_id: schedule.id.to_string(),
        display_name: schedule.display_name.clone(),
        description: schedule.description.clone(),
        experiment_id: schedule.experiment_id.to_string(),
        source: Some(own::RunSource { source }),
        parameters: Some(render::structure(&body.parameters)),
        pipeline_root: body.pipeline_root.clone(),
        service_account: body.service_account.clone(),
        trigger: Some(shown_trigger(&body.trigger)),
        max_concurrency: i32::try_from(body.max_concurrency).unwrap_or(i32::MAX),
        catch_up: body.catch_up,
        enabled: schedule.enabled,
        created_at: Some(to_proto(schedule.created_at)),
        updated_at: Some(to_proto(schedule.updated_at)),
        last_slot: Some(to_proto(schedule.cursor)),
        next_slots: schedule.next_at.map(to_proto).into_iter().collect(),
        runs: schedule.runs,
        problem: problem.map_or_else(String::new, |one| one.message.clone()),
        notes: body.trigger.notes(),
        version: schedule.version,
    }
}

/// The same with the slots after the next one, which are not kept with an answer.
fn with_slots(mut shown: own::Schedule, zone: &str) -> own::Schedule {
    let mut faults = Violations::new();
    let asked = shown.trigger.clone().unwrap_or_default();
    let spec = trigger(asked, &mut faults);
    let anchor = shown
        .created_at
        .map_or(Timestamp::EPOCH, |at| aip::time::from_proto(&at));
    let next = shown.next_slots.first().map(aip::time::from_proto);
    let (Some(trigger), Some(mut slot)) = (spec.parse("", anchor, zone, &mut faults), next) else {
        return shown;
    };
    // Intervals count from when the trigger was set, which the next slot stands for.
    while shown.next_slots.len() < UPCOMING
        && let Some(later) = trigger.following(slot)
    {
        shown.next_slots.push(to_proto(later));
        slot = later;
    }
    shown
}

fn shown_trigger(spec: &TriggerSpec) -> own::ScheduleTrigger {
    let time = |at: Option<i64>| at.map(|at| to_proto(Timestamp::from_micros(at)));
    own::ScheduleTrigger {
        timing: Some(match &spec.timing {
            Timing::Cron(cron) => AskedTiming::Cron(cron.clone()),
            Timing::Interval(seconds) => AskedTiming::IntervalSeconds(*seconds),
        }),
        start_time: time(spec.start),
        end_time: time(spec.end),
        time_zone: spec.time_zone.clone(),
    }
}

fn shown_backfill(backfill: &Backfill) -> own::Backfill {
    let state = match backfill.state {
        BackfillState::Active => own::BackfillState::BackfillActive,
        BackfillState::Complete => own::BackfillState::BackfillComplete,
        BackfillState::Stopped => own::BackfillState::BackfillStopped,
    };
    let problem = backfill.body.problem.as_ref();
    own::Backfill {
        backfill_id: backfill.id.to_string(),
        schedule_id: backfill.schedule_id.to_string(),
        state: state.into(),
        created_at: Some(to_proto(backfill.created_at)),
        total: backfill.body.total(),
        done: backfill.next,
        skipped: backfill.skipped,
        max_concurrency: i32::try_from(backfill.body.max_concurrency).unwrap_or(i32::MAX),
        problem: problem.map_or_else(String::new, |one| one.message.clone()),
    }
}

#[tonic::async_trait]
impl ScheduleService for Flumina {
    async fn create_schedule(
        &self,
        request: Request<own::CreateScheduleRequest>,
    ) -> Result<Response<own::Schedule>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_schedule(
        &self,
        request: Request<own::GetScheduleRequest>,
    ) -> Result<Response<own::Schedule>, Status> {
        let get = async {
            let id = schedule_id(&request.get_ref().schedule_id)?;
            let found = self.app.get_schedule(id).await?;
            Ok::<_, Error>(with_slots(rendered(&found), self.app.time_zone()))
        };
        aip::unary(SERVICE, get.await)
    }

    async fn list_schedules(
        &self,
        request: Request<own::ListSchedulesRequest>,
    ) -> Result<Response<own::ListSchedulesResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn edit_schedule(
        &self,
        request: Request<own::EditScheduleRequest>,
    ) -> Result<Response<own::Schedule>, Status> {
        aip::unary(SERVICE, self.edit(request).await)
    }

    async fn enable_schedule(
        &self,
        request: Request<own::EnableScheduleRequest>,
    ) -> Result<Response<()>, Status> {
        let enable = async {
            let id = schedule_id(&request.get_ref().schedule_id)?;
            let method = "flumina.pipelines.v1.ScheduleService/EnableSchedule";
            let call = call(&request, method, nothing)?;
            answer(
                self.app
                    .enable_schedule(call, id, !request.get_ref().disable)
                    .await?,
                nothing,
            )
        };
        aip::unary(SERVICE, enable.await)
    }

    async fn delete_schedule(
        &self,
        request: Request<own::DeleteScheduleRequest>,
    ) -> Result<Response<()>, Status> {
        let delete = async {
            let id = schedule_id(&request.get_ref().schedule_id)?;
            let method = "flumina.pipelines.v1.ScheduleService/DeleteSchedule";
            let call = call(&request, method, nothing)?;
            answer(self.app.delete_schedule(call, id).await?, nothing)
        };
        aip::unary(SERVICE, delete.await)
    }

    async fn create_backfill(
        &self,
        request: Request<own::CreateBackfillRequest>,
    ) -> Result<Response<own::Backfill>, Status> {
        aip::unary(SERVICE, self.backfill(request).await)
    }

    async fn get_backfill(
        &self,
        request: Request<own::GetBackfillRequest>,
    ) -> Result<Response<own::Backfill>, Status> {
        let get = async {
            let id = backfill_id(&request.get_ref().backfill_id)?;
            Ok::<_, Error>(shown_backfill(&self.app.get_backfill(id).await?))
        };
        aip::unary(SERVICE, get.await)
    }

    async fn list_backfills(
        &self,
        request: Request<own::ListBackfillsRequest>,
    ) -> Result<Response<own::ListBackfillsResponse>, Status> {
        aip::unary(SERVICE, self.backfills(request.into_inner()).await)
    }

    async fn stop_backfill(
        &self,
        request: Request<own::StopBackfillRequest>,
    ) -> Result<Response<own::Backfill>, Status> {
        let stop = async {
            let id = backfill_id(&request.get_ref().backfill_id)?;
            let method = "flumina.pipelines.v1.ScheduleService/StopBackfill";
            let call = call(&request, method, shown_backfill)?;
            answer(self.app.stop_backfill(call, id).await?, shown_backfill)
        };
        aip::unary(SERVICE, stop.await)
    }
}
