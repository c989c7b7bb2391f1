//! Templates: what they are, who calls whom, and which of the workflow's values they use.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::read::Node;
use super::text::{Facts, Part, Reference};
use crate::graph;

/// What of a call decides whether, and how often, it is made.
const MAY_END: [&str; 3] = ["when", "withItems", "withParam"];
/// For how many others the steps of one template may wait in all.
const MAX_WAITS: usize = 500_000;
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
    /// Where its program finds and puts files, by the expressions for them.
    pub(super) paths: BTreeMap<Reference, String>,
    /// Whether the program itself names its run or its attempt (`{{workflow.uid}}`, `{{pod.name}}`): then what another run put
    /// out is not what it would put out. Values that are passed to it are told apart as values.
    pub(super) names_the_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs a program.
    Program,
    /// Makes or removes a volume.
    Volume,
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
const KINDS: [(&str, Kind); 5] = [
    ("container", Kind::Program),
    ("script", Kind::Program),
    ("resource", Kind::Volume),
    ("dag", Kind::Dag),
    ("steps", Kind::Steps),
];

/// Kinds that need a cluster, or a part of Argo that is not here.
const OTHER_KINDS: [(&str, &str); 6] = [
    ("suspend", "it waits for a person"),
    ("http", "it is carried out by Argo itself"),
    ("data", "it is carried out by Argo itself"),
    ("plugin", "it is carried out by a plugin of Argo"),
    ("containerSet", "it is a pod of several programs"),
    ("inline", "it has no name"),
];

impl<'a> Template<'a> {
    /// Reads what a template is; none when it is nothing that can run, which is a fault.
    pub(super) fn read(node: Node<'a>, facts: &Facts) -> Option<Self> {
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
            kind,
            inputs,
            paths: paths(&node),
            names_the_run: names_the_run(&node, facts),
            node,
        })
    }

    /// The calls of a group, in the order of the document.
    pub(super) fn calls(&self) -> Vec<Call<'a>> {
        match self.kind {
            Kind::Program | Kind::Volume => Vec::new(),
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

    /// Each step waits for all of the row before.
    fn rows(&self) -> Vec<Call<'a>> {
        let mut calls: Vec<Call<'a>> = Vec::new();
        let mut before: Vec<String> = Vec::new();
        let mut waits = 0;
        for (index, row) in self.node.items("steps").iter().enumerate() {
            // A row of one step may stand without its list.
            let holder = self.node.place(&format!("steps[{index}]"));
            let steps: Vec<&'a Value> = match row {
                Value::Array(steps) => steps.iter().collect(),
                other => vec![other],
            };
            waits += steps.len() * before.len();
            if waits > MAX_WAITS {
                let message = format!("its rows are too wide: steps wait for {MAX_WAITS} others");
                self.node.fault("steps", message);
                break;
            }
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

/// Of two files of the same name, the first counts.
fn paths(node: &Node<'_>) -> BTreeMap<Reference, String> {
    let (inputs, outputs) = (node.node("inputs"), node.node("outputs"));
    let inputs = inputs.nodes("artifacts").into_iter();
    let inputs = inputs.map(|input| (Reference::InputPath(input.name()), input.text("path")));
    let artifacts = outputs.nodes("artifacts").into_iter();
    let artifacts = artifacts.map(|output| {
        (
            Reference::OutputArtifactPath(output.name()),
            output.text("path"),
        )
    });
    let parameters = outputs.nodes("parameters").into_iter().map(|output| {
        let path = output.node("valueFrom").text("path");
        (Reference::OutputParameterPath(output.name()), path)
    });
    let mut paths = BTreeMap::new();
    for (reference, path) in inputs.chain(artifacts).chain(parameters) {
        if let Some(path) = path {
            paths.entry(reference).or_insert(path);
        }
    }
    paths
}

fn names_the_run(node: &Node<'_>, facts: &Facts) -> bool {
    let parts = ["container", "inputs", "outputs", "script", "volumes"];
    let mut found = BTreeSet::new();
    for part in parts.iter().filter_map(|part| node.get(part)) {
        collect(part, facts, &mut found, 0);
    }
    found
        .iter()
        .any(|reference| matches!(reference, Reference::Context(_)))
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

/// How many times in all calls may give on values of the workflow. Each is an input of its own.
const MAX_GIVEN_ON: usize = 500_000;

/// The workflow's values (`workflow.parameters.x`, `workflow.status`) that each template needs for itself or for those that
/// it calls; none when calls would give on too many.
pub(super) fn globals(
    templates: &Templates<'_>,
    facts: &Facts,
) -> Option<BTreeMap<String, BTreeSet<Reference>>> {
    let mut callers: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut users: BTreeMap<Reference, Vec<&str>> = BTreeMap::new();
    for template in templates.values() {
        for call in template.calls() {
            let callers = callers.entry(call.template).or_default();
            callers.push(&template.name);
        }
        let mut found = BTreeSet::new();
        template
            .node
            .each_value(&mut |value| collect(value, facts, &mut found, 0));
        // Of the run itself, every program knows.
        found.retain(|reference| !matches!(reference, Reference::Context(_)));
        for reference in found {
            users.entry(reference).or_default().push(&template.name);
        }
    }
    let mut needed: BTreeMap<String, BTreeSet<Reference>> = BTreeMap::new();
    let mut given_on = 0;
    for (reference, mut open) in users {
        let mut seen: BTreeSet<&str> = open.iter().copied().collect();
        while let Some(name) = open.pop() {
            let theirs = needed.entry(name.to_owned()).or_default();
            theirs.insert(reference.clone());
            for caller in callers.get(name).into_iter().flatten() {
                given_on += 1;
                if seen.insert(caller) {
                    open.push(caller);
                }
            }
            if given_on > MAX_GIVEN_ON {
                return None;
            }
        }
    }
    Some(needed)
}

fn collect(value: &Value, facts: &Facts, found: &mut BTreeSet<Reference>, depth: usize) {
    match value {
        Value::String(text) => {
            // What is wrong with an expression is said where it is used.
            for part in facts.parse(text).unwrap_or_default() {
                if let Part::Reference(
                    reference @ (Reference::Global(_)
                    | Reference::Parameters
                    | Reference::Status
                    | Reference::Failures
                    | Reference::Context(_)),
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

/// Templates that call each other, or one that calls itself, without a condition or a loop that could end it.
pub(super) fn endless(templates: &Templates<'_>) -> Option<Vec<String>> {
    let calls: BTreeMap<&str, Vec<String>> = templates
        .values()
        .map(|template| {
            let calls = template.calls().into_iter();
            let always = calls.filter(|call| !MAY_END.iter().any(|key| call.node.has(key)));
            let called = always.map(|call| call.template).collect();
            (template.name.as_str(), called)
        })
        .collect();
    let nodes = calls.iter().map(|(name, called)| {
        let called = called.iter().map(String::as_str).collect();
        (*name, called)
    });
    let circle = graph::order(&nodes.collect()).circles.into_iter().next()?;
    Some(circle.into_iter().map(str::to_owned).collect())
}
