//! The data directory: where things are, who uses it, and whether this program may.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The version of the layout of a data directory.
pub(crate) const FORMAT: u32 = 1;
/// The file that makes a directory ours.
pub(crate) const FORMAT_FILE: &str = "flumina.json";
pub(crate) const PIPELINES_DATABASE: &str = "pipeline-orchestrator.sqlite";
pub(crate) const RUNNER_DATABASE: &str = "runner.sqlite";
pub(crate) const LOCK: &str = "lock";
pub(crate) const UP: &str = "up.json";
pub(crate) const DOWN: &str = "down.json";

/// How long one that was killed may take to go.
const DYING: Duration = Duration::from_secs(1);
/// How long what it was forking may take to become another program.
const FORKING: Duration = Duration::from_secs(10);

/// Where data is unless somebody says otherwise, by the XDG base directory specification:
/// `$XDG_DATA_HOME/flumina`, or `~/.local/share/flumina`.
///
/// # Errors
/// The environment names neither.
#[expect(
    clippy::disallowed_methods,
    reason = "the specification defines these variables; read once per command"
)]
pub fn default_data_dir() -> Result<PathBuf, Error> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var(name).ok()?);
        // The specification: a relative path is invalid and is to be ignored.
        path.is_absolute().then_some(path)
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map(|base| base.join("flumina"))
        .ok_or(Error::NoHome)
}

/// The content of [`FORMAT_FILE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) format: u32,
    /// What stored paths begin with; another path than the directory has means that it was moved.
    pub(crate) path: String,
}

/// The content of [`UP`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Up {
    pub(crate) pid: i32,
    /// In clock ticks since the boot, as in /proc/PID/stat: a number that was given away again differs here.
    pub(crate) started: u64,
    pub(crate) version: String,
    /// The public port, once it is open.
    pub(crate) address: Option<SocketAddr>,
    /// The admin port, once it is open.
    pub(crate) admin: Option<SocketAddr>,
}

impl Up {
    /// This process.
    pub(crate) fn this() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self {
            pid,
            started: start_time(pid).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            address: None,
            admin: None,
        }
    }

    /// Whether it still runs; one that is dead and was not waited for does not.
    fn runs(&self) -> bool {
        let stat = stat(self.pid);
        let state = stat.as_deref().and_then(|stat| stat.split(' ').next());
        !matches!(state, None | Some("Z" | "X")) && start_time(self.pid) == Some(self.started)
    }

    pub(crate) fn holder(&self) -> String {
        let place = self.address.map(|address| format!(" at {}", url(address)));
        format!("process {}{}", self.pid, place.unwrap_or_default())
    }
}

/// How people reach a bound address: one that stands for all is reached by loopback.
pub(crate) fn url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// When a process started, in clock ticks since the boot: field 22 of proc(5)'s stat.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    stat(pid)?.split(' ').nth(22 - 3)?.parse().ok()
}

/// proc(5)'s stat from field 3 on.
fn stat(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.to_owned())
}

/// A directory, before anybody knows whether it is in use.
#[derive(Debug, Clone)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// A directory that this process uses alone.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) dir: DataDir,
    /// The lock, for as long as this lives.
    _lock: File,
}

impl DataDir {
    /// The directory at `path`, made if it is not there.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path);
        made.map_err(Error::io("make", path))?;
        let dir = Self::existing(path)?;
        if !dir.root.join(FORMAT_FILE).exists() {
            dir.check_unused()?;
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&dir.root, private).map_err(Error::io("protect", path))?;
        }
        Ok(dir)
    }

    /// The directory at `path`, which must be there.
    pub(crate) fn existing(path: &Path) -> Result<Self, Error> {
        let root = fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing(path.to_owned()),
            _ => Error::io("open", path)(error),
        })?;
        if root.to_str().is_none() {
            return Err(Error::NotText(root));
        }
        Ok(Self { root })
    }

    /// Nothing but what an interrupted first start leaves.
    fn check_unused(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.root).map_err(Error::io("read", &self.root))?;
        for entry in entries {
            let name = entry.map_err(Error::io("read", &self.root))?.file_name();
            let known = name.to_str().is_some_and(|name| {
                [LOCK, UP, DOWN, "lost+found"].contains(&name) || name.ends_with(".new")
            });
            if !known {
                return Err(Error::NotOurs(self.root.clone()));
            }
        }
        Ok(())
    }

    /// Takes the directory for this process, unless somebody has it now.
    pub(crate) fn lock(self) -> Result<Locked, Error> {
        match self.try_lock()? {
            Some(lock) => Ok(Locked {
                dir: self,
                _lock: lock,
            }),
            None => Err(self.in_use()),
        }
    }

    /// Takes the directory for this process after one that was killed. What that one was forking has its descriptors, and
    /// with them the lock and its ports, until it becomes another program: a moment, or longer on a busy machine.
    pub(crate) fn lock_after_another(self) -> Result<Locked, Error> {
        if let Some(lock) = self.try_lock()? {
            return Ok(Locked {
                dir: self,
                _lock: lock,
            });
        }
        let path = self.join(LOCK);
        let file = self.open_lock()?;
        let (sender, taken) = mpsc::channel();
        std::thread::spawn(move || {
            let locked = rustix::fs::flock(&file, FlockOperation::LockExclusive);
            // Nobody waits any more when it comes too late; then the file is closed.
            sender.send(locked.map(|()| file)).ok();
        });
        let mut lock = None;
        if self.up().is_none_or(|up| up.runs()) {
            lock = taken.recv_timeout(DYING).ok();
        }
        if lock.is_none()
            && let Some(up) = self.up().filter(|up| !up.runs())
        {
            eprintln!(
                "flumina: waiting for a program that process {} was starting when it died",
                up.pid
            );
            lock = taken.recv_timeout(FORKING).ok();
        }
        let lock = lock.ok_or_else(|| self.in_use())?;
        let lock = lock.map_err(|error| Error::io("lock", &path)(error.into()))?;
        Ok(Locked {
            dir: self,
            _lock: lock,
        })
    }

    fn open_lock(&self) -> Result<File, Error> {
        let path = self.join(LOCK);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))
    }

    fn try_lock(&self) -> Result<Option<File>, Error> {
        let lock = self.open_lock()?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::io("lock", &self.join(LOCK))(error.into())),
        }
    }

    fn in_use(&self) -> Error {
        let holder = match self.up() {
            Some(up) if up.runs() => up.holder(),
            Some(up) => format!("a program that process {} started", up.pid),
            None => "another process".to_owned(),
        };
        Error::InUse {
            dir: self.root.clone(),
            holder,
        }
    }

    /// Who uses the directory, if [`UP`] says so; true only while the lock is held.
    pub(crate) fn up(&self) -> Option<Up> {
        serde_json::from_slice(&fs::read(self.join(UP)).ok()?).ok()
    }

    /// What [`FORMAT_FILE`] says; absent in a directory that was never used.
    pub(crate) fn format(&self) -> Result<Option<Format>, Error> {
        let path = self.join(FORMAT_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let format: Format = serde_json::from_slice(&text)
            .map_err(|error| Error::io("read", &path)(io::Error::from(error)))?;
        if format.format > FORMAT {
            return Err(Error::Newer {
                place: self.root.clone(),
                found: format.format,
                known: FORMAT,
            });
        }
        Ok(Some(format))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory as stored paths begin; it was checked to be text.
    pub(crate) fn text(&self) -> &str {
        self.root.to_str().unwrap_or_default()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Removes one of the small files; a missing one is fine.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "cannot remove a file");
            }
            _ => {}
        }
    }
}

impl Locked {
    /// Writes that the directory is of this program's format and has stored paths of its own.
    pub(crate) fn write_format(&self) -> Result<(), Error> {
        let format = Format {
            format: FORMAT,
            path: self.dir.text().to_owned(),
        };
        write_json(&self.dir.join(FORMAT_FILE), &format)
    }

    /// Tells others who uses the directory.
    pub(crate) fn write_up(&self, up: &Up) -> Result<(), Error> {
        write_json(&self.dir.join(UP), up)
    }
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let write = || {
        let mut text = serde_json::to_vec(value)?;
        text.push(b'\n');
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user() {
        let temp = testkit::temp_dir();
        let path = temp.path().join("new/data");
        let first = DataDir::create(&path).unwrap().lock().unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let mut up = Up::this();
        up.address = Some("127.0.0.1:8080".parse().unwrap());
        first.write_up(&up).unwrap();
        let text = DataDir::create(&path)
            .unwrap()
            .lock()
            .unwrap_err()
            .to_string();
        let pid = std::process::id();
        assert!(
            text.contains(&format!("process {pid} at http://127.0.0.1:8080")),
            "{text}"
        );
        drop(first);
        DataDir::create(&path).unwrap().lock().unwrap();
    }

    #[test]
    fn a_newer_format_is_refused() {
        let temp = testkit::temp_dir();
        let dir = DataDir::create(temp.path()).unwrap();
        assert_eq!(dir.format().unwrap(), None);
        dir.clone().lock().unwrap().write_format().unwrap();
        assert_eq!(dir.format().unwrap().unwrap().path, dir.text());
        fs::write(
            dir.join(FORMAT_FILE),
            r#"{"format": 2, "path": "/x", "more": 1}"#,
        )
        .unwrap();
        let text = dir.format().unwrap_err().to_string();
        assert!(
            text.contains("format 2") && text.contains("up to 1"),
            "{text}"
        );
    }

    #[test]
    fn somebody_elses_directory_is_refused() {
        let temp = testkit::temp_dir();
        fs::write(temp.path().join("thesis.tex"), "").unwrap();
        let error = DataDir::create(temp.path()).unwrap_err();
        assert!(matches!(error, Error::NotOurs(_)), "{error}");
    }

    #[test]
    fn an_address_for_all_is_shown_as_loopback() {
        let table = [
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
            ("192.0.2.1:80", "http://192.0.2.1:80"),
        ];
        for (address, shown) in table {
            assert_eq!(url(address.parse().unwrap()), shown);
        }
    }
}
