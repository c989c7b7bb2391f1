//! Pure rules: states, admission, quantities, images, names of what workloads use.

pub mod accelerators;
pub mod admission;
pub mod bundle;
pub mod field_path;
pub mod image;
pub mod python;
pub mod quantity;
pub mod redact;
pub mod state;
