//! Placeholders `{{$…}}` in constants, commands and settings.

use serde_json::Value;

use crate::values::text_form;

/// What a placeholder names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    InputParameter(&'a str),
    InputArtifact(&'a str),
    OutputParameter(&'a str),
    OutputArtifact(&'a str),
    /// `workspace_path`.
    Workspace,
    /// Anything else: the executor input, names and ids of the run, text that only looks like a placeholder.
    Other,
}

/// A constant names an input that has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the input parameter '{0}' has no value")]
pub struct MissingInput(pub String);

const OPEN: &str = "{{$";
const CLOSE: &str = "}}";

/// The placeholders of `text`, from left to right.
pub(crate) fn names(text: &str) -> impl Iterator<Item = Name<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(OPEN)?;
        let body = rest.get(start + OPEN.len()..)?;
        let end = body.find(CLOSE)?;
        rest = body.get(end + CLOSE.len()..)?;
        Some(read(body.get(..end)?))
    })
}

/// Whether there is any placeholder in `text`.
pub(crate) fn any(text: &str) -> bool {
    names(text).next().is_some()
}

fn read(body: &str) -> Name<'_> {
    if body == ".workspace_path" {
        return Name::Workspace;
    }
    let named = |group: &str| body.strip_prefix(group).and_then(quoted);
    if let Some(name) = named(".inputs.parameters") {
        return Name::InputParameter(name);
    }
    if let Some(name) = named(".inputs.artifacts") {
        return Name::InputArtifact(name);
    }
    if let Some(name) = named(".outputs.parameters") {
        return Name::OutputParameter(name);
    }
    if let Some(name) = named(".outputs.artifacts") {
        return Name::OutputArtifact(name);
    }
    Name::Other
}

/// The key of `['key']…`.
fn quoted(text: &str) -> Option<&str> {
    let text = text.strip_prefix('[')?;
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let text = text.get(1..)?;
    text.split_once(quote)
        .filter(|(_, rest)| rest.starts_with(']'))
        .map(|(name, _)| name)
}

/// Puts the values of input parameters in place of `{{$.inputs.parameters['name']}}`.
///
/// A constant that is one such placeholder and nothing else becomes the value itself, of whatever type; inside other
/// text the value stands as [`text_form`]. Replacement happens once: what a value holds is not looked at again. Other
/// placeholders stay as they are.
pub fn substitute(
    constant: &str,
    lookup: &dyn Fn(&str) -> Option<Value>,
) -> Result<Value, MissingInput> {
    let mut out = String::new();
    let mut rest = constant;
    while let Some(start) = rest.find(OPEN) {
        let (before, tail) = rest.split_at(start);
        let Some(end) = tail.find(CLOSE) else { break };
        let (whole, after) = tail.split_at(end + CLOSE.len());
        let body = whole.get(OPEN.len()..end).unwrap_or_default();
        out.push_str(before);
        match read(body) {
            Name::InputParameter(name) => {
                let value = lookup(name).ok_or_else(|| MissingInput(name.to_owned()))?;
                if whole.len() == constant.len() {
                    return Ok(value);
                }
                out.push_str(&text_form(&value));
            }
            _ => out.push_str(whole),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

/// The same for every string inside a value; keys of objects too, as the SDK replaces in both.
pub(crate) fn visit_strings<'v>(value: &'v Value, visit: &mut dyn FnMut(&'v str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| visit_strings(item, visit)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            visit(key);
            visit_strings(item, visit);
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(name: &str) -> Option<Value> {
        match name {
            "n" => Some(json!(3)),
            "real" => Some(json!(2.0)),
            "list" => Some(json!([1, {"a": true}])),
            "trick" => Some(json!("{{$.inputs.parameters['n']}}")),
            _ => None,
        }
    }

    #[test]
    fn placeholders_become_values() {
        let cases = [
            ("plain", json!("plain")),
            ("{{$.inputs.parameters['n']}}", json!(3)),
            ("{{$.inputs.parameters['list']}}", json!([1, {"a": true}])),
            ("a {{$.inputs.parameters['n']}} b", json!("a 3 b")),
            (
                "{{$.inputs.parameters['n']}}{{$.inputs.parameters[\"real\"]}}",
                json!("32"),
            ),
            (
                " {{$.inputs.parameters['list']}}",
                json!(" [1,{\"a\":true}]"),
            ),
            // Once only.
            (
                "x{{$.inputs.parameters['trick']}}",
                json!("x{{$.inputs.parameters['n']}}"),
            ),
            ("{{$.pipeline_job_name}}", json!("{{$.pipeline_job_name}}")),
            ("{{$", json!("{{$")),
            ("{{$}} {{$.inputs", json!("{{$}} {{$.inputs")),
        ];
        for (constant, expected) in cases {
            assert_eq!(substitute(constant, &look), Ok(expected), "{constant}");
        }
    }

    #[test]
    fn a_placeholder_without_a_value_is_named() {
        let error = substitute("hello {{$.inputs.parameters['gone']}}", &look).unwrap_err();
        assert_eq!(error.to_string(), "the input parameter 'gone' has no value");
    }

    #[test]
    fn names_are_found_anywhere() {
        let text = "{{$.outputs.artifacts['m'].path}} {{$}} {{$.inputs.artifacts['d'].metadata['k']}}{{$.workspace_path}}/x";
        let found: Vec<_> = names(text).collect();
        assert_eq!(
            found,
            [
                Name::OutputArtifact("m"),
                Name::Other,
                Name::InputArtifact("d"),
                Name::Workspace
            ]
        );
    }
}
