//! Admission: who may start next on the cores and memory of the node.
//!
//! Each namespace has a queue; namespaces take turns. What waits at the head of a queue may be passed by others that
//! fit, but only [`PASSES`] times: after that nothing else is admitted until it fits, so nothing starves. A gang is
//! admitted as a whole, or not at all.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ids::WorkloadId;

use super::accelerators::{Device, Devices, Pool, Slots};

/// How often the head of a queue may be passed.
pub const PASSES: u32 = 32;

/// How far behind somebody who waits for accelerators others are looked for.
const LOOK_AHEAD: usize = 256;

/// Cores, memory and accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
    /// Accelerators of each kind.
    pub slots: Slots,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory: self.memory.saturating_add(other.memory),
            slots: std::array::from_fn(|at| self.slots[at].saturating_add(other.slots[at])),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory: self.memory.saturating_sub(other.memory),
            slots: std::array::from_fn(|at| self.slots[at].saturating_sub(other.slots[at])),
        }
    }

    /// Whether all numbers are at most those of `other`.
    pub fn within(self, other: Self) -> bool {
        let fewer = self.slots.iter().zip(other.slots);
        self.cpu_milli <= other.cpu_milli
            && self.memory <= other.memory
            && fewer.into_iter().all(|(own, other)| *own <= other)
    }

    /// At most `limit` of each.
    #[must_use]
    pub fn clamped(self, limit: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.min(limit.cpu_milli),
            memory: self.memory.min(limit.memory),
            slots: std::array::from_fn(|at| self.slots[at].min(limit.slots[at])),
        }
    }
}

/// A group that starts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gang {
    /// Its name within the namespace.
    pub name: String,
    /// How many members must be there.
    pub minimum: u32,
}

/// Who asks for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The workload.
    pub id: WorkloadId,
    /// Whose turn it uses.
    pub namespace: String,
    /// What it reserves.
    pub amount: Amount,
    /// With whom it starts.
    pub gang: Option<Gang>,
}

/// Why something is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The cores are taken.
    Cpu,
    /// The memory is taken.
    Memory,
    /// The accelerators are taken.
    Accelerator,
    /// Others come first.
    Line,
    /// Members of its gang are missing.
    Gang,
}

impl Why {
    /// The reason that callers see.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Cpu => "WAITING_FOR_CPU",
            Self::Memory => "WAITING_FOR_MEMORY",
            Self::Accelerator => "WAITING_FOR_ACCELERATOR",
            Self::Line => "WAITING_IN_LINE",
            Self::Gang => "WAITING_FOR_GANG",
        }
    }
}

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
    gangs: HashMap<(String, String), usize>,
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
            gangs: HashMap::new(),
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
        if let Some(gang) = &gang {
            *self.gangs.entry(gang.clone()).or_default() += 1;
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
        queue.remove(at);
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
        let Some(gang) = held.gang else { return };
        if let Some(count) = self.gangs.get_mut(&gang) {
            *count -= 1;
            if *count == 0 {
                self.gangs.remove(&gang);
            }
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
            let mut seen = Vec::new();
            for entry in queue {
                let Some(gang) = &entry.ask.gang else {
                    continue;
                };
                if seen.contains(&&gang.name) || self.gang_runs(&entry.ask) {
                    continue;
                }
                seen.push(&gang.name);
                let members = self.members(namespace, gang);
                if members.len() >= gang.minimum as usize && !needs(&members).within(self.capacity)
                {
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
            && !self.gang_runs(ask)
            && self.members(&ask.namespace, gang).len() < gang.minimum as usize
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
        gang_key(ask).is_some_and(|key| self.gangs.contains_key(&key))
    }

    /// The first members of a gang that wait, as many as it needs.
    fn members(&self, namespace: &str, gang: &Gang) -> Vec<&Ask> {
        self.queues
            .get(namespace)
            .into_iter()
            .flatten()
            .map(|entry| &entry.ask)
            .filter(|ask| {
                ask.gang
                    .as_ref()
                    .is_some_and(|other| other.name == gang.name)
            })
            .take(gang.minimum.max(1) as usize)
            .collect()
    }

    /// Namespaces in the order in which they are served next.
    fn turns(&self) -> Vec<&str> {
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

    /// What a namespace would start next: a single workload or a whole gang. What waits for accelerators lets those
    /// pass that want none: they cannot take what it waits for.
    fn head(&self, namespace: &str) -> Option<Vec<&Ask>> {
        let mut first = None;
        let mut looked = 0;
        for entry in self.queues.get(namespace)? {
            let Some(unit) = self.unit(namespace, &entry.ask) else {
                continue;
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

    /// Who starts together with somebody; none when members of its gang are missing.
    fn unit<'a>(&'a self, namespace: &str, ask: &'a Ask) -> Option<Vec<&'a Ask>> {
        let Some(gang) = &ask.gang else {
            return Some(vec![ask]);
        };
        if self.gang_runs(ask) {
            return Some(vec![ask]);
        }
        let members = self.members(namespace, gang);
        (members.len() >= gang.minimum as usize).then_some(members)
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
