//! Calls with a condition or a loop: each becomes a group of its own around the call.
//!
//! That gives the semantics of Argo with those of the plan: the group succeeds when its call is skipped, so that tasks behind
//! it run, and inside it an item is an input like any other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::group::output_artifact;
use super::scope::{Carried, Inputs, Scope};
use super::template::Call;
use super::{Lowering, artifact_type, text_input};
use crate::plan::{
    Body, Component, Dag, InputArtifact, Items, Iterator, OutputSelector, ParameterType, Task,
};

/// The input that takes the item of a loop.
pub(super) const ITEM: &str = "item";
/// The input that takes all items.
const ITEMS: &str = "items";
/// Items that a workflow may write out.
const MAX_ITEMS: usize = 100_000;

impl Lowering<'_> {
    /// Puts a call into a group of its own, which is then called instead, once or for each item.
    pub(super) fn wrap(
        &mut self,
        scope: &Scope<'_>,
        call: &Call<'_>,
        inner: Task,
        carried: Carried,
    ) -> Task {
        let node = &call.node;
        let mut outer = Inputs::default();
        let mut declared = BTreeMap::new();
        for reference in &carried.parameters {
            if let Ok(found) = scope.outer(reference) {
                declared.insert(reference.channel(), text_input(true));
                outer.parameters.insert(reference.channel(), found);
            }
        }
        let mut artifacts = BTreeMap::new();
        for reference in &carried.artifacts {
            if let Ok(found) = scope.outer_artifact(reference) {
                let artifact = InputArtifact {
                    artifact_type: artifact_type(""),
                    list: false,
                    optional: self.raw,
                };
                artifacts.insert(reference.channel(), artifact);
                outer.artifacts.insert(reference.channel(), found);
            }
        }
        let iterator = carried.item.then(|| {
            declared.insert(ITEM.to_owned(), text_input(true));
            let items = self.items(scope, call, &mut outer);
            if matches!(items, Items::Parameter(_)) {
                declared.insert(ITEMS.to_owned(), text_input(true));
            }
            Iterator {
                items,
                item_input: ITEM.to_owned(),
                parallelism: scope
                    .template
                    .node
                    .number("parallelism")
                    .and_then(|number| u32::try_from(number).ok())
                    .unwrap_or_default(),
            }
        });
        let name = format!("{}/{}", scope.template.name, call.name);
        let mut task = self.task(call, outer);
        task.component.clone_from(&name);
        task.retry = None;
        task.caching = Default::default();
        task.iterator = iterator;
        let inner = Task {
            dependencies: Vec::new(),
            ..inner
        };
        let component = self.around(inner, declared, artifacts);
        if self.plan.components.insert(name, component).is_some() {
            node.fault("name", "is used twice");
        }
        task
    }

    /// A group of one task that gives on all that the task puts out.
    fn around(
        &self,
        inner: Task,
        input_parameters: BTreeMap<String, crate::plan::InputParameter>,
        input_artifacts: BTreeMap<String, InputArtifact>,
    ) -> Component {
        let callee = self.templates.get(&inner.component);
        let names = |kind: &str| -> Vec<String> {
            let outputs = callee.map(|callee| callee.node.node("outputs").nodes(kind));
            let outputs = outputs.into_iter().flatten();
            outputs.filter_map(|output| output.text("name")).collect()
        };
        let selectors = |names: &[String]| -> BTreeMap<String, Vec<OutputSelector>> {
            let selector = |name: &String| OutputSelector {
                task: inner.name.clone(),
                output: name.clone(),
            };
            names
                .iter()
                .map(|name| (name.clone(), vec![selector(name)]))
                .collect()
        };
        let (parameters, artifacts) = (names("parameters"), names("artifacts"));
        Component {
            input_parameters,
            input_artifacts,
            output_parameters: parameters
                .iter()
                .map(|name| (name.clone(), ParameterType::String))
                .collect(),
            output_artifacts: artifacts
                .iter()
                .map(|name| (name.clone(), output_artifact(name)))
                .collect(),
            body: Body::Dag(Dag {
                order: vec![inner.name.clone()],
                output_parameters: selectors(&parameters),
                output_artifacts: selectors(&artifacts),
                tasks: BTreeMap::from([(inner.name.clone(), inner)]),
            }),
        }
    }

    fn items(&self, scope: &Scope<'_>, call: &Call<'_>, outer: &mut Inputs) -> Items {
        let node = &call.node;
        if node.has("withParam") {
            let at = node.place("withParam");
            let text = node.required("withParam");
            let parts = self
                .faults
                .keep(&at, self.facts.parse(&text))
                .unwrap_or_default();
            let mut plain = Scope {
                template: scope.template,
                tasks: scope.tasks,
                carried: None,
            };
            if let Some(found) = self.faults.keep(&at, plain.argument(&parts, outer)) {
                outer.parameters.insert(ITEMS.to_owned(), found);
            }
            return Items::Parameter(ITEMS.to_owned());
        }
        let items = match node.has("withSequence") {
            true => self.sequence(call),
            false => node.items("withItems").to_vec(),
        };
        if items.len() > MAX_ITEMS {
            node.fault(
                "withItems",
                format!("must not have more than {MAX_ITEMS} items"),
            );
            return Items::Raw(Vec::new());
        }
        Items::Raw(items)
    }

    fn sequence(&self, call: &Call<'_>) -> Vec<Value> {
        let node = call.node.node("withSequence");
        node.only(&["count", "end", "start"], &[]);
        let start = node.number("start").unwrap_or_default();
        let end = match (node.number("count"), node.number("end")) {
            (Some(count), _) => start.saturating_add(count),
            (None, Some(end)) => end.saturating_add(1),
            (None, None) => {
                node.fault("count", "must be given");
                start
            }
        };
        let end = end.min(start.saturating_add(MAX_ITEMS as u64 + 1));
        (start..end)
            .map(|number| Value::from(number.to_string()))
            .collect()
    }
}
