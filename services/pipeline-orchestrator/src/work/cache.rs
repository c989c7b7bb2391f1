//! The cache at work: questions of tasks are answered from its rows, and who waits for a task is told when it has ended.
//!
//! Rows alone decide. That a task waits is stored with it; who is to be told is in memory and made anew when a run is
//! loaded, since the run asks again then. A task that begins to wait looks once more after its commit whether the other
//! one still runs: the other one commits its end before it tells, so one of the two sees the other.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt as _;
use ids::{ArtifactId, RunId, TaskId};

use super::actor::Failure;
use super::engine::Inner;
use crate::domain::{
    Artifact, CacheAnswer, CacheEntry, CacheHit, CacheRole, Effect, Event, RunState, TaskStatus,
};
use crate::store::cache::{Found, Writes};
use crate::store::{artifacts, cache};

/// Keys whose entries are in memory at a time.
const KEYS: usize = 500;
/// Artifacts whose content is looked for at a time.
const LOOKS: usize = 16;

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
    let mut known: HashMap<String, Known> = HashMap::new();
    for keys in keys.chunks(KEYS) {
        let found = cache::look_up(&engine.db, &state.run.pipeline_name, keys).await?;
        usable(engine, found, round, &mut known).await?;
    }
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
    /// The newest entry that can be used. No older one is of use to anybody who refuses it for its age.
    entry: Option<(CacheEntry, CacheHit)>,
    /// The task that runs for it.
    leader: Option<(RunId, TaskId)>,
    /// Why entries cannot be used.
    note: String,
}

/// Finds what can be used for each key. Many keys are asked for at a time when a loop begins, so they go together: for
/// the newest entry of each, the artifacts are read, then their content is looked for; where that is gone, the next
/// entry follows.
async fn usable(
    engine: &Inner,
    found: HashMap<String, Vec<Found>>,
    round: &mut Round,
    known: &mut HashMap<String, Known>,
) -> Result<(), Failure> {
    let now = engine.clock.now();
    let mut searches: Vec<(String, VecDeque<CacheEntry>)> = Vec::with_capacity(found.len());
    for (key, rows) in found {
        let mut entries = VecDeque::new();
        let of_key = known.entry(key.clone()).or_default();
        for row in rows {
            match (row.running, row.run_ended) {
                (true, false) => of_key.leader = Some((row.entry.run_id, row.entry.id)),
                // Its run went without a word; nobody will end it.
                (true, true) => {
                    round.stale.insert(row.entry.id);
                }
                (false, _) => entries.push_back(row.entry),
            }
        }
        searches.push((key, entries));
    }
    while !searches.is_empty() {
        let mut candidates: Vec<(String, CacheEntry)> = Vec::new();
        for (key, entries) in &mut searches {
            let of_key = known.entry(key.clone()).or_default();
            while let Some(entry) = entries.pop_front() {
                let Some(why) = entry.refusal(now, 0) else {
                    candidates.push((key.clone(), entry));
                    break;
                };
                of_key.note = not_used(&entry, &format!("the entry {why}"));
            }
        }
        let contents = Contents::of(engine, candidates.iter().map(|(_, entry)| entry)).await?;
        for (key, entry) in candidates {
            let of_key = known.entry(key).or_default();
            match contents.outputs(&entry) {
                Ok(hit) => of_key.entry = Some((entry, hit)),
                Err((why, unusable)) => {
                    of_key.note = not_used(&entry, &why);
                    if matches!(unusable, Unusable::Gone(_)) {
                        round.stale.insert(entry.id);
                    }
                }
            }
        }
        searches.retain(|(key, entries)| {
            let unanswered = known.get(key).is_none_or(|known| known.entry.is_none());
            unanswered && !entries.is_empty()
        });
    }
    Ok(())
}

fn not_used(entry: &CacheEntry, why: &str) -> String {
    let (path, run) = (&entry.task_path, entry.run_id);
    format!("the outputs of `{path}` of run {run} are not used: {why}")
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
    if let Some((entry, hit)) = known.and_then(|known| known.entry.as_ref()) {
        match entry.refusal(now, max_age_s) {
            None => {
                round.used.push((entry.id, task));
                return CacheAnswer::Hit(Box::new(hit.clone()));
            }
            Some(why) => note = not_used(entry, &format!("the entry {why}")),
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

/// The artifacts of some entries, and what is wrong with their content.
struct Contents {
    records: HashMap<ArtifactId, Artifact>,
    unusable: HashMap<ArtifactId, Unusable>,
}

impl Contents {
    async fn of(
        engine: &Inner,
        entries: impl Iterator<Item = &CacheEntry>,
    ) -> Result<Self, Failure> {
        let ids: BTreeSet<ArtifactId> = entries
            .flat_map(|entry| entry.outputs.artifacts.values().flatten().copied())
            .collect();
        let ids: Vec<ArtifactId> = ids.into_iter().collect();
        let records = artifacts::by_ids(&engine.db, &ids).await?;
        let ours =
            |artifact: &&Artifact| artifact.present && engine.objects.contains(&artifact.uri);
        let looks: Vec<_> = records
            .values()
            .filter(ours)
            .map(|artifact| look(engine.objects.clone(), artifact))
            .collect();
        let looks = futures_util::stream::iter(looks).buffer_unordered(LOOKS);
        let unusable = looks.filter_map(std::future::ready).collect().await;
        Ok(Self { records, unusable })
    }

    /// The outputs of an entry with their artifacts, or why they are not there any more.
    fn outputs(&self, entry: &CacheEntry) -> Result<CacheHit, (String, Unusable)> {
        let mut hit = CacheHit {
            run: entry.run_id,
            task: entry.id,
            path: entry.task_path.clone(),
            parameters: entry.outputs.parameters.clone(),
            artifacts: Default::default(),
        };
        for (name, ids) in &entry.outputs.artifacts {
            let mut list = Vec::with_capacity(ids.len());
            for id in ids {
                let Some(artifact) = self.records.get(id) else {
                    let why = format!("artifact `{name}` was removed");
                    return Err((why, Unusable::Gone("was removed")));
                };
                if let Some(unusable) = self.unusable.get(id) {
                    let (Unusable::Gone(why) | Unusable::Unreadable(why)) = unusable;
                    let uri = &artifact.uri;
                    return Err((format!("artifact `{name}` {why} (`{uri}`)"), *unusable));
                }
                list.push(artifact.clone());
            }
            hit.artifacts.insert(name.clone(), list);
        }
        Ok(hit)
    }
}

/// Looks whether the content of an artifact in our store is what it was, and says why not.
fn look(
    objects: objects::Store,
    artifact: &Artifact,
) -> impl Future<Output = Option<(ArtifactId, Unusable)>> + Send + use<> {
    let (id, uri) = (artifact.id, artifact.uri.clone());
    let (directory, size) = (artifact.directory, artifact.size_bytes);
    async move {
        let unusable = match objects.stat(&uri).await {
            Ok(Some(stat)) if stat.directory != directory => {
                Unusable::Gone("is of another kind now")
            }
            Ok(Some(stat)) if !stat.directory && stat.size != size => {
                Unusable::Gone("has another size now")
            }
            Ok(Some(_)) => return None,
            Ok(None) => Unusable::Gone("is gone"),
            Err(_) => Unusable::Unreadable("cannot be read now"),
        };
        Some((id, unusable))
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
