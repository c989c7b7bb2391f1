//! Argo workflows, as the KFP SDK 1.8 compiles pipelines, turned into plans.
//!
//! A template becomes a component of its name. All parameters are text, as they are for Argo. What a workflow can say and a plan
//! cannot is refused by name; settings of pods that mean nothing to a process are accepted.
//! The language is that of <https://argo-workflows.readthedocs.io/en/latest/fields/>.

mod container;
mod environment;
mod group;
mod loops;
mod parallelism;
mod read;
mod retry;
mod root;
mod scope;
mod template;
mod text;
mod volume;
mod when;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::limits::PARALLELISM;
use crate::plan::{ArtifactType, Body, Component, Dag, InputParameter, ParameterType, Plan};
use crate::validate::Fault;
use read::{Faults, Node, scalar};
use template::{Kind, Template, Templates};
use text::{Facts, Reference, raw_input};

/// Templates that a workflow may have.
const MAX_TEMPLATES: usize = 10_000;
/// Settings of a workflow that mean nothing to processes of one machine.
const WITHOUT_EFFECT: [&str; 21] = [
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
    "podDisruptionBudget",
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
    /// Outputs that groups around calls give on so far.
    given_on: usize,
    /// The templates that a loop calls.
    looped: BTreeSet<String>,
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
        given_on: 0,
        looped: parallelism::looped(&templates),
        plan: empty(&metadata, &spec),
    };
    for template in templates.values() {
        match template.kind {
            Kind::Program => {
                lowering.check_limit(template);
                lowering.program(template);
            }
            Kind::Volume => {
                lowering.check_limit(template);
                lowering.volume(template);
            }
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
    for kind in ["annotations", "labels"] {
        let all: BTreeMap<String, String> = metadata.pairs(kind).into_iter().collect();
        facts.insert(format!("workflow.{kind}.json"), json!(all).to_string());
    }
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
