//! How errors look: one small renderer per dialect, fed by the same statuses.

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use prost::Message as _;
use serde_json::json;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::Error;
use crate::json::{self, Schema};

/// The shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error","code","message","details"}` as Kubeflow's gateway answers.
    Kfp,
    /// The same with the details of the older contract.
    Kfp1,
    /// `{"error_message","error_details"}` as Kubeflow's upload answers.
    KfpUpload,
    /// `{"error":{"code","status","message","details"}}` of google.rpc (AIP-193), for contracts of our own.
    Google,
}

impl Dialect {
    /// The dialect of a path, also of one that leads nowhere.
    pub fn of_path(path: &str) -> Self {
        let kubeflow = ["/apis/v2beta1/", "/apis/v1beta1/", "/apis/v1alpha1/"];
        if !kubeflow.iter().any(|prefix| path.starts_with(prefix)) {
            return Self::Google;
        }
        let rest = path.split('/').skip(3).collect::<Vec<_>>();
        match rest[..] {
            ["pipelines", "upload" | "upload_version"] => Self::KfpUpload,
            _ if path.starts_with("/apis/v1beta1/") => Self::Kfp1,
            _ => Self::Kfp,
        }
    }
}

/// What a call failed with.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    http: StatusCode,
    allow: Option<String>,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self {
            http: http_status(status.code()),
            status,
            allow: None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::from(error.status());
        if let Some(http) = error.http_status() {
            failure.http = http;
        }
        if let Error::Method { allowed, .. } = error {
            failure.allow = Some(allowed);
        }
        failure
    }
}

impl Failure {
    pub(crate) fn code(&self) -> Code {
        self.status.code()
    }

    /// The answer over HTTP.
    pub(crate) fn response(&self, dialect: Dialect, schema: &Schema) -> Response<Body> {
        let body = body(dialect, &self.status, self.http, schema);
        let mut response = Response::new(Body::new(http_body_util::Full::new(body.into())));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.http == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self
            .allow
            .as_ref()
            .and_then(|allow| HeaderValue::try_from(allow).ok())
        {
            headers.insert(ALLOW, allow);
        }
        if self.http == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// The answer over gRPC: a status without messages.
    pub(crate) fn grpc_response(self) -> Response<Body> {
        self.status.into_http()
    }

    /// The answer over gRPC-web to a request that a browser must not have made: HTTP says it too.
    pub(crate) fn grpc_web_response(self) -> Response<Body> {
        let http = self.http;
        let mut response = self.status.into_http();
        if matches!(http, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED) {
            *response.status_mut() = http;
        }
        response
    }

    /// The last line of a stream of JSON that failed on the way.
    pub(crate) fn line(&self, dialect: Dialect, schema: &Schema) -> Vec<u8> {
        let mut line = match dialect {
            Dialect::Google => body(dialect, &self.status, self.http, schema),
            Dialect::Kfp | Dialect::Kfp1 | Dialect::KfpUpload => {
                let inner = body(Dialect::Kfp, &self.status, self.http, schema);
                [b"{\"error\":", inner.as_slice(), b"}"].concat()
            }
        };
        line.push(b'\n');
        line
    }
}

/// The map of <https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto>.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn body(dialect: Dialect, status: &Status, http: StatusCode, schema: &Schema) -> Vec<u8> {
    let code = status.code() as i32;
    let message = status.message();
    let value = match dialect {
        Dialect::Kfp => json!({
            "error": message,
            "code": code,
            "message": message,
            "details": [{
                "@type": "type.googleapis.com/google.rpc.Status",
                "code": code,
                "message": message,
            }],
        }),
        Dialect::Kfp1 => json!({
            "error": message,
            "code": code,
            "message": message,
            "details": [{
                "@type": "type.googleapis.com/api.Error",
                "error_message": message,
                "error_details": format!("{}: {message}", rpc::code_name(status.code())),
            }],
        }),
        Dialect::KfpUpload => json!({
            "error_message": message,
            "error_details": format!("{}: {message}", rpc::code_name(status.code())),
        }),
        Dialect::Google => json!({
            "error": {
                "code": http.as_u16(),
                "status": rpc::code_name(status.code()),
                "message": message,
                "details": details(status, schema),
            },
        }),
    };
    value.to_string().into_bytes()
}

fn details(status: &Status, schema: &Schema) -> Vec<serde_json::Value> {
    let Some(any) = schema.find("google.protobuf.Any") else {
        return Vec::new();
    };
    // The status of the wire, `google.rpc.Status`: its field 3 holds the details.
    let Ok(decoded) = tonic_types::pb::Status::decode(status.details()) else {
        return Vec::new();
    };
    let print = |detail: &prost_types::Any| {
        let mut text = Vec::new();
        json::print(schema, any, &detail.encode_to_vec(), &mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    decoded.details.iter().filter_map(print).collect()
}
