//! The values of the reference model: what each task receives and puts out, found by walking the tree.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::reference::{Kind, Received, Reference, item, join, place};
use crate::domain::TaskStatus;

impl Reference {
    /// Whether a task cannot be given what it needs: its text is made of an output that is not there.
    pub(super) fn is_broken(&self, path: &str) -> bool {
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
    pub(super) fn item(&self, group: &str) -> i64 {
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
