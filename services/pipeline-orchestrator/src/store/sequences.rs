//! Numbered ids, taken in blocks so that drawing one costs no write.

use sql::{Conn, Error, args};

use super::sql as text;

/// Takes `count` ids of tasks and artifacts that nobody else gets and returns the first.
pub(crate) async fn take(conn: &mut Conn, count: i64) -> Result<i64, Error> {
    let next: i64 = conn
        .fetch_one(text::TAKE_NUMBERS, args!["ids", count])
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
