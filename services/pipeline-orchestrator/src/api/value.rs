//! `google.protobuf.Value` and JSON.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

/// The message as JSON; whole numbers are integers, since the message cannot tell `2` from `2.0`. None for a number that
/// JSON does not have.
pub(super) fn from_proto(value: ProtoValue) -> Option<Value> {
    convert(value).map(pipeline_spec::normalise)
}

/// The same for an object.
pub(super) fn from_struct(object: Struct) -> Option<Value> {
    fields(object)
        .map(Value::Object)
        .map(pipeline_spec::normalise)
}

fn convert(value: ProtoValue) -> Option<Value> {
    Some(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => Value::Number(Number::from_f64(number)?),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::StructValue(object)) => Value::Object(fields(object)?),
        Some(Kind::ListValue(list)) => {
            let items = list
                .values
                .into_iter()
                .map(convert)
                .collect::<Option<_>>()?;
            Value::Array(items)
        }
    })
}

fn fields(object: Struct) -> Option<Map<String, Value>> {
    let convert = |(key, value)| Some((key, convert(value)?));
    object.fields.into_iter().map(convert).collect()
}

/// JSON as a message.
pub(super) fn to_proto(value: &Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        // Numbers beyond a double are beyond the message too.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_proto).collect(),
        }),
        Value::Object(map) => Kind::StructValue(to_struct(map)),
    };
    ProtoValue { kind: Some(kind) }
}

/// An object as a message.
pub(super) fn to_struct(map: &Map<String, Value>) -> Struct {
    Struct {
        fields: map
            .iter()
            .map(|(key, value)| (key.clone(), to_proto(value)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_survive_the_message() {
        let value = json!({"a": [1, 2.5, "x", null, true, {}], "b": {"c": -3, "d": 9_007_199_254_740_991_i64}});
        assert_eq!(from_proto(to_proto(&value)), Some(value));
    }

    #[test]
    fn numbers_that_json_does_not_have_are_refused() {
        let value = ProtoValue {
            kind: Some(Kind::NumberValue(f64::NAN)),
        };
        assert_eq!(from_proto(value), None);
    }
}
