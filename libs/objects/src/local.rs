//! The store on the local file system.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat, unlinkat};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use crate::Error;

/// Bytes that one read returns at most.
const CHUNK: usize = 256 * 1024;

/// A tree of files; cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Local(Arc<Root>);

#[derive(Debug)]
struct Root {
    path: PathBuf,
    dir: OwnedFd,
}

/// What is at a URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The size of a file in bytes; 0 of a directory.
    pub size: u64,
    /// Whether it is a directory.
    pub directory: bool,
}

/// A file of an artifact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// The path relative to the artifact; empty when the artifact is one file.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
}

/// Reads a file from front to back, in parts.
#[derive(Debug)]
pub(crate) struct LocalReader {
    uri: String,
    file: tokio::fs::File,
    /// The size when it was opened, in bytes.
    pub size: u64,
}

impl LocalReader {
    /// The next part; empty at the end.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Error> {
        let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
        self.file
            .read_buf(&mut buffer)
            .await
            .map_err(|error| Error::io(&self.uri, error))?;
        Ok(buffer.freeze())
    }
}

impl Local {
    /// Opens the store at `root`, which is made when it is missing.
    pub(crate) fn open(root: &Path) -> Result<Self, Error> {
        let shown = root.display().to_string();
        let open = || -> io::Result<Root> {
            std::fs::create_dir_all(root)?;
            let path = root.canonicalize()?;
            let dir = rustix::fs::open(
                &path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            Ok(Root { path, dir })
        };
        open()
            .map(|root| Self(Arc::new(root)))
            .map_err(|error| Error::io(&shown, error))
    }

    /// The root as an absolute path: the prefix of every URI of the store.
    pub(crate) fn root(&self) -> &Path {
        &self.0.path
    }

    /// Whether the URI lies in this tree.
    pub(crate) fn contains(&self, uri: &str) -> bool {
        self.relative(uri).is_ok()
    }

    /// What is wrong with a URI that does not.
    pub(crate) fn refuse(&self, uri: &str) -> Result<(), Error> {
        self.relative(uri).map(drop)
    }

    /// What is at a URI, if anything.
    pub(crate) async fn stat(&self, uri: &str) -> Result<Option<Stat>, Error> {
        let relative = self.relative(uri)?;
        let (store, uri) = (self.clone(), uri.to_owned());
        blocking(move || match store.0.open(&relative, OFlags::PATH) {
            Ok(fd) => store
                .0
                .stat(&fd)
                .map(Some)
                .map_err(|error| Error::io(&uri, error)),
            Err(error) => match Error::io(&uri, error) {
                Error::NotFound(_) => Ok(None),
                other => Err(other),
            },
        })
        .await
    }

    /// The files of an artifact, sorted by path, after the path `after`, at most `limit`.
    pub(crate) async fn list(
        &self,
        uri: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<File>, Error> {
        let relative = self.relative(uri)?;
        let (store, uri, after) = (self.clone(), uri.to_owned(), after.to_owned());
        blocking(move || {
            let mut files = Vec::new();
            store
                .0
                .walk(&relative, "", &mut files)
                .map_err(|error| Error::io(&uri, error))?;
            files.sort();
            let first = files.partition_point(|file| !after.is_empty() && file.path <= after);
            files.drain(..first);
            files.truncate(limit);
            Ok(files)
        })
        .await
    }

    /// Opens a file of an artifact at an offset; `path` is empty when the artifact is one file.
    pub(crate) async fn read(
        &self,
        uri: &str,
        path: &str,
        offset: u64,
    ) -> Result<LocalReader, Error> {
        let mut relative = self.relative(uri)?;
        if !path.is_empty() {
            relative.push(plain(path).ok_or_else(|| Error::Foreign {
                uri: format!("{uri}/{path}"),
                reason: "the path within an artifact must be relative, without `..`",
            })?);
        }
        let (store, uri) = (self.clone(), uri.to_owned());
        let (file, size, uri) = blocking(move || {
            let open = || -> io::Result<(std::fs::File, u64)> {
                // Not blocking, or a named pipe would hang the reader; it changes nothing for files.
                let fd = store.0.open(&relative, OFlags::RDONLY | OFlags::NONBLOCK)?;
                let stat = rustix::fs::fstat(&fd)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(io::Error::from(io::ErrorKind::IsADirectory));
                }
                Ok((
                    std::fs::File::from(fd),
                    u64::try_from(stat.st_size).unwrap_or(0),
                ))
            };
            let (file, size) = open().map_err(|error| Error::io(&uri, error))?;
            Ok((file, size, uri))
        })
        .await?;
        let mut file = tokio::fs::File::from_std(file);
        file.seek(io::SeekFrom::Start(offset.min(size)))
            .await
            .map_err(|error| Error::io(&uri, error))?;
        Ok(LocalReader { uri, file, size })
    }

    /// Removes what is at a URI, and then the directories above it that are empty. Nothing there is fine.
    pub(crate) async fn delete(&self, uri: &str) -> Result<(), Error> {
        let relative = self.relative(uri)?;
        if relative.as_os_str().is_empty() {
            return Err(Error::Foreign {
                uri: uri.to_owned(),
                reason: "it is the store itself",
            });
        }
        let (store, uri) = (self.clone(), uri.to_owned());
        blocking(move || {
            store
                .0
                .remove(&relative)
                .map_err(|error| Error::io(&uri, error))
        })
        .await
    }

    /// The path of a URI relative to the root.
    fn relative(&self, uri: &str) -> Result<PathBuf, Error> {
        let foreign = |reason| Error::Foreign {
            uri: uri.to_owned(),
            reason,
        };
        let path = match uri.split_once("://") {
            Some(("file", path)) => path,
            Some(_) => return Err(foreign("only absolute paths and file:// are served")),
            None => uri,
        };
        let below = Path::new(path)
            .strip_prefix(&self.0.path)
            .map_err(|_| foreign("it lies outside the store's root"))?;
        let below = below
            .to_str()
            .ok_or_else(|| foreign("the path is not UTF-8"))?;
        plain(below).ok_or_else(|| foreign("the path must not contain `..`"))
    }
}

/// A relative path without `..`; none otherwise.
fn plain(path: &str) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!path.contains('\0')).then_some(plain)
}

impl Root {
    fn open(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(
            &self.dir,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?)
    }

    fn stat(&self, fd: &OwnedFd) -> io::Result<Stat> {
        let stat = rustix::fs::fstat(fd)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let size = if directory {
            0
        } else {
            u64::try_from(stat.st_size).unwrap_or(0)
        };
        Ok(Stat { size, directory })
    }

    /// Collects the regular files at and below `relative`; links are not followed.
    fn walk(&self, relative: &Path, name: &str, files: &mut Vec<File>) -> io::Result<()> {
        let fd = self.open(
            relative,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
        )?;
        let stat = self.stat(&fd)?;
        if !stat.directory {
            files.push(File {
                path: name.to_owned(),
                size: stat.size,
            });
            return Ok(());
        }
        for entry in Dir::new(fd)? {
            let entry = entry?;
            let Ok(child) = entry.file_name().to_str() else {
                continue;
            };
            let kind = entry.file_type();
            if child == "."
                || child == ".."
                || !matches!(kind, FileType::RegularFile | FileType::Directory)
            {
                continue;
            }
            let below = if name.is_empty() {
                child.to_owned()
            } else {
                format!("{name}/{child}")
            };
            self.walk(&relative.join(child), &below, files)?;
        }
        Ok(())
    }

    fn remove(&self, relative: &Path) -> io::Result<()> {
        let parent = relative.parent().unwrap_or(Path::new(""));
        let Some(name) = relative.file_name() else {
            return Ok(());
        };
        let parent_fd = match self.open(parent, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        remove_at(&parent_fd, name)?;
        let mut above = parent;
        while let (Some(next), Some(name)) = (above.parent(), above.file_name()) {
            let fd = self.open(next, OFlags::RDONLY | OFlags::DIRECTORY)?;
            if unlinkat(&fd, name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            above = next;
        }
        Ok(())
    }
}

/// Removes an entry of a directory with all below it; links are removed, not followed.
fn remove_at(parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(unlinkat(parent, name, AtFlags::empty())?);
    }
    // A step may have made its directory read-only.
    let _best_effort = rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let child = std::ffi::OsStr::new(entry.file_name().to_str().map_err(io::Error::other)?);
        if child != "." && child != ".." {
            remove_at(&fd, child)?;
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => Err(Error::Io {
            uri: "the artifact store".to_owned(),
            source: io::Error::other(error),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Local) {
        let dir = tempfile::tempdir().unwrap();
        let store = Local::open(&dir.path().join("artifacts")).unwrap();
        (dir, store)
    }

    fn write(store: &Local, path: &str, content: &str) -> String {
        let path = store.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    async fn text(mut reader: LocalReader) -> String {
        let mut all = Vec::new();
        loop {
            let part = reader.next().await.unwrap();
            if part.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend_from_slice(&part);
        }
    }

    #[tokio::test]
    async fn files_and_directories_are_listed_and_read() {
        let (_dir, store) = store();
        let model = write(&store, "run/model/b/weights", "0123456789");
        write(&store, "run/model/a.json", "{}");
        let uri = store.root().join("run/model").display().to_string();
        let file = |path: &str, size| File {
            path: path.to_owned(),
            size,
        };
        let all = [file("a.json", 2), file("b/weights", 10)];
        assert_eq!(store.list(&uri, "", 10).await.unwrap(), all);
        assert_eq!(store.list(&uri, "a.json", 10).await.unwrap(), all[1..]);
        assert_eq!(store.list(&uri, "", 1).await.unwrap(), all[..1]);
        assert_eq!(
            text(store.read(&uri, "b/weights", 4).await.unwrap()).await,
            "456789"
        );
        assert_eq!(
            text(store.read(&format!("file://{model}"), "", 0).await.unwrap()).await,
            "0123456789"
        );
        assert_eq!(
            store.stat(&uri).await.unwrap(),
            Some(Stat {
                size: 0,
                directory: true
            })
        );
        assert_eq!(store.stat(&format!("{uri}/none")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn nothing_leaves_the_root() {
        let (dir, store) = store();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        let uri = write(&store, "run/plain", "x");
        let link = store.root().join("run/link");
        std::os::unix::fs::symlink("../../secret", &link).unwrap();
        std::os::unix::fs::symlink("/", store.root().join("run/slash")).unwrap();
        let run = store.root().join("run").display().to_string();
        for (uri, path) in [
            (link.display().to_string(), ""),
            (format!("{run}/slash/etc/passwd"), ""),
            (run.clone(), "../../secret"),
            (run.clone(), "/etc/passwd"),
            (format!("{run}/../../secret"), ""),
            ("/etc/passwd".to_owned(), ""),
            ("s3://bucket/key".to_owned(), ""),
        ] {
            let result = store.read(&uri, path, 0).await;
            assert!(
                matches!(result, Err(Error::Foreign { .. })),
                "{uri} {path}: {result:?}"
            );
        }
        assert_eq!(store.list(&run, "", 10).await.unwrap().len(), 1, "{uri}");
    }

    #[tokio::test]
    async fn deleting_takes_the_tree_and_the_empty_directories_above() {
        let (dir, store) = store();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        write(&store, "p/r1/t/model/w", "1");
        write(&store, "p/r2/t/model/w", "2");
        let model = store.root().join("p/r1/t/model");
        std::os::unix::fs::symlink("../../../../../secret", model.join("link")).unwrap();
        let uri = model.display().to_string();
        store.delete(&uri).await.unwrap();
        store.delete(&uri).await.unwrap();
        assert!(!store.root().join("p/r1").exists());
        assert!(store.root().join("p/r2/t/model/w").exists());
        assert!(dir.path().join("secret").exists());
        let root = store.root().display().to_string();
        assert!(matches!(
            store.delete(&root).await,
            Err(Error::Foreign { .. })
        ));
    }
}
