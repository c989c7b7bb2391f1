//! Templates that make or remove a volume: the one kind of object of a cluster that has a counterpart.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Lowering;
use super::read::{Node, scalar};
use super::template::Template;
use crate::plan::{Body, Component, Container, Files, OutputFile, ParameterType, Resources};
use crate::yaml;

/// The kind of object that is made, as Kubernetes calls it.
const CLAIM: &str = "PersistentVolumeClaim";
/// How `kubectl` may call the same.
const NAMES: [&str; 4] = [
    "persistentvolumeclaim",
    "persistentvolumeclaims",
    "pvc",
    "pvcs",
];
/// Marks of tasks that no program runs for, as the newer SDK has them.
const CREATE: &str = "argostub/createpvc";
const DELETE: &str = "argostub/deletepvc";

impl Lowering<'_> {
    /// The component and the executor of a template that changes an object of a cluster.
    pub(super) fn volume(&mut self, template: &Template<'_>) {
        let node = template.node.node("resource");
        node.only(
            &["action", "manifest"],
            &[
                "failureCondition",
                "flags",
                "mergeStrategy",
                "setOwnerReference",
                "successCondition",
            ],
        );
        let at = node.place("manifest");
        let text = node.text("manifest").unwrap_or_default();
        let Some(documents) = self.faults.keep(&at, yaml::read(&text)) else {
            return;
        };
        let [document] = &documents[..] else {
            self.faults.add(&at, "must be one object");
            return;
        };
        let manifest = Node::new(at, document, self.faults);
        let action = node.required("action");
        let kind = manifest.text("kind").unwrap_or_default();
        match (action.as_str(), kind.as_str()) {
            ("create", CLAIM) => self.create(template, &manifest, document),
            ("delete", CLAIM) => {
                let name = manifest.node("metadata").required("name");
                self.delete(template, &manifest.place("metadata.name"), &name);
            }
            _ => {
                let message = format!(
                    "template `{}` is a `resource` of Argo that would {action} a `{kind}` of a cluster, which is not \
                     supported; create and delete a {CLAIM} are",
                    template.name
                );
                template.node.fault("resource", message);
            }
        }
    }

    fn create(&mut self, template: &Template<'_>, manifest: &Node<'_>, document: &Value) {
        let metadata = manifest.node("metadata");
        let spec = manifest.node("spec");
        if spec.has("dataSource") || spec.has("dataSourceRef") {
            spec.fault(
                "dataSource",
                "`dataSource` of a volume is not supported; volumes are empty when they are made",
            );
        }
        let fill =
            |node: &Node<'_>, key: &str, text: &str| self.render(template, &node.place(key), text);
        let name = match metadata.text("generateName") {
            Some(start) if !metadata.has("name") => {
                let end = "{{$.pipeline_job_uuid}}-{{$.pipeline_task_uuid}}";
                format!("{}{end}", fill(&metadata, "generateName", &start))
            }
            _ => fill(&metadata, "name", &metadata.required("name")),
        };
        let size = spec.node("resources").node("requests").text("storage");
        let size = fill(&spec, "resources", &size.unwrap_or_default());
        let class = spec.text("storageClassName").unwrap_or_default();
        let claim = json!({"createPvc": {
            "pvcName": name,
            "size": size,
            "accessModes": spec.texts("accessModes"),
            "storageClassName": fill(&spec, "storageClassName", &class),
        }});
        // What the object would look like once it is there.
        let mut made = self.filled_texts(template, &manifest.at, document);
        made["metadata"]["name"] = name.into();
        made["status"] = json!({
            "phase": "Bound",
            "accessModes": spec.texts("accessModes"),
            "capacity": {"storage": size},
        });
        let outputs = self.results(template, &made);
        self.insert(template, CREATE, claim, outputs);
    }

    fn delete(&mut self, template: &Template<'_>, at: &str, name: &str) {
        let name = self.render(template, at, name);
        let claim = json!({"deletePvc": {"constant": name}});
        self.insert(template, DELETE, claim, Vec::new());
    }

    /// Whether a program is the SDK's own way to remove a volume, by `kubectl`, which is carried out without it.
    pub(super) fn deletes_volume(&mut self, template: &Template<'_>, node: &Node<'_>) -> bool {
        let words = [node.texts("command"), node.texts("args")].concat();
        let [program, verb, kind, name, options @ ..] = &words[..] else {
            return false;
        };
        let claim = NAMES.contains(&kind.to_ascii_lowercase().as_str());
        let plain = options.first().is_none_or(|word| word.starts_with('-'));
        if program != "kubectl" || verb != "delete" || !claim || !plain {
            return false;
        }
        self.delete(template, &node.place("command"), name);
        true
    }

    fn filled_texts(&self, template: &Template<'_>, at: &str, value: &Value) -> Value {
        match value {
            Value::String(text) => self.render(template, at, text).into(),
            Value::Array(items) => items
                .iter()
                .map(|item| self.filled_texts(template, at, item))
                .collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(key, field)| (key.clone(), self.filled_texts(template, at, field)))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    /// The outputs of the template: parts of the object. They are known before it is made.
    fn results(&self, template: &Template<'_>, made: &Value) -> Vec<OutputFile> {
        let mut results = Vec::new();
        for output in template.node.node("outputs").nodes("parameters") {
            output.only(&["name", "valueFrom"], &[]);
            let from = output.node("valueFrom");
            from.only(&["default", "jsonPath"], &[]);
            let path = from.required("jsonPath");
            let text = match part(made, &path) {
                Some(found) => scalar(found).unwrap_or_else(|| found.to_string()),
                None => match from.text("default") {
                    Some(text) => text,
                    None => {
                        let message = format!("`{path}` names nothing that a volume has here");
                        from.fault("jsonPath", message);
                        continue;
                    }
                },
            };
            results.push(OutputFile {
                path: String::new(),
                parameter: output.required("name"),
                artifact: String::new(),
                default: Some(text),
                optional: false,
            });
        }
        results
    }

    fn insert(
        &mut self,
        template: &Template<'_>,
        image: &str,
        platform: Value,
        outputs: Vec<OutputFile>,
    ) {
        let names = outputs.iter().map(|output| output.parameter.clone());
        let component = Component {
            input_parameters: self.input_parameters(template),
            input_artifacts: BTreeMap::new(),
            output_parameters: names.map(|name| (name, ParameterType::String)).collect(),
            output_artifacts: BTreeMap::new(),
            body: Body::Executor(String::new()),
        };
        let container = Container {
            image: image.to_owned(),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            resources: Resources::default(),
            platform,
            files: Files {
                inputs: Vec::new(),
                outputs,
            },
        };
        self.install(template, component, container);
    }
}

/// What a path such as `{.metadata.name}` names; `{}` is the whole.
fn part<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    let path = path.trim();
    let inner = path
        .strip_prefix('{')
        .and_then(|path| path.strip_suffix('}'))
        .unwrap_or(path);
    let mut found = value;
    for key in inner.split('.').skip(1) {
        found = match key.split_once('[') {
            None => found.get(key)?,
            Some((key, index)) => {
                let index: usize = index.strip_suffix(']')?.parse().ok()?;
                found.get(key)?.get(index)?
            }
        };
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_parts_of_an_object() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"accessModes": ["x", "y"]}});
        for (path, want) in [
            ("{}", Some(&object)),
            ("{.metadata.name}", Some(&object["metadata"]["name"])),
            (".metadata.name", Some(&object["metadata"]["name"])),
            (
                "{.spec.accessModes[1]}",
                Some(&object["spec"]["accessModes"][1]),
            ),
            ("{.spec.none}", None),
            ("{.spec.accessModes[2]}", None),
        ] {
            assert_eq!(part(&object, path), want, "{path}");
        }
    }
}
