//! Between JSON and the well-known types, and from `-p k=v` to parameters.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use crate::client::Unusable;

/// A JSON object.
pub(crate) type Object = serde_json::Map<String, serde_json::Value>;

/// JSON as a `google.protobuf.Value`.
pub(crate) fn to_proto(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(*flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_proto).collect(),
        }),
        serde_json::Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    Value { kind: Some(kind) }
}

pub(crate) fn to_struct(fields: &Object) -> Struct {
    Struct {
        fields: fields
            .iter()
            .map(|(name, value)| (name.clone(), to_proto(value)))
            .collect(),
    }
}

/// A `google.protobuf.Value` as JSON; whole numbers without a fraction.
pub(crate) fn to_json(value: &Value) -> serde_json::Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(flag)) => (*flag).into(),
        Some(Kind::NumberValue(number)) => number_to_json(*number),
        Some(Kind::StringValue(text)) => text.as_str().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(to_json).collect(),
        Some(Kind::StructValue(fields)) => struct_to_json(fields),
    }
}

pub(crate) fn struct_to_json(fields: &Struct) -> serde_json::Value {
    serde_json::Value::Object(fields_to_json(fields))
}

pub(crate) fn fields_to_json(fields: &Struct) -> Object {
    let fields = fields.fields.iter();
    fields
        .map(|(name, value)| (name.clone(), to_json(value)))
        .collect()
}

/// The largest number up to which every integer is a double of its own.
const EXACT: u64 = 1 << 53;

fn number_to_json(number: f64) -> serde_json::Value {
    if number.fract() == 0.0 && number.abs() <= EXACT as f64 {
        return (number as i64).into();
    }
    number.into()
}

/// The same value with whole doubles as integers, as the gateway prints them.
pub(crate) fn without_fractions(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Json::Number(number) if number.is_f64() => {
            number.as_f64().map_or(Json::Number(number), number_to_json)
        }
        Json::Array(items) => items.into_iter().map(without_fractions).collect(),
        Json::Object(fields) => Json::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, without_fractions(value)))
                .collect(),
        ),
        other => other,
    }
}

/// Parameters from `k=v`, read by the types that the pipeline declares: text stays text, the rest is JSON.
pub(crate) fn parameters(
    pairs: &[String],
    spec: Option<&Object>,
) -> Result<BTreeMap<String, Value>> {
    let mut parameters = BTreeMap::new();
    for pair in pairs {
        let (name, text) = pair
            .split_once('=')
            .ok_or_else(|| Unusable(format!("-p {pair}: expected NAME=VALUE")))?;
        let value = match declared_type(spec, name) {
            Some("STRING") => text.into(),
            Some(kind) => serde_json::from_str(text).map_err(|error| {
                Unusable(format!(
                    "-p {name}: `{text}` is not valid JSON for a parameter of type {kind}: {error}"
                ))
            })?,
            None => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        if let Some(number) = inexact(&value, text) {
            return Err(Unusable(format!(
                "-p {name}: {number} is beyond 2^53, where the API cannot carry every integer; make it text"
            ))
            .into());
        }
        if parameters
            .insert(name.to_owned(), to_proto(&value))
            .is_some()
        {
            return Err(Unusable(format!("-p {name}: given twice")).into());
        }
    }
    Ok(parameters)
}

/// An integer within the value that a double would change; `text` is how the value was written.
fn inexact(value: &serde_json::Value, text: &str) -> Option<String> {
    match value {
        serde_json::Value::Number(number) => {
            let beyond = match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => number > EXACT,
                (None, Some(number)) => number.unsigned_abs() > EXACT,
                // Larger than any integer type: the digits tell it from a double.
                (None, None) => text
                    .bytes()
                    .all(|byte| byte == b'-' || byte.is_ascii_digit()),
            };
            beyond.then(|| text.to_owned())
        }
        serde_json::Value::Array(items) => items
            .iter()
            .find_map(|item| inexact(item, &item.to_string())),
        serde_json::Value::Object(fields) => fields
            .values()
            .find_map(|item| inexact(item, &item.to_string())),
        _ => None,
    }
}

fn declared_type<'s>(spec: Option<&'s Object>, name: &str) -> Option<&'s str> {
    let spec = spec?;
    let root = match spec.get("pipeline_spec") {
        Some(spec) => spec.get("root"),
        None => spec.get("root"),
    };
    root?
        .pointer("/inputDefinitions/parameters")?
        .get(name)?
        .get("parameterType")?
        .as_str()
}

/// Reads a compiled pipeline as the server reads one, so that both take a document for the same.
pub(crate) fn read_spec(path: &Path) -> Result<Object> {
    let cannot = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    let limit = u64::try_from(pipeline_spec::MAX_BYTES)?;
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .with_context(cannot)?;
    match pipeline_spec::Source::parse(&bytes)
        .with_context(cannot)?
        .to_value()
    {
        serde_json::Value::Object(fields) => Ok(fields),
        _ => bail!("{} is not a pipeline: expected a mapping", path.display()),
    }
}

/// `pipelineInfo.name` of a document that [`read_spec`] gave.
pub(crate) fn pipeline_name(spec: &Object) -> Option<&str> {
    let spec = spec
        .get("pipeline_spec")
        .and_then(serde_json::Value::as_object)
        .unwrap_or(spec);
    ["pipelineInfo", "pipeline_info"]
        .iter()
        .find_map(|key| spec.get(*key)?.get("name")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the compiler writes for inputs with names and defaults that YAML could take for something else: it
    /// quotes what YAML 1.1 would, and only that.
    const TRICKY: &str = r#"
pipelineInfo:
  name: tricky
root:
  inputDefinitions:
    parameters:
      n: {defaultValue: y, parameterType: STRING}
      y: {defaultValue: 08, parameterType: STRING}
      octal: {defaultValue: 0o17, parameterType: STRING}
      power: {defaultValue: 1e3, parameterType: STRING}
schemaVersion: 2.1.0
---
platforms:
  kubernetes: {}
"#;

    #[test]
    fn compiled_files_are_read_as_the_server_reads_them() {
        let path = std::env::temp_dir().join(format!("spec-{}.yaml", uuid::Uuid::now_v7()));
        std::fs::write(&path, TRICKY).unwrap();
        let spec = read_spec(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(pipeline_name(&spec), Some("tricky"));
        let parameters = spec["pipeline_spec"]
            .pointer("/root/inputDefinitions/parameters")
            .unwrap();
        let defaults: BTreeMap<&str, &serde_json::Value> = parameters
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, input)| (name.as_str(), &input["defaultValue"]))
            .collect();
        let expected = serde_json::json!({"n": "y", "octal": "0o17", "power": "1e3", "y": "08"});
        assert_eq!(serde_json::json!(defaults), expected);
    }

    #[test]
    fn files_that_are_no_pipelines_say_why() {
        let path = std::env::temp_dir().join(format!("spec-{}.yaml", uuid::Uuid::now_v7()));
        std::fs::write(&path, "apiVersion: v1\n").unwrap();
        let message = format!("{:#}", read_spec(&path).unwrap_err());
        std::fs::remove_file(&path).unwrap();
        assert!(message.contains("not a compiled pipeline"), "{message}");
    }

    #[test]
    fn parameters_are_read_by_their_declared_type() {
        let spec = serde_json::json!({"root": {"inputDefinitions": {"parameters": {
            "name": {"parameterType": "STRING"}, "n": {"parameterType": "NUMBER_INTEGER"}}}}});
        let spec = spec.as_object().unwrap();
        let pairs = ["name=7", "n=7", "other=x", "list=[1]"].map(str::to_owned);
        let parameters = parameters(&pairs, Some(spec)).unwrap();
        let json: BTreeMap<&str, serde_json::Value> = parameters
            .iter()
            .map(|(name, value)| (name.as_str(), to_json(value)))
            .collect();
        assert_eq!(json["name"], "7");
        assert_eq!(json["n"], 7);
        assert_eq!(json["other"], "x");
        assert_eq!(json["list"], serde_json::json!([1]));
    }

    #[test]
    fn unusable_parameters_are_named() {
        let spec = serde_json::json!({"root": {"inputDefinitions": {"parameters": {
            "n": {"parameterType": "NUMBER_INTEGER"}}}}});
        let spec = spec.as_object().unwrap();
        let error = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
            format!("{:#}", parameters(&pairs, Some(spec)).unwrap_err())
        };
        let large = "beyond 2^53";
        for pair in [
            "n=9007199254740993",
            "n=-9007199254740993",
            "l=[1, [9007199254740993]]",
            "n=123456789012345678901234",
        ] {
            assert!(error(&[pair]).contains(large), "{pair}");
        }
        for pair in ["n=9007199254740992", "n=1e300", "n=-1.5"] {
            assert!(parameters(&[pair.to_owned()], Some(spec)).is_ok(), "{pair}");
        }
        assert!(error(&["n"]).contains("expected NAME=VALUE"));
        assert!(error(&["n=seven"]).contains("NUMBER_INTEGER"));
        assert!(error(&["a=1", "a=2"]).contains("given twice"));
    }
}
