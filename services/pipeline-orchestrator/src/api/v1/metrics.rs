//! Metrics between the contract and the use cases.

use api_kfp1::v1beta1 as v1;
use api_kfp1::v1beta1::report_run_metrics_response::ReportRunMetricResult as Outcome;
use api_kfp1::v1beta1::report_run_metrics_response::report_run_metric_result::Status;
use api_kfp1::v1beta1::run_metric::{Format, Value};

use crate::domain::RunMetric;
use crate::error::Error;

/// Metrics of one report.
const MAX_METRICS: usize = 1_000;
/// Characters of a name and of a node.
const MAX_NAME: usize = 63;
const MAX_NODE: usize = 128;

/// The metrics as messages.
pub(super) fn render(found: Vec<RunMetric>) -> impl Iterator<Item = v1::RunMetric> {
    found.into_iter().map(|metric| {
        let format = Format::from_str_name(&metric.format).unwrap_or(Format::Raw);
        v1::RunMetric {
            name: metric.name,
            node_id: metric.node_id,
            format: format.into(),
            value: Some(Value::NumberValue(metric.number)),
        }
    })
}

/// Sorts a report into what can be kept and an outcome for each metric; the outcome of those that can is still open.
pub(super) fn parse(metrics: Vec<v1::RunMetric>) -> Result<(Vec<RunMetric>, Vec<Outcome>), Error> {
    if metrics.len() > MAX_METRICS {
        let message = format!("must not be more than {MAX_METRICS}");
        return Err(Error::field("metrics", message));
    }
    let mut good = Vec::new();
    let mut outcomes = Vec::new();
    for metric in metrics {
        let checked = check(&metric);
        let status = match &checked {
            Ok(_) => Status::Unspecified,
            Err(_) => Status::InvalidArgument,
        };
        outcomes.push(Outcome {
            metric_name: metric.name.clone(),
            metric_node_id: metric.node_id.clone(),
            status: status.into(),
            message: checked.as_ref().err().cloned().unwrap_or_default(),
        });
        good.extend(checked);
    }
    Ok((good, outcomes))
}

/// Fills the outcomes that were open, in their order.
pub(super) fn complete(outcomes: &mut [Outcome], new: Vec<bool>) {
    let open = outcomes
        .iter_mut()
        .filter(|outcome| outcome.status() == Status::Unspecified);
    for (outcome, new) in open.zip(new) {
        if new {
            outcome.set_status(Status::Ok);
        } else {
            outcome.set_status(Status::DuplicateReporting);
            "this node has reported this metric before".clone_into(&mut outcome.message);
        }
    }
}

fn check(metric: &v1::RunMetric) -> Result<RunMetric, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let name = &metric.name;
    let usable = name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(inner)
        && name.len() <= MAX_NAME;
    if !usable {
        return Err(format!(
            "the name must be 1 to {MAX_NAME} lower-case letters, digits and hyphens, begin with a letter and not \
             end with a hyphen"
        ));
    }
    let node = &metric.node_id;
    if node.is_empty() || node.len() > MAX_NODE || node.contains('\0') {
        return Err(format!("the node id must be 1 to {MAX_NODE} characters"));
    }
    match metric.value {
        Some(Value::NumberValue(number)) if number.is_finite() => Ok(RunMetric {
            node_id: node.clone(),
            name: name.clone(),
            number,
            format: metric.format().as_str_name().to_owned(),
        }),
        Some(_) | None => Err("the value must be a finite number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(name: &str, number: f64) -> v1::RunMetric {
        v1::RunMetric {
            name: name.to_owned(),
            node_id: "node".to_owned(),
            format: Format::Percentage.into(),
            value: Some(Value::NumberValue(number)),
        }
    }

    #[test]
    fn each_metric_has_its_own_outcome() {
        let report = vec![
            metric("a-1", 0.5),
            metric("A", 1.0),
            metric("b", f64::NAN),
            metric("c", 2.0),
        ];
        let (good, mut outcomes) = parse(report).unwrap();
        let names: Vec<&str> = good.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["a-1", "c"]);
        complete(&mut outcomes, vec![true, false]);
        let statuses: Vec<Status> = outcomes.iter().map(Outcome::status).collect();
        assert_eq!(
            statuses,
            [
                Status::Ok,
                Status::InvalidArgument,
                Status::InvalidArgument,
                Status::DuplicateReporting
            ]
        );
        let shown: Vec<v1::RunMetric> = render(good).collect();
        assert_eq!(shown[0], metric("a-1", 0.5));
    }
}
