//! Between JSON and the well-known types, and from `-p k=v` to parameters.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

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

pub(crate) fn to_struct(fields: &serde_json::Map<String, serde_json::Value>) -> Struct {
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
    let fields = fields
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), to_json(value)));
    serde_json::Value::Object(fields.collect())
}

fn number_to_json(number: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return (number as i64).into();
    }
    number.into()
}

/// Parameters from `k=v`, read by the types that the pipeline declares: text stays text, the rest is JSON.
pub(crate) fn parameters(
    pairs: &[String],
    spec: Option<&serde_json::Value>,
) -> Result<BTreeMap<String, Value>> {
    let mut parameters = BTreeMap::new();
    for pair in pairs {
        let (name, text) = pair
            .split_once('=')
            .with_context(|| format!("-p {pair}: expected NAME=VALUE"))?;
        let value = match declared_type(spec, name) {
            Some("STRING") => text.into(),
            Some(kind) => serde_json::from_str(text).with_context(|| {
                format!("-p {name}: `{text}` is not valid JSON for a parameter of type {kind}")
            })?,
            None => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        if parameters
            .insert(name.to_owned(), to_proto(&value))
            .is_some()
        {
            bail!("-p {name}: given twice");
        }
    }
    Ok(parameters)
}

fn declared_type<'s>(spec: Option<&'s serde_json::Value>, name: &str) -> Option<&'s str> {
    let spec = spec?;
    let spec = spec.get("pipeline_spec").unwrap_or(spec);
    spec.pointer("/root/inputDefinitions/parameters")?
        .get(name)?
        .get("parameterType")?
        .as_str()
}

/// Reads a compiled pipeline: YAML or JSON, one document or two.
pub(crate) fn read_spec(path: &std::path::Path) -> Result<serde_json::Value> {
    const LIMIT: u64 = 32 * 1024 * 1024;
    let size = std::fs::metadata(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    if size > LIMIT {
        bail!(
            "{} has {size} bytes; a pipeline has at most {LIMIT}",
            path.display()
        );
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text)
        .with_context(|| format!("{} is not valid YAML or JSON", path.display()))?;
    documents.retain(|document| !document.is_null());
    match documents.len() {
        1 => Ok(documents.remove(0)),
        2 => {
            let platform = documents.remove(1);
            let spec = documents.remove(0);
            Ok(serde_json::json!({ "pipeline_spec": spec, "platform_spec": platform }))
        }
        count => bail!(
            "{} holds {count} documents; expected the pipeline and at most one platform document",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_by_their_declared_type() {
        let spec = serde_json::json!({"root": {"inputDefinitions": {"parameters": {
            "name": {"parameterType": "STRING"}, "n": {"parameterType": "NUMBER_INTEGER"}}}}});
        let pairs = ["name=7", "n=7", "other=x", "list=[1]"].map(str::to_owned);
        let parameters = parameters(&pairs, Some(&spec)).unwrap();
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
        let error = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
            format!("{:#}", parameters(&pairs, Some(&spec)).unwrap_err())
        };
        assert!(error(&["n"]).contains("expected NAME=VALUE"));
        assert!(error(&["n=seven"]).contains("NUMBER_INTEGER"));
        assert!(error(&["a=1", "a=2"]).contains("given twice"));
    }
}
