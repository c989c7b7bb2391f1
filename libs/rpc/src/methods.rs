//! What is known of the methods of a server: their shape, from descriptors, and their metrics.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use aip::Code;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prost::Message;
use prost_types::FileDescriptorSet;
use runtime::Metrics;
use tokio::time::Instant;

const CODES: usize = 17;

/// A method's shape and its metrics.
#[derive(Debug)]
pub(crate) struct Method {
    /// `package.Service/Method`, or `unknown`.
    pub(crate) name: Arc<str>,
    /// Whether the client sends more than one message.
    pub(crate) client_streams: bool,
    /// Whether the server sends more than one message.
    pub(crate) server_streams: bool,
    seconds: Histogram,
    calls: Family<CodeLabel, Counter>,
    codes: [OnceLock<Counter>; CODES],
    active: Gauge,
}

impl Method {
    /// The counters of a method come into being with their first call, and are then found without a lock.
    fn count(&self, code: Code) {
        if let Some(counter) = self.codes.get(code as usize) {
            let label = || CodeLabel {
                method: Name(Arc::clone(&self.name)),
                code: code_name(code),
            };
            counter
                .get_or_init(|| self.calls.get_or_create_owned(&label()))
                .inc();
        }
    }
}

/// All methods of a server.
#[derive(Debug)]
pub(crate) struct Methods {
    by_path: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: Name,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    method: Name,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        (&*self.0).encode(encoder)
    }
}

struct Families {
    calls: Family<CodeLabel, Counter>,
    seconds: Family<MethodLabel, Histogram, fn() -> Histogram>,
    active: Gauge,
}

impl Families {
    fn new(metrics: &Metrics) -> Self {
        let seconds: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(Metrics::seconds_histogram);
        Self {
            calls: metrics.register("rpc_calls", "Calls that ended", Family::default()),
            seconds: metrics.register("rpc_seconds", "Time to the answer's head", seconds),
            active: metrics.gauge("rpc_active", "Calls that are running"),
        }
    }

    fn method(&self, name: &str, client_streams: bool, server_streams: bool) -> Arc<Method> {
        let name: Arc<str> = Arc::from(name);
        let label = MethodLabel {
            method: Name(Arc::clone(&name)),
        };
        Arc::new(Method {
            client_streams,
            server_streams,
            seconds: self.seconds.get_or_create_owned(&label),
            calls: self.calls.clone(),
            codes: Default::default(),
            active: self.active.clone(),
            name,
        })
    }
}

impl Methods {
    /// The methods in `descriptors` that belong to the services `names`. Bytes that are no descriptor add nothing.
    pub(crate) fn new(metrics: &Metrics, descriptors: &[&[u8]], names: &[&str]) -> Self {
        let families = Families::new(metrics);
        let mut by_path = HashMap::new();
        for bytes in descriptors {
            let set = match FileDescriptorSet::decode(*bytes) {
                Ok(set) => set,
                Err(error) => {
                    tracing::warn!(%error, "a descriptor cannot be read");
                    continue;
                }
            };
            for file in &set.file {
                for service in &file.service {
                    let name = format!("{}.{}", file.package(), service.name());
                    if !names.contains(&name.as_str()) {
                        continue;
                    }
                    for method in &service.method {
                        let name = format!("{name}/{}", method.name());
                        let known = families.method(
                            &name,
                            method.client_streaming(),
                            method.server_streaming(),
                        );
                        by_path.insert(format!("/{name}"), known);
                    }
                }
            }
        }
        // A method without a descriptor is treated as a stream: no deadline of ours, no limit over all messages.
        let unknown = families.method("unknown", true, true);
        Self { by_path, unknown }
    }

    pub(crate) fn find(&self, path: &str) -> &Arc<Method> {
        self.by_path.get(path).unwrap_or(&self.unknown)
    }
}

/// Counts one call when it ends, however it ends.
#[derive(Debug)]
pub(crate) struct Observation {
    method: Arc<Method>,
    started: Instant,
    code: Code,
}

impl Observation {
    pub(crate) fn start(method: &Arc<Method>) -> Self {
        method.active.inc();
        Self {
            method: Arc::clone(method),
            started: Instant::now(),
            // What is dropped before it ends was given up by its caller.
            code: Code::Cancelled,
        }
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self) {
        self.method
            .seconds
            .observe(self.started.elapsed().as_secs_f64());
    }

    pub(crate) fn ended(&mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.method.active.dec();
        self.method.count(self.code);
        tracing::debug!(
            method = &*self.method.name,
            code = code_name(self.code),
            elapsed = ?self.started.elapsed(),
            "call"
        );
    }
}

/// The name of a code as the protocol spells it.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
