//! Canonical proto3 JSON, written and read straight from and to the wire format.
//!
//! Rules: <https://protobuf.dev/programming-guides/json/>, in the dialect of Kubeflow's gateway: names as the proto
//! spells them on output, both spellings on input, unpopulated fields left out, enums by name, 64-bit integers as
//! text, integral doubles without a fraction, unknown fields refused.
//!
//! No message is ever built in memory: a document of ten million numbers costs its own bytes and not fifty times as
//! many, and a response is printed in one pass over its bytes.

mod print;
mod read;
mod scalar;
mod schema;
mod text;
mod visit;
mod wire;

pub use print::{Malformed, print};
pub use read::{Invalid, Limits, Reader};
pub use schema::{Field, Kind, MessageId, Schema, Shape};
pub use wire::{put_key, put_len, put_varint};
