//! Access to a service's database: SQLite in one file, or PostgreSQL, behind one [`Db`].
//!
//! Statements are static text with `$1` placeholders that both databases read; where the dialects differ, a
//! [`Sql`] pair stands side by side in the service's `store/sql.rs`. [`Builder`] is the one place that joins
//! text, from static fragments and binds only.
//!
//! # Writes
//! A write is a closure over a [`Conn`]. On SQLite one writer runs the queued closures of all callers in one
//! transaction, each in a savepoint of its own, and answers them after one commit: many writers share one
//! fsync. On PostgreSQL each closure is a transaction. A write runs to its end even when its caller goes away.
//! A closure must await nothing but the database.
//!
//! # Size
//! Rows whose size users decide are read in pages that end at a number of bytes: see [`fitting`] and
//! [`Conn::fetch_fitting`].
//!
//! # Durability
//! SQLite runs in WAL with `synchronous=FULL`: an acknowledged write survives power loss.

mod builder;
mod conn;
mod db;
mod error;
mod fit;
mod value;
mod writer;

pub use builder::{Builder, Sql};
pub use conn::{Conn, FromRow, Row};
pub use db::{Db, Migrations, Options, copy_file};
pub use error::Error;
pub use fit::{PAGE_BYTES, fitting};
pub use value::{Column, Value};

/// The future of a closure that [`Db::read`] or [`Db::write`] runs.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The binds of a statement, in order: `args![run_id, 7_i64, Some("x")]`.
#[macro_export]
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::Value::from($value)),*]
    };
}
