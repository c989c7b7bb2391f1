//! The actor of one run: it alone changes the run.
//!
//! It takes events in, commits what the pure engine makes of them, and then asks the runner for what follows. What it
//! keeps in memory is a function of the stored rows, so after any failure it loads the run again and goes on.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use ids::{ArtifactId, RunId, TaskId, WorkloadId};
use tokio::sync::mpsc;

use super::alarm::Alarm;
use super::cache::Round;
use super::calls::{self, Answer, Refusals};
use super::engine::Inner;
use super::giving_up::{self, Streak};
use super::{cache, cleanup, launch};
use crate::app::loaded;
use crate::domain::{
    Artifact, Cancel, Changes, Effect, Event, RunRecord, RunState, RunStatus, StepError,
    TaskRecord, TaskStatus, WorkloadUpdate, launch_spec, step,
};
use crate::store::{artifacts, runs, sequences, tasks};

/// Events of one transaction at most.
const BATCH: usize = 512;
/// Calls to the runner that are under way at a time.
const IN_FLIGHT: usize = 64;
/// The pause after another run was faster.
const RACED: Duration = Duration::from_millis(2);

/// What an actor is told.
#[derive(Debug)]
pub(super) enum Message {
    /// The row of the run changed: it is new, or to be stopped, or to be removed.
    Wake,
    /// A workload changed.
    Update(Box<WorkloadUpdate>),
    /// Updates may have been missed.
    Resync,
    /// A task of some run ended that a task of this one waits for.
    AskCache,
}

/// Why an actor loads its run again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the database failed")]
    Sql(#[from] sql::Error),
    #[error("the engine refused an event")]
    Step(#[from] StepError),
    #[error("the stored run cannot be read: {0}")]
    Corrupt(String),
    #[error("the run cannot be removed yet")]
    Cleanup(#[from] cleanup::Error),
    #[error("the run is gone")]
    Gone,
    #[error("another process took over the database")]
    Fenced,
    #[error("another run wrote the same entry of the cache")]
    Raced,
}

impl From<loaded::Unreadable> for Failure {
    fn from(error: loaded::Unreadable) -> Self {
        match error {
            loaded::Unreadable::Sql(error) => Self::Sql(error),
            loaded::Unreadable::Step(error) => Self::Step(error),
            loaded::Unreadable::Corrupt(text) => Self::Corrupt(text),
        }
    }
}

impl Failure {
    /// Whether trying again from the stored rows gives the same.
    pub(super) fn lasting(&self) -> bool {
        match self {
            Self::Step(_) | Self::Corrupt(_) => true,
            Self::Sql(_) | Self::Cleanup(_) | Self::Gone | Self::Fenced | Self::Raced => false,
        }
    }
}

/// Drives a run until it has ended, or is gone.
pub(super) async fn live(
    engine: Arc<Inner>,
    run: RunId,
    mut messages: mpsc::UnboundedReceiver<Message>,
) {
    let mut failures = 0;
    let mut streak = Streak::default();
    loop {
        match drive(&engine, run, &mut messages).await {
            Ok(()) => {
                failures = 0;
                streak = Streak::default();
                if engine.retire(run, &messages) {
                    return;
                }
            }
            // What the other run wrote is there once its commit is.
            Err(Failure::Raced) => tokio::time::sleep(RACED).await,
            Err(Failure::Fenced) => {
                engine.fenced();
                return;
            }
            Err(failure) => {
                failures += 1;
                let error = aip::chain(&failure);
                tracing::warn!(%run, error, "a run cannot go on yet");
                if streak.hopeless(&failure) {
                    match giving_up::end(&engine, run, &error).await {
                        Ok(()) => {}
                        Err(Failure::Fenced) => {
                            engine.fenced();
                            return;
                        }
                        Err(error) => {
                            let error = aip::chain(&error);
                            tracing::warn!(%run, error, "a run cannot be ended yet");
                        }
                    }
                }
                tokio::time::sleep(calls::pause(failures)).await;
            }
        }
    }
}

async fn drive(
    engine: &Arc<Inner>,
    run: RunId,
    messages: &mut mpsc::UnboundedReceiver<Message>,
) -> Result<(), Failure> {
    // What was said before the row is read is in the row, and open attempts are asked for anew. Left in the queue it
    // would keep a run that has ended from retiring.
    while messages.try_recv().is_ok() {}
    let Some(record) = record(engine, run).await? else {
        return Ok(());
    };
    if record.deleting {
        cleanup::remove(engine, &record).await?;
        engine.watchers.changed(run, true);
        return Ok(());
    }
    if record.run.status.ended() {
        return Ok(());
    }
    let cancel = record.cancel.clone();
    let mut actor = Actor::load(engine, record).await?;
    actor.begin(cancel).await?;
    while !actor.state.run.status.ended() {
        let mut batch = Vec::new();
        actor.alarm.set(actor.state.wake_at(), &engine.clock);
        tokio::select! {
            count = messages.recv_many(&mut batch, BATCH) => {
                if count == 0 {
                    return Ok(());
                }
            }
            Some(answer) = actor.calls.next() => actor.answered(answer, &mut batch).await?,
            () = actor.alarm.rings() => {
                actor.alarm.rang();
                actor.apply(vec![Event::Timer]).await?;
            }
        }
        if actor.take(batch).await? {
            // It is being removed: calls that are under way end first, so that none arrives late.
            actor.finish_calls().await;
            let Some(record) = self::record(engine, run).await? else {
                return Ok(());
            };
            cleanup::remove(engine, &record).await?;
            engine.watchers.changed(run, true);
            return Ok(());
        }
    }
    actor.finish_calls().await;
    Ok(())
}

pub(super) async fn record(engine: &Inner, run: RunId) -> Result<Option<RunRecord>, sql::Error> {
    engine
        .db
        .read(move |conn| Box::pin(async move { runs::get(conn, run).await }))
        .await
}

struct Actor<'e> {
    engine: &'e Arc<Inner>,
    state: RunState,
    calls: FuturesUnordered<BoxFuture<'static, Answer>>,
    waiting: VecDeque<Effect>,
    alarm: Alarm,
    /// How often calls failed in a row, for the pause.
    failures: u32,
    refusals: Refusals,
}

impl<'e> Actor<'e> {
    async fn load(engine: &'e Arc<Inner>, record: RunRecord) -> Result<Self, Failure> {
        let state = loaded::state(&engine.db, record).await?;
        Ok(Self {
            engine,
            state,
            calls: FuturesUnordered::new(),
            waiting: VecDeque::new(),
            alarm: Alarm::default(),
            failures: 0,
            refusals: Refusals::default(),
        })
    }

    /// Goes on where the stored rows stand.
    async fn begin(&mut self, cancel: Option<Cancel>) -> Result<(), Failure> {
        let effects = self.state.open_effects()?;
        let event = match cancel {
            Some(cancel) => Some(Event::Terminate {
                reason: cancel.reason,
                exit_tasks: cancel.exit_tasks,
            }),
            None if self.state.run.status == RunStatus::Pending => Some(Event::Start),
            None => None,
        };
        self.advance(event.into_iter().collect(), effects).await
    }

    /// Takes messages in; true when the run is to be removed.
    async fn take(&mut self, batch: Vec<Message>) -> Result<bool, Failure> {
        let mut updates: HashMap<WorkloadId, Box<WorkloadUpdate>> = HashMap::new();
        let mut order = Vec::new();
        let mut woken = false;
        let mut resync = false;
        let mut ask_cache = false;
        for message in batch {
            match message {
                Message::Wake => woken = true,
                Message::Resync => resync = true,
                Message::AskCache => ask_cache = true,
                // An update holds the whole state: of several for a workload the newest says it all.
                Message::Update(update) => {
                    let id = update.workload_id.clone();
                    match updates.get_mut(&id) {
                        Some(known) if known.version > update.version => {}
                        Some(known) => *known = update,
                        None => {
                            order.push(id.clone());
                            updates.insert(id, update);
                        }
                    }
                }
            }
        }
        let mut events: Vec<Event> = order
            .iter()
            .filter_map(|id| updates.remove(id))
            .map(|update| Event::Workload(*update))
            .collect();
        if woken {
            let Some(record) = record(self.engine, self.state.run.id).await? else {
                return Ok(true);
            };
            if record.deleting {
                return Ok(true);
            }
            if let Some(cancel) = record.cancel {
                events.push(Event::Terminate {
                    reason: cancel.reason,
                    exit_tasks: cancel.exit_tasks,
                });
            }
        }
        self.apply(events).await?;
        if resync {
            let effects = self.state.open_effects()?;
            self.advance(Vec::new(), effects).await?;
        } else if ask_cache {
            let effects = self.state.cache_questions();
            self.advance(Vec::new(), effects).await?;
        }
        Ok(false)
    }

    async fn answered(&mut self, answer: Answer, batch: &mut Vec<Message>) -> Result<(), Failure> {
        match answer {
            Answer::Event(event) => {
                self.failures = 0;
                self.refusals.forget(&event);
                match *event {
                    Event::Workload(update) => batch.push(Message::Update(Box::new(update))),
                    other => self.apply(vec![other]).await?,
                }
            }
            Answer::Again(effect, cause) => {
                self.failures = self.failures.saturating_add(1);
                // The first failure, then about one a minute.
                if self.failures % 12 == 1 {
                    let run = self.state.run.id;
                    tracing::warn!(%run, cause, "the runner refuses calls; they are tried again");
                }
                if self.still_wanted(&effect) {
                    if let Some(delayed) = self.refusals.note(&effect, &cause) {
                        self.apply(vec![delayed]).await?;
                    }
                    self.waiting.push_back(effect);
                }
            }
            Answer::Nothing => {}
        }
        self.fill()
    }

    /// Whether the attempt of a call is still open.
    fn still_wanted(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Launch { task, attempt, .. } => self.state.get(*task).is_some_and(|task| {
                task.status != TaskStatus::Canceling
                    && task
                        .open_attempt()
                        .is_some_and(|open| open.number == *attempt)
            }),
            Effect::Stop { .. } | Effect::FindArtifact { .. } => true,
            Effect::FindCached { .. } | Effect::RunEnded => false,
        }
    }

    /// Steps through events, commits once, then does what follows.
    async fn apply(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        self.advance(events, Vec::new()).await
    }

    /// The same, with effects that are open already. What the cache is asked is answered before the commit, so a task
    /// that uses it costs no commit of its own.
    async fn advance(
        &mut self,
        mut events: Vec<Event>,
        mut effects: Vec<Effect>,
    ) -> Result<(), Failure> {
        let mut pending = Pending::default();
        loop {
            if !events.is_empty() {
                self.step(events, &mut pending, &mut effects).await?;
            }
            let asked: Vec<Effect> = effects
                .extract_if(.., |effect| matches!(effect, Effect::FindCached { .. }))
                .collect();
            if asked.is_empty() {
                break;
            }
            let round = &mut pending.round;
            events = cache::answers(self.engine, &self.state, asked, round).await?;
        }
        let round = std::mem::take(&mut pending.round);
        if !pending.is_empty() {
            runtime::abort_point("orchestrator.step.computed");
            let ended_leaders = self.commit(pending, &round).await?;
            runtime::abort_point("orchestrator.step.committed");
            let ended = self.state.run.status.ended();
            self.engine.watchers.changed(self.state.run.id, ended);
            self.engine.cache_ended(&ended_leaders);
        }
        self.engine.wait_for(self.state.run.id, &round).await?;
        self.perform(effects)
    }

    async fn step(
        &mut self,
        events: Vec<Event>,
        pending: &mut Pending,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let artifacts: usize = events.iter().map(reported_artifacts).sum();
        let needed = self
            .state
            .ids_needed()
            .saturating_add(artifacts)
            .saturating_add(1);
        let mut numbers = self.engine.numbers.promise(&self.engine.db, needed).await?;
        let now = self.alarm.now(&self.engine.clock);
        for event in events {
            let outcome = step(&mut self.state, event, now, &mut || numbers.draw())?;
            pending.merge(outcome.changes);
            effects.extend(outcome.effects);
        }
        Ok(())
    }

    /// Writes what changed; returns the tasks that others may wait for and that have ended.
    async fn commit(&mut self, pending: Pending, round: &Round) -> Result<Vec<TaskId>, Failure> {
        let record = |id: &TaskId| -> Result<TaskRecord, Failure> {
            let task = self.state.get(*id);
            let task = task.ok_or_else(|| Failure::Corrupt(format!("task {id} is missing")))?;
            task.to_record()
                .map_err(|error| Failure::Corrupt(error.to_string()))
        };
        let inserted: Result<Vec<TaskRecord>, Failure> =
            pending.inserted.iter().map(record).collect();
        let inserted = inserted?;
        let updated: Result<Vec<TaskRecord>, Failure> = pending
            .updated
            .difference(&pending.inserted)
            .map(record)
            .collect();
        let updated = updated?;
        let recorded: Vec<Artifact> = pending
            .artifacts
            .iter()
            .filter_map(|id| self.state.artifact(*id))
            .cloned()
            .collect();
        // What an importer took over was recorded by another run; it is in use here from now on.
        let (recorded, known): (Vec<Artifact>, Vec<Artifact>) = recorded
            .into_iter()
            .partition(|artifact| artifact.run_id == self.state.run.id);
        let uses = known
            .into_iter()
            .map(|artifact| (self.state.run.id, artifact.id))
            .collect();
        let run = pending.run.then(|| self.state.run.clone());
        let (cache, ended) = cache::writes(&self.state, pending.cache, round);
        let (run_id, now) = (self.state.run.id, self.engine.clock.now());
        let epoch = self.engine.epoch();
        let written = self.engine.db.write(move |conn| {
            Box::pin(async move {
                if sequences::epoch(conn).await? != epoch {
                    return Err(Failure::Fenced);
                }
                tasks::insert(conn, inserted).await?;
                for record in updated {
                    tasks::update(conn, record).await?;
                }
                artifacts::insert(conn, &recorded).await?;
                artifacts::insert_uses(conn, uses).await?;
                if !crate::store::cache::write(conn, run_id, cache, now).await? {
                    return Err(Failure::Raced);
                }
                match run {
                    Some(run) if !runs::update(conn, &run).await? => Err(Failure::Gone),
                    Some(_) | None => Ok(ended),
                }
            })
        });
        written.await
    }

    /// Queues what is to be done and starts as much as may be under way.
    fn perform(&mut self, effects: Vec<Effect>) -> Result<(), Failure> {
        for effect in effects {
            match effect {
                // The cache was asked before the commit.
                Effect::RunEnded | Effect::FindCached { .. } => {}
                // A stop must not wait behind launches that it makes useless.
                Effect::Stop { .. } => self.waiting.push_front(effect),
                Effect::Launch { .. } | Effect::FindArtifact { .. } => {
                    self.waiting.push_back(effect);
                }
            }
        }
        self.fill()
    }

    fn fill(&mut self) -> Result<(), Failure> {
        while self.calls.len() < IN_FLIGHT {
            let Some(effect) = self.waiting.pop_front() else {
                break;
            };
            if !self.still_wanted(&effect) {
                continue;
            }
            let call = self.call(effect)?;
            self.calls.push(call);
        }
        Ok(())
    }

    fn call(&self, effect: Effect) -> Result<BoxFuture<'static, Answer>, Failure> {
        let engine = Arc::clone(self.engine);
        let request = match &effect {
            Effect::Launch { task, .. } => {
                Some(launch::request("", launch_spec(&self.state, *task)?))
            }
            Effect::Stop { .. }
            | Effect::FindArtifact { .. }
            | Effect::FindCached { .. }
            | Effect::RunEnded => None,
        };
        Ok(calls::call(
            engine,
            effect,
            request,
            calls::pause(self.failures),
        ))
    }

    /// Waits for the calls that are under way and forgets the others.
    async fn finish_calls(&mut self) {
        self.waiting.clear();
        while self.calls.next().await.is_some() {}
    }
}

fn reported_artifacts(event: &Event) -> usize {
    match event {
        Event::Workload(update) => update.state.report().map_or(0, |report| {
            report.artifacts.iter().map(|(_, list)| list.len()).sum()
        }),
        Event::ArtifactLookedUp { .. } => 1,
        Event::Start
        | Event::Timer
        | Event::LaunchRefused { .. }
        | Event::LaunchDelayed { .. }
        | Event::CacheLookedUp { .. }
        | Event::Terminate { .. } => 0,
    }
}

/// The rows that a batch of events changed.
#[derive(Default)]
struct Pending {
    run: bool,
    inserted: BTreeSet<TaskId>,
    updated: BTreeSet<TaskId>,
    artifacts: BTreeSet<ArtifactId>,
    cache: BTreeSet<TaskId>,
    /// What the cache was asked on the way.
    round: Round,
}

impl Pending {
    fn merge(&mut self, changes: Changes) {
        self.run |= changes.run;
        self.inserted.extend(changes.inserted);
        self.updated.extend(changes.updated);
        self.artifacts.extend(changes.artifacts);
        self.cache.extend(changes.cache);
    }

    fn is_empty(&self) -> bool {
        !self.run
            && self.inserted.is_empty()
            && self.updated.is_empty()
            && self.artifacts.is_empty()
    }
}
