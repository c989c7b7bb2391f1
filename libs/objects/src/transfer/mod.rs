//! The transfer program: moves artifacts between the directory of a workload and stores of the network.
//!
//! `… transfer REQUEST REPORT`: both are files with messages of `flumina.step.v1`. The agent starts it before and after
//! the program of a step, only when an artifact is in such a store, so every other step pays nothing. SIGTERM makes it
//! withdraw unfinished uploads and go, and so does the end of the agent; a download ends with the agent at once.
//!
//! Memory is bounded: what is in flight in both directions together stays below [`BUDGET`], whatever the artifacts' sizes.

mod abort;
mod download;
mod tree;
mod upload;

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use api_step::v1::{TransferItem, TransferReport, TransferRequest, TransferredItem};
use futures_util::stream::StreamExt as _;
use prost::Message as _;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, watch};

use self::abort::Abort;
pub use self::abort::POINTS as ABORT_POINTS;
use crate::Error;
use crate::access::Access;
use crate::bucket::Bucket;
use crate::client::Connector;
use crate::location::Location;

/// Bytes of parts and small files that are in memory at one time, at most; a part of a file above 70 GiB is larger.
pub const BUDGET: usize = 24 * 1024 * 1024;
/// The size of a part of a large file, in bytes.
const PART: u64 = 8 * 1024 * 1024;
/// Files and artifacts that are moved at the same time.
const AT_ONCE: usize = 4;
/// Files of one artifact.
const MAX_FILES: usize = 100_000;
/// Secrets of stores in all, in bytes.
const MAX_SECRETS: u64 = 8 * 1024 * 1024;
/// What all may take to end when it is told to: what it takes to withdraw, and some more.
const LAST: Duration = Duration::from_secs(9);
/// A store that sends nothing for this long is tried again.
const SILENCE: Duration = Duration::from_secs(60);

/// An input cannot be fetched.
pub const INPUT_UNAVAILABLE: &str = "INPUT_UNAVAILABLE";
/// What was fetched is not what was stored.
pub const INPUT_CORRUPT: &str = "INPUT_CORRUPT";
/// An output cannot be stored.
pub const OUTPUT_NOT_STORED: &str = "OUTPUT_NOT_STORED";
/// An output is nothing that can be stored.
pub const OUTPUT_INVALID: &str = "OUTPUT_INVALID";
/// An output was written to while it was stored.
pub const OUTPUT_CHANGED: &str = "OUTPUT_CHANGED";
/// The disk is full.
pub const DISK_FULL: &str = "DISK_FULL";
/// It was told to stop.
pub const STOPPED: &str = "STOPPED";

/// Why an artifact was not moved.
#[derive(Debug)]
struct Failed {
    reason: &'static str,
    message: String,
}

impl Failed {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    fn disk(reason: &'static str, doing: &str, path: &Path, error: &io::Error) -> Self {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        let reason = if full.contains(&error.kind()) {
            DISK_FULL
        } else {
            reason
        };
        Self::new(
            reason,
            format!("cannot {doing} {}: {error}", path.display()),
        )
    }
}

/// What an artifact holds; digests are those of `flumina.step.v1.Artifact`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Content {
    size: u64,
    sha256: String,
    directory: bool,
}

/// What all parts of a transfer share.
struct Shared {
    access: Access,
    namespace: String,
    connector: Connector,
    budget: Semaphore,
    stop: watch::Sender<bool>,
    abort: Abort,
}

impl Shared {
    fn bucket(&self, uri: &str) -> Result<Bucket, Error> {
        let location = Location::parse(uri)?;
        Bucket::open(&self.access, &self.namespace, &location, &self.connector)
    }

    /// Waits for room for so many bytes; a part above the whole budget takes all of it.
    async fn room(&self, bytes: u64) -> Result<tokio::sync::SemaphorePermit<'_>, Failed> {
        let permits = bytes.clamp(64 * 1024, BUDGET as u64) as u32;
        let room = self.budget.acquire_many(permits).await;
        room.map_err(|_| stopped())
    }

    /// Returns when it was told to stop.
    async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        if stop.wait_for(|&stop| stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for all, a few at a time, in order. After the first failure the rest are told to stop, and waited for: what they
    /// began in a store must be withdrawn.
    async fn all<T, F: Future<Output = Result<T, Failed>>>(
        &self,
        jobs: impl Iterator<Item = F>,
    ) -> Result<Vec<T>, Failed> {
        let mut failed: Option<Failed> = None;
        let mut done = Vec::new();
        let mut jobs = std::pin::pin!(futures_util::stream::iter(jobs).buffered(AT_ONCE));
        while let Some(result) = jobs.next().await {
            match result {
                Ok(value) => done.push(value),
                Err(error) => {
                    self.stop.send_replace(true);
                    // Those that were told to stop say only that.
                    if failed.as_ref().is_none_or(|first| first.reason == STOPPED) {
                        failed = Some(error);
                    }
                }
            }
        }
        match failed {
            None => Ok(done),
            Some(failed) => Err(failed),
        }
    }
}

fn stopped() -> Failed {
    Failed::new(STOPPED, "stopped on request while artifacts were moved")
}

/// Runs the program with what follows its name; 0 when a report is written, whatever it says.
pub fn run(args: &[OsString]) -> ExitCode {
    let [request, report] = args else {
        eprintln!("usage: transfer REQUEST REPORT");
        return ExitCode::from(64);
    };
    match transfer(Path::new(request), Path::new(report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the transfer failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn transfer(request: &Path, report: &Path) -> io::Result<()> {
    // An agent that is gone has nobody to tell, and the attempt is lost.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // What signs in comes into this memory, and steps run as the same user.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let abort = Abort::from_env();
    let request = std::fs::read(request)?;
    let request = TransferRequest::decode(request.as_slice()).map_err(io::Error::other)?;
    if request.upload {
        // Except that a store should not keep what was begun.
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    abort.point("transfer.started");
    let access = std::fs::read(&request.access_file)?;
    let mut access: Access = serde_json::from_slice(&access).map_err(io::Error::other)?;
    if request.secrets {
        let mut given = Vec::new();
        io::stdin().take(MAX_SECRETS).read_to_end(&mut given)?;
        // What does not parse is not quoted.
        let secrets = serde_json::from_slice(&given)
            .map_err(|_| io::Error::other("the secrets of the stores cannot be read"))?;
        access = access.with_secrets(secrets);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut written = runtime.block_on(async {
        let stop = watch::Sender::new(false);
        let mut terminated =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let moved = moved(&request, access, stop.clone(), abort.clone());
        tokio::pin!(moved);
        tokio::select! {
            report = &mut moved => return io::Result::Ok(report),
            _ = terminated.recv() => {
                stop.send_replace(true);
            }
        }
        let withdrawn = tokio::time::timeout(LAST, moved).await;
        withdrawn.map_err(io::Error::from)
    })?;
    abort.point("transfer.moved");
    written.peak_memory_bytes = peak_memory();
    let temporary = report.with_extension("tmp");
    std::fs::write(&temporary, written.encode_to_vec())?;
    abort.point("transfer.report_tmp");
    std::fs::rename(&temporary, report)?;
    abort.point("transfer.reported");
    Ok(())
}

/// Moves everything that a request names.
pub async fn move_all(
    request: &TransferRequest,
    access: Access,
    stop: watch::Sender<bool>,
) -> TransferReport {
    moved(request, access, stop, Abort::default()).await
}

async fn moved(
    request: &TransferRequest,
    access: Access,
    stop: watch::Sender<bool>,
    abort: Abort,
) -> TransferReport {
    let shared = Shared {
        connector: Connector::new(&access),
        access,
        namespace: request.namespace.clone(),
        budget: Semaphore::new(BUDGET),
        stop,
        abort,
    };
    let moves = request.items.iter().map(|item| async {
        let moved = if request.upload {
            upload::artifact(&shared, item).await
        } else {
            download::artifact(&shared, item).await.map(Some)
        };
        moved.map(transferred)
    });
    let moved = shared.all(moves).await;
    match moved {
        Ok(items) => TransferReport {
            items,
            ..TransferReport::default()
        },
        Err(failed) => TransferReport {
            reason: failed.reason.to_owned(),
            message: failed.message,
            ..TransferReport::default()
        },
    }
}

fn transferred(content: Option<Content>) -> TransferredItem {
    let present = content.is_some();
    let content = content.unwrap_or_default();
    TransferredItem {
        present,
        size_bytes: content.size,
        sha256: content.sha256,
        directory: content.directory,
    }
}

/// What a message calls an artifact.
fn called(item: &TransferItem, kind: &str) -> String {
    format!("{kind} artifact {:?}", item.name)
}

/// The digest of a directory from those of its files, by path.
fn directory(mut files: Vec<(std::path::PathBuf, u64, String)>) -> Content {
    use std::os::unix::ffi::OsStrExt as _;
    files.sort_unstable();
    let mut list = Sha256::new();
    let mut size = 0;
    for (path, length, sha256) in &files {
        size += length;
        list.update(sha256.as_bytes());
        list.update(b"  ");
        list.update(path.as_os_str().as_bytes());
        list.update(b"\n");
    }
    Content {
        size,
        sha256: hex(&list.finalize()),
        directory: true,
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| {
        [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]
    });
    digits.map(char::from).collect()
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| {
        let number = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?;
        number.trim().parse::<u64>().ok()
    });
    peak.unwrap_or(0) * 1024
}
