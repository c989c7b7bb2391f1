//! Documents as people send them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    decode, json,
    proto::ml_pipelines::{PipelineDeploymentConfig, PipelineSpec},
    yaml,
};

/// The largest document that is read, in bytes.
pub const MAX_BYTES: usize = 32 << 20;
/// How deeply mappings and lists may be nested.
pub const MAX_DEPTH: usize = 64;
/// How many scalars, mappings and lists a document may hold.
pub const MAX_NODES: usize = 1_000_000;

/// Why a document could not be read. Problems of its meaning are [`crate::Fault`]s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the document is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    #[error("the document is not valid UTF-8")]
    NotText,
    #[error("the document is empty")]
    Empty,
    /// YAML or JSON is broken, or its limits on depth, aliases or nodes are exceeded.
    #[error("the document cannot be read: {0}")]
    Syntax(String),
    #[error("the document is nested too deeply")]
    TooDeep,
    #[error(
        "the file holds {0} documents; a pipeline is one document, and one more for its platform settings"
    )]
    TooManyDocuments(usize),
    #[error("the file holds two {0}s")]
    Repeated(&'static str),
    #[error("this is an Argo {0}; of Argo, documents of the kind Workflow are executed")]
    ArgoWorkflow(String),
    #[error("this is not a compiled pipeline: it has neither pipelineInfo nor root")]
    NotAPipeline,
    /// A field that the schema does not have, or a value of the wrong kind.
    #[error("{field}: {message}")]
    Field { field: String, message: String },
}

/// A compiled pipeline: the text's own JSON, and the same decoded by the schema.
#[derive(Debug, Clone)]
pub struct Document {
    spec: Value,
    platform: Option<Value>,
    pub(crate) pipeline: PipelineSpec,
    pub(crate) deployment: PipelineDeploymentConfig,
    /// `KubernetesExecutorConfig` by executor label, as canonical JSON.
    pub(crate) kubernetes: BTreeMap<String, Value>,
    /// `pipelineConfig` of the Kubernetes platform as canonical JSON; null for none.
    pub(crate) pipeline_config: Value,
    /// Platforms that are not `kubernetes`.
    pub(crate) other_platforms: Vec<String>,
}

/// Reads YAML (as PyYAML does, which writes it) or JSON: a `PipelineSpec`, optionally followed by a `PlatformSpec`, or both in one wrapper
/// `{"pipeline_spec": …, "platform_spec": …}`.
pub fn parse(bytes: &[u8]) -> Result<Document, Error> {
    Document::from_documents(read(bytes)?)
}

/// The documents of a text, at most a few.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Value>, Error> {
    if bytes.len() > MAX_BYTES {
        return Err(Error::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::NotText)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.trim_start().starts_with('{') {
        return yaml::read(text).map_err(Error::Syntax);
    }
    // Flow mappings of YAML look the same: only when both readings fail is it broken JSON.
    match json::read(text) {
        Ok(value) => Ok(vec![value]),
        Err(error) => yaml::read(text).map_err(|_| Error::Syntax(error.to_string())),
    }
}

impl Document {
    /// Reads a document that came as a JSON value: a `PipelineSpec` or the wrapper.
    pub fn from_value(value: Value) -> Result<Document, Error> {
        Document::from_documents(vec![value])
    }

    pub(crate) fn from_documents(mut documents: Vec<Value>) -> Result<Document, Error> {
        documents.retain(|document| !document.is_null());
        if !documents.iter().all(is_shallow) {
            return Err(Error::TooDeep);
        }
        match documents.len() {
            0 => return Err(Error::Empty),
            1 | 2 => {}
            count => return Err(Error::TooManyDocuments(count)),
        }
        let (mut spec, mut platform) = (None, None);
        for document in documents {
            let Value::Object(mut map) = document else {
                return Err(Error::NotAPipeline);
            };
            if let Some(inner) = take(&mut map, "pipeline_spec", "pipelineSpec") {
                refuse_foreign(&inner)?;
                place(&mut spec, inner, "pipeline")?;
                if let Some(inner) = take(&mut map, "platform_spec", "platformSpec")
                    && !inner.is_null()
                {
                    place(&mut platform, inner, "platform specification")?;
                }
                if let Some(name) = map.keys().next() {
                    return Err(Error::Field {
                        field: name.clone(),
                        message: "there is no such field".to_owned(),
                    });
                }
            } else if map.contains_key("platforms") {
                place(&mut platform, Value::Object(map), "platform specification")?;
            } else {
                let value = Value::Object(map);
                refuse_foreign(&value)?;
                place(&mut spec, value, "pipeline")?;
            }
        }
        let spec = spec.ok_or(Error::NotAPipeline)?;
        Document::decode(spec, platform)
    }

    fn decode(spec: Value, platform: Option<Value>) -> Result<Document, Error> {
        let pipeline = decode::message("ml_pipelines.PipelineSpec", &spec, "")?;
        let deployment = spec
            .get("deploymentSpec")
            .or_else(|| spec.get("deployment_spec"))
            .filter(|value| !value.is_null())
            .map(|value| {
                decode::message(
                    "ml_pipelines.PipelineDeploymentConfig",
                    value,
                    "deploymentSpec",
                )
            })
            .transpose()?
            .unwrap_or_default();
        let mut document = Document {
            spec,
            platform: None,
            pipeline,
            deployment,
            kubernetes: BTreeMap::new(),
            pipeline_config: Value::Null,
            other_platforms: Vec::new(),
        };
        if let Some(platform) = platform {
            document.read_platform(&platform)?;
            document.platform = Some(platform);
        }
        Ok(document)
    }

    fn read_platform(&mut self, platform: &Value) -> Result<(), Error> {
        let canonical = decode::canonical("ml_pipelines.PlatformSpec", platform, "")?;
        let platforms = canonical.get("platforms").and_then(Value::as_object);
        for (name, settings) in platforms.into_iter().flatten() {
            if name != "kubernetes" {
                self.other_platforms.push(name.clone());
                continue;
            }
            let executors = settings
                .pointer("/deploymentSpec/executors")
                .and_then(Value::as_object);
            for (label, config) in executors.into_iter().flatten() {
                let at = format!("platforms.kubernetes.deploymentSpec.executors.{label}");
                let config =
                    decode::canonical("kfp_kubernetes.KubernetesExecutorConfig", config, &at)?;
                self.kubernetes.insert(label.clone(), config);
            }
            if let Some(config) = settings.get("pipelineConfig") {
                self.pipeline_config = config.clone();
            }
        }
        Ok(())
    }

    /// The `PipelineSpec` as it was written.
    pub fn spec(&self) -> &Value {
        &self.spec
    }

    /// The `PlatformSpec` as it was written.
    pub fn platform(&self) -> Option<&Value> {
        self.platform.as_ref()
    }

    /// What clients get back: the specification, or the wrapper of both when there is a platform specification.
    pub fn to_value(&self) -> Value {
        match &self.platform {
            None => self.spec.clone(),
            Some(platform) => serde_json::json!({
                "pipeline_spec": self.spec,
                "platform_spec": platform,
            }),
        }
    }

    /// `pipelineInfo.name`; empty for none.
    pub fn name(&self) -> &str {
        self.pipeline
            .pipeline_info
            .as_ref()
            .map_or("", |info| info.name.as_str())
    }

    /// `pipelineInfo.description`; empty for none.
    pub fn description(&self) -> &str {
        self.pipeline
            .pipeline_info
            .as_ref()
            .map_or("", |info| info.description.as_str())
    }
}

fn take(map: &mut Map<String, Value>, snake: &str, camel: &str) -> Option<Value> {
    map.remove(snake).or_else(|| map.remove(camel))
}

fn place(slot: &mut Option<Value>, value: Value, what: &'static str) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Repeated(what)),
    }
}

/// Names the documents that people upload by mistake.
fn refuse_foreign(value: &Value) -> Result<(), Error> {
    let text = |key| value.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion").starts_with("argoproj.io") {
        return Err(Error::ArgoWorkflow(text("kind").to_owned()));
    }
    let known = ["pipelineInfo", "pipeline_info", "root"];
    match known.iter().any(|key| value.get(key).is_some()) {
        true => Ok(()),
        false => Err(Error::NotAPipeline),
    }
}

/// Whether the value keeps to [`MAX_DEPTH`].
pub(crate) fn is_shallow(value: &Value) -> bool {
    shallow(value, 0)
}

/// Whether the value keeps to [`MAX_DEPTH`]; looks no deeper than that.
fn shallow(value: &Value, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    match value {
        Value::Array(items) => items.iter().all(|item| shallow(item, depth + 1)),
        Value::Object(map) => map.values().all(|item| shallow(item, depth + 1)),
        _ => true,
    }
}
