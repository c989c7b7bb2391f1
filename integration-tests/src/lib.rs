//! The whole fleet as real processes, for tests of what only holds when everything works together.
//!
//! A step of a test pipeline is a shell script that adds a line to a *witness file* when it starts and when it ends.
//! The file is the ground truth: whatever our services say, it tells which programs really ran. A [`Verdict`]
//! compares the two.
//!
//! Only tests use this crate, so it panics where other crates return errors.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "for tests: a failure here is a failed test"
)]

mod client;
mod fleet;
mod flow;
mod node;
mod pipeline;
mod sweep;
mod verdict;
mod witness;

use std::time::Duration;

pub use client::{Client, structure};
pub use fleet::{Fleet, Part, Stores};
pub use flow::Flow;
pub use node::{Node, Options};
pub use pipeline::{Pipeline, Step};
pub use sweep::{Found, Kind, found, kill, kill_all};
pub use verdict::Verdict;
pub use witness::{Mark, Witness};

/// How long anything may take. Generous, since two cores run several tests at a time.
pub const LIMIT: Duration = Duration::from_secs(90);
