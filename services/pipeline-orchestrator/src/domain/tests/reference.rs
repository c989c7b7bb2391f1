//! The rules of a run, written down a second time as plainly as possible: everything is looked at again after every
//! event, until nothing more follows. Tasks are a tree of cells; values are found by walking it.
//!
//! Paths are `t0/t1`; the iterations of a loop `t0` are `t0[0]`, `t0[1]`, and their tasks `t0[1]/t1`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

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
    fn loop_items(&self, path: &str) -> Option<Items> {
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

    fn children(&self, path: &str) -> Vec<String> {
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

    fn is(&self, path: &str, status: TaskStatus) -> bool {
        self.status.get(path) == Some(&status)
    }

    pub(super) fn start(&mut self) {
        self.open("");
        self.settle();
    }

    pub(super) fn run_ended(&self) -> bool {
        done(self.status[""])
    }

    pub(super) fn terminate(&mut self) {
        if self.canceling || self.run_ended() {
            return;
        }
        self.canceling = true;
        let all = self.status.keys();
        let stopped: Vec<String> = all.filter(|path| !self.spared(path)).cloned().collect();
        for path in stopped {
            let status = match self.status[&path] {
                TaskStatus::Pending => TaskStatus::Canceled,
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

    pub(super) fn end(&mut self, path: &str, ending: Ending) {
        let (_, group) = self.node(path);
        let canceling = self.is(path, TaskStatus::Canceling);
        let lost = self.lost.entry(path.to_owned()).or_default();
        *lost += u32::from(ending == Ending::Loss);
        let within = *lost <= LOST_BUDGET;
        let stopped = self.has_failed(&group) && !self.any_end(path);
        let status = match ending {
            Ending::Success => TaskStatus::Succeeded,
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
            self.status.insert(child, TaskStatus::Pending);
        }
    }

    fn settle(&mut self) {
        while self.skip_and_end() || self.start_one() {}
    }

    /// Failures, omissions and ends of groups come before anything starts.
    fn skip_and_end(&mut self) -> bool {
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
                    self.attempts.insert(path.clone(), 1);
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

    /// Whether a task cannot be given what it needs: its text is made of an output that is not there.
    fn is_broken(&self, path: &str) -> bool {
        let (node, group) = self.node(path);
        match node.kind {
            Kind::Broken => true,
            Kind::Program => self
                .first_text(path)
                .is_some_and(|on| self.value(&join(&group, on)).is_none()),
            Kind::Importer | Kind::Group(_) | Kind::Loop(..) => false,
        }
    }

    /// The first task before another one that puts out a text.
    pub(super) fn first_text(&self, path: &str) -> Option<usize> {
        let (node, group) = self.node(path);
        let mut before = node.after.iter().copied();
        before.find(|on| self.puts_out(&join(&group, *on)) == Some(false))
    }

    /// Whether a task puts out a list; none when it puts nothing out. It does not depend on the run.
    pub(super) fn puts_out(&self, path: &str) -> Option<bool> {
        match &self.node(path).0.kind {
            Kind::Program | Kind::Broken => Some(false),
            Kind::Importer => None,
            Kind::Group(inner) => self.puts_out(&join(path, inner.len() - 1)),
            Kind::Loop(inner, _) => self.puts_out(&join(path, inner.len() - 1)).map(|_| true),
        }
    }

    /// What a program must receive.
    pub(super) fn inputs(&self, path: &str) -> Received {
        let (node, group) = self.node(path);
        let mut parameters = Map::new();
        let mut artifacts = BTreeMap::new();
        parameters.insert("g".into(), json!(self.group_value(&group)));
        parameters.insert("item".into(), json!(self.item(&group)));
        if let Some(on) = self.first_text(path) {
            let value = self.value(&join(&group, on));
            let text = value.as_ref().and_then(Value::as_str);
            parameters.insert("f".into(), json!(format!("<{}>", text.unwrap())));
        }
        for on in &node.after {
            let producer = join(&group, *on);
            if let Some(list) = self.puts_out(&producer) {
                let absent = if list { json!([]) } else { json!("none") };
                let value = self.value(&producer).unwrap_or(absent);
                parameters.insert(format!("i{on}"), value);
            }
            if let Some(origins) = self.origins(&producer) {
                artifacts.insert(format!("a{on}"), origins);
            }
            if node.any_end {
                let state = match self.status[&producer] {
                    TaskStatus::Succeeded => "COMPLETE",
                    TaskStatus::Failed => "FAILED",
                    TaskStatus::Canceled => "CANCELED",
                    other => panic!("{path} runs after {other}"),
                };
                parameters.insert(format!("s{on}"), json!(state));
            }
        }
        (parameters, artifacts)
    }

    /// The value that a group hands to its tasks: the text of the first task before it that has one, or its own.
    fn group_value(&self, path: &str) -> String {
        if path.is_empty() {
            return "root".to_owned();
        }
        let group = self.node(path).1;
        let Some(on) = self.first_text(path) else {
            return self.group_value(&group);
        };
        let value = self.value(&join(&group, on));
        let text = value.as_ref().and_then(Value::as_str);
        text.unwrap_or("none").to_owned()
    }

    /// The item of the innermost loop around the tasks of a group.
    fn item(&self, group: &str) -> i64 {
        if group.is_empty() {
            return -1;
        }
        match group
            .strip_suffix(']')
            .and_then(|name| name.rsplit_once('['))
        {
            Some((_, at)) => item(at.parse().unwrap()),
            None => self.item(&self.node(group).1),
        }
    }

    /// What a task has put out.
    pub(super) fn value(&self, path: &str) -> Option<Value> {
        if !self.is(path, TaskStatus::Succeeded) {
            return None;
        }
        if self.loop_items(path).is_some() {
            self.puts_out(path)?;
            let values = self.children(path);
            return Some(values.iter().filter_map(|one| self.value(one)).collect());
        }
        match &self.node(path).0.kind {
            Kind::Program | Kind::Broken => {
                let (parameters, artifacts) = self.inputs(path);
                Some(json!(digest(path, &parameters, &artifacts)))
            }
            Kind::Importer => None,
            Kind::Group(inner) | Kind::Loop(inner, _) => self.value(&join(path, inner.len() - 1)),
        }
    }

    /// The tasks that made the artifacts of a task.
    fn origins(&self, path: &str) -> Option<Vec<String>> {
        if !self.is(path, TaskStatus::Succeeded) {
            return None;
        }
        if self.loop_items(path).is_some() {
            let all = self.children(path).into_iter();
            return Some(all.filter_map(|one| self.origins(&one)).flatten().collect());
        }
        match &self.node(path).0.kind {
            Kind::Program | Kind::Broken => Some(vec![path.to_owned()]),
            // What it brings in is named in the document.
            Kind::Importer => Some(vec![place(path)]),
            Kind::Group(inner) | Kind::Loop(inner, _) => self.origins(&join(path, inner.len() - 1)),
        }
    }
}

/// What a program of the test puts out: a short text that depends on all that it received.
pub(super) fn digest(
    path: &str,
    parameters: &Map<String, Value>,
    artifacts: &BTreeMap<String, Vec<String>>,
) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (path, Value::from(parameters.clone()).to_string(), artifacts).hash(&mut hasher);
    format!("{:x}", hasher.finish())
}
