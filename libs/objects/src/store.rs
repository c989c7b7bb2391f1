//! The stores of an installation behind one set of calls.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::Error;
use crate::access::{Access, NAMESPACE};
use crate::bucket::{Bucket, RemoteReader};
use crate::client::Connector;
use crate::local::{File, Local, LocalReader, Stat};
use crate::location::{Location, Scheme, shown};

/// Every store of an installation; cloning shares them.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The store's own root first, then directories of the configuration.
    roots: Vec<Local>,
    access: Access,
    connector: Connector,
}

/// Reads a file from front to back, in parts.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    /// The size when it was opened, in bytes.
    pub size: u64,
}

#[derive(Debug)]
enum Source {
    Local(LocalReader),
    Remote(RemoteReader),
}

impl Reader {
    /// The next part; empty at the end.
    pub async fn next(&mut self) -> Result<Bytes, Error> {
        match &mut self.source {
            Source::Local(reader) => reader.next().await,
            Source::Remote(reader) => reader.next().await,
        }
    }
}

enum Place<'a> {
    Local(&'a Local),
    Remote(Box<Bucket>),
}

impl Store {
    /// Opens the store at `root`, which is made when it is missing, without any other.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Self::with_access(root, Access::default())
    }

    /// Opens the store at `root`, which is made when it is missing, and knows the others. Directories among them must be
    /// there: one that is not mounted must not be made.
    pub fn with_access(root: &Path, access: Access) -> Result<Self, Error> {
        let mut roots = vec![Local::open(root)?];
        for directory in access.directories() {
            if !directory.is_dir() {
                return Err(Error::Unconfigured {
                    uri: directory.display().to_string(),
                    problem: "it is no directory; is it mounted?".to_owned(),
                });
            }
            roots.push(Local::open(directory)?);
        }
        let connector = Connector::new(&access);
        Ok(Self(Arc::new(Inner {
            roots,
            access,
            connector,
        })))
    }

    /// The root as an absolute path: the prefix of every URI of the installation's own store.
    pub fn root(&self) -> &Path {
        self.0.roots[0].root()
    }

    /// Where runs may put their outputs: the roots of the directories, the own one first.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.0.roots.iter().map(Local::root)
    }

    /// The stores of the network.
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    /// Whether the URI lies in one of the stores that this can sign in to; only then may its content be deleted.
    pub fn contains(&self, uri: &str) -> bool {
        if !Location::is_remote(uri) {
            return self.local(uri).is_ok();
        }
        let access = &self.0.access;
        Location::parse(uri).is_ok_and(|location| {
            location.writable()
                && access.can_write(&location, NAMESPACE)
                && access.signs_in(&location, NAMESPACE)
        })
    }

    /// What is at a URI, if anything.
    pub async fn stat(&self, uri: &str) -> Result<Option<Stat>, Error> {
        match self.place(uri)? {
            Place::Local(local) => local.stat(uri).await,
            Place::Remote(bucket) => bucket.stat().await,
        }
    }

    /// The files of an artifact, sorted by path, after the path `after`, at most `limit`.
    pub async fn list(&self, uri: &str, after: &str, limit: usize) -> Result<Vec<File>, Error> {
        match self.place(uri)? {
            Place::Local(local) => local.list(uri, after, limit).await,
            Place::Remote(bucket) => bucket.list(after, limit).await,
        }
    }

    /// Opens a file of an artifact at an offset; `path` is empty when the artifact is one file.
    pub async fn read(&self, uri: &str, path: &str, offset: u64) -> Result<Reader, Error> {
        Ok(match self.place(uri)? {
            Place::Local(local) => {
                let reader = local.read(uri, path, offset).await?;
                let size = reader.size;
                let source = Source::Local(reader);
                Reader { source, size }
            }
            Place::Remote(bucket) => {
                let reader = bucket.read(path, offset).await?;
                let size = reader.size;
                let source = Source::Remote(reader);
                Reader { source, size }
            }
        })
    }

    /// Removes what is at a URI; of a directory, also the directories above it that are empty. Nothing there is fine.
    pub async fn delete(&self, uri: &str) -> Result<(), Error> {
        match self.place(uri)? {
            Place::Local(local) => local.delete(uri).await,
            Place::Remote(bucket) => bucket.delete().await,
        }
    }

    fn place(&self, uri: &str) -> Result<Place<'_>, Error> {
        if !Location::is_remote(uri) {
            return self.local(uri).map(Place::Local);
        }
        let location = Location::parse(uri)?;
        if location.scheme() == Scheme::Http {
            // Programs name such addresses, and the service stands where their authors may not: it would read for them
            // what only this machine or its network can reach.
            return Err(Error::Foreign {
                uri: shown(uri),
                reason: "content behind HTTP is read by steps, not by the service",
            });
        }
        let inner = &self.0;
        let bucket = Bucket::open(&inner.access, NAMESPACE, &location, &inner.connector)?;
        Ok(Place::Remote(Box::new(bucket)))
    }

    /// The directory that a path lies in; the store's own says what is wrong with one that lies in none.
    fn local(&self, uri: &str) -> Result<&Local, Error> {
        let roots = &self.0.roots;
        match roots.iter().find(|local| local.contains(uri)) {
            Some(found) => Ok(found),
            None => roots[0].refuse(uri).map(|()| &roots[0]),
        }
    }
}
