//! What callers see when something fails.

use std::time::Duration;

use aip::{ApiError, Code, FieldViolation, Resource};

use crate::domain::QueryError;
use crate::domain::violation::Violation;

/// The service's name in error domains and logs.
pub const SERVICE: &str = "pipeline-orchestrator";

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong.
    #[error("the request is not valid")]
    Invalid(Vec<Violation>),
    /// The page token is not ours, or of another list.
    #[error("{0}")]
    PageToken(&'static str),
    /// There is no such thing.
    #[error("{kind} {name} does not exist")]
    NotFound {
        /// The kind.
        kind: &'static str,
        /// The id or name, as it was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("{kind} \"{name}\" exists already; choose another name")]
    Exists {
        /// The kind.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The thing is in a state in which this is not possible.
    #[error("{message}")]
    Precondition {
        /// The reason, stable.
        reason: &'static str,
        /// The kind.
        kind: &'static str,
        /// The id.
        name: String,
        /// What would have to be different.
        message: String,
    },
    /// The idempotency key belongs to another request.
    #[error("this idempotency key was used for another request; choose a new one for each request")]
    RequestIdReused,
    /// The method is declared and not served yet.
    #[error("{0} is not served yet")]
    Unimplemented(&'static str),
    /// There is no room left on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// A store of the network did not answer, or failed.
    #[error("{0}")]
    StoreUnavailable(String),
    /// The database cannot be used now.
    #[error("the pipelines database cannot be reached")]
    Unavailable(#[source] sql::Error),
    /// Two writes got in each other's way.
    #[error("another call changed the same thing; try again")]
    Conflict,
    /// The service is ending.
    #[error("the service is ending")]
    Draining,
    /// The database failed.
    #[error("the pipelines database failed")]
    Store(#[source] sql::Error),
    /// Something that cannot be.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// One field is wrong.
    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation {
            field: field.to_owned(),
            message: message.into(),
        }])
    }

    /// There is no such thing.
    pub(crate) fn not_found(kind: &'static str, name: impl ToString) -> Self {
        Self::NotFound {
            kind,
            name: crate::domain::violation::clip(&name.to_string()),
        }
    }

    /// Says which name is taken, if that is what the error is about.
    pub(crate) fn taken(error: sql::Error, kind: &'static str, name: &str) -> Self {
        match error {
            sql::Error::Unique { .. } => Self::Exists {
                kind,
                name: name.to_owned(),
            },
            other => other.into(),
        }
    }
}

impl From<sql::Error> for Error {
    fn from(error: sql::Error) -> Self {
        match error {
            sql::Error::DiskFull => Self::DiskFull,
            sql::Error::Unavailable(_) => Self::Unavailable(error),
            sql::Error::Busy => Self::Conflict,
            other => Self::Store(other),
        }
    }
}

impl From<Vec<Violation>> for Error {
    fn from(violations: Vec<Violation>) -> Self {
        Self::Invalid(violations)
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Invalid(violations) => Self::Invalid(violations),
            QueryError::Token(message) => Self::PageToken(message),
        }
    }
}

impl ApiError for Error {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) | Self::PageToken(_) => Code::InvalidArgument,
            Self::NotFound { .. } => Code::NotFound,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::Precondition { .. } | Self::RequestIdReused => Code::FailedPrecondition,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::DiskFull => Code::ResourceExhausted,
            Self::Unavailable(_) | Self::StoreUnavailable(_) | Self::Draining => Code::Unavailable,
            Self::Conflict => Code::Aborted,
            Self::Store(_) | Self::Internal(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_REQUEST",
            Self::PageToken(_) => "PAGE_TOKEN_INVALID",
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Exists { .. } => "NAME_TAKEN",
            Self::Precondition { reason, .. } => reason,
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::Unimplemented(_) => "NOT_SERVED_YET",
            Self::DiskFull => "DISK_FULL",
            Self::Unavailable(_) => "DATABASE_UNAVAILABLE",
            Self::StoreUnavailable(_) => "ARTIFACT_STORE_UNAVAILABLE",
            Self::Draining => "DRAINING",
            Self::Conflict => "CONFLICT",
            Self::Store(_) | Self::Internal(_) => "INTERNAL",
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid(violations) => {
                let convert = |one: &Violation| FieldViolation::new(&one.field, &one.message);
                violations.iter().map(convert).collect()
            }
            _ => Vec::new(),
        }
    }

    fn resource(&self) -> Option<Resource> {
        match self {
            Self::NotFound { kind, name }
            | Self::Exists { kind, name }
            | Self::Precondition { kind, name, .. } => Some(Resource {
                kind,
                name: name.clone(),
            }),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::DiskFull).then_some(Duration::from_secs(30))
    }
}
