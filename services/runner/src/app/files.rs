//! The directories of workloads.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use api_step::v1::{Assignment, ExitRecord, Outcome, StepResult};
use ids::WorkloadId;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::sys;

/// The data directory.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    temporary: PathBuf,
}

/// What a workload's directory tells.
#[derive(Debug)]
pub(crate) enum Found {
    /// Nothing was started: no agent holds the lock and none passed the point of no return.
    Fresh,
    /// An agent lives.
    Held,
    /// There is a result; `clean` when the agent saw the end of every process.
    Done {
        result: Box<StepResult>,
        clean: bool,
    },
    /// The program may have run, the agent is gone, and there is no result.
    Died,
}

impl Files {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            root: data_dir.join("workloads"),
            temporary: data_dir.join("t"),
        }
    }

    /// Where a workload has its temporary files. Programs make sockets there, whose paths end after 107 bytes wherever they
    /// begin: those of Python's `multiprocessing` need 32 of them, so this path has no more than it must.
    pub(crate) fn temporary(&self, id: &WorkloadId) -> PathBuf {
        self.temporary.join(short(id))
    }

    /// A workload's directory. One level of folders keeps each small: ids of a run share their beginning, so the
    /// level comes from a digest.
    pub(crate) fn dir(&self, id: &WorkloadId) -> PathBuf {
        let sum = id
            .as_str()
            .bytes()
            .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        self.root.join(format!("{sum:02x}")).join(id.as_str())
    }

    /// The ids of all directories.
    pub(crate) fn ids(&self) -> Vec<WorkloadId> {
        let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        entries(&self.root)
            .flat_map(|group| entries(&group.path()))
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    pub(crate) fn log(&self, id: &WorkloadId) -> PathBuf {
        self.dir(id).join("log")
    }

    /// Makes a workload's directory with its assignment.
    pub(crate) fn place(&self, id: &WorkloadId, assignment: &Assignment) -> Result<(), Error> {
        let dir = self.dir(id);
        for path in [dir.join("work"), self.temporary(id)] {
            fs::create_dir_all(&path).map_err(Error::io(&path))?;
        }
        // Followers of the log can wait on it from now on.
        let log = dir.join("log");
        let opened = fs::OpenOptions::new().create(true).append(true).open(&log);
        opened.map_err(Error::io(&log))?;
        let path = dir.join("assignment");
        replace(&path, &assignment.encode_to_vec()).map_err(Error::io(&path))
    }

    /// Asks the agent to stop.
    pub(crate) fn mark_stop(&self, id: &WorkloadId) -> Result<(), Error> {
        let path = self.dir(id).join("stop");
        match fs::write(&path, b"") {
            Ok(()) => Ok(()),
            // It is not placed yet; whoever places it looks at its state first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }

    /// Removes a workload's directory.
    pub(crate) fn remove(&self, id: &WorkloadId) -> Result<(), Error> {
        remove_tree(&self.temporary(id))?;
        remove_tree(&self.dir(id))
    }

    /// The size of a workload's log.
    pub(crate) fn log_bytes(&self, id: &WorkloadId) -> u64 {
        fs::metadata(self.log(id)).map_or(0, |file| file.len())
    }

    pub(crate) fn assignment(&self, id: &WorkloadId) -> Result<Assignment, Error> {
        let path = self.dir(id).join("assignment");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotStarted(id.to_string()));
            }
            Err(error) => return Err(Error::io(&path)(error)),
        };
        Assignment::decode(bytes.as_slice())
            .map_err(|error| Error::io(&path)(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// The last lines that the agent itself wrote.
    pub(crate) fn agent_log(&self, id: &WorkloadId) -> String {
        tail(&self.dir(id).join("agent.log"), 2000)
    }

    /// Looks at a workload's directory.
    pub(crate) fn inspect(&self, id: &WorkloadId) -> io::Result<Found> {
        let dir = self.dir(id);
        // The lock first: what an agent wrote before it let go is seen afterwards.
        if sys::locked(&dir.join("lock"))? {
            return Ok(Found::Held);
        }
        if let Some(result) = read_result(&dir.join("result"))? {
            let exit = fs::read(dir.join("exit")).ok();
            let clean = exit.is_some_and(|bytes| {
                ExitRecord::decode(bytes.as_slice()).is_ok_and(|record| {
                    record.attempt_id == id.as_str() || record.attempt_id.is_empty()
                })
            });
            return Ok(Found::Done {
                result: Box::new(result),
                clean,
            });
        }
        if dir.join("started").try_exists()? {
            return Ok(Found::Died);
        }
        Ok(Found::Fresh)
    }
}

/// A name for an id that is short, and another for every id.
fn short(id: &WorkloadId) -> String {
    let digest = Sha256::digest(id.as_str());
    digest.iter().take(8).fold(String::new(), |mut name, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(name, "{byte:02x}");
        name
    })
}

/// The result, unless there is none; one that a power cut left empty counts as none.
fn read_result(path: &Path) -> io::Result<Option<StepResult>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let result = StepResult::decode(bytes.as_slice()).ok();
    Ok(result.filter(|result| result.outcome() != Outcome::Unspecified))
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    fs::File::create(&temporary)?.write_all(content)?;
    fs::rename(&temporary, path)
}

/// Removes a tree, also where its directories are read-only; a missing one is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => make_writable(path),
        // Something is still being written there; once more.
        Err(_) => {}
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    if !meta.is_dir() {
        return;
    }
    let permissions = fs::Permissions::from_mode(meta.permissions().mode() | 0o700);
    if let Err(error) = fs::set_permissions(path, permissions) {
        tracing::debug!(path = %path.display(), %error, "cannot make a directory writable");
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        make_writable(&entry.path());
    }
}

/// The last `limit` bytes of a file, from the beginning of a line.
pub(crate) fn tail(path: &Path, limit: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        use std::io::Seek as _;
        let mut file = fs::File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(size.saturating_sub(limit)))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        if size > limit
            && let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
        {
            bytes.drain(..=end);
        }
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default())
        .trim()
        .to_owned()
}
