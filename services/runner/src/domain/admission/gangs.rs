//! Who belongs together: how many of each gang run, and who waits.

use std::collections::{BTreeSet, HashMap};

use super::Gang;

/// The gangs of all namespaces that have members.
#[derive(Debug, Default)]
pub(super) struct Gangs(HashMap<String, HashMap<String, Members>>);

#[derive(Debug, Default)]
struct Members {
    running: usize,
    /// The numbers of those that wait.
    waiting: BTreeSet<u64>,
}

impl Gangs {
    /// Somebody waits.
    pub(super) fn wait(&mut self, namespace: &str, name: &str, number: u64) {
        self.change(namespace, name, |gang| {
            gang.waiting.insert(number);
        });
    }

    /// Somebody waits no more.
    pub(super) fn leave(&mut self, namespace: &str, name: &str, number: u64) {
        self.change(namespace, name, |gang| {
            gang.waiting.remove(&number);
        });
    }

    /// Somebody starts.
    pub(super) fn start(&mut self, namespace: &str, name: &str) {
        self.change(namespace, name, |gang| gang.running += 1);
    }

    /// Somebody that started has ended.
    pub(super) fn end(&mut self, namespace: &str, name: &str) {
        self.change(namespace, name, |gang| {
            gang.running = gang.running.saturating_sub(1);
        });
    }

    /// Whether members run, which others may join.
    pub(super) fn runs(&self, namespace: &str, name: &str) -> bool {
        self.members(namespace, name)
            .is_some_and(|gang| gang.running > 0)
    }

    /// Whether members may start: some run, or enough wait.
    pub(super) fn complete(&self, namespace: &str, gang: &Gang) -> bool {
        self.members(namespace, &gang.name).is_some_and(|members| {
            members.running > 0 || members.waiting.len() >= gang.minimum as usize
        })
    }

    /// The first who wait, as many as the gang needs.
    pub(super) fn first(&self, namespace: &str, gang: &Gang) -> impl Iterator<Item = u64> {
        let members = self.members(namespace, &gang.name);
        let waiting = members.into_iter().flat_map(|members| &members.waiting);
        waiting.copied().take(gang.minimum.max(1) as usize)
    }

    fn members(&self, namespace: &str, name: &str) -> Option<&Members> {
        self.0.get(namespace)?.get(name)
    }

    fn change(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut Members)) {
        let gangs = self.0.entry(namespace.to_owned()).or_default();
        let gang = gangs.entry(name.to_owned()).or_default();
        change(gang);
        if gang.running == 0 && gang.waiting.is_empty() {
            gangs.remove(name);
        }
        if gangs.is_empty() {
            self.0.remove(namespace);
        }
    }
}
