//! The servers of one service, before it is decided how they are reached.

use std::fmt;
use std::time::Duration;

use http::Request;
use runtime::{Metrics, Shutdown};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use crate::call::{Edge, Stack};
use crate::methods::Methods;

/// How long a unary call may take when its caller sets no deadline.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The generated servers of a service with the descriptors that describe them.
#[derive(Clone)]
pub struct Services {
    pub(crate) service: &'static str,
    pub(crate) routes: Routes,
    pub(crate) names: Vec<&'static str>,
    pub(crate) descriptors: Vec<&'static [u8]>,
    pub(crate) default_timeout: Duration,
    pub(crate) max_request_bytes: usize,
}

impl Services {
    /// Nothing yet; `service` is the service's name, which becomes the domain of the errors that the stack answers.
    pub fn new(service: &'static str) -> Self {
        Self {
            service,
            routes: Routes::default(),
            names: Vec::new(),
            descriptors: Vec::new(),
            default_timeout: DEFAULT_TIMEOUT,
            max_request_bytes: crate::MAX_MESSAGE_BYTES,
        }
    }

    /// Adds the descriptor set (`DESCRIPTOR` of an API crate) that describes servers added here. It tells which methods
    /// stream, names them in metrics and answers reflection.
    #[must_use]
    pub fn descriptor(mut self, descriptor: &'static [u8]) -> Self {
        self.descriptors.push(descriptor);
        self
    }

    /// Adds a generated server.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "it reads as tonic's own builder, and is no sum"
    )]
    pub fn add<S>(mut self, server: S) -> Self
    where
        S: Service<
                Request<Body>,
                Response = http::Response<Body>,
                Error = std::convert::Infallible,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(server);
        self
    }

    /// How long a unary call may take when its caller sets no deadline, and how long the message of any call may take to
    /// arrive; 60 seconds unless set.
    #[must_use]
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.default_timeout = timeout;
        self
    }

    /// The largest request of a method that takes one message, in bytes; [`crate::MAX_MESSAGE_BYTES`] unless set.
    #[must_use]
    pub fn max_request_bytes(mut self, limit: usize) -> Self {
        self.max_request_bytes = limit;
        self
    }

    /// The full names of the gRPC services added here.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    pub(crate) fn into_stack(self, edge: Edge, metrics: &Metrics, draining: Shutdown) -> Stack {
        let descriptors: Vec<&[u8]> = self.descriptors.to_vec();
        let methods = Methods::new(metrics, &descriptors, &self.names);
        Stack::new(self, methods, edge, draining)
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services")
            .field("service", &self.service)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}
