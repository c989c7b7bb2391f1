//! Admission: who may start next on the cores and memory of the node.
//!
//! Each namespace has a queue; namespaces take turns. What waits at the head of a queue may be passed by others that
//! fit, but only [`PASSES`] times: after that nothing else is admitted until it fits, so nothing starves. A gang is
//! admitted as a whole, or not at all.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ids::WorkloadId;

/// How often the head of a queue may be passed.
pub const PASSES: u32 = 32;

/// Cores and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory: u64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory: self.memory.saturating_sub(other.memory),
        }
    }

    /// Whether both numbers are at most those of `other`.
    pub fn within(self, other: Self) -> bool {
        self.cpu_milli <= other.cpu_milli && self.memory <= other.memory
    }

    /// At most `limit` of each.
    #[must_use]
    pub fn clamped(self, limit: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.min(limit.cpu_milli),
            memory: self.memory.min(limit.memory),
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

/// The queues and what is taken.
#[derive(Debug)]
pub struct Scheduler {
    capacity: Amount,
    used: Amount,
    held: HashMap<WorkloadId, (Amount, Option<(String, String)>)>,
    queues: BTreeMap<String, VecDeque<Entry>>,
    gangs: HashMap<(String, String), usize>,
    /// Where to find who waits: the numbers of the entries.
    numbers: HashMap<WorkloadId, u64>,
    next: u64,
    /// The namespace that was served last.
    last: String,
}

impl Scheduler {
    /// An idle node.
    pub fn new(capacity: Amount) -> Self {
        Self {
            capacity,
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

    /// Counts something that already runs, even above the capacity.
    pub fn hold(&mut self, ask: &Ask) {
        let gang = gang_key(ask);
        if let Some(gang) = &gang {
            *self.gangs.entry(gang.clone()).or_default() += 1;
        }
        if let Some((old, _)) = self.held.insert(ask.id.clone(), (ask.amount, gang)) {
            self.used = self.used.minus(old);
        }
        self.used = self.used.plus(ask.amount);
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
        let Some((amount, gang)) = self.held.remove(id) else {
            return;
        };
        self.used = self.used.minus(amount);
        let Some(gang) = gang else { return };
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
                let sum = members
                    .iter()
                    .fold(Amount::default(), |sum, ask| sum.plus(ask.amount));
                if members.len() >= gang.minimum as usize && !sum.within(self.capacity) {
                    found.extend(members.into_iter().cloned());
                }
            }
        }
        found
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

    /// What a namespace would start next: a single workload or a whole gang.
    fn head(&self, namespace: &str) -> Option<Vec<&Ask>> {
        for entry in self.queues.get(namespace)? {
            let Some(gang) = &entry.ask.gang else {
                return Some(vec![&entry.ask]);
            };
            if self.gang_runs(&entry.ask) {
                return Some(vec![&entry.ask]);
            }
            let members = self.members(namespace, gang);
            if members.len() >= gang.minimum as usize {
                return Some(members);
            }
        }
        None
    }

    fn admit_one(&mut self) -> Option<Vec<Ask>> {
        let heads: Vec<Vec<Ask>> = self
            .turns()
            .into_iter()
            .filter_map(|name| self.head(name))
            .map(|unit| unit.into_iter().cloned().collect())
            .collect();
        let needs = |unit: &[Ask]| {
            unit.iter()
                .fold(Amount::default(), |sum, ask| sum.plus(ask.amount))
        };
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

fn gang_key(ask: &Ask) -> Option<(String, String)> {
    let gang = ask.gang.as_ref()?;
    Some((ask.namespace.clone(), gang.name.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(number: usize, namespace: &str, cpu_milli: u64) -> Ask {
        Ask {
            id: format!("w{number}").parse().unwrap(),
            namespace: namespace.to_owned(),
            amount: Amount {
                cpu_milli,
                memory: 0,
            },
            gang: None,
        }
    }

    fn cores(count: u64) -> Scheduler {
        Scheduler::new(Amount {
            cpu_milli: count * 1000,
            memory: 1 << 30,
        })
    }

    fn ids(asks: &[Ask]) -> Vec<&str> {
        asks.iter().map(|ask| ask.id.as_str()).collect()
    }

    #[test]
    fn namespaces_take_turns() {
        let mut scheduler = cores(1);
        for number in 0..3 {
            scheduler.push(ask(number, "a", 1000));
        }
        scheduler.push(ask(10, "b", 1000));
        let mut order = Vec::new();
        loop {
            let admitted = scheduler.admit();
            let Some(first) = admitted.first() else { break };
            order.push(first.id.to_string());
            scheduler.release(&first.id);
        }
        assert_eq!(order, ["w0", "w10", "w1", "w2"]);
    }

    #[test]
    fn positions_count_turns_and_say_why() {
        let mut scheduler = cores(1);
        assert!(scheduler.admit_now(&ask(0, "a", 1000)));
        for (number, namespace) in [(1, "a"), (2, "a"), (3, "b")] {
            scheduler.push(ask(number, namespace, 1000));
        }
        let place = |number: usize, namespace| {
            let id = format!("w{number}").parse().unwrap();
            scheduler.position(namespace, &id)
        };
        assert_eq!(place(1, "a"), Some((1, Why::Cpu)));
        assert_eq!(place(3, "b"), Some((2, Why::Cpu)));
        assert_eq!(place(2, "a"), Some((3, Why::Cpu)));
        let line: Vec<_> = scheduler
            .line(9)
            .into_iter()
            .map(|(id, ..)| id.to_string())
            .collect();
        assert_eq!(line, ["w1", "w3", "w2"]);
    }

    #[test]
    fn a_large_one_is_passed_but_not_for_ever() {
        let mut scheduler = cores(2);
        assert!(scheduler.admit_now(&ask(0, "small", 1000)));
        scheduler.push(ask(1, "large", 2000));
        let mut running = "w0".parse().unwrap();
        for number in 2..1000 {
            scheduler.push(ask(number, "small", 1000));
            let admitted = scheduler.admit();
            if ids(&admitted).contains(&"w1") {
                return;
            }
            scheduler.release(&running);
            if let Some(next) = admitted.first() {
                running = next.id.clone();
            }
            if ids(&scheduler.admit()).contains(&"w1") {
                return;
            }
        }
        panic!("it never started");
    }

    #[test]
    fn a_gang_starts_as_a_whole() {
        let mut scheduler = cores(2);
        let member = |number| Ask {
            gang: Some(Gang {
                name: "g".to_owned(),
                minimum: 2,
            }),
            ..ask(number, "a", 1000)
        };
        scheduler.push(member(0));
        scheduler.push(ask(1, "a", 1000));
        assert_eq!(
            ids(&scheduler.admit()),
            ["w1"],
            "an incomplete gang does not block"
        );
        scheduler.push(member(2));
        assert_eq!(ids(&scheduler.admit()), [] as [&str; 0]);
        scheduler.release(&"w1".parse().unwrap());
        assert_eq!(ids(&scheduler.admit()), ["w0", "w2"]);
    }

    #[derive(Debug, Clone)]
    enum Move {
        Push(u8, u64, Option<u8>),
        Finish(usize),
        Remove(usize),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (0..4_u8, 1..=4000_u64, proptest::option::of(0..2_u8))
                .prop_map(|(namespace, cpu, gang)| Move::Push(namespace, cpu, gang)),
            (0..8_usize).prop_map(Move::Finish),
            (0..8_usize).prop_map(Move::Remove),
        ];
        proptest::collection::vec(one, 1..200)
    }

    proptest! {
        #[test]
        fn never_above_capacity_and_everything_ends(moves in moves()) {
            let mut scheduler = cores(4);
            let capacity = scheduler.capacity();
            let mut waiting: Vec<Ask> = Vec::new();
            let mut running: Vec<Ask> = Vec::new();
            for (number, step) in moves.into_iter().enumerate() {
                match step {
                    Move::Push(namespace, cpu, gang) => {
                        let mut new = ask(number, &format!("n{namespace}"), cpu);
                        new.gang = gang.map(|gang| Gang { name: gang.to_string(), minimum: 2 });
                        waiting.push(new.clone());
                        scheduler.push(new);
                    }
                    Move::Finish(at) if at < running.len() => {
                        scheduler.release(&running.remove(at).id);
                    }
                    Move::Remove(at) if at < waiting.len() => {
                        let gone = waiting.remove(at);
                        prop_assert!(scheduler.remove(&gone.namespace, &gone.id));
                    }
                    Move::Finish(_) | Move::Remove(_) => {}
                }
                for ask in scheduler.admit() {
                    waiting.retain(|other| other.id != ask.id);
                    running.push(ask);
                }
                prop_assert!(scheduler.used().within(capacity));
                let sum: u64 = running.iter().map(|ask| ask.amount.cpu_milli).sum();
                prop_assert_eq!(sum, scheduler.used().cpu_milli);
                prop_assert_eq!(waiting.len(), scheduler.waiting());
            }
            // When nothing new comes, all that is not an incomplete or impossible gang gets its turn.
            for ask in scheduler.impossible() {
                scheduler.remove(&ask.namespace, &ask.id);
                waiting.retain(|other| other.id != ask.id);
            }
            for _ in 0..waiting.len() + running.len() + 1 {
                for ask in running.drain(..) {
                    scheduler.release(&ask.id);
                }
                for ask in scheduler.admit() {
                    waiting.retain(|other| other.id != ask.id);
                    running.push(ask);
                }
                for ask in scheduler.impossible() {
                    scheduler.remove(&ask.namespace, &ask.id);
                    waiting.retain(|other| other.id != ask.id);
                }
            }
            prop_assert!(waiting.iter().all(|ask| ask.gang.is_some()), "{:?}", waiting);
        }
    }
}
