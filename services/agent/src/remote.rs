//! Artifacts in stores of the network: fetched before the program starts, stored after it ended.
//!
//! The agent itself speaks to no store. It starts the transfer program that its assignment names and waits, so a step whose
//! artifacts are all on this machine has none of it in memory.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use api_step::v1::{Assignment, Step, Transfer, TransferItem, TransferReport, TransferRequest};
use prost::Message as _;
use rustix::process::{Pid, Signal, WaitStatus};
use serde_json::Value;
use step::Places;

use crate::failure::{self, Failure, cannot};
use crate::result;
use crate::supervise::{Cause, KILL_ROUND};
use crate::sys::{self, Reaped, Signals};

/// Below the step's directory.
const DIR: &str = "remote";
const IDLE: Duration = Duration::from_secs(3600);

/// Reasons that a transfer may give.
const REASONS: [&str; 7] = [
    failure::INPUT_UNAVAILABLE,
    failure::INPUT_CORRUPT,
    failure::OUTPUT_NOT_STORED,
    failure::OUTPUT_CHANGED,
    failure::OUTPUT_INVALID,
    failure::DISK_FULL,
    failure::STOPPED,
];

/// Where the step finds what is in stores of the network.
pub(crate) fn places(dir: &Path, assignment: &Assignment, step: &Step, inputs: &Value) -> Places {
    if assignment.transfer.is_none() {
        return Places::default();
    }
    let outputs = step.output_artifacts.iter();
    let dir = dir.join(DIR).to_string_lossy().into_owned();
    Places::new(&dir, inputs, outputs.map(|artifact| artifact.uri.as_str()))
}

/// What to fetch before the program starts; the name of an input is for messages.
pub(crate) fn inputs(places: &Places, step: &Step, inputs: &Value) -> Vec<TransferItem> {
    let names = step::places::remote_inputs(inputs);
    let paths = places.inputs().iter();
    let items = names
        .into_iter()
        .zip(paths)
        .map(|((name, _), (uri, path))| TransferItem {
            name,
            uri: uri.clone(),
            path: path.clone(),
            sha256: step.input_digests.get(uri).cloned().unwrap_or_default(),
        });
    // An artifact that only describes something has no content, here as in a directory.
    let described = |uri: &str| step.input_digests.get(uri).is_some_and(String::is_empty);
    items.filter(|item| !described(&item.uri)).collect()
}

/// Brings artifacts to stores and back.
pub(crate) struct Courier<'a> {
    dir: &'a Path,
    attempt: &'a str,
    transfer: Option<&'a Transfer>,
    /// What the transfer signs in with, besides the access file.
    secrets: &'a [u8],
    /// When the time of the step is over, which counts for transfers as for its program.
    deadline: Option<Duration>,
    /// What a transfer may take to withdraw what it began: the same that the program has to end.
    grace: Duration,
    too_long: String,
    signals: &'a mut Signals,
}

impl<'a> Courier<'a> {
    pub(crate) fn new(
        dir: &'a Path,
        assignment: &'a Assignment,
        secrets: &'a [u8],
        deadline: Option<Duration>,
        signals: &'a mut Signals,
    ) -> Courier<'a> {
        Courier {
            dir,
            attempt: &assignment.attempt_id,
            transfer: assignment.transfer.as_ref(),
            secrets,
            deadline,
            grace: Duration::from_millis(assignment.stop_grace_ms),
            too_long: result::ran_too_long(assignment),
            signals,
        }
    }

    /// Fetches inputs.
    pub(crate) fn fetch(&mut self, items: Vec<TransferItem>) -> Result<(), Failure> {
        if items.is_empty() {
            return Ok(());
        }
        self.run("fetch", false, items).map(drop)
    }

    /// Stores outputs; the report has an item for each.
    pub(crate) fn store(&mut self, items: Vec<TransferItem>) -> Result<TransferReport, Failure> {
        if items.is_empty() {
            return Ok(TransferReport::default());
        }
        self.run("store", true, items)
    }

    fn run(
        &mut self,
        name: &str,
        upload: bool,
        items: Vec<TransferItem>,
    ) -> Result<TransferReport, Failure> {
        let Some(transfer) = self.transfer else {
            return Err(no_transfer("nothing here can reach stores of the network"));
        };
        let expected = items.len();
        let request = TransferRequest {
            access_file: transfer.access_file.clone(),
            namespace: transfer.namespace.clone(),
            upload,
            items,
            secrets: !self.secrets.is_empty(),
        };
        let base = self.dir.join(DIR);
        fs::create_dir_all(&base).map_err(cannot("make the directory", &base))?;
        let (asked, told) = (
            base.join(format!("{name}.request")),
            base.join(format!("{name}.report")),
        );
        fs::write(&asked, request.encode_to_vec()).map_err(cannot("write", &asked))?;
        // One of an earlier start, or one that a program wrote, says nothing of this transfer.
        match fs::remove_file(&told) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot("remove", &told)(error));
            }
            Ok(()) | Err(_) => {}
        }
        if let Some(cause) = self.cause() {
            return Err(self.ended(cause, upload));
        }
        let pid = self.start(transfer, &asked, &told)?;
        let (status, cause) = self.wait(pid);
        let whole = status.and_then(WaitStatus::exit_status) == Some(0);
        let report = whole
            .then(|| fs::read(&told).ok())
            .flatten()
            .and_then(|bytes| TransferReport::decode(bytes.as_slice()).ok());
        let moved = report
            .as_ref()
            .is_some_and(|report| report.reason.is_empty());
        if let Some(cause) = cause.filter(|_| !moved) {
            return Err(self.ended(cause, upload));
        }
        let Some(report) = report else {
            let how = match (
                status.and_then(WaitStatus::exit_status),
                status.and_then(WaitStatus::terminating_signal),
            ) {
                (Some(code), _) => format!("with code {code}"),
                (None, Some(signal)) => format!("by signal {signal}"),
                (None, None) => "unseen".to_owned(),
            };
            return Err(no_transfer(&format!(
                "the transfer of artifacts ended {how} without a report"
            )));
        };
        if !report.reason.is_empty() {
            let known = REASONS.into_iter().find(|&reason| reason == report.reason);
            let reason = known.unwrap_or(failure::TRANSFER_FAILED);
            return Err(Failure::new(reason, report.message));
        }
        if report.items.len() != expected {
            return Err(no_transfer(
                "the report of the transfer of artifacts is not whole",
            ));
        }
        Ok(report)
    }

    fn start(&self, transfer: &Transfer, asked: &Path, told: &Path) -> Result<Pid, Failure> {
        let Some((program, args)) = transfer.command.split_first() else {
            return Err(no_transfer("the assignment names no program for transfers"));
        };
        let mut command = Command::new(program);
        command
            .args(args)
            .arg(asked)
            .arg(told)
            .env("FLUMINA_ATTEMPT", self.attempt)
            .stdin(self.input()?);
        let child = sys::Child {
            oom_score: None,
            cgroup: None,
            own_group: true,
        };
        sys::spawn(&mut command, child).map_err(|error| {
            no_transfer(&format!(
                "the transfer program {program} cannot be started: {error}"
            ))
        })
    }

    /// Secrets reach the transfer in memory, neither as arguments nor in its environment.
    fn input(&self) -> Result<Stdio, Failure> {
        if self.secrets.is_empty() {
            return Ok(Stdio::null());
        }
        let file = sys::memory_file(self.secrets);
        file.map(Stdio::from).map_err(|error| {
            no_transfer(&format!(
                "secrets cannot be handed to the transfer: {error}"
            ))
        })
    }

    /// Why a transfer is to end, if it is.
    fn cause(&mut self) -> Option<Cause> {
        let late = |deadline: Duration| sys::monotonic() >= deadline;
        if self.signals.stop_requested() {
            Some(Cause::Stopped)
        } else {
            self.deadline.is_some_and(late).then_some(Cause::TimedOut)
        }
    }

    fn ended(&self, cause: Cause, upload: bool) -> Failure {
        let doing = if upload {
            "its outputs were stored"
        } else {
            "its inputs were fetched"
        };
        match cause {
            Cause::TimedOut => Failure::new(
                failure::TIMED_OUT,
                format!("{}, which was over while {doing}", self.too_long),
            ),
            Cause::Stopped | Cause::OutOfMemory(_) => Failure::new(
                failure::STOPPED,
                format!("stopped on request while {doing}"),
            ),
        }
    }

    /// Waits for the transfer. On request, and when the time is over, it is told to end, and made to after the grace.
    fn wait(&mut self, transfer: Pid) -> (Option<WaitStatus>, Option<Cause>) {
        let group = transfer.as_raw_nonzero().get();
        let (mut cause, mut kill_at) = (None, None);
        loop {
            match sys::reap() {
                Reaped::Child(pid, status) if pid == transfer => return (Some(status), cause),
                Reaped::Child(..) => continue,
                Reaped::Running => {}
                Reaped::None => return (None, cause),
            }
            let now = sys::monotonic();
            if cause.is_none() {
                cause = self.cause();
                if cause.is_some() {
                    sys::signal(group, Signal::TERM);
                    kill_at = Some(now.saturating_add(self.grace));
                }
            }
            if kill_at.is_some_and(|at| now >= at) {
                sys::signal(group, Signal::KILL);
                kill_at = Some(now + KILL_ROUND);
            }
            let until = kill_at.or(self.deadline).unwrap_or(now + IDLE);
            self.signals.wait(until.saturating_sub(now));
        }
    }
}

/// Removes what was fetched: it can be fetched again.
pub(crate) fn clear(dir: &Path) {
    fs::remove_dir_all(dir.join(DIR)).ok();
}

fn no_transfer(message: &str) -> Failure {
    Failure::new(failure::TRANSFER_FAILED, message)
}
