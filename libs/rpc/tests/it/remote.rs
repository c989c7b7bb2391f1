use std::net::SocketAddr;
use std::time::Duration;

use aip::Code;
use auth::{BearerToken, Principal, Secret};
use flumina_rpc::{self as rpc, Channel, Context, ServeOptions};
use runtime::{Guard, Host, Listener};
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_types::StatusExt;

use crate::sample::{NAME, Sample, check, drain, message, reason, soon, watch};

const GRACE: Duration = Duration::from_secs(10);

struct Remote {
    host: Host,
    sample: Sample,
    address: SocketAddr,
}

fn token(text: &str) -> BearerToken {
    BearerToken::new(&Secret::new(text)).unwrap()
}

fn remote(token: Option<BearerToken>) -> Remote {
    remote_with(ServeOptions {
        token,
        ..ServeOptions::default()
    })
}

fn remote_with(options: ServeOptions) -> Remote {
    let host = Host::detached("sample");
    let sample = Sample::default();
    let loopback = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind("the API", loopback, Guard::Loopback).unwrap();
    let address = rpc::serve(&host, listener, sample.services(), options).unwrap();
    Remote {
        host,
        sample,
        address,
    }
}

impl Remote {
    fn channel(&self, token: Option<BearerToken>) -> Channel {
        Channel::remote(&format!("http://{}", self.address), token).unwrap()
    }
}

#[tokio::test]
async fn calls_pass_the_same_stack_as_in_memory() {
    let remote = remote(None);
    let channel = remote.channel(None);
    let context = Context::new(Principal::user("ada"));
    let request = context.request(Duration::from_secs(5), message(""));
    check(&channel, request).await.unwrap();
    let seen = remote.sample.last();
    assert_eq!(seen.principal, context.principal);
    assert_eq!(seen.request_id, context.request_id);
    assert_eq!(seen.trace.parent_id, context.trace.span_id);

    let status = check(&channel, Request::new(message("panic")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.get_details_request_info().is_some());
    let status = check(&channel, Request::new(message("missing")))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "SAMPLE_MISSING");
    let stream = watch(&channel, Request::new(message("finite")))
        .await
        .unwrap();
    let (count, status) = drain(stream).await;
    assert_eq!(count, 2);
    assert!(status.is_none(), "{status:?}");
}

#[tokio::test]
async fn the_deadline_has_one_code_wherever_it_passes() {
    let remote = remote(None);
    let channel = remote.channel(None);
    for _ in 0..5 {
        let mut request = Request::new(message("wait"));
        request.set_timeout(Duration::from_millis(10));
        let status = check(&channel, request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }
}

#[tokio::test]
async fn every_call_needs_the_token_except_health() {
    let remote = remote(Some(token("right")));
    let right = remote.channel(Some(token("right")));
    check(&right, Request::new(message(""))).await.unwrap();
    assert_eq!(remote.sample.last().principal, Principal::operator());
    for (channel, expected) in [
        (remote.channel(None), "TOKEN_MISSING"),
        (remote.channel(Some(token("wrong"))), "TOKEN_INVALID"),
    ] {
        let status = check(&channel, Request::new(message("")))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert_eq!(reason(&status), expected);
        let status = watch(&channel, Request::new(message("")))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        let request = HealthCheckRequest::default();
        let answer = soon(HealthClient::new(channel).check(request))
            .await
            .unwrap();
        assert_eq!(answer.get_ref().status, 1);
    }
}

#[tokio::test]
async fn health_follows_readiness() {
    let remote = remote(None);
    let condition = remote.host.readiness.condition("database");
    let mut client = HealthClient::new(remote.channel(None));
    let request = HealthCheckRequest {
        service: NAME.to_owned(),
    };
    let mut states = soon(client.watch(request)).await.unwrap().into_inner();
    let mut until = async |wanted: i32| loop {
        let state = soon(states.message()).await.unwrap().unwrap();
        if state.status == wanted {
            break;
        }
    };
    until(2).await;
    condition.ready();
    until(1).await;
    remote.host.readiness.drain();
    until(2).await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let remote = remote(None);
    let mut client = ServerReflectionClient::new(remote.channel(None));
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = futures_util::stream::iter([request]);
    let mut answers = soon(client.server_reflection_info(requests))
        .await
        .unwrap()
        .into_inner();
    let answer = soon(answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(names.contains(&NAME.to_owned()), "{names:?}");
    assert!(
        names.contains(&"grpc.health.v1.Health".to_owned()),
        "{names:?}"
    );
}

#[tokio::test]
async fn an_absent_server_is_unavailable_and_found_when_it_comes_back() {
    let first = remote(None);
    let channel = first.channel(None);
    check(&channel, Request::new(message(""))).await.unwrap();
    let late = soon(first.host.supervisor.shutdown(GRACE)).await;
    assert!(late.is_empty(), "{late:?}");
    let status = check(&channel, Request::new(message("")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(reason(&status), "SERVER_UNREACHABLE");
    assert!(status.get_details_retry_info().is_some());

    // The same port, at once.
    let listener = Listener::bind("the API", first.address, Guard::Loopback).unwrap();
    let host = Host::detached("sample");
    let services = Sample::default().services();
    rpc::serve(&host, listener, services, ServeOptions::default()).unwrap();
    check(&channel, Request::new(message(""))).await.unwrap();
}

#[tokio::test]
async fn draining_finishes_unary_calls_and_ends_streams() {
    let remote = remote(None);
    let channel = remote.channel(None);
    let stream = watch(&channel, Request::new(message(""))).await.unwrap();
    let call = check(&channel, Request::new(message("wait")));
    let drained = async {
        soon(remote.sample.entered.notified()).await;
        let (late, (count, status)) = tokio::join!(remote.host.supervisor.shutdown(GRACE), async {
            let ended = drain(stream).await;
            // The stream has ended, so the server is draining; only now may the call go on.
            remote.sample.gate.notify_waiters();
            ended
        });
        assert!(late.is_empty(), "{late:?}");
        assert_eq!(count, 0);
        assert_eq!(status.unwrap().code(), Code::Unavailable);
    };
    let (outcome, ()) = soon(Box::pin(async { tokio::join!(call, drained) })).await;
    outcome.unwrap();
}

#[tokio::test]
async fn load_through_a_drain_sees_no_failure_but_unavailable() {
    let remote = remote(None);
    let channel = remote.channel(None);
    let client = async {
        let mut done = 0;
        loop {
            match check(&channel, Request::new(message(""))).await {
                Ok(()) => done += 1,
                Err(status) => {
                    assert_eq!(status.code(), Code::Unavailable, "{status}");
                    return done;
                }
            }
            if done == 50 {
                remote.host.supervisor.request_stop();
            }
        }
    };
    let stopper = async {
        remote.host.supervisor.ending().await;
        remote.host.supervisor.shutdown(GRACE).await
    };
    let (done, late) = soon(async { tokio::join!(client, stopper) }).await;
    assert!(done >= 50);
    assert!(late.is_empty(), "{late:?}");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_a_place() {
    let remote = remote_with(ServeOptions {
        max_connections: 1,
        ..ServeOptions::default()
    });
    let first = remote.channel(None);
    check(&first, Request::new(message(""))).await.unwrap();
    let second = remote.channel(None);
    let mut request = Request::new(message(""));
    request.set_timeout(Duration::from_millis(50));
    let status = check(&second, request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    drop(first);
    check(&second, Request::new(message(""))).await.unwrap();
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let remote = remote_with(ServeOptions {
        max_header_bytes: 4096,
        ..ServeOptions::default()
    });
    let channel = remote.channel(None);
    let mut request = Request::new(message(""));
    request
        .metadata_mut()
        .insert("x-large", "x".repeat(8192).parse().unwrap());
    check(&channel, request).await.unwrap_err();
    assert!(remote.sample.seen.lock().unwrap().is_empty());
    check(&channel, Request::new(message(""))).await.unwrap();
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() {
    for address in [
        "",
        "127.0.0.1:9000",
        "https://127.0.0.1",
        "http://",
        "unix:/x",
    ] {
        assert!(Channel::remote(address, None).is_err(), "{address}");
    }
}
