//! Where artifacts are kept: a tree of files under one root, directories beside it, and stores of the network.
//!
//! A local artifact's URI is the absolute path of its content, or the same with `file://`, because the kfp SDK takes a
//! URI of an unknown scheme for the path itself. `s3://`, `minio://`, `gs://`, `az://` and `abfs://` are buckets, and what
//! `http://` and `https://` name is read only. Content is a file or a directory; of a bucket, an object or all below a key.
//!
//! Every local access stays beneath its root, whatever links a program left there: paths are resolved by
//! `openat2(RESOLVE_BENEATH)`. [`transfer`] moves artifacts between a workload's directory and stores of the network.

mod access;
mod bucket;
mod client;
mod local;
mod location;
mod opening;
mod said;
mod store;
pub mod transfer;

pub use access::{Access, Environment, NAMESPACE, Secrets, StoreConfig};
pub use local::{File, Stat};
pub use location::{Location, Scheme};
pub use store::{Reader, Store};

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
    /// Nobody said how to sign in, or what was said cannot be used.
    #[error("`{uri}` cannot be used: {problem}")]
    Unconfigured {
        /// The URI.
        uri: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// A store of the network refused, or did not answer.
    #[error("cannot {doing} `{uri}`: {problem}")]
    Remote {
        /// What was tried.
        doing: &'static str,
        /// The URI.
        uri: String,
        /// What the store said.
        problem: String,
        /// Whether it was understood and refused, so that trying again does not help.
        refused: bool,
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

    /// What a store said.
    fn remote(doing: &'static str, uri: &str, error: &object_store::Error) -> Self {
        if let object_store::Error::NotFound { .. } = error
            && doing != "write"
        {
            return Self::NotFound(uri.to_owned());
        }
        let said = said::said(error);
        Self::Remote {
            doing,
            uri: uri.to_owned(),
            problem: said.problem,
            refused: said.refused,
        }
    }
}
