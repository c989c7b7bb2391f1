//! The runner with real agents, real files and real databases.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod accelerators;
mod admission;
mod api;
mod cgroups;
mod environments;
mod fixture;
mod known;
mod life;
mod restart;
mod store;
mod supplies;
mod volumes;
