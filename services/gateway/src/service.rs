//! The assembly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use auth::{BearerToken, Origins, Unusable};
use prost_reflect::DescriptorPool;
use rpc::{Channel, InvalidEndpoint, Switchboard};
use runtime::{Host, Kind, ListenError, Listener, Stop};

use crate::edge::Edge;
use crate::grpc::Proxy;
use crate::handlers::Handlers;
use crate::json::{self, Schema};
use crate::metrics::Metrics;
use crate::peers::is_public;
use crate::rest::{Heavy, RouteError, Routes, Transcoder};
use crate::{Config, Peers, own, server};

/// Why the gateway cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A descriptor is not readable, which is a bug of the build.
    #[error("a descriptor set cannot be read")]
    Descriptor(#[from] prost_reflect::DescriptorError),
    /// The routes of the contracts do not fit together.
    #[error("the table of routes cannot be built")]
    Routes(#[from] RouteError),
    /// Reflection cannot be offered, which is a bug of the build.
    #[error("reflection cannot be built")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A token that no header can carry.
    #[error("the token cannot be used")]
    Token(#[from] Unusable),
    /// The address of a peer.
    #[error("the address of a peer cannot be used")]
    Peer(#[from] InvalidEndpoint),
    /// The public port.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A gateway that is built and does nothing yet.
#[derive(Debug)]
pub struct Service {
    config: Config,
    peers: Peers,
    token: Option<BearerToken>,
    pool: DescriptorPool,
    schema: Schema,
    routes: Routes,
}

/// Builds the gateway in front of `peers`.
pub fn build(config: Config, peers: Peers) -> Result<Service, BuildError> {
    let pool = public_pool()?;
    let details = DescriptorPool::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    let schema = Schema::new([&pool, &details]);
    let routes = Routes::new(&pool, &schema, is_public)?;
    let token = config.token.as_ref().map(BearerToken::new).transpose()?;
    Ok(Service {
        config,
        peers,
        token,
        pool,
        schema,
        routes,
    })
}

/// The peers of a gateway that is a process of its own. Must be called within a tokio runtime.
pub fn remote_peers(config: &Config) -> Result<Peers, BuildError> {
    let peers = &config.peers;
    let token = peers.token.as_ref().map(BearerToken::new).transpose()?;
    let runner_token = match &peers.runner_token {
        Some(own) => Some(BearerToken::new(own)?),
        None => token.clone(),
    };
    let pipelines = Channel::remote(&peers.pipelines, token)?;
    let runner = Channel::remote(&peers.runner, runner_token)?;
    Ok(Peers::new(|service| match Peers::is_of_runner(service) {
        true => runner.clone(),
        false => pipelines.clone(),
    }))
}

/// The table of routes as text, as it is committed in `routes.txt`.
pub fn route_table() -> Result<String, BuildError> {
    let pool = public_pool()?;
    let schema = Schema::new([&pool]);
    Ok(Routes::new(&pool, &schema, is_public)?.table())
}

fn public_pool() -> Result<DescriptorPool, BuildError> {
    let mut pool = DescriptorPool::new();
    for descriptor in own::DESCRIPTORS {
        pool.decode_file_descriptor_set(descriptor)?;
    }
    Ok(pool)
}

impl Service {
    /// Listens and serves in the host's supervisor until that ends; returns the bound address. Must be called within a
    /// tokio runtime.
    pub fn start(self, host: &Host) -> Result<SocketAddr, BuildError> {
        let guard = runtime::Guard::new(self.token.as_ref(), self.config.insecure);
        let listener = Listener::bind("the public port", self.config.listen, guard)?;
        let address = listener.local_addr();
        let draining = Stop::new();
        let limits = self.config.limits.clone();
        let edge = Arc::new(self.edge(host, address, &draining)?);
        let mut parts = Some((listener, edge));
        host.supervisor
            .spawn(Kind::ESSENTIAL, "public-port", move |shutdown| {
                let parts = parts.take();
                let (limits, draining) = (limits.clone(), draining.clone());
                async move {
                    if let Some((listener, edge)) = parts {
                        server::serve(listener, edge, &limits, shutdown, draining).await;
                    }
                }
            });
        Ok(address)
    }

    fn edge(self, host: &Host, address: SocketAddr, draining: &Stop) -> Result<Edge, BuildError> {
        let own = Switchboard::new();
        own::register(host, &own, self.config.reflection)?;
        let peers = self.peers.with_own(&own);
        let limits = self.config.limits;
        let unary_timeout = Duration::from_secs(limits.unary_seconds);
        let transcoder = Transcoder {
            schema: Arc::new(self.schema),
            limits: json::Limits {
                bytes: limits.body_bytes,
                ..json::Limits::default()
            },
            body_idle: Duration::from_secs(limits.body_idle_seconds),
            unary_timeout,
            draining: draining.signal(),
            heavy: Heavy::new(),
        };
        Ok(Edge {
            origins: Origins::new(address, &self.config.allowed_hosts),
            token: self.token,
            routes: self.routes,
            proxy: Proxy::new(peers.clone(), &self.pool, unary_timeout, draining.signal()),
            handlers: Handlers {
                peers,
                transcoder: transcoder.clone(),
                readiness: host.readiness.clone(),
                limits,
                draining: draining.signal(),
            },
            transcoder,
            metrics: Metrics::new(&host.metrics),
            clock: host.clock.clone(),
        })
    }
}
