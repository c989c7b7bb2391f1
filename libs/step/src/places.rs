//! Where a step finds artifacts that are in stores of the network: each URI stands for a path below the step's directory.
//!
//! Upstream mounts stores at `/s3`, `/minio` and `/gcs`, which a process may not write. Here each input has a directory
//! of its own, and all outputs share one, so that what a program names beside its outputs has a place too.

use std::collections::BTreeSet;

use serde_json::Value;

/// Pairs of a URI and a path; what is below the one is below the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    inputs: Vec<(String, String)>,
    outputs: Vec<(String, String)>,
}

/// Whether a URI is one of a store of the network.
pub fn is_remote(uri: &str) -> bool {
    !uri.starts_with('/') && !uri.starts_with("file://") && uri.contains("://")
}

impl Places {
    /// The places of a step whose directory for them is `dir`, an absolute path: from `{"artifacts":{…}}` of its inputs and the
    /// URIs of its outputs.
    pub fn new<'a>(dir: &str, inputs: &Value, outputs: impl Iterator<Item = &'a str>) -> Self {
        let mut places = Self::default();
        for (number, (_, uri)) in remote_inputs(inputs).into_iter().enumerate() {
            let name = file_name(&uri);
            let path = format!("{dir}/inputs/{number}/{name}");
            places.inputs.push((uri, path));
        }
        let bases: BTreeSet<&str> = outputs
            .filter(|uri| is_remote(uri))
            .filter_map(|uri| Some(uri.trim_end_matches('/').rsplit_once('/')?.0))
            .collect();
        for (number, base) in bases.into_iter().enumerate() {
            let path = format!("{dir}/outputs/{number}");
            places.outputs.push((base.to_owned(), path));
        }
        places
    }

    /// Whether the step has nothing in stores of the network.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty() && self.outputs.is_empty()
    }

    /// Lets a program find an input at another path than the one that it is fetched to.
    pub fn show_input(&mut self, uri: &str, path: &str) {
        for (known, place) in &mut self.inputs {
            if known == uri {
                path.clone_into(place);
            }
        }
    }

    /// The inputs, as URI and path.
    pub fn inputs(&self) -> &[(String, String)] {
        &self.inputs
    }

    /// All pairs, outputs first.
    pub fn pairs(&self) -> impl Iterator<Item = &(String, String)> {
        self.outputs.iter().chain(&self.inputs)
    }

    /// The path that stands for a URI.
    pub fn path(&self, uri: &str) -> Option<String> {
        self.pairs().find_map(|(base, path)| below(uri, base, path))
    }

    /// The path that stands for the URI of an output.
    pub fn output_path(&self, uri: &str) -> Option<String> {
        let mut outputs = self.outputs.iter();
        outputs.find_map(|(base, path)| below(uri, base, path))
    }
}

/// `path` with what `uri` has more than `base`; none when it has other things, or leads out.
fn below(uri: &str, base: &str, path: &str) -> Option<String> {
    let rest = uri.strip_prefix(base)?;
    if rest.is_empty() {
        return Some(path.to_owned());
    }
    let rest = rest.strip_prefix('/')?.trim_end_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    let safe = rest.split('/').all(plain) && !rest.contains('\0');
    safe.then(|| format!("{path}/{rest}"))
}

/// The name and the URI of every input artifact in a store of the network, each URI once.
pub fn remote_inputs(inputs: &Value) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let Some(artifacts) = inputs.get("artifacts").and_then(Value::as_object) else {
        return found;
    };
    for (name, list) in artifacts {
        let list = list.get("artifacts").and_then(Value::as_array);
        for artifact in list.into_iter().flatten() {
            let uri = artifact
                .get("uri")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if is_remote(uri) && seen.insert(uri) {
                found.push((name.clone(), uri.to_owned()));
            }
        }
    }
    found
}

/// The last part of a URI as a file name: programs look at its extension.
fn file_name(uri: &str) -> String {
    let path = match uri.split_once("://") {
        Some(("http" | "https", rest)) => rest.split(['?', '#']).next().unwrap_or_default(),
        _ => uri,
    };
    let last = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let safe: String = last
        .chars()
        .filter(|character| character.is_alphanumeric() || "._-+=@ ".contains(*character))
        .take(120)
        .collect();
    match safe.as_str() {
        "" | "." | ".." => "artifact".to_owned(),
        _ => safe,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn places() -> Places {
        let inputs = json!({"artifacts": {
            "data": {"artifacts": [{"uri": "s3://b/run/1/data.csv"}, {"uri": "/local"}]},
            "more": {"artifacts": [{"uri": "https://h/x.csv?token=1"}, {"uri": "s3://b/run/1/data.csv"}]},
        }});
        let outputs = ["s3://b/run/2/model", "s3://b/run/2/metrics", "/local/out"];
        Places::new("/w/remote", &inputs, outputs.into_iter())
    }

    #[test]
    fn inputs_and_outputs_have_paths() {
        let places = places();
        for (uri, path) in [
            ("s3://b/run/1/data.csv", Some("/w/remote/inputs/0/data.csv")),
            (
                "s3://b/run/1/data.csv/part",
                Some("/w/remote/inputs/0/data.csv/part"),
            ),
            ("https://h/x.csv?token=1", Some("/w/remote/inputs/1/x.csv")),
            ("s3://b/run/2/model", Some("/w/remote/outputs/0/model")),
            (
                "s3://b/run/2/own/place",
                Some("/w/remote/outputs/0/own/place"),
            ),
            ("s3://b/run/2/../1/data.csv", None),
            ("s3://b/run/22", None),
            ("s3://other/x", None),
            ("/local", None),
        ] {
            assert_eq!(places.path(uri).as_deref(), path, "{uri}");
        }
        assert_eq!(places.output_path("s3://b/run/1/data.csv"), None);
        assert!(Places::new("/w", &json!({}), ["/x"].into_iter()).is_empty());
    }

    proptest! {
        #[test]
        fn no_uri_leads_out(tail in "[a-z./%\\\\]{0,20}") {
            let places = places();
            for base in ["s3://b/run/2", "s3://b/run/1/data.csv"] {
                if let Some(path) = places.path(&format!("{base}{tail}")) {
                    let parts = std::path::Path::new(&path).components();
                    let up = parts.into_iter().any(|part| part == std::path::Component::ParentDir);
                    prop_assert!(!up && path.starts_with("/w/remote/"), "{}", path);
                }
            }
        }

        #[test]
        fn every_name_is_one_file(uri in ".{0,40}") {
            let name = file_name(&uri);
            prop_assert!(!name.contains('/') && !name.is_empty() && name != "..", "{}", name);
        }
    }
}
