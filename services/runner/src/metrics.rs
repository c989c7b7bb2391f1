//! What the runner counts.

use runtime::prometheus_client::encoding::EncodeLabelSet;
use runtime::prometheus_client::metrics::counter::Counter;
use runtime::prometheus_client::metrics::family::Family;
use runtime::prometheus_client::metrics::gauge::Gauge;

use crate::domain::state::State;

/// The label of a final state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    state: &'static str,
}

/// Metric handles.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) launched: Counter,
    ended: Family<Ended, Counter>,
    running: Gauge,
    queued: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &runtime::Metrics) -> Self {
        let registry = registry.part("runner");
        Self {
            launched: registry.counter("workloads_launched", "Workloads that were accepted"),
            running: registry.gauge("workloads_running", "Workloads that have their cores now"),
            queued: registry.gauge(
                "workloads_queued",
                "Workloads that wait for cores, memory or a gang",
            ),
            ended: registry.register(
                "workloads_ended",
                "Workloads that ended, by state",
                Family::default(),
            ),
        }
    }

    pub(crate) fn live(&self, running: usize, queued: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.running.set(number(running));
        self.queued.set(number(queued));
    }

    pub(crate) fn ended(&self, state: State) {
        let label = Ended {
            state: state.as_str(),
        };
        self.ended.get_or_create(&label).inc();
    }
}
