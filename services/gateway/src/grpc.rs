//! gRPC and gRPC-web: calls pass through as they are, to the peers that serve them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version};
use http_body::Frame;
use prost_reflect::DescriptorPool;
use rpc::Context;
use runtime::Shutdown;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service, ServiceExt};

use crate::rest::Failure;
use crate::{Error, Peers};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Passes calls on.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    peers: Peers,
    /// By path: whether the method streams.
    methods: HashMap<String, bool>,
    unary_timeout: HeaderValue,
    draining: Shutdown,
}

impl Proxy {
    pub(crate) fn new(
        peers: Peers,
        pool: &DescriptorPool,
        unary_timeout: Duration,
        draining: Shutdown,
    ) -> Self {
        let mut methods = HashMap::new();
        for service in pool.services() {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let streams = method.is_client_streaming() || method.is_server_streaming();
                methods.insert(path, streams);
            }
        }
        let timeout = format!("{}m", unary_timeout.as_millis().min(99_999_999));
        Self(Arc::new(Inner {
            peers,
            methods,
            unary_timeout: HeaderValue::try_from(timeout)
                .unwrap_or(HeaderValue::from_static("60S")),
            draining,
        }))
    }

    /// gRPC over HTTP/2.
    pub(crate) async fn native(&self, context: &Context, request: Request<Body>) -> Response<Body> {
        if request.version() != Version::HTTP_2 {
            return Failure::from(Error::NeedsHttp2).grpc_web_response();
        }
        self.pass(context, request).await
    }

    /// gRPC-web over any HTTP.
    pub(crate) async fn web(&self, context: &Context, request: Request<Body>) -> Response<Body> {
        let (proxy, context) = (self.clone(), context.clone());
        let inner = tower::service_fn(move |request: Request<Body>| {
            let (proxy, context) = (proxy.clone(), context.clone());
            let answer: BoxFuture<'static, Result<Response<Body>, Infallible>> =
                Box::pin(async move { Ok(proxy.pass(&context, request).await) });
            answer
        });
        match tonic_web::GrpcWebLayer::new()
            .layer(inner)
            .oneshot(request)
            .await
        {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn pass(&self, context: &Context, mut request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let service = path
            .strip_prefix('/')
            .and_then(|path| path.split_once('/'))
            .map_or("", |(service, _)| service);
        let inner = &*self.0;
        let Some(mut channel) = inner.peers.channel(service).cloned() else {
            let name = service.chars().take(200).collect();
            return Failure::from(Error::NoService(name)).grpc_response();
        };
        // Methods that nobody knows are answered by the peer; they are taken for unary.
        let streams = inner.methods.get(path).copied().unwrap_or(false);
        if let Ok(bare) = path.parse::<Uri>() {
            *request.uri_mut() = bare;
        }
        prepare(request.headers_mut(), context);
        if !streams && !request.headers().contains_key(TIMEOUT) {
            request
                .headers_mut()
                .insert(TIMEOUT, inner.unary_timeout.clone());
        }
        match channel.call(request).await {
            Ok(response) => self.ending(streams, response),
            Err(status) => status.into_http(),
        }
    }

    /// A stream ends with `UNAVAILABLE` when the gateway does; unary calls are finished.
    fn ending(&self, streams: bool, response: Response<Body>) -> Response<Body> {
        if !streams {
            return response;
        }
        let draining = self.0.draining.clone();
        response.map(|inner| {
            Body::new(EndingBody {
                inner: Some(inner),
                end: Box::pin(async move { draining.wait().await }),
            })
        })
    }
}

/// What belongs to the connection or to the caller's relation with the gateway stays here; who, which request and
/// which trace is said anew.
fn prepare(headers: &mut HeaderMap, context: &Context) {
    for name in [AUTHORIZATION, COOKIE, HOST, CONTENT_LENGTH] {
        headers.remove(name);
    }
    context.inject(headers);
}

struct EndingBody {
    inner: Option<Body>,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl http_body::Body for EndingBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        if this.end.as_mut().poll(context).is_ready() {
            this.inner = None;
            let mut trailers = HeaderMap::new();
            // The text of our own status is ASCII, so that it can be sent.
            Error::Draining.status().add_header(&mut trailers).ok();
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(inner).poll_frame(context));
        if frame.is_none() {
            this.inner = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }
}
