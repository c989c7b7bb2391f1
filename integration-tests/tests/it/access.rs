//! Who may call what: nobody anything without the token, on any listener.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use bytes::Bytes;
use flumina_integration_tests::{Client, Fleet, Part, Stores};
use prost_reflect::DescriptorPool;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// The services that a part offers, by its contracts.
fn contracts(part: Part) -> Vec<&'static [u8]> {
    match part {
        Part::Runner => vec![api_runner::DESCRIPTOR],
        Part::Pipelines => vec![api_kfp::DESCRIPTOR, api_pipelines::DESCRIPTOR],
        Part::Gateway => vec![
            api_kfp::DESCRIPTOR,
            api_pipelines::DESCRIPTOR,
            api_runner::DESCRIPTOR,
        ],
    }
}

/// Full names of services, and paths of their methods.
fn methods(part: Part) -> Vec<(String, String)> {
    let mut methods = Vec::new();
    for descriptor in contracts(part) {
        let pool = DescriptorPool::decode(descriptor).unwrap();
        for service in pool.services() {
            // The own contract of runs refers to the runner's messages, so its descriptor has that service too.
            let foreign = service.name() == "WorkloadService" && part != Part::Runner;
            let own = ["Healthz", "Auth"]
                .iter()
                .any(|name| service.name().starts_with(name));
            if foreign || (own && part == Part::Pipelines) {
                continue;
            }
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                methods.push((service.full_name().to_owned(), path));
            }
        }
    }
    methods
}

fn get(address: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let token = token
        .map(|token| format!("Authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{token}\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (code, answer)
}

#[tokio::test]
async fn every_method_of_every_program_refuses_callers_without_its_token() {
    let fleet = Fleet::started(Stores::Sqlite).await;
    for part in Part::ALL {
        let methods = methods(part);
        assert!(methods.len() >= 10, "{part:?}: {methods:?}");
        let others = Part::ALL
            .into_iter()
            .filter(|other| *other != part)
            .map(|other| Some(other.token()));
        for token in others.chain([None]) {
            let client = Client::new(&fleet.url(part), token);
            for (_, path) in &methods {
                let request = Request::new(Bytes::new());
                let path = path.parse().unwrap();
                let status = rpc::raw::unary(&client.channel(), path, request)
                    .await
                    .unwrap_err();
                assert_eq!(status.code(), Code::Unauthenticated, "{part:?} {status:?}");
            }
            // Reflection tells what there is to attack.
            let mut reflection = ServerReflectionClient::new(client.channel());
            let request = futures_util::stream::iter([ServerReflectionRequest::default()]);
            let refused = reflection.server_reflection_info(request).await;
            assert_eq!(
                refused.unwrap_err().code(),
                Code::Unauthenticated,
                "{part:?}"
            );
        }
    }
    // REST is the same door.
    let gateway = fleet.url(Part::Gateway);
    let address = gateway.strip_prefix("http://").unwrap();
    assert_eq!(get(address, "/apis/v2beta1/runs", None).0, 401);
    assert_eq!(get(address, "/apis/v2beta1/runs", Some("wrong")).0, 401);
    assert_eq!(
        get(address, "/apis/v2beta1/runs", Some(Part::Gateway.token())).0,
        200
    );
}

#[tokio::test]
async fn health_readiness_and_reflection_answer_in_every_program() {
    let mut fleet = Fleet::started(Stores::Sqlite).await;
    for part in Part::ALL {
        let admin = fleet.admin(part);
        assert_eq!(get(&admin, "/livez", None).0, 200, "{part:?}");
        assert_eq!(get(&admin, "/readyz", None).0, 200, "{part:?}");
        let (code, metrics) = get(&admin, "/metrics", None);
        assert!(
            code == 200 && metrics.contains("# TYPE"),
            "{part:?}: {metrics}"
        );
        let client = fleet.client_of(part);
        let request = ServerReflectionRequest {
            message_request: Some(MessageRequest::ListServices(String::new())),
            ..Default::default()
        };
        let request = futures_util::stream::iter([request]);
        let mut answers = ServerReflectionClient::new(client.channel())
            .server_reflection_info(request)
            .await
            .unwrap()
            .into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(listed)) = answer else {
            panic!("{part:?}: {answer:?}");
        };
        let listed: Vec<String> = listed
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        for (service, _) in methods(part) {
            assert!(
                listed.contains(&service),
                "{part:?} does not list {service}: {listed:?}"
            );
            // Health tells each service's state, without a token.
            let anonymous = Client::new(&fleet.url(part), None);
            let check = HealthCheckRequest {
                service: service.clone(),
            };
            HealthClient::new(anonymous.channel())
                .check(check)
                .await
                .unwrap();
            assert!(anonymous.serving(&service).await, "{part:?} {service}");
        }
    }
    for part in Part::ALL.into_iter().rev() {
        assert!(fleet.stop(part).success(), "{part:?}");
    }
}
