//! Placeholders in constants and settings: those of inputs and, other than in [`pipeline_spec::substitute`], of the run.

use pipeline_spec::text_form;
use serde_json::{Map, Value};

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
