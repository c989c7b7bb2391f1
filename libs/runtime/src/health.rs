//! Readiness as a value that others can await.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The condition holds.
    Ready,
    /// The condition does not hold, and why.
    NotReady(String),
}

#[derive(Debug, Default)]
struct Conditions {
    states: BTreeMap<String, State>,
    draining: bool,
}

impl Conditions {
    fn ready(&self) -> bool {
        !self.draining && self.states.values().all(|state| *state == State::Ready)
    }
}

/// Named conditions; the process is ready when all hold and it is not draining. Clones share the conditions.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<watch::Sender<Conditions>>);

impl Readiness {
    /// No conditions yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that does not hold yet.
    pub fn condition(&self, name: impl Into<String>) -> Condition {
        let condition = Condition {
            name: name.into(),
            readiness: self.clone(),
        };
        condition.not_ready("starting");
        condition
    }

    /// Makes the process not ready for good: it is about to end.
    pub fn drain(&self) {
        self.0.send_modify(|conditions| conditions.draining = true);
    }

    /// Tells whether all conditions hold.
    pub fn ready(&self) -> bool {
        self.0.borrow().ready()
    }

    /// What is missing, as `name: reason`; empty when ready.
    pub fn missing(&self) -> Vec<String> {
        let conditions = self.0.borrow();
        let draining = conditions.draining.then(|| "draining".to_owned());
        let states = conditions
            .states
            .iter()
            .filter_map(|(name, state)| match state {
                State::Ready => None,
                State::NotReady(reason) => Some(format!("{name}: {reason}")),
            });
        draining.into_iter().chain(states).collect()
    }

    /// Waits until all conditions hold.
    pub async fn wait_ready(&self) {
        self.wait_until(Conditions::ready).await;
    }

    /// Waits until the condition `name` exists and holds.
    pub async fn wait_for(&self, name: &str) {
        self.wait_until(|conditions| conditions.states.get(name) == Some(&State::Ready))
            .await;
    }

    /// Waits until readiness is no longer `seen`, and returns what it is then.
    pub async fn changed_from(&self, seen: bool) -> bool {
        self.wait_until(|conditions| conditions.ready() != seen)
            .await;
        !seen
    }

    async fn wait_until(&self, condition: impl FnMut(&Conditions) -> bool) {
        // The sender lives as long as `self`, so waiting cannot fail.
        self.0.subscribe().wait_for(condition).await.ok();
    }
}

/// One condition of a [`Readiness`].
#[derive(Debug, Clone)]
pub struct Condition {
    name: String,
    readiness: Readiness,
}

impl Condition {
    /// The condition holds.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// The condition does not hold, and why.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(State::NotReady(reason.into()));
    }

    fn set(&self, state: State) {
        self.readiness.0.send_if_modified(|conditions| {
            let old = conditions.states.insert(self.name.clone(), state.clone());
            old.as_ref() != Some(&state)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readiness_is_the_conjunction_of_its_conditions() {
        let readiness = Readiness::new();
        let database = readiness.condition("database");
        let peers = readiness.condition("peers");
        assert_eq!(
            readiness.missing(),
            ["database: starting", "peers: starting"]
        );
        let waiting = readiness.clone();
        let waiter = async move { waiting.wait_ready().await };
        let setter = async {
            database.ready();
            readiness.wait_for("database").await;
            assert!(!readiness.ready());
            peers.ready();
        };
        tokio::join!(waiter, setter);
        assert!(readiness.ready());
        peers.not_ready("unreachable");
        assert_eq!(readiness.missing(), ["peers: unreachable"]);
    }

    #[tokio::test]
    async fn draining_wins_over_conditions() {
        let readiness = Readiness::new();
        assert!(readiness.ready());
        let (after, ()) = tokio::join!(readiness.changed_from(true), async { readiness.drain() });
        assert!(!after);
        assert_eq!(readiness.missing(), ["draining"]);
    }
}
