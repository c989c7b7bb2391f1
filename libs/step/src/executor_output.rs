//! The `ExecutorOutput` document: what a kfp program says about its outputs, merged with what was declared.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::executor_input::{ArtifactType, OutputArtifact};
use crate::value;

/// The largest document that is read, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// What is wrong with an output document; the field is a path such as `parameterValues.loss`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct OutputError {
    /// The field.
    pub field: String,
    /// What is wrong with it; reads on after the field.
    pub problem: String,
}

fn error(field: impl Into<String>, problem: impl Into<String>) -> OutputError {
    OutputError {
        field: field.into(),
        problem: problem.into(),
    }
}

/// The document, read. Everything in it is optional.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecutorOutput {
    /// Values of parameters by name.
    pub parameters: BTreeMap<String, Value>,
    /// What is said about artifacts, by the output's name.
    pub artifacts: BTreeMap<String, Vec<ArtifactUpdate>>,
}

/// What a program says about one artifact.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArtifactUpdate {
    /// Its name, when given.
    pub name: Option<String>,
    /// Where it is, when given.
    pub uri: Option<String>,
    /// Metadata to add to what was declared.
    pub metadata: Map<String, Value>,
    /// Where its content was written instead of the path of its URI.
    pub custom_path: Option<String>,
}

/// An artifact as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedArtifact {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub uri: String,
    /// Where its content was written, when that is not at the URI.
    pub custom_path: Option<String>,
    /// Its type.
    pub kind: ArtifactType,
    /// Its metadata.
    pub metadata: Map<String, Value>,
}

/// Reads the document. Field names are accepted in camel case and snake case, as JSON readers of protobuf do; unknown
/// fields are ignored. Nesting is limited to 128 levels.
pub fn parse(bytes: &[u8]) -> Result<ExecutorOutput, OutputError> {
    if bytes.len() > MAX_BYTES {
        return Err(error(
            "the document",
            format!("is larger than {MAX_BYTES} bytes"),
        ));
    }
    let document: Value =
        serde_json::from_slice(bytes).map_err(|cause| syntax_error(bytes, &cause))?;
    let Value::Object(mut document) = document else {
        return Err(error("the document", "is not a JSON object"));
    };
    let mut output = ExecutorOutput::default();
    for (name, value) in object(
        take(&mut document, "parameterValues", "parameter_values"),
        "parameterValues",
    )? {
        output.parameters.insert(name, value);
    }
    for (name, list) in object(document.remove("artifacts"), "artifacts")? {
        let field = format!("artifacts.{name}");
        let mut list = object(Some(list), &field)?;
        let items = match list.remove("artifacts") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(error(format!("{field}.artifacts"), "is not an array")),
        };
        let mut updates = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            updates.push(artifact(item, &format!("{field}.artifacts[{index}]"))?);
        }
        output.artifacts.insert(name, updates);
    }
    Ok(output)
}

fn artifact(item: Value, field: &str) -> Result<ArtifactUpdate, OutputError> {
    let mut item = object(Some(item), field)?;
    let metadata = object(item.remove("metadata"), &format!("{field}.metadata"))?;
    let mut text = |camel: &str, snake: &str| match take(&mut item, camel, snake) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.contains('\0') => Err(error(
            format!("{field}.{camel}"),
            "contains a NUL character",
        )),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(_) => Err(error(format!("{field}.{camel}"), "is not text")),
    };
    Ok(ArtifactUpdate {
        name: text("name", "name")?,
        uri: text("uri", "uri")?,
        custom_path: text("customPath", "custom_path")?,
        metadata,
    })
}

fn take(fields: &mut Map<String, Value>, camel: &str, snake: &str) -> Option<Value> {
    fields.remove(camel).or_else(|| fields.remove(snake))
}

fn object(value: Option<Value>, field: &str) -> Result<Map<String, Value>, OutputError> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields),
        Some(_) => Err(error(field, "is not a JSON object")),
    }
}

/// The artifacts of one output: what was declared, overlaid by what the program says. Metadata is merged key by key. An
/// output that is no list has one artifact, whatever the program says.
pub fn merge_artifacts(
    declared: &OutputArtifact,
    updates: Option<&[ArtifactUpdate]>,
) -> Vec<MergedArtifact> {
    let base = MergedArtifact {
        name: declared.name.clone(),
        uri: declared.uri.clone(),
        custom_path: None,
        kind: declared.kind.clone(),
        metadata: declared.metadata.clone(),
    };
    let updates = updates.unwrap_or_default();
    if updates.is_empty() {
        return vec![base];
    }
    let count = if declared.list { updates.len() } else { 1 };
    updates[..count]
        .iter()
        .map(|update| {
            let mut merged = base.clone();
            if let Some(name) = &update.name {
                merged.name.clone_from(name);
            }
            if let Some(uri) = &update.uri {
                merged.uri.clone_from(uri);
            }
            merged.custom_path.clone_from(&update.custom_path);
            let added = update.metadata.clone().into_iter();
            merged
                .metadata
                .extend(added.map(|(key, item)| (key, value::canonical(item))));
            merged
        })
        .collect()
}

/// Names the field at which JSON text goes wrong. The usual cause is Python's `NaN`, which its JSON writer lets through.
fn syntax_error(bytes: &[u8], cause: &serde_json::Error) -> OutputError {
    let line_start = bytes
        .split_inclusive(|&byte| byte == b'\n')
        .take(cause.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum::<usize>();
    let at = (line_start + cause.column().saturating_sub(1)).min(bytes.len());
    let field = field_before(&bytes[..at]);
    let field = if field.is_empty() {
        "the document".to_owned()
    } else {
        field
    };
    let token_start = at.saturating_sub(1);
    let near = &bytes[token_start..(at + 9).min(bytes.len())];
    for word in ["NaN", "Infinity"] {
        if near
            .windows(word.len())
            .any(|window| window == word.as_bytes())
        {
            return error(field, format!("is {word}, which JSON cannot carry"));
        }
    }
    error(field, format!("is not JSON: {cause}"))
}

/// The path of keys that is open at the end of a piece of JSON text.
fn field_before(text: &[u8]) -> String {
    let mut path: Vec<Option<String>> = Vec::new();
    let mut last_text: Option<String> = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                let mut quoted = Vec::new();
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => quoted.extend(bytes.next()),
                        other => quoted.push(other),
                    }
                }
                last_text = Some(String::from_utf8_lossy(&quoted).into_owned());
            }
            b'{' | b'[' => path.push(None),
            b'}' | b']' => drop(path.pop()),
            b':' => {
                if let Some(key) = path.last_mut() {
                    *key = last_text.take();
                }
            }
            _ => {}
        }
    }
    let keys: Vec<String> = path.into_iter().flatten().collect();
    keys.join(".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn declared() -> OutputArtifact {
        OutputArtifact {
            name: "model".to_owned(),
            uri: "/s/model".to_owned(),
            metadata: Map::from_iter([("a".to_owned(), json!(1)), ("b".to_owned(), json!(2))]),
            ..OutputArtifact::default()
        }
    }

    #[test]
    fn both_spellings_are_read() {
        let output = parse(
            br#"{"parameter_values": {"n": 1}, "other": 1,
                 "artifacts": {"model": {"artifacts": [{"uri": "/x", "customPath": "/y", "metadata": {"b": 3.0}}]}}}"#,
        )
        .unwrap();
        assert_eq!(output.parameters["n"], json!(1));
        let merged = merge_artifacts(
            &declared(),
            output.artifacts.get("model").map(Vec::as_slice),
        );
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].uri, "/x");
        assert_eq!(merged[0].custom_path.as_deref(), Some("/y"));
        assert_eq!(
            Value::Object(merged[0].metadata.clone()),
            json!({"a": 1, "b": 3})
        );
        assert_eq!(merged[0].name, "model");
    }

    #[test]
    fn silent_programs_keep_what_was_declared() {
        let merged = merge_artifacts(&declared(), None);
        assert_eq!(merged[0].uri, "/s/model");
        assert_eq!(parse(b"{}").unwrap(), ExecutorOutput::default());
        // The SDK writes empty texts for what it does not know.
        let output =
            parse(br#"{"artifacts": {"model": {"artifacts": [{"name": "", "uri": ""}]}}}"#)
                .unwrap();
        let merged = merge_artifacts(&declared(), Some(&output.artifacts["model"]));
        assert_eq!(
            (merged[0].name.as_str(), merged[0].uri.as_str()),
            ("model", "/s/model")
        );
    }

    #[test]
    fn only_lists_have_several_artifacts() {
        let updates = vec![ArtifactUpdate::default(), ArtifactUpdate::default()];
        assert_eq!(merge_artifacts(&declared(), Some(&updates)).len(), 1);
        let list = OutputArtifact {
            list: true,
            ..declared()
        };
        assert_eq!(merge_artifacts(&list, Some(&updates)).len(), 2);
    }

    #[test]
    fn errors_name_the_field() {
        for (text, message) in [
            ("[]", "the document is not a JSON object"),
            (
                "{\"parameterValues\": 1}",
                "parameterValues is not a JSON object",
            ),
            (
                "{\"artifacts\": {\"m\": {\"artifacts\": [{\"uri\": 1}]}}}",
                "artifacts.m.artifacts[0].uri is not text",
            ),
            (
                "{\"parameterValues\": {\"a\": 1, \"loss\": NaN}}",
                "parameterValues.loss is NaN, which JSON cannot carry",
            ),
            (
                "{\"parameterValues\": {\"a\": [1, -Infinity]}}",
                "parameterValues.a is Infinity, which JSON cannot carry",
            ),
            (
                "{\n \"artifacts\": {\"m\": {\"artifacts\": [{\"metadata\":\n {\"k\\\"\": NaN}}]}}}",
                "artifacts.m.artifacts.metadata.k\" is NaN, which JSON cannot carry",
            ),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), message);
        }
        let cut = parse(b"{\"parameterValues\": {\"a\": \"x")
            .unwrap_err()
            .to_string();
        assert!(cut.starts_with("parameterValues.a is not JSON"), "{cut}");
        let deep = format!("{{\"parameterValues\": {{\"a\": {}", "[".repeat(10_000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            drop(parse(&bytes));
        }

        #[test]
        fn cut_documents_are_refused(cut in 0..120usize) {
            let text = r#"{"parameterValues":{"loss":0.25,"ä\"":"x"},"artifacts":{"m":{"artifacts":[{"uri":"/x","metadata":{"k":[1,2]}}]}}}"#;
            if cut < text.len() {
                prop_assert!(parse(&text.as_bytes()[..cut]).is_err());
            }
        }
    }
}
