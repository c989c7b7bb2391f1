//! What callers of the runner see when something fails.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aip::{ApiError, Code, FieldViolation, Resource};

use crate::app::VaultError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the request are wrong.
    #[error("the request is not valid")]
    Invalid(Vec<FieldViolation>),
    /// It cannot run on this machine, now or later.
    #[error("this machine cannot run it")]
    CannotRun {
        /// What is missing first.
        missing: Missing,
        /// All that is missing.
        violations: Vec<FieldViolation>,
    },
    /// There is no such workload.
    #[error("workload {0} does not exist")]
    NotFound(String),
    /// The workload has no files yet.
    #[error("workload {0} has not been started yet")]
    NotStarted(String),
    /// The workload does not run.
    #[error("workload {0} is not running")]
    NotRunning(String),
    /// There is no such secret, config map or volume.
    #[error("{kind} `{name}` does not exist in namespace `{namespace}`")]
    NoObject {
        /// What it is.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A secret, config map or volume has the name.
    #[error("{kind} `{name}` exists already in namespace `{namespace}`")]
    ObjectExists {
        /// What it is.
        kind: &'static str,
        /// Where.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A workload uses the volume.
    #[error("volume `{name}` is used by workload {by}")]
    VolumeInUse {
        /// The volume.
        name: String,
        /// The workload.
        by: String,
    },
    /// The id of a request was used for another one.
    #[error("the request id was used for another request")]
    RequestReused,
    /// A secret cannot be encrypted or decrypted.
    #[error("cannot use secret `{name}`")]
    Vault {
        /// The secret.
        name: String,
        /// Why.
        #[source]
        source: VaultError,
    },
    /// A workload cannot have what it asks for.
    #[error("{1}")]
    Unsupplied(&'static str, String),
    /// The page token or size is wrong.
    #[error(transparent)]
    Page(#[from] aip::page::Error),
    /// There is no room left on the disk.
    #[error("the disk of the runner is full")]
    DiskFull,
    /// The database cannot be used now.
    #[error("the runner's database cannot be reached")]
    Unavailable(#[source] sql::Error),
    /// The runner is ending.
    #[error("the runner is ending")]
    Draining,
    /// The database failed.
    #[error("the runner's database failed")]
    Store(#[source] sql::Error),
    /// A file operation failed.
    #[error("cannot use {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a request can never run on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It asks for more than there is.
    Resources,
    /// It asks for more accelerators than there are.
    Accelerators,
    /// Nothing stands for its image.
    Image,
    /// There is no Python.
    Python,
}

impl Error {
    /// What is wrong, for a workload that fails with it.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::CannotRun { violations, .. } => {
                let texts = violations
                    .iter()
                    .map(|violation| violation.description.as_str());
                texts.collect::<Vec<_>>().join("; ")
            }
            other => aip::chain(other),
        }
    }

    /// Names the file of an error.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ => Self::Io { path, source },
        }
    }
}

impl From<sql::Error> for Error {
    fn from(error: sql::Error) -> Self {
        match error {
            sql::Error::DiskFull => Self::DiskFull,
            sql::Error::Unavailable(_) | sql::Error::Busy => Self::Unavailable(error),
            other => Self::Store(other),
        }
    }
}

impl ApiError for Error {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound(_) | Self::NoObject { .. } => Code::NotFound,
            Self::ObjectExists { .. } => Code::AlreadyExists,
            Self::VolumeInUse { .. }
            | Self::RequestReused
            | Self::Unsupplied(..)
            | Self::Vault { .. } => Code::FailedPrecondition,
            Self::CannotRun { missing, .. } => match missing {
                Missing::Resources | Missing::Accelerators | Missing::Image => {
                    Code::InvalidArgument
                }
                Missing::Python => Code::FailedPrecondition,
            },
            Self::NotStarted(_) | Self::NotRunning(_) => Code::FailedPrecondition,
            Self::Page(error) => error.code(),
            Self::DiskFull => Code::ResourceExhausted,
            Self::Unavailable(_) | Self::Draining => Code::Unavailable,
            Self::Store(_) | Self::Io { .. } => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_WORKLOAD",
            Self::CannotRun { missing, .. } => match missing {
                Missing::Resources => "RESOURCES_ABOVE_MACHINE",
                Missing::Accelerators => "ACCELERATORS_NOT_AVAILABLE",
                Missing::Image => "IMAGE_NOT_AVAILABLE",
                Missing::Python => "PYTHON_NOT_FOUND",
            },
            Self::NotFound(_) => "WORKLOAD_NOT_FOUND",
            Self::NoObject { kind, .. } => match *kind {
                "secret" => "SECRET_NOT_FOUND",
                "volume" => "VOLUME_NOT_FOUND",
                _ => "CONFIG_MAP_NOT_FOUND",
            },
            Self::ObjectExists { kind, .. } => match *kind {
                "secret" => "SECRET_EXISTS",
                "volume" => "VOLUME_EXISTS",
                _ => "CONFIG_MAP_EXISTS",
            },
            Self::VolumeInUse { .. } => "VOLUME_IN_USE",
            Self::Unsupplied(reason, _) => reason,
            Self::RequestReused => "REQUEST_ID_REUSED",
            Self::Vault { .. } => "SECRETS_KEY_UNUSABLE",
            Self::NotStarted(_) => "WORKLOAD_NOT_STARTED",
            Self::NotRunning(_) => "WORKLOAD_NOT_RUNNING",
            Self::Page(error) => error.reason(),
            Self::DiskFull => "DISK_FULL",
            Self::Unavailable(_) => "DATABASE_UNAVAILABLE",
            Self::Draining => "DRAINING",
            Self::Store(_) | Self::Io { .. } => "INTERNAL",
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Invalid(violations) | Self::CannotRun { violations, .. } => violations.clone(),
            _ => Vec::new(),
        }
    }

    fn resource(&self) -> Option<Resource> {
        match self {
            Self::NotFound(id) | Self::NotStarted(id) | Self::NotRunning(id) => Some(Resource {
                kind: "workload",
                name: id.clone(),
            }),
            Self::NoObject { kind, name, .. } | Self::ObjectExists { kind, name, .. } => {
                Some(Resource {
                    kind,
                    name: name.clone(),
                })
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        matches!(self, Self::DiskFull).then_some(Duration::from_secs(30))
    }
}
