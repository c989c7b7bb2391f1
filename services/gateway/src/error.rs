//! What the gateway itself answers.

use std::time::Duration;

use aip::{ApiError, Code, FieldViolation};
use auth::OriginError;
use http::StatusCode;

use crate::json::{Invalid, Malformed};

/// A request that the gateway refuses, or cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such path.
    #[error("there is nothing at {0}")]
    NoRoute(String),
    /// The path exists for other methods.
    #[error("the method {method} is not allowed here; allowed: {allowed}")]
    Method {
        /// The method of the request.
        method: String,
        /// The methods that the path has.
        allowed: String,
    },
    /// The gRPC service is not offered here.
    #[error("there is no service {0} here")]
    NoService(String),
    /// gRPC over HTTP/1.1.
    #[error("gRPC needs HTTP/2; over HTTP/1.1 use gRPC-web")]
    NeedsHttp2,
    /// The name in `Host` is not one of this server.
    #[error(
        "the host {0:?} is not one that this server answers for; add it to the gateway's `allowed_hosts`, such as by \
         FLUMINA_GATEWAY__ALLOWED_HOSTS='[\"NAME\"]'"
    )]
    Host(String),
    /// The request comes from another web page.
    #[error("requests from web pages of other origins are not allowed")]
    Foreign,
    /// The caller is not known.
    #[error(transparent)]
    Caller(#[from] auth::Error),
    /// The body has a type that the path does not take.
    #[error("the content type must be {expected}, not {found:?}")]
    ContentType {
        /// What the path takes.
        expected: &'static str,
        /// What the request says.
        found: String,
    },
    /// The body is encoded, such as by gzip.
    #[error("the content encoding {0:?} is not supported")]
    ContentEncoding(String),
    /// The path or the query string is not readable.
    #[error("{0}")]
    Url(String),
    /// The request is not valid.
    #[error("the request is not valid")]
    Fields(Vec<FieldViolation>),
    /// A body where none is expected.
    #[error("this call takes no body")]
    UnexpectedBody,
    /// The body ended early or was malformed on the way.
    #[error("the request body is incomplete")]
    Incomplete,
    /// The body did not come.
    #[error("the request body took too long to arrive")]
    Slow,
    /// The body is larger than the limit.
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
    /// The uploaded file cannot be used.
    #[error("{0}")]
    Upload(String),
    /// The uploaded file unpacks to more than the limit.
    #[error("{0}")]
    UploadTooLarge(String),
    /// The call took too long.
    #[error("the deadline passed before the call was complete")]
    Deadline,
    /// The server is ending.
    #[error("the server is shutting down")]
    Draining,
    /// A peer answered with bytes that are not a message.
    #[error("a service answered with a message that cannot be read")]
    Response(#[from] Malformed),
    /// A handler panicked, or its thread was lost.
    #[error("a handler failed: {0}")]
    Panicked(String),
}

impl Error {
    /// The status of HTTP where it says more than the code of gRPC.
    pub(crate) fn http_status(&self) -> Option<StatusCode> {
        Some(match self {
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NeedsHttp2 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::ContentType { .. } | Self::ContentEncoding(_) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) | Self::UploadTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => return None,
        })
    }

    /// The status of gRPC.
    pub(crate) fn status(&self) -> tonic::Status {
        aip::status("gateway", self)
    }

    /// A field that is wrong.
    pub(crate) fn field(field: &str, description: impl Into<String>) -> Self {
        Self::Fields(vec![FieldViolation::new(field, description)])
    }
}

impl From<OriginError> for Error {
    fn from(error: OriginError) -> Self {
        match error {
            OriginError::Host(host) => Self::Host(host),
            OriginError::Foreign => Self::Foreign,
        }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Field { field, message } => {
                let field = if field.is_empty() {
                    "body".to_owned()
                } else {
                    field
                };
                Self::Fields(vec![FieldViolation::new(field, message)])
            }
            Invalid::TooLarge(limit) => Self::TooLarge(limit),
        }
    }
}

impl ApiError for Error {
    fn code(&self) -> Code {
        match self {
            Self::NoRoute(_) => Code::NotFound,
            Self::Method { .. } | Self::NoService(_) | Self::NeedsHttp2 => Code::Unimplemented,
            Self::Host(_) | Self::Foreign => Code::PermissionDenied,
            Self::Caller(error) => error.code(),
            Self::ContentType { .. }
            | Self::ContentEncoding(_)
            | Self::Url(_)
            | Self::Fields(_)
            | Self::UnexpectedBody
            | Self::Incomplete
            | Self::Upload(_) => Code::InvalidArgument,
            Self::Slow | Self::Deadline => Code::DeadlineExceeded,
            Self::TooLarge(_) | Self::UploadTooLarge(_) => Code::ResourceExhausted,
            Self::Draining => Code::Unavailable,
            Self::Response(_) | Self::Panicked(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoRoute(_) => "ROUTE_NOT_FOUND",
            Self::Method { .. } => "METHOD_NOT_ALLOWED",
            Self::NoService(_) => "SERVICE_NOT_FOUND",
            Self::NeedsHttp2 => "HTTP2_REQUIRED",
            Self::Host(_) => "HOST_NOT_ALLOWED",
            Self::Foreign => "ORIGIN_NOT_ALLOWED",
            Self::Caller(error) => error.reason(),
            Self::ContentType { .. } => "CONTENT_TYPE_INVALID",
            Self::ContentEncoding(_) => "CONTENT_ENCODING_INVALID",
            Self::Url(_) => "URL_INVALID",
            Self::Fields(_) => "REQUEST_INVALID",
            Self::UnexpectedBody => "BODY_NOT_ALLOWED",
            Self::Incomplete => "BODY_INCOMPLETE",
            Self::Slow => "BODY_TOO_SLOW",
            Self::TooLarge(_) => "REQUEST_TOO_LARGE",
            Self::Upload(_) => "UPLOAD_INVALID",
            Self::UploadTooLarge(_) => "UPLOAD_TOO_LARGE",
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::Draining => "SERVER_DRAINING",
            Self::Response(_) => "RESPONSE_MALFORMED",
            Self::Panicked(_) => "PANIC",
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Fields(violations) => violations.clone(),
            _ => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::Draining).then_some(Duration::from_millis(200))
    }
}
