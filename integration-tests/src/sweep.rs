//! The processes that a data directory's workloads have on this machine.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A supervisor.
    Agent,
    /// A step's program, or something that it started.
    Program,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub pid: i32,
    /// What it is.
    pub kind: Kind,
    /// The workload that it belongs to.
    pub workload: String,
}

/// All agents and programs whose directory is under `dir`. Zombies do not count: they run no more.
pub fn found(dir: &Path) -> Vec<Found> {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let list = fs::read_dir("/proc").expect("the list of processes");
    let pids = list
        .flatten()
        .filter_map(|item| item.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| look(pid, &dir)).collect()
}

fn look(pid: i32, dir: &Path) -> Option<Found> {
    let proc = Path::new("/proc").join(pid.to_string());
    let line = fs::read(proc.join("cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let program = words
        .first()
        .map(|word| String::from_utf8_lossy(word).into_owned())?;
    let argument = Path::new(std::ffi::OsStr::from_bytes(
        words.get(1).copied().unwrap_or_default(),
    ));
    if program.contains("flumina-agent") && argument.starts_with(dir) {
        let workload = argument.file_name()?.to_string_lossy().into_owned();
        return Some(Found {
            pid,
            kind: Kind::Agent,
            workload,
        });
    }
    let environment = fs::read(proc.join("environ")).ok()?;
    let workload = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"FLUMINA_ATTEMPT="))?;
    let inside = fs::read_link(proc.join("cwd")).ok()?.starts_with(dir);
    inside.then(|| Found {
        pid,
        kind: Kind::Program,
        workload: String::from_utf8_lossy(workload).into_owned(),
    })
}

/// Sends SIGKILL to one of them.
pub fn kill(found: &Found) {
    if let Some(pid) = Pid::from_raw(found.pid) {
        // It may have ended by itself.
        kill_process(pid, Signal::KILL).ok();
    }
}

/// Kills everything under `dir` until nothing is left: agents first, so that none says how its program ended.
pub fn kill_all(dir: &Path) {
    testkit::eventually_blocking("every process is killed", crate::LIMIT, || {
        let mut left = found(dir);
        left.sort_by_key(|process| process.kind == Kind::Program);
        left.iter().for_each(kill);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}
