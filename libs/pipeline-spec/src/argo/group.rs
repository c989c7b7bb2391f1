//! Templates that call others: tasks with dependencies, conditions, loops and recursion.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::read::scalar;
use super::retry::retry;
use super::scope::{Carried, Inputs, Scope};
use super::template::{Call, Kind, Template};
use super::text::{Part, Reference, raw_input};
use super::{Lowering, artifact_type, when};
use crate::graph;
use crate::plan::{
    ArtifactSource, Body, Component, Dag, InputArtifact, OutputArtifact, OutputSelector,
    ParameterType, ParameterValue, Strategy, Task, Trigger,
};

impl Lowering<'_> {
    /// The component of a template that calls others.
    pub(super) fn group(&mut self, template: &Template<'_>) {
        let calls = template.calls();
        let mut names = BTreeSet::new();
        for call in &calls {
            if !names.insert(call.name.clone()) {
                call.node
                    .fault("name", format!("there are two tasks `{}`", call.name));
            }
        }
        let conditional = calls.iter().filter(|call| call.node.has("when"));
        let may_skip: BTreeSet<&str> = conditional.map(|call| call.name.as_str()).collect();
        let mut tasks = BTreeMap::new();
        for call in &calls {
            if let Some(task) = self.call(template, call, &names, &may_skip) {
                tasks.insert(task.name.clone(), task);
            }
        }
        // One that cannot run was named already; what comes after it is not at fault.
        if tasks.len() < names.len() {
            return;
        }
        let Some(order) = self.order(template, &tasks) else {
            return;
        };
        self.hold_back(template, &calls, &order, &mut tasks);
        let dag = Dag {
            tasks,
            order,
            output_parameters: BTreeMap::new(),
            output_artifacts: BTreeMap::new(),
        };
        let mut component = Component {
            input_parameters: self.input_parameters(template),
            input_artifacts: self.passed_artifacts(template),
            output_parameters: BTreeMap::new(),
            output_artifacts: BTreeMap::new(),
            body: Body::Dag(dag),
        };
        self.group_outputs(template, &mut component);
        self.plan
            .components
            .insert(template.name.clone(), component);
    }

    fn passed_artifacts(&self, template: &Template<'_>) -> BTreeMap<String, InputArtifact> {
        let inputs = template.node.node("inputs");
        let declared = inputs.nodes("artifacts").into_iter().map(|input| {
            input.only(&["name", "optional"], &["path"]);
            let artifact = InputArtifact {
                artifact_type: artifact_type(""),
                list: false,
                optional: self.raw || input.get("optional") == Some(&Value::Bool(true)),
            };
            (input.required("name"), artifact)
        });
        declared.collect()
    }

    fn group_outputs(&self, template: &Template<'_>, component: &mut Component) {
        let Body::Dag(dag) = &mut component.body else {
            return;
        };
        let outputs = template.node.node("outputs");
        outputs.only(&["artifacts", "parameters"], &[]);
        for output in outputs.nodes("parameters") {
            let name = output.required("name");
            let from = output.node("valueFrom");
            from.only(&["parameter"], &[]);
            let at = from.place("parameter");
            let text = from.required("parameter");
            match self.faults.keep(&at, self.facts.single(&text)).flatten() {
                Some(Reference::TaskParameter { task, output })
                    if dag.tasks.contains_key(&task) =>
                {
                    let selector = OutputSelector { task, output };
                    dag.output_parameters.insert(name.clone(), vec![selector]);
                }
                _ => self.faults.add(
                    &at,
                    "must be an output of a task, as {{tasks.T.outputs.parameters.P}}",
                ),
            }
            component
                .output_parameters
                .insert(name, ParameterType::String);
        }
        for output in outputs.nodes("artifacts") {
            let name = output.required("name");
            output.only(&["from", "name"], &["optional"]);
            let at = output.place("from");
            let text = output.required("from");
            match self.faults.keep(&at, self.facts.single(&text)).flatten() {
                Some(Reference::TaskArtifact { task, output }) if dag.tasks.contains_key(&task) => {
                    let selector = OutputSelector { task, output };
                    dag.output_artifacts.insert(name.clone(), vec![selector]);
                }
                _ => self.faults.add(
                    &at,
                    "must be an output of a task, as {{tasks.T.outputs.artifacts.A}}",
                ),
            }
            component
                .output_artifacts
                .insert(name.clone(), output_artifact(&name));
        }
    }

    /// The tasks in an order in which each stands after those before it.
    fn order(
        &self,
        template: &Template<'_>,
        tasks: &BTreeMap<String, Task>,
    ) -> Option<Vec<String>> {
        let nodes = tasks.iter().map(|(name, task)| {
            let before = task.dependencies.iter().map(String::as_str).collect();
            (name.as_str(), before)
        });
        let order = graph::order(&nodes.collect());
        if let Some(circle) = order.circles.first() {
            let message = format!(
                "tasks wait for each other in a circle: {}",
                graph::show(circle)
            );
            template.node.fault("dag.tasks", message);
            return None;
        }
        Some(order.names.into_iter().map(str::to_owned).collect())
    }

    fn call(
        &mut self,
        template: &Template<'_>,
        call: &Call<'_>,
        names: &BTreeSet<String>,
        may_skip: &BTreeSet<&str>,
    ) -> Option<Task> {
        let node = &call.node;
        node.only(
            &[
                "arguments",
                "dependencies",
                "depends",
                "name",
                "template",
                "when",
                "withItems",
                "withParam",
                "withSequence",
            ],
            &[],
        );
        if !self.templates.contains_key(&call.template) {
            // A template that cannot run has its own fault already.
            if !self.named.contains(&call.template) {
                node.fault(
                    "template",
                    format!("there is no template `{}`", call.template),
                );
            }
            return None;
        }
        for name in call
            .dependencies
            .iter()
            .filter(|name| !names.contains(*name))
        {
            node.fault("dependencies", format!("there is no task `{name}`"));
        }
        let loops = ["withItems", "withParam", "withSequence"];
        let looped = loops.iter().any(|key| node.has(key));
        let wrapped = looped || node.has("when") || self.takes_from(call, may_skip);
        let mut scope = Scope {
            template,
            tasks: names,
            may_skip,
            carried: wrapped.then(|| Carried {
                item: looped,
                ..Carried::default()
            }),
        };
        let mut inputs = Inputs::default();
        self.arguments(call, &mut scope, &mut inputs);
        let condition = self.condition(call, &mut scope, &mut inputs);
        let mut task = self.task(call, inputs);
        task.trigger.condition = condition;
        if let Some(carried) = scope.carried.take() {
            task = self.wrap(&scope, call, task, carried);
        }
        let own = task
            .dependencies
            .iter()
            .filter(|name| names.contains(*name));
        task.dependencies = own.cloned().collect();
        Some(task)
    }

    /// Whether a call takes a parameter from one of these tasks.
    fn takes_from(&self, call: &Call<'_>, tasks: &BTreeSet<&str>) -> bool {
        if tasks.is_empty() {
            return false;
        }
        let arguments = call.node.node("arguments").nodes("parameters");
        arguments.iter().any(|argument| {
            let text = argument.get("value").and_then(scalar).unwrap_or_default();
            // What is wrong with an expression is said where it is used.
            let parts = self.facts.parse(&text).unwrap_or_default();
            parts.iter().any(|part| {
                matches!(part, Part::Reference(Reference::TaskParameter { task, .. })
                    if tasks.contains(task.as_str()))
            })
        })
    }

    /// A task that calls a template.
    pub(super) fn task(&self, call: &Call<'_>, inputs: Inputs) -> Task {
        let callee = self.templates.get(&call.template);
        let mut dependencies: BTreeSet<String> = call.dependencies.iter().cloned().collect();
        dependencies.extend(producers(&inputs));
        let mut task = Task {
            name: call.name.clone(),
            display_name: call.name.clone(),
            component: call.template.clone(),
            parameters: inputs.parameters,
            artifacts: inputs.artifacts,
            dependencies: dependencies.into_iter().collect(),
            trigger: Trigger {
                condition: String::new(),
                strategy: Strategy::AllSucceeded,
            },
            iterator: None,
            retry: None,
            caching: Default::default(),
        };
        if let Some(callee) = callee {
            let metadata = callee.node.node("metadata");
            let notes = metadata.node("annotations");
            if let Some(name) = notes.text("pipelines.kubeflow.org/task_display_name") {
                task.display_name = name;
            }
            if callee.kind == Kind::Volume {
                task.retry = retry(callee);
            }
            if callee.kind == Kind::Program {
                let label = metadata.node("labels");
                let label = label.text("pipelines.kubeflow.org/enable_caching");
                let stale = notes.text("pipelines.kubeflow.org/max_cache_staleness");
                task.caching.enabled = label.as_deref() == Some("true")
                    && stale.as_deref() != Some("P0D")
                    && !callee.names_the_run;
                task.retry = retry(callee);
            }
        }
        task
    }

    fn arguments(&self, call: &Call<'_>, scope: &mut Scope<'_>, inputs: &mut Inputs) {
        let Some(callee) = self.templates.get(&call.template) else {
            return;
        };
        let arguments = call.node.node("arguments");
        arguments.only(&["artifacts", "parameters"], &[]);
        for argument in arguments.nodes("parameters") {
            argument.only(&["name", "value"], &[]);
            let name = argument.required("name");
            let at = argument.place("value");
            let text = match argument.get("value") {
                Some(value) => scalar(value).unwrap_or_else(|| value.to_string()),
                None => {
                    argument.fault("value", "must be given");
                    continue;
                }
            };
            let parts = self.faults.keep(&at, self.facts.parse(&text));
            let found =
                parts.and_then(|parts| self.faults.keep(&at, scope.argument(&parts, inputs)));
            // Argo drops what the template does not declare.
            if let Some(found) = found.filter(|_| callee.inputs.contains(&name)) {
                inputs.parameters.insert(name, found);
            }
        }
        for argument in arguments.nodes("artifacts") {
            argument.only(&["from", "name", "raw"], &["optional"]);
            let name = argument.required("name");
            if argument.has("raw") {
                let raw = argument.node("raw");
                let at = raw.place("data");
                let text = raw.text("data").unwrap_or_default();
                let parts = self.faults.keep(&at, self.facts.parse(&text));
                let found =
                    parts.and_then(|parts| self.faults.keep(&at, scope.argument(&parts, inputs)));
                inputs
                    .parameters
                    .extend(found.map(|found| (raw_input(&name), found)));
                continue;
            }
            let at = argument.place("from");
            let single = self.facts.single(&argument.required("from"));
            let found = match self.faults.keep(&at, single.clone()) {
                Some(Some(reference)) => self.faults.keep(&at, scope.artifact(&reference)),
                Some(None) => {
                    self.faults.add(
                        &at,
                        "must name one artifact, as {{tasks.T.outputs.artifacts.A}}",
                    );
                    None
                }
                None => None,
            };
            if let (true, Some(ArtifactSource::ComponentInput(_)), Ok(Some(reference))) =
                (self.raw, &found, &single)
                && let Reference::InputArtifact(inner) = reference
            {
                let raw = scope.parameter(&Reference::InputRaw(inner.clone()));
                inputs
                    .parameters
                    .extend(raw.ok().map(|raw| (raw_input(&name), raw)));
            }
            if let Some(found) = found {
                inputs.artifacts.insert(name, found);
            }
        }
        for global in self.globals.get(&call.template).into_iter().flatten() {
            if let Ok(found) = scope.parameter(global) {
                inputs.parameters.insert(global.channel(), found);
            }
        }
    }

    fn condition(&self, call: &Call<'_>, scope: &mut Scope<'_>, inputs: &mut Inputs) -> String {
        let Some(text) = call.node.text("when") else {
            return String::new();
        };
        let mut input = |reference: &Reference| {
            let name = format!("when--{}", reference.channel());
            inputs
                .parameters
                .insert(name.clone(), scope.parameter(reference)?);
            Ok(name)
        };
        let cel = when::to_cel(&text, &self.facts, &mut input)
            .and_then(|cel| match crate::check_expression(&cel) {
                Ok(()) => Ok(cel),
                Err(error) => Err(error.to_string()),
            })
            .map_err(|message| format!("the condition `{text}` {message}"));
        self.faults
            .keep(&call.node.place("when"), cel)
            .unwrap_or_default()
    }
}

/// The tasks whose outputs are taken.
fn producers(inputs: &Inputs) -> Vec<String> {
    let parameters = inputs
        .parameters
        .values()
        .filter_map(|source| match &source.value {
            ParameterValue::TaskOutput { task, .. } | ParameterValue::FinalStatus { task } => {
                Some(task)
            }
            ParameterValue::Constant(_) | ParameterValue::ComponentInput(_) => None,
        });
    let artifacts = inputs.artifacts.values().filter_map(|source| match source {
        ArtifactSource::TaskOutput { task, .. } => Some(task),
        ArtifactSource::ComponentInput(_) => None,
    });
    parameters.chain(artifacts).cloned().collect()
}

pub(super) fn output_artifact(name: &str) -> OutputArtifact {
    OutputArtifact {
        artifact_type: artifact_type(name),
        list: false,
        metadata: Value::Object(Map::new()),
    }
}
