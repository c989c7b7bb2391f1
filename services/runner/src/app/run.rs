//! The task that drives a placed workload: start its agent or find it, wait, read the result.

use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use api_step::v1::{Outcome, StepResult};
use ids::WorkloadId;
use prost::Message as _;
use runtime::abort_point;
use rustix::process::Signal as Unix;
use tokio::sync::watch;
use tokio::time::Instant;

use super::files::Found;
use super::{LiveSet, Runner, Signal, Stop};
use crate::domain::redact;
use crate::domain::state::{Event, State};
use crate::error::Error;
use crate::store::Record;
use crate::sys::{self, Exit, Process};

/// How often an agent is started when it ends before it did anything.
const STARTS: u32 = 3;
/// What an agent may take to end beyond the grace of its program.
const MARGIN: Duration = Duration::from_secs(5);
/// What an agent may take to end when nothing is below it any more.
const LAST_MARGIN: Duration = Duration::from_secs(1);
/// What a program gets between SIGTERM and SIGKILL when it is deleted without having been stopped.
const SHORT_GRACE: Duration = Duration::from_secs(2);

/// What is known when a workload's task begins.
pub(super) enum First {
    /// Nothing was started, and its directory was made, or could not be.
    Placed(Result<(), Error>),
    /// The runner was restarted; the directory tells.
    Unknown,
}

/// How a workload ended.
pub(super) struct Ending {
    pub(super) event: Event,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) result: Option<Box<StepResult>>,
}

impl Ending {
    pub(super) fn new(event: Event, reason: &str, message: impl Into<String>) -> Self {
        Self {
            event,
            reason: reason.to_owned(),
            message: message.into(),
            result: None,
        }
    }

    pub(super) fn with_result(result: Box<StepResult>) -> Self {
        Self::from_result(result)
    }

    fn from_result(mut result: Box<StepResult>) -> Self {
        result.message = redact::urls(&result.message);
        let event = match result.outcome() {
            Outcome::Succeeded => Event::Succeed,
            Outcome::Stopped => Event::EndStopped,
            Outcome::Failed | Outcome::TimedOut | Outcome::OomKilled | Outcome::Unspecified => {
                Event::Fail
            }
        };
        Self {
            event,
            reason: result.reason.clone(),
            message: result.message.clone(),
            result: Some(result),
        }
    }
}

impl Runner {
    /// Takes what may start now out of the queue; the callers hold the lock.
    pub(super) fn admit(&self, live: &mut LiveSet) -> Vec<Record> {
        let mut records = Vec::new();
        for ask in live.scheduler.admit() {
            let devices = live.scheduler.devices(&ask.id).to_vec();
            if let Some(live) = live.workloads.get_mut(&ask.id) {
                // Known before anything starts, so that it has the same ones after a restart.
                live.record.accelerators = devices;
                self.mark_admitted(&mut live.record);
                records.push(live.record.clone());
            }
        }
        records
    }

    /// Records that workloads were admitted, together with what else changed, makes their directories meanwhile, and
    /// starts them. False when the runner ended before it was recorded.
    pub(super) async fn begin(&self, admitted: Vec<Record>, changed: Vec<Record>) -> bool {
        if admitted.is_empty() && changed.is_empty() {
            return true;
        }
        let all: Vec<Record> = changed.iter().chain(&admitted).cloned().collect();
        let (committed, placed) = futures_util::future::join(self.commit(&all), async {
            tokio::task::yield_now().await;
            admitted
                .iter()
                .map(|record| self.place_live(&record.id))
                .collect::<Vec<_>>()
        })
        .await;
        if !committed {
            return false;
        }
        for (record, placed) in admitted.into_iter().zip(placed) {
            abort_point("runner.dir.made");
            abort_point("runner.running.committed");
            let id = record.id.clone();
            self.publish(record);
            self.drive(&id, First::Placed(placed));
        }
        true
    }

    pub(super) fn place_live(&self, id: &WorkloadId) -> Result<(), Error> {
        let (record, request, plan) = {
            let live = self.live();
            let found = live.workloads.get(id);
            let found = found.ok_or_else(|| Error::NotFound(id.to_string()))?;
            let plan = Arc::clone(&found.plan);
            (found.record.clone(), found.request.clone(), plan)
        };
        let Some(request) = request else {
            // It was placed for an agent that ended before it started anything.
            return self.0.files.assignment(id).map(drop);
        };
        self.place(&record, &request, &plan)
    }

    /// Starts the task of a workload.
    pub(super) fn drive(&self, id: &WorkloadId, first: First) {
        let (runner, id) = (self.clone(), id.clone());
        self.spawn("workload", async move {
            if let Some(ending) = runner.live_through(&id, first).await {
                runner.end_cgroup(&id).await;
                runner.end(&id, ending).await;
            }
        });
    }

    /// Kills what is left in a workload's cgroup, before what it reserved is given to others.
    pub(super) async fn end_cgroup(&self, id: &WorkloadId) {
        if self.0.cgroups.is_none() {
            return;
        }
        let (runner, own) = (self.clone(), id.clone());
        let ended = tokio::task::spawn_blocking(move || match &runner.0.cgroups {
            Some(cgroups) => cgroups.end(own.as_str()),
            None => Ok(()),
        });
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%id, %error, "cannot remove a cgroup");
        }
    }

    /// Sees a workload through to its end; none when it is gone already.
    async fn live_through(&self, id: &WorkloadId, first: First) -> Option<Ending> {
        let mut signal = self.live().workloads.get(id)?.signal.subscribe();
        let mut placed = match first {
            First::Placed(placed) => Some(placed),
            First::Unknown => None,
        };
        if let Some(ending) = self.volume_task(id).await {
            return Some(ending);
        }
        let mut last_exit = Exit::Unknown;
        let mut starts = 0;
        loop {
            let found = match &placed {
                Some(_) => Ok(Found::Fresh),
                None => self.0.files.inspect(id),
            };
            match found {
                Ok(Found::Fresh) => {
                    if let Some(ending) = self.why_not_start(id, starts, &signal) {
                        return Some(ending);
                    }
                    starts += 1;
                    match self.start(id, placed.take()).await {
                        Ok(process) => last_exit = self.wait(id, &process, &mut signal).await,
                        Err(ending) => return Some(ending),
                    }
                }
                Ok(Found::Held) => {
                    self.tell_placed(id);
                    self.wait_for_holder(id, &mut signal).await;
                }
                Ok(Found::Done { result, clean }) => {
                    abort_point("runner.result.read");
                    if !clean {
                        self.kill_survivors(id).await;
                    }
                    return Some(Ending::from_result(result));
                }
                Ok(Found::Died) => {
                    self.kill_survivors(id).await;
                    return Some(self.died(id, last_exit));
                }
                Err(error) => {
                    tracing::warn!(%id, %error, "cannot look at a workload's directory");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Why a workload that has not been started is not started now.
    fn why_not_start(
        &self,
        id: &WorkloadId,
        starts: u32,
        signal: &watch::Receiver<Signal>,
    ) -> Option<Ending> {
        let record = self.live_record(id)?;
        if signal.borrow().stop != Stop::No || record.state == State::Stopping {
            let message = record.message;
            return Some(Ending::new(Event::EndStopped, "STOPPED", message));
        }
        if record.boot_id != self.0.boot_id {
            // Without a sync of its directory, a power cut may have taken the mark that it was started.
            let message = "the machine was restarted while it ran";
            return Some(Ending::new(Event::Lose, "MACHINE_RESTARTED", message));
        }
        if starts >= STARTS {
            let said = self.0.files.agent_log(id);
            let message =
                format!("its agent ended {STARTS} times before it started the program: {said}");
            return Some(Ending::new(Event::Fail, "AGENT_FAILED", message));
        }
        None
    }

    fn died(&self, id: &WorkloadId, exit: Exit) -> Ending {
        let said = self.0.files.agent_log(id);
        let said = if said.is_empty() {
            said
        } else {
            format!(": {said}")
        };
        match exit {
            Exit::Code(0) => {
                let message = format!("its agent ended without a result{said}");
                Ending::new(Event::Fail, "NO_RESULT", message)
            }
            Exit::Code(code) => {
                let message =
                    format!("its agent failed with {code} before a result was recorded{said}");
                Ending::new(Event::Lose, "AGENT_DIED", message)
            }
            Exit::Signal(number) => {
                let message =
                    format!("signal {number} ended its agent before a result was recorded");
                Ending::new(Event::Lose, "AGENT_DIED", message)
            }
            Exit::Unknown => {
                let message = "its agent ended before a result was recorded";
                Ending::new(Event::Lose, "AGENT_DIED", message)
            }
        }
    }

    /// Starts an agent.
    async fn start(
        &self,
        id: &WorkloadId,
        placed: Option<Result<(), Error>>,
    ) -> Result<Arc<Process>, Ending> {
        let placed = placed.unwrap_or_else(|| self.place_live(id));
        placed.map_err(|error| cannot_place(&error))?;
        let confidential = self.supply(id).await?;
        let dir = self.0.files.dir(id);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(dir.join("agent.log"))
            .map_err(|error| cannot_place(&Error::io(&dir)(error)))?;
        let mut command = Command::new(&self.0.agent);
        command.arg(&dir).env_clear();
        if let Some(point) = self.0.agent_abort.as_ref().and_then(|abort| abort.next()) {
            command.env("FLUMINA_ABORT", point);
        }
        let input = confidential.map(|values| sys::memory_file(&values.encode_to_vec()));
        let input = input
            .transpose()
            .map_err(|error| cannot_place(&Error::io(&dir)(error)))?;
        let process = spawn(&mut command, input.as_ref(), &log)
            .await
            .map_err(|error| {
                let agent = self.0.agent.display();
                let message = format!("cannot start {agent}: {error}");
                Ending::new(Event::Fail, "AGENT_NOT_STARTED", message)
            })?;
        abort_point("runner.agent.spawned");
        let process = Arc::new(process);
        let mut live = self.live();
        if let Some(live) = live.workloads.get_mut(id) {
            live.process = Some(Arc::clone(&process));
            live.request = None;
            live.signal.send_modify(|signal| signal.placed = true);
        }
        Ok(process)
    }

    pub(super) fn tell_placed(&self, id: &WorkloadId) {
        if let Some(live) = self.live().workloads.get(id) {
            live.signal.send_modify(|signal| signal.placed = true);
        }
    }

    /// Waits for the end of an agent and passes on requests to stop.
    pub(super) async fn wait(
        &self,
        id: &WorkloadId,
        process: &Process,
        signal: &mut watch::Receiver<Signal>,
    ) -> Exit {
        let grace = Duration::from_secs(self.0.config.stop_grace_seconds);
        let mut told = Stop::No;
        let mut deadline = None;
        let mut hangs = false;
        loop {
            let wanted = signal.borrow_and_update().stop;
            if wanted > told {
                // One that is in its grace already keeps it.
                if told == Stop::No {
                    process.signal(Unix::TERM);
                    let wait = match wanted {
                        Stop::Now => grace.min(SHORT_GRACE),
                        Stop::Gently | Stop::No => grace + MARGIN,
                    };
                    deadline = Some(Instant::now() + wait);
                }
                told = wanted;
            }
            tokio::select! {
                exit = process.wait() => match exit {
                    Ok(exit) => return exit,
                    Err(error) => {
                        tracing::error!(%id, %error, "cannot wait for an agent");
                        return Exit::Unknown;
                    }
                },
                changed = signal.changed() => if changed.is_err() {
                    return Exit::Unknown;
                },
                () = sleep_until(deadline) => {
                    tracing::warn!(%id, "killing a workload that does not end");
                    // Its agent sees the end of all by itself, unless it hangs.
                    if hangs {
                        process.signal(Unix::STOP);
                    }
                    kill_below(process.pid()).await;
                    if hangs {
                        process.signal(Unix::KILL);
                    }
                    deadline = (!hangs).then(|| Instant::now() + LAST_MARGIN);
                    hangs = true;
                }
            }
        }
    }

    /// Waits for an agent that somebody else started.
    async fn wait_for_holder(&self, id: &WorkloadId, signal: &mut watch::Receiver<Signal>) {
        let lock = self.0.files.dir(id).join("lock");
        let attached = sys::lock_holder(&lock)
            .and_then(|pid| Process::attach(pid).ok())
            // The number may have been given away meanwhile; then the lock is free, or somebody else's.
            .filter(|process| sys::lock_holder(&lock) == Some(process.pid()));
        if let Some(process) = attached {
            tracing::info!(%id, pid = process.pid(), "adopted a workload");
            let process = Arc::new(process);
            if let Some(live) = self.live().workloads.get_mut(id) {
                live.process = Some(Arc::clone(&process));
            }
            self.wait(id, &process, signal).await;
            return;
        }
        // A fork of a dead agent holds it until its exec, or the kernel does not tell who does.
        let path = lock.clone();
        let mut free = tokio::task::spawn_blocking(move || sys::wait_unlocked(&path));
        loop {
            if signal.borrow_and_update().stop != Stop::No {
                self.kill_survivors(id).await;
            }
            tokio::select! {
                done = &mut free => {
                    if let Ok(Err(error)) = done {
                        tracing::warn!(%id, %error, "cannot wait for a lock");
                    }
                    return;
                }
                changed = signal.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

/// Starts a program. A fork elsewhere in this process may hold the file open for writing until its exec.
async fn spawn(
    command: &mut Command,
    input: Option<&std::fs::File>,
    log: &std::fs::File,
) -> std::io::Result<Process> {
    const TRIES: u32 = 100;
    let input = || input.map(std::fs::File::try_clone).transpose();
    for _ in 1..TRIES {
        match Process::spawn(command, input()?, log.try_clone()?) {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            done => return done,
        }
    }
    Process::spawn(command, input()?, log.try_clone()?)
}

/// Kills everything below an agent, which must go last: without it the others would no longer be known as its own.
async fn kill_below(agent: i32) {
    const ROUNDS: u32 = 200;
    for _ in 0..ROUNDS {
        let left = tokio::task::spawn_blocking(move || sys::kill_below(agent)).await;
        if matches!(left, Ok(0)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn cannot_place(error: &Error) -> Ending {
    let reason = match error {
        Error::DiskFull => "DISK_FULL",
        _ => "NOT_PLACED",
    };
    Ending::new(Event::Fail, reason, aip::chain(error))
}
