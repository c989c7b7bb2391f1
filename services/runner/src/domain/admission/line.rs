//! The line, as callers see it.

use std::collections::VecDeque;

use ids::WorkloadId;

use super::{Ask, Scheduler, Why};

impl Scheduler {
    /// The place in the line, from 1, and why it waits.
    pub fn position(&self, namespace: &str, id: &WorkloadId) -> Option<(u32, Why)> {
        let queue = self.queues.get(namespace)?;
        let at = self.index(namespace, id)?;
        let turns = self.turns();
        let own = turns.iter().position(|name| *name == namespace)?;
        let before: usize = turns
            .iter()
            .enumerate()
            .filter(|(_, name)| **name != namespace)
            .map(|(turn, name)| {
                let served = if turn < own { at + 1 } else { at };
                self.queues.get(*name).map_or(0, VecDeque::len).min(served)
            })
            .sum();
        let ask = &queue.get(at)?.ask;
        Some(((before + at + 1) as u32, self.why(ask, before + at == 0)))
    }

    /// The first `limit` in line.
    pub fn line(&self, limit: usize) -> Vec<(WorkloadId, u32, Why)> {
        let turns = self.turns();
        let mut line = Vec::new();
        let longest = self.queues.values().map(VecDeque::len).max().unwrap_or(0);
        for at in 0..longest {
            for entry in turns
                .iter()
                .filter_map(|name| self.queues.get(*name)?.get(at))
            {
                if line.len() == limit {
                    return line;
                }
                let why = self.why(&entry.ask, line.is_empty());
                line.push((entry.ask.id.clone(), line.len() as u32 + 1, why));
            }
        }
        line
    }

    fn why(&self, ask: &Ask, first: bool) -> Why {
        if let Some(gang) = &ask.gang
            && !self.gangs.complete(&ask.namespace, gang)
        {
            return Why::Gang;
        }
        let after = self.used.plus(ask.amount);
        if after.cpu_milli > self.capacity.cpu_milli {
            Why::Cpu
        } else if after.memory > self.capacity.memory {
            Why::Memory
        } else if !after.within(self.capacity) {
            Why::Accelerator
        } else if first && ask.gang.is_some() {
            Why::Cpu
        } else {
            Why::Line
        }
    }

    /// Namespaces in the order in which they are served next.
    pub(super) fn turns(&self) -> Vec<&str> {
        let after = self
            .queues
            .keys()
            .filter(|name| name.as_str() > self.last.as_str());
        let before = self
            .queues
            .keys()
            .filter(|name| name.as_str() <= self.last.as_str());
        after.chain(before).map(String::as_str).collect()
    }
}
