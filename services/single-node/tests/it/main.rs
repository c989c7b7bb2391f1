//! The whole fleet as a process of its own, in temporary data directories.

extern crate flumina_single_node as single_node;

mod archives;
mod backup;
mod end;
mod fleet;
mod start;
