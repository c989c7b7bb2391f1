//! The whole fleet as a process of its own, in temporary data directories.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests panic, and a child process gets its options by a variable"
)]

extern crate flumina_single_node as single_node;

mod archives;
mod backup;
mod end;
mod fleet;
mod start;
