//! Probes and Kubeflow's health.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use runtime::Readiness;
use serde_json::json;
use tonic::body::Body;

use crate::own::PIPELINE_STORE;
use crate::rest::full;

fn typed(kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) fn text(body: impl Into<bytes::Bytes>) -> Response<Body> {
    typed("text/plain; charset=utf-8", body)
}

/// Not ready names the conditions but not their reasons, which may tell strangers about the inside.
pub(super) fn readyz(readiness: &Readiness) -> Response<Body> {
    let missing = readiness.missing();
    if missing.is_empty() {
        return text("ok\n");
    }
    let names = missing
        .iter()
        .map(|line| line.split(':').next().unwrap_or(line));
    let mut body = names.collect::<Vec<_>>().join("\n");
    body.push('\n');
    let mut response = text(body);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// What `kfp.Client` asks first.
pub(super) fn kfp_healthz() -> Response<Body> {
    let body = json!({
        "commit_sha": "unknown",
        "tag_name": concat!("flumina-", env!("CARGO_PKG_VERSION")),
        "multi_user": false,
        "pipeline_store": PIPELINE_STORE,
    });
    typed("application/json", body.to_string())
}
