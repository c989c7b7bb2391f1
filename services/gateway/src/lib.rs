//! The one public port: gRPC, gRPC-web and REST in front of the services.
//!
//! A request is told apart by its content type. gRPC passes through to the peer that serves it, as bytes. gRPC-web is
//! unwrapped and then passes likewise. Everything else is looked up in one table of routes, which is made from the
//! `google.api.http` rules of the contracts and a list of handlers; `routes.txt` shows it. REST requests are translated
//! to the wire format and answers back, in one pass each ([`json`]).
//!
//! Invariants:
//! - only services named in [`Peers`] can be reached; what a caller says about its own identity is removed;
//! - before anything of a request is used, its host, origin and token are checked;
//! - every status, the gateway's own and the services', is rendered by the path's [`Dialect`];
//! - nothing durable: a request that breaks off leaves nothing behind, and its call is cancelled;
//! - unary calls have a deadline, streams end with the client or with the server.
//!
//! Streams over REST are lines of JSON, `{"result": …}` each, and end with `{"error": …}` if they fail. Query
//! parameters that a method does not know are passed over, as Kubeflow's gateway does; unknown fields of bodies are
//! refused.

mod config;
mod edge;
mod error;
mod grpc;
mod handlers;
pub mod json;
mod metrics;
mod own;
mod peers;
mod rest;
mod server;
mod service;

pub use config::{Config, Limits, PeersConfig};
pub use error::Error;
pub use peers::Peers;
pub use rest::{Dialect, RouteError};
pub use service::{BuildError, Service, build, remote_peers, route_table};
