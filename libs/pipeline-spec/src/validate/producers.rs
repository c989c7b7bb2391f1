//! What tasks give to others.

use std::collections::BTreeMap;

use super::Scope;
use crate::plan::{Dag, OutputSelector, ParameterType, Task};

/// The type of a task's output parameter; `None` when its component is not known.
pub(super) fn parameter_of(
    tasks: &BTreeMap<String, Task>,
    task: &str,
    output: &str,
    scope: &Scope<'_>,
) -> Result<Option<ParameterType>, String> {
    let task = tasks.get(task).ok_or_else(|| no_task(task))?;
    let Some(component) = scope.components.get(&task.component) else {
        return Ok(None);
    };
    match component.output_parameters.get(output) {
        Some(_) if task.iterator.is_some() => Ok(Some(ParameterType::List)),
        Some(&parameter_type) => Ok(Some(parameter_type)),
        None => Err(format!(
            "task '{}' has no output parameter '{output}'",
            task.name
        )),
    }
}

/// Whether a task's output artifact is a list; `None` when its component is not known.
pub(super) fn artifact_of(
    tasks: &BTreeMap<String, Task>,
    task: &str,
    output: &str,
    scope: &Scope<'_>,
) -> Result<Option<bool>, String> {
    let task = tasks.get(task).ok_or_else(|| no_task(task))?;
    let Some(component) = scope.components.get(&task.component) else {
        return Ok(None);
    };
    match component.output_artifacts.get(output) {
        Some(artifact) => Ok(Some(artifact.list || task.iterator.is_some())),
        None => Err(format!(
            "task '{}' has no output artifact '{output}'",
            task.name
        )),
    }
}

/// As [`parameter_of`], for the outputs of a group.
pub(super) fn output_parameter(
    dag: &Dag,
    selector: &OutputSelector,
    scope: &Scope<'_>,
) -> Result<Option<ParameterType>, String> {
    parameter_of(&dag.tasks, &selector.task, &selector.output, scope)
}

/// As [`artifact_of`], for the outputs of a group.
pub(super) fn output_artifact(
    dag: &Dag,
    selector: &OutputSelector,
    scope: &Scope<'_>,
) -> Result<Option<bool>, String> {
    artifact_of(&dag.tasks, &selector.task, &selector.output, scope)
}

/// Whether a value of type `given` can be taken as `wanted`. Numbers are told apart only by their value.
pub(super) fn compatible(given: ParameterType, wanted: ParameterType) -> bool {
    use ParameterType::{NumberDouble, NumberInteger, String, Struct, TaskConfig, TaskFinalStatus};

    given == wanted
        || matches!(
            (given, wanted),
            (_, String)
                | (NumberDouble, NumberInteger)
                | (NumberInteger, NumberDouble)
                | (Struct, TaskFinalStatus | TaskConfig)
                | (TaskFinalStatus | TaskConfig, Struct)
        )
}

pub(super) fn no_task(name: &str) -> String {
    format!("there is no task '{name}' in this group")
}
