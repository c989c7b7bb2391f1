//! The cache: a program whose key is known is not run again, and of several with one key only one runs.
//!
//! A task asks when its inputs are resolved ([`Effect::FindCached`]); it is PENDING meanwhile. The answer
//! ([`Event::CacheLookedUp`](super::event::Event)) makes it CACHED with the outputs of another task, lets it wait for
//! the task that runs now, or makes it *lead*: it is launched, and its row in the cache is written in the same
//! transaction. That row becomes an entry in the transaction of its success and goes with any other end, so whoever
//! waits and asks again finds an entry, another leader, or nothing and leads.

use std::collections::{BTreeMap, BTreeSet};

use clock::Timestamp;
use ids::{RunId, TaskId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::engine::Engine;
use super::event::{Effect, StepError};
use super::fingerprint;
use super::launch::Settings;
use super::model::{Artifact, Outputs, Task};
use super::state::RunState;
use super::status::{TaskAction, TaskKind, TaskStatus};

/// The environment variable of a task that changes the policy for it alone; it is not a part of its key.
pub const CACHE_VARIABLE: &str = "FLUMINA_CACHE";

/// The longest time that a result may be asked to stay good, in seconds: a hundred years.
const MAX_AGE: u64 = 100 * 365 * 24 * 3600;

/// How keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// Nothing is taken from the cache, and nothing is put there.
    Off,
    /// Input artifacts count by which they are.
    #[default]
    Identity,
    /// Input artifacts count by what is in them.
    Content,
}

/// Whether and how the tasks of a run use the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CachePolicy {
    /// How keys are made.
    pub mode: CacheMode,
    /// How old a result may be, in seconds; 0 for any age.
    #[serde(default)]
    pub max_age_s: u64,
}

impl CachePolicy {
    /// The policy of a text such as `content; max-age=3600`; what it does not say is as in `self`.
    ///
    /// # Errors
    /// What is wrong with the text and what would be right.
    pub fn refined(self, text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(40).collect();
            format!(
                "must be `off`, `identity` or `content`, or `max-age=SECONDS`, or both with `;` between them, and is `{shown}`"
            )
        };
        let (mut mode, mut age) = (None, None);
        for part in text.split(';').map(str::trim) {
            let twice = match (part, part.strip_prefix("max-age=")) {
                ("off", _) => mode.replace(CacheMode::Off).is_some(),
                ("identity", _) => mode.replace(CacheMode::Identity).is_some(),
                ("content", _) => mode.replace(CacheMode::Content).is_some(),
                (_, Some(seconds)) => {
                    let seconds: u64 = seconds.parse().map_err(|_| wrong())?;
                    age.replace(seconds.min(MAX_AGE)).is_some()
                }
                (_, None) => return Err(wrong()),
            };
            if twice {
                return Err(wrong());
            }
        }
        Ok(Self {
            mode: mode.unwrap_or(self.mode),
            max_age_s: age.unwrap_or(self.max_age_s),
        })
    }
}

/// What a key is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum KeyKind {
    /// The program and which inputs it gets.
    Identity,
    /// The program and what is in its inputs.
    Content,
    /// The `cacheKey` of the task.
    Given,
}

impl KeyKind {
    /// The name that is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "IDENTITY",
            Self::Content => "CONTENT",
            Self::Given => "GIVEN",
        }
    }

    /// The kind of a stored name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Identity, Self::Content, Self::Given]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// What the cache means to a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCache {
    /// What the key is made of.
    pub kind: KeyKind,
    /// The key: SHA-256, lower-case hexadecimal.
    pub key: String,
    /// How old a result may be, in seconds; 0 for any age.
    #[serde(default)]
    pub max_age_s: u64,
    /// What it does with it.
    pub role: CacheRole,
    /// Why a result that was there is not used; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What a task does with the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheRole {
    /// It waits for an answer.
    Asks,
    /// It waits for a task with the same key.
    Waits {
        /// The run of that task.
        run: RunId,
        /// That task.
        task: TaskId,
    },
    /// It runs, and others with the same key wait for it.
    Leads,
    /// Its outputs are those of another task.
    Uses {
        /// The run of that task.
        run: RunId,
        /// That task.
        task: TaskId,
    },
}

/// What the cache knows of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum CacheAnswer {
    /// The outputs of a task that succeeded.
    Hit(Box<CacheHit>),
    /// A task with this key runs now.
    Running {
        /// The run of that task.
        run: RunId,
        /// That task.
        task: TaskId,
    },
    /// Nothing that can be used.
    Miss {
        /// Why what was there is not used; empty for none.
        note: String,
    },
}

/// The outputs of a task that succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheHit {
    /// The run of the task.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The path of the task.
    pub path: String,
    /// Parameters by output name.
    pub parameters: Map<String, Value>,
    /// Artifacts by output name.
    pub artifacts: BTreeMap<String, Vec<Artifact>>,
}

/// What the cache keeps of a task that succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheEntry {
    /// The task: it is the entry's id too.
    pub id: TaskId,
    /// The pipeline whose runs may use it.
    pub pipeline_name: String,
    /// The key: SHA-256, lower-case hexadecimal.
    pub key: String,
    /// What the key is made of.
    pub kind: KeyKind,
    /// The run of the task.
    pub run_id: RunId,
    /// The path of the task.
    pub task_path: String,
    /// What the task put out.
    pub outputs: Outputs,
    /// When the task succeeded, or was launched.
    pub created_at: Timestamp,
    /// When it is not used any more; none for never.
    pub expires_at: Option<Timestamp>,
    /// How often outputs were taken from it.
    pub hits: i64,
    /// When that happened last.
    pub last_hit_at: Option<Timestamp>,
}

impl CacheEntry {
    /// The entry of a task that leads; none for another one.
    pub fn of(state: &RunState, task: &Task) -> Option<Self> {
        let cache = task.body.cache.as_ref().filter(|_| task.leads())?;
        let created_at = task.ended_at.unwrap_or(task.created_at);
        let age = i64::try_from(cache.max_age_s).unwrap_or(i64::MAX);
        let expires = created_at
            .as_micros()
            .saturating_add(age.saturating_mul(1_000_000));
        Some(Self {
            id: task.id,
            pipeline_name: state.run.pipeline_name.clone(),
            key: cache.key.clone(),
            kind: cache.kind,
            run_id: task.run_id,
            task_path: task.path.clone(),
            outputs: task.body.outputs.clone(),
            created_at,
            expires_at: (age > 0).then(|| Timestamp::from_micros(expires)),
            hits: 0,
            last_hit_at: None,
        })
    }

    /// Why it must not be used at a time, by somebody who takes results of at most that many seconds; none when it may.
    pub fn refusal(&self, now: Timestamp, max_age_s: u64) -> Option<&'static str> {
        let age = now.as_micros().saturating_sub(self.created_at.as_micros());
        let limit = i64::try_from(max_age_s).unwrap_or(i64::MAX);
        if self.expires_at.is_some_and(|at| at <= now) {
            Some("has expired")
        } else if limit > 0 && age >= limit.saturating_mul(1_000_000) {
            Some("is older than this task takes")
        } else {
            None
        }
    }
}

impl Task {
    /// Whether its row in the cache is written with it.
    pub(super) fn leads(&self) -> bool {
        let role = self.body.cache.as_ref().map(|cache| cache.role);
        role == Some(CacheRole::Leads)
    }

    /// What it asks the cache, or waits for.
    pub(super) fn cache_question(&self) -> Option<Effect> {
        let cache = self.body.cache.as_ref()?;
        let open = match cache.role {
            CacheRole::Asks | CacheRole::Waits { .. } => self.status == TaskStatus::Pending,
            CacheRole::Leads | CacheRole::Uses { .. } => false,
        };
        open.then(|| Effect::FindCached {
            task: self.id,
            key: cache.key.clone(),
            max_age_s: cache.max_age_s,
        })
    }
}

impl RunState {
    /// What tasks that wait for the cache ask, to be asked again when a task that they wait for may have ended.
    pub fn cache_questions(&self) -> Vec<Effect> {
        let tasks = self.tasks.values();
        tasks.filter_map(Task::cache_question).collect()
    }
}

impl Engine<'_> {
    /// Asks the cache for a program whose inputs are resolved; false when it has no use for that.
    pub(super) fn asks_cache(
        &mut self,
        id: TaskId,
        settings: &Settings,
        volumes: &BTreeSet<String>,
    ) -> Result<bool, StepError> {
        let task = self.state.task(id)?;
        let caching = &self.state.planned(task)?.caching;
        let mut policy = self.state.run.body.cache;
        // One that succeeded before runs because the run was retried; its row is that of its success.
        let mut entered = task.body.history.iter();
        if entered.any(|entered| entered.status == TaskStatus::Succeeded) {
            return Ok(false);
        }
        if !caching.enabled || policy.mode == CacheMode::Off {
            return Ok(false);
        }
        let own = settings.env.iter().find(|(name, _)| name == CACHE_VARIABLE);
        if let Some((_, text)) = own {
            match policy.refined(text) {
                Ok(refined) => policy = refined,
                Err(wrong) => {
                    let label = task.label();
                    let message =
                        format!("task `{label}`, environment variable `{CACHE_VARIABLE}`: {wrong}");
                    self.fail(id, "CACHE_POLICY_INVALID", message)?;
                    return Ok(true);
                }
            }
        }
        let kind = match policy.mode {
            CacheMode::Off => return Ok(false),
            _ if !caching.key.is_empty() => KeyKind::Given,
            CacheMode::Identity => KeyKind::Identity,
            CacheMode::Content => KeyKind::Content,
        };
        let cache = TaskCache {
            kind,
            key: fingerprint::key(self.state, task, kind, volumes)?,
            max_age_s: policy.max_age_s,
            role: CacheRole::Asks,
            note: String::new(),
        };
        self.task_mut(id)?.body.cache = Some(cache);
        let question = self.state.task(id)?.cache_question();
        self.outcome.effects.extend(question);
        Ok(true)
    }

    /// Takes the answer of the cache.
    pub(super) fn cache_looked_up(
        &mut self,
        id: TaskId,
        answer: CacheAnswer,
    ) -> Result<(), StepError> {
        let task = self.state.get(id);
        let Some(task) = task.filter(|task| task.cache_question().is_some()) else {
            return Ok(());
        };
        debug_assert_eq!(task.kind, TaskKind::Container);
        match answer {
            CacheAnswer::Hit(hit) => self.use_cached(id, *hit),
            CacheAnswer::Running { run, task: leader } => {
                let role = CacheRole::Waits { run, task: leader };
                if task.body.cache.as_ref().map(|cache| cache.role) != Some(role) {
                    let body = &mut self.task_mut(id)?.body;
                    if let Some(cache) = &mut body.cache {
                        cache.role = role;
                    }
                    body.reason = "SAME_STEP_RUNS".to_owned();
                    body.message = format!("waits for the same step of run {run}");
                }
                Ok(())
            }
            CacheAnswer::Miss { note } => {
                let body = &mut self.task_mut(id)?.body;
                body.reason.clear();
                body.message.clear();
                if let Some(cache) = &mut body.cache {
                    (cache.role, cache.note) = (CacheRole::Leads, note);
                }
                self.outcome.changes.cache.push(id);
                self.launch_program(id)
            }
        }
    }

    fn use_cached(&mut self, id: TaskId, hit: CacheHit) -> Result<(), StepError> {
        let mut outputs = Outputs {
            parameters: hit.parameters,
            ..Default::default()
        };
        for (name, artifacts) in hit.artifacts {
            let ids = artifacts.iter().map(|artifact| artifact.id).collect();
            outputs.artifacts.insert(name, ids);
            for artifact in artifacts {
                // Those of this run, and those that it uses already, are noted.
                if !self.state.artifacts.contains_key(&artifact.id) {
                    self.outcome.changes.artifacts.push(artifact.id);
                    self.state.artifacts.insert(artifact.id, artifact.into());
                }
            }
        }
        let body = &mut self.task_mut(id)?.body;
        body.outputs = outputs;
        body.reason.clear();
        body.message = format!("the outputs are those of `{}` of run {}", hit.path, hit.run);
        if let Some(cache) = &mut body.cache {
            cache.role = CacheRole::Uses {
                run: hit.run,
                task: hit.task,
            };
        }
        self.act(id, TaskAction::Reuse)
    }
}
