//! Metrics of runs, as clients of the older contract know them.

use serde_json::Value;

use super::model::Artifact;

/// A number with a name.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetric {
    /// The task that it comes from, or what a client says.
    pub node_id: String,
    /// The name.
    pub name: String,
    /// The number, finite.
    pub number: f64,
    /// `RAW`, `PERCENTAGE`, or empty.
    pub format: String,
}

/// The metrics in the metadata of an artifact.
pub fn metrics_of(artifact: &Artifact) -> Vec<RunMetric> {
    let formats = artifact.metadata.get(step::metrics::FORMATS);
    let numbers = artifact.metadata.iter();
    let metric = |(name, value): (&String, &Value)| {
        let format = formats.and_then(|formats| formats.get(name)?.as_str());
        Some(RunMetric {
            node_id: artifact.task_id.to_string(),
            name: name.clone(),
            number: value.as_f64()?,
            format: format.unwrap_or_default().to_owned(),
        })
    };
    numbers.filter_map(metric).collect()
}
