//! The gateway over real sockets, in front of a small store that stands for the orchestrator.

mod bad;
mod fake;
mod foreign;
mod grpc;
mod harness;
mod json;
mod lifecycle;
mod rest;
mod routes;
mod streams;
mod upload;
