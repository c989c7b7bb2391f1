//! References to items of loops that the compiler leaves behind.
//!
//! For a loop inside another one over a value from outside, the SDK's compiler gives the outer loop an input for the item
//! of the inner one, taken from an input of the enclosing component that does not exist. The inner loop makes that value
//! itself, so nobody ever reads the input: then it is dropped. Where somebody reads it, or a part is selected from it, the
//! reference stays and is a fault.

use std::collections::{BTreeMap, BTreeSet};

use super::inputs::carries_item;
use crate::{
    plan::Component,
    proto::ml_pipelines::{
        ComponentSpec, DagSpec,
        component_spec::Implementation,
        task_inputs_spec::{InputParameterSpec, input_parameter_spec::Kind},
    },
};

/// The inputs, by component and name, that nobody reads and that no value can be given.
pub(super) fn find(
    root: &ComponentSpec,
    sources: &BTreeMap<&str, &ComponentSpec>,
) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for enclosing in std::iter::once(root).chain(sources.values().copied()) {
        let declared = enclosing.input_definitions.as_ref();
        for (component, input, spec) in dag(enclosing).into_iter().flat_map(references) {
            let missing = |name: &String| {
                !declared.is_some_and(|declared| declared.parameters.contains_key(name))
            };
            let dangling = source(spec).is_some_and(|name| missing(name) && carries_item(name));
            if dangling && spec.parameter_expression_selector.is_empty() {
                let mut unread = BTreeSet::new();
                if is_unread(component, input, sources, &mut unread) {
                    found.extend(unread);
                }
            }
        }
    }
    found
}

/// Lets the inputs stay empty.
pub(super) fn allow(
    leftovers: &BTreeSet<(String, String)>,
    components: &mut BTreeMap<String, Component>,
) {
    for (component, input) in leftovers {
        let declared = components
            .get_mut(component)
            .and_then(|component| component.input_parameters.get_mut(input));
        if let Some(declared) = declared {
            declared.optional = true;
        }
    }
}

fn dag(component: &ComponentSpec) -> Option<&DagSpec> {
    match &component.implementation {
        Some(Implementation::Dag(dag)) => Some(dag),
        Some(Implementation::ExecutorLabel(_)) | None => None,
    }
}

/// The component, the name and the source of every parameter of every task of a group.
fn references(dag: &DagSpec) -> impl Iterator<Item = (&str, &str, &InputParameterSpec)> {
    dag.tasks.values().flat_map(|task| {
        let component = task.component_ref.as_ref();
        let component = component.map_or("", |reference| reference.name.as_str());
        let inputs = task.inputs.iter().flat_map(|inputs| &inputs.parameters);
        inputs.map(move |(name, spec)| (component, name.as_str(), spec))
    })
}

fn source(spec: &InputParameterSpec) -> Option<&String> {
    match &spec.kind {
        Some(Kind::ComponentInputParameter(name)) => Some(name),
        Some(_) | None => None,
    }
}

/// Whether no task in a component reads an input but to hand it to a component where nobody does. Those that are
/// handed on are noted too.
fn is_unread(
    component: &str,
    input: &str,
    sources: &BTreeMap<&str, &ComponentSpec>,
    noted: &mut BTreeSet<(String, String)>,
) -> bool {
    if !noted.insert((component.to_owned(), input.to_owned())) {
        return true;
    }
    // A program may look at anything that it is given.
    let Some(dag) = sources.get(component).and_then(|source| dag(source)) else {
        return false;
    };
    let mut readers =
        references(dag).filter(|(_, _, spec)| source(spec).is_some_and(|from| from == input));
    readers.all(|(inner, name, spec)| {
        spec.parameter_expression_selector.is_empty() && is_unread(inner, name, sources, noted)
    })
}
