//! The validated form of a pipeline: plain data that an engine can execute without looking at the document again.
//!
//! Every reference in a [`Plan`] resolves: tasks name components that exist, inputs name producers of the same
//! group, executors are there. Values are `serde_json::Value`; whole numbers are integers even though the
//! document writes `2.0`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A pipeline that can be executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// `pipelineInfo.name`.
    pub name: String,
    /// `pipelineInfo.displayName`, or the name.
    pub display_name: String,
    /// `pipelineInfo.description`.
    pub description: String,
    /// `defaultPipelineRoot`; empty for the installation's own.
    pub default_root: String,
    /// The pipeline itself.
    pub root: Component,
    /// Components by name (`comp-train`).
    pub components: BTreeMap<String, Component>,
    /// Executors by label (`exec-train`).
    pub executors: BTreeMap<String, Executor>,
    /// `pipelineConfig` of the Kubernetes platform, as it stands in the document; null for none.
    pub pipeline_config: Value,
}

impl Plan {
    /// Whether a program of this pipeline may leave artifacts; importers only name what lies elsewhere.
    pub fn stores_artifacts(&self) -> bool {
        self.components
            .values()
            .any(|component| match &component.body {
                Body::Executor(label) => {
                    !component.output_artifacts.is_empty()
                        && !matches!(self.executors.get(label), Some(Executor::Importer(_)))
                }
                Body::Dag(_) => false,
            })
    }
}

/// What a task runs, with the names and types that it takes and gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    pub input_parameters: BTreeMap<String, InputParameter>,
    pub input_artifacts: BTreeMap<String, InputArtifact>,
    pub output_parameters: BTreeMap<String, ParameterType>,
    pub output_artifacts: BTreeMap<String, OutputArtifact>,
    pub body: Body,
}

/// How a component is executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// A group of tasks.
    Dag(Dag),
    /// The label of an executor in [`Plan::executors`].
    Executor(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParameterType {
    NumberDouble,
    NumberInteger,
    String,
    Boolean,
    List,
    Struct,
    TaskFinalStatus,
    TaskConfig,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputParameter {
    pub parameter_type: ParameterType,
    /// The declared default, already of the declared type.
    pub default: Option<Value>,
    pub optional: bool,
    pub description: String,
    /// The values that are allowed; empty for any.
    pub literals: Vec<Value>,
}

/// The type of an artifact: a title such as `system.Model`, or an inline schema.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ArtifactType {
    pub schema_title: String,
    pub schema_version: String,
    pub instance_schema: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputArtifact {
    pub artifact_type: ArtifactType,
    pub list: bool,
    pub optional: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputArtifact {
    pub artifact_type: ArtifactType,
    pub list: bool,
    /// Metadata that the component declares (`metadata`, `properties`, `customProperties` merged); an object.
    pub metadata: Value,
}

/// A group of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dag {
    /// Tasks by name.
    pub tasks: BTreeMap<String, Task>,
    /// Task names, each after all that it depends on.
    pub order: Vec<String>,
    /// Where the group's output parameters come from: the candidates, the first that ran wins.
    pub output_parameters: BTreeMap<String, Vec<OutputSelector>>,
    /// Where the group's output artifacts come from: the candidates, those that ran are taken.
    pub output_artifacts: BTreeMap<String, Vec<OutputSelector>>,
}

/// An output of an inner task that an outer group gives on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSelector {
    pub task: String,
    pub output: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The name within the group.
    pub name: String,
    /// `taskInfo.name`, or the name.
    pub display_name: String,
    /// The component in [`Plan::components`].
    pub component: String,
    pub parameters: BTreeMap<String, ParameterSource>,
    pub artifacts: BTreeMap<String, ArtifactSource>,
    /// Tasks of the same group that must end first; data producers are always among them.
    pub dependencies: Vec<String>,
    pub trigger: Trigger,
    /// The loop that the task is the body of.
    pub iterator: Option<Iterator>,
    pub retry: Option<Retry>,
    pub caching: Caching,
}

/// Where a parameter of a task comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParameterSource {
    pub value: ParameterValue,
    /// `parameterExpressionSelector`, a CEL expression over the value; empty for none.
    pub selector: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ParameterValue {
    /// A literal; a string may hold placeholders such as `{{$.inputs.parameters['x']}}`.
    Constant(Value),
    /// An input of the enclosing component.
    ComponentInput(String),
    /// An output of a task of the same group.
    TaskOutput { task: String, output: String },
    /// How a task of the same group ended.
    FinalStatus { task: String },
}

/// Where an artifact of a task comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ArtifactSource {
    /// An input of the enclosing component.
    ComponentInput(String),
    /// An output of a task of the same group.
    TaskOutput { task: String, output: String },
}

/// When a task starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trigger {
    /// A CEL expression; empty for always.
    pub condition: String,
    pub strategy: Strategy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// All tasks before it succeeded.
    #[default]
    AllSucceeded,
    /// All tasks before it ended, however.
    AllCompleted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Iterator {
    pub items: Items,
    /// The input that takes the item.
    pub item_input: String,
    /// How many iterations may run at a time; 0 for no limit.
    pub parallelism: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Items {
    /// Literal items.
    Raw(Vec<Value>),
    /// A parameter of the task that holds the items.
    Parameter(String),
    /// An artifact input of the task that holds the items.
    Artifact(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts after the first.
    pub max_retries: u32,
    pub backoff_ms: u64,
    pub backoff_factor: f64,
    pub backoff_max_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Caching {
    pub enabled: bool,
    /// The user's own key; empty for the computed one.
    pub key: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Executor {
    Container(Container),
    Importer(Importer),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub resources: Resources,
    /// `KubernetesExecutorConfig` of the executor as canonical JSON; null for none.
    pub platform: Value,
    /// Files that the program knows by absolute paths of its own.
    #[serde(default, skip_serializing_if = "Files::is_empty")]
    pub files: Files,
}

/// Paths that a program of a workflow writes down: each attempt has its own place for them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Files {
    pub inputs: Vec<InputFile>,
    pub outputs: Vec<OutputFile>,
}

impl Files {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }
}

/// A file that is there before the program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The absolute path, as the program has it.
    pub path: String,
    pub source: FileSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileSource {
    /// The content of an input artifact, or of an input parameter when there is no such artifact.
    Artifact { name: String, parameter: String },
    /// A text with placeholders.
    Text(String),
}

/// A file that the program writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// The absolute path, as the program has it.
    pub path: String,
    /// The output parameter whose text it is; empty for none.
    pub parameter: String,
    /// The output artifact whose content it is; empty for none.
    pub artifact: String,
    /// The parameter's text when the file is missing.
    pub default: Option<String>,
    /// Whether the artifact may be missing.
    pub optional: bool,
}

/// Quantities as Kubernetes writes them, or placeholders; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    pub cpu_request: String,
    pub cpu_limit: String,
    pub memory_request: String,
    pub memory_limit: String,
    pub accelerator_type: String,
    pub accelerator_count: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importer {
    /// The URI: a literal, or the name of the input parameter that holds it.
    pub uri: ImporterUri,
    pub artifact_type: ArtifactType,
    /// Metadata with placeholders; an object.
    pub metadata: Value,
    /// Whether a known artifact of the same URI is recorded anew.
    pub reimport: bool,
    pub download_to_workspace: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImporterUri {
    Constant(String),
    Parameter(String),
}
