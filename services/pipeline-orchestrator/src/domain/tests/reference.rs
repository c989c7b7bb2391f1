//! The rules of a run, written down a second time as plainly as possible: everything is looked at again after every
//! event, until nothing more follows. Tasks are a tree of cells; values are found by walking it.
//!
//! Paths are `t0/t1`; the iterations of a loop `t0` are `t0[0]`, `t0[1]`, and their tasks `t0[1]/t1`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::domain::{LOST_BUDGET, TaskStatus};

/// A task of a random pipeline.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Positions of earlier tasks of the group.
    pub(super) after: Vec<usize>,
    pub(super) condition: Condition,
    /// Whether it waits for ends of any kind.
    pub(super) any_end: bool,
    /// What programs in it do after a failure, unless a task nearer to them says it.
    pub(super) retry: Option<Retries>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Retries {
    pub(super) most: u32,
    /// Whether the next attempt waits for its time.
    pub(super) pause: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Program,
    /// A program with an input that cannot be resolved.
    Broken,
    Importer,
    Group(Vec<Node>),
    Loop(Vec<Node>, Items),
}

/// What a loop goes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Items {
    pub(super) count: usize,
    /// How many may run at a time; 0 for any number.
    pub(super) limit: usize,
    pub(super) from: ItemsFrom,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum ItemsFrom {
    Document,
    List,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    None,
    True,
    False,
    /// The item of the loop around is odd.
    Odd,
    /// It has no answer.
    Senseless,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Success,
    Failure,
    Loss,
    Stop,
}

/// What a program receives: parameters, and the tasks that made its artifacts.
pub(super) type Received = (Map<String, Value>, BTreeMap<String, Vec<String>>);

#[derive(Debug)]
pub(super) struct Reference {
    tasks: Vec<Node>,
    pub(super) status: BTreeMap<String, TaskStatus>,
    pub(super) attempts: BTreeMap<String, u32>,
    lost: BTreeMap<String, u32>,
    failed: BTreeMap<String, u32>,
    /// Programs whose next attempt waits for its time.
    pub(super) waiting: BTreeSet<String>,
    /// Paths in the order in which they became free to start.
    queue: Vec<String>,
    canceling: bool,
    /// What was ever started.
    begun: BTreeSet<String>,
}

pub(super) fn join(group: &str, at: usize) -> String {
    if group.is_empty() {
        format!("t{at}")
    } else {
        format!("{group}/t{at}")
    }
}

/// The path without the numbers of iterations.
pub(super) fn place(path: &str) -> String {
    let names = path.split('/').map(|name| name.split('[').next().unwrap());
    names.collect::<Vec<&str>>().join("/")
}

pub(super) fn item(at: usize) -> i64 {
    at as i64 * 3 + 1
}

fn done(status: TaskStatus) -> bool {
    matches!(
        status,
        TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Skipped | TaskStatus::Canceled
    )
}

/// The position in `t7` or `t7[2]`.
fn position(name: &str) -> usize {
    name[1..].split('[').next().unwrap().parse().unwrap()
}

impl Reference {
    pub(super) fn new(tasks: Vec<Node>) -> Self {
        Self {
            tasks,
            status: BTreeMap::new(),
            attempts: BTreeMap::new(),
            lost: BTreeMap::new(),
            failed: BTreeMap::new(),
            waiting: BTreeSet::new(),
            queue: Vec::new(),
            canceling: false,
            begun: BTreeSet::new(),
        }
    }

    /// The tasks of a group, or of an iteration of a loop.
    pub(super) fn members(&self, group: &str) -> &[Node] {
        let mut tasks = &self.tasks;
        for name in group.split('/').filter(|name| !name.is_empty()) {
            match &tasks[position(name)].kind {
                Kind::Group(inner) | Kind::Loop(inner, _) => tasks = inner,
                Kind::Program | Kind::Broken | Kind::Importer => panic!("{group} is no group"),
            }
        }
        tasks
    }

    /// The task of a path and its group; of an iteration, the loop.
    pub(super) fn node(&self, path: &str) -> (&Node, String) {
        let (group, name) = path.rsplit_once('/').unwrap_or(("", path));
        (&self.members(group)[position(name)], group.to_owned())
    }

    /// The items of a path that is a loop itself, and no iteration.
    pub(super) fn loop_items(&self, path: &str) -> Option<Items> {
        if path.is_empty() || path.ends_with(']') {
            return None;
        }
        match self.node(path).0.kind {
            Kind::Loop(_, items) => Some(items),
            _ => None,
        }
    }

    fn holds_tasks(&self, path: &str) -> bool {
        path.is_empty() || matches!(self.node(path).0.kind, Kind::Group(_) | Kind::Loop(..))
    }

    pub(super) fn children(&self, path: &str) -> Vec<String> {
        match self.loop_items(path) {
            Some(items) => (0..items.count).map(|at| format!("{path}[{at}]")).collect(),
            None => (0..self.members(path).len())
                .map(|at| join(path, at))
                .collect(),
        }
    }

    fn any_end(&self, path: &str) -> bool {
        !path.ends_with(']') && self.node(path).0.any_end
    }

    /// What a task waits for; an iteration waits for nothing but its turn.
    fn before(&self, path: &str) -> Vec<String> {
        if path.ends_with(']') {
            return Vec::new();
        }
        let (node, group) = self.node(path);
        node.after.iter().map(|on| join(&group, *on)).collect()
    }

    pub(super) fn is(&self, path: &str, status: TaskStatus) -> bool {
        self.status.get(path) == Some(&status)
    }

    pub(super) fn start(&mut self) {
        self.open("");
        self.settle();
    }

    pub(super) fn run_ended(&self) -> bool {
        done(self.status[""])
    }

    /// Stops the run; asked again, or at once, with its exit tasks.
    pub(super) fn terminate(&mut self, exit_tasks: bool) {
        if self.run_ended() || self.canceling && !exit_tasks {
            return;
        }
        self.canceling = true;
        let all = self.status.keys();
        let stopped = all.filter(|path| exit_tasks || !self.spared(path));
        for path in stopped.cloned().collect::<Vec<String>>() {
            let waited = self.waiting.remove(&path);
            let status = match self.status[&path] {
                TaskStatus::Pending => TaskStatus::Canceled,
                TaskStatus::Ready if waited => TaskStatus::Canceled,
                TaskStatus::Ready | TaskStatus::Running => TaskStatus::Canceling,
                ended => ended,
            };
            self.status.insert(path, status);
        }
        self.settle();
    }

    /// Whether a task, or a group around it, runs also when the run is stopped.
    fn spared(&self, path: &str) -> bool {
        let mut groups = path.match_indices('/').map(|(at, _)| &path[..at]);
        let own = !path.is_empty() && self.node(path).0.any_end;
        own || groups.any(|group| self.node(group).0.any_end)
    }

    /// The time of a program's next attempt has come.
    pub(super) fn wake(&mut self, path: &str) {
        assert!(self.waiting.remove(path), "{path} waits for nothing");
        *self.attempts.get_mut(path).unwrap() += 1;
    }

    /// Lets the run that ended without success go on.
    pub(super) fn retry(&mut self) {
        self.canceling = false;
        self.lost.clear();
        self.failed.clear();
        self.queue.clear();
        self.reset("", false);
        self.open("");
        self.settle();
    }

    fn reset(&mut self, path: &str, whole: bool) {
        self.status.insert(path.to_owned(), TaskStatus::Pending);
        self.begun.remove(path);
        if !self.holds_tasks(path) {
            return;
        }
        let mut again: BTreeSet<String> = BTreeSet::new();
        for child in self.children(path) {
            let Some(status) = self.status.get(&child).copied() else {
                return;
            };
            let told = whole || self.before(&child).iter().any(|on| again.contains(on));
            if told || status != TaskStatus::Succeeded {
                self.reset(&child, told);
                again.insert(child);
            }
        }
    }

    /// The retries that count for a program.
    fn retries(&self, path: &str) -> Option<Retries> {
        let (node, group) = self.node(path);
        match (node.retry, group.as_str()) {
            (Some(retries), _) => Some(retries),
            (None, "") => None,
            (None, group) => self.retries(group),
        }
    }

    pub(super) fn end(&mut self, path: &str, ending: Ending) {
        let (_, group) = self.node(path);
        let canceling = self.is(path, TaskStatus::Canceling);
        let lost = self.lost.entry(path.to_owned()).or_default();
        *lost += u32::from(ending == Ending::Loss);
        let within = *lost <= LOST_BUDGET;
        let (most, pause) = self
            .retries(path)
            .map_or((0, false), |retries| (retries.most, retries.pause));
        let failed = self.failed.entry(path.to_owned()).or_default();
        *failed += u32::from(ending == Ending::Failure);
        let again = *failed <= most && !canceling;
        let stopped = self.has_failed(&group) && !self.any_end(path);
        let status = match ending {
            Ending::Success => TaskStatus::Succeeded,
            Ending::Failure if again && pause => {
                self.waiting.insert(path.to_owned());
                TaskStatus::Ready
            }
            Ending::Failure if again => {
                *self.attempts.get_mut(path).unwrap() += 1;
                TaskStatus::Ready
            }
            Ending::Failure => TaskStatus::Failed,
            Ending::Loss | Ending::Stop if canceling => TaskStatus::Canceled,
            Ending::Loss if within && !stopped => {
                *self.attempts.get_mut(path).unwrap() += 1;
                TaskStatus::Ready
            }
            Ending::Loss | Ending::Stop => TaskStatus::Failed,
        };
        self.status.insert(path.to_owned(), status);
        self.settle();
    }

    fn has_failed(&self, group: &str) -> bool {
        let mut children = self.children(group).into_iter();
        children.any(|child| self.is(&child, TaskStatus::Failed))
    }

    fn open(&mut self, group: &str) {
        self.begun.insert(group.to_owned());
        self.status.insert(group.to_owned(), TaskStatus::Running);
        for child in self.children(group) {
            // What succeeded before a retry of the run stays.
            self.status.entry(child).or_insert(TaskStatus::Pending);
        }
    }

    fn settle(&mut self) {
        while self.skip_and_end() || self.start_one() {}
    }

    /// Failures, omissions and ends of groups come before anything starts.
    fn skip_and_end(&mut self) -> bool {
        if self.end_inside() {
            return true;
        }
        let open = |(_, status): &(&String, &TaskStatus)| {
            matches!(status, TaskStatus::Running | TaskStatus::Canceling)
        };
        let open = self.status.iter().filter(open).map(|(path, _)| path);
        let groups: Vec<String> = open
            .filter(|path| self.holds_tasks(path))
            .cloned()
            .collect();
        for group in groups {
            let children = self.children(&group);
            let failed = self.has_failed(&group);
            let mut changed = false;
            for child in &children {
                let omitted = self
                    .before(child)
                    .iter()
                    .any(|on| self.is(on, TaskStatus::Skipped));
                let never =
                    |on: &String| self.is(on, TaskStatus::Canceled) && !self.begun.contains(on);
                if self.is(child, TaskStatus::Pending) && self.before(child).iter().any(never) {
                    self.status.insert(child.clone(), TaskStatus::Canceled);
                    changed = true;
                }
                let stopped = failed && !self.any_end(child);
                if (omitted || stopped) && self.is(child, TaskStatus::Pending) {
                    self.status.insert(child.clone(), TaskStatus::Skipped);
                    changed = true;
                }
            }
            if children.iter().all(|child| done(self.status[child])) {
                let ended = if self.is(&group, TaskStatus::Canceling) {
                    TaskStatus::Canceled
                } else if failed {
                    TaskStatus::Failed
                } else {
                    TaskStatus::Succeeded
                };
                self.status.insert(group, ended);
                changed = true;
            }
            if changed {
                return true;
            }
        }
        false
    }

    /// What a retry of the run reset ends with its group, when that is not opened again.
    fn end_inside(&mut self) -> bool {
        for (path, status) in &self.status {
            if path.is_empty() || done(*status) {
                continue;
            }
            let group = match path.strip_suffix(']') {
                Some(name) => name.rsplit_once('[').unwrap().0,
                None => path.rsplit_once('/').map_or("", |(group, _)| group),
            };
            let status = match self.status[group] {
                TaskStatus::Canceled => TaskStatus::Canceled,
                ended if done(ended) => TaskStatus::Skipped,
                _ => continue,
            };
            self.status.insert(path.clone(), status);
            return true;
        }
        false
    }

    fn start_one(&mut self) -> bool {
        self.look_for_free("");
        let mut waiting = self.queue.iter();
        let next = waiting.find(|path| self.is(path, TaskStatus::Pending));
        let Some(path) = next.cloned() else {
            return false;
        };
        if path.ends_with(']') {
            self.open(&path);
            return true;
        }
        let node = self.node(&path).0;
        let status = match (self.is_broken(&path), node.condition) {
            (true, _) | (false, Condition::Senseless) => TaskStatus::Failed,
            (false, Condition::False) => TaskStatus::Skipped,
            (false, Condition::Odd) if self.item(&self.node(&path).1) % 2 == 0 => {
                TaskStatus::Skipped
            }
            (false, Condition::None | Condition::True | Condition::Odd) => match node.kind {
                Kind::Program => {
                    self.begun.insert(path.clone());
                    *self.attempts.entry(path.clone()).or_default() += 1;
                    TaskStatus::Ready
                }
                Kind::Broken => TaskStatus::Failed,
                Kind::Importer => TaskStatus::Succeeded,
                Kind::Group(_) | Kind::Loop(..) => {
                    self.open(&path);
                    return true;
                }
            },
        };
        self.status.insert(path, status);
        true
    }

    fn look_for_free(&mut self, group: &str) {
        let limit = self.loop_items(group).map_or(0, |items| items.limit);
        for child in self.children(group) {
            let running = self.children(group);
            let begun = |path: &&String| {
                let status = self.status[*path];
                !done(status) && (status != TaskStatus::Pending || self.queue.contains(*path))
            };
            let full = limit > 0 && running.iter().filter(begun).count() >= limit;
            let any_end = self.any_end(&child);
            let met = |on: &String| match self.status[on] {
                TaskStatus::Succeeded => true,
                TaskStatus::Failed => any_end,
                TaskStatus::Canceled => any_end && self.begun.contains(on),
                _ => false,
            };
            let free = !full && self.before(&child).iter().all(met);
            if free && self.is(&child, TaskStatus::Pending) && !self.queue.contains(&child) {
                self.queue.push(child.clone());
            }
            let open = matches!(
                self.status[&child],
                TaskStatus::Running | TaskStatus::Canceling
            );
            if open && self.holds_tasks(&child) {
                self.look_for_free(&child);
            }
        }
    }
}
