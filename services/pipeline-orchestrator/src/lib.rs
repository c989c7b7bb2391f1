//! The pipelines service: pipelines, experiments, runs, and the engine that executes runs.
//!
//! Invariants:
//! - the engine alone changes the state of a run; the API creates runs, asks for their end and marks them for removal;
//! - a run keeps the specification that it executes, whatever happens to the version that it came from;
//! - a mutation and the answer kept for its repetition are one transaction;
//! - `domain` does no IO.
//!
//! The state machine of runs and tasks is described in [`domain`].

mod api;
pub mod app;
pub mod config;
pub mod domain;
mod error;
mod metrics;
mod service;
pub mod standalone;
pub mod store;
pub mod work;

pub use config::Config;
pub use error::{Error, SERVICE};
pub use service::{Service, build};
