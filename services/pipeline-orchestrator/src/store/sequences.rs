//! Numbered ids, taken in blocks so that drawing one costs no write.

use sql::{Conn, Error, args};

use super::sql as text;

/// What is numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequence {
    /// Tasks.
    Tasks,
    /// Artifacts.
    Artifacts,
}

/// Takes `count` numbers that nobody else gets and returns the first.
pub(crate) async fn take(conn: &mut Conn, sequence: Sequence, count: i64) -> Result<i64, Error> {
    let name = match sequence {
        Sequence::Tasks => "tasks",
        Sequence::Artifacts => "artifacts",
    };
    let next: i64 = conn
        .fetch_one(text::TAKE_NUMBERS, args![name, count])
        .await?;
    Ok(next - count)
}

/// The number of a start of the service; every later start has a greater one.
pub(crate) async fn next_epoch(conn: &mut Conn) -> Result<i64, Error> {
    conn.fetch_one(text::TAKE_NUMBERS, args!["epoch", 1_i64])
        .await
}

/// The number of the newest start. On PostgreSQL it cannot change before the transaction has ended.
pub(crate) async fn epoch(conn: &mut Conn) -> Result<i64, Error> {
    conn.fetch_one(text::GET_EPOCH, args![]).await
}
