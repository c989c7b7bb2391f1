//! One file per group of commands.

pub(crate) mod again;
pub(crate) mod artifact;
pub(crate) mod cache;
pub(crate) mod experiment;
pub(crate) mod lists;
pub(crate) mod node;
pub(crate) mod pipeline;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod step;
pub(crate) mod store;
