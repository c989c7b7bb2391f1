//! The `ExecutorInput` document: what a kfp program is told about its inputs and where its outputs go.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::places::Places;
use crate::value;

/// The type of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArtifactType {
    /// The schema's title, such as `system.Model`; empty when an instance schema is given.
    pub schema_title: String,
    /// The schema's version.
    pub schema_version: String,
    /// The schema itself, when there is no title.
    pub instance_schema: String,
}

impl ArtifactType {
    fn to_json(&self) -> Value {
        let fields = [
            ("schemaTitle", &self.schema_title),
            ("schemaVersion", &self.schema_version),
            ("instanceSchema", &self.instance_schema),
        ];
        fields
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name.to_owned(), json!(text)))
            .collect()
    }
}

/// An artifact that a step may produce.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutputArtifact {
    /// The output's name.
    pub name: String,
    /// Where it is stored.
    pub uri: String,
    /// Its type.
    pub kind: ArtifactType,
    /// Metadata that the component declares.
    pub metadata: Map<String, Value>,
    /// Whether several artifacts may be produced under the name.
    pub list: bool,
}

/// Where the outputs of a step go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outputs {
    /// The file of each parameter, by name.
    pub parameters: BTreeMap<String, String>,
    /// The artifacts.
    pub artifacts: Vec<OutputArtifact>,
    /// The file of the executor output.
    pub output_file: String,
}

/// Why an executor input cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The inputs are not what the contract says.
    #[error("the inputs of the step are malformed: {0}")]
    Malformed(String),
    /// An artifact is stored where this machine cannot read it.
    #[error("artifact {name:?}: {problem}")]
    Artifact {
        /// The input or output.
        name: String,
        /// What is wrong with its URI.
        problem: UriError,
    },
}

/// Why a URI is not a local path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("{uri} is not on this machine, and nothing here can fetch it")]
    Scheme {
        /// The URI.
        uri: String,
    },
    /// A relative path.
    #[error("{uri:?} is not an absolute path")]
    Relative {
        /// The URI.
        uri: String,
    },
}

/// Where programs see the workspace of their pipeline.
pub const WORKSPACE: &str = "/kfp-workspace";

/// Where, below the workspace, the SDK looks for an artifact that is marked as brought there; none for one that is not.
/// `artifact` is a RuntimeArtifact whose URI is a path.
pub fn workspace_place(artifact: &Value) -> Option<String> {
    let marked = artifact["metadata"]["_kfp_workspace"] == Value::Bool(true);
    let path = artifact["uri"].as_str().filter(|_| marked)?;
    Some(format!(".artifacts/{}", path.trim_start_matches('/')))
}

/// The same for an artifact in a store of the network; none also for a URI that is no place.
pub fn remote_workspace_place(artifact: &Value) -> Option<String> {
    if artifact["metadata"]["_kfp_workspace"] != Value::Bool(true) {
        return None;
    }
    let (scheme, rest) = artifact["uri"].as_str()?.split_once("://")?;
    let scheme = if scheme == "gs" { "gcs" } else { scheme };
    let rest = rest.trim_end_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let safe = rest.split('/').all(plain) && !rest.contains('\0');
    safe.then(|| format!(".artifacts/{scheme}/{rest}"))
}

/// The path of a URI of the local store: plain absolute paths stand for themselves, because the kfp SDK takes a URI of
/// unknown scheme for the path; `file://` is accepted for artifacts that were imported.
pub fn local_path(uri: &str) -> Result<String, UriError> {
    if uri.starts_with('/') {
        return Ok(uri.to_owned());
    }
    let scheme = || UriError::Scheme {
        uri: uri.to_owned(),
    };
    if let Some(rest) = uri.strip_prefix("file://") {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(scheme());
        }
        return percent_decoded(path).ok_or_else(scheme);
    }
    if uri.contains("://") {
        return Err(scheme());
    }
    Err(UriError::Relative {
        uri: uri.to_owned(),
    })
}

fn percent_decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Builds the document from `{"parameterValues":{…},"artifacts":{…}}` and the outputs. URIs become local paths; integral
/// doubles become integers, so that a parameter of type int is one for Python too. What is in a store of the network keeps its
/// URI and gets the path of its place.
pub fn build(inputs: &Value, outputs: &Outputs, places: &Places) -> Result<Value, InputError> {
    let parameters = object(inputs, "parameterValues")?;
    let mut artifacts = object(inputs, "artifacts")?;
    for (name, list) in &mut artifacts {
        let Some(Value::Array(list)) = list.get_mut("artifacts") else {
            return Err(InputError::Malformed(format!(
                "artifacts.{name} has no list of artifacts"
            )));
        };
        for artifact in list {
            localise(name, artifact, places)?;
        }
    }

    let mut output_artifacts = Map::new();
    for output in &outputs.artifacts {
        let mut artifact = json!({
            "name": output.name,
            "type": output.kind.to_json(),
            "uri": output.uri,
            "metadata": output.metadata,
        });
        localise(&output.name, &mut artifact, places)?;
        output_artifacts.insert(output.name.clone(), json!({"artifacts": [artifact]}));
    }
    let output_parameters: Map<String, Value> = outputs
        .parameters
        .iter()
        .map(|(name, file)| (name.clone(), json!({"outputFile": file})))
        .collect();

    Ok(json!({
        "inputs": {
            "parameterValues": value::canonical(Value::Object(parameters)),
            "artifacts": artifacts,
        },
        "outputs": {
            "parameters": output_parameters,
            "artifacts": output_artifacts,
            "outputFile": outputs.output_file,
        },
    }))
}

fn object(inputs: &Value, field: &str) -> Result<Map<String, Value>, InputError> {
    match inputs.get(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(fields)) => Ok(fields.clone()),
        Some(_) => Err(InputError::Malformed(format!("{field} is not an object"))),
    }
}

fn localise(name: &str, artifact: &mut Value, places: &Places) -> Result<(), InputError> {
    let uri = artifact
        .get("uri")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // An artifact that only carries metadata needs no place.
    if uri.is_empty() {
        return Ok(());
    }
    if let Some(path) = places.path(uri) {
        artifact["customPath"] = Value::String(path);
        return Ok(());
    }
    let path = local_path(uri).map_err(|problem| InputError::Artifact {
        name: name.to_owned(),
        problem,
    })?;
    artifact["uri"] = Value::String(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_of_the_local_store_are_paths() {
        assert_eq!(local_path("/data/a b").as_deref(), Ok("/data/a b"));
        assert_eq!(local_path("file:///data/a%20b").as_deref(), Ok("/data/a b"));
        assert_eq!(local_path("file://localhost/data").as_deref(), Ok("/data"));
        for other in ["gs://b/k", "s3://b/k", "file://host/x", "file:///x%zz"] {
            assert!(
                matches!(local_path(other), Err(UriError::Scheme { .. })),
                "{other}"
            );
        }
        assert!(matches!(
            local_path("data/x"),
            Err(UriError::Relative { .. })
        ));
    }

    #[test]
    fn artifacts_in_the_workspace_are_where_the_sdk_looks() {
        let artifact =
            |marked: Value| json!({"uri": "/d/x", "metadata": {"_kfp_workspace": marked}});
        assert_eq!(
            workspace_place(&artifact(json!(true))).as_deref(),
            Some(".artifacts/d/x")
        );
        for other in [json!(false), json!("true"), json!(1)] {
            assert_eq!(workspace_place(&artifact(other)), None);
        }
        assert_eq!(workspace_place(&json!({"uri": "/d/x"})), None);
        let remote = |uri: &str| {
            let marked = json!({"uri": uri, "metadata": {"_kfp_workspace": true}});
            remote_workspace_place(&marked)
        };
        assert_eq!(remote("gs://b/k/").as_deref(), Some(".artifacts/gcs/b/k"));
        assert_eq!(remote("s3://b/k").as_deref(), Some(".artifacts/s3/b/k"));
        for other in ["s3://b/../k", "s3://b//k", "/d/x"] {
            assert_eq!(remote(other), None, "{other}");
        }
    }

    #[test]
    fn document_has_the_shape_that_the_sdk_reads() {
        let inputs = json!({
            "parameterValues": {"n": 2.0, "xs": [1.0, 1.5]},
            "artifacts": {"data": {"artifacts": [{"name": "7", "uri": "file:///d", "metadata": {"k": 1}}]}},
        });
        let outputs = Outputs {
            parameters: BTreeMap::from([("out".to_owned(), "/w/outputs/out".to_owned())]),
            artifacts: vec![OutputArtifact {
                name: "model".to_owned(),
                uri: "/s/model".to_owned(),
                kind: ArtifactType {
                    schema_title: "system.Model".to_owned(),
                    schema_version: "0.0.1".to_owned(),
                    ..ArtifactType::default()
                },
                ..OutputArtifact::default()
            }],
            output_file: "/s/executor_output.json".to_owned(),
        };
        assert_eq!(
            build(&inputs, &outputs, &Places::default())
                .unwrap()
                .to_string(),
            concat!(
                r#"{"inputs":{"artifacts":{"data":{"artifacts":[{"metadata":{"k":1},"name":"7","uri":"/d"}]}},"#,
                r#""parameterValues":{"n":2,"xs":[1,1.5]}},"#,
                r#""outputs":{"artifacts":{"model":{"artifacts":[{"metadata":{},"name":"model","#,
                r#""type":{"schemaTitle":"system.Model","schemaVersion":"0.0.1"},"uri":"/s/model"}]}},"#,
                r#""outputFile":"/s/executor_output.json","parameters":{"out":{"outputFile":"/w/outputs/out"}}}}"#,
            )
        );
    }

    #[test]
    fn remote_artifacts_are_refused_by_name() {
        let inputs = json!({"artifacts": {"data": {"artifacts": [{"uri": "gs://b/k"}]}}});
        let error = build(&inputs, &Outputs::default(), &Places::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"data\"") && error.contains("gs://b/k"),
            "{error}"
        );
    }

    #[test]
    fn malformed_inputs_are_refused() {
        for inputs in [
            json!({"parameterValues": []}),
            json!({"artifacts": {"a": []}}),
            json!({"artifacts": 1}),
        ] {
            assert!(matches!(
                build(&inputs, &Outputs::default(), &Places::default()),
                Err(InputError::Malformed(_))
            ));
        }
        assert!(build(&json!({}), &Outputs::default(), &Places::default()).is_ok());
    }
}
