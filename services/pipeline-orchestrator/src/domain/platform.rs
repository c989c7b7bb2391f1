//! The Kubernetes settings of a task: what of them means something on this machine, with names filled from values.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_spec::plan::{Container, ParameterSource, ParameterValue};
use pipeline_spec::text_form;
use serde_json::{Map, Value};

use super::model::{Inputs, Task};
use super::placeholder::{self, Placeholder};
use super::resolve::{self, Unresolved};
use super::state::RunState;

/// Images by which the SDK marks tasks that no container runs.
const CREATE_VOLUME: &str = "argostub/createpvc";
const DELETE_VOLUME: &str = "argostub/deletepvc";

/// Where programs see the workspace, as the SDK has it.
pub const WORKSPACE: &str = "/kfp-workspace";

/// What a task asks of the platform.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Platform {
    /// Directories at paths of their own.
    pub mounts: Vec<PlatformMount>,
    /// Variables whose values the runner looks up.
    pub env: Vec<PlatformVariable>,
    /// How long the program may run, in seconds; 0 for no limit.
    pub timeout_seconds: u64,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Settings without effect on one machine, as they were asked.
    pub ignored: Map<String, Value>,
    /// What is done with a volume in place of a program; everything else is empty then.
    pub volume_task: Option<PlatformVolumeTask>,
}

impl Platform {
    /// The names of the mounted volumes.
    pub(super) fn volumes(&self) -> BTreeSet<String> {
        let name = |mount: &PlatformMount| match &mount.source {
            MountSource::Volume { name, .. } => Some(name.clone()),
            _ => None,
        };
        self.mounts.iter().filter_map(name).collect()
    }
}

/// A directory at a path of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct PlatformMount {
    /// The path.
    pub path: String,
    /// What is there.
    pub source: MountSource,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq)]
pub enum MountSource {
    /// A volume, or a directory in it.
    Volume {
        /// Its name.
        name: String,
        /// The directory; empty for all of it.
        sub_path: String,
    },
    /// An empty directory.
    Scratch {
        /// Its name within the task.
        name: String,
        /// How much it may hold; empty for no limit.
        size: String,
    },
    /// A secret.
    Secret {
        /// Its name.
        name: String,
        /// Whether it need not exist.
        optional: bool,
    },
    /// A config map.
    ConfigMap {
        /// Its name.
        name: String,
        /// Whether it need not exist.
        optional: bool,
    },
    /// The workspace of the run.
    Workspace {
        /// How much it may hold; empty for no limit.
        size: String,
    },
}

/// A variable whose value the runner looks up.
#[derive(Debug, Clone, PartialEq)]
pub struct PlatformVariable {
    /// The variable; for all keys of a source, the beginning of their names.
    pub name: String,
    /// Where the value comes from.
    pub source: VariableSource,
}

/// Where the value of a variable comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum VariableSource {
    /// A key of a secret.
    Secret(KeyOf),
    /// A key of a config map.
    ConfigMap(KeyOf),
    /// A field of the pod.
    Field(String),
}

/// A key of a secret or config map.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyOf {
    /// The secret or config map.
    pub name: String,
    /// The key; empty for all.
    pub key: String,
    /// Whether either need not exist.
    pub optional: bool,
}

/// What is done with a volume.
#[derive(Debug, Clone, PartialEq)]
pub enum PlatformVolumeTask {
    /// It is made.
    Create {
        /// Its name; empty for one that ends in `suffix`.
        name: String,
        /// The end of the name.
        suffix: String,
        /// How much it is to hold.
        size: String,
        /// Access modes.
        access_modes: Vec<String>,
        /// The storage class.
        storage_class: String,
    },
    /// It is removed.
    Delete {
        /// Its name.
        name: String,
    },
}

/// The keys of the Kubernetes settings that are executed.
pub const EXECUTED: [&str; 12] = [
    "activeDeadlineSeconds",
    "configMapAsEnv",
    "configMapAsVolume",
    "createPvc",
    "deletePvc",
    "emptyDirMounts",
    "enabledSharedMemory",
    "fieldPathAsEnv",
    "genericEphemeralVolume",
    "pvcMount",
    "secretAsEnv",
    "secretAsVolume",
];

/// Whether a task is about a volume and has no program.
pub fn is_volume_task(container: &Container) -> bool {
    [CREATE_VOLUME, DELETE_VOLUME].contains(&container.image.as_str())
}

/// Whether what a task does is more than its outputs, so that those of an earlier one cannot stand for it: it makes or removes
/// a volume, or may write to the workspace, which is empty in each run.
pub(super) fn must_run(state: &RunState, container: &Container) -> bool {
    is_volume_task(container) || workspace(state).is_some()
}

/// The settings of a task whose inputs are resolved. They depend on stored facts alone.
pub(super) fn platform(
    state: &RunState,
    task: &Task,
    container: &Container,
    inputs: &Inputs,
) -> Result<Platform, Unresolved> {
    let reader = Reader {
        state,
        task,
        inputs,
    };
    let mut found = Platform {
        volume_task: reader.volume_task(container)?,
        ..Platform::default()
    };
    if found.volume_task.is_some() {
        return Ok(found);
    }
    if let Some(workspace) = workspace(state) {
        found.mounts.push(PlatformMount {
            path: WORKSPACE.to_owned(),
            source: MountSource::Workspace {
                size: text(&workspace["size"]),
            },
        });
    }
    found.labels = run_labels(state);
    let settings = container.platform.as_object();
    for (key, setting) in settings.into_iter().flatten() {
        reader.setting(key, setting, &mut found)?;
    }
    Ok(found)
}

/// What a task about a volume puts out besides what the runner says: parts of the volume that were known before.
pub(super) fn volume_outputs(
    state: &RunState,
    task: &Task,
    container: &Container,
) -> Result<Map<String, Value>, Unresolved> {
    let reader = Reader {
        state,
        task,
        inputs: &task.body.inputs,
    };
    let mut found = Map::new();
    for output in &container.files.outputs {
        let text = output.default.as_deref().unwrap_or_default();
        // Values are put into documents as values, whatever characters they have.
        let document = serde_json::from_str(text).ok();
        let document = document.filter(|value: &Value| value.is_object() || value.is_array());
        let value = document.unwrap_or_else(|| Value::from(text));
        let value = reader.fill(&output.parameter, &value)?;
        found.insert(output.parameter.clone(), text_form(&value).into());
    }
    Ok(found)
}

/// The settings of the run's workspace; none when it has none.
pub(super) fn workspace(state: &RunState) -> Option<&Value> {
    let found = &state.plan.pipeline_config["workspace"];
    found.is_object().then_some(found)
}

/// What pods have upstream, for programs that read their labels to know their run.
fn run_labels(state: &RunState) -> BTreeMap<String, String> {
    let labels = [
        ("pipeline/runid", state.run.id.to_string()),
        (
            "workflows.argoproj.io/workflow",
            resolve::resource_name(&state.run),
        ),
    ];
    labels
        .into_iter()
        .map(|(key, text)| (key.to_owned(), text))
        .collect()
}

struct Reader<'a> {
    state: &'a RunState,
    task: &'a Task,
    inputs: &'a Inputs,
}

impl Reader<'_> {
    fn setting(&self, key: &str, setting: &Value, found: &mut Platform) -> Result<(), Unresolved> {
        match key {
            "secretAsEnv" | "configMapAsEnv" => self.variables(key, setting, found),
            "secretAsVolume" | "configMapAsVolume" => self.files(key, setting, found),
            "pvcMount" => self.volumes(setting, found),
            "emptyDirMounts" | "genericEphemeralVolume" => {
                for item in items(setting) {
                    let size = [&item["sizeLimit"], &item["size"]].map(text);
                    found.mounts.push(PlatformMount {
                        path: text(&item["mountPath"]),
                        source: MountSource::Scratch {
                            name: text(&item["volumeName"]),
                            size: size.concat(),
                        },
                    });
                }
                Ok(())
            }
            "fieldPathAsEnv" => {
                found
                    .env
                    .extend(items(setting).map(|item| PlatformVariable {
                        name: text(&item["name"]),
                        source: VariableSource::Field(text(&item["fieldPath"])),
                    }));
                Ok(())
            }
            "podMetadata" => {
                let setting = self.fill(key, setting)?;
                found.labels.extend(texts(&setting["labels"]));
                found.annotations.extend(texts(&setting["annotations"]));
                Ok(())
            }
            "activeDeadlineSeconds" => {
                // 64-bit numbers are text in the JSON of protobuf.
                found.timeout_seconds = text(setting).parse().unwrap_or_default();
                Ok(())
            }
            other => {
                found.ignored.insert(other.to_owned(), setting.clone());
                Ok(())
            }
        }
    }

    fn variables(
        &self,
        key: &str,
        setting: &Value,
        found: &mut Platform,
    ) -> Result<(), Unresolved> {
        let secret = key == "secretAsEnv";
        let field = if secret { "secretKey" } else { "configMapKey" };
        for (index, item) in items(setting).enumerate() {
            let optional = item["optional"] == Value::Bool(true);
            let at = format!("{key}[{index}]");
            let Some(name) = self.bundle_name(&at, secret, item, optional)? else {
                continue;
            };
            if item["prefix"].is_string() {
                found
                    .env
                    .push(bundle(secret, &item["prefix"], name, optional));
                continue;
            }
            found.env.extend(items(&item["keyToEnv"]).map(|pair| {
                let key = KeyOf {
                    name: name.clone(),
                    key: text(&pair[field]),
                    optional,
                };
                PlatformVariable {
                    name: text(&pair["envVar"]),
                    source: if secret {
                        VariableSource::Secret(key)
                    } else {
                        VariableSource::ConfigMap(key)
                    },
                }
            }));
        }
        Ok(())
    }

    fn files(&self, key: &str, setting: &Value, found: &mut Platform) -> Result<(), Unresolved> {
        let secret = key == "secretAsVolume";
        for (index, item) in items(setting).enumerate() {
            let optional = item["optional"] == Value::Bool(true);
            let at = format!("{key}[{index}]");
            let Some(name) = self.bundle_name(&at, secret, item, optional)? else {
                continue;
            };
            found.mounts.push(PlatformMount {
                path: text(&item["mountPath"]),
                source: if secret {
                    MountSource::Secret { name, optional }
                } else {
                    MountSource::ConfigMap { name, optional }
                },
            });
        }
        Ok(())
    }

    fn volumes(&self, setting: &Value, found: &mut Platform) -> Result<(), Unresolved> {
        for (index, item) in items(setting).enumerate() {
            // Older compilers write the source in the item itself.
            let own = &item["pvcNameParameter"];
            let source = if own.is_object() { own } else { item };
            let at = format!("pvcMount[{index}]");
            let name = self.name(&at, source, &item["constant"])?;
            let name = name.ok_or_else(|| self.not_given(&at, "the name of the volume"))?;
            let sub_path = self.fill(&at, &item["subPath"])?;
            found.mounts.push(PlatformMount {
                path: text(&item["mountPath"]),
                source: MountSource::Volume {
                    name,
                    sub_path: text(&sub_path),
                },
            });
        }
        Ok(())
    }

    /// The name of a secret or config map; none for one that is optional and was not named.
    fn bundle_name(
        &self,
        at: &str,
        secret: bool,
        item: &Value,
        optional: bool,
    ) -> Result<Option<String>, Unresolved> {
        let (parameter, constant, what) = if secret {
            (
                "secretNameParameter",
                "secretName",
                "the name of the secret",
            )
        } else {
            (
                "configMapNameParameter",
                "configMapName",
                "the name of the config map",
            )
        };
        match self.name(at, &item[parameter], &item[constant])? {
            None if !optional => Err(self.not_given(at, what)),
            name => Ok(name),
        }
    }

    /// A name from a value, or a constant that stands in for it; none when it was not given.
    fn name(
        &self,
        at: &str,
        source: &Value,
        constant: &Value,
    ) -> Result<Option<String>, Unresolved> {
        let value = match read_source(source) {
            None => constant.clone(),
            Some(ParameterValue::Constant(value)) => self.fill(at, &value)?,
            Some(value) => {
                let source = ParameterSource {
                    value,
                    selector: String::new(),
                };
                let component = self.state.component(self.task)?;
                resolve::parameter(self.state, self.task, component, at, &source)?
            }
        };
        let name = text(&value);
        Ok((!name.is_empty()).then_some(name))
    }

    fn fill(&self, at: &str, value: &Value) -> Result<Value, Unresolved> {
        let context = resolve::context(self.state, self.task);
        let lookup = |placeholder: Placeholder<'_>| match placeholder {
            Placeholder::Parameter(name) => {
                let value = self.inputs.parameters.get(name);
                let value = value.or_else(|| self.inputs.channels.get(name));
                value
                    .cloned()
                    .map(Some)
                    .ok_or_else(|| Unresolved::Placeholder {
                        task: self.task.label().to_owned(),
                        place: at.to_owned(),
                        name: name.to_owned(),
                    })
            }
            Placeholder::Context(name) => Ok(context.get(name).cloned().map(Value::String)),
        };
        placeholder::fill(value, &lookup)
    }

    fn not_given(&self, at: &str, what: &str) -> Unresolved {
        Unresolved::Setting {
            task: self.task.label().to_owned(),
            place: at.to_owned(),
            problem: format!("{what} is not given"),
        }
    }

    /// What is done with a volume when the image says so. Workflows have it among the settings, the newer SDK as inputs.
    fn volume_task(&self, container: &Container) -> Result<Option<PlatformVolumeTask>, Unresolved> {
        let create = &container.platform["createPvc"];
        if create.is_object() {
            let create = self.fill("createPvc", create)?;
            return Ok(Some(PlatformVolumeTask::Create {
                name: text(&create["pvcName"]),
                suffix: String::new(),
                size: text(&create["size"]),
                access_modes: items(&create["accessModes"]).map(text).collect(),
                storage_class: text(&create["storageClassName"]),
            }));
        }
        let delete = &container.platform["deletePvc"];
        if delete.is_object() {
            let name = self.fill("deletePvc", &delete["constant"])?;
            return Ok(Some(PlatformVolumeTask::Delete { name: text(&name) }));
        }
        Ok(self.marked_volume_task(container))
    }

    fn marked_volume_task(&self, container: &Container) -> Option<PlatformVolumeTask> {
        let input = |name: &str| {
            let value = self.inputs.parameters.get(name);
            value.map_or_else(String::new, text)
        };
        match container.image.as_str() {
            CREATE_VOLUME => Some(PlatformVolumeTask::Create {
                name: input("pvc_name"),
                suffix: input("pvc_name_suffix"),
                size: input("size"),
                access_modes: self
                    .inputs
                    .parameters
                    .get("access_modes")
                    .map(|modes| items(modes).map(text).collect())
                    .unwrap_or_default(),
                storage_class: input("storage_class_name"),
            }),
            DELETE_VOLUME => Some(PlatformVolumeTask::Delete {
                name: input("pvc_name"),
            }),
            _ => None,
        }
    }
}

/// All keys of a secret or config map as variables: the key is empty, and the name is what stands before each key.
fn bundle(secret: bool, prefix: &Value, name: String, optional: bool) -> PlatformVariable {
    let all = KeyOf {
        name,
        key: String::new(),
        optional,
    };
    PlatformVariable {
        name: text(prefix),
        source: match secret {
            true => VariableSource::Secret(all),
            false => VariableSource::ConfigMap(all),
        },
    }
}

/// An input of a task as the settings write it; none when nothing is there.
fn read_source(source: &Value) -> Option<ParameterValue> {
    let produced = &source["taskOutputParameter"];
    if let Some(constant) = source["runtimeValue"].get("constant") {
        Some(ParameterValue::Constant(constant.clone()))
    } else if let Some(name) = source["componentInputParameter"].as_str() {
        Some(ParameterValue::ComponentInput(name.to_owned()))
    } else if produced.is_object() {
        Some(ParameterValue::TaskOutput {
            task: text(&produced["producerTask"]),
            output: text(&produced["outputParameterKey"]),
        })
    } else {
        None
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The text of a value; empty for none.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        value => text_form(value),
    }
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}
