//! A metrics registry that is passed down, never global.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// A place to register metrics under a prefix. Clones and parts share one registry, which the admin port prints.
///
/// Label values come from closed sets (method, code, state), never from ids.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    prefix: String,
}

impl Metrics {
    /// An empty registry; names begin with `flumina_`.
    pub fn new() -> Self {
        Self {
            registry: Arc::default(),
            prefix: "flumina".to_owned(),
        }
    }

    /// The part of the registry whose names begin with this part's prefix, `name` and `_`. A hyphen becomes `_`.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
            prefix: format!("{}_{}", self.prefix, name.replace('-', "_")),
        }
    }

    /// Registers a metric and gives it back. Counters get the suffix `_total` when printed.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let name = format!("{}_{name}", self.prefix);
        self.registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .register(name, help, metric.clone());
        metric
    }

    /// Registers a counter.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Registers a histogram of seconds, from 100 µs to 100 s.
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.register(name, help, Self::seconds_histogram())
    }

    /// A histogram of seconds that is not registered, for families.
    pub fn seconds_histogram() -> Histogram {
        Histogram::new([
            1e-4, 2.5e-4, 1e-3, 2.5e-3, 1e-2, 2.5e-2, 0.1, 0.25, 1.0, 2.5, 10.0, 100.0,
        ])
    }

    /// The whole registry in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a string fails only if a metric's own encoder does; a partial page is still useful.
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
            tracing::warn!(%error, "cannot print the metrics");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_a_registry_and_prefix_their_names() {
        let metrics = Metrics::new();
        metrics
            .part("pipeline-orchestrator")
            .counter("runs_started", "Runs that started")
            .inc();
        let text = metrics.encode();
        assert!(
            text.contains("flumina_pipeline_orchestrator_runs_started_total 1"),
            "{text}"
        );
    }
}
