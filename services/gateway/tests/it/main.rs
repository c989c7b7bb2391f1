//! The gateway over real sockets, in front of a small store that stands for the orchestrator.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::type_complexity,
    reason = "tests panic, and tables say what they hold where they stand"
)]

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
