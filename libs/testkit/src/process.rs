//! Programs under test: in a group of their own that dies with the guard, with their output kept.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::wait::Deadline;

/// A running program. Dropping it kills its process group; its output is printed when the test has failed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    ended: Option<ExitStatus>,
}

/// Lines of both outputs as they come.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    /// Outputs that were closed, of two.
    closed: usize,
}

impl Process {
    /// Starts the program in a new process group with both outputs captured.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("a captured output");
        let stderr = child.stderr.take().expect("a captured output");
        output.collect(stdout);
        output.collect(stderr);
        Self {
            name: name.to_owned(),
            child,
            output,
            ended: None,
        }
    }

    /// The process id, which is its group's id too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far on both outputs.
    pub fn output(&self) -> String {
        self.output.lock().all.join("\n")
    }

    /// Waits for a line that starts with `prefix` and returns the rest of it. Blocks its thread.
    pub fn wait_for_line(&self, prefix: &str, limit: Duration) -> String {
        let deadline = Deadline::after(limit);
        let mut lines = self.output.lock();
        loop {
            if let Some(rest) = lines.all.iter().find_map(|line| line.strip_prefix(prefix)) {
                return rest.to_owned();
            }
            if lines.closed == 2 || deadline.passed() {
                let how = if lines.closed == 2 {
                    "before it ended"
                } else {
                    "in time"
                };
                let all = lines.all.join("\n");
                drop(lines);
                panic!(
                    "{} did not print `{prefix}` {how}; it printed\n{all}",
                    self.name
                );
            }
            let waited = self
                .output
                .changed
                .wait_timeout(lines, deadline.remaining());
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            // It may have ended by itself a moment ago.
            kill_process(self.group(), signal).ok();
        }
    }

    /// Sends a signal to the process and all its children that stayed in its group.
    pub fn signal_group(&self, signal: Signal) {
        kill_process_group(self.group(), signal).ok();
    }

    /// Waits for the end. Blocks its thread; panics with the output when `limit` passes first.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        if let Some(status) = self.ended {
            return status;
        }
        let name = self.name.clone();
        let output = Arc::clone(&self.output);
        let status = crate::eventually_blocking(&format!("{name} ends"), limit, || {
            let status = self.child.try_wait().expect("the state of a child");
            status.ok_or_else(|| output.lock().all.join("\n"))
        });
        self.ended = Some(status);
        self.output.wait_for_the_end();
        status
    }

    /// Kills the process, not its group, and waits for its end.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(30))
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        if self.ended.is_none() {
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- {} printed\n{}\n---", self.name, self.output());
        }
    }
}

impl Output {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what a program that has ended still printed. Somebody whom it started may hold its outputs open.
    fn wait_for_the_end(&self) {
        let deadline = Deadline::after(Duration::from_secs(2));
        let mut lines = self.lock();
        while lines.closed < 2 && !deadline.passed() {
            let waited = self.changed.wait_timeout(lines, deadline.remaining());
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn collect(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                output.lock().all.push(text);
                output.changed.notify_all();
                line.clear();
            }
            output.lock().closed += 1;
            output.changed.notify_all();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("shell", command)
    }

    #[test]
    fn a_line_is_waited_for_on_either_output() {
        let process = shell("echo first; echo ready http://x >&2; exec sleep 60");
        assert_eq!(process.wait_for_line("ready ", LIMIT), "http://x");
        assert_eq!(process.wait_for_line("first", LIMIT), "");
        assert_eq!(process.output().lines().count(), 2);
    }

    #[test]
    fn a_program_that_ends_early_fails_the_wait_with_its_output() {
        let process = shell("echo oops; exit 7");
        let wait = std::panic::AssertUnwindSafe(|| process.wait_for_line("ready ", LIMIT));
        let message = *std::panic::catch_unwind(wait)
            .unwrap_err()
            .downcast::<String>()
            .unwrap();
        assert!(
            message.contains("before it ended") && message.contains("oops"),
            "{message}"
        );
    }

    #[test]
    fn the_whole_group_dies_with_the_guard() {
        let process = shell("sleep 60 & echo child $!; wait");
        let child = process.wait_for_line("child ", LIMIT);
        drop(process);
        // The child is reaped by init or stays a zombie of a container's first process; it runs no more.
        crate::eventually_blocking("the child is gone", LIMIT, || {
            let stat = std::fs::read_to_string(Path::new("/proc").join(&child).join("stat"))
                .unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                Ok(())
            } else {
                Err(stat)
            }
        });
    }

    #[test]
    fn the_exit_status_is_returned() {
        let mut process = shell("echo last; exit 3");
        assert_eq!(process.wait(LIMIT).code(), Some(3));
        assert_eq!(process.output(), "last");
        assert_eq!(shell("exec sleep 60").kill().code(), None);
    }
}
