//! What the gateway counts.

use std::time::Duration;

use http::StatusCode;
use runtime::prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use runtime::prometheus_client::metrics::counter::Counter;
use runtime::prometheus_client::metrics::family::Family;
use runtime::prometheus_client::metrics::gauge::Gauge;
use runtime::prometheus_client::metrics::histogram::Histogram;

/// How a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb,
    Http,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    protocol: Protocol,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Way {
    protocol: Protocol,
}

/// Handles of the metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<Answer, Counter>,
    seconds: Family<Way, Histogram, fn() -> Histogram>,
    pub(crate) connections: Gauge,
}

impl Metrics {
    pub(crate) fn new(metrics: &runtime::Metrics) -> Self {
        let metrics = metrics.part("gateway");
        Self {
            requests: metrics.register("requests", "Requests answered", Family::default()),
            seconds: metrics.register(
                "answer_seconds",
                "Time until the head of the answer",
                Family::new_with_constructor(runtime::Metrics::seconds_histogram as fn() -> _),
            ),
            connections: metrics.gauge("connections", "Open connections"),
        }
    }

    pub(crate) fn observe(&self, protocol: Protocol, status: StatusCode, elapsed: Duration) {
        let status = status.as_u16();
        self.requests
            .get_or_create(&Answer { protocol, status })
            .inc();
        self.seconds
            .get_or_create(&Way { protocol })
            .observe(elapsed.as_secs_f64());
    }
}
