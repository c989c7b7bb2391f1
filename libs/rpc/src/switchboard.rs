//! Channels to services of the same process, which exist before the services do.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use runtime::{Metrics, Stop};

use crate::call::{Edge, Stack};
use crate::{Channel, Services};

/// Connects services of one process by the names of their gRPC services. Clones are the same switchboard.
#[derive(Debug, Clone, Default)]
pub struct Switchboard(Arc<Mutex<HashMap<String, Arc<Line>>>>);

/// The place of one gRPC service; empty before it is registered and after it stopped.
pub(crate) struct Line {
    pub(crate) name: String,
    stack: RwLock<Option<Stack>>,
}

impl Line {
    pub(crate) fn stack(&self) -> Option<Stack> {
        self.stack
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, stack: Option<Stack>) {
        *self.stack.write().unwrap_or_else(PoisonError::into_inner) = stack;
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Switchboard {
    /// Without any service.
    pub fn new() -> Self {
        Self::default()
    }

    /// A channel to the gRPC service `name`, such as `flumina.runner.v1.WorkloadService`. Calls answer `UNAVAILABLE`
    /// while it is not registered.
    pub fn channel(&self, name: &str) -> Channel {
        Channel::local(self.line(name))
    }

    /// Connects the services. They stay connected until [`Registration::stop`], also when the registration is dropped.
    pub fn register(&self, services: Services, metrics: &Metrics) -> Registration {
        let stop = Stop::new();
        let lines: Vec<_> = services
            .names()
            .iter()
            .map(|name| self.line(name))
            .collect();
        let stack = services.into_stack(Edge::Local, metrics, stop.signal());
        for line in &lines {
            line.set(Some(stack.clone()));
        }
        Registration { lines, stop }
    }

    fn line(&self, name: &str) -> Arc<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Line {
                name: name.to_owned(),
                stack: RwLock::new(None),
            })
        });
        Arc::clone(line)
    }
}

/// Services that are connected.
#[derive(Debug)]
pub struct Registration {
    lines: Vec<Arc<Line>>,
    stop: Stop,
}

impl Registration {
    /// Disconnects the services: new calls are `UNAVAILABLE`, streams end, unary calls that run go on.
    pub fn stop(&self) {
        for line in &self.lines {
            line.set(None);
        }
        self.stop.request();
    }
}
