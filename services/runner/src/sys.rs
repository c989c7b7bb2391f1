//! Every system call that the standard library does not offer, and the parts of /proc that are read.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, inotify};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::unix::AsyncFd;

/// A process that cannot be mistaken for another.
#[derive(Debug)]
pub(crate) struct Process {
    fd: AsyncFd<OwnedFd>,
    pid: i32,
    child: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// It was not our child.
    Unknown,
}

impl Process {
    /// Starts a program; it reads `input`, and its standard output and error go to `output`.
    pub(crate) fn spawn(
        command: &mut Command,
        input: Option<File>,
        output: File,
    ) -> io::Result<Self> {
        let errors = output.try_clone()?;
        let child = command
            .stdin(input.map_or_else(Stdio::null, Stdio::from))
            .stdout(output)
            .stderr(errors)
            .spawn()?;
        // The child is not reaped before we do it, so its number is its own until then.
        Self::open(child.id() as i32, true)
    }

    /// Takes hold of a process that runs; the caller checks afterwards that it is the right one.
    pub(crate) fn attach(pid: i32) -> io::Result<Self> {
        Self::open(pid, false)
    }

    fn open(pid: i32, child: bool) -> io::Result<Self> {
        let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = rustix::process::pidfd_open(raw, PidfdFlags::NONBLOCK)?;
        Ok(Self {
            fd: register(fd)?,
            pid,
            child,
        })
    }

    /// Its number, for reading /proc.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends a signal; nothing happens when it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = rustix::process::pidfd_send_signal(self.fd.get_ref(), signal) {
            tracing::debug!(pid = self.pid, %error, "a process was gone before its signal");
        }
    }

    /// Waits until it has ended, and reaps it when it is our child.
    pub(crate) async fn wait(&self) -> io::Result<Exit> {
        let _ready = self.fd.readable().await?;
        if !self.child {
            return Ok(Exit::Unknown);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let id = WaitId::PidFd(self.fd.get_ref().as_fd());
        let Some(status) = rustix::process::waitid(id, options)? else {
            return Ok(Exit::Unknown);
        };
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        })
    }
}

/// Lets tokio wait for a descriptor.
#[expect(unsafe_code, reason = "tokio asks its callers to promise ownership")]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value that is registered, which nobody takes out or closes earlier.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

/// Whether somebody else holds the lock of a file; a missing file is free.
pub(crate) fn locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Shared, so that two observers do not take each other for the holder.
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Blocks the thread until nobody holds the lock of a file.
pub(crate) fn wait_unlocked(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    rustix::fs::flock(&file, FlockOperation::LockShared)?;
    Ok(())
}

/// Takes the lock of a file for as long as the returned file is open; none when another process has it. One that was
/// killed has it a moment longer: what it was forking keeps its descriptors until it becomes another program.
pub(crate) fn lock(path: &Path) -> io::Result<Option<File>> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => {}
        Err(error) => return Err(error.into()),
    }
    let (sender, taken) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = rustix::fs::flock(&file, FlockOperation::LockExclusive);
        // Nobody waits any more when it comes too late; then the file is closed.
        sender.send(locked.map(|()| file)).ok();
    });
    let taken = taken.recv_timeout(PATIENCE).ok();
    Ok(taken.transpose()?)
}

/// The process that holds the lock of a file, as the kernel's list of locks names it.
pub(crate) fn lock_holder(path: &Path) -> Option<i32> {
    let inode = fs::metadata(path).ok()?.ino().to_string();
    let list = fs::read_to_string("/proc/locks").ok()?;
    // `7: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; device numbers differ on some file systems, so the inode
    // counts, and the caller checks that the lock is still held once it has the process.
    list.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["FLOCK", _, "WRITE", pid, place, ..] = words.get(1..)? else {
            return None;
        };
        let held = place.rsplit(':').next()? == inode;
        let pid: i32 = pid.parse().ok()?;
        (held && pid > 0 && runs_agent(pid, path)).then_some(pid)
    })
}

/// Whether the command line of a process names the directory of the lock.
fn runs_agent(pid: i32, lock: &Path) -> bool {
    let Some(dir) = lock.parent() else {
        return false;
    };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .any(|word| word == dir.as_os_str().as_encoded_bytes())
}

/// How the processes of a workload are known.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    entry: Vec<u8>,
    /// Its log, which is the output of its processes.
    log: PathBuf,
    /// Its folder for temporary files, and how the same folder ends in any data directory.
    own_tmp: Vec<u8>,
    any_tmp: Vec<u8>,
}

impl Mark {
    /// Processes of the workload `id` in the directory `dir`, and not those of the same id in a copy of it elsewhere:
    /// a restored backup must not harm the original.
    pub(crate) fn new(id: &str, dir: &Path, temporary: &Path) -> Self {
        let name = temporary.file_name().unwrap_or_default();
        Self {
            entry: format!("FLUMINA_ATTEMPT={id}").into_bytes(),
            log: dir.join("log"),
            own_tmp: temporary.as_os_str().as_encoded_bytes().to_owned(),
            any_tmp: [b"/t/", name.as_encoded_bytes()].concat(),
        }
    }

    fn is_on(&self, pid: i32) -> bool {
        // One that cleared its environment still writes to where its program did.
        let writes = |fd| fs::read_link(format!("/proc/{pid}/fd/{fd}"));
        if [1, 2]
            .map(writes)
            .into_iter()
            .flatten()
            .any(|to| to == self.log)
        {
            return true;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut marked = false;
        for item in environment.split(|byte| *byte == 0) {
            marked |= item == self.entry;
            if let Some(tmp) = item.strip_prefix(b"TMPDIR=")
                && tmp.ends_with(&self.any_tmp)
                && tmp != self.own_tmp
            {
                return false;
            }
        }
        marked
    }
}

fn marked_processes(mark: &Mark) -> Vec<i32> {
    let Ok(list) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    list.flatten()
        .filter_map(|item| item.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| mark.is_on(*pid))
        .collect()
}

/// Sends SIGKILL to every process of a workload and returns how many there were.
pub(crate) fn kill_marked(mark: &Mark) -> usize {
    let mut killed = 0;
    for pid in marked_processes(mark) {
        let Some(raw) = Pid::from_raw(pid) else {
            continue;
        };
        let Ok(fd) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else {
            continue;
        };
        // The number may have been given away before it was opened; what is open now is what is looked at.
        if mark.is_on(pid) {
            killed += 1;
            if let Err(error) = rustix::process::pidfd_send_signal(&fd, Signal::KILL) {
                tracing::debug!(pid, %error, "a survivor was gone before its signal");
            }
        }
    }
    killed
}

/// What is below a process, found by parents; all of it, since an agent is a subreaper and everything that its program
/// ever started stays below it while the agent lives. Those that have ended and were not reaped are not counted.
fn descendants(root: i32) -> Vec<(i32, u64)> {
    let Ok(list) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut below: HashMap<i32, Vec<(i32, Stat)>> = HashMap::new();
    for item in list.flatten() {
        let pid = item.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some(stat) = read_stat(pid)
        {
            below.entry(stat.parent).or_default().push((pid, stat));
        }
    }
    let mut found = Vec::new();
    let mut todo = vec![root];
    while let Some(parent) = todo.pop() {
        for (pid, stat) in below.remove(&parent).unwrap_or_default() {
            todo.push(pid);
            if !stat.ended {
                found.push((pid, stat.start));
            }
        }
    }
    found
}

/// Sends SIGKILL to everything below a process and returns how many there were.
pub(crate) fn kill_below(root: i32) -> usize {
    let found = descendants(root);
    for (pid, start) in &found {
        let Some(raw) = Pid::from_raw(*pid) else {
            continue;
        };
        let Ok(fd) = rustix::process::pidfd_open(raw, PidfdFlags::empty()) else {
            continue;
        };
        // The number may have been given away before it was opened.
        let same = read_stat(*pid).is_some_and(|stat| stat.start == *start);
        if same && let Err(error) = rustix::process::pidfd_send_signal(&fd, Signal::KILL) {
            tracing::debug!(pid, %error, "a process was gone before its signal");
        }
    }
    found.len()
}

/// Memory and CPU time of a process and everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TreeUsage {
    /// Resident memory, in bytes.
    pub(crate) memory_bytes: u64,
    /// CPU time so far, in microseconds; with that of children that have been waited for.
    pub(crate) cpu_us: u64,
}

/// What the subtree of a process uses.
pub(crate) fn tree_usage(root: i32) -> TreeUsage {
    let page = rustix::param::page_size() as u64;
    let tick_us = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    let mut usage = TreeUsage::default();
    let mut todo = vec![root];
    while let Some(pid) = todo.pop() {
        let Some(stat) = read_stat(pid) else { continue };
        usage.memory_bytes += stat.resident_pages * page;
        usage.cpu_us += stat.ticks * tick_us;
        todo.extend(children(pid));
    }
    usage
}

/// What proc(5) tells of a process.
struct Stat {
    parent: i32,
    /// Whether it has ended and was not reaped.
    ended: bool,
    ticks: u64,
    /// When it started; with its number, it is its identity.
    start: u64,
    resident_pages: u64,
}

fn read_stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, so fields count from its end: the state is field 3 of proc(5).
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ended: matches!(*fields.first()?, "Z" | "X"),
        ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        start: number(22)?,
        resident_pages: number(24)?,
    })
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}

/// The id of this boot of the machine.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// Cores in thousandths and memory in bytes that this process may use.
pub(crate) fn machine() -> (u64, u64) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let info = rustix::system::sysinfo();
    let total = info.totalram as u64 * u64::from(info.mem_unit.max(1));
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    (cores * 1000, limit.map_or(total, |limit| limit.min(total)))
}

/// Which watched files grew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grown {
    /// Those with these watches.
    Some(Vec<i32>),
    /// More than the kernel could remember: any of them.
    Any,
}

/// Tells when files grow.
#[derive(Debug)]
pub(crate) struct Changes {
    fd: AsyncFd<OwnedFd>,
}

impl Changes {
    /// Without any file.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        Ok(Self {
            fd: register(inotify::init(flags)?)?,
        })
    }

    /// Watches a file and returns the number of the watch; the same file has the same number.
    pub(crate) fn add(&self, path: &Path) -> io::Result<i32> {
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CLOSE_WRITE;
        Ok(inotify::add_watch(self.fd.get_ref(), path, what)?)
    }

    /// Ends a watch.
    pub(crate) fn remove(&self, watch: i32) {
        // The kernel ends it by itself when the file is gone.
        if let Err(error) = inotify::remove_watch(self.fd.get_ref(), watch) {
            tracing::debug!(watch, %error, "a watch had already ended");
        }
    }

    /// Waits for changes; each watch is named once.
    pub(crate) async fn next(&self) -> io::Result<Grown> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut watches = HashSet::new();
            let mut overflow = false;
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        overflow |= event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
                        watches.insert(event.wd());
                    }
                    Err(rustix::io::Errno::WOULDBLOCK) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            ready.clear_ready();
            if overflow {
                return Ok(Grown::Any);
            }
            if !watches.is_empty() {
                return Ok(Grown::Some(watches.into_iter().collect()));
            }
        }
    }
}

/// A file that exists in memory only and goes with its last descriptor, from its beginning.
pub(crate) fn memory_file(content: &[u8]) -> io::Result<File> {
    use std::io::{Seek as _, Write as _};
    let fd = rustix::fs::memfd_create("flumina", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// The name of the machine.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
