//! Bad requests and the exact answers.

use serde_json::json;

use crate::harness::{Gateway, gateway, gateway_with, test_config};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn message(gateway: &Gateway, method: &str, path: &str, body: &str) -> (u16, String) {
    let answer = gateway.json(method, path, body).await;
    let message = answer.json()["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    (answer.status.as_u16(), message)
}

#[tokio::test]
async fn bad_bodies_are_refused_by_the_path_of_the_field() {
    let gateway = gateway();
    let deep = format!(
        "{}1{}",
        r#"{"pipeline_spec":{"a":"#.to_owned() + &"[".repeat(60),
        "]".repeat(60) + "}}"
    );
    let very_deep = "[".repeat(100_000);
    let table: &[(&str, &str)] = &[
        ("{", "run: EOF while parsing an object"),
        ("nonsense", "run: expected ident"),
        (r#"{"run_id":"a"} x"#, "run: trailing characters"),
        (r#"{"nope":1}"#, "run.nope: Run has no such field"),
        (
            r#"{"runtime_config":{"parameter":{}}}"#,
            "run.runtime_config.parameter: RuntimeConfig has no such field",
        ),
        (
            r#"{"display_name":5}"#,
            "run.display_name: 5 is not a string",
        ),
        (
            r#"{"display_name":{}}"#,
            "run.display_name: an object is not a string",
        ),
        (
            r#"{"display_name":["x"]}"#,
            "run.display_name: a list is not a string",
        ),
        (
            r#"{"display_name":"a\u0000b"}"#,
            "run.display_name: must not contain the character NUL",
        ),
        (
            r#"{"state":"BROKEN"}"#,
            "run.state: \"BROKEN\" is not the name of a value of the enum",
        ),
        (
            r#"{"created_at":"yesterday"}"#,
            "run.created_at: \"yesterday\" is not a time",
        ),
        (
            r#"{"display_name":"a","displayName":"b"}"#,
            "run.display_name: the field is given twice",
        ),
        (
            r#"{"pipeline_spec":{},"pipeline_version_id":"v"}"#,
            "run.pipeline_version_id: only one field of this choice may be given",
        ),
        (
            r#"{"runtime_config":{"parameters":{"a":1,"b":2,"a":3}}}"#,
            "run.runtime_config.parameters: the key \"a\" is given twice",
        ),
        (
            r#"{"state_history":[{"state":"RUNNING"},{"x":1}]}"#,
            "run.state_history[1].x: RuntimeStatus has",
        ),
        (
            r#"{"state_history":[null]}"#,
            "run.state_history[0]: must not be null",
        ),
        (r#"[1]"#, "run: a list is not an object"),
        (&deep, "the document is nested too deeply"),
        (&very_deep, "run"),
    ];
    for (body, expected) in table {
        let (status, message) = message(&gateway, "POST", "/apis/v2beta1/runs", body).await;
        assert_eq!(status, 400, "{body:.100}: {message}");
        assert!(message.contains(expected), "{body:.100}: {message}");
    }
    assert!(gateway.fake.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn errors_of_kubeflows_api_have_its_shape() {
    let gateway = gateway();
    let answer = gateway.get("/apis/v2beta1/runs/none").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({
            "error": "run none does not exist",
            "code": 5,
            "message": "run none does not exist",
            "details": [{
                "@type": "type.googleapis.com/google.rpc.Status",
                "code": 5,
                "message": "run none does not exist",
            }],
        })
    );
    let (status, message) = message(&gateway, "POST", "/apis/v2beta1/runs", r#"{"x":1}"#).await;
    assert_eq!(
        (status, message.as_str()),
        (
            400,
            "the request is not valid: run.x: Run has no such field at line 1 column 4"
        )
    );
}

#[tokio::test]
async fn errors_of_our_own_api_have_the_shape_of_google_rpc() {
    let gateway = gateway();
    let answer = gateway.get("/apis/flumina.pipelines/v1/runs/none").await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({"error": {
            "code": 404,
            "status": "NOT_FOUND",
            "message": "run none does not exist",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "FAKE",
                    "domain": "fake.flumina",
                },
            ],
        }})
    );
}

#[tokio::test]
async fn codes_become_the_statuses_of_http() {
    let gateway = gateway();
    let table = [
        (1, 499),
        (2, 500),
        (3, 400),
        (4, 504),
        (5, 404),
        (6, 409),
        (7, 403),
        (8, 429),
        (9, 400),
        (10, 409),
        (11, 400),
        (12, 501),
        (13, 500),
        (14, 503),
        (15, 500),
        (16, 401),
    ];
    for (code, status) in table {
        let answer = gateway
            .get(&format!("/apis/v2beta1/runs/code-{code}"))
            .await;
        assert_eq!(answer.status.as_u16(), status, "{code}");
        assert_eq!(answer.json()["code"], code);
    }
}

#[tokio::test]
async fn requests_that_do_not_fit_a_route_say_why() {
    let gateway = gateway();
    let table: &[(&str, &str, &[(&str, &str)], &str, u16, &str)] = &[
        (
            "GET",
            "/apis/v2beta1/nothing",
            &[],
            "",
            404,
            "there is nothing at /apis/v2beta1/nothing",
        ),
        (
            "GET",
            "/apis/v2beta1/runs/",
            &[],
            "",
            404,
            "there is nothing at /apis/v2beta1/runs/",
        ),
        (
            "PUT",
            "/apis/v2beta1/runs",
            &[JSON],
            "{}",
            405,
            "the method PUT is not allowed here; allowed: GET, POST",
        ),
        (
            "GET",
            "/apis/v2beta1/runs/r1:terminate",
            &[],
            "",
            404,
            "run r1:terminate does not exist",
        ),
        (
            "OPTIONS",
            "/apis/v2beta1/runs",
            &[],
            "",
            405,
            "the method OPTIONS is not allowed here; allowed: GET, POST",
        ),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[("content-type", "text/plain")],
            "{}",
            415,
            "the content type must be application/json, not \"text/plain\"",
        ),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[("content-type", "application/x-www-form-urlencoded")],
            "{}",
            415,
            "the content type must be application/json, not \"application/x-www-form-urlencoded\"",
        ),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[],
            "{}",
            415,
            "the content type must be application/json, not \"\"",
        ),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[("content-type", "application/json; charset=latin1")],
            "{}",
            415,
            "the content type must be application/json, not \"application/json; charset=latin1\"",
        ),
        (
            "POST",
            "/apis/v2beta1/runs",
            &[JSON, ("content-encoding", "gzip")],
            "{}",
            415,
            "the content encoding \"gzip\" is not supported",
        ),
        (
            "POST",
            "/apis/v2beta1/runs/r1:archive",
            &[JSON],
            r#"{"run_id":"r2"}"#,
            400,
            "this call takes no body",
        ),
        (
            "GET",
            "/apis/v2beta1/runs/%zz",
            &[],
            "",
            400,
            "the URL has a malformed percent-encoding",
        ),
        (
            "GET",
            "/apis/v2beta1/runs/%00",
            &[],
            "",
            400,
            "the request is not valid: run_id: must not contain the character NUL",
        ),
        (
            "GET",
            "/apis/v2beta1/runs?page_size=many",
            &[],
            "",
            400,
            "the request is not valid: page_size: \"many\" is not an integer of 32 bits",
        ),
        (
            "GET",
            "/apis/v2beta1/runs?page_size=1&page_size=2",
            &[],
            "",
            400,
            "the request is not valid: page_size: is given twice",
        ),
        (
            "GET",
            "/apis/v2beta1/runs?filter=%",
            &[],
            "",
            400,
            "the URL has a malformed percent-encoding",
        ),
        (
            "DELETE",
            "/apis/v2beta1/pipelines/p?cascade=maybe",
            &[],
            "",
            400,
            "the request is not valid: cascade: \"maybe\" is not true or false",
        ),
    ];
    for (method, path, headers, body, status, expected) in table {
        let answer = gateway.send(method, path, headers, *body).await;
        assert_eq!(
            (
                answer.status.as_u16(),
                answer.json()["message"].as_str().unwrap()
            ),
            (*status, *expected),
            "{method} {path}"
        );
    }
    let answer = gateway.send("PUT", "/apis/v2beta1/runs", &[], "").await;
    assert_eq!(answer.header("allow"), "GET, POST");
}

#[tokio::test]
async fn json_types_with_a_charset_are_taken() {
    let gateway = gateway();
    for kind in [
        "application/json; charset=utf-8",
        "Application/JSON;charset=\"UTF-8\"",
    ] {
        let answer = gateway
            .send(
                "POST",
                "/apis/v2beta1/runs",
                &[("content-type", kind)],
                "{}",
            )
            .await;
        assert_eq!(answer.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn large_bodies_are_refused_before_and_after_translation() {
    let mut config = test_config();
    config.limits.body_bytes = 100_000;
    let gateway = gateway_with(config);
    let long = format!(r#"{{"display_name":"{}"}}"#, "x".repeat(100_000));
    // Each number takes two bytes here and thirteen on the wire.
    let wide = format!(r#"{{"pipeline_spec":{{"a":[{}1]}}}}"#, "1,".repeat(40_000));
    for body in [long, wide] {
        let (status, message) = message(&gateway, "POST", "/apis/v2beta1/runs", &body).await;
        assert_eq!(
            (status, message.as_str()),
            (413, "the request is larger than 100000 bytes")
        );
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends() {
    let mut config = test_config();
    config.limits.unary_seconds = 1;
    let gateway = gateway_with(config);
    let answer = gateway.get("/apis/v2beta1/runs/hang").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["code"].as_i64()),
        (504, Some(4))
    );
}
