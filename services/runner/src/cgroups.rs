//! A cgroup for each step, below one that was delegated to the runner: the kernel keeps its limits, and nothing of a step
//! outlives it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};

/// The period that shares of cores are counted in, in microseconds.
const PERIOD: u64 = 100_000;
/// How long a killed cgroup may stay as it is, in seconds.
const PATIENCE: i64 = 5;

/// The cgroup of the runner's steps.
#[derive(Debug)]
pub(crate) struct Cgroups {
    dir: PathBuf,
    /// Whether the kernel lets us limit memory there, and cores.
    pub(crate) memory: bool,
    pub(crate) cpu: bool,
}

impl Cgroups {
    /// Takes a delegated cgroup into use.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        if !dir.join("cgroup.procs").is_file() {
            let text = "it is no cgroup: expected a directory below a mount of cgroup2";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // Whether it may make any is better known now than by the first step.
        let trial = dir.join(format!("trial-{}", std::process::id()));
        fs::create_dir(&trial)?;
        let kills = trial.join("cgroup.kill").is_file();
        fs::remove_dir(&trial)?;
        if !kills {
            let text = "this kernel has no cgroup.kill: it is too old, or the cgroup is not one of cgroup2";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let control = dir.join("cgroup.subtree_control");
        let allowed = |name: &str| {
            if let Err(error) = fs::write(&control, format!("+{name}")) {
                tracing::warn!(controller = name, %error, "steps have no such limit by cgroup");
            }
            let on = fs::read_to_string(&control).unwrap_or_default();
            on.split_whitespace().any(|word| word == name)
        };
        Ok(Self {
            dir: dir.to_owned(),
            memory: allowed("memory"),
            cpu: allowed("cpu"),
        })
    }

    /// Makes the cgroup of a step; limits are bytes and thousandths of a core, 0 for none.
    pub(crate) fn make(&self, id: &str, memory: u64, cpu_milli: u64) -> io::Result<PathBuf> {
        let dir = self.dir.join(id);
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if self.memory && memory > 0 {
            fs::write(dir.join("memory.max"), memory.to_string())?;
            // The step ends as a whole, and not later by way of the disk.
            fs::write(dir.join("memory.oom.group"), "1")?;
            if dir.join("memory.swap.max").exists() {
                fs::write(dir.join("memory.swap.max"), "0")?;
            }
        }
        if self.cpu && cpu_milli > 0 {
            let quota = (cpu_milli * PERIOD / 1000).max(1000);
            fs::write(dir.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        }
        Ok(dir)
    }

    /// Kills what is left of a step and removes its cgroup; none is fine.
    pub(crate) fn end(&self, id: &str) -> io::Result<()> {
        let dir = self.dir.join(id);
        match fs::write(dir.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            killed => killed?,
        }
        // What was killed takes a moment to go.
        match emptied(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            waited => waited?,
        }
        match fs::remove_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Waits until no process is left in a cgroup: the kernel tells who polls `cgroup.events` of a change in it.
fn emptied(dir: &Path) -> io::Result<()> {
    let mut events = File::open(dir.join("cgroup.events"))?;
    loop {
        let mut text = String::new();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "populated 0") {
            return Ok(());
        }
        let mut polled = [PollFd::new(&events, PollFlags::PRI)];
        let limit = Timespec {
            tv_sec: PATIENCE,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut polled, Some(&limit))? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "processes do not end",
            ));
        }
    }
}
