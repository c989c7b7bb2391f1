//! gRPC and gRPC-web through the gateway.

use std::time::Duration;

use api_kfp::v2beta1::healthz_service_client::HealthzServiceClient;
use api_kfp::v2beta1::run_service_client::RunServiceClient;
use api_kfp::v2beta1::{CreateRunRequest, GetRunRequest, ListRunsRequest, Run};
use api_pipelines::v1::ReadLogsRequest;
use api_pipelines::v1::run_service_client::RunServiceClient as OwnRunServiceClient;
use api_runner::v1::workload_service_client::WorkloadServiceClient;
use auth::{BearerToken, Secret};
use prost::Message as _;
use rpc::Channel;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::fake::all_closed;
use crate::harness::{Gateway, gateway, gateway_with, test_config};

fn channel(gateway: &Gateway) -> Channel {
    Channel::remote(&format!("http://{}", gateway.address), None).unwrap()
}

#[tokio::test]
async fn unary_calls_pass_with_metadata_and_details_of_errors() {
    let gateway = gateway();
    let mut client = RunServiceClient::new(channel(&gateway));
    let run = Run {
        display_name: "x".repeat(3_000_000),
        ..Default::default()
    };
    let mut request = tonic::Request::new(CreateRunRequest {
        run: Some(run),
        ..Default::default()
    });
    let metadata = request.metadata_mut();
    metadata.insert("idempotency-key", "k1".parse().unwrap());
    metadata.insert("x-request-id", "mine".parse().unwrap());
    metadata.insert("x-flumina-principal", "service:root".parse().unwrap());
    metadata.insert("authorization", "Bearer unasked".parse().unwrap());
    let answer = client.create_run(request).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "mine");
    assert_eq!(answer.into_inner().display_name.len(), 3_000_000);
    {
        let metadata = gateway.fake.metadata.lock().unwrap();
        assert_eq!(metadata.get("idempotency-key").unwrap(), "k1");
        assert_eq!(metadata.get("x-flumina-principal").unwrap(), "user:local");
        assert!(metadata.get("authorization").is_none());
    }
    let missing = GetRunRequest {
        run_id: "none".to_owned(),
        ..Default::default()
    };
    let status = client.get_run(missing).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "run none does not exist");
    use tonic_types::StatusExt as _;
    assert_eq!(status.get_details_error_info().unwrap().reason, "FAKE");
}

#[tokio::test]
async fn deadlines_pass_and_unary_calls_have_one() {
    let mut config = test_config();
    config.limits.unary_seconds = 1;
    let gateway = gateway_with(config);
    let mut client = RunServiceClient::new(channel(&gateway));
    let hang = GetRunRequest {
        run_id: "hang".to_owned(),
        ..Default::default()
    };
    let status = client.get_run(hang.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let mut request = tonic::Request::new(hang);
    request.set_timeout(Duration::from_millis(50));
    let status = client.get_run(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status}"
    );
}

#[tokio::test]
async fn streams_pass_and_end_with_the_client() {
    let gateway = gateway();
    let mut client = OwnRunServiceClient::new(channel(&gateway));
    let request = ReadLogsRequest {
        run_id: "r1".to_owned(),
        task: "train".to_owned(),
        follow: true,
        ..Default::default()
    };
    let mut stream = client.read_logs(request).await.unwrap().into_inner();
    assert_eq!(
        stream.message().await.unwrap().unwrap().data,
        "one\n".as_bytes()
    );
    assert_eq!(*gateway.fake.open.borrow(), 1);
    drop(stream);
    all_closed(&gateway.fake).await;
}

#[tokio::test]
async fn services_of_the_inside_cannot_be_reached() {
    let gateway = gateway();
    let mut client = WorkloadServiceClient::new(channel(&gateway));
    let status = client
        .list(api_runner::v1::ListRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(
        status.message(),
        "there is no service flumina.runner.v1.WorkloadService here"
    );
}

#[tokio::test]
async fn the_gateway_itself_tells_health_and_what_it_serves() {
    let gateway = gateway();
    let health = HealthClient::new(channel(&gateway))
        .check(HealthCheckRequest {
            service: "kubeflow.pipelines.backend.api.v2beta1.RunService".to_owned(),
        })
        .await
        .unwrap();
    assert_eq!(health.into_inner().status, 1);
    let healthz = HealthzServiceClient::new(channel(&gateway))
        .get_healthz(())
        .await
        .unwrap();
    assert_eq!(healthz.into_inner().pipeline_store, "database");

    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel(&gateway))
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    for name in [
        "kubeflow.pipelines.backend.api.v2beta1.RunService",
        "flumina.pipelines.v1.RunService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(
        !names.contains(&"flumina.runner.v1.WorkloadService"),
        "{names:?}"
    );
}

#[tokio::test]
async fn the_token_is_required_of_grpc_too() {
    let mut config = test_config();
    config.token = Some(Secret::new("s3cret"));
    let gateway = gateway_with(config);
    let list = ListRunsRequest::default;
    let status = RunServiceClient::new(channel(&gateway))
        .list_runs(list())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let token = BearerToken::new(&Secret::new("s3cret")).unwrap();
    let known = Channel::remote(&format!("http://{}", gateway.address), Some(token)).unwrap();
    RunServiceClient::new(known)
        .list_runs(list())
        .await
        .unwrap();
}

#[tokio::test]
async fn grpc_web_passes_over_http_1() {
    let gateway = gateway();
    let mut frame = vec![0, 0, 0, 0, 0];
    GetRunRequest {
        run_id: "none".to_owned(),
        ..Default::default()
    }
    .encode(&mut frame)
    .unwrap();
    frame[4] = (frame.len() - 5) as u8;
    let path = "/kubeflow.pipelines.backend.api.v2beta1.RunService";
    let headers = [
        ("content-type", "application/grpc-web+proto"),
        ("x-grpc-web", "1"),
    ];
    let answer = gateway
        .send("POST", &format!("{path}/GetRun"), &headers, frame)
        .await;
    assert_eq!(answer.status, 200);
    let text = answer.text();
    let said = answer.header("grpc-status") == "5" || text.contains("grpc-status:5");
    assert!(said, "{:?} {text}", answer.headers);
    let list = vec![0, 0, 0, 0, 0];
    let answer = gateway
        .send("POST", &format!("{path}/ListRuns"), &headers, list)
        .await;
    assert!(answer.text().contains("grpc-status:0"), "{}", answer.text());
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn plain_grpc_over_http_1_is_told_so() {
    let gateway = gateway();
    let headers = [("content-type", "application/grpc")];
    let answer = gateway.send("POST", "/x.Y/Z", &headers, "").await;
    assert_eq!(answer.header("grpc-status"), "12");
}
