//! The service through its generated clients, in one process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod again;
mod backfills;
mod bad_input;
mod experiments;
mod idempotency;
mod lists;
mod pipelines;
mod private;
mod recurring;
mod runs;
mod schedule_faults;
mod support;
mod v1;
mod watched_lists;
