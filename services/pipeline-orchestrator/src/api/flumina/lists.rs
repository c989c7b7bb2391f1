//! `flumina.pipelines.v1.RunListService`.

use std::collections::{BTreeMap, HashMap};

use aip::time::to_proto;
use api_pipelines::v1 as own;
use api_pipelines::v1::run_list_service_server::RunListService;
use clock::Timestamp;
use ids::RunId;
use tonic::{Request, Response, Status};

use super::schedule_requests::{experiment, object, source};
use super::{Flumina, Streaming, render, status, watch_list};
use crate::api::call::{answer, call};
use crate::api::parse;
use crate::app::{App, Listed, NewRun, RunDetails};
use crate::domain::compare::{Aspect, Difference};
use crate::domain::violation::{DESCRIPTION, LINE, RUN_NAME, Violations};
use crate::domain::{Condition, Source, StorageState, parse_run_filter};
use crate::error::{Error, SERVICE};
use crate::store::Facts;

impl Flumina {
    async fn submit(
        &self,
        request: Request<own::SubmitRunRequest>,
    ) -> Result<own::RunSummary, Error> {
        let cache = parse::cache(&request)?;
        let method = "flumina.pipelines.v1.RunListService/SubmitRun";
        let call = call(&request, method, submitted)?;
        let request = request.into_inner();
        let tags: BTreeMap<String, String> = request.tags.into_iter().collect();
        let mut faults = Violations::new();
        faults.name("run.display_name", &request.display_name, RUN_NAME);
        faults.text("run.description", &request.description, DESCRIPTION);
        faults.text("run.pipeline_root", &request.pipeline_root, LINE);
        faults.text("run.service_account", &request.service_account, LINE);
        let new = NewRun {
            display_name: request.display_name,
            description: request.description,
            experiment: experiment(&request.experiment_id)?,
            source: source("run", request.source, &mut faults)?,
            parameters: object("run.parameters", request.parameters, &mut faults),
            pipeline_root: request.pipeline_root,
            service_account: request.service_account,
            cache,
        };
        let shown = tags.clone();
        let reply = self.app.submit_run(call, new, tags, faults).await?;
        let mut summary = answer(reply, submitted)?;
        // A repetition has the same tags, or it would have been refused.
        summary.tags = shown.into_iter().collect();
        Ok(summary)
    }

    async fn find(&self, request: own::ListRunsRequest) -> Result<own::ListRunsResponse, Error> {
        let list = List::parse(&request.filter, request.page_size)?;
        let key = aip::page::decode(&list.query, &request.page_token).map_err(page_error)?;
        let before = match key.as_deref() {
            None => None,
            Some([at, id]) if !id.contains('\0') => match at.parse() {
                Ok(at) => Some((at, id.clone())),
                Err(_) => return Err(page_error(aip::page::Error::Foreign)),
            },
            Some(_) => return Err(page_error(aip::page::Error::Foreign)),
        };
        let (runs, next_page_token) = list.page(&self.app, before).await?;
        Ok(own::ListRunsResponse {
            runs,
            next_page_token,
        })
    }

    async fn tag(&self, request: Request<own::TagRunRequest>) -> Result<own::RunSummary, Error> {
        let method = "flumina.pipelines.v1.RunListService/TagRun";
        let call = call(&request, method, summary)?;
        let request = request.into_inner();
        let id: RunId = parse::id("run", "run_id", &request.run_id)?;
        let set: BTreeMap<String, String> = request.set.into_iter().collect();
        let reply = self.app.tag_run(call, id, set, request.remove).await?;
        answer(reply, summary)
    }

    async fn compare(
        &self,
        request: own::CompareRunsRequest,
    ) -> Result<own::CompareRunsResponse, Error> {
        let ids: Result<Vec<RunId>, Error> = request
            .run_ids
            .iter()
            .map(|id| parse::id("run", "run_ids", id))
            .collect();
        let (runs, differences, truncated) = self.app.compare_runs(ids?).await?;
        Ok(own::CompareRunsResponse {
            runs: runs.iter().map(summary).collect(),
            differences: differences.into_iter().map(difference).collect(),
            truncated,
        })
    }
}

/// A list that somebody asks for.
pub(super) struct List {
    pub(super) conditions: Vec<Condition>,
    /// What its page tokens are for.
    query: String,
    size: u32,
}

impl List {
    pub(super) fn parse(filter: &str, size: i32) -> Result<Self, Error> {
        let conditions =
            parse_run_filter(filter).map_err(|message| Error::field("filter", message))?;
        Ok(Self {
            conditions,
            query: format!("runs where {}", filter.trim()),
            size: aip::page::size(size).map_err(page_error)?,
        })
    }

    /// A page, from the beginning or before a place, and the token of the next.
    pub(super) async fn page(
        &self,
        app: &App,
        before: Option<(i64, String)>,
    ) -> Result<(Vec<own::RunSummary>, String), Error> {
        let conditions = self.conditions.clone();
        let (found, more) = app.find_runs(conditions, before, self.size).await?;
        let next = found.last().filter(|_| more).map(|last| {
            let run = &last.record.run;
            let at = run.created_at.as_micros().to_string();
            aip::page::encode(&self.query, &[&at, &run.id.to_string()])
        });
        Ok((
            found.iter().map(summary).collect(),
            next.unwrap_or_default(),
        ))
    }
}

fn page_error(error: aip::page::Error) -> Error {
    match error {
        aip::page::Error::NegativeSize(_) => Error::field("page_size", error.to_string()),
        aip::page::Error::Foreign | aip::page::Error::OtherQuery => {
            Error::PageToken("page_token is not one that this list returned for this filter")
        }
    }
}

/// A run that was just created; its tags are in the request.
fn submitted(details: &RunDetails) -> own::RunSummary {
    let facts = Facts::default();
    summary(&Listed {
        record: details.record.clone(),
        facts,
    })
}

pub(super) fn summary(listed: &Listed) -> own::RunSummary {
    let record = &listed.record;
    let run = &record.run;
    let facts = &listed.facts;
    let (pipeline_id, pipeline_version_id) = match record.source {
        Source::Inline => (String::new(), String::new()),
        Source::Version(pipeline, version) => (pipeline.to_string(), version.to_string()),
    };
    let state = match (&record.cancel, run.status.ended()) {
        (Some(_), false) => own::State::Canceling,
        _ => render::run_state(run.status),
    };
    let parameters: HashMap<String, String> = if facts.parameters.is_empty() {
        let given = run.body.parameters.iter();
        given
            .map(|(name, value)| {
                let text = pipeline_spec::text_form(value);
                (name.clone(), crate::domain::cut(&text))
            })
            .collect()
    } else {
        facts.parameters.clone().into_iter().collect()
    };
    let time = |at: Option<Timestamp>| at.map(to_proto);
    let scheduled = !record.recurring_run_id.is_empty();
    own::RunSummary {
        run_id: run.id.to_string(),
        display_name: run.display_name.clone(),
        experiment_id: run.experiment_id.to_string(),
        pipeline_name: run.pipeline_name.clone(),
        pipeline_id,
        pipeline_version_id,
        state: state.into(),
        reason: run.body.reason.clone(),
        message: run.body.message.clone(),
        created_at: Some(to_proto(run.created_at)),
        scheduled_at: time(run.scheduled_at.filter(|_| scheduled)),
        finished_at: time(run.finished_at),
        schedule_id: record.recurring_run_id.clone(),
        tags: facts.tags.clone().into_iter().collect(),
        parameters,
        metrics: facts.metrics.clone().into_iter().collect(),
        task_counts: render::counts(&run.body.task_counts),
        archived: record.storage_state == StorageState::Archived,
    }
}

fn difference(found: Difference) -> own::Difference {
    let kind = match found.aspect {
        Aspect::Parameter => own::DifferenceKind::Parameter,
        Aspect::Metric => own::DifferenceKind::Metric,
        Aspect::Code => own::DifferenceKind::Code,
        Aspect::Spec => own::DifferenceKind::Spec,
    };
    let value = |text: Option<String>| own::DifferentValue {
        present: text.is_some(),
        text: text.unwrap_or_default(),
    };
    own::Difference {
        kind: kind.into(),
        name: found.name,
        values: found.values.into_iter().map(value).collect(),
    }
}

#[tonic::async_trait]
impl RunListService for Flumina {
    async fn submit_run(
        &self,
        request: Request<own::SubmitRunRequest>,
    ) -> Result<Response<own::RunSummary>, Status> {
        aip::unary(SERVICE, self.submit(request).await)
    }

    async fn list_runs(
        &self,
        request: Request<own::ListRunsRequest>,
    ) -> Result<Response<own::ListRunsResponse>, Status> {
        aip::unary(SERVICE, self.find(request.into_inner()).await)
    }

    type WatchRunsStream = Streaming<own::WatchRunsResponse>;

    async fn watch_runs(
        &self,
        request: Request<own::WatchRunsRequest>,
    ) -> Result<Response<Self::WatchRunsStream>, Status> {
        let request = request.into_inner();
        let list = List::parse(&request.filter, request.page_size);
        let list = list.map_err(|error| status(&error))?;
        let stream = watch_list::stream(self.app.clone(), self.engine.clone(), list);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn tag_run(
        &self,
        request: Request<own::TagRunRequest>,
    ) -> Result<Response<own::RunSummary>, Status> {
        aip::unary(SERVICE, self.tag(request).await)
    }

    async fn compare_runs(
        &self,
        request: Request<own::CompareRunsRequest>,
    ) -> Result<Response<own::CompareRunsResponse>, Status> {
        aip::unary(SERVICE, self.compare(request.into_inner()).await)
    }
}
