//! From a store to this machine: each artifact appears whole or not at all.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api_step::v1::TransferItem;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};

use super::{
    Content, DISK_FULL, Failed, INPUT_CORRUPT, INPUT_UNAVAILABLE, MAX_FILES, SILENCE, Shared,
    called, directory, hex, stopped,
};
use crate::bucket::{Bucket, relative};
use crate::location::Scheme;
use crate::{Error, location};

/// How often a file is gone on with after it broke off without a byte more.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn artifact(shared: &Shared, item: &TransferItem) -> Result<Content, Failed> {
    let called = called(item, "input");
    let unavailable =
        |error: Error| Failed::new(INPUT_UNAVAILABLE, format!("{called}: {}", chain(&error)));
    let to = Path::new(&item.path);
    let disk = |error: &std::io::Error| Failed::disk(INPUT_UNAVAILABLE, "write", to, error);
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(Failed::new(
            INPUT_UNAVAILABLE,
            "an input has no path to go to",
        ));
    };
    std::fs::create_dir_all(parent).map_err(|error| disk(&error))?;
    let mut part = std::ffi::OsString::from(".part-");
    part.push(name);
    let part = parent.join(part);
    clear(&part).map_err(|error| disk(&error))?;

    let bucket = shared.bucket(&item.uri).map_err(unavailable)?;
    let job = Job { shared, bucket };
    let content = tokio::select! {
        content = job.fetch(&part) => content,
        () = shared.stopped() => Err(stopped()),
    };
    let content = content.map_err(|failed| Failed {
        message: format!("{called}: {}", failed.message),
        ..failed
    })?;
    if !item.sha256.is_empty() && item.sha256 != content.sha256 {
        let message = format!(
            "{called}: what {} holds is not what its producer stored: SHA-256 {} instead of {}",
            location::shown(&item.uri),
            content.sha256,
            item.sha256
        );
        return Err(Failed::new(INPUT_CORRUPT, message));
    }
    shared.abort.point("transfer.fetched");
    clear(to).map_err(|error| disk(&error))?;
    std::fs::rename(&part, to).map_err(|error| disk(&error))?;
    shared.abort.point("transfer.renamed");
    Ok(content)
}

/// Refuses what the disk cannot hold before a part of it fills it for everybody.
fn has_room(to: &Path, bytes: u64) -> Result<(), Failed> {
    let dir = to.parent().unwrap_or(to);
    // Where the kernel does not tell, the disk itself says so in time.
    let Ok(disk) = rustix::fs::statvfs(dir) else {
        return Ok(());
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    let message = format!(
        "it has {bytes} bytes, and {} has room for {free}",
        dir.display()
    );
    Err(Failed::new(DISK_FULL, message))
}

fn chain(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn clear(path: &Path) -> std::io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

struct Job<'a> {
    shared: &'a Shared,
    bucket: Bucket,
}

impl Job<'_> {
    async fn fetch(&self, to: &Path) -> Result<Content, Failed> {
        let unavailable = |error: Error| Failed::new(INPUT_UNAVAILABLE, chain(&error));
        if self.bucket.location.scheme() == Scheme::Http {
            // An address that is signed for GET is often good for nothing else, and perhaps only once.
            let got = self.bucket.store.get(&self.bucket.path).await;
            let got = got.map_err(|error| unavailable(self.bucket.error("read", &error)))?;
            has_room(to, got.meta.size)?;
            return self.file(&got.meta.clone(), to, Some(got)).await;
        }
        match self.bucket.head().await.map_err(unavailable)? {
            Some(meta) => {
                has_room(to, meta.size)?;
                self.file(&meta, to, None).await
            }
            None => self.directory(to).await,
        }
    }

    async fn directory(&self, to: &Path) -> Result<Content, Failed> {
        let unavailable = |error: Error| Failed::new(INPUT_UNAVAILABLE, chain(&error));
        let mut below: Vec<(PathBuf, ObjectMeta)> = Vec::new();
        let mut listed = self.bucket.below();
        while let Some(meta) = listed.try_next().await.map_err(unavailable)? {
            // A store may mark a folder by an empty object of its name.
            if meta.location == self.bucket.path {
                continue;
            }
            let path = relative(&self.bucket.path, &meta.location).ok_or_else(|| {
                let uri = self.bucket.uri_of(&meta.location);
                let message = format!("{uri} has no path that a file of this machine can have");
                Failed::new(INPUT_UNAVAILABLE, message)
            })?;
            below.push((PathBuf::from(path), meta));
            if below.len() > MAX_FILES {
                let message = format!("it has more than {MAX_FILES} files");
                return Err(Failed::new(INPUT_UNAVAILABLE, message));
            }
        }
        if below.is_empty() {
            let nothing = Error::NotFound(self.bucket.location.shown());
            return Err(Failed::new(INPUT_UNAVAILABLE, nothing.to_string()));
        }
        let sizes = below.iter().map(|(_, meta)| meta.size);
        has_room(to, sizes.fold(0, u64::saturating_add))?;
        let fetch = |(path, meta): (PathBuf, ObjectMeta)| async move {
            let target = to.join(&path);
            let made = target.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.map_err(|error| Failed::disk(INPUT_UNAVAILABLE, "make", &target, &error))?;
            let content = self.file(&meta, &target, None).await?;
            Ok((path, content.size, content.sha256))
        };
        let files = self.shared.all(below.into_iter().map(fetch)).await?;
        Ok(directory(files))
    }

    /// Fetches an object, of which the answer may be there; what breaks off is gone on with where it broke off.
    async fn file(
        &self,
        meta: &ObjectMeta,
        to: &Path,
        mut first: Option<GetResult>,
    ) -> Result<Content, Failed> {
        let disk = |error: &std::io::Error| Failed::disk(INPUT_UNAVAILABLE, "write", to, error);
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(to)
            .map_err(|error| disk(&error))?;
        let mut arriving = Arriving {
            file,
            digest: Sha256::new(),
            size: 0,
        };
        let mut left = ATTEMPTS;
        let mut pause = FIRST_PAUSE;
        loop {
            let before = arriving.size;
            match self.stream(meta, &mut arriving, first.take()).await {
                Ok(()) => break,
                Err(Broke::Disk(error)) => return Err(disk(&error)),
                Err(Broke::Store(error)) => {
                    if arriving.size > before {
                        (left, pause) = (ATTEMPTS, FIRST_PAUSE);
                    }
                    left -= 1;
                    if left == 0 || !worth_again(&error) {
                        return Err(Failed::new(INPUT_UNAVAILABLE, chain(&error)));
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(Content {
            size: arriving.size,
            sha256: hex(&arriving.digest.finalize()),
            directory: false,
        })
    }

    async fn stream(
        &self,
        meta: &ObjectMeta,
        arriving: &mut Arriving,
        first: Option<GetResult>,
    ) -> Result<(), Broke> {
        if arriving.size == meta.size {
            return Ok(());
        }
        let uri = self.bucket.uri_of(&meta.location);
        let store = |error: &object_store::Error| Broke::Store(Error::remote("read", &uri, error));
        let broken = |problem: String| {
            Broke::Store(Error::Remote {
                doing: "read",
                uri: uri.clone(),
                problem,
                refused: false,
            })
        };
        let options = GetOptions {
            range: (arriving.size > 0).then_some(GetRange::Offset(arriving.size)),
            // What is gone on with must be what was begun with.
            if_match: meta.e_tag.clone(),
            ..GetOptions::default()
        };
        let got = match first {
            Some(got) => got,
            None => {
                let got = self.bucket.store.get_opts(&meta.location, options).await;
                got.map_err(|error| store(&error))?
            }
        };
        let mut parts = got.into_stream();
        loop {
            let next = tokio::time::timeout(SILENCE, parts.next()).await;
            let Ok(next) = next else {
                return Err(broken(format!(
                    "the store sent nothing for {} s",
                    SILENCE.as_secs()
                )));
            };
            match next {
                Some(Ok(part)) => arriving.add(&part).map_err(Broke::Disk)?,
                Some(Err(error)) => return Err(store(&error)),
                None => break,
            }
        }
        if arriving.size != meta.size {
            let (came, whole) = (arriving.size, meta.size);
            return Err(broken(format!("{came} of {whole} bytes came")));
        }
        Ok(())
    }
}

enum Broke {
    Store(Error),
    Disk(std::io::Error),
}

/// A refusal stays one.
fn worth_again(error: &Error) -> bool {
    matches!(error, Error::Remote { refused: false, .. })
}

struct Arriving {
    file: File,
    digest: Sha256,
    size: u64,
}

impl Arriving {
    fn add(&mut self, part: &[u8]) -> std::io::Result<()> {
        self.file.write_all(part)?;
        self.digest.update(part);
        self.size += part.len() as u64;
        Ok(())
    }
}
