//! A gRPC server on a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use auth::BearerToken;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use runtime::{Host, Kind, Listener, Readiness, Shutdown, Stop};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::ServiceExt;

use crate::Services;
use crate::call::{Edge, Stack};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Limits and protection of a server.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// What every caller must present, except for health checks.
    pub token: Option<BearerToken>,
    /// Connections at a time; more wait in the system's queue.
    pub max_connections: usize,
    /// Calls at a time on a connection.
    pub max_streams: u32,
    /// The largest list of headers, in bytes.
    pub max_header_bytes: u32,
    /// How often an idle connection is checked.
    pub keep_alive: Duration,
    /// Whether reflection answers.
    pub reflection: bool,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            token: None,
            max_connections: 4096,
            max_streams: 1024,
            max_header_bytes: 32 * 1024,
            keep_alive: Duration::from_secs(30),
            reflection: true,
        }
    }
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A descriptor is not readable, which is a bug of the build.
    #[error("cannot offer reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves `services` on `listener`, with health that follows the host's readiness and, if wanted, reflection, until the
/// host's supervisor ends: then it accepts no more, says GOAWAY, ends streams with `UNAVAILABLE` and finishes unary
/// calls. Returns the bound address.
pub fn serve(
    host: &Host,
    listener: Listener,
    mut services: Services,
    options: ServeOptions,
) -> Result<SocketAddr, ServeError> {
    let address = listener.local_addr();
    let (reporter, health) = tonic_health::server::health_reporter();
    let names = services.names().to_vec();
    let readiness = host.readiness.clone();
    host.supervisor.spawn(Kind::HELPER, "health", move |_| {
        report_health(reporter.clone(), readiness.clone(), names.clone())
    });
    services = services
        .descriptor(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .add(health);
    if options.reflection {
        let mut reflection = tonic_reflection::server::Builder::configure();
        for descriptor in &services.descriptors {
            reflection = reflection.register_encoded_file_descriptor_set(descriptor);
        }
        services = services
            .descriptor(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .add(reflection.build_v1()?);
    }
    let edge = Edge::Remote {
        token: options.token.clone(),
    };
    let draining = Stop::new();
    let stack = services.into_stack(edge, &host.metrics, draining.signal());
    let mut parts = Some((listener, stack));
    host.supervisor
        .spawn(Kind::ESSENTIAL, "grpc", move |shutdown| {
            let parts = parts.take();
            let (options, draining) = (options.clone(), draining.clone());
            async move {
                if let Some((listener, stack)) = parts {
                    accept(listener, stack, &options, shutdown, draining).await;
                }
            }
        });
    Ok(address)
}

async fn report_health(reporter: HealthReporter, readiness: Readiness, names: Vec<&'static str>) {
    let mut ready = readiness.ready();
    loop {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        // The empty name stands for the whole server.
        for name in names.iter().copied().chain([""]) {
            reporter.set_service_status(name, status).await;
        }
        ready = readiness.changed_from(ready).await;
    }
}

async fn accept(
    mut listener: Listener,
    stack: Stack,
    options: &ServeOptions,
    shutdown: Shutdown,
    draining: Stop,
) {
    let mut connections = JoinSet::new();
    let places = Arc::new(Semaphore::new(options.max_connections));
    loop {
        // The place comes first: a connection that cannot be served stays in the system's queue.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await.0, place)
        };
        let (stream, place) = tokio::select! {
            biased;
            () = shutdown.wait() => break,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        let connection = connection(stream, stack.clone(), options, draining.signal());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    // Closes the socket, so that a successor can have the port while calls end here.
    drop(listener);
    draining.request();
    while connections.join_next().await.is_some() {}
}

fn connection(
    stream: TcpStream,
    stack: Stack,
    options: &ServeOptions,
    draining: Shutdown,
) -> impl Future<Output = ()> + Send + 'static {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_streams)
        .max_header_list_size(options.max_header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(options.keep_alive)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    async move {
        let service = stack.map_request(|request: Request<Incoming>| request.map(Body::new));
        let service = TowerToHyperService::new(service);
        let mut connection =
            std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = draining.wait() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(
                error = aip::chain(&error),
                "a connection ended with an error"
            );
        }
    }
}
