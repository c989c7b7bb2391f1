//! REST: paths, bodies and answers in JSON, translated to calls of the contracts.

mod body;
mod dialect;
mod routes;
mod template;
mod transcode;
mod url;

pub(crate) use body::{Patience, full, streamed};
pub use dialect::Dialect;
pub(crate) use dialect::Failure;
pub use routes::RouteError;
pub(crate) use routes::{Found, Handler, Routes, Target};
pub(crate) use transcode::{Heavy, Transcoder, forward};
pub(crate) use url::{query, segment};
