//! Runs.

use std::time::Duration;

use api_kfp::v2beta1 as kfp;
use kfp::RuntimeState;
use kfp::run::{PipelineSource, StorageState};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{
    START, Server, importer, inline, message, object, open, program, seconds, server, servers,
};

fn parameter(run: &kfp::Run, name: &str) -> Option<prost_types::Value> {
    run.runtime_config.as_ref()?.parameters.get(name).cloned()
}

async fn list(server: &Server, request: kfp::ListRunsRequest) -> kfp::ListRunsResponse {
    server.runs().list_runs(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_new_run_is_pending_and_complete() {
    for server in servers().await {
        let given = json!({"rows": 3, "text": "at [[CurrentTime.2006-01-02]] by [[RunUUID]]"});
        let run = server.run(inline("r", &program(), &given)).await.unwrap();
        assert_eq!(run.state(), RuntimeState::Pending);
        assert_eq!(run.storage_state(), StorageState::Available);
        assert_eq!(seconds(run.created_at), Some(START));
        assert_eq!(seconds(run.scheduled_at), Some(START));
        assert_eq!(
            seconds(run.finished_at),
            Some(0),
            "upstream shows 1970 for not yet"
        );
        let states: Vec<RuntimeState> = run.state_history.iter().map(|one| one.state()).collect();
        assert_eq!(states, [RuntimeState::Pending]);
        assert_eq!(parameter(&run, "rows"), Some(message(&json!(3))));
        let expanded = json!(format!("at 2023-11-14 by {}", run.run_id));
        assert_eq!(parameter(&run, "text"), Some(message(&expanded)));
        assert_eq!(
            parameter(&run, "items"),
            None,
            "defaults are not what was given"
        );
        assert_eq!(
            run.pipeline_source,
            Some(PipelineSource::PipelineSpec(object(&program())))
        );
        assert_ne!(run.experiment_id, "", "the default experiment");
        let read = server.get(&run.run_id).await.unwrap();
        assert_eq!(
            (&read.display_name, &read.pipeline_source),
            (&run.display_name, &run.pipeline_source)
        );
        assert_eq!(read.runtime_config, run.runtime_config);
    }
}

#[tokio::test]
async fn a_run_ends_and_shows_its_tasks() {
    for server in servers().await {
        let run = server
            .run(inline("r", &importer(), &json!({})))
            .await
            .unwrap();
        let run = server.wait_for(&run.run_id, RuntimeState::Succeeded).await;
        server.wait_for_active(0).await;
        assert_eq!(seconds(run.finished_at), Some(START));
        let states: Vec<RuntimeState> = run.state_history.iter().map(|one| one.state()).collect();
        assert_eq!(
            states,
            [
                RuntimeState::Pending,
                RuntimeState::Running,
                RuntimeState::Succeeded
            ]
        );
        let tasks = run.run_details.unwrap().task_details;
        let [root, get] = tasks.as_slice() else {
            panic!("{tasks:?}")
        };
        assert_eq!(get.display_name, "get");
        assert_eq!(get.parent_task_id, root.task_id);
        assert_eq!(get.execution_id.to_string(), get.task_id);
        assert_eq!(get.state(), RuntimeState::Succeeded);
        assert_eq!(get.outputs["artifact"].artifact_ids.len(), 1);
        assert_eq!(root.child_tasks.len(), 1);
        let late = kfp::TerminateRunRequest {
            run_id: run.run_id.clone(),
            ..Default::default()
        };
        let refused = server.runs().terminate_run(late).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(
            refused.message().contains("has ended already"),
            "{}",
            refused.message()
        );
    }
}

#[tokio::test]
async fn a_terminated_run_is_canceling_at_once() {
    for server in servers().await {
        let run = server
            .run(inline("r", &program(), &json!({"rows": 1})))
            .await
            .unwrap();
        let terminate = kfp::TerminateRunRequest {
            run_id: run.run_id.clone(),
            ..Default::default()
        };
        server
            .runs()
            .terminate_run(terminate.clone())
            .await
            .unwrap();
        // A run that had not started is over before we look.
        let shown = server.get(&run.run_id).await.unwrap();
        let stopping = [RuntimeState::Canceling, RuntimeState::Failed];
        assert!(stopping.contains(&shown.state()), "{:?}", shown.state());
        let seen = |state| shown.state_history.iter().any(|one| one.state() == state);
        assert!(
            seen(RuntimeState::Canceling) || seen(RuntimeState::Canceled),
            "{shown:?}"
        );
    }
}

#[tokio::test]
async fn a_run_of_a_version_survives_the_version() {
    for server in servers().await {
        let pipeline_id = server.pipeline("p").await;
        let versions = kfp::ListPipelineVersionsRequest {
            pipeline_id: pipeline_id.clone(),
            ..Default::default()
        };
        let listed = server
            .pipelines()
            .list_pipeline_versions(versions)
            .await
            .unwrap()
            .into_inner();
        let version_id = listed.pipeline_versions[0].pipeline_version_id.clone();
        #[expect(deprecated, reason = "older clients still send it")]
        let older = PipelineSource::PipelineVersionId(version_id.clone());
        let reference = PipelineSource::PipelineVersionReference(kfp::PipelineVersionReference {
            pipeline_id: pipeline_id.clone(),
            pipeline_version_id: version_id.clone(),
        });
        for source in [older, reference.clone()] {
            let new = inline("r", &Value::Null, &json!({"rows": 1}));
            let run = server
                .run(kfp::Run {
                    pipeline_source: Some(source),
                    ..new
                })
                .await
                .unwrap();
            assert_eq!(run.pipeline_source.as_ref(), Some(&reference));
            let read = server.get(&run.run_id).await.unwrap();
            assert_eq!(read.pipeline_source.as_ref(), Some(&reference));
        }
        let new = inline("last", &Value::Null, &json!({"rows": 1}));
        let run = server
            .run(kfp::Run {
                pipeline_source: Some(reference.clone()),
                ..new
            })
            .await
            .unwrap();
        let cascade = kfp::DeletePipelineRequest {
            pipeline_id,
            cascade: true,
        };
        server.pipelines().delete_pipeline(cascade).await.unwrap();
        assert_eq!(
            server.get(&run.run_id).await.unwrap().pipeline_source,
            Some(reference)
        );
    }
}

#[tokio::test]
async fn lists_are_paged_filtered_and_sorted() {
    for server in servers().await {
        let experiment_id = server.experiment("e").await;
        for number in 0..5 {
            server.hand.advance(Duration::from_secs(1));
            let new = inline(&format!("run {number}"), &importer(), &json!({}));
            server
                .run(kfp::Run {
                    experiment_id: experiment_id.clone(),
                    ..new
                })
                .await
                .unwrap();
        }
        server
            .run(inline("elsewhere", &importer(), &json!({})))
            .await
            .unwrap();
        let first = kfp::ListRunsRequest {
            experiment_id: experiment_id.clone(),
            page_size: 2,
            sort_by: "created_at desc".to_owned(),
            ..Default::default()
        };
        let mut names = Vec::new();
        let mut request = first.clone();
        loop {
            let page = list(&server, request.clone()).await;
            assert_eq!(page.total_size, 5);
            assert!(page.runs.iter().all(|run| run.pipeline_source.is_some()));
            names.extend(page.runs.into_iter().map(|run| run.display_name));
            if page.next_page_token.is_empty() {
                break;
            }
            // The order is in the token.
            request.sort_by = String::new();
            request.page_token = page.next_page_token;
        }
        assert_eq!(names, ["run 4", "run 3", "run 2", "run 1", "run 0"]);
        let token = list(&server, first.clone()).await.next_page_token;
        let foreign = kfp::ListRunsRequest {
            experiment_id: String::new(),
            page_token: token,
            ..first
        };
        let refused = server.runs().list_runs(foreign).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        let all = list(&server, kfp::ListRunsRequest::default()).await;
        assert_eq!(all.total_size, 6);
        let archive = kfp::ArchiveRunRequest {
            run_id: all.runs[0].run_id.clone(),
            ..Default::default()
        };
        server.runs().archive_run(archive).await.unwrap();
        // What the web page asks for.
        let filter = r#"{"predicates":[{"key":"storage_state","operation":"NOT_EQUALS","string_value":"ARCHIVED"}]}"#;
        let request = kfp::ListRunsRequest {
            filter: filter.to_owned(),
            ..Default::default()
        };
        assert_eq!(list(&server, request).await.total_size, 5);
    }
}

#[tokio::test]
async fn a_deleted_run_is_gone_at_once() {
    for server in servers().await {
        let run = server
            .run(inline("r", &program(), &json!({"rows": 1})))
            .await
            .unwrap();
        let delete = kfp::DeleteRunRequest {
            run_id: run.run_id.clone(),
            ..Default::default()
        };
        server.runs().delete_run(delete.clone()).await.unwrap();
        assert_eq!(
            server.get(&run.run_id).await.unwrap_err().code(),
            Code::NotFound
        );
        assert_eq!(
            list(&server, kfp::ListRunsRequest::default())
                .await
                .total_size,
            0
        );
        assert_eq!(
            server.runs().delete_run(delete).await.unwrap_err().code(),
            Code::NotFound
        );
        let run_id = run.run_id.clone();
        let archive = kfp::ArchiveRunRequest {
            run_id,
            ..Default::default()
        };
        assert_eq!(
            server.runs().archive_run(archive).await.unwrap_err().code(),
            Code::NotFound
        );
        let terminate = kfp::TerminateRunRequest {
            run_id: run.run_id,
            ..Default::default()
        };
        assert_eq!(
            server
                .runs()
                .terminate_run(terminate)
                .await
                .unwrap_err()
                .code(),
            Code::NotFound
        );
    }
}

#[tokio::test]
async fn outputs_may_be_put_anywhere_in_the_store() {
    let server = server().await;
    let root = server
        .dir
        .path()
        .canonicalize()
        .unwrap()
        .join("artifacts/team");
    let mut new = inline("r", &importer(), &json!({}));
    let config = new.runtime_config.as_mut().unwrap();
    config.pipeline_root = root.to_str().unwrap().to_owned();
    let run = server.run(new.clone()).await.unwrap();
    assert_eq!(run.runtime_config, new.runtime_config);
}

#[tokio::test]
async fn what_comes_later_says_so() {
    let server = server().await;
    let channel = server.channel("HealthzService");
    let mut health = kfp::healthz_service_client::HealthzServiceClient::new(channel);
    let health = health.get_healthz(()).await.unwrap().into_inner();
    assert_eq!(
        (health.multi_user, health.pipeline_store.as_str()),
        (false, "database")
    );
    let channel = server.channel("AuthService");
    let mut auth = kfp::auth_service_client::AuthServiceClient::new(channel);
    auth.authorize(kfp::AuthorizeRequest::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_later_start_on_the_same_database_ends_the_earlier_one() {
    let url = testkit::postgres().create_database();
    let earlier = open(testkit::temp_dir(), Some(url.clone())).await;
    let later = open(testkit::temp_dir(), Some(url)).await;
    let run = earlier.run(inline("r", &importer(), &json!({}))).await;
    let run = run.unwrap();
    let ending = earlier.supervisor.ending().await;
    assert!(
        matches!(&ending, runtime::Ending::Failed(why) if why.contains("took over")),
        "{ending:?}"
    );
    assert_eq!(
        later.get(&run.run_id).await.unwrap().state(),
        RuntimeState::Pending
    );
}
