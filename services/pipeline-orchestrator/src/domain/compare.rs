//! In what runs differ.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_spec::text_form;
use serde_json::{Map, Value};

/// Differences that are listed.
const MAX_DIFFERENCES: usize = 500;
/// Characters of a value; source code may be longer.
const MAX_TEXT: usize = 2_000;
const MAX_CODE: usize = 32_000;

/// What is compared of a run.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// Its parameters, with defaults.
    pub parameters: Map<String, Value>,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
    /// The specification that it executes.
    pub spec: Value,
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// A parameter.
    Parameter,
    /// A metric.
    Metric,
    /// The source code of a component.
    Code,
    /// Another part of the specification.
    Spec,
}

/// One thing that is not the same in all runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is about.
    pub aspect: Aspect,
    /// Its name, or its path in the specification.
    pub name: String,
    /// The value of each run.
    pub values: Vec<Option<String>>,
}

/// The differences, and whether there are more than these.
pub fn differences(runs: &[Compared]) -> (Vec<Difference>, bool) {
    let mut all: Vec<BTreeMap<(Aspect, String), String>> = Vec::new();
    let same_spec = runs.windows(2).all(|pair| pair[0].spec == pair[1].spec);
    for run in runs {
        let mut facts = BTreeMap::new();
        for (name, value) in &run.parameters {
            facts.insert((Aspect::Parameter, name.clone()), text_form(value));
        }
        for (name, value) in &run.metrics {
            facts.insert((Aspect::Metric, name.clone()), value.to_string());
        }
        if !same_spec {
            specification(&run.spec, &mut facts);
        }
        all.push(facts);
    }
    let keys: BTreeSet<&(Aspect, String)> = all.iter().flat_map(BTreeMap::keys).collect();
    let differ = |key: &&(Aspect, String)| {
        all.windows(2)
            .any(|pair| pair[0].get(*key) != pair[1].get(*key))
    };
    let mut found = keys.into_iter().filter(differ);
    let listed: Vec<Difference> = found
        .by_ref()
        .take(MAX_DIFFERENCES)
        .map(|key| {
            let max = if key.0 == Aspect::Code {
                MAX_CODE
            } else {
                MAX_TEXT
            };
            let values = all.iter().map(|facts| facts.get(key));
            Difference {
                aspect: key.0,
                name: key.1.clone(),
                values: values
                    .map(|value| value.map(|text| shortened(text, max)))
                    .collect(),
            }
        })
        .collect();
    (listed, found.next().is_some())
}

/// The leaves of a specification by their paths; what programs run, as code.
fn specification(spec: &Value, facts: &mut BTreeMap<(Aspect, String), String>) {
    let (document, platform) = match spec.get("pipeline_spec") {
        Some(inner) => (inner, spec.get("platform_spec")),
        None => (spec, None),
    };
    for (name, part) in document.as_object().into_iter().flatten() {
        if name == "deploymentSpec" {
            deployment(part, facts);
        } else {
            leaves(name, part, facts);
        }
    }
    if let Some(platform) = platform {
        leaves("platform_spec", platform, facts);
    }
}

fn deployment(deployment: &Value, facts: &mut BTreeMap<(Aspect, String), String>) {
    for (name, part) in deployment.as_object().into_iter().flatten() {
        if name != "executors" {
            leaves(&format!("deploymentSpec.{name}"), part, facts);
            continue;
        }
        for (label, executor) in part.as_object().into_iter().flatten() {
            let component = label.strip_prefix("exec-").unwrap_or(label);
            let mut rest = executor.clone();
            if let Some(container) = rest.get_mut("container").and_then(Value::as_object_mut) {
                let words = ["command", "args"].map(|key| container.remove(key));
                let texts: Vec<&str> = words
                    .iter()
                    .flatten()
                    .filter_map(Value::as_array)
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                facts.insert((Aspect::Code, component.to_owned()), texts.join("\n"));
            }
            leaves(&format!("deploymentSpec.executors.{label}"), &rest, facts);
        }
    }
}

fn leaves(path: &str, value: &Value, facts: &mut BTreeMap<(Aspect, String), String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, inner) in map {
                leaves(&format!("{path}.{name}"), inner, facts);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, inner) in items.iter().enumerate() {
                leaves(&format!("{path}[{index}]"), inner, facts);
            }
        }
        leaf => {
            facts.insert((Aspect::Spec, path.to_owned()), text_form(leaf));
        }
    }
}

fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(lr: f64, acc: f64, code: &str, image: &str) -> Compared {
        let spec = json!({
            "pipelineInfo": {"name": "p"},
            "deploymentSpec": {"executors": {"exec-train": {"container": {
                "image": image, "command": ["python3", "-c"], "args": [code],
            }}}},
        });
        Compared {
            parameters: json!({"lr": lr, "epochs": 3}).as_object().unwrap().clone(),
            metrics: [("accuracy".to_owned(), acc)].into(),
            spec,
        }
    }

    #[test]
    fn only_what_differs_is_listed() {
        let a = run(0.1, 0.8, "print(1)", "python:3.11");
        let same = differences(&[a.clone(), a.clone(), a.clone()]);
        assert_eq!(same, (Vec::new(), false));
        let mut b = run(0.2, 0.9, "print(2)", "python:3.12");
        b.metrics.insert("loss".to_owned(), 0.5);
        let (found, more) = differences(&[a, b]);
        let names: Vec<(Aspect, &str)> = found
            .iter()
            .map(|one| (one.aspect, one.name.as_str()))
            .collect();
        let image = "deploymentSpec.executors.exec-train.container.image";
        let expected = [
            (Aspect::Parameter, "lr"),
            (Aspect::Metric, "accuracy"),
            (Aspect::Metric, "loss"),
            (Aspect::Code, "train"),
            (Aspect::Spec, image),
        ];
        assert_eq!((names.as_slice(), more), (expected.as_slice(), false));
        assert_eq!(found[2].values, [None, Some("0.5".to_owned())]);
        assert_eq!(found[3].values[1].as_deref(), Some("python3\n-c\nprint(2)"));
    }

    #[test]
    fn a_long_list_says_that_it_is_cut() {
        let many = |value: i64| Compared {
            parameters: (0..600).map(|n| (format!("p{n}"), json!(value))).collect(),
            ..Compared::default()
        };
        let (found, more) = differences(&[many(1), many(2)]);
        assert_eq!((found.len(), more), (MAX_DIFFERENCES, true));
    }
}
