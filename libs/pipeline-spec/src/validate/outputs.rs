//! What a group gives on from its tasks.

use super::{Faults, Scope, producers, sorted};
use crate::{
    plan::{Component, Dag, OutputSelector, ParameterType},
    proto::ml_pipelines::{DagSpec, dag_outputs_spec::dag_output_parameter_spec::Kind},
};

/// Resolves the selectors of a group. With `is_loop`, an output is the list of what the iterations give.
pub(super) fn read(
    at: &str,
    source: &DagSpec,
    interface: &Component,
    is_loop: bool,
    dag: &mut Dag,
    scope: &Scope<'_>,
    faults: &mut Faults,
) {
    let outputs = source.outputs.clone().unwrap_or_default();
    for (name, spec) in sorted(&outputs.parameters) {
        let at = format!("{at}.outputs.parameters.{name}");
        let selectors: Vec<OutputSelector> = match &spec.kind {
            Some(Kind::ValueFromParameter(one)) => std::slice::from_ref(one),
            Some(Kind::ValueFromOneof(many)) => many.parameter_selectors.as_slice(),
            None => &[],
        }
        .iter()
        .map(|selector| OutputSelector {
            task: selector.producer_subtask.clone(),
            output: selector.output_parameter_key.clone(),
        })
        .collect();
        let declared = interface.output_parameters.get(name).copied();
        check_parameter(&at, declared, &selectors, dag, scope, faults);
        dag.output_parameters.insert(name.clone(), selectors);
    }
    for (name, spec) in sorted(&outputs.artifacts) {
        let at = format!("{at}.outputs.artifacts.{name}");
        let selectors: Vec<OutputSelector> = spec
            .artifact_selectors
            .iter()
            .map(|selector| OutputSelector {
                task: selector.producer_subtask.clone(),
                output: selector.output_artifact_key.clone(),
            })
            .collect();
        let declared = interface
            .output_artifacts
            .get(name)
            .map(|output| output.list);
        check_artifact(&at, declared, is_loop, &selectors, dag, scope, faults);
        dag.output_artifacts.insert(name.clone(), selectors);
    }
    for name in interface.output_parameters.keys() {
        if !dag.output_parameters.contains_key(name) {
            faults.add(
                format!("{at}.outputs.parameters.{name}"),
                "the output is declared, but no task gives it",
            );
        }
    }
    for name in interface.output_artifacts.keys() {
        if !dag.output_artifacts.contains_key(name) {
            faults.add(
                format!("{at}.outputs.artifacts.{name}"),
                "the output is declared, but no task gives it",
            );
        }
    }
}

fn check_parameter(
    at: &str,
    declared: Option<ParameterType>,
    selectors: &[OutputSelector],
    dag: &Dag,
    scope: &Scope<'_>,
    faults: &mut Faults,
) {
    if declared.is_none() {
        faults.add(at, "the output is not declared in outputDefinitions");
    }
    if selectors.is_empty() {
        faults.add(at, "no task gives the output");
    }
    for selector in selectors {
        let given = producers::output_parameter(dag, selector, scope);
        match (given, declared) {
            (Err(message), _) => faults.add(at, message),
            // What a loop further out gathers is declared as the list, here and in the loop; the task gives an element.
            (Ok(_), Some(ParameterType::List)) => {}
            (Ok(Some(given)), Some(declared)) if !producers::compatible(given, declared) => {
                faults.add(
                    at,
                    format!(
                        "expected {}, '{}' of task '{}' is {}",
                        declared.name(),
                        selector.output,
                        selector.task,
                        given.name()
                    ),
                );
            }
            (Ok(_), _) => {}
        }
    }
}

fn check_artifact(
    at: &str,
    declared: Option<bool>,
    is_loop: bool,
    selectors: &[OutputSelector],
    dag: &Dag,
    scope: &Scope<'_>,
    faults: &mut Faults,
) {
    if declared.is_none() {
        faults.add(at, "the output is not declared in outputDefinitions");
    }
    if selectors.is_empty() {
        faults.add(at, "no task gives the output");
    }
    for selector in selectors {
        match producers::output_artifact(dag, selector, scope) {
            Err(message) => faults.add(at, message),
            Ok(Some(true)) if declared == Some(false) && !is_loop => faults.add(
                at,
                format!(
                    "'{}' of task '{}' is a list of artifacts, the declared output is one artifact",
                    selector.output, selector.task
                ),
            ),
            Ok(_) => {}
        }
    }
}
