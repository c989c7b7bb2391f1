//! Limits of time that a document sets.

use std::time::Duration;

use serde_json::Value;

use crate::document::Document;
use crate::plan::Plan;
use crate::validate::Faults;

impl Plan {
    /// How long a run may take: `pipelineConfig.activeDeadlineSeconds`; none for no limit.
    pub fn deadline(&self) -> Option<Duration> {
        seconds(&self.pipeline_config).filter(|limit| !limit.is_zero())
    }

    /// How many programs the run may execute at a time, as a workflow says; none for no limit.
    pub fn parallelism(&self) -> Option<u64> {
        let limit = self.pipeline_config.get(PARALLELISM)?.as_u64();
        limit.filter(|limit| *limit > 0)
    }
}

/// Reports limits that no time satisfies.
pub(crate) fn check(document: &Document, faults: &mut Faults) {
    let executors = document.kubernetes.iter().map(|(label, settings)| {
        let at = format!("platforms.kubernetes.deploymentSpec.executors.{label}");
        (at, settings)
    });
    let config = "platforms.kubernetes.pipelineConfig".to_owned();
    for (at, settings) in executors.chain([(config, &document.pipeline_config)]) {
        if let Some(seconds) = number(settings).filter(|seconds| *seconds < 0) {
            faults.add(
                format!("{at}.{KEY}"),
                format!("must not be negative, is {seconds}; 0 is no limit"),
            );
        }
    }
}

/// Where the plan of a workflow has its `parallelism`. Newer documents have no such setting.
pub(crate) const PARALLELISM: &str = "parallelism";
const KEY: &str = "activeDeadlineSeconds";

fn seconds(settings: &Value) -> Option<Duration> {
    let seconds = u64::try_from(number(settings)?).ok()?;
    Some(Duration::from_secs(seconds))
}

/// Canonical JSON writes 64-bit numbers as text.
fn number(settings: &Value) -> Option<i64> {
    match settings.get(KEY)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn limits_are_numbers_or_text_and_zero_is_none() {
        let limit = |value: Value| seconds(&json!({ KEY: value })).filter(|limit| !limit.is_zero());
        assert_eq!(limit(json!(90)), Some(Duration::from_secs(90)));
        assert_eq!(limit(json!("90")), Some(Duration::from_secs(90)));
        assert_eq!(limit(json!(0)), None);
        assert_eq!(seconds(&Value::Null), None);
    }

    #[test]
    fn negative_limits_are_faults() {
        let spec = json!({
            "pipelineInfo": {"name": "p"},
            "schemaVersion": "2.1.0",
            "root": {"dag": {"tasks": {}}},
        });
        let platform = json!({"platforms": {"kubernetes": {
            "pipelineConfig": {"activeDeadlineSeconds": -1},
            "deploymentSpec": {"executors": {"exec-a": {"activeDeadlineSeconds": -2}}},
        }}});
        let wrapper = json!({"pipeline_spec": spec, "platform_spec": platform});
        let mut faults = Faults::default();
        check(&Document::from_value(wrapper).unwrap(), &mut faults);
        let mut fields: Vec<String> = faults.into_vec().into_iter().map(|f| f.field).collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "platforms.kubernetes.deploymentSpec.executors.exec-a.activeDeadlineSeconds",
                "platforms.kubernetes.pipelineConfig.activeDeadlineSeconds",
            ]
        );
    }
}
