//! What can go wrong with a database. Error codes of the two databases are read here and nowhere else.

use sqlx::error::ErrorKind;

/// A failed statement or transaction, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A row with this key exists.
    #[error("a row with this key exists ({constraint})")]
    Unique {
        /// The constraint, or the columns, as the database names them.
        constraint: String,
    },
    /// A row that another needs is missing, or is still needed.
    #[error("a row is missing that another refers to, or is still referred to")]
    ForeignKey,
    /// A value that the table does not take.
    #[error("a value is not allowed by the table")]
    Check,
    /// Two transactions got in each other's way; a repetition may succeed.
    #[error("the database is busy")]
    Busy,
    /// The database cannot be reached, or takes nobody at the moment.
    #[error("the database is not reachable")]
    Unavailable(#[source] sqlx::Error),
    /// There is no room left.
    #[error("the disk of the database is full")]
    DiskFull,
    /// No row where one must be.
    #[error("no row was found where one is expected")]
    RowNotFound,
    /// The database was written by a newer version of the program.
    #[error(
        "the database has schema {found}, this program knows schemas up to {known}: use the newer program, or restore a backup"
    )]
    NewerSchema {
        /// The newest migration in the database.
        found: i64,
        /// The newest migration that this program has.
        known: i64,
    },
    /// A row that cannot be read back.
    #[error("column `{column}` holds a value that cannot be read: {message}")]
    Corrupt {
        /// The column.
        column: String,
        /// Why.
        message: String,
    },
    /// A closure panicked; its writes were rolled back.
    #[error("a write panicked and was rolled back")]
    Panicked,
    /// Anything else.
    #[error("the database refused a statement")]
    Other(#[source] sqlx::Error),
}

impl Error {
    /// A column that cannot be read.
    pub fn corrupt(column: &str, message: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            column: column.to_owned(),
            message: message.to_string(),
        }
    }

    pub(crate) fn from_sqlx(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Self::RowNotFound,
            sqlx::Error::Database(database) => {
                match code_class(database.code().as_deref()) {
                    Some(Class::DiskFull) => return Self::DiskFull,
                    Some(Class::Busy) => return Self::Busy,
                    Some(Class::Unavailable) => return Self::Unavailable(error),
                    None => {}
                }
                match database.kind() {
                    ErrorKind::UniqueViolation => Self::Unique {
                        constraint: database
                            .constraint()
                            .map_or_else(|| unique_columns(database.message()), str::to_owned),
                    },
                    ErrorKind::ForeignKeyViolation => Self::ForeignKey,
                    ErrorKind::NotNullViolation | ErrorKind::CheckViolation => Self::Check,
                    _ => Self::Other(error),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Other(error),
        }
    }

    pub(crate) fn from_migrate(error: sqlx::migrate::MigrateError, known: i64) -> Self {
        use sqlx::migrate::MigrateError;
        match error {
            MigrateError::VersionMissing(found) => Self::NewerSchema { found, known },
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::from_sqlx(error)
            }
            other => Self::Other(sqlx::Error::Migrate(Box::new(other))),
        }
    }
}

enum Class {
    DiskFull,
    Busy,
    Unavailable,
}

/// SQLite result codes and PostgreSQL SQLSTATEs (Appendix A of its manual) that mean something of their own.
fn code_class(code: Option<&str>) -> Option<Class> {
    match code? {
        // SQLITE_FULL; disk_full.
        "13" | "53100" => Some(Class::DiskFull),
        // SQLITE_BUSY and its extended forms, SQLITE_LOCKED; serialization_failure, deadlock_detected.
        "5" | "261" | "517" | "773" | "6" | "262" | "40001" | "40P01" => Some(Class::Busy),
        // A server that stops, crashed or starts, a session that it ended, and one that has too many of them.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" => Some(Class::Unavailable),
        // Connection exceptions. Codes of SQLite do not begin with a zero.
        code if code.len() == 5 && code.starts_with("08") => Some(Class::Unavailable),
        _ => None,
    }
}

/// SQLite names the columns only in the message: `UNIQUE constraint failed: pipelines.namespace, pipelines.name`.
fn unique_columns(message: &str) -> String {
    message
        .rsplit_once(": ")
        .map_or(message, |(_, columns)| columns)
        .to_owned()
}

impl Error {
    /// The same error for another caller of the same transaction; the cause stays with the first.
    pub(crate) fn shared(&self) -> Self {
        match self {
            Self::Unique { constraint } => Self::Unique {
                constraint: constraint.clone(),
            },
            Self::ForeignKey => Self::ForeignKey,
            Self::Check => Self::Check,
            Self::Busy => Self::Busy,
            Self::Unavailable(error) => Self::Unavailable(sqlx::Error::Protocol(error.to_string())),
            Self::DiskFull => Self::DiskFull,
            Self::RowNotFound => Self::RowNotFound,
            Self::NewerSchema { found, known } => Self::NewerSchema {
                found: *found,
                known: *known,
            },
            Self::Corrupt { column, message } => Self::Corrupt {
                column: column.clone(),
                message: message.clone(),
            },
            Self::Panicked => Self::Panicked,
            Self::Other(error) => Self::Other(sqlx::Error::Protocol(error.to_string())),
        }
    }
}
