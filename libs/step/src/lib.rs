//! The executor contract of Kubeflow Pipelines: what a step is given and what it leaves behind.
//!
//! Everything here is pure: text and JSON in, text and JSON out. The agent does the reading and writing around it; the
//! orchestrator uses [`template`] to tell lightweight Python components from other programs.
//!
//! - [`template`]: recognises the shell wrapper that the kfp SDK compiles a Python function into.
//! - [`placeholders`]: replaces `{{$…}}` in commands, with `IfPresent` and `Concat`.
//! - [`executor_input`]: the JSON document that a kfp program reads.
//! - [`executor_output`]: the JSON document that it writes, merged with the declared outputs.
//! - [`paths`]: absolute paths of a program, moved to its attempt.
//! - [`metrics`]: the file of metrics that older pipelines write.
//! - [`places`]: where a step finds artifacts of stores of the network on its machine.
//! - [`value`]: parameter values as text and back.

pub mod executor_input;
pub mod executor_output;
pub mod metrics;
pub mod paths;
pub mod placeholders;
pub mod places;
mod structure;
pub mod template;
pub mod value;

pub use executor_input::{ArtifactType, OutputArtifact, Outputs};
pub use executor_output::ExecutorOutput;
pub use places::Places;
pub use value::ParameterType;
