//! Runs, tasks, attempts and artifacts, as they are kept and stored.
//!
//! A run and a task each become one row: a few columns that lists and filters need, and a body of JSON with the rest.

use std::collections::BTreeMap;

use clock::Timestamp;
use ids::{ArtifactId, ExperimentId, RunId, TaskId, WorkloadId};
use pipeline_spec::plan::ArtifactType;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cache::{CachePolicy, TaskCache};
use super::status::{AttemptStatus, RunStatus, TaskKind, TaskStatus};

/// How often a lost attempt is repeated unless a run says otherwise.
pub const LOST_BUDGET: u32 = 2;

/// A run, without its tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// The id.
    pub id: RunId,
    /// The name that people gave it.
    pub display_name: String,
    /// The experiment that it belongs to.
    pub experiment_id: ExperimentId,
    /// The pipeline's name, from its specification.
    pub pipeline_name: String,
    /// Where outputs are stored: a URI or an absolute path, without a slash at the end.
    pub pipeline_root: String,
    /// The state.
    pub status: RunStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it should have started, of a run that a schedule made.
    pub scheduled_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Grows with every change.
    pub version: i64,
    /// The rest.
    pub body: RunBody,
}

/// What is stored of a run as one document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunBody {
    /// The parameters that were given; the root task has them with the defaults.
    pub parameters: Map<String, Value>,
    /// What the pipeline put out.
    pub outputs: Outputs,
    /// Why it is in its state, in `UPPER_SNAKE_CASE`; empty on success.
    pub reason: String,
    /// One sentence about the state.
    pub message: String,
    /// The task whose failure decided the run.
    pub failed_task: Option<TaskId>,
    /// Who asked it to stop, and when.
    pub cancel: Option<Cancel>,
    /// The states that it entered.
    pub history: Vec<Entered<RunStatus>>,
    /// How many tasks are in each state.
    pub task_counts: BTreeMap<TaskStatus, u32>,
    /// How often a lost attempt of a task is repeated.
    pub lost_budget: u32,
    /// Whether and how its tasks use the cache.
    #[serde(default)]
    pub cache: CachePolicy,
    /// When a run that has not ended by itself is stopped; none for never.
    #[serde(
        default,
        with = "micros::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub deadline: Option<Timestamp>,
}

/// The reason of a run that failed since the engine cannot go on with what is stored of it.
pub const GIVEN_UP: &str = "STORED_RUN_UNREADABLE";

/// A request to stop a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// Why, for people.
    pub reason: String,
    /// When it was asked.
    #[serde(with = "micros")]
    pub at: Timestamp,
    /// Whether nobody asked: the run took longer than its limit, so it ends FAILED.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// Whether it was asked again while the run was being stopped: exit tasks are stopped too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exit_tasks: bool,
}

/// A state and when it was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entered<S> {
    /// The state.
    pub status: S,
    /// When.
    #[serde(with = "micros")]
    pub at: Timestamp,
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The id.
    pub id: TaskId,
    /// The run.
    pub run_id: RunId,
    /// The group that it belongs to; none for the root.
    pub parent: Option<TaskId>,
    /// The name within the group; `root` for the root.
    pub name: String,
    /// The names below the root joined by `/`; empty for the root. Iterations are `loop[3]`.
    pub path: String,
    /// What it is.
    pub kind: TaskKind,
    /// The state.
    pub status: TaskStatus,
    /// The number of the iteration of the innermost loop around it; -1 outside loops.
    pub iteration: i64,
    /// When it came to be.
    pub created_at: Timestamp,
    /// When its program, or its first inner program, started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The version of the run at its last change.
    pub version: i64,
    /// The rest.
    pub body: TaskBody,
}

/// What is stored of a task as one document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TaskBody {
    /// The name for people.
    pub display_name: String,
    /// The component in the plan; empty for the root.
    pub component: String,
    /// The image, of a program that was launched.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Why it is in its state, in `UPPER_SNAKE_CASE`; empty on success.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence about the state.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The tasks of the group that must end first.
    pub dependencies: Vec<TaskId>,
    /// Of a group: the first of its tasks that failed; nothing more starts in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_child: Option<TaskId>,
    /// What the cache means to it; none for a task that does not use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<TaskCache>,
    /// What it received.
    pub inputs: Inputs,
    /// What it produced; of a group, what its outputs select.
    pub outputs: Outputs,
    /// Its attempts, oldest first. A user's retries and the repetitions of lost attempts share the numbers; the
    /// budgets are counted apart, by how an attempt ended.
    pub attempts: Vec<Attempt>,
    /// How many of the attempts were made before the run was last retried: no budget counts them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts_before: u32,
    /// When the next attempt starts, of a program that waits after a failure.
    #[serde(
        default,
        with = "micros::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub retry_at: Option<Timestamp>,
    /// The states that it entered.
    pub history: Vec<Entered<TaskStatus>>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What a task received.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// The declared parameters that have a value.
    pub parameters: Map<String, Value>,
    /// Values that the component does not declare: they fill placeholders and are not passed on.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub channels: Map<String, Value>,
    /// The declared artifacts that are there.
    pub artifacts: BTreeMap<String, Vec<ArtifactId>>,
}

/// What a task produced.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outputs {
    /// Parameters by output name.
    pub parameters: Map<String, Value>,
    /// Artifacts by output name.
    pub artifacts: BTreeMap<String, Vec<ArtifactId>>,
}

/// One try to run a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The number, from 1.
    pub number: u32,
    /// The workload's id.
    pub workload_id: WorkloadId,
    /// The state.
    pub status: AttemptStatus,
    /// Why it is in its state.
    pub reason: String,
    /// One sentence about the state.
    pub message: String,
    /// When it was committed.
    #[serde(with = "micros")]
    pub launched_at: Timestamp,
    /// When its program started.
    #[serde(with = "micros::option")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "micros::option")]
    pub ended_at: Option<Timestamp>,
    /// The exit code of the program.
    pub exit_code: Option<i32>,
    /// The signal that ended the program.
    pub signal: Option<i32>,
    /// What the program used.
    pub usage: Usage,
    /// What ran differently from what was asked.
    pub notes: Vec<String>,
    /// The place in the queue while it is queued, from 1.
    pub queue_position: u32,
    /// Time before the program started, in microseconds.
    pub prepare_us: i64,
    /// Time after the program ended, in microseconds.
    pub collect_us: i64,
    /// When its environment was first seen to be prepared.
    #[serde(default, with = "micros::option")]
    pub preparing_at: Option<Timestamp>,
    /// The newest version of the workload that was taken in.
    pub seen_version: i64,
}

/// What a program used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// The highest resident memory, in bytes.
    pub peak_memory_bytes: u64,
    /// CPU time in user mode, in microseconds.
    pub user_cpu_us: u64,
    /// CPU time in kernel mode, in microseconds.
    pub system_cpu_us: u64,
}

/// An artifact; it never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// The id.
    pub id: ArtifactId,
    /// The run that recorded it.
    pub run_id: RunId,
    /// The task that recorded it.
    pub task_id: TaskId,
    /// The output's name, or the name that the program gave.
    pub name: String,
    /// The type.
    pub artifact_type: ArtifactType,
    /// Where the content is.
    pub uri: String,
    /// Metadata.
    pub metadata: Map<String, Value>,
    /// The size of the content, in bytes; 0 for one that was imported.
    pub size_bytes: u64,
    /// SHA-256 of the content, lower-case hexadecimal; empty for one that was imported.
    pub sha256: String,
    /// Whether there is content at the URI, as far as is known.
    pub present: bool,
    /// Whether the content is a directory.
    pub directory: bool,
    /// When it was recorded.
    pub created_at: Timestamp,
}

/// A task as one row.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// The id.
    pub id: TaskId,
    /// The run.
    pub run_id: RunId,
    /// The group that it belongs to.
    pub parent_id: Option<TaskId>,
    /// The name within the group.
    pub name: String,
    /// The path, unique within the run.
    pub path: String,
    /// The kind.
    pub kind: TaskKind,
    /// The state.
    pub status: TaskStatus,
    /// The number of the iteration; -1 outside loops.
    pub iteration: i64,
    /// When it came to be.
    pub created_at: Timestamp,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The version of the run at its last change.
    pub version: i64,
    /// [`TaskBody`] as JSON.
    pub body: String,
}

impl Task {
    /// The newest attempt.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        self.body.attempts.last()
    }

    /// The attempt that has not ended; there is at most one, the newest.
    pub fn open_attempt(&self) -> Option<&Attempt> {
        self.last_attempt()
            .filter(|attempt| !attempt.status.ended())
    }

    /// Whether it was begun, and not only waited, since it was created or reset.
    pub fn begun(&self) -> bool {
        let since = self.body.history.iter().rev();
        let mut since = since.take_while(|entered| entered.status != TaskStatus::Pending);
        since.any(|entered| matches!(entered.status, TaskStatus::Ready | TaskStatus::Running))
    }

    /// How many attempts ended so since the run was last retried.
    pub fn ended_so(&self, status: AttemptStatus) -> usize {
        let mine = self
            .body
            .attempts
            .iter()
            .skip(self.body.attempts_before as usize);
        mine.filter(|attempt| attempt.status == status).count()
    }

    /// The task as it is named to people.
    pub fn label(&self) -> &str {
        if self.path.is_empty() {
            &self.name
        } else {
            &self.path
        }
    }

    /// The row of the task.
    ///
    /// # Errors
    /// The body cannot be written as JSON.
    pub fn to_record(&self) -> Result<TaskRecord, serde_json::Error> {
        Ok(TaskRecord {
            id: self.id,
            run_id: self.run_id,
            parent_id: self.parent,
            name: self.name.clone(),
            path: self.path.clone(),
            kind: self.kind,
            status: self.status,
            iteration: self.iteration,
            created_at: self.created_at,
            started_at: self.started_at,
            ended_at: self.ended_at,
            version: self.version,
            body: serde_json::to_string(&self.body)?,
        })
    }

    /// The task of a row.
    ///
    /// # Errors
    /// The body is not JSON of a [`TaskBody`].
    pub fn from_record(record: TaskRecord) -> Result<Self, serde_json::Error> {
        Ok(Self {
            body: serde_json::from_str(&record.body)?,
            id: record.id,
            run_id: record.run_id,
            parent: record.parent_id,
            name: record.name,
            path: record.path,
            kind: record.kind,
            status: record.status,
            iteration: record.iteration,
            created_at: record.created_at,
            started_at: record.started_at,
            ended_at: record.ended_at,
            version: record.version,
        })
    }
}

impl Attempt {
    /// An attempt that is about to be committed.
    pub(super) fn new(run: RunId, task: TaskId, number: u32, now: Timestamp) -> Self {
        Self {
            number,
            workload_id: WorkloadId::of_attempt(run, task, number),
            status: AttemptStatus::Committed,
            reason: String::new(),
            message: String::new(),
            launched_at: now,
            started_at: None,
            ended_at: None,
            exit_code: None,
            signal: None,
            usage: Usage::default(),
            notes: Vec::new(),
            queue_position: 0,
            prepare_us: 0,
            collect_us: 0,
            preparing_at: None,
            seen_version: -1,
        }
    }
}

/// Times as microseconds since 1970, the unit of every table.
mod micros {
    use clock::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.as_micros())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_micros)
    }

    pub(super) mod option {
        use clock::Timestamp;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            at: &Option<Timestamp>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            at.map(Timestamp::as_micros).serialize(to)
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_micros))
        }
    }
}
