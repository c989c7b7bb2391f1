//! Arguments that are JSON text: `{"IfPresent": {"InputName", "Then", "Else"}}` and `{"Concat": […]}`, nested at will.
//!
//! They are expanded before placeholders are replaced, so a value with quotes or braces cannot break the JSON.

use serde_json::{Map, Value};

use crate::placeholders::{PlaceholderError, Scope};
use crate::value::excerpt;

/// Reads an argument as a structure; `None` when it is ordinary text.
pub(crate) fn parse(argument: &str) -> Result<Option<Value>, PlaceholderError> {
    let text = argument.trim();
    let after_brace = text
        .strip_prefix('{')
        .map(str::trim_start)
        .unwrap_or_default();
    let structural =
        after_brace.starts_with("\"IfPresent\"") || after_brace.starts_with("\"Concat\"");
    if !structural {
        return Ok(None);
    }
    match serde_json::from_str(text) {
        Ok(tree) => Ok(Some(tree)),
        Err(error) => Err(malformed(text, error.to_string())),
    }
}

/// The elements that a structure stands for: any number for `IfPresent`, one for `Concat`.
pub(crate) fn expand(tree: &Value, scope: &Scope<'_>) -> Result<Vec<String>, PlaceholderError> {
    let fields = match tree {
        Value::String(text) => return Ok(vec![text.clone()]),
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => {
            let mut elements = Vec::new();
            for item in items {
                elements.extend(expand(item, scope)?);
            }
            return Ok(elements);
        }
        Value::Object(fields) if fields.len() == 1 => fields,
        other => {
            return Err(malformed(
                &other.to_string(),
                "expected text or a structure".to_owned(),
            ));
        }
    };
    if let Some(parts) = fields.get("Concat") {
        let Value::Array(_) = parts else {
            return Err(malformed(
                &tree.to_string(),
                "Concat needs a list".to_owned(),
            ));
        };
        return Ok(vec![expand(parts, scope)?.concat()]);
    }
    match fields.get("IfPresent") {
        Some(Value::Object(branches)) => if_present(tree, branches, scope),
        _ => Err(malformed(
            &tree.to_string(),
            "expected IfPresent or Concat".to_owned(),
        )),
    }
}

fn if_present(
    tree: &Value,
    branches: &Map<String, Value>,
    scope: &Scope<'_>,
) -> Result<Vec<String>, PlaceholderError> {
    let Some(Value::String(input)) = branches.get("InputName") else {
        return Err(malformed(
            &tree.to_string(),
            "IfPresent needs InputName".to_owned(),
        ));
    };
    let branch = if scope.is_present(input)? {
        let missing = || malformed(&tree.to_string(), "IfPresent needs Then".to_owned());
        Some(branches.get("Then").ok_or_else(missing)?)
    } else {
        branches.get("Else")
    };
    branch.map_or_else(|| Ok(Vec::new()), |branch| expand(branch, scope))
}

fn malformed(argument: &str, problem: String) -> PlaceholderError {
    PlaceholderError::Structure {
        argument: excerpt(argument),
        problem,
    }
}
