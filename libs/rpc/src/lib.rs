//! Calls between services: one kind of client channel, one server stack, in one process or over a network.
//!
//! A service puts its generated servers into [`Services`]. These are registered with a [`Switchboard`] (calls in memory)
//! or given to [`serve`] (HTTP/2 on a socket); in both shapes a call passes the same stack: authentication, request id,
//! trace context, deadline, message limit, metrics, panics as `INTERNAL`. Handlers read the [`Context`] of their call
//! with [`context`] and make their own calls with [`Context::request`] or [`Context::stream_request`].
//!
//! Generated servers and clients refuse messages over 4 MiB unless told otherwise: give both
//! `.max_decoding_message_size(rpc::MAX_MESSAGE_BYTES)`.

mod body;
mod call;
mod channel;
mod context;
mod error;
mod methods;
mod random;
pub mod raw;
mod retry;
mod serve;
mod services;
mod switchboard;
mod trace;

pub use channel::{Channel, InvalidEndpoint};
pub use context::{Context, PRINCIPAL_HEADER, REQUEST_ID_HEADER, context, request_with_context};
pub use error::Error;
pub use methods::code_name;
pub use retry::{RetryBudget, RetryPolicy, retry};
pub use serve::{ServeError, ServeOptions, serve};
pub use services::Services;
pub use switchboard::{Registration, Switchboard};
pub use trace::{TRACEPARENT_HEADER, Trace};

/// The largest message of an API, in bytes.
pub const MAX_MESSAGE_BYTES: usize = aip::MAX_MESSAGE_BYTES;
