//! REST requests and what the services get; answers and what the clients get.

use serde_json::json;

use crate::harness::gateway;

#[tokio::test]
async fn requests_become_the_messages_that_the_rules_say() {
    let gateway = gateway();
    let table: &[(&str, &str, &str, &[&str])] = &[
        (
            "GET",
            "/apis/v2beta1/runs/a%2Fb%20c",
            "",
            &["GetRunRequest", "run_id: \"a/b c\""],
        ),
        (
            "GET",
            "/apis/v2beta1/runs?namespace=&page_token=&page_size=7&sort_by=created_at+desc&experiment_id=e1&unknown=1",
            "",
            &[
                "page_size: 7",
                "sort_by: \"created_at desc\"",
                "experiment_id: \"e1\"",
                "namespace: \"\"",
            ],
        ),
        (
            "GET",
            "/apis/v2beta1/runs?pageSize=3&sortBy=x",
            "",
            &["page_size: 3", "sort_by: \"x\""],
        ),
        (
            "GET",
            "/apis/v2beta1/pipelines/names/my%20name?namespace=ns",
            "",
            &[
                "GetPipelineByNameRequest",
                "name: \"my name\"",
                "namespace: \"ns\"",
            ],
        ),
        (
            "DELETE",
            "/apis/v2beta1/pipelines/p1?cascade=true",
            "",
            &["cascade: true", "pipeline_id: \"p1\""],
        ),
        (
            "POST",
            "/apis/v2beta1/runs/r1:terminate",
            "",
            &["TerminateRunRequest", "run_id: \"r1\""],
        ),
        (
            "POST",
            "/apis/v2beta1/runs/r1:archive",
            "{}",
            &["ArchiveRunRequest", "run_id: \"r1\""],
        ),
        (
            "POST",
            "/apis/v2beta1/runs/a:b:archive",
            "",
            &["ArchiveRunRequest", "run_id: \"a:b\""],
        ),
        (
            "GET",
            "/apis/v2beta1/runs/a:b",
            "",
            &["GetRunRequest", "run_id: \"a:b\""],
        ),
        (
            "PATCH",
            "/apis/v2beta1/pipelines/p9",
            r#"{"pipeline_id":"other","displayName":"New","tags":{"a":"b"}}"#,
            &[
                "UpdatePipelineRequest",
                "pipeline_id: \"p9\"",
                "display_name: \"New\"",
                "{\"a\": \"b\"}",
            ],
        ),
        (
            "PATCH",
            "/apis/v2beta1/pipelines/p9/versions/v1",
            r#"{"display_name":"New"}"#,
            &[
                "pipeline_id: \"p9\"",
                "pipeline_version_id: \"v1\"",
                "display_name: \"New\"",
            ],
        ),
        (
            "POST",
            "/apis/v2beta1/runs?experiment_id=e7",
            r#"{"display_name":"x","runtime_config":{"parameters":{"n":1,"l":[1.5,null,true]}}}"#,
            &[
                "experiment_id: \"e7\"",
                "display_name: \"x\"",
                "NumberValue(1.0)",
                "NullValue",
            ],
        ),
        ("POST", "/apis/v2beta1/runs", "", &["run: None"]),
        (
            "DELETE",
            "/apis/flumina.pipelines/v1/runs/r1?keep_artifacts=1",
            "",
            &["keep_artifacts: true"],
        ),
    ];
    for (method, path, body, expected) in table {
        let answer = gateway.json(method, path, body).await;
        let request = gateway.fake.last_request();
        for part in *expected {
            assert!(
                request.contains(part),
                "{method} {path}: {part} is not in {request}; answer {}",
                answer.text()
            );
        }
    }
}

#[tokio::test]
async fn answers_are_json_as_kubeflow_prints_it() {
    let gateway = gateway();
    let body = json!({
        "displayName": "a <run>",
        "experiment_id": "e1",
        "pipeline_spec": {"root": {"n": 3, "f": 2.5, "big": 1e21, "nested": [1, {"x": null}], "e": {}}},
        "runtime_config": {"parameters": {"int": 4.0, "text": "t"}},
    });
    let created = gateway
        .json("POST", "/apis/v2beta1/runs", &body.to_string())
        .await;
    assert_eq!(created.status, 200, "{}", created.text());
    assert_eq!(created.header("content-type"), "application/json");
    assert_eq!(
        created.text(),
        concat!(
            r#"{"experiment_id":"e1","run_id":"r1","display_name":"a <run>","#,
            r#""pipeline_spec":{"root":{"big":1e21,"e":{},"f":2.5,"n":3,"nested":[1,{"x":null}]}},"#,
            r#""runtime_config":{"parameters":{"int":4,"text":"t"}},"#,
            r#""created_at":"2023-11-14T22:13:20.500Z","state":"PENDING"}"#
        )
    );
    let empty = gateway.get("/apis/v2beta1/pipelines").await;
    assert_eq!(empty.text(), "{}");
    let ended = gateway
        .json("POST", "/apis/v2beta1/runs/r1:terminate", "")
        .await;
    assert_eq!((ended.status.as_u16(), ended.text().as_str()), (200, "{}"));
}

#[tokio::test]
async fn an_inline_specification_of_many_megabytes_passes() {
    let gateway = gateway();
    let items: Vec<String> = (0..200_000).map(|n| format!("item-{n}")).collect();
    let body = json!({"display_name": "x", "pipeline_spec": {"items": items}}).to_string();
    let answer = gateway.json("POST", "/apis/v2beta1/runs", &body).await;
    assert_eq!(answer.status, 200);
    let returned = answer.json();
    assert_eq!(returned["pipeline_spec"]["items"][199_999], "item-199999");
}

#[tokio::test]
async fn health_says_what_the_python_client_asks_for() {
    let gateway = gateway();
    for version in ["v1beta1", "v2beta1"] {
        let answer = gateway.get(&format!("/apis/{version}/healthz")).await;
        let health = answer.json();
        assert_eq!(health["multi_user"], false);
        assert_eq!(health["pipeline_store"], "database");
        assert!(health["commit_sha"].is_string() && health["tag_name"].is_string());
    }
    assert_eq!(
        gateway
            .get("/apis/v2beta1/auth?namespace=x&verb=GET")
            .await
            .text(),
        "{}"
    );
    assert_eq!(gateway.get("/livez").await.text(), "ok\n");
    assert_eq!(gateway.get("/readyz").await.text(), "ok\n");
}

#[tokio::test]
async fn every_answer_carries_an_id_and_headers_that_bind_browsers() {
    let gateway = gateway();
    for path in ["/apis/v2beta1/runs", "/", "/nowhere", "/livez"] {
        let answer = gateway.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .contains("frame-ancestors 'none'")
        );
        assert!(answer.headers.get("access-control-allow-origin").is_none());
        assert!(!answer.header("x-request-id").is_empty(), "{path}");
    }
    let page = gateway.get("/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("script-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let headers = [("x-request-id", "mine-1"), ("idempotency-key", "k1")];
    let answer = gateway
        .send("GET", "/apis/v2beta1/runs", &headers, "")
        .await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.header("cache-control"), "no-store");
    let metadata = gateway.fake.metadata.lock().unwrap();
    assert_eq!(metadata.get("x-request-id").unwrap(), "mine-1");
    assert_eq!(metadata.get("idempotency-key").unwrap(), "k1");
}

#[tokio::test]
async fn tags_that_are_given_empty_are_cleared() {
    let gateway = gateway();
    let path = "/apis/v2beta1/pipelines/p1";
    for (body, expected) in [
        (r#"{"tags":{}}"#, true),
        (r#"{"tags":{"a":""}}"#, false),
        ("{}", false),
    ] {
        gateway.json("PATCH", path, body).await;
        let metadata = gateway.fake.metadata.lock().unwrap();
        let found = metadata
            .get("x-clear-tags")
            .is_some_and(|value| value == "true");
        assert_eq!(found, expected, "{body}");
    }
}

#[tokio::test]
async fn the_files_of_the_page_are_asked_for_again_and_not_sent_again() {
    let gateway = gateway();
    for (path, kind) in [
        ("/", "text/html"),
        ("/page.js", "text/javascript"),
        ("/page.css", "text/css"),
        ("/frame.html", "text/html"),
    ] {
        let first = gateway.get(path).await;
        assert_eq!(first.status, 200, "{path}");
        assert!(first.header("content-type").starts_with(kind), "{path}");
        assert_eq!(first.header("cache-control"), "no-cache", "{path}");
        let headers = [("if-none-match", first.header("etag"))];
        let again = gateway.send("GET", path, &headers, "").await;
        assert_eq!(again.status, 304, "{path}");
        assert_eq!(again.text(), "", "{path}");
        let other = gateway
            .send("GET", path, &[("if-none-match", "\"other\"")], "")
            .await;
        assert_eq!(other.text(), first.text(), "{path}");
    }
}

#[tokio::test]
async fn what_draws_html_artifacts_is_alone_and_connects_to_nothing() {
    let gateway = gateway();
    let frame = gateway.get("/frame.html").await;
    let policy = frame.header("content-security-policy");
    assert!(
        policy.starts_with("sandbox allow-scripts; default-src 'none';"),
        "{policy}"
    );
    for never in ["allow-same-origin", "connect-src", "frame-src", "http"] {
        assert!(!policy.contains(never), "{never} in {policy}");
    }
    assert!(policy.contains("frame-ancestors 'self'"), "{policy}");
}
