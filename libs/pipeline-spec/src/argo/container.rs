//! Templates that run a program.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::read::Node;
use super::template::Template;
use super::text::{Part, Reference, raw_input};
use super::{Lowering, artifact_type};
use crate::plan::{
    Body, Component, Container, Executor, FileSource, Files, InputArtifact, InputFile,
    OutputArtifact, OutputFile, ParameterType, Resources,
};

/// Where the source of a script lies.
const SCRIPT: &str = "/argo/staging/script";
/// Where output parameters lie that do not come from the program.
const VALUES: &str = "/argo/values";

/// Where programs share memory, for which pods need a volume.
const SHARED_MEMORY: &str = "/dev/shm";

/// How the SDK writes the places of artifacts, which its own back end does not fill either.
const URIS: [&str; 2] = ["{{$.inputs.artifacts[", "{{$.outputs.artifacts["];

/// Annotations of the SDK that hold whole documents, for its own tools.
const LONG_NOTES: [&str; 3] = [
    "pipelines.kubeflow.org/arguments.parameters",
    "pipelines.kubeflow.org/component_ref",
    "pipelines.kubeflow.org/component_spec",
];

const WITHOUT_EFFECT: [&str; 12] = [
    "imagePullPolicy",
    "livenessProbe",
    "mirrorVolumeMounts",
    "name",
    "ports",
    "readinessProbe",
    "securityContext",
    "startupProbe",
    "stdin",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
];

impl Lowering<'_> {
    /// The component and the executor of a template with a program.
    pub(super) fn program(&mut self, template: &Template<'_>) {
        let script = template.node.has("script");
        let node = template
            .node
            .node(if script { "script" } else { "container" });
        node.only(
            &[
                "args",
                "command",
                "env",
                "envFrom",
                "image",
                "resources",
                "source",
                "volumeMounts",
            ],
            &WITHOUT_EFFECT,
        );
        if self.deletes_volume(template, &node) {
            return;
        }
        let mut files = Files::default();
        let mut args = self.texts_of(template, &node, "args");
        if script {
            let text = self.render(template, &node.place("source"), &node.required("source"));
            files.inputs.push(InputFile {
                path: SCRIPT.to_owned(),
                source: FileSource::Text(text),
            });
            args.push(SCRIPT.to_owned());
        }
        let component = self.interface(template, &mut files);
        let image = self.render(template, &node.place("image"), &node.required("image"));
        let mut platform = self.platform(template);
        let env = self.environment(template, &node, &mut platform);
        self.mounts(template, &node, &mut platform);
        let container = Container {
            image,
            command: self.texts_of(template, &node, "command"),
            args,
            env,
            resources: self.resources(template, &node),
            platform: if platform.is_empty() {
                Value::Null
            } else {
                Value::Object(platform)
            },
            files,
        };
        self.install(template, component, container);
    }

    /// Puts a component of one program into the plan.
    pub(super) fn install(
        &mut self,
        template: &Template<'_>,
        mut component: Component,
        container: Container,
    ) {
        let label = format!("exec-{}", template.name);
        component.body = Body::Executor(label.clone());
        let executor = Executor::Container(container);
        self.plan.executors.insert(label, executor);
        let name = template.name.clone();
        self.plan.components.insert(name, component);
    }

    /// What a program takes and gives.
    fn interface(&self, template: &Template<'_>, files: &mut Files) -> Component {
        let mut component = Component {
            input_parameters: self.input_parameters(template),
            input_artifacts: BTreeMap::new(),
            output_parameters: BTreeMap::new(),
            output_artifacts: BTreeMap::new(),
            body: Body::Executor(String::new()),
        };
        for input in template.node.node("inputs").nodes("artifacts") {
            let name = input.required("name");
            let path = self.path(&input);
            input.only(&["name", "optional", "path", "raw"], &["archive", "mode"]);
            let source = match input.has("raw") {
                true => {
                    let raw = input.node("raw");
                    let data = raw.text("data").unwrap_or_default();
                    FileSource::Text(self.render(template, &raw.place("data"), &data))
                }
                false => {
                    let declared = InputArtifact {
                        artifact_type: artifact_type(""),
                        list: false,
                        optional: self.raw || input.get("optional") == Some(&Value::Bool(true)),
                    };
                    component.input_artifacts.insert(name.clone(), declared);
                    FileSource::Artifact {
                        parameter: raw_input(&name),
                        name,
                    }
                }
            };
            files.inputs.push(InputFile { path, source });
        }
        self.outputs(template, &mut component, files);
        component
    }

    fn outputs(&self, template: &Template<'_>, component: &mut Component, files: &mut Files) {
        let outputs = template.node.node("outputs");
        outputs.only(&["artifacts", "parameters"], &[]);
        for output in outputs.nodes("parameters") {
            let name = output.required("name");
            output.only(
                &["name", "value", "valueFrom"],
                &["description", "globalName"],
            );
            if let Some(text) = output.text("value") {
                // A value that is known beforehand is a file like any other, written before the program starts.
                let path = format!("{VALUES}/{name}");
                let text = self.render(template, &output.place("value"), &text);
                files.inputs.push(InputFile {
                    path: path.clone(),
                    source: FileSource::Text(text),
                });
                files.outputs.push(OutputFile {
                    path,
                    parameter: name.clone(),
                    artifact: String::new(),
                    default: None,
                    optional: false,
                });
                component
                    .output_parameters
                    .insert(name, ParameterType::String);
                continue;
            }
            let from = output.node("valueFrom");
            from.only(&["default", "path"], &[]);
            files.outputs.push(OutputFile {
                path: self.path(&from),
                parameter: name.clone(),
                artifact: String::new(),
                default: from.text("default"),
                optional: false,
            });
            component
                .output_parameters
                .insert(name, ParameterType::String);
        }
        for output in outputs.nodes("artifacts") {
            let name = output.required("name");
            output.only(
                &["name", "optional", "path"],
                &["archive", "archiveLogs", "artifactGC", "mode", "s3", "gcs"],
            );
            // These two are there for the page only, so a program may leave them out.
            let shown = name.contains("mlpipeline-");
            files.outputs.push(OutputFile {
                path: self.path(&output),
                parameter: String::new(),
                artifact: name.clone(),
                default: None,
                optional: shown || output.get("optional") == Some(&Value::Bool(true)),
            });
            let declared = OutputArtifact {
                artifact_type: artifact_type(&name),
                list: false,
                metadata: Value::Object(Map::new()),
            };
            component.output_artifacts.insert(name, declared);
        }
    }

    fn path(&self, node: &Node<'_>) -> String {
        let path = node.required("path");
        if !path.is_empty() && (!path.starts_with('/') || path.split('/').any(|part| part == ".."))
        {
            node.fault("path", "must be an absolute path without `..`");
        }
        path
    }

    fn texts_of(&self, template: &Template<'_>, node: &Node<'_>, key: &str) -> Vec<String> {
        let texts = node.texts(key).into_iter().enumerate();
        texts
            .map(|(index, text)| {
                self.render(template, &node.place(&format!("{key}[{index}]")), &text)
            })
            .collect()
    }

    /// A text of a program with the placeholders of the executor contract.
    pub(super) fn render(&self, template: &Template<'_>, at: &str, text: &str) -> String {
        let Some(parts) = self.faults.keep(at, self.facts.parse(text)) else {
            return String::new();
        };
        let mut rendered = String::new();
        for part in parts {
            let found = match &part {
                Part::Text(text) => {
                    if let Some(uri) = URIS.iter().find(|uri| text.contains(**uri)) {
                        let message = format!(
                            "`{uri}` is not supported, so `inputUri` and `outputUri` of components are \
                             not; use `inputPath` and `outputPath`"
                        );
                        self.faults.add(at, message);
                    }
                    Some(text.clone())
                }
                Part::Reference(Reference::Context(name)) => Some(format!("{{{{$.{name}}}}}")),
                Part::Reference(
                    reference @ (Reference::InputPath(_)
                    | Reference::OutputArtifactPath(_)
                    | Reference::OutputParameterPath(_)),
                ) => template.paths.get(reference).cloned(),
                Part::Reference(Reference::Input(name)) => {
                    template.inputs.contains(name).then(|| placeholder(name))
                }
                Part::Reference(
                    reference @ (Reference::Global(_)
                    | Reference::Parameters
                    | Reference::Status
                    | Reference::Failures),
                ) => Some(placeholder(&reference.channel())),
                Part::Reference(_) => None,
            };
            match (found, part) {
                (Some(text), _) => rendered.push_str(&text),
                (None, Part::Reference(reference)) => {
                    let name = reference.channel();
                    self.faults
                        .add(at, format!("{{{{{name}}}}} is not known here"));
                }
                (None, Part::Text(_)) => {}
            }
        }
        rendered
    }

    /// Volumes that have a counterpart among the settings of kfp-kubernetes.
    fn mounts(&self, template: &Template<'_>, node: &Node<'_>, platform: &mut Map<String, Value>) {
        let own = by_name(template.node.nodes("volumes"));
        for mount in node.nodes("volumeMounts") {
            mount.only(&["mountPath", "name", "subPath"], &["readOnly"]);
            let (name, path) = (mount.required("name"), mount.required("mountPath"));
            let Some(volume) = own.get(&name).or_else(|| self.volumes.get(&name)) else {
                mount.fault("name", format!("there is no volume `{name}`"));
                continue;
            };
            volume.only(
                &[
                    "configMap",
                    "emptyDir",
                    "name",
                    "persistentVolumeClaim",
                    "secret",
                ],
                &[],
            );
            if mount.has("subPath") && !volume.has("persistentVolumeClaim") {
                mount.fault("subPath", "is supported for volume claims only");
            }
            if volume.has("secret") {
                let secret = volume.node("secret");
                secret.only(&["optional", "secretName"], &["defaultMode"]);
                let entry = json!({
                    "secretName": secret.required("secretName"),
                    "mountPath": path,
                    "optional": secret.get("optional") == Some(&Value::Bool(true)),
                });
                push(platform, "secretAsVolume", entry);
            } else if volume.has("configMap") {
                let config = volume.node("configMap");
                config.only(&["name", "optional"], &["defaultMode"]);
                let entry = json!({
                    "configMapName": config.required("name"),
                    "mountPath": path,
                    "optional": config.get("optional") == Some(&Value::Bool(true)),
                });
                push(platform, "configMapAsVolume", entry);
            } else if volume.has("persistentVolumeClaim") {
                let claim = volume.node("persistentVolumeClaim");
                let at = claim.place("claimName");
                let claim = self.render(template, &at, &claim.required("claimName"));
                let mut entry = json!({"mountPath": path});
                entry["pvcNameParameter"] = json!({"runtimeValue": {"constant": claim}});
                if let Some(sub) = mount.text("subPath") {
                    let at = mount.place("subPath");
                    entry["subPath"] = self.render(template, &at, &sub).into();
                }
                push(platform, "pvcMount", entry);
            } else if volume.has("emptyDir") && path == SHARED_MEMORY {
                // Programs of one machine have it.
                let setting = json!({"volumeName": name});
                platform.insert("enabledSharedMemory".to_owned(), setting);
            } else if volume.has("emptyDir") {
                push(
                    platform,
                    "emptyDirMounts",
                    json!({"volumeName": name, "mountPath": path}),
                );
            }
        }
    }

    /// Quantities; the SDK writes those that are only known to the run into a patch of the pod.
    fn resources(&self, template: &Template<'_>, program: &Node<'_>) -> Resources {
        let mut found = Resources::default();
        self.quantities(template, &program.node("resources"), &mut found);
        let patch = template.node.text("podSpecPatch").unwrap_or_default();
        let at = template.node.place("podSpecPatch");
        if patch.is_empty() {
            return found;
        }
        let read = serde_json::from_str::<Value>(&patch).map_err(|error| error.to_string());
        let Some(patch) = self.faults.keep(&at, read) else {
            return found;
        };
        for container in Node::new(at, &patch, self.faults).nodes("containers") {
            if container.name() == "main" {
                self.quantities(template, &container.node("resources"), &mut found);
            }
        }
        found
    }

    fn quantities(&self, template: &Template<'_>, node: &Node<'_>, resources: &mut Resources) {
        node.only(&["limits", "requests"], &[]);
        for (kind, requests) in [("limits", false), ("requests", true)] {
            for (name, quantity) in node.pairs(kind) {
                let quantity = self.render(template, &node.place(kind), &quantity);
                match (name.as_str(), requests) {
                    ("cpu", true) => resources.cpu_request = quantity,
                    ("cpu", false) => resources.cpu_limit = quantity,
                    ("memory", true) => resources.memory_request = quantity,
                    ("memory", false) => resources.memory_limit = quantity,
                    (device, false) if device.contains('/') => {
                        name.clone_into(&mut resources.accelerator_type);
                        resources.accelerator_count = quantity;
                    }
                    // Storage is not counted, and devices are asked for by their limit.
                    _ => {}
                }
            }
        }
    }

    /// What the template says about the machine, in the terms of kfp-kubernetes.
    fn platform(&self, template: &Template<'_>) -> Map<String, Value> {
        let node = &template.node;
        let mut platform = Map::new();
        if let Some(seconds) = node.number("activeDeadlineSeconds") {
            platform.insert(
                "activeDeadlineSeconds".to_owned(),
                seconds.to_string().into(),
            );
        }
        let labels = node.pairs("nodeSelector");
        if !labels.is_empty() {
            let labels: Map<String, Value> = labels
                .into_iter()
                .map(|(key, text)| (key, text.into()))
                .collect();
            platform.insert("nodeSelector".to_owned(), json!({ "labels": labels }));
        }
        let metadata = node.node("metadata");
        let mut notes = Map::new();
        for kind in ["labels", "annotations"] {
            let pairs = metadata.pairs(kind).into_iter();
            let pairs = pairs.filter(|(key, _)| !LONG_NOTES.contains(&key.as_str()));
            let pairs = pairs.map(|(key, text)| {
                let text = self.render(template, &metadata.place(kind), &text);
                (key, text.into())
            });
            let pairs: Map<String, Value> = pairs.collect();
            if !pairs.is_empty() {
                notes.insert(kind.to_owned(), Value::Object(pairs));
            }
        }
        if !notes.is_empty() {
            platform.insert("podMetadata".to_owned(), Value::Object(notes));
        }
        if node.has("tolerations") {
            platform.insert(
                "tolerations".to_owned(),
                Value::Array(node.items("tolerations").to_vec()),
            );
        }
        platform
    }
}

/// Volumes by name; of two, the first.
pub(super) fn by_name(volumes: Vec<Node<'_>>) -> BTreeMap<String, Node<'_>> {
    let mut found = BTreeMap::new();
    for volume in volumes {
        if let Some(name) = volume.text("name") {
            found.entry(name).or_insert(volume);
        }
    }
    found
}

pub(super) fn push(platform: &mut Map<String, Value>, key: &str, entry: Value) {
    let list = platform
        .entry(key)
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(entry);
    }
}

/// The placeholder of an input.
pub(super) fn placeholder(name: &str) -> String {
    format!("{{{{$.inputs.parameters['{name}']}}}}")
}
