//! Experiments, pipelines and versions, and runs with what the engine does not need.

use std::collections::BTreeMap;

use clock::Timestamp;
use ids::{ExperimentId, PipelineId, PipelineVersionId, ScheduleId};

use super::fields::{Field, Fields};
use super::model::{Cancel, Run};
use super::status::RunStatus;

/// The experiment of runs that name none.
pub const DEFAULT_EXPERIMENT: &str = "Default";

/// Whether something is put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageState {
    /// It is in use.
    Available,
    /// It is put away.
    Archived,
}

impl StorageState {
    /// The name that is stored and filtered by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Archived => "ARCHIVED",
        }
    }

    /// The state of a stored name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "AVAILABLE" => Some(Self::Available),
            "ARCHIVED" => Some(Self::Archived),
            _ => None,
        }
    }
}

/// A group of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experiment {
    /// The id.
    pub id: ExperimentId,
    /// The name, unique.
    pub name: String,
    /// For people.
    pub description: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its newest run was created; 1970 for never.
    pub last_run_created_at: Timestamp,
    /// Whether it is put away.
    pub storage_state: StorageState,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// The id.
    pub id: PipelineId,
    /// The name, unique.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A version of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The id.
    pub id: PipelineVersionId,
    /// The pipeline.
    pub pipeline_id: PipelineId,
    /// The name, unique within the pipeline.
    pub name: String,
    /// The name for people.
    pub display_name: String,
    /// For people.
    pub description: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// The specification.
    pub spec: Spec,
    /// Where the code is, for people.
    pub code_source_url: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A specification as JSON text, in the form that clients sent: the document, or the wrapper with platform settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// SHA-256 of the text, lower-case hexadecimal.
    pub hash: String,
    /// The text.
    pub body: String,
}

/// Where a run's specification came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The request itself.
    Inline,
    /// A stored version; it may be gone by now.
    Version(PipelineId, PipelineVersionId),
}

/// Which runs a list is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsOf {
    /// All of them.
    All,
    /// Those of an experiment.
    Experiment(ExperimentId),
    /// Those that a schedule made.
    Schedule(ScheduleId),
}

/// A run with all that is stored of it except its tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The engine's part.
    pub run: Run,
    /// For people.
    pub description: String,
    /// Whether it is put away.
    pub storage_state: StorageState,
    /// Where its specification came from.
    pub source: Source,
    /// The hash of the specification that it executes.
    pub spec_hash: String,
    /// The place for outputs as it was asked for; empty for the default.
    pub requested_root: String,
    /// The account that was asked for; it has no effect on one machine.
    pub service_account: String,
    /// The schedule that made it; empty for none.
    pub recurring_run_id: String,
    /// A request to stop it. The engine has not necessarily seen it yet.
    pub cancel: Option<Cancel>,
    /// Whether it is being removed; then no list shows it.
    pub deleting: bool,
    /// Whether its artifacts stay when it is removed.
    pub keep_artifacts: bool,
}

impl RunRecord {
    /// The state that clients see.
    pub fn shown_state(&self) -> &'static str {
        shown_state(self.run.status, self.cancel.is_some())
    }
}

/// The state that clients of the adopted contract see and filter by. They wait for SUCCEEDED, FAILED or SKIPPED and
/// for ever on CANCELED, so a stopped run is FAILED; a run that is asked to stop is CANCELING at once.
pub const fn shown_state(status: RunStatus, cancel_requested: bool) -> &'static str {
    match status {
        RunStatus::Pending | RunStatus::Running if cancel_requested => "CANCELING",
        RunStatus::Pending | RunStatus::Running | RunStatus::Canceling | RunStatus::Succeeded => {
            status.as_str()
        }
        RunStatus::Failed | RunStatus::Canceled => "FAILED",
    }
}

const STORAGE_STATES: &[&str] = &["AVAILABLE", "ARCHIVED", "STORAGE_STATE_UNSPECIFIED"];
const STATES: &[&str] = &[
    "PENDING",
    "RUNNING",
    "SUCCEEDED",
    "SKIPPED",
    "FAILED",
    "CANCELING",
    "CANCELED",
    "PAUSED",
    "RUNTIME_STATE_UNSPECIFIED",
];

/// What experiments are ordered and filtered by.
pub static EXPERIMENT_FIELDS: Fields = Fields {
    resource: "experiment",
    key: "experiments.id",
    tags: false,
    all: &[
        Field::text("experiment_id", &["id"], "experiments.id"),
        Field::text("display_name", &["name"], "experiments.name"),
        Field::time("created_at", "experiments.created_at"),
        Field::time("last_run_created_at", "experiments.last_run_created_at"),
        Field::text("description", &[], "experiments.description"),
        Field::text("namespace", &[], "experiments.namespace"),
        Field::names(
            "storage_state",
            &[],
            "experiments.storage_state",
            STORAGE_STATES,
        ),
    ],
};

/// What runs are ordered and filtered by. Upstream's column `runtime_details` is always empty here.
pub static RUN_FIELDS: Fields = Fields {
    resource: "run",
    key: "runs.id",
    tags: false,
    all: &[
        Field::text("run_id", &["id"], "runs.id"),
        Field::text("display_name", &["name"], "runs.display_name"),
        Field::time("created_at", "runs.created_at"),
        Field::time("finished_at", "runs.finished_at"),
        Field::time("scheduled_at", "runs.scheduled_at"),
        Field::text("description", &[], "runs.description"),
        Field::names("storage_state", &[], "runs.storage_state", STORAGE_STATES),
        Field::names("state", &["status"], "runs.state", STATES),
        Field::text("state_history", &[], "runs.state_history"),
        Field::text("namespace", &[], "runs.namespace"),
        Field::text("experiment_id", &[], "runs.experiment_id"),
        Field::text("recurring_run_id", &[], "runs.recurring_run_id"),
        Field::text("runtime_details", &[], "CAST('' AS TEXT)"),
    ],
};

/// What pipelines are ordered and filtered by.
pub static PIPELINE_FIELDS: Fields = Fields {
    resource: "pipeline",
    key: "pipelines.id",
    tags: true,
    all: &[
        Field::text("pipeline_id", &["id"], "pipelines.id"),
        Field::text("name", &[], "pipelines.name"),
        Field::text("display_name", &[], "pipelines.display_name"),
        Field::time("created_at", "pipelines.created_at"),
        Field::text("description", &[], "pipelines.description"),
        Field::text("namespace", &[], "pipelines.namespace"),
    ],
};

/// What versions are ordered and filtered by. Each is READY; a specification is no order.
pub static VERSION_FIELDS: Fields = Fields {
    resource: "pipeline_version",
    key: "pipeline_versions.id",
    tags: false,
    all: &[
        Field::text("pipeline_version_id", &["id"], "pipeline_versions.id"),
        Field::text("name", &[], "pipeline_versions.name"),
        Field::text("display_name", &[], "pipeline_versions.display_name"),
        Field::time("created_at", "pipeline_versions.created_at"),
        Field::text("status", &[], "CAST('READY' AS TEXT)"),
        Field::text("description", &[], "pipeline_versions.description"),
        Field::text("pipeline_spec", &[], "specs.body").unsortable(),
    ],
};
