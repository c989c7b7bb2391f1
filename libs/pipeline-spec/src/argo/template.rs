//! Templates: what they are, who calls whom, and which of the workflow's values they use.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::read::Node;
use super::text::{Facts, Part, Reference};

/// How deeply values of a template are looked through for expressions.
const MAX_DEPTH: usize = crate::MAX_DEPTH;

/// A named part of a workflow.
#[derive(Debug)]
pub(super) struct Template<'a> {
    pub(super) name: String,
    pub(super) node: Node<'a>,
    pub(super) kind: Kind,
    /// The input parameters that it declares.
    pub(super) inputs: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs a program.
    Program,
    /// Tasks with dependencies.
    Dag,
    /// Rows of tasks, one after the other.
    Steps,
}

/// A call of a template by another.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) node: Node<'a>,
    pub(super) name: String,
    pub(super) template: String,
    /// The tasks before it, as the workflow says.
    pub(super) dependencies: Vec<String>,
}

/// What a template may be, by its key.
const KINDS: [(&str, Kind); 4] = [
    ("container", Kind::Program),
    ("script", Kind::Program),
    ("dag", Kind::Dag),
    ("steps", Kind::Steps),
];

/// Kinds that need a cluster, or a part of Argo that is not here.
const OTHER_KINDS: [(&str, &str); 7] = [
    ("resource", "it changes objects of a cluster"),
    ("suspend", "it waits for a person"),
    ("http", "it is carried out by Argo itself"),
    ("data", "it is carried out by Argo itself"),
    ("plugin", "it is carried out by a plugin of Argo"),
    ("containerSet", "it is a pod of several programs"),
    ("inline", "it has no name"),
];

impl<'a> Template<'a> {
    /// Reads what a template is; none when it is nothing that can run, which is a fault.
    pub(super) fn read(node: Node<'a>) -> Option<Self> {
        let name = node.required("name");
        for (key, why) in OTHER_KINDS {
            if node.has(key) {
                node.fault(
                    key,
                    format!(
                        "template `{name}` is a `{key}` of Argo, which is not supported: {why}"
                    ),
                );
                return None;
            }
        }
        let kinds: Vec<Kind> = KINDS
            .into_iter()
            .filter(|(key, _)| node.has(key))
            .map(|(_, kind)| kind)
            .collect();
        let [kind] = kinds[..] else {
            let message =
                format!("template `{name}` must have one of container, script, dag and steps");
            node.fault("name", message);
            return None;
        };
        let node_inputs = node.node("inputs");
        node_inputs.only(&["artifacts", "parameters"], &[]);
        let inputs = node_inputs
            .nodes("parameters")
            .iter()
            .map(|input| {
                input.only(&["default", "name", "value"], &["description", "enum"]);
                let name = input.required("name");
                if name.contains(['\'', '"', '{', '}']) {
                    input.fault("name", "must not contain quotes or braces");
                }
                name
            })
            .collect();
        Some(Self {
            name,
            node,
            kind,
            inputs,
        })
    }

    /// Whether the program itself names its run or its attempt (`{{workflow.uid}}`, `{{pod.name}}`): then what another run put
    /// out is not what it would put out. Values that are passed to it are told apart as values.
    pub(super) fn names_the_run(&self, facts: &Facts) -> bool {
        let parts = ["container", "inputs", "outputs", "script", "volumes"];
        let mut found = BTreeSet::new();
        for part in parts.iter().filter_map(|part| self.node.get(part)) {
            collect(part, facts, &mut found, 0);
        }
        let own = |reference: &Reference| matches!(reference, Reference::Context(_));
        found.iter().any(own)
    }

    /// The calls of a group, in the order of the document.
    pub(super) fn calls(&self) -> Vec<Call<'a>> {
        match self.kind {
            Kind::Program => Vec::new(),
            Kind::Dag => {
                let dag = self.node.node("dag");
                dag.only(&["failFast", "tasks"], &[]);
                if dag.get("failFast") == Some(&Value::Bool(false)) {
                    dag.fault("failFast", "`failFast: false` of Argo is not supported");
                }
                dag.nodes("tasks").into_iter().map(dag_call).collect()
            }
            Kind::Steps => self.rows(),
        }
    }

    fn rows(&self) -> Vec<Call<'a>> {
        let mut calls: Vec<Call<'a>> = Vec::new();
        let mut before: Vec<String> = Vec::new();
        for (index, row) in self.node.items("steps").iter().enumerate() {
            // A row of one step may stand without its list.
            let holder = self.node.place(&format!("steps[{index}]"));
            let steps: Vec<&'a Value> = match row {
                Value::Array(steps) => steps.iter().collect(),
                other => vec![other],
            };
            let mut row = Vec::new();
            for (at, step) in steps.into_iter().enumerate() {
                let node = self.node.inner(format!("{holder}[{at}]"), step);
                let call = Call {
                    name: node.required("name"),
                    template: node.required("template"),
                    dependencies: before.clone(),
                    node,
                };
                row.push(call.name.clone());
                calls.push(call);
            }
            before = row;
        }
        calls
    }
}

fn dag_call(node: Node<'_>) -> Call<'_> {
    let mut dependencies = node.texts("dependencies");
    if let Some(depends) = node.text("depends") {
        for name in depends.split("&&").map(str::trim) {
            let name = name.strip_suffix(".Succeeded").unwrap_or(name);
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                let message =
                    format!("`{depends}` is not supported; names of tasks joined by && are");
                node.fault("depends", message);
                break;
            }
            dependencies.push(name.to_owned());
        }
    }
    dependencies.sort();
    dependencies.dedup();
    Call {
        name: node.required("name"),
        template: node.required("template"),
        dependencies,
        node,
    }
}

/// The templates of a workflow by name.
pub(super) type Templates<'a> = BTreeMap<String, Template<'a>>;

/// The workflow's values (`workflow.parameters.x`, `workflow.status`) that each template needs for itself or for those that
/// it calls.
pub(super) fn globals(
    templates: &Templates<'_>,
    facts: &Facts,
) -> BTreeMap<String, BTreeSet<Reference>> {
    let mut used: BTreeMap<String, BTreeSet<Reference>> = BTreeMap::new();
    let mut callers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut open: Vec<String> = Vec::new();
    let calls: Vec<(&str, Vec<Call<'_>>)> = templates
        .values()
        .map(|template| (template.name.as_str(), template.calls()))
        .collect();
    for (name, calls) in &calls {
        for call in calls {
            callers
                .entry(&call.template)
                .or_default()
                .push((*name).to_owned());
        }
    }
    for template in templates.values() {
        let mut found = BTreeSet::new();
        template
            .node
            .each_value(&mut |value| collect(value, facts, &mut found, 0));
        // Of the run itself, every program knows.
        found.retain(|reference| !matches!(reference, Reference::Context(_)));
        used.insert(template.name.clone(), found);
        open.push(template.name.clone());
    }
    while let Some(name) = open.pop() {
        let own = used.get(&name).cloned().unwrap_or_default();
        for caller in callers.get(name.as_str()).into_iter().flatten() {
            let theirs = used.entry(caller.clone()).or_default();
            let before = theirs.len();
            theirs.extend(own.iter().cloned());
            if theirs.len() > before {
                open.push(caller.clone());
            }
        }
    }
    used
}

fn collect(value: &Value, facts: &Facts, found: &mut BTreeSet<Reference>, depth: usize) {
    match value {
        Value::String(text) => {
            // What is wrong with an expression is said where it is used.
            for part in facts.parse(text).unwrap_or_default() {
                if let Part::Reference(
                    reference @ (Reference::Global(_) | Reference::Status | Reference::Context(_)),
                ) = part
                {
                    found.insert(reference);
                }
            }
        }
        Value::Array(items) if depth < MAX_DEPTH => {
            items
                .iter()
                .for_each(|item| collect(item, facts, found, depth + 1));
        }
        Value::Object(fields) if depth < MAX_DEPTH => {
            fields
                .values()
                .for_each(|field| collect(field, facts, found, depth + 1));
        }
        Value::Array(_) | Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A template that calls itself, over others or not, without a condition or a loop that could end it.
pub(super) fn endless(templates: &Templates<'_>) -> Option<String> {
    let mut edges: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for template in templates.values() {
        let calls = template.calls().into_iter();
        let always = calls.filter(|call| {
            !["when", "withItems", "withParam"]
                .iter()
                .any(|key| call.node.has(key))
        });
        edges.insert(&template.name, always.map(|call| call.template).collect());
    }
    // Templates that lead nowhere are taken away until only circles are left.
    loop {
        let ended: Vec<&str> = edges
            .iter()
            .filter(|(_, to)| !to.iter().any(|name| edges.contains_key(name.as_str())))
            .map(|(name, _)| *name)
            .collect();
        if ended.is_empty() {
            return edges.keys().next().map(|name| (*name).to_owned());
        }
        for name in ended {
            edges.remove(name);
        }
    }
}
