//! Admission: who may start next on the cores and memory of the node.
//!
//! Each namespace has a queue; namespaces take turns. What waits at the head of a queue may be passed by others that
//! fit, but only [`PASSES`] times: after that nothing else is admitted until it fits, so nothing starves. A gang is
//! admitted as a whole, or not at all.

mod ask;
mod gangs;
mod line;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use ids::WorkloadId;

pub use self::ask::{Amount, Ask, Gang, Why};
use self::gangs::Gangs;
use super::accelerators::{Device, Devices, Pool, Slots};

/// How often the head of a queue may be passed.
pub const PASSES: u32 = 32;

/// How far behind somebody who waits for accelerators others are looked for.
const LOOK_AHEAD: usize = 256;

#[derive(Debug)]
struct Entry {
    ask: Ask,
    /// Grows with every push, so a queue is sorted by it.
    number: u64,
    passed: u32,
}

/// What something that runs has.
#[derive(Debug)]
struct Held {
    amount: Amount,
    gang: Option<(String, String)>,
    devices: Vec<Device>,
}

/// The queues and what is taken.
#[derive(Debug)]
pub struct Scheduler {
    capacity: Amount,
    used: Amount,
    held: HashMap<WorkloadId, Held>,
    devices: Devices,
    queues: BTreeMap<String, VecDeque<Entry>>,
    gangs: Gangs,
    /// Where to find who waits: the numbers of the entries.
    numbers: HashMap<WorkloadId, u64>,
    next: u64,
    /// The namespace that was served last.
    last: String,
}

impl Scheduler {
    /// An idle node; its accelerators are those of the pools.
    pub fn new(capacity: Amount, pools: Vec<Pool>) -> Self {
        let devices = Devices::new(pools);
        Self {
            capacity: Amount {
                slots: devices.totals(),
                ..capacity
            },
            devices,
            used: Amount::default(),
            held: HashMap::new(),
            queues: BTreeMap::new(),
            gangs: Gangs::default(),
            numbers: HashMap::new(),
            next: 0,
            last: String::new(),
        }
    }

    /// What the node has.
    pub fn capacity(&self) -> Amount {
        self.capacity
    }

    /// The accelerators that it has.
    pub fn pools(&self) -> &[Pool] {
        self.devices.pools()
    }

    /// The accelerators that something has.
    pub fn devices(&self, id: &WorkloadId) -> &[Device] {
        self.held.get(id).map_or(&[], |held| &held.devices)
    }

    /// What is taken.
    pub fn used(&self) -> Amount {
        self.used
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// Admits at once when nothing waits and it fits; otherwise changes nothing.
    pub fn admit_now(&mut self, ask: &Ask) -> bool {
        let alone = ask.gang.is_none() || self.gang_runs(ask);
        let admitted = alone && self.queues.is_empty() && self.fits(ask.amount);
        if admitted {
            self.hold(ask);
        }
        admitted
    }

    /// Gives something what it asks for; the first free accelerators, of which there must be enough.
    pub fn hold(&mut self, ask: &Ask) {
        self.release(&ask.id);
        let devices = self.devices.take(ask.amount.slots);
        self.keep(ask, ask.amount, devices);
    }

    /// Counts something that already runs with these accelerators, even above the capacity.
    pub fn hold_again(&mut self, ask: &Ask, devices: &[Device]) {
        self.release(&ask.id);
        let (slots, devices) = self.devices.take_these(devices);
        let amount = Amount {
            slots,
            ..ask.amount
        };
        self.keep(ask, amount, devices);
    }

    fn keep(&mut self, ask: &Ask, amount: Amount, devices: Vec<Device>) {
        let gang = gang_key(ask);
        if let Some((namespace, name)) = &gang {
            self.gangs.start(namespace, name);
        }
        let held = Held {
            amount,
            gang,
            devices,
        };
        self.held.insert(ask.id.clone(), held);
        self.used = self.used.plus(amount);
    }

    /// Puts something at the end of its namespace's queue.
    pub fn push(&mut self, ask: Ask) {
        let queue = self.queues.entry(ask.namespace.clone()).or_default();
        self.numbers.insert(ask.id.clone(), self.next);
        if let Some(gang) = &ask.gang {
            self.gangs.wait(&ask.namespace, &gang.name, self.next);
        }
        queue.push_back(Entry {
            ask,
            number: self.next,
            passed: 0,
        });
        self.next += 1;
    }

    /// Takes something out of its queue; whether it was there.
    pub fn remove(&mut self, namespace: &str, id: &WorkloadId) -> bool {
        let Some(at) = self.index(namespace, id) else {
            return false;
        };
        self.numbers.remove(id);
        let Some(queue) = self.queues.get_mut(namespace) else {
            return false;
        };
        let entry = queue.remove(at);
        if let Some(entry) = &entry
            && let Some(gang) = &entry.ask.gang
        {
            self.gangs.leave(namespace, &gang.name, entry.number);
        }
        if queue.is_empty() {
            self.queues.remove(namespace);
        }
        true
    }

    /// Gives back what something held.
    pub fn release(&mut self, id: &WorkloadId) {
        let Some(held) = self.held.remove(id) else {
            return;
        };
        self.used = self.used.minus(held.amount);
        self.devices.give_back(&held.devices);
        if let Some((namespace, name)) = &held.gang {
            self.gangs.end(namespace, name);
        }
    }

    /// Admits whatever may start now, in order.
    pub fn admit(&mut self) -> Vec<Ask> {
        let mut admitted = Vec::new();
        while let Some(unit) = self.admit_one() {
            admitted.extend(unit);
        }
        admitted
    }

    /// Gangs that are complete and larger than the node: they would wait for ever.
    pub fn impossible(&self) -> Vec<Ask> {
        let mut found = Vec::new();
        for (namespace, queue) in &self.queues {
            let mut seen = HashSet::new();
            for entry in queue {
                let Some(gang) = &entry.ask.gang else {
                    continue;
                };
                if self.gang_runs(&entry.ask) || !seen.insert(gang.name.as_str()) {
                    continue;
                }
                if !self.gangs.complete(namespace, gang) {
                    continue;
                }
                let members = self.members(namespace, gang);
                if !needs(&members).within(self.capacity) {
                    found.extend(members.into_iter().cloned());
                }
            }
        }
        found
    }

    /// How many have their cores and memory.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many wait.
    pub fn queued(&self) -> usize {
        self.numbers.len()
    }

    /// The index of an entry in its queue.
    fn index(&self, namespace: &str, id: &WorkloadId) -> Option<usize> {
        let number = self.numbers.get(id)?;
        let queue = self.queues.get(namespace)?;
        queue
            .binary_search_by_key(number, |entry| entry.number)
            .ok()
    }

    fn fits(&self, amount: Amount) -> bool {
        self.used.plus(amount).within(self.capacity)
    }

    fn gang_runs(&self, ask: &Ask) -> bool {
        let gang = ask.gang.as_ref();
        gang.is_some_and(|gang| self.gangs.runs(&ask.namespace, &gang.name))
    }

    /// The first members of a gang that wait, as many as it needs.
    fn members(&self, namespace: &str, gang: &Gang) -> Vec<&Ask> {
        let Some(queue) = self.queues.get(namespace) else {
            return Vec::new();
        };
        let entry = |number: u64| {
            let at = queue.binary_search_by_key(&number, |entry| entry.number);
            Some(&queue.get(at.ok()?)?.ask)
        };
        let numbers = self.gangs.first(namespace, gang);
        numbers.filter_map(entry).collect()
    }

    /// What a namespace would start next: a single workload or a whole gang. What waits for accelerators lets those
    /// pass that want none: they cannot take what it waits for.
    fn head(&self, namespace: &str) -> Option<Vec<&Ask>> {
        let mut first = None;
        let mut looked = 0;
        let mut gangs = HashSet::new();
        for entry in self.queues.get(namespace)? {
            let ask = &entry.ask;
            let unit = match &ask.gang {
                Some(gang) if !self.gang_runs(ask) => {
                    // A gang that cannot start is looked at once, not with each of its members.
                    if !self.gangs.complete(namespace, gang) || !gangs.insert(gang.name.as_str()) {
                        continue;
                    }
                    self.members(namespace, gang)
                }
                _ => vec![ask],
            };
            let slots = needs(&unit).slots;
            let passes = first.is_none() || slots == Slots::default();
            if passes && self.has_free(slots) {
                return Some(unit);
            }
            first.get_or_insert(unit);
            looked += 1;
            if looked == LOOK_AHEAD {
                break;
            }
        }
        first
    }

    /// Whether there are enough accelerators, whatever else is short.
    fn has_free(&self, slots: Slots) -> bool {
        let wanted = self.used.slots.iter().zip(slots);
        let mut after = wanted.map(|(used, more)| used.saturating_add(more));
        self.capacity
            .slots
            .iter()
            .all(|there| after.next().is_none_or(|count| count <= *there))
    }

    fn admit_one(&mut self) -> Option<Vec<Ask>> {
        let heads: Vec<Vec<Ask>> = self
            .turns()
            .into_iter()
            .filter_map(|name| self.head(name))
            .map(|unit| unit.into_iter().cloned().collect())
            .collect();
        // The one that was passed too often goes first, or nothing does.
        let overdue = heads
            .iter()
            .filter(|unit| self.passed(unit) >= PASSES && needs(unit).within(self.capacity))
            .max_by_key(|unit| self.passed(unit));
        let unit = match overdue {
            Some(unit) => Some(unit).filter(|unit| self.fits(needs(unit))),
            None => heads.iter().find(|unit| self.fits(needs(unit))),
        }?
        .clone();
        for other in &heads {
            if *other != unit && !self.fits(needs(other)) {
                self.count_pass(other);
            }
        }
        for ask in &unit {
            self.remove(&ask.namespace, &ask.id);
            self.hold(ask);
            self.last.clone_from(&ask.namespace);
        }
        Some(unit)
    }

    fn passed(&self, unit: &[Ask]) -> u32 {
        let first = unit.first();
        first
            .and_then(|ask| {
                let at = self.index(&ask.namespace, &ask.id)?;
                self.queues.get(&ask.namespace)?.get(at)
            })
            .map_or(0, |entry| entry.passed)
    }

    fn count_pass(&mut self, unit: &[Ask]) {
        let entry = unit.first().and_then(|ask| {
            let at = self.index(&ask.namespace, &ask.id)?;
            self.queues.get_mut(&ask.namespace)?.get_mut(at)
        });
        if let Some(entry) = entry {
            entry.passed += 1;
        }
    }
}

/// What a unit needs in all.
fn needs<A: std::borrow::Borrow<Ask>>(unit: &[A]) -> Amount {
    let amounts = unit.iter().map(|ask| ask.borrow().amount);
    amounts.fold(Amount::default(), Amount::plus)
}

fn gang_key(ask: &Ask) -> Option<(String, String)> {
    let gang = ask.gang.as_ref()?;
    Some((ask.namespace.clone(), gang.name.clone()))
}

#[cfg(test)]
mod tests;
