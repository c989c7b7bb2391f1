//! `JobService`: the schedules that the newer contract calls recurring runs.

use aip::time::to_proto;
use api_kfp::v2beta1 as kfp;
use api_kfp1::v1beta1 as v1;
use tonic::{Request, Response, Status};

use super::super::call::{answer, call, nothing};
use super::super::parse::id;
use super::super::recurring::shown_trigger;
use super::{parse, render};
use crate::app::{App, ScheduleDetails};
use crate::domain::schedule::{SCHEDULE_FIELDS, ScheduleSource};
use crate::error::{Error, SERVICE};

const KIND: &str = "job";

/// The service over the use cases.
pub(super) struct Api {
    app: App,
}

impl Api {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }

    async fn create(&self, request: Request<v1::CreateJobRequest>) -> Result<v1::Job, Error> {
        let call = call(&request, "CreateJob", rendered)?;
        // Large documents take a while, so they are not read where other calls wait.
        let request = request.into_inner();
        let parsed = tokio::task::spawn_blocking(move || parse::job(request)).await;
        let (new, faults) =
            parsed.map_err(|error| Error::Internal(format!("reading a job failed: {error}")))??;
        answer(self.app.create_schedule(call, new, faults).await?, rendered)
    }

    async fn get(&self, text: &str) -> Result<v1::Job, Error> {
        let id = id(KIND, "id", text)?;
        Ok(rendered(&self.app.get_schedule(id).await?))
    }

    async fn list(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Error> {
        let experiment = parse::jobs_of(request.resource_reference_key.clone())?;
        let parent = match &experiment {
            Some(id) => format!("experiment_id={id}"),
            None => "experiment_id=".to_owned(),
        };
        let asked = parse::Page {
            size: request.page_size,
            token: &request.page_token,
            sort_by: &request.sort_by,
            filter: &request.filter,
        };
        let query = asked.query(&SCHEDULE_FIELDS, &parent)?;
        let page = self.app.list_schedules(experiment, query).await?;
        Ok(v1::ListJobsResponse {
            jobs: page.items.iter().map(rendered).collect(),
            total_size: i32::try_from(page.total).unwrap_or(i32::MAX),
            next_page_token: page.next,
        })
    }

    async fn enable(&self, request: Request<v1::EnableJobRequest>) -> Result<(), Error> {
        let call = call(&request, "EnableJob", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.enable_schedule(call, id, true).await?, nothing)
    }

    async fn disable(&self, request: Request<v1::DisableJobRequest>) -> Result<(), Error> {
        let call = call(&request, "DisableJob", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.enable_schedule(call, id, false).await?, nothing)
    }

    async fn delete(&self, request: Request<v1::DeleteJobRequest>) -> Result<(), Error> {
        let call = call(&request, "DeleteJob", nothing)?;
        let id = id(KIND, "id", &request.get_ref().id)?;
        answer(self.app.delete_schedule(call, id).await?, nothing)
    }
}

/// A schedule as a job.
fn rendered(details: &ScheduleDetails) -> v1::Job {
    let schedule = &details.schedule;
    let body = &schedule.body;
    let parameters = body.parameters.iter();
    let parameters = parameters.map(|(name, value)| v1::Parameter {
        name: name.clone(),
        value: pipeline_spec::text_form(value),
    });
    let mut spec = render::document(details.spec.clone().unwrap_or_default());
    spec.parameters = parameters.collect();
    let experiment = schedule.experiment_id.to_string();
    let mut references = vec![render::reference(
        v1::ResourceType::Experiment,
        experiment,
        v1::Relationship::Owner,
    )];
    match schedule.source {
        ScheduleSource::Inline => {}
        ScheduleSource::Version(pipeline, version) => {
            spec.pipeline_id = pipeline.to_string();
            references.push(render::reference(
                v1::ResourceType::PipelineVersion,
                version.to_string(),
                v1::Relationship::Creator,
            ));
        }
        ScheduleSource::Latest(pipeline) => spec.pipeline_id = pipeline.to_string(),
    }
    let (mode, status) = match schedule.enabled {
        true => (v1::job::Mode::Enabled, "Enabled"),
        false => (v1::job::Mode::Disabled, "Disabled"),
    };
    let problem = body.problem.as_ref();
    v1::Job {
        id: schedule.id.to_string(),
        name: schedule.display_name.clone(),
        description: schedule.description.clone(),
        pipeline_spec: Some(spec),
        resource_references: references,
        service_account: body.service_account.clone(),
        max_concurrency: i64::from(body.max_concurrency),
        trigger: Some(older_trigger(shown_trigger(&body.trigger))),
        mode: mode.into(),
        created_at: Some(to_proto(schedule.created_at)),
        updated_at: Some(to_proto(schedule.updated_at)),
        status: status.to_owned(),
        error: problem.map(|one| one.message.clone()).unwrap_or_default(),
        enabled: schedule.enabled,
        no_catchup: !body.catch_up,
    }
}

fn older_trigger(trigger: kfp::Trigger) -> v1::Trigger {
    let trigger = trigger.trigger.map(|trigger| match trigger {
        kfp::trigger::Trigger::CronSchedule(cron) => {
            v1::trigger::Trigger::CronSchedule(v1::CronSchedule {
                start_time: cron.start_time,
                end_time: cron.end_time,
                cron: cron.cron,
            })
        }
        kfp::trigger::Trigger::PeriodicSchedule(periodic) => {
            v1::trigger::Trigger::PeriodicSchedule(v1::PeriodicSchedule {
                start_time: periodic.start_time,
                end_time: periodic.end_time,
                interval_second: periodic.interval_second,
            })
        }
    });
    v1::Trigger { trigger }
}

#[tonic::async_trait]
impl v1::job_service_server::JobService for Api {
    async fn create_job(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        aip::unary(SERVICE, self.create(request).await)
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::Job>, Status> {
        aip::unary(SERVICE, self.get(&request.get_ref().id).await)
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        aip::unary(SERVICE, self.list(request.into_inner()).await)
    }

    async fn enable_job(
        &self,
        request: Request<v1::EnableJobRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.enable(request).await)
    }

    async fn disable_job(
        &self,
        request: Request<v1::DisableJobRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.disable(request).await)
    }

    async fn delete_job(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<()>, Status> {
        aip::unary(SERVICE, self.delete(request).await)
    }
}
