//! The abort point that agents are started with, for fault tests.

use std::sync::atomic::{AtomicU32, Ordering};

/// From `FLUMINA_AGENT_ABORT`: `POINT` or `POINT:N` for every agent, `POINT@COUNT` for the first agents only.
#[derive(Debug)]
pub(crate) struct AgentAbort {
    point: String,
    left: AtomicU32,
}

impl AgentAbort {
    pub(super) fn parse(text: &str) -> Self {
        let (point, count) = match text.rsplit_once('@') {
            Some((point, count)) => (point, count.parse().unwrap_or(u32::MAX)),
            None => (text, u32::MAX),
        };
        Self {
            point: point.to_owned(),
            left: AtomicU32::new(count),
        }
    }

    /// What the agent that is started now gets as `FLUMINA_ABORT`.
    pub(super) fn next(&self) -> Option<&str> {
        let less = |left: u32| left.checked_sub(1);
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.is_ok().then_some(self.point.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_agents_get_the_point() {
        let abort = AgentAbort::parse("agent.ended:2@1");
        assert_eq!((abort.next(), abort.next()), (Some("agent.ended:2"), None));
        let every = AgentAbort::parse("agent.locked");
        assert_eq!(
            (every.next(), every.next()),
            (Some("agent.locked"), Some("agent.locked"))
        );
    }
}
