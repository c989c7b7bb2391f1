//! What goes on without a caller: one actor per run that has not ended, and the watch on the runner.

mod actor;
mod alarm;
mod cache;
mod calls;
mod cleanup;
mod engine;
mod giving_up;
pub(crate) mod launch;
mod numbers;
pub(crate) mod retention;
pub(crate) mod schedules;
mod settings;
mod slots;
mod watchers;

use ids::RunId;

pub use engine::{Deps, RunEngine};
pub(crate) use watchers::{News, Relisted};

/// Whoever brings runs forward. It reads what is to be done from the store, so a wake-up says only where to look; one
/// that is lost is made up for when the service starts again.
pub trait Wake: Send + Sync + 'static {
    /// A run is new, is asked to stop, or is to be removed.
    fn wake(&self, run: RunId);

    /// What lists show of a run, or of any number of them, is not as it was; there is nothing else to do.
    fn relisted(&self, run: Option<RunId>);
}

/// The abort points of this service, for tests that kill it at each.
pub const ABORT_POINTS: &[&str] = &[
    "orchestrator.call.committed",
    "orchestrator.step.computed",
    "orchestrator.step.committed",
    "orchestrator.cache.answered",
    "orchestrator.launch.sent",
    "orchestrator.launch.answered",
    "orchestrator.stop.sent",
    "orchestrator.schedule.computed",
    "orchestrator.schedule.committed",
    "orchestrator.give_up.stopped",
    "orchestrator.delete.forgotten",
    "orchestrator.delete.content",
    "orchestrator.delete.committed",
];
