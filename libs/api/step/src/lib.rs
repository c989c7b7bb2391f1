//! `flumina.step.v1`: what a step is told and what it reports.
//!
//! Generated from `proto/` by `cargo xtask codegen`; do not edit `gen/`.

/// Messages.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    include!("gen/flumina.step.v1.rs");
}

/// The encoded `FileDescriptorSet` of the package and its imports, with options.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
