//! Metrics of the service.

use runtime::Metrics;
use runtime::prometheus_client::metrics::counter::Counter;

/// Handles of the metrics; names begin with `flumina_pipeline_orchestrator_`.
#[derive(Debug, Clone)]
pub struct OrchestratorMetrics {
    /// Runs that were created.
    pub runs_created: Counter,
    /// Answers to repeated calls that were removed.
    pub answers_purged: Counter,
}

impl OrchestratorMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let metrics = metrics.part(crate::error::SERVICE);
        Self {
            runs_created: metrics.counter("runs_created", "Runs that were created"),
            answers_purged: metrics.counter(
                "answers_purged",
                "Kept answers to repeated calls that were removed",
            ),
        }
    }
}
