//! Calls with a condition or a loop: each becomes a group of its own around the call.
//!
//! That gives the semantics of Argo with those of the plan: the group succeeds when its call is skipped, so that tasks behind
//! it run, and inside it an item is an input like any other.

use std::collections::BTreeMap;

use serde_json::Value;

use super::group::output_artifact;
use super::scope::{Carried, Inputs, Scope};
use super::template::{Call, Kind};
use super::text::Reference;
use super::{Lowering, artifact_type, text_input};
use crate::plan::{
    Body, Component, Dag, InputArtifact, InputParameter, Items, Iterator, OutputSelector,
    ParameterSource, ParameterType, ParameterValue, Task,
};

/// The input that takes the item of a loop.
pub(super) const ITEM: &str = "item";
/// The input that takes all items.
const ITEMS: &str = "items";
/// Items that a workflow may write out.
const MAX_ITEMS: usize = 100_000;
/// Outputs that all groups around calls may give on: many calls of a template with many outputs must not fill the memory.
const MAX_GIVEN_ON: usize = 500_000;

/// A value on its way into a group. What a task that was skipped would have put out stays as the workflow has it.
fn carried_input(reference: &Reference) -> InputParameter {
    let unfilled = match reference {
        Reference::TaskParameter { .. } => Some(format!("{{{{{}}}}}", reference.channel())),
        _ => None,
    };
    InputParameter {
        default: unfilled.map(Value::from),
        ..text_input(true)
    }
}

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
                declared.insert(reference.channel(), carried_input(reference));
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
                parallelism: self.limit(scope, call),
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
        &mut self,
        inner: Task,
        input_parameters: BTreeMap<String, InputParameter>,
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
        let (mut parameters, mut artifacts) = (names("parameters"), names("artifacts"));
        self.given_on += parameters.len() + artifacts.len();
        if self.given_on > MAX_GIVEN_ON {
            let message = format!(
                "its calls with conditions and loops have more than {MAX_GIVEN_ON} outputs in all"
            );
            self.faults.add("spec.templates", message);
            parameters.clear();
            artifacts.clear();
        }
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

    /// How many iterations may run at a time: the SDK writes its limit into the template that the loop calls.
    fn limit(&self, scope: &Scope<'_>, call: &Call<'_>) -> u32 {
        let callee = self.templates.get(&call.template);
        let callee = callee.filter(|callee| callee.kind != Kind::Program);
        let limits = [Some(scope.template), callee].into_iter().flatten();
        let limits = limits.filter_map(|template| template.node.number("parallelism"));
        let least = limits.filter(|limit| *limit > 0).min().unwrap_or_default();
        u32::try_from(least).unwrap_or(u32::MAX)
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
                may_skip: scope.may_skip,
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
        // Items may name what is only known to the run, such as a parameter.
        let at = node.place("withItems");
        let mut plain = Scope {
            template: scope.template,
            tasks: scope.tasks,
            may_skip: scope.may_skip,
            carried: None,
        };
        let filled = items
            .iter()
            .map(|item| self.filled(item, &mut plain, outer));
        let filled: Result<Vec<Value>, String> = filled.collect();
        match self.faults.keep(&at, filled) {
            Some(filled) if filled != items => {
                let source = ParameterSource {
                    value: ParameterValue::Constant(Value::Array(filled)),
                    selector: String::new(),
                };
                outer.parameters.insert(ITEMS.to_owned(), source);
                Items::Parameter(ITEMS.to_owned())
            }
            Some(_) | None => Items::Raw(items),
        }
    }

    /// An item with placeholders in place of the expressions in its texts.
    fn filled(
        &self,
        item: &Value,
        scope: &mut Scope<'_>,
        outer: &mut Inputs,
    ) -> Result<Value, String> {
        Ok(match item {
            Value::String(text) => Value::from(scope.text(&self.facts.parse(text)?, outer)?),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.filled(item, scope, outer));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields
                    .iter()
                    .map(|(key, field)| Ok((key.clone(), self.filled(field, scope, outer)?)));
                Value::Object(fields.collect::<Result<_, String>>()?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => item.clone(),
        })
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
