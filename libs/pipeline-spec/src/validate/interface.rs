//! What components take and give.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{Faults, check_name, empty, sorted};
use crate::{
    plan::{
        ArtifactType, Body, Component, InputArtifact, InputParameter, OutputArtifact, ParameterType,
    },
    proto::ml_pipelines::{
        self as proto, ArtifactTypeSchema, ComponentInputsSpec, ComponentOutputsSpec,
        ComponentSpec, ValueOrRuntimeParameter, artifact_type_schema,
        component_spec::Implementation, parameter_type::ParameterTypeEnum,
        primitive_type::PrimitiveTypeEnum, value_or_runtime_parameter,
    },
    values::{coerce, fit, normalise},
};

/// The component; a group's tasks are read when all components are known.
pub(super) fn read(at: &str, source: &ComponentSpec, faults: &mut Faults) -> Component {
    let mut component = Component {
        input_parameters: Default::default(),
        input_artifacts: Default::default(),
        output_parameters: Default::default(),
        output_artifacts: Default::default(),
        body: match &source.implementation {
            Some(Implementation::ExecutorLabel(label)) => Body::Executor(label.clone()),
            Some(Implementation::Dag(_)) | None => empty(),
        },
    };
    if let Some(inputs) = &source.input_definitions {
        read_inputs(
            &format!("{at}.inputDefinitions"),
            inputs,
            &mut component,
            faults,
        );
    }
    if let Some(outputs) = &source.output_definitions {
        read_outputs(
            &format!("{at}.outputDefinitions"),
            outputs,
            &mut component,
            faults,
        );
    }
    check_names(at, &component, faults);
    check_extras(at, source, &component, faults);
    component
}

fn read_inputs(
    at: &str,
    inputs: &ComponentInputsSpec,
    component: &mut Component,
    faults: &mut Faults,
) {
    for (name, spec) in sorted(&inputs.parameters) {
        let at = format!("{at}.parameters.{name}");
        if let Some(input) = input_parameter(&at, spec, faults) {
            component.input_parameters.insert(name.clone(), input);
        }
    }
    for (name, spec) in sorted(&inputs.artifacts) {
        let input = InputArtifact {
            artifact_type: artifact_type(spec.artifact_type.as_ref()),
            list: spec.is_artifact_list,
            optional: spec.is_optional,
        };
        component.input_artifacts.insert(name.clone(), input);
    }
}

fn read_outputs(
    at: &str,
    outputs: &ComponentOutputsSpec,
    component: &mut Component,
    faults: &mut Faults,
) {
    for (name, spec) in sorted(&outputs.parameters) {
        #[expect(deprecated, reason = "old compilers write it")]
        let legacy = spec.r#type;
        let at = format!("{at}.parameters.{name}");
        let parameter_type = parameter_type(&at, spec.parameter_type, legacy, faults);
        if let Some(parameter_type) = parameter_type {
            component
                .output_parameters
                .insert(name.clone(), parameter_type);
        }
    }
    for (name, spec) in sorted(&outputs.artifacts) {
        let output = OutputArtifact {
            artifact_type: artifact_type(spec.artifact_type.as_ref()),
            list: spec.is_artifact_list,
            metadata: metadata(
                spec.metadata.as_ref(),
                &spec.properties,
                &spec.custom_properties,
            ),
        };
        component.output_artifacts.insert(name.clone(), output);
    }
}

fn check_names(at: &str, component: &Component, faults: &mut Faults) {
    let sides = [
        (
            "inputDefinitions.parameters",
            component.input_parameters.keys().collect::<Vec<_>>(),
        ),
        (
            "inputDefinitions.artifacts",
            component.input_artifacts.keys().collect(),
        ),
        (
            "outputDefinitions.parameters",
            component.output_parameters.keys().collect(),
        ),
        (
            "outputDefinitions.artifacts",
            component.output_artifacts.keys().collect(),
        ),
    ];
    for (side, names) in sides {
        for name in names {
            check_name(&format!("{at}.{side}.{name}"), name, faults);
        }
    }
}

fn check_extras(at: &str, source: &ComponentSpec, component: &Component, faults: &mut Faults) {
    if !source.single_platform_specs.is_empty() {
        faults.add(
            format!("{at}.singlePlatformSpecs"),
            "platform settings of a component are not read; give them in the platform specification",
        );
    }
    let takes_config = component
        .input_parameters
        .values()
        .any(|input| input.parameter_type == ParameterType::TaskConfig);
    if !source.task_config_passthroughs.is_empty() && !takes_config {
        faults.add(
            format!("{at}.taskConfigPassthroughs"),
            "no input of type TASK_CONFIG takes what is passed through",
        );
    }
}

fn input_parameter(
    at: &str,
    spec: &proto::component_inputs_spec::ParameterSpec,
    faults: &mut Faults,
) -> Option<InputParameter> {
    #[expect(deprecated, reason = "old compilers write it")]
    let legacy = spec.r#type;
    let parameter_type = parameter_type(at, spec.parameter_type, legacy, faults)?;
    let mut input = InputParameter {
        parameter_type,
        default: None,
        optional: spec.is_optional,
        description: spec.description.clone(),
        literals: Vec::new(),
    };
    for (index, literal) in spec.literals.iter().enumerate() {
        match coerce(json(literal), parameter_type) {
            Ok(value) => input.literals.push(value),
            Err(message) => faults.add(format!("{at}.literals[{index}]"), message),
        }
    }
    let default = spec.default_value.as_ref().map(json);
    if let Some(default) = default.filter(|value| !value.is_null()) {
        match fit(default, &input) {
            Ok(value) => input.default = Some(value),
            Err(message) => {
                faults.add(format!("{at}.defaultValue"), message);
                // There is a default; that tasks leave the input out is no fault of theirs.
                input.optional = true;
            }
        }
    }
    Some(input)
}

fn parameter_type(
    at: &str,
    declared: i32,
    legacy: i32,
    faults: &mut Faults,
) -> Option<ParameterType> {
    let declared = ParameterTypeEnum::try_from(declared).ok();
    let found = match declared {
        Some(ParameterTypeEnum::NumberDouble) => ParameterType::NumberDouble,
        Some(ParameterTypeEnum::NumberInteger) => ParameterType::NumberInteger,
        Some(ParameterTypeEnum::String) => ParameterType::String,
        Some(ParameterTypeEnum::Boolean) => ParameterType::Boolean,
        Some(ParameterTypeEnum::List) => ParameterType::List,
        Some(ParameterTypeEnum::Struct) => ParameterType::Struct,
        Some(ParameterTypeEnum::TaskFinalStatus) => ParameterType::TaskFinalStatus,
        Some(ParameterTypeEnum::TaskConfig) => ParameterType::TaskConfig,
        Some(ParameterTypeEnum::Unspecified) | None => {
            match PrimitiveTypeEnum::try_from(legacy).ok() {
                Some(PrimitiveTypeEnum::Int) => ParameterType::NumberInteger,
                Some(PrimitiveTypeEnum::Double) => ParameterType::NumberDouble,
                Some(PrimitiveTypeEnum::String) => ParameterType::String,
                Some(PrimitiveTypeEnum::PrimitiveTypeUnspecified) | None => {
                    faults.add(
                        format!("{at}.parameterType"),
                        "the type is missing or not known",
                    );
                    return None;
                }
            }
        }
    };
    Some(found)
}

pub(super) fn artifact_type(schema: Option<&ArtifactTypeSchema>) -> ArtifactType {
    use artifact_type_schema::Kind;

    let mut found = ArtifactType::default();
    let Some(schema) = schema else { return found };
    found.schema_version.clone_from(&schema.schema_version);
    match &schema.kind {
        #[expect(deprecated, reason = "the older way to name a schema")]
        Some(Kind::SchemaTitle(name) | Kind::SchemaUri(name)) => {
            found.schema_title.clone_from(name);
        }
        Some(Kind::InstanceSchema(text)) => found.instance_schema.clone_from(text),
        None => {}
    }
    found
}

/// The three ways to declare metadata, merged; the newest wins.
pub(super) fn metadata(
    metadata: Option<&prost_types::Struct>,
    properties: &HashMap<String, ValueOrRuntimeParameter>,
    custom: &HashMap<String, ValueOrRuntimeParameter>,
) -> Value {
    let mut merged = Map::new();
    for (name, value) in properties.iter().chain(custom) {
        if let Some(value) = literal(value) {
            merged.insert(name.clone(), value);
        }
    }
    let newest = metadata.map(object).unwrap_or_default();
    merged.extend(newest);
    normalise(Value::Object(merged))
}

/// A constant, or the placeholder of the parameter that holds the value.
pub(super) fn literal(value: &ValueOrRuntimeParameter) -> Option<Value> {
    use value_or_runtime_parameter::Value as Kind;

    match value.value.as_ref()? {
        Kind::Constant(value) => Some(json(value)),
        #[expect(deprecated, reason = "old compilers write it")]
        Kind::ConstantValue(value) => legacy(value),
        Kind::RuntimeParameter(name) => Some(Value::String(format!(
            "{{{{$.inputs.parameters['{name}']}}}}"
        ))),
    }
}

pub(super) fn legacy(value: &proto::Value) -> Option<Value> {
    use proto::value::Value as Kind;

    Some(match value.value.as_ref()? {
        Kind::IntValue(number) => Value::from(*number),
        Kind::DoubleValue(number) => Value::from(*number),
        Kind::StringValue(text) => Value::from(text.as_str()),
    })
}

/// A protobuf value as JSON, whole numbers as integers.
pub(super) fn json(value: &prost_types::Value) -> Value {
    normalise(raw(value))
}

fn raw(value: &prost_types::Value) -> Value {
    use prost_types::value::Kind;

    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::NumberValue(number)) => Value::from(*number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(raw).collect()),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields)),
    }
}

fn object(fields: &prost_types::Struct) -> Map<String, Value> {
    fields
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), raw(value)))
        .collect()
}
