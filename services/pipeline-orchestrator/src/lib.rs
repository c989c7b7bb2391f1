//! The pipelines service: pipelines, experiments, runs, and the engine that executes runs.

pub mod domain;
