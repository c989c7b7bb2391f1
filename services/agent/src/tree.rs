//! The processes below the agent, and how much memory they use.
//!
//! The agent is a subreaper, so everything that the program ever started is a descendant of the agent. Listing all of
//! /proc for every sample would cost more than the step itself on a busy machine; instead the processes that are already known
//! are read, and of the others only those whose ids were given out since the last sample.
//!
//! What processes share counts in the resident memory of each of them: a parent that forks six idle children seems to use
//! seven times what it does. The kernel also tells the proportional share (PSS, proc_pid_smaps(5)), but walks every page
//! for it; so it is asked only where the cheap sum says more than was already known.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::sys;

/// How many new ids are looked at one by one before a listing of /proc is cheaper.
const FEW: i32 = 256;
/// A full listing may take at most this part of the time.
const LISTING_SHARE: u32 = 50;
/// The shortest time between two listings that are made for safety only.
const LISTING_INTERVAL: Duration = Duration::from_secs(2);

/// What is known about one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Process {
    parent: i32,
    /// Not the leader of its threads, hence no process.
    thread: bool,
    resident: u64,
    highest: u64,
}

/// The subtree, as far as it is known.
pub(crate) struct Tree {
    root: i32,
    known: BTreeMap<i32, Process>,
    seen_until: i32,
    seen_before: i32,
    next_listing: Duration,
}

impl Tree {
    /// The descendants of this process.
    pub(crate) fn new() -> Tree {
        Tree {
            root: rustix::process::getpid().as_raw_nonzero().get(),
            known: BTreeMap::new(),
            seen_until: 0,
            seen_before: 0,
            next_listing: Duration::ZERO,
        }
    }

    /// Adds a child that was just started, so that the first sample finds it without a search.
    pub(crate) fn add(&mut self, pid: i32) {
        self.known.insert(pid, Process::default());
        self.seen_until = last_id().unwrap_or(pid);
        self.seen_before = pid;
        self.next_listing = sys::monotonic() + LISTING_INTERVAL;
    }

    /// The memory in use now, in bytes: the highest that a single process had, or the sum over several. A result above
    /// `known` counts what processes share once; one that is not may be too high, but is below the truth of before.
    pub(crate) fn memory(&mut self, known: u64) -> u64 {
        self.refresh();
        let highest = self.known.values().map(|process| process.highest).max();
        let mut sum = self.known.values().map(|process| process.resident).sum();
        if sum > known && self.known.len() > 1 {
            sum = self.known.keys().map(|&pid| proportional(pid)).sum();
        }
        highest.unwrap_or_default().max(sum)
    }

    /// Every process below this one, found afresh, parents before children where ids allow.
    pub(crate) fn descendants(&mut self) -> Vec<i32> {
        self.list();
        self.known.keys().copied().collect()
    }

    fn refresh(&mut self) {
        let now = sys::monotonic();
        let newest = last_id();
        let few = newest.is_some_and(|newest| (0..=FEW).contains(&(newest - self.seen_before)));
        if now >= self.next_listing || !few {
            if now >= self.next_listing {
                self.list();
                self.next_listing =
                    now + LISTING_INTERVAL.max((sys::monotonic() - now) * LISTING_SHARE);
                return self.note(newest);
            }
            // Too many for one by one and too early for a listing: only what is known.
            return self.reread();
        }
        self.reread();
        // An id is given out before its process can be seen, so the previous range is looked at once more.
        let candidates = self.seen_before + 1..=newest.unwrap_or(self.seen_until);
        let unknown = candidates.filter(|pid| !self.known.contains_key(pid));
        let read = unknown.filter_map(|pid| Some((pid, read(pid)?))).collect();
        self.adopt(read);
        self.note(newest);
    }

    fn note(&mut self, newest: Option<i32>) {
        self.seen_before = self.seen_until;
        self.seen_until = newest.unwrap_or(self.seen_until);
    }

    fn reread(&mut self) {
        let known = std::mem::take(&mut self.known);
        let read = known
            .keys()
            .filter_map(|&pid| Some((pid, read(pid)?)))
            .collect();
        self.adopt(read);
    }

    fn list(&mut self) {
        self.known.clear();
        let Ok(entries) = fs::read_dir("/proc") else {
            return;
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let read = pids
            .filter_map(|pid: i32| Some((pid, read(pid)?)))
            .collect();
        self.adopt(read);
    }

    /// Keeps those whose parent is the agent or one that is kept.
    fn adopt(&mut self, mut candidates: BTreeMap<i32, Process>) {
        loop {
            let before = candidates.len();
            candidates.retain(|&pid, process| {
                let ours = process.parent == self.root || self.known.contains_key(&process.parent);
                if ours && !process.thread {
                    self.known.insert(pid, *process);
                }
                !ours && !process.thread
            });
            if candidates.len() == before {
                return;
            }
        }
    }
}

/// The process id that was given out last on this machine.
fn last_id() -> Option<i32> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split_ascii_whitespace().next_back()?.parse().ok()
}

fn read(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(parse(pid, &status))
}

/// The share of a process in the memory in use, in bytes; all its resident memory when the kernel does not tell.
fn proportional(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    rollup
        .ok()
        .and_then(|rollup| parse_share(&rollup))
        // Read afresh: the usual reason is that it has ended.
        .or_else(|| Some(read(pid)?.resident))
        .unwrap_or_default()
}

fn parse_share(rollup: &str) -> Option<u64> {
    let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = share.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn parse(pid: i32, status: &str) -> Process {
    let mut process = Process::default();
    for line in status.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let number = || {
            value
                .split_ascii_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok())
        };
        match name {
            "Tgid" => process.thread = number() != Some(u64::from(pid.unsigned_abs())),
            "PPid" => {
                process.parent = number()
                    .and_then(|number| i32::try_from(number).ok())
                    .unwrap_or_default()
            }
            "VmHWM" => process.highest = number().unwrap_or_default() * 1024,
            "VmRSS" => {
                process.resident = number().unwrap_or_default() * 1024;
                break;
            }
            _ => {}
        }
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read() {
        let text = "Name:\tx: y\nTgid:\t7\nPid:\t7\nPPid:\t3\nVmHWM:\t  12 kB\nVmRSS:\t   8 kB\nThreads:\t1\n";
        let want = Process {
            parent: 3,
            thread: false,
            resident: 8192,
            highest: 12288,
        };
        assert_eq!(parse(7, text), want);
        assert!(parse(8, text).thread);
        assert_eq!(parse(7, "Tgid:\t7\nPPid:\t3\n").resident, 0);
    }

    #[test]
    fn shares_are_read() {
        let text = "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:   12 kB\nPss:    5 kB\nPss_Dirty:   1 kB\n";
        assert_eq!(parse_share(text), Some(5 * 1024));
        assert_eq!(parse_share(""), None);
        assert!(proportional(Tree::new().root) > 0);
    }

    #[test]
    fn only_descendants_are_kept_whatever_the_order_of_ids() {
        let mut tree = Tree::new();
        tree.root = 100;
        let process = |parent| Process {
            parent,
            ..Process::default()
        };
        let thread = Process {
            parent: 100,
            thread: true,
            ..Process::default()
        };
        tree.adopt(BTreeMap::from([
            (5, process(200)),
            (6, process(5)),
            (150, thread),
            (200, process(100)),
            (300, process(1)),
            (301, process(300)),
        ]));
        assert_eq!(tree.known.keys().copied().collect::<Vec<_>>(), [5, 6, 200]);
    }

    #[test]
    fn own_children_are_found() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mut tree = Tree::new();
        assert!(tree.descendants().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
