//! What people are told when the fleet cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use runtime::ConfigError;

/// Why a command about a data directory failed. Each text says what to do next where that is not obvious.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Flags, file or variables.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process has the directory.
    #[error("{} is in use by {holder}; stop it with `flumina down --data-dir {}`, or use another directory", dir.display(), dir.display())]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The process, and its address once it has one.
        holder: String,
    },
    /// A directory with files that are not ours.
    #[error("{} is not a data directory of Flumina, and not empty: choose an empty or a new one", .0.display())]
    NotOurs(PathBuf),
    /// The layout is of a newer program.
    #[error("{} has format {found}, this program knows formats up to {known}: use the newer program", place.display())]
    Newer {
        /// The directory or archive.
        place: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A file that exists already.
    #[error("{} exists; choose another name", .0.display())]
    Exists(PathBuf),
    /// A directory in which a restore would mix with what is there.
    #[error("{} is not empty; choose an empty or a new directory", .0.display())]
    NotEmpty(PathBuf),
    /// A directory that is not there.
    #[error("there is no data directory {}", .0.display())]
    Missing(PathBuf),
    /// No room.
    #[error("the disk is full: cannot {what} {}", path.display())]
    DiskFull {
        /// What was done.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An archive that is not one of ours, or one that was tampered with.
    #[error("{} is not a usable backup: {problem}", file.display())]
    Archive {
        /// The archive.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A path that cannot be stored.
    #[error("the path {} is not UTF-8, which paths of artifacts must be", .0.display())]
    NotText(PathBuf),
    /// The environment does not say where data goes.
    #[error("neither XDG_DATA_HOME nor HOME is set: say --data-dir")]
    NoHome,
    /// A database.
    #[error("cannot use the database {}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sql::Error,
    },
    /// The runner.
    #[error("cannot take over the steps that run")]
    Runner(#[source] anyhow::Error),
    /// A process that does not end.
    #[error("the process {pid} was asked to end and has not done so after {seconds} s")]
    Unstoppable {
        /// Its number.
        pid: i32,
        /// How long was waited.
        seconds: u64,
    },
}

impl Error {
    /// Classifies a failed operation on a file.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { what, path }
            }
            _ => Self::Io { what, path, source },
        }
    }

    pub(crate) fn database(path: &Path) -> impl FnOnce(sql::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Database { path, source }
    }

    pub(crate) fn archive(file: &Path, problem: impl Into<String>) -> Self {
        Self::Archive {
            file: file.to_owned(),
            problem: problem.into(),
        }
    }
}
