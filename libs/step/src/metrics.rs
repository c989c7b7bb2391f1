//! The file of metrics that pipelines of the SDK 1.8 write:
//! `{"metrics": [{"name": "accuracy", "numberValue": 0.9, "format": "PERCENTAGE"}]}`.

use serde_json::{Map, Value};

/// The largest file that is looked at, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Metrics of one file.
const MAX_METRICS: usize = 1_000;
/// The key of the formats in the metadata.
pub const FORMATS: &str = "formats";

/// The metrics as metadata of an artifact: each number by its name, and under `formats` those that have a format. Nothing for a file
/// that is something else.
pub fn metadata(bytes: &[u8]) -> Map<String, Value> {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let list = document.get("metrics").and_then(Value::as_array);
    let mut metadata = Map::new();
    let mut formats = Map::new();
    for metric in list.into_iter().flatten().take(MAX_METRICS) {
        let text = |key: &str| metric.get(key).and_then(Value::as_str);
        let number = metric
            .get("numberValue")
            .or_else(|| metric.get("number_value"));
        // Numbers that are written as text are common.
        let number = number.and_then(|number| match number {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_f64(),
        });
        let (Some(name), Some(number)) =
            (text("name"), number.and_then(serde_json::Number::from_f64))
        else {
            continue;
        };
        if let Some(format) = text("format") {
            formats.insert(name.to_owned(), format.into());
        }
        metadata.insert(
            name.to_owned(),
            crate::value::canonical(Value::Number(number)),
        );
    }
    if !formats.is_empty() {
        metadata.insert(FORMATS.to_owned(), Value::Object(formats));
    }
    metadata
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metrics_become_metadata() {
        let file = json!({"metrics": [
            {"name": "accuracy", "numberValue": 0.5, "format": "PERCENTAGE"},
            {"name": "loss", "numberValue": "2"},
            {"name": "none"},
            {"numberValue": 3},
        ]});
        let want = json!({"accuracy": 0.5, "loss": 2, "formats": {"accuracy": "PERCENTAGE"}});
        assert_eq!(Value::Object(metadata(file.to_string().as_bytes())), want);
        assert!(metadata(b"no JSON").is_empty());
        assert!(metadata(b"[1]").is_empty());
    }
}
