//! Drives the real agent with real programs.
#![expect(clippy::unwrap_used, reason = "tests panic")]

mod attempt;
mod end;
mod faults;
mod files;
mod mounts;
mod outputs;
mod overhead;
mod program;
mod python;
mod remote;
mod replay;
