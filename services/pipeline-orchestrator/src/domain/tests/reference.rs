//! The rules of a run, written down a second time as plainly as possible: everything is looked at again after every
//! event, until nothing more follows. Tasks are a tree of cells; values are found by walking it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::domain::{LOST_BUDGET, TaskStatus};

/// A task of a random pipeline.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Positions of earlier tasks of the group.
    pub(super) after: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Program,
    /// A program with an input that cannot be resolved.
    Broken,
    Importer,
    Group(Vec<Node>),
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Success,
    Failure,
    Loss,
    Stop,
}

#[derive(Debug)]
pub(super) struct Reference {
    tasks: Vec<Node>,
    pub(super) status: BTreeMap<String, TaskStatus>,
    pub(super) attempts: BTreeMap<String, u32>,
    lost: BTreeMap<String, u32>,
    /// Paths in the order in which they became free to start.
    queue: Vec<String>,
    canceling: bool,
}

pub(super) fn join(group: &str, at: usize) -> String {
    if group.is_empty() {
        format!("t{at}")
    } else {
        format!("{group}/t{at}")
    }
}

fn done(status: TaskStatus) -> bool {
    matches!(
        status,
        TaskStatus::Succeeded | TaskStatus::Failed | TaskStatus::Skipped | TaskStatus::Canceled
    )
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
        }
    }

    /// The tasks of a group.
    pub(super) fn members(&self, group: &str) -> &[Node] {
        let mut tasks = &self.tasks;
        for name in group.split('/').filter(|name| !name.is_empty()) {
            let at: usize = name[1..].parse().unwrap();
            match &tasks[at].kind {
                Kind::Group(inner) => tasks = inner,
                Kind::Program | Kind::Broken | Kind::Importer => panic!("{group} is no group"),
            }
        }
        tasks
    }

    pub(super) fn node(&self, path: &str) -> (&Node, String) {
        let (group, name) = path.rsplit_once('/').unwrap_or(("", path));
        (
            &self.members(group)[name[1..].parse::<usize>().unwrap()],
            group.to_owned(),
        )
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
        for status in self.status.values_mut() {
            *status = match *status {
                TaskStatus::Pending => TaskStatus::Canceled,
                TaskStatus::Ready | TaskStatus::Running => TaskStatus::Canceling,
                ended => ended,
            };
        }
        self.settle();
    }

    pub(super) fn end(&mut self, path: &str, ending: Ending) {
        let (_, group) = self.node(path);
        let canceling = self.is(path, TaskStatus::Canceling);
        let lost = self.lost.entry(path.to_owned()).or_default();
        *lost += u32::from(ending == Ending::Loss);
        let within = *lost <= LOST_BUDGET;
        let status = match ending {
            Ending::Success => TaskStatus::Succeeded,
            Ending::Failure => TaskStatus::Failed,
            Ending::Loss | Ending::Stop if canceling => TaskStatus::Canceled,
            Ending::Loss if within && !self.has_failed(&group) => {
                *self.attempts.get_mut(path).unwrap() += 1;
                TaskStatus::Ready
            }
            Ending::Loss | Ending::Stop => TaskStatus::Failed,
        };
        self.status.insert(path.to_owned(), status);
        self.settle();
    }

    fn has_failed(&self, group: &str) -> bool {
        (0..self.members(group).len()).any(|at| self.is(&join(group, at), TaskStatus::Failed))
    }

    fn open(&mut self, group: &str) {
        self.status.insert(group.to_owned(), TaskStatus::Running);
        for at in 0..self.members(group).len() {
            self.status.insert(join(group, at), TaskStatus::Pending);
        }
    }

    fn settle(&mut self) {
        while self.skip_and_end() || self.start_one() {}
    }

    /// Failures and ends of groups come before anything starts.
    fn skip_and_end(&mut self) -> bool {
        let groups: Vec<String> = self
            .status
            .iter()
            .filter(|(path, status)| {
                let group = path.is_empty() || matches!(self.node(path).0.kind, Kind::Group(_));
                group && matches!(status, TaskStatus::Running | TaskStatus::Canceling)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for group in groups {
            let members: Vec<String> = (0..self.members(&group).len())
                .map(|at| join(&group, at))
                .collect();
            let failed = self.has_failed(&group);
            for member in &members {
                if failed && self.is(member, TaskStatus::Pending) {
                    self.status.insert(member.clone(), TaskStatus::Skipped);
                }
            }
            if members.iter().all(|member| done(self.status[member])) {
                let ended = if self.is(&group, TaskStatus::Canceling) {
                    TaskStatus::Canceled
                } else if failed {
                    TaskStatus::Failed
                } else {
                    TaskStatus::Succeeded
                };
                self.status.insert(group, ended);
                return true;
            }
        }
        false
    }

    fn start_one(&mut self) -> bool {
        self.look_for_free("");
        let next = self
            .queue
            .iter()
            .find(|path| self.is(path, TaskStatus::Pending))
            .cloned();
        let Some(path) = next else { return false };
        match self.node(&path).0.kind {
            Kind::Program => {
                self.attempts.insert(path.clone(), 1);
                self.status.insert(path, TaskStatus::Ready);
            }
            Kind::Broken => {
                self.status.insert(path, TaskStatus::Failed);
            }
            Kind::Importer => {
                self.status.insert(path, TaskStatus::Succeeded);
            }
            Kind::Group(_) => self.open(&path),
        }
        true
    }

    fn look_for_free(&mut self, group: &str) {
        for at in 0..self.members(group).len() {
            let path = join(group, at);
            let node = &self.members(group)[at];
            let inner = matches!(node.kind, Kind::Group(_));
            let free = node
                .after
                .iter()
                .all(|on| self.is(&join(group, *on), TaskStatus::Succeeded));
            if free && self.is(&path, TaskStatus::Pending) && !self.queue.contains(&path) {
                self.queue.push(path.clone());
            }
            if inner && self.is(&path, TaskStatus::Running) {
                self.look_for_free(&path);
            }
        }
    }

    /// The parameters and the origins of the artifacts that a program must receive.
    pub(super) fn inputs(&self, path: &str) -> (Map<String, Value>, BTreeMap<String, String>) {
        let (node, group) = self.node(path);
        let mut parameters = Map::new();
        let mut artifacts = BTreeMap::new();
        parameters.insert("g".into(), json!(self.group_value(&group)));
        for on in &node.after {
            let producer = join(&group, *on);
            if let Some(out) = self.out(&producer) {
                parameters
                    .entry("f")
                    .or_insert_with(|| json!(format!("<{out}>")));
                parameters.insert(format!("i{on}"), json!(out));
            }
            artifacts.insert(format!("a{on}"), self.origin(&producer));
        }
        (parameters, artifacts)
    }

    /// The value that a group hands to its tasks: the output of the first task before it that has one, or its own.
    fn group_value(&self, path: &str) -> String {
        if path.is_empty() {
            return "root".to_owned();
        }
        let (node, group) = self.node(path);
        let outs = node
            .after
            .iter()
            .find_map(|on| self.out(&join(&group, *on)));
        outs.unwrap_or_else(|| self.group_value(&group))
    }

    /// What a task puts out; a group, what its last task does.
    pub(super) fn out(&self, path: &str) -> Option<String> {
        match &self.node(path).0.kind {
            Kind::Program | Kind::Broken => {
                let (parameters, artifacts) = self.inputs(path);
                Some(digest(path, &parameters, &artifacts))
            }
            Kind::Importer => None,
            Kind::Group(inner) => self.out(&join(path, inner.len().checked_sub(1)?)),
        }
    }

    /// The task that made the artifact of a task.
    fn origin(&self, path: &str) -> String {
        match &self.node(path).0.kind {
            Kind::Program | Kind::Broken | Kind::Importer => path.to_owned(),
            Kind::Group(inner) => self.origin(&join(path, inner.len() - 1)),
        }
    }
}

/// What a program of the test puts out: a short text that depends on all that it received.
pub(super) fn digest(
    path: &str,
    parameters: &Map<String, Value>,
    artifacts: &BTreeMap<String, String>,
) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (path, Value::from(parameters.clone()).to_string(), artifacts).hash(&mut hasher);
    format!("{:x}", hasher.finish())
}
