//! What tests need: a PostgreSQL server, temporary folders, processes that die with their test, waiting with a
//! deadline, and the programs that `cargo xtask setup` prepared.
//!
//! Only tests depend on this crate, so it panics where other crates return errors: a panic fails the test with its
//! reason. A program that is missing fails the test too; nothing is skipped.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "for tests: a failure here is a failed test, and the environment is how they are told what there is"
)]

pub mod env;
pub mod postgres;
pub mod process;
pub mod python;
mod temp;
mod wait;

pub use env::{TestEnv, binary, env};
pub use postgres::{Postgres, postgres};
pub use process::Process;
pub use temp::{TempDir, free_port, temp_dir};
pub use wait::{Deadline, eventually, eventually_blocking};
