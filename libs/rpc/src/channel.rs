//! The one kind of channel that generated clients use.

use std::error::Error as StdError;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use auth::BearerToken;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Endpoint;
use tonic::{Status, TimeoutExpired};
use tower::{Service, ServiceExt};

use crate::Error;
use crate::switchboard::Line;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A channel to a service in this process or another; cheap to clone. Use it as `XClient::new(channel)`.
///
/// What goes wrong on the way is an answer with a status, as if the service had sent it: `UNAVAILABLE` with a time to
/// retry, or `DEADLINE_EXCEEDED`.
#[derive(Debug, Clone)]
pub struct Channel(Route);

#[derive(Debug, Clone)]
enum Route {
    Local(Arc<Line>),
    Remote(Remote),
}

#[derive(Debug, Clone)]
struct Remote {
    channel: tonic::transport::Channel,
    token: Option<BearerToken>,
    address: Arc<str>,
}

/// The text is not the address of a server.
#[derive(Debug, thiserror::Error)]
#[error("`{address}` is not an address such as http://127.0.0.1:9000")]
pub struct InvalidEndpoint {
    /// What was given.
    pub address: String,
    #[source]
    source: Option<tonic::transport::Error>,
}

impl Channel {
    pub(crate) fn local(line: Arc<Line>) -> Self {
        Self(Route::Local(line))
    }

    /// A channel to a server at `http://HOST:PORT`. It connects when it is used and again after failures; `token` goes
    /// with every call. Must be called within a tokio runtime.
    pub fn remote(address: &str, token: Option<BearerToken>) -> Result<Self, InvalidEndpoint> {
        let invalid = |source| InvalidEndpoint {
            address: address.to_owned(),
            source,
        };
        let endpoint =
            Endpoint::from_shared(address.to_owned()).map_err(|error| invalid(Some(error)))?;
        // tonic would take a path for a unix socket.
        if !address.starts_with("http://") || endpoint.uri().authority().is_none() {
            return Err(invalid(None));
        }
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_lazy();
        Ok(Self(Route::Remote(Remote {
            channel,
            token,
            address: Arc::from(address),
        })))
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // A remote channel is waited for within the call, so that its failure is an answer.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Only metadata passes, so that both shapes behave alike.
        request.extensions_mut().clear();
        match &self.0 {
            Route::Local(line) => match line.stack() {
                Some(mut stack) => {
                    let answer = stack.call(request);
                    Box::pin(async move {
                        match answer.await {
                            Ok(response) => Ok(response),
                            Err(never) => match never {},
                        }
                    })
                }
                None => {
                    let error = Error::Absent(line.name.clone());
                    Box::pin(async move { Ok(aip::status("rpc", &error).into_http()) })
                }
            },
            Route::Remote(remote) => Box::pin(remote.clone().call(request)),
        }
    }
}

impl Remote {
    async fn call(mut self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.header());
        }
        let outcome = match self.channel.ready().await {
            Ok(channel) => channel.call(request).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(response) => Ok(response),
            Err(error) => {
                let error = if has_expired(&error) {
                    Error::Deadline
                } else {
                    tracing::debug!(
                        address = &*self.address,
                        error = aip::chain(&error),
                        "no answer"
                    );
                    Error::Unreachable(self.address.to_string(), error)
                };
                Ok(aip::status("rpc", &error).into_http())
            }
        }
    }
}

/// Tells whether tonic gave up because the call's own timeout passed, which it would report as `CANCELLED`.
fn has_expired(error: &tonic::transport::Error) -> bool {
    let mut source: Option<&dyn StdError> = Some(error);
    while let Some(cause) = source {
        if cause.is::<TimeoutExpired>() {
            return true;
        }
        source = cause.source();
    }
    false
}
