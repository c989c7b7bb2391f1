//! The end of the server, slow clients, addresses.

use std::time::Duration;

use auth::Secret;
use runtime::ServiceConfig as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::fake::all_closed;
use crate::harness::{gateway, gateway_with, test_config};

async fn send(gateway: &crate::harness::Gateway, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes))
        .await
        .expect("the connection stays open")
        .ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn draining_withdraws_readiness_finishes_calls_and_ends_streams() {
    let mut config = test_config();
    config.limits.unary_seconds = 1;
    let gateway = gateway_with(config);
    let host = gateway.address;
    let unary = send(
        &gateway,
        &format!("GET /apis/v2beta1/runs/hang HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    )
    .await;
    let path = "/apis/flumina.pipelines/v1/runs/endless:watch";
    let stream = send(
        &gateway,
        &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    )
    .await;
    let mut begun = gateway.fake.begun.subscribe();
    begun.wait_for(|count| *count == 2).await.unwrap();

    gateway.host.readiness.drain();
    let ready = gateway.get("/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), ready.text().as_str()),
        (503, "draining\n")
    );
    assert_eq!(gateway.get("/livez").await.status, 200);

    let late = gateway
        .host
        .supervisor
        .shutdown(Duration::from_secs(15))
        .await;
    assert!(late.is_empty(), "{late:?}");
    assert!(TcpStream::connect(host).await.is_err());
    let unary = rest(unary).await;
    assert!(
        unary.starts_with("HTTP/1.1 504"),
        "the call was not finished: {unary}"
    );
    let stream = rest(stream).await;
    assert!(stream.contains("the server is shutting down"), "{stream}");
    all_closed(&gateway.fake).await;
}

#[tokio::test]
async fn clients_that_are_too_slow_are_left() {
    let mut config = test_config();
    config.limits.header_seconds = 1;
    config.limits.body_idle_seconds = 1;
    let gateway = gateway_with(config);
    let host = gateway.address;
    for text in [
        "",
        "GET",
        "PRI * HTTP/2",
        "GET / HTTP/1.1\r\nhost: somewhere\r\nx: ",
    ] {
        let answer = rest(send(&gateway, text).await).await;
        assert!(!answer.contains(" 200 "), "{text:?}: {answer}");
    }
    let text = format!(
        "POST /apis/v2beta1/runs HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{"
    );
    let answer = rest(send(&gateway, &text).await).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(gateway.get("/livez").await.status, 200);
}

/// Whoever sends a byte now and then never pauses for long.
#[tokio::test]
async fn bodies_that_trickle_in_are_left() {
    let mut config = test_config();
    config.limits.body_idle_seconds = 60;
    config.limits.unary_seconds = 1;
    config.limits.upload_seconds = 1;
    let gateway = gateway_with(config);
    let host = gateway.address;
    let json = ("/apis/v2beta1/runs", "application/json", "{");
    let form = (
        "/apis/v2beta1/pipelines/upload",
        "multipart/form-data; boundary=b",
        "--b\r\ncontent-disposition: form-data; name=\"uploadfile\"; filename=\"a.yaml\"\r\n\r\n",
    );
    for (path, kind, begin) in [json, form] {
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {kind}\r\ncontent-length: 100000\r\n\r\n{begin}"
        );
        let (mut reader, mut writer) = tokio::io::split(send(&gateway, &text).await);
        let trickle = async {
            while writer.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut head = [0; 12];
        tokio::select! {
            () = trickle => unreachable!(),
            read = tokio::time::timeout(Duration::from_secs(20), reader.read_exact(&mut head)) => {
                read.expect("an answer in time").unwrap();
            }
        }
        assert_eq!(&head, b"HTTP/1.1 408", "{path}");
    }
}

#[tokio::test]
async fn headers_have_a_limit() {
    let gateway = gateway();
    let host = gateway.address;
    let long = "x".repeat(100_000);
    let many = "x: y\r\n".repeat(200);
    for headers in [format!("x: {long}\r\n"), many] {
        let text = format!("GET /livez HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        let answer = rest(send(&gateway, &text).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer:.100}");
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let gateway = gateway();
    let answer = rest(send(&gateway, "GET /livez HTTP/1.0\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.0 403"), "{answer}");
}

#[tokio::test]
async fn off_loopback_needs_a_token() {
    let host = runtime::Host::detached("t");
    let mut config = test_config();
    config.listen = "0.0.0.0:0".parse().unwrap();
    let peers = || flumina_gateway::Peers::local(&rpc::Switchboard::new());
    let open = flumina_gateway::build(config.clone(), peers())
        .unwrap()
        .start(&host);
    assert!(open.unwrap_err().to_string().contains("set a token"));
    config.token = Some(Secret::new("t"));
    flumina_gateway::build(config, peers())
        .unwrap()
        .start(&host)
        .unwrap();
}

#[test]
fn a_bad_configuration_says_what_is_wrong() {
    let mut config = test_config();
    assert!(config.validate().is_empty());
    config.token = Some(Secret::new("two words"));
    config.limits.unary_seconds = 0;
    config.limits.spec_bytes = 1 << 30;
    let problems = config.validate().join("; ");
    for key in ["token", "limits.unary_seconds", "limits.spec_bytes"] {
        assert!(problems.contains(key), "{problems}");
    }
    assert!(serde_json::from_str::<flumina_gateway::Config>("{\"lisen\":1}").is_err());
}
