//! Editing schedules and filling in runs of the past, through the own contract.

use std::time::Duration;

use api_pipelines::v1 as own;
use own::schedule_service_client::ScheduleServiceClient;
use own::schedule_trigger::Timing;
use rpc::Channel;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{START, Server, importer, object, program, server, servers};

impl Server {
    fn schedules(&self) -> ScheduleServiceClient<Channel> {
        let channel = self
            .switchboard
            .channel("flumina.pipelines.v1.ScheduleService");
        ScheduleServiceClient::new(channel)
    }

    /// Waits until the next slot of a schedule is so many seconds after the start.
    pub(crate) async fn wait_for_next(&self, id: &str, expected: i64) {
        let probe = async || {
            let request = own::GetScheduleRequest {
                schedule_id: id.to_owned(),
            };
            let found = self.schedules().get_schedule(request).await.unwrap();
            let next = found.into_inner().next_slots.first().copied();
            match next.map(|next| next.seconds - START) {
                Some(next) if next == expected => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        testkit::eventually("the next slot", Duration::from_secs(20), probe).await;
    }

    async fn hourly(&self, spec: &Value, parameters: &Value) -> own::Schedule {
        let request = own::CreateScheduleRequest {
            display_name: "load".to_owned(),
            source: source(spec),
            parameters: Some(object(parameters)),
            trigger: trigger(Timing::IntervalSeconds(3600)),
            max_concurrency: 3,
            ..Default::default()
        };
        self.schedules()
            .create_schedule(request)
            .await
            .unwrap()
            .into_inner()
    }

    async fn wait_for_backfill(&self, id: &str, state: own::BackfillState) -> own::Backfill {
        let probe = async || {
            let request = own::GetBackfillRequest {
                backfill_id: id.to_owned(),
            };
            let found = self
                .schedules()
                .get_backfill(request)
                .await
                .unwrap()
                .into_inner();
            if found.state() == state {
                Ok(found)
            } else {
                Err(format!("{found:?}"))
            }
        };
        testkit::eventually("the backfill", Duration::from_secs(20), probe).await
    }
}

fn source(spec: &Value) -> Option<own::RunSource> {
    Some(own::RunSource {
        source: Some(own::run_source::Source::PipelineSpec(object(spec))),
    })
}

fn trigger(timing: Timing) -> Option<own::ScheduleTrigger> {
    Some(own::ScheduleTrigger {
        timing: Some(timing),
        ..Default::default()
    })
}

fn range(id: &str, from: i64, to: i64) -> own::CreateBackfillRequest {
    let time = |offset: i64| {
        Some(prost_types::Timestamp {
            seconds: START + offset,
            nanos: 0,
        })
    };
    own::CreateBackfillRequest {
        schedule_id: id.to_owned(),
        from: time(from),
        to: time(to),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_range_of_the_past_is_filled_in_once() {
    for server in servers().await {
        let schedule = server.hourly(&importer(), &json!({})).await;
        let id = schedule.schedule_id;
        let request = range(&id, -5 * 3600, 0);
        let first = server
            .schedules()
            .create_backfill(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!((first.total, first.max_concurrency), (5, 3));
        let done = server
            .wait_for_backfill(&first.backfill_id, own::BackfillState::BackfillComplete)
            .await;
        assert_eq!((done.done, done.skipped), (5, 0));
        let runs = server.made(&id).await;
        let slots: Vec<i64> = runs
            .iter()
            .map(|run| (run.scheduled_at.unwrap().seconds - START) / 3600)
            .collect();
        assert_eq!(slots, [-5, -4, -3, -2, -1]);
        assert_eq!(runs[0].display_name, "load-backfill-1");
        // The same again makes nothing, unless it is asked to.
        let again = server
            .schedules()
            .create_backfill(request.clone())
            .await
            .unwrap()
            .into_inner();
        let done = server
            .wait_for_backfill(&again.backfill_id, own::BackfillState::BackfillComplete)
            .await;
        assert_eq!((done.skipped, server.made(&id).await.len()), (5, 5));
        let request = own::CreateBackfillRequest {
            again: true,
            ..request
        };
        let forced = server
            .schedules()
            .create_backfill(request)
            .await
            .unwrap()
            .into_inner();
        server
            .wait_for_backfill(&forced.backfill_id, own::BackfillState::BackfillComplete)
            .await;
        assert_eq!(server.made(&id).await.len(), 10);
        let request = own::ListBackfillsRequest {
            schedule_id: id,
            page_size: 2,
            page_token: String::new(),
        };
        let page = server
            .schedules()
            .list_backfills(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(page.backfills.len(), 2);
        let rest = own::ListBackfillsRequest {
            page_token: page.next_page_token,
            ..request
        };
        let rest = server
            .schedules()
            .list_backfills(rest)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (rest.backfills.len(), rest.next_page_token.as_str()),
            (1, "")
        );
    }
}

#[tokio::test]
async fn a_grid_runs_every_combination_and_no_more_at_a_time_than_may() {
    let server = server().await;
    let id = server
        .hourly(&program(), &json!({"rows": 1}))
        .await
        .schedule_id;
    let request = own::CreateBackfillRequest {
        schedule_id: id.clone(),
        grid: Some(object(&json!({"rows": [1, 2, 3], "text": ["a", "b"]}))),
        max_concurrency: 2,
        ..Default::default()
    };
    let made = server
        .schedules()
        .create_backfill(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(made.total, 6);
    let probe = async || {
        let runs = server.made(&id).await;
        if runs.len() == 2 {
            Ok(runs)
        } else {
            Err(format!("{}", runs.len()))
        }
    };
    let runs = testkit::eventually("two runs", Duration::from_secs(20), probe).await;
    let mut texts: Vec<String> = runs
        .iter()
        .map(|run| {
            format!(
                "{:?}",
                run.runtime_config.as_ref().unwrap().parameters["text"].kind
            )
        })
        .collect();
    texts.sort();
    assert!(
        texts[0].contains("\"a\"") && texts[1].contains("\"b\""),
        "{texts:?}"
    );
    let stop = own::StopBackfillRequest {
        backfill_id: made.backfill_id.clone(),
        request_id: String::new(),
    };
    let stopped = server
        .schedules()
        .stop_backfill(stop)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (stopped.state(), stopped.done),
        (own::BackfillState::BackfillStopped, 2)
    );
}

#[tokio::test]
async fn a_backfill_that_makes_no_sense_is_refused_by_its_field() {
    let server = server().await;
    let id = server
        .hourly(&program(), &json!({"rows": 1}))
        .await
        .schedule_id;
    let grid = |grid: Value| own::CreateBackfillRequest {
        schedule_id: id.clone(),
        grid: Some(object(&grid)),
        ..Default::default()
    };
    let wrong = [
        (grid(json!({})), "from"),
        (grid(json!({"rows": 3})), "grid.rows"),
        (grid(json!({"rows": []})), "grid.rows"),
        (
            grid(json!({"rows": ["many"]})),
            "schedule.runtime_config.parameters.rows",
        ),
        (
            grid(json!({"unknown": [1]})),
            "schedule.runtime_config.parameters.unknown",
        ),
        (range(&id, 0, -10), "to"),
        (range(&id, 10, 20), "from"),
        (range(&id, -3600 * 2000, 0), "grid"),
    ];
    for (request, field) in wrong {
        let status = server
            .schedules()
            .create_backfill(request)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        let faults = tonic_types::StatusExt::get_details_bad_request(&status).unwrap();
        let fields: Vec<String> = faults
            .field_violations
            .into_iter()
            .map(|one| one.field)
            .collect();
        assert!(
            fields.iter().any(|found| found == field),
            "{field}: {fields:?}"
        );
    }
}

#[tokio::test]
async fn an_edited_schedule_goes_on_with_what_it_was_given() {
    for server in servers().await {
        let schedule = server.hourly(&importer(), &json!({})).await;
        let id = schedule.schedule_id.clone();
        assert_eq!(schedule.next_slots.len(), 5);
        let edit = own::EditScheduleRequest {
            schedule_id: id.clone(),
            display_name: Some("renamed".to_owned()),
            source: source(&program()),
            parameters: Some(object(&json!({"rows": 5}))),
            trigger: Some(own::ScheduleTrigger {
                timing: Some(Timing::Cron("0 30 2 * * *".to_owned())),
                time_zone: "Europe/Berlin".to_owned(),
                ..Default::default()
            }),
            version: schedule.version,
            ..Default::default()
        };
        let edited = server
            .schedules()
            .edit_schedule(edit.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(edited.display_name, "renamed");
        // 02:30 in Berlin, in winter.
        let next = edited.next_slots[0].seconds;
        assert_eq!(next % 86_400, 90 * 60);
        assert!(next > START);
        let stale = server.schedules().edit_schedule(edit).await.unwrap_err();
        assert_eq!(stale.code(), Code::Aborted);
        let wrong = own::EditScheduleRequest {
            schedule_id: id.clone(),
            source: source(&importer()),
            ..Default::default()
        };
        // The new pipeline has no parameter `rows`.
        let refused = server.schedules().edit_schedule(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let later = u64::try_from(next - START).unwrap();
        server.hand.advance(Duration::from_secs(later));
        let enable = own::EnableScheduleRequest {
            schedule_id: id.clone(),
            ..Default::default()
        };
        server.schedules().enable_schedule(enable).await.unwrap();
        let probe = async || {
            let runs = server.made(&id).await;
            if runs.len() == 1 {
                Ok(runs)
            } else {
                Err(format!("{}", runs.len()))
            }
        };
        let runs = testkit::eventually("the run", Duration::from_secs(20), probe).await;
        assert_eq!(runs[0].display_name, "renamed-1");
        assert_eq!(runs[0].scheduled_at.unwrap().seconds, next);
        let request = own::GetScheduleRequest { schedule_id: id };
        let seen = server
            .schedules()
            .get_schedule(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!((seen.runs, seen.last_slot.unwrap().seconds), (1, next));
    }
}
