//! The result of a step, from how its program ended.

use std::path::Path;

use api_step::v1::{Assignment, Outcome, StepResult, Usage};

use crate::failure::{self, Failure};
use crate::supervise::{self, Cause, Ended};
use crate::{explain, sys};

/// How a step ends that fails for a reason.
pub(crate) fn outcome(failure: &Failure) -> Outcome {
    match failure.reason {
        failure::STOPPED => Outcome::Stopped,
        failure::TIMED_OUT => Outcome::TimedOut,
        _ => Outcome::Failed,
    }
}

/// A result without a program.
pub(crate) fn failed(failure: Failure) -> StepResult {
    StepResult {
        outcome: outcome(&failure).into(),
        reason: failure.reason.to_owned(),
        message: failure.message,
        ended_at_us: sys::now_us(),
        ..StepResult::default()
    }
}

/// A step that was stopped before its program started.
pub(crate) fn stopped_before_start() -> StepResult {
    failed(Failure::new(
        failure::STOPPED,
        "stopped on request before the program started",
    ))
}

/// The result of a program that ended; outputs are not collected yet.
pub(crate) fn ended(assignment: &Assignment, ended: &Ended, log: &Path) -> StepResult {
    let used = sys::used_by_children();
    let mut result = StepResult {
        exit_code: ended.status.exit_status(),
        signal: ended.status.terminating_signal(),
        usage: Some(Usage {
            peak_memory_bytes: supervise::cgroup_peak(assignment)
                .unwrap_or(0)
                .max(ended.peak),
            user_cpu_us: used.user_us,
            system_cpu_us: used.system_us,
        }),
        ended_at_us: sys::now_us(),
        ..StepResult::default()
    };
    let (outcome, reason, message) = judge(assignment, ended, log);
    result.set_outcome(outcome);
    result.reason = reason.to_owned();
    result.message = message;
    result
}

fn judge(assignment: &Assignment, ended: &Ended, log: &Path) -> (Outcome, &'static str, String) {
    match ended.cause {
        Some(Cause::Stopped) => {
            return (
                Outcome::Stopped,
                failure::STOPPED,
                "stopped on request".to_owned(),
            );
        }
        Some(Cause::TimedOut) => {
            let message = ran_too_long(assignment);
            return (Outcome::TimedOut, failure::TIMED_OUT, message);
        }
        Some(Cause::OutOfMemory(used)) => {
            let message = format!(
                "used {}, more than its memory limit of {}; raise the limit of the task",
                mebibytes(used),
                mebibytes(assignment.memory_limit_bytes)
            );
            return (Outcome::OomKilled, failure::OUT_OF_MEMORY, message);
        }
        None => {}
    }
    if let Some(signal) = ended.status.terminating_signal() {
        if signal == libc::SIGKILL && supervise::cgroup_oom(assignment) {
            let message = "the kernel ended it at the memory limit of its cgroup; raise the limit of the task";
            return (
                Outcome::OomKilled,
                failure::OUT_OF_MEMORY,
                message.to_owned(),
            );
        }
        let hint = match signal {
            libc::SIGKILL => "; nobody asked for it here: perhaps the machine ran out of memory",
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGABRT => "; the program crashed",
            _ => "",
        };
        let message = format!("ended by signal {signal}{hint}{}", with_log(log));
        return (Outcome::Failed, failure::PROGRAM_SIGNALED, message);
    }
    match ended.status.exit_status() {
        Some(0) => (Outcome::Succeeded, "", String::new()),
        code => {
            let message = format!("exit code {}{}", code.unwrap_or(-1), with_log(log));
            (Outcome::Failed, failure::PROGRAM_FAILED, message)
        }
    }
}

fn with_log(log: &Path) -> String {
    match explain::from_log(log) {
        text if text.is_empty() => text,
        text => format!("; {text}"),
    }
}

/// Says what the limit of time was.
pub(crate) fn ran_too_long(assignment: &Assignment) -> String {
    let limit = seconds(assignment.timeout_ms);
    format!("ran longer than its limit of {limit}")
}

fn seconds(millis: u64) -> String {
    format!("{} s", millis as f64 / 1000.0)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
