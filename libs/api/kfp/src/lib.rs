//! `kubeflow.pipelines.backend.api.v2beta1`: the adopted pipelines contract.
//!
//! Generated from `proto/` by `cargo xtask codegen`; do not edit `gen/`.

/// Messages, clients and servers.
#[allow(clippy::all, missing_docs)]
pub mod v2beta1 {
    include!("gen/kubeflow.pipelines.backend.api.v2beta1.rs");
}

/// The encoded `FileDescriptorSet` of the package and its imports, with options.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
