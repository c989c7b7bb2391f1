//! The store in domain terms: functions over a connection, one file per aggregate, so that a use case composes them in
//! one transaction.

pub(crate) mod artifacts;
pub(crate) mod cache;
pub(crate) mod cache_sql;
pub(crate) mod engine_sql;
pub(crate) mod experiments;
pub(crate) mod facts;
pub(crate) mod idempotency;
pub(crate) mod lists;
pub(crate) mod metrics;
pub(crate) mod pipelines;
mod relocate;
mod rows;
pub(crate) mod runs;
pub(crate) mod schedule_sql;
pub(crate) mod schedules;
pub(crate) mod sequences;
pub(crate) mod specs;
pub(crate) mod sql;
pub(crate) mod tasks;
#[cfg(test)]
pub(crate) mod tests;

pub use facts::Facts;
pub use idempotency::{CallKey, Known};
pub use lists::Page;
pub use relocate::relocate;

/// The schema, for [`::sql::Db::open`].
pub fn migrations() -> ::sql::Migrations {
    ::sql::Migrations {
        sqlite: sqlx::migrate!("migrations/sqlite"),
        postgres: sqlx::migrate!("migrations/postgres"),
    }
}
