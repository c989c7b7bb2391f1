//! JSON to values of the language and back.

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::Key;
use serde_json::{Map, Number, Value};

use crate::values::normalise;

/// Whole numbers up to this are exact in a double.
const MAX_EXACT: i64 = 1 << 53;

/// Numbers become doubles, as upstream; whole ones that a double cannot hold stay as they are.
pub(super) fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(flag) => cel::Value::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) if whole.abs_diff(0) > MAX_EXACT.unsigned_abs() => {
                cel::Value::Int(whole)
            }
            (_, Some(float)) => cel::Value::Float(float),
            (_, None) => cel::Value::Null,
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let entries: HashMap<Key, cel::Value> = map
                .iter()
                .map(|(name, item)| (Key::String(Arc::new(name.clone())), to_cel(item)))
                .collect();
            cel::Value::Map(entries.into())
        }
    }
}

/// The JSON of a result; whole doubles become integers again.
pub(super) fn from_cel(value: &cel::Value) -> Result<Value, String> {
    plain(value).map(normalise)
}

fn plain(value: &cel::Value) -> Result<Value, String> {
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(flag) => Value::Bool(*flag),
        cel::Value::Int(number) => Value::from(*number),
        cel::Value::UInt(number) => Value::from(*number),
        cel::Value::Float(number) => Number::from_f64(*number)
            .map(Value::Number)
            .ok_or_else(|| format!("the result {number} is no number of JSON"))?,
        cel::Value::String(text) => Value::String(text.as_ref().clone()),
        cel::Value::List(items) => Value::Array(items.iter().map(plain).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let mut object = Map::new();
            for (key, item) in map.map.iter() {
                object.insert(key.to_string(), plain(item)?);
            }
            Value::Object(object)
        }
        other => {
            return Err(format!(
                "the result is a {}, which is no value of JSON",
                other.type_of()
            ));
        }
    })
}

/// A value in a message.
pub(super) fn show(value: &cel::Value) -> String {
    plain(value).map_or_else(
        |_| value.type_of().to_string(),
        |value| super::clip(&normalise(value).to_string()),
    )
}
