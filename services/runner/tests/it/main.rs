//! The runner with real agents, real files and real databases.

mod admission;
mod api;
mod environments;
mod fixture;
mod life;
mod restart;
mod store;
