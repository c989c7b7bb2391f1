//! Places at which a fault test can end a transfer, armed as those of the agent that starts it are: `FLUMINA_ABORT=name` or
//! `name:n` in its environment makes the n-th arrival there end it by SIGKILL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// Every abort point of a transfer: those of an upload, those of a download, and those of both at the end.
pub const POINTS: [&str; 10] = [
    "transfer.started",
    "transfer.stored",
    "transfer.begun",
    "transfer.part",
    "transfer.completed",
    "transfer.fetched",
    "transfer.renamed",
    "transfer.moved",
    "transfer.report_tmp",
    "transfer.reported",
];

/// The armed point, if any; cloning shares its count.
#[derive(Debug, Clone, Default)]
pub(super) struct Abort(Arc<Armed>);

#[derive(Debug, Default)]
struct Armed {
    name: String,
    left: AtomicU32,
}

impl Abort {
    #[expect(
        clippy::disallowed_methods,
        reason = "the transfer has no configuration; this is read once, at its start"
    )]
    pub(super) fn from_env() -> Self {
        let armed = std::env::var("FLUMINA_ABORT").unwrap_or_default();
        let (name, count) = match armed.rsplit_once(':') {
            Some((name, count)) => (name, count.parse().unwrap_or(1)),
            None => (armed.as_str(), 1),
        };
        Self(Arc::new(Armed {
            name: name.to_owned(),
            left: AtomicU32::new(count),
        }))
    }

    /// Ends the transfer when it is armed for this point.
    pub(super) fn point(&self, name: &str) {
        debug_assert!(POINTS.contains(&name), "{name} is not listed");
        if self.0.name == name && self.0.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // SIGKILL to itself does not return; if it ever did, the abort does not either.
            kill_process(getpid(), Signal::KILL).ok();
            std::process::abort();
        }
    }
}
