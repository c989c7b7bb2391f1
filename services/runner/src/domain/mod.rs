//! Pure rules: states, admission, quantities, images.

pub mod admission;
pub mod image;
pub mod python;
pub mod quantity;
pub mod redact;
pub mod state;
