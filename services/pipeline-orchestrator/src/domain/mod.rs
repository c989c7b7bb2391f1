//! The engine of a run: a pure function from what is stored and what happened to what is stored next.
//!
//! [`step`] takes an [`Event`] into a [`RunState`] and says which rows changed and what is to be done. It does no IO, reads
//! no clock and draws no ids by itself. What it needs is a function of the stored rows ([`RunState::load`]), so the service
//! may be killed between any two commits: afterwards it loads the run, does [`RunState::open_effects`] again and goes on.
//!
//! # A run
//! It is PENDING until `Start`, then RUNNING. It ends SUCCEEDED or FAILED as its root task does. `Terminate` makes it
//! CANCELING: what waits is canceled, what runs is asked to stop; when the last task has ended it is CANCELED, whatever the
//! tasks made of it meanwhile. A run that had not started is CANCELED at once. Exit tasks are spared: they start when what
//! they follow was stopped, unless that never began; a second `Terminate` stops them too. A run that takes longer than its limit is stopped in the same way and
//! ends FAILED. A run that ended without success may be PENDING again: then `Start` resets what did not succeed, and what
//! follows on that, and goes on with the rest as it is.
//!
//! # A task
//! It is created with its group and is PENDING until every task that it depends on has SUCCEEDED or is CACHED; a task with
//! the strategy of exit tasks waits until they have ended in any way but SKIPPED. It is SKIPPED itself as soon as one of them
//! is. Then its inputs are resolved; if they cannot be, it is FAILED with the name of the input. Then its condition is asked:
//! without an answer it is FAILED, with the answer no SKIPPED with the values that it saw. Otherwise
//! - a *program* that may use the cache asks it first, still PENDING: it is CACHED with the outputs of an equal task, or
//!   waits for one that runs.
//! - any other *program* is READY: its first attempt is committed and launched. It is RUNNING when the program runs, and ends
//!   SUCCEEDED or FAILED as the attempt does. An attempt that is LOST is followed by a new one while the run's budget for
//!   that lasts; the task is then READY again. So is one whose attempt FAILED while the user's retries last, at once or after
//!   a pause: meanwhile it has no open attempt, and `retry_at` says until when.
//! - a *group* is RUNNING: its tasks are created. It ends when all of them have: CANCELED if it was asked to stop, FAILED if
//!   one of them failed, else SUCCEEDED with the outputs that it selects. The root is a group.
//! - a *loop* is a group whose tasks are its iterations, one per item (`loop[0]`, `loop[1]`, …): they are created together and
//!   begin in order, as many at a time as the limit lets. It puts out the lists of what they put out. An iteration is a group,
//!   or a program, with the loop's inputs and its item.
//! - an *importer* is RUNNING while it asks whether the artifact is known, and SUCCEEDED with it.
//!
//! When a task fails, nothing new starts in its group but exit tasks: tasks that wait are SKIPPED with the reason, tasks that
//! run go on to their end (a group among them starts its own inner tasks, for it runs). Then the group fails, and the same
//! holds one level further out, up to the run. Exit tasks learn how the task before them ended; they do not mend the group.
//!
//! Retries that a user asks for and repetitions of lost attempts share the numbers of attempts, and have budgets of their own.
//!
//! # Cost
//! A step costs what it changes: the tasks that start or end, with their dependencies and inputs. Groups keep counters of
//! unfinished dependencies, so nothing is searched. A loop keeps its list once; iterations get their item.

mod attempts;
mod budget;
mod cache;
pub mod compare;
mod condition;
mod engine;
mod event;
mod failures;
mod fields;
mod filter;
mod fingerprint;
mod group;
mod importer;
mod launch;
mod loops;
pub mod macros;
mod metric;
mod model;
mod page;
mod placeholder;
pub mod platform;
mod records;
mod recursion;
mod resolve;
mod resume;
mod retries;
mod run_filter;
pub mod schedule;
mod size;
mod state;
mod status;
#[cfg(test)]
mod tests;
pub mod violation;

pub use cache::{
    CACHE_VARIABLE, CacheAnswer, CacheEntry, CacheHit, CacheMode, CachePolicy, CacheRole, KeyKind,
    TaskCache,
};
pub use engine::step;
pub use event::{
    Changes, Effect, Event, Outcome, ProducedArtifact, StepError, StepReport, WorkloadState,
    WorkloadUpdate,
};
pub use fields::{Field, FieldKind, Fields};
pub use filter::{Compare, Filter, FilterError, Key, Predicate, Test};
pub use launch::{LaunchSpec, OutputSpec, Settings, launch_spec, run_base};
pub use metric::{RunMetric, metrics_of};
pub use model::{
    Artifact, Attempt, Cancel, Entered, GIVEN_UP, Inputs, LOST_BUDGET, Outputs, Run, RunBody, Task,
    TaskBody, TaskRecord, Usage,
};
pub use page::{Asked, Query, QueryError, Sort, SortValue, Start};
pub use records::{
    DEFAULT_EXPERIMENT, EXPERIMENT_FIELDS, Experiment, PIPELINE_FIELDS, Pipeline, RUN_FIELDS,
    RunRecord, RunsOf, Source, Spec, StorageState, VERSION_FIELDS, Version, shown_state,
};
pub use resolve::resource_name;
pub use run_filter::{Condition, RunKey, RunTest, cut, parse_run_filter};
pub use size::boundless;
pub use state::{MAX_DEPTH, MAX_TASKS, RunState, parse_workload_id};
pub use status::{
    Advance, AttemptStatus, IllegalMove, RunAction, RunStatus, TaskAction, TaskKind, TaskStatus,
};
