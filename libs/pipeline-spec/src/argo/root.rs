//! The pipeline itself: the entry point, and what runs at the end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::container::placeholder;
use super::read::{Node, scalar};
use super::scope::{Inputs, status};
use super::template::Call;
use super::text::{Part, Reference, raw_input};
use super::{Lowering, text_input};
use crate::plan::{Body, Dag, InputParameter, ParameterSource, ParameterValue, Strategy};

/// What failed before the end, of which the engine knows when it is there.
const FAILURES: &str = "{{$.pipeline_job_failures}}";

impl Lowering<'_> {
    /// The pipeline: the entry point, and the template that runs at the end.
    pub(super) fn root(&mut self, spec: &Node<'_>) {
        let mut inputs = BTreeMap::new();
        let arguments = spec.node("arguments");
        arguments.only(&["artifacts", "parameters"], &[]);
        for parameter in arguments.nodes("parameters") {
            let name = parameter.required("name");
            parameter.only(&["name", "value"], &["description", "enum", "globalName"]);
            let default = parameter.get("value").and_then(scalar).map(Value::from);
            let input = InputParameter {
                default,
                ..text_input(false)
            };
            inputs.insert(name, input);
        }
        let entry = spec.required("entrypoint");
        let main = self.root_task(spec, "entrypoint", &entry, &inputs, None);
        let at_end = spec
            .text("onExit")
            .and_then(|name| self.root_task(spec, "onExit", &name, &inputs, main.as_ref()));
        let mut dag = Dag {
            tasks: BTreeMap::new(),
            order: Vec::new(),
            output_parameters: BTreeMap::new(),
            output_artifacts: BTreeMap::new(),
        };
        for task in [main, at_end].into_iter().flatten() {
            dag.order.push(task.name.clone());
            dag.tasks.insert(task.name.clone(), task);
        }
        self.plan.root.input_parameters = inputs;
        self.plan.root.body = Body::Dag(dag);
    }

    fn root_task(
        &self,
        spec: &Node<'_>,
        key: &str,
        name: &str,
        given: &BTreeMap<String, InputParameter>,
        after: Option<&crate::plan::Task>,
    ) -> Option<crate::plan::Task> {
        let Some(template) = self.templates.get(name) else {
            if !name.is_empty() && !self.named.contains(name) {
                spec.fault(key, format!("there is no template `{name}`"));
            }
            return None;
        };
        let mut inputs = Inputs::default();
        let plain = |value| ParameterSource {
            value,
            selector: String::new(),
        };
        // The workflow's arguments are those of the entry point, by name.
        for name in template
            .inputs
            .iter()
            .filter(|name| given.contains_key(*name))
        {
            let source = plain(ParameterValue::ComponentInput(name.clone()));
            inputs.parameters.insert(name.clone(), source);
        }
        for artifact in spec.node("arguments").nodes("artifacts") {
            artifact.only(&["name", "raw"], &[]);
            let raw = artifact.node("raw");
            let (at, name) = (raw.place("data"), artifact.required("name"));
            let text = self.given_text(
                &at,
                &raw.text("data").unwrap_or_default(),
                given,
                &mut inputs,
            );
            if let Some(text) = text {
                inputs.parameters.insert(raw_input(&name), plain(text));
            }
        }
        for global in self.globals.get(name).into_iter().flatten() {
            let source = match (global, after) {
                (Reference::Global(name), _) if given.contains_key(name) => {
                    plain(ParameterValue::ComponentInput(name.clone()))
                }
                (Reference::Parameters, _) => plain(all_parameters(given, &mut inputs)),
                (Reference::Failures, Some(_)) => plain(ParameterValue::Constant(FAILURES.into())),
                (Reference::Failures, None) => {
                    let message = "{{workflow.failures}} is known to what `onExit` calls only";
                    spec.fault(key, message);
                    continue;
                }
                (Reference::Status, Some(main)) => status(&main.name),
                (Reference::Status, None) => plain(ParameterValue::Constant("Running".into())),
                _ => {
                    let message = format!(
                        "the workflow has no argument for {{{{{}}}}}",
                        global.channel()
                    );
                    spec.fault("arguments", message);
                    continue;
                }
            };
            inputs.parameters.insert(global.channel(), source);
        }
        let call = Call {
            node: spec.clone(),
            name: name.to_owned(),
            template: name.to_owned(),
            dependencies: after.map(|main| main.name.clone()).into_iter().collect(),
        };
        let mut task = self.task(&call, inputs);
        if after.is_some() {
            task.trigger.strategy = Strategy::AllCompleted;
        }
        Some(task)
    }

    /// A text of the workflow's arguments, which may name its parameters.
    fn given_text(
        &self,
        at: &str,
        text: &str,
        given: &BTreeMap<String, InputParameter>,
        inputs: &mut Inputs,
    ) -> Option<ParameterValue> {
        let mut filled = String::new();
        for part in self.faults.keep(at, self.facts.parse(text))? {
            match part {
                Part::Text(text) => filled.push_str(&text),
                Part::Reference(Reference::Global(name)) if given.contains_key(&name) => {
                    let channel = format!("channel--{name}");
                    filled.push_str(&placeholder(&channel));
                    let source = ParameterSource {
                        value: ParameterValue::ComponentInput(name),
                        selector: String::new(),
                    };
                    inputs.parameters.insert(channel, source);
                }
                Part::Reference(reference) => {
                    let message = format!("{{{{{}}}}} is no value here", reference.channel());
                    self.faults.add(at, message);
                }
            }
        }
        Some(ParameterValue::Constant(filled.into()))
    }
}

/// All parameters with their values, as Argo lists them.
fn all_parameters(given: &BTreeMap<String, InputParameter>, inputs: &mut Inputs) -> ParameterValue {
    let entry = |name: &String| {
        let channel = format!("channel--{name}");
        let entry = json!({"name": name, "value": placeholder(&channel)});
        let source = ParameterSource {
            value: ParameterValue::ComponentInput(name.clone()),
            selector: String::new(),
        };
        inputs.parameters.insert(channel, source);
        entry
    };
    ParameterValue::Constant(Value::Array(given.keys().map(entry).collect()))
}
