//! From this machine to a store: an artifact counts only when all of it is there.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use api_step::v1::TransferItem;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use sha2::{Digest as _, Sha256};

use super::tree::{self, Root, Tree};
use super::{
    Content, Failed, OUTPUT_CHANGED, OUTPUT_INVALID, OUTPUT_NOT_STORED, PART, Shared, called,
    directory, hex, stopped,
};
use crate::Error;
use crate::bucket::Bucket;

/// Parts of one file, at most; S3 takes ten thousand.
const MAX_PARTS: u64 = 9_000;
/// How long a store may take to forget an upload that failed, and again to remove what it stored of the artifact: together
/// less than a step's usual grace, after which whoever asked to stop ends this by force.
const WITHDRAW: Duration = Duration::from_secs(4);

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
        let mut leaving = Leaving::new(file, self.bucket.uri_of(key))?;
        self.send(&mut leaving, key).await?;
        Ok(Content {
            size: leaving.size,
            sha256: hex(&leaving.digest.finalize()),
            directory: false,
        })
    }

    async fn send(&self, leaving: &mut Leaving, key: &Key) -> Result<(), Failed> {
        let uri = leaving.uri.clone();
        let failed = |error: &object_store::Error| {
            let error = Error::remote("write", &uri, error);
            Failed::new(OUTPUT_NOT_STORED, error.to_string())
        };
        if leaving.length <= leaving.part {
            let room = self.shared.room(leaving.length).await?;
            let bytes = leaving.read()?;
            leaving.whole()?;
            let put = tokio::select! {
                put = self.bucket.store.put(key, PutPayload::from(bytes)) => put,
                () = self.shared.stopped() => return Err(stopped()),
            };
            drop(room);
            self.shared.abort.point("transfer.stored");
            return put.map(drop).map_err(|error| failed(&error));
        }
        let mut begun = std::pin::pin!(self.bucket.store.put_multipart(key));
        let begun = tokio::select! {
            begun = &mut begun => begun,
            // One that the store has begun must be withdrawn, so its answer is waited for.
            () = self.shared.stopped() => {
                let begun = tokio::time::timeout(WITHDRAW, begun).await;
                begun.map_err(|_| stopped())?
            }
        };
        let mut upload = begun.map_err(|error| failed(&error))?;
        self.shared.abort.point("transfer.begun");
        let sent = match self.parts(leaving, &mut upload).await {
            Ok(()) => tokio::select! {
                done = upload.complete() => done.map(drop).map_err(|error| failed(&error)),
                () = self.shared.stopped() => Err(stopped()),
            },
            Err(Sent::Failed(failed)) => Err(failed),
            Err(Sent::Store(error)) => Err(failed(&error)),
        };
        self.shared.abort.point("transfer.completed");
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
    ) -> Result<(), Sent> {
        let mut under_way = FuturesUnordered::new();
        loop {
            let room = loop {
                tokio::select! {
                    biased;
                    () = self.shared.stopped() => return Err(Sent::Failed(stopped())),
                    Some(sent) = under_way.next() => {
                        let sent: object_store::Result<()> = sent;
                        sent.map_err(Sent::Store)?;
                        self.shared.abort.point("transfer.part");
                    }
                    room = self.shared.room(leaving.part) => break room.map_err(Sent::Failed)?,
                }
            };
            let bytes = leaving.read().map_err(Sent::Failed)?;
            if bytes.is_empty() {
                leaving.whole().map_err(Sent::Failed)?;
                break;
            }
            let put = upload.put_part(PutPayload::from(bytes));
            under_way.push(async move {
                let sent = put.await;
                drop(room);
                sent
            });
        }
        tokio::select! {
            sent = under_way.try_collect::<()>() => sent.map_err(Sent::Store),
            () = self.shared.stopped() => Err(Sent::Failed(stopped())),
        }
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
    /// What it was when it was opened; what is stored must be all of that.
    length: u64,
    modified: Option<SystemTime>,
    digest: Sha256,
    size: u64,
    part: u64,
    uri: String,
}

impl Leaving {
    fn new(file: File, uri: String) -> Result<Self, Failed> {
        let meta = file.metadata().map_err(|error| unreadable(&uri, &error))?;
        Ok(Self {
            file,
            length: meta.len(),
            modified: meta.modified().ok(),
            digest: Sha256::new(),
            size: 0,
            part: part_size(meta.len()),
            uri,
        })
    }

    /// The next part; empty at the end.
    fn read(&mut self) -> Result<Vec<u8>, Failed> {
        let left = self.length - self.size;
        // One byte more than there was would be seen.
        let most = self.part.min(left.saturating_add(1));
        let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or(usize::MAX));
        let read = (&self.file).take(most).read_to_end(&mut bytes);
        let read = read.map_err(|error| unreadable(&self.uri, &error))? as u64;
        if read > left {
            return Err(self.changed("it has grown"));
        }
        if read < self.part.min(left) {
            return Err(self.changed("it has become shorter"));
        }
        self.digest.update(&bytes);
        self.size += read;
        Ok(bytes)
    }

    /// Checks that what was read is the file as it was and still is.
    fn whole(&self) -> Result<(), Failed> {
        let meta = self.file.metadata();
        let meta = meta.map_err(|error| unreadable(&self.uri, &error))?;
        if meta.len() != self.size || meta.modified().ok() != self.modified {
            return Err(self.changed("it was written to"));
        }
        Ok(())
    }

    fn changed(&self, how: &str) -> Failed {
        let message = format!(
            "what goes to {} changed while it was stored: {how}; it must not be written to any more when the step's program has ended",
            self.uri
        );
        Failed::new(OUTPUT_CHANGED, message)
    }
}

fn unreadable(uri: &str, error: &io::Error) -> Failed {
    let message = format!("what goes to {uri} cannot be read: {error}");
    Failed::new(OUTPUT_INVALID, message)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// How the storing of a file of ten bytes ends when it is changed after it was opened.
    fn stored(change: impl FnOnce(&Path)) -> Result<u64, Failed> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        let mut leaving = Leaving::new(File::open(&path).unwrap(), "s3://b/k".to_owned())?;
        leaving.part = 4;
        leaving.read()?;
        change(&path);
        while !leaving.read()?.is_empty() {}
        leaving.whole()?;
        Ok(leaving.size)
    }

    #[test]
    fn a_file_that_changes_is_named_and_never_cut() {
        assert_eq!(stored(|_| {}).unwrap(), 10);
        let append = |path: &Path| {
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        };
        let shorten = |path: &Path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(6).unwrap();
        };
        let rewrite = |path: &Path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        for (said, failed) in [
            ("grown", stored(append)),
            ("shorter", stored(shorten)),
            ("written", stored(rewrite)),
        ] {
            let failed = failed.unwrap_err();
            assert_eq!(failed.reason, OUTPUT_CHANGED);
            let message = failed.message;
            assert!(
                message.contains(said) && message.contains("s3://b/k"),
                "{message}"
            );
        }
    }
}
