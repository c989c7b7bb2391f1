//! The store and transfers against a server that speaks S3.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

extern crate flumina_objects as objects;

mod azure;
mod bench;
mod credentials;
mod deaths;
mod faults;
mod fixture;
mod http;
mod moves;
mod recorder;
mod store;
