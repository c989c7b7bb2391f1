//! Streams over REST: lines of JSON, logs, files.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::fake::all_closed;
use crate::harness::{Gateway, gateway};

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn streams_are_lines_of_json() {
    let gateway = gateway();
    let answer = gateway
        .get("/apis/flumina.pipelines/v1/runs/r1:watch")
        .await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    assert_eq!(
        answer.text(),
        "{\"result\":{\"run\":{\"run_id\":\"r1\",\"state\":\"RUNNING\",\"version\":\"1\"}}}\n\
         {\"result\":{\"run\":{\"run_id\":\"r1\",\"state\":\"RUNNING\",\"version\":\"2\"}}}\n"
    );
    let broken = gateway
        .get("/apis/flumina.pipelines/v1/runs/broken:watch")
        .await;
    let broken = lines(&broken.text());
    assert_eq!(broken.len(), 3);
    assert_eq!(broken[2]["error"]["status"], "ABORTED");
    let missing = gateway
        .get("/apis/flumina.pipelines/v1/runs/none:watch")
        .await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["error"]["status"], "NOT_FOUND");
}

#[tokio::test]
async fn logs_are_text_under_both_paths() {
    let gateway = gateway();
    for path in [
        "/apis/v1alpha1/runs/r1/nodes/train/log",
        "/apis/v1alpha1/runs/r1/nodes/train/log?follow=false",
        "/apis/flumina.pipelines/v1/runs/r1/tasks/train/logs?offset=5&attempt=2",
    ] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.text(), "one\nzwö\n", "{path}");
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    let request = gateway.fake.last_request();
    assert!(
        request.contains("offset: 5") && request.contains("attempt: 2"),
        "{request}"
    );
    let missing = gateway
        .get("/apis/v1alpha1/runs/r1/nodes/missing/log")
        .await;
    assert_eq!(
        (missing.status.as_u16(), missing.json()["code"].as_i64()),
        (404, Some(5))
    );
    let bad = gateway
        .get("/apis/v1alpha1/runs/r1/nodes/train/log?follow=perhaps")
        .await;
    assert_eq!(bad.status, 400);
}

async fn open(gateway: &Gateway, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    BufReader::new(stream)
}

async fn read_until(reader: &mut BufReader<TcpStream>, text: &str) {
    let mut seen = String::new();
    let wait = async {
        while !seen.contains(text) {
            let mut line = Vec::new();
            assert_ne!(
                reader.read_until(b'\n', &mut line).await.unwrap(),
                0,
                "{seen}"
            );
            seen.push_str(&String::from_utf8_lossy(&line));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_ends_the_call() {
    let gateway = gateway();
    for path in [
        "/apis/v1alpha1/runs/r1/nodes/train/log?follow=true",
        "/apis/flumina.pipelines/v1/runs/endless:watch",
    ] {
        let mut reader = open(&gateway, path).await;
        read_until(
            &mut reader,
            if path.contains("log") { "one" } else { "\"2\"" },
        )
        .await;
        assert_eq!(*gateway.fake.open.borrow(), 1);
        drop(reader);
        all_closed(&gateway.fake).await;
    }
}

#[tokio::test]
async fn a_log_that_breaks_off_does_not_look_complete() {
    let gateway = gateway();
    let mut reader = open(&gateway, "/apis/v1alpha1/runs/r1/nodes/broken/log").await;
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).await.ok();
    let text = String::from_utf8_lossy(&seen);
    assert!(!text.ends_with("0\r\n\r\n"), "{text}");
    all_closed(&gateway.fake).await;
}

#[tokio::test]
async fn artifacts_are_saved_and_never_shown() {
    let gateway = gateway();
    let answer = gateway
        .get("/apis/flumina.pipelines/v1/artifacts/7:download?path=a%2Fpage.html")
        .await;
    assert_eq!(answer.text(), "<script>alert(1)</script>");
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-security-policy", "sandbox"),
        ("x-content-type-options", "nosniff"),
        (
            "content-disposition",
            "attachment; filename=\"page.html\"; filename*=UTF-8''page.html",
        ),
        ("content-length", "25"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(
        gateway
            .fake
            .last_request()
            .contains("path: \"a/page.html\"")
    );
    for (path, status) in [
        ("8:download", 404),
        ("x:download", 400),
        ("7:download?path=missing", 404),
    ] {
        let answer = gateway
            .get(&format!("/apis/flumina.pipelines/v1/artifacts/{path}"))
            .await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn kubeflows_artifact_read_is_base64_in_json() {
    let gateway = gateway();
    for version in ["v1beta1", "v2beta1"] {
        let path = format!("/apis/{version}/runs/r1/nodes/train/artifacts/model:read");
        let answer = gateway.get(&path).await;
        assert_eq!(
            answer.text(),
            "{\"data\":\"PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==\"}"
        );
    }
    let path = "/apis/v2beta1/runs/r1/nodes/train/artifacts/other:read";
    let answer = gateway.get(path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_i64()),
        (404, Some(5))
    );
}
