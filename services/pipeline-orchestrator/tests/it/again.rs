//! Runs that follow on runs: retries of a run, clones; and the limit of a run.

use api_kfp::v2beta1 as kfp;
use api_pipelines::v1 as own;
use kfp::RuntimeState::{Canceling, Failed, Pending, Running, Succeeded};
use kfp::run::PipelineSource;
use own::run_service_client::RunServiceClient;
use rpc::Channel;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::support::{Server, importer, inline, message, object, program, server, servers};

fn details(server: &Server) -> RunServiceClient<Channel> {
    let channel = server
        .switchboard
        .channel("flumina.pipelines.v1.RunService");
    RunServiceClient::new(channel)
}

async fn retry(server: &Server, run_id: &str) -> Result<(), Status> {
    let request = kfp::RetryRunRequest {
        run_id: run_id.to_owned(),
        ..Default::default()
    };
    server.runs().retry_run(request).await.map(drop)
}

/// A pipeline whose only task has a condition without an answer.
fn broken() -> Value {
    let mut spec = program();
    let condition = "inputs.parameter_values['nothing'] > 1.0";
    spec["root"]["dag"]["tasks"]["echo"]["triggerPolicy"] = json!({"condition": condition});
    spec
}

#[tokio::test]
async fn a_failed_run_is_retried_and_its_history_grows() {
    for server in servers().await {
        let run = server
            .run(inline("r", &broken(), &json!({"rows": 1})))
            .await
            .unwrap();
        let first = server.wait_for(&run.run_id, Failed).await;
        server.wait_for_active(0).await;
        retry(&server, &run.run_id).await.unwrap();
        let probe = async || {
            let run = server.get(&run.run_id).await.unwrap();
            let states: Vec<_> = run.state_history.iter().map(|one| one.state()).collect();
            if states.len() == 6 {
                Ok((run, states))
            } else {
                Err(states)
            }
        };
        let limit = std::time::Duration::from_secs(20);
        let (again, states) = testkit::eventually("the second failure", limit, probe).await;
        assert_eq!(states, [Pending, Running, Failed, Pending, Running, Failed]);
        assert_eq!(again.state(), Failed);
        let ids = |run: kfp::Run| -> Vec<String> {
            let tasks = run.run_details.unwrap().task_details;
            tasks.into_iter().map(|task| task.task_id).collect()
        };
        assert_eq!(ids(first), ids(again), "the tasks are the same");
    }
}

#[tokio::test]
async fn only_a_run_that_ended_without_success_is_retried() {
    let server = server().await;
    let run = server
        .run(inline("r", &importer(), &json!({})))
        .await
        .unwrap();
    server.wait_for(&run.run_id, Succeeded).await;
    let refused = retry(&server, &run.run_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("is SUCCEEDED"), "{refused:?}");
    let given = json!({"rows": 1});
    let open = server.run(inline("r", &program(), &given)).await.unwrap();
    server.wait_for(&open.run_id, Running).await;
    let refused = retry(&server, &open.run_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let nobody = "00000000-0000-4000-8000-000000000000";
    assert_eq!(
        retry(&server, nobody).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_stopped() {
    for server in servers().await {
        let platform = json!({"platforms": {"kubernetes": {
            "pipelineConfig": {"activeDeadlineSeconds": 1}}}});
        let spec = json!({"pipeline_spec": program(), "platform_spec": platform});
        let run = server
            .run(inline("r", &spec, &json!({"rows": 1})))
            .await
            .unwrap();
        let run = server.wait_for(&run.run_id, Canceling).await;
        let detail = own::GetTaskRequest {
            run_id: run.run_id,
            task: "echo".to_owned(),
        };
        let task = details(&server)
            .get_task(detail)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(task.reason, "DEADLINE_EXCEEDED");
        assert_eq!(task.message, "the run took longer than its limit of 1 s");
    }
}

#[tokio::test]
async fn a_clone_has_the_parameters_of_its_original_but_those_that_differ() {
    for server in servers().await {
        let given = json!({"rows": 3, "text": "a", "items": [1]});
        let original = server.run(inline("r", &program(), &given)).await.unwrap();
        let request = own::CloneRunRequest {
            run_id: original.run_id.clone(),
            parameters: Some(object(&json!({"rows": 4, "items": null}))),
            request_id: "6a7a1a6e-3f0e-4a63-9d3f-7d2a5b3c1e10".to_owned(),
            ..Default::default()
        };
        let clone = details(&server).clone_run(request.clone()).await.unwrap();
        let clone = clone.into_inner();
        assert_ne!(clone.run_id, original.run_id);
        assert_eq!(clone.display_name, "Clone of r");
        assert_eq!(clone.experiment_id, original.experiment_id);
        let read = server.get(&clone.run_id).await.unwrap();
        let parameters = read.runtime_config.unwrap().parameters;
        assert_eq!(parameters["rows"], message(&json!(4)));
        assert_eq!(parameters["text"], message(&json!("a")));
        assert!(!parameters.contains_key("items"));
        let source = Some(PipelineSource::PipelineSpec(object(&program())));
        assert_eq!(read.pipeline_source, source);
        let again = details(&server).clone_run(request).await.unwrap();
        assert_eq!(again.into_inner().run_id, clone.run_id, "a repeated call");
        let wrong = own::CloneRunRequest {
            run_id: original.run_id,
            parameters: Some(object(&json!({"rows": "many", "nothing": 1}))),
            ..Default::default()
        };
        let refused = details(&server).clone_run(wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        for name in ["rows", "nothing"] {
            assert!(refused.message().contains(name), "{refused:?}");
        }
    }
}

/// There is no runner here, so none takes the program.
#[tokio::test]
async fn a_task_that_no_runner_takes_says_why() {
    for server in servers().await {
        let given = json!({"rows": 1});
        let run = server.run(inline("r", &program(), &given)).await.unwrap();
        let probe = async || {
            let request = own::ListTasksRequest {
                run_id: run.run_id.clone(),
                ..Default::default()
            };
            let tasks = details(&server).list_tasks(request).await.unwrap();
            let tasks = tasks.into_inner().tasks;
            let echo = tasks.into_iter().find(|task| task.name == "echo");
            match echo {
                Some(task) if task.reason == "LAUNCH_WAITS" => Ok(task),
                other => Err(other),
            }
        };
        let limit = std::time::Duration::from_secs(20);
        let task = testkit::eventually("the reason", limit, probe).await;
        assert_eq!(task.state(), own::State::Pending);
        let message = &task.message;
        assert!(message.contains("does not take it yet"), "{message}");
        assert!(message.contains("Unavailable"), "{message}");
        assert_eq!(task.attempts[0].message, *message);
    }
}
