//! Turns workloads into processes of this machine: admission, agents, logs, adoption after a restart.
//!
//! # The promise
//! A program starts at most once per workload id. The row of a workload is committed before its agent is started; the
//! agent holds `lock` in the workload's directory for life and creates `started` with O_EXCL just before the program.
//! After a restart the directory tells what happened: a held lock is adopted, a result is taken, `started` without a
//! result is LOST once survivors are killed, and nothing at all is started again. Rows of another boot of the machine
//! are never started again, since a power cut may have taken `started`.
//!
//! # States
//! QUEUED → (PREPARING → QUEUED) → RUNNING → (STOPPING) → SUCCEEDED, FAILED, STOPPED or LOST; the whole table is
//! `src/domain/transitions.txt`. Memory is the authority for workloads that have not ended: every change is made there
//! under one lock, gets a growing version, is committed, and is then told to watchers. The database takes a change
//! only over an older version, so commits may overtake each other.
//!
//! # Invariants
//! - Watchers are told only what is committed, apart from places in the queue.
//! - An id that was stopped or deleted has a mark; a launch of it starts nothing.
//! - The data directory is locked; on PostgreSQL, writes of a runner that lost its node are refused.

mod api;
mod app;
mod cgroups;
mod config;
mod devices;
pub mod domain;
mod environment;
mod error;
mod metrics;
mod service;
pub mod store;
mod sys;

pub use app::{Runner, VaultError};
pub use config::{Config, Standalone};
pub use error::Error;
pub use service::{AgentSource, BuildError, Deps, NAME, READY, Service, build, serve_alone};

/// Every abort point of the runner, for fault tests.
pub const ABORT_POINTS: &[&str] = &[
    "runner.launch.committed",
    "runner.dir.made",
    "runner.running.committed",
    "runner.agent.spawned",
    "runner.result.read",
    "runner.final.committed",
    "runner.stop.marked",
    "runner.delete.committed",
    "runner.delete.files_removed",
];

/// Those that only volumes pass.
pub const VOLUME_ABORT_POINTS: &[&str] = &[
    "runner.volume.committed",
    "runner.volume.made",
    "runner.volume.leaving",
    "runner.volume.removed",
];
