//! Where the inputs of a task come from.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Faults, Scope, interface,
    producers::{artifact_of, compatible, no_task, parameter_of},
    sorted,
};
use crate::{
    placeholder::{self, Name},
    plan::{
        ArtifactSource, Component, Items, ParameterSource, ParameterType, ParameterValue, Task,
    },
    proto::ml_pipelines::{
        PipelineTaskSpec, TaskInputsSpec, ValueOrRuntimeParameter,
        task_inputs_spec::{
            InputArtifactSpec, InputParameterSpec, input_artifact_spec, input_parameter_spec,
        },
        value_or_runtime_parameter,
    },
    values::{coerce, fit},
};

/// What the compiler puts before the names of values that pass through a component.
const CHANNEL: &str = "pipelinechannel--";
/// Settings of a task that the compiler adds to its inputs when they come from other tasks or the pipeline.
const SETTINGS: [&str; 7] = [
    "accelerator_count",
    "accelerator_type",
    "base_image",
    "cpu_limit",
    "cpu_request",
    "memory_limit",
    "memory_request",
];

/// The group that a task is part of.
pub(super) struct Group<'a> {
    /// The group's tasks; their inputs may still be missing.
    pub(super) tasks: &'a BTreeMap<String, Task>,
    pub(super) enclosing: &'a Component,
    pub(super) scope: &'a Scope<'a>,
}

/// A task's resolved inputs.
#[derive(Default)]
pub(super) struct Inputs {
    pub(super) parameters: BTreeMap<String, ParameterSource>,
    pub(super) artifacts: BTreeMap<String, ArtifactSource>,
    /// The tasks that they come from.
    pub(super) producers: BTreeSet<String>,
}

/// Resolves the inputs of `task` and checks them against its component.
pub(super) fn read(
    at: &str,
    task: &Task,
    spec: &PipelineTaskSpec,
    group: &Group<'_>,
    faults: &mut Faults,
) -> Inputs {
    for (index, name) in spec.dependent_tasks.iter().enumerate() {
        if !group.tasks.contains_key(name) {
            faults.add(format!("{at}.dependentTasks[{index}]"), no_task(name));
        }
    }
    let empty = TaskInputsSpec::default();
    let source = spec.inputs.as_ref().unwrap_or(&empty);
    let mut inputs = Inputs::default();
    for (name, spec) in sorted(&source.parameters) {
        let at = format!("{at}.inputs.parameters.{name}");
        let reader = Reader {
            at: &at,
            name,
            task,
            source,
            group,
        };
        if let Some(found) = reader.parameter(spec, &mut inputs.producers, faults) {
            inputs.parameters.insert(name.clone(), found);
        }
    }
    for (name, spec) in sorted(&source.artifacts) {
        let at = format!("{at}.inputs.artifacts.{name}");
        let reader = Reader {
            at: &at,
            name,
            task,
            source,
            group,
        };
        if let Some(found) = reader.artifact(spec, &mut inputs.producers, faults) {
            inputs.artifacts.insert(name.clone(), found);
        }
    }
    if let Some(component) = group.scope.components.get(&task.component) {
        check_required(at, task, source, component, faults);
    }
    inputs
}

fn check_required(
    at: &str,
    task: &Task,
    source: &TaskInputsSpec,
    component: &Component,
    faults: &mut Faults,
) {
    let (item_parameter, item_artifact) = match &task.iterator {
        Some(iterator) if matches!(iterator.items, Items::Artifact(_)) => {
            ("", iterator.item_input.as_str())
        }
        Some(iterator) => (iterator.item_input.as_str(), ""),
        None => ("", ""),
    };
    let message = || {
        format!(
            "is required by component '{}' and has no value",
            task.component
        )
    };
    for (name, input) in &component.input_parameters {
        let filled = input.optional
            || input.default.is_some()
            || input.parameter_type == ParameterType::TaskConfig
            || name == item_parameter
            || source.parameters.contains_key(name);
        if !filled {
            faults.add(format!("{at}.inputs.parameters.{name}"), message());
        }
    }
    for (name, input) in &component.input_artifacts {
        let filled = input.optional || name == item_artifact || source.artifacts.contains_key(name);
        if !filled {
            faults.add(format!("{at}.inputs.artifacts.{name}"), message());
        }
    }
}

/// Reads one input.
struct Reader<'a> {
    at: &'a str,
    name: &'a str,
    task: &'a Task,
    source: &'a TaskInputsSpec,
    group: &'a Group<'a>,
}

impl Reader<'_> {
    fn component(&self) -> Option<&Component> {
        self.group.scope.components.get(&self.task.component)
    }

    fn parameter(
        &self,
        spec: &InputParameterSpec,
        producers: &mut BTreeSet<String>,
        faults: &mut Faults,
    ) -> Option<ParameterSource> {
        use input_parameter_spec::Kind;

        if let Some(component) = self.component()
            && !component.input_parameters.contains_key(self.name)
            && !self.name.starts_with(CHANNEL)
            && !SETTINGS.contains(&self.name)
        {
            faults.add(
                self.at,
                format!(
                    "component '{}' has no input parameter '{}'",
                    self.task.component, self.name
                ),
            );
        }
        let selector = spec.parameter_expression_selector.clone();
        let (value, given) = match &spec.kind {
            Some(Kind::TaskOutputParameter(from)) => {
                let (task, output) = (&from.producer_task, &from.output_parameter_key);
                let given = parameter_of(self.group.tasks, task, output, self.group.scope);
                let given = given.map_err(|message| faults.add(self.at, message)).ok()?;
                producers.insert(task.clone());
                let value = ParameterValue::TaskOutput {
                    task: task.clone(),
                    output: output.clone(),
                };
                (value, given)
            }
            Some(Kind::ComponentInputParameter(from)) => self.component_input(from, faults)?,
            Some(Kind::TaskFinalStatus(from)) => {
                let task = from.producer_task.clone();
                if !self.group.tasks.contains_key(&task) {
                    faults.add(self.at, no_task(&task));
                    return None;
                }
                producers.insert(task.clone());
                (
                    ParameterValue::FinalStatus { task },
                    Some(ParameterType::TaskFinalStatus),
                )
            }
            Some(Kind::RuntimeValue(value)) => match self.constant(value, &selector, faults)? {
                Constant::Literal(value) => (ParameterValue::Constant(value), None),
                Constant::Input(name) => self.component_input(&name, faults)?,
            },
            None => {
                faults.add(self.at, "the input has no value");
                return None;
            }
        };
        if !selector.is_empty()
            && let Err(error) = crate::check_expression(&selector)
        {
            let at = format!("{}.parameterExpressionSelector", self.at);
            faults.add(at, error.to_string());
        }
        // What a selector picks has a type of its own, known only when it is there.
        if selector.is_empty() {
            self.check_type(&value, given, faults);
        }
        Some(ParameterSource { value, selector })
    }

    fn component_input(
        &self,
        name: &str,
        faults: &mut Faults,
    ) -> Option<(ParameterValue, Option<ParameterType>)> {
        match self.group.enclosing.input_parameters.get(name) {
            Some(input) => Some((
                ParameterValue::ComponentInput(name.to_owned()),
                Some(input.parameter_type).filter(|_| !carries_item(name)),
            )),
            None if self.is_left_over() => None,
            None => {
                let mut message =
                    format!("the enclosing component has no input parameter '{name}'");
                if carries_item(name) {
                    message.push_str(
                        ": the compiler of the SDK lost an item of a loop, as it does with fields of items inside exit \
                         handlers and conditions and with items in texts; put the loop into a pipeline of its own, or \
                         give the whole item to a component",
                    );
                }
                faults.add(self.at, message);
                None
            }
        }
    }

    /// Whether the compiler left the input behind: it cannot have a value, and nobody reads it.
    fn is_left_over(&self) -> bool {
        let key = (self.task.component.clone(), self.name.to_owned());
        self.group.scope.leftovers.contains(&key)
    }

    fn check_type(
        &self,
        value: &ParameterValue,
        given: Option<ParameterType>,
        faults: &mut Faults,
    ) {
        let wanted = self
            .component()
            .and_then(|component| component.input_parameters.get(self.name))
            .map(|input| input.parameter_type);
        let (Some(given), Some(wanted)) = (given, wanted) else {
            return;
        };
        if compatible(given, wanted) {
            return;
        }
        let from = match value {
            ParameterValue::TaskOutput { task, output } => format!("'{output}' of task '{task}'"),
            ParameterValue::ComponentInput(name) => format!("the input '{name}'"),
            ParameterValue::FinalStatus { task } => format!("the final status of '{task}'"),
            ParameterValue::Constant(_) => "the constant".to_owned(),
        };
        faults.add(
            self.at,
            format!("expected {}, {from} is {}", wanted.name(), given.name()),
        );
    }

    /// A literal fitted to the input, or the input that an old document names.
    fn constant(
        &self,
        source: &ValueOrRuntimeParameter,
        selector: &str,
        faults: &mut Faults,
    ) -> Option<Constant> {
        use value_or_runtime_parameter::Value as Kind;

        if let Some(Kind::RuntimeParameter(name)) = &source.value {
            return Some(Constant::Input(name.clone()));
        }
        let Some(value) = interface::literal(source) else {
            faults.add(self.at, "the input has no value");
            return None;
        };
        self.check_names(&value, faults);
        let input = self
            .component()
            .and_then(|component| component.input_parameters.get(self.name));
        let Some(input) = input.filter(|_| selector.is_empty()) else {
            return Some(Constant::Literal(value));
        };
        // Null means that nothing is given.
        if value.is_null() && input.optional {
            return None;
        }
        let fitted = match (&value, substituted(&value)) {
            (_, Substituted::Never) => fit(value.clone(), input),
            (_, Substituted::Whole) => Ok(value.clone()),
            (Value::String(_), Substituted::Inside) => coerce(value.clone(), input.parameter_type),
            (_, Substituted::Inside) if input.parameter_type == ParameterType::String => {
                Ok(value.clone())
            }
            (_, Substituted::Inside) => coerce(value.clone(), input.parameter_type),
        };
        match fitted {
            Ok(value) => Some(Constant::Literal(value)),
            Err(message) => {
                faults.add(self.at, message);
                None
            }
        }
    }

    /// Placeholders in constants name inputs of the same task.
    fn check_names(&self, value: &Value, faults: &mut Faults) {
        let component = self.component();
        let known = |name: &str| {
            self.source.parameters.contains_key(name)
                || component.is_none_or(|component| component.input_parameters.contains_key(name))
        };
        let mut unknown = BTreeSet::new();
        placeholder::visit_strings(value, &mut |text| {
            for name in placeholder::names(text) {
                if let Name::InputParameter(name) = name
                    && !known(name)
                {
                    unknown.insert(name);
                }
            }
        });
        for name in unknown {
            faults.add(
                self.at,
                format!(
                    "the constant names the input parameter '{name}', which the task does not have"
                ),
            );
        }
    }

    fn artifact(
        &self,
        spec: &InputArtifactSpec,
        producers: &mut BTreeSet<String>,
        faults: &mut Faults,
    ) -> Option<ArtifactSource> {
        use input_artifact_spec::Kind;

        let wanted = self
            .component()
            .map(|component| component.input_artifacts.get(self.name));
        if wanted == Some(None) && !self.name.starts_with(CHANNEL) {
            faults.add(
                self.at,
                format!(
                    "component '{}' has no input artifact '{}'",
                    self.task.component, self.name
                ),
            );
        }
        let (source, list) = match &spec.kind {
            Some(Kind::TaskOutputArtifact(from)) => {
                let (task, output) = (&from.producer_task, &from.output_artifact_key);
                let list = artifact_of(self.group.tasks, task, output, self.group.scope)
                    .map_err(|message| faults.add(self.at, message))
                    .ok()?;
                producers.insert(task.clone());
                let source = ArtifactSource::TaskOutput {
                    task: task.clone(),
                    output: output.clone(),
                };
                (source, list)
            }
            Some(Kind::ComponentInputArtifact(from)) => {
                let Some(input) = self.group.enclosing.input_artifacts.get(from) else {
                    faults.add(
                        self.at,
                        format!("the enclosing component has no input artifact '{from}'"),
                    );
                    return None;
                };
                (
                    ArtifactSource::ComponentInput(from.clone()),
                    Some(input.list),
                )
            }
            None => {
                faults.add(self.at, "the input has no value");
                return None;
            }
        };
        match (list, wanted.flatten().map(|input| input.list)) {
            (Some(true), Some(false)) => {
                faults.add(self.at, "expected one artifact, got a list of artifacts");
            }
            (Some(false), Some(true)) => {
                faults.add(self.at, "expected a list of artifacts, got one artifact");
            }
            _ => {}
        }
        Some(source)
    }
}

enum Constant {
    Literal(Value),
    Input(String),
}

/// How much of a constant is replaced when it is resolved.
enum Substituted {
    Never,
    /// It is one placeholder of an input, so that its type is the input's.
    Whole,
    Inside,
}

fn substituted(value: &Value) -> Substituted {
    if let Value::String(text) = value
        && let Some(Name::InputParameter(name)) = placeholder::names(text).next()
        && text.len() == "{{$.inputs.parameters['']}}".len() + name.len()
    {
        return Substituted::Whole;
    }
    let mut found = false;
    placeholder::visit_strings(value, &mut |text| found |= placeholder::any(text));
    match found {
        true => Substituted::Inside,
        false => Substituted::Never,
    }
}

/// Whether a name is the compiler's for an item of a loop; no user's name has these hyphens. The compiler declares STRING
/// where it does not know the type of the items.
pub(super) fn carries_item(name: &str) -> bool {
    name.contains("loop-item")
}

/// Whether an input of a group has an item of a loop that keeps its own type, whatever is declared. The SDK 1.8, for which
/// all values are text, has the same names without the prefix.
pub fn keeps_item(name: &str) -> bool {
    name.starts_with(CHANNEL) && carries_item(name)
}
