use std::time::Duration;

use aip::Code;
use auth::Principal;
use flumina_rpc::{self as rpc, Channel, Context, Registration, Switchboard};
use runtime::Metrics;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::HealthServer;
use tonic_types::StatusExt;
use tower::Service as _;

use crate::sample::{NAME, Sample, check, drain, message, path, reason, soon, watch};

struct Local {
    sample: Sample,
    channel: Channel,
    metrics: Metrics,
    registration: Registration,
}

fn local() -> Local {
    let switchboard = Switchboard::new();
    let channel = switchboard.channel(NAME);
    let sample = Sample::default();
    let metrics = Metrics::new();
    let registration = switchboard.register(sample.services(), &metrics);
    Local {
        sample,
        channel,
        metrics,
        registration,
    }
}

#[tokio::test]
async fn generated_clients_work_over_a_local_channel() {
    let switchboard = Switchboard::new();
    let mut client = HealthClient::new(switchboard.channel("grpc.health.v1.Health"));
    let services = rpc::Services::new("sample")
        .descriptor(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .add(HealthServer::new(Sample::default()));
    switchboard.register(services, &Metrics::new());
    let context = Context::background("test");
    let message = HealthCheckRequest::default();
    let request = context.request(Duration::from_secs(5), message.clone());
    assert_eq!(
        soon(client.check(request)).await.unwrap().get_ref().status,
        1
    );
    let finite = HealthCheckRequest {
        service: "finite".to_owned(),
    };
    let mut stream = soon(client.watch(context.stream_request(finite)))
        .await
        .unwrap()
        .into_inner();
    assert!(soon(stream.message()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_service_is_unavailable_before_it_registers_and_after_it_stops() {
    let switchboard = Switchboard::new();
    let channel = switchboard.channel(NAME);
    let unavailable = async || {
        let status = check(&channel, Request::new(message("")))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(reason(&status), "SERVICE_ABSENT");
        let retry = status.get_details_retry_info().unwrap();
        assert!(retry.retry_delay.is_some());
    };
    unavailable().await;
    let services = Sample::default().services();
    let registration = switchboard.register(services, &Metrics::new());
    check(&channel, Request::new(message(""))).await.unwrap();
    registration.stop();
    unavailable().await;
}

#[tokio::test]
async fn stopping_ends_streams_and_lets_unary_calls_finish() {
    let Local {
        sample,
        channel,
        registration,
        ..
    } = local();
    let stream = watch(&channel, Request::new(message(""))).await.unwrap();
    let waiting = check(&channel, Request::new(message("wait")));
    let ((count, status), outcome) = tokio::join!(
        async {
            soon(sample.entered.notified()).await;
            registration.stop();
            let ended = drain(stream).await;
            sample.gate.notify_waiters();
            ended
        },
        waiting
    );
    assert_eq!(count, 0);
    let status = status.unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "SERVER_DRAINING")
    );
    outcome.unwrap();
}

#[tokio::test]
async fn the_context_reaches_the_handler_and_its_own_calls() {
    let switchboard = Switchboard::new();
    let last = Sample::default();
    switchboard.register(last.services(), &Metrics::new());
    let first = Sample {
        next: Some(switchboard.channel(NAME)),
        ..Sample::default()
    };
    let front = Switchboard::new();
    front.register(first.services(), &Metrics::new());

    let context = Context::new(Principal::user("ada"));
    let timeout = Duration::from_secs(5);
    let request = context.request(timeout, message("forward"));
    check(&front.channel(NAME), request).await.unwrap();
    let (near, far) = (first.last(), last.last());
    for seen in [&near, &far] {
        assert_eq!(seen.principal, Principal::user("ada"));
        assert_eq!(seen.request_id, context.request_id);
        assert_eq!(seen.trace.trace_id, context.trace.trace_id);
    }
    assert_eq!(near.trace.parent_id, context.trace.span_id);
    assert_eq!(far.trace.parent_id, near.trace.span_id);
    assert!(
        far.remaining().unwrap() <= timeout,
        "the deadline shrinks, it never grows"
    );
}

#[tokio::test]
async fn a_call_without_metadata_gets_an_id_and_a_deadline() {
    let Local {
        sample, channel, ..
    } = local();
    check(&channel, Request::new(message(""))).await.unwrap();
    let seen = sample.last();
    assert_eq!(seen.principal, Principal::local());
    assert!(!seen.request_id.is_empty());
    assert!(seen.remaining().unwrap() > Duration::from_secs(50));
}

#[tokio::test]
async fn the_deadline_ends_a_unary_call() {
    let Local { channel, .. } = local();
    let context = Context::background("test");
    let request = context.request(Duration::from_millis(20), message("wait"));
    let status = check(&channel, request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_stream_ends_by_the_deadline_that_its_caller_set() {
    let Local { channel, .. } = local();
    let mut request = Request::new(message(""));
    request.set_timeout(Duration::from_millis(20));
    let stream = watch(&channel, request).await.unwrap();
    let (_, status) = drain(stream).await;
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_malformed_timeout_or_principal_is_refused() {
    let Local { channel, .. } = local();
    for (name, value, code) in [
        ("grpc-timeout", "soon", Code::InvalidArgument),
        ("x-flumina-principal", "root", Code::Unauthenticated),
    ] {
        let mut request = Request::new(message(""));
        request.metadata_mut().insert(name, value.parse().unwrap());
        assert_eq!(check(&channel, request).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_names_the_request_only() {
    let Local { channel, .. } = local();
    let context = Context::background("test");
    let request = context.request(Duration::from_secs(5), message("panic"));
    let status = check(&channel, request).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("as asked"), "{status}");
    let info = status.get_details_request_info().unwrap();
    assert_eq!(info.request_id, &*context.request_id);

    let stream = watch(&channel, context.stream_request(message("panic")))
        .await
        .unwrap();
    // Messages that were ready together with the panic may be lost.
    let status = drain(stream).await.1.unwrap();
    assert_eq!(status.code(), Code::Internal);
    let info = status.get_details_request_info().unwrap();
    assert_eq!(info.request_id, &*context.request_id);
    check(&channel, Request::new(message(""))).await.unwrap();
}

#[tokio::test]
async fn details_of_errors_arrive_intact() {
    let Local { channel, .. } = local();
    let status = check(&channel, Request::new(message("missing")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.message(), "sample s1 does not exist");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("SAMPLE_MISSING", "sample.flumina")
    );
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_before_it_is_decoded() {
    let switchboard = Switchboard::new();
    let services = Sample::default().services().max_request_bytes(100);
    switchboard.register(services, &Metrics::new());
    let channel = switchboard.channel(NAME);
    let fits = message(&"x".repeat(98));
    assert_eq!(fits.len(), 100);
    check(&channel, Request::new(fits)).await.unwrap();
    let large = message(&"x".repeat(99));
    let status = check(&channel, Request::new(large)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason(&status), "REQUEST_TOO_LARGE");
}

#[tokio::test]
async fn every_call_is_counted_once_by_method_and_code() {
    let Local {
        sample,
        channel,
        metrics,
        ..
    } = local();
    check(&channel, Request::new(message(""))).await.unwrap();
    check(&channel, Request::new(message("missing")))
        .await
        .unwrap_err();
    let stream = watch(&channel, Request::new(message("finite")))
        .await
        .unwrap();
    assert_eq!(drain(stream).await.0, 2);
    drop(watch(&channel, Request::new(message(""))).await.unwrap());
    let no_such = path("NoSuchMethod");
    let status = rpc::raw::unary(&channel, no_such, Request::new(message("")))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    {
        let waiting = check(&channel, Request::new(message("wait")));
        let entered = soon(sample.entered.notified());
        tokio::select! {
            _ = waiting => panic!("nobody opened the gate"),
            () = entered => {}
        }
    }
    let text = metrics.encode();
    let line = |method: &str, code: &str| {
        let start = format!("flumina_rpc_calls_total{{method=\"{method}\",code=\"{code}\"}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&start));
        found.unwrap_or("none").to_owned()
    };
    assert_eq!(line("sample.v1.Sample/Check", "OK"), "1", "{text}");
    assert_eq!(line("sample.v1.Sample/Check", "NOT_FOUND"), "1");
    assert_eq!(
        line("sample.v1.Sample/Check", "CANCELLED"),
        "1",
        "a caller went away"
    );
    assert_eq!(line("sample.v1.Sample/Watch", "OK"), "1");
    assert_eq!(line("sample.v1.Sample/Watch", "CANCELLED"), "1");
    assert_eq!(line("unknown", "UNIMPLEMENTED"), "1");
    assert!(text.contains("flumina_rpc_active 0"), "{text}");
}

#[tokio::test]
async fn a_call_without_a_whole_message_is_the_callers_fault() {
    let local = local();
    let bodies: [&[u8]; 6] = [
        b"",
        b"\0\0",
        b"\0\0\0\0\x09ab",
        b"\x07\0\0\0\0",
        b"\0\0\0\0\x01\xff",
        b"\0\0\0\0\x02\x0a\x09",
    ];
    for body in bodies {
        for method in ["Check", "Watch"] {
            let body = http_body_util::Full::new(bytes::Bytes::from_static(body));
            let request = http::Request::post(path(method).as_str())
                .header("content-type", "application/grpc")
                .body(tonic::body::Body::new(body))
                .unwrap();
            let response = soon(local.channel.clone().call(request)).await.unwrap();
            let status = tonic::Status::from_header_map(response.headers()).unwrap();
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            assert_eq!(reason(&status), "REQUEST_MALFORMED");
        }
    }
}

#[tokio::test]
async fn a_message_that_never_ends_is_not_waited_for_even_without_a_deadline() {
    let switchboard = Switchboard::new();
    let mut channel = switchboard.channel(NAME);
    let patience = Duration::from_millis(100);
    let services = Sample::default().services().default_timeout(patience);
    switchboard.register(services, &Metrics::new());
    // A prefix that announces more than comes in a day.
    let pieces = futures_util::stream::unfold(&b"\0\0\x10\0\0"[..], |piece| async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let frame = http_body::Frame::data(bytes::Bytes::from_static(piece));
        Some((Ok::<_, tonic::Status>(frame), &b"\0"[..]))
    });
    let request = http::Request::post(path("Watch").as_str())
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(http_body_util::StreamBody::new(
            pieces,
        )))
        .unwrap();
    let response = soon(channel.call(request)).await.unwrap();
    let status = tonic::Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}
