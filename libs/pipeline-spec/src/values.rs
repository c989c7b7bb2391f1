//! Values and the types that pipelines declare for them.

use serde_json::{Map, Number, Value};

use crate::{
    plan::{Component, InputParameter, ParameterType, Plan},
    validate::Fault,
};

/// Whole numbers up to this are exact in a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

impl ParameterType {
    /// The name that the schema gives it.
    pub fn name(self) -> &'static str {
        match self {
            ParameterType::NumberDouble => "NUMBER_DOUBLE",
            ParameterType::NumberInteger => "NUMBER_INTEGER",
            ParameterType::String => "STRING",
            ParameterType::Boolean => "BOOLEAN",
            ParameterType::List => "LIST",
            ParameterType::Struct => "STRUCT",
            ParameterType::TaskFinalStatus => "TASK_FINAL_STATUS",
            ParameterType::TaskConfig => "TASK_CONFIG",
        }
    }
}

/// Fits a value to a declared type.
///
/// A STRING takes anything in its [`text_form`]; a NUMBER_INTEGER takes `2.0` as `2`; a NUMBER_DOUBLE keeps a float.
/// Anything else of another kind is an error such as `expected NUMBER_INTEGER, got string`.
pub fn coerce(value: Value, parameter_type: ParameterType) -> Result<Value, String> {
    let fits = match (parameter_type, &value) {
        (_, Value::Null) => false,
        (ParameterType::String, _) => {
            return Ok(match value {
                Value::String(text) => Value::String(text),
                other => Value::String(text_form(&other)),
            });
        }
        (ParameterType::NumberInteger, Value::Number(number)) => {
            return whole(number)
                .map(Value::Number)
                .ok_or_else(|| format!("expected NUMBER_INTEGER, got {number}"));
        }
        (ParameterType::NumberDouble, Value::Number(number)) => {
            let float = number.as_f64().and_then(Number::from_f64);
            return Ok(float.map_or(value, Value::Number));
        }
        (ParameterType::Boolean, Value::Bool(_)) => true,
        (ParameterType::List, Value::Array(_)) => true,
        (ParameterType::Struct, Value::Object(_)) => true,
        (ParameterType::TaskFinalStatus | ParameterType::TaskConfig, Value::Object(_)) => true,
        _ => false,
    };
    match fits {
        true => Ok(normalise(value)),
        false => Err(format!(
            "expected {}, got {}",
            parameter_type.name(),
            kind(&value)
        )),
    }
}

/// Writes whole numbers as integers, at any depth: the document cannot tell `2` from `2.0`.
pub fn normalise(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(&number).unwrap_or(number)),
        Value::Array(items) => Value::Array(items.into_iter().map(normalise).collect()),
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, item)| (key, normalise(item)))
                .collect(),
        ),
        other => other,
    }
}

/// The number as an integer, when it is one.
#[expect(
    clippy::cast_possible_truncation,
    reason = "whole and within the range that a double holds exactly"
)]
fn whole(number: &Number) -> Option<Number> {
    if number.is_i64() || number.is_u64() {
        return Some(number.clone());
    }
    let float = number.as_f64()?;
    (float.fract() == 0.0 && float.abs() <= MAX_EXACT).then(|| Number::from(float as i64))
}

/// A value as text: strings as they are, numbers in the shortest form without an exponent, `true` and `false`, JSON
/// for lists and objects, nothing for null.
pub fn text_form(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number_form(number),
        Value::Array(_) | Value::Object(_) => normalise(value.clone()).to_string(),
    }
}

fn number_form(number: &Number) -> String {
    match (whole(number), number.as_f64()) {
        (Some(whole), _) => whole.to_string(),
        // Rust writes floats in the shortest form that reads back, never with an exponent.
        (None, Some(float)) => format!("{float}"),
        (None, None) => number.to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "struct",
    }
}

/// Fits a value to a declared input: its type, and its literals if it has any.
pub(crate) fn fit(value: Value, input: &InputParameter) -> Result<Value, String> {
    let value = coerce(value, input.parameter_type)?;
    let allowed = input.literals.is_empty() || input.literals.contains(&value);
    match allowed {
        true => Ok(value),
        false => {
            let literals: Vec<String> = input.literals.iter().map(text_form).collect();
            Err(format!(
                "{} is not one of: {}",
                text_form(&value),
                literals.join(", ")
            ))
        }
    }
}

/// Checks the parameters of a run against the pipeline's inputs and fills in defaults.
///
/// A null counts as not given. Optional inputs without a default are absent from the answer. Faults name the
/// parameter: `parameters.rows`.
pub fn check_parameters(
    plan: &Plan,
    given: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<Fault>> {
    let Component {
        input_parameters,
        input_artifacts,
        ..
    } = &plan.root;
    let mut faults = Vec::new();
    let mut out = Map::new();
    for name in given.keys() {
        if !input_parameters.contains_key(name) {
            let known: Vec<&str> = input_parameters.keys().map(String::as_str).collect();
            let known = match known.is_empty() {
                true => "the pipeline has none".to_owned(),
                false => format!("the pipeline has {}", known.join(", ")),
            };
            faults.push(Fault::new(
                format!("parameters.{name}"),
                format!("there is no such parameter; {known}"),
            ));
        }
    }
    for (name, input) in input_parameters {
        let field = || format!("parameters.{name}");
        match given.get(name).filter(|value| !value.is_null()) {
            Some(value) => match fit(value.clone(), input) {
                Ok(value) => {
                    out.insert(name.clone(), value);
                }
                Err(message) => faults.push(Fault::new(field(), message)),
            },
            None => match &input.default {
                Some(default) => {
                    out.insert(name.clone(), default.clone());
                }
                None if input.optional => {}
                None => faults.push(Fault::new(
                    field(),
                    format!("is required ({})", input.parameter_type.name()),
                )),
            },
        }
    }
    for (name, _) in input_artifacts.iter().filter(|(_, input)| !input.optional) {
        faults.push(Fault::new(
            format!("root.inputDefinitions.artifacts.{name}"),
            "a run cannot be given an artifact; import it in the pipeline",
        ));
    }
    match faults.is_empty() {
        true => Ok(out),
        false => Err(faults),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ParameterType::*, *};

    #[test]
    fn values_are_fitted_to_types() {
        let big = json!(9_223_372_036_854_775_807_i64);
        let cases = [
            (json!(2.0), NumberInteger, Ok(json!(2))),
            (json!(-3), NumberInteger, Ok(json!(-3))),
            (big.clone(), NumberInteger, Ok(big)),
            (
                json!(2.5),
                NumberInteger,
                Err("expected NUMBER_INTEGER, got 2.5"),
            ),
            (
                json!("2"),
                NumberInteger,
                Err("expected NUMBER_INTEGER, got string"),
            ),
            (
                json!(true),
                NumberInteger,
                Err("expected NUMBER_INTEGER, got bool"),
            ),
            (json!(2), NumberDouble, Ok(json!(2.0))),
            (
                json!("2"),
                NumberDouble,
                Err("expected NUMBER_DOUBLE, got string"),
            ),
            (json!(2.0), String, Ok(json!("2"))),
            (json!(0.1), String, Ok(json!("0.1"))),
            (json!(1e21), String, Ok(json!("1000000000000000000000"))),
            (json!(false), String, Ok(json!("false"))),
            (json!([1.0, "a"]), String, Ok(json!("[1,\"a\"]"))),
            (json!({"a": 2.5}), String, Ok(json!("{\"a\":2.5}"))),
            (json!(null), String, Err("expected STRING, got null")),
            (json!(1), Boolean, Err("expected BOOLEAN, got number")),
            (json!([1.0, [2.0]]), List, Ok(json!([1, [2]]))),
            (json!("[1]"), List, Err("expected LIST, got string")),
            (json!({"a": 1.0}), Struct, Ok(json!({"a": 1}))),
            (json!([]), Struct, Err("expected STRUCT, got list")),
            (
                json!({"state": "FAILED"}),
                TaskFinalStatus,
                Ok(json!({"state": "FAILED"})),
            ),
            (
                json!("x"),
                TaskConfig,
                Err("expected TASK_CONFIG, got string"),
            ),
        ];
        for (value, parameter_type, expected) in cases {
            let got = coerce(value.clone(), parameter_type);
            assert_eq!(
                got,
                expected.map_err(str::to_owned),
                "{value} {parameter_type:?}"
            );
        }
    }

    #[test]
    fn text_is_short_and_without_exponents() {
        let cases = [
            (json!(2.0), "2"),
            (json!(1e-7), "0.0000001"),
            (json!(-0.5), "-0.5"),
            (json!("a b"), "a b"),
            (json!(true), "true"),
            (json!(null), ""),
            (json!({"b": [1.0, null]}), "{\"b\":[1,null]}"),
        ];
        for (value, expected) in cases {
            assert_eq!(text_form(&value), expected);
        }
    }
}
