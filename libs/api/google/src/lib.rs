//! `google.rpc`: the error model that adopted contracts embed in their messages.
//!
//! Generated from `proto/` by `cargo xtask codegen`; do not edit `gen/`.

/// Messages.
#[allow(clippy::all, missing_docs)]
pub mod rpc {
    include!("gen/google.rpc.rs");
}

/// The encoded `FileDescriptorSet` of the package and its imports, with options.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
