//! The way of one request: who asks, from where, for what; and what every answer carries.

use std::sync::Arc;
use std::time::Instant;

use auth::{BearerToken, Origins, Principal};
use clock::Clock;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use rpc::Context;
use runtime::CatchPanic;
use tonic::body::Body;

use crate::Error;
use crate::grpc::Proxy;
use crate::handlers::page::is_file;
use crate::handlers::{Call, Handlers};
use crate::metrics::{Metrics, Protocol};
use crate::rest::{Dialect, Failure, Found, Routes, Target, Transcoder};

const REQUEST_ID: HeaderName = HeaderName::from_static(rpc::REQUEST_ID_HEADER);

/// Serves all requests of the public port.
pub(crate) struct Edge {
    pub(crate) origins: Origins,
    pub(crate) token: Option<BearerToken>,
    pub(crate) routes: Routes,
    pub(crate) proxy: Proxy,
    pub(crate) transcoder: Transcoder,
    pub(crate) handlers: Handlers,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
}

impl Edge {
    /// Answers a request.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let started = self.clock.monotonic();
        let request = request.map(Body::new);
        let protocol = protocol(request.headers());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        // Whoever calls is not known yet; what a caller says about itself is not believed.
        let mut context = Context::from_headers(Principal::local(), request.headers());
        let answer = Box::pin(self.answer(protocol, &mut context, request));
        let mut response = match CatchPanic::new(answer).await {
            Ok(response) => response,
            Err(panic) => self.refuse(
                protocol,
                &path,
                Failure::from(Error::Panicked(panic.to_string())),
            ),
        };
        decorate(protocol, &path, response.headers_mut());
        if let Ok(id) = HeaderValue::try_from(&*context.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.record(
            protocol,
            &method,
            &path,
            &context,
            started,
            response.status(),
        );
        response
    }

    async fn answer(
        &self,
        protocol: Protocol,
        context: &mut Context,
        request: Request<Body>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if let Err(error) = self.admit(protocol, context, &parts) {
            return self.refuse(protocol, parts.uri.path(), error.into());
        }
        match protocol {
            Protocol::Grpc => {
                let request = Request::from_parts(parts, body);
                self.proxy.native(context, request).await
            }
            Protocol::GrpcWeb => {
                let request = Request::from_parts(parts, body);
                self.proxy.web(context, request).await
            }
            Protocol::Http => match self.rest(context, &parts, body).await {
                Ok(response) => response,
                Err(failure) => {
                    tracing::debug!(code = ?failure.code(), request_id = &*context.request_id, "refused");
                    self.refuse(protocol, parts.uri.path(), failure)
                }
            },
        }
    }

    /// Checks origin and caller before anything of the request is used.
    fn admit(
        &self,
        protocol: Protocol,
        context: &mut Context,
        parts: &http::request::Parts,
    ) -> Result<(), Error> {
        let page = protocol == Protocol::Http && parts.uri.path() == "/";
        self.origins.check(parts, page)?;
        // Probes come without a token, as to every other port of ours; what they learn is no secret. So does the page,
        // which asks for the token itself.
        let path = parts.uri.path();
        let open = match protocol {
            Protocol::Http => matches!(path, "/livez" | "/readyz") || is_file(path),
            Protocol::Grpc | Protocol::GrpcWeb => path.starts_with("/grpc.health.v1.Health/"),
        };
        if !open {
            context.principal = auth::authenticate(&parts.headers, self.token.as_ref())?;
        }
        Ok(())
    }

    async fn rest(
        &self,
        context: &Context,
        parts: &http::request::Parts,
        body: Body,
    ) -> Result<Response<Body>, Failure> {
        let path = parts.uri.path();
        // hyper leaves the body of an answer to HEAD out.
        let method = match parts.method {
            Method::HEAD => &Method::GET,
            ref other => other,
        };
        match self.routes.find(method, path) {
            Found::Nothing => Err(Error::NoRoute(path.chars().take(500).collect()).into()),
            Found::OtherMethods(allowed) => Err(Error::Method {
                method: parts.method.to_string(),
                allowed: allowed.join(", "),
            }
            .into()),
            Found::Target(Target::Rpc(rpc), variables) => {
                let Some(channel) = self.handlers.peers.channel(&rpc.service) else {
                    return Err(Error::NoService(rpc.service.to_string()).into());
                };
                self.transcoder
                    .call(rpc, channel, context, parts, body, &variables)
                    .await
            }
            Found::Target(Target::Handler(handler), variables) => {
                let call = Call {
                    context,
                    parts,
                    variables: &variables,
                };
                self.handlers.serve(*handler, call, body).await
            }
        }
    }

    fn refuse(&self, protocol: Protocol, path: &str, failure: Failure) -> Response<Body> {
        match protocol {
            Protocol::Grpc => failure.grpc_response(),
            Protocol::GrpcWeb => failure.grpc_web_response(),
            Protocol::Http => failure.response(Dialect::of_path(path), &self.transcoder.schema),
        }
    }

    /// Counts and logs the answer. Query strings are left out: they may hold what the log must not.
    fn record(
        &self,
        protocol: Protocol,
        method: &Method,
        path: &str,
        context: &Context,
        started: Instant,
        status: StatusCode,
    ) {
        let elapsed = self.clock.monotonic().saturating_duration_since(started);
        self.metrics.observe(protocol, status, elapsed);
        let micros = elapsed.as_micros() as u64;
        let (status, request_id) = (status.as_u16(), &*context.request_id);
        let trace = tracing::field::display(&context.trace);
        if status >= 500 {
            tracing::info!(?protocol, %method, path, status, micros, request_id, trace, "request");
        } else {
            tracing::debug!(?protocol, %method, path, status, micros, request_id, trace, "request");
        }
    }
}

fn protocol(headers: &HeaderMap) -> Protocol {
    let kind = headers
        .get(CONTENT_TYPE)
        .map_or(&b""[..], HeaderValue::as_bytes);
    match kind.strip_prefix(b"application/grpc") {
        Some(rest) if rest.starts_with(b"-web") => Protocol::GrpcWeb,
        Some([] | [b'+' | b';', ..]) => Protocol::Grpc,
        _ => Protocol::Http,
    }
}

/// Headers that keep a browser from doing more with an answer than showing it.
fn decorate(protocol: Protocol, path: &str, headers: &mut HeaderMap) {
    if protocol == Protocol::Grpc {
        return;
    }
    let mut set = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    if is_file(path) {
        set(CACHE_CONTROL, "no-cache");
    } else {
        set(CACHE_CONTROL, "no-store");
    }
}
