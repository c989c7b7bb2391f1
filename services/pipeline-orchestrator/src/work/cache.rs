//! The cache at work: questions of tasks are answered from its rows, and who waits for a task is told when it has ended.
//!
//! Rows alone decide. That a task waits is stored with it; who is to be told is in memory and made anew when a run is
//! loaded, since the run asks again then. A task that begins to wait looks once more after its commit whether the other
//! one still runs: the other one commits its end before it tells, so one of the two sees the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use ids::{ArtifactId, RunId, TaskId};

use super::actor::Failure;
use super::engine::Inner;
use crate::domain::{
    Artifact, CacheAnswer, CacheEntry, CacheHit, CacheRole, Effect, Event, RunState, TaskStatus,
};
use crate::store::cache::{Found, Writes};
use crate::store::{artifacts, cache};

/// What the cache was asked before a commit, and what follows for it.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Keys that tasks of this run are going to run for.
    claims: HashMap<String, TaskId>,
    /// Entries that tasks use: `(entry, task)`.
    used: Vec<(TaskId, TaskId)>,
    /// Entries that cannot be used.
    stale: BTreeSet<TaskId>,
    /// Tasks that tasks of this run wait for.
    awaited: BTreeSet<TaskId>,
}

/// Which runs wait for a task.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<TaskId, BTreeSet<RunId>>>);

/// Answers what tasks of a run ask.
pub(super) async fn answers(
    engine: &Inner,
    state: &RunState,
    asked: Vec<Effect>,
    round: &mut Round,
) -> Result<Vec<Event>, Failure> {
    let key = |effect: &Effect| match effect {
        Effect::FindCached { key, .. } => Some(key.clone()),
        _ => None,
    };
    let keys: BTreeSet<String> = asked.iter().filter_map(key).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let mut found = cache::look_up(&engine.db, &state.run.pipeline_name, &keys).await?;
    let mut known: HashMap<String, Known> = HashMap::new();
    let mut events = Vec::with_capacity(asked.len());
    for effect in asked {
        let Effect::FindCached {
            task,
            key,
            max_age_s,
        } = effect
        else {
            continue;
        };
        if let Some(rows) = found.remove(&key) {
            known.insert(key.clone(), sort(engine, rows, round).await?);
        }
        let answer = answer(
            engine,
            known.get(&key),
            (task, &key, max_age_s),
            state,
            round,
        );
        events.push(Event::CacheLookedUp { task, answer });
    }
    runtime::abort_point("orchestrator.cache.answered");
    Ok(events)
}

/// What there is for a key.
#[derive(Debug, Default)]
struct Known {
    /// Entries that can be used, newest first.
    entries: Vec<(CacheEntry, CacheHit)>,
    /// The task that runs for it.
    leader: Option<(RunId, TaskId)>,
    /// Why entries cannot be used.
    note: String,
}

/// Tells what can be used from what cannot.
async fn sort(engine: &Inner, rows: Vec<Found>, round: &mut Round) -> Result<Known, Failure> {
    let mut known = Known::default();
    for Found {
        entry,
        running,
        run_ended,
    } in rows
    {
        if running && !run_ended {
            known.leader = Some((entry.run_id, entry.id));
            continue;
        }
        if running {
            // Its run went without a word; nobody will end it.
            round.stale.insert(entry.id);
            continue;
        }
        match outputs(engine, &entry).await? {
            Ok(hit) => known.entries.push((entry, hit)),
            Err((why, unusable)) => {
                let (path, run) = (&entry.task_path, entry.run_id);
                known.note = format!("the outputs of `{path}` of run {run} are not used: {why}");
                if matches!(unusable, Unusable::Gone(_)) {
                    round.stale.insert(entry.id);
                }
            }
        }
    }
    Ok(known)
}

fn answer(
    engine: &Inner,
    known: Option<&Known>,
    (task, key, max_age_s): (TaskId, &str, u64),
    state: &RunState,
    round: &mut Round,
) -> CacheAnswer {
    let now = engine.clock.now();
    let mut note = known.map_or_else(String::new, |known| known.note.clone());
    for (entry, hit) in known.into_iter().flat_map(|known| &known.entries) {
        match entry.refusal(now, max_age_s) {
            None => {
                round.used.push((entry.id, task));
                return CacheAnswer::Hit(Box::new(hit.clone()));
            }
            Some(why) => {
                let (path, run) = (&entry.task_path, entry.run_id);
                note =
                    format!("the outputs of `{path}` of run {run} are not used: the entry {why}");
            }
        }
    }
    let leader = known.and_then(|known| known.leader);
    let own = round.claims.get(key).map(|task| (state.run.id, *task));
    match leader.or(own) {
        Some((run, leader)) => {
            round.awaited.insert(leader);
            CacheAnswer::Running { run, task: leader }
        }
        None => {
            round.claims.insert(key.to_owned(), task);
            CacheAnswer::Miss { note }
        }
    }
}

/// Why an entry is not used.
#[derive(Debug, Clone, Copy)]
enum Unusable {
    /// For ever: its row goes.
    Gone(&'static str),
    /// The store does not answer: the row stays for the next one that asks.
    Unreadable(&'static str),
}

/// The outputs of an entry with their artifacts, or why they are not there any more.
async fn outputs(
    engine: &Inner,
    entry: &CacheEntry,
) -> Result<Result<CacheHit, (String, Unusable)>, Failure> {
    let mut hit = CacheHit {
        run: entry.run_id,
        task: entry.id,
        path: entry.task_path.clone(),
        parameters: entry.outputs.parameters.clone(),
        artifacts: Default::default(),
    };
    let ids = entry.outputs.artifacts.values().flatten().copied();
    let ids: Vec<ArtifactId> = ids.collect();
    let records = artifacts::by_ids(&engine.db, &ids).await?;
    for (name, ids) in &entry.outputs.artifacts {
        let mut list = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(artifact) = records.get(id) else {
                let why = format!("artifact `{name}` was removed");
                return Ok(Err((why, Unusable::Gone("was removed"))));
            };
            if let Some(unusable) = gone(engine, artifact).await {
                let (Unusable::Gone(why) | Unusable::Unreadable(why)) = unusable;
                let uri = &artifact.uri;
                return Ok(Err((
                    format!("artifact `{name}` {why} (`{uri}`)"),
                    unusable,
                )));
            }
            list.push(artifact.clone());
        }
        hit.artifacts.insert(name.clone(), list);
    }
    Ok(Ok(hit))
}

/// Why the content of an artifact is not what it was; none when it is there, or somewhere else than in our store.
async fn gone(engine: &Inner, artifact: &Artifact) -> Option<Unusable> {
    if !artifact.present || !engine.objects.contains(&artifact.uri) {
        return None;
    }
    match engine.objects.stat(&artifact.uri).await {
        Ok(Some(stat)) if stat.directory != artifact.directory => {
            Some(Unusable::Gone("is of another kind now"))
        }
        Ok(Some(stat)) if !stat.directory && stat.size != artifact.size_bytes => {
            Some(Unusable::Gone("has another size now"))
        }
        Ok(Some(_)) => None,
        Ok(None) => Some(Unusable::Gone("is gone")),
        Err(_) => Some(Unusable::Unreadable("cannot be read now")),
    }
}

/// The rows that a commit writes, and the tasks that others may wait for and that end with it.
pub(super) fn writes(
    state: &RunState,
    changed: BTreeSet<TaskId>,
    round: &Round,
) -> (Writes, Vec<TaskId>) {
    let mut writes = Writes {
        stale: round.stale.iter().copied().collect(),
        ..Writes::default()
    };
    for (entry, task) in &round.used {
        // One that was stopped meanwhile does not use it.
        let cache = state.get(*task).and_then(|task| task.body.cache.as_ref());
        if cache.is_some_and(
            |cache| matches!(cache.role, CacheRole::Uses { task, .. } if task == *entry),
        ) {
            writes.used.push((*entry, *task));
        }
    }
    let mut ended = Vec::new();
    for task in changed.into_iter().filter_map(|id| state.get(id)) {
        let Some(entry) = CacheEntry::of(state, task) else {
            continue;
        };
        if !task.status.ended() {
            let history = &task.body.history;
            if history.iter().any(|before| before.status.ended()) {
                // It ran before, in this run: what it left in the cache is not what it will put out.
                writes.stale.push(task.id);
            }
            writes.leading.push(entry);
            continue;
        }
        ended.push(task.id);
        if task.status == TaskStatus::Succeeded {
            writes.succeeded.push(entry);
        } else {
            writes.released.push(task.id);
        }
    }
    (writes, ended)
}

impl Inner {
    /// Tells the runs that wait for tasks that these have ended.
    pub(super) fn cache_ended(&self, ended: &[TaskId]) {
        let mut runs = BTreeSet::new();
        {
            let mut waiters = self
                .waiters
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for task in ended {
                runs.extend(waiters.remove(task).unwrap_or_default());
            }
        }
        for run in runs {
            self.ask_cache(run);
        }
    }

    /// Notes that a run is to be told when the tasks that it waits for have ended; that may be the case already.
    pub(super) async fn wait_for(&self, run: RunId, round: &Round) -> Result<(), Failure> {
        if round.awaited.is_empty() {
            return Ok(());
        }
        {
            let mut waiters = self
                .waiters
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for task in &round.awaited {
                waiters.entry(*task).or_default().insert(run);
            }
        }
        let awaited: Vec<TaskId> = round.awaited.iter().copied().collect();
        let running = cache::running(&self.db, &awaited).await?;
        if running.len() < awaited.len() {
            self.ask_cache(run);
        }
        Ok(())
    }
}
