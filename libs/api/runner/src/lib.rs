//! `flumina.runner.v1`: workloads, and the secrets, config maps and volumes that they use.
//!
//! Generated from `proto/` by `cargo xtask codegen`; do not edit `gen/`.

/// Messages, clients and servers.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    include!("gen/flumina.runner.v1.rs");

    /// Keys and no values.
    impl ::core::fmt::Debug for PutSecretRequest {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            let mut keys: Vec<&String> = self.data.keys().collect();
            keys.sort();
            f.debug_struct("PutSecretRequest")
                .field("namespace", &self.namespace)
                .field("name", &self.name)
                .field("keys", &keys)
                .finish_non_exhaustive()
        }
    }
}

/// The encoded `FileDescriptorSet` of the package and its imports, with options.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
