use std::time::Duration;

use aip::{ApiError, Code};

/// What the transport or the server stack answers by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller is not known.
    #[error(transparent)]
    Caller(#[from] auth::Error),
    /// A peer says who it acts for, but not in a form that we understand.
    #[error("the metadata {} is not valid", crate::PRINCIPAL_HEADER)]
    Principal(#[from] auth::InvalidPrincipal),
    /// The `grpc-timeout` of the call is malformed.
    #[error("the metadata grpc-timeout must be at most 8 digits and one of H, M, S, m, u, n")]
    Timeout,
    /// The deadline passed before the answer was there.
    #[error("the deadline passed before the call was complete")]
    Deadline,
    /// The service is not registered yet, or has stopped.
    #[error("the service {0} is not available")]
    Absent(String),
    /// The service ends; the stream can be opened again elsewhere or later.
    #[error("the server is shutting down")]
    Draining,
    /// A server in another process cannot be reached.
    #[error("cannot reach {0}")]
    Unreachable(String, #[source] tonic::transport::Error),
    /// The request is larger than the limit.
    #[error("the request is larger than {0} bytes")]
    TooLarge(usize),
    /// The request is not a message of the method, or is nested too deep.
    #[error("the request cannot be decoded: {0}")]
    Malformed(String),
    /// A handler panicked.
    #[error("a handler failed")]
    Panicked(#[from] runtime::Panicked),
}

impl ApiError for Error {
    fn code(&self) -> Code {
        match self {
            Self::Caller(_) | Self::Principal(_) => Code::Unauthenticated,
            Self::Timeout | Self::Malformed(_) => Code::InvalidArgument,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Absent(_) | Self::Draining | Self::Unreachable(..) => Code::Unavailable,
            Self::TooLarge(_) => Code::ResourceExhausted,
            Self::Panicked(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Caller(error) => error.reason(),
            Self::Principal(_) => "PRINCIPAL_INVALID",
            Self::Timeout => "TIMEOUT_INVALID",
            Self::Deadline => "DEADLINE_EXCEEDED",
            Self::Absent(_) => "SERVICE_ABSENT",
            Self::Draining => "SERVER_DRAINING",
            Self::Unreachable(..) => "SERVER_UNREACHABLE",
            Self::TooLarge(_) => "REQUEST_TOO_LARGE",
            Self::Malformed(_) => "REQUEST_MALFORMED",
            Self::Panicked(_) => "PANIC",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Absent(_) | Self::Draining | Self::Unreachable(..) => {
                Some(Duration::from_millis(200))
            }
            _ => None,
        }
    }
}
