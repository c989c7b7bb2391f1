//! Places at which a fault test can end the agent.
//!
//! `FLUMINA_ABORT=name` or `name:n` in the agent's environment makes the n-th arrival at that point kill the agent by
//! SIGKILL, as a crash or a power cut would. The variable never reaches the program.

use std::cell::Cell;

/// Every abort point, in the order in which an attempt passes them.
pub(crate) const POINTS: &[&str] = &[
    "agent.locked",
    "agent.prepared",
    "agent.before_started",
    "agent.after_started",
    "agent.after_fork",
    "agent.ended",
    "agent.collected",
    "agent.before_result",
    "agent.result_tmp",
    "agent.after_result",
    "agent.before_exit_record",
    "agent.exit_tmp",
    "agent.after_exit_record",
];

/// The armed point, if any.
pub(crate) struct Abort {
    name: String,
    left: Cell<u32>,
}

impl Abort {
    /// Reads the variable.
    #[expect(
        clippy::disallowed_methods,
        reason = "the agent has no configuration; this is read once, at its start"
    )]
    pub(crate) fn from_env() -> Abort {
        let armed = std::env::var("FLUMINA_ABORT").unwrap_or_default();
        let (name, count) = match armed.rsplit_once(':') {
            Some((name, count)) => (name, count.parse().unwrap_or(1)),
            None => (armed.as_str(), 1),
        };
        Abort {
            name: name.to_owned(),
            left: Cell::new(count),
        }
    }

    /// Ends the agent when it is armed for this point.
    pub(crate) fn point(&self, name: &str) {
        debug_assert!(POINTS.contains(&name), "{name} is not listed");
        if self.name != name {
            return;
        }
        self.left.set(self.left.get().saturating_sub(1));
        if self.left.get() == 0 {
            crate::sys::kill_self();
        }
    }
}
