//! The store of a location: does what the service needs of it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore,
    ObjectStoreExt as _,
};

use crate::access::Access;
use crate::client::Connector;
use crate::location::{Location, Scheme};
use crate::opening::Opening;
use crate::{Error, File, Stat};

/// What Azure says of a folder in its metadata.
const FOLDER: &str = "hdi_isfolder";

/// The store of a location, and the location in it.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) location: Location,
}

impl Bucket {
    /// Signs in as the configuration says; a store that nobody configured is read without signing.
    pub(crate) fn open(
        access: &Access,
        namespace: &str,
        location: &Location,
        connector: &Connector,
    ) -> Result<Self, Error> {
        let opening = Opening {
            config: access.find(location.uri(), namespace),
            access,
            location,
            connector,
        };
        let store = opening.store()?;
        let path = Path::parse(location.key())
            .map_err(|_| opening.wrong("its key is none that an object can have"))?;
        Ok(Self {
            store,
            path,
            location: location.clone(),
        })
    }

    pub(crate) fn error(&self, doing: &'static str, error: &object_store::Error) -> Error {
        Error::remote(doing, &self.location.shown(), error)
    }

    /// The URI of an object of the store.
    pub(crate) fn uri_of(&self, path: &Path) -> String {
        if path == &self.path {
            return self.location.shown();
        }
        let shown = self.location.shown();
        let root = shown
            .strip_suffix(self.location.key())
            .unwrap_or(&shown)
            .trim_end_matches('/');
        format!("{root}/{path}")
    }

    /// The object at the location itself; none when there is none.
    pub(crate) async fn head(&self) -> Result<Option<ObjectMeta>, Error> {
        if self.location.key().is_empty() && self.location.scheme() != Scheme::Http {
            return Ok(None);
        }
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        match self.store.get_opts(&self.path, options).await {
            // The content is left behind: it cannot be shared between threads.
            Ok(GetResult {
                meta, attributes, ..
            }) => {
                let folder = self.is_folder(&meta, &attributes).await?;
                Ok((!folder).then_some(meta))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("look at", &error)),
        }
    }

    /// Whether what looks like an empty object is a folder, as those of Azure with a hierarchical namespace do.
    async fn is_folder(&self, meta: &ObjectMeta, attributes: &Attributes) -> Result<bool, Error> {
        if meta.size > 0 || self.location.scheme() == Scheme::Http {
            return Ok(false);
        }
        let marked = attributes.iter().any(|(name, value)| {
            matches!(name, Attribute::Metadata(name) if name == FOLDER) && value.as_ref() == "true"
        });
        Ok(marked || self.below().try_next().await?.is_some())
    }

    /// What is below the location; web servers have no directories.
    pub(crate) fn below(&self) -> futures_util::stream::BoxStream<'_, Result<ObjectMeta, Error>> {
        if self.location.scheme() == Scheme::Http {
            return futures_util::stream::empty().boxed();
        }
        let list = self.store.list(Some(&self.path));
        list.map_err(|error| self.error("list", &error)).boxed()
    }

    pub(crate) async fn stat(&self) -> Result<Option<Stat>, Error> {
        if let Some(meta) = self.head().await? {
            return Ok(Some(Stat {
                size: meta.size,
                directory: false,
            }));
        }
        let first = self.below().try_next().await?;
        Ok(first.map(|_| Stat {
            size: 0,
            directory: true,
        }))
    }

    pub(crate) async fn list(&self, after: &str, limit: usize) -> Result<Vec<File>, Error> {
        if after.is_empty()
            && let Some(meta) = self.head().await?
        {
            return Ok(vec![File {
                path: String::new(),
                size: meta.size,
            }]);
        }
        let offset = match after {
            "" => self.path.clone(),
            after => self.inner(after)?,
        };
        let found = self.store.list_with_offset(Some(&self.path), &offset);
        let mut files: Vec<File> = found
            .map_err(|error| self.error("list", &error))
            .try_filter_map(async |meta| {
                Ok(relative(&self.path, &meta.location).map(|path| File {
                    path,
                    size: meta.size,
                }))
            })
            .take(limit)
            .try_collect()
            .await?;
        files.sort();
        Ok(files)
    }

    /// The path of a file of an artifact.
    pub(crate) fn inner(&self, file: &str) -> Result<Path, Error> {
        let whole = |part: &str| !part.is_empty() && part != "." && part != "..";
        let parsed = file
            .split('/')
            .all(whole)
            .then(|| Path::parse(format!("{}/{file}", self.path)));
        match parsed {
            Some(Ok(path)) => Ok(path),
            _ => Err(Error::Foreign {
                uri: format!("{}/{file}", self.location.shown()),
                reason: "the path within an artifact must be relative, without `..`",
            }),
        }
    }

    pub(crate) async fn read(&self, file: &str, offset: u64) -> Result<RemoteReader, Error> {
        let path = match file {
            "" => self.path.clone(),
            file => self.inner(file)?,
        };
        let doing = |error| match error {
            object_store::Error::NotFound { .. } => Error::NotFound(self.uri_of(&path)),
            error => Error::remote("read", &self.uri_of(&path), &error),
        };
        let meta = self.store.head(&path).await.map_err(doing)?;
        if offset >= meta.size {
            return Ok(RemoteReader {
                uri: self.uri_of(&path),
                size: meta.size,
                stream: futures_util::stream::empty().boxed(),
            });
        }
        let options = GetOptions {
            range: (offset > 0).then_some(GetRange::Offset(offset)),
            ..GetOptions::default()
        };
        let got = self.store.get_opts(&path, options).await.map_err(doing)?;
        Ok(RemoteReader {
            uri: self.uri_of(&path),
            size: meta.size,
            stream: got.into_stream(),
        })
    }

    /// Removes the object at the location and everything below it. Nothing there is fine.
    pub(crate) async fn delete(&self) -> Result<(), Error> {
        if self.location.key().is_empty() || !self.location.writable() {
            return Err(Error::Foreign {
                uri: self.location.shown(),
                reason: "it is the store itself, or one that is only read",
            });
        }
        let gone = |result: object_store::Result<Path>| async move {
            match result {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.error("remove", &error)),
            }
        };
        let below = self.store.list(Some(&self.path));
        let paths = below.map_ok(|meta| meta.location).boxed();
        self.store
            .delete_stream(paths)
            .then(gone)
            .try_collect::<()>()
            .await?;
        match self.head().await? {
            Some(meta) => {
                let removed = self.store.delete(&meta.location).await;
                gone(removed.map(|()| meta.location)).await
            }
            None => Ok(()),
        }
    }
}

/// The path of an object below a folder; none for the folder itself and for what would lead out of it.
pub(crate) fn relative(folder: &Path, object: &Path) -> Option<String> {
    let below = object.as_ref().strip_prefix(folder.as_ref())?;
    let below = if folder.as_ref().is_empty() {
        below
    } else {
        below.strip_prefix('/')?
    };
    let whole = |part: &str| !part.is_empty() && part != "." && part != "..";
    let plain = below.split('/').all(whole) && !below.chars().any(|character| character == '\0');
    plain.then(|| below.to_owned())
}

/// Reads an object from front to back.
pub(crate) struct RemoteReader {
    pub(crate) uri: String,
    pub(crate) size: u64,
    stream: futures_util::stream::BoxStream<'static, object_store::Result<bytes::Bytes>>,
}

impl std::fmt::Debug for RemoteReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteReader")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

/// A store that sends nothing for this long is taken for gone.
const SILENCE: Duration = Duration::from_secs(60);

impl RemoteReader {
    pub(crate) async fn next(&mut self) -> Result<bytes::Bytes, Error> {
        loop {
            let next = tokio::time::timeout(SILENCE, self.stream.next()).await;
            match next {
                Ok(Some(Ok(part))) if part.is_empty() => {}
                Ok(Some(Ok(part))) => return Ok(part),
                Ok(None) => return Ok(bytes::Bytes::new()),
                Ok(Some(Err(error))) => return Err(Error::remote("read", &self.uri, &error)),
                Err(_) => {
                    return Err(Error::Remote {
                        doing: "read",
                        uri: self.uri.clone(),
                        problem: format!("the store sent nothing for {} s", SILENCE.as_secs()),
                        refused: false,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path as FilePath;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_below_a_folder_has_a_relative_path() {
        let table = [
            ("a/b", "a/b/c", Some("c")),
            ("a/b", "a/b/c/d", Some("c/d")),
            ("a/b", "a/b", None),
            ("a/b", "a/bc", None),
            ("", "x/y", Some("x/y")),
        ];
        for (folder, object, below) in table {
            let (folder, object) = (Path::parse(folder).unwrap(), Path::parse(object).unwrap());
            assert_eq!(relative(&folder, &object).as_deref(), below);
        }
    }

    proptest! {
        #[test]
        fn a_relative_path_never_leads_out(folder in "[a-z./]{0,12}", object in "[a-z./\\\\%\u{e4}]{0,24}") {
            let (Ok(folder), Ok(object)) = (Path::parse(folder), Path::parse(object)) else {
                return Ok(());
            };
            if let Some(below) = relative(&folder, &object) {
                let parts: Vec<_> = FilePath::new(&below).components().collect();
                let normal = |part: &std::path::Component<'_>| matches!(part, std::path::Component::Normal(_));
                prop_assert!(!parts.is_empty() && parts.iter().all(normal), "{}", below);
            }
        }
    }
}
