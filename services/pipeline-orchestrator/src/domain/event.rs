//! What happens to a run, and what follows from it.

use clock::Timestamp;
use ids::{ArtifactId, TaskId, WorkloadId};
use pipeline_spec::plan::ArtifactType;
use serde_json::{Map, Value};

use super::cache::CacheAnswer;
use super::model::{Artifact, Usage};
use super::status::{AttemptStatus, IllegalMove};

/// Something that happened. Every event may come twice, late or out of order; then it changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run may start.
    Start,
    /// The runner says how a workload is.
    Workload(WorkloadUpdate),
    /// The runner will never run a workload: the request is not valid.
    LaunchRefused {
        /// The workload.
        workload_id: WorkloadId,
        /// The runner's reason, in `UPPER_SNAKE_CASE`.
        reason: String,
        /// One sentence for people.
        message: String,
    },
    /// The runner does not take a workload yet; it is asked again.
    LaunchDelayed {
        /// The workload.
        workload_id: WorkloadId,
        /// What the runner says.
        cause: String,
    },
    /// The answer to [`Effect::FindArtifact`].
    ArtifactLookedUp {
        /// The importer that asked.
        task: TaskId,
        /// What is known; none when nothing is.
        found: Option<Box<Artifact>>,
    },
    /// The answer to [`Effect::FindCached`].
    CacheLookedUp {
        /// The task that asked.
        task: TaskId,
        /// What is known.
        answer: CacheAnswer,
    },
    /// The time that [`super::RunState::wake_at`] gave has come.
    Timer,
    /// Somebody wants the run to end.
    Terminate {
        /// Why, for people.
        reason: String,
        /// Whether exit tasks are to end too.
        exit_tasks: bool,
    },
}

/// The state of a workload, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadUpdate {
    /// The workload.
    pub workload_id: WorkloadId,
    /// The workload's version: an update that is not newer than what was taken in changes nothing.
    pub version: i64,
    /// The state.
    pub state: WorkloadState,
    /// Why it is in that state.
    pub reason: String,
    /// One sentence about it.
    pub message: String,
    /// What ran differently from what was asked.
    pub notes: Vec<String>,
    /// When the agent was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// The state of a workload.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkloadState {
    /// It waits for the machine.
    Queued {
        /// The place in the queue, from 1.
        position: u32,
    },
    /// Its environment is being built.
    Preparing,
    /// Its agent was started.
    Running,
    /// It is being stopped.
    Stopping,
    /// It ended well.
    Succeeded(Box<StepReport>),
    /// It failed; there is no report when its program never started.
    Failed(Option<Box<StepReport>>),
    /// It was stopped on request.
    Stopped(Option<Box<StepReport>>),
    /// Its agent or the machine died before a result was recorded.
    Lost,
}

impl WorkloadState {
    /// The attempt's state that it means.
    pub fn status(&self) -> AttemptStatus {
        match self {
            Self::Queued { .. } => AttemptStatus::Queued,
            Self::Preparing => AttemptStatus::Preparing,
            Self::Running => AttemptStatus::Running,
            Self::Stopping => AttemptStatus::Stopping,
            Self::Succeeded(_) => AttemptStatus::Succeeded,
            Self::Failed(_) => AttemptStatus::Failed,
            Self::Stopped(_) => AttemptStatus::Stopped,
            Self::Lost => AttemptStatus::Lost,
        }
    }

    /// What the agent recorded.
    pub fn report(&self) -> Option<&StepReport> {
        match self {
            Self::Queued { .. } | Self::Preparing | Self::Running | Self::Stopping | Self::Lost => {
                None
            }
            Self::Succeeded(report) => Some(report),
            Self::Failed(report) | Self::Stopped(report) => report.as_deref(),
        }
    }
}

/// What a step did, as its agent recorded it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepReport {
    /// The exit code of the program.
    pub exit_code: Option<i32>,
    /// The signal that ended the program.
    pub signal: Option<i32>,
    /// The parameters that it produced, by output name.
    pub parameters: Map<String, Value>,
    /// The artifacts that it produced, by output name.
    pub artifacts: Vec<(String, Vec<ProducedArtifact>)>,
    /// What it used.
    pub usage: Usage,
    /// When the program started.
    pub started_at: Option<Timestamp>,
    /// When the program ended.
    pub ended_at: Option<Timestamp>,
    /// Time before the program started, in microseconds.
    pub prepare_us: i64,
    /// Time after the program ended, in microseconds.
    pub collect_us: i64,
}

/// An artifact that a step produced.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProducedArtifact {
    /// The name that the program gave; empty for the output's name.
    pub name: String,
    /// The type; empty for the declared one.
    pub artifact_type: ArtifactType,
    /// Where the content is.
    pub uri: String,
    /// Metadata.
    pub metadata: Map<String, Value>,
    /// The size of the content, in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content, lower-case hexadecimal.
    pub sha256: String,
    /// Whether there is content.
    pub present: bool,
    /// Whether the content is a directory.
    pub directory: bool,
}

/// What is to be done, after the changes are committed. [`super::RunState::open_effects`] gives those of a run that
/// are still to be answered; doing one twice is harmless.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Ask the runner for an attempt; [`super::launch_spec`] says what to run.
    Launch {
        /// The task.
        task: TaskId,
        /// The number of the attempt.
        attempt: u32,
        /// The workload.
        workload_id: WorkloadId,
    },
    /// Ask the runner to stop a workload, even one that it never saw; its answer is an update.
    Stop {
        /// The workload.
        workload_id: WorkloadId,
        /// Why, for people.
        reason: String,
    },
    /// Look for a known artifact with equal URI, type and metadata, for an importer that may use it again.
    FindArtifact {
        /// The importer.
        task: TaskId,
        /// The URI.
        uri: String,
        /// The type.
        artifact_type: ArtifactType,
        /// Metadata.
        metadata: Map<String, Value>,
    },
    /// Look a key up in the cache. The answer should be taken in before the changes are committed: that saves a commit.
    FindCached {
        /// The task.
        task: TaskId,
        /// The key.
        key: String,
        /// How old a result may be, in seconds; 0 for any age.
        max_age_s: u64,
    },
    /// The run has ended.
    RunEnded,
}

/// Which rows are to be written, all in one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Changes {
    /// The run's row.
    pub run: bool,
    /// Tasks that are new, each after its group.
    pub inserted: Vec<TaskId>,
    /// Tasks that were there.
    pub updated: Vec<TaskId>,
    /// Artifacts that are new, and those of other runs that this run uses from now on.
    pub artifacts: Vec<ArtifactId>,
    /// Tasks whose row in the cache is to be written as they are now.
    pub cache: Vec<TaskId>,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        !self.run
            && self.inserted.is_empty()
            && self.updated.is_empty()
            && self.artifacts.is_empty()
    }
}

/// What an event led to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// What to do, in order, once the changes are committed.
    pub effects: Vec<Effect>,
    /// What to write.
    pub changes: Changes,
}

/// The engine met something that cannot be. The state in memory is no longer good: load it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// A move that the state machine does not have.
    #[error("task {task}: {illegal}")]
    IllegalTaskMove {
        /// The task.
        task: TaskId,
        /// The move.
        illegal: IllegalMove,
    },
    /// A move that the state machine does not have.
    #[error("run: {0}")]
    IllegalRunMove(IllegalMove),
    /// The run and its plan do not fit each other.
    #[error("the stored run does not fit its plan: {0}")]
    Inconsistent(String),
}
