//! The whole fleet in one process: the composition root behind `flumina up`.
//!
//! # One data directory
//! ```text
//! lock                          held by the process that uses the directory
//! up.json                       who that is and where it listens
//! flumina.json                  the version of this layout, and the path that stored paths begin with
//! pipeline-orchestrator.sqlite  one database per service
//! runner.sqlite
//! artifacts/                    what steps produced
//! runner/                       workloads with their logs, Python environments, the unpacked agent
//! ```
//! Paths of artifacts are absolute, since programs of the kfp SDK use them as they are. A directory that was moved,
//! copied or restored elsewhere is brought up to date before it is used: each service rewrites its own rows. Two things
//! are left as they were said: answers that are kept for repeated calls with the same idempotency key, and the text of
//! pipelines and runs as it was submitted; either may still name the old place.
//!
//! # The end
//! Parts end in reverse order of their start: public port, pipelines, steps, runner. Running steps are left alone
//! unless the end was asked for with `--on-exit=stop` or by `flumina down`. Then they are stopped after the pipelines
//! service has ended, so that nothing new starts meanwhile; the next start records that their runs failed because
//! their steps were stopped.

mod agent;
mod archive;
mod backup;
mod config;
mod data_dir;
mod down;
mod error;
mod fleet;
mod place;
mod restore;
mod up;

pub use agent::AGENT;
pub use backup::{Backup, backup};
pub use data_dir::default_data_dir;
pub use down::{Down, down};
pub use error::Error;
pub use restore::restore;
pub use up::{UpOptions, up};
