//! `api`: the adopted pipelines contract of kfp 1.8, which Kubeflow calls v1beta1.
//!
//! Generated from `proto/` by `cargo xtask codegen`; do not edit `gen/`.

/// Messages, clients and servers.
#[allow(clippy::all, missing_docs)]
pub mod v1beta1 {
    include!("gen/api.rs");
}

/// The encoded `FileDescriptorSet` of the package and its imports, with options.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
