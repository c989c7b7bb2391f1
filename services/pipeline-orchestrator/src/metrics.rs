//! Metrics of the service.

use runtime::Metrics;
use runtime::prometheus_client::metrics::counter::Counter;
use runtime::prometheus_client::metrics::gauge::Gauge;

/// Handles of the metrics; names begin with `flumina_pipeline_orchestrator_`.
#[derive(Debug, Clone)]
pub struct OrchestratorMetrics {
    /// Runs that were created.
    pub runs_created: Counter,
    /// Runs that the engine holds in memory.
    pub runs_active: Gauge,
    /// Answers to repeated calls that were removed.
    pub answers_purged: Counter,
}

impl OrchestratorMetrics {
    /// Registers the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let metrics = metrics.part(crate::error::SERVICE);
        Self {
            runs_created: metrics.counter("runs_created", "Runs that were created"),
            runs_active: metrics.gauge("runs_active", "Runs that the engine holds in memory"),
            answers_purged: metrics.counter(
                "answers_purged",
                "Kept answers to repeated calls that were removed",
            ),
        }
    }
}
