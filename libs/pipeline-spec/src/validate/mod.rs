//! From a decoded document to a plan, collecting every fault on the way.

mod commands;
mod executors;
mod inputs;
mod interface;
mod leftovers;
mod nesting;
mod outputs;
mod producers;
mod tasks;

pub use inputs::keeps_item;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::{
    document::Document,
    plan::{Body, Component, Dag, Executor, Plan},
    proto::ml_pipelines::{ComponentSpec, component_spec::Implementation},
};

/// The one version of the schema that is read.
const SCHEMA_VERSION: &str = "2.1.0";
/// How many components a document may have.
const MAX_COMPONENTS: usize = 100_000;
/// The component that [`Plan::root`] is, among the others.
const ROOT: &str = "root";

/// One thing that is wrong with a document or a value, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The place in the document: `root.dag.tasks.train.inputs.parameters.data`.
    pub field: String,
    pub message: String,
}

impl Fault {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault {
            field: field.into(),
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Faults as they are found.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault::new(field, message));
    }

    #[cfg(test)]
    pub(crate) fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

/// Everything that bodies and tasks refer to.
struct Scope<'a> {
    /// Interfaces by component name; bodies are placeholders until all are known.
    components: &'a BTreeMap<String, Component>,
    executors: &'a BTreeMap<String, Executor>,
    /// Components that are the body of a loop somewhere: what they give is gathered into lists.
    loops: &'a BTreeSet<&'a str>,
    /// Inputs, by component and name, that the compiler left behind and nobody reads.
    leftovers: &'a BTreeSet<(String, String)>,
}

/// Checks the document and resolves it into a plan.
///
/// Whatever the schema can express is planned; whether it is executed is another question, see
/// [`crate::unsupported`]. All faults are reported at once: executors, interfaces, the root, then the other components by name.
pub fn plan(document: &Document) -> Result<Plan, Vec<Fault>> {
    let mut faults = Faults::default();
    let spec = &document.pipeline;
    check_head(document, &mut faults);
    let Some(root) = &spec.root else {
        faults.add(ROOT, "the pipeline has no root");
        return Err(faults.0);
    };
    if spec.components.len() > MAX_COMPONENTS {
        faults.add(
            "components",
            format!("there are more than {MAX_COMPONENTS} components"),
        );
        return Err(faults.0);
    }

    let sources: BTreeMap<&str, &ComponentSpec> = sorted(&spec.components)
        .into_iter()
        .map(|(name, component)| (name.as_str(), component))
        .collect();
    let executors = executors::read(document, &mut faults);
    let mut components: BTreeMap<String, Component> = sources
        .iter()
        .map(|(&name, source)| {
            let component = interface::read(&path_of(name), source, &mut faults);
            (name.to_owned(), component)
        })
        .collect();
    let mut root_component = interface::read(ROOT, root, &mut faults);

    read_bodies(
        root,
        &sources,
        &executors,
        &mut root_component,
        &mut components,
        &mut faults,
    );
    if matches!(root_component.body, Body::Executor(_)) {
        faults.add("root.executorLabel", "the root must be a dag");
    }
    nesting::check(&root_component, &components, &mut faults);
    crate::limits::check(document, &mut faults);
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    let info = spec.pipeline_info.clone().unwrap_or_default();
    Ok(Plan {
        display_name: or(info.display_name, &info.name),
        name: info.name,
        description: info.description,
        default_root: spec.default_pipeline_root.clone(),
        root: root_component,
        components,
        executors,
        pipeline_config: document.pipeline_config.clone(),
    })
}

/// Gives every component its body, now that all interfaces are known.
fn read_bodies(
    root: &ComponentSpec,
    sources: &BTreeMap<&str, &ComponentSpec>,
    executors: &BTreeMap<String, Executor>,
    root_component: &mut Component,
    components: &mut BTreeMap<String, Component>,
    faults: &mut Faults,
) {
    let loops = tasks::loop_bodies(root, sources);
    let leftovers = leftovers::find(root, sources);
    leftovers::allow(&leftovers, components);
    let scope = Scope {
        components,
        executors,
        loops: &loops,
        leftovers: &leftovers,
    };
    let root_body = body(ROOT, None, root, root_component, &scope, faults);
    let bodies: Vec<Body> = sources
        .iter()
        .filter_map(|(&name, source)| {
            let interface = scope.components.get(name)?;
            let at = path_of(name);
            Some(body(&at, Some(name), source, interface, &scope, faults))
        })
        .collect();
    for (component, body) in components.values_mut().zip(bodies) {
        component.body = body;
    }
    root_component.body = root_body;
}

fn check_head(document: &Document, faults: &mut Faults) {
    let spec = &document.pipeline;
    if spec.schema_version != SCHEMA_VERSION {
        let message = match spec.schema_version.as_str() {
            "" => format!("is missing; it must be {SCHEMA_VERSION}"),
            other => format!("must be {SCHEMA_VERSION}, not {other}; compile with a KFP SDK 2.x"),
        };
        faults.add("schemaVersion", message);
    }
    if document.name().is_empty() {
        faults.add("pipelineInfo.name", "the pipeline has no name");
    } else {
        check_name("pipelineInfo.name", document.name(), faults);
    }
    for name in &document.other_platforms {
        faults.add(
            format!("platforms.{name}"),
            "this platform is not known; only kubernetes is",
        );
    }
}

/// A component's body. `name` is its name, `None` for the root.
fn body(
    at: &str,
    name: Option<&str>,
    source: &ComponentSpec,
    interface: &Component,
    scope: &Scope<'_>,
    faults: &mut Faults,
) -> Body {
    match &source.implementation {
        Some(Implementation::Dag(dag)) => {
            let dag_at = format!("{at}.dag");
            let mut planned = tasks::read(&dag_at, dag, interface, scope, faults);
            let is_loop = name.is_some_and(|name| scope.loops.contains(name));
            outputs::read(
                &dag_at,
                dag,
                interface,
                is_loop,
                &mut planned,
                scope,
                faults,
            );
            Body::Dag(planned)
        }
        Some(Implementation::ExecutorLabel(label)) => {
            match scope.executors.get(label) {
                Some(executor) => commands::check(label, executor, at, interface, faults),
                None if executors::refused(label, faults) => {}
                None => faults.add(
                    format!("{at}.executorLabel"),
                    format!("there is no executor '{label}' in deploymentSpec.executors"),
                ),
            }
            Body::Executor(label.clone())
        }
        None => {
            faults.add(at, "the component has neither a dag nor an executorLabel");
            empty()
        }
    }
}

/// A body that stands in until the real one is known.
fn empty() -> Body {
    Body::Dag(Dag {
        tasks: BTreeMap::new(),
        order: Vec::new(),
        output_parameters: BTreeMap::new(),
        output_artifacts: BTreeMap::new(),
    })
}

/// Names become parts of paths and of placeholders.
fn check_name(at: &str, name: &str, faults: &mut Faults) {
    const MAX_BYTES: usize = 255;
    let foreign = |c: char| c == '/' || c == '\\' || c == '\'' || c.is_control();
    if name.is_empty()
        || name.len() > MAX_BYTES
        || name == "."
        || name == ".."
        || name.contains(foreign)
    {
        faults.add(
            at,
            format!("{name:?} cannot be a name: it must be 1 to {MAX_BYTES} bytes without slashes, quotes and control characters"),
        );
    }
}

fn path_of(component: &str) -> String {
    format!("components.{component}")
}

fn or(text: String, other: &str) -> String {
    match text.is_empty() {
        true => other.to_owned(),
        false => text,
    }
}

/// The entries by name, so that faults come in a fixed order.
fn sorted<V>(map: &HashMap<String, V>) -> BTreeMap<&String, &V> {
    map.iter().collect()
}
