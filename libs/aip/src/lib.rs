//! API conventions: errors as gRPC statuses with details that any language decodes, page tokens, times.
//!
//! This is the only crate that builds a [`tonic::Status`]. A service describes its failures by implementing
//! [`ApiError`] and calls [`status`] at its edge. Details follow `google.rpc.error_details`.

mod error;
pub mod page;
pub mod time;

pub use error::{
    ApiError, FieldViolation, Resource, chain, peer_status, reason_of, retry_delay, sized, status,
    unary, with_request_id,
};

/// The largest message of an API, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// The codes of gRPC.
pub use tonic::Code;
