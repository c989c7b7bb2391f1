//! The tasks of a group.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Faults, Scope, check_name, inputs, or, sorted};
use crate::{
    graph,
    plan::{
        Body, Caching, Component, Dag, Executor, Items, Iterator, ParameterType, Retry, Strategy,
        Task, Trigger,
    },
    proto::ml_pipelines::{
        ComponentSpec, DagSpec, PipelineTaskSpec,
        component_spec::Implementation,
        parameter_iterator_spec::items_spec::Kind as ItemsKind,
        pipeline_task_spec::{
            Iterator as SourceIterator, RetryPolicy, trigger_policy::TriggerStrategy,
        },
    },
    values::normalise,
};

/// How many items a loop may have.
const MAX_ITEMS: usize = 100_000;
/// More attempts than this are a mistake.
const MAX_RETRIES: i32 = 10_000;
/// What the schema says about a policy that leaves them out.
const DEFAULT_BACKOFF_FACTOR: f64 = 2.0;
const DEFAULT_BACKOFF_MAX_MS: u64 = 3_600_000;

/// The components that some task runs in a loop.
pub(super) fn loop_bodies<'a>(
    root: &'a ComponentSpec,
    components: &BTreeMap<&'a str, &'a ComponentSpec>,
) -> BTreeSet<&'a str> {
    std::iter::once(root)
        .chain(components.values().copied())
        .filter_map(|component| match &component.implementation {
            Some(Implementation::Dag(dag)) => Some(dag.tasks.values()),
            _ => None,
        })
        .flatten()
        .filter(|task| task.iterator.is_some())
        .filter_map(|task| task.component_ref.as_ref())
        .map(|reference| reference.name.as_str())
        .collect()
}

/// Reads and orders the tasks of a group that is part of `enclosing`.
pub(super) fn read(
    at: &str,
    source: &DagSpec,
    enclosing: &Component,
    scope: &Scope<'_>,
    faults: &mut Faults,
) -> Dag {
    if source.tasks.is_empty() {
        faults.add(format!("{at}.tasks"), "the group has no tasks");
    }
    let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
    for (name, spec) in sorted(&source.tasks) {
        let at = format!("{at}.tasks.{name}");
        check_name(&at, name, faults);
        tasks.insert(name.clone(), shell(&at, name, spec, scope, faults));
    }
    let mut resolved = Vec::with_capacity(tasks.len());
    for (name, spec) in sorted(&source.tasks) {
        let at = format!("{at}.tasks.{name}");
        if let Some(task) = tasks.get(name) {
            let group = inputs::Group {
                tasks: &tasks,
                enclosing,
                scope,
            };
            resolved.push(inputs::read(&at, task, spec, &group, faults));
        }
    }
    for (task, inputs) in tasks.values_mut().zip(resolved) {
        task.parameters = inputs.parameters;
        task.artifacts = inputs.artifacts;
        let mut seen = BTreeSet::new();
        task.dependencies.extend(inputs.producers);
        task.dependencies.retain(|name| seen.insert(name.clone()));
    }
    let exits = |task: &Task| task.trigger.strategy == Strategy::AllCompleted;
    if !tasks.is_empty() && tasks.values().all(exits) {
        faults.add(
            format!("{at}.tasks"),
            "the group has nothing but exit tasks; at least one task must start by itself",
        );
    }
    for (name, task) in &tasks {
        check_iterator(&format!("{at}.tasks.{name}"), task, scope, faults);
    }
    let order = order(at, &tasks, faults);
    Dag {
        tasks,
        order,
        output_parameters: BTreeMap::new(),
        output_artifacts: BTreeMap::new(),
    }
}

fn order(at: &str, tasks: &BTreeMap<String, Task>, faults: &mut Faults) -> Vec<String> {
    let nodes: BTreeMap<&str, Vec<&str>> = tasks
        .iter()
        .map(|(name, task)| {
            let before = task.dependencies.iter().map(String::as_str).collect();
            (name.as_str(), before)
        })
        .collect();
    let order = graph::order(&nodes);
    for circle in &order.circles {
        faults.add(
            format!("{at}.tasks.{}", circle.first().copied().unwrap_or_default()),
            format!(
                "tasks wait for each other in a circle: {}",
                graph::show(circle)
            ),
        );
    }
    order.names.into_iter().map(str::to_owned).collect()
}

/// Everything about a task but its inputs.
fn shell(
    at: &str,
    name: &str,
    spec: &PipelineTaskSpec,
    scope: &Scope<'_>,
    faults: &mut Faults,
) -> Task {
    let component = spec
        .component_ref
        .as_ref()
        .map(|reference| reference.name.clone())
        .unwrap_or_default();
    if component.is_empty() {
        faults.add(format!("{at}.componentRef"), "the task names no component");
    } else if !scope.components.contains_key(&component) {
        faults.add(
            format!("{at}.componentRef.name"),
            format!("there is no component '{component}'"),
        );
    }
    let task_name = spec.task_info.as_ref().map(|info| info.name.clone());
    let caching = spec.caching_options.clone().unwrap_or_default();
    let iterator = iterator(at, spec, faults);
    if iterator.is_none() && spec.iterator_policy.is_some() {
        faults.add(format!("{at}.iteratorPolicy"), "the task is not a loop");
    }
    Task {
        name: name.to_owned(),
        display_name: or(task_name.unwrap_or_default(), name),
        component,
        parameters: BTreeMap::new(),
        artifacts: BTreeMap::new(),
        dependencies: spec.dependent_tasks.clone(),
        trigger: trigger(at, spec, scope, faults),
        iterator,
        retry: spec
            .retry_policy
            .as_ref()
            .map(|policy| retry(&format!("{at}.retryPolicy"), policy, faults)),
        caching: Caching {
            enabled: caching.enable_cache,
            key: caching.cache_key,
        },
    }
}

fn trigger(at: &str, spec: &PipelineTaskSpec, scope: &Scope<'_>, faults: &mut Faults) -> Trigger {
    let policy = spec.trigger_policy.clone().unwrap_or_default();
    let strategy = match TriggerStrategy::try_from(policy.strategy) {
        Ok(TriggerStrategy::Unspecified | TriggerStrategy::AllUpstreamTasksSucceeded) => {
            Strategy::AllSucceeded
        }
        Ok(TriggerStrategy::AllUpstreamTasksCompleted) => Strategy::AllCompleted,
        Err(_) => {
            faults.add(
                format!("{at}.triggerPolicy.strategy"),
                "the strategy is not known",
            );
            Strategy::AllSucceeded
        }
    };
    let label = spec
        .component_ref
        .as_ref()
        .and_then(|reference| scope.components.get(&reference.name))
        .and_then(|component| match &component.body {
            Body::Executor(label) => Some(label),
            Body::Dag(_) => None,
        });
    let imports = label
        .is_some_and(|label| matches!(scope.executors.get(label), Some(Executor::Importer(_))));
    if imports && !policy.condition.is_empty() {
        faults.add(
            format!("{at}.triggerPolicy.condition"),
            "an importer cannot have a condition; put it into a condition group",
        );
    }
    if !policy.condition.is_empty()
        && let Err(error) = crate::check_expression(&policy.condition)
    {
        faults.add(format!("{at}.triggerPolicy.condition"), error.to_string());
    }
    Trigger {
        condition: policy.condition,
        strategy,
    }
}

fn retry(at: &str, policy: &RetryPolicy, faults: &mut Faults) -> Retry {
    let retries = policy.max_retry_count;
    if !(0..=MAX_RETRIES).contains(&retries) {
        faults.add(
            format!("{at}.maxRetryCount"),
            format!("must be between 0 and {MAX_RETRIES}, not {retries}"),
        );
    }
    let factor = policy.backoff_factor;
    if !factor.is_finite() || factor < 0.0 {
        faults.add(
            format!("{at}.backoffFactor"),
            format!("must be a positive number, not {factor}"),
        );
    }
    let backoff_ms = duration_ms(
        &format!("{at}.backoffDuration"),
        policy.backoff_duration.as_ref(),
        faults,
    );
    let max_ms = duration_ms(
        &format!("{at}.backoffMaxDuration"),
        policy.backoff_max_duration.as_ref(),
        faults,
    );
    Retry {
        max_retries: u32::try_from(retries).unwrap_or(0),
        backoff_ms,
        backoff_factor: if factor == 0.0 {
            DEFAULT_BACKOFF_FACTOR
        } else {
            factor
        },
        backoff_max_ms: if max_ms == 0 {
            DEFAULT_BACKOFF_MAX_MS
        } else {
            max_ms
        },
    }
}

fn duration_ms(at: &str, duration: Option<&prost_types::Duration>, faults: &mut Faults) -> u64 {
    let Some(duration) = duration else { return 0 };
    let millis = i128::from(duration.seconds) * 1_000 + i128::from(duration.nanos) / 1_000_000;
    u64::try_from(millis).unwrap_or_else(|_| {
        faults.add(at, "the duration is negative");
        0
    })
}

fn iterator(at: &str, spec: &PipelineTaskSpec, faults: &mut Faults) -> Option<Iterator> {
    let limit = spec
        .iterator_policy
        .as_ref()
        .map_or(0, |policy| policy.parallelism_limit);
    let parallelism = u32::try_from(limit).unwrap_or_else(|_| {
        faults.add(
            format!("{at}.iteratorPolicy.parallelismLimit"),
            format!("must not be negative, is {limit}"),
        );
        0
    });
    let (items, item_input) = match spec.iterator.as_ref()? {
        SourceIterator::ParameterIterator(spec) => {
            let at = format!("{at}.parameterIterator.items");
            let items = match spec.items.as_ref().and_then(|items| items.kind.as_ref()) {
                Some(ItemsKind::Raw(text)) => Items::Raw(raw_items(&at, text, faults)),
                Some(ItemsKind::InputParameter(name)) => Items::Parameter(name.clone()),
                None => {
                    faults.add(at, "the loop has no items");
                    Items::Raw(Vec::new())
                }
            };
            (items, spec.item_input.clone())
        }
        SourceIterator::ArtifactIterator(spec) => {
            let items = spec.items.clone().unwrap_or_default();
            if items.input_artifact.is_empty() {
                faults.add(
                    format!("{at}.artifactIterator.items"),
                    "the loop has no items",
                );
            }
            (
                Items::Artifact(items.input_artifact),
                spec.item_input.clone(),
            )
        }
    };
    Some(Iterator {
        items,
        item_input,
        parallelism,
    })
}

fn raw_items(at: &str, text: &str, faults: &mut Faults) -> Vec<Value> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => {
            if items.len() > MAX_ITEMS {
                let count = items.len();
                let message = format!("the loop has {count} items; {MAX_ITEMS} are allowed");
                faults.add(format!("{at}.raw"), message);
            }
            items.into_iter().map(normalise).collect()
        }
        Ok(_) => {
            faults.add(format!("{at}.raw"), "the items are not a JSON list");
            Vec::new()
        }
        Err(error) => {
            faults.add(
                format!("{at}.raw"),
                format!("the items are not JSON: {error}"),
            );
            Vec::new()
        }
    }
}

/// The items come from an input of the task, and the component takes the item.
fn check_iterator(at: &str, task: &Task, scope: &Scope<'_>, faults: &mut Faults) {
    let Some(iterator) = &task.iterator else {
        return;
    };
    let Some(component) = scope.components.get(&task.component) else {
        return;
    };
    let over_artifacts = matches!(iterator.items, Items::Artifact(_));
    let (kind, taken) = match over_artifacts {
        true => (
            "artifactIterator",
            component.input_artifacts.contains_key(&iterator.item_input),
        ),
        false => (
            "parameterIterator",
            component
                .input_parameters
                .contains_key(&iterator.item_input),
        ),
    };
    let at = format!("{at}.{kind}");
    if !taken {
        faults.add(
            format!("{at}.itemInput"),
            format!(
                "component '{}' has no input '{}'",
                task.component, iterator.item_input
            ),
        );
    }
    match &iterator.items {
        Items::Raw(_) => {}
        Items::Parameter(name) => {
            let declared = component
                .input_parameters
                .get(name)
                .map(|input| input.parameter_type);
            if !task.parameters.contains_key(name) {
                faults.add(
                    format!("{at}.items.inputParameter"),
                    format!("the task has no input parameter '{name}'"),
                );
            } else if declared.is_some_and(|declared| {
                !matches!(declared, ParameterType::List | ParameterType::String)
            }) {
                faults.add(
                    format!("{at}.items.inputParameter"),
                    format!("'{name}' is not a list"),
                );
            }
        }
        Items::Artifact(name) => {
            let list = component.input_artifacts.get(name).map(|input| input.list);
            if !name.is_empty() && !task.artifacts.contains_key(name) {
                faults.add(
                    format!("{at}.items.inputArtifact"),
                    format!("the task has no input artifact '{name}'"),
                );
            } else if list == Some(false) {
                faults.add(
                    format!("{at}.items.inputArtifact"),
                    format!("'{name}' is not a list of artifacts"),
                );
            }
        }
    }
}
