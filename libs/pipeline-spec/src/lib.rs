//! Reads compiled pipelines (IR 2.1, `PipelineSpec` and `PlatformSpec`) and Argo workflows of the SDK 1.8 ([`argo`]), and turns
//! them into plans. [`Source`] is a document of either kind.
//!
//! The way of a document: [`parse`] (or [`Document::from_value`]) reads YAML or JSON within fixed limits and decodes
//! it by the types of the published schema; [`plan()`](fn@plan) checks every reference and type and reports **all**
//! faults by their place in the document; [`unsupported`] says which parts of a valid plan an installation does not
//! execute, and [`notes`] which settings have no effect on one machine.
//!
//! Everything here is pure: no files, no clock, no randomness. Values are `serde_json::Value`; see [`coerce`] for how
//! they are fitted to declared types.

pub mod argo;
mod decode;
mod document;
mod expression;
mod features;
mod graph;
mod json;
mod limits;
mod placeholder;
pub mod plan;
mod quantity;
mod scalar;
mod source;
mod validate;
mod values;
mod yaml;

pub use document::{Document, Error, MAX_BYTES, MAX_DEPTH, MAX_NODES, parse};
pub use expression::{ExpressionError, Scope, check_expression, condition, explain, select};
pub use features::{Features, notes, unsupported};
pub use placeholder::{MissingInput, substitute};
pub use plan::*;
pub use source::Source;
pub use validate::{Fault, keeps_item, plan};
pub use values::{check_parameters, coerce, normalise, text_form};

/// Types generated from the published schema.
#[allow(
    clippy::all,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "generated code"
)]
mod proto {
    pub mod ml_pipelines {
        include!("gen/ml_pipelines.rs");
    }
    pub mod kfp_kubernetes {
        include!("gen/kfp_kubernetes.rs");
    }
    pub mod google {
        pub mod rpc {
            include!("gen/google.rpc.rs");
        }
    }
}

/// The encoded `FileDescriptorSet` of the schema and its imports.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
