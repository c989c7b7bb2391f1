//! Why a step failed without its program being at fault, or what its program did wrong.

use std::io;
use std::path::Path;

/// A reason for machines and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The agent itself could not do its work.
pub(crate) const AGENT_ERROR: &str = "AGENT_ERROR";
/// The step, as it was assigned, cannot be run.
pub(crate) const STEP_INVALID: &str = "STEP_INVALID";
/// A placeholder cannot be replaced.
pub(crate) const PLACEHOLDER_INVALID: &str = "PLACEHOLDER_INVALID";
/// An input is not where this machine can read it.
pub(crate) const INPUT_UNAVAILABLE: &str = "INPUT_UNAVAILABLE";
/// What was fetched is not what was stored.
pub(crate) const INPUT_CORRUPT: &str = "INPUT_CORRUPT";
/// An output could not be brought to its store.
pub(crate) const OUTPUT_NOT_STORED: &str = "OUTPUT_NOT_STORED";
/// An output was written to while it was stored.
pub(crate) const OUTPUT_CHANGED: &str = "OUTPUT_CHANGED";
/// The program that moves artifacts did not do its work.
pub(crate) const TRANSFER_FAILED: &str = "TRANSFER_FAILED";
/// There is nothing to run.
pub(crate) const NO_COMMAND: &str = "NO_COMMAND";
/// The program does not exist.
pub(crate) const PROGRAM_NOT_FOUND: &str = "PROGRAM_NOT_FOUND";
/// The program exists but cannot be executed.
pub(crate) const PROGRAM_NOT_EXECUTABLE: &str = "PROGRAM_NOT_EXECUTABLE";
/// An argument or a variable is too large for the operating system.
pub(crate) const ARGUMENT_TOO_LARGE: &str = "ARGUMENT_TOO_LARGE";
/// The program ended with another code than 0.
pub(crate) const PROGRAM_FAILED: &str = "PROGRAM_FAILED";
/// The program was ended by a signal that we did not send.
pub(crate) const PROGRAM_SIGNALED: &str = "PROGRAM_SIGNALED";
/// A declared parameter was not written.
pub(crate) const OUTPUT_MISSING: &str = "OUTPUT_MISSING";
/// An output cannot be read as what it should be.
pub(crate) const OUTPUT_INVALID: &str = "OUTPUT_INVALID";
/// A parameter is larger than allowed.
pub(crate) const OUTPUT_TOO_LARGE: &str = "OUTPUT_TOO_LARGE";
/// The kernel does not let this user mount anything.
pub(crate) const MOUNT_NOT_PERMITTED: &str = "MOUNT_NOT_PERMITTED";
/// Something would be hidden that the step needs.
pub(crate) const MOUNT_REFUSED: &str = "MOUNT_REFUSED";
/// A mount failed.
pub(crate) const MOUNT_FAILED: &str = "MOUNT_FAILED";
/// The disk is full.
pub(crate) const DISK_FULL: &str = "DISK_FULL";
/// It was stopped on request.
pub(crate) const STOPPED: &str = "STOPPED";
/// It ran longer than its limit.
pub(crate) const TIMED_OUT: &str = "TIMED_OUT";
/// It used more memory than its limit.
pub(crate) const OUT_OF_MEMORY: &str = "OUT_OF_MEMORY";

impl Failure {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            reason,
            message: message.into(),
        }
    }
}

/// Says what was being done to which path; a full disk has a reason of its own.
pub(crate) fn cannot(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let doing = format!("cannot {what} {}", path.display());
    move |error| {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DISK_FULL,
            _ => AGENT_ERROR,
        };
        Failure::new(reason, format!("{doing}: {error}"))
    }
}
