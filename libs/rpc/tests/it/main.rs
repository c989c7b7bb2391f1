//! The stack as callers and handlers see it, in memory and over TCP.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod local;
mod remote;
mod sample;
