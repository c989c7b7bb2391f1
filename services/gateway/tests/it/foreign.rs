//! Pages of other origins, rebound names, and callers without the token.

use auth::Secret;

use crate::harness::{gateway, gateway_with, test_config};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_foreign_page_reaches_nothing() {
    let gateway = gateway();
    let own = format!("http://{}", gateway.address);
    let cross = ("sec-fetch-site", "cross-site");
    let form = ("content-type", "multipart/form-data; boundary=x");
    let table: &[(&str, &str, &[(&str, &str)])] = &[
        (
            "POST",
            "/apis/v2beta1/runs",
            &[JSON, ("origin", "http://evil.example")],
        ),
        ("POST", "/apis/v2beta1/runs", &[JSON, ("origin", "null")]),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[JSON, ("origin", "http://localhost:1")],
        ),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[JSON, ("origin", own.as_str()), cross],
        ),
        (
            "POST",
            "/apis/v2beta1/runs/r1:terminate",
            &[("origin", "http://evil.example")],
        ),
        (
            "POST",
            "/apis/v2beta1/pipelines/upload?name=x",
            &[form, ("origin", "http://evil.example")],
        ),
        (
            "POST",
            "/apis/v2beta1/pipelines/upload?name=x",
            &[form, cross],
        ),
        ("GET", "/apis/v2beta1/runs", &[cross]),
        (
            "GET",
            "/apis/v2beta1/runs",
            &[("sec-fetch-site", "same-site")],
        ),
        (
            "GET",
            "/apis/v2beta1/runs",
            &[cross, ("sec-fetch-mode", "navigate")],
        ),
        (
            "GET",
            "/apis/flumina.pipelines/v1/artifacts/7:download",
            &[cross, ("sec-fetch-mode", "navigate")],
        ),
        ("GET", "/", &[cross, ("sec-fetch-mode", "no-cors")]),
        (
            "OPTIONS",
            "/apis/v2beta1/runs",
            &[
                ("origin", "http://evil.example"),
                ("access-control-request-method", "POST"),
            ],
        ),
        ("GET", "/apis/v2beta1/runs", &[("host", "evil.example")]),
        (
            "GET",
            "/apis/v2beta1/runs",
            &[
                ("host", "evil.example:80"),
                ("origin", "http://evil.example:80"),
            ],
        ),
        ("GET", "/livez", &[("host", "evil.example")]),
        (
            "POST",
            "/kubeflow.pipelines.backend.api.v2beta1.RunService/ListRuns",
            &[
                ("content-type", "application/grpc-web+proto"),
                ("origin", "http://evil.example"),
            ],
        ),
        (
            "POST",
            "/kubeflow.pipelines.backend.api.v2beta1.RunService/ListRuns",
            &[("content-type", "application/grpc-web-text"), cross],
        ),
    ];
    for (method, path, headers) in table {
        let answer = gateway.send(method, path, headers, "{}").await;
        assert_eq!(answer.status, 403, "{method} {path} {headers:?}");
        assert!(answer.headers.get("access-control-allow-origin").is_none());
    }
    assert!(gateway.fake.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn our_own_page_and_programs_are_served() {
    let gateway = gateway();
    let own = format!("http://{}", gateway.address);
    let table: &[(&str, &str, &[(&str, &str)])] = &[
        ("POST", "/apis/v2beta1/runs", &[JSON]),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[
                JSON,
                ("origin", own.as_str()),
                ("sec-fetch-site", "same-origin"),
            ],
        ),
        ("GET", "/apis/v2beta1/runs", &[JSON]),
        (
            "GET",
            "/apis/v2beta1/runs",
            &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
        ),
        (
            "GET",
            "/",
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ],
        ),
        ("HEAD", "/", &[]),
    ];
    for (method, path, headers) in table {
        let body = if *method == "POST" { "{}" } else { "" };
        let answer = gateway.send(method, path, headers, body).await;
        assert_eq!(answer.status, 200, "{method} {path} {headers:?}");
    }
}

#[tokio::test]
async fn an_allowed_host_is_answered() {
    let mut config = test_config();
    config.allowed_hosts = vec!["flumina.example".to_owned()];
    let gateway = gateway_with(config);
    let headers = [
        ("host", "flumina.example"),
        ("origin", "https://flumina.example"),
    ];
    assert_eq!(
        gateway
            .send("GET", "/apis/v2beta1/runs", &headers, "")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn with_a_token_only_probes_and_the_empty_page_are_open() {
    let mut config = test_config();
    config.token = Some(Secret::new("s3cret"));
    let gateway = gateway_with(config);
    let table: &[(&str, &[(&str, &str)], u16)] = &[
        ("/livez", &[], 200),
        ("/readyz", &[], 200),
        ("/", &[], 200),
        ("/page.js", &[], 200),
        ("/frame.html", &[], 200),
        ("/apis/v2beta1/healthz", &[], 401),
        ("/nowhere", &[], 401),
        (
            "/apis/v2beta1/runs",
            &[("authorization", "Bearer wrong")],
            401,
        ),
        (
            "/apis/v2beta1/runs",
            &[("authorization", "Basic s3cret")],
            401,
        ),
        ("/apis/v2beta1/runs?token=s3cret", &[], 401),
        (
            "/apis/v2beta1/runs",
            &[("authorization", "Bearer s3cret")],
            200,
        ),
    ];
    for (path, headers, status) in table {
        let answer = gateway.send("GET", path, headers, "").await;
        assert_eq!(answer.status.as_u16(), *status, "{path} {headers:?}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, if *status == 401 { "Bearer" } else { "" });
    }
    let metadata = gateway.fake.metadata.lock().unwrap();
    assert!(metadata.get("authorization").is_none());
    assert_eq!(
        metadata.get("x-flumina-principal").unwrap(),
        "user:operator"
    );
}

#[tokio::test]
async fn what_a_caller_says_about_itself_is_not_believed() {
    let gateway = gateway();
    let headers = [
        ("x-flumina-principal", "service:root"),
        ("kubeflow-userid", "root"),
    ];
    gateway
        .send("GET", "/apis/v2beta1/runs", &headers, "")
        .await;
    let metadata = gateway.fake.metadata.lock().unwrap();
    assert_eq!(metadata.get("x-flumina-principal").unwrap(), "user:local");
    assert!(metadata.get("kubeflow-userid").is_none());
}
