//! The promise of the design, section 4, and its neighbours, against the real programs.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failure here is a failed test, and what it measured is printed"
)]

mod access;
mod agent_deaths;
mod boundaries;
mod cache_deaths;
mod calls;
mod cases;
mod disk;
mod durability;
mod fleet;
mod flow_deaths;
mod protocol;
mod random_kills;
mod removal;
mod schedule_deaths;
mod secrets;
mod service_deaths;
mod start;
mod stop_deaths;
mod unreadable;
mod workflow_deaths;
