//! `flumina.step.v1`: what a step is told and what it reports.
//!
//! Generated from `proto/` by `cargo xtask codegen`; do not edit `gen/`.

/// Messages.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    include!("gen/flumina.step.v1.rs");

    /// Names and no values.
    impl ::core::fmt::Debug for Confidential {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            let names: Vec<&String> = self.env.iter().map(|variable| &variable.name).collect();
            f.debug_struct("Confidential")
                .field("env", &names)
                .field("files", &self.files)
                .finish()
        }
    }

    /// The name and no content.
    impl ::core::fmt::Debug for ConfidentialFile {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.debug_struct("ConfidentialFile")
                .field("mount", &self.mount)
                .field("name", &self.name)
                .finish_non_exhaustive()
        }
    }
}

/// The encoded `FileDescriptorSet` of the package and its imports, with options.
pub const DESCRIPTOR: &[u8] = include_bytes!("gen/descriptor.bin");
