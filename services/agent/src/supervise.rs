//! Waits for the program, and ends it when it must.

use std::path::Path;
use std::time::Duration;

use api_step::v1::Assignment;
use rustix::process::{Pid, Signal, WaitStatus};

use crate::sys::{self, Reaped, Signals};
use crate::tree::Tree;

const FIRST_SAMPLE: Duration = Duration::from_millis(5);
const SLOWEST_SAMPLE: Duration = Duration::from_millis(250);
/// Between two samples lies this many times what the first took: the memory of very large steps is slow to count.
const SAMPLE_SHARE: u32 = 10;
/// Between two rounds of SIGKILL, for processes that appeared meanwhile.
pub(crate) const KILL_ROUND: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_secs(3600);

/// Why the agent ended the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// On request.
    Stopped,
    /// Its time was over.
    TimedOut,
    /// It used this much memory, in bytes.
    OutOfMemory(u64),
}

/// How the program ended.
pub(crate) struct Ended {
    pub(crate) status: WaitStatus,
    pub(crate) cause: Option<Cause>,
    /// The highest memory of the subtree, in bytes.
    pub(crate) peak: u64,
}

/// When the time of an assignment is over that begins now.
pub(crate) fn deadline(assignment: &Assignment) -> Option<Duration> {
    let timeout = Duration::from_millis(assignment.timeout_ms);
    (!timeout.is_zero()).then(|| sys::monotonic().saturating_add(timeout))
}

/// The limits of an assignment.
struct Limits {
    memory: u64,
    deadline: Option<Duration>,
    grace: Duration,
}

/// The running program.
pub(crate) struct Supervisor<'a> {
    signals: &'a mut Signals,
    tree: Tree,
    limits: Limits,
    group: i32,
    cause: Option<Cause>,
    kill_at: Option<Duration>,
    peak: u64,
    next_sample: Duration,
    interval: Duration,
}

impl<'a> Supervisor<'a> {
    /// Takes over a program that was just started.
    pub(crate) fn new(
        program: Pid,
        assignment: &Assignment,
        deadline: Option<Duration>,
        signals: &'a mut Signals,
    ) -> Supervisor<'a> {
        let now = sys::monotonic();
        let group = program.as_raw_nonzero().get();
        let mut tree = Tree::new();
        tree.add(group);
        Supervisor {
            signals,
            tree,
            limits: Limits {
                memory: assignment.memory_limit_bytes,
                deadline,
                grace: Duration::from_millis(assignment.stop_grace_ms),
            },
            group,
            cause: None,
            kill_at: None,
            peak: 0,
            next_sample: now + FIRST_SAMPLE,
            interval: FIRST_SAMPLE,
        }
    }

    /// The signals, for who waits for another process meanwhile.
    pub(crate) fn signals(&mut self) -> &mut Signals {
        self.signals
    }

    /// Waits until the program itself has ended; its descendants may live on.
    pub(crate) fn wait_for_program(&mut self) -> Ended {
        loop {
            loop {
                match sys::reap() {
                    Reaped::Child(pid, status) if pid.as_raw_nonzero().get() == self.group => {
                        // What the kernel knows of single processes is a lower bound of the tree's peak, and all there is of a program
                        // that ended before the first sample.
                        return Ended {
                            status,
                            cause: self.cause,
                            peak: self.peak.max(sys::used_by_children().max_rss),
                        };
                    }
                    Reaped::Child(..) => {}
                    Reaped::Running | Reaped::None => break,
                }
            }
            let now = sys::monotonic();
            self.sample(now);
            self.decide(now);
            let wake = self.next_wake();
            self.signals.wait(wake.saturating_sub(now));
        }
    }

    /// Ends whatever the program left behind and returns when no process of the step is left. They have the grace between
    /// SIGTERM and SIGKILL, but not beyond the deadline.
    pub(crate) fn end_rest(&mut self) {
        if self.cause.is_none() {
            self.kill_at = None;
        }
        loop {
            match sys::reap() {
                Reaped::Child(..) => continue,
                Reaped::None => return,
                Reaped::Running => {}
            }
            let now = sys::monotonic();
            match self.kill_at {
                None => {
                    self.terminate(now);
                    if let Some(deadline) = self.limits.deadline {
                        self.kill_at = self.kill_at.map(|at| at.min(deadline.max(now)));
                    }
                }
                Some(at) if now >= at => self.kill(now),
                Some(_) => {}
            }
            self.signals
                .wait(self.kill_at.unwrap_or(now + IDLE).saturating_sub(now));
        }
    }

    fn sample(&mut self, now: Duration) {
        if now < self.next_sample {
            return;
        }
        // The peak is at most the limit until the step is ended, so whatever exceeds the limit was counted exactly.
        let memory = self.tree.memory(self.peak);
        self.peak = self.peak.max(memory);
        self.interval = (self.interval * 2).min(SLOWEST_SAMPLE);
        let after = sys::monotonic();
        self.next_sample = after + self.interval.max((after - now) * SAMPLE_SHARE);
        if self.limits.memory > 0 && memory > self.limits.memory && self.cause.is_none() {
            self.cause = Some(Cause::OutOfMemory(memory));
            self.kill(now);
        }
    }

    fn decide(&mut self, now: Duration) {
        if self.cause.is_none() {
            if self.signals.stop_requested() {
                self.cause = Some(Cause::Stopped);
                self.terminate(now);
            } else if self.limits.deadline.is_some_and(|deadline| now >= deadline) {
                self.cause = Some(Cause::TimedOut);
                self.terminate(now);
            }
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill(now);
        }
    }

    fn next_wake(&self) -> Duration {
        let waiting = self.limits.deadline.filter(|_| self.cause.is_none());
        [waiting, self.kill_at]
            .into_iter()
            .flatten()
            .fold(self.next_sample, Duration::min)
    }

    fn terminate(&mut self, now: Duration) {
        self.signal_all(Signal::TERM);
        self.kill_at = Some(now.saturating_add(self.limits.grace));
    }

    fn kill(&mut self, now: Duration) {
        self.signal_all(Signal::KILL);
        self.kill_at = Some(now + KILL_ROUND);
    }

    fn signal_all(&mut self, signal: Signal) {
        for pid in self.tree.descendants() {
            sys::signal(pid, signal);
        }
    }
}

/// Whether the kernel ended a process of the cgroup for lack of memory.
pub(crate) fn cgroup_oom(assignment: &Assignment) -> bool {
    let events = read_cgroup(assignment, "memory.events");
    events.lines().any(|line| {
        line.strip_prefix("oom_kill ")
            .is_some_and(|count| count.trim() != "0")
    })
}

/// The highest memory of the cgroup, in bytes, when the step has one.
pub(crate) fn cgroup_peak(assignment: &Assignment) -> Option<u64> {
    read_cgroup(assignment, "memory.peak").trim().parse().ok()
}

fn read_cgroup(assignment: &Assignment, file: &str) -> String {
    if assignment.cgroup_dir.is_empty() {
        return String::new();
    }
    std::fs::read_to_string(Path::new(&assignment.cgroup_dir).join(file)).unwrap_or_default()
}
