//! A configuration as TOML that the configuration file accepts again.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value};

/// Prints a configuration; keys without a value are left out, secrets are masked by their type.
pub(crate) fn toml(config: &impl Serialize) -> Result<String, serde_json::Error> {
    let value = serde_json::to_value(config)?;
    let mut text = String::new();
    if let Value::Object(table) = value {
        section(&mut text, "", &table);
    }
    Ok(text)
}

fn section(text: &mut String, path: &str, table: &Map<String, Value>) {
    let plain = table
        .iter()
        .filter(|(_, value)| !value.is_null() && !value.is_object());
    for (name, value) in plain {
        // Writing into a string cannot fail.
        writeln!(text, "{} = {}", key(name), inline(value)).ok();
    }
    for (name, value) in table {
        if let Value::Object(inner) = value {
            let path = match path {
                "" => key(name),
                _ => format!("{path}.{}", key(name)),
            };
            if inner
                .values()
                .any(|value| !value.is_null() && !value.is_object())
            {
                writeln!(text, "\n[{path}]").ok();
            }
            section(text, &path, inner);
        }
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(inline).collect();
            format!("[{}]", values.join(", "))
        }
        Value::Object(table) => {
            let pairs = table.iter().filter(|(_, value)| !value.is_null());
            let pairs: Vec<String> = pairs
                .map(|(name, value)| format!("{} = {}", key(name), inline(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        // JSON's strings, numbers and booleans are spelled as in TOML.
        scalar => scalar.to_string(),
    }
}

fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

#[cfg(test)]
mod tests {
    use auth::Secret;
    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;
    use crate::ProcessConfig;

    #[test]
    fn a_dump_reads_back_with_secrets_masked() {
        let mut config = ProcessConfig::default();
        config.admin.token = Some(Secret::new("hunter2"));
        let text = toml(&config).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let read: ProcessConfig = Figment::from(Toml::string(&text)).extract().unwrap();
        config.admin.token = Some(Secret::new("***"));
        assert_eq!(read, config, "{text}");
    }

    #[test]
    fn odd_keys_and_lists_keep_their_form() {
        let value = serde_json::json!({
            "images": {"python:3.*": {"interpreter": "a\"b", "tags": ["x", "y"], "none": null}},
            "rules": [{"a": 1}],
        });
        let text = toml(&value).unwrap();
        let read: Value = Figment::from(Toml::string(&text)).extract().unwrap();
        assert_eq!(
            read["images"]["python:3.*"]["interpreter"], "a\"b",
            "{text}"
        );
        assert_eq!(
            read["images"]["python:3.*"]["tags"],
            serde_json::json!(["x", "y"])
        );
        assert_eq!(read["rules"], value["rules"]);
    }
}
