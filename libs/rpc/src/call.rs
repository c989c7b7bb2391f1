//! The server stack: what happens to every call before and after its handler, in memory and over a network alike.
//!
//! It is one service instead of a tower of layers, since calls in memory are frequent and each layer would cost a box.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use aip::Code;
use auth::{BearerToken, Principal};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use runtime::{CatchPanic, Shutdown};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;
use tracing::Instrument;

use crate::body::{Limited, Watched};
use crate::context::{self, Context, PRINCIPAL_HEADER};
use crate::methods::{Method, Methods, Observation};
use crate::{Error, Services};

/// Probes come without a token; what they learn is no secret.
const OPEN_PREFIX: &str = "/grpc.health.v1.Health/";

/// Where calls come from.
#[derive(Debug, Clone)]
pub(crate) enum Edge {
    /// The same process.
    Local,
    /// A network.
    Remote { token: Option<BearerToken> },
}

/// The service that wraps the routes of a server.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    shared: Arc<Shared>,
    routes: Routes,
}

#[derive(Debug)]
struct Shared {
    service: &'static str,
    methods: Methods,
    edge: Edge,
    draining: Shutdown,
    default_timeout: Duration,
    max_request_bytes: usize,
}

impl Stack {
    pub(crate) fn new(
        services: Services,
        methods: Methods,
        edge: Edge,
        draining: Shutdown,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                service: services.service,
                methods,
                edge,
                draining,
                default_timeout: services.default_timeout,
                max_request_bytes: services.max_request_bytes,
            }),
            routes: services.routes.prepare(),
        }
    }
}

impl Service<Request<Body>> for Stack {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        // Axum's router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        let routes = self.routes.clone();
        Box::pin(async move { Ok(shared.answer(routes, request).await) })
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, routes: Routes, mut request: Request<Body>) -> Response<Body> {
        let method = Arc::clone(self.methods.find(request.uri().path()));
        let mut observation = Observation::start(&method);
        let context = match self.admit(&method, &request) {
            Ok(context) => context,
            Err(error) => {
                let status = aip::status(self.service, &error);
                observation.answered();
                observation.ended(status.code());
                return status.into_http();
            }
        };
        let span = tracing::info_span!(
            "call",
            service = self.service,
            method = &*method.name,
            request_id = &*context.request_id,
            trace_id = %format_args!("{:032x}", context.trace.trace_id),
            span_id = %format_args!("{:016x}", context.trace.span_id),
            parent_id = %format_args!("{:016x}", context.trace.parent_id),
            principal = %context.principal,
        );
        let deadline = context.deadline;
        let request_id = Arc::clone(&context.request_id);
        request.extensions_mut().insert(context);
        if !method.client_streams {
            let (limit, patience) = (self.max_request_bytes, self.default_timeout);
            request =
                request.map(|body| Body::new(Limited::new(body, self.service, limit, patience)));
        }
        let handled = handle(routes, request, deadline);
        let handled = handled.instrument(span.clone()).await;
        let response = match handled.and_then(refuse_malformed) {
            Ok(response) => response,
            Err(error) => span.in_scope(|| aip::status(self.service, &error).into_http()),
        };
        observation.answered();
        let response = name_request(response, &request_id);
        match head_code(response.headers()) {
            Some(code) => observation.ended(code),
            None if !method.server_streams => observation.ended(Code::Ok),
            None => {
                return response.map(|body| {
                    Body::new(Watched {
                        inner: Some(body),
                        end: self.end_of_stream(deadline),
                        service: self.service,
                        observation,
                        request_id,
                        span,
                    })
                });
            }
        }
        response
    }

    /// Tells who calls, for what, until when.
    fn admit(&self, method: &Method, request: &Request<Body>) -> Result<Context, Error> {
        let headers = request.headers();
        let open = request.uri().path().starts_with(OPEN_PREFIX);
        let caller = match &self.edge {
            Edge::Remote { token } if !open => auth::authenticate(headers, token.as_ref())?,
            Edge::Remote { .. } | Edge::Local => Principal::local(),
        };
        // Whoever may call this server at all is a service of ours, and says for whom it acts.
        let principal = match headers.get(PRINCIPAL_HEADER) {
            Some(value) => value
                .to_str()
                .map_err(|_| auth::InvalidPrincipal)?
                .parse()?,
            None => caller,
        };
        let timeout = match context::timeout(headers)? {
            None if method.server_streams || method.client_streams => None,
            None => Some(self.default_timeout),
            explicit => explicit,
        };
        let mut context = Context::from_headers(principal, headers);
        context.deadline = timeout.map(|timeout| Instant::now() + timeout);
        Ok(context)
    }

    /// Waits for what ends a stream from our side: its caller's deadline, or the end of the server.
    fn end_of_stream(
        &self,
        deadline: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Error> + Send>> {
        let draining = self.draining.clone();
        Box::pin(async move {
            let passed = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = draining.wait() => Error::Draining,
                () = passed => Error::Deadline,
            }
        })
    }
}

/// Runs the handler until it answers, panics, or the deadline passes.
async fn handle(
    mut routes: Routes,
    request: Request<Body>,
    deadline: Option<Instant>,
) -> Result<Response<Body>, Error> {
    let handler = async move {
        match routes.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    };
    let handler = CatchPanic::new(Box::pin(handler));
    match deadline {
        Some(deadline) => match tokio::time::timeout_at(deadline, handler).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(Error::Deadline),
        },
        None => Ok(handler.await?),
    }
}

/// Generated servers answer INTERNAL to a message that they cannot decode, but it is the caller's fault.
fn refuse_malformed(response: Response<Body>) -> Result<Response<Body>, Error> {
    if head_code(response.headers()) != Some(Code::Internal) {
        return Ok(response);
    }
    let status = Status::from_header_map(response.headers());
    match status
        .as_ref()
        .and_then(|status| malformed(status.message()))
    {
        Some(cause) => Err(Error::Malformed(cause.to_owned())),
        None => Ok(response),
    }
}

/// What is wrong with the request, if that is what the text of a generated server says. A compressed message without a
/// `grpc-encoding` is not among these: the protocol wants INTERNAL there.
fn malformed(text: &str) -> Option<&str> {
    const DECODING: &str = "failed to decode Protobuf message: ";
    const FLAG: &str = "protocol error: received message with invalid compression flag";
    const UNPACKING: &str = "Error decompressing: ";
    match text {
        "Missing request message." => Some("there is no message"),
        "Unexpected EOF decoding stream." => Some("the message ends too early"),
        _ if text.starts_with(FLAG) => Some("the flag before the message is neither 0 nor 1"),
        _ if text.starts_with(UNPACKING) => Some("the message cannot be decompressed"),
        // The path of a message that is nested too deep is as long as it is deep: only its end says why.
        _ => text.strip_prefix(DECODING)?.rsplit(": ").next(),
    }
}

/// The code of an answer that has no body.
fn head_code(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// Tells the caller of an internal error under which id the log has the cause.
fn name_request(mut response: Response<Body>, request_id: &str) -> Response<Body> {
    add_request_id(response.headers_mut(), request_id);
    response
}

pub(crate) fn add_request_id(headers: &mut HeaderMap, request_id: &str) {
    if head_code(headers) != Some(Code::Internal) {
        return;
    }
    if let Some(status) = Status::from_header_map(headers) {
        let named = aip::with_request_id(&status, request_id);
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            headers.remove(name);
        }
        // It fails only for metadata that came from headers, which is valid.
        named.add_header(headers).ok();
    }
}
