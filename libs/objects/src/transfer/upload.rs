//! From this machine to a store: an artifact counts only when all of it is there.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api_step::v1::TransferItem;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};

use super::tree::{self, Root, Tree};
use super::{
    Content, Failed, OUTPUT_INVALID, OUTPUT_NOT_STORED, PART, Shared, called, directory, hex,
    stopped,
};
use crate::Error;
use crate::bucket::Bucket;

/// Parts of one file, at most; S3 takes ten thousand.
const MAX_PARTS: u64 = 9_000;
/// How long a store may take to forget what came of an upload that failed.
const WITHDRAW: Duration = Duration::from_secs(15);

/// Uploads an artifact; none when the program left nothing.
pub(super) async fn artifact(
    shared: &Shared,
    item: &TransferItem,
) -> Result<Option<Content>, Failed> {
    let called = called(item, "output");
    let from = Path::new(&item.path);
    let tree = tree::open(from).map_err(|error| {
        Failed::new(
            OUTPUT_INVALID,
            format!("{called} cannot be stored: {error}"),
        )
    })?;
    if matches!(tree, Tree::Nothing) {
        return Ok(None);
    }
    let named = |failed: Failed| Failed {
        message: format!("{called}: {}", failed.message),
        ..failed
    };
    let not_stored = |error: Error| named(Failed::new(OUTPUT_NOT_STORED, error.to_string()));
    let bucket = shared.bucket(&item.uri).map_err(not_stored)?;
    if !bucket.location.writable() {
        let message = format!("{called}: {} can only be read", bucket.location.shown());
        return Err(Failed::new(OUTPUT_NOT_STORED, message));
    }
    let job = Job { shared, bucket };
    let stored = match tree {
        Tree::Nothing => return Ok(None),
        Tree::File(file) => job.file(file, &job.bucket.path).await,
        Tree::Directory(root) => job.directory(&root).await,
    };
    if stored.is_err() {
        // What is left over lies below the run, and goes with it.
        let forget = tokio::time::timeout(WITHDRAW, job.bucket.delete()).await;
        if let Ok(Err(error)) = forget {
            eprintln!("{error}");
        }
    }
    stored.map(Some).map_err(named)
}

struct Job<'a> {
    shared: &'a Shared,
    bucket: Bucket,
}

impl Job<'_> {
    async fn directory(&self, root: &Root) -> Result<Content, Failed> {
        let store = |path: &PathBuf| {
            let path = path.clone();
            async move {
                let opened = root.file(&path).map_err(|error| {
                    let message = format!("{} cannot be stored: {error}", path.display());
                    Failed::new(OUTPUT_INVALID, message)
                })?;
                let text = path.to_str().unwrap_or_default();
                let key = self.bucket.inner(text).map_err(|error| {
                    Failed::new(OUTPUT_INVALID, format!("it cannot be stored: {error}"))
                })?;
                let content = self.file(opened, &key).await?;
                Ok((path, content.size, content.sha256))
            }
        };
        let files = self.shared.all(root.files.iter().map(store)).await?;
        Ok(directory(files))
    }

    async fn file(&self, file: File, key: &Key) -> Result<Content, Failed> {
        let length = file.metadata().map_or(0, |meta| meta.len());
        let part = part_size(length);
        let mut leaving = Leaving {
            file,
            digest: Sha256::new(),
            size: 0,
            part: usize::try_from(part).unwrap_or(usize::MAX),
            uri: self.bucket.uri_of(key),
        };
        self.send(&mut leaving, key, length <= part, part).await?;
        Ok(Content {
            size: leaving.size,
            sha256: hex(&leaving.digest.finalize()),
            directory: false,
        })
    }

    async fn send(
        &self,
        leaving: &mut Leaving,
        key: &Key,
        small: bool,
        part: u64,
    ) -> Result<(), Failed> {
        let uri = leaving.uri.clone();
        let failed = |error: &object_store::Error| {
            let error = Error::remote("write", &uri, error);
            Failed::new(OUTPUT_NOT_STORED, error.to_string())
        };
        if small {
            let room = self.shared.room(leaving.length().min(part)).await?;
            let bytes = leaving.read()?;
            let put = tokio::select! {
                put = self.bucket.store.put(key, PutPayload::from(bytes)) => put,
                () = self.shared.stopped() => return Err(stopped()),
            };
            drop(room);
            return put.map(drop).map_err(|error| failed(&error));
        }
        let begun = self.bucket.store.put_multipart(key).await;
        let mut upload = begun.map_err(|error| failed(&error))?;
        let sent = match self.parts(leaving, &mut upload, part).await {
            Ok(()) => upload
                .complete()
                .await
                .map(drop)
                .map_err(|error| failed(&error)),
            Err(Sent::Failed(failed)) => Err(failed),
            Err(Sent::Store(error)) => Err(failed(&error)),
        };
        if sent.is_err()
            && let Ok(Err(error)) = tokio::time::timeout(WITHDRAW, upload.abort()).await
        {
            eprintln!("{}", failed(&error).message);
        }
        sent
    }

    /// Sends the parts of a file, as many at the same time as there is room for.
    async fn parts(
        &self,
        leaving: &mut Leaving,
        upload: &mut Box<dyn MultipartUpload>,
        part: u64,
    ) -> Result<(), Sent> {
        let mut under_way = FuturesUnordered::new();
        loop {
            let room = loop {
                tokio::select! {
                    room = self.shared.room(part) => break room.map_err(Sent::Failed)?,
                    Some(sent) = under_way.next() => {
                        let sent: object_store::Result<()> = sent;
                        sent.map_err(Sent::Store)?;
                    }
                    () = self.shared.stopped() => return Err(Sent::Failed(stopped())),
                }
            };
            let bytes = leaving.read().map_err(Sent::Failed)?;
            if bytes.is_empty() {
                break;
            }
            let put = upload.put_part(PutPayload::from(bytes));
            under_way.push(async move {
                let sent = put.await;
                drop(room);
                sent
            });
        }
        under_way.try_collect::<()>().await.map_err(Sent::Store)
    }
}

enum Sent {
    Failed(Failed),
    Store(object_store::Error),
}

fn part_size(length: u64) -> u64 {
    let least = length.div_ceil(MAX_PARTS);
    PART.max(least.div_ceil(1 << 20) << 20)
}

/// A file on its way out.
struct Leaving {
    file: File,
    digest: Sha256,
    size: u64,
    part: usize,
    uri: String,
}

impl Leaving {
    fn length(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// The next part; empty at the end.
    fn read(&mut self) -> Result<Vec<u8>, Failed> {
        let left = self.length().saturating_sub(self.size);
        let expected = usize::try_from(left).unwrap_or(usize::MAX).min(self.part);
        let mut bytes = Vec::with_capacity(expected);
        let read = (&self.file).take(self.part as u64).read_to_end(&mut bytes);
        read.map_err(|error: io::Error| {
            let message = format!("what goes to {} cannot be read: {error}", self.uri);
            Failed::new(OUTPUT_INVALID, message)
        })?;
        self.digest.update(&bytes);
        self.size += bytes.len() as u64;
        Ok(bytes)
    }
}
