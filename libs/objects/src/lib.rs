//! Where artifacts are kept: a tree of files under one root.
//!
//! An artifact's URI is the absolute path of its content, or the same with `file://`, because the kfp SDK takes a
//! URI of an unknown scheme for the path itself. Content is a file or a directory.
//!
//! Every access stays beneath the root, whatever links a program left there: paths are resolved by
//! `openat2(RESOLVE_BENEATH)`.

mod local;

pub use local::{File, Reader, Stat, Store};

/// A failed access.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scheme or a path that this store does not serve.
    #[error("`{uri}` is not in the artifact store: {reason}")]
    Foreign {
        /// The URI.
        uri: String,
        /// What would be right.
        reason: &'static str,
    },
    /// Nothing is there.
    #[error("there is no content at `{0}`")]
    NotFound(String),
    /// The disk is full.
    #[error("the disk of the artifact store is full")]
    Full,
    /// Anything else.
    #[error("cannot access `{uri}`")]
    Io {
        /// The URI.
        uri: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    fn io(uri: &str, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                Self::NotFound(uri.to_owned())
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            // The kernel's answer to a link that leads out of the root.
            std::io::ErrorKind::CrossesDevices => Self::Foreign {
                uri: uri.to_owned(),
                reason: "a link leads out of the store",
            },
            _ => Self::Io {
                uri: uri.to_owned(),
                source,
            },
        }
    }
}
