//! Parameter values: types, text forms and placeholders.

use pipeline_spec::plan::ParameterType;
use serde_json::{Map, Value};

/// The text of a value as programs see it: a string as it is, a number in its shortest form without exponent, lists and
/// structs as JSON, null as nothing.
pub(super) fn text_form(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(whole), _, _) => whole.to_string(),
            (None, Some(whole), _) => whole.to_string(),
            (None, None, Some(double)) => double.to_string(),
            (None, None, None) => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The value as one of a type. Text takes anything but null; the rest takes only its own kind.
pub(super) fn coerce(value: Value, wanted: ParameterType) -> Result<Value, Mismatch> {
    use ParameterType as T;
    let found = kind(&value);
    let typed = match (wanted, value) {
        (_, Value::Null) => None,
        (T::String, text @ Value::String(_)) => Some(text),
        (T::String, other) => Some(Value::String(text_form(&other))),
        (T::NumberInteger, Value::Number(number)) => whole(&number).map(Value::from),
        (T::NumberDouble, Value::Number(number)) => number.as_f64().map(Value::from),
        (T::Boolean, flag @ Value::Bool(_)) => Some(flag),
        (T::List, list @ Value::Array(_)) => Some(list),
        (T::Struct | T::TaskFinalStatus | T::TaskConfig, object @ Value::Object(_)) => Some(object),
        (T::NumberInteger | T::NumberDouble, _)
        | (T::Boolean | T::List | T::Struct | T::TaskFinalStatus | T::TaskConfig, _) => None,
    };
    typed.ok_or(Mismatch {
        wanted: name(wanted),
        found,
    })
}

/// A value is not of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) wanted: &'static str,
    pub(super) found: &'static str,
}

fn whole(number: &serde_json::Number) -> Option<i64> {
    // Beyond 2^53 a double no longer says which whole number it stands for.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let double = || {
        number
            .as_f64()
            .filter(|double| double.fract() == 0.0 && double.abs() <= EXACT)
    };
    number
        .as_i64()
        .or_else(|| double().map(|double| double as i64))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "struct",
    }
}

fn name(wanted: ParameterType) -> &'static str {
    match wanted {
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

/// What a placeholder in a text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder<'a> {
    /// `{{$.inputs.parameters['x']}}`
    Parameter(&'a str),
    /// `{{$.pipeline_job_name}}` and the like.
    Context(&'a str),
}

/// Fills the placeholders of a document, once, keys included. A text that is one placeholder becomes the value itself,
/// any other the text form; what `lookup` does not know stays as it is.
pub(super) fn fill<E>(
    value: &Value,
    lookup: &impl Fn(Placeholder<'_>) -> Result<Option<Value>, E>,
) -> Result<Value, E> {
    Ok(match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => fill_text(text, lookup)?,
        Value::Array(items) => {
            let items: Result<Vec<Value>, E> =
                items.iter().map(|item| fill(item, lookup)).collect();
            Value::Array(items?)
        }
        Value::Object(fields) => {
            let mut filled = Map::new();
            for (key, field) in fields {
                filled.insert(text_form(&fill_text(key, lookup)?), fill(field, lookup)?);
            }
            Value::Object(filled)
        }
    })
}

/// [`fill`] of one text.
pub(super) fn fill_text<E>(
    text: &str,
    lookup: &impl Fn(Placeholder<'_>) -> Result<Option<Value>, E>,
) -> Result<Value, E> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{$") {
        let Some(length) = rest[start..].find("}}") else {
            break;
        };
        let end = start + length + 2;
        let known = match placeholder(&rest[start + 3..end - 2]) {
            Some(placeholder) => lookup(placeholder)?,
            None => None,
        };
        filled.push_str(&rest[..start]);
        match known {
            Some(value) if end - start == text.len() => return Ok(value),
            Some(value) => filled.push_str(&text_form(&value)),
            None => filled.push_str(&rest[start..end]),
        }
        rest = &rest[end..];
    }
    filled.push_str(rest);
    Ok(Value::String(filled))
}

fn placeholder(inner: &str) -> Option<Placeholder<'_>> {
    let path = inner.strip_prefix('.')?;
    let Some(index) = path.strip_prefix("inputs.parameters[") else {
        let plain = path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return (plain && !path.is_empty()).then_some(Placeholder::Context(path));
    };
    let quoted = index.strip_suffix(']')?;
    ['\'', '"']
        .into_iter()
        .find_map(|quote| quoted.strip_prefix(quote)?.strip_suffix(quote))
        .map(Placeholder::Parameter)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    #[test]
    fn text_forms_are_those_of_the_executor_contract() {
        let forms = [
            (json!("a b"), "a b"),
            (json!(3), "3"),
            (json!(2.0), "2"),
            (json!(1e21), "1000000000000000000000"),
            (json!(0.1), "0.1"),
            (json!(true), "true"),
            (json!([1, "x"]), r#"[1,"x"]"#),
            (json!({"a": null}), r#"{"a":null}"#),
            (json!(null), ""),
        ];
        for (value, text) in forms {
            assert_eq!(text_form(&value), text);
        }
    }

    #[test]
    fn only_text_takes_other_kinds() {
        use ParameterType as T;
        assert_eq!(coerce(json!(2), T::String), Ok(json!("2")));
        assert_eq!(coerce(json!(2.0), T::NumberInteger), Ok(json!(2)));
        assert_eq!(coerce(json!(2), T::NumberDouble), Ok(json!(2.0)));
        for (value, wanted) in [
            (json!("2"), T::NumberInteger),
            (json!(2.5), T::NumberInteger),
            (json!(1), T::Boolean),
            (json!("[]"), T::List),
            (json!([]), T::Struct),
            (json!(null), T::String),
        ] {
            assert!(coerce(value.clone(), wanted).is_err(), "{value} {wanted:?}");
        }
    }

    #[test]
    fn placeholders_are_filled_once_and_keep_the_kind_when_alone() {
        let lookup = |placeholder: Placeholder<'_>| {
            Ok::<_, Infallible>(match placeholder {
                Placeholder::Parameter("n") => Some(json!(3)),
                Placeholder::Parameter("p") => Some(json!("{{$.inputs.parameters['n']}}")),
                Placeholder::Context("pipeline_job_name") => Some(json!("run")),
                Placeholder::Parameter(_) | Placeholder::Context(_) => None,
            })
        };
        let document = json!({
            "{{$.pipeline_job_name}}": ["{{$.inputs.parameters['n']}}", "n={{$.inputs.parameters[\"n\"]}}"],
            "once": "<{{$.inputs.parameters['p']}}>",
            "other": "{{$}} {{$.outputs.parameters['x'].output_file}} {{$.unknown}} {{$.open",
        });
        let filled = json!({
            "run": [3, "n=3"],
            "once": "<{{$.inputs.parameters['n']}}>",
            "other": "{{$}} {{$.outputs.parameters['x'].output_file}} {{$.unknown}} {{$.open",
        });
        assert_eq!(fill(&document, &lookup), Ok(filled));
    }
}
