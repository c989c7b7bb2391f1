//! Argo workflows, as the KFP SDK 1.8 compiles pipelines, turned into plans.
//!
//! A template becomes a component of its name. All parameters are text, as they are for Argo. What a workflow can say and a plan
//! cannot is refused by name; settings of pods that mean nothing to a process are accepted.
//! The language is that of <https://argo-workflows.readthedocs.io/en/latest/fields/>.

mod container;
mod group;
mod loops;
mod read;
mod retry;
mod scope;
mod template;
mod text;
mod volume;
mod when;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::limits::PARALLELISM;
use crate::plan::{
    ArtifactType, Body, Component, Dag, InputParameter, ParameterSource, ParameterType,
    ParameterValue, Plan, Strategy,
};
use crate::validate::Fault;
use container::placeholder;
use read::{Faults, Node, scalar};
use scope::Inputs;
use template::{Call, Kind, Template, Templates};
use text::{Facts, Part, Reference, raw_input};

/// Templates that a workflow may have.
const MAX_TEMPLATES: usize = 10_000;
/// How the entry point ended, as Argo calls it.
const STATUS: &str =
    "parseJson(string_value)[\"state\"] == \"COMPLETE\" ? \"Succeeded\" : \"Failed\"";

/// Settings of a workflow that mean nothing to processes of one machine.
const WITHOUT_EFFECT: [&str; 20] = [
    "affinity",
    "archiveLogs",
    "artifactGC",
    "artifactRepositoryRef",
    "automountServiceAccountToken",
    "dnsConfig",
    "dnsPolicy",
    "executor",
    "hostNetwork",
    "imagePullSecrets",
    "nodeSelector",
    "podGC",
    "podMetadata",
    "podPriority",
    "podPriorityClassName",
    "priority",
    "securityContext",
    "serviceAccountName",
    "tolerations",
    "ttlStrategy",
];

/// What runs beside a program in its pod.
const BESIDE: [(&str, &str); 2] = [
    (
        "initContainers",
        "a step is one program here; do what they do in a step before it",
    ),
    (
        "sidecars",
        "a step is one program here; start what it needs from the program itself",
    ),
];

/// Whether a document is an Argo workflow.
pub fn is_workflow(document: &Value) -> bool {
    let text = |key: &str| {
        document
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    text("apiVersion").starts_with("argoproj.io/") && text("kind") == "Workflow"
}

/// Turns a workflow into a plan.
///
/// # Errors
/// Everything that is wrong or not supported, by its place.
pub fn plan(workflow: &Value) -> Result<Plan, Vec<Fault>> {
    let faults = Faults::default();
    let plan = read(workflow, &faults);
    let faults = faults.into_vec();
    match plan {
        Some(plan) if faults.is_empty() => Ok(plan),
        _ => Err(faults),
    }
}

/// The state of the translation.
struct Lowering<'a> {
    faults: &'a Faults,
    facts: Facts,
    templates: &'a Templates<'a>,
    /// The names of all templates, also of those that cannot run.
    named: BTreeSet<String>,
    globals: BTreeMap<String, BTreeSet<Reference>>,
    volumes: BTreeMap<String, Node<'a>>,
    /// Whether artifacts are passed as text anywhere; then every input artifact may come as a parameter instead.
    raw: bool,
    plan: Plan,
}

fn read(workflow: &Value, faults: &Faults) -> Option<Plan> {
    let root = Node::new("", workflow, faults);
    root.only(&["apiVersion", "kind", "metadata", "spec"], &["status"]);
    let metadata = root.node("metadata");
    let spec = root.node("spec");
    spec.only(
        &[
            "activeDeadlineSeconds",
            "arguments",
            "entrypoint",
            "onExit",
            "parallelism",
            "templates",
            "volumes",
        ],
        &WITHOUT_EFFECT,
    );
    let nodes = spec.nodes("templates");
    if nodes.len() > MAX_TEMPLATES {
        spec.fault(
            "templates",
            format!("must not be more than {MAX_TEMPLATES}"),
        );
        return None;
    }
    let facts = facts(&metadata, &spec);
    let named = nodes.iter().filter_map(|node| node.text("name")).collect();
    let mut templates = Templates::new();
    for node in nodes {
        check(&node);
        let at = node.place("name");
        if let Some(template) = Template::read(node, &facts)
            && let Some(old) = templates.insert(template.name.clone(), template)
        {
            faults.add(&at, format!("there are two templates `{}`", old.name));
        }
    }
    let Some(globals) = template::globals(&templates, &facts) else {
        let message = "its templates give on more values of the workflow than can be kept; pass \
                       them as arguments where they are needed";
        spec.fault("templates", message);
        return None;
    };
    let mut lowering = Lowering {
        globals,
        faults,
        facts,
        named,
        templates: &templates,
        volumes: container::by_name(spec.nodes("volumes")),
        raw: passes_text(&templates, &spec),
        plan: empty(&metadata, &spec),
    };
    for template in templates.values() {
        match template.kind {
            Kind::Program => lowering.program(template),
            Kind::Volume => lowering.volume(template),
            Kind::Dag | Kind::Steps => lowering.group(template),
        }
    }
    if let Some(circle) = template::endless(&templates) {
        let [name, more @ ..] = &circle[..] else {
            return None;
        };
        let over = match more {
            [] => String::new(),
            more => format!(", over `{}`,", more.join("`, `")),
        };
        let message = format!(
            "template `{name}` calls itself{over} without a condition, so it would never end"
        );
        spec.fault("templates", message);
    }
    lowering.root(&spec);
    Some(lowering.plan)
}

/// Names what a template has and nothing here carries out.
fn check(node: &Node<'_>) {
    node.only(
        &[
            "activeDeadlineSeconds",
            "container",
            "dag",
            "inputs",
            "metadata",
            "name",
            "nodeSelector",
            "outputs",
            "parallelism",
            "podSpecPatch",
            "resource",
            "retryStrategy",
            "script",
            "steps",
            "tolerations",
            "volumes",
            // Named apart, with the reason.
            "containerSet",
            "data",
            "http",
            "initContainers",
            "inline",
            "plugin",
            "sidecars",
            "suspend",
        ],
        &[
            "affinity",
            "archiveLocation",
            "automountServiceAccountToken",
            "executor",
            "hostAliases",
            "priority",
            "priorityClassName",
            "schedulerName",
            "securityContext",
            "serviceAccountName",
        ],
    );
    for (key, why) in BESIDE {
        if node.get(key).is_some_and(|list| *list != json!([])) {
            node.fault(
                key,
                format!("`{key}` of Argo workflows is not supported: {why}"),
            );
        }
    }
    let group = node.has("dag") || node.has("steps");
    for key in ["retryStrategy", "activeDeadlineSeconds"] {
        if group && node.has(key) {
            node.fault(
                key,
                format!("`{key}` of a group of tasks is not supported; set it on its programs"),
            );
        }
    }
}

/// Whether a call passes an artifact as text.
fn passes_text(templates: &Templates<'_>, spec: &Node<'_>) -> bool {
    let raw = |node: &Node<'_>| {
        let artifacts = node.node("arguments").nodes("artifacts");
        artifacts.iter().any(|artifact| artifact.has("raw"))
    };
    let calls = templates.values().flat_map(Template::calls);
    raw(spec) || calls.into_iter().any(|call| raw(&call.node))
}

/// What expressions may name without running anything.
fn facts(metadata: &Node<'_>, spec: &Node<'_>) -> Facts {
    let mut facts = BTreeMap::new();
    for (kind, pairs) in ["annotations", "labels"].map(|kind| (kind, metadata.pairs(kind))) {
        for (name, text) in pairs {
            facts.insert(format!("workflow.{kind}.{name}"), text);
        }
    }
    let account = spec.text("serviceAccountName").unwrap_or_default();
    facts.insert("workflow.serviceAccountName".to_owned(), account);
    facts.insert("workflow.namespace".to_owned(), "default".to_owned());
    Facts::new(facts)
}

/// A plan with the names of the workflow and nothing to do yet.
fn empty(metadata: &Node<'_>, spec: &Node<'_>) -> Plan {
    let notes = metadata.node("annotations");
    let noted = notes.text("pipelines.kubeflow.org/pipeline_spec");
    let noted: Value = noted
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let generated = metadata.text("generateName");
    let name = metadata
        .text("name")
        .or_else(|| generated.map(|name| name.trim_end_matches('-').to_owned()))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "workflow".to_owned());
    let noted = |key: &str| noted.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut config = serde_json::Map::new();
    for key in ["activeDeadlineSeconds", PARALLELISM] {
        if let Some(number) = spec.number(key) {
            config.insert(key.to_owned(), number.into());
        }
    }
    Plan {
        display_name: noted("name").unwrap_or_else(|| name.clone()),
        description: noted("description").unwrap_or_default(),
        name,
        default_root: String::new(),
        root: Component {
            input_parameters: BTreeMap::new(),
            input_artifacts: BTreeMap::new(),
            output_parameters: BTreeMap::new(),
            output_artifacts: BTreeMap::new(),
            body: Body::Dag(Dag {
                tasks: BTreeMap::new(),
                order: Vec::new(),
                output_parameters: BTreeMap::new(),
                output_artifacts: BTreeMap::new(),
            }),
        },
        components: BTreeMap::new(),
        executors: BTreeMap::new(),
        pipeline_config: if config.is_empty() {
            Value::Null
        } else {
            Value::Object(config)
        },
    }
}

impl Lowering<'_> {
    /// The pipeline: the entry point, and the template that runs at the end.
    fn root(&mut self, spec: &Node<'_>) {
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
                (Reference::Status, Some(main)) => ParameterSource {
                    value: ParameterValue::FinalStatus {
                        task: main.name.clone(),
                    },
                    selector: STATUS.to_owned(),
                },
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

    /// What a template declares, and the workflow's values that pass through it.
    fn input_parameters(&self, template: &Template<'_>) -> BTreeMap<String, InputParameter> {
        let mut inputs = BTreeMap::new();
        for input in template.node.node("inputs").nodes("parameters") {
            let value = input.get("value").or_else(|| input.get("default"));
            let default = value.map(|value| scalar(value).unwrap_or_else(|| value.to_string()));
            if default.as_deref().is_some_and(|text| text.contains("{{")) {
                input.fault(
                    "value",
                    "expressions in defaults are not supported; pass an argument",
                );
            }
            let declared = InputParameter {
                default: default.map(Value::from),
                ..text_input(false)
            };
            inputs.insert(input.required("name"), declared);
        }
        for global in self.globals.get(&template.name).into_iter().flatten() {
            inputs.insert(global.channel(), text_input(false));
        }
        if self.raw {
            for input in template.node.node("inputs").nodes("artifacts") {
                inputs.insert(raw_input(&input.required("name")), text_input(true));
            }
        }
        inputs
    }
}

/// A parameter: text, like all of Argo's.
fn text_input(optional: bool) -> InputParameter {
    InputParameter {
        parameter_type: ParameterType::String,
        default: None,
        optional,
        description: String::new(),
        literals: Vec::new(),
    }
}

/// Workflows have no types of artifacts; what the SDK writes metrics to is known by its name.
fn artifact_type(name: &str) -> ArtifactType {
    let metrics = name == "mlpipeline-metrics" || name.ends_with("-mlpipeline-metrics");
    ArtifactType {
        schema_title: if metrics {
            "system.Metrics"
        } else {
            "system.Artifact"
        }
        .to_owned(),
        schema_version: "0.0.1".to_owned(),
        instance_schema: String::new(),
    }
}

/// The workflow's own parameters with their defaults, in the order of the document.
pub fn parameters(workflow: &Value) -> Vec<(String, String)> {
    let list = workflow.pointer("/spec/arguments/parameters");
    let list = list.and_then(Value::as_array).into_iter().flatten();
    let pair = |entry: &Value| {
        let name = entry.get("name")?.as_str()?.to_owned();
        Some((
            name,
            entry.get("value").and_then(scalar).unwrap_or_default(),
        ))
    };
    list.filter_map(pair).collect()
}
