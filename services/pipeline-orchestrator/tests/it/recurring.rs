//! Schedules through the API: their life, their slots and what keeps them from making runs.

use std::time::Duration;

use api_kfp::v2beta1 as kfp;
use kfp::recurring_run::{PipelineSource, Status};
use kfp::trigger::Trigger as Kind;
use serde_json::{Value, json};

use crate::support::{START, Server, importer, object, program, servers};

pub(crate) fn every(seconds: i64) -> kfp::Trigger {
    let periodic = kfp::PeriodicSchedule {
        interval_second: seconds,
        ..Default::default()
    };
    kfp::Trigger {
        trigger: Some(Kind::PeriodicSchedule(periodic)),
    }
}

pub(crate) fn cron(text: &str) -> kfp::Trigger {
    let cron = kfp::CronSchedule {
        cron: text.to_owned(),
        ..Default::default()
    };
    kfp::Trigger {
        trigger: Some(Kind::CronSchedule(cron)),
    }
}

pub(crate) fn schedule(name: &str, spec: &Value, trigger: kfp::Trigger) -> kfp::RecurringRun {
    kfp::RecurringRun {
        display_name: name.to_owned(),
        pipeline_source: Some(PipelineSource::PipelineSpec(object(spec))),
        trigger: Some(trigger),
        mode: kfp::recurring_run::Mode::Enable.into(),
        ..Default::default()
    }
}

fn parameters(values: &Value) -> Option<kfp::RuntimeConfig> {
    Some(kfp::RuntimeConfig {
        parameters: object(values).fields.into_iter().collect(),
        pipeline_root: String::new(),
    })
}

impl Server {
    pub(crate) async fn schedule(
        &self,
        run: kfp::RecurringRun,
    ) -> Result<kfp::RecurringRun, tonic::Status> {
        let request = kfp::CreateRecurringRunRequest {
            recurring_run: Some(run),
        };
        let created = self.recurring().create_recurring_run(request).await;
        created.map(tonic::Response::into_inner)
    }

    pub(crate) async fn recurring_run(&self, id: &str) -> kfp::RecurringRun {
        let request = kfp::GetRecurringRunRequest {
            recurring_run_id: id.to_owned(),
        };
        let found = self.recurring().get_recurring_run(request).await;
        found.unwrap().into_inner()
    }

    pub(crate) async fn enable(&self, id: &str) {
        let request = kfp::EnableRecurringRunRequest {
            recurring_run_id: id.to_owned(),
        };
        self.recurring()
            .enable_recurring_run(request)
            .await
            .unwrap();
    }

    async fn disable(&self, id: &str) {
        let request = kfp::DisableRecurringRunRequest {
            recurring_run_id: id.to_owned(),
        };
        self.recurring()
            .disable_recurring_run(request)
            .await
            .unwrap();
    }

    /// Moves the clock; somebody who touches a schedule makes the service look at it.
    pub(crate) async fn pass(&self, seconds: u64, id: &str) {
        self.hand.advance(Duration::from_secs(seconds));
        self.enable(id).await;
    }

    /// The runs of a schedule, in the order of their slots.
    pub(crate) async fn made(&self, id: &str) -> Vec<kfp::Run> {
        let filter = json!({"predicates": [
            {"operation": "EQUALS", "key": "recurring_run_id", "string_value": id}
        ]});
        let request = kfp::ListRunsRequest {
            filter: filter.to_string(),
            sort_by: "scheduled_at".to_owned(),
            page_size: 200,
            ..Default::default()
        };
        self.runs()
            .list_runs(request)
            .await
            .unwrap()
            .into_inner()
            .runs
    }

    /// Waits until a schedule has made so many runs and returns them.
    async fn wait_for_runs(&self, id: &str, count: usize) -> Vec<kfp::Run> {
        let probe = async || {
            let runs = self.made(id).await;
            if runs.len() == count {
                Ok(runs)
            } else {
                Err(format!("{} runs", runs.len()))
            }
        };
        testkit::eventually("the runs of a schedule", Duration::from_secs(20), probe).await
    }

    /// Waits until every run of a schedule has ended.
    pub(crate) async fn wait_for_ends(&self, id: &str, count: usize) -> Vec<kfp::Run> {
        let probe = async || {
            let runs = self.made(id).await;
            let ended = |run: &kfp::Run| run.state() == kfp::RuntimeState::Succeeded;
            if runs.len() == count && runs.iter().all(ended) {
                Ok(runs)
            } else {
                Err(format!(
                    "{:?}",
                    runs.iter().map(kfp::Run::state).collect::<Vec<_>>()
                ))
            }
        };
        testkit::eventually("the runs to end", Duration::from_secs(20), probe).await
    }
}

pub(crate) fn slots(runs: &[kfp::Run]) -> Vec<i64> {
    let seconds = |run: &kfp::Run| run.scheduled_at.unwrap().seconds - START;
    runs.iter().map(seconds).collect()
}

#[tokio::test]
async fn a_schedule_lives_as_clients_expect() {
    for server in servers().await {
        let mut asked = schedule("nightly", &program(), cron("0 0 3 * * *"));
        asked.runtime_config = parameters(&json!({"rows": 3}));
        asked.max_concurrency = 99;
        let created = server.schedule(asked).await.unwrap();
        assert_eq!(created.status(), Status::Enabled);
        assert_eq!(created.max_concurrency, 10);
        assert!(!created.experiment_id.is_empty());
        let id = created.recurring_run_id.clone();
        assert_eq!(server.recurring_run(&id).await, created);
        let request = kfp::ListRecurringRunsRequest {
            experiment_id: created.experiment_id.clone(),
            sort_by: "created_at desc".to_owned(),
            ..Default::default()
        };
        let listed = server
            .recurring()
            .list_recurring_runs(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (listed.total_size, listed.recurring_runs),
            (1, vec![created.clone()])
        );

        server.disable(&id).await;
        assert_eq!(server.recurring_run(&id).await.status(), Status::Disabled);
        server.enable(&id).await;
        assert_eq!(server.recurring_run(&id).await.status(), Status::Enabled);

        let archive = kfp::ArchiveExperimentRequest {
            experiment_id: created.experiment_id.clone(),
        };
        server
            .experiments()
            .archive_experiment(archive)
            .await
            .unwrap();
        assert_eq!(server.recurring_run(&id).await.status(), Status::Disabled);

        let request = kfp::DeleteRecurringRunRequest {
            recurring_run_id: id.clone(),
            ..Default::default()
        };
        server
            .recurring()
            .delete_recurring_run(request.clone())
            .await
            .unwrap();
        let again = server
            .recurring()
            .delete_recurring_run(request)
            .await
            .unwrap_err();
        assert_eq!(again.code(), tonic::Code::NotFound);
    }
}

#[tokio::test]
async fn every_fault_of_a_schedule_is_named_at_once() {
    let server = crate::support::server().await;
    let mut asked = schedule("", &program(), cron("0 0 0 30 2 *"));
    asked.runtime_config = parameters(&json!({"rows": "many", "unknown": 1}));
    let status = server.schedule(asked).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let faults = tonic_types::StatusExt::get_details_bad_request(&status).unwrap();
    let faults: Vec<String> = faults
        .field_violations
        .into_iter()
        .map(|fault| format!("{}: {}", fault.field, fault.description))
        .collect();
    for part in [
        "recurring_run.display_name",
        "recurring_run.trigger.cron_schedule.cron: \"0 0 0 30 2 *\" never fires",
        "recurring_run.runtime_config.parameters.rows",
        "recurring_run.runtime_config.parameters.unknown",
    ] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(part)),
            "{part}: {faults:?}"
        );
    }
    for trigger in [
        every(0),
        cron("30 8 31 12 *"),
        cron("TZ=Nowhere @daily"),
        kfp::Trigger::default(),
    ] {
        let status = server
            .schedule(schedule("x", &importer(), trigger))
            .await
            .unwrap_err();
        let faults = tonic_types::StatusExt::get_details_bad_request(&status).unwrap();
        assert!(
            faults.field_violations[0]
                .field
                .starts_with("recurring_run.trigger"),
            "{status:?}"
        );
    }
}

#[tokio::test]
async fn every_late_slot_is_made_once_and_in_order() {
    for server in servers().await {
        let created = server
            .schedule(schedule("load", &importer(), every(60)))
            .await
            .unwrap();
        let id = created.recurring_run_id;
        server.pass(330, &id).await;
        let runs = server.wait_for_ends(&id, 5).await;
        assert_eq!(slots(&runs), [60, 120, 180, 240, 300]);
        let names: Vec<&str> = runs.iter().map(|run| run.display_name.as_str()).collect();
        assert_eq!(names, ["load-1", "load-2", "load-3", "load-4", "load-5"]);
        // The clock is set back: the slots that were made are not made again.
        server.hand.set(clock::Timestamp::from_secs(START));
        server.pass(200, &id).await;
        server.pass(170, &id).await;
        assert_eq!(
            slots(&server.wait_for_ends(&id, 6).await),
            [60, 120, 180, 240, 300, 360]
        );
    }
}

#[tokio::test]
async fn without_catch_up_only_the_newest_slot_is_made() {
    let server = crate::support::server().await;
    let mut asked = schedule("load", &importer(), every(60));
    asked.no_catchup = true;
    let id = server.schedule(asked).await.unwrap().recurring_run_id;
    server.pass(330, &id).await;
    assert_eq!(slots(&server.wait_for_ends(&id, 1).await), [300]);
    server.disable(&id).await;
    server.hand.advance(Duration::from_secs(600));
    server.pass(0, &id).await;
    assert_eq!(slots(&server.wait_for_ends(&id, 2).await), [300, 900]);
}

#[tokio::test]
async fn no_more_runs_are_active_than_may_be() {
    for server in servers().await {
        let mut asked = schedule("load", &program(), every(60));
        asked.runtime_config =
            parameters(&json!({"rows": 3, "text": "[[Index]] [[ScheduledTime.15:04]]"}));
        asked.max_concurrency = 2;
        let id = server.schedule(asked).await.unwrap().recurring_run_id;
        server.pass(600, &id).await;
        let runs = server.wait_for_runs(&id, 2).await;
        assert_eq!(slots(&runs), [60, 120]);
        let text = &runs[1].runtime_config.as_ref().unwrap().parameters["text"];
        assert_eq!(text, &crate::support::message(&json!("2 22:15")));
        // They wait for ever, so there is no third.
        server.pass(60, &id).await;
        server.pass(60, &id).await;
        assert_eq!(slots(&server.made(&id).await), [60, 120]);
    }
}

#[tokio::test]
async fn a_schedule_goes_on_after_a_restart_and_the_old_process_ends() {
    let url = testkit::postgres().create_database();
    let first = crate::support::open(testkit::temp_dir(), Some(url.clone())).await;
    let id = first
        .schedule(schedule("load", &importer(), every(60)))
        .await
        .unwrap()
        .recurring_run_id;
    first.pass(60, &id).await;
    first.wait_for_ends(&id, 1).await;
    let second = crate::support::open(testkit::temp_dir(), Some(url)).await;
    second.pass(200, &id).await;
    // The old one looks too, and must not make the same.
    first.pass(140, &id).await;
    assert_eq!(slots(&second.wait_for_ends(&id, 3).await), [60, 120, 180]);
}

#[tokio::test]
async fn the_newest_version_of_a_pipeline_runs_and_its_loss_is_named() {
    let server = crate::support::server().await;
    let pipeline = server.pipeline("p").await;
    let reference = kfp::PipelineVersionReference {
        pipeline_id: pipeline.clone(),
        pipeline_version_id: String::new(),
    };
    let mut asked = schedule("latest", &json!({}), every(60));
    asked.pipeline_source = Some(PipelineSource::PipelineVersionReference(reference));
    asked.runtime_config = parameters(&json!({"rows": 3}));
    asked.max_concurrency = 5;
    let id = server.schedule(asked).await.unwrap().recurring_run_id;
    server.pass(60, &id).await;
    server.wait_for_runs(&id, 1).await;
    let request = kfp::CreatePipelineVersionRequest {
        pipeline_id: pipeline.clone(),
        pipeline_version: Some(kfp::PipelineVersion {
            name: "second".to_owned(),
            pipeline_spec: Some(object(&importer())),
            ..Default::default()
        }),
    };
    let version = server
        .pipelines()
        .create_pipeline_version(request)
        .await
        .unwrap()
        .into_inner();
    // The newest version has no parameter `rows`: the slot waits, and says why.
    server.pass(60, &id).await;
    let probe = async || {
        let seen = server.recurring_run(&id).await.error;
        match seen {
            Some(error) if error.message.contains("rows") => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    };
    testkit::eventually("the problem", Duration::from_secs(20), probe).await;
    let delete = kfp::DeletePipelineVersionRequest {
        pipeline_id: pipeline,
        pipeline_version_id: version.pipeline_version_id,
    };
    server
        .pipelines()
        .delete_pipeline_version(delete)
        .await
        .unwrap();
    server.enable(&id).await;
    assert_eq!(slots(&server.wait_for_runs(&id, 2).await), [60, 120]);
    assert_eq!(server.recurring_run(&id).await.error, None);
}
