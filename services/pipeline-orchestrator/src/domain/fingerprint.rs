//! Keys of the cache: two programs with the same key put out the same.
//!
//! The identity key is the one of the kfp driver: SHA-256 over the JSON of its `CacheKey` message as Go's
//! `encoding/json` writes it. An input artifact counts by its id, so a producer that ran again makes a new key. The
//! content key takes the digest, type and metadata of the artifact instead.

use std::collections::{BTreeMap, BTreeSet};

use ids::ArtifactId;
use pipeline_spec::plan::Container;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::cache::{CACHE_VARIABLE, KeyKind};
use super::event::StepError;
use super::launch::{self, runtime_type};
use super::model::{Artifact, Task};
use super::state::{RunState, missing};

/// The key of a program whose inputs are resolved.
///
/// `volumes` are the names of the volumes that it mounts: what is in them is an input too.
pub(super) fn key(
    state: &RunState,
    task: &Task,
    kind: KeyKind,
    volumes: &BTreeSet<String>,
) -> Result<String, StepError> {
    let planned = state.planned(task)?;
    if kind == KeyKind::Given {
        let mut hash = Sha256::new();
        hash.update(planned.component.as_bytes());
        hash.update([0]);
        hash.update(planned.caching.key.as_bytes());
        return Ok(hex(&hash.finalize()));
    }
    let container = launch::container(state, task)?;
    let component = state.component(task)?;
    let mut document = Map::new();
    let container = container_spec(container, volumes);
    document.insert("containerSpec".to_owned(), container);
    let (name, artifacts) = match kind {
        KeyKind::Content => ("inputArtifacts", input_contents(state, task)?),
        KeyKind::Identity | KeyKind::Given => ("inputArtifactNames", input_names(task)),
    };
    insert(&mut document, name, artifacts);
    // Undeclared values count too: they may fill placeholders of the image or the environment.
    let inputs = &task.body.inputs;
    let mut values = inputs.channels.clone();
    values.extend(inputs.parameters.clone());
    insert(&mut document, "inputParameterValues", values);
    let outputs = component.output_artifacts.iter();
    let outputs = outputs.map(|(name, declared)| {
        let mut spec = Map::new();
        spec.insert("name".to_owned(), name.as_str().into());
        spec.insert("type".to_owned(), runtime_type(&declared.artifact_type));
        if let Some(metadata) = declared.metadata.as_object().filter(|map| !map.is_empty()) {
            spec.insert("metadata".to_owned(), metadata.clone().into());
        }
        (name.clone(), Value::Object(spec))
    });
    insert(&mut document, "outputArtifactsSpec", outputs.collect());
    let outputs = component.output_parameters.iter();
    let outputs = outputs.map(|(name, kind)| (name.clone(), Value::from(kind.name())));
    insert(&mut document, "outputParametersSpec", outputs.collect());
    let mut text = String::new();
    write(&Value::Object(document), &mut text);
    Ok(hex(&Sha256::digest(text)))
}

/// Adds a map unless it is empty, as protobuf's JSON does.
fn insert(document: &mut Map<String, Value>, name: &str, map: Map<String, Value>) {
    if !map.is_empty() {
        document.insert(name.to_owned(), Value::Object(map));
    }
}

/// The program as the document has it: placeholders in it are not filled.
fn container_spec(container: &Container, volumes: &BTreeSet<String>) -> Value {
    let mut spec = Map::new();
    if !container.image.is_empty() {
        spec.insert("image".to_owned(), container.image.as_str().into());
    }
    let words: Vec<&String> = container.command.iter().chain(&container.args).collect();
    if !words.is_empty() {
        spec.insert("cmdArgs".to_owned(), json!(words));
    }
    if !volumes.is_empty() {
        spec.insert("pvcNames".to_owned(), json!(volumes));
    }
    let env = container.env.iter();
    let env: Vec<Value> = env
        .filter(|(name, _)| name != CACHE_VARIABLE)
        .map(|(name, value)| {
            let mut entry = Map::new();
            entry.insert("name".to_owned(), name.as_str().into());
            if !value.is_empty() {
                entry.insert("value".to_owned(), value.as_str().into());
            }
            Value::Object(entry)
        })
        .collect();
    if !env.is_empty() {
        spec.insert("env".to_owned(), Value::Array(env));
    }
    // Documents of the newer SDK have none. Texts of files are part of the program: the source of a script, a constant artifact.
    if !container.files.is_empty() {
        spec.insert("files".to_owned(), json!(container.files));
    }
    Value::Object(spec)
}

fn input_names(task: &Task) -> Map<String, Value> {
    let names = task.body.inputs.artifacts.iter().map(|(input, ids)| {
        let ids: Vec<String> = ids.iter().map(ArtifactId::to_string).collect();
        let list = if ids.is_empty() {
            json!({})
        } else {
            json!({ "artifactNames": ids })
        };
        (input.clone(), list)
    });
    names.collect()
}

fn input_contents(state: &RunState, task: &Task) -> Result<Map<String, Value>, StepError> {
    let mut contents = Map::new();
    for (input, ids) in &task.body.inputs.artifacts {
        let list: Result<Vec<Value>, StepError> = ids
            .iter()
            .map(|id| {
                let artifact = state.artifact(*id).ok_or_else(|| missing("artifact", id))?;
                Ok(content(artifact))
            })
            .collect();
        contents.insert(input.clone(), Value::Array(list?));
    }
    Ok(contents)
}

/// What a program can read of an artifact, but for the place. Without a digest only the artifact itself is the same.
fn content(artifact: &Artifact) -> Value {
    if artifact.sha256.is_empty() {
        return json!({ "artifact": artifact.id.to_string() });
    }
    json!({
        "sha256": artifact.sha256,
        "directory": artifact.directory,
        "type": runtime_type(&artifact.artifact_type),
        "metadata": artifact.metadata,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes JSON as Go's `encoding/json` does: sorted keys, every number a double, `<`, `>` and `&` escaped.
fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&double(number.as_f64().unwrap_or_default())),
        Value::String(string) => write_string(string, text),
        Value::Array(items) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            text.push('{');
            for (at, (name, field)) in sorted.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_string(name, text);
                text.push(':');
                write(field, text);
            }
            text.push('}');
        }
    }
}

fn double(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        return if size >= 1.0 {
            text.replace('e', "e+")
        } else {
            text
        };
    }
    number.to_string()
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &Value) -> String {
        let mut text = String::new();
        write(value, &mut text);
        text
    }

    #[test]
    fn json_is_written_as_go_writes_it() {
        let value = json!({
            "b": [1, -2.0, 0.5, 1e21, 123456789012345680000.0, 1.5e-7, 1e-6, true, null],
            "a": "<a href=\"x\">&\u{2028}\u{7f}é\n\u{1}\\",
            "": {},
        });
        assert_eq!(
            written(&value),
            "{\"\":{},\"a\":\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028\u{7f}é\\n\\u0001\\\\\",\
             \"b\":[1,-2,0.5,1e+21,123456789012345680000,1.5e-7,0.000001,true,null]}"
        );
    }

    #[test]
    fn whole_numbers_are_doubles() {
        // 2^53 + 1 has no double; upstream reads it as its neighbour.
        assert_eq!(
            written(&json!(9_007_199_254_740_993_i64)),
            "9007199254740992"
        );
    }
}
