//! One attempt, from the lock to the exit record.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use api_step::v1::{Assignment, ExitRecord, Outcome, StepResult};
use prost::Message as _;

use crate::abort::Abort;
use crate::failure::{self, Failure, cannot};
use crate::prepare::Prepared;
use crate::program::{self, Output, Program};
use crate::remote::{self, Courier};
use crate::supervise::{self, Supervisor};
use crate::sys::{self, Signals};
use crate::{collect, confidential, mounts, prepare, result, workspace};

/// Result and exit record are written.
const DONE: u8 = 0;
/// They could not be.
const INTERNAL: u8 = 1;
/// Another agent holds the lock.
const LOCKED: u8 = 3;
/// The attempt was started before.
const STARTED: u8 = 4;

/// How many bytes are set aside for each record.
const ROOM: usize = 4096;

/// Why there is no result from this agent.
enum Quit {
    Locked,
    Started,
    Internal(Failure),
}

impl From<Failure> for Quit {
    fn from(failure: Failure) -> Quit {
        Quit::Internal(failure)
    }
}

/// Runs the attempt of a directory; returns the exit code.
pub(crate) fn run(dir: &Path) -> u8 {
    sys::close_inherited();
    match attempt(dir) {
        Ok(()) => DONE,
        Err(Quit::Locked) => {
            eprintln!("another agent holds the lock of {}", dir.display());
            LOCKED
        }
        Err(Quit::Started) => {
            eprintln!("the attempt in {} was started before", dir.display());
            STARTED
        }
        Err(Quit::Internal(failure)) => {
            eprintln!("{}: {}", failure.reason, failure.message);
            INTERNAL
        }
    }
}

fn attempt(dir: &Path) -> Result<(), Quit> {
    let abort = Abort::from_env();
    let mut signals = Signals::block().map_err(cannot("block signals for", dir))?;
    sys::new_session();
    sys::become_subreaper().map_err(cannot("adopt orphans for", dir))?;
    let dir = std::path::absolute(dir).map_err(cannot("find", dir))?;
    let _lock = lock(&dir)?;
    abort.point("agent.locked");
    if dir.join("started").exists() || dir.join("result").exists() {
        return Err(Quit::Started);
    }
    report_panics(&dir);

    let mut attempt = Attempt {
        dir,
        abort,
        id: String::new(),
    };
    attempt.run(&mut signals)
}

/// Takes the lock for the life of this process; it is closed on exec, so the program never holds it.
fn lock(dir: &Path) -> Result<File, Quit> {
    let path = dir.join("lock");
    mark(dir, &path).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(cannot("create", &path)(error)),
    })?;
    let file = File::open(&path).map_err(cannot("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Quit::Locked),
        Err(TryLockError::Error(error)) => Err(cannot("lock", &path)(error).into()),
    }
}

/// Makes a file that only has to exist; an error when it does already. Another name for the agent's own log costs a hundredth of
/// a new file on a disk, which counts at one step in a few milliseconds, and is as exclusive as O_EXCL.
fn mark(dir: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(dir.join("agent.log"), path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Nobody made a log, or the file system knows no links.
        Err(_) => File::options()
            .write(true)
            .create_new(true)
            .open(path)
            .map(drop),
    }
}

struct Attempt {
    dir: PathBuf,
    abort: Abort,
    id: String,
}

/// Everything that is needed to start the program and to judge it.
struct Ready {
    assignment: Assignment,
    prepared: Prepared,
    program: Program,
    child: sys::Child,
    log: File,
    /// What the transfer signs in to stores with.
    secrets: Vec<u8>,
    /// When the time of the step is over.
    deadline: Option<Duration>,
}

/// Why a step does not start.
enum NotReady {
    Stopped,
    Failed(Failure),
}

impl From<Failure> for NotReady {
    fn from(failure: Failure) -> NotReady {
        NotReady::Failed(failure)
    }
}

impl Attempt {
    fn run(&mut self, signals: &mut Signals) -> Result<(), Quit> {
        let begin = sys::monotonic();
        match self.get_ready(signals) {
            Ok(ready) => self.run_program(ready, micros_since(begin), signals),
            Err(why) => {
                self.finish(&match why {
                    NotReady::Stopped => result::stopped_before_start(),
                    NotReady::Failed(failure) => result::failed(failure),
                })?;
                self.record_exit()
            }
        }
    }

    fn get_ready(&mut self, signals: &mut Signals) -> Result<Ready, NotReady> {
        let mut assignment = self.assignment()?;
        self.id.clone_from(&assignment.attempt_id);
        self.refuse_if_stopped(signals)?;
        let deadline = supervise::deadline(&assignment);
        let oom_score = sys::OomScore::open(assignment.oom_score_adj);
        let mounts = mounts::isolate(&self.dir, &assignment)?;
        sys::hide().map_err(cannot("hide the memory of the agent of", &self.dir))?;
        let confidential = confidential::read(&assignment)?;
        mounts.make(&confidential)?;
        assignment.env.extend(confidential.env);
        let secrets = confidential.store_secrets;
        let mut prepared = prepare::prepare(&self.dir, &assignment, false)?;
        let items = std::mem::take(&mut prepared.fetch);
        match Courier::new(&self.dir, &assignment, &secrets, deadline, signals).fetch(items) {
            Err(failure) if failure.reason == failure::STOPPED => return Err(NotReady::Stopped),
            fetched => fetched?,
        }
        workspace::put(&prepared.for_workspace, &self.id)?;
        let program = program::find(&assignment, &prepared)?;
        let child = sys::Child {
            oom_score,
            cgroup: program::cgroup(&assignment)?,
            own_group: true,
        };
        let log = self.open_log()?;
        // Inputs and sources can be large, and the agent waits for hours.
        assignment.step = None;
        assignment.files.clear();
        self.abort.point("agent.prepared");
        self.refuse_if_stopped(signals)?;
        Ok(Ready {
            assignment,
            prepared,
            program,
            child,
            log,
            secrets,
            deadline,
        })
    }

    fn run_program(
        &self,
        ready: Ready,
        prepare_us: i64,
        signals: &mut Signals,
    ) -> Result<(), Quit> {
        let assignment = ready.assignment;
        self.abort.point("agent.before_started");
        self.mark_started()?;
        self.abort.point("agent.after_started");
        let started_at_us = sys::now_us();
        let pid = match ready.program.start(Output::Log(ready.log), ready.child) {
            Ok(pid) => pid,
            Err(failure) => {
                self.finish(&result::failed(failure))?;
                return self.record_exit();
            }
        };
        self.abort.point("agent.after_fork");

        // While the program runs, the agent has time: at the end, writing a record is only a write and a rename.
        let mut supervisor = Supervisor::new(pid, &assignment, ready.deadline, signals);
        self.make_room();
        let ended = supervisor.wait_for_program();
        self.abort.point("agent.ended");
        let mut result = result::ended(&assignment, &ended, &self.dir.join("log"));
        result.started_at_us = started_at_us;
        result.prepare_us = prepare_us;
        let collecting = sys::monotonic();
        if result.outcome() == Outcome::Succeeded {
            // Nobody may write to outputs any more when they are read.
            supervisor.end_rest();
            let courier = Courier::new(
                &self.dir,
                &assignment,
                &ready.secrets,
                ready.deadline,
                supervisor.signals(),
            );
            add_outputs(
                &mut result,
                &ready.prepared,
                assignment.max_parameter_bytes,
                courier,
            );
        }
        if !ready.prepared.places.is_empty() {
            remote::clear(&self.dir);
        }
        result.collect_us = micros_since(collecting);
        self.abort.point("agent.collected");
        let written = self.finish(&result);
        supervisor.end_rest();
        written?;
        self.record_exit()
    }

    fn assignment(&self) -> Result<Assignment, Failure> {
        let path = self.dir.join("assignment");
        let bytes = fs::read(&path).map_err(cannot("read", &path))?;
        Assignment::decode(bytes.as_slice()).map_err(|error| {
            let message = format!("{} is no assignment: {error}", path.display());
            Failure::new(failure::AGENT_ERROR, message)
        })
    }

    fn refuse_if_stopped(&self, signals: &mut Signals) -> Result<(), NotReady> {
        if signals.stop_requested() || self.dir.join("stop").exists() {
            return Err(NotReady::Stopped);
        }
        Ok(())
    }

    fn open_log(&self) -> Result<File, Failure> {
        let path = self.dir.join("log");
        let file = File::options().append(true).create(true).open(&path);
        file.map_err(cannot("open", &path))
    }

    /// The point of no return: whoever finds the file knows that the program may have run.
    fn mark_started(&self) -> Result<(), Quit> {
        let path = self.dir.join("started");
        match mark(&self.dir, &path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Quit::Started),
            Err(error) => {
                let failure = cannot("create", &path)(error);
                // Nothing ran, so this can still be said.
                self.finish(&result::failed(failure))?;
                self.record_exit()?;
                Err(Quit::Started)
            }
        }
    }

    fn finish(&self, result: &StepResult) -> Result<(), Quit> {
        self.abort.point("agent.before_result");
        self.write_record("result", &result.encode_to_vec(), "agent.result_tmp")?;
        self.abort.point("agent.after_result");
        Ok(())
    }

    fn record_exit(&self) -> Result<(), Quit> {
        self.abort.point("agent.before_exit_record");
        let record = ExitRecord {
            attempt_id: self.id.clone(),
            ended_at_us: sys::now_us(),
        };
        self.write_record("exit", &record.encode_to_vec(), "agent.exit_tmp")?;
        self.abort.point("agent.after_exit_record");
        Ok(())
    }

    /// Makes the files of both records, with room for what is usually in them: a program that fills the disk must not keep
    /// its own failure from being told. Whatever fails here fails again, and is reported, when the records are written.
    fn make_room(&self) {
        for name in ["result.tmp", "exit.tmp"] {
            fs::write(self.dir.join(name), [0; ROOM]).ok();
        }
    }

    /// A record is there whole or not at all.
    fn write_record(&self, name: &str, content: &[u8], point: &str) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let temporary = path.with_extension("tmp");
        let mut options = File::options();
        // Not truncated first, so that the room is used.
        options.write(true).create(true).truncate(false);
        let write = |mut file: File| {
            file.write_all(content)?;
            file.set_len(content.len() as u64)
        };
        let written = options.open(&temporary).and_then(write);
        written.map_err(cannot("write", &temporary))?;
        self.abort.point(point);
        fs::rename(&temporary, &path).map_err(cannot("rename to", &path))
    }
}

fn add_outputs(
    result: &mut StepResult,
    prepared: &Prepared,
    max_parameter_bytes: u64,
    mut courier: Courier<'_>,
) {
    match collect::collect(prepared, max_parameter_bytes, &mut courier) {
        Ok(collected) => {
            result.parameters = collected.parameters;
            result.artifacts = collected.artifacts;
        }
        Err(failure) => {
            result.set_outcome(result::outcome(&failure));
            result.reason = failure.reason.to_owned();
            result.message = failure.message;
        }
    }
}

fn micros_since(begin: Duration) -> i64 {
    i64::try_from((sys::monotonic() - begin).as_micros()).unwrap_or(i64::MAX)
}

/// A bug must not look like a lost machine: before the agent dies of a panic it leaves a result, unless the program may still
/// be running, which only the runner can find out then.
fn report_panics(dir: &Path) {
    static DIR: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Ok(mut known) = DIR.lock() {
        *known = Some(dir.to_owned());
    }
    std::panic::set_hook(Box::new(|info| {
        // Not `eprintln`, which panics when stderr is gone.
        drop(writeln!(io::stderr(), "{info}"));
        let Ok(dir) = DIR.lock() else {
            return;
        };
        let Some(dir) = dir.as_ref() else {
            return;
        };
        let running = !matches!(sys::reap(), sys::Reaped::None);
        let result = dir.join("result");
        if running || result.exists() || result.as_os_str().as_bytes().is_empty() {
            return;
        }
        let failure = Failure::new(failure::AGENT_ERROR, format!("the agent failed: {info}"));
        let bytes = result::failed(failure).encode_to_vec();
        let temporary = result.with_extension("tmp");
        if fs::write(&temporary, bytes).is_ok() {
            drop(fs::rename(&temporary, &result));
        }
    }));
}
