//! What every process of ours does the same way: configuration, logging, metrics, health, supervised tasks, listening,
//! and an orderly end.
//!
//! Invariants:
//! - every task belongs to a [`Supervisor`]; a panic is an error of its task, never a silent end;
//! - nothing listens off loopback without a token, unless its operator said `insecure` ([`Listener`]);
//! - nothing here is global except the log subscriber and the abort points, which `main` sets once.

mod abort;
mod admin;
mod config;
mod dump;
mod env;
mod health;
mod listen;
mod logging;
mod main_loop;
mod metrics;
mod panics;
mod shutdown;
mod supervisor;
mod threads;

pub use abort::{abort_point, arm_abort_points};
pub use admin::AdminConfig;
pub use config::{CommonArgs, ConfigError, ProcessConfig, ServiceConfig, load, load_sections};
pub use health::{Condition, Readiness, State};
pub use listen::{Guard, ListenError, Listener};
pub use logging::{LogConfig, LogControl, LogFormat};
pub use main_loop::{EXIT_BAD_CONFIG, EXIT_FAILED, Host, Process, run, run_with};
pub use metrics::Metrics;
pub use panics::{CatchPanic, Panicked};
/// The types of metrics that services hold.
pub use prometheus_client;
pub use shutdown::{Shutdown, Stop};
pub use supervisor::{
    Ending, Kind, OnCancel, OnError, RunToEnd, Scoped, Supervisor, TaskError, TaskOutput,
};
pub use threads::build_tokio;
