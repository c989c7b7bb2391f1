//! In what runs differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pipeline_spec::text_form;
use serde_json::{Map, Value};

/// Differences that are listed.
const MAX_DIFFERENCES: usize = 500;
/// Bytes of all that is listed, so that the answer fits into a message.
const MAX_BYTES: usize = 2 << 20;
/// Characters of a value, or of a name; source code may be longer.
const MAX_TEXT: usize = 2_000;
const MAX_CODE: usize = 32_000;

/// What is compared of a run.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// Its parameters, with defaults.
    pub parameters: Map<String, Value>,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
    /// The specification that it executes; runs of the same one share it.
    pub spec: Arc<Value>,
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
    let mut list = List::default();
    let parameters: Vec<&Map<String, Value>> = runs.iter().map(|run| &run.parameters).collect();
    for name in names(parameters.iter().map(|map| map.keys())) {
        let values = parameters.iter().map(|map| map.get(name).map(text_form));
        list.add(Aspect::Parameter, name, values);
    }
    for name in names(runs.iter().map(|run| run.metrics.keys())) {
        let values = runs.iter().map(|run| run.metrics.get(name));
        list.add(Aspect::Metric, name, values.map(|v| v.map(f64::to_string)));
    }
    let first = runs.first().map(|run| &run.spec);
    let same = |run: &Compared| {
        first.is_some_and(|first| Arc::ptr_eq(first, &run.spec) || *first == run.spec)
    };
    if !runs.iter().all(same) {
        let specs: Vec<Option<&Value>> = runs.iter().map(|run| Some(&*run.spec)).collect();
        specification(&specs, &mut list);
    }
    (list.found, list.more)
}

/// What was found, as much of it as is listed.
#[derive(Debug, Default)]
struct List {
    found: Vec<Difference>,
    bytes: usize,
    more: bool,
}

impl List {
    /// Takes in what the runs have for a name, unless it is the same in all.
    fn add(
        &mut self,
        aspect: Aspect,
        name: &str,
        values: impl Iterator<Item = Option<String>> + Clone,
    ) {
        let mut others = values.clone();
        let first = others.next();
        if self.more || others.all(|other| first.as_ref() == Some(&other)) {
            return;
        }
        let max = match aspect {
            Aspect::Code => MAX_CODE,
            Aspect::Parameter | Aspect::Metric | Aspect::Spec => MAX_TEXT,
        };
        let difference = Difference {
            aspect,
            name: shortened(name, MAX_TEXT),
            values: values
                .map(|value| value.map(|text| shortened(&text, max)))
                .collect(),
        };
        let texts = difference.values.iter().flatten().map(String::len);
        let bytes = difference.name.len() + texts.sum::<usize>();
        if self.found.len() >= MAX_DIFFERENCES || self.bytes + bytes > MAX_BYTES {
            self.more = true;
            return;
        }
        self.bytes += bytes;
        self.found.push(difference);
    }
}

fn names<'a, I>(of_runs: impl Iterator<Item = I>) -> BTreeSet<&'a String>
where
    I: Iterator<Item = &'a String>,
{
    of_runs.flatten().collect()
}

/// A part of the specification of each run; none where a run does not have it.
type Parts<'a> = Vec<Option<&'a Value>>;

fn part<'a>(parts: &[Option<&'a Value>], name: &str) -> Parts<'a> {
    let inner = parts.iter().map(|part| part.and_then(|one| one.get(name)));
    inner.collect()
}

fn keys<'a>(parts: &[Option<&'a Value>]) -> BTreeSet<&'a String> {
    let objects = parts.iter().flatten().filter_map(|part| part.as_object());
    objects.flat_map(Map::keys).collect()
}

/// What programs run, as code, then the leaves of a specification by their paths. All runs are walked through together,
/// so what is the same takes no memory.
fn specification(specs: &[Option<&Value>], list: &mut List) {
    let wrapped = |spec: &Option<&'_ Value>| spec.is_some_and(|s| s.get("pipeline_spec").is_some());
    let documents: Parts<'_> = specs
        .iter()
        .map(|spec| spec.map(|spec| spec.get("pipeline_spec").unwrap_or(spec)))
        .collect();
    let platforms: Parts<'_> = specs
        .iter()
        .map(|spec| match wrapped(spec) {
            true => spec.and_then(|spec| spec.get("platform_spec")),
            false => None,
        })
        .collect();
    let executors = part(&part(&documents, "deploymentSpec"), "executors");
    for label in keys(&executors) {
        let containers = part(&part(&executors, label), "container");
        let component = label.strip_prefix("exec-").unwrap_or(label);
        list.add(Aspect::Code, component, containers.iter().map(code));
    }
    for name in keys(&documents) {
        let parts = part(&documents, name);
        match name.as_str() {
            "deploymentSpec" => deployment(&parts, list),
            _ => leaves(&mut name.clone(), &parts, list),
        }
    }
    leaves(&mut "platform_spec".to_owned(), &platforms, list);
}

/// What is deployed, without what is shown as code.
fn deployment(deployments: &[Option<&Value>], list: &mut List) {
    for name in keys(deployments) {
        let parts = part(deployments, name);
        let path = format!("deploymentSpec.{name}");
        if name != "executors" {
            leaves(&mut path.clone(), &parts, list);
            continue;
        }
        for label in keys(&parts) {
            let executors = part(&parts, label);
            for name in keys(&executors) {
                let inner = part(&executors, name);
                let path = format!("{path}.{label}.{name}");
                if name != "container" {
                    leaves(&mut path.clone(), &inner, list);
                    continue;
                }
                let shown = |name: &&String| name.as_str() != "command" && name.as_str() != "args";
                for name in keys(&inner).into_iter().filter(shown) {
                    leaves(&mut format!("{path}.{name}"), &part(&inner, name), list);
                }
            }
        }
    }
}

/// What a program runs.
fn code(container: &Option<&Value>) -> Option<String> {
    let container = container.and_then(Value::as_object)?;
    let words = ["command", "args"].map(|key| container.get(key));
    let texts = words.into_iter().flatten().filter_map(Value::as_array);
    let texts: Vec<&str> = texts.flatten().filter_map(Value::as_str).collect();
    Some(texts.join("\n"))
}

fn leaves(path: &mut String, parts: &[Option<&Value>], list: &mut List) {
    if list.more || parts.iter().all(Option::is_none) {
        return;
    }
    let length = path.len();
    let leaf = |part: &Option<&Value>| part.filter(|value| is_leaf(value)).map(text_form);
    list.add(Aspect::Spec, path, parts.iter().map(leaf));
    for name in keys(parts) {
        path.push('.');
        path.push_str(name);
        leaves(path, &part(parts, name), list);
        path.truncate(length);
    }
    let arrays = parts.iter().flatten().filter_map(|part| part.as_array());
    for index in 0..arrays.map(Vec::len).max().unwrap_or(0) {
        let inner = parts.iter().map(|part| part.and_then(|one| one.get(index)));
        let inner: Parts<'_> = inner.collect();
        path.push_str(&format!("[{index}]"));
        leaves(path, &inner, list);
        path.truncate(length);
    }
}

/// Whether a value has nothing inside.
fn is_leaf(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
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
            spec: Arc::new(spec),
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

    #[test]
    fn a_list_of_large_values_is_cut_by_its_bytes() {
        let code = |text: char| {
            let one =
                json!({"container": {"image": "i", "args": [text.to_string().repeat(30_000)]}});
            let all: Map<String, Value> = (0..200)
                .map(|n| (format!("exec-{n}"), one.clone()))
                .collect();
            Compared {
                spec: Arc::new(json!({"deploymentSpec": {"executors": all}})),
                ..Compared::default()
            }
        };
        let (found, more) = differences(&[code('a'), code('b')]);
        assert!(
            more && !found.is_empty() && found.len() < 200,
            "{}",
            found.len()
        );
        let texts = found.iter().flat_map(|one| one.values.iter().flatten());
        assert!(texts.map(String::len).sum::<usize>() <= MAX_BYTES);
    }

    #[test]
    fn parts_of_other_kinds_are_told_by_their_paths() {
        let spec = |root: Value| Compared {
            spec: Arc::new(json!({"root": root})),
            ..Compared::default()
        };
        let (found, more) = differences(&[
            spec(json!({"a": {"b": 1, "c": 2}})),
            spec(json!({"a": [1, {"d": 2}]})),
            spec(json!({"a": {"b": 1}})),
        ]);
        let told: Vec<(&str, Vec<Option<&str>>)> = found
            .iter()
            .map(|one| {
                (
                    one.name.as_str(),
                    one.values.iter().map(Option::as_deref).collect(),
                )
            })
            .collect();
        let expected = [
            ("root.a.b", vec![Some("1"), None, Some("1")]),
            ("root.a.c", vec![Some("2"), None, None]),
            ("root.a[0]", vec![None, Some("1"), None]),
            ("root.a[1].d", vec![None, Some("2"), None]),
        ];
        assert_eq!((told.as_slice(), more), (expected.as_slice(), false));
    }
}
